"""Whom to believe about the client's address, the scheme and the host."""

from __future__ import annotations

import copy
import pickle
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import ConfigurationError
from strongroom.core.exchange import RequestFacts
from strongroom.core.proxies import Forwarding, TrustedProxies

NOBODY = TrustedProxies()
LISTED = TrustedProxies.of("10.0.0.0/8", "fd00::/8")
COUNTED = TrustedProxies.hops(2)
STANDARD = TrustedProxies.of("10.0.0.0/8", header="forwarded")

PROXY = "10.0.0.1"
CLIENT = "203.0.113.9"


def resolve(
    proxies: TrustedProxies, peer: str | None = PROXY, scheme: str = "http", **headers: Any
) -> Forwarding:
    """Resolve with headers given as keywords: `x_forwarded_for="..."`, or a list of them."""
    pairs: list[tuple[bytes, bytes]] = []
    for name, given_values in headers.items():
        values = given_values if isinstance(given_values, list) else [given_values]
        pairs += [(name.replace("_", "-").encode(), value.encode()) for value in values]
    return proxies.resolve(peer=peer, scheme=scheme, headers=pairs)


# --- nobody trusted


def test_without_proxies_the_peer_is_the_client() -> None:
    """Nothing is believed by default: not the address, not the scheme, not the host (P20)."""
    found = resolve(
        NOBODY,
        CLIENT,
        host="Example.com",
        x_forwarded_for="6.6.6.6",
        x_forwarded_proto="https",
        x_forwarded_host="evil.com",
        forwarded="for=6.6.6.6;proto=https;host=evil.com",
    )
    assert (found.client, found.scheme, found.host) == (CLIENT, "http", "example.com")


@pytest.mark.parametrize("proxies", [LISTED, STANDARD, TrustedProxies(["10.0.0.0/8"], 1)])
def test_a_peer_that_is_not_listed_is_the_client(proxies: TrustedProxies) -> None:
    """The socket's other end is checked first; its headers are its own word (P20)."""
    found = resolve(
        proxies, CLIENT, x_forwarded_for=PROXY, forwarded=f"for={PROXY}", x_forwarded_proto="https"
    )
    assert (found.client, found.scheme) == (CLIENT, "http")
    assert "no trusted proxy sent them" in found.notes[0]


def test_an_ordinary_request_has_no_notes() -> None:
    """The doctor is silent where nothing was ignored (P20)."""
    assert resolve(NOBODY, CLIENT, host="example.com").notes == ()
    assert resolve(LISTED, x_forwarded_for=CLIENT, x_forwarded_proto="https").notes == ()


def test_ignored_headers_are_explained() -> None:
    """Whoever forgot to list the proxy is told what to write (P20)."""
    (note,) = resolve(NOBODY, PROXY, x_forwarded_for=CLIENT).notes
    assert "TrustedProxies.of()" in note


@pytest.mark.parametrize("peer", [None, "", "testclient", "/run/app.sock", "10.0.0.1:80"])
@pytest.mark.parametrize("proxies", [NOBODY, LISTED])
def test_a_peer_without_an_address_is_unknown(proxies: TrustedProxies, peer: str | None) -> None:
    """What is no IP address is None, and is trusted by no list (P20)."""
    found = resolve(proxies, peer, x_forwarded_for=CLIENT)
    assert found.client is None
    assert "unix=True" in found.notes[0]


@pytest.mark.parametrize("peer", [None, ""])
def test_a_unix_socket_is_trusted_only_by_name(peer: str | None) -> None:
    """`unix=True` trusts the peer without an address; `hops` alone does not (P20)."""
    for trusting in (
        TrustedProxies(unix=True),
        TrustedProxies.of("10.0.0.0/8", unix=True),
        TrustedProxies.hops(1, unix=True),
    ):
        assert resolve(trusting, peer, x_forwarded_for=CLIENT).client == CLIENT
    assert resolve(TrustedProxies.hops(1), peer, x_forwarded_for=CLIENT).client is None


def test_trusting_a_unix_socket_trusts_no_address() -> None:
    """`unix=True` alone says nothing about peers with an address (P20)."""
    assert resolve(TrustedProxies(unix=True), PROXY, x_forwarded_for=CLIENT).client == PROXY


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_the_client_has_one_form(peer: str, client: str) -> None:
    """One client is one string, whichever socket it came through (P20)."""
    assert resolve(NOBODY, peer).client == client


