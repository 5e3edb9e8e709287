"""The peers, each used as its own documentation says."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse

from .scenarios import Peer
from .web import AiohttpSite, AsgiSite, Gates, WsgiSite

HEX = "0123456789abcdef" * 4


def starsessions(_redis: str) -> Peer:
    """starsessions in memory, with its autoload middleware."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route
    from starsessions import (
        InMemoryStore,
        SessionAutoloadMiddleware,
        SessionMiddleware,
        regenerate_session_id,
    )

    gates = Gates()

    async def get(request: Request) -> Response:
        told = {key: value for key, value in request.session.items() if key != "__metadata__"}
        await gates.hold(request.query_params.get("gate"))
        return PlainTextResponse(json.dumps(told, default=str))

    async def put(request: Request) -> Response:
        request.session[request.query_params["key"]] = request.query_params["value"]
        await gates.hold(request.query_params.get("gate"))
        return PlainTextResponse("ok")

    async def login(request: Request) -> Response:
        request.session["user"] = request.query_params["user"]
        regenerate_session_id(request)
        return PlainTextResponse("ok")

    async def rotate(request: Request) -> Response:
        regenerate_session_id(request)
        return PlainTextResponse("ok")

    async def logout(request: Request) -> Response:
        request.session.clear()
        return PlainTextResponse("ok")

    app = Starlette(routes=_routes(Route, get, put, login, rotate, logout))
    app.add_middleware(SessionAutoloadMiddleware)
    app.add_middleware(SessionMiddleware, store=InMemoryStore(), lifetime=3600, rolling=False)
    return Peer(AsgiSite(app), gates, cookie="session", made_up=HEX)


def _routes(route: Any, get: Any, put: Any, login: Any, rotate: Any, logout: Any) -> list[Any]:
    return [
        route("/get", get),
        *(
            route(path, page, methods=["POST"])
            for path, page in (
                ("/set", put),
                ("/login", login),
                ("/rotate", rotate),
                ("/logout", logout),
            )
        ),
    ]


def fastapi_redis_sdk(redis: str) -> Peer:
    """fastapi-redis-sdk's sessions, on the Valkey server."""
    import os

    os.environ["REDIS_URL"] = redis
    from redis_fastapi import FastAPIRedis

    gates = Gates()
    app = FastAPI()
    FastAPIRedis(app).lifespan().sessions(principal_keys=["user"])

    @app.get("/get")
    async def get(request: Request) -> PlainTextResponse:
        told = dict(request.session)
        await gates.hold(request.query_params.get("gate"))
        return PlainTextResponse(json.dumps(told))

    @app.post("/set")
    async def put(request: Request) -> PlainTextResponse:
        request.session[request.query_params["key"]] = request.query_params["value"]
        await gates.hold(request.query_params.get("gate"))
        return PlainTextResponse("ok")

    @app.post("/login")
    async def login(request: Request) -> PlainTextResponse:
        request.session["user"] = request.query_params["user"]
        return PlainTextResponse("ok")

    @app.post("/rotate")
    async def rotate(request: Request) -> PlainTextResponse:
        user = request.session["user"]
        request.session["user"] = f"{user} "
        return PlainTextResponse("ok")

    @app.post("/logout")
    async def logout(request: Request) -> PlainTextResponse:
        request.session.clear()
        return PlainTextResponse("ok")

    return Peer(_WithLifespan(app), gates, cookie="session", made_up=HEX)


class _WithLifespan(AsgiSite):
    """Starts the application's lifespan before its first request."""

    _started = False

    async def ask(self, method: str, path: str, cookies: dict[str, str]) -> Any:
        """One request."""
        if not self._started:
            self._started = True
            self._context = self.app.router.lifespan_context(self.app)
            await self._context.__aenter__()
        return await super().ask(method, path, cookies)


