"""What an application states about cross-site requests, checked before the first one (P18, P19).

An origin is `scheme://host[:port]` and nothing else. Origins are compared as whole strings in one
normal form (lower-case, default port left out, IPv6 compressed), never by prefix, suffix or
pattern, so that `https://example.org.attacker.com` has no chance (OWASP-C6). This module decides
nothing: that is `csrf.py`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from .errors import ConfigurationError

FIELD_NAME = "csrf_token"
HEADER_NAME = "X-CSRF-Token"

_MAX_ORIGIN = 300
"""A DNS name has at most 253 characters; scheme and port fit beside it."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_ORIGIN = re.compile(
    r"([a-z][a-z0-9+.-]*)://"
    r"(\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)"
    r"(?::([0-9]{1,5}))?"
)
_LOOPBACK = re.compile(r"http://(localhost|[a-z0-9.-]+\.localhost|127(\.[0-9]+){3}|\[::1\])(:.*)?")
_HTTP_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_FIELD = re.compile(r"[A-Za-z0-9_.-]+")


def normal_origin(text: str) -> str | None:
    """The origin in its one normal form, or None for anything that is not exactly an origin.

    Never raises, whatever the text: it also reads the Origin header.
    """
    # Lower-casing before looking at the alphabet would turn the Kelvin sign into a "k".
    if len(text) > _MAX_ORIGIN or not text.isascii():
        return None
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        return None
    scheme, host, port = match[1], match[2], match[3]
    if host.startswith("["):
        try:
            host = f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
        except ValueError:
            return None
    if port is None:
        return f"{scheme}://{host}"
    number = int(port)
    if not 0 < number < 65536:
        return None
    return f"{scheme}://{host}" + ("" if _DEFAULT_PORTS.get(scheme) == number else f":{number}")


def is_plain(path: str) -> bool:
    """Whether every server reads this path alike: nothing that some would decode or collapse."""
    if any(trap in path for trap in ("//", "\\", "%")) or not path.isprintable():
        return False
    return not {".", ".."} & set(path.split("/"))


