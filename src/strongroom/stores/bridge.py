"""An asynchronous store made of a synchronous one.

Verbs named in `inline` run directly in the event loop: those that take less time than handing them
over would, and wait for nobody. All others run in one thread of the bridge's own, one after the
other; sweeping has a second thread, so that nobody queues behind it. docs/decisions/0002 has the
measurements and the bound on how long the loop can stand still.

A cancelled request does not cancel its write. It was handed over, it will be carried out, and only
the answer is dropped; otherwise nobody would know whether it happened.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from strongroom.core.errors import ConfigurationError, StoreUnavailable
from strongroom.core.ops import (
    Append,
    End,
    EndAll,
    EndSubject,
    Epochs,
    Erase,
    Find,
    Found,
    HistoryEntry,
    Insert,
    Inserted,
    ListSubject,
    Notice,
    Outcome,
    ReadClock,
    ReadEpoch,
    ReadHistory,
    Replace,
    Rotate,
    Shift,
    Sweep,
    Touch,
    Watch,
)

from .base import Store, Watchable

A = TypeVar("A")
R = TypeVar("R")

MAY_BE_INLINE = frozenset(
    "find read_epoch insert touch shift rotate replace end end_subject end_all list_subject append "
    "read_history erase".split()
)
"""What may run inline. Sweeping may not: it takes as long as there is to sweep."""

QUEUE_SECONDS = 5.0
"""How long an op may wait for the thread before it is refused undone. Together with the store's own
time-out it bounds an answer, also when many ops queue behind one that waits for somebody's lock."""


class AsyncBridge:
    """A synchronous store as an asynchronous one. Any event loop may use it.

    Where the store has a `<verb>_at_once` beside an inline verb, that one is asked; it raises
    BlockingIOError where it would have to wait, and the verb then runs in the thread.
    """

    def __init__(self, store: Store, inline: frozenset[str] = frozenset()) -> None:
        unknown = inline - MAY_BE_INLINE
        if unknown:
            raise ConfigurationError(
                f"These verbs cannot run in the event loop: {', '.join(sorted(unknown))}.",
                why="They would hold up every other request, or do not exist.",
                hint=f"There are: {', '.join(sorted(MAY_BE_INLINE))}.",
            )
        self.store = store
        self.inline = inline
        self._at_once: dict[str, Callable[[Any], Any]] = {
            verb: getattr(store, f"{verb}_at_once", getattr(store, verb)) for verb in inline
        }
        self._find_at_once: Callable[[Find], Found | None] | None = self._at_once.get("find")
        self._threads = _Threads()

    async def open(self, store_identity: bytes) -> None:
        """Open the store, in the thread. See `Store.open`."""
        self._threads.begin()
        await self._threads.write(self.store.open, store_identity)

    async def close(self) -> None:
        """Close the store when all that was handed over is done, and end the threads."""
        await self._threads.end(self.store.close)

    async def find(self, op: Find) -> Found | None:
        """Read one record."""
        if self._find_at_once is not None:
            try:
                return self._find_at_once(op)
            except BlockingIOError:
                pass
        return await self._threads.write(self.store.find, op)

    async def read_epoch(self, op: ReadEpoch) -> Epochs:
        """Read a subject's epoch and the store's."""
        return await self._do("read_epoch", self.store.read_epoch, op)

    async def insert(self, op: Insert) -> Inserted:
        """Add a record."""
        return await self._do("insert", self.store.insert, op)

    async def touch(self, op: Touch) -> Outcome:
        """Note activity."""
        return await self._do("touch", self.store.touch, op)

    async def shift(self, op: Shift) -> Outcome:
        """Replace the credential by compare-and-set."""
        return await self._do("shift", self.store.shift, op)

    async def rotate(self, op: Rotate) -> Outcome:
        """Replace credential and envelope by compare-and-set."""
        return await self._do("rotate", self.store.rotate, op)

    async def replace(self, op: Replace) -> Outcome:
        """Replace the data by compare-and-set."""
        return await self._do("replace", self.store.replace, op)

    async def end(self, op: End) -> Outcome:
        """End one record."""
        return await self._do("end", self.store.end, op)

    async def end_subject(self, op: EndSubject) -> tuple[Found, ...]:
        """End all records of a subject but one, and replace its epoch."""
        return await self._do("end_subject", self.store.end_subject, op)

    async def end_all(self, op: EndAll) -> None:
        """Replace the store-wide epoch."""
        await self._do("end_all", self.store.end_all, op)

    async def list_subject(self, op: ListSubject) -> tuple[Found, ...]:
        """All records of a subject, oldest first."""
        return await self._do("list_subject", self.store.list_subject, op)

    async def append(self, op: Append) -> None:
        """Add entries to histories."""
        await self._do("append", self.store.append, op)

    async def read_history(self, op: ReadHistory) -> tuple[HistoryEntry, ...]:
        """The newest entries of a subject."""
        return await self._do("read_history", self.store.read_history, op)

    async def erase(self, op: Erase) -> int:
        """Remove a subject's ended records and its history."""
        return await self._do("erase", self.store.erase, op)

    async def sweep(self, op: Sweep) -> int:
        """Remove what is due, in the second thread."""
        return await self._threads.sweep(self.store.sweep, op)

    async def read_clock(self, op: ReadClock) -> int | None:
        """Ask for the store's own clock."""
        return await self._do("read_clock", self.store.read_clock, op)

    async def _do(self, verb: str, call: Callable[[A], R], op: A) -> R:
        at_once = self._at_once.get(verb)
        if at_once is not None:
            try:
                answer: R = at_once(op)
            except BlockingIOError:
                pass
            else:
                return answer
        return await self._threads.write(call, op)


