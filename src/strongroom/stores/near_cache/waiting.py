"""The near cache for asynchronous code: one channel in a task of the loop that read first.

Several event loops may share one, each in its own thread. A read under way is shared within a loop;
what is kept is shared by all. If the loop that holds the channel stops, the next read in another
one opens a new channel.
"""

from __future__ import annotations

import asyncio
import threading
import time

from strongroom.core.ops import (
    Alive,
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
from strongroom.stores.base import AsyncStore, AsyncWatchable, NearStats
from strongroom.stores.pausing import Pauses

from .cache import DEFAULTS, Cache, Fill, Limits, Listener
from .watcher import (
    begin_anew_after_fork,
    cannot_watch,
    heartbeat,
    no_channel,
    not_open,
    patience,
    pauses,
    within,
)

_TRIES = 2
_LOOKS = 4
"""How often in the time that silence is borne somebody looks whether there is silence."""


class AsyncNearCache:
    """`NearCache` for asynchronous code: the same promises, awaited.

    Raises:
        ConfigurationError: the store does not push changes.
    """

    def __init__(self, store: AsyncStore, limits: Limits = DEFAULTS) -> None:
        if not isinstance(store, AsyncWatchable):
            raise cannot_watch(store)
        self.store = store
        self._watchable: AsyncWatchable = store
        self._cache = Cache(limits)
        self._lock = threading.Lock()
        self._task: asyncio.Task[None] | None = None
        self._is_open = False
        begin_anew_after_fork(self)

    async def open(self, store_identity: bytes) -> None:
        """Open the store. The channel is opened by the first read."""
        await self.store.open(store_identity)
        self._is_open = True

    async def close(self) -> None:
        """Give the channel up and close the store. Closing twice is a no-op."""
        self._is_open = False
        with self._lock:
            task, self._task = self._task, None
        if task is not None:
            self._cache.lose_channel(self._cache.channels)
            await _end(task)
        await self.store.close()

    def keep_within(self, max_staleness: float) -> None:
        """No answer may be older than this many seconds: the policy's word. Before `open`."""
        self._cache.limits = within(self._cache.limits, max_staleness)

    @property
    def limits(self) -> Limits:
        """How much is kept, and how old an answer may be."""
        return self._cache.limits

    def stats(self) -> NearStats:
        """What the cache holds, and whether its channel lives."""
        return self._cache.stats(time.monotonic())

    async def find(self, op: Find) -> Found | None:
        """Read one record: from memory if that may be, else as many at once by one read."""
        for _ in range(_TRIES):
            if not op.authoritative:
                found = self._cache.hit(op.session_id, time.monotonic())
                if found is not None:
                    return found
            loop = asyncio.get_running_loop()
            self._watch_if_needed(loop)
            fill, is_ours = self._cache.board(
                op.session_id, time.monotonic(), loop, loop.create_future, alone=op.authoritative
            )
            if fill is None:
                break
            if is_ours:
                return await self._fill(fill)
            # Shielded: one who waits and gives up must not take the answer from the others.
            await asyncio.shield(fill.wait)
            if fill.error is not None:
                raise fill.error
            if fill.usable:
                return fill.answer
        return await self.store.find(op)

    async def _fill(self, fill: Fill) -> Found | None:
        try:
            # From the primary: a replica may be behind the notice that would throw this away.
            found = await self.store.find(Find(fill.session_id, authoritative=True))
        except BaseException as error:
            self._cache.failed(fill, error if isinstance(error, Exception) else None)
            raise
        else:
            self._cache.landed(fill, found, time.monotonic())
            return found
        finally:
            if not fill.wait.done():
                fill.wait.set_result(None)

    # Everything else is the store's; what was written is dropped here, also where nobody knows
    # whether it was written.

    async def read_epoch(self, op: ReadEpoch) -> Epochs:
        return await self.store.read_epoch(op)

    async def insert(self, op: Insert) -> Inserted:
        inserted = await self.store.insert(op)
        self._cache.drop(each.session_id for each in inserted.evicted)
        return inserted

    async def touch(self, op: Touch) -> Outcome:
        try:
            return await self.store.touch(op)
        finally:
            self._cache.drop((op.session_id,))

    async def shift(self, op: Shift) -> Outcome:
        try:
            return await self.store.shift(op)
        finally:
            self._cache.drop((op.session_id,))

    async def rotate(self, op: Rotate) -> Outcome:
        try:
            return await self.store.rotate(op)
        finally:
            self._cache.drop((op.session_id,))

    async def replace(self, op: Replace) -> Outcome:
        try:
            return await self.store.replace(op)
        finally:
            self._cache.drop((op.session_id,))

    async def end(self, op: End) -> Outcome:
        try:
            return await self.store.end(op)
        finally:
            self._cache.drop((op.session_id,))

    async def end_subject(self, op: EndSubject) -> tuple[Found, ...]:
        ended = await self.store.end_subject(op)
        self._cache.drop(each.record.session_id for each in ended)
        return ended

    async def end_all(self, op: EndAll) -> None:
        try:
            await self.store.end_all(op)
        finally:
            self._cache.distrust(time.monotonic())

    async def list_subject(self, op: ListSubject) -> tuple[Found, ...]:
        return await self.store.list_subject(op)

    async def append(self, op: Append) -> None:
        await self.store.append(op)

    async def read_history(self, op: ReadHistory) -> tuple[HistoryEntry, ...]:
        return await self.store.read_history(op)

    async def erase(self, op: Erase) -> int:
        return await self.store.erase(op)

    async def sweep(self, op: Sweep) -> int:
        removed = await self.store.sweep(op)
        self._cache.drop_due(op.now)
        return removed

    async def read_clock(self, op: ReadClock) -> int | None:
        return await self.store.read_clock(op)

    async def watch(self, op: Watch) -> None:
        """Pass on what this cache's own channel tells, after it took effect here."""
        if not self._is_open:
            raise not_open()
        loop = asyncio.get_running_loop()
        lost = asyncio.Event()

        def lose() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(lost.set)

        listener = Listener(op.tell, time.monotonic(), lose)
        self._cache.listen(listener)
        try:
            self._watch_if_needed(loop)
            await lost.wait()
            raise no_channel()
        finally:
            self._cache.unlisten(listener)

    # The channel.

    def _watch_if_needed(self, loop: asyncio.AbstractEventLoop) -> None:
        if _runs(self._task) or not self._is_open:
            return
        with self._lock:
            if not _runs(self._task):
                self._task = loop.create_task(self._keep_watching())

    async def _keep_watching(self) -> None:
        """One channel after the other, until the cache is closed."""
        between = pauses()
        while True:
            error = await self._watch_once(between)
            await asyncio.sleep(between.lost(error))

    async def _watch_once(self, between: Pauses) -> Exception | None:
        """One channel from its beginning to its end -> what ended it."""
        cache = self._cache
        channel = cache.open_channel(time.monotonic())

        def tell(notice: Notice) -> None:
            cache.tell(channel, notice, time.monotonic())
            if isinstance(notice, Alive):
                between.settled()

        watching = asyncio.ensure_future(
            self._watchable.watch(Watch(tell, heartbeat(cache.limits)))
        )
        try:
            while not cache.is_silent(channel, time.monotonic() - patience(cache.limits)):
                look_again = patience(cache.limits) / _LOOKS
                if (await asyncio.wait({watching}, timeout=look_again))[0]:
                    watching.result()
                    break
        except Exception as error:  # whatever it is, the next channel is tried
            return error
        finally:
            cache.lose_channel(channel)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        return None

    def after_fork(self) -> None:
        """Begin anew in a forked child. The next read opens its own channel."""
        self._cache.reset()
        self._lock = threading.Lock()
        self._task = None


def _runs(task: asyncio.Task[None] | None) -> bool:
    """Whether the task goes on: a loop that stands still takes its tasks with it."""
    return task is not None and not task.done() and task.get_loop().is_running()


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel the task; wait for its end where it is one of this loop's."""
    loop = task.get_loop()
    if loop is asyncio.get_running_loop():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    elif loop.is_running():
        loop.call_soon_threadsafe(task.cancel)
