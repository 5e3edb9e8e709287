"""What is particular to a framework: lifespans, mounts, threads, handlers, other people's code."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from authlib.integrations.base_client.errors import (  # type: ignore[import-untyped]
    MismatchingStateError,
)
from authlib.integrations.starlette_client import OAuth  # type: ignore[import-untyped]
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.sessions import SessionMiddleware as StarlettesOwn
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from strongroom import ConfigurationError, SessionPolicy
from strongroom.core.errors import ActionNotAwaited, SignInRequired
from strongroom.core.events import SessionCreated
from strongroom.integrations.fastapi import (
    CurrentSession,
    SessionMiddleware,
    document_session,
    require_recent_sign_in,
    require_sign_in,
)
from strongroom.integrations.starlette import csrf_context, session_of
from strongroom.keyfile import generate
from strongroom.manager import AsyncSessionManager
from strongroom.stores.urls import open_async_store
from strongroom.testing import FrozenClock
from strongroom.testing.clock import START
from tests.support.browser import Browser
from tests.support.site import KEYS, Everything

pytestmark = pytest.mark.anyio


@pytest.fixture
async def manager(everything: Everything) -> AsyncIterator[AsyncSessionManager]:
    """A manager of its own for an application of its own."""
    events: list[Any] = []
    store = open_async_store("memory://")
    manager = AsyncSessionManager(store, keys=KEYS, clock=FrozenClock(), sinks=[events.append])
    manager.events = events  # type: ignore[attr-defined]
    yield manager
    await manager.stop()
    assert not everything.complaints


def browsing(app: Any, manager: AsyncSessionManager) -> Browser:
    """A browser for an application."""
    return Browser(app, manager.clock)


def fast_api(manager: AsyncSessionManager) -> FastAPI:
    """A FastAPI application with our middleware."""
    app = FastAPI()
    app.add_middleware(SessionMiddleware, manager=manager)
    return app


# Actions that nobody awaits.


async def test_an_action_that_is_not_awaited_is_told_in_a_sentence(manager: AsyncSessionManager):
    """It did not happen, and the developer is told what to write (STYLE)."""
    app = fast_api(manager)

    @app.post("/sign-in")
    async def sign_in(session: CurrentSession) -> str:
        session.sign_in("alice")
        return "welcome"

    browser = browsing(app, manager)
    response = await browser.post("/sign-in")
    assert response.status == 500
    assert isinstance(response.error, ActionNotAwaited)
    assert "await session.sign_in(...)" in str(response.error)
    assert len(browser.jar) == 0
    assert await manager.sessions_of("alice") == []


async def test_the_result_of_an_action_that_is_not_awaited_is_told(manager: AsyncSessionManager):
    """`.result()` and plain `with` belong to `def` endpoints (STYLE)."""
    app = fast_api(manager)

    @app.post("/result")
    async def result(session: CurrentSession) -> int:
        return session.sign_out_others().result()

    @app.post("/with")
    async def plain_with(session: CurrentSession) -> None:
        with session.authenticating("alice"):
            pass

    browser = browsing(app, manager)
    for path in ("/result", "/with"):
        response = await browser.post(path)
        assert isinstance(response.error, ActionNotAwaited), path


async def test_an_action_that_is_not_awaited_after_the_response_is_told_too(
    manager: AsyncSessionManager,
):
    """In a background task or a WebSocket: the server's log has the sentence (STYLE)."""
    app = fast_api(manager)

    async def later(session: Any) -> None:
        session.save()

    @app.post("/start")
    async def start(session: CurrentSession, tasks: BackgroundTasks) -> None:
        session["n"] = 1
        tasks.add_task(later, session)

    @app.websocket("/ws")
    async def talk(socket: WebSocket, session: CurrentSession) -> None:
        await socket.accept()
        session["m"] = 1
        session.save()

    browser = browsing(app, manager)
    response = await browser.post("/start")
    assert response.status == 200
    assert isinstance(response.error, ActionNotAwaited)
    socket = browser.socket("/ws")
    await socket.closed()
    assert isinstance(socket.error, ActionNotAwaited)


async def test_an_error_of_the_application_is_not_hidden_by_ours(manager: AsyncSessionManager):
    """It raised before it could have awaited anything (STYLE)."""
    app = fast_api(manager)

    @app.post("/fails")
    async def fails(session: CurrentSession) -> None:
        session.sign_out()
        raise KeyError("a bug")

    response = await browsing(app, manager).post("/fails")
    assert isinstance(response.error, KeyError)


