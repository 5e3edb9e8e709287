"""Between the server and Quart: the ASGI middleware, with what Quart needs in another way.

Quart makes its responses with error handlers of its own, so what is refused, and a session that
cannot be opened, is handed to it in the scope and raised by the extension inside of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import cast

from strongroom.core.errors import CsrfRefused, OvertakenError, StrongroomError
from strongroom.core.exchange import RequestFacts, ResponseEdits
from strongroom.core.visit import Visit
from strongroom.integrations.asgi import (
    ASGIApp,
    Exchange,
    Message,
    Receive,
    Scope,
    Send,
    SessionMiddleware,
)
from strongroom.integrations.permanent import prolong
from strongroom.integrations.watching import receive_until
from strongroom.manager import AsyncSessionManager

from .interface import EXCHANGE, UNOPENED, QuartSession

_FAILED = 500
_GOING_AWAY = 1001
"""The close code of a server that ends (RFC 6455)."""


class Serving(SessionMiddleware):
    """Around one application. `longest` says how long a permanent session's cookie may live."""

    def __init__(self, app: ASGIApp, manager: AsyncSessionManager, longest: int) -> None:
        super().__init__(_leaving(app), manager=manager)
        self.longest = longest

    def _exchange(self, scope: Scope, receive: Receive, send: Send) -> QuartExchange:
        return QuartExchange(self, scope, receive, send)

    async def _without_session(
        self,
        error: StrongroomError,
        facts: RequestFacts,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        if facts.websocket:
            await super()._without_session(error, facts, scope, receive, send)
            return
        scope[UNOPENED] = error
        await self.app(scope, receive, send)


class QuartExchange(Exchange):
    """One request of Quart's and its response."""

    session_type = QuartSession
    may_open_late = False  # the extension asks every request for its session

    def __init__(self, serving: Serving, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(serving, scope, receive, send)
        self._longest = serving.longest
        self._overtaken = False

    def begin(self, facts: RequestFacts, visit: Visit) -> None:
        """See there."""
        super().begin(facts, visit)
        self._own = cast(QuartSession, self.session)

    async def note_failure(self, error: StrongroomError) -> None:
        """The application ended in this error, and makes a response of it: whoever was signed in is
        not, and of what was overtaken nothing is kept."""
        await self._undo()
        self._overtaken = self._overtaken or isinstance(error, OvertakenError)

    async def run(self, scope: Scope) -> None:
        """See there."""
        scope[EXCHANGE] = self
        await super().run(scope)

    async def _refuse_cross_site(self) -> None:
        if self.facts.websocket:
            await super()._refuse_cross_site()
            return
        try:
            await super()._refuse_cross_site()
        except CsrfRefused as refusal:
            self._own.refusal = refusal

    async def _start(self, message: Message) -> Message:
        if self._own.refusal is not None and message["status"] < 400:
            raise self._own.refusal  # Somebody's own before_request answered before ours.
        return await super()._start(message)

    async def _close(self, status: int) -> ResponseEdits:
        self._own.note_permanent()
        edits = await super()._close(_FAILED if self._overtaken else status)
        prolong(edits, self._own, self.visit, self._longest)
        return edits


def _leaving(app: ASGIApp) -> ASGIApp:
    """Quart's tasks go on when the server cancels a request. So the client leaves then: that it
    sees, and ends them."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await app(scope, receive, send)
            return
        cancelled = asyncio.Event()
        gone = {"type": f"{kind}.disconnect", "code": _GOING_AWAY}

        async def sending(message: Message) -> None:
            if cancelled.is_set():
                raise OSError("The server has cancelled this request.")
            await send(message)

        task = asyncio.ensure_future(app(scope, receive_until(cancelled, receive, gone), sending))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled.set()
            with contextlib.suppress(Exception):
                await task
            raise

    return serve
