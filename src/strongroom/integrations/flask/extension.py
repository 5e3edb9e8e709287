"""The extension: settings, the session interface, error handlers, templates and commands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flask
from flask import Flask
from markupsafe import Markup

from strongroom.core.adoption import Adoption
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventSink
from strongroom.core.policy import SessionPolicy
from strongroom.integrations.commands import commands
from strongroom.integrations.exchange_sync import Serving
from strongroom.integrations.extension import (
    NAME,
    add_to_templates,
    missing,
    refuse_second,
    replaced,
    settings,
    warn_of_settings,
)
from strongroom.manager import SessionManager
from strongroom.managing import KeySource
from strongroom.setup import sync_manager

from .guards import find_session
from .interface import (
    FlaskSession,
    StrongroomInterface,
    Unopened,
    answer_of,
    settings_of,
)


class Strongroom:
    """Sessions for Flask applications.

    Args:
        app: the application, or None and later `init_app`, once for each application.
        store: a URL, such as `sqlite:///var/sessions.db`; else the setting STRONGROOM_STORE.
        keys: the path of a key file, or a `Keyring`; else STRONGROOM_KEYS.
        policy: the limits in force; else STRONGROOM_POLICY, else the defaults for https.
        sinks: where events go; else STRONGROOM_SINKS, else the logger `strongroom.events`.
        adopt: how the sessions of another library are taken over; else STRONGROOM_ADOPT. For those
            of Flask itself and of its extensions there is `moving.adopt_sessions`.
        manager: a `SessionManager` of your own, instead of all these.

    Raises:
        ConfigurationError: what is contradictory, unsafe, or would not work, with a sentence.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        store: str | None = None,
        keys: KeySource | None = None,
        policy: SessionPolicy | None = None,
        sinks: Iterable[EventSink] | None = None,
        adopt: Adoption | None = None,
        manager: SessionManager | None = None,
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

    def init_app(self, app: Flask) -> None:
        """Take over the sessions of an application.

        Raises:
            ConfigurationError: see the class; also if it has the extension already.
        """
        refuse_second(app.extensions)
        told = settings(self._given, settings_of(app))
        serving = Serving(self._manager or sync_manager(**told))
        installed = _Installed(app, serving)
        app.extensions[NAME] = installed
        app.session_interface = installed.interface
        # First of all, so that nothing of the application runs for a request that is refused.
        app.before_request_funcs.setdefault(None, []).insert(0, installed.begin)
        app.teardown_request(installed.end)
        app.register_error_handler(StrongroomError, installed.tell)
        in_templates: dict[str, Any] = app.jinja_env.globals  # pyright: ignore
        add_to_templates(in_templates, find_session, Markup)
        app.cli.add_command(commands("flask", told["store"], told["keys"], serving.manager.policy))
        warn_of_settings(settings_of(app), Flask.default_config, "docs/flask.md")


def manager_of(app: Flask) -> SessionManager:
    """The `SessionManager` of an application: for commands, jobs and an operator's views.

    Raises:
        ConfigurationError: the application has no Strongroom extension.
    """
    installed = app.extensions.get(NAME)
    if installed is None:
        raise missing("extension")
    manager: SessionManager = installed.serving.manager
    return manager


class _Installed:
    """The extension in one application."""

    def __init__(self, app: Flask, serving: Serving) -> None:
        self.serving = serving
        self.interface = StrongroomInterface(serving, self._follow_others)
        self._app = app
        self._follows = False

    def begin(self) -> None:
        """Before everything else of a request: refuse what is refused."""
        if self._app.session_interface is not self.interface:
            raise replaced()
        found: Any = flask.session._get_current_object()  # type: ignore[attr-defined]  # pyright: ignore
        if isinstance(found, Unopened):
            raise found.error
        if isinstance(found, FlaskSession) and found.refusal is not None:
            raise found.refusal

    def tell(self, error: StrongroomError) -> Any:
        """An error of ours that a view let escape, as a response; the application's mistakes go on.

        An error handler of the application for a class further down the tree comes before it.
        """
        found: Any = flask.session._get_current_object()  # type: ignore[attr-defined]  # pyright: ignore
        if isinstance(found, FlaskSession):
            found.exchange.note_failure(error)
        told = self.serving.answer_without(error, self.interface.facts(flask.request))
        if told is None:
            raise error
        return answer_of(told, self._app.response_class)

    def end(self, error: BaseException | None) -> None:
        """The context ends. Where no response was made, or it failed, nothing is left behind."""
        context: Any = flask.globals.request_ctx
        # Its attribute `session` would note an access; and asking whether it is empty, read it.
        found = context._session if hasattr(context, "_session") else context.session
        if not isinstance(found, FlaskSession) or not found.writes:
            return
        if error is not None or not found.exchange.started:
            found.exchange.finish()

    def _follow_others(self) -> None:
        """Once, with the first session, when the application is complete."""
        if self._follows or not hasattr(self._app, "login_manager"):
            return
        self._follows = True
        config = settings_of(self._app)
        if config.get("STRONGROOM_FLASK_LOGIN", True):
            from .login import follow

            follow(self._app)
