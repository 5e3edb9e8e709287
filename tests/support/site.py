"""One small web site in four kinds: raw ASGI, Starlette, FastAPI `async def` and FastAPI `def`.

A test writes each page once, as a coroutine function that takes a `Call`. In the `def` kind the
same code runs in a worker thread, where every action of a session is done when it returns, so no
page ever waits for an event loop there. The store counts what it is asked and can be switched off;
at the end of every scenario `Site.audit` looks for session tokens wherever they must not be (P5).
"""

from __future__ import annotations

import base64
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl

from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response as StarletteResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from strongroom import Keyring, Session, SessionPolicy, open_async_store
from strongroom.core.errors import StoreUnavailable
from strongroom.core.events import Event as AnyEvent
from strongroom.integrations.asgi import SessionMiddleware
from strongroom.integrations.fastapi import CurrentSession
from strongroom.integrations.starlette import session_of
from strongroom.keyfile import generate
from strongroom.manager import AsyncSessionManager
from strongroom.stores.base import AsyncStore
from strongroom.testing import FrozenClock
from strongroom.testing.clock import START

from .browser import Browser, Response

KINDS = ("asgi", "starlette", "fastapi", "fastapi-def")
STORES = ("memory", "sqlite")
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
READING = frozenset({"find", "read_epoch", "list_subject", "read_history"})
HOUSEKEEPING = frozenset({"open", "close", "sweep", "read_clock"})
KEYS = generate("tests", START)
MINUTE = 60_000
HOUR = 60 * MINUTE


@dataclass
class Reply:
    """A response by hand; `chunks` makes a stream of it."""

    body: bytes = b""
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Call:
    """What a page is called with."""

    session: Session
    method: str
    path: str
    query: dict[str, str]
    body: bytes
    scope: Any

    @property
    def form(self) -> dict[str, str]:
        """The urlencoded form."""
        return dict(parse_qsl(self.body.decode("latin-1")))


Page = Callable[[Call], Awaitable[Any]]
SocketPage = Callable[["Talk"], Awaitable[None]]


class Talk:
    """A WebSocket as a socket page sees it."""

    def __init__(self, session: Session, receive: Any, send: Any) -> None:
        self.session = session
        self._receive = receive
        self._send = send

    async def accept(self) -> None:
        """Take the handshake."""
        message = await self._receive()
        assert message["type"] == "websocket.connect"
        await self._send({"type": "websocket.accept"})

    async def hear(self) -> str | None:
        """The next text, or None when the client has gone."""
        message = await self._receive()
        return message.get("text") if message["type"] == "websocket.receive" else None

    async def say(self, text: str) -> None:
        """Send a text."""
        await self._send({"type": "websocket.send", "text": text})


class Watched:
    """A store that counts what it is asked, can be down, and can wait or fail at an op."""

    def __init__(self, store: AsyncStore) -> None:
        self.real = store
        self.counts: Counter[str] = Counter()
        self.down = False
        self.before: dict[str, Callable[[Any], Awaitable[None]]] = {}
        self.after: dict[str, Callable[[Any], Awaitable[None]]] = {}

    def __getattr__(self, verb: str) -> Any:
        real = getattr(self.real, verb)

        async def call(*arguments: Any) -> Any:
            self.counts[verb] += 1
            if self.down and verb not in HOUSEKEEPING:
                raise StoreUnavailable("The store does not answer.", why="A test says so.")
            if verb in self.before:
                await self.before[verb](*arguments)
            answer = await real(*arguments)
            if verb in self.after:
                await self.after[verb](*arguments)
            return answer

        return call

    def reset(self) -> None:
        """Count from zero."""
        self.counts.clear()

    @property
    def asked(self) -> dict[str, int]:
        """What it was asked since `reset`, housekeeping and histories left out."""
        left_out = {*HOUSEKEEPING, "append"}
        return {verb: count for verb, count in self.counts.items() if verb not in left_out}

    @property
    def written(self) -> dict[str, int]:
        """The writes among `asked`."""
        return {verb: count for verb, count in self.asked.items() if verb not in READING}


