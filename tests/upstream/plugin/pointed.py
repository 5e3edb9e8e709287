"""A pytest plugin: a framework's own session tests, pointed at Strongroom instead.

It is loaded into a process of its own (tests/upstream/test_upstream.py), where POINT names the
framework and RESULTS the file for what came out. The frameworks' test clients do not say where a
request comes from, as browsers do, and call a host that the development policy refuses; here they
say it, and call localhost.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from strongroom import SessionPolicy
from strongroom.core.exchange import RequestFacts
from strongroom.keyfile import generate

POLICY = SessionPolicy.for_development()
KEYS = generate("upstream", 0)
SETTINGS: dict[str, Any] = {"store": "memory://", "keys": KEYS, "policy": POLICY, "sinks": ()}

results: dict[str, bool] = {}
"""Of each test, whether all its variants passed."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Note what came out."""
    report = yield
    name = getattr(item, "originalname", None) or item.name
    results[name] = results.get(name, True) and not report.failed
    return report


def pytest_sessionfinish() -> None:
    """Hand it over."""
    Path(os.environ["RESULTS"]).write_text(json.dumps(results), encoding="utf-8")


def as_browsers_do() -> None:
    """Every request comes from a page of the site itself, which is localhost."""
    made = RequestFacts.__init__

    def init(self: RequestFacts, **facts: Any) -> None:
        said = [pair for pair in facts["headers"] if pair[0] != b"host"]
        facts["headers"] = [*said, (b"host", b"localhost"), (b"sec-fetch-site", b"same-origin")]
        made(self, **facts)

    RequestFacts.__init__ = init  # type: ignore[method-assign]


def as_pytest_was() -> None:
    """The frameworks' conftest files know a pytest before 9.2."""
    from _pytest import monkeypatch

    if not hasattr(monkeypatch, "notset"):
        monkeypatch.notset = monkeypatch.NOTSET  # type: ignore[attr-defined]


def flask() -> None:
    """Every application has the extension from the beginning."""
    from flask import Flask

    from strongroom.integrations.flask import Strongroom

    made = Flask.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        Strongroom(self, **SETTINGS)

    Flask.__init__ = init  # type: ignore[method-assign]


def flask_login() -> None:
    """Flask-Login on our sessions; its tests compare Python's version by a package for that."""
    compared: Any = SimpleNamespace(Version=lambda **parts: tuple(parts.values()))
    sys.modules["semantic_version"] = compared
    flask()


def starlette() -> None:
    """Starlette's name for a session middleware means ours; its settings have no meaning here.

    Its tests answer with the session itself as JSON. Ours is a mapping and no dict, and json is
    told how it becomes one.
    """
    from starlette.middleware import sessions

    from strongroom.integrations.starlette import SessionMiddleware

    class Pointed(SessionMiddleware):
        def __init__(self, app: Any, **_: Any) -> None:
            super().__init__(app, **SETTINGS)

    sessions.SessionMiddleware = Pointed  # type: ignore[assignment, misc]
    json.JSONEncoder.default = lambda self, o: dict(o)  # type: ignore[method-assign]


def aiohttp_session() -> None:
    """A module of that name whose functions are ours; the storage it is given is not used."""
    from aiohttp import web

    from strongroom.integrations.aiohttp import get_session

    async def awaited(request: web.Request) -> Any:
        return get_session(request)

    @web.middleware
    async def passing(request: web.Request, handler: Any) -> Any:
        return await handler(request)

    module: Any = ModuleType("aiohttp_session")
    module.SESSION_KEY = "aiohttp_session"
    module.SimpleCookieStorage = object
    module.get_session = awaited
    module.session_middleware = lambda _storage: passing
    sys.modules["aiohttp_session"] = module


@pytest.fixture
def aiohttp_client() -> Callable[[Any], Awaitable[Any]]:
    """As pytest-aiohttp has it, with our setup called last."""
    from aiohttp.test_utils import TestClient, TestServer

    from strongroom.integrations.aiohttp import setup

    async def serve(app: Any) -> Any:
        setup(app, **SETTINGS)
        client = TestClient(TestServer(app, host="localhost"))
        await client.start_server()
        clients.append(client)
        return client

    return serve


clients: list[Any] = []


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: Any) -> bool | None:
    """Run the coroutines of aiohttp's tests, which belong to no plugin that we have."""
    if os.environ["POINT"] != "aiohttp-session":
        return None
    test = pyfuncitem.obj
    wanted = inspect.signature(test).parameters

    async def run() -> None:
        await test(**{name: pyfuncitem.funcargs[name] for name in wanted})
        while clients:
            await clients.pop().close()

    asyncio.run(run())
    return True


as_pytest_was()
as_browsers_do()
{
    "flask": flask,
    "flask-login": flask_login,
    "starlette": starlette,
    "aiohttp-session": aiohttp_session,
}[os.environ["POINT"]]()
