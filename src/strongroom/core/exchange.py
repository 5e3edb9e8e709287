"""The one HTTP vocabulary: an integration makes `RequestFacts` and applies `ResponseEdits`.

Nothing else passes between a framework and the core, so every framework behaves alike. Facts are
lazy: an anonymous request that nobody asks about costs one look at the Cookie header.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .proxies import Forwarding, TrustedProxies

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that promise to change nothing (RFC 9110, 9.2.1)."""

_NO_PROXIES = TrustedProxies()


class RequestFacts:
    """What a request says of itself, as bytes from the wire; derived facts are computed once.

    `root` is the prefix of `path` that the application is mounted under.
    `peer` is the address of the socket's other end, `scheme` the one that this server spoke.
    Header names are lower-case bytes, as ASGI gives them. `websocket` marks a handshake.
    """

    __slots__ = (
        "_cookies",
        "_forwarding",
        "headers",
        "local_scheme",
        "method",
        "path",
        "peer",
        "proxies",
        "query",
        "root",
        "websocket",
    )

    def __init__(
        self,
        *,
        method: str,
        path: str = "/",
        query: str = "",
        scheme: str = "https",
        peer: str | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
        proxies: TrustedProxies = _NO_PROXIES,
        websocket: bool = False,
        root: str = "",
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.local_scheme = scheme
        self.peer = peer
        self.headers = headers
        self.proxies = proxies
        self.websocket = websocket
        self.root = root
        self._forwarding: Forwarding | None = None
        self._cookies: list[tuple[bytes, bytes]] | None = None

    def __repr__(self) -> str:
        """Never shows headers: a Cookie header is a secret (P5)."""
        return f"RequestFacts({self.method} {self.path})"

    def values(self, name: bytes) -> list[bytes]:
        """All values of a header, in order, undecoded."""
        return [value for key, value in self.headers if key == name]

    def header(self, name: bytes) -> str | None:
        """The header as text: repeated fields joined by a comma (RFC 9110, 5.3), or None."""
        found = self.values(name)
        return b", ".join(found).decode("latin-1") if found else None

    @property
    def cookies(self) -> Sequence[tuple[bytes, bytes]]:
        """The Cookie headers among the headers, looked for once: a request is asked for several."""
        if self._cookies is None:
            self._cookies = [each for each in self.headers if each[0] == b"cookie"]
        return self._cookies

    @property
    def forwarding(self) -> Forwarding:
        """Client, scheme and host as far as trusted proxies vouch for them (P20)."""
        if self._forwarding is None:
            self._forwarding = self.proxies.resolve(
                peer=self.peer, scheme=self.local_scheme, headers=self.headers
            )
        return self._forwarding

    @property
    def client(self) -> str | None:
        """The client's address, or None where it cannot be known."""
        return self.forwarding.client

    @property
    def scheme(self) -> str:
        """`http` or `https` as the browser sees it (`ws` and `wss` count as those)."""
        scheme = self.forwarding.scheme
        return {"ws": "http", "wss": "https"}.get(scheme, scheme)

    @property
    def host(self) -> str | None:
        """Host and port as the browser sees them, or None."""
        return self.forwarding.host

    @property
    def is_safe(self) -> bool:
        """Whether the method promises to change nothing. A WebSocket handshake does not count."""
        return self.method in SAFE_METHODS and not self.websocket

    @property
    def has_body(self) -> bool:
        """Whether a body was announced."""
        length = self.header(b"content-length")
        return self.header(b"transfer-encoding") is not None or length not in (None, "0")

    @property
    def is_prefetch(self) -> bool:
        """Whether the browser fetches ahead of the user (Sec-Purpose): not activity (E8)."""
        return "prefetch" in (self.header(b"sec-purpose") or "")

    @property
    def fetch_site(self) -> str | None:
        """Sec-Fetch-Site, or None where the browser sent none."""
        return self.header(b"sec-fetch-site")

    @property
    def is_navigation(self) -> bool:
        """A top-level navigation by the browser's own word; without Fetch Metadata, False."""
        return (
            self.header(b"sec-fetch-mode") == "navigate"
            and self.header(b"sec-fetch-dest") == "document"
        )

    @property
    def wants_html(self) -> bool:
        """Whether a person is looking: the Accept header prefers a page to data."""
        accept = self.header(b"accept") or ""
        return "text/html" in accept

    def hint(self, name: bytes) -> str:
        """A client hint, cut at 512 characters: what is remembered of a client is small."""
        return (self.header(name) or "")[:512]

    @property
    def user_agent(self) -> str:
        """The User-Agent header, cut at 512 characters, without control characters."""
        text = (self.header(b"user-agent") or "")[:512]
        return text if text.isprintable() else "".join(ch for ch in text if ch.isprintable())


@dataclass(slots=True)
class ResponseEdits:
    """What the response must carry. `cookies` are whole Set-Cookie values; `headers` are added.

    `no_store` overrules what the application said of caching, because a cookie or a form token
    must never be kept for somebody else; `personal` only fills in where it said nothing (P23).
    """

    cookies: list[bytes] = field(default_factory=list[bytes], repr=False)
    headers: list[tuple[bytes, bytes]] = field(
        default_factory=list[tuple[bytes, bytes]], repr=False
    )
    vary_cookie: bool = False
    no_store: bool = False
    personal: bool = False

    def __bool__(self) -> bool:
        return bool(
            self.cookies or self.headers or self.vary_cookie or self.no_store or self.personal
        )

    def apply(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The response's headers with the edits made (lower-case names, as ASGI has them)."""
        result: list[tuple[bytes, bytes]] = []
        vary: list[bytes] = []
        told = False
        for name, value in headers:
            lowered = name.lower()
            if lowered == b"vary" and self.vary_cookie:
                vary.append(value)
                continue
            if lowered == b"cache-control":
                if self.no_store and b"no-store" not in value.lower():
                    continue
                told = True
            result.append((name, value))
        if self.vary_cookie:
            result.append((b"vary", _with_cookie(vary) if vary else b"Cookie"))
        if (self.no_store or self.personal) and not told:
            result.append((b"cache-control", b"no-store"))
        result += self.headers
        result += [(b"set-cookie", cookie) for cookie in self.cookies]
        return result


def _with_cookie(values: list[bytes]) -> bytes:
    """Vary with Cookie in it once; `*` already covers everything (RFC 9110, 12.5.5)."""
    listed = [item.strip() for value in values for item in value.split(b",") if item.strip()]
    if b"*" in listed:
        return b"*"
    if not any(item.lower() == b"cookie" for item in listed):
        listed.append(b"Cookie")
    return b", ".join(listed)
