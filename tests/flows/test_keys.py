"""A1 and A4: keys that are rotated and retired while requests are under way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cache

import pytest

from strongroom.core.errors import UnreadableRecord
from strongroom.core.events import TokenReuse
from strongroom.core.ops import Rotate
from strongroom.core.policy import SessionPolicy
from strongroom.core.record import EndReason
from strongroom.core.sealing import Keyring
from strongroom.core.visit import Context
from strongroom.stores.memory import MemoryStore
from strongroom.testing import Fates, interleavings
from strongroom.testing.clock import START
from tests.flows.scenes import renewal_due
from tests.support.flows import (
    HOUR,
    MINUTE,
    NAVIGATION,
    RENEW,
    Log,
    Prepared,
    World,
    Worlds,
    a_key,
    a_ring,
    chain,
    elevating,
    nothing,
    renewing,
    replies,
    saving,
    scenario,
    signing_in,
    writing,
)

DEPLOYED = START + HOUR
"""Key 2 is published from the beginning, and issues from here on."""
BOTH = a_ring(a_key(1), a_key(2, issue_from=DEPLOYED))


@cache
def staged() -> Worlds:
    """A session under key 1 whose renewal is due just before key 2 begins to issue."""

    def stage(world: World) -> None:
        world.clock.set(DEPLOYED - RENEW - 5 * MINUTE)
        renewal_due(world)
        world.clock.set(DEPLOYED - 1)

    return Prepared(stage, ring=BOTH)


def process(world: World, ring: Keyring = BOTH) -> Context:
    """A process with this keyring, at this moment."""
    return world.context(ring)


def test_old_and_new_processes_agree_on_the_successor() -> None:
    """One has switched to the new key, one has not: whoever renews hands out the same (A1, P11)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        done = replies(fates)
        handed = {each.cookie for each in done.values()} - {None}
        assert len(handed) == 1
        assert {each.subject for each in done.values()} == {"alice"}
        (new,) = handed
        for ctx in (process(world), before_switch(world)):
            assert world.probe(new, ctx=ctx).subject == "alice"
            assert world.probe(world.jars["alice"], ctx=ctx).cookie == new

    def before_switch(world: World) -> Context:
        now = world.clock()
        world.clock.set(DEPLOYED - 1)
        ctx = process(world)
        world.clock.set(now)
        return ctx

    def after_switch(world: World) -> Context:
        world.clock.set(DEPLOYED)
        return process(world)

    meeting = {
        "old": lambda world: world.request(world.jars["alice"], renewing, ctx=before_switch(world)),
        "new": lambda world: world.request(world.jars["alice"], renewing, ctx=after_switch(world)),
    }
    assert interleavings(scenario(staged(), meeting, check), cap=60_000) > 50


def test_a_session_moves_to_the_new_key_and_outlives_the_old_one() -> None:
    """Two renewals after the switch, everything of it is under the new key (A1)."""
    world = staged()()
    jar = world.jars["alice"]
    world.clock.set(DEPLOYED)
    world.ctx = process(world)
    for _ in range(2):
        jar = world.get(jar, chain(renewing, writing(n=1))).into(jar) or ""
        world.confirmed(jar)
    header = world.record(jar).header
    assert (world.token(jar).key_id, header.envelope_key_id, header.data_key_id) == (2, 2, 2)
    retired = process(world, a_ring(a_key(1, retired_at=world.clock()), a_key(2)))
    reply = world.get(jar, saving(n=2), ctx=retired)
    assert (reply.subject, dict(reply.here.data)) == ("alice", {"kept": 0, "n": 2})


def test_retiring_a_key_ends_what_was_issued_under_it() -> None:
    """The token is noise from then on: locked, not cleared, and never a sign-in (A1, A4)."""
    world = World()
    jar = world.sign_in("alice")
    world.clock.advance(MINUTE)
    retired = a_ring(a_key(1, retired_at=world.clock()), a_key(2))
    ctx = process(world, retired)
    reply = world.get(jar, ctx=ctx, headers=NAVIGATION)
    assert reply.subject is None
    assert reply.here.refusal == "unknown_key"
    assert reply.edits.cookies == []
    again = world.get(jar, signing_in("alice"), ctx=ctx, method="POST").cookie
    assert again
    assert world.probe(again, ctx=ctx).subject == "alice"


def test_a_token_of_a_new_key_with_an_envelope_of_a_retired_one_is_over() -> None:
    """Whatever is left under a retired key opens nothing, and that end is written (A1, E6)."""
    rings = a_ring(a_key(1), a_key(2, issue_from=START + 1))
    world = World(ring=rings)
    old = world.sign_in("alice")
    record = world.record(old)
    world.clock.advance(MINUTE)
    world.ctx = process(world, rings)
    elevated = world.get(old, elevating()).cookie
    assert elevated
    assert world.token(elevated).key_id == 2
    retired = process(world, a_ring(a_key(1, retired_at=world.clock()), a_key(2)))
    assert world.probe(elevated, ctx=retired).subject == "alice", "the envelope moved along"
    assert isinstance(world.store, MemoryStore)
    snapshot = world.store.snapshot()
    now = snapshot.records[record.session_id]
    stale = replace(now, envelope=record.envelope, header=replace(now.header, envelope_key_id=1))
    world.store.restore(replace(snapshot, records={record.session_id: stale}))
    assert world.get(elevated, ctx=retired).subject is None
    assert world.record(elevated).header.end_reason is EndReason.POLICY


