"""A cookie jar that keeps rfc6265bis, and tells what it refused and why.

A check must see what a browser would keep and send, not what a lenient library would. What it can
not know is the public suffix list: a Domain of one label, or one of the few widest suffixes of two,
is refused; the rest is taken. CK-n and the rules: docs/standards.md.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from urllib.parse import urlsplit

from strongroom.core.cookies import MAX_AGE_CAP, SIZE_LIMIT

from .wire import MOST_COOKIES, is_loopback

ATTRIBUTE_LIMIT = 1024
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PREFIXES = ("__host-http-", "__host-", "__http-", "__secure-")
_SUFFIXES = frozenset(
    "co.uk org.uk ac.uk gov.uk com.au net.au org.au co.nz co.jp co.kr com.br com.cn com.mx co.in "
    "co.za com.tr com.sg github.io gitlab.io herokuapp.com azurewebsites.net cloudfront.net "
    "vercel.app netlify.app pages.dev workers.dev web.app fly.dev onrender.com".split()
)


@dataclass(frozen=True, slots=True)
class Cookie:
    """One cookie. `line` is the Set-Cookie value it came from; `expires` is seconds UTC or None."""

    name: str
    value: str = field(repr=False)
    domain: str
    path: str = "/"
    host_only: bool = True
    secure: bool = False
    http_only: bool = False
    same_site: str = ""
    partitioned: bool = False
    expires: float | None = None
    max_age: int | None = None
    created: int = 0
    line: str = field(default="", repr=False)

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same cookie as another."""
        return self.name, self.domain, self.path


@dataclass(frozen=True, slots=True)
class Refused:
    """A Set-Cookie that a browser would not keep."""

    name: str
    why: str


class Jar:
    """The cookies of one browser. Safe to use from several threads."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str, str], Cookie] = {}
        self._count = 0
        self.refused: list[Refused] = []

    def __iter__(self) -> Iterator[Cookie]:
        with self._lock:
            kept = list(self._kept.values())
        return iter([each for each in kept if each.expires is None or each.expires > self._now()])

    def names(self) -> list[str]:
        """The names in it, each once."""
        return list(dict.fromkeys(each.name for each in self))

    def find(self, name: str) -> Cookie | None:
        """The cookie of this name; of several, the one that browsers send first."""
        found = sorted((each for each in self if each.name == name), key=_order)
        return found[0] if found else None

    def copy(self) -> Jar:
        """What a thief takes along: the same cookies, from here on by themselves."""
        other = Jar(self._now)
        other._kept = {each.key: each for each in self}
        other._count = self._count
        return other

    def drop(self, *names: str) -> None:
        """Forget the cookies of these names."""
        with self._lock:
            self._kept = {key: each for key, each in self._kept.items() if each.name not in names}

    def put(self, cookie: Cookie) -> None:
        """Put a cookie in by other means than a response, as an attacker would."""
        with self._lock:
            self._kept[cookie.key] = cookie

    def change(self, name: str, value: str) -> None:
        """Give every cookie of the name another value."""
        for each in list(self):
            if each.name == name:
                self.put(replace(each, value=value, expires=None))

    def header(self, url: str) -> str:
        """The Cookie header for a request there, empty if none goes along."""
        chosen = sorted((each for each in self if travels(each, url)), key=_order)
        return "; ".join(f"{c.name}={c.value}" if c.name else c.value for c in chosen)

    def take(self, line: str, url: str) -> Cookie | None:
        """Keep what a Set-Cookie value says -> the cookie, or None if a browser would refuse it."""
        parsed = parse_set_cookie(line, url, self._now())
        if isinstance(parsed, Refused):
            self.refused.append(parsed)
            return None
        with self._lock:
            return self._keep(parsed, url)

    def _keep(self, cookie: Cookie, url: str) -> Cookie | None:
        if not cookie.secure and not _is_secure(url) and self._overlays(cookie):
            self.refused.append(Refused(cookie.name, "it would overlay a Secure cookie from http"))
            return None
        old = self._kept.get(cookie.key)
        self._count += 1
        kept = replace(cookie, created=old.created if old else self._count)
        if kept.expires is not None and kept.expires <= self._now():
            self._kept.pop(kept.key, None)
        elif old is None and len(self._kept) >= MOST_COOKIES:
            self.refused.append(Refused(cookie.name, f"there are {MOST_COOKIES} cookies already"))
        else:
            self._kept[kept.key] = kept
        return kept

    def _overlays(self, cookie: Cookie) -> bool:
        return any(
            old.secure and old.name == cookie.name and _path_matches(old.path, cookie.path)
            for old in self._kept.values()
        )


def _order(cookie: Cookie) -> tuple[int, int]:
    return -len(cookie.path), cookie.created


def travels(cookie: Cookie, url: str) -> bool:
    """Whether the cookie goes along with a same-site request there."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    at_home = host == cookie.domain or (
        not cookie.host_only and host.endswith("." + cookie.domain) and not _is_address(host)
    )
    return (
        at_home
        and _path_matches(cookie.path, parts.path or "/")
        and (not cookie.secure or _is_secure(url))
    )