def matches(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether the path equals a pattern, or lies below one that ends in `/*`."""
    exact, prefixes = _sorted(patterns)
    return path in exact or path.startswith(prefixes)


@lru_cache(maxsize=256)
def _sorted(patterns: tuple[str, ...]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Whole paths, and prefixes: a policy has few lists, and every request asks about some."""
    exact = frozenset(each for each in patterns if not each.endswith("/*"))
    return exact, tuple(each[:-1] for each in patterns if each.endswith("/*"))


def may_match(path: str, root: str, patterns: tuple[str, ...]) -> bool:
    """Whether a path could be one of the patterns to any router: for rules that only tighten.

    With and without the prefix that the application is mounted under; and a path that servers read
    differently (an encoded line break, a doubled slash) matches whatever there is.
    """
    if not patterns:
        return False
    inner = path.removeprefix(root) if root else path
    return not is_plain(path) or matches(path, patterns) or matches(inner or "/", patterns)


@dataclass(frozen=True, slots=True)
class CsrfRules:
    """The settings of the cross-site decision. What is left out is the safe choice.

    `origins` are the application's own; empty means the scheme and host that the request itself was
    sent to, as far as trusted proxies vouch for them (P20). With several, a request counts as its
    own only from the one that it was sent to, where that can be known: tenants on hosts of one
    application are not each other. `trusted_origins` are others that may send unsafe requests, each
    written out, siblings of the same site too. `exempt` and `json_paths` hold exact paths, or
    prefixes that end in `/*`. On `json_paths` an unsafe request must be one that no HTML form can
    make (ASVS 3.5.2). On `own_token_paths` the token is always asked for, and only one that was
    made for that very path will do. `token_on_every_body` demands the token of every unsafe request
    with a body, whatever its origin (NIST SP 800-63B-4, 5.1). `field` and `header` carry the token.

    Raises:
        ConfigurationError: a value that would never match, or that would match too much.
    """

    origins: tuple[str, ...] = ()
    trusted_origins: tuple[str, ...] = ()
    token_on_every_body: bool = False
    json_paths: tuple[str, ...] = ()
    own_token_paths: tuple[str, ...] = ()
    exempt: tuple[str, ...] = ()
    field: str = FIELD_NAME
    header: str = HEADER_NAME

    def __post_init__(self) -> None:
        """Checks and normalises; the instance is frozen from here on."""
        normal = {
            "origins": _each("origins", self.origins, _own_origin),
            "trusted_origins": _each("trusted_origins", self.trusted_origins, _trusted_origin),
            "json_paths": _each("json_paths", self.json_paths, _json_path),
            "own_token_paths": _each("own_token_paths", self.own_token_paths, _json_path),
            "exempt": _each("exempt", self.exempt, _exempt_path),
        }
        for name, value in normal.items():
            object.__setattr__(self, name, value)
        if not _FIELD.fullmatch(self.field):
            raise _wrong("field", self.field, "It must be a plain name.", "Try 'csrf_token'.")
        if not _HTTP_TOKEN.fullmatch(self.header):
            raise _wrong("header", self.header, "It is no header name.", "Try 'X-CSRF-Token'.")

    @property
    def header_key(self) -> bytes:
        """The token's header as `RequestFacts` names it: lower-case bytes."""
        return self.header.lower().encode("ascii")


def _wrong(setting: str, value: str, why: str, hint: str) -> ConfigurationError:
    """The one shape of this module's complaints: which setting, which value, why, what instead."""
    return ConfigurationError(f"CSRF setting {setting} cannot be {value!r}.", why=why, hint=hint)


def _each(setting: str, values: Iterable[str], check: Callable[[str, str], str]) -> tuple[str, ...]:
    """Every value checked and normalised, duplicates dropped, order kept."""
    if isinstance(values, str):
        raise _wrong(
            setting, values, "A single string would be read letter by letter.", "Write a tuple."
        )
    return tuple(dict.fromkeys(check(setting, value) for value in values))


_MISTAKES: tuple[tuple[Callable[[str], object], str, str], ...] = (
    (
        lambda text: text.strip().lower() == "null",
        "Every sandboxed frame on every site sends `null`.",
        "List the page's real origin.",
    ),
    (
        lambda text: "*" in text,
        "A pattern also lets in hosts that somebody else can register or take over.",
        "List each origin by itself.",
    ),
    (
        lambda text: not text.isascii(),
        "Browsers send international names in their ASCII form.",
        "Write the host as the address bar copies it, starting with `xn--`.",
    ),
    (
        lambda text: text.lower().startswith(("ws://", "wss://")),
        "A WebSocket handshake carries the origin of its page, which is http or https.",
        "Write the page's origin.",
    ),
    (
        lambda text: "://" not in text,
        "Without a scheme, a page over plain http would count as well.",
        "Write the scheme too, as in 'https://example.org'.",
    ),
    (
        lambda text: re.search(r"[/?#@]", text.partition("://")[2]),
        "An origin ends after host and port: a browser never sends more.",
        "Remove the path, query, user name or slash behind the host.",
    ),
)
"""What people write instead of an origin: how to tell, why it cannot work, what to write."""


def _origin(setting: str, text: str) -> str:
    """The normal form, or a complaint that says which mistake it was."""
    for is_this, why, hint in _MISTAKES:
        if is_this(text):
            raise _wrong(setting, text, why, hint)
    normal = normal_origin(text)
    if normal is None:
        raise _wrong(
            setting,
            text,
            "It is not scheme://host or scheme://host:port.",
            "Copy the value of the Origin header that the browser sends.",
        )
    return normal


def _own_origin(setting: str, text: str) -> str:
    """An own origin is a website: http or https."""
    normal = _origin(setting, text)
    if not normal.startswith(("http://", "https://")):
        raise _wrong(
            setting, text, "Only http and https serve cookies.", "Put others in trusted_origins."
        )
    return normal


def _trusted_origin(setting: str, text: str) -> str:
    """A trusted origin may be an app shell or an extension, never a page that anyone can forge."""
    normal = _origin(setting, text)
    if normal.startswith("http://") and not _LOOPBACK.fullmatch(normal):
        raise _wrong(
            setting,
            text,
            "Whoever is on the network can put a page of their own there.",
            "Serve it over https.",
        )
    return normal


def _path(setting: str, text: str) -> str:
    """An exact path or a prefix that ends in `/*`."""
    bare = text[:-2] + "/" if text.endswith("/*") else text
    if not text.startswith("/") or "*" in bare or not is_plain(bare) or re.search(r"[?#]", bare):
        raise _wrong(
            setting,
            text,
            "It is neither one exact path nor a prefix that ends in `/*`.",
            "Write it as in '/hooks/payment' or '/hooks/*'.",
        )
    return text


def _json_path(setting: str, text: str) -> str:
    """A JSON rule only tightens, so the whole site is a fine choice."""
    return text if text == "/*" else _path(setting, text)


def _exempt_path(setting: str, text: str) -> str:
    """An exemption is named; the whole site would be no protection at all (OWASP-C5)."""
    if text in ("*", "/*"):
        raise _wrong(
            setting,
            text,
            "That would switch the protection off everywhere.",
            "Name each path that other sites may post to.",
        )
    return _path(setting, text)
