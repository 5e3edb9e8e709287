"""Applications that are not ASGI, reached as if they were: the browser of the tests knows no other.

`wsgi_as_asgi` runs a WSGI application as a threaded server does: every request in a thread of its
own, which may wait for the test's event loop but is never waited for by it.
"""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable
from contextlib import closing, nullcontext
from typing import Any, TypeVar

R = TypeVar("R")

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


async def in_own_thread(call: Callable[[], R]) -> R:
    """Run a call in a thread of its own: no pool, because a test lets any number wait at a gate."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[R] = loop.create_future()

    def tell(how: Callable[[Any], None], what: Any) -> None:
        if not done.done():
            how(what)

    def run() -> None:
        try:
            value = call()
        except BaseException as error:
            loop.call_soon_threadsafe(tell, done.set_exception, error)
        else:
            loop.call_soon_threadsafe(tell, done.set_result, value)

    threading.Thread(target=run, name="request", daemon=True).start()
    return await done


def wsgi_as_asgi(app: WsgiApp) -> Any:
    """A WSGI application (PEP 3333) as an ASGI callable, for http alone."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http", "WSGI knows neither sockets nor start-up"
        body = b""
        more = True
        while more:
            message = await receive()
            body += bytes(message.get("body", b""))
            more = message.get("more_body", False)
        loop = asyncio.get_running_loop()

        def wait_for(work: Coroutine[Any, Any, None]) -> None:
            asyncio.run_coroutine_threadsafe(work, loop).result(30)

        exchange = _WsgiExchange(scope["method"] == "HEAD", send, wait_for)
        await in_own_thread(lambda: exchange.run(app, environ_of(scope, body)))

    return serve


def environ_of(scope: Any, body: bytes) -> dict[str, Any]:
    """The environ of an ASGI scope; text is the wire's bytes as latin-1 (PEP 3333)."""
    root = scope.get("root_path", "")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": root,
        "PATH_INFO": scope["path"].removeprefix(root).encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": scope["server"][0],
        "SERVER_PORT": str(scope["server"][1]),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if scope["client"] is not None:
        environ["REMOTE_ADDR"] = scope["client"][0]
    for name, value in scope["headers"]:
        key = name.decode("latin-1").upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        text = value.decode("latin-1")
        joint = "; " if key == "HTTP_COOKIE" else ","
        environ[key] = f"{environ[key]}{joint}{text}" if key in environ else text
    return environ


class _WsgiExchange:
    """One request: `start_response` is remembered until there is something to send, as PEP 3333
    wants it, so that an application may still replace its answer by an error page."""

    def __init__(
        self, head: bool, send: Any, wait_for: Callable[[Coroutine[Any, Any, None]], None]
    ) -> None:
        self._head = head
        self._send = send
        self._wait_for = wait_for
        self._answer: tuple[int, list[tuple[str, str]]] | None = None
        self._started = False

    def run(self, app: WsgiApp, environ: dict[str, Any]) -> None:
        """The whole of it, in a worker's thread."""
        parts = app(environ, self._start_response)
        with closing(parts) if hasattr(parts, "close") else nullcontext():  # type: ignore[type-var]
            for part in parts:
                if part:
                    self._write(part)
            self._write(b"", last=True)

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None and self._started:
            raise exc_info[1].with_traceback(exc_info[2])
        assert exc_info is not None or self._answer is None, "start_response is called once"
        self._answer = int(status[:3]), headers
        return self._write

    def _write(self, part: bytes, last: bool = False) -> None:
        if not self._started:
            assert self._answer is not None, "start_response comes before the body"
            self._started = True
            status, headers = self._answer
            encoded = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers]
            start = {"type": "http.response.start", "status": status, "headers": encoded}
            self._wait_for(self._send(start))
        body = b"" if self._head else part
        message = {"type": "http.response.body", "body": body, "more_body": not last}
        self._wait_for(self._send(message))
