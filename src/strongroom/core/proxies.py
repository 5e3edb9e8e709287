"""Trusted proxies: whom to believe about the client's address, the scheme and the host (P20).

Rules. The socket's other end comes first: unless it is trusted, its headers are not read. Then the
list is walked from the right, until an address that is not a proxy (`of`) or for a fixed number of
proxies (`hops`). Where that place holds no IP address the client is None; nothing further left is
ever believed. Scheme and host come from the same hop as the client. `Forwarded` and X-Forwarded-*
are never mixed: a proxy writes the one family, and passes on what a client wrote in the other.

A proxy must overwrite, or append to, what it receives: one that passes a client's header on
unchanged cannot be told from one that wrote it. Never here: looking up names, or guessing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import islice
from typing import Literal

from .errors import ConfigurationError
from .forwarded import (
    MAX_ELEMENTS,
    Address,
    Fields,
    Hop,
    forwarded,
    parse_address,
    parse_host,
    x_forwarded,
)

Network = IPv4Network | IPv6Network
HeaderFamily = Literal["x-forwarded", "forwarded"]
_Field = tuple[bytes, bytes]
_Request = tuple[str | None, str, tuple[_Field, ...]]

_READERS = {"x-forwarded": x_forwarded, "forwarded": forwarded}
_FAMILIES: dict[HeaderFamily, tuple[bytes, ...]] = {
    "x-forwarded": (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"),
    "forwarded": (b"forwarded",),
}
_WANTED = frozenset({b"host"}.union(*_FAMILIES.values()))
_SCHEMES = frozenset({"http", "https", "ws", "wss"})

# A visitor's requests say the same each time, so what they mean is remembered, at a bounded price.
_MEMO_SIZE = 1024
_MEMO_OCTETS = 512
_MEMO_FIELDS = 16

# Nobody's proxies fill more than a /8 of IPv4 or a /7 of IPv6 (fc00::/7 is all private addresses).
_WIDEST = {4: 8, 6: 7}

_NO_PEER = (
    "The server gave no IP address for the other end; if that is a proxy on a unix socket, trust "
    "it with unix=True."
)
_NONE_LISTED = (
    "Forwarding headers came and were ignored, because no proxy is trusted; if one stands before "
    "this server, list it with TrustedProxies.of()."
)
_NOT_LISTED = (
    "Forwarding headers came and were ignored, because no trusted proxy sent them; if the other "
    "end is one, add its address to TrustedProxies.of()."
)
_ALL_TRUSTED = (
    "Every address in the list is a trusted proxy, so the farthest one was taken for the client; "
    "list the proxies alone, not the network that clients are in."
)


@dataclass(frozen=True, slots=True)
class Forwarding:
    """Where a request came from, as far as somebody trusted vouches for it; None is unknown.

    `client` is an IP address in its canonical form; `scheme` is one of http, https, ws and wss, or
    what the server itself spoke; `host` is lower-case, with its port if it has one. `notes` are
    sentences for the operator on what was ignored and why, which quote nothing of the client's.
    """

    client: str | None
    scheme: str
    host: str | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, init=False)
class TrustedProxies:
    """Which proxies to believe. With no argument: none, and forwarding headers are not read.

    `networks` lists the proxies' addresses; `hops` counts them instead, where their addresses
    cannot be known. With both, the nearest one must be in `networks`, and the count decides. With
    `hops` alone every peer is taken for a proxy: nothing else may be able to reach this server.
    `unix` trusts peers without an address, which is what a unix socket gives.
    Raises: ConfigurationError with the reason and the remedy.
    """

    networks: tuple[Network, ...]
    hop_count: int | None
    header: HeaderFamily
    unix: bool
    _ranges: tuple[tuple[int, int, int], ...] = field(repr=False, compare=False)
    _memo: dict[_Request, Forwarding] = field(repr=False, compare=False)

    def __init__(
        self,
        networks: Iterable[str | Network] = (),
        hops: int | None = None,
        header: HeaderFamily = "x-forwarded",
        *,
        unix: bool = False,
    ) -> None:
        if isinstance(networks, str):
            networks = (networks,)
        parsed = tuple(_network(network) for network in networks)
        _check_hops(hops)
        _check_header(header)
        ranges = tuple((net.version, int(net.netmask), int(net.network_address)) for net in parsed)
        assign = object.__setattr__  # the class is frozen, and this is its only writer
        assign(self, "networks", parsed)
        assign(self, "hop_count", hops)
        assign(self, "header", header)
        assign(self, "unix", unix)
        assign(self, "_ranges", ranges)
        assign(self, "_memo", {})

    @classmethod
    def of(
        cls, *networks: str | Network, header: HeaderFamily = "x-forwarded", unix: bool = False
    ) -> TrustedProxies:
        """Trust these addresses and networks: `TrustedProxies.of("10.0.0.0/8", "127.0.0.1")`."""
        return cls(networks, header=header, unix=unix)

    @classmethod
    def hops(
        cls, count: int, *, header: HeaderFamily = "x-forwarded", unix: bool = False
    ) -> TrustedProxies:
        """Trust the `count` nearest proxies, whoever they are: 1 is the socket's other end."""
        return cls(hops=count, header=header, unix=unix)

    def resolve(
        self, *, peer: str | None, scheme: str, headers: Sequence[tuple[bytes, bytes]]
    ) -> Forwarding:
        """What is known of the request's origin (P20, ASVS 4.1.3). Never raises.

        `peer` is the socket's other end, `scheme` what this server spoke, header names are
        lower-case bytes.
        """
        heard = tuple([(name, value) for name, value in headers if name in _WANTED])
        request = (peer, scheme, heard)
        known = self._memo.get(request)
        if known is None:
            known = self._resolve(peer, scheme, heard)
            octets = sum(len(value) for _, value in heard)
            if len(heard) <= _MEMO_FIELDS and octets <= _MEMO_OCTETS:
                if len(self._memo) >= _MEMO_SIZE:
                    self._memo.clear()
                self._memo[request] = known
        return known

    def _resolve(self, peer: str | None, scheme: str, heard: Sequence[_Field]) -> Forwarding:
        fields: dict[bytes, list[bytes]] = {}
        for name, value in heard:
            fields.setdefault(name, []).append(value)
        hosts = fields.pop(b"host", ())
        host = parse_host(hosts[0]) if len(hosts) == 1 else None
        if self._believes(peer):
            return self._follow(fields, scheme, host)
        return self._directly(fields, peer, scheme, host)

    @property
    def _configured(self) -> bool:
        return bool(self.networks) or self.hop_count is not None or self.unix

    def _believes(self, peer: str | None) -> bool:
        """Whether the socket's other end is a trusted proxy."""
        if not peer:
            return self.unix
        if not self._ranges:
            return self.hop_count is not None
        address = parse_address(peer)
        return address is not None and self._lists(address)

    def _lists(self, address: Address) -> bool:
        """Whether the address is in `networks`; plain integers, as this runs for every hop."""
        version, number = address.version, int(address)
        return any(
            number & mask == base and version == family for family, mask, base in self._ranges
        )

    def _follow(self, fields: Fields, local_scheme: str, host: str | None) -> Forwarding:
        """The request came from a trusted proxy: take the word of the farthest one trusted."""
        hops = _READERS[self.header](fields)
        count = self.hop_count
        hop, note = self._by_addresses(hops) if count is None else _by_count(hops, count)
        notes = [note] if note else []
        if hop.node is None and (other := self._other_family(fields)):
            notes.append(f"{other} came too, but only the {self.header} family is read here.")
        scheme = (hop.scheme or "").lower()
        if scheme not in _SCHEMES:
            scheme = local_scheme
            if hop.scheme is not None:
                notes.append("The forwarded scheme is ambiguous or unknown, and was ignored.")
        if hop.host is not None:
            host = parse_host(hop.host.encode("latin-1"))
            if host is None:
                notes.append("The forwarded host is ambiguous or malformed.")
        return Forwarding(str(hop.node) if hop.node else None, scheme, host, tuple(notes))

    def _directly(
        self, fields: Fields, peer: str | None, scheme: str, host: str | None
    ) -> Forwarding:
        """The request came from the client itself, or from somebody whom we do not believe."""
        address = parse_address(peer or "")
        notes = [] if address else [_NO_PEER]
        if fields:
            notes.append(_NOT_LISTED if self._configured else _NONE_LISTED)
        return Forwarding(str(address) if address else None, scheme, host, tuple(notes))

    def _by_addresses(self, hops: Iterator[Hop]) -> tuple[Hop, str]:
        """The first hop from the right that was reached from an address we do not list."""
        hop = Hop(None)
        for hop in hops:
            if hop.node is None:
                return hop, hop.why
            if not self._lists(hop.node):
                return hop, ""
        return hop, _ALL_TRUSTED

    def _other_family(self, fields: Fields) -> str:
        """The header of the family that is not read here, if one came."""
        others = _FAMILIES["forwarded" if self.header == "x-forwarded" else "x-forwarded"]
        return next((name.decode().title() for name in others if name in fields), "")


