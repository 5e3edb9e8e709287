"""A small deterministic browser on top of an ASGI application: a real jar, real headers, no socket.

It sends what browsers send (Sec-Fetch-*, Origin, Accept, Cookie), keeps cookies the moment a
response starts, and lets a test hold a response back, lose it, cancel the request, or have several
in flight at once. Nothing sleeps: requests overlap because the application waits at a `Gate`.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes, urlencode, urlsplit

from .jar import Jar, Place

Message = MutableMapping[str, Any]
ASGIApp = Callable[..., Awaitable[None]]
HeaderList = list[tuple[bytes, bytes]]

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/150.0.0.0 Safari/537.36"
)
HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
PATIENCE = 10.0
"""Seconds until a test that waits for something that never comes is told so."""


class Gate:
    """A place in the application where a request waits until the test lets it go on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._arrived = asyncio.Semaphore(0)
        self._open = asyncio.Event()

    async def reached(self, by: int = 1) -> None:
        """Wait until that many requests stand at the gate."""
        for _ in range(by):
            await asyncio.wait_for(self._arrived.acquire(), PATIENCE)

    def open(self) -> None:
        """Let everybody through, now and later."""
        self._open.set()

    async def pass_through(self) -> None:
        """For the application: say that we are here, and wait. In a thread, the thread waits."""
        if threading.get_ident() == self._thread:
            await self._wait()
        else:
            asyncio.run_coroutine_threadsafe(self._wait(), self._loop).result(PATIENCE)

    async def _wait(self) -> None:
        self._arrived.release()
        await asyncio.wait_for(self._open.wait(), PATIENCE)


@dataclass
class Response:
    """What came back. `error` is what the application let escape to the server."""

    status: int
    headers: HeaderList
    body: bytes
    error: BaseException | None = None

    def header(self, name: str) -> str | None:
        """A header's values joined by a comma, or None."""
        found = [value for key, value in self.headers if key.lower() == name.lower().encode()]
        return b", ".join(found).decode("latin-1") if found else None

    @property
    def cookies(self) -> list[str]:
        """The Set-Cookie lines."""
        return [v.decode("latin-1") for k, v in self.headers if k.lower() == b"set-cookie"]

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class Pending:
    """A request under way."""

    def __init__(self, browser: Browser, scope: Message, chunks: Sequence[bytes], place: Place):
        self._browser = browser
        self._chunks = list(chunks) or [b""]
        self._place = place
        self._gone = asyncio.Event()
        self._sent: list[bytes] = []
        self._headers: HeaderList = []
        self._status: int | None = None
        self.started = asyncio.Event()
        self.complete = asyncio.Event()
        """The last part of the body has come."""
        self.lost = False
        """The network drops the response: its cookies never reach the jar."""
        self.held = False
        """The response has left the server and is still on its way; `deliver` lets it arrive."""
        self.error: BaseException | None = None
        self.task = asyncio.create_task(self._run(scope))

    def lose(self) -> Pending:
        """The response will never arrive."""
        self.lost = True
        return self

    def hold(self) -> Pending:
        """The response will arrive when `deliver` is called."""
        self.held = True
        return self

    def deliver(self) -> None:
        """The response that was held back arrives."""
        self.held = False
        self._keep_cookies()

    def hang_up(self) -> None:
        """The client closes the connection; the application may notice."""
        self._gone.set()

    async def cancel(self) -> None:
        """The server cancels the application, as it does when a client is gone or time is up."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def response(self) -> Response:
        """The finished response. An error that escaped is a 500 by the server, without headers."""
        await asyncio.wait_for(asyncio.shield(self.task), PATIENCE)
        return self.so_far()

    def so_far(self) -> Response:
        """What has come so far."""
        status = 500 if self._status is None else self._status
        return Response(status, self._headers, b"".join(self._sent), self.error)

    async def _run(self, scope: Message) -> None:
        try:
            await self._browser.app(scope, self._receive, self._send)
        except Exception as error:
            self.error = error

    async def _receive(self) -> Message:
        if self._chunks:
            body = self._chunks.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self._chunks)}
        waiting = [asyncio.ensure_future(e.wait()) for e in (self._gone, self.complete)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._gone.is_set() or self.complete.is_set():
            raise OSError("the client has gone")
        if message["type"] == "http.response.start":
            assert self._status is None, "a response starts once"
            self._status = message["status"]
            self._headers = list(message.get("headers", ()))
            if not self.held:
                self._keep_cookies()
            self.started.set()
        elif message["type"] == "http.response.body":
            self._sent.append(message.get("body", b""))
            if not message.get("more_body", False):
                self.complete.set()

    def _keep_cookies(self) -> None:
        self._browser.seen.append(self)
        if not self.lost:
            for name, value in self._headers:
                if name.lower() == b"set-cookie":
                    self._browser.jar.take(value, self._place)


class Socket:
    """A WebSocket of the browser."""

    def __init__(self, app: ASGIApp, scope: Message) -> None:
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self._to_app.put_nowait({"type": "websocket.connect"})
        self.close_code: int | None = None
        self.accepted = False
        self.error: BaseException | None = None
        self.task = asyncio.create_task(self._run(app, scope))

    async def _run(self, app: ASGIApp, scope: Message) -> None:
        try:
            await app(scope, self._to_app.get, self._send)
        except Exception as error:
            self.error = error
        finally:
            self._from_app.put_nowait({"type": "the application has returned"})

    async def _send(self, message: Message) -> None:
        assert self.close_code is None, f"{message['type']} after the close"
        if message["type"] == "websocket.close":
            self.close_code = message.get("code", 1000)
            self._to_app.put_nowait({"type": "websocket.disconnect", "code": self.close_code})
        elif message["type"] == "websocket.accept":
            self.accepted = True
        self._from_app.put_nowait(message)

    async def next(self) -> Message:
        """The next message from the application."""
        return await asyncio.wait_for(self._from_app.get(), PATIENCE)

    async def opened(self) -> bool:
        """Whether the handshake was accepted."""
        await self.next()
        return self.accepted

    async def ask(self, text: str) -> str:
        """Send a text and wait for the answer."""
        self._to_app.put_nowait({"type": "websocket.receive", "text": text})
        message = await self.next()
        assert message["type"] == "websocket.send", message
        answered = message["text"]
        assert isinstance(answered, str)
        return answered

    async def ask_first(self, text: str) -> str:
        """As `ask`, where the application accepts the handshake with its first word."""
        self._to_app.put_nowait({"type": "websocket.receive", "text": text})
        assert await self.opened()
        message = await self.next()
        assert message["type"] == "websocket.send", message
        answered = message["text"]
        assert isinstance(answered, str)
        return answered

    async def closed(self) -> int | None:
        """Wait for the application's end -> the code with which the server closed, if it did."""
        await asyncio.wait_for(asyncio.shield(self.task), PATIENCE)
        return self.close_code

    async def hang_up(self) -> None:
        """The client leaves."""
        self._to_app.put_nowait({"type": "websocket.disconnect", "code": 1001})
        await self.closed()