# --- the walk by address


@pytest.mark.parametrize("peer", [PROXY, "::ffff:10.0.0.1", "fd00::1", "fd00::1%eth0"])
def test_a_listed_peer_is_recognised_in_every_form(peer: str) -> None:
    """A dual-stack socket or a zone does not hide the proxy (P20)."""
    assert resolve(LISTED, peer, x_forwarded_for=CLIENT).client == CLIENT


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (CLIENT, CLIENT),
        (f"6.6.6.6, {CLIENT}", CLIENT),
        (f"6.6.6.6, {CLIENT}, 10.1.1.1, 10.2.2.2", CLIENT),
        (f"10.9.9.9, {CLIENT}, 10.1.1.1", CLIENT),
        (f"{CLIENT}, [fd00::2]:80, 10.1.1.1:443", CLIENT),
        ("2001:db8::9, 10.1.1.1", "2001:db8::9"),
    ],
)
def test_the_client_is_the_first_address_from_the_right_that_is_no_proxy(
    value: str, client: str
) -> None:
    """What a client writes on the left is never believed (P20, ASVS 4.1.3)."""
    assert resolve(LISTED, x_forwarded_for=value).client == client


@pytest.mark.parametrize("hole", ["unknown", "_hidden", "", "evil", "1.2.3", "unix:", '"1.2.3.4"'])
def test_no_address_at_the_decision_place_means_no_client(hole: str) -> None:
    """A malformed element is never skipped in favour of one further left (P20)."""
    found = resolve(LISTED, x_forwarded_for=f"{CLIENT}, {hole}, 10.1.1.1")
    assert found.client is None
    assert found.notes == ("It names no IP address for whoever connected to it.",)


def test_a_proxy_that_names_nobody_leaves_the_client_unknown() -> None:
    """A trusted proxy's own address is not the client's (P20)."""
    found = resolve(LISTED, host="a.com")
    assert (found.client, found.host) == (None, "a.com")
    assert "no X-Forwarded-For" in found.notes[0]


def test_where_all_are_proxies_the_farthest_one_is_the_client() -> None:
    """A proxy that we trust says who connected to it, even from its own network; with a note."""
    found = resolve(LISTED, x_forwarded_for="10.3.3.3, 10.2.2.2")
    assert found.client == "10.3.3.3"
    assert "list the proxies alone" in found.notes[0]


def test_repeated_headers_are_walked_as_one_list() -> None:
    """The later header is the nearer one (P20)."""
    assert resolve(LISTED, x_forwarded_for=["6.6.6.6", CLIENT, "10.1.1.1"]).client == CLIENT


def test_an_endless_chain_has_no_client() -> None:
    """Beyond the hops that are read nobody is believed (P20)."""
    found = resolve(LISTED, x_forwarded_for=CLIENT + ", 10.1.1.1" * 40)
    assert found.client is None
    assert "longer than" in found.notes[0]


# --- the walk by count


@pytest.mark.parametrize(
    ("hops", "client"), [(1, "198.51.100.3"), (2, "198.51.100.2"), (3, "198.51.100.1"), (4, None)]
)
def test_the_client_is_what_the_counted_proxy_wrote(hops: int, client: str | None) -> None:
    """The socket's other end is the first proxy; a chain that is too short has no client (P20)."""
    chain = "198.51.100.1, 198.51.100.2, 198.51.100.3"
    assert resolve(TrustedProxies.hops(hops), x_forwarded_for=chain).client == client


def test_a_request_past_the_outer_proxy_is_told_by_the_nearest() -> None:
    """Scheme and host come from the one proxy known to have taken part (P20)."""
    found = resolve(
        COUNTED,
        x_forwarded_for=CLIENT,
        x_forwarded_proto="https, http",
        x_forwarded_host="x, a.com",
    )
    assert (found.client, found.scheme, found.host) == (None, "http", "a.com")
    assert "2 proxies are expected" in found.notes[0]


