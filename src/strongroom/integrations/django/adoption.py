"""Taking over the sessions of one of Django's own engines, so that people stay signed in.

    STRONGROOM = {..., "adopt": "django.contrib.sessions.backends.db"}

At the first request with an old cookie and without one of ours, the old session is read once by its
engine, its user is signed in to a new session with a new token, its data comes along, and it is
deleted. Django's own check of the session's hash is made on it before: a password that was changed
since counts. See docs/moving/django.md.
"""

from __future__ import annotations

# Django ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
import logging
from importlib import import_module
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings

from strongroom.core.errors import UnserialisableValue

from .options import Options
from .store import USER_KEY, SessionStore

_log = logging.getLogger("strongroom")


def adopt(request: Any, store: SessionStore, options: Options) -> None:
    """Take over the old session that the request's old cookie opens, if there is one."""
    old = _old_session(request, store, options)
    if old is not None:
        data = _take(request, old)
        if data:
            _put(store, data)


async def aadopt(request: Any, store: SessionStore, options: Options) -> None:
    """See `adopt`. The old engine may be a synchronous one, so it is asked in a thread."""
    old = _old_session(request, store, options)
    if old is None:
        return
    data = await sync_to_async(_take)(request, old)
    if data:
        await _aput(store, data)


def _old_session(request: Any, store: SessionStore, options: Options) -> Any:
    if options.adopt is None:
        return None
    key = request.COOKIES.get(options.adopt_cookie)
    # One of our own cookies counts, whatever it came to: an old one must not undo a sign-out.
    if not key or not store.may_begin:
        return None
    request._strongroom_adopted = True
    return import_module(options.adopt).SessionStore(key)


def _take(request: Any, old: Any) -> dict[str, Any]:
    """The old session's data, once: it is deleted, and its user checked as Django checks it."""
    from django.contrib import auth

    data = dict(old.items())
    if not data:
        return {}
    if USER_KEY in data:
        request_session, request.session = request.session, old
        try:
            user = auth.get_user(request)
        finally:
            request.session = request_session
        if not user.is_authenticated:
            data = {key: value for key, value in data.items() if not key.startswith("_auth_user_")}
    old.delete()
    return data


def _put(store: SessionStore, data: dict[str, Any]) -> None:
    for key, value in sorted(data.items(), key=_user_first):
        try:
            store[key] = value
        except UnserialisableValue as error:
            _log.warning("An adopted session lost %r: %s", key, error)


async def _aput(store: SessionStore, data: dict[str, Any]) -> None:
    for key, value in sorted(data.items(), key=_user_first):
        try:
            await store.aset(key, value)
        except UnserialisableValue as error:
            _log.warning("An adopted session lost %r: %s", key, error)


def forget_cookie(request: Any, response: Any, options: Options) -> None:
    """The old cookie has served: no browser keeps what another one could still try."""
    if getattr(request, "_strongroom_adopted", False):
        response.delete_cookie(
            options.adopt_cookie,
            path=settings.SESSION_COOKIE_PATH,
            domain=settings.SESSION_COOKIE_DOMAIN,
            samesite=settings.SESSION_COOKIE_SAMESITE,
        )


def _user_first(item: tuple[str, Any]) -> bool:
    return item[0] != USER_KEY
