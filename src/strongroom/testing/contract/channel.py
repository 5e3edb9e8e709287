"""A watched store's channel, as a test sees it: what was told, in order, and how it ended."""

# ruff: noqa: S101 - a contract test asserts, as every test does

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from strongroom.core.ops import Alive, Changed, ChangedAll, Notice, Watch
from strongroom.stores.base import AsyncWatchable, Watchable

R = TypeVar("R")

HEARTBEAT = 0.02
"""Seconds between two proofs of life while a test watches a store."""

PATIENCE = 60.0
"""Seconds after which something that must be told counts as not told."""


class Channel:
    """What a watched store has told so far, and how watching it ended, if it did."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.error: BaseException | None = None
        self.over = threading.Event()
        self._news = threading.Condition()

    def tell(self, notice: Notice) -> None:
        """What the store calls, from whatever thread."""
        with self._news:
            self.notices.append(notice)
            self._news.notify_all()

    def ended(self, error: BaseException | None) -> None:
        """Watching is over; with what the store raised, if it raised."""
        self.error = error
        self.over.set()

    @property
    def proofs(self) -> list[Alive]:
        """The proofs of life so far."""
        return [each for each in self.notices if isinstance(each, Alive)]

    def proof(self) -> Alive:
        """Wait for the first proof of life that was asked for after this call."""
        asked = time.monotonic()
        return self.until(lambda: next((p for p in self.proofs if p.asked_at >= asked), None))

    def told(self) -> set[bytes] | None:
        """The ids told up to the next proof; None where everything was to be forgotten."""
        proof = self.proof()
        before = self.notices[: self.notices.index(proof)]
        if any(isinstance(each, ChangedAll) for each in before):
            return None
        changes = [each.session_ids for each in before if isinstance(each, Changed)]
        return {session_id for ids in changes for session_id in ids}

    def forget(self) -> None:
        """Begin with an empty list: what is told from here on is what counts."""
        self.proof()
        with self._news:
            self.notices.clear()

    def until(self, there: Callable[[], R | None]) -> R:
        """Wait for something that a notice brings. A channel that is over brings nothing more."""
        deadline = time.monotonic() + PATIENCE
        with self._news:
            while (found := there()) is None:
                assert not self.over.is_set(), f"the store stopped pushing: {self.error!r}"
                assert time.monotonic() < deadline, f"not told; the last were {self.notices[-5:]}"
                self._news.wait(0.1)
        return found


Stop = Callable[[], None]
"""Ends a watch and waits until it has ended."""


def watch_in_thread(store: Watchable, channel: Channel) -> Stop:
    """Watch as synchronous code does."""
    stopped = threading.Event()

    def run() -> None:
        try:
            store.watch(Watch(channel.tell, HEARTBEAT, stopped.is_set))
        except BaseException as error:  # told to the test, in its own thread
            channel.ended(error)
        else:
            channel.ended(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def stop() -> None:
        stopped.set()
        assert channel.over.wait(PATIENCE), "the watch does not stop when it is told to"

    return stop


def watch_in_task(store: AsyncWatchable, channel: Channel, loop: asyncio.AbstractEventLoop) -> Stop:
    """Watch as asynchronous code does, on that loop."""

    async def run() -> None:
        try:
            await store.watch(Watch(channel.tell, HEARTBEAT))
        except asyncio.CancelledError:
            channel.ended(None)
        except BaseException as error:  # told to the test, in its own thread
            channel.ended(error)
        else:
            channel.ended(RuntimeError("the watch ended by itself"))

    running = asyncio.run_coroutine_threadsafe(run(), loop)

    def stop() -> None:
        running.cancel()
        assert channel.over.wait(PATIENCE), "the watch does not end when it is cancelled"

    return stop
