"""The grammar of forwarding headers: what each hop says, read from the right."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.forwarded import (
    MAX_ELEMENTS,
    MAX_LENGTH,
    forwarded,
    parse_address,
    parse_element,
    parse_host,
    parse_node,
    x_forwarded,
)


def rfc(*values: bytes) -> list[tuple[str | None, str | None, str | None]]:
    """The hops of Forwarded, the nearest first, as text."""
    hops = forwarded({b"forwarded": values})
    return [(str(hop.node) if hop.node else None, hop.scheme, hop.host) for hop in hops]


def family(
    nodes: Sequence[bytes], schemes: Sequence[bytes] = (), hosts: Sequence[bytes] = ()
) -> list[tuple[str | None, str | None, str | None]]:
    """The hops of X-Forwarded-*, the nearest first, as text."""
    fields = {
        b"x-forwarded-for": nodes,
        b"x-forwarded-proto": schemes,
        b"x-forwarded-host": hosts,
    }
    hops = x_forwarded({name: values for name, values in fields.items() if values})
    return [(str(hop.node) if hop.node else None, hop.scheme, hop.host) for hop in hops]


# --- addresses and hosts


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%" + "x" * 500, "fe80::1"),
        ("192.0.2.1%eth0", None),
        ("192.0.2.01", None),
        ("192.0.2", None),
        ("3221225985", None),
        ("0xc0.0.2.1", None),
        ("١٩٢.0.2.1", None),
        ("192.0.2.1 ", None),
        ("192.0.2.0/24", None),
        ("localhost", None),
        ("", None),
    ],
)
def test_an_address_has_one_form(text: str, address: str | None) -> None:
    """Zones and IPv4-in-IPv6 are normalised; what only looks like an address is none (P20)."""
    parsed = parse_address(text)
    assert (str(parsed) if parsed else None) == address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:8080", "192.0.2.1"),
        ("192.0.2.1:_port", "192.0.2.1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[::ffff:192.0.2.1]", "192.0.2.1"),
        ("[fe80::1%25eth0]:1", "fe80::1"),
        ("2001:db8::1", None),
        ("[192.0.2.1]", None),
        ("[2001:db8::1", None),
        ("192.0.2.1:", None),
        ("192.0.2.1:123456", None),
        ("unknown", None),
        ("_hidden", None),
        ("", None),
    ],
)
def test_a_node_is_an_address_or_unknown(text: str, address: str | None) -> None:
    """RFC 7239, 6: IPv6 in brackets, ports, obfuscated names and `unknown` (P20)."""
    parsed = parse_node(text)
    assert (str(parsed) if parsed else None) == address


@pytest.mark.parametrize(
    ("value", "host"),
    [
        (b"Example.COM", "example.com"),
        (b"example.com:8443", "example.com:8443"),
        (b"localhost:8000", "localhost:8000"),
        (b"[2001:DB8::1]:443", "[2001:db8::1]:443"),
        (b"192.0.2.1", "192.0.2.1"),
        (b"a_b.example.com", "a_b.example.com"),
        (b"", None),
        (b"example.com:", None),
        (b"example.com:65536", None),
        (b"example.com:x", None),
        (b"user@example.com", None),
        (b"example.com/path", None),
        (b"example.com, evil.com", None),
        (b"exa mple.com", None),
        (b"example.com\n", None),
        (b"ex\xe4mple.com", None),
        (b"[::1", None),
        (b"[1::2::3]", None),
        (b"a" * 260, None),
    ],
)
def test_a_host_is_lower_case_and_well_formed(value: bytes, host: str | None) -> None:
    """Anything but a host with an optional port is unknown (P20)."""
    assert parse_host(value) == host


# --- Forwarded


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("for=192.0.2.1;proto=https;by=_b", {"for": "192.0.2.1", "proto": "https", "by": "_b"}),
        ('For="[2001:db8::1]:80"', {"for": "[2001:db8::1]:80"}),
        ('host="a\\"b\\\\c"', {"host": 'a"b\\c'}),
        ("for=a ; proto=b", {"for": "a", "proto": "b"}),
        (";;for=a;", {"for": "a"}),
        ("secret=x", {"secret": "x"}),
        ("", {}),
        ('host=""', {"host": ""}),
        ("for=a;for=b", None),
        ("for=a;FOR=b", None),
        ("for", None),
        ("for=", None),
        ("=a", None),
        ("for =a", None),
        ("for= a", None),
        ('for="a', None),
        ('for=a"b"', None),
        ('for="a"b', None),
        ("for=[2001:db8::1]", None),
        ("for=192.0.2.1:80", None),
        ('for="a\x00"', None),
    ],
)
def test_an_element_follows_the_grammar_or_says_nothing(
    text: str, pairs: dict[str, str] | None
) -> None:
    """RFC 7239, 4: names in any case, once each; tokens or quoted strings, nothing else (P20)."""
    assert parse_element(text) == pairs


def test_the_standards_own_examples_are_understood() -> None:
    """RFC 7239, 4 and 7.1, the nearest hop first."""
    assert rfc(b'for="_gazonk"') == [(None, None, None)]
    assert rfc(b'For="[2001:db8:cafe::17]:4711"') == [("2001:db8:cafe::17", None, None)]
    assert rfc(b"for=192.0.2.60;proto=http;by=203.0.113.43") == [("192.0.2.60", "http", None)]
    assert rfc(b"for=192.0.2.43, for=198.51.100.17") == [
        ("198.51.100.17", None, None),
        ("192.0.2.43", None, None),
    ]


def test_repeated_headers_are_one_list() -> None:
    """Elements of a later header are nearer than those of an earlier one (RFC 9110, 5.3)."""
    assert rfc(b"for=192.0.2.1", b"for=192.0.2.2,for=192.0.2.3") == [
        ("192.0.2.3", None, None),
        ("192.0.2.2", None, None),
        ("192.0.2.1", None, None),
    ]
    assert family([b"192.0.2.1", b"192.0.2.2"]) == [
        ("192.0.2.2", None, None),
        ("192.0.2.1", None, None),
    ]


@pytest.mark.parametrize(
    "forged",
    [
        b'for="',
        b'for="x',
        b"for=1.1.1.1\\",
        b'"',
        b'for="a\\"',
        b'";host="evil.com',
        b",,,",
        b'\\"',
    ],
)
def test_what_a_client_wrote_does_not_change_what_the_proxy_wrote(forged: bytes) -> None:
    """An unbalanced quote on the left swallows nothing on the right (P20)."""
    own = b'for=192.0.2.7;proto=https;host="a,b\\",c";x="y\\\\"'
    assert rfc(forged + b", " + own)[0] == ("192.0.2.7", "https", 'a,b",c')


@given(st.binary(max_size=60))
def test_no_prefix_changes_the_nearest_hop(prefix: bytes) -> None:
    """Whatever stands on the left, the right end reads the same (P20)."""
    assert rfc(prefix + b',for="[2001:db8::1]:1";proto=https')[0] == ("2001:db8::1", "https", None)
    assert family([prefix + b",192.0.2.1"])[0][0] == "192.0.2.1"


def test_a_malformed_element_makes_its_host_unknown() -> None:
    """The proxy said something, and it cannot be read: that is not the same as nothing (P20)."""
    assert rfc(b"for=192.0.2.1;for=192.0.2.2") == [(None, None, "")]


# --- X-Forwarded-*


def test_equal_places_from_the_right_belong_to_one_hop() -> None:
    """A proxy that appends to one list appends to all (P20)."""
    assert family([b"6.6.6.6, 192.0.2.1, 192.0.2.2"], [b"https, http"], [b"a.com, b.com"]) == [
        ("192.0.2.2", "http", "b.com"),
        ("192.0.2.1", "https", "a.com"),
        ("6.6.6.6", "", ""),
    ]


def test_a_single_scheme_holds_for_every_hop() -> None:
    """Most proxies set one scheme and pass it on; the nearest one vouches for it (P20)."""
    assert family([b"192.0.2.1, 192.0.2.2"], [b"https"], [b"a.com"]) == [
        ("192.0.2.2", "https", "a.com"),
        ("192.0.2.1", "https", "a.com"),
    ]


@pytest.mark.parametrize(
    ("element", "address"),
    [
        (b"192.0.2.1", "192.0.2.1"),
        (b" 192.0.2.1\t", "192.0.2.1"),
        (b"192.0.2.1:4711", "192.0.2.1"),
        (b"2001:db8::1", "2001:db8::1"),
        (b"[2001:db8::1]:4711", "2001:db8::1"),
        (b"::ffff:192.0.2.1", "192.0.2.1"),
        (b"fe80::1%eth0", "fe80::1"),
        (b"unix:", None),
        (b"unknown", None),
        (b'"192.0.2.1"', None),
        (b"192.0.2.1 192.0.2.2", None),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_the_forms_that_proxies_write_are_understood(element: bytes, address: str | None) -> None:
    """Bare and bracketed IPv6, and ports; an empty element counts, and says nothing (P20)."""
    assert family([element]) == [(address, None, None)]
    assert family([b"6.6.6.6," + element])[0] == (address, None, None)


@pytest.mark.parametrize("read", [forwarded, x_forwarded])
def test_there_is_always_one_hop_and_a_reason(read) -> None:
    """Without the header the nearest proxy names nobody, and the reason says so (P20)."""
    (hop,) = read({})
    assert (hop.node, hop.scheme, hop.host) == (None, None, None)
    assert hop.why.startswith("It sent no")


def test_scheme_and_host_may_come_without_addresses() -> None:
    """A proxy that tells only the scheme is believed about that (P20)."""
    assert family([], [b"https"], [b"a.com"]) == [(None, "https", "a.com")]


# --- bounds


def test_a_list_of_many_hops_ends_in_an_unknown_one() -> None:
    """Elements beyond the limit are not read, and never taken for the client (P20)."""
    hops = family([b"192.0.2.1," * MAX_ELEMENTS + b"192.0.2.2"])
    assert len(hops) == MAX_ELEMENTS + 1
    assert hops[0] == ("192.0.2.2", None, None)
    assert hops[-1] == (None, None, None)


@pytest.mark.parametrize("padding", [b"1" * MAX_LENGTH, b" " * MAX_LENGTH, b'"' * 2_000_000])
def test_an_address_cut_at_the_limit_is_not_taken_for_a_whole_one(padding: bytes) -> None:
    """The fragment at the cut is dropped: "1.2.3.4" may be the end of "11.2.3.4" (P20)."""
    assert family([padding + b"1.2.3.4, 192.0.2.1"]) == [
        ("192.0.2.1", None, None),
        (None, None, None),
    ]
    assert rfc(padding + b"for=1.2.3.4, for=192.0.2.1")[0] == ("192.0.2.1", None, None)
    assert rfc(padding + b"for=1.2.3.4, for=192.0.2.1")[-1] == (None, None, None)


@pytest.mark.parametrize(
    "value",
    [b'"' + b"," * MAX_LENGTH, b"a=b;" * 2000, b"a" * MAX_LENGTH, b" " * 8000 + b"x", b"\\" * 8000],
)
def test_hostile_lists_end_quickly(value: bytes) -> None:
    """No pattern backtracks: each of these would take minutes if one did (P20)."""
    assert rfc(value)
    assert family([value], [value], [value])


FRAGMENTS = st.sampled_from(
    [b"for=", b"proto=https", b"192.0.2.1", b'"', b",", b";", b"\\", b"[::1]", b" ", b"="]
)


@given(st.lists(st.lists(FRAGMENTS | st.binary(max_size=3), max_size=20).map(b"".join), max_size=3))
def test_any_bytes_are_tolerated(values: list[bytes]) -> None:
    """No forwarding header raises, and there is always a nearest hop (P20)."""
    assert rfc(*values)
    assert family(values, values, values)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["for", "by", "proto", "host", "x"]),
            st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12),
            min_size=1,
        ),
        min_size=1,
        max_size=6,
    )
)
def test_what_a_proxy_quotes_is_read_back(elements: list[dict[str, str]]) -> None:
    """Any list written by RFC 7239's grammar is read element for element, commas and all (P20)."""

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = ", ".join(
        ";".join(f"{name}={quoted(value)}" for name, value in element.items())
        for element in elements
    )
    expected = [(element.get("proto"), element.get("host")) for element in reversed(elements)]
    assert [(scheme, host) for _, scheme, host in rfc(header.encode())] == expected