# Plain `def`, as people write it.


async def test_a_plain_def_endpoint_works_without_any_await(manager: AsyncSessionManager):
    """The call has done its work when it returns; `with` is plain too (DESIGN 6)."""
    app = fast_api(manager)
    threads: list[int] = []

    @app.post("/sign-in")
    def sign_in(session: CurrentSession) -> int:
        threads.append(threading.get_ident())
        with session.authenticating("alice"):
            session.sign_in("alice", amr=["pwd", "otp"])
        session["cart"] = ["book"]
        assert session.save().result() is True
        return len(session.sessions().result())

    @app.get("/me")
    def me(session: CurrentSession) -> Any:
        return [session.subject, session.acr, session["cart"]]

    @app.post("/sign-out")
    def sign_out(session: CurrentSession) -> None:
        session.sign_out()

    browser = browsing(app, manager)
    assert (await browser.post("/sign-in")).json == 1
    assert threads != [threading.get_ident()]
    assert (await browser.goto("/me")).json == ["alice", "aal2", ["book"]]
    await browser.post("/sign-out")
    assert len(browser.jar) == 0


async def test_a_failed_check_in_a_plain_def_is_recorded(manager: AsyncSessionManager):
    """Also where the check raises (P15)."""
    app = fast_api(manager)

    @app.post("/sign-in")
    def sign_in(session: CurrentSession) -> None:
        with session.authenticating("alice"):
            raise HTTPException(401)

    assert (await browsing(app, manager).post("/sign-in")).status == 401
    assert [each["event"] for each in await manager.history("alice")] == ["authn_login_fail"]


async def test_an_error_in_a_thread_is_the_same_error(manager: AsyncSessionManager):
    """What an action raises arrives where it was called (E1)."""
    app = fast_api(manager)

    @app.post("/elevate")
    def elevate(session: CurrentSession) -> str:
        try:
            session.elevate()
        except SignInRequired as error:
            return error.code
        return "elevated"

    assert (await browsing(app, manager).post("/elevate")).json == "sign_in_required"


# Dependencies, handlers, background work.


async def test_dependencies_guard_routes(manager: AsyncSessionManager):
    """People go to the sign-in page, programs get 401 (P25)."""
    app = fast_api(manager)
    recent = require_recent_sign_in(max_age=timedelta(minutes=5))

    @app.get("/account")
    async def account(subject: Annotated[str, Depends(require_sign_in)]) -> str:
        return subject

    @app.get("/transfer", dependencies=[Depends(recent)])
    def transfer() -> str:
        return "sent"

    @app.post("/sign-in")
    async def sign_in(session: CurrentSession) -> None:
        await session.sign_in("alice")

    browser = browsing(app, manager)
    for path in ("/account", "/transfer"):
        response = await browser.goto(f"{path}?x=1")
        assert response.header("location") == f"/sign-in?next=%2F{path[1:]}%3Fx%3D1"
        assert (await browser.fetch(path)).status == 401
    await browser.post("/sign-in")
    assert (await browser.goto("/account")).json == "alice"
    assert (await browser.goto("/transfer")).json == "sent"
    manager.clock.advance(301_000)  # type: ignore[attr-defined]
    assert (await browser.goto("/account")).json == "alice"
    assert (await browser.fetch("/transfer")).status == 401


async def test_http_exceptions_and_handlers_keep_the_session(manager: AsyncSessionManager):
    """A 404 or a handled error is a response like any other: data is saved, cookies set (E1)."""
    app = fast_api(manager)

    class Odd(Exception):
        pass

    @app.exception_handler(Odd)
    async def handle(request: Request, error: Exception) -> Response:
        session_of(request)["handled"] = True
        return PlainTextResponse("odd", 400)

    @app.post("/missing")
    async def missing(session: CurrentSession) -> None:
        session["seen"] = True
        raise HTTPException(404)

    @app.post("/odd")
    def odd(session: CurrentSession) -> None:
        session["odd"] = True
        raise Odd

    @app.get("/data")
    async def data(session: CurrentSession) -> Any:
        return dict(session)

    browser = browsing(app, manager)
    assert (await browser.post("/missing")).status == 404
    assert (await browser.post("/odd")).status == 400
    assert (await browser.goto("/data")).json == {"seen": True, "odd": True, "handled": True}


