"""E6: how far a process's clock is off its store's is measured, and told beyond `max_skew`."""

from __future__ import annotations

import pytest

from strongroom import SessionPolicy
from strongroom.core.events import ClockSkewed, Event
from strongroom.core.flows.keeping_time import clock_offset
from strongroom.core.ops import ReadClock
from strongroom.keyfile import generate
from strongroom.manager import AsyncSessionManager, SessionManager
from strongroom.stores.bridge import AsyncBridge
from strongroom.stores.memory import MemoryStore
from strongroom.testing import FrozenClock
from strongroom.testing.clock import START

SECOND = 1_000
KEYS = generate("tests", START)


class Clocked(MemoryStore):
    """A store with a clock of its own, so many milliseconds ahead; answering takes a while."""

    def __init__(self, clock: FrozenClock, ahead: int | None, *, takes: int = 0) -> None:
        super().__init__()
        self._clock = clock
        self._ahead = ahead
        self._takes = takes

    def read_clock(self, op: ReadClock) -> int | None:
        told = None if self._ahead is None else self._clock() + self._ahead
        self._clock.advance(self._takes)
        return told


def skew_told(ahead: int | None, *, takes: int = 0) -> tuple[int, list[Event]]:
    clock, events = FrozenClock(), list[Event]()
    store = Clocked(clock, ahead, takes=takes)
    with SessionManager(store, keys=KEYS, clock=clock, sinks=[events.append]) as manager:
        told = list(events)
        events.clear()
        offset = manager.check_clock()
        assert [each.as_dict() for each in told] or offset == 0
        return offset, events


@pytest.mark.parametrize("ahead", [3 * SECOND, -3 * SECOND, 3600 * SECOND])
def test_clocks_that_differ_by_more_than_the_policy_allows_are_told(ahead: int) -> None:
    """At start-up and whenever it is asked again: an event says by how much (E6, P9)."""
    offset, events = skew_told(ahead)
    assert offset == ahead
    assert [type(each) for each in events] == [ClockSkewed]
    assert isinstance(events[0], ClockSkewed)
    assert events[0].store_ahead_ms == ahead


@pytest.mark.parametrize("ahead", [None, 0, 2 * SECOND, -2 * SECOND])
def test_clocks_within_the_allowance_are_no_news(ahead: int | None) -> None:
    """Up to `max_skew` nothing is said, nor about a store that uses the process's clock (E6)."""
    assert skew_told(ahead) == (0, [])


def test_a_slow_answer_is_not_mistaken_for_a_difference() -> None:
    """The store may have looked at its clock at any moment while it was being asked (E6)."""
    assert skew_told(0, takes=30 * SECOND) == (0, [])
    offset, _events = skew_told(-5 * SECOND, takes=30 * SECOND)
    assert offset == -5 * SECOND
    offset, _events = skew_told(35 * SECOND, takes=30 * SECOND)
    assert offset == 5 * SECOND


def test_what_a_reading_proves() -> None:
    """A reading between asking and being answered proves no difference at all."""
    assert clock_offset(100, 100, 200) == clock_offset(100, 200, 200) == 0
    assert clock_offset(100, 99, 200) == -1
    assert clock_offset(100, 201, 200) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_async_manager_tells_the_same(anyio_backend: str) -> None:
    """Asked by hand, and by its housekeeping as soon as it starts (E6)."""
    del anyio_backend
    clock, events = FrozenClock(), list[Event]()
    store = AsyncBridge(Clocked(clock, 3 * SECOND))
    policy = SessionPolicy()
    async with AsyncSessionManager(
        store, keys=KEYS, policy=policy, clock=clock, sinks=[events.append]
    ) as manager:
        assert await manager.check_clock() == 3 * SECOND
    assert {type(each) for each in events} == {ClockSkewed}