def _by_count(hops: Iterator[Hop], count: int) -> tuple[Hop, str]:
    """The hop that the `count`-th proxy from the right wrote."""
    seen = list(islice(hops, count))
    if len(seen) < count:
        # Somebody came past a proxy. The nearest is the only one known to have taken part.
        nearest = Hop(None, seen[0].scheme, seen[0].host)
        return nearest, f"{count} proxies are expected, and fewer took part in this request."
    return seen[-1], "" if seen[-1].node else seen[-1].why


def _network(given: str | Network) -> Network:
    """One trusted network, IPv4 also where it was written as mapped into IPv6."""
    text = str(given).strip()
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise _not_a_network(text) from None
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            network = IPv4Network((mapped, network.prefixlen - 96))
    if network.prefixlen < _WIDEST[network.version]:
        raise _too_wide(text)
    if "/" in text and parse_address(text.partition("/")[0]) != network.network_address:
        raise ConfigurationError(
            f"{text!r} names an address inside a network, and a network at once.",
            why="Guessing which one is meant would trust one proxy too few or many too many.",
            hint=f"Write {str(network)!r} for the network, or the address alone.",
        )
    return network


def _not_a_network(text: str) -> ConfigurationError:
    if text == "*":
        return _too_wide(text)
    return ConfigurationError(
        f"{text[:80]!r} is not an IP address or network.",
        why="Names are not looked up, because their addresses change without notice.",
        hint="Write it like '10.0.0.0/8', '127.0.0.1' or 'fd00::/8'.",
    )


def _too_wide(text: str) -> ConfigurationError:
    return ConfigurationError(
        f"Trusting {text!r} as a proxy would trust clients, too.",
        why="Then any client could write its own address, scheme and host (P20).",
        hint="List the proxies' own addresses; where they are not known, count the proxies with "
        "TrustedProxies.hops(1).",
    )


def _check_hops(count: int | None) -> None:
    if count is None or (type(count) is int and 1 <= count <= MAX_ELEMENTS):
        return
    raise ConfigurationError(
        f"hops={count!r} is not a number of proxies from 1 to {MAX_ELEMENTS}.",
        why="It says how many trusted proxies every request passes, this server not counted.",
        hint="Use TrustedProxies.hops(1) behind one proxy, TrustedProxies() behind none.",
    )


def _check_header(header: str) -> None:
    if header in _READERS:
        return
    raise ConfigurationError(
        f"header={header!r} is not a family of forwarding headers.",
        why="A proxy passes on unchanged what a client wrote in the family that it does not write.",
        hint="Use 'x-forwarded' or 'forwarded', whichever your proxy writes.",
    )
