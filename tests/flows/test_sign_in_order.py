"""P15 and E2: an authentication that began before the end creates no session after it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from strongroom.core import flows
from strongroom.core.errors import SignInOvertaken
from strongroom.core.ops import EndAll, EndSubject, Flow, Insert, ReadEpoch
from strongroom.core.record import EndReason, Kind
from strongroom.core.visit import Visit
from strongroom.testing import Fates, interleavings
from tests.flows.scenes import check_no_late_cookie, pending, signed_in
from tests.support.flows import (
    HOUR,
    MINUTE,
    Log,
    Prepared,
    World,
    Worlds,
    authenticating,
    chain,
    replies,
    scenario,
    signing_in,
    writing,
)

ENDS: dict[str, Callable[[World], Flow[Any]]] = {
    "end_subject": lambda world: flows.end_subject(world.ctx, "alice", reason=EndReason.EVERYWHERE),
    "account_disabled": lambda world: flows.account_disabled(world.ctx, "alice"),
    "end_everybody": lambda world: flows.end_everybody(world.ctx),
    "end_others": lambda world: world.request(world.jars["alice"], flows.end_others, method="POST"),
    "credentials_changed": lambda world: world.request(
        world.jars["alice"], flows.credentials_changed, method="POST"
    ),
}


@cache
def staged(stage: Any) -> Worlds:
    return Prepared(stage)


def completing(visit: Visit) -> Flow[None]:
    """The second factor, where the first was proved."""
    if visit.kind is Kind.PENDING:
        yield from signing_in("alice", "otp")(visit)


STARTS = {
    "authenticating": authenticating("alice"),
    "plain": signing_in("alice"),
    "pending": authenticating("alice", signing_in("alice", pending=True)),
}


def first(log: Log, kind: Any, name: str | None = None) -> int:
    """When the first such op was answered."""
    for place, (who, op, _) in enumerate(log.entries):
        if isinstance(op, kind) and name in (None, who):
            return place
    return len(log.entries)


def check_order(world: World, fates: Fates, log: Log) -> None:
    """The epoch was read before the end, so whatever was inserted is dead (P15)."""
    check_no_late_cookie(world, fates, log)
    began, ended = first(log, ReadEpoch, "sign in"), first(log, EndSubject | EndAll)
    reply = replies(fates).get("sign in")
    if not fates["end"].returned or not began < ended < len(log.entries):
        return
    assert world.live_of("alice") == ([] if "alice" not in world.jars else kept(world, fates))
    if reply is not None and reply.cookie:
        assert world.who(reply.cookie) is None
        assert world.over(reply.cookie) is not None


def kept(world: World, fates: Fates) -> list[str]:
    """The one session that may outlive the end: the one that asked for it."""
    asked = replies(fates).get("end")
    if asked is None or asked.status != 200:
        return []
    return [world.token(world.jars["alice"]).session_id.hex()]


@pytest.mark.parametrize("end", ["end_subject", "account_disabled", "end_everybody"])
@pytest.mark.parametrize("start", STARTS)
def test_a_sign_in_that_began_before_the_end_comes_to_nothing(start: str, end: str) -> None:
    """In every order, and whatever fails (P15)."""
    meeting = {
        "sign in": lambda world: world.request(None, STARTS[start], method="POST"),
        "end": ENDS[end],
    }
    make = scenario(World, meeting, check_order)
    assert interleavings(make) >= 4
    assert interleavings(make, with_faults=True) > 20


@pytest.mark.parametrize("end", ["end_others", "credentials_changed"])
def test_ending_the_others_overtakes_sign_ins_too(end: str) -> None:
    """All but one: a sign-in under way elsewhere is one of the others (P15, P26)."""
    meeting = {
        "sign in": lambda world: world.request(None, authenticating("alice"), method="POST"),
        "end": ENDS[end],
    }
    assert interleavings(scenario(staged(signed_in), meeting, check_order)) >= 10


@pytest.mark.parametrize("end", ["end_subject", "account_disabled", "end_everybody"])
def test_the_second_factor_counts_from_the_first(end: str) -> None:
    """Completing a sign-in whose first factor came before the end signs nobody in (P15, C5)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        check_no_late_cookie(world, fates, log)
        reply = replies(fates).get("complete")
        inserted, ended = first(log, Insert), first(log, EndSubject | EndAll)
        if fates["end"].returned and ended < len(log.entries):
            assert world.live_of("alice") == []
            if reply is not None and reply.cookie:
                assert inserted < ended
                assert world.who(reply.cookie) is None

    meeting = {
        "complete": lambda world: world.request(world.jars["pending"], completing, method="POST"),
        "end": ENDS[end],
    }
    make = scenario(staged(pending), meeting, check)
    assert interleavings(make, with_faults=True) > 20


