"""A client for applications in process: ASGI, WSGI and aiohttp, with a cookie jar and gates."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any, Protocol
from urllib.parse import urlsplit

PATIENCE = 20.0


class Gates:
    """Where the application holds a request, until the scenario lets it go."""

    def __init__(self) -> None:
        self.entered: set[str] = set()
        self.open: set[str] = set()

    async def hold(self, name: str | None) -> None:
        """In an asynchronous application: wait, if the request names a gate."""
        if name:
            self.entered.add(name)
            await self._until(lambda: name in self.open)

    def hold_thread(self, name: str | None) -> None:
        """In a synchronous application."""
        if not name:
            return
        self.entered.add(name)
        give_up = time.monotonic() + PATIENCE
        while name not in self.open:
            if time.monotonic() > give_up:
                raise TimeoutError(f"the gate {name} was never opened")
            time.sleep(0.002)

    async def reached(self, name: str) -> None:
        """In the scenario: wait until a request is held at this gate."""
        await self._until(lambda: name in self.entered)

    async def _until(self, holds: Callable[[], bool]) -> None:
        give_up = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > give_up:
                raise TimeoutError("a gate was never reached, or never opened")
            await asyncio.sleep(0.002)


@dataclass(slots=True)
class Answer:
    """Status, body, and the cookies that the response set."""

    status: int
    body: str
    cookies: dict[str, str]


class Site(Protocol):
    """An application that can be asked."""

    async def ask(self, method: str, path: str, cookies: dict[str, str]) -> Answer:
        """One request."""
        ...


def _headers(cookies: dict[str, str]) -> list[tuple[bytes, bytes]]:
    told = [
        (b"host", b"shop.example"),
        (b"sec-fetch-site", b"same-origin"),
        (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"),
    ]
    if cookies:
        text = "; ".join(f"{name}={value}" for name, value in cookies.items())
        told.append((b"cookie", text.encode("latin-1")))
    return told


def set_cookies(lines: list[str]) -> dict[str, str]:
    """Name and value of each Set-Cookie line; a deletion is empty."""
    found: dict[str, str] = {}
    for line in lines:
        jar: SimpleCookie = SimpleCookie()
        jar.load(line)
        for name, morsel in jar.items():
            gone = morsel["max-age"] == "0" or "1970" in morsel["expires"]
            found[name] = "" if gone else morsel.coded_value
    return found


class AsgiSite:
    """An ASGI application, called in this loop."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def ask(self, method: str, path: str, cookies: dict[str, str]) -> Answer:
        """One request, in this task."""
        parts = urlsplit(path)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "scheme": "https",
            "headers": _headers(cookies),
            "client": ("192.0.2.7", 1234),
            "server": ("shop.example", 443),
            "state": {},
        }
        status, body, lines = 0, b"", list[str]()
        sent = False

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if sent:
                await asyncio.sleep(PATIENCE)
            sent = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status, body
            if message["type"] == "http.response.start":
                status = message["status"]
                lines.extend(
                    value.decode("latin-1")
                    for name, value in message["headers"]
                    if name.lower() == b"set-cookie"
                )
            elif message["type"] == "http.response.body":
                body += message.get("body", b"")

        await self.app(scope, receive, send)
        return Answer(status, body.decode(), set_cookies(lines))


class WsgiSite:
    """A WSGI application, called in threads."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._threads = ThreadPoolExecutor(8)

    async def ask(self, method: str, path: str, cookies: dict[str, str]) -> Answer:
        """One request, in a thread of its own."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._call, method, path, cookies)

    def _call(self, method: str, path: str, cookies: dict[str, str]) -> Answer:
        from werkzeug.test import EnvironBuilder, run_wsgi_app

        headers = [(k.decode(), v.decode("latin-1")) for k, v in _headers(cookies)]
        builder = EnvironBuilder(
            path=path, method=method, base_url="https://shop.example", headers=headers
        )
        iterable, status, answered = run_wsgi_app(self.app, builder.get_environ(), buffered=True)
        return Answer(
            int(status[:3]),
            b"".join(iterable).decode(),
            set_cookies(answered.getlist("set-cookie")),
        )


class AiohttpSite:
    """An aiohttp application, on a socket of its own."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._client: Any = None

    async def ask(self, method: str, path: str, cookies: dict[str, str]) -> Answer:
        """One request over loopback."""
        from aiohttp import DummyCookieJar
        from aiohttp.test_utils import TestClient, TestServer

        if self._client is None:
            self._client = TestClient(TestServer(self.app), cookie_jar=DummyCookieJar())
            await self._client.start_server()
        headers = {k.decode(): v.decode("latin-1") for k, v in _headers(cookies)}
        headers.pop("host")
        async with self._client.request(method, path, headers=headers) as answer:
            body = await answer.text()
            return Answer(answer.status, body, set_cookies(answer.headers.getall("set-cookie", [])))

    async def close(self) -> None:
        """End the server."""
        if self._client is not None:
            await self._client.close()


@dataclass(slots=True)
class Browser:
    """A client with a jar."""

    site: Site
    jar: dict[str, str] = field(default_factory=dict[str, str])

    async def go(self, path: str, method: str = "GET") -> Answer:
        """One request; what it sets is kept."""
        answer = await self.site.ask(method, path, dict(self.jar))
        for name, value in answer.cookies.items():
            if value:
                self.jar[name] = value
            else:
                self.jar.pop(name, None)
        return answer

    def copy(self) -> Browser:
        """Another client with the same cookies."""
        return Browser(self.site, dict(self.jar))


async def held(
    browser: Browser, gates: Gates, path: str, method: str, meanwhile: Callable[[], Awaitable[Any]]
) -> Answer:
    """A request that is held after it has read the session, while something else happens."""
    name = f"gate{len(gates.entered)}-{id(browser)}"
    joined = "&" if "?" in path else "?"
    slow = asyncio.ensure_future(browser.go(f"{path}{joined}gate={name}", method))
    await gates.reached(name)
    try:
        await meanwhile()
    finally:
        gates.open.add(name)
    return await slow