def test_a_malformed_element_at_the_count_is_not_skipped() -> None:
    """Counting does not move on, either (P20)."""
    assert resolve(COUNTED, x_forwarded_for=f"{CLIENT}, unknown, 10.1.1.1").client is None


def test_networks_and_a_count_may_be_combined() -> None:
    """The nearest proxy must be listed; how many follow is counted (P20)."""
    both = TrustedProxies(["10.0.0.0/8"], 2)
    assert resolve(both, PROXY, x_forwarded_for=f"{CLIENT}, 198.51.100.7").client == CLIENT
    assert resolve(both, "198.51.100.8", x_forwarded_for=f"{CLIENT}, x").client == "198.51.100.8"


# --- Forwarded, and never both


def test_forwarded_gives_all_three_from_one_element() -> None:
    """Client, scheme and host are the word of the farthest trusted proxy (RFC 7239, P20)."""
    found = resolve(
        STANDARD,
        host="inner",
        forwarded=[
            "for=6.6.6.6;proto=http;host=evil.com",
            f'For="{CLIENT}:4711";Proto=HTTPS;host="Shop.example.com:8443"',
            "for=10.1.1.1;proto=http;host=inner",
        ],
    )
    assert found == Forwarding(CLIENT, "https", "shop.example.com:8443")


@pytest.mark.parametrize("node", ["unknown", "_hidden", '"_hidden:_port"'])
def test_a_hidden_client_does_not_hide_the_scheme(node: str) -> None:
    """The element that names nobody is still a trusted proxy's, so its scheme counts (P20)."""
    found = resolve(STANDARD, forwarded=f"for={node};proto=https;host=a.com")
    assert (found.client, found.scheme, found.host) == (None, "https", "a.com")


def test_an_unreadable_element_makes_everything_unknown() -> None:
    """Nothing of a malformed element is used, and the local scheme stands (P20)."""
    found = resolve(STANDARD, host="a.com", forwarded="for=1.1.1.1;proto=https;for=2.2.2.2")
    assert (found.client, found.scheme, found.host) == (None, "http", None)


def test_the_other_family_is_never_read() -> None:
    """A client can write the family that the proxy does not write (P20)."""
    found = resolve(STANDARD, x_forwarded_for="6.6.6.6", x_forwarded_proto="https")
    assert (found.client, found.scheme) == (None, "http")
    assert "X-Forwarded-For came too" in found.notes[1]
    found = resolve(LISTED, x_forwarded_for=CLIENT, forwarded="for=6.6.6.6;proto=https")
    assert (found.client, found.scheme) == (CLIENT, "http")


# --- scheme and host


@pytest.mark.parametrize(
    ("said", "scheme"),
    [
        ("https", "https"),
        ("HTTPS", "https"),
        ("wss", "wss"),
        ("http", "http"),
        ("https, http", "https"),
        ("https, https, http", "https"),
        ("http, https, http", "https"),
        ("ftp", "ws"),
        ("", "ws"),
        ("https;", "ws"),
        ("on", "ws"),
    ],
)
def test_the_scheme_is_what_the_same_proxy_wrote(said: str, scheme: str) -> None:
    """Two proxies took part: the outer one's scheme counts; only web schemes are taken (P20)."""
    found = resolve(
        LISTED, scheme="ws", x_forwarded_for=f"{CLIENT}, 10.1.1.1", x_forwarded_proto=said
    )
    assert (found.client, found.scheme) == (CLIENT, scheme)
    assert bool(found.notes) == (scheme == "ws")


def test_schemes_that_cannot_be_matched_with_hops_are_ignored() -> None:
    """Two schemes for three trusted hops: nobody knows whose they are (P20)."""
    found = resolve(
        LISTED,
        x_forwarded_for=f"{CLIENT}, 10.1.1.1, 10.1.1.2",
        x_forwarded_proto="https, https",
        x_forwarded_host="a.com, b.com",
    )
    assert (found.scheme, found.host) == ("http", None)
    assert len(found.notes) == 2