@pytest.mark.slow
def test_two_sign_ins_and_an_end() -> None:
    """Three at once: each sign-in is before the end or after it, never both (P15)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        ended = first(log, EndSubject)
        live = set(world.live_of("alice"))
        for name in ("one", "two"):
            cookie = replies(fates)[name].cookie
            if cookie and first(log, ReadEpoch, name) < ended:
                assert world.token(cookie).session_id.hex() not in live
            if first(log, ReadEpoch, name) > ended:
                assert cookie
                assert world.token(cookie).session_id.hex() in live

    meeting = {
        "one": lambda world: world.request(None, authenticating("alice"), method="POST"),
        "two": lambda world: world.request(None, signing_in("alice"), method="POST"),
        "end": ENDS["end_subject"],
    }
    assert interleavings(scenario(World, meeting, check)) > 100


def resetting(visit: Visit) -> Flow[None]:
    """A password reset: end everything under a new epoch, then sign in with the new password."""
    visit.attempt = yield from flows.begin_attempt(visit, "alice")
    yield from flows.reset_credentials(visit.ctx, "alice", visit)
    yield from flows.sign_in(visit, "alice")


def check_reset(world: World, fates: Fates, log: Log) -> None:
    """The reset signs in, the thief's sign-in from before it does not."""
    done = replies(fates)
    assert done["reset"].error is None
    assert world.who(done["reset"].cookie) == "alice"
    thief = done["thief"]
    if first(log, ReadEpoch, "thief") < first(log, EndSubject):
        assert not thief.cookie or world.who(thief.cookie) is None
        assert world.live_of("alice") == [world.token(done["reset"].cookie or "").session_id.hex()]


@pytest.mark.parametrize("stage", [lambda world: None, pending, signed_in])
def test_a_reset_carries_the_new_epoch(stage: Any) -> None:
    """It is not overtaken by its own "end all", also in a browser with an older session (E2)."""
    meeting = {
        "reset": lambda world: world.request(
            next(iter(world.jars.values()), None), resetting, method="POST"
        ),
        "thief": lambda world: world.request(None, authenticating("alice"), method="POST"),
    }
    assert interleavings(scenario(Prepared(stage), meeting, check_reset)) > 20


def test_what_was_proved_before_a_reset_does_not_count_after_it() -> None:
    """A first factor from before the reset adds no factor to the session after it (E2, P25)."""
    world = staged(pending)()
    world.clock.advance(MINUTE)
    reply = world.get(world.jars["pending"], resetting, method="POST")
    assert world.who(reply.cookie) == "alice"
    assert reply.here.identity is not None
    assert [each.amr for each in reply.here.identity.events] == ["pwd"]
    assert reply.here.identity.events[0].at == world.clock()
    assert world.over(world.jars["pending"]) is not None


def test_two_resets_at_once() -> None:
    """The later one wins; the earlier sign-in is ended or overtaken, never left beside it."""

    def check(world: World, fates: Fates, log: Log) -> None:
        cookies = [each.cookie for each in replies(fates).values() if each.cookie]
        live = [each for each in cookies if world.who(each) == "alice"]
        assert len(live) == 1
        assert len(world.live_of("alice")) == 1

    meeting = {
        name: lambda world: world.request(None, resetting, method="POST") for name in ("one", "two")
    }
    assert interleavings(scenario(World, meeting, check)) > 20


def test_an_attempt_of_more_than_an_hour_is_refused() -> None:
    """Epochs are not kept for ever, so an attempt must not be either (P15, P24)."""
    world = World()

    def waiting(visit: Visit, by: int) -> Flow[None]:
        visit.attempt = yield from flows.begin_attempt(visit, "alice")
        world.clock.advance(by)
        yield from flows.sign_in(visit, "alice")

    assert world.get(None, lambda visit: waiting(visit, HOUR)).cookie
    late = world.get(None, lambda visit: waiting(visit, HOUR + 1))
    assert isinstance(late.error, SignInOvertaken)


def test_a_swept_epoch_lets_no_old_attempt_in() -> None:
    """Sweeping forgets an epoch only when no attempt from before it can still come (P15, P24)."""
    world = World()

    def overtaken(visit: Visit) -> Flow[None]:
        visit.attempt = yield from flows.begin_attempt(visit, "alice")
        world.run(ENDS["end_subject"](world))
        for _ in range(13):
            world.clock.advance(10 * MINUTE)
            world.run(flows.sweep(world.ctx))
        yield from flows.sign_in(visit, "alice")

    reply = world.get(None, overtaken)
    assert isinstance(reply.error, SignInOvertaken)
    assert world.live_of("alice") == []


def test_an_attempt_for_one_subject_is_none_for_another() -> None:
    """Signing in somebody else reads that subject's epoch when it is called (E2)."""
    world = World()

    def other(visit: Visit) -> Flow[None]:
        visit.attempt = yield from flows.begin_attempt(visit, "alice")
        world.run(ENDS["end_subject"](world))
        yield from flows.sign_in(visit, "bob")

    reply = world.get(None, other)
    assert world.who(reply.cookie) == "bob"


def test_an_end_that_failed_overtakes_nobody() -> None:
    """A store that refused the end has not ended anything (P22)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        reply = replies(fates).get("sign in")
        if fates["end"].error is not None and first(log, EndSubject) == len(log.entries):
            assert reply is None or reply.cookie or reply.error is not None

    meeting = {
        "sign in": lambda world: world.request(None, authenticating("alice"), method="POST"),
        "end": ENDS["end_subject"],
    }
    assert interleavings(scenario(World, meeting, check), with_faults=True) > 20


def test_signing_in_and_writing_after_everything_ended() -> None:
    """The next honest sign-in works at once (E2, E3)."""
    world = staged(signed_in)()
    for end in ENDS.values():
        world.jars["alice"] = world.sign_in("alice")
        world.run(end(world))
        jar = world.get(None, chain(authenticating("alice"), writing(a=1)), method="POST").cookie
        assert world.data(jar) == {"a": 1}
