"""P7 and P8: no lost update, and what is not data never conflicts with it."""

from __future__ import annotations

from functools import cache
from itertools import permutations
from typing import Any

import pytest

from strongroom.core import flows
from strongroom.core.errors import SessionEnded, StoreUnavailable, WriteConflict
from strongroom.core.flows.listing import end_others
from strongroom.core.ops import Flow, GiveWay, Outcome, Replace
from strongroom.core.policy import SessionPolicy
from strongroom.core.visit import Visit
from strongroom.testing import Fates, interleavings
from tests.flows.scenes import WORKS, anonymous, renewal_due, signed_in, touch_due
from tests.support.flows import (
    HOUR,
    MINUTE,
    Action,
    Log,
    Prepared,
    World,
    Worlds,
    a_key,
    a_ring,
    chain,
    elevating,
    facts,
    nothing,
    renewing,
    replies,
    saving,
    scenario,
    signing_out,
    writing,
)


@cache
def staged(stage: Any) -> Worlds:
    return Prepared(stage)


def posting(action: Action) -> Any:
    """A request of alice's that does this."""
    return lambda world: world.request(world.jars["alice"], action, method="POST")


def check_all_kept(world: World, fates: Fates, log: Log) -> None:
    """Every save that was acknowledged is there, beside what was there before."""
    data = world.data(world.jars["alice"])
    assert data["kept"] == 0
    for name, reply in replies(fates).items():
        if reply.status == 200 and reply.error is None:
            assert data.get(name) == name, f"what {name} saved is lost"


@pytest.mark.parametrize("how", [writing, saving])
def test_two_writers_of_different_keys_both_survive(how: Any) -> None:
    """Also where the store fails or a process dies at any op (P7)."""
    meeting = {name: posting(how(**{name: name})) for name in ("one", "two")}
    assert interleavings(scenario(staged(signed_in), meeting, check_all_kept)) > 5
    make = scenario(staged(signed_in), meeting, check_all_kept)
    assert interleavings(make, with_faults=True) > 50


def test_three_writers_of_different_keys_all_survive() -> None:
    """Each retries against what the others left (P7)."""
    meeting = {name: posting(writing(**{name: name})) for name in ("one", "two", "three")}
    assert interleavings(scenario(staged(signed_in), meeting, check_all_kept)) > 90


@pytest.mark.slow
def test_three_writers_survive_while_activity_is_noted() -> None:
    """Touch and first use are written in between, and disturb nobody (P7, P8)."""
    meeting = {name: posting(writing(**{name: name})) for name in ("one", "two", "three")}
    make = scenario(staged(touch_due), meeting, check_all_kept)
    assert interleavings(make, prune=True, cap=200_000) > 90


def test_two_writers_of_one_key_are_ordered() -> None:
    """The value is the one whose save was applied last; neither is torn (P7)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        applied = [
            name
            for name, op, heard in log.entries
            if isinstance(op, Replace) and isinstance(heard, Outcome) and heard.applied
        ]
        assert sorted(applied) == ["one", "two"]
        assert world.data(world.jars["alice"])["key"] == applied[-1]

    meeting = {name: posting(writing(key=name)) for name in ("one", "two")}
    assert interleavings(scenario(staged(signed_in), meeting, check)) > 5


def test_a_deletion_and_a_change_of_other_keys_merge() -> None:
    """Deleting a key takes nobody else's away (P7)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        assert world.data(world.jars["alice"]) == {"new": 1}

    meeting = {"one": posting(writing(kept=None)), "two": posting(writing(new=1))}
    assert interleavings(scenario(staged(signed_in), meeting, check)) > 5


def test_changes_inside_a_list_are_saved_and_kept_apart() -> None:
    """Nested changes of two requests to two keys both survive (P7)."""

    def stage(world: World) -> None:
        world.jars["alice"] = world.sign_in(a=[0], b={"n": [0]})

    def appending(visit: Visit) -> Flow[None]:
        yield from ()
        visit.data["a"].append(1)

    def nesting(visit: Visit) -> Flow[None]:
        yield from ()
        visit.data["b"]["n"].append(2)

    def check(world: World, fates: Fates, log: Log) -> None:
        assert world.data(world.jars["alice"]) == {"a": [0, 1], "b": {"n": [0, 2]}}

    meeting = {"one": posting(appending), "two": posting(nesting)}
    assert interleavings(scenario(Prepared(stage), meeting, check)) > 5