def fastapi_alcazaba(_redis: str) -> Peer:
    """fastapi-alcazaba's server sessions, in memory."""
    from fastapi_alcazaba import Cache
    from fastapi_alcazaba.backends.inmemory import InMemoryBackend
    from fastapi_alcazaba.sessions import ServerSessionMiddleware, clear_session, rotate_session

    gates = Gates()
    app = FastAPI()
    app.add_middleware(
        ServerSessionMiddleware,
        cache=Cache(InMemoryBackend(), signing_key="k" * 32),
        max_age=8 * 3600,
        idle_timeout=1800,
    )

    @app.get("/get")
    async def get(request: Request) -> PlainTextResponse:
        told = dict(request.session)
        await gates.hold(request.query_params.get("gate"))
        return PlainTextResponse(json.dumps(told))

    @app.post("/set")
    async def put(request: Request) -> PlainTextResponse:
        request.session[request.query_params["key"]] = request.query_params["value"]
        await gates.hold(request.query_params.get("gate"))
        return PlainTextResponse("ok")

    @app.post("/login")
    async def login(request: Request) -> PlainTextResponse:
        request.session["user"] = request.query_params["user"]
        rotate_session(request)
        return PlainTextResponse("ok")

    @app.post("/rotate")
    async def rotate(request: Request) -> PlainTextResponse:
        rotate_session(request)
        return PlainTextResponse("ok")

    @app.post("/logout")
    async def logout(request: Request) -> PlainTextResponse:
        clear_session(request)
        return PlainTextResponse("ok")

    return Peer(AsgiSite(app), gates, cookie="session", made_up="a" * 43)


def litestar(_redis: str) -> Peer:
    """Litestar's server-side sessions, in memory. It has no call that replaces the id."""
    from litestar import Litestar, get, post
    from litestar.middleware.session.server_side import ServerSideSessionConfig

    gates = Gates()

    @get("/get", sync_to_thread=False)
    async def read(request: Request[Any, Any, Any], gate: str | None = None) -> dict[str, Any]:
        told = dict(request.session)
        await gates.hold(gate)
        return told

    @post("/set")
    async def put(
        request: Request[Any, Any, Any], key: str, value: str, gate: str | None = None
    ) -> str:
        request.session[key] = value
        await gates.hold(gate)
        return "ok"

    @post("/login")
    async def login(request: Request[Any, Any, Any], user: str) -> str:
        request.session["user"] = user
        return "ok"

    @post("/logout")
    async def logout(request: Request[Any, Any, Any]) -> str:
        request.clear_session()
        return "ok"

    app = Litestar([read, put, login, logout], middleware=[ServerSideSessionConfig().middleware])
    return Peer(AsgiSite(app), gates, cookie="session", made_up=HEX, rotates=False)


def flask_session(_redis: str) -> Peer:
    """Flask-Session on files, as installed."""
    from cachelib import FileSystemCache
    from flask import Flask, request, session
    from flask_session import Session

    gates = Gates()
    app = Flask("races")
    app.config.update(
        SESSION_TYPE="cachelib",
        SESSION_CACHELIB=FileSystemCache(tempfile.mkdtemp(prefix="races-")),
    )
    Session(app)
    interface: Any = app.session_interface

    @app.get("/get")
    def get() -> str:
        told = dict(session)
        told.pop("_permanent", None)
        gates.hold_thread(request.args.get("gate"))
        return json.dumps(told)

    @app.post("/set")
    def put() -> str:
        session[request.args["key"]] = request.args["value"]
        gates.hold_thread(request.args.get("gate"))
        return "ok"

    @app.post("/login")
    def login() -> str:
        session["user"] = request.args["user"]
        interface.regenerate(session)
        return "ok"

    @app.post("/rotate")
    def rotate() -> str:
        interface.regenerate(session)
        return "ok"

    @app.post("/logout")
    def logout() -> str:
        session.clear()
        return "ok"

    return Peer(WsgiSite(app), gates, cookie="session", made_up=HEX[:43])


