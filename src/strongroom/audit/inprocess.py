"""The way to an application in this process: ASGI, WSGI and Django, without a network.

The application sees what a server would hand it; its lifespan runs for as long as the transport is
open. What it raises is a reply of status 500, as a server would make of it. An ASGI application
that sends without end is stopped at the limit, and one that takes too long is cancelled.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import sys
import threading
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

from .wire import Limits, Reply, Request, Transport, Unreachable, port_of

_CLIENT = ("198.51.100.7", 50_000)
_PATIENCE = 5.0
Message = MutableMapping[str, Any]


def transport_for(app: Any) -> Transport:
    """A transport to this application: ASGI if it is a coroutine function or has one, else WSGI."""
    if _is_asgi(app):
        return AsgiTransport(app)
    return WsgiTransport(app)


def _is_asgi(app: Any) -> bool:
    if inspect.iscoroutinefunction(app):
        return True
    call: Any = getattr(app, "__call__", None)  # noqa: B004
    if inspect.iscoroutinefunction(call):
        return True
    function: Any = app if inspect.isfunction(app) else call
    try:
        return len(inspect.signature(function).parameters) == 3 if function else False
    except (TypeError, ValueError):
        return False


class AsgiTransport:
    """Runs an ASGI application on an event loop of its own, in a thread of its own."""

    is_network = False

    def __init__(self, app: Any) -> None:
        self._app = app
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._started = threading.Event()
        self._lifespan = asyncio.run_coroutine_threadsafe(self._live(), self._loop)
        self._events_done: asyncio.Event | None = None
        self._started.wait(_PATIENCE)

    def send(self, request: Request, limits: Limits) -> Reply:
        """One reply of the application. Raises: Unreachable if it takes too long."""
        call = _AsgiCall(self._app, request, limits)
        future = asyncio.run_coroutine_threadsafe(call.run(), self._loop)
        try:
            return future.result(limits.timeout + _PATIENCE)
        except TimeoutError:
            future.cancel()
            raise Unreachable(
                f"{request.url} did not answer in full within {limits.timeout:g} seconds.", "time"
            ) from None

    def close(self) -> None:
        """End the lifespan and the loop."""
        asyncio.run_coroutine_threadsafe(
            self._events.put({"type": "lifespan.shutdown"}), self._loop
        ).result(_PATIENCE)
        try:
            self._lifespan.result(_PATIENCE)
        except (TimeoutError, Exception):
            self._lifespan.cancel()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _live(self) -> None:
        await self._events.put({"type": "lifespan.startup"})

        async def send(message: Message) -> None:
            if str(message["type"]).startswith("lifespan.startup"):
                self._started.set()

        try:
            scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
            await self._app(scope, self._events.get, send)
        except Exception:
            return
        finally:
            self._started.set()


class _TooMuch(Exception):
    """The application sent more than the limit, and is stopped."""


class _AsgiCall:
    """One request to the application."""

    def __init__(self, app: Any, request: Request, limits: Limits) -> None:
        self.app, self.request, self.limits = app, request, limits
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.body = bytearray()
        self.over = asyncio.Event()
        self.handed = 0

    async def run(self) -> Reply:
        is_socket = any(k.lower() == "upgrade" for k, _v in self.request.headers)
        try:
            async with asyncio.timeout(self.limits.timeout):
                scope = self._scope("websocket" if is_socket else "http")
                receive = self._receive_socket if is_socket else self._receive
                await self.app(scope, receive, self._send)
        except _TooMuch:
            return self._reply(truncated=True)
        except TimeoutError:
            raise Unreachable(
                f"{self.request.url} did not answer in full within {self.limits.timeout:g} "
                f"seconds.",
                "time",
            ) from None
        except Exception:
            self.status = self.status or 500
        return self._reply(truncated=False)

    def _reply(self, *, truncated: bool) -> Reply:
        body = bytes(self.body[: self.limits.body])
        return Reply(self.request, self.status or 500, tuple(self.headers), body, truncated)

    def _scope(self, kind: str) -> dict[str, Any]:
        parts = self.request.place
        headers = [(k.lower().encode("latin-1"), v.encode("utf-8", "replace"))
                   for k, v in self.request.headers]  # fmt: skip
        if self.request.body or self.request.method in ("POST", "PUT", "PATCH"):
            headers.append((b"content-length", str(len(self.request.body)).encode()))
        scheme = parts.scheme
        if kind == "websocket":
            scheme = {"http": "ws", "https": "wss"}.get(scheme, scheme)
        scope: dict[str, Any] = {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": scheme,
            "path": unquote_to_bytes(parts.path or "/").decode("utf-8", "replace"),
            "raw_path": (parts.path or "/").encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "headers": headers,
            "client": _CLIENT,
            "server": (parts.hostname or "", port_of(self.request.url)),
            "state": {},
        }
        if kind == "http":
            return {**scope, "method": self.request.method}
        return {**scope, "subprotocols": []}

    async def _receive(self) -> Message:
        body, pause = self.request.body, self.request.pause
        self.handed += 1
        if pause is None and self.handed == 1:
            return {"type": "http.request", "body": body, "more_body": False}
        half = max(1, len(body) // 2)
        if pause is not None and self.handed == 1:
            return {"type": "http.request", "body": body[:half], "more_body": True}
        if pause is not None and self.handed == 2:
            await asyncio.get_running_loop().run_in_executor(None, pause)
            return {"type": "http.request", "body": body[half:], "more_body": False}
        await self.over.wait()
        return {"type": "http.disconnect"}

    async def _receive_socket(self) -> Message:
        self.handed += 1
        if self.handed == 1:
            return {"type": "websocket.connect"}
        return {"type": "websocket.disconnect", "code": 1000}

    async def _send(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start" | "websocket.http.response.start":
                self.status = int(message["status"])
                self.headers = [
                    (bytes(k).decode("latin-1").lower(), bytes(v).decode("utf-8", "replace"))
                    for k, v in message.get("headers", [])
                ]
            case "http.response.body" | "websocket.http.response.body":
                self.body += message.get("body", b"")
                if len(self.body) > self.limits.body:
                    raise _TooMuch
                if not message.get("more_body", False):
                    self.over.set()
            case "websocket.accept":
                self.status = 101
            case "websocket.close":
                self.status = self.status or 403
            case _:
                pass


class WsgiTransport:
    """Calls a WSGI application in the thread of the caller."""

    is_network = False

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    def send(self, request: Request, limits: Limits) -> Reply:
        """One reply of the application."""
        said: list[tuple[int, list[tuple[str, str]]]] = []
        kept = bytearray()

        def start_response(status: str, headers: list[tuple[str, str]], _info: Any = None) -> Any:
            said.append((int(status.split(" ", 1)[0]), list(headers)))
            return kept.extend

        truncated = False
        try:
            result = self._app(_environ(request), start_response)
            try:
                for part in result:
                    kept += part
                    if len(kept) > limits.body:
                        truncated = True
                        break
            finally:
                close = getattr(result, "close", None)
                if close is not None:
                    close()
        except Exception:
            return Reply(request, 500)
        status, headers = said[-1] if said else (500, [])
        told = tuple((k.lower(), v.encode("latin-1", "replace").decode("utf-8", "replace"))
                     for k, v in headers)  # fmt: skip
        return Reply(request, status, told, bytes(kept[: limits.body]), truncated)

    def close(self) -> None:
        """Nothing is open."""


class _Body(io.RawIOBase):
    """A body that pauses in its middle."""

    def __init__(self, request: Request) -> None:
        self._left = request.body
        self._until = max(1, len(request.body) // 2)
        self._pause = request.pause

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._pause is not None and self._until == 0:
            pause, self._pause = self._pause, None
            pause()
        most = len(buffer) if self._pause is None else min(len(buffer), self._until)
        part, self._left = self._left[:most], self._left[most:]
        if self._pause is not None:
            self._until -= len(part)
        buffer[: len(part)] = part
        return len(part)


def _environ(request: Request) -> dict[str, Any]:
    parts = request.place
    raw: Any = _Body(request) if request.pause else io.BytesIO(request.body)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(parts.path or "/").decode("latin-1"),
        "QUERY_STRING": parts.query,
        "REQUEST_URI": (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        "SERVER_NAME": parts.hostname or "",
        "SERVER_PORT": str(port_of(request.url)),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": _CLIENT[0],
        "REMOTE_PORT": str(_CLIENT[1]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": parts.scheme,
        "wsgi.input": io.BufferedReader(raw) if request.pause else raw,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "CONTENT_LENGTH": str(len(request.body)),
    }
    for name, value in request.headers:
        key = name.upper().replace("-", "_")
        key = key if key == "CONTENT_TYPE" else f"HTTP_{key}"
        environ[key] = value.encode("utf-8", "replace").decode("latin-1")
    return environ