def _is_secure(url: str) -> bool:
    return urlsplit(url).scheme in ("https", "wss") or is_loopback(url)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _path_matches(path: str, asked: str) -> bool:
    if asked == path:
        return True
    return asked.startswith(path) and (path.endswith("/") or asked[len(path) :][:1] == "/")


def attributes_of(line: str) -> list[tuple[str, str]]:
    """A Set-Cookie value's attributes in order: names in lower case, too long ones left out."""
    found: list[tuple[str, str]] = []
    for part in line.split(";")[1:]:
        name, _, value = part.partition("=")
        if len(value.strip()) <= ATTRIBUTE_LIMIT:
            found.append((name.strip().lower(), value.strip()))
    return found


def parse_set_cookie(line: str, url: str, now: float) -> Cookie | Refused:
    """The cookie that a browser would keep, or why it keeps none (rfc6265bis, 5.6 and 5.7)."""
    pair = line.partition(";")[0]
    name, equals, value = pair.partition("=")
    name, value = (name.strip(" \t"), value.strip(" \t")) if equals else ("", pair.strip(" \t"))
    if _CONTROLS.search(line):
        return Refused(_CONTROLS.sub("?", name)[:60], "it has a control character")
    if not name and not value:
        return Refused("", "it has neither name nor value")
    if len(name.encode()) + len(value.encode()) > SIZE_LIMIT:
        return Refused(name[:60], f"name and value have more than {SIZE_LIMIT} octets together")
    said = dict(attributes_of(line))
    cookie = _cookie(name, value, said, line, url, now)
    problem = _placed_wrongly(cookie, url) or _breaks_prefix(cookie, said)
    return Refused(name, problem) if problem else cookie


def _cookie(name: str, value: str, said: dict[str, str], line: str, url: str, now: float) -> Cookie:
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    domain = said.get("domain", "").lower().removeprefix(".")
    path = said.get("path", "")
    expires, max_age = _lifetime(said, now)
    known = {"lax": "Lax", "strict": "Strict", "none": "None"}
    return Cookie(
        name=name,
        value=value,
        domain=domain or host,
        path=path if path.startswith("/") else _default_path(parts.path),
        host_only=not domain or (domain == host and _is_address(host)),
        secure="secure" in said,
        http_only="httponly" in said,
        same_site=known.get(said.get("samesite", "").lower(), ""),
        partitioned="partitioned" in said,
        expires=expires,
        max_age=max_age,
        line=line,
    )


def _placed_wrongly(cookie: Cookie, url: str) -> str:
    host = (urlsplit(url).hostname or "").lower()
    if not cookie.host_only and host != cookie.domain and not host.endswith("." + cookie.domain):
        return "its Domain is not this host nor a parent of it"
    if not cookie.host_only and _is_suffix(cookie.domain) and host != cookie.domain:
        return "its Domain is a public suffix"
    if cookie.secure and not _is_secure(url):
        return "it is Secure and came over plain http"
    if cookie.same_site == "None" and not cookie.secure:
        return "it says SameSite=None without Secure"
    if cookie.partitioned and not cookie.secure:
        return "it says Partitioned without Secure"
    return ""


def _is_suffix(domain: str) -> bool:
    return "." not in domain or domain in _SUFFIXES


def _breaks_prefix(cookie: Cookie, said: dict[str, str]) -> str:
    lowered = (cookie.name or cookie.value).lower()
    prefix = next((each for each in _PREFIXES if lowered.startswith(each)), "")
    if not prefix:
        return ""
    if not cookie.name:
        return "it has no name, and a value that begins like a prefixed name"
    if not cookie.secure:
        return f"a name with {prefix} needs Secure"
    if prefix.startswith("__host-") and ("domain" in said or said.get("path") != "/"):
        return f"a name with {prefix} needs Path=/ and no Domain"
    if prefix.endswith("http-") and not cookie.http_only:
        return f"a name with {prefix} needs HttpOnly"
    return ""


def _lifetime(said: dict[str, str], now: float) -> tuple[float | None, int | None]:
    """When it expires, and how many seconds that is from now; None for "with the browser"."""
    if re.fullmatch(r"-?[0-9]+", said.get("max-age", "")):
        seconds = int(said["max-age"][:12])
        return (now + min(seconds, MAX_AGE_CAP), seconds) if seconds > 0 else (0.0, 0)
    if "expires" in said:
        try:
            moment = parsedate_to_datetime(said["expires"])
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            seconds = int((moment - datetime.fromtimestamp(now, UTC)).total_seconds())
        except (ValueError, OverflowError, TypeError):
            return None, None
        return (now + min(seconds, MAX_AGE_CAP), seconds) if seconds > 0 else (0.0, 0)
    return None, None


def _default_path(asked: str) -> str:
    last = asked.rfind("/")
    return asked[:last] if last > 0 else "/"
