"""What is particular to Litestar: its verbs, guards, parameters, documents, hooks and errors."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from litestar import Litestar, Request, get, post
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, NotAuthorizedException
from litestar.middleware.session.client_side import CookieBackendConfig
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.openapi.config import OpenAPIConfig
from litestar.response import Response
from litestar.types import Message, Scope

from strongroom import ConfigurationError
from strongroom.integrations.litestar import (
    CurrentSession,
    StrongroomPlugin,
    csrf_context,
    requires_recent_sign_in,
    requires_sign_in,
    session_of,
)
from strongroom.manager import AsyncSessionManager
from strongroom.stores.urls import open_async_store
from strongroom.testing import FrozenClock
from tests.support.browser import Browser
from tests.support.site import KEYS

pytestmark = pytest.mark.anyio

AnyRequest = Request[Any, Any, Any]


@pytest.fixture
async def manager() -> AsyncIterator[AsyncSessionManager]:
    """A manager of its own for an application of its own."""
    store = open_async_store("memory://")
    manager = AsyncSessionManager(store, keys=KEYS, clock=FrozenClock(), sinks=[])
    yield manager
    await manager.stop()


@post("/sign-in", status_code=200)
async def sign_in(session: CurrentSession) -> None:
    """Sign alice in."""
    await session.sign_in("alice")


@get("/me")
async def me(session: CurrentSession) -> list[Any]:
    """Who it is, and what is kept."""
    return [session.subject, dict(session)]


def browsing(manager: AsyncSessionManager, *handlers: Any, **settings: Any) -> Browser:
    """A browser for an application of these handlers."""
    app = Litestar(
        [sign_in, me, *handlers],
        plugins=[StrongroomPlugin(manager=manager)],
        logging_config=None,
        **settings,
    )
    return Browser(app, manager.clock)


class Cart(msgspec.Struct):
    """What `set_session` may be given, besides a dict."""

    items: list[str]


async def test_litestars_own_verbs_work_on_the_session(manager: AsyncSessionManager):
    """`request.session`, `set_session` with a dict or a struct, `get_session_id` (drop-in)."""

    @post("/write", status_code=200)
    async def write(request: AnyRequest) -> None:
        request.session["n"] = request.session.get("n", 0) + 1

    @post("/replace", status_code=200)
    async def replace(request: AnyRequest) -> None:
        request.set_session({"only": [1, 2]})

    @post("/struct", status_code=200)
    async def struct(request: AnyRequest) -> None:
        request.set_session(Cart(["book"]))

    browser = browsing(manager, write, replace, struct)
    await browser.post("/write")
    await browser.post("/write")
    assert (await browser.goto("/me")).json == [None, {"n": 2}]
    await browser.post("/replace")
    assert (await browser.goto("/me")).json == [None, {"only": [1, 2]}]
    await browser.post("/struct")
    assert (await browser.goto("/me")).json == [None, {"items": ["book"]}]
    await browser.post("/sign-in")
    await browser.post("/replace")
    assert (await browser.goto("/me")).json == ["alice", {"only": [1, 2]}]


@pytest.mark.parametrize("status", [200, 500])
async def test_clear_session_signs_out_whatever_the_response(
    manager: AsyncSessionManager, status: int
):
    """It is how Litestar's users sign people out: the session ends on the server (P14)."""

    @post("/bye", status_code=200)
    async def bye(request: AnyRequest) -> Response[None]:
        request.clear_session()
        return Response(None, status_code=status)

    browser = browsing(manager, bye)
    await browser.post("/sign-in")
    copy = browser.jar.snapshot()
    assert (await browser.post("/bye")).status == status
    assert len(browser.jar) == 0
    browser.jar.restore(copy)
    assert (await browser.goto("/me")).json == [None, {}]


async def test_guards_ask_for_what_a_route_needs(manager: AsyncSessionManager):
    """People go to the sign-in page, programs get 401 (P25)."""

    @get("/account", guards=[requires_sign_in])
    async def account(session: CurrentSession) -> str:
        return str(session.subject)

    @get("/transfer", guards=[requires_recent_sign_in(max_age=timedelta(minutes=5))])
    async def transfer() -> str:
        return "sent"

    @get("/key", guards=[requires_recent_sign_in(amr={"otp": timedelta(minutes=1)})])
    async def key() -> str:
        return "done"

    browser = browsing(manager, account, transfer, key)
    for path in ("/account", "/transfer"):
        response = await browser.goto(path)
        assert response.header("location") == f"/sign-in?next=%2F{path[1:]}"
        assert (await browser.fetch(path)).status == 401
    await browser.post("/sign-in")
    assert (await browser.goto("/account")).text == "alice"
    assert (await browser.goto("/transfer")).status == 200
    manager.clock.advance(301_000)  # type: ignore[attr-defined]
    response = await browser.fetch("/transfer")
    assert (response.status, response.json["reason"]) == (401, "too_old")
    assert (await browser.fetch("/key")).json["amr_max_age"] == {"otp": 60}


