"""Reading Cookie headers and writing Set-Cookie values."""

from __future__ import annotations

import dataclasses
from http.cookies import SimpleCookie
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.cookies import (
    MAX_AGE_CAP,
    SAME_NAME_LIMIT,
    SIZE_LIMIT,
    CookieSpec,
    clear_site_data,
    cookie_name,
    find_cookies,
    parse_cookie_header,
)
from strongroom.core.errors import ConfigurationError, UsageError

NAME = b"__Host-id"
SPEC = CookieSpec("__Host-id")

# Fragments that a parser could trip over, mixed with bytes at random.
FRAGMENTS = st.sampled_from(
    [NAME, NAME + b"=", b"=", b";", b"; ", b" ", b"\t", b'"', b"x", b"\x00", b"\xff", b"\r\n", b","]
)
HEADERS = st.lists(FRAGMENTS | st.binary(max_size=4), max_size=40).map(b"".join)


def find(*headers: bytes, name: bytes = NAME) -> list[bytes]:
    return find_cookies([(b"cookie", header) for header in headers], name)


def attributes(set_cookie: bytes) -> dict[str, str]:
    """The attributes of a Set-Cookie value; fails where one comes twice (CK-4)."""
    pairs = [part.partition("=") for part in set_cookie.decode("ascii").split("; ")[1:]]
    found = {name.lower(): value for name, _, value in pairs}
    assert len(found) == len(pairs)
    return found


# --- reading


@pytest.mark.parametrize(
    ("header", "values"),
    [
        (b"__Host-id=a", [b"a"]),
        (b"x=1; __Host-id=a; y=2", [b"a"]),
        (b"x=1;__Host-id=a;y=2", [b"a"]),
        (b"x=1; \t __Host-id=a", [b"a"]),
        (b" __Host-id=a ", [b"a"]),
        (b"__Host-id= a\t; x=1", [b"a"]),
        (b"__Host-id=", [b""]),
        (b"__Host-id=a=b==", [b"a=b=="]),
        (b"__Host-id=a; x=1; __Host-id=b", [b"a", b"b"]),
        (b"__Host-id=a;;;__Host-id=a", [b"a", b"a"]),
        (b"__Host-id=__Host-id=a", [b"__Host-id=a"]),
        (b'__Host-id="a"', [b'"a"']),
        (b"__Host-id=\xff\x00", [b"\xff\x00"]),
        (b"", []),
        (b"__Host-id", []),
        (b"x=1", []),
    ],
)
def test_every_value_of_the_name_is_found_in_order(header: bytes, values: list[bytes]) -> None:
    """Cookies of one name all come back, quotes included, outer space left out (P21, CK-3)."""
    assert find(header) == values


@pytest.mark.parametrize(
    "header",
    [
        b"x__Host-id=evil",
        b"my__Host-id=evil; z=1",
        b"x=__Host-id=evil",
        b'x="; y=__Host-id=evil"',
        b"x=1 __Host-id=evil",
        b"x=1, __Host-id=evil",
        b"x __Host-id=evil",
        b"=__Host-id=evil",
        b"__Host-idx=evil",
        b"__Host-id =evil",
    ],
)
def test_the_name_within_another_cookie_is_not_ours(header: bytes) -> None:
    """A name that ends like ours, or a value that contains it, is another cookie (P21)."""
    assert find(header) == []
    assert find(header + b"; __Host-id=good") == [b"good"]


@pytest.mark.parametrize("name", [b"__HOST-id", b"__host-id", b"__Host-ID", b"__HoSt-iD"])
def test_a_name_in_another_case_is_another_cookie(name: bytes) -> None:
    """Names are compared byte for byte: a case variant of a prefix is untrusted (CK-7)."""
    assert find(name + b"=evil") == []


def test_several_cookie_headers_are_read_as_one() -> None:
    """HTTP/2 and HTTP/3 may split the Cookie header; all parts count, in order (CK-6)."""
    headers = [(b"cookie", b"__Host-id=a"), (b"host", b"h"), (b"cookie", b"x=1; __Host-id=b")]
    assert find_cookies(headers, NAME) == [b"a", b"b"]


def test_only_cookie_headers_are_read() -> None:
    """The same text in another header is no cookie."""
    assert (
        find_cookies([(b"x-cookie", b"__Host-id=a"), (b"set-cookie", b"__Host-id=b")], NAME) == []
    )


@given(st.lists(HEADERS, max_size=3))
def test_the_fast_search_agrees_with_the_plain_parser(headers: list[bytes]) -> None:
    """Whatever the bytes, searching for one name finds what parsing everything finds (P21)."""
    parsed = [
        value for header in headers for key, value in parse_cookie_header(header) if key == NAME
    ]
    assert find(*headers) == parsed[:SAME_NAME_LIMIT]


@given(st.binary(max_size=300))
def test_any_bytes_are_tolerated(header: bytes) -> None:
    """No Cookie header raises, and no value found has a separator or space at its ends."""
    for key, value in parse_cookie_header(header):
        assert b";" not in key + value
        assert value == value.strip(b" \t")
        assert b"=" not in key