async def test_a_background_task_may_still_write(manager: AsyncSessionManager):
    """Into a session that began before the response; what it assigns is saved (E1)."""
    app = fast_api(manager)

    def later(session: Any) -> None:
        session["later"] = True

    @app.post("/start")
    async def start(session: CurrentSession, tasks: BackgroundTasks) -> None:
        session["now"] = True
        tasks.add_task(later, session)

    @app.get("/data")
    async def data(session: CurrentSession) -> Any:
        return dict(session)

    browser = browsing(app, manager)
    await browser.post("/start")
    assert (await browser.goto("/data")).json == {"now": True, "later": True}


async def test_a_late_write_after_a_sign_out_revives_nothing(manager: AsyncSessionManager):
    """A background task of a session that ended meanwhile (P6)."""
    app = fast_api(manager)

    async def later(session: Any) -> None:
        await manager.end_all_of("alice")
        session["later"] = True

    @app.post("/sign-in")
    async def sign_in(session: CurrentSession) -> None:
        await session.sign_in("alice")

    @app.post("/start")
    async def start(session: CurrentSession, tasks: BackgroundTasks) -> None:
        tasks.add_task(later, session)

    @app.get("/me")
    async def me(session: CurrentSession) -> Any:
        return session.subject, dict(session)

    browser = browsing(app, manager)
    await browser.post("/sign-in")
    await browser.post("/start")
    assert (await browser.goto("/me")).json == [None, {}]


