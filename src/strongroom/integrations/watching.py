"""Open sockets and streams end with their session (P16, E8).

One task a process hears from the store which sessions change, and asks about those that have
something open; where the store does not push, it asks about all of them every `max_staleness`. A
WebSocket is closed with code 4401, a stream of server-sent events is cut, and the application sees
the client gone. Their deadlines are looked at as often, without asking anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from strongroom.core.visit import Visit
from strongroom.following import Following
from strongroom.manager import AsyncSessionManager
from strongroom.running import end_task

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

ENDED_CODE = 4401
"""The close code that tells a client to sign in again (the 4000s are the applications' own)."""

_log = logging.getLogger("strongroom")


class Watch:
    """The open sockets and streams of this process."""

    def __init__(self, manager: AsyncSessionManager) -> None:
        self._manager = manager
        self._open: dict[asyncio.Event, Visit] = {}
        self._sessions: dict[bytes, int] = {}
        """How many are open for each session id."""
        self._unanswered: set[asyncio.Event] = set()
        """Those that the store was asked about without an answer."""
        self._task: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Ask no more."""
        task, self._task = self._task, None
        await end_task(task)

    async def socket(
        self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, visit: Visit
    ) -> None:
        """Run a WebSocket application until it, its client or its session ends."""
        if visit.record is None:
            await app(scope, receive, send)
            return
        closing: list[asyncio.Task[None]] = []
        last = {"type": "websocket.close", "code": ENDED_CODE}
        gone = {"type": "websocket.disconnect", "code": ENDED_CODE}
        with self._watching(visit) as ended:
            try:
                await app(
                    scope,
                    receive_until(ended, receive, gone),
                    _send_until(ended, send, last, closing),
                )
            finally:
                _drop(ended, closing)

    def stream(self, visit: Visit, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """The two ends of a stream of events, cut when the session ends."""
        if visit.record is None:
            return receive, send
        ended = self._remember(visit)
        # A stream in which nothing happens is not waiting to send, so it is closed from here.
        last = {"type": "http.response.body", "body": b"", "more_body": False}
        closing = [asyncio.create_task(_close_when(ended, send, last))]

        def over(_: asyncio.Task[Any]) -> None:
            _drop(ended, closing)
            self._forget(ended)

        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(over)
        return receive_until(ended, receive, {"type": "http.disconnect"}), _cut(ended, send)

    def until_end(self, visit: Visit, close: Callable[[], Awaitable[object]]) -> Callable[[], None]:
        """Call `close` when the session ends -> what to call once there is nothing to close."""
        if visit.record is None:
            return lambda: None
        ended = self._remember(visit)
        closing = asyncio.create_task(_when(ended, close))

        def over() -> None:
            self._forget(ended)
            _drop(ended, [closing])

        return over

    @contextlib.contextmanager
    def _watching(self, visit: Visit) -> Any:
        ended = self._remember(visit)
        try:
            yield ended
        finally:
            self._forget(ended)

    def _ask(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep_asking())

    async def _keep_asking(self) -> None:
        """While anything is open: at once about what the store pushes, else in turn.

        A store that does not answer proves nothing, so ask again.
        """
        interval = self._manager.policy.max_staleness.total_seconds()
        following = self._manager.following(self._sessions.__contains__)
        hearing = asyncio.create_task(following.run())
        try:
            while self._open:
                await following.wait(interval)
                anything, changed = following.take()
                await self._ask_about(following, changed, all_of_them=anything)
        finally:
            await end_task(hearing)

    async def _ask_about(
        self, following: Following, changed: frozenset[bytes], *, all_of_them: bool
    ) -> None:
        for ended, visit in list(self._open.items()):
            told = all_of_them or _id(visit) in changed or ended in self._unanswered
            try:
                if not told and not self._manager.must_ask(visit, following):
                    continue
                self._unanswered.add(ended)
                if not await self._manager.still_lives(visit):
                    ended.set()
                    self._forget(ended)
                self._unanswered.discard(ended)
            except Exception:
                # Whatever it is, the other sockets must not be forgotten for it.
                _log.warning("Nobody said whether an open session still lives", exc_info=True)

    def _remember(self, visit: Visit) -> asyncio.Event:
        ended = asyncio.Event()
        self._open[ended] = visit
        self._sessions[_id(visit)] = self._sessions.get(_id(visit), 0) + 1
        self._ask()
        return ended

    def _forget(self, ended: asyncio.Event) -> None:
        visit = self._open.pop(ended, None)
        self._unanswered.discard(ended)
        if visit is None:
            return
        left = self._sessions.get(_id(visit), 0) - 1
        if left > 0:
            self._sessions[_id(visit)] = left
        else:
            self._sessions.pop(_id(visit), None)


def _id(visit: Visit) -> bytes:
    """The session that the socket or stream was opened in; it never moves to another one."""
    return b"" if visit.token is None else visit.token.session_id


def receive_until(ended: asyncio.Event, receive: Receive, last: Message) -> Receive:
    """As `receive`, but the session's end looks like the client's departure."""

    async def receiving() -> Message:
        if ended.is_set():
            return dict(last)
        message = asyncio.ensure_future(receive())
        over = asyncio.ensure_future(ended.wait())
        try:
            await asyncio.wait((message, over), return_when=asyncio.FIRST_COMPLETED)
            if ended.is_set():
                return dict(last)
            return await message
        finally:
            for task in (message, over):
                if not task.done():
                    task.cancel()

    return receiving


async def _close_when(ended: asyncio.Event, send: Send, last: Message) -> None:
    await _when(ended, lambda: send(dict(last)))


async def _when(ended: asyncio.Event, close: Callable[[], Awaitable[object]]) -> None:
    await ended.wait()
    with contextlib.suppress(Exception):  # The client may have gone by itself.
        await close()


def _drop(ended: asyncio.Event, closing: list[asyncio.Task[None]]) -> None:
    """Nothing is left to close; but a close that is on its way goes out."""
    if not ended.is_set():
        for task in closing:
            task.cancel()


def _send_until(
    ended: asyncio.Event, send: Send, last: Message, closing: list[asyncio.Task[None]]
) -> Send:
    """As `send`, and the moment the session ends, the close; afterwards nothing goes out."""

    async def sending(message: Message) -> None:
        if ended.is_set():
            return
        await send(message)
        if message["type"] == "websocket.accept":
            closing.append(asyncio.create_task(_close_when(ended, send, last)))
        elif message["type"] == "websocket.close":
            for task in closing:
                task.cancel()

    return sending


def _cut(ended: asyncio.Event, send: Send) -> Send:
    """As `send`, until the session ends: then as if the client had hung up."""

    async def sending(message: Message) -> None:
        if ended.is_set():
            raise OSError("The session has ended, and its stream with it.")
        await send(message)

    return sending
