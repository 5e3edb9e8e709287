"""Lines for writers of one session: in a process, one of those that lost a try has its turn.

Whoever writes a session and finds that somebody else was first tries again. Without a line, the
tries of many writers overtake each other, and one of them may lose every time. A line makes them
fair, and nothing more: what is right is decided by the store's compare-and-set, so a turn that does
not come in time is done without. Other processes are met by waiting for a random while.

docs/decisions/0100-writers-line-up.md says what was measured.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from weakref import WeakValueDictionary

from .core.ops import GiveWay

TURN_AT_MOST = 2.0
"""Seconds in line: as long as a store may make somebody wait before it counts as slow."""

_guard = threading.Lock()
_lines: WeakValueDictionary[bytes, threading.Lock] = WeakValueDictionary()
_async_lines: WeakValueDictionary[tuple[int, bytes], asyncio.Lock] = WeakValueDictionary()


class Turn:
    """The place in line of one flow in synchronous code. Call `end` when the flow is at its end."""

    __slots__ = ("_has_it", "_line")

    def __init__(self) -> None:
        self._line: threading.Lock | None = None
        self._has_it = False

    def give_way(self, op: GiveWay) -> bool:
        """Line up, once, and wait -> whether any time passed."""
        waited = op.milliseconds > 0
        if self._line is None:
            with _guard:
                self._line = _lines.setdefault(op.session_id, threading.Lock())
            self._has_it = self._line.acquire(blocking=False)
            if not self._has_it:
                waited = True
                self._has_it = self._line.acquire(timeout=TURN_AT_MOST)
        time.sleep(op.milliseconds / 1000)
        return waited

    def end(self) -> None:
        """The next one in line has its turn."""
        if self._has_it and self._line is not None:
            self._line.release()


class AsyncTurn:
    """The place in line of one flow on an event loop. Call `end` when the flow is at its end."""

    __slots__ = ("_has_it", "_line")

    def __init__(self) -> None:
        self._line: asyncio.Lock | None = None
        self._has_it = False

    async def give_way(self, op: GiveWay) -> bool:
        """Line up, once, and wait -> whether any time passed."""
        waited = op.milliseconds > 0
        if self._line is None:
            key = id(asyncio.get_running_loop()), op.session_id
            self._line = _async_lines.setdefault(key, asyncio.Lock())
            waited = waited or self._line.locked()
            with suppress(TimeoutError):
                async with asyncio.timeout(TURN_AT_MOST):
                    self._has_it = await self._line.acquire()
        if op.milliseconds > 0:
            await asyncio.sleep(op.milliseconds / 1000)
        return waited

    def end(self) -> None:
        """The next one in line has its turn."""
        if self._has_it and self._line is not None:
            self._line.release()
