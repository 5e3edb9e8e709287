"""P10: signing in always starts a new session, and what was planted before is worth nothing."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from strongroom.core.credentials import Verdict
from strongroom.core.errors import SessionEnded, SignInOvertaken, SignInRequired, UsageError
from strongroom.core.events import SessionLogout, TokenRefused, TokenReuse
from strongroom.core.ops import Flow
from strongroom.core.policy import SessionPolicy
from strongroom.core.record import EndReason, Kind
from strongroom.core.visit import Visit
from strongroom.testing import Fates, interleavings
from tests.flows.scenes import anonymous, check_no_late_cookie, pending, signed_in
from tests.support.flows import (
    GRACE,
    HOUR,
    NAVIGATION,
    SETTLE,
    Action,
    Log,
    Prepared,
    World,
    Worlds,
    chain,
    elevating,
    jars_after,
    nothing,
    replies,
    saving,
    scenario,
    signing_in,
    signing_out,
    writing,
)

STAGES: dict[str, Any] = {"visitor": anonymous, "pending": pending, "alice": signed_in}


@cache
def staged(name: str) -> Worlds:
    return Prepared(STAGES[name])


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("who", ["alice", "bob"])
@pytest.mark.parametrize("second", [None, "sign in", "elevate", "sign out and in"])
def test_nothing_of_an_earlier_stage_works_after_a_sign_in(
    stage: str, who: str, second: str | None
) -> None:
    """Whoever knows an old token holds nothing: a new id, token and root each time (P10)."""
    world = staged(stage)()
    (old,) = world.jars.values()
    more: dict[str | None, Action] = {
        None: nothing,
        "sign in": signing_in(who),
        "elevate": elevating(),
        "sign out and in": chain(signing_out, signing_in(who)),
    }
    tokens = []

    def remembering(visit: Visit) -> Flow[None]:
        yield from signing_in(who)(visit)
        assert visit.token is not None
        tokens.append(visit.token.text)
        yield from more[second](visit)

    new = world.get(old, remembering, method="POST").cookie
    assert new
    assert world.who(new) == who
    assert world.token(new).session_id != world.token(old).session_id
    assert world.token(new).root != world.token(old).root
    for stale in {old, *tokens} - {new}:
        assert world.who(stale) is None
        assert world.probe(stale).cookie is None
    assert len(world.live_of(who)) == 1
    assert world.over(old) is EndReason.SUPERSEDED


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("late", ["save", "look"])
def test_a_request_on_the_old_session_revives_nothing(stage: str, late: str) -> None:
    """In every order with a sign-in, the old token ends up dead and the new one untouched."""

    def check(world: World, fates: Fates, log: Log) -> None:
        check_no_late_cookie(world, fates, log)
        (old,) = world.jars.values()
        new = replies(fates)["sign in"].cookie
        assert new
        assert world.who(old) is None
        if stage != "pending":  # a sign-in in two steps is one, and its data comes along
            assert world.data(new).get("planted") is None

    action = saving(planted=1) if late == "save" else nothing
    meeting = {
        "sign in": lambda world: world.request(
            *world.jars.values(), signing_in("alice", "otp"), method="POST"
        ),
        "late": lambda world: world.request(*world.jars.values(), action, method="POST"),
    }
    assert interleavings(scenario(staged(stage), meeting, check)) >= 5


@pytest.mark.parametrize("stage", ["visitor", "alice"])
@pytest.mark.parametrize("others", [("alice", "alice"), ("alice", "bob")])
def test_two_parallel_sign_ins_from_one_session(stage: str, others: tuple[str, str]) -> None:
    """Each starts a session of its own; the browser keeps one; the old session is gone (P10)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        (old,) = world.jars.values()
        done = replies(fates)
        assert {name: world.who(each.cookie) for name, each in done.items()} == {
            "one": others[0],
            "two": others[1],
        }
        assert world.who(old) is None
        for jar in jars_after(old, done.values()):
            assert world.who(jar) in {None, *others}
        sessions = {world.token(each.cookie or "").session_id for each in done.values()}
        assert len(sessions) == 2

    meeting = {
        name: lambda world, who=who: world.request(
            *world.jars.values(), signing_in(who), method="POST"
        )
        for name, who in zip(("one", "two"), others, strict=True)
    }
    assert interleavings(scenario(staged(stage), meeting, check), cap=60_000) > 20


