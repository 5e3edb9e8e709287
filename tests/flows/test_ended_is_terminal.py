"""P6: no late write, renewal, touch, race or retry brings an ended session back."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from strongroom.core import flows
from strongroom.core.errors import SessionEnded, SignInOvertaken
from strongroom.core.events import SessionUseAfterExpire
from strongroom.core.ops import Flow
from strongroom.core.record import EndReason, Kind
from strongroom.core.visit import Visit
from strongroom.testing import Fates, interleavings
from tests.flows.scenes import WORKS, check_no_late_cookie, pending, renewal_due, signed_in
from tests.support.flows import (
    ENDERS,
    Log,
    Prepared,
    World,
    Worlds,
    elevating,
    nothing,
    replies,
    saving,
    scenario,
    signing_in,
    signing_out,
    writing,
)


@cache
def staged(work: str) -> Worlds:
    return Prepared(WORKS[work].stage)


def check_ended(world: World, fates: Fates, log: Log) -> None:
    """Once the end was acknowledged, nothing that anybody holds opens the session again."""
    check_no_late_cookie(world, fates, log)
    reply = replies(fates).get("end")
    if not fates["end"].returned or (reply is not None and not reply.here_signed_out):
        # It failed, or the token had just been rotated away: a dead token ends nothing (P10).
        return
    old = world.jars["alice"]
    assert world.over(old) is not None
    handed_out = [each.cookie for each in replies(fates).values() if each.cookie]
    for token in (old, world.jars.get("successor"), *handed_out):
        if token and world.token(token).session_id == world.token(old).session_id:
            assert world.who(token) is None
            assert world.probe(token).cookie in (None, ""), "a probe was handed a cookie"


@pytest.mark.parametrize("ender", ENDERS)
@pytest.mark.parametrize("work", WORKS)
def test_an_end_is_final_in_every_order(ender: str, work: str) -> None:
    """Whatever else is under way, an acknowledged end stays the end (P6, F1)."""
    what = WORKS[work]
    meeting = {
        "work": lambda world: world.request(world.jars["alice"], what.action, method=what.method),
        "end": lambda world: ENDERS[ender](world, world.jars["alice"]),
    }
    assert interleavings(scenario(staged(work), meeting, check_ended)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("ender", ENDERS)
@pytest.mark.parametrize("work", WORKS)
def test_an_end_is_final_whatever_fails(ender: str, work: str) -> None:
    """The store fails before or after it acts, or a process dies at any op (P6, P22)."""
    what = WORKS[work]
    meeting = {
        "work": lambda world: world.request(world.jars["alice"], what.action, method=what.method),
        "end": lambda world: ENDERS[ender](world, world.jars["alice"]),
    }
    make = scenario(staged(work), meeting, check_ended)
    assert interleavings(make, with_faults=True, cap=40_000) > 10


@pytest.mark.slow
@pytest.mark.parametrize("ender", ["sign_out", "end_subject", "end_everybody"])
@pytest.mark.parametrize("other", ["save", "elevate", "successor", "renew"])
def test_an_end_is_final_among_three(ender: str, other: str) -> None:
    """Two requests at work and one that ends, in every order that anybody can tell (P6, P11)."""
    what = WORKS[other]
    meeting = {
        "work": lambda world: world.request(world.jars["alice"], what.action, method=what.method),
        "save": lambda world: world.request(world.jars["alice"], saving(other=2), method="POST"),
        "end": lambda world: ENDERS[ender](world, world.jars["alice"]),
    }
    make = scenario(staged(other), meeting, check_ended)
    assert interleavings(make, prune=True, cap=40_000) > 10


def test_a_late_save_is_told_and_writes_nothing() -> None:
    """An explicit save of an ended session raises; the one at the response's start is silent."""
    world = staged("save")()
    jar = world.jars["alice"]

    def late(visit: Any) -> Flow[None]:
        yield from ENDERS["end_subject"](world, jar)
        yield from writing(late=1)(visit)
        with pytest.raises(SessionEnded):
            yield from flows.save(visit)

    reply = world.get(jar, late)
    assert reply.saw(SessionUseAfterExpire)
    assert world.record(jar).data == b""
    assert reply.cookie is None


def test_elevating_an_ended_session_raises() -> None:
    """Privilege is never given to a session that ended in the meantime (P6, D2)."""
    world = staged("elevate")()
    jar = world.jars["alice"]

    def late(visit: Any) -> Flow[None]:
        yield from ENDERS["end_session"](world, jar)
        yield from elevating()(visit)

    reply = world.get(jar, late, method="POST")
    assert isinstance(reply.error, SessionEnded)
    assert not reply.cookie


def test_signing_out_twice_is_the_same_as_once() -> None:
    """A double click on sign out harms nobody (P6)."""
    world = Prepared(signed_in)()
    jar = world.jars["alice"]
    assert world.get(jar, signing_out).cookie == ""
    before = world.record(jar)
    again = world.get(jar, signing_out)
    assert world.record(jar) == before, "the first reason and time stay"
    assert again.subject is None


def test_retries_of_an_ended_session_find_nothing() -> None:
    """A duplicated request that arrives after sign-out is anonymous, for ever (P6)."""
    world = Prepared(renewal_due)()
    jar = world.jars["alice"]
    world.get(jar, signing_out)
    for action in (nothing, writing(a=1), saving(b=2)):
        reply = world.get(jar, action)
        assert reply.subject is None
        assert not reply.cookie
    assert world.over(jar) is not None


def completing(visit: Visit) -> Flow[None]:
    """The second factor is asked for only where the first was proved."""
    if visit.kind is Kind.PENDING:
        yield from signing_in("alice", "otp")(visit)


def check_pending(world: World, fates: Fates, log: Log) -> None:
    """Either the completion came first, or the ended first factor signs nobody in."""
    check_no_late_cookie(world, fates, log)
    done = replies(fates).get("complete")
    ended = log.ended(world.token(world.jars["pending"]).session_id)
    if done is not None and done.cookie and ended < log.last("complete"):
        who = world.who(done.cookie)
        inserted = next(i for i, e in enumerate(log.entries) if e[1].verb == "insert")
        assert who is None or inserted < ended, "an ended first factor counted"


@pytest.mark.parametrize("ender", ENDERS)
def test_an_ended_first_factor_completes_nothing(ender: str) -> None:
    """A pending session that was ended before the second factor came signs nobody in (P6, C5)."""
    meeting = {
        "complete": lambda world: world.request(world.jars["pending"], completing, method="POST"),
        "end": lambda world: ENDERS[ender](world, world.jars["pending"]),
    }
    assert interleavings(scenario(Prepared(pending), meeting, check_pending)) > 3


def test_everything_that_ended_before_the_sign_in_stays_ended() -> None:
    """Signing in over a dead cookie brings back neither its data nor its session (P6, P10)."""
    world = Prepared(signed_in)()
    old = world.jars["alice"]
    world.run(ENDERS["end_subject"](world, old))
    new = world.sign_in("alice", old)
    assert world.data(new) == {}
    assert world.over(old) is not None


def test_an_attempt_from_before_the_end_is_refused() -> None:
    """The smallest form of P15; test_sign_in_order.py has all of it."""
    world = World()

    def overtaken(visit: Any) -> Flow[None]:
        visit.attempt = yield from flows.begin_attempt(visit, "alice")
        yield from flows.end_subject(world.ctx, "alice", reason=EndReason.EVERYWHERE)
        yield from flows.sign_in(visit, "alice")

    assert isinstance(world.get(None, overtaken, method="POST").error, SignInOvertaken)
