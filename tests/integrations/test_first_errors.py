"""What a newcomer meets first, in every framework: each mistake is told with what solves it (P18).

One row for each framework, one column for each mistake; a cell makes the mistake and returns the
words that its author reads, on the screen or in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from strongroom import ConfigurationError
from strongroom.integrations import asgi, wsgi
from tests.support.browser import Browser
from tests.support.kinds.transports import wsgi_as_asgi
from tests.support.site import KEYS
from tests.support.wsgi import WsgiBrowser

HOW: dict[str, Any] = {"store": "memory://", "keys": KEYS, "sinks": ()}
WITHOUT_KEYS: dict[str, Any] = {"store": "memory://"}


def now() -> int:
    """The time does not matter here."""
    return 0


def told_by(make: Callable[[], object]) -> str:
    """What the error says that this raises."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    return str(caught.value)


def escaped(app: Any, log: pytest.LogCaptureFixture, origin: str = "https://app.example") -> str:
    """What a request of a browser leads to: the error that reaches the server, and the log."""

    async def visit() -> str:
        browser = Browser(app, now, origin=origin)
        answer = await browser.goto("/")
        return str(answer.error or "")

    return asyncio.run(visit()) + log.text


# Starlette and FastAPI.


def starlette_app(framework: str, *middleware: Any) -> Any:
    from fastapi import FastAPI
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse

    from strongroom.integrations.starlette import session_of

    async def page(request: Request) -> PlainTextResponse:
        session_of(request)["cart"] = 1
        return PlainTextResponse("")

    app: Any = FastAPI() if framework == "fastapi" else Starlette()
    app.add_route("/", page)
    for each, how in middleware:
        app.add_middleware(each, **how)
    return app


def theirs() -> Any:
    from starlette.middleware.sessions import SessionMiddleware

    return SessionMiddleware, {"secret_key": "of another"}


def ours(**how: Any) -> Any:
    return asgi.SessionMiddleware, how or HOW


# One function for each framework and mistake.

Cell = Callable[[pytest.LogCaptureFixture], str]


def asgi_cells(framework: str) -> dict[str, Cell]:
    """Frameworks whose middleware is added to the application."""
    return {
        "forgotten": lambda log: escaped(starlette_app(framework), log),
        "hidden": lambda log: escaped(starlette_app(framework, theirs(), ours()), log),
        "enclosed": lambda log: escaped(starlette_app(framework, ours(), theirs()), log),
        "no keys": lambda log: escaped(starlette_app(framework, ours(**WITHOUT_KEYS)), log),
        "http": lambda log: escaped(
            starlette_app(framework, ours()), log, origin="http://app.example"
        ),
    }


def litestar_cells() -> dict[str, Cell]:
    from litestar import Litestar, Request, get
    from litestar.middleware.session.server_side import ServerSideSessionConfig

    from strongroom.integrations.litestar import StrongroomPlugin, session_of

    @get("/")
    async def page(request: Request[Any, Any, Any]) -> str:
        session_of(request)["cart"] = 1
        return ""

    def app(**how: Any) -> Any:
        return Litestar([page], openapi_config=None, logging_config=None, **how)

    def beside() -> Any:
        middleware = ServerSideSessionConfig().middleware
        return app(plugins=[StrongroomPlugin(**HOW)], middleware=[middleware])

    async def direct() -> str:
        from litestar.testing import RequestFactory

        return told_by(lambda: session_of(RequestFactory().get("/")))

    return {
        "forgotten": lambda _: asyncio.run(direct()),
        "hidden": lambda _: told_by(beside),
        "no keys": lambda _: told_by(lambda: StrongroomPlugin(**WITHOUT_KEYS)),
        "http": lambda log: escaped(
            app(plugins=[StrongroomPlugin(**HOW)]), log, origin="http://app.example"
        ),
    }


