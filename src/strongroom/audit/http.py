"""The way over the network: HTTP/1.1, bounded in time and size whatever the server does.

httpcore has time limits for each read, and a server that sends a byte a second would never reach
one. So every read and write here gets what is left of the whole request's time. Compressed bodies
are not asked for, and where they come all the same they are unpacked only up to the limit.
"""

from __future__ import annotations

import ssl
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpcore

from .wire import Limits, Reply, Request, Unreachable, port_of

_LONGEST = 24 * 3600.0


class _Deadline(threading.local):
    """When the present request of this thread must be over."""

    at: float = 0.0

    def left(self, asked: float | None) -> float:
        left = self.at - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout
        return min(left, _LONGEST if asked is None else asked)


class _Stream(httpcore.NetworkStream):
    """A connection that knows the deadline."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._inner, self._deadline = inner, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._deadline.left(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(timeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Opens such connections."""

    def __init__(self, deadline: _Deadline) -> None:
        self._inner, self._deadline = httpcore.SyncBackend(), deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(timeout)
        stream = self._inner.connect_tcp(host, port, left, local_address, socket_options)
        return _Stream(stream, self._deadline)


class HttpTransport:
    """Requests over the network.

    `insecure` looks past a certificate that is not right; `ca` is a file of authorities to believe;
    `proxy` is an http URL, credentials included.
    """

    is_network = True

    def __init__(
        self, *, insecure: bool = False, ca: str | None = None, proxy: str | None = None
    ) -> None:
        self._deadline = _Deadline()
        shared: dict[str, Any] = {
            "ssl_context": _context(insecure, ca),
            "network_backend": _Backend(self._deadline),
            "max_connections": 64,
            "max_keepalive_connections": 4,
            "keepalive_expiry": 2.0,
        }
        self._pool: httpcore.ConnectionPool
        if proxy is None:
            self._pool = httpcore.ConnectionPool(**shared)
        else:
            self._pool = httpcore.HTTPProxy(**_proxy(proxy), **shared)

    def send(self, request: Request, limits: Limits) -> Reply:
        """One reply within the limits.

        Raises:
            Unreachable: there was none, with a sentence that says what happened instead.
        """
        self._deadline.at = time.monotonic() + limits.timeout
        try:
            return self._send_again(request, limits)
        except httpcore.TimeoutException:
            raise Unreachable(
                f"{request.url} did not answer in full within {limits.timeout:g} seconds.", "time"
            ) from None
        except (httpcore.NetworkError, httpcore.ProxyError, OSError) as error:
            raise _network(request.url, error) from None
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol, ValueError) as error:
            raise Unreachable(
                f"{request.url} answered with something that is not HTTP "
                f"({type(error).__name__}: {str(error)[:120]}).",
                "http",
            ) from None

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    def _send_again(self, request: Request, limits: Limits) -> Reply:
        """Once more where a kept connection was closed by the server just then, and GET only."""
        try:
            return self._send(request, limits)
        except (httpcore.NetworkError, httpcore.RemoteProtocolError):
            if request.method not in ("GET", "HEAD") or request.pause is not None:
                raise
            return self._send(request, limits)

    def _send(self, request: Request, limits: Limits) -> Reply:
        headers = [(key.encode("latin-1"), _octets(value)) for key, value in request.headers]
        stream = self._pool.stream(
            request.method.encode("ascii"),
            _url(request.url),
            headers=[*headers, *_length(request)],
            content=_parts(request),
        )
        with stream as response:
            body, truncated = _read(response.iter_stream(), limits.body)
            told = tuple(
                (key.decode("latin-1").lower(), value.decode("utf-8", "replace"))
                for key, value in response.headers
            )
            status = response.status
            if status == 101:
                opened: Any = getattr(response, "extensions")  # noqa: B009 - untyped in httpcore
                opened["network_stream"].close()
        return Reply(request, status, told, _unpacked(told, body, limits.body), truncated)


def _read(stream: Iterable[bytes], most: int) -> tuple[bytes, bool]:
    """At most so many octets, and whether there was more."""
    kept = bytearray()
    for part in stream:
        kept += part
        if len(kept) > most:
            return bytes(kept[:most]), True
    return bytes(kept), False


def _parts(request: Request) -> bytes | Iterator[bytes]:
    if request.pause is None:
        return request.body
    return _halves(request.body, request.pause)


def _halves(body: bytes, pause: Any) -> Iterator[bytes]:
    half = max(1, len(body) // 2)
    yield body[:half]
    pause()
    yield body[half:]


def _length(request: Request) -> list[tuple[bytes, bytes]]:
    if not request.body and request.method in ("GET", "HEAD", "OPTIONS", "DELETE"):
        return []
    return [(b"Content-Length", str(len(request.body)).encode())]


def _octets(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def _url(url: str) -> httpcore.URL:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return httpcore.URL(
        scheme=parts.scheme.encode("ascii"),
        host=(parts.hostname or "").encode("idna"),
        port=port_of(url) or None,
        target=_octets(target).replace(b" ", b"%20"),
    )


def _unpacked(headers: tuple[tuple[str, str], ...], body: bytes, most: int) -> bytes:
    """The body without a compression that nobody asked for; as it came if it cannot be read."""
    coding = next(
        (value.strip().lower() for key, value in headers if key == "content-encoding"), ""
    )
    if coding not in ("gzip", "x-gzip", "deflate"):
        return body
    for window in (47, -15):  # gzip or zlib by its own header, or deflate without one
        try:
            return zlib.decompressobj(window).decompress(body, most)
        except zlib.error:
            continue
    return body


def _context(insecure: bool, ca: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _proxy(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    host = f"{parts.scheme or 'http'}://{parts.hostname}:{parts.port or 8080}"
    if parts.username is None:
        return {"proxy_url": host}
    return {"proxy_url": host, "proxy_auth": (parts.username, parts.password or "")}


def _network(url: str, error: Exception) -> Unreachable:
    said = f"{error} {error.__cause__ or ''}".lower()
    host = urlsplit(url).netloc
    if "certificate" in said or "ssl" in said:
        return Unreachable(
            f"The certificate or TLS of {host} is refused ({str(error)[:120]}); --ca names an "
            "authority of your own, --insecure looks all the same.",
            "tls",
        )
    if "name or service" in said or "getaddrinfo" in said or "nodename" in said:
        return Unreachable(f"There is no host called {host}.", "name")
    if "refused" in said:
        return Unreachable(f"Nobody listens at {host}.", "refused")
    return Unreachable(f"The connection to {host} broke off ({str(error)[:120]}).", "broken")
