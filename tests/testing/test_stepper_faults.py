"""The stepper finds what only failures and delays bring to light."""

from __future__ import annotations

import pytest

from strongroom.core.errors import StoreUnavailable
from strongroom.core.ops import Find, Flow
from strongroom.core.record import Record
from strongroom.testing import (
    Fates,
    FrozenClock,
    Scenario,
    ScheduleFailed,
    interleavings,
    replay,
)
from strongroom.testing.records import a_touch, an_end
from tests.testing.toys import faulty, opened, scenario


def end_and_believe(record: Record) -> Flow[None]:
    """The planted fault: a sign-out that takes a failure for success."""
    try:
        yield an_end(record)
    except StoreUnavailable:
        return


def end_then_report(record: Record) -> Flow[None]:
    """Ends, and needs a second op before it has done what it promised."""
    yield an_end(record)
    yield Find(record.session_id)


def test_an_unavailable_store_is_explored() -> None:
    """A flow that swallows the failure says "signed out" to somebody who is not (P22)."""

    def ended(record: Record, fates: Fates) -> None:
        assert not record.is_live or not fates["only"].returned

    assert interleavings(faulty(end_and_believe, ended)) == 1
    with pytest.raises(ScheduleFailed) as caught:
        interleavings(faulty(end_and_believe, ended), with_faults=True)
    assert caught.value.schedule == ((0, "unavailable"),)


def test_a_lost_acknowledgement_is_explored() -> None:
    """The store has acted, and the flow is told that it has not."""

    def nothing_happened(record: Record, fates: Fates) -> None:
        assert record.is_live or fates["only"].error is None

    with pytest.raises(ScheduleFailed) as caught:
        interleavings(faulty(end_then_report, nothing_happened), with_faults=True)
    assert caught.value.schedule in (((0, "lost"),), (0, (0, "unavailable")))
    run = replay(faulty(end_then_report, lambda record, fates: None), ((0, "lost"),))
    assert run.trace == ("only: end -> applied, but the acknowledgement is lost",)
    assert isinstance(run.fates["only"].error, StoreUnavailable)


def test_a_process_that_dies_runs_nothing_more() -> None:
    """Not even its `finally`, neither during the schedule nor when it is cleaned up."""
    cleaned: list[str] = []

    def tidy(record: Record) -> Flow[None]:
        try:
            yield a_touch(record)
            yield an_end(record)
        finally:
            cleaned.append("while the schedule ran")

    def check(record: Record, fates: Fates) -> None:
        if fates["only"].died:
            assert not cleaned
        cleaned.clear()

    died: list[bool] = []

    def looking(record: Record, fates: Fates) -> None:
        check(record, fates)
        died.append(fates["only"].died)

    def make() -> Scenario:
        cleaned.clear()
        return faulty(tidy, looking)()

    # Without a fault; unavailable, lost or dead at either of two ops.
    assert interleavings(make, with_faults=True) == 7
    assert died.count(True) == 2


def test_one_schedule_has_one_fault() -> None:
    """A fault at each op of each flow, one at a time; a lost read is an unanswered one."""
    assert interleavings(scenario(1), with_faults=True) == 3
    # Three orders without a fault; two faults at the lone op (3 orders), at the first of the other
    # flow (which ends there: 2 orders), and at its second (3 orders).
    assert interleavings(scenario(1, 2), with_faults=True) == 3 + 2 * 3 + 2 * 2 + 2 * 3


def test_time_passes_between_ops() -> None:
    """A flow that believes its first look at the clock is found out (P9)."""
    clock = FrozenClock(0)

    def slow() -> Flow[int]:
        started = clock()
        yield Find(bytes(16))
        return clock() - started

    def make() -> Scenario:
        clock.set(0)
        return Scenario(opened(), {"slow": slow}, check, clock)

    delays: set[int] = set()

    def check(fates: Fates) -> None:
        delays.add(fates["slow"].value)

    assert interleavings(make, explore_with_time=(7, 9)) == 5
    assert delays == {0, 7, 9}
    interleavings(make, explore_with_time=(7, 9), most_advances=2)
    assert delays == {0, 7, 9, 14, 16, 18}


def test_a_timed_failure_can_be_replayed() -> None:
    """Starts and advances are steps, so a copied schedule does the same again."""
    clock = FrozenClock(0)

    def slow() -> Flow[int]:
        started = clock()
        yield Find(bytes(16))
        return clock() - started

    def check(fates: Fates) -> None:
        assert fates["slow"].value == 0, "too slow"

    def make() -> Scenario:
        clock.set(0)
        return Scenario(opened(), {"slow": slow}, check, clock)

    with pytest.raises(ScheduleFailed) as caught:
        interleavings(make, explore_with_time=(7,))
    assert caught.value.schedule == ((0, "starts"), ("time", 7), 0)
    assert "time passes: 7 ms" in str(caught.value)
    with pytest.raises(ScheduleFailed, match="too slow"):
        replay(make, caught.value.schedule)


def test_a_flow_that_breaks_is_shown_with_its_schedule() -> None:
    """An error that is not of Strongroom's tree is a fault of the flow, never an outcome."""

    def broken(record: Record) -> Flow[None]:
        yield a_touch(record)
        raise ZeroDivisionError

    with pytest.raises(ScheduleFailed, match="ZeroDivisionError") as caught:
        interleavings(faulty(broken, lambda record, fates: None))
    assert caught.value.schedule == (0,)


def test_a_flow_without_end_is_an_error() -> None:
    """A retry that never gives up is found, not waited for."""

    def endless(record: Record) -> Flow[None]:
        while True:
            yield a_touch(record)

    for run in (interleavings, replay):
        with pytest.raises(ScheduleFailed, match="not come to an end"):
            run(faulty(endless, lambda record, fates: None))


def test_a_schedule_that_does_not_fit_is_an_error() -> None:
    """A step of a flow that has ended means that `make()` is not deterministic."""
    with pytest.raises(ScheduleFailed, match="deterministic"):
        replay(scenario(1, 1), (0, 0))
    with pytest.raises(ScheduleFailed, match="no clock"):
        replay(faulty(end_then_report, lambda record, fates: None), (("time", 5),))


def test_what_the_store_itself_raises_reaches_the_flow() -> None:
    """A closed store's error is thrown into the flow, as `drive` does."""
    store = opened()
    store.close()
    run = replay(scenario(2, store=store))
    assert isinstance(run.fates["flow 0"].error, StoreUnavailable)
    assert run.trace == ("flow 0: find -> StoreUnavailable",)
