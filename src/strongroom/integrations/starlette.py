"""Starlette: `app.add_middleware(SessionMiddleware, store=..., keys=...)`, then `request.session`.

Everything that uses `request.session` works unchanged. `session_of` gives the same object with its
type, and `csrf_context` puts `csrf_input` and `csrf_token` into templates.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import HTTPConnection

from strongroom.core.answers import safe_next
from strongroom.core.errors import ConfigurationError
from strongroom.session import Session

from .asgi import SessionMiddleware

__all__ = ["SessionMiddleware", "csrf_context", "safe_next", "session_of"]


def session_of(connection: HTTPConnection) -> Session:
    """The session of a request or WebSocket.

    Raises:
        ConfigurationError: the middleware is missing, or another one is in its place.
    """
    session = connection.scope.get("session")
    if not isinstance(session, Session):
        raise ConfigurationError(
            "This request has no Strongroom session.",
            why="The middleware is missing, or another session middleware runs inside of it.",
            hint="Add it last, so that it runs first: app.add_middleware(SessionMiddleware, "
            "store=..., keys=...)",
        )
    return session


def csrf_context(request: HTTPConnection) -> dict[str, Any]:
    """A context processor for `Jinja2Templates`: `session`, `csrf_input()` and `csrf_token()`.

    Jinja escapes strings, so write `{{ csrf_input() }}`: what it returns is marked as safe HTML.
    """
    session = session_of(request)

    def form_input(form: str = "") -> Any:
        return _Html(session.csrf_input(form))

    return {"session": session, "csrf_input": form_input, "csrf_token": session.csrf_token}


class _Html(str):
    """Text that templates print as it is (the protocol that Jinja and others honour)."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)
