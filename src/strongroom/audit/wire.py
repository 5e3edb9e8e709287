"""Requests and replies, and what every transport promises.

A transport sends one request and follows nothing. It must end: within `Limits.timeout` seconds in
all, with at most `Limits.body` octets kept, whatever the server does. It raises `Unreachable` where
there was no reply that HTTP knows, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import SplitResult, urljoin, urlsplit

Headers = tuple[tuple[str, str], ...]

MOST_COOKIES = 180
"""What Chromium keeps for one site; more lines in a response are noise, or an attack."""

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Unreachable(Exception):
    """There was no reply. `what` is a sentence, `kind` one word: time, tls, refused, name, http."""

    def __init__(self, what: str, kind: str) -> None:
        self.what, self.kind = what, kind
        super().__init__(what)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a server's time and talk is taken: seconds for a whole reply, octets of body."""

    timeout: float = 20.0
    body: int = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as it goes over the wire. `url` is absolute.

    `pause` is called when half of the body is sent: what it waits for happens in the middle of this
    request, which is how a slow client is played.
    """

    method: str
    url: str
    headers: Headers = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    pause: Callable[[], None] | None = field(default=None, repr=False, compare=False)

    @property
    def place(self) -> SplitResult:
        """The URL in its parts."""
        return urlsplit(self.url)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. Header names are lower-case, in the order they came, repeated ones too."""

    request: Request
    status: int
    headers: Headers = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    truncated: bool = False
    number: int = 0

    @property
    def url(self) -> str:
        """What was asked for."""
        return self.request.url

    @property
    def path(self) -> str:
        """The path that was asked for."""
        return self.request.place.path or "/"

    def values(self, name: str) -> list[str]:
        """All values of a header, in order."""
        return [value for key, value in self.headers if key == name]

    def value(self, name: str) -> str:
        """A header as one text, empty if there is none."""
        return ", ".join(self.values(name))

    @property
    def set_cookies(self) -> list[str]:
        """Its Set-Cookie values, as many as a browser could keep."""
        return self.values("set-cookie")[:MOST_COOKIES]

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case."""
        return self.value("content-type").partition(";")[0].strip().lower()

    @property
    def text(self) -> str:
        """The body as text: in the charset that is named if there is such a one, else UTF-8."""
        charset = self.value("content-type").lower().partition("charset=")[2]
        charset = charset.partition(";")[0].strip(" \"'")
        try:
            return self.body.decode(charset or "utf-8", "replace")
        except (LookupError, ValueError):
            return self.body.decode("utf-8", "replace")

    @property
    def redirect(self) -> str | None:
        """The absolute URL that it sends to, if it does."""
        location = self.value("location")
        if self.status not in (301, 302, 303, 307, 308) or not location:
            return None
        try:
            there = urljoin(self.url, location)
            return there if urlsplit(there).scheme in ("http", "https") else None
        except ValueError:
            return None


class Transport(Protocol):
    """Carries requests to the site. `is_network` tells it from an application in this process."""

    is_network: bool

    def send(self, request: Request, limits: Limits) -> Reply:
        """One reply, nothing followed, within the limits.

        Raises:
            Unreachable: there was none.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def origin_of(url: str) -> str:
    """Scheme, host and port as browsers write an origin: without the scheme's own port."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = port_of(url)
    return f"{parts.scheme}://{host}" + ("" if _PORTS.get(parts.scheme) == port else f":{port}")


def port_of(url: str) -> int:
    """The port, which may be the scheme's own. 0 if the URL has none that can be."""
    parts = urlsplit(url)
    try:
        return parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return 0


def is_loopback(url: str) -> bool:
    """Whether this is a page of this machine, where browsers trust plain http."""
    host = urlsplit(url).hostname or ""
    return host in _LOOPBACK or host.endswith(".localhost")


def without_fragment(url: str) -> str:
    """The URL as it is asked for."""
    return url.partition("#")[0]