class Site:
    """A site, its manager, its store, its clock, and everything that it ever said."""

    def __init__(
        self,
        kind: str,
        url: str,
        *,
        policy: SessionPolicy | None = None,
        keys: Keyring = KEYS,
        clock: FrozenClock | None = None,
        folder: Path | None = None,
        real_store: AsyncStore | None = None,
        **settings: Any,
    ) -> None:
        self.kind = kind
        self.clock = clock or FrozenClock()
        self.folder = folder
        self.store = Watched(real_store or open_async_store(url))
        self.events: list[AnyEvent] = []
        self.pages: dict[str, Page] = dict(_PAGES)
        self.sockets: dict[str, SocketPage] = {}
        self.browsers: list[Browser] = []
        self.manager = AsyncSessionManager(
            cast(AsyncStore, self.store),
            keys=keys,
            policy=policy,
            clock=self.clock,
            sinks=[self.events.append],
            **settings,
        )
        self.app = _APPS[kind](self)

    def page(self, path: str) -> Callable[[Page], Page]:
        """Put a page up."""

        def put(page: Page) -> Page:
            self.pages[path] = page
            return page

        return put

    def socket(self, path: str) -> Callable[[SocketPage], SocketPage]:
        """Put a WebSocket up."""

        def put(page: SocketPage) -> SocketPage:
            self.sockets[path] = page
            return page

        return put

    def browser(self, **how: Any) -> Browser:
        """A fresh browser profile."""
        browser = Browser(self.app, self.clock, **how)
        self.browsers.append(browser)
        return browser

    @property
    def cookie(self) -> str:
        """The session cookie's name."""
        return self.manager.context.cookie.name

    @property
    def pre_cookie(self) -> str:
        """The pre-session cookie's name."""
        return self.manager.context.pre_cookie.name

    def token(self, browser: Browser) -> str | None:
        """The session token in a browser's jar."""
        return browser.jar.get(self.cookie)

    async def signed_in(self, subject: str = "alice", **how: Any) -> Browser:
        """A browser in which somebody has just signed in."""
        browser = self.browser(**how)
        await self.sign_in(browser, subject)
        return browser

    async def sign_in(self, browser: Browser, subject: str = "alice", **form: str) -> Response:
        """Sign in on the standard page."""
        response = await browser.post("/sign-in", {"subject": subject, **form})
        assert response.status == 200, (response.status, response.body, response.error)
        return response

    async def who(self, browser: Browser, path: str = "/") -> str | None:
        """Whom the site takes the browser for."""
        response = await browser.goto(path)
        assert response.status == 200, (response.status, response.body, response.error)
        subject = response.json["subject"]
        assert subject is None or isinstance(subject, str)
        return subject

    async def data(self, browser: Browser) -> dict[str, Any]:
        """The session's data as the site sees it."""
        told = (await browser.goto("/")).json["data"]
        assert isinstance(told, dict)
        return told

    def told(self, event: type[AnyEvent]) -> list[Any]:
        """The events of one type, in order."""
        return [each for each in self.events if isinstance(each, event)]

    def only(self, event: type[AnyEvent]) -> Any:
        """The one event of this type."""
        (found,) = self.told(event)
        return found

    async def use_until_confirmed(self, browser: Browser) -> None:
        """Use the token long enough that it is confirmed, and the one before retired for good."""
        await self.confirm(browser)
        self.clock.advance(self.manager.context.clocks.grace)

    async def confirm(self, browser: Browser) -> None:
        """Use the token until this moment's use has confirmed it."""
        clocks = self.manager.context.clocks
        for pause in (clocks.touch, max(clocks.touch, clocks.settle)):
            self.clock.advance(pause)
            assert (await browser.goto("/")).status == 200

    async def renew(self, browser: Browser) -> None:
        """Bring a freshly signed-in browser's token to its first renewal."""
        before = self.token(browser)
        await self.use_until_confirmed(browser)
        self.clock.advance(15 * MINUTE)
        assert await self.who(browser) is not None
        assert self.token(browser) not in (None, before)

    def tokens(self) -> set[str]:
        """Every session token that any response of this site ever handed out."""
        start = f"{self.cookie}="
        lines = [
            line
            for browser in self.browsers
            for pending in browser.seen
            for line in pending.so_far().cookies
        ]
        values = {line.split(";")[0][len(start) :] for line in lines if line.startswith(start)}
        return values - {""}

    def audit(self, logged: str) -> None:
        """No token in what was logged, told, answered or stored; no secret part of it either."""
        tokens = self.tokens()
        told = "\n".join(repr(event) + json.dumps(event.as_dict()) for event in self.events)
        answered = b"".join(p.so_far().body for b in self.browsers for p in b.seen)
        headers = b"".join(
            name + value
            for browser in self.browsers
            for pending in browser.seen
            for name, value in pending.so_far().headers
            if name.lower() != b"set-cookie"
        )
        errors = "".join(
            f"{e!r}{e}" for b in self.browsers for p in b.seen if (e := p.error) is not None
        )
        stored = self.stored()
        for token in tokens:
            for place in (logged, told, errors):
                assert token not in place
            for raw in (answered, headers, stored):
                assert token.encode() not in raw
            raw_token = base64.urlsafe_b64decode(token)
            for secret in (raw_token[23:39], raw_token[39:55]):
                assert secret not in stored

    def stored(self) -> bytes:
        if self.folder is not None:
            return b"".join(each.read_bytes() for each in self.folder.glob("*.db*"))
        snapshot = getattr(getattr(self.store.real, "store", None), "snapshot", None)
        if snapshot is None:
            return b""
        held = snapshot()
        records = [r.header.encode(r.tail) + r.envelope + r.data for r in held.records.values()]
        history = [entry.sealed for kept in held.history.values() for entry in kept]
        return b"".join([*records, *history])


