"""A synchronous store in an event loop: what runs where, what waits, and what is not abandoned."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.errors import ConfigurationError, StoreUnavailable
from strongroom.core.ops import Find, Found, Outcome, Sweep, Touch
from strongroom.stores import bridge
from strongroom.stores.base import AsyncStore
from strongroom.stores.bridge import MAY_BE_INLINE, AsyncBridge
from strongroom.stores.memory import MemoryStore
from strongroom.stores.sqlite import SQLiteStore
from strongroom.testing.clock import START
from strongroom.testing.records import a_record, a_touch, an_end, an_insert

IDENTITY = b"identity"


class Watched(MemoryStore):
    """Remembers which thread ran what, and can be made slow."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[tuple[str, str]] = []
        self.before: dict[str, Callable[[], object]] = {}

    def note(self, verb: str) -> None:
        self.ran.append((verb, threading.current_thread().name))
        self.before.get(verb, lambda: None)()

    def find(self, op: Find) -> Found | None:
        self.note("find")
        return super().find(op)

    def touch(self, op: Touch) -> Outcome:
        self.note("touch")
        return super().touch(op)

    def sweep(self, op: Sweep) -> int:
        self.note("sweep")
        return super().sweep(op)


def with_bridge(body: Any, *, inline: frozenset[str] = frozenset()) -> Watched:
    """Run the coroutine function with an opened bridge and its watched store."""
    store = Watched()

    async def run() -> None:
        opened = AsyncBridge(store, inline)
        await opened.open(IDENTITY)
        try:
            await body(opened, store)
        finally:
            await opened.close()

    asyncio.run(run())
    return store


def test_it_is_an_asynchronous_store():
    """The bridge has every method of the contract."""
    assert isinstance(AsyncBridge(MemoryStore()), AsyncStore)


def test_inline_verbs_run_in_the_loop_and_others_in_one_thread():
    """And sweeping has a thread of its own."""

    async def body(opened: AsyncBridge, store: Watched) -> None:
        record = a_record()
        await opened.insert(an_insert(record))
        await opened.find(Find(record.session_id))
        await opened.touch(a_touch(record))
        await opened.sweep(Sweep(START, 10))

    store = with_bridge(body, inline=frozenset({"find"}))
    here = threading.current_thread().name
    threads = dict(store.ran)
    assert threads["find"] == here
    assert threads["touch"].startswith("strongroom-store")
    assert threads["sweep"].startswith("strongroom-sweep")


def test_a_verb_that_would_wait_is_handed_over():
    """`find_at_once` is asked first; where it raises BlockingIOError the thread answers."""

    class Waiting(Watched):
        def find_at_once(self, op: Find) -> Found | None:
            raise BlockingIOError

    async def run() -> None:
        store = Waiting()
        opened = AsyncBridge(store, frozenset({"find"}))
        await opened.open(IDENTITY)
        record = a_record()
        await opened.insert(an_insert(record))
        assert await opened.find(Find(record.session_id)) is not None
        assert store.ran[0][1].startswith("strongroom-store")
        await opened.close()

    asyncio.run(run())


def test_a_slow_write_does_not_hold_up_the_loop():
    """Other requests are served while the disk is waited for."""
    ticks = 0

    async def body(opened: AsyncBridge, store: Watched) -> None:
        nonlocal ticks
        record = a_record()
        await opened.insert(an_insert(record))
        store.before["touch"] = lambda: time.sleep(0.2)
        writing = asyncio.create_task(opened.touch(a_touch(record)))
        while not writing.done():
            ticks += 1
            await asyncio.sleep(0.005)

    with_bridge(body)
    assert ticks >= 10


def test_a_cancelled_request_does_not_abandon_its_write():
    """What was handed over is done, also if it still stood in the queue."""

    async def body(opened: AsyncBridge, store: Watched) -> None:
        first, second = a_record(), a_record()
        await opened.insert(an_insert(first))
        await opened.insert(an_insert(second))
        go_on = threading.Event()
        store.before["touch"] = lambda: go_on.wait(30)
        running = asyncio.create_task(opened.touch(a_touch(first)))
        queued = asyncio.create_task(opened.end(an_end(second)))
        await asyncio.sleep(0.01)
        for task in (running, queued):
            task.cancel()
        for task in (running, queued):
            with pytest.raises(asyncio.CancelledError):
                await task
        go_on.set()
        found = await opened.find(Find(first.session_id))
        assert found is not None
        assert found.record.header.last_seen > first.header.last_seen
        found = await opened.find(Find(second.session_id))
        assert found is not None
        assert not found.record.is_live

    with_bridge(body)


