"""The stepper finds what it is there to find: planted races, in flows and in stores."""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import pytest

from strongroom.core.ops import End, Find, Flow, Found, Op, Outcome, Touch
from strongroom.core.record import Record
from strongroom.stores.memory import MemoryStore
from strongroom.testing import (
    Fates,
    Scenario,
    ScheduleFailed,
    TooManySchedules,
    interleavings,
    replay,
)
from strongroom.testing.records import a_record, a_replace, a_touch, an_end, an_insert
from tests.testing.toys import opened, scenario

SECRET = b"a secret that must not be shown"


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

    def find(self, op: Find) -> Found | None:
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
            outcome = yield an_end(record)
            return bool(outcome.applied)

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
