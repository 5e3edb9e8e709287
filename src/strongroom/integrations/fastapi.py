"""FastAPI: the same middleware, and dependencies that say what a route needs.

@app.get("/account")
async def account(session: CurrentSession, _: Annotated[str, Depends(require_sign_in)]): ...

@app.post("/password", dependencies=[Depends(require_recent_sign_in(max_age=minutes(5)))])
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, Security
from fastapi.openapi.models import APIKey, APIKeyIn
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from strongroom.core.errors import ConfigurationError
from strongroom.privilege import Factors
from strongroom.session import Session
from strongroom.setup import async_manager

from .starlette import SessionMiddleware, csrf_context, safe_next, session_of

__all__ = [
    "CurrentSession",
    "SessionMiddleware",
    "csrf_context",
    "current_session",
    "document_session",
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


class _SessionCookie(SecurityBase):
    """The session cookie as OpenAPI describes it; `document_session` fills in its exact name."""

    def __init__(self) -> None:
        self.scheme_name = SCHEME
        described = "The session cookie. Signing in sets it; no script can read it."
        self.model = APIKey.model_validate(
            {"in": APIKeyIn.cookie, "name": "__Host-id", "description": described}
        )

    async def __call__(self) -> None:
        """Nothing to check here: the middleware has read the cookie already."""


SCHEME = "session"
"""The security scheme's name in the OpenAPI document."""

_SESSION_COOKIE = _SessionCookie()


async def require_sign_in(
    session: CurrentSession, _: Annotated[None, Security(_SESSION_COOKIE)] = None
) -> str:
    """The subject; without one, people get the sign-in page and programs 401."""
    return session.require_sign_in()


def require_recent_sign_in(
    *, max_age: timedelta | None = None, acr: str | None = None, amr: Factors = ()
) -> Callable[[Session], Awaitable[str]]:
    """A dependency: the subject, if a factor was proved within `max_age`, to the level `acr`.

    `amr` names factors that must be among them, each with an age of its own if need be. Otherwise
    people are sent to the sign-in page and back, and programs get RFC 9470's 401.
    """

    async def recent_sign_in(
        session: CurrentSession, _: Annotated[None, Security(_SESSION_COOKIE)] = None
    ) -> str:
        await session.verify()
        return session.require_recent_sign_in(max_age=max_age, acr=acr, amr=amr)

    return recent_sign_in


def document_session(app: FastAPI) -> None:
    """Name the session cookie in the application's OpenAPI document as it is really called.

    Routes that ask for a sign-in carry the scheme by themselves. Call it once, after the
    middleware was added: the cookie's name depends on its keys (F6).

    Raises:
        ConfigurationError: the application has no `SessionMiddleware`.
    """
    name = _cookie_name(app)
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        scheme = schemes.setdefault(SCHEME, dict(_SESSION_COOKIE.model.model_dump(by_alias=True)))
        scheme.update({"type": "apiKey", "in": "cookie", "name": name})
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _cookie_name(app: FastAPI) -> str:
    for each in app.user_middleware:
        if cast(Any, each.cls) is SessionMiddleware:
            given: dict[str, Any] = dict(each.kwargs)
            manager = given.get("manager")
            if manager is None:
                asked = ("store", "keys", "policy")
                manager = async_manager(*(given.get(one) for one in asked))  # pyright: ignore[reportArgumentType]
            return str(manager.context.cookie.name)
    raise ConfigurationError(
        "The application has no SessionMiddleware whose cookie could be documented.",
        why="The cookie's name comes from its keys and its policy.",
        hint="Call document_session(app) after app.add_middleware(SessionMiddleware, ...).",
    )
