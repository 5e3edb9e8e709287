"""Hearing from the store which sessions changed, for what is open longer than a request (P16, E8).

Open sockets and streams are told the moment the store pushes; without a push, or while it is not
known to live, they are asked about every `max_staleness`. What is remembered meanwhile is one set
of ids, of sessions that have something open, so it needs no queue that could run full.

docs/decisions/0042-open-sockets.md says why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from threading import Lock

from .core.ops import Alive, Changed, Notice
from .core.ops import Watch as WatchOp
from .stores.base import AsyncStore, AsyncWatchable
from .stores.pausing import Pauses

_HEARTBEATS = 4
_NEVER = float("-inf")


class Following:
    """What a store says of sessions that somebody cares for, for one event loop.

    Args:
        store: any store; one that does not push is never alive.
        max_staleness: how long ago a proof may have been asked for, in seconds.
        cares: whether anything is open for this session id; called from any thread.
    """

    def __init__(
        self, store: AsyncStore, max_staleness: float, cares: Callable[[bytes], bool]
    ) -> None:
        self._store = store
        self._bound = max_staleness
        self._cares = cares
        self._lock = Lock()
        self._changed: set[bytes] = set()
        self._anything = True
        self._epoch: bytes | None = None
        self._proved_at = _NEVER
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._pauses = Pauses("the open sockets", "each session is asked about in turn")

    async def run(self) -> None:
        """Listen until cancelled, by one channel after the other."""
        self._loop = asyncio.get_running_loop()
        store = self._store
        while isinstance(store, AsyncWatchable):
            error: Exception | None = None
            try:
                await store.watch(WatchOp(self._tell, self._bound / _HEARTBEATS))
            except Exception as lost:  # whatever it is, the next channel is tried
                error = lost
            finally:
                self._forget()
            await asyncio.sleep(self._pauses.lost(error))

    @property
    def is_alive(self) -> bool:
        """Whether every change until `max_staleness` ago has been told."""
        return time.monotonic() - self._proved_at < self._bound

    async def wait(self, seconds: float) -> None:
        """Wait for news, or so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass

    def take(self) -> tuple[bool, frozenset[bytes]]:
        """What changed since the last time: whether anything may have, and these for certain."""
        self._news.clear()
        with self._lock:
            taken = self._anything, frozenset(self._changed)
            self._anything = False
            self._changed.clear()
        return taken

    def _tell(self, notice: Notice) -> None:
        """What the store calls, from whatever thread."""
        with self._lock:
            match notice:
                case Changed(session_ids):
                    cared_for = [each for each in session_ids if self._cares(each)]
                    if not cared_for:
                        return
                    self._changed.update(cared_for)
                case Alive(asked_at, epoch):
                    is_new = epoch != self._epoch or self._proved_at == _NEVER
                    self._epoch = epoch
                    self._proved_at = max(self._proved_at, asked_at)
                    self._pauses.settled()
                    if not is_new:
                        return
                    self._anything = True
                case _:
                    self._anything = True
        self._wake()

    def _forget(self) -> None:
        with self._lock:
            self._proved_at = _NEVER
            self._anything = True
        self._wake()

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._news.set)
