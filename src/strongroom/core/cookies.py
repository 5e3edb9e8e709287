"""The cookie codec: find our cookie in what a browser sent, and write Set-Cookie values.

Rules. A cookie's name is compared byte for byte (CK-7). Cookies of one name are all handed back, in
the order they came, and never chosen among by position (P21). A specification that a browser would
refuse, or that is unsafe, never renders (P18). A deletion repeats the cookie's own attributes, or
the browser would keep the cookie.

This module does not know what a value means, and holds no state. CK-n are rules of rfc6265bis.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from . import cookie_rules
from .errors import ConfigurationError, UsageError

SameSite = Literal["Lax", "Strict", "None"]

MAX_AGE_CAP = 400 * 24 * 60 * 60
"""Seconds. Browsers cut longer lifetimes to 400 days (rfc6265bis, 5.5), so we promise no more."""

SIZE_LIMIT = 4096
"""Octets of name and value together; a browser ignores a larger cookie as a whole."""

SAME_NAME_LIMIT = 256
"""How many cookies of one name are handed back.

Chromium and Firefox keep at most 180 cookies for a registrable domain, and servers read 8 to 64 KiB
of headers, so no honest browser sends more, not even when a sibling domain tosses cookies into it.
The limit bounds what a forged header can cost.
"""

_OWS = b" \t"
_VALUE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+")
_DELETED = b"; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
_WIDE_LIMIT = 8  # Set-Cookie lines for parent domains; a Host header has up to 127 labels
_SITE_DATA = ("cache", "cookies", "storage", "executionContexts", "clientHints", "*")


def find_cookies(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """The values of every cookie with exactly this name, over all Cookie headers, in order (P21).

    Header names are lower-case bytes. At most `SAME_NAME_LIMIT` values come back. Quotes belong to
    the value (CK-3); spaces and tabs around it do not. Any bytes are tolerated; the cost is linear
    in the headers' length, and most of it is one search for the name.
    """
    found: list[bytes] = []
    needle = name + b"="
    for key, value in headers:
        if key == b"cookie" and needle in value:
            _collect(value, needle, found)
    return found


def _collect(header: bytes, needle: bytes, found: list[bytes]) -> None:
    """Append the values that follow `needle` where it begins a pair of this header."""
    begin = 0  # no pair before this place is looked at again, so the cost stays linear
    start = header.find(needle)
    while start >= 0 and len(found) < SAME_NAME_LIMIT:
        end = header.find(b";", start)
        if end < 0:
            end = len(header)
        # Browsers write "; " between pairs, so one glance settles almost every request.
        if header[start - 2 : start] == b"; " or _begins_pair(header, begin, start):
            found.append(header[start + len(needle) : end].strip(_OWS))
        begin = end + 1
        start = header.find(needle, begin)


def _begins_pair(header: bytes, begin: int, start: int) -> bool:
    """Whether only space lies before `start`; else it is in another cookie's name or value."""
    begin = max(begin, header.rfind(b";", begin, start) + 1)
    return not header[begin:start].strip(_OWS)


def parse_cookie_header(value: bytes) -> list[tuple[bytes, bytes]]:
    """Every cookie of one Cookie header as (name, value), in order; any bytes will do.

    A part without `=` is a nameless cookie, as browsers send it. Empty parts are left out. This is
    the plain reading that `find_cookies` must agree with.
    """
    pairs: list[tuple[bytes, bytes]] = []
    for part in value.split(b";"):
        name, equals, content = part.strip(_OWS).partition(b"=")
        if equals:
            pairs.append((name, content.strip(_OWS)))
        elif name:
            pairs.append((b"", name))
    return pairs


def cookie_name(base: str, realm_hash: str, *, secure: bool) -> str:
    """A name such as `__Host-id-3f9a2c1b`; without `secure`, without the prefix (F6).

    Eight characters of the realm's hash keep two applications on one host apart: cookies know no
    ports. Raises: ConfigurationError if the result is no cookie name.
    """
    name = f"{'__Host-' if secure else ''}{base}-{realm_hash[:8]}"
    CookieSpec(name, secure=secure).check()
    return name


def clear_site_data(types: Iterable[str]) -> bytes:
    """A Clear-Site-Data value such as `"cache", "storage"`: each type once, quoted (F4).

    Browsers obey it over HTTPS only, and `cookies` covers the whole registrable domain.
    Raises: ConfigurationError for no type, or one that browsers do not know and would skip.
    """
    wanted = list(dict.fromkeys(types))
    unknown = [kind for kind in wanted if kind not in _SITE_DATA]
    if unknown or not wanted:
        raise ConfigurationError(
            f"Clear-Site-Data cannot be sent with {unknown or 'no type at all'}.",
            why="Browsers skip a type that they do not know, so nothing would be cleared.",
            hint=f"Choose among {', '.join(_SITE_DATA)}.",
        )
    return ", ".join(f'"{kind}"' for kind in wanted).encode()


