"""Litestar: `Litestar(..., plugins=[StrongroomPlugin(store=..., keys=...)])`, and nothing more.

`request.session` and `socket.session` are the session, also for code that knows Litestar's own
session middleware only: `set_session` replaces the data, `clear_session` signs out. A handler gets
it as `session: CurrentSession`, guards say what a route needs, and our errors are answered as they
are everywhere. What is decided is decided in the core.

Litestar's `Store` is not offered on top of ours: docs/decisions/0071.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import msgspec
from litestar import Litestar
from litestar.config.app import AppConfig
from litestar.connection import ASGIConnection, Request
from litestar.di import NamedDependency, Provide
from litestar.exceptions import LitestarException
from litestar.handlers import BaseRouteHandler
from litestar.middleware import DefineMiddleware
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.plugins import InitPlugin
from litestar.response import Response
from litestar.types import Empty
from litestar.utils.scope.state import ScopeState

from strongroom.core.adoption import Adoption
from strongroom.core.answers import safe_next
from strongroom.core.data import is_dict
from strongroom.core.errors import ConfigurationError, StrongroomError
from strongroom.core.events import EventSink
from strongroom.core.policy import SessionPolicy
from strongroom.manager import AsyncSessionManager
from strongroom.managing import KeySource
from strongroom.privilege import Factors
from strongroom.session import Session
from strongroom.setup import async_manager

from .asgi import ASGIApp, Message, Receive, Scope, Send, SessionMiddleware

__all__ = [
    "SCHEME",
    "CurrentSession",
    "StrongroomPlugin",
    "csrf_context",
    "requires_recent_sign_in",
    "requires_sign_in",
    "safe_next",
    "session_of",
]

Connection = ASGIConnection[Any, Any, Any, Any]
AnyRequest = Request[Any, Any, Any]
AnyResponse = Response[Any]
Guard = Callable[[Connection, BaseRouteHandler], None]

CurrentSession = NamedDependency[Session]
"""The session, as a parameter: `async def page(session: CurrentSession)`."""

_OURS = "strongroom.session"
SCHEME = "session"
"""The name of the security scheme in the OpenAPI document: `security=[{"session": []}]`."""


class StrongroomPlugin(InitPlugin):
    """Gives every route of an application a session.

    Args:
        store: a URL, such as `sqlite:///var/sessions.db` or `memory://`.
        keys: the path of a key file (`strongroom keys generate`), or a `Keyring`.
        policy: the limits in force; without one, the defaults for https.
        sinks: where events go; without any, JSON lines in the logger `strongroom.events`.
        adopt: how the sessions of another library are taken over: see docs/moving.
        manager: an `AsyncSessionManager` of your own, instead of all these.
        dependency: the name of the parameter by which handlers get the session.

    Raises:
        ConfigurationError: what is contradictory, unsafe, or would not work, with a sentence.
    """

    def __init__(
        self,
        *,
        store: str | None = None,
        keys: KeySource | None = None,
        policy: SessionPolicy | None = None,
        sinks: Iterable[EventSink] | None = None,
        adopt: Adoption | None = None,
        manager: AsyncSessionManager | None = None,
        dependency: str = "session",
    ) -> None:
        self.manager = manager or async_manager(store, keys, policy, sinks, adopt)
        self._dependency = dependency
        self._middleware = SessionMiddleware(_nothing, manager=self.manager)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Put the middleware outermost, and everything else where Litestar looks for it."""
        _refuse_another(app_config)
        app_config.middleware.insert(0, DefineMiddleware(self._wrapped))
        cast("list[Any]", app_config.lifespan).append(self._lifespan)  # pyright: ignore[reportUnknownMemberType]
        app_config.dependencies.setdefault(
            self._dependency, Provide(_current_session, sync_to_thread=False)
        )
        # Litestar fills in annotations by name, also where `from __future__` made text of them.
        app_config.signature_namespace.setdefault("CurrentSession", CurrentSession)
        handlers = cast("dict[Any, Any]", app_config.exception_handlers)  # pyright: ignore[reportUnknownMemberType]
        handlers.setdefault(StrongroomError, _hand_on)
        if app_config.openapi_config is not None:
            app_config.openapi_config = self._documented(app_config.openapi_config)
        return app_config

    def _wrapped(self, app: Any) -> Any:
        """One middleware a route, as Litestar wants it; they share what watches open sockets."""
        middleware = copy.copy(self._middleware)
        middleware.app = _settling(app)
        return middleware

    @asynccontextmanager
    async def _lifespan(self, app: Litestar) -> AsyncGenerator[None]:
        app.state["strongroom"] = self.manager
        await self.manager.start()
        try:
            yield
        finally:
            await self._middleware.watch.stop()
            await self.manager.stop()

    def _documented(self, config: OpenAPIConfig) -> OpenAPIConfig:
        scheme = SecurityScheme(
            type="apiKey",
            name=self.manager.context.cookie.name,
            security_scheme_in="cookie",
            description="The session cookie. Signing in sets it; no script can read it.",
        )
        ours = Components(security_schemes={SCHEME: scheme})
        theirs = config.components
        listed = list(theirs) if isinstance(theirs, list) else [theirs]
        # The application's own object stays as it is; it may serve another application too.
        config = copy.copy(config)
        config.components = [*listed, ours]
        return config


