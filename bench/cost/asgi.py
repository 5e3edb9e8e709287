"""ASGI: no framework, Starlette, FastAPI and Litestar, with us and with their peers."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from . import ours
from .pages import OK, a_session, a_user, change, look
from .rows import Places, Row
from .sites import AsgiSite

Wrap = Callable[[Any, Places], Any]
"""Puts a library's sessions around an application."""

SignIn = Callable[[Any], Awaitable[None]]
"""Signs somebody in, given the request."""


def _page(read: Any, write: Any, sign_in: SignIn) -> Any:
    """The four pages, by path; what each does with a request's session."""

    async def plain(request: Any) -> None:
        del request

    return {"/plain": plain, "/read": read, "/write": write, "/login": sign_in}


async def _nothing(request: Any) -> None:
    del request


BARE = _page(_nothing, _nothing, _nothing)


def pages(
    sign_in: SignIn, session_of: Callable[[Any], Any] = lambda request: request.session
) -> Any:
    """The pages of an application with sessions."""

    async def read(request: Any) -> None:
        look(session_of(request))

    async def write(request: Any) -> None:
        change(session_of(request))

    return _page(read, write, sign_in)


async def sign_in_plainly(request: Any) -> None:
    """A library without a call for it: its session gets what a session holds."""
    request.session.update(a_session(a_user()))


OURS = ours.pages(_page)


class _Scope:
    """What a raw application has instead of a request."""

    __slots__ = ("session",)

    def __init__(self, scope: Any) -> None:
        self.session = scope.get("session")


def raw(pages: Any) -> Any:
    """An application without a framework."""
    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"text/plain"), (b"content-length", b"2")],
    }
    body = {"type": "http.response.body", "body": OK}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for moment in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{moment}.complete"})
            return
        await pages[scope["path"]](_Scope(scope))
        await send(start)
        await send(body)

    return app


