"""A door for `strongroom doctor URL`: what the application believes of this very request.

Mount it where you like, inside of `SessionMiddleware`:

    from strongroom.integrations.doctor import endpoint

    app.add_route("/strongroom-doctor", endpoint)

Whoever does not hold the application's keys finds nothing there: see `core/diagnosis.py`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from strongroom.core.answers import Answer
from strongroom.core.diagnosis import answer_doctor
from strongroom.core.errors import ConfigurationError
from strongroom.manager import AsyncSessionManager, visit_of
from strongroom.session import Session

from .asgi import Receive, Scope, Send, send_answer

__all__ = ["endpoint"]


class _Endpoint:
    """An ASGI application of one answer. An object, so that Starlette routes to it as one."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            ConfigurationError: it is mounted where the middleware does not reach.
        """
        del receive
        if scope["type"] == "lifespan":
            return
        session = scope.get("session")
        if not isinstance(session, Session):
            raise ConfigurationError(
                "The doctor's endpoint runs without SessionMiddleware around it.",
                why="It tells what the middleware believes of a request.",
                hint="Mount it in the application that the middleware is added to.",
            )
        visit = visit_of(session)
        facts = visit.facts
        told = Answer(404, [], b"")
        if not facts.websocket:
            told = answer_doctor(
                visit.ctx, facts, rewritten=_is_rewritten(scope), near_cache=_near_cache(scope)
            )
        await send_answer(told, facts, send)


def _is_rewritten(scope: Scope) -> bool:
    """Whether a server put an address from X-Forwarded-For into the peer's place.

    No connection comes from port 0, which is what uvicorn writes where the header has no port.
    """
    client = scope.get("client")
    return client is not None and client[1] == 0


def _near_cache(scope: Scope) -> dict[str, object] | None:
    """The state of this process's near cache, where it has one.

    The middleware leaves the manager in the lifespan's state, which servers hand to each request.
    """
    manager: AsyncSessionManager | None = scope.get("state", {}).get("strongroom")
    state = None if manager is None else manager.near_cache()
    return None if state is None else asdict(state)


endpoint: Any = _Endpoint()
"""The ASGI application; typed as Any, because Starlette types `add_route` for functions alone."""
