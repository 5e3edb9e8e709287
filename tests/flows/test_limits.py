"""C6: the number of sessions is a limit also when three sign in at once."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from strongroom.core import flows
from strongroom.core.errors import SessionLimitReached, SessionTooLarge
from strongroom.core.events import ExcessSessions
from strongroom.core.ops import AtLimit
from strongroom.core.policy import SessionPolicy
from strongroom.core.record import EndReason
from strongroom.testing import Fates, interleavings
from tests.support.flows import (
    MINUTE,
    Log,
    Prepared,
    World,
    Worlds,
    authenticating,
    replies,
    saving,
    scenario,
    signing_in,
    writing,
)

MAXIMUM = 2


@cache
def staged(at_limit: AtLimit) -> Worlds:
    """Alice is signed in once, of at most two."""

    def stage(world: World) -> None:
        world.jars["first"] = world.sign_in("alice")
        world.clock.advance(MINUTE)

    policy = SessionPolicy(max_sessions=MAXIMUM, at_limit=at_limit, history_length=0)
    return Prepared(stage, policy=policy)


def check_limit(world: World, fates: Fates, log: Log) -> None:
    """Never more than the limit; who was let in, refused or evicted is told."""
    live = world.live_of("alice")
    assert len(live) == MAXIMUM
    done = replies(fates)
    refused = [each for each in done.values() if isinstance(each.error, SessionLimitReached)]
    if world.policy.at_limit is AtLimit.REFUSE:
        assert world.who(world.jars["first"]) == "alice"
        assert len(refused) == len(done) - 1
        assert all(each.saw(ExcessSessions) for each in refused)
    else:
        assert refused == []
        if len(done) > 1:
            assert world.over(world.jars["first"]) is EndReason.EVICTED
        assert any(each.saw(ExcessSessions) for each in done.values()) is (len(done) > 1)


@pytest.mark.parametrize("at_limit", list(AtLimit))
def test_the_limit_is_atomic_under_parallel_sign_ins(at_limit: AtLimit) -> None:
    """Two, then three at once, in every order (C6, TRAPS 11)."""
    meeting: dict[str, Any] = {}
    for name, cap in (("one", 10), ("two", 100), ("three", 5_000)):
        meeting[name] = lambda world: world.request(None, authenticating("alice"), method="POST")
        make = scenario(staged(at_limit), dict(meeting), check_limit)
        assert interleavings(make, cap=cap) >= 1


@pytest.mark.parametrize("at_limit", list(AtLimit))
def test_signing_in_again_does_not_count_the_session_it_replaces(at_limit: AtLimit) -> None:
    """At the limit, a user can still confirm who they are on the device in their hand."""
    world = staged(at_limit)()
    second = world.sign_in("alice")
    assert len(world.live_of("alice")) == MAXIMUM
    again = world.get(second, signing_in("alice"), method="POST")
    assert again.error is None
    assert world.who(world.jars["first"]) == "alice", "nobody else had to go"
    assert len(world.live_of("alice")) == MAXIMUM


@pytest.mark.parametrize("at_limit", list(AtLimit))
def test_two_that_replace_the_same_session_do_not_exceed_the_limit(at_limit: AtLimit) -> None:
    """Only one of the two can be in its place (C6)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        assert len(world.live_of("alice")) <= MAXIMUM
        assert any(each.cookie for each in replies(fates).values())

    def stage(world: World) -> None:
        world.jars["first"] = world.sign_in("alice")
        world.jars["second"] = world.sign_in("alice")

    policy = SessionPolicy(max_sessions=MAXIMUM, at_limit=at_limit, history_length=0)
    meeting = {
        name: lambda world: world.request(world.jars["second"], signing_in("alice"), method="POST")
        for name in ("one", "two")
    }
    make = scenario(Prepared(stage, policy=policy), meeting, check)
    assert interleavings(make) > 20


def test_who_gives_way() -> None:
    """The oldest, or the one that was least recently used (C6)."""
    for at_limit, gone in (
        (AtLimit.EVICT_OLDEST, "first"),
        (AtLimit.EVICT_LEAST_RECENTLY_USED, "second"),
    ):
        world = staged(at_limit)()
        world.jars["second"] = world.sign_in("alice")
        world.clock.advance(MINUTE)
        world.get(world.jars["first"])
        world.sign_in("alice")
        assert world.over(world.jars[gone]) is EndReason.EVICTED


def test_what_does_not_count() -> None:
    """Ended, expired and pending sessions take nobody's place (C5, C6)."""
    world = staged(AtLimit.REFUSE)()
    second = world.sign_in("alice")
    assert isinstance(world.get(None, signing_in("alice")).error, SessionLimitReached)
    assert world.get(None, signing_in("alice", pending=True)).cookie
    world.get(second, lambda visit: flows.sign_out(visit))
    assert world.get(None, signing_in("alice")).cookie
    world.clock.advance(world.ctx.clocks.idle)
    assert world.get(None, signing_in("alice")).cookie


def test_more_data_than_allowed_is_refused_before_it_is_written() -> None:
    """64 KiB, and 4 KiB before anybody signed in (C6, P24)."""
    world = World()
    jar = world.sign_in("alice", kept=0)
    for owner, size in ((jar, 64 * 1024), (None, 4 * 1024)):
        with pytest.raises(SessionTooLarge):
            world.get(owner, writing(big="x" * size))
    assert world.data(jar) == {"kept": 0}
    assert world.get(jar, saving(fits="x" * 60_000)).error is None
