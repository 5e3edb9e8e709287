"""FastAPI: the same middleware, and dependencies that say what a route needs.

@app.get("/account")
async def account(session: CurrentSession, _: Annotated[str, Depends(require_sign_in)]): ...

@app.post("/password", dependencies=[Depends(require_recent_sign_in(max_age=minutes(5)))])
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from strongroom.session import Session

from .starlette import SessionMiddleware, csrf_context, safe_next, session_of

__all__ = [
    "CurrentSession",
    "SessionMiddleware",
    "csrf_context",
    "current_session",
    "require_recent_sign_in",
    "require_sign_in",
    "safe_next",
    "session_of",
]


async def current_session(connection: HTTPConnection) -> Session:
    """The session of this request or WebSocket."""
    return session_of(connection)


CurrentSession = Annotated[Session, Depends(current_session)]
"""The session, as a parameter: `async def page(session: CurrentSession)`."""


async def require_sign_in(session: CurrentSession) -> str:
    """The subject; without one, people get the sign-in page and programs 401."""
    return session.require_sign_in()


def require_recent_sign_in(
    *, max_age: timedelta | None = None, acr: str | None = None
) -> Callable[[Session], Awaitable[str]]:
    """A dependency: the subject, if a factor was proved within `max_age`, to the level `acr`.

    Otherwise people are sent to the sign-in page and back, and programs get RFC 9470's 401.
    """

    async def recent_sign_in(session: CurrentSession) -> str:
        await session.verify()
        return session.require_recent_sign_in(max_age=max_age, acr=acr)

    return recent_sign_in
