"""The near cache for synchronous code: any threads, one channel in a daemon thread of its own."""

from __future__ import annotations

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
from strongroom.stores.base import NearStats, Store, Watchable
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

_CLOSING_SECONDS = 5.0
_TRIES = 2


class NearCache:
    """A store in front of a store that pushes its changes: the same ops, the same answers.

    Only `find` is ever answered from memory; everything else goes to the store, and what it wrote
    is dropped here before the writer has its answer.

    Args:
        store: a `Store` that is `Watchable`.
        limits: how much is kept, and how old an answer may be.

    Raises:
        ConfigurationError: the store does not push changes.
    """

    def __init__(self, store: Store, limits: Limits = DEFAULTS) -> None:
        if not isinstance(store, Watchable):
            raise cannot_watch(store)
        self.store = store
        self._watchable: Watchable = store
        self._cache = Cache(limits)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._stopped.set()
        begin_anew_after_fork(self)

    def open(self, store_identity: bytes) -> None:
        """Open the store. The channel is opened by the first read."""
        self.store.open(store_identity)
        if self._stopped.is_set():
            self._stopped = threading.Event()

    def close(self) -> None:
        """Give the channel up and close the store. Closing twice is a no-op."""
        self._stopped.set()
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._cache.lose_channel(self._cache.channels)
        self.store.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSING_SECONDS)

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

    def find(self, op: Find) -> Found | None:
        """Read one record: from memory if that may be, else as many at once by one read."""
        for _ in range(_TRIES):
            if not op.authoritative:
                found = self._cache.hit(op.session_id, time.monotonic())
                if found is not None:
                    return found
            self._watch_if_needed()
            fill, is_ours = self._cache.board(
                op.session_id, time.monotonic(), None, threading.Event, alone=op.authoritative
            )
            if fill is None:
                break
            if is_ours:
                return self._fill(fill)
            fill.wait.wait()
            if fill.error is not None:
                raise fill.error
            if fill.usable:
                return fill.answer
        return self.store.find(op)

    def _fill(self, fill: Fill) -> Found | None:
        try:
            # From the primary: a replica may be behind the notice that would throw this away.
            found = self.store.find(Find(fill.session_id, authoritative=True))
        except BaseException as error:
            self._cache.failed(fill, error if isinstance(error, Exception) else None)
            raise
        else:
            self._cache.landed(fill, found, time.monotonic())
            return found
        finally:
            fill.wait.set()

    # Everything else is the store's; what was written is dropped here, also where nobody knows
    # whether it was written.

    def read_epoch(self, op: ReadEpoch) -> Epochs:
        return self.store.read_epoch(op)

    def insert(self, op: Insert) -> Inserted:
        inserted = self.store.insert(op)
        self._cache.drop(each.session_id for each in inserted.evicted)
        return inserted

    def touch(self, op: Touch) -> Outcome:
        try:
            return self.store.touch(op)
        finally:
            self._cache.drop((op.session_id,))

    def shift(self, op: Shift) -> Outcome:
        try:
            return self.store.shift(op)
        finally:
            self._cache.drop((op.session_id,))

    def rotate(self, op: Rotate) -> Outcome:
        try:
            return self.store.rotate(op)
        finally:
            self._cache.drop((op.session_id,))

    def replace(self, op: Replace) -> Outcome:
        try:
            return self.store.replace(op)
        finally:
            self._cache.drop((op.session_id,))

    def end(self, op: End) -> Outcome:
        try:
            return self.store.end(op)
        finally:
            self._cache.drop((op.session_id,))

    def end_subject(self, op: EndSubject) -> tuple[Found, ...]:
        ended = self.store.end_subject(op)
        self._cache.drop(each.record.session_id for each in ended)
        return ended

    def end_all(self, op: EndAll) -> None:
        try:
            self.store.end_all(op)
        finally:
            self._cache.distrust(time.monotonic())

    def list_subject(self, op: ListSubject) -> tuple[Found, ...]:
        return self.store.list_subject(op)

    def append(self, op: Append) -> None:
        self.store.append(op)

    def read_history(self, op: ReadHistory) -> tuple[HistoryEntry, ...]:
        return self.store.read_history(op)

    def erase(self, op: Erase) -> int:
        return self.store.erase(op)

    def sweep(self, op: Sweep) -> int:
        removed = self.store.sweep(op)
        self._cache.drop_due(op.now)
        return removed

    def read_clock(self, op: ReadClock) -> int | None:
        return self.store.read_clock(op)

    def watch(self, op: Watch) -> None:
        """Pass on what this cache's own channel tells, after it took effect here."""
        if self._stopped.is_set():
            raise not_open()
        lost = threading.Event()
        listener = Listener(op.tell, time.monotonic(), lost.set)
        self._cache.listen(listener)
        try:
            self._watch_if_needed()
            while not op.stopped():
                if lost.wait(op.heartbeat) or self._stopped.is_set():
                    raise no_channel()
        finally:
            self._cache.unlisten(listener)

    # The channel.

    def _watch_if_needed(self) -> None:
        thread = self._thread
        if (thread is not None and thread.is_alive()) or self._stopped.is_set():
            return
        with self._lock:
            thread = self._thread
            if (thread is None or not thread.is_alive()) and not self._stopped.is_set():
                self._thread = threading.Thread(
                    target=_keep_watching,
                    args=(self._cache, self._watchable, self._stopped),
                    name="strongroom-near-cache",
                    daemon=True,
                )
                self._thread.start()

    def after_fork(self) -> None:
        """Begin anew in a forked child. The next read opens its own channel."""
        self._cache.reset()
        self._lock = threading.Lock()
        self._thread = None
        was_stopped, self._stopped = self._stopped.is_set(), threading.Event()
        if was_stopped:
            self._stopped.set()


def _keep_watching(cache: Cache, store: Watchable, stopped: threading.Event) -> None:
    """One channel after the other, until the cache is closed."""
    between = pauses()
    while not stopped.is_set():
        error = _watch_once(cache, store, stopped, between)
        if not stopped.is_set():
            stopped.wait(between.lost(error))


def _watch_once(
    cache: Cache, store: Watchable, stopped: threading.Event, between: Pauses
) -> Exception | None:
    """One channel from its beginning to its end -> what ended it."""
    channel = cache.open_channel(time.monotonic())

    def tell(notice: Notice) -> None:
        cache.tell(channel, notice, time.monotonic())
        if isinstance(notice, Alive):
            between.settled()

    def enough() -> bool:
        silent_since = time.monotonic() - patience(cache.limits)
        return stopped.is_set() or cache.is_silent(channel, silent_since)

    try:
        store.watch(Watch(tell, heartbeat(cache.limits), enough))
    except Exception as error:  # whatever it is, the next channel is tried
        return error
    finally:
        cache.lose_channel(channel)
    return None