def beaker(_redis: str) -> Peer:
    """Beaker in memory, with a secret."""
    from beaker.middleware import SessionMiddleware
    from werkzeug.wrappers import Request, Response

    gates = Gates()

    def app(environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        session = environ["beaker.session"]
        told = {
            key: value
            for key, value in session.items()
            if key not in ("_accessed_time", "_creation_time", "_id")
        }
        match request.path:
            case "/set":
                session[request.args["key"]] = request.args["value"]
            case "/login":
                session["user"] = request.args["user"]
                session.regenerate_id()
            case "/rotate":
                session.regenerate_id()
            case "/logout":
                session.delete()
        gates.hold_thread(request.args.get("gate"))
        if request.path != "/logout":
            session.save()
        return Response(json.dumps(told))(environ, start_response)

    wrapped = SessionMiddleware(
        app, {"session.type": "memory", "session.key": "session", "session.secret": "s" * 32}
    )
    return Peer(WsgiSite(wrapped), gates, cookie="session", made_up=HEX[:32])


def aiohttp_session(_redis: str) -> Peer:
    """aiohttp-session, on the Valkey server."""
    import redis.asyncio
    from aiohttp import web
    from aiohttp_session import get_session, new_session, setup
    from aiohttp_session.redis_storage import RedisStorage

    gates = Gates()

    async def get(request: web.Request) -> web.Response:
        session = await get_session(request)
        told = dict(session)
        await gates.hold(request.query.get("gate"))
        return web.json_response(told)

    async def put(request: web.Request) -> web.Response:
        session = await get_session(request)
        session[request.query["key"]] = request.query["value"]
        await gates.hold(request.query.get("gate"))
        return web.Response(text="ok")

    async def login(request: web.Request) -> web.Response:
        session = await new_session(request)
        session["user"] = request.query["user"]
        return web.Response(text="ok")

    async def rotate(request: web.Request) -> web.Response:
        old = dict(await get_session(request))
        (await new_session(request)).update(old)
        return web.Response(text="ok")

    async def logout(request: web.Request) -> web.Response:
        (await get_session(request)).invalidate()
        return web.Response(text="ok")

    app = web.Application()
    setup(app, RedisStorage(redis.asyncio.from_url(_redis), cookie_name="session"))
    app.add_routes(
        [
            web.get("/get", get),
            web.post("/set", put),
            web.post("/login", login),
            web.post("/rotate", rotate),
            web.post("/logout", logout),
        ]
    )
    return Peer(AiohttpSite(app), gates, cookie="session", made_up=HEX[:32])


def django_engine(engine: str) -> Callable[[str], Peer]:
    """One of Django's engines. Each runs in a process of its own: settings are global."""

    def make(_redis: str) -> Peer:
        import django
        from django.conf import settings

        folder = tempfile.mkdtemp(prefix="races-")
        settings.configure(
            ALLOWED_HOSTS=["*"],
            SECRET_KEY="s" * 50,
            ROOT_URLCONF=__name__,
            INSTALLED_APPS=["django.contrib.sessions"],
            MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
            SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}",
            SESSION_COOKIE_SECURE=True,
            DATABASES={
                "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{folder}/db.sqlite3"}
            },
            CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
        )
        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        from django.core.wsgi import get_wsgi_application

        return Peer(WsgiSite(get_wsgi_application()), GATES, cookie="sessionid", made_up=HEX[:32])

    return make


GATES = Gates()


def _django_pages() -> list[Any]:
    from django.http import HttpRequest, HttpResponse
    from django.urls import path

    def get(request: HttpRequest) -> HttpResponse:
        told = dict(request.session.items())
        GATES.hold_thread(request.GET.get("gate"))
        return HttpResponse(json.dumps(told))

    def put(request: HttpRequest) -> HttpResponse:
        request.session[request.GET["key"]] = request.GET["value"]
        GATES.hold_thread(request.GET.get("gate"))
        return HttpResponse("ok")

    def login(request: HttpRequest) -> HttpResponse:
        request.session["user"] = request.GET["user"]
        request.session.cycle_key()
        return HttpResponse("ok")

    def rotate(request: HttpRequest) -> HttpResponse:
        request.session.cycle_key()
        return HttpResponse("ok")

    def logout(request: HttpRequest) -> HttpResponse:
        request.session.flush()
        return HttpResponse("ok")

    pages = {"get": get, "set": put, "login": login, "rotate": rotate, "logout": logout}
    return [path(name, page) for name, page in pages.items()]


def __getattr__(name: str) -> Any:
    if name == "urlpatterns":
        return _django_pages()
    raise AttributeError(name)


PEERS: dict[str, Callable[[str], Peer]] = {
    "starsessions, memory": starsessions,
    "fastapi-redis-sdk, Valkey": fastapi_redis_sdk,
    "fastapi-alcazaba, memory": fastapi_alcazaba,
    "Litestar, memory": litestar,
    "Flask-Session, files": flask_session,
    "Beaker, memory": beaker,
    "aiohttp-session, Valkey": aiohttp_session,
    "Django, db": django_engine("db"),
    "Django, cache": django_engine("cache"),
    "Django, cached_db": django_engine("cached_db"),
}