class Everything(logging.Handler):
    """Keeps every log line of a scenario, tracebacks included."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.complaints: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line; what asyncio complains of is somebody's forgotten task."""
        line = self.format(record)
        self.lines.append(line)
        if record.name == "asyncio" and record.levelno >= logging.ERROR:
            self.complaints.append(line)

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(self.lines)


MakeSite = Callable[..., Awaitable[Site]]
"""What the fixture `new_site` gives: a site with the settings named."""


# The standard pages.


async def whoami(call: Call) -> Any:
    """Everything that a session says of itself."""
    session = call.session
    return {
        "subject": session.subject,
        "pending": session.pending_subject,
        "id": session.session_id,
        "data": dict(session),
        "unavailable": session.unavailable,
    }


async def _sign_in(call: Call) -> Any:
    form = call.form
    amr = form.get("amr", "pwd").split()
    async with call.session.authenticating(form["subject"]):
        if form.get("password", "right") == "right":
            await call.session.sign_in(form["subject"], amr=amr, pending="pending" in form)
    return {"subject": call.session.subject}


async def _sign_out(call: Call) -> Any:
    await call.session.sign_out()


async def _everywhere(call: Call) -> Any:
    return await call.session.sign_out_everywhere()


async def _elevate(call: Call) -> Any:
    await call.session.elevate(amr=call.query.get("amr", "otp"))


async def _set(call: Call) -> Any:
    for key, value in call.query.items():
        call.session[key] = value


async def _nothing(call: Call) -> Any:
    return "nothing to do with sessions"


async def _list(call: Call) -> Any:
    listed = await call.session.sessions(include_ended="all" in call.query)
    return [
        {
            "id": each.session_id,
            "current": each.current,
            "device": each.device,
            "address": each.address,
            "last_seen": each.last_seen.timestamp() * 1000,
            "reason": None if each.end_reason is None else each.end_reason.value,
        }
        for each in listed
    ]


async def _history(call: Call) -> Any:
    return await call.session.history()


async def _token(call: Call) -> Any:
    return call.session.csrf_token(call.query.get("form", ""))


async def _echo(call: Call) -> Any:
    return Reply(call.body, headers=[("content-type", "application/octet-stream")])


_PAGES: dict[str, Page] = {
    "/": whoami,
    "/sign-in": _sign_in,
    "/sign-out": _sign_out,
    "/sign-out-everywhere": _everywhere,
    "/elevate": _elevate,
    "/set": _set,
    "/nothing": _nothing,
    "/sessions": _list,
    "/history": _history,
    "/token": _token,
    "/echo": _echo,
}


