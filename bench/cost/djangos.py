"""Django, under WSGI and ASGI: its engines, and us. One project, configured once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from . import ours
from .pages import OK, a_session, a_user, change, look
from .rows import Places, Row
from .sites import AsgiSite, Site, WsgiSite

ENGINES = ("signed_cookies", "cache", "db", "cached_db")
_DATABASE = 6
_OURS = "strongroom.integrations.django"


def _plain(session: Any) -> None:
    del session


def _read(session: Any) -> None:
    if session is not None:
        look(session)


def _write(session: Any) -> None:
    if session is not None:
        change(session)


def _log_in(session: Any) -> None:
    if session is None:
        return
    strongroom = getattr(session, "strongroom", None)
    if strongroom is not None:
        ours.sign_in_at_once(strongroom)
        session["user"] = strongroom.subject
    else:
        session.update(a_session(a_user()))
        session.cycle_key()


async def _aread(session: Any) -> None:
    if session is not None and not (await session.aget("user") and await session.aget("cart")):
        raise RuntimeError("the session is not the one that was signed in")


async def _awrite(session: Any) -> None:
    if session is not None:
        cart: dict[str, Any] = {}
        change(cart)
        await session.aset("cart", cart["cart"])


async def _alog_in(session: Any) -> None:
    if session is None:
        return
    strongroom = getattr(session, "strongroom", None)
    if strongroom is not None:
        user, data = ours.the_data()
        async with strongroom.authenticating(user):
            await strongroom.sign_in(user)
        strongroom.update({**data, "user": user})
    else:
        await session.aupdate(a_session(a_user()))
        await session.acycle_key()


async def _aplain(session: Any) -> None:
    del session


PAGES = {"/plain": _plain, "/read": _read, "/write": _write, "/login": _log_in}
ASYNC_PAGES = {"/plain": _aplain, "/read": _aread, "/write": _awrite, "/login": _alog_in}


def _view(act: Callable[[Any], None]) -> Any:
    from django.http import HttpResponse

    def view(request: Any) -> Any:
        act(getattr(request, "session", None))
        return HttpResponse(OK, content_type="text/plain")

    return view


def _async_view(act: Callable[[Any], Awaitable[None]]) -> Any:
    from django.http import HttpResponse

    async def view(request: Any) -> Any:
        await act(getattr(request, "session", None))
        return HttpResponse(OK, content_type="text/plain")

    return view


def __getattr__(name: str) -> Any:
    """The project's pages; the ASGI site has those under /async."""
    if name != "urlpatterns":
        raise AttributeError(name)
    from django.urls import path

    return [
        *(path(where[1:], _view(act)) for where, act in PAGES.items()),
        *(path(f"async{where}", _async_view(act)) for where, act in ASYNC_PAGES.items()),
    ]


def _configure(places: Places) -> None:
    import django
    from django.conf import settings

    if settings.configured:
        return
    settings.configure(
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="s" * 50,
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=["django.contrib.sessions"],
        SESSION_COOKIE_SECURE=True,
        SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": f"{places.folder}/django.sqlite3",
                "CONN_MAX_AGE": None,
                "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"},
            }
        },
        CACHES={"default": _cache(places)},
        STRONGROOM={"store": ours.url("SQLite", places), "keys": ours.KEYS, "sinks": ()},
        USE_TZ=True,
        LOGGING_CONFIG=None,
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def _cache(places: Places) -> dict[str, str]:
    if places.valkey is None:
        return {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    where = places.database(_DATABASE)
    return {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": where}


def _site(engine: str | None, asgi: bool, places: Places) -> Site:
    """A handler with the engine's middleware, or none; its settings count while it is made."""
    _configure(places)
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.wsgi import WSGIHandler
    from django.test.utils import override_settings

    middleware = [] if engine is None else ["django.contrib.sessions.middleware.SessionMiddleware"]
    if engine == _OURS:
        middleware = [f"{_OURS}.middleware.SessionMiddleware"]
    backend = engine if engine in (None, _OURS) else f"django.contrib.sessions.backends.{engine}"
    with override_settings(MIDDLEWARE=middleware, SESSION_ENGINE=backend or _OURS):
        if not asgi:
            return WsgiSite(WSGIHandler())
        handler = ASGIHandler()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise LookupError("Django has none")
        scope["path"] = "/async" + scope["path"]
        asked = False

        async def receive_once() -> Any:
            # Django listens for a client that hangs up, while it works.
            nonlocal asked
            if asked:
                await asyncio.Event().wait()
            asked = True
            return await receive()

        await handler(scope, receive_once, send)

    return AsgiSite(app, places.loop)


ROWS = [
    Row(base, None, partial(_site, None, asgi))
    if engine is None
    else Row(
        name, base, partial(_site, engine, asgi), database=_DATABASE if "cache" in engine else None
    )
    for base, asgi in (("Django, WSGI", False), ("Django, ASGI", True))
    for name, engine in (
        ("", None),
        ("Strongroom, SQLite", _OURS),
        *((f"Django, {each}", each) for each in ENGINES),
    )
]
