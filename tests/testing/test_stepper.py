"""The stepper finds what it is there to find: planted races, in flows and in stores."""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import pytest

from strongroom.core.errors import StoreUnavailable
from strongroom.core.ops import End, Find, Flow, Op, Outcome, Touch
from strongroom.core.record import Record
from strongroom.stores.base import Store
from strongroom.stores.memory import MemoryStore
from strongroom.testing import (
    Fates,
    FrozenClock,
    Scenario,
    ScheduleFailed,
    TooManySchedules,
    interleavings,
    replay,
)
from strongroom.testing.records import a_record, a_replace, a_touch, an_end, an_insert

SECRET = b"a secret that must not be shown"


def opened(store: MemoryStore | None = None) -> MemoryStore:
    """A memory store in use."""
    store = store or MemoryStore()
    store.open(bytes(16))
    return store


def reading(record: Record, times: int) -> Flow[int]:
    """A flow of so many reads."""
    for _ in range(times):
        yield Find(record.session_id)
    return times


def scenario(*lengths: int, store: Store | None = None) -> Callable[[], Scenario]:
    """Flows of so many reads each, whose order matters to nobody."""

    def make() -> Scenario:
        record = a_record()
        flows = {f"flow {i}": lambda n=n: reading(record, n) for i, n in enumerate(lengths)}
        return Scenario(store or opened(), flows, lambda fates: None, FrozenClock())

    return make


def append_carefully(record: Record, what: bytes) -> Flow[bool]:
    """Read, add, save; and again where somebody else saved in between."""
    while True:
        found = yield Find(record.session_id)
        if found is None or not found.record.is_live:
            return False
        outcome = yield a_replace(found.record, data=found.record.data + what)
        if outcome.applied or outcome.is_gone:
            return bool(outcome.applied)


def append_carelessly(record: Record, what: bytes) -> Flow[bool]:
    """The planted fault: it does not look whether the save was done."""
    found = yield Find(record.session_id)
    yield a_replace(found.record, data=found.record.data + what)
    return True


def two_writers(append: Callable[[Record, bytes], Flow[bool]]) -> Callable[[], Scenario]:
    """Two requests that add to one session; every acknowledged addition must be there (P7)."""

    def make() -> Scenario:
        store = opened()
        record = store.insert(an_insert(a_record(data=SECRET))).record
        assert record is not None

        def check(fates: Fates) -> None:
            found = store.find(Find(record.session_id))
            assert found is not None
            for fate in fates.values():
                if fate.returned and fate.value:
                    assert fate.name.encode() in found.record.data, "an update was lost"

        flows = {name: lambda name=name: append(record, name.encode()) for name in ("one", "two")}
        return Scenario(store, flows, check)

    return make


@pytest.mark.parametrize("prune", [False, True])
def test_every_order_is_executed_once(prune: bool) -> None:
    """Two flows of n and m ops mix in (n+m over n) ways; reads that commute need only one."""
    for lengths in ((1, 1), (3, 3), (2, 5), (0, 2)):
        expected = 1 if prune else comb(sum(lengths), lengths[0])
        assert interleavings(scenario(*lengths), prune=prune) == expected
    assert interleavings(scenario(1, 2, 3), prune=prune) == (1 if prune else 60)


def test_too_many_schedules_are_an_error() -> None:
    """What was not executed is never passed over in silence."""
    assert interleavings(scenario(3, 4), cap=35) == 35
    with pytest.raises(TooManySchedules, match="More than 34"):
        interleavings(scenario(3, 4), cap=34)


def test_a_careful_flow_passes_under_faults_too() -> None:
    """A lost update that nobody was told of does not happen, whatever fails (P7)."""
    assert interleavings(two_writers(append_carefully)) == 6
    assert interleavings(two_writers(append_carefully), with_faults=True) > 50


@pytest.mark.parametrize("prune", [False, True])
def test_a_planted_lost_update_is_found(prune: bool) -> None:
    """The failure shows who did what, in order, can be replayed, and holds no secret (P5, P7)."""
    make = two_writers(append_carelessly)
    with pytest.raises(ScheduleFailed) as caught:
        interleavings(make, prune=prune)
    message = str(caught.value)
    assert "an update was lost" in message
    assert "one: find -> found" in message
    assert "two: replace -> conflict" in message or "one: replace -> conflict" in message
    assert SECRET.decode() not in message
    assert f"replay(make, {caught.value.schedule!r})" in message
    with pytest.raises(ScheduleFailed, match="an update was lost"):
        replay(make, caught.value.schedule)
    assert replay(make, (0, 0, 1, 1)).fates["two"].value is True