def flask_cells() -> dict[str, Cell]:
    from flask import Flask
    from flask.sessions import SecureCookieSessionInterface

    from strongroom.integrations.flask import Strongroom, current_session

    def app(extended: bool = True, **how: Any) -> Any:
        app = Flask("newcomer")
        app.config["PROPAGATE_EXCEPTIONS"] = True
        if extended:
            Strongroom(app, **(how or HOW))

        @app.get("/")
        def page() -> str:
            current_session["cart"] = 1
            return ""

        return app

    def replaced() -> Any:
        made = app()
        made.session_interface = SecureCookieSessionInterface()
        return made

    def over_http(log: pytest.LogCaptureFixture) -> str:
        made = app()
        WsgiBrowser(made, scheme="http").get("/")
        made.extensions["strongroom"].serving.stop()
        return log.text

    return {
        "forgotten": lambda log: escaped(wsgi_as_asgi(app(extended=False)), log),
        "hidden": lambda log: escaped(wsgi_as_asgi(replaced()), log),
        "no keys": lambda _: told_by(lambda: app(**WITHOUT_KEYS)),
        "http": over_http,
    }


def quart_cells() -> dict[str, Cell]:
    from quart import Quart
    from quart.sessions import SecureCookieSessionInterface

    from strongroom.integrations.quart import Strongroom, current_session

    def app(extended: bool = True, **how: Any) -> Any:
        app = Quart("newcomer")
        app.config["PROPAGATE_EXCEPTIONS"] = True
        if extended:
            Strongroom(app, **(how or HOW))

        @app.get("/")
        async def page() -> str:
            current_session["cart"] = 1
            return ""

        return app

    def replaced() -> Any:
        made = app()
        made.session_interface = SecureCookieSessionInterface()
        return made

    return {
        "forgotten": lambda log: escaped(app(extended=False), log),
        "hidden": lambda log: escaped(replaced(), log),
        "no keys": lambda _: told_by(lambda: app(**WITHOUT_KEYS)),
        "http": lambda log: escaped(app(), log, origin="http://app.example"),
    }


def django_cells() -> dict[str, Cell]:
    from django.http import HttpRequest
    from django.test import override_settings

    from strongroom.integrations.django import session_of
    from strongroom.integrations.django.checks import MIDDLEWARE, check_settings
    from tests.support.django_project import OURS

    authentication = "django.contrib.auth.middleware.AuthenticationMiddleware"

    def checked(**settings: Any) -> str:
        with override_settings(**settings):
            return " ".join(f"{each.msg} {each.hint}" for each in check_settings())

    def over_http(log: pytest.LogCaptureFixture) -> str:
        from tests.support.site import Site

        async def visit() -> None:
            site = Site("django-wsgi", "memory://")
            await site.browser(origin="http://app.example").goto("/set?cart=1")
            await site.manager.stop()

        asyncio.run(visit())
        return log.text

    return {
        "forgotten": lambda _: told_by(lambda: session_of(HttpRequest())) + checked(MIDDLEWARE=[]),
        "hidden": lambda _: checked(
            MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"]
        ),
        "enclosed": lambda _: checked(MIDDLEWARE=[authentication, MIDDLEWARE], SESSION_ENGINE=OURS),
        "no keys": lambda _: checked(STRONGROOM=WITHOUT_KEYS),
        "http": over_http,
    }


def aiohttp_cells() -> dict[str, Cell]:
    from aiohttp import web
    from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

    from strongroom.integrations.aiohttp import get_session, setup

    async def page(request: web.Request) -> web.Response:
        get_session(request)["cart"] = 1
        return web.Response()

    @web.middleware
    async def in_front(request: web.Request, handler: Any) -> Any:
        get_session(request)
        return await handler(request)

    async def visit(log: pytest.LogCaptureFixture, *middlewares: Any) -> str:
        app = web.Application()
        app.router.add_get("/", page)
        setup(app, **HOW)
        for each in middlewares:
            app.middlewares.insert(0, each)
        async with TestClient(TestServer(app)) as client:
            await client.get("/")
        return log.text

    async def unset() -> str:
        return told_by(lambda: get_session(make_mocked_request("GET", "/")))

    return {
        "forgotten": lambda _: asyncio.run(unset()),
        "hidden": lambda log: asyncio.run(visit(log, in_front)),
        "no keys": lambda _: told_by(lambda: setup(web.Application(), **WITHOUT_KEYS)),
        "http": lambda log: asyncio.run(visit(log)),
    }


