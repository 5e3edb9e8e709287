"""`current_session`, and what a view says of who may see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import wraps
from typing import Any, ParamSpec, cast

import quart
from quart import current_app
from werkzeug.local import LocalProxy

from strongroom.integrations.extension import missing
from strongroom.privilege import Factors

from .interface import QuartSession, Unopened

P = ParamSpec("P")


def find_session() -> QuartSession:
    """The session of the current request or WebSocket.

    Raises:
        ConfigurationError: the extension is missing, or another one is in its place.
        StoreError: the session could not be opened.
    """
    found: Any = quart.session._get_current_object()  # type: ignore[attr-defined]  # pyright: ignore
    if isinstance(found, QuartSession):
        return found
    if isinstance(found, Unopened):
        raise found.error
    raise missing("session")


current_session = cast(QuartSession, LocalProxy(find_session))
"""The session of the current request, as `quart.session` is, with its type."""


def require_sign_in(view: Callable[P, Any]) -> Callable[P, Awaitable[Any]]:
    """A view for people who are signed in; others get the sign-in page, and programs 401."""

    @wraps(view)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
        find_session().require_sign_in()
        return await current_app.ensure_async(view)(*args, **kwargs)

    return guarded


def require_recent_sign_in(
    *, max_age: timedelta | None = None, acr: str | None = None, amr: Factors = ()
) -> Callable[[Callable[P, Any]], Callable[P, Awaitable[Any]]]:
    """A view for people who proved a factor within `max_age`, to the level `acr`, all of `amr`.

    Others are sent to the sign-in page and back, and programs get RFC 9470's 401.
    """

    def decorate(view: Callable[P, Any]) -> Callable[P, Awaitable[Any]]:
        @wraps(view)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
            session = find_session()
            await session.verify()
            session.require_recent_sign_in(max_age=max_age, acr=acr, amr=amr)
            return await current_app.ensure_async(view)(*args, **kwargs)

        return guarded

    return decorate