class UpsertingStore(MemoryStore):
    """The planted fault: it writes what it is told, whatever became of the record meanwhile."""

    def touch(self, op: Touch) -> Outcome:
        before = self._before
        return super().touch(op) if before is None else self.put_back(before, op)

    def find(self, op: Find):
        found = super().find(op)
        self._before = found.record if found and found.record.is_live else None
        return found

    _before: Record | None = None

    def put_back(self, record: Record, op: Touch) -> Outcome:
        self._records[op.session_id] = record
        return Outcome(True, record)


def touch_meets_logout(make_store: Callable[[], MemoryStore]) -> Callable[[], Scenario]:
    """A late touch while somebody signs out."""

    def make() -> Scenario:
        store = opened(make_store())
        record = store.insert(an_insert(a_record())).record
        assert record is not None

        def late() -> Flow[None]:
            yield Find(record.session_id)
            yield a_touch(record)

        def logout() -> Flow[bool]:
            return (yield an_end(record)).applied

        def check(fates: Fates) -> None:
            found = store.find(Find(record.session_id))
            assert found is not None
            assert not found.record.is_live or not fates["logout"].returned, "it came back"

        return Scenario(store, {"late": late, "logout": logout}, check)

    return make


def test_a_planted_resurrection_is_found() -> None:
    """A touch that writes the whole record back revives a signed-out session, and is seen (P6)."""
    assert interleavings(touch_meets_logout(MemoryStore), with_faults=True) > 10
    for prune in (False, True):
        with pytest.raises(ScheduleFailed, match="it came back") as caught:
            interleavings(touch_meets_logout(UpsertingStore), prune=prune)
        assert caught.value.schedule == (0, 1, 0)


def faulty(flow: Callable[[Record], Flow[None]], check: Callable[[Record, Fates], None]):
    """One flow on one record, for planting faults that only failures bring to light."""

    def make() -> Scenario:
        store = opened()
        record = store.insert(an_insert(a_record())).record
        assert record is not None

        def judge(fates: Fates) -> None:
            found = store.find(Find(record.session_id))
            assert found is not None
            check(found.record, fates)

        return Scenario(store, {"only": lambda: flow(record)}, judge)

    return make


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
        replay(two_writers(append_carefully), (("time", 5),))


def test_what_the_store_itself_raises_reaches_the_flow() -> None:
    """A closed store's error is thrown into the flow, as `drive` does."""
    store = opened()
    store.close()
    run = replay(scenario(2, store=store))
    assert isinstance(run.fates["flow 0"].error, StoreUnavailable)
    assert run.trace == ("flow 0: find -> StoreUnavailable",)


def test_pruning_keeps_every_outcome() -> None:
    """Fewer schedules lead to the same set of results: only orders that nobody can tell go."""

    def outcomes(prune: bool) -> tuple[int, set[tuple[object, ...]]]:
        seen: set[tuple[object, ...]] = set()

        def make() -> Scenario:
            store = opened()
            mine, other = (a_record(session_id=bytes([n]) * 16) for n in (1, 2))
            for each in (mine, other):
                store.insert(an_insert(each))

            def ops(*them: Op) -> Flow[list[object]]:
                answers: list[object] = []
                for op in them:
                    answer = yield op
                    answers.append(getattr(answer, "applied", answer is not None))
                return answers

            end = End(mine.session_id, b"r" * 8, an_end(mine).reason, 1, 2)
            flows = {
                "a": lambda: ops(Find(mine.session_id), a_touch(mine), a_touch(other)),
                "b": lambda: ops(end, Find(other.session_id)),
                "c": lambda: ops(a_replace(mine, data=b"c"), Find(mine.session_id)),
            }

            def check(fates: Fates) -> None:
                found = [store.find(Find(each.session_id)) for each in (mine, other)]
                left = [(f.record.is_live, f.record.data == b"c") for f in found if f]
                seen.add((*left, *(tuple(fate.value) for fate in fates.values())))

            return Scenario(store, flows, check)

        return interleavings(make, prune=prune), seen

    (all_of_them, every), (fewer, pruned) = outcomes(False), outcomes(True)
    assert pruned == every
    assert fewer < all_of_them / 4