def session_of(connection: Connection) -> Session:
    """The session of a request or WebSocket, with its type.

    Raises:
        ConfigurationError: the plugin is missing.
    """
    session = cast("dict[str, Any]", connection.scope).get(_OURS)
    if not isinstance(session, Session):
        raise ConfigurationError(
            "This request has no Strongroom session.",
            why="The plugin is missing, or the route is served by another application.",
            hint="Litestar(..., plugins=[StrongroomPlugin(store=..., keys=...)])",
        )
    return session


def requires_sign_in(connection: Connection, _: BaseRouteHandler) -> None:
    """A guard: without a subject, people get the sign-in page and programs 401."""
    session_of(connection).require_sign_in()


def requires_recent_sign_in(
    *, max_age: timedelta | None = None, acr: str | None = None, amr: Factors = ()
) -> Guard:
    """A guard: a factor was proved within `max_age`, to the level `acr`, with all of `amr`."""

    def guard(connection: Connection, _: BaseRouteHandler) -> None:
        session_of(connection).require_recent_sign_in(max_age=max_age, acr=acr, amr=amr)

    return guard


def csrf_context(request: Connection) -> dict[str, Any]:
    """For a template's context: `session`, `csrf_input()` and `csrf_token()`."""
    session = session_of(request)

    def form_input(form: str = "") -> Any:
        return _Html(session.csrf_input(form))

    return {"session": session, "csrf_input": form_input, "csrf_token": session.csrf_token}


class _Html(str):
    """Text that templates print as it is (the protocol that Jinja and others honour)."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """The place of the application until there is one."""


def _current_session(request: Connection) -> Session:
    return session_of(request)


def _hand_on(_: AnyRequest, error: StrongroomError) -> AnyResponse:
    """Our errors go out to the middleware, which answers them and undoes what failed (P14). An
    application's own mistake goes on to the server, whose log has the sentence."""
    raise error


def _settling(app: ASGIApp) -> ASGIApp:
    """Between our middleware and the route: what Litestar's own verbs did to the scope counts."""

    async def settling(scope: Scope, receive: Receive, send: Send) -> None:
        session = scope["session"]
        scope[_OURS] = session

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                await _settle(scope, session)
            await send(message)

        http = scope["type"] == "http"
        try:
            await app(scope, receive, sending if http else send)
        except LitestarException as error:
            # What we raise instead of letting a response start looks to Litestar as if it had.
            if isinstance(error.__cause__, StrongroomError):
                ScopeState.from_scope(cast(Any, scope)).response_started = False
                raise error.__cause__ from None
            raise

    return settling


async def _settle(scope: Scope, session: Session) -> None:
    """`clear_session` signs out; `set_session` replaces the data. Both leave the scope ours."""
    found = scope.get("session")
    if found is session:
        return
    scope["session"] = session
    if found is Empty or found is None:
        await session.sign_out()
        return
    values: dict[str, Any] = dict(found) if is_dict(found) else msgspec.to_builtins(found)
    for key in [key for key in session if key not in values]:
        del session[key]
    session.update(values)


def _refuse_another(app_config: AppConfig) -> None:
    """Two session middlewares would fight for `request.session`, and the last one would win.

    Raises:
        ConfigurationError: Litestar's own is in the application.
    """
    from litestar.middleware.session.base import SessionMiddleware as Theirs

    for each in app_config.middleware:
        made = each.middleware if isinstance(each, DefineMiddleware) else each
        if isinstance(made, type) and issubclass(made, Theirs):
            raise ConfigurationError(
                "Litestar's own session middleware is in this application too.",
                why="Both would write `request.session`, and one would lose what the other did.",
                hint="Take config.middleware out of middleware=[...]; docs/moving/litestar.md "
                "shows how people stay signed in.",
            )