@pytest.mark.parametrize("strictly", [True, None])
def test_a_strict_save_is_told_of_a_conflict(strictly: bool | None) -> None:
    """Whoever asks to be told either wins untouched or is told, and then has written nothing."""
    policy = SessionPolicy() if strictly else SessionPolicy(conflicts="strict")

    def check(world: World, fates: Fates, log: Log) -> None:
        done = replies(fates)
        told = [name for name, each in done.items() if isinstance(each.error, WriteConflict)]
        assert len(told) <= 1
        data = world.data(world.jars["alice"])
        for name, reply in done.items():
            if name in told:
                assert reply.status == 409
                assert data["key"] != name, "the loser was told, and won all the same"
        if not told:
            assert data["key"] in done

    meeting = {name: posting(saving(strict=strictly, key=name)) for name in ("one", "two")}
    worlds = Prepared(signed_in, policy=policy)
    assert interleavings(scenario(worlds, meeting, check)) > 5


def test_after_a_conflict_the_session_reads_as_it_is_now() -> None:
    """Read again, decide, save again: the loser's second save works (P7)."""
    world = staged(signed_in)()
    jar = world.jars["alice"]

    def losing(visit: Visit) -> Flow[None]:
        visit.data["kept"] += 1
        world.get(jar, saving(kept=10))
        with pytest.raises(WriteConflict):
            yield from flows.save(visit, strict=True)
        assert visit.data["kept"] == 10
        visit.data["kept"] += 1
        yield from flows.save(visit, strict=True)

    world.get(jar, losing)
    assert world.data(jar)["kept"] == 11


def test_two_who_each_add_one_are_told_apart() -> None:
    """The same value from two is a conflict as well: one of two additions is lost (P7)."""

    def adding(visit: Visit) -> Flow[None]:
        visit.data["kept"] += 1
        yield from flows.save(visit, strict=True)

    def check(world: World, fates: Fates, log: Log) -> None:
        added = [each for each in replies(fates).values() if each.error is None]
        assert world.data(world.jars["alice"])["kept"] == len(added)

    meeting = {name: posting(adding) for name in ("one", "two")}
    assert interleavings(scenario(staged(signed_in), meeting, check)) > 4


@pytest.mark.parametrize("work", ["touch", "confirm", "renew", "successor", "adopt"])
def test_what_carries_no_data_never_conflicts_with_a_save(work: str) -> None:
    """A save beside a touch, confirmation, renewal or adoption succeeds at the first try (P8)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        replaced = [heard for name, op, heard in log.entries if isinstance(op, Replace)]
        assert [heard.applied for heard in replaced] == [True]
        done = replies(fates)
        newest = done["other"].cookie or done["save"].cookie or world.jars["alice"]
        assert world.data(newest) == {"kept": 0, "mine": 1}

    what = WORKS[work]
    meeting = {
        "other": lambda world: world.request(world.jars["alice"]),
        "save": posting(saving(mine=1)),
    }
    assert interleavings(scenario(staged(what.stage), meeting, check), cap=30_000) > 9


def test_a_request_that_only_reads_writes_no_data() -> None:
    """Reading, even of lists, is no change; a touch carries none (P8)."""
    world = staged(touch_due)()
    jar = world.jars["alice"]
    before = world.record(jar)

    def reading(visit: Visit) -> Flow[None]:
        yield from ()
        assert dict(visit.data) == {"kept": 0}

    world.get(jar, reading)
    after = world.record(jar)
    assert after.header.last_seen > before.header.last_seen
    assert (after.data, after.header.data_version) == (before.data, before.header.data_version)


CHANGERS: dict[str, Action] = {
    "elevate": elevating(),
    "others": lambda visit: end_others(visit),
    "credentials": flows.credentials_changed,
    "renew": renewing,
}


@pytest.mark.parametrize("changer", CHANGERS)
@pytest.mark.parametrize("late", [False, True])
def test_data_survives_what_happens_to_the_session_in_one_request(changer: str, late: bool) -> None:
    """A request changes its session's standing and its data while another saves (P7)."""
    order = (writing(mine=1), CHANGERS[changer]) if late else (CHANGERS[changer], writing(mine=1))

    def check(world: World, fates: Fates, log: Log) -> None:
        done = replies(fates)
        newest = done["changer"].cookie or world.jars["alice"]
        data = world.data(newest)
        if done["changer"].error is None:
            assert data["mine"] == 1
        if done["save"].subject == "alice" and done["save"].error is None:
            assert data["theirs"] == 2, "an acknowledged save is lost"

    meeting = {"changer": posting(chain(*order)), "save": posting(saving(theirs=2))}
    assert interleavings(scenario(staged(renewal_due), meeting, check), cap=30_000) > 10


def test_a_late_assignment_beside_a_touch_loses_nothing() -> None:
    """What is assigned after the response began is merged with what others saved meanwhile."""
    world = staged(touch_due)()
    jar = world.jars["alice"]

    def slow() -> Flow[None]:
        visit = yield from flows.open_visit(world.ctx, facts(jar))
        assert visit.data["kept"] == 0
        world.get(jar, saving(theirs=2))
        yield from flows.close_visit(visit)
        visit.data["mine"] = 1
        yield from flows.save(visit, explicit=False)

    world.run(slow())
    assert world.data(jar) == {"kept": 0, "mine": 1, "theirs": 2}


