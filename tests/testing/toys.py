"""Scenarios that the stepper is tried on."""

from __future__ import annotations

from collections.abc import Callable

from strongroom.core.ops import Find, Flow
from strongroom.core.record import Record
from strongroom.stores.base import Store
from strongroom.stores.memory import MemoryStore
from strongroom.testing import (
    Fates,
    FrozenClock,
    Scenario,
)
from strongroom.testing.records import a_record, an_insert


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


def faulty(
    flow: Callable[[Record], Flow[None]], check: Callable[[Record, Fates], None]
) -> Callable[[], Scenario]:
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