def wsgi_cells() -> dict[str, Cell]:
    def page(environ: Any, start_response: Any) -> Any:
        wsgi.session_of(environ)["cart"] = 1
        start_response("200 OK", [])
        return [b""]

    def over_http(log: pytest.LogCaptureFixture) -> str:
        middleware = wsgi.SessionMiddleware(page, **HOW)
        WsgiBrowser(middleware, scheme="http").get("/")
        middleware.serving.stop()
        return log.text

    return {
        "forgotten": lambda log: escaped(wsgi_as_asgi(page), log),
        "no keys": lambda _: told_by(lambda: wsgi.SessionMiddleware(page, **WITHOUT_KEYS)),
        "http": over_http,
    }


ROWS: dict[str, Callable[[], dict[str, Cell]]] = {
    "starlette": lambda: asgi_cells("starlette"),
    "fastapi": lambda: asgi_cells("fastapi"),
    "litestar": litestar_cells,
    "flask": flask_cells,
    "quart": quart_cells,
    "django": django_cells,
    "aiohttp": aiohttp_cells,
    "wsgi": wsgi_cells,
}
SOLVED_BY = {
    "forgotten": {
        "starlette": "Add it last, so that it runs first: app.add_middleware(SessionMiddleware",
        "fastapi": "Add it last, so that it runs first: app.add_middleware(SessionMiddleware",
        "litestar": "Litestar(..., plugins=[StrongroomPlugin(store=..., keys=...)])",
        "flask": "Create the extension last: Strongroom(app, store=..., keys=...)",
        "quart": "Create the extension last: Strongroom(app, store=..., keys=...)",
        "django": "Add 'strongroom.integrations.django.middleware.SessionMiddleware' where",
        "aiohttp": "Call strongroom.integrations.aiohttp.setup(app, store=..., keys=...) last",
        "wsgi": "Wrap the whole application: app = SessionMiddleware(app, store=..., keys=...)",
    },
    "hidden": {
        "starlette": "Add it last, so that it runs first: app.add_middleware(SessionMiddleware",
        "fastapi": "Add it last, so that it runs first: app.add_middleware(SessionMiddleware",
        "litestar": "Take config.middleware out of middleware=[...]",
        "flask": "Take the other session extension out",
        "quart": "Take the other session extension out",
        "django": "Replace it by 'strongroom.integrations.django.middleware.SessionMiddleware'",
        "aiohttp": "Call strongroom.integrations.aiohttp.setup(app, store=..., keys=...) last",
    },
    "enclosed": {
        "starlette": "Take the other session middleware out",
        "fastapi": "Take the other session middleware out",
        "django": "Move 'strongroom.integrations.django.middleware.SessionMiddleware' above it",
    },
    "no keys": dict.fromkeys(ROWS, "strongroom keys generate var/strongroom.keys"),
    "http": dict.fromkeys(ROWS, "SessionPolicy.for_development()"),
}
"""What the words must hold, by mistake and framework: the thing to write."""


@pytest.mark.parametrize("framework", ROWS)
@pytest.mark.parametrize("mistake", SOLVED_BY)
def test_a_first_error_is_solved_by_what_it_says(
    mistake: str,
    framework: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forgetting the middleware, putting it in the wrong place, no keys, http in production."""
    monkeypatch.delenv("STRONGROOM_KEYS", raising=False)
    caplog.set_level(logging.WARNING)
    wanted = SOLVED_BY[mistake].get(framework)
    cells = ROWS[framework]()
    if wanted is None:
        assert mistake not in cells
        return
    assert wanted in cells[mistake](caplog)
