"""What every part of the contract stands on: making, reopening and racing stores."""

# ruff: noqa: S101 - a contract test asserts, as every test does

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar, cast
from unittest import SkipTest

from strongroom.core.ops import Find, Insert, Limit, ListSubject
from strongroom.core.record import Record
from strongroom.stores.base import AsyncStore, AsyncWatchable, Store, Watchable
from strongroom.testing.entropy import FixedEntropy
from strongroom.testing.records import IDENTITY, a_subject_key

from .channel import PATIENCE, Channel, Stop, watch_in_task, watch_in_thread

R = TypeVar("R")


class Harness:
    """Makes stores for one test and closes them after it. A subclass says how.

    `rounds` is how often each race is run, `many` how many sessions one subject gets, `walk` how
    many random ops each differential test does. Raise them where time allows.

    `forgets_by_itself` says that the store's server removes what is due by its own clock, counted
    from the op's moment, so that there is nothing left to sweep. Such a store's test also overrides
    `epoch_lasts`.
    """

    rounds = 20
    many = 10_000
    walk = 300
    forgets_by_itself = False

    _opened: list[Store]
    _store: Store | None

    def make_store(self) -> Store:
        """A new, empty, unopened store that shares nothing with an earlier one."""
        raise NotImplementedError("a store's contract test says how its store is made")

    def beside(self, store: Store) -> Store | None:
        """A second, unopened store over what `store` keeps, as another process would have it.

        None, unless overridden: nothing outlives the object, or two of them cannot share it.
        """
        del store
        return None

    def epoch_lasts(self, store: Store, subject_key: bytes) -> int:
        """For how many more milliseconds the server keeps the subject's epoch by itself."""
        del store, subject_key
        raise NotImplementedError("a store that forgets by itself has to say when, for this test")

    def setup_method(self) -> None:
        """Start without a store."""
        self._opened = []
        self._store = None
        self.entropy = FixedEntropy("contract")

    def teardown_method(self) -> None:
        """Close what the test opened. Closing twice is a no-op, so it may have closed it itself."""
        for store in self._opened:
            store.close()

    @property
    def store(self) -> Store:
        """The test's store, made and opened when it is first asked for."""
        if self._store is None:
            self._store = self.fresh()
        return self._store

    def fresh(self) -> Store:
        """Another new store, opened."""
        return self.opened(self.make_store())

    def opened(self, store: Store) -> Store:
        """The store, opened with the identity that all tests share."""
        self._opened.append(store)
        store.open(IDENTITY)
        return store

    def opened_beside(self, store: Store) -> Store:
        """A second store over the same data; skips the test where there can be none."""
        second = self.beside(store)
        if second is None:
            raise SkipTest("allowed: nothing that this store keeps can be opened a second time")
        return self.opened(second)

    def handles(self, store: Store | None = None) -> list[Store]:
        """What requests of several processes hold: the store, and one beside it if there can be."""
        store = store or self.store
        second = self.beside(store)
        return [store] if second is None else [store, self.opened(second)]

    def can_watch(self, store: Store) -> bool:
        """Whether the store pushes changes."""
        return isinstance(store, Watchable)

    def watch(self, store: Store, channel: Channel) -> Stop:
        """Begin to watch the store, and tell how to end it."""
        return watch_in_thread(cast("Watchable", store), channel)

    def insert(
        self, record: Record, *, epoch: bytes | None = None, limit: Limit | None = None
    ) -> Record:
        """Insert the record, which must succeed, and tell what is stored now."""
        op = Insert(record, record.header.inserted_at, epoch=epoch, limit=limit)
        inserted = self.store.insert(op)
        assert inserted.refusal is None, f"refused: {inserted.refusal}"
        assert inserted.record is not None
        return inserted.record

    def read(self, record: Record) -> Record:
        """The record as every reader gets it, which must be there."""
        found = self.store.find(Find(record.session_id))
        assert found is not None, "the record cannot be found"
        return found.record

    def needs_sweeping(self) -> None:
        """Skip the test where the store's server forgets by itself."""
        if self.forgets_by_itself:
            raise SkipTest("allowed: this store's server forgets by itself")

    def ids(self, subject: str = "alice", *, live: bool = False) -> list[bytes]:
        """The subject's session ids as they are listed; only the live ones if asked."""
        found = self.store.list_subject(ListSubject(a_subject_key(subject)))
        return [each.record.session_id for each in found if each.record.is_live or not live]


def eventually(holds: Callable[[], object], what: str) -> None:
    """Wait until it holds, which is a matter of the store's own clock."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)


def race(*contestants: Callable[[], R]) -> list[R]:
    """Run all at once, each in a thread of its own, and tell what each came to.

    The first error of a contestant is raised; so is a deadlock.
    """
    barrier = threading.Barrier(len(contestants))
    results: list[Any] = [None] * len(contestants)
    errors: list[BaseException] = []

    def run(number: int, contestant: Callable[[], R]) -> None:
        try:
            barrier.wait(PATIENCE)
            results[number] = contestant()
        except BaseException as error:  # raised again below, in the test's own thread
            errors.append(error)

    threads = [
        threading.Thread(target=run, args=numbered, daemon=True)
        for numbered in enumerate(contestants)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads), "the contestants block each other"
    if errors:
        raise errors[0]
    return cast("list[R]", results)


def spread(stores: Sequence[Store], count: int) -> list[Store]:
    """So many contestants' stores, dealt out in turn."""
    return [stores[number % len(stores)] for number in range(count)]


class Blocking:
    """An `AsyncStore` as synchronous code sees it: each call runs on an event loop's thread.

    Calls from several threads overlap on the loop as requests do.
    """

    def __init__(self, store: AsyncStore, loop: asyncio.AbstractEventLoop) -> None:
        self.inner = store
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Coroutine[Any, Any, Any]] = getattr(self.inner, name)

        def call(*arguments: object) -> Any:
            running = asyncio.run_coroutine_threadsafe(method(*arguments), self._loop)
            return running.result(PATIENCE)

        return call


class AsyncHarness(Harness):
    """The same for an async store: a subclass makes one, and every test sees it through a loop."""

    _loop: asyncio.AbstractEventLoop
    _thread: threading.Thread

    def make_async_store(self) -> AsyncStore:
        """A new, empty, unopened store that shares nothing with an earlier one."""
        raise NotImplementedError("a store's contract test says how its store is made")

    def async_beside(self, store: AsyncStore) -> AsyncStore | None:
        """As `beside`, for an async store."""
        del store
        return None

    def make_store(self) -> Store:
        """The async store behind a blocking face."""
        return cast("Store", Blocking(self.make_async_store(), self._loop))

    def beside(self, store: Store) -> Store | None:
        """The second async store behind a blocking face."""
        second = self.async_beside(cast("Blocking", store).inner)
        return None if second is None else cast("Store", Blocking(second, self._loop))

    def can_watch(self, store: Store) -> bool:
        """Whether the async store pushes changes."""
        return isinstance(cast("Blocking", store).inner, AsyncWatchable)

    def watch(self, store: Store, channel: Channel) -> Stop:
        """Begin to watch it in a task of the loop."""
        inner = cast("Blocking", store).inner
        return watch_in_task(cast("AsyncWatchable", inner), channel, self._loop)

    def setup_method(self) -> None:
        """Start an event loop in a thread of its own."""
        super().setup_method()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def teardown_method(self) -> None:
        """Close the stores, then the loop that they live on."""
        super().teardown_method()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()