def test_two_completions_of_one_first_factor() -> None:
    """A double click on the second factor: one session comes of it, and no error loops (C5)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        done = replies(fates)
        won = [each for each in done.values() if each.cookie]
        assert len(world.live_of("alice")) == len(won) == 1
        for each in done.values():
            assert each in won or isinstance(each.error, SignInOvertaken) or each.subject is None

    def completing(visit: Visit) -> Flow[None]:
        if visit.kind is Kind.PENDING:
            yield from signing_in("alice", "otp")(visit)

    meeting = {
        name: lambda world: world.request(world.jars["pending"], completing, method="POST")
        for name in ("one", "two")
    }
    assert interleavings(scenario(staged("pending"), meeting, check)) > 20


def test_a_planted_anonymous_session_gains_nothing() -> None:
    """Session fixation: the attacker plants his own cookie, and the victim signs in with it."""
    world = staged("visitor")()
    planted = world.jars["visitor"]
    victim = world.get(planted, chain(signing_in("alice"), writing(secret=1)), method="POST")
    assert victim.cookie
    assert world.who(planted) is None
    assert world.probe(planted).here.data.get("secret") is None
    late = world.get(planted, saving(mine=1), method="POST")
    assert late.subject is None
    assert world.data(victim.cookie) == {"secret": 1}, "the cart is not carried unless asked"


def test_a_planted_signed_in_session_shows_nothing_of_the_victim() -> None:
    """Login CSRF: the attacker's own session in the victim's browser ends, and stays apart."""
    world = World()
    planted = world.sign_in("mallory", note="his")
    victim = world.get(planted, chain(signing_in("alice"), writing(secret=1)), method="POST")
    assert victim.cookie
    assert world.data(victim.cookie) == {"secret": 1}, "nothing of the attacker's came along"
    assert world.who(planted) is None
    assert world.over(planted) is EndReason.SUPERSEDED
    assert world.live_of("mallory") == []


def test_only_named_keys_are_carried_over() -> None:
    """And only from an anonymous session (P10)."""
    policy = SessionPolicy(carry_over=("cart",))
    world = World(policy=policy)
    visitor = world.get(None, writing(cart=[1], note=2)).cookie
    new = world.sign_in("alice", visitor)
    assert world.data(new) == {"cart": [1]}
    again = world.sign_in("bob", new)
    assert world.data(again) == {}


def test_completing_keeps_what_the_first_factor_wrote() -> None:
    """A pending session comes along whole, for the same subject only (C5)."""
    world = World()
    waiting = world.get(None, chain(signing_in("alice", pending=True), writing(step=1))).cookie
    done = world.get(waiting, signing_in("alice", "otp"))
    assert done.here.identity is not None
    assert {each.amr for each in done.here.identity.events} == {"pwd", "otp"}
    assert world.data(done.cookie) == {"step": 1}
    other = world.get(
        world.get(None, chain(signing_in("alice", pending=True), writing(step=1))).cookie,
        signing_in("bob", "otp"),
    )
    assert other.here.identity is not None
    assert {each.amr for each in other.here.identity.events} == {"otp"}
    assert world.data(other.cookie) == {}


def test_a_pending_session_is_nobody() -> None:
    """It exposes no subject, cannot be elevated, and is not listed (C5)."""
    world = staged("pending")()
    jar = world.jars["pending"]
    assert world.who(jar) is None
    assert world.live_of("alice") == []
    assert isinstance(world.get(jar, elevating()).error, SignInRequired)


@pytest.mark.parametrize("kind", ["visitor", "pending"])
def test_no_op_sequence_promotes_a_record(kind: str) -> None:
    """What was anonymous or pending never becomes signed in under the same id (P10)."""
    world = staged(kind)()
    (jar,) = world.jars.values()
    before = world.record(jar).header.kind
    for action in (signing_in("alice"), signing_in("alice", pending=True), signing_out):
        fresh = staged(kind)()
        fresh.get(jar, action, method="POST")
        assert fresh.record(jar).header.kind is before


# Elevation (D2).


def test_elevating_kills_the_old_token_at_once() -> None:
    """In every order with a request on the old token, which is refused quietly (D2, P10)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        done = replies(fates)
        old, new = world.jars["alice"], done["elevate"].cookie
        assert new
        assert world.who(old) is None
        assert world.who(new) == "alice"
        assert world.probe(old, headers=NAVIGATION).cookie is None
        for reply in (done["other"], world.probe(old)):
            assert not reply.saw(TokenReuse)
            assert not reply.cookie

    meeting = {
        "elevate": lambda world: world.request(world.jars["alice"], elevating(), method="POST"),
        "other": lambda world: world.request(world.jars["alice"], saving(a=1), method="POST"),
    }
    assert interleavings(scenario(staged("alice"), meeting, check)) > 5