class WatchableBridge(AsyncBridge):
    """An `AsyncBridge` over a store that pushes changes, and so can be watched itself."""

    def __init__(self, store: Store, inline: frozenset[str] = frozenset()) -> None:
        super().__init__(store, inline)
        if not isinstance(store, Watchable):
            raise ConfigurationError(
                f"{type(store).__name__} does not push changes.",
                why="Whoever watched it would be told nothing, and take that for quiet.",
                hint="Bridge it with AsyncBridge.",
            )
        self._watchable: Watchable = store

    async def watch(self, op: Watch) -> None:
        """Push changes until cancelled, from a thread of this watch's own."""
        stop = threading.Event()
        over: Future[None] = Future()
        over.set_running_or_notify_cancel()  # Only the thread says that it is over.

        def tell(notice: Notice) -> None:
            if not stop.is_set():
                op.tell(notice)

        watched = Watch(tell, op.heartbeat, lambda: stop.is_set() or op.stopped())

        def run() -> None:
            try:
                self._watchable.watch(watched)
            except BaseException as error:
                over.set_exception(error)
            else:
                over.set_result(None)

        # A daemon: a store that does not answer must not keep the process from ending.
        threading.Thread(target=run, name="strongroom-watch", daemon=True).start()
        try:
            await asyncio.wrap_future(over)
        finally:
            stop.set()


class _Threads:
    """The bridge's two threads. They start when first used, and anew in a forked child."""

    def __init__(self) -> None:
        self._pid: int | None = None
        self.begin()

    def begin(self) -> None:
        """Be ready, also after `end` and after a fork, which no thread survives."""
        if self._pid != os.getpid():
            self._writer = ThreadPoolExecutor(1, "strongroom-store")
            self._sweeper = ThreadPoolExecutor(1, "strongroom-sweep")
            self._pid = os.getpid()

    async def write(self, call: Callable[[A], R], argument: A) -> R:
        """Make the call in the first thread, in its turn.

        Raises:
            StoreUnavailable: its turn did not come in time; it was not made.
        """
        return await self._hand_over(lambda: self._writer, _punctual(call, argument))

    async def sweep(self, call: Callable[[A], R], argument: A) -> R:
        """Make the call in the second thread."""
        return await self._hand_over(lambda: self._sweeper, lambda: call(argument))

    async def end(self, last: Callable[[], None]) -> None:
        """Do what was handed over, then `last`, and end the threads. Ending twice is a no-op."""
        if self._pid is None:
            return
        self.begin()
        self._pid = None  # from now on nothing more is handed over

        def finish() -> None:
            self._sweeper.shutdown(wait=True)
            last()

        try:
            await _in(self._writer, finish)
        finally:
            self._writer.shutdown(wait=False)

    async def _hand_over(
        self, executor: Callable[[], ThreadPoolExecutor], call: Callable[[], R]
    ) -> R:
        if self._pid is None:
            raise StoreUnavailable(
                "This store is closed.",
                why="Nothing can be read or written after it is closed.",
                hint="Open it again, or close it after the last request.",
            )
        self.begin()
        return await _in(executor(), call)


async def _in(executor: ThreadPoolExecutor, call: Callable[[], R]) -> R:
    running = asyncio.get_running_loop().run_in_executor(executor, call)
    # Whoever waits may be cancelled; what was handed over is done all the same.
    return await asyncio.shield(running)


def _punctual(call: Callable[[A], R], argument: A) -> Callable[[], R]:
    """The call, refused if it is not made within `QUEUE_SECONDS` from now."""
    handed_over = time.monotonic()

    def make() -> R:
        if time.monotonic() - handed_over > QUEUE_SECONDS:
            raise StoreUnavailable(
                f"The store is so busy that this waited for {QUEUE_SECONDS} s; it was not done.",
                why="Whoever asked has probably given up by now.",
                hint="Look for what holds up the store: a slow disk, or somebody's lock.",
            )
        return call(argument)

    return make