async def test_inside_a_base_http_middleware_everything_works(manager: AsyncSessionManager):
    """Starlette's own kind of middleware, outside and inside of ours."""
    app = FastAPI()

    class Passing(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            response: Response = await call_next(request)
            response.headers["x-passed"] = "yes"
            return response

    class Looking(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            response: Response = await call_next(request)
            response.headers["x-subject"] = str(session_of(request).subject)
            return response

    app.add_middleware(Looking)
    app.add_middleware(SessionMiddleware, manager=manager)
    app.add_middleware(Passing)

    @app.post("/sign-in")
    async def sign_in(session: CurrentSession) -> None:
        await session.sign_in("alice")

    @app.post("/fails")
    async def fails(session: CurrentSession) -> None:
        await session.sign_in("bob")
        raise RuntimeError("a bug")

    browser = browsing(app, manager)
    response = await browser.post("/sign-in")
    assert (response.header("x-subject"), response.header("x-passed")) == ("alice", "yes")
    assert len(response.cookies) == 1
    assert (await browser.post("/fails")).status == 500
    assert await manager.sessions_of("bob") == []


# One writer.


async def test_a_mounted_application_with_its_own_middleware_has_one_writer(
    manager: AsyncSessionManager,
):
    """The inner middleware leaves the work to the outer one (F6)."""
    inner = FastAPI()
    inner.add_middleware(SessionMiddleware, manager=manager)

    @inner.post("/write")
    async def write(session: CurrentSession) -> None:
        session["inner"] = True

    @inner.post("/sign-in")
    async def sign_in(session: CurrentSession) -> None:
        await session.sign_in("alice")

    outer = fast_api(manager)
    outer.mount("/shop", inner)

    @outer.get("/data")
    async def data(session: CurrentSession) -> Any:
        return session.subject, dict(session)

    browser = browsing(outer, manager)
    assert len((await browser.post("/shop/write")).cookies) == 1
    assert (await browser.goto("/data")).json == [None, {"inner": True}]
    assert len((await browser.post("/shop/sign-in")).cookies) == 1
    assert (await browser.goto("/data")).json == ["alice", {}]
    assert len([e for e in manager.events if isinstance(e, SessionCreated)]) == 2  # type: ignore[attr-defined]


async def test_only_a_mounted_application_may_have_sessions(manager: AsyncSessionManager):
    """Its cookie is still the whole host's, and its paths are as the browser sees them."""

    async def write(request: Request) -> Response:
        request.session["n"] = request.session.get("n", 0) + 1
        return PlainTextResponse(str(request.session["n"]))

    inner = Starlette(routes=[Route("/n", write)])
    inner.add_middleware(SessionMiddleware, manager=manager)
    outer = Starlette(routes=[Mount("/shop", app=inner)])
    browser = browsing(outer, manager)
    assert [(await browser.goto("/shop/n")).text for _ in range(3)] == ["1", "2", "3"]
    assert browser.jar.refused == []


async def test_without_the_middleware_the_error_says_what_to_do():
    """A missing middleware is a sentence, not an AttributeError (STYLE)."""

    async def page(request: Request) -> Response:
        session_of(request)
        return Response()

    app = Starlette(routes=[Route("/", page)])
    response = await Browser(app, lambda: 0).goto("/")
    assert isinstance(response.error, ConfigurationError)
    assert "add_middleware" in str(response.error)


async def test_templates_get_a_form_token(manager: AsyncSessionManager):
    """`csrf_input()` is safe HTML, and the token in it works (P19)."""

    async def page(request: Request) -> Response:
        context = csrf_context(request)
        assert hasattr(context["csrf_input"](), "__html__")
        return PlainTextResponse(str(context["csrf_input"]()))

    async def post(request: Request) -> Response:
        form = await request.form()
        return PlainTextResponse(str(len(str(form["csrf_token"]))))

    app = Starlette(routes=[Route("/", page), Route("/post", post, methods=["POST"])])
    app.add_middleware(SessionMiddleware, manager=manager)
    browser = browsing(app, manager)
    browser.old = True
    html = (await browser.goto("/")).text
    assert html.startswith('<input type="hidden" name="csrf_token" value="')
    value = html.split('value="')[1].split('"')[0]
    response = await browser.post("/post", {"csrf_token": value})
    assert (response.status, response.text) == (200, "47")


# Lifespans.


async def test_the_first_request_starts_the_manager(manager: AsyncSessionManager):
    """Where no server runs a lifespan; many first requests at once start it once."""
    app = fast_api(manager)

    @app.post("/n")
    async def number(session: CurrentSession) -> None:
        session["n"] = 1

    browsers = [browsing(app, manager) for _ in range(8)]
    under_way = [each.begin_post("/n") for each in browsers]
    assert {(await each.response()).status for each in under_way} == {200}


async def run_lifespan(app: Any) -> list[dict[str, Any]]:
    """Start and stop an application as a server does."""
    to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    sent: list[dict[str, Any]] = []
    to_app.put_nowait({"type": "lifespan.startup"})
    to_app.put_nowait({"type": "lifespan.shutdown"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    state: dict[str, Any] = {}
    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}, to_app.get, send)
    return sent


async def test_a_lifespan_opens_and_closes_the_store(manager: AsyncSessionManager):
    """Before the first request, and after the last (DESIGN 4)."""
    app = fast_api(manager)
    sent = await run_lifespan(app)
    assert [each["type"] for each in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert manager._started is False


async def test_a_store_of_other_keys_stops_the_start(tmp_path: Path, everything: Everything):
    """A wrong key file is found at start-up, with a sentence (A3)."""
    url = f"sqlite:///{tmp_path}/sessions.db"
    told = []
    for keys in (KEYS, generate("tests", START)):
        manager = AsyncSessionManager(open_async_store(url), keys=keys, clock=FrozenClock())
        told += (await run_lifespan(fast_api(manager)))[:1]
        await manager.stop()
    good, bad = told
    assert good["type"] == "lifespan.startup.complete"
    assert bad["type"] == "lifespan.startup.failed"
    assert bad["message"] in everything.text


def test_starlettes_test_client_works_with_and_without_a_lifespan():
    """Each request of the bare client has an event loop of its own."""
    policy = SessionPolicy.for_development()
    store = open_async_store("memory://")
    manager = AsyncSessionManager(store, keys=KEYS, policy=policy, clock=FrozenClock(), sinks=[])
    app = fast_api(manager)

    @app.post("/n")
    def number(session: CurrentSession) -> int:
        session["n"] = session.get("n", 0) + 1
        return int(session["n"])

    same = {"Sec-Fetch-Site": "same-origin"}
    client = TestClient(app, base_url="http://localhost", headers=same)
    assert [client.post("/n").json() for _ in range(3)] == [1, 2, 3]
    with TestClient(app, base_url="http://localhost", headers=same) as client:
        assert [client.post("/n").json() for _ in range(3)] == [1, 2, 3]
    with TestClient(app, base_url="http://localhost", headers=same) as client:
        assert client.post("/n").json() == 1


# The OpenAPI document.


async def test_guarded_routes_are_documented_with_the_cookie(manager: AsyncSessionManager):
    """By themselves; the exact name comes from the keys (F6)."""
    app = fast_api(manager)
    document_session(app)

    @app.get("/account", dependencies=[Depends(require_sign_in)])
    async def account() -> None: ...

    @app.get("/transfer", dependencies=[Depends(require_recent_sign_in(acr="aal1"))])
    async def transfer() -> None: ...

    @app.get("/open")
    async def public() -> None: ...

    document = (await browsing(app, manager).fetch("/openapi.json")).json
    scheme = document["components"]["securitySchemes"]["session"]
    assert (scheme["type"], scheme["in"]) == ("apiKey", "cookie")
    assert scheme["name"] == manager.context.cookie.name
    told = {path: verbs["get"].get("security") for path, verbs in document["paths"].items()}
    secured: list[dict[str, list[str]]] = [{"session": []}]
    assert told == {"/account": secured, "/transfer": secured, "/open": None}


async def test_a_document_without_the_middleware_is_told_what_to_do():
    """A sentence (STYLE)."""
    with pytest.raises(ConfigurationError, match=r"after app\.add_middleware"):
        document_session(FastAPI())


# What newcomers do first.


async def test_another_session_middleware_inside_of_ours_is_told(manager: AsyncSessionManager):
    """The wrong order: Starlette's own would win in silence (STYLE)."""
    app = FastAPI()
    app.add_middleware(StarlettesOwn, secret_key="x")
    app.add_middleware(SessionMiddleware, manager=manager)

    @app.get("/")
    async def page(session: CurrentSession) -> None: ...

    response = await browsing(app, manager).goto("/")
    assert isinstance(response.error, ConfigurationError)
    assert "Add it last" in str(response.error)


async def test_missing_keys_stop_the_start_with_a_sentence(monkeypatch: pytest.MonkeyPatch):
    """With what to do about it (STYLE)."""
    monkeypatch.delenv("STRONGROOM_KEYS", raising=False)
    app = FastAPI()
    app.add_middleware(SessionMiddleware, store="memory://")
    (told,) = await run_lifespan(app)
    assert told["type"] == "lifespan.startup.failed"
    assert "strongroom keys generate" in told["message"]


async def test_http_in_production_is_told_once(
    manager: AsyncSessionManager, everything: Everything
):
    """Browsers drop a Secure cookie that comes over http; the log says what to do (STYLE)."""
    app = fast_api(manager)

    @app.post("/n")
    async def number(session: CurrentSession) -> None:
        session["n"] = 1

    for _ in range(2):
        browser = browsing(app, manager)
        browser.origin = "http://app.example"
        await browser.post("/n")
    assert everything.text.count("A Secure cookie was sent over http") == 1
    assert "SessionPolicy.for_development()" in everything.text


# Other people's code.


async def test_authlibs_oauth_client_finds_its_state_again(manager: AsyncSessionManager):
    """`request.session` is what it expects: state and nonce survive the trip to the provider."""
    oauth = OAuth()
    oauth.register(
        "idp",
        client_id="client",
        client_secret="secret",
        authorize_url="https://idp.example.net/authorize",
        access_token_url="https://idp.example.net/token",
        client_kwargs={"scope": "openid", "code_challenge_method": "S256"},
    )
    exchanged: list[dict[str, Any]] = []

    async def fetch_access_token(**params: Any) -> dict[str, Any]:
        exchanged.append(params)
        return {"access_token": "at", "token_type": "Bearer"}

    oauth.idp.fetch_access_token = fetch_access_token

    async def login(request: Request) -> Response:
        response = await oauth.idp.authorize_redirect(request, "https://app.example/callback")
        assert isinstance(response, Response)
        return response

    async def callback(request: Request) -> Response:
        token = await oauth.idp.authorize_access_token(request)
        await session_of(request).sign_in("alice", amr="fed")
        return PlainTextResponse(token["access_token"])

    async def me(request: Request) -> Response:
        session = session_of(request)
        return PlainTextResponse(f"{session.subject} {sorted(session)}")

    routes = [Route("/login", login), Route("/callback", callback), Route("/me", me)]
    app = Starlette(routes=routes)
    app.add_middleware(SessionMiddleware, manager=manager)
    browser = browsing(app, manager)
    response = await browser.goto("/login")
    query = parse_qs(urlsplit(response.header("location") or "").query)
    state = query["state"][0]
    idp = "https://idp.example.net"
    back = await browser.goto(f"/callback?code=c&state={state}", source=idp)
    assert back.error is None
    assert back.text == "at"
    assert exchanged[0]["code"] == "c"
    assert exchanged[0]["code_verifier"]
    assert (await browser.goto("/me")).text == "alice []"
    forged = await browser.goto("/callback?code=c&state=forged", source=idp)
    assert isinstance(forged.error, MismatchingStateError)