@pytest.mark.parametrize("order", list(permutations(["elevate", "key", "renew", "save"])))
def test_data_survives_in_any_order(order: tuple[str, ...]) -> None:
    """Elevation, a new key, renewal (which seals anew) and saves, in every order (P7, A1)."""
    world = staged(signed_in)()
    jar, expected = world.jars["alice"], {"kept": 0}
    for step, name in enumerate(order):
        match name:
            case "key":
                ring = a_ring(a_key(1), a_key(2, issue_from=world.clock()))
                world.ring, world.ctx = ring, world.context(ring)
                continue
            case "elevate":
                jar = world.get(jar, elevating()).into(jar) or ""
            case "renew":
                if world.record(jar).header.credential.confirmed_at == 0:
                    world.confirmed(jar)
                jar = world.renewed(jar)
            case _:
                expected[f"step {step}"] = step
                world.get(jar, writing(**{f"step {step}": step}))
        assert world.data(jar) == expected
        world.clock.advance(MINUTE)
    assert world.data(jar) == expected


@pytest.mark.slow
def test_sealing_anew_meets_a_save() -> None:
    """The renewal that moves data to a new key gives way to a save, and loses nothing (P7, A1)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        done = replies(fates)
        newest = done["renew"].cookie or done["save"].cookie or world.jars["alice"]
        data = world.data(newest)
        assert data["kept"] == 0
        if done["save"].error is None:
            assert data["mine"] == 1

    def stage(world: World) -> None:
        renewal_due(world)

    def rotated() -> World:
        world = staged(stage)()
        ring = a_ring(a_key(1), a_key(2, issue_from=world.clock()))
        world.ring, world.ctx = ring, world.context(ring)
        return world

    meeting = {
        "renew": lambda world: world.request(world.jars["alice"], nothing),
        "save": posting(saving(mine=1)),
    }
    assert interleavings(scenario(rotated, meeting, check), cap=100_000) > 10


def test_a_writer_who_never_gets_through_is_told() -> None:
    """After sixteen lost tries the request fails aloud, and has written nothing (P7, P22)."""
    world = staged(signed_in)()
    jar = world.jars["alice"]
    flow = world.request(jar, saving(mine=1))
    op, count, reply = next(flow), 0, None
    try:
        while True:
            if isinstance(op, Replace):
                count += 1
                world.get(jar, saving(theirs=count))
            try:
                wait = isinstance(op, GiveWay)
                answer = True if wait else getattr(world.store, op.verb)(op)
            except StoreUnavailable as error:
                op = flow.throw(error)
            else:
                op = flow.send(answer)
    except StopIteration as done:
        reply = done.value
    assert reply is not None
    assert isinstance(reply.error, StoreUnavailable)
    assert reply.status == 503
    assert "mine" not in world.data(jar)


@pytest.mark.parametrize("ending", ["sign out", "sweep"])
def test_a_session_that_ends_while_a_writer_waits_stays_ended(ending: str) -> None:
    """Lining up again finds the end, and nothing is written after it (P6, P7)."""
    world = staged(signed_in)()
    jar = world.jars["alice"]
    flow = world.request(jar, saving(mine=1))
    op, wrote = next(flow), False
    try:
        while True:
            if isinstance(op, GiveWay):
                world.get(jar, signing_out)
                if ending == "sweep":
                    world.clock.advance(400 * 24 * HOUR)
                    world.run(flows.sweep(world.ctx))
                op, wrote = flow.send(True), True
                continue
            if isinstance(op, Replace) and not wrote:
                world.get(jar, saving(theirs=1))
            answer = getattr(world.store, op.verb)(op)
            assert not (wrote and isinstance(op, Replace)) or answer.is_gone
            op = flow.send(answer)
    except StopIteration as done:
        assert isinstance(done.value.error, SessionEnded)
    assert wrote


def test_two_visitors_writes_to_one_anonymous_session_merge() -> None:
    """The cart of a visitor with two tabs (P7)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        assert world.data(world.jars["visitor"]) == {"cart": [1], "one": 1, "two": 2}

    meeting = {
        "one": lambda world: world.request(world.jars["visitor"], writing(one=1)),
        "two": lambda world: world.request(world.jars["visitor"], writing(two=2)),
    }
    assert interleavings(scenario(staged(anonymous), meeting, check)) > 5


def test_a_save_after_the_end_is_told_only_where_it_was_asked_for() -> None:
    """An explicit save raises `SessionEnded`; see test_ended_is_terminal.py for the races (P6)."""
    world = staged(signed_in)()
    jar = world.jars["alice"]

    def ended(visit: Visit) -> Flow[None]:
        world.run(flows.end_everybody(world.ctx))
        world.run(flows.account_disabled(world.ctx, "alice"))
        yield from saving(a=1)(visit)

    assert isinstance(world.get(jar, ended).error, SessionEnded)