def test_a_nameless_cookie_keeps_its_value() -> None:
    """A part without `=` is a cookie without a name, as browsers send it; empty parts are none."""
    assert parse_cookie_header(b"a; =b; ; c=d;") == [(b"", b"a"), (b"", b"b"), (b"c", b"d")]


def test_duplicates_beyond_what_a_browser_keeps_are_not_handed_back() -> None:
    """Hundreds of duplicates cost no more than the limit, over all headers together (P21)."""
    header = b"; ".join(b"__Host-id=%d" % number for number in range(SAME_NAME_LIMIT + 50))
    found = find(header, header)
    assert found == [b"%d" % number for number in range(SAME_NAME_LIMIT)]


@pytest.mark.parametrize(
    "header",
    [
        b"x" + (b"__Host-id=" * 100_000),
        b"x__Host-id=;" * 80_000,
        b" " * 1_000_000 + NAME,
        (b" " + NAME + b"=") * 90_000,
        b"; " * 500_000,
        NAME * 110_000,
    ],
    ids=["chained", "suffixes", "spaces", "spaced chain", "empty parts", "no equals"],
)
def test_a_header_of_a_megabyte_costs_no_more_than_its_length(header: bytes) -> None:
    """A forged header ends in bounded time; a quadratic search would hang this test (P21)."""
    assert find(header + b"; __Host-id=a")[-1:] == [b"a"]


# --- writing


def test_the_default_cookie_is_the_safe_one() -> None:
    """`Secure`, `HttpOnly`, `SameSite=Lax`, `Path=/`, no Domain, no Max-Age (P18, ASVS 3.3)."""
    assert SPEC.render("abc", None) == b"__Host-id=abc; Path=/; Secure; HttpOnly; SameSite=Lax"


def test_every_attribute_is_written_once() -> None:
    """All attributes together, none twice (CK-4)."""
    spec = CookieSpec(
        "__Secure-id",
        path="/app",
        domain="example.com",
        same_site="None",
        partitioned=True,
        cross_site_reason="The page is embedded by partners.",
    )
    assert attributes(spec.render("abc", 60)) == {
        "max-age": "60",
        "domain": "example.com",
        "path": "/app",
        "secure": "",
        "httponly": "",
        "samesite": "None",
        "partitioned": "",
    }


def test_without_secure_and_http_only_the_attributes_are_left_out() -> None:
    """The development cookie for plain http://localhost carries what it says (F6)."""
    spec = CookieSpec("id", secure=False, http_only=False, same_site="Strict")
    assert attributes(spec.render("abc", None)) == {"path": "/", "samesite": "Strict"}


@pytest.mark.parametrize(
    ("asked", "written"),
    [(1, 1), (3600, 3600), (MAX_AGE_CAP, MAX_AGE_CAP), (MAX_AGE_CAP + 1, MAX_AGE_CAP)],
)
def test_a_lifetime_is_capped_at_400_days(asked: int, written: int) -> None:
    """Max-Age is plain digits and promises no more than browsers keep (CK-5, F6)."""
    assert attributes(SPEC.render("abc", asked))["max-age"] == str(written)


@pytest.mark.parametrize("max_age", [0, -1])
def test_a_lifetime_of_nothing_is_refused(max_age: int) -> None:
    """Zero is a value, not "no limit": a browser would delete the cookie (CK-5)."""
    with pytest.raises(UsageError, match="render_deletion"):
        SPEC.render("abc", max_age)


@pytest.mark.parametrize(
    "value",
    ["", "a b", "a;b", "a,b", 'a"b', '"a"', "a\\b", "a\r\nb", "a\x00", "a\x7f", "é", "ab\n"],
)
def test_a_value_outside_the_alphabet_is_refused_without_showing_it(value: str) -> None:
    """No value can break out of its place, and the message does not repeat it (CK-3, P5)."""
    with pytest.raises(UsageError) as caught:
        SPEC.render("s3cret" + value if value else value, None)
    assert "s3cret" not in str(caught.value)


def test_name_and_value_share_a_budget() -> None:
    """A browser ignores a cookie over 4096 octets as a whole, so it is refused here (P18)."""
    room = SIZE_LIMIT - len(SPEC.name)
    assert SPEC.render("a" * room, None)
    with pytest.raises(UsageError, match="4097 octets"):
        SPEC.render("a" * (room + 1), None)


@given(st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1))
def test_what_is_rendered_is_found_again(value: str) -> None:
    """A value that renders comes back from the browser as it was (CK-3)."""
    try:
        rendered = SPEC.render(value, 60)
    except UsageError:
        assert set(value) & set(' ",;\\')
    else:
        sent = rendered.partition(b";")[0]
        assert find(b"a=1; " + sent + b"; b=2") == [value.encode()]


def test_the_standard_library_reads_the_same_attributes() -> None:
    """An independent parser agrees with what we wrote."""
    morsel = SimpleCookie(SPEC.render("abc", 60).decode())["__Host-id"]
    assert (morsel.value, morsel["max-age"], morsel["path"]) == ("abc", "60", "/")
    assert (morsel["secure"], morsel["httponly"], morsel["samesite"]) == (True, True, "Lax")