async def test_a_sync_handler_in_a_thread_needs_no_await(manager: AsyncSessionManager):
    """The call has done its work when it returns."""
    threads: list[int] = []

    @post("/def", sync_to_thread=True, status_code=200)
    def plain(session: CurrentSession) -> int:
        threads.append(threading.get_ident())
        with session.authenticating("alice"):
            session.sign_in("alice")
        return len(session.sessions().result())

    browser = browsing(manager, plain)
    assert (await browser.post("/def")).json == 1
    assert threads != [threading.get_ident()]
    assert (await browser.goto("/me")).json == ["alice", {}]


async def test_exceptions_are_responses_like_any_other(manager: AsyncSessionManager):
    """Data is saved with a 4xx, and a 5xx leaves nobody signed in (E1, P14)."""

    @post("/refused", status_code=200)
    async def refused(session: CurrentSession) -> None:
        session["seen"] = True
        raise NotAuthorizedException

    @post("/fails", status_code=200)
    async def fails(request: AnyRequest, session: CurrentSession) -> None:
        await session.sign_in("bob")
        if request.query_params["how"] == "503":
            raise HTTPException(status_code=503)
        raise RuntimeError("a bug")

    browser = browsing(manager, refused, fails)
    assert (await browser.post("/refused")).status == 401
    for how in ("503", "bug"):
        assert (await browser.post(f"/fails?how={how}")).status >= 500
    assert (await browser.goto("/me")).json == [None, {"seen": True}]
    assert await manager.sessions_of("bob") == []


async def test_before_send_sees_the_whole_response_and_the_session(manager: AsyncSessionManager):
    """The hook runs outside of the middleware: what it sees is what is sent."""
    seen: list[Any] = []

    async def before_send(message: Message, scope: Scope) -> None:
        if message["type"] == "http.response.start":
            cookies = [value for name, value in message["headers"] if name == b"set-cookie"]
            seen.append((len(cookies), session_of(ASGIConnection(scope)).subject))

    browser = browsing(manager, before_send=[before_send])
    await browser.post("/sign-in")
    await browser.goto("/me")
    assert seen == [(1, "alice"), (0, "alice")]


async def test_the_openapi_document_names_the_cookie(manager: AsyncSessionManager):
    """Next to what the application documents itself."""

    @get("/private", guards=[requires_sign_in], security=[{"session": []}])
    async def private() -> None:
        """For those who are signed in."""

    config = OpenAPIConfig(title="Shop", version="1")
    app = Litestar([private], plugins=[StrongroomPlugin(manager=manager)], openapi_config=config)
    document = app.openapi_schema.to_schema()
    scheme = document["components"]["securitySchemes"]["session"]
    assert (scheme["type"], scheme["in"]) == ("apiKey", "cookie")
    assert scheme["name"] == manager.context.cookie.name
    assert document["paths"]["/private"]["get"]["security"] == [{"session": []}]
    assert not config.components.security_schemes, "the application's own object is left alone"  # type: ignore[union-attr]


async def test_templates_get_a_form_token(manager: AsyncSessionManager):
    """Safe HTML, and other than the last time (P19)."""

    @get("/form", media_type="text/html")
    async def form(request: AnyRequest) -> str:
        context = csrf_context(request)
        assert hasattr(context["csrf_input"](), "__html__")
        return str(context["csrf_input"]())

    browser = browsing(manager, form)
    assert (await browser.goto("/form")).text.startswith('<input type="hidden" name="csrf_token"')


# What newcomers do first.


async def test_a_handler_without_the_plugin_is_told_what_to_do():
    """A sentence, not an AttributeError (STYLE)."""

    @get("/")
    async def page(request: AnyRequest) -> None:
        session_of(request)

    told: list[Exception] = []

    async def hear(error: Exception, scope: Scope) -> None:
        told.append(error)

    app = Litestar([page], logging_config=None, after_exception=[hear])
    assert (await Browser(app, lambda: 0).goto("/")).status == 500
    assert isinstance(told[0], ConfigurationError)
    assert "plugins=[StrongroomPlugin(" in str(told[0])


@pytest.mark.parametrize(
    "theirs",
    [CookieBackendConfig(secret=bytes(16)), ServerSideSessionConfig()],
    ids=["cookie", "server"],
)
async def test_two_session_middlewares_are_refused(manager: AsyncSessionManager, theirs: Any):
    """One would lose what the other did (STYLE)."""
    with pytest.raises(ConfigurationError, match=r"Take config\.middleware out"):
        browsing(manager, middleware=[theirs.middleware])


def test_missing_keys_are_told_when_the_application_is_made():
    """Not at the first request (STYLE)."""
    with pytest.raises(ConfigurationError, match="keys"):
        StrongroomPlugin(store="memory://")