def test_nobody_queues_behind_a_sweep():
    """A write is answered while a sweep is still going on."""

    async def body(opened: AsyncBridge, store: Watched) -> None:
        record = a_record()
        await opened.insert(an_insert(record))
        go_on = threading.Event()
        store.before["sweep"] = lambda: go_on.wait(30)
        sweeping = asyncio.create_task(opened.sweep(Sweep(START, 10)))
        await asyncio.sleep(0.01)
        assert (await opened.touch(a_touch(record))).applied
        assert not sweeping.done()
        go_on.set()
        assert await sweeping == 0

    with_bridge(body)


def test_what_waited_too_long_is_refused_undone(monkeypatch: pytest.MonkeyPatch):
    """A queue behind a stuck write is answered 503, and none of it happens later."""
    monkeypatch.setattr(bridge, "QUEUE_SECONDS", 0.05)

    async def body(opened: AsyncBridge, store: Watched) -> None:
        record = a_record()
        await opened.insert(an_insert(record))
        store.before["touch"] = lambda: time.sleep(0.2)
        slow = asyncio.create_task(opened.touch(a_touch(record)))
        await asyncio.sleep(0.01)
        with pytest.raises(StoreUnavailable, match="not done"):
            await opened.end(an_end(record))
        assert (await slow).applied
        found = await opened.find(Find(record.session_id))
        assert found is not None
        assert found.record.is_live

    with_bridge(body)


def test_closing_waits_for_what_was_handed_over():
    """Then the threads are gone; closing twice is a no-op; a closed bridge says so."""

    async def run() -> None:
        store = Watched()
        opened = AsyncBridge(store)
        await opened.open(IDENTITY)
        record = a_record()
        await opened.insert(an_insert(record))
        store.before["touch"] = store.before["sweep"] = lambda: time.sleep(0.05)
        writing = asyncio.create_task(opened.touch(a_touch(record)))
        sweeping = asyncio.create_task(opened.sweep(Sweep(START, 10)))
        await asyncio.sleep(0)
        await opened.close()
        await opened.close()
        assert (await writing).applied
        assert await sweeping == 0
        with pytest.raises(StoreUnavailable, match="closed"):
            await opened.find(Find(record.session_id))
        await opened.open(IDENTITY)
        assert await opened.find(Find(record.session_id)) is not None
        await opened.close()

    asyncio.run(run())
    deadline = time.monotonic() + 10
    while any(each.name.startswith("strongroom") for each in threading.enumerate()):
        assert time.monotonic() < deadline, "a thread of the bridge is left"
        time.sleep(0.01)


def test_it_serves_one_loop_after_another(tmp_path: Path):
    """Nothing in it belongs to the loop that opened it."""
    opened = AsyncBridge(SQLiteStore(tmp_path / "sessions.db"), frozenset({"find"}))
    record = a_record()
    asyncio.run(opened.open(IDENTITY))
    assert asyncio.run(opened.insert(an_insert(record))).refusal is None
    assert asyncio.run(opened.find(Find(record.session_id))) is not None
    asyncio.run(opened.close())


def test_what_the_store_raises_arrives():
    """From the loop and from the thread alike."""

    async def body(opened: AsyncBridge, store: Watched) -> None:
        store.close()
        for attempt in (opened.find(Find(bytes(16))), opened.touch(a_touch(a_record()))):
            with pytest.raises(StoreUnavailable, match="not open"):
                await attempt

    with_bridge(body, inline=frozenset({"find"}))


def test_only_verbs_that_exist_and_end_soon_run_inline():
    """Sweeping takes as long as there is to sweep."""
    AsyncBridge(MemoryStore(), MAY_BE_INLINE)
    for verb in ("sweep", "fnid", "open"):
        with pytest.raises(ConfigurationError, match=verb):
            AsyncBridge(MemoryStore(), frozenset({verb}))
