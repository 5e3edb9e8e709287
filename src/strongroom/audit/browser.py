"""A person's browser: a cookie jar, the headers that browsers send, redirects; within bounds.

Everything that reaches the site goes through one `Network`, which keeps to the hosts that were
named, the rate, and the budget of requests, and remembers each exchange as evidence. `Initiator`
says which page is behind a request, as Origin and Fetch Metadata tell it to the server.
"""

from __future__ import annotations

import json as json_codec
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from .jar import Jar
from .masking import Secrets
from .wire import Headers, Limits, Reply, Request, Transport, Unreachable, origin_of

MOST_REDIRECTS = 10
AGENT = "Mozilla/5.0 (compatible; strongroom-audit)"
OTHER_AGENT = "Mozilla/5.0 (X11; another device; compatible; strongroom-audit)"
FORM = "application/x-www-form-urlencoded"

Fields = Sequence[tuple[str, str]]


class BudgetSpent(Exception):
    """The audit has sent as many requests as it was allowed to."""


@dataclass(frozen=True, slots=True)
class Initiator:
    """Who is behind a request, in the words that a browser has for it.

    `origin` None sends no Origin; `site` empty sends no Fetch Metadata, as old browsers do.
    """

    site: str = "same-origin"
    origin: str | None = ""
    referer: str | None = ""
    mode: str = "navigate"


ITSELF = Initiator()
ADDRESS_BAR = Initiator(site="none", origin=None, referer=None)


@dataclass(slots=True)
class Network:
    """The way to the site, shared by all browsers of one audit.

    `rate` is requests a second at most, 0 for no limit. `extra` are headers for every request.
    `basic_auth` and the like go in there, and are registered as secrets.
    """

    transport: Transport
    hosts: frozenset[str]
    secrets: Secrets = field(default_factory=Secrets)
    limits: Limits = field(default_factory=Limits)
    rate: float = 0.0
    budget: int = 5000
    extra: Headers = field(default=(), repr=False)
    now: Callable[[], float] = time.time
    sent: int = 0
    replies: list[Reply] = field(default_factory=list[Reply], repr=False)
    on_request: Callable[[Request], None] | None = None
    _next: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def send(self, request: Request) -> Reply:
        """One reply, kept as evidence.

        Raises:
            Unreachable: no reply, or a host that nobody named.
            BudgetSpent: too many requests already.
        """
        if urlsplit(request.url).netloc.lower() not in self.hosts:
            raise Unreachable(f"{origin_of(request.url)} is not among the hosts named.", "host")
        self._wait_for_turn()
        if self.on_request is not None:
            self.on_request(request)
        reply = self.transport.send(request, self.limits)
        with self._lock:
            reply = replace(reply, number=len(self.replies) + 1)
            self.replies.append(_lighter(reply) if len(self.replies) > 2000 else reply)
        return reply

    def _wait_for_turn(self) -> None:
        with self._lock:
            if self.sent >= self.budget:
                raise BudgetSpent
            self.sent += 1
            wait = self._next - time.monotonic()
            self._next = max(self._next, time.monotonic()) + (1 / self.rate if self.rate else 0)
        if self.rate and wait > 0:
            time.sleep(wait)


def _lighter(reply: Reply) -> Reply:
    return replace(reply, body=reply.body[:2000])