def test_a_request_keeps_its_keys_to_its_end() -> None:
    """A key that is retired in the middle does not split a request in two (A1)."""
    world = World(ring=a_ring(a_key(1), a_key(2, issue_from=START + HOUR)))
    jar = world.sign_in("alice", kept=0)
    ctx = world.ctx
    reply = world.get(jar, chain(saving(a=1), elevating()), ctx=ctx, method="POST")
    assert reply.cookie
    assert world.data(reply.cookie) == {"kept": 0, "a": 1}


def test_a_process_that_lacks_the_next_key_renews_nothing() -> None:
    """It cannot derive the successor that the others will: the session goes on as it is (A1)."""
    world = World(ring=a_ring(a_key(1), a_key(2, issue_from=0)))
    behind, ahead = process(world, a_ring(a_key(1))), world.context()
    world.ctx = behind
    jar = world.confirmed(world.sign_in("alice"))
    world.ctx = ahead
    second = world.confirmed(world.renewed(jar))
    assert world.token(second).key_id == 1, "the successor was fixed when its token was made"
    assert world.record(second).header.credential.next_key_id == 2


@pytest.mark.parametrize("first", ["renew", "save"])
def test_sealing_anew_and_saving_in_both_orders(first: str) -> None:
    """The data ends up under the new key with everything in it, or at the next renewal (A1, P7)."""

    def rotated() -> World:
        world = staged()()
        world.clock.set(DEPLOYED)
        world.ctx = world.context()
        return world

    def check(world: World, fates: Fates, log: Log) -> None:
        done = replies(fates)
        newest = done["renew"].cookie or done["save"].cookie
        assert newest
        assert world.data(newest) == {"kept": 0, "mine": 1}
        assert world.record(newest).header.envelope_key_id == 2
        assert world.record(newest).header.data_key_id == 2

    meeting = {
        "renew": lambda world: world.request(world.jars["alice"], renewing),
        "save": lambda world: world.request(
            world.jars["alice"], saving(mine=1), path="/poll", headers={"sec-purpose": "prefetch"}
        ),
    }
    if first == "save":
        meeting = dict(reversed(meeting.items()))
    assert interleavings(scenario(rotated, meeting, check), cap=60_000) > 20


def test_data_left_under_a_retired_key_is_no_error_for_ever() -> None:
    """An elevation moves token and envelope to the new key, and must not leave the data (A1)."""
    rings = a_ring(a_key(1), a_key(2, issue_from=START + 1))
    world = World(ring=rings)
    old = world.sign_in("alice", kept=0)
    world.clock.advance(MINUTE)
    world.ctx = process(world, rings)
    elevated = world.get(old, elevating()).cookie
    assert elevated
    retired = process(world, a_ring(a_key(1, retired_at=world.clock()), a_key(2)))

    assert world.get(elevated, saving(mine=1), ctx=retired).error is None
    assert world.data(elevated) == {"kept": 0, "mine": 1}


def test_a_late_response_under_the_old_key_is_no_theft() -> None:
    """Key switch, renewal, lost response, retry: the honest client stays in (A1, P11)."""
    world = staged()()
    jar = world.jars["alice"]
    world.clock.set(DEPLOYED)
    world.ctx = world.context()
    lost = world.get(jar, renewing).cookie
    again = world.get(jar, nothing)
    assert again.cookie == lost
    assert not again.saw(TokenReuse)


def test_a_process_that_lags_behind_ends_nobody_s_session() -> None:
    """An envelope under a key that a process has not heard of yet is not one that was retired."""
    world = World(ring=a_ring(a_key(1), a_key(2, issue_from=0)))
    behind, ahead = process(world, a_ring(a_key(1))), world.context()
    world.ctx = behind
    jar = world.confirmed(world.sign_in("alice"))
    world.ctx = ahead
    second = world.renewed(jar)
    assert world.token(second).key_id == 1
    assert world.record(second).header.envelope_key_id == 2
    reply = world.get(second, ctx=behind)
    assert reply.status == 503
    assert isinstance(reply.error, UnreadableRecord)
    assert world.over(second) is None


def test_sealing_anew_does_not_undo_a_first_use() -> None:
    """A process that stood still before it sealed anew keeps what others noted meanwhile (D1)."""

    def stage(world: World) -> None:
        world.clock.set(DEPLOYED - RENEW - 5 * MINUTE)
        renewal_due(world)
        world.clock.set(DEPLOYED)

    policy = SessionPolicy(touch_interval=timedelta(0))
    world = Prepared(stage, ring=BOTH, policy=policy)()
    jar = world.jars["alice"]
    stuck = world.request(jar, renewing)
    op = next(stuck)
    while not isinstance(op, Rotate):
        op = stuck.send(getattr(world.store, op.verb)(op))
    other = world.get(jar).cookie
    assert other
    world.get(other)
    used = world.record(jar).header.credential
    assert used.first_used_at
    with pytest.raises(StopIteration):
        while True:
            op = stuck.send(getattr(world.store, op.verb)(op))
    assert world.record(jar).header.credential == used