@dataclass
class Browser:
    """One browser profile. `old` browsers send neither Fetch Metadata nor Origin."""

    app: ASGIApp
    now: Callable[[], int]
    origin: str = "https://app.example"
    agent: str = FIREFOX
    address: str | None = "203.0.113.7"
    old: bool = False
    spec_version: str = "2.3"
    """The server's: from 2.4 on, `send` raises where the client has gone."""
    extra: HeaderList = field(default_factory=list)
    seen: list[Pending] = field(default_factory=list)
    """Every request whose response has started."""

    def __post_init__(self) -> None:
        self.jar = Jar(self.now)

    # What people and pages do.

    async def goto(self, path: str, **how: Any) -> Response:
        """Type an address, or follow a link (`source` names the page's origin)."""
        return await self.begin(path, **how).response()

    async def post(self, path: str, form: dict[str, str] | None = None, **how: Any) -> Response:
        """Send a form of our own page."""
        return await self.begin_post(path, form, **how).response()

    async def fetch(self, path: str, method: str = "GET", **how: Any) -> Response:
        """A script of our own page calls."""
        return await self.begin_fetch(path, method, **how).response()

    def begin(self, path: str, **how: Any) -> Pending:
        """As `goto`, without waiting."""
        return self.request("GET", path, mode="navigate", dest="document", **how)

    def begin_post(
        self, path: str, form: dict[str, str] | None = None, *, source: str | None = "", **how: Any
    ) -> Pending:
        """As `post`, without waiting."""
        headers = [(b"content-type", b"application/x-www-form-urlencoded")]
        return self.request(
            "POST",
            path,
            mode="navigate",
            dest="document",
            source=self.origin if source == "" else source,
            chunks=[urlencode(form or {}).encode()],
            **{"headers": headers, **how},
        )

    def begin_fetch(
        self, path: str, method: str = "GET", *, source: str | None = "", **how: Any
    ) -> Pending:
        """As `fetch`, without waiting."""
        source = self.origin if source == "" else source
        return self.request(
            method, path, mode="cors", dest="empty", source=source, accept="*/*", **how
        )

    def socket(self, path: str, *, source: str | None = "", **how: Any) -> Socket:
        """Open a WebSocket; Chromium sends no Fetch Metadata with it."""
        source = self.origin if source == "" else source
        place = self._place(path, source, top_level=False, safe=True)
        headers = self._headers("GET", place, source, "websocket", None, "*/*")
        headers = [(k, v) for k, v in headers if not k.startswith(b"sec-fetch")]
        headers += how.get("headers", [])
        scope = self._scope("GET", path, [*headers, *self._cookie(place)])
        scope.update(type="websocket", scheme="wss" if scope["scheme"] == "https" else "ws")
        del scope["method"]
        return Socket(self.app, scope)

    def request(
        self,
        method: str,
        path: str,
        *,
        mode: str,
        dest: str,
        source: str | None = None,
        accept: str = HTML,
        chunks: Iterable[bytes] = (),
        headers: HeaderList | None = None,
        cookies: list[bytes] | None = None,
        no_referrer: bool = False,
    ) -> Pending:
        """Any request; it is under way when this returns. `cookies` replaces what the jar says."""
        top_level = mode == "navigate" and dest == "document"
        place = self._place(
            path, source, top_level=top_level, safe=method in ("GET", "HEAD", "OPTIONS")
        )
        said = self._headers(method, place, source, mode, dest, accept, no_referrer=no_referrer)
        body = list(chunks)
        length = sum(map(len, body))
        if length or method in ("POST", "PUT", "PATCH"):
            said.append((b"content-length", str(length).encode()))
        sent = self._cookie(place) if cookies is None else [(b"cookie", each) for each in cookies]
        replaced = {name for name, _ in headers or []}
        said = [each for each in said if each[0] not in replaced]
        scope = self._scope(method, path, [*said, *(headers or []), *sent])
        return Pending(self, scope, body, place)

    # What the browser adds.

    def _place(self, path: str, source: str | None, *, top_level: bool, safe: bool) -> Place:
        parts = urlsplit(self.origin)
        same_site = source is None or _site(source, self.origin) != "cross-site"
        host = parts.netloc.partition(":")[0]
        return Place(parts.scheme, host, path.partition("?")[0] or "/", same_site, top_level, safe)

    def _cookie(self, place: Place) -> HeaderList:
        value = self.jar.header(place)
        return [] if value is None else [(b"cookie", value)]

    def _headers(
        self,
        method: str,
        place: Place,
        source: str | None,
        mode: str,
        dest: str | None,
        accept: str,
        *,
        no_referrer: bool = False,
    ) -> HeaderList:
        del place
        said = [
            (b"host", urlsplit(self.origin).netloc.encode()),
            (b"user-agent", self.agent.encode()),
            (b"accept", accept.encode()),
        ]
        if not self.old:
            foreign = source is not None and _site(source, self.origin) != "same-origin"
            if method not in ("GET", "HEAD") or mode == "websocket" or (mode == "cors" and foreign):
                hidden = no_referrer and mode == "navigate"
                said.append((b"origin", b"null" if hidden or source is None else source.encode()))
            said.append((b"sec-fetch-site", _site(source, self.origin).encode()))
            said.append((b"sec-fetch-mode", mode.encode()))
            if dest is not None:
                said.append((b"sec-fetch-dest", dest.encode()))
        return [*said, *self.extra]

    def _scope(self, method: str, path: str, headers: HeaderList) -> Message:
        raw, _, query = path.partition("?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": self.spec_version},
            "http_version": "1.1",
            "method": method,
            "scheme": urlsplit(self.origin).scheme,
            "path": unquote_to_bytes(raw).decode("utf-8", "replace"),
            "raw_path": raw.encode("latin-1", "replace"),
            "query_string": query.encode("latin-1", "replace"),
            "root_path": "",
            "headers": headers,
            "client": None if self.address is None else (self.address, 40000),
            "server": ("app.example", 443),
        }


def _site(source: str | None, target: str) -> str:
    """What Sec-Fetch-Site says of a request from a page of `source`."""
    if source is None:
        return "none"
    if source == target:
        return "same-origin"
    one, other = urlsplit(source), urlsplit(target)
    related = _registrable(one.netloc) == _registrable(other.netloc)
    return "same-site" if related and one.scheme == other.scheme else "cross-site"


def _registrable(netloc: str) -> str:
    """Good enough for test hosts: the last two labels."""
    return ".".join(netloc.partition(":")[0].split(".")[-2:])