class Browser:
    """One browser. Not shared between threads; `copy` makes another with the same cookies."""

    def __init__(self, network: Network, jar: Jar | None = None, agent: str = AGENT) -> None:
        self.network = network
        self.jar = Jar(network.now) if jar is None else jar
        self.agent = agent
        self.trail: list[Reply] = []
        """The replies of the last request, redirects included."""

    def copy(self, agent: str | None = None) -> Browser:
        """Another browser with what is in this one's jar now: what a thief has."""
        return Browser(self.network, self.jar.copy(), agent or self.agent)

    def get(self, url: str, initiator: Initiator = ADDRESS_BAR, **more: Any) -> Reply:
        """A page, redirects followed."""
        return self.send("GET", url, initiator=initiator, **more)

    def send(
        self,
        method: str,
        url: str,
        *,
        fields: Fields | None = None,
        json: object = None,
        body: bytes | None = None,
        content_type: str = "",
        headers: Mapping[str, str] | None = None,
        initiator: Initiator = ITSELF,
        follow: bool = True,
        page: str = "",
        pause: Callable[[], None] | None = None,
    ) -> Reply:
        """Send a request as a browser does -> the last reply.

        `page` is where it starts from, for Referer. Raises: Unreachable, BudgetSpent.
        """
        url, content, kind = _content(method, url, fields, json, body, content_type)
        said = dict(headers or {})
        if kind and "Content-Type" not in said:
            said["Content-Type"] = kind
        request = Request(method, url, self._headers(url, method, said, initiator, page),
                          content, pause)  # fmt: skip
        reply = self._exchange(request)
        self.trail = [reply]
        return self._follow(reply, said, initiator) if follow else reply

    def _exchange(self, request: Request) -> Reply:
        reply = self.network.send(request)
        for line in reply.set_cookies:
            cookie = self.jar.take(line, reply.url)
            if cookie is not None:
                self.network.secrets.add(cookie.value)
        return reply

    def _follow(self, reply: Reply, said: dict[str, str], initiator: Initiator) -> Reply:
        while reply.redirect is not None and len(self.trail) <= MOST_REDIRECTS:
            there = reply.redirect
            if urlsplit(there).netloc.lower() not in self.network.hosts:
                break
            keeps = reply.status in (307, 308) or reply.request.method in ("GET", "HEAD")
            method = reply.request.method if keeps else "GET"
            body = reply.request.body if keeps else b""
            kept = {k: v for k, v in said.items() if keeps or k != "Content-Type"}
            headers = self._headers(there, method, kept, initiator, reply.url)
            reply = self._exchange(Request(method, there, headers, body))
            self.trail.append(reply)
        return reply

    def _headers(
        self, url: str, method: str, said: dict[str, str], initiator: Initiator, page: str
    ) -> Headers:
        headers = {
            "Host": urlsplit(url).netloc,
            "User-Agent": self.agent,
            "Accept": "text/html,application/xhtml+xml,application/json;q=0.9,*/*;q=0.8",
            "Accept-Language": "en",
            **dict(self.network.extra),
            **_initiated(url, method, initiator, page),
            **said,
        }
        cookie = self.jar.header(url)
        if cookie:
            headers["Cookie"] = "; ".join(filter(None, [headers.get("Cookie", ""), cookie]))
        return tuple((name, value) for name, value in headers.items() if value)


def _initiated(url: str, method: str, initiator: Initiator, page: str) -> dict[str, str]:
    """Origin, Referer and Fetch Metadata: what the browser says about who is behind it."""
    here = origin_of(url)
    said: dict[str, str] = {}
    if initiator.origin is not None and (method not in ("GET", "HEAD") or initiator.origin):
        said["Origin"] = initiator.origin or here
    if initiator.referer is not None:
        said["Referer"] = initiator.referer or page or f"{here}/"
    if initiator.site:
        said["Sec-Fetch-Site"] = initiator.site
        said["Sec-Fetch-Mode"] = initiator.mode
        said["Sec-Fetch-Dest"] = "document" if initiator.mode == "navigate" else "empty"
        if initiator.mode == "navigate":
            said["Sec-Fetch-User"] = "?1"
    return said


def _content(
    method: str,
    url: str,
    fields: Fields | None,
    json: object,
    body: bytes | None,
    content_type: str,
) -> tuple[str, bytes, str]:
    """URL, body and content type of a request."""
    if json is not None:
        return url, json_codec.dumps(json).encode(), content_type or "application/json"
    if body is not None:
        return url, body, content_type
    if fields is None:
        return url, b"", content_type
    if method in ("GET", "HEAD"):
        return _with_query(url, fields), b"", ""
    if content_type.startswith("multipart/form-data"):
        return url, *multipart(fields)
    if content_type == "text/plain":
        return url, "".join(f"{k}={v}\r\n" for k, v in fields).encode(), content_type
    return url, urlencode(list(fields)).encode(), FORM


def _with_query(url: str, fields: Fields) -> str:
    return urlsplit(url)._replace(query=urlencode(list(fields)), fragment="").geturl()


def multipart(fields: Fields) -> tuple[bytes, str]:
    """A multipart body and its content type."""
    mark = "----strongroom7d1f0c"
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields
    ]
    return ("".join(parts) + f"--{mark}--\r\n").encode(), f"multipart/form-data; boundary={mark}"


def resolved(base: str, url: str) -> str:
    """A URL or path of the target file as an absolute URL."""
    return urljoin(base, url)
