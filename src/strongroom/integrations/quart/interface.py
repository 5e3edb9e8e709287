"""Quart's `SessionInterface` on Strongroom.

The session was opened before Quart saw the request, and is saved at the response's start, by
`serving`. Only where there is no server around the application, in `session_transaction` and
`test_request_context`, it is opened and saved here.
"""

from __future__ import annotations

import asyncio
from typing import Any

from quart import Quart
from quart.sessions import NullSession, SessionInterface, SessionMixin
from quart.wrappers.base import BaseRequestWebsocket
from werkzeug.datastructures import Headers

from strongroom.actions import Runner
from strongroom.core.errors import CsrfRefused, StrongroomError
from strongroom.core.visit import Visit
from strongroom.integrations.asgi import facts_of
from strongroom.integrations.permanent import PermanentSession, prolong
from strongroom.manager import AsyncSessionManager, runner_of, visit_of
from strongroom.running import AsyncRunner
from strongroom.session import Session

EXCHANGE = "strongroom.exchange"
UNOPENED = "strongroom.unopened"
"""Where the scope holds what the middleware made of the request, or why it could not."""


class QuartSession(PermanentSession, SessionMixin):
    """`quart.session`: the mapping that Quart's users know, and everything that `Session` does."""

    def __init__(self, visit: Visit, runner: Runner) -> None:
        super().__init__(visit, runner)
        self.refusal: CsrfRefused | None = None
        self.own_manager: AsyncSessionManager | None = None
        """Set where no middleware around the application saves the session."""


class Unopened(NullSession):
    """Stands for a session that could not be opened: empty, read-only, and the reason."""

    def __init__(self, error: StrongroomError) -> None:
        super().__init__()
        self.error = error


class StrongroomInterface(SessionInterface):
    """Finds the session of a request, or opens one where no server did."""

    null_session_class: type[NullSession] = Unopened

    def __init__(self, manager: AsyncSessionManager) -> None:
        self._manager = manager

    async def open_session(
        self, app: Quart, request: BaseRequestWebsocket
    ) -> QuartSession | Unopened:
        """The session of this request or WebSocket."""
        del app
        scope: Any = request.scope
        error: StrongroomError | None = scope.get(UNOPENED)
        if error is not None:
            return Unopened(error)
        found: Any = scope.get("session")
        if isinstance(found, QuartSession):
            return found
        if isinstance(found, Session):
            # An application around this one has the middleware too: it is the one writer (F6).
            return QuartSession(visit_of(found), runner_of(found))
        try:
            visit = await self._manager.open(facts_of(scope, self._manager.policy))
        except StrongroomError as unopened:
            return Unopened(unopened)
        session = QuartSession(visit, AsyncRunner(self._manager.store, asyncio.get_running_loop()))
        session.own_manager = self._manager
        return session

    async def save_session(self, app: Quart, session: SessionMixin, response: Any) -> None:
        """Save it, where no middleware does."""
        if not isinstance(session, QuartSession) or session.own_manager is None:
            return
        visit = visit_of(session)
        if response is None or visit.facts.websocket or visit.response_started:
            return
        session.note_permanent()
        edits = await session.own_manager.close(visit, response.status_code)
        prolong(edits, session, visit, int(app.permanent_session_lifetime.total_seconds()))
        if edits:
            headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in response.headers]
            response.headers = headers_of(edits.apply(headers))
        await session.own_manager.finish(visit)


async def end_own(session: Any) -> None:
    """A context without a server ends: where no response was made, nothing is left behind."""
    if not isinstance(session, QuartSession) or session.own_manager is None:
        return
    visit = visit_of(session)
    if not visit.response_started:
        await session.own_manager.abort(visit)
        await session.own_manager.finish(visit)


def headers_of(pairs: list[tuple[bytes, bytes]]) -> Headers:
    """Headers as Werkzeug has them."""
    return Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs])
