"""One request and its response under ASGI: the same steps as in `middleware`, awaited."""

from __future__ import annotations

# Django ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from strongroom.core.answers import answer
from strongroom.core.errors import OvertakenError, StoreError, StrongroomError, UsageError
from strongroom.core.visit import Visit
from strongroom.manager import AsyncSessionManager
from strongroom.running import AsyncRunner
from strongroom.session import Session

from .expiry import end_if_expired
from .headers import apply_edits, as_response, facts_of_request
from .present import entered
from .runtime import Runtime
from .store import SessionStore
from .streams import is_event_stream, when_closed

_log = logging.getLogger("strongroom")


async def serve(
    runtime: Runtime, get_response: Callable[[Any], Awaitable[Any]], request: Any
) -> Any:
    """Serve one request."""
    if isinstance(getattr(request, "session", None), SessionStore):
        return await get_response(request)
    manager = runtime.async_manager()
    facts = facts_of_request(request, runtime)
    try:
        visit = await manager.open(facts)
        exchange = _Exchange(manager, visit)
        await exchange.act("open", end_if_expired(visit))
        store = SessionStore.of_request(exchange.session, exchange.runner, runtime.options)
        request.session = store
        request._strongroom_facts = facts
    except StrongroomError as error:
        told = answer(error, facts, manager.policy)
        if told is None:
            raise
        return as_response(told)
    try:
        with entered(store):
            response = await get_response(request)
            return await exchange.close(request, response, store)
    except BaseException:
        await exchange.fail()
        await exchange.finish()
        raise


class _Exchange:
    """The request's session between its opening and the end of its response."""

    def __init__(self, manager: AsyncSessionManager, visit: Visit) -> None:
        self.manager = manager
        self.visit = visit
        self.loop = asyncio.get_running_loop()
        self.runner = AsyncRunner(manager.store, self.loop)
        self.session = Session(visit, self.runner)
        self.started = False

    async def act(self, name: str, flow: Any) -> None:
        """Run a flow here and now."""
        await self.runner.run(name, flow)

    async def close(self, request: Any, response: Any, store: SessionStore) -> Any:
        """The response's start: commit, and put on it what it must carry."""
        status = getattr(request, "_strongroom_status", response.status_code)
        try:
            self.runner.check()
            await self.act("close", store.before_response())
            edits = await self.manager.close(self.visit, status)
            self.started = True
            if edits.cookies:
                self.manager.warn_of_plain_http(self.visit.facts)
            apply_edits(response, edits)
        except StrongroomError as error:
            told = await self._told(error)
            if told is None:
                raise
            response.close()
            response = told
        when_closed(response, self._finish_from_thread)
        self._follow_stream(response)
        return response

    async def fail(self) -> None:
        """The response failed: whoever it signed in is not signed in (E1)."""
        self.runner.forget()
        if self.started:
            return
        try:
            await self.manager.abort(self.visit)
        except StoreError:
            # Its cookie never left, so the orphan is worth nothing, and its clocks end it.
            _log.exception("A session that a failed response began could not be ended")

    async def finish(self) -> None:
        """After the response: late data and events."""
        await self.manager.finish(self.visit)

    async def _told(self, error: StrongroomError) -> Any:
        await self.fail()
        told = answer(error, self.visit.facts, self.manager.policy)
        if told is None or isinstance(error, UsageError):
            return None
        response = as_response(told)
        status = 500 if isinstance(error, OvertakenError) else told.status
        try:
            apply_edits(response, await self.manager.close(self.visit, status))
        except StrongroomError:
            _log.exception("A refusal could not carry the session's cookies")
        self.started = True
        return response

    def _finish_from_thread(self) -> None:
        """Django closes a response in a thread, while its event loop goes on."""
        if not self.visit.events and not self.visit.has_unsaved_data:
            return
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is not None:
            task = running.create_task(self.finish())
            _finishing.add(task)
            task.add_done_callback(_finishing.discard)
        elif self.loop.is_running():
            asyncio.run_coroutine_threadsafe(self.finish(), self.loop).result()
        else:
            self.manager.emit(self.visit.take_events())

    def _follow_stream(self, response: Any) -> None:
        """A stream of events ends with its session, also while it is quiet (P16)."""
        if not is_event_stream(response) or self.visit.record is None or not response.is_async:
            return
        response.streaming_content = self._while_alive(response.streaming_content)

    async def _while_alive(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        every = self.manager.policy.max_staleness.total_seconds()
        coming: asyncio.Future[bytes | None] | None = None
        asked_at = self.loop.time()
        try:
            while True:
                if coming is None:
                    coming = asyncio.ensure_future(_next(parts))
                await asyncio.wait((coming,), timeout=every)
                if self.loop.time() - asked_at >= every:
                    asked_at = self.loop.time()
                    if not await self._still_lives():
                        return
                if coming.done():
                    part, coming = coming.result(), None
                    if part is None:
                        return
                    yield part
        finally:
            if coming is not None:
                coming.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await coming

    async def _still_lives(self) -> bool:
        try:
            return await self.manager.still_lives(self.visit)
        except StoreError:
            _log.warning("Nobody said whether an open session still lives", exc_info=True)
            return True


_finishing: set[asyncio.Task[None]] = set()


async def _next(parts: AsyncIterator[bytes]) -> bytes | None:
    """The next part, or None at the end: a task cannot end in StopAsyncIteration."""
    async for part in parts:
        return part
    return None