# The four kinds.


def _as_reply(answered: Any) -> Reply:
    if isinstance(answered, Reply):
        return answered
    headers = [("content-type", "application/json")]
    return Reply(json.dumps(answered).encode(), headers=headers)


def _asgi(site: Site) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for done in ("startup", "shutdown"):
                assert (await receive())["type"] == f"lifespan.{done}"
                await send({"type": f"lifespan.{done}.complete"})
        elif scope["type"] == "websocket":
            await site.sockets[scope["path"]](Talk(scope["session"], receive, send))
        else:
            body = await _whole_body(receive)
            call = _call(scope, scope["session"], body)
            reply = _as_reply(await site.pages[scope["path"]](call))
            headers = [(k.encode(), v.encode("latin-1")) for k, v in reply.headers]
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            await send({"type": "http.response.body", "body": reply.body})

    return SessionMiddleware(app, manager=site.manager)


async def _whole_body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body


def _call(scope: Any, session: Session, body: bytes) -> Call:
    query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    return Call(session, scope["method"], scope["path"], query, body, scope)


def _response(answered: Any) -> StarletteResponse:
    if isinstance(answered, StarletteResponse):
        return answered
    reply = _as_reply(answered)
    response = StarletteResponse(reply.body, reply.status)
    response.raw_headers += [(k.encode(), v.encode("latin-1")) for k, v in reply.headers]
    return response


async def _talk(site: Site, socket: WebSocket) -> None:
    await site.sockets[socket.scope["path"]](
        Talk(cast(Session, socket.session), socket.receive, socket.send)
    )


def _starlette(site: Site) -> Any:
    async def endpoint(request: Request) -> StarletteResponse:
        call = _call(request.scope, session_of(request), await request.body())
        return _response(await site.pages[request.scope["path"]](call))

    async def talk(socket: WebSocket) -> None:
        await _talk(site, socket)

    app = Starlette(
        routes=[
            Route("/{path:path}", endpoint, methods=METHODS),
            WebSocketRoute("/{path:path}", talk),
        ]
    )
    app.add_middleware(SessionMiddleware, manager=site.manager)
    return app


def _fastapi(site: Site) -> Any:
    app = FastAPI()

    @app.api_route("/{path:path}", methods=METHODS)
    async def endpoint(request: Request, session: CurrentSession) -> Any:
        call = _call(request.scope, session, await request.body())
        return _response(await site.pages[request.scope["path"]](call))

    return _finished(app, site)


def _fastapi_def(site: Site) -> Any:
    app = FastAPI()

    async def whole_body(request: Request) -> bytes:
        return await request.body()

    @app.api_route("/{path:path}", methods=METHODS)
    def endpoint(
        request: Request, session: CurrentSession, body: bytes = Depends(whole_body)
    ) -> Any:
        call = _call(request.scope, session, body)
        return _response(in_thread(site.pages[request.scope["path"]](call)))

    return _finished(app, site)


def _finished(app: FastAPI, site: Site) -> Any:
    @app.websocket("/{path:path}")
    async def talk(socket: WebSocket) -> None:
        await _talk(site, socket)

    app.add_middleware(SessionMiddleware, manager=site.manager)
    return app


def in_thread(page: Awaitable[Any]) -> Any:
    """Run a page to its end where nothing may have to wait for an event loop."""
    work = cast("Coroutine[Any, Any, Any]", page)
    try:
        waits_for = work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError(f"in a plain `def` nothing waits, but this did: {waits_for!r}")


_APPS: dict[str, Callable[[Site], Any]] = {
    "asgi": _asgi,
    "starlette": _starlette,
    "fastapi": _fastapi,
    "fastapi-def": _fastapi_def,
}


__all__ = [
    "HOUR",
    "KEYS",
    "KINDS",
    "MINUTE",
    "STORES",
    "Call",
    "Everything",
    "MakeSite",
    "Reply",
    "Site",
    "Talk",
    "Watched",
]