def test_of_two_elevations_one_wins() -> None:
    """The other is told that the session was elevated elsewhere; nothing is half done (D2)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        done = replies(fates).values()
        won = [each for each in done if each.cookie]
        assert len(won) == 1
        assert world.who(won[0].cookie) == "alice"
        for each in done:
            assert each in won or isinstance(each.error, SessionEnded | SignInRequired)

    meeting = {
        name: lambda world: world.request(world.jars["alice"], elevating(), method="POST")
        for name in ("one", "two")
    }
    assert interleavings(scenario(staged("alice"), meeting, check)) > 5


@pytest.mark.parametrize("later", [0, GRACE, HOUR // 4])
def test_a_lost_elevation_costs_one_sign_in_and_leaves_no_orphan(later: int) -> None:
    """The next sign-in of the same subject ends the session that nobody can open (D2)."""
    world = staged("alice")()
    old = world.jars["alice"]
    assert world.get(old, elevating()).cookie  # and the response is lost
    world.clock.advance(later)
    back = world.get(old)
    assert (back.subject, back.cookie) == (None, None)
    assert not back.events
    new = world.sign_in("alice", old)
    assert world.over(old) is EndReason.SUPERSEDED
    assert world.live_of("alice") == [world.token(new).session_id.hex()]


def test_an_orphan_of_somebody_else_is_left_alone() -> None:
    """A planted dead token ends nobody else's session (D2, P10)."""
    world = staged("alice")()
    old = world.jars["alice"]
    elevated = world.get(old, elevating()).cookie
    mallory = world.sign_in("mallory", old)
    assert world.who(elevated) == "alice"
    assert world.who(mallory) == "mallory"
    assert elevated
    world.confirmed(elevated)
    world.get(old, signing_out)
    assert world.who(elevated) == "alice", "a dead token signs nobody out"


def test_a_sign_out_that_meets_an_elevation_holds() -> None:
    """In every order, also where the elevation's answer is lost: who was told to be signed out is
    (P14, D2)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        old = world.jars["alice"]
        leave = fates["leave"]
        if not leave.returned or leave.value.error is not None:
            return
        assert world.over(old) is EndReason.LOGOUT
        assert world.live_of("alice") == []
        for reply in replies(fates).values():
            assert not reply.cookie or world.who(reply.cookie) is None

    meeting = {
        "elevate": lambda world: world.request(world.jars["alice"], elevating(), method="POST"),
        "leave": lambda world: world.request(world.jars["alice"], signing_out, method="POST"),
    }
    assert interleavings(scenario(staged("alice"), meeting, check)) > 5
    assert interleavings(scenario(staged("alice"), meeting, check), with_faults=True) > 50


@pytest.mark.parametrize("lost", [True, False])
def test_signing_out_by_a_token_from_before_an_elevation(lost: bool) -> None:
    """It ends its session as long as an honest request may bring it, and then no more (P14, D)."""
    world = staged("alice")()
    old = world.jars["alice"]
    elevated = world.get(old, elevating()).cookie
    assert elevated
    world.clock.advance(HOUR // 4)
    if not lost:
        world.confirmed(elevated)
    reply = world.get(old, signing_out)
    assert reply.cookie == ""
    assert (world.who(elevated) is None) is lost
    assert reply.saw(SessionLogout) is lost


def test_a_token_rotated_away_long_ago_is_a_signal_and_ends_nothing() -> None:
    """A thief's copy from before the elevation (D, last but two rows)."""
    world = staged("alice")()
    old = world.jars["alice"]
    elevated = world.get(old, elevating()).cookie
    assert elevated
    world.confirmed(elevated)
    reply = world.get(old)
    assert reply.here.refusal == Verdict.ROTATED_AWAY.value
    assert reply.saw(TokenRefused)
    assert world.who(elevated) == "alice"


@pytest.mark.parametrize("order", [("sign in", "touch"), ("touch", "sign in")])
def test_a_touch_of_the_old_session_does_not_move_the_new_one(order: tuple[str, ...]) -> None:
    """Activity on the session before is nobody's activity (P10)."""
    world = staged("alice")()
    old = world.jars["alice"]
    world.clock.advance(SETTLE)
    new = None
    for what in order:
        if what == "touch":
            world.get(old)
        else:
            new = world.get(old, signing_in("alice")).cookie
    assert new
    record = world.record(new)
    assert record.header.last_seen == world.clock()


def test_a_sign_in_needs_a_factor_and_a_subject() -> None:
    """A session whose sign-in proved nothing would count as authenticated."""
    world = World()
    for action in (
        lambda visit: signing_in("")(visit),
        lambda visit: signing_in("a" * 513)(visit),
    ):
        with pytest.raises(UsageError):
            world.get(None, action)