def starlette(pages: Any) -> Any:
    """A Starlette application."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    def endpoint(page: Any) -> Any:
        async def answer(request: Any) -> Any:
            await page(request)
            return PlainTextResponse(OK)

        return answer

    return Starlette(
        routes=[
            Route(path, endpoint(page), methods=["GET", "POST"]) for path, page in pages.items()
        ]
    )


def fastapi(pages: Any) -> Any:
    """A FastAPI application."""
    from fastapi import FastAPI, Request
    from fastapi.responses import PlainTextResponse

    app = FastAPI(openapi_url=None)

    def endpoint(page: Any) -> Any:
        async def answer(request: Any) -> Any:
            await page(request)
            return PlainTextResponse(OK)

        answer.__annotations__ = {"request": Request}
        return answer

    for path, page in pages.items():
        app.add_api_route(path, endpoint(page), methods=["GET", "POST"], response_model=None)
    return app


def litestar(pages: Any, **settings: Any) -> Any:
    """A Litestar application."""
    from litestar import Litestar, MediaType, Request, route

    def endpoint(path: str, page: Any) -> Any:
        async def answer(request: Any) -> Any:
            await page(request)
            return OK.decode()

        answer.__annotations__ = {"request": Request, "return": str}
        made = route(path, http_method=["GET", "POST"], media_type=MediaType.TEXT, status_code=200)
        return made(answer)

    handlers = [endpoint(path, page) for path, page in pages.items()]
    return Litestar(handlers, openapi_config=None, **settings)


def _site(make: Callable[[Any], Any], pages: Any, wrap: Wrap | None, places: Places) -> AsgiSite:
    app = make(pages)
    return AsgiSite(app if wrap is None else wrap(app, places), places.loop)


def _ours(where: str, app: Any, places: Places) -> Any:
    from strongroom.integrations.asgi import SessionMiddleware

    return SessionMiddleware(app, store=ours.url(where, places), keys=ours.KEYS, sinks=())


def _litestar_ours(where: str, places: Places) -> AsgiSite:
    from strongroom.integrations.litestar import StrongroomPlugin

    plugin = StrongroomPlugin(store=ours.url(where, places), keys=ours.KEYS, sinks=())
    return AsgiSite(litestar(OURS, plugins=[plugin]), places.loop)


def _signed_cookie(app: Any, places: Places) -> Any:
    from starlette.middleware.sessions import SessionMiddleware

    del places
    return SessionMiddleware(app, secret_key="k" * 32, https_only=True)


def _starsessions(app: Any, places: Places, *, database: int | None = None) -> Any:
    from starsessions import InMemoryStore, SessionAutoloadMiddleware, SessionMiddleware

    store: Any = InMemoryStore()
    if database is not None:
        from redis.asyncio import Redis
        from starsessions.stores.redis import RedisStore

        store = RedisStore(connection=Redis.from_url(places.database(database)))
    return SessionMiddleware(
        SessionAutoloadMiddleware(app), store=store, lifetime=3600, rolling=False
    )


async def _starsessions_sign_in(request: Any) -> None:
    from starsessions import regenerate_session_id

    await sign_in_plainly(request)
    regenerate_session_id(request)


def _redis_sdk(places: Places) -> AsgiSite:
    os.environ["REDIS_URL"] = places.database(2)
    from redis_fastapi import FastAPIRedis

    app = fastapi(pages(sign_in_plainly))
    FastAPIRedis(app).lifespan().sessions(principal_keys=["user"])
    return AsgiSite(app, places.loop)


def _alcazaba(places: Places) -> AsgiSite:
    from fastapi_alcazaba import Cache
    from fastapi_alcazaba.backends.inmemory import InMemoryBackend
    from fastapi_alcazaba.sessions import ServerSessionMiddleware, rotate_session

    async def sign_in(request: Any) -> None:
        await sign_in_plainly(request)
        rotate_session(request)

    app = fastapi(pages(sign_in))
    cache = Cache(InMemoryBackend(), signing_key="k" * 32)
    app.add_middleware(ServerSessionMiddleware, cache=cache, max_age=8 * 3600, idle_timeout=1800)
    return AsgiSite(app, places.loop)


async def _litestar_sign_in(request: Any) -> None:
    request.set_session(a_session(a_user()))


def _litestar_cookie(places: Places) -> AsgiSite:
    from litestar.middleware.session.client_side import CookieBackendConfig

    middleware = CookieBackendConfig(secret=b"k" * 32).middleware
    return AsgiSite(litestar(pages(_litestar_sign_in), middleware=[middleware]), places.loop)


def _litestar_server(places: Places, *, database: int | None = None) -> AsgiSite:
    from litestar.middleware.session.server_side import ServerSideSessionConfig

    settings: dict[str, Any] = {}
    if database is not None:
        from litestar.stores.redis import RedisStore

        store = RedisStore.with_client(url=places.database(database))
        settings["stores"] = {"sessions": store}
    middleware = ServerSideSessionConfig().middleware
    app = litestar(pages(_litestar_sign_in), middleware=[middleware], **settings)
    return AsgiSite(app, places.loop)


def _row(name: str, base: str, make: Any, wrap: Wrap, sign_in: SignIn = sign_in_plainly) -> Row:
    return Row(name, base, partial(_site, make, pages(sign_in), wrap))


_FEW: dict[str, int | None] = {"memory": None, "SQLite": None}
"""Stores that answer without being waited for."""


def _rows_of_ours(base: str, make: Any, stores: dict[str, int | None]) -> list[Row]:
    return [
        Row(
            f"Strongroom, {where}",
            base,
            partial(_site, make, OURS, partial(_ours, where)),
            database=database,
            at_once=where not in _FEW,
        )
        for where, database in stores.items()
    ]


ROWS = [
    Row("raw ASGI", None, partial(_site, raw, BARE, None)),
    Row("Starlette", None, partial(_site, starlette, BARE, None), at_once=True),
    Row("FastAPI", None, partial(_site, fastapi, BARE, None), at_once=True),
    Row("Litestar", None, partial(_site, litestar, BARE, None), at_once=True),
    *_rows_of_ours("raw ASGI", raw, _FEW),
    *_rows_of_ours("Starlette", starlette, ours.STORES),
    _row("Starlette SessionMiddleware, signed cookie", "Starlette", starlette, _signed_cookie),
    _row("starsessions, memory", "Starlette", starlette, _starsessions, _starsessions_sign_in),
    Row(
        "starsessions, Valkey",
        "Starlette",
        partial(_site, starlette, pages(_starsessions_sign_in), partial(_starsessions, database=1)),
        at_once=True,
        database=1,
    ),
    *_rows_of_ours("FastAPI", fastapi, {"memory": None}),
    Row("fastapi-redis-sdk, Valkey", "FastAPI", _redis_sdk, at_once=True, database=2),
    Row("fastapi-alcazaba, memory", "FastAPI", _alcazaba),
    Row("Strongroom, memory", "Litestar", partial(_litestar_ours, "memory")),
    Row("Litestar, client-side cookie", "Litestar", _litestar_cookie),
    Row("Litestar, memory", "Litestar", _litestar_server),
    Row(
        "Litestar, Valkey",
        "Litestar",
        partial(_litestar_server, database=3),
        at_once=True,
        database=3,
    ),
]
