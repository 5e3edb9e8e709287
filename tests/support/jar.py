"""A cookie jar that keeps rfc6265bis, as far as a session library can feel the difference.

It refuses what browsers refuse (prefixes, Secure, Domain, size, control characters, SameSite in a
cross-site subresource), replaces by name, domain and path, deletes by Max-Age or Expires, and hands
cookies out longest path first. `snapshot` and `restore` are what a thief copies and what a crashed
browser finds again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_PAIR = 4096
MAX_ATTRIBUTE = 1024
MAX_AGE_CAP = 400 * 24 * 3600
_CONTROLS = frozenset(range(0x20)) - {0x09} | {0x7F}


@dataclass(frozen=True)
class Cookie:
    """One cookie as the jar keeps it. `expires` is milliseconds UTC, None for "until it closes"."""

    name: str
    value: str
    domain: str
    host_only: bool
    path: str
    secure: bool
    http_only: bool
    same_site: str
    expires: int | None
    created: int


@dataclass(frozen=True)
class Place:
    """Where a request goes, and what kind of request it is, in a cookie's eyes."""

    scheme: str
    host: str
    path: str
    same_site: bool = True
    top_level: bool = True
    safe_method: bool = True

    @property
    def is_secure(self) -> bool:
        """Whether Secure cookies may travel: encrypted, or to this machine (as Chromium has it)."""
        return self.scheme in ("https", "wss") or self.host in ("localhost", "127.0.0.1", "[::1]")


class Jar:
    """The cookies of one browser profile."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._cookies: dict[tuple[str, str, str], Cookie] = {}
        self._count = 0
        self.refused: list[str] = []
        """Set-Cookie lines that the jar did not take; a test that expects none asserts so."""

    def __iter__(self):
        now = self._now()
        return iter([c for c in self._cookies.values() if c.expires is None or c.expires > now])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def get(self, name: str) -> str | None:
        """The value of the one cookie of this name."""
        found = [cookie.value for cookie in self if cookie.name == name]
        assert len(found) < 2, f"{len(found)} cookies are called {name}"
        return found[0] if found else None

    def snapshot(self) -> dict[tuple[str, str, str], Cookie]:
        """What is in the jar now: what a thief copies, what a crashed browser finds again."""
        return dict(self._cookies)

    def restore(self, snapshot: dict[tuple[str, str, str], Cookie]) -> None:
        """The jar as it was then."""
        self._cookies = dict(snapshot)

    def forget(self, *names: str) -> None:
        """The user deletes cookies; without names, all."""
        self._cookies = {
            key: cookie
            for key, cookie in self._cookies.items()
            if names and cookie.name not in names
        }

    def plant(self, name: str, value: str, host: str, *, path: str = "/") -> None:
        """Put a cookie in by other means than a response: a sibling host, a script, malware."""
        self._keep(Cookie(name, value, host, True, path, True, True, "Lax", None, 0))

    def header(self, place: Place) -> bytes | None:
        """The Cookie header for a request to this place, or None."""
        chosen = [cookie for cookie in self if _travels(cookie, place)]
        chosen.sort(key=lambda cookie: (-len(cookie.path), cookie.created))
        if not chosen:
            return None
        return "; ".join(f"{c.name}={c.value}" for c in chosen).encode("latin-1")

    def take(self, line: bytes, place: Place) -> bool:
        """Keep what a Set-Cookie line says, or refuse it (rfc6265bis, 5.6 and 5.7)."""
        cookie = _parse(line, place, self._now())
        if isinstance(cookie, str):
            self.refused.append(f"{cookie}: {line.partition(b';')[2].decode('latin-1')}")
            return False
        self._keep(cookie)
        return True

    def _keep(self, cookie: Cookie) -> None:
        key = (cookie.name, cookie.domain, cookie.path)
        old = self._cookies.get(key)
        self._count += 1
        created = self._count if old is None else old.created
        if cookie.expires is not None and cookie.expires <= self._now():
            self._cookies.pop(key, None)
        else:
            self._cookies[key] = replace(cookie, created=created)


def _travels(cookie: Cookie, place: Place) -> bool:
    """Whether the cookie goes along (rfc6265bis, 5.8.3)."""
    if cookie.secure and not place.is_secure:
        return False
    if not _domain_matches(cookie, place.host) or not _path_matches(cookie.path, place.path):
        return False
    if place.same_site or cookie.same_site == "None":
        return True
    return cookie.same_site == "Lax" and place.top_level and place.safe_method


def _domain_matches(cookie: Cookie, host: str) -> bool:
    if cookie.host_only:
        return host == cookie.domain
    return host == cookie.domain or host.endswith("." + cookie.domain)


def _path_matches(path: str, asked: str) -> bool:
    if asked == path:
        return True
    return asked.startswith(path) and (path.endswith("/") or asked[len(path)] == "/")


def _parse(line: bytes, place: Place, now: int) -> Cookie | str:
    """The cookie, or why there is none."""
    if _CONTROLS & set(line):
        return "control character"
    pair, *parts = line.decode("latin-1").split(";")
    name, equals, value = pair.partition("=")
    if not equals:
        name, value = "", pair
    name, value = name.strip(" \t"), value.strip(" \t")
    if not name or len(name) + len(value) > MAX_PAIR:
        return "empty name or too large"
    said: dict[str, str] = {}
    for part in parts:
        key, _, content = part.partition("=")
        if len(content.strip(" \t")) <= MAX_ATTRIBUTE:
            said[key.strip(" \t").lower()] = content.strip(" \t")
    domain = said.get("domain", "").lower().removeprefix(".")
    covers = domain == place.host or ("." in domain and place.host.endswith("." + domain))
    if domain and not covers:
        return "foreign domain"
    path = said.get("path", "")
    cookie = Cookie(
        name=name,
        value=value,
        domain=domain or place.host,
        host_only=not domain,
        path=path if path.startswith("/") else _default_path(place.path),
        secure="secure" in said,
        http_only="httponly" in said,
        same_site=said.get("samesite", "Lax").capitalize(),
        expires=_expires(said, now),
        created=0,
    )
    return _refusal(cookie, place, explicit_path=path) or cookie


def _refusal(cookie: Cookie, place: Place, *, explicit_path: str) -> str | None:
    lowered = cookie.name.lower()
    if cookie.secure and not place.is_secure:
        return "Secure from an insecure place"
    if lowered.startswith(("__secure-", "__host-")) and not cookie.secure:
        return "prefix without Secure"
    if lowered.startswith("__host-") and (not cookie.host_only or explicit_path != "/"):
        return "__Host- with a Domain or another Path"
    if cookie.same_site == "None" and not cookie.secure:
        return "SameSite=None without Secure"
    if cookie.same_site != "None" and not place.same_site and not place.top_level:
        return "SameSite in a cross-site subresource"
    return None


def _default_path(asked: str) -> str:
    last = asked.rfind("/")
    return asked[:last] if last > 0 else "/"


def _expires(said: dict[str, str], now: int) -> int | None:
    if "max-age" in said:
        try:
            seconds = int(said["max-age"])
        except ValueError:
            return None
        return now + 1000 * min(seconds, MAX_AGE_CAP) if seconds > 0 else 0
    if "expires" in said:
        try:
            moment = parsedate_to_datetime(said["expires"])
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
    return None
