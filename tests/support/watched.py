"""A store that counts what it is asked, can be down, and can wait or fail at an op."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from strongroom.core.errors import StoreUnavailable
from strongroom.stores.base import AsyncStore

READING = frozenset({"find", "read_epoch", "list_subject", "read_history"})
HOUSEKEEPING = frozenset({"open", "close", "sweep", "read_clock"})


class Watched:
    """A store that counts what it is asked, can be down, and can wait or fail at an op."""

    def __init__(self, store: AsyncStore) -> None:
        self.real = store
        self.counts: Counter[str] = Counter()
        self.down = False
        self.before: dict[str, Callable[[Any], Awaitable[None]]] = {}
        self.after: dict[str, Callable[[Any], Awaitable[None]]] = {}

    def __getattr__(self, verb: str) -> Any:
        real = getattr(self.real, verb)
        if verb in ("keep_within", "stats"):
            return real  # Not ops: they ask nobody.

        async def call(*arguments: Any) -> Any:
            self.counts[verb] += 1
            if self.down and verb not in HOUSEKEEPING:
                raise StoreUnavailable("The store does not answer.", why="A test says so.")
            if verb in self.before:
                await self.before[verb](*arguments)
            answer = await real(*arguments)
            if verb in self.after:
                await self.after[verb](*arguments)
            return answer

        return call

    def reset(self) -> None:
        """Count from zero."""
        self.counts.clear()

    @property
    def asked(self) -> dict[str, int]:
        """What it was asked since `reset`, housekeeping and histories left out."""
        left_out = {*HOUSEKEEPING, "append"}
        return {verb: count for verb, count in self.counts.items() if verb not in left_out}

    @property
    def written(self) -> dict[str, int]:
        """The writes among `asked`."""
        return {verb: count for verb, count in self.asked.items() if verb not in READING}


class Blocking:
    """The same store as synchronous code sees it: each op waits for the event loop of the test.

    So the pages of a synchronous framework, which run in threads, are counted, stopped and failed
    by the same hooks. Nothing may call it from the loop's own thread, which would wait for itself.
    """

    def __init__(self, store: Watched, start: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._start = start
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def __getattr__(self, verb: str) -> Any:
        if verb.startswith("_") or verb in ("keep_within", "stats"):
            raise AttributeError(verb)  # It has no cache in front, whatever it is made of.

        def call(*arguments: Any) -> Any:
            assert threading.get_ident() != self._thread, f"{verb} would wait for its own thread"
            return self._wait_for(getattr(self._store, verb)(*arguments))

        return call

    def open(self, store_identity: bytes) -> None:
        """Open it once, by the manager of the test, which has the same keys."""
        del store_identity
        self._wait_for(self._start())

    def close(self) -> None:
        """The test closes it at its end."""

    def _wait_for(self, work: Awaitable[Any]) -> Any:
        waited = cast("Coroutine[Any, Any, Any]", work)
        if not self._loop.is_running():
            waited.close()  # Somebody's housekeeping outlived its test.
            raise StoreUnavailable("The test is over.", why="Its event loop has ended.")
        return asyncio.run_coroutine_threadsafe(waited, self._loop).result(30)
