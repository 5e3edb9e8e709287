"""The races that matter most, over SQLite: each op is a transaction in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from strongroom.core import flows
from strongroom.core.events import SessionExpired, TokenReuse
from strongroom.core.ops import AtLimit, Flow, Touch
from strongroom.core.policy import SessionPolicy
from strongroom.core.record import EndReason
from strongroom.testing import Fates, interleavings
from tests.flows.scenes import (
    WORKS,
    anonymous,
    check_no_late_cookie,
    pending,
    renewal_due,
    signed_in,
    touch_due,
)
from tests.flows.test_ended_is_terminal import check_ended
from tests.flows.test_failed_responses import check_nobody_half_in
from tests.flows.test_limits import check_limit
from tests.flows.test_saving import check_all_kept
from tests.flows.test_sign_in_order import check_order, check_reset, completing, resetting
from tests.flows.test_table_d import confirmed_successor
from tests.support.flows import (
    ENDERS,
    GRACE,
    MINUTE,
    SECOND,
    Action,
    Log,
    PreparedFile,
    Reply,
    Stage,
    World,
    authenticating,
    elevating,
    nothing,
    renewing,
    replies,
    saving,
    scenario,
    signing_in,
    signing_out,
    writing,
)

IDLE = 30 * MINUTE

Files = Callable[..., PreparedFile]


def requesting(action: Action) -> Callable[[World], Flow[Reply]]:
    return lambda world: world.request(None, action, method="POST")


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    made: list[PreparedFile] = []

    def make(stage: Stage, policy: SessionPolicy | None = None) -> PreparedFile:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(PreparedFile(stage, folder, **({} if policy is None else {"policy": policy})))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("ender", ["sign_out", "end_subject", "end_everybody"])
@pytest.mark.parametrize("work", ["save", "elevate", "renew"])
def test_an_end_is_final(files: Files, work: str, ender: str) -> None:
    """P6, F1 in every order."""
    what = WORKS[work]
    meeting = {
        "work": lambda world: world.request(world.jars["alice"], what.action, method=what.method),
        "end": lambda world: ENDERS[ender](world, world.jars["alice"]),
    }
    assert interleavings(scenario(files(what.stage), meeting, check_ended), prune=True) > 1


@pytest.mark.slow
@pytest.mark.parametrize("ender", ENDERS)
def test_an_end_is_final_whatever_fails(files: Files, ender: str) -> None:
    """P6 with faults at any op."""
    what = WORKS["save"]
    meeting = {
        "work": lambda world: world.request(world.jars["alice"], what.action, method=what.method),
        "end": lambda world: ENDERS[ender](world, world.jars["alice"]),
    }
    make = scenario(files(what.stage), meeting, check_ended)
    assert interleavings(make, with_faults=True, prune=True) > 5


def test_two_writers_both_survive(files: Files) -> None:
    """P7: also while activity is noted (P8)."""
    for stage in (signed_in, touch_due):
        meeting = {
            name: lambda world, name=name: world.request(
                world.jars["alice"], writing(**{name: name}), method="POST"
            )
            for name in ("one", "two")
        }
        make = scenario(files(stage), meeting, check_all_kept)
        assert interleavings(make, prune=True, cap=2_000) > 3


def test_racers_get_one_successor(files: Files) -> None:
    """P11."""

    def check(world: World, fates: Fates, log: Log) -> None:
        handed = {each.cookie for each in replies(fates).values()} - {None}
        assert len(handed) == 1
        assert {each.subject for each in replies(fates).values()} == {"alice"}

    meeting = {
        name: lambda world: world.request(world.jars["alice"], renewing) for name in ("one", "two")
    }
    assert interleavings(scenario(files(renewal_due), meeting, check), prune=True) > 5


def test_a_sign_in_that_began_before_the_end_comes_to_nothing(files: Files) -> None:
    """P15."""
    for action in (authenticating("alice"), signing_in("alice")):
        meeting = {
            "sign in": requesting(action),
            "end": lambda world: flows.end_subject(world.ctx, "alice", reason=EndReason.EVERYWHERE),
        }
        assert interleavings(scenario(files(lambda world: None), meeting, check_order)) >= 4


def test_a_reset_carries_the_new_epoch(files: Files) -> None:
    """E2."""
    meeting = {
        "reset": lambda world: world.request(None, resetting, method="POST"),
        "thief": lambda world: world.request(None, authenticating("alice"), method="POST"),
    }
    make = scenario(files(lambda world: None), meeting, check_reset)
    assert interleavings(make, prune=True) > 5


@pytest.mark.parametrize("at_limit", list(AtLimit))
def test_the_limit_is_atomic(files: Files, at_limit: AtLimit) -> None:
    """C6."""

    def stage(world: World) -> None:
        world.jars["first"] = world.sign_in("alice")
        world.clock.advance(MINUTE)

    policy = SessionPolicy(max_sessions=2, at_limit=at_limit)
    meeting = {
        name: lambda world: world.request(None, authenticating("alice"), method="POST")
        for name in ("one", "two")
    }
    make = scenario(files(stage, policy), meeting, check_limit)
    assert interleavings(make, prune=True) > 3


@pytest.mark.parametrize("stage", [anonymous, signed_in, pending])
def test_a_sign_in_leaves_the_old_token_dead(files: Files, stage: Stage) -> None:
    """P10, against a request on the old session."""

    def check(world: World, fates: Fates, log: Log) -> None:
        check_no_late_cookie(world, fates, log)
        (old,) = world.jars.values()
        assert replies(fates)["sign in"].cookie
        assert world.who(old) is None

    action = completing if stage is pending else signing_in("alice")
    meeting = {
        "sign in": lambda world: world.request(*world.jars.values(), action, method="POST"),
        "late": lambda world: world.request(*world.jars.values(), saving(a=1), method="POST"),
    }
    assert interleavings(scenario(files(stage), meeting, check), prune=True) > 3


def test_of_two_elevations_one_wins(files: Files) -> None:
    """D2."""

    def check(world: World, fates: Fates, log: Log) -> None:
        assert len([each for each in replies(fates).values() if each.cookie]) == 1

    meeting = {
        name: lambda world: world.request(world.jars["alice"], elevating(), method="POST")
        for name in ("one", "two")
    }
    assert interleavings(scenario(files(signed_in), meeting, check), prune=True) > 3


@pytest.mark.slow
def test_the_later_of_two_touches_stays(files: Files) -> None:
    """P9: whichever write is last."""

    def check(world: World, fates: Fates, log: Log) -> None:
        moments = [op.seen_at for _, op, _ in log.entries if isinstance(op, Touch)]
        assert world.record(world.jars["alice"]).header.last_seen == max(moments)

    meeting = {
        name: lambda world: world.request(world.jars["alice"], nothing) for name in ("one", "two")
    }
    make = scenario(files(touch_due), meeting, check)
    assert interleavings(make, explore_with_time=(SECOND,), cap=2_000) > 20


@pytest.mark.slow
def test_an_expiry_and_a_touch_that_meet_never_revive(files: Files) -> None:
    """P9, E6."""

    def stage(world: World) -> None:
        signed_in(world)
        world.clock.advance(IDLE - SECOND)

    def check(world: World, fates: Fates, log: Log) -> None:
        if replies(fates)["late"].saw(SessionExpired):
            assert world.record(world.jars["alice"]).header.end_reason is EndReason.IDLE
            assert world.who(world.jars["alice"]) is None

    meeting = {
        name: lambda world: world.request(world.jars["alice"], nothing)
        for name in ("early", "late")
    }
    make = scenario(files(stage), meeting, check)
    assert interleavings(make, explore_with_time=(2 * SECOND,), cap=2_000) > 20


@pytest.mark.parametrize("owner", ["look", "save", "sign out"])
def test_a_thief_and_the_owner_meet(files: Files, owner: str) -> None:
    """P12: in every order the session is over, for both, and nobody gets a cookie of it."""

    def stage(world: World) -> None:
        confirmed_successor(world)
        world.clock.advance(GRACE)

    def check(world: World, fates: Fates, log: Log) -> None:
        check_no_late_cookie(world, fates, log)
        thief = replies(fates)["thief"]
        assert not thief.cookie
        assert thief.saw(TokenReuse) or owner == "sign out"
        for jar in ("alice", "successor"):
            assert world.who(world.jars[jar]) is None

    does = {"look": nothing, "save": saving(a=1), "sign out": signing_out}[owner]
    meeting = {
        "thief": lambda world: world.request(world.jars["alice"], nothing),
        "owner": lambda world: world.request(world.jars["successor"], does, method="POST"),
    }
    assert interleavings(scenario(files(stage), meeting, check), prune=True) > 1


@pytest.mark.parametrize("other", ["renew", "elevate", "look"])
def test_a_sign_out_and_another_request_meet(files: Files, other: str) -> None:
    """P13, P14: whoever was told to be signed out is, and only that answer clears the cookie."""

    def check(world: World, fates: Fates, log: Log) -> None:
        check_no_late_cookie(world, fates, log)
        assert world.over(world.jars["alice"]) is EndReason.LOGOUT
        assert replies(fates)["leave"].cookie == ""
        assert replies(fates)["other"].cookie != ""

    what = WORKS[other]
    meeting = {
        "leave": lambda world: world.request(world.jars["alice"], signing_out, method="POST"),
        "other": lambda world: world.request(world.jars["alice"], what.action, method=what.method),
    }
    assert interleavings(scenario(files(what.stage), meeting, check), prune=True) > 1


@pytest.mark.parametrize("stage", [anonymous, signed_in, pending])
def test_a_sign_in_whose_store_fails_is_undone(files: Files, stage: Stage) -> None:
    """P14, with a fault at any op."""
    meeting = {
        "sign in": lambda world: world.request(
            *world.jars.values(), signing_in("alice", "otp"), method="POST"
        )
    }
    make = scenario(files(stage), meeting, check_nobody_half_in)
    assert interleavings(make, with_faults=True) > 7
