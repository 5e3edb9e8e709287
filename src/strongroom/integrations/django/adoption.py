"""Taking over the sessions of one of Django's own engines, so that people stay signed in.

    STRONGROOM = {
        ...,
        "adopt": "django.contrib.sessions.backends.db",
        "adopt_until": datetime(2026, 12, 24, tzinfo=UTC),
    }

The rules are the core's (`core.adoption`): once each, only where the browser has no cookie of ours,
until the cut-off. Here is how an old session is read, checked as Django checks it, and deleted.
"""

from __future__ import annotations

# Django ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from importlib import import_module
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings

from strongroom.core.adoption import Adoption, OldSession
from strongroom.core.errors import ConfigurationError

USER_KEY, BACKEND_KEY, HASH_KEY = "_auth_user_id", "_auth_user_backend", "_auth_user_hash"
_OF_THE_ENGINE = ("_session_expiry",)


def adoption_of(engine: str, cookie: str, until: object) -> Adoption:
    """How sessions of this engine are taken over.

    Raises:
        ConfigurationError: there is no cut-off.
    """
    if not isinstance(until, datetime):
        raise ConfigurationError(
            "STRONGROOM has 'adopt' and no 'adopt_until'.",
            why="Whoever holds a copy of an old cookie could use it for ever.",
            hint='Write "adopt_until": datetime(2026, 12, 24, tzinfo=UTC), the day on which the '
            "last old cookie runs out.",
        )
    old_sessions = _OldSessions(engine)
    return Adoption(
        cookie=cookie,
        read=old_sessions.read,
        until=until,
        path=str(settings.SESSION_COOKIE_PATH),
        domain=settings.SESSION_COOKIE_DOMAIN,
        forget=old_sessions.forget,
    )


def for_event_loop(adoption: Adoption | None) -> Adoption | None:
    """The same for an asynchronous manager: Django's database is asked in a thread."""
    if adoption is None or adoption.forget is None:
        return adoption
    read, forget = _in_thread(adoption.read), _in_thread(adoption.forget)
    return replace(adoption, read=read, forget=forget)


def _in_thread(call: Callable[[str], Any]) -> Callable[[str], Awaitable[Any]]:
    in_thread: Callable[[str], Awaitable[Any]] = sync_to_async(call)
    return in_thread


class _OldSessions:
    """The sessions of an engine of Django's, by the value of its cookie."""

    def __init__(self, engine: str) -> None:
        self._engine = engine

    def read(self, value: str) -> OldSession | None:
        """The old session, or None where it stands for nothing."""
        data: dict[str, Any] = dict(self._store(value).items())
        for key in _OF_THE_ENGINE:
            data.pop(key, None)
        if not data:
            return None
        subject: Any = data.get(USER_KEY)
        if subject is not None and _is_still_valid(data):
            return OldSession(str(subject), data)
        visitors = {key: kept for key, kept in data.items() if not key.startswith("_auth_user_")}
        return OldSession(None, visitors)

    def forget(self, value: str) -> None:
        """Delete it where the engine keeps it."""
        self._store(value).delete()

    def _store(self, value: str) -> Any:
        return import_module(self._engine).SessionStore(value)


def _is_still_valid(data: dict[str, Any]) -> bool:
    """Django's own check: an active user, whose password is what it was at sign-in."""
    from django.contrib.auth import get_user_model, load_backend
    from django.utils.crypto import constant_time_compare

    path = data.get(BACKEND_KEY)
    if path not in settings.AUTHENTICATION_BACKENDS:
        return False
    try:
        user_id = get_user_model()._meta.pk.to_python(data[USER_KEY])
    except Exception:  # A ValidationError of whatever field is the key.
        return False
    user: Any = load_backend(path).get_user(user_id)
    if user is None:
        return False
    if not hasattr(user, "get_session_auth_hash"):
        return True
    told = str(data.get(HASH_KEY) or "")
    return bool(told) and bool(constant_time_compare(told, user.get_session_auth_hash()))
