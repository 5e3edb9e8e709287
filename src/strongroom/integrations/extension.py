"""What the extensions of Flask and Quart share: settings, templates, and what they say of others'.

Nothing here knows a framework: `config` is the application's configuration, a mapping.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from strongroom.core.errors import ConfigurationError
from strongroom.session import Session

__all__ = [
    "NAME",
    "add_to_templates",
    "missing",
    "refuse_second",
    "replaced",
    "settings",
    "warn_of_settings",
]

NAME = "strongroom"
"""Where an application keeps the extension: `app.extensions["strongroom"]`."""

_WITHOUT_EFFECT = (
    "SESSION_COOKIE_NAME",
    "SESSION_COOKIE_DOMAIN",
    "SESSION_COOKIE_PATH",
    "SESSION_COOKIE_SAMESITE",
    "SESSION_COOKIE_PARTITIONED",
    "SESSION_TYPE",
)
"""Settings of frameworks and other extensions that somebody may believe to be in force."""

_log = logging.getLogger("strongroom")


def settings(given: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, else what the configuration says: `store`, else STRONGROOM_STORE."""
    return {
        name: config.get(f"STRONGROOM_{name.upper()}") if value is None else value
        for name, value in given.items()
    }


def refuse_second(extensions: Mapping[str, Any]) -> None:
    """One extension an application.

    Raises:
        ConfigurationError: there is one already.
    """
    if NAME in extensions:
        raise ConfigurationError(
            "This application has the Strongroom extension already.",
            why="Two of them would each write the session.",
            hint="Write Strongroom(app), or strongroom = Strongroom() and "
            "strongroom.init_app(app), but not both.",
        )


def add_to_templates(
    names: dict[str, Any], find_session: Callable[[], Session], safe: Callable[[str], Any]
) -> None:
    """`{{ csrf_input() }}` in a form, a hidden field with the token, and `{{ csrf_token() }}` for a
    script's header, unless another extension, such as Flask-WTF, has that name already.

    `safe` marks what a template must not escape.
    """

    def csrf_input(form: str = "") -> Any:
        return safe(find_session().csrf_input(form))

    def csrf_token(form: str = "") -> str:
        return find_session().csrf_token(form)

    names["csrf_input"] = csrf_input
    names.setdefault("csrf_token", csrf_token)


def missing(what: str) -> ConfigurationError:
    """The error of an application, or a request, that has no session of ours."""
    return ConfigurationError(
        f"This application has no Strongroom {what}.",
        why="Its sessions come from the framework itself or from another extension.",
        hint="Create the extension last: Strongroom(app, store=..., keys=...), or init_app(app).",
    )


def replaced() -> ConfigurationError:
    """The error of an application whose session interface is not ours any more."""
    return ConfigurationError(
        "Another extension has replaced Strongroom's session interface.",
        why="Its sessions would be used, and none of the promises would hold.",
        hint="Take the other session extension out. Nothing else sets session_interface.",
    )


def warn_of_settings(config: Mapping[str, Any], defaults: Mapping[str, Any], page: str) -> None:
    """Say which settings of others have no effect any more, instead of ignoring them silently."""
    changed = [
        name for name in _WITHOUT_EFFECT if config.get(name) not in (None, defaults.get(name))
    ]
    if changed:
        _log.warning(
            "%s: these settings have no effect with Strongroom. The cookie is named, scoped and "
            "dated by SessionPolicy; see %s.",
            ", ".join(changed),
            page,
        )
