"""Running a request's actions on an event loop: awaited in `async def`, done at once in `def`.

An action that was called in `async def` and never awaited did not happen, and the code around it
believes that it did. So every action is remembered until somebody awaits it, and what is left when
the response starts is told with a sentence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from .actions import Action, Done
from .core.errors import ActionNotAwaited
from .core.ops import Flow
from .drive import adrive
from .stores.base import AsyncStore

R = TypeVar("R")


class Awaitable(Generic[R]):
    """An action in `async def`: nothing happens until it is awaited, and that is checked."""

    __slots__ = ("_runner", "_work", "name")

    def __init__(self, name: str, work: Coroutine[Any, Any, R], runner: AsyncRunner) -> None:
        self.name = name
        self._work = work
        self._runner = runner

    def __await__(self) -> Generator[Any, Any, R]:
        self._runner.waiting.discard(self)
        return self._work.__await__()

    def result(self) -> R:
        """There is no result before the action was awaited."""
        self._runner.waiting.discard(self)
        self.discard()
        raise ActionNotAwaited(
            f"session.{self.name}(...) has no result yet.",
            why="In `async def` it happens when it is awaited.",
            hint=f"Write: result = await session.{self.name}(...)",
        )

    def abandon(self) -> None:
        """Take it back: the caller says in its own words that this has to be awaited."""
        self._runner.waiting.discard(self)
        self.discard()

    def discard(self) -> None:
        """It will never be awaited."""
        self._work.close()


class AsyncRunner:
    """Runs the actions of one request, from the event loop or from a worker thread."""

    __slots__ = ("_loop", "_store", "waiting")

    def __init__(self, store: AsyncStore, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self.waiting: set[Awaitable[Any]] = set()

    def run(self, name: str, flow: Flow[R]) -> Action[R]:
        """An action to await; in a worker thread, one that is done."""
        work = adrive(flow, self._store)
        if self._is_on_loop():
            action = Awaitable(name, work, self)
            self.waiting.add(action)
            return action
        future: Future[R] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return Done(future.result())

    def _is_on_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:  # a worker thread
            return False

    def forget(self) -> None:
        """The request has failed: what was not awaited will not be."""
        for action in self.waiting:
            action.discard()
        self.waiting.clear()

    def check(self) -> None:
        """At the response's start and at its end: what was called must have been awaited.

        Raises:
            ActionNotAwaited: something was not, and so did not happen.
        """
        if not self.waiting:
            return
        names = sorted(action.name for action in self.waiting)
        self.forget()
        raise ActionNotAwaited(
            f"session.{names[0]}(...) was called in `async def` without `await`.",
            why="It did not happen, so the session is not what the code believes.",
            hint=f"Write: await session.{names[0]}(...)",
        )


async def end_task(task: asyncio.Task[None] | None) -> None:
    """Cancel a task of ours and wait for its end. One of another event loop ended with that."""
    if task is not None and task.get_loop() is asyncio.get_running_loop():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
