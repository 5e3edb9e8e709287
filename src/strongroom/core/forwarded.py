"""Reading what proxies write about a request: RFC 7239 `Forwarded`, and the X-Forwarded-* family.

Lists are read from the right, because the right end is what the nearest proxy wrote: nothing that a
client put further left, an unbalanced quote included, changes how the right end is read. Whom to
believe is decided in `proxies`; here is only grammar. Whatever the bytes, nothing raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address
Fields = Mapping[bytes, Sequence[bytes]]
"""Header values by lower-case name; repeated fields stand in the order they came."""

MAX_ELEMENTS = 32
"""Elements of a list that are read, from the right. The longest real chains have five or six."""

MAX_LENGTH = 8192
"""Octets of a list that are read, from the right: what most servers allow for all headers."""

_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+"'
_PAIR = re.compile(rf"[ \t]*+(?:({_WORD})=({_WORD}|{_QUOTED})[ \t]*+)?(?:;|\Z)")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_PORT = r"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._\-]+))?"
_NODE = re.compile(rf"(?:([0-9.]+)|\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%[^\]]*)?)\]){_PORT}")
_HOST = re.compile(r"(?:[0-9a-z._-]+|\[([0-9a-f.]*:[0-9a-f:.]*)\])(?::([0-9]{1,5}))?")
_HOST_LENGTH = 253 + 6  # the longest DNS name, and a port

_WHY_NO_ADDRESS = "It names no IP address for whoever connected to it."
_WHY_TOO_LONG = f"The list is longer than the {MAX_ELEMENTS} hops or {MAX_LENGTH} octets read."


@dataclass(frozen=True, slots=True)
class Hop:
    """What one proxy says about the connection that it received.

    `scheme` and `host` are as written, None where it says nothing, and empty where several values
    cannot be matched with the hops. Where `node` is None, `why` is a sentence that says why.
    """

    node: Address | None
    scheme: str | None = None
    host: str | None = None
    why: str = ""


def parse_address(text: str) -> Address | None:
    """An IP address without its zone, IPv4 also where it came mapped into IPv6; or None."""
    return _parse_address(text[:64])  # the longest address has 45 characters; then comes a zone


@lru_cache(maxsize=1024)
def _parse_address(text: str) -> Address | None:
    try:
        address = ip_address(text.partition("%")[0] if ":" in text else text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def parse_host(value: bytes) -> str | None:
    """A host in lower case, with its port if it has one, as RFC 9110 allows it in Host; or None."""
    return _parse_host(value) if len(value) <= _HOST_LENGTH else None


@lru_cache(maxsize=256)
def _parse_host(value: bytes) -> str | None:
    lowered = value.decode("latin-1").lower()
    match = _HOST.fullmatch(lowered)
    if match is None or int(match[2] or 0) > 65535:
        return None
    return None if match[1] and parse_address(match[1]) is None else lowered


def x_forwarded(fields: Fields) -> Iterator[Hop]:
    """The hops of X-Forwarded-For, -Proto and -Host, the nearest first; at least one.

    A proxy that appends to one list appends to all, so equal places from the right belong together.
    A single scheme or host is what the nearest proxy set or let pass, and holds for every hop.
    """
    nodes, cut = _split(fields.get(b"x-forwarded-for", ()), quoted=False)
    schemes, _ = _split(fields.get(b"x-forwarded-proto", ()), quoted=False)
    hosts, _ = _split(fields.get(b"x-forwarded-host", ()), quoted=False)
    for place, text in enumerate(nodes):
        node = parse_node(text) or (parse_address(text) if text.count(":") > 1 else None)
        yield Hop(node, _at(schemes, place), _at(hosts, place), _WHY_NO_ADDRESS)
    if cut or not nodes:
        place = len(nodes)
        why = _WHY_TOO_LONG if cut else "It sent no X-Forwarded-For."
        yield Hop(None, _at(schemes, place), _at(hosts, place), why)


def forwarded(fields: Fields) -> Iterator[Hop]:
    """The hops of `Forwarded`, the nearest first; at least one (RFC 7239, 4)."""
    elements, cut = _split(fields.get(b"forwarded", ()), quoted=True)
    for element in elements:
        pairs = parse_element(element)
        if pairs is None:
            yield Hop(None, None, "", "Its element of Forwarded breaks the grammar of RFC 7239.")
        else:
            node = parse_node(pairs.get("for", ""))
            yield Hop(node, pairs.get("proto"), pairs.get("host"), _WHY_NO_ADDRESS)
    if cut or not elements:
        yield Hop(None, why=_WHY_TOO_LONG if cut else "It sent no Forwarded header.")


def parse_node(text: str) -> Address | None:
    """The address of an RFC 7239 node: `192.0.2.1:80`, `[2001:db8::1]`; or None.

    None also for `unknown`, for an obfuscated `_name`, and for IPv6 without brackets.
    """
    match = _NODE.fullmatch(text)
    return parse_address(match[1] or match[2]) if match else None


def parse_element(text: str) -> dict[str, str] | None:
    """The parameters of one `Forwarded` element with lower-case names; None if malformed.

    A parameter that comes twice makes the whole element malformed (RFC 7239, 4).
    """
    found: dict[str, str] = {}
    place = 0
    while place < len(text):
        match = _PAIR.match(text, place)
        if match is None:
            return None
        place = match.end()
        if match[1] is not None:
            name = match[1].lower()
            if name in found:
                return None
            found[name] = _unquote(match[2])
    return found


def _unquote(value: str) -> str:
    return _ESCAPED.sub(r"\1", value[1:-1]) if value.startswith('"') else value


def _split(values: Sequence[bytes], *, quoted: bool) -> tuple[list[str], bool]:
    """The list's elements from the right, and whether there were more than we read."""
    if not values:
        return [], False
    text = b",".join(values)
    parts = text[-MAX_LENGTH:].decode("latin-1").split(",")[::-1]
    if quoted:
        parts = list(_rejoin(parts))
    if cut := len(text) > MAX_LENGTH:
        parts.pop()  # a fragment: "1.2.3.4" may be the end of "11.2.3.4"
    return [part.strip(" \t") for part in parts[:MAX_ELEMENTS]], cut or len(parts) > MAX_ELEMENTS


def _rejoin(parts: Sequence[str]) -> Iterator[str]:
    """Put back together, from the right, what a comma inside a quoted string parted.

    Seen from the right end of a well-formed list, a comma stands outside quotes exactly where the
    number of unescaped quotes to its right is even.
    """
    waiting: list[str] = []
    quotes = 0
    for part in parts:
        waiting.append(part)
        quotes += _ESCAPED.sub("", part).count('"')
        if quotes % 2 == 0:
            yield ",".join(reversed(waiting))
            waiting.clear()
    if waiting:
        yield ",".join(reversed(waiting))


def _at(values: Sequence[str], place: int) -> str | None:
    """The value that belongs to the hop at this place from the right; see `x_forwarded`."""
    if place < len(values):
        return values[place]
    if len(values) == 1:
        return values[0]
    return "" if values else None