def test_a_specification_with_problems_never_renders() -> None:
    """What a browser would refuse is not sent, even where nobody called check() (P18)."""
    spec = CookieSpec("__Host-id", secure=False)
    for render in (lambda: spec.render("abc", None), spec.render_deletion):
        with pytest.raises(ConfigurationError):
            render()
    with pytest.raises(ConfigurationError):
        spec.render_deletions_wide("example.com")


# --- deleting


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"name": "id", "secure": False},
        {"name": "id", "http_only": False, "same_site": "Strict"},
        {"name": "__Secure-id", "path": "/app", "domain": "example.com"},
        {"partitioned": True, "same_site": "None", "cross_site_reason": "Embedded."},
    ],
)
def test_a_deletion_repeats_every_attribute(changes: dict[str, Any]) -> None:
    """Name, path, domain, Secure, SameSite and Partitioned are the cookie's own (P13, CK-4)."""
    spec = dataclasses.replace(SPEC, **changes)
    deletion = attributes(spec.render_deletion())
    assert deletion.pop("max-age") == "0"
    assert deletion.pop("expires") == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert deletion == attributes(spec.render("abc", None))
    assert spec.render_deletion().startswith(f"{spec.name}=;".encode())


def domains(spec: CookieSpec, host: str) -> list[str | None]:
    return [attributes(value).get("domain") for value in spec.render_deletions_wide(host)]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("example.com", [None, "example.com"]),
        ("Shop.Example.COM:8443", [None, "shop.example.com", "example.com"]),
        ("shop.example.com.", [None, "shop.example.com", "example.com"]),
        ("localhost:8000", [None]),
        ("192.0.2.1", [None]),
        ("192.0.2.1:80", [None]),
        ("[2001:db8::1]:443", [None]),
        ("", [None]),
        ("..", [None]),
        ("a_b.example.com", [None]),
        ("evil.com; Domain=x.com", [None]),
        ("a." * 127 + "com", [None]),
    ],
)
def test_a_tossed_cookie_is_expired_on_the_host_and_its_parents(
    host: str, expected: list[str | None]
) -> None:
    """The name dies on every domain that could have planted it; addresses have no parents (F3)."""
    assert domains(CookieSpec("id"), host) == expected


def test_a_very_deep_host_costs_a_bounded_number_of_lines() -> None:
    """The Host header is the client's: its labels do not become a hundred Set-Cookie lines (F3)."""
    found = domains(CookieSpec("id"), "a." * 100 + "example.com")
    assert len(found) == 9
    assert found[-1] == "example.com"


@pytest.mark.parametrize("name", ["__Host-id", "__Host-Http-id"])
def test_a_host_cookie_is_expired_on_the_host_alone(name: str) -> None:
    """Browsers refuse these names with a Domain, for keeping as for deleting (F3, P18)."""
    spec = CookieSpec(name)
    assert spec.render_deletions_wide("a.example.com") == [spec.render_deletion()]


def test_a_secure_prefix_allows_a_domain_and_is_expired_widely() -> None:
    """`__Secure-` may be set with a Domain by a sibling; so it is deleted there, too (F3)."""
    assert domains(CookieSpec("__Secure-id"), "a.b.org") == [None, "a.b.org", "b.org"]


def test_a_domain_cookie_is_expired_on_its_own_domain_first() -> None:
    """The cookie itself, then the host-only one of its name, then the rest, none twice (F3)."""
    spec = CookieSpec("__Secure-id", domain="example.com")
    assert domains(spec, "a.example.com") == ["example.com", None, "a.example.com"]


# --- names and Clear-Site-Data


def test_a_cookie_name_carries_prefix_base_and_realm() -> None:
    """Two realms on one host have two cookies; only the secure one has the prefix (F6)."""
    assert cookie_name("id", "3f9a2c1b77e0", secure=True) == "__Host-id-3f9a2c1b"
    assert cookie_name("id", "3f9a2c1b77e0", secure=False) == "id-3f9a2c1b"


@pytest.mark.parametrize("base", ["i d", "id;", "é", "id="])
def test_a_cookie_name_is_checked(base: str) -> None:
    """A base that would break the header is refused at start-up (CK-2, P18)."""
    with pytest.raises(ConfigurationError, match="token"):
        cookie_name(base, "3f9a2c1b", secure=True)


def test_clear_site_data_quotes_each_type_once() -> None:
    """Types are quoted strings in a list (F4, P23)."""
    assert clear_site_data(["storage"]) == b'"storage"'
    assert clear_site_data(["cache", "storage", "cache"]) == b'"cache", "storage"'


@pytest.mark.parametrize("types", [[], ["Storage"], ["storage", "everything"], "cookies"])
def test_clear_site_data_refuses_what_browsers_would_skip(types: list[str]) -> None:
    """A type that no browser knows clears nothing, so it is an error here (F4)."""
    with pytest.raises(ConfigurationError, match="Choose among"):
        clear_site_data(types)
