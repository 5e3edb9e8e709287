"""The extension: settings, the session interface, error handlers, templates and commands.

Why it is made of a middleware: docs/decisions/0052.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import quart
from markupsafe import Markup
from quart import Quart

from strongroom.core.adoption import Adoption
from strongroom.core.answers import answer
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventSink
from strongroom.core.policy import SessionPolicy
from strongroom.integrations.asgi import facts_of
from strongroom.integrations.commands import commands
from strongroom.integrations.extension import (
    NAME,
    add_to_templates,
    missing,
    refuse_second,
    replaced,
    settings,
    warn_of_settings,
)
from strongroom.manager import AsyncSessionManager
from strongroom.managing import KeySource
from strongroom.setup import async_manager

from .guards import find_session
from .interface import EXCHANGE, StrongroomInterface, end_own, headers_of
from .serving import QuartExchange, Serving

_REFUSED_SOCKET = 4403


class Strongroom:
    """Sessions for Quart applications.

    Args:
        app: the application, or None and later `init_app`, once for each application.
        store: a URL, such as `sqlite:///var/sessions.db`; else the setting STRONGROOM_STORE.
        keys: the path of a key file, or a `Keyring`; else STRONGROOM_KEYS.
        policy: the limits in force; else STRONGROOM_POLICY, else the defaults for https.
        sinks: where events go; else STRONGROOM_SINKS, else the logger `strongroom.events`.
        adopt: how the sessions of another library are taken over; else STRONGROOM_ADOPT.
        manager: an `AsyncSessionManager` of your own, instead of all these.

    Raises:
        ConfigurationError: what is contradictory, unsafe, or would not work, with a sentence.
    """

    def __init__(
        self,
        app: Quart | None = None,
        *,
        store: str | None = None,
        keys: KeySource | None = None,
        policy: SessionPolicy | None = None,
        sinks: Iterable[EventSink] | None = None,
        adopt: Adoption | None = None,
        manager: AsyncSessionManager | None = None,
    ) -> None:
        self._given = {
            "store": store,
            "keys": keys,
            "policy": policy,
            "sinks": sinks,
            "adopt": adopt,
        }
        self._manager = manager
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Quart) -> None:
        """Take over the sessions of an application.

        Raises:
            ConfigurationError: see the class; also if it has the extension already.
        """
        refuse_second(app.extensions)
        config = cast("dict[str, Any]", app.config)
        told = settings(self._given, config)
        manager = self._manager or async_manager(**told)
        installed = _Installed(app, manager)
        app.extensions[NAME] = installed
        longest = int(app.permanent_session_lifetime.total_seconds())
        changing: Any = app  # Quart's annotations know its own classes alone in these two places.
        changing.session_interface = installed.interface
        changing.asgi_app = Serving(changing.asgi_app, manager, longest)
        # First of all, so that nothing of the application runs for a request that is refused.
        app.before_request_funcs.setdefault(None, []).insert(0, installed.begin)
        app.before_websocket_funcs.setdefault(None, []).insert(0, installed.begin)
        app.teardown_request(installed.end)
        app.teardown_websocket(installed.end)
        app.register_error_handler(StrongroomError, installed.tell)
        in_templates: dict[str, Any] = app.jinja_env.globals  # pyright: ignore
        add_to_templates(in_templates, find_session, Markup)
        app.cli.add_command(commands("quart", told["store"], told["keys"], manager.policy))
        warn_of_settings(config, Quart.default_config, "docs/quart.md")


def manager_of(app: Quart) -> AsyncSessionManager:
    """The `AsyncSessionManager` of an application: for commands, jobs and an operator's views.

    Raises:
        ConfigurationError: the application has no Strongroom extension.
    """
    installed = app.extensions.get(NAME)
    if installed is None:
        raise missing("extension")
    manager: AsyncSessionManager = installed.manager
    return manager


class _Installed:
    """The extension in one application."""

    def __init__(self, app: Quart, manager: AsyncSessionManager) -> None:
        self.manager = manager
        self.interface = StrongroomInterface(manager)
        self._app = app

    async def begin(self) -> None:
        """Before everything else of a request or WebSocket: refuse what is refused."""
        now: Any = self._app.session_interface
        if now is not self.interface:
            raise replaced()
        refusal = find_session().refusal
        if refusal is not None:
            raise refusal

    async def tell(self, error: StrongroomError) -> Any:
        """An error of ours that a view let escape, as a response; the application's mistakes go on.

        An error handler of the application for a class further down the tree comes before it.
        """
        if quart.has_websocket_context():
            return await self._refuse_socket(error)
        scope: Any = quart.request.scope
        exchange: QuartExchange | None = scope.get(EXCHANGE)
        if exchange is not None:
            await exchange.note_failure(error)
        told = answer(error, facts_of(scope, self.manager.policy), self.manager.policy)
        if told is None:
            raise error
        response = quart.Response(told.body, told.status)
        response.headers = headers_of(told.headers)
        return response

    async def _refuse_socket(self, error: StrongroomError) -> None:
        """A WebSocket's page ended in this error: it is closed, or refused before it opened."""
        facts = facts_of(cast(Any, quart.websocket.scope), self.manager.policy)
        if answer(error, facts, self.manager.policy) is None:
            raise error
        await quart.websocket.close(_REFUSED_SOCKET)

    async def end(self, error: BaseException | None) -> None:
        """The context of a request or WebSocket ends."""
        del error
        await end_own(quart.session._get_current_object())  # type: ignore[attr-defined]  # pyright: ignore