@pytest.mark.parametrize(
    ("hosts", "said", "host"),
    [
        (["Shop.example.com:8443"], None, "shop.example.com:8443"),
        (["a.com", "a.com"], None, None),
        ([], None, None),
        (["a.com/"], None, None),
        (["inner"], "shop.example.com", "shop.example.com"),
        (["inner"], "evil.com, shop.example.com", "shop.example.com"),
        (["inner"], "bad host", None),
        (["inner"], "", None),
    ],
)
def test_the_host_is_stated_once_and_well_formed(
    hosts: list[str], said: str | None, host: str | None
) -> None:
    """Exactly one Host header, unless a trusted proxy states the host; else unknown (P20)."""
    headers: dict[str, Any] = {"host": hosts, "x_forwarded_for": CLIENT}
    if said is not None:
        headers["x_forwarded_host"] = said
    assert resolve(LISTED, **headers).host == host


def test_facts_use_what_the_proxies_vouch_for() -> None:
    """The exchange sees the browser's scheme and host through the proxy (P20)."""
    facts = RequestFacts(
        method="GET",
        scheme="ws",
        peer=PROXY,
        proxies=LISTED,
        headers=[
            (b"host", b"inner"),
            (b"x-forwarded-for", CLIENT.encode()),
            (b"x-forwarded-proto", b"wss"),
            (b"x-forwarded-host", b"a.com"),
        ],
    )
    assert (facts.client, facts.scheme, facts.host) == (CLIENT, "https", "a.com")


# --- configuration


@pytest.mark.parametrize(
    "network", ["*", "0.0.0.0/0", "::/0", "::ffff:0:0/96", "0.0.0.0/1", "2000::/3"]
)
def test_trusting_everybody_is_refused(network: str) -> None:
    """A list that holds clients lets them write their own address (P18, P20)."""
    with pytest.raises(ConfigurationError, match="would trust clients"):
        TrustedProxies.of(network)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("10.0.0.1/8", "10.0.0.0/8"),
        ("fd00::1/8", "fd00::/8"),
        ("192.0.2.1/255.255.255.0", "192.0.2.0/24"),
        ("::ffff:10.0.0.1/104", "10.0.0.0/8"),
    ],
)
def test_host_bits_are_refused_with_the_right_network(written: str, meant: str) -> None:
    """The message says what to write (P18)."""
    with pytest.raises(ConfigurationError, match=meant):
        TrustedProxies.of(written)


@pytest.mark.parametrize("network", ["", "proxy.internal", "10.0.0.0/33", "10.0.0", "10.0.0.0/8/8"])
def test_what_is_no_network_is_refused(network: str) -> None:
    """A name or a typing error stops at start-up, not in the first request (P18)."""
    with pytest.raises(ConfigurationError, match="not an IP address or network"):
        TrustedProxies.of(network)


def test_networks_have_one_form() -> None:
    """Addresses, networks, objects and mapped IPv4 are all taken; one string is one network."""
    networks = TrustedProxies.of(
        "127.0.0.1", ip_network("10.0.0.0/8"), "::ffff:10.1.0.0/112", "10.2.0.0/255.255.0.0"
    ).networks
    assert [str(network) for network in networks] == [
        *("127.0.0.1/32", "10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16")
    ]
    assert TrustedProxies("10.0.0.0/8") == TrustedProxies.of("10.0.0.0/8")


@pytest.mark.parametrize("count", [0, -1, 33, True, "2", 1.0])
def test_a_count_outside_reason_is_refused(count: Any) -> None:
    """Zero proxies is TrustedProxies(), and True is not a number (P18)."""
    with pytest.raises(ConfigurationError, match="not a number of proxies"):
        TrustedProxies.hops(count)


def test_an_unknown_family_is_refused() -> None:
    """X-Real-IP, CF-Connecting-IP and friends are not walked from the right (P20)."""
    header: Any = "x-real-ip"
    with pytest.raises(ConfigurationError, match="Use 'x-forwarded' or 'forwarded'"):
        TrustedProxies.of("10.0.0.0/8", header=header)


def test_the_settings_are_a_value() -> None:
    """They compare by what was configured, cannot be changed, and never show a visitor."""
    proxies = TrustedProxies.of("10.0.0.0/8")
    resolve(proxies, x_forwarded_for=CLIENT)
    assert proxies == TrustedProxies.of("10.0.0.0/8")
    assert hash(proxies) == hash(TrustedProxies.of("10.0.0.0/8"))
    assert CLIENT not in repr(proxies)
    assert copy.copy(proxies) == pickle.loads(pickle.dumps(proxies)) == proxies
    with pytest.raises(AttributeError):
        proxies.unix = True  # type: ignore[misc]


