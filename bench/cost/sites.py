"""Calling an application in process: ASGI on one loop, WSGI as it is, aiohttp over a socket."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any, Protocol

AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
FOREIGN = "theme=dark; _ga=GA1.2.1234567890.1767225600"
"""Cookies of others, which every browser sends along."""
HEADERS = {
    "host": "shop.example",
    "user-agent": AGENT,
    "accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
    "accept-language": "de-CH,de;q=0.8,en;q=0.5",
    "sec-fetch-site": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Asking:
    """One request, ready to be sent again and again."""

    method: str
    path: str
    cookies: str = FOREIGN


@dataclass(slots=True)
class Answer:
    """What came back."""

    status: int
    lines: list[str] = field(default_factory=list[str])
    """The Set-Cookie values."""

    @property
    def jar(self) -> dict[str, str]:
        """Name and value of each cookie that was set, as a browser would send it back."""
        found: dict[str, str] = {}
        for line in self.lines:
            jar: SimpleCookie = SimpleCookie()
            jar.load(line)
            found |= {name: morsel.coded_value for name, morsel in jar.items() if morsel.value}
        return found


class Site(Protocol):
    """An application that can be asked."""

    def ask(self, asking: Asking) -> Answer:
        """One request, looked at."""
        ...

    def turn(self, askings: list[Asking], at_once: int) -> Callable[[], None]:
        """These requests, one after the other or so many at once, each time it is called."""
        ...

    def close(self) -> None:
        """End what the application started."""
        ...


class AsgiSite:
    """An ASGI application on the bench's loop; without one, a server is to run `app`."""

    def __init__(self, app: Any, loop: asyncio.AbstractEventLoop | None) -> None:
        self.app = app
        if loop is not None:
            self._start(loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._told: asyncio.Queue[str] = asyncio.Queue()
        self._asked: asyncio.Queue[str] = asyncio.Queue()
        self._lifespan = loop.create_task(self._live())
        self._asked.put_nowait("lifespan.startup")
        loop.run_until_complete(self._heard())

    async def _live(self) -> None:
        async def receive() -> dict[str, str]:
            return {"type": await self._asked.get()}

        async def send(message: Any) -> None:
            self._told.put_nowait(message["type"])

        try:
            await self.app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
        except Exception:  # as servers do: it has none
            self._told.put_nowait("none")

    async def _heard(self) -> None:
        told = await self._told.get()
        if told.endswith("failed"):
            raise RuntimeError("the application did not start")

    def ask(self, asking: Asking) -> Answer:
        """One request, looked at."""
        return self._loop.run_until_complete(self.answer(asking))

    async def answer(self, asking: Asking) -> Answer:
        """The same, for whoever is on the loop."""
        answer = Answer(0)

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.lines = [
                    value.decode("latin-1")
                    for name, value in message["headers"]
                    if name.lower() == b"set-cookie"
                ]

        await self.app(_scope(asking), _receive, send)
        return answer

    def turn(self, askings: list[Asking], at_once: int) -> Callable[[], None]:
        """See `Site`."""
        app, scopes = self.app, [_scope(each) for each in askings]

        async def one_by_one() -> None:
            for scope in scopes:
                await app(scope.copy(), _receive, _send)

        async def together() -> None:
            for start in range(0, len(scopes), at_once):
                some = scopes[start : start + at_once]
                await asyncio.gather(*(app(scope.copy(), _receive, _send) for scope in some))

        work = one_by_one if at_once == 1 else together
        return lambda: self._loop.run_until_complete(work())

    def close(self) -> None:
        """End its lifespan."""
        if not self._lifespan.done():
            self._asked.put_nowait("lifespan.shutdown")
            self._loop.run_until_complete(asyncio.wait({self._lifespan}, timeout=10))


def _scope(asking: Asking) -> dict[str, Any]:
    headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
    headers.append((b"cookie", asking.cookies.encode("latin-1")))
    if asking.method == "POST":
        headers.append((b"content-length", b"0"))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": asking.method,
        "path": asking.path,
        "raw_path": asking.path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "https",
        "headers": headers,
        "client": ("192.0.2.7", 1234),
        "server": ("shop.example", 443),
        "state": {},
    }


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    del message


class WsgiSite:
    """A WSGI application, called where the bench stands: no loop runs there."""

    def __init__(self, app: Any, close: Callable[[], None] = lambda: None) -> None:
        self._app = app
        self.close = close

    def ask(self, asking: Asking) -> Answer:
        """One request, looked at."""
        answer = Answer(0)

        def start(status: str, headers: list[tuple[str, str]], _error: Any = None) -> Any:
            answer.status = int(status[:3])
            answer.lines = [value for name, value in headers if name.lower() == "set-cookie"]

        self._run(_environ(asking), start)
        return answer

    def turn(self, askings: list[Asking], at_once: int) -> Callable[[], None]:
        """See `Site`. Nothing is at once here."""
        del at_once
        environs = [_environ(each) for each in askings]

        def work() -> None:
            for environ in environs:
                self._run(environ.copy(), _start)

        return work

    def _run(self, environ: dict[str, Any], start: Any) -> None:
        body = self._app(environ, start)
        for _ in body:
            pass
        if hasattr(body, "close"):
            body.close()


def _start(status: str, headers: Any, _error: Any = None) -> None:
    del status, headers


_BODY = io.BytesIO()


def _environ(asking: Asking) -> dict[str, Any]:
    told = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in HEADERS.items()}
    return {
        **told,
        "HTTP_COOKIE": asking.cookies,
        "REQUEST_METHOD": asking.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": asking.path,
        "QUERY_STRING": "",
        "CONTENT_LENGTH": "0",
        "SERVER_NAME": "shop.example",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.7",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.input": _BODY,
        "wsgi.errors": _BODY,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


class AiohttpSite:
    """An aiohttp application behind its own server, asked over one loopback connection."""

    def __init__(self, app: Any, loop: asyncio.AbstractEventLoop) -> None:
        from aiohttp import web

        self._loop = loop
        self._runner = web.AppRunner(app, access_log=None)
        loop.run_until_complete(self._begin(web))

    async def _begin(self, web: Any) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        port = self._runner.addresses[0][1]
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)

    def ask(self, asking: Asking) -> Answer:
        """One request, looked at."""
        return self._loop.run_until_complete(self._exchange(as_bytes(asking)))

    def turn(self, askings: list[Asking], at_once: int) -> Callable[[], None]:
        """See `Site`. One connection, so nothing is at once here."""
        del at_once
        requests = [as_bytes(each) for each in askings]

        async def work() -> None:
            for each in requests:
                await self._exchange(each)

        return lambda: self._loop.run_until_complete(work())

    async def _exchange(self, request: bytes) -> Answer:
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        fields = [line.partition(": ")[::2] for line in lines[1:]]
        length = next(value for name, value in fields if name.lower() == "content-length")
        await self._reader.readexactly(int(length))
        told = [value for name, value in fields if name.lower() == "set-cookie"]
        return Answer(int(lines[0].split()[1]), told)

    def close(self) -> None:
        """Hang up, and end the server."""
        self._writer.close()
        self._loop.run_until_complete(self._runner.cleanup())


def as_bytes(asking: Asking) -> bytes:
    fields = {**HEADERS, "cookie": asking.cookies, "x-forwarded-proto": "https"}
    if asking.method == "POST":
        fields["content-length"] = "0"
    lines = [f"{asking.method} {asking.path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
