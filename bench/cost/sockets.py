"""aiohttp, which cannot be called without a socket: with us and with aiohttp-session."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from . import ours
from .asgi import BARE, OURS, pages
from .pages import OK, a_session, a_user
from .rows import Places, Row
from .sites import AiohttpSite

_DATABASE = 7


class _Held:
    """A request with the session that was fetched for it."""

    def __init__(self, session: Any) -> None:
        self.session = session


def _app(pages: Any, fetch: Any) -> Any:
    from aiohttp import web

    def endpoint(page: Any) -> Any:
        async def answer(request: web.Request) -> web.Response:
            await page(await fetch(request))
            return web.Response(body=OK)

        return answer

    app = web.Application()
    for path, page in pages.items():
        app.router.add_route("*", path, endpoint(page))
    return app


async def _without(request: Any) -> Any:
    return request


def _bare(places: Places) -> AiohttpSite:
    return AiohttpSite(_app(BARE, _without), _loop(places))


def _ours(where: str, places: Places) -> AiohttpSite:
    from strongroom import SessionPolicy, TrustedProxies
    from strongroom.integrations.aiohttp import get_session, setup

    async def fetch(request: Any) -> _Held:
        return _Held(get_session(request))

    app = _app(OURS, fetch)
    policy = SessionPolicy(proxies=TrustedProxies.of("127.0.0.1"))
    setup(app, store=ours.url(where, places), keys=ours.KEYS, policy=policy, sinks=())
    return AiohttpSite(app, _loop(places))


def _aiohttp_session(places: Places) -> AiohttpSite:
    import redis.asyncio
    from aiohttp_session import get_session, new_session, setup
    from aiohttp_session.redis_storage import RedisStorage

    async def fetch(request: Any) -> _Held:
        # A page that does not look does not ask, as the library is meant to be used.
        if request.path == "/plain":
            return _Held(None)
        starts = request.path == "/login"
        return _Held(await (new_session(request) if starts else get_session(request)))

    async def sign_in(request: Any) -> None:
        request.session.update(a_session(a_user()))

    app = _app(pages(sign_in), fetch)
    setup(app, RedisStorage(redis.asyncio.from_url(places.database(_DATABASE))))
    return AiohttpSite(app, _loop(places))


def _loop(places: Places) -> asyncio.AbstractEventLoop:
    assert places.loop is not None
    return places.loop


ROWS = [
    Row("aiohttp", None, _bare),
    Row("Strongroom, memory", "aiohttp", partial(_ours, "memory")),
    Row("Strongroom, Valkey", "aiohttp", partial(_ours, "Valkey"), database=8),
    Row("aiohttp-session, Valkey", "aiohttp", _aiohttp_session, database=_DATABASE),
]