@dataclass(frozen=True, slots=True)
class CookieSpec:
    """One cookie's name and attributes, with the safe choice as the default (P18, ASVS 3.3.1-4).

    `cross_site_reason` is required with `same_site="None"`: a sentence on why other sites' pages
    must be able to send this cookie. It ends up in the policy's report.
    """

    name: str
    path: str = "/"
    domain: str | None = None
    secure: bool = True
    http_only: bool = True
    same_site: SameSite = "Lax"
    partitioned: bool = False
    cross_site_reason: str = ""
    wire_name: bytes = field(init=False, repr=False, compare=False, default=b"")
    """The name as it stands in a header."""
    _attributes: bytes = field(init=False, repr=False, compare=False, default=b"")

    def __post_init__(self) -> None:
        """Everything behind the value is the same each time, so it is made once.

        With a problem it stays empty, and nothing renders.
        """
        object.__setattr__(self, "wire_name", self.name.encode("utf-8", "replace"))
        if not self.problems():
            object.__setattr__(self, "_attributes", _attributes(self, self.domain))

    def problems(self) -> list[str]:
        """Why a browser would refuse this cookie, or why it is unsafe: whole sentences, or none."""
        return list(cookie_rules.problems(self))

    def warnings(self) -> list[str]:
        """What works but deserves a second look: whole sentences, or none."""
        return list(cookie_rules.warnings(self))

    def check(self) -> None:
        """Raise ConfigurationError with every problem, if there is one."""
        if problems := self.problems():
            raise ConfigurationError(
                f"The cookie {self.name[:80]!r} cannot be set:", why=" ".join(problems)
            )

    def render(self, value: str, max_age: int | None) -> bytes:
        """A whole Set-Cookie value. `max_age` is in seconds; None lasts until the browser closes.

        Raises: ConfigurationError if the specification has problems; UsageError for an empty value,
        a character outside CK-3, a cookie over `SIZE_LIMIT`, or a `max_age` below one second.
        """
        if not self._attributes:
            self.check()
        if not _VALUE.fullmatch(value):
            raise _unfit_value(self.name)
        if len(self.name) + len(value) > SIZE_LIMIT:
            raise _too_large(self.name, len(value))
        if max_age is None:
            return f"{self.name}={value}".encode() + self._attributes
        if max_age < 1:
            raise _no_lifetime(self.name)
        age = min(max_age, MAX_AGE_CAP)
        return f"{self.name}={value}; Max-Age={age}".encode() + self._attributes

    def render_deletion(self) -> bytes:
        """A Set-Cookie value that makes the browser drop exactly this cookie.

        Name, path, domain, Secure, SameSite and Partitioned are the cookie's own: a browser that
        sees another path, domain or partition keeps the old cookie. Expires is for old clients.
        Raises: ConfigurationError if the specification has problems.
        """
        if not self._attributes:
            self.check()
        return self.name.encode() + b"=" + _DELETED + self._attributes

    def render_deletions_wide(self, host: str) -> list[bytes]:
        """Set-Cookie values that drop every cookie of this name that `host` is sent (F3).

        The cookie itself first, then one for each domain a sibling may have tossed it from: the
        host and its parents, down to two labels. Addresses and single labels have no parents. A
        browser neither keeps nor deletes a `__Host-` cookie with a Domain, so those get the first
        only. Several lines of one name go against CK-4 on purpose: each names another cookie, so
        their order cannot matter. A cookie with another Path stays; no server can see which.
        """
        values = [self.render_deletion()]
        if not self.name.startswith("__Host-"):
            start = self.name.encode() + b"=" + _DELETED
            values += [start + _attributes(self, domain) for domain in (None, *_domains(host))]
        return list(dict.fromkeys(values))


def _attributes(spec: CookieSpec, domain: str | None) -> bytes:
    """The part behind the value, each attribute once (CK-4)."""
    parts = [
        f"Domain={domain}" if domain else "",
        f"Path={spec.path}",
        "Secure" if spec.secure else "",
        "HttpOnly" if spec.http_only else "",
        f"SameSite={spec.same_site}",
        "Partitioned" if spec.partitioned else "",
    ]
    return "".join(f"; {part}" for part in parts if part).encode("ascii")


def _domains(host: str) -> list[str]:
    """The host and its parents of at least two labels; of a very deep host, the widest ones."""
    name = host.lower().partition(":")[0].removesuffix(".")
    if len(name) > 253 or not cookie_rules.DOMAIN.fullmatch(name):
        return []  # an address, a single label, or nothing that a browser takes as a Domain
    labels = name.split(".")
    return [".".join(labels[start:]) for start in range(len(labels) - 1)][-_WIDE_LIMIT:]


def _unfit_value(name: str) -> UsageError:
    """The value is a secret, so the message does not show it (P5)."""
    return UsageError(
        f"The value for the cookie {name!r} is empty or has a character that cookies cannot carry.",
        why="Browsers would cut it short or drop the cookie (CK-3).",
        hint="Encode it with base64url; to remove the cookie use render_deletion().",
    )


def _too_large(name: str, size: int) -> UsageError:
    return UsageError(
        f"The cookie {name!r} would have {len(name) + size} octets of name and value.",
        why=f"Browsers ignore a cookie of more than {SIZE_LIMIT} as a whole.",
        hint="Keep the data in the session, and only its token in the cookie.",
    )


def _no_lifetime(name: str) -> UsageError:
    return UsageError(
        f"The cookie {name!r} was given less than a second to live.",
        why="A browser takes that for a deletion.",
        hint="Use render_deletion() to remove it, or max_age=None to keep it until the browser "
        "closes.",
    )