# --- memory


def test_remembering_does_not_mix_requests() -> None:
    """Two requests that differ in one fact have answers of their own, asked in any order (P20)."""
    proxies = TrustedProxies.of("10.0.0.0/8")
    for _ in range(2):
        assert resolve(proxies, x_forwarded_for="192.0.2.1").client == "192.0.2.1"
        assert resolve(proxies, x_forwarded_for="192.0.2.2").client == "192.0.2.2"
        assert resolve(proxies, CLIENT, x_forwarded_for="192.0.2.1").client == CLIENT
        assert resolve(proxies, scheme="wss", x_forwarded_for="192.0.2.1").scheme == "wss"


def test_memory_is_bounded() -> None:
    """Neither many visitors nor one huge header make the process grow (P24)."""
    proxies = TrustedProxies.of("10.0.0.0/8")
    for number in range(3000):
        address = f"192.0.{number >> 8}.{number & 255}"
        assert resolve(proxies, x_forwarded_for=address).client == address
    assert resolve(proxies, x_forwarded_for="1" * 100_000 + ", " + CLIENT).client == CLIENT
    assert len(proxies._memo) <= 1024
    assert all(len(value) < 1000 for _, _, heard in proxies._memo for _, value in heard)


# --- properties

HEADER_NAMES = st.sampled_from(
    [b"host", b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x"]
)
PIECES = st.sampled_from([b"10.0.0.1", b"1.2.3.4", b",", b"for=", b";", b'"', b"https", b"[::1]"])
VALUES = st.lists(PIECES | st.binary(max_size=3), max_size=10).map(b"".join)


@given(
    proxies=st.sampled_from(
        [NOBODY, LISTED, COUNTED, STANDARD, TrustedProxies.hops(1, header="forwarded", unix=True)]
    ),
    peer=st.none() | st.sampled_from([PROXY, CLIENT, "fd00::1"]) | st.text(max_size=8),
    headers=st.lists(st.tuples(HEADER_NAMES, VALUES), max_size=8),
)
def test_any_request_has_an_answer(
    proxies: TrustedProxies, peer: str | None, headers: list[tuple[bytes, bytes]]
) -> None:
    """No bytes raise; what comes out is an address, a web scheme and a host, or None (P20)."""
    found = proxies.resolve(peer=peer, scheme="http", headers=headers)
    assert found.client is None or str(ip_address(found.client)) == found.client
    assert found.scheme in {"http", "https", "ws", "wss"}
    assert found.host is None or found.host == found.host.lower()
    assert found == proxies.resolve(peer=peer, scheme="http", headers=headers)


@given(forged=st.lists(st.tuples(HEADER_NAMES.filter(lambda name: name != b"host"), VALUES)))
def test_a_client_cannot_change_its_own_address(forged: list[tuple[bytes, bytes]]) -> None:
    """Behind a proxy that appends, whatever the client sends, its address is its own (P20)."""
    appended = [
        (b"x-forwarded-for", CLIENT.encode()),
        (b"x-forwarded-proto", b"https"),
        (b"forwarded", b"for=203.0.113.9;proto=https"),
    ]
    for proxies in (LISTED, STANDARD, TrustedProxies.hops(1)):
        found = proxies.resolve(peer=PROXY, scheme="http", headers=[*forged, *appended])
        assert (found.client, found.scheme) == (CLIENT, "https")


@given(forged=st.lists(st.tuples(HEADER_NAMES, VALUES)))
def test_without_trust_headers_change_nothing(forged: list[tuple[bytes, bytes]]) -> None:
    """A direct client's forwarding headers have no effect whatever (P20)."""
    hosts = [(b"host", b"a.com")]
    forged = [(name, value) for name, value in forged if name != b"host"]
    plain = LISTED.resolve(peer=CLIENT, scheme="http", headers=hosts)
    found = LISTED.resolve(peer=CLIENT, scheme="http", headers=forged + hosts)
    assert (found.client, found.scheme, found.host) == (plain.client, plain.scheme, plain.host)
