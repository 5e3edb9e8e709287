"""The extension: settings, the session interface, error handlers, templates and commands."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import flask
from flask import Flask
from markupsafe import Markup

from strongroom.core.errors import ConfigurationError, StrongroomError
from strongroom.core.events import EventSink
from strongroom.core.policy import SessionPolicy
from strongroom.integrations.exchange_sync import Serving
from strongroom.manager import KeySource, SessionManager
from strongroom.setup import sync_manager

from .commands import commands
from .guards import find_session
from .interface import (
    FlaskSession,
    StrongroomInterface,
    Unopened,
    answer_of,
    settings_of,
)

NAME = "strongroom"

_WITHOUT_EFFECT = (
    "SESSION_COOKIE_NAME",
    "SESSION_COOKIE_DOMAIN",
    "SESSION_COOKIE_PATH",
    "SESSION_COOKIE_SAMESITE",
    "SESSION_COOKIE_PARTITIONED",
    "SESSION_TYPE",
)
"""Settings of Flask and Flask-Session that somebody may believe to be in force."""

_log = logging.getLogger("strongroom")


class Strongroom:
    """Sessions for Flask applications.

    Args:
        app: the application, or None and later `init_app`, once for each application.
        store: a URL, such as `sqlite:///var/sessions.db`; else the setting STRONGROOM_STORE.
        keys: the path of a key file, or a `Keyring`; else STRONGROOM_KEYS.
        policy: the limits in force; else STRONGROOM_POLICY, else the defaults for https.
        sinks: where events go; else STRONGROOM_SINKS, else the logger `strongroom.events`.
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
        manager: SessionManager | None = None,
    ) -> None:
        self._store, self._keys, self._policy = store, keys, policy
        self._sinks, self._manager = sinks, manager
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Take over the sessions of an application.

        Raises:
            ConfigurationError: see the class; also if it has the extension already.
        """
        if NAME in app.extensions:
            raise ConfigurationError(
                "This application has the Strongroom extension already.",
                why="Two of them would each write the session.",
                hint="Write Strongroom(app), or strongroom = Strongroom() and "
                "strongroom.init_app(app), but not both.",
            )
        told = self._settings(app)
        serving = Serving(self._manager or sync_manager(**told))
        installed = _Installed(app, serving)
        app.extensions[NAME] = installed
        app.session_interface = installed.interface
        # First of all, so that nothing of the application runs for a request that is refused.
        app.before_request_funcs.setdefault(None, []).insert(0, installed.begin)
        app.teardown_request(installed.end)
        app.register_error_handler(StrongroomError, installed.tell)
        in_templates: dict[str, Any] = app.jinja_env.globals  # pyright: ignore
        in_templates["csrf_input"] = _csrf_input
        in_templates.setdefault("csrf_token", _csrf_token)
        app.cli.add_command(commands(told["store"], told["keys"], serving.manager.policy))
        _warn_of_settings(app)

    def _settings(self, app: Flask) -> dict[str, Any]:
        """What was given here, else what the application's configuration says."""
        given = {
            "store": self._store,
            "keys": self._keys,
            "policy": self._policy,
            "sinks": self._sinks,
        }
        config = settings_of(app)
        return {
            name: config.get(f"STRONGROOM_{name.upper()}") if value is None else value
            for name, value in given.items()
        }


def manager_of(app: Flask) -> SessionManager:
    """The `SessionManager` of an application: for commands, jobs and an operator's views.

    Raises:
        ConfigurationError: the application has no Strongroom extension.
    """
    installed = app.extensions.get(NAME)
    if installed is None:
        raise ConfigurationError(
            "This application has no Strongroom extension.",
            why="Its sessions are kept by somebody else.",
            hint="Create it where the application is made: Strongroom(app, store=..., keys=...)",
        )
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
            raise ConfigurationError(
                "Another extension has replaced Strongroom's session interface.",
                why="Its sessions would be used, and none of the promises would hold.",
                hint="Take the other session extension out. Nothing else sets session_interface.",
            )
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


def _csrf_input(form: str = "") -> Markup:
    """`{{ csrf_input() }}` in a form: a hidden field with the token."""
    return Markup(find_session().csrf_input(form))  # noqa: S704 - our own markup, nothing else


def _csrf_token(form: str = "") -> str:
    """`{{ csrf_token() }}`, for a script's header; Flask-WTF's own comes before it."""
    return find_session().csrf_token(form)


def _warn_of_settings(app: Flask) -> None:
    """Say which settings of others have no effect any more, instead of ignoring them silently."""
    config = settings_of(app)
    defaults = Flask.default_config
    changed = [
        name for name in _WITHOUT_EFFECT if config.get(name) not in (None, defaults.get(name))
    ]
    if changed:
        _log.warning(
            "%s: these settings have no effect with Strongroom. The cookie is named, scoped and "
            "dated by SessionPolicy; see docs/flask.md.",
            ", ".join(changed),
        )
