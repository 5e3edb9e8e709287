"""After signing in, the browser never leaves our origin (open redirect, CWE-601)."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.return_path import MAX_LENGTH, safe_next
from strongroom.core.stepup import sign_in_location


@pytest.mark.parametrize(
    ("candidate", "path"),
    [
        ("/", "/"),
        ("/account", "/account"),
        ("/account/", "/account/"),
        ("/search?q=a&r=b", "/search?q=a&r=b"),
        ("/go?url=https://other.example//x", "/go?url=https://other.example//x"),
        ("/text?q=%0A%0d", "/text?q=%0A%0d"),
        ("/page#top", "/page#top"),
        ("/page#//x", "/page#//x"),
        ("/a:b/@c;d=e", "/a:b/@c;d=e"),
        ("/100%", "/100%"),
        ("/a%2fb%20c", "/a%2fb%20c"),
        ("/k\u00f6ln?q=\u6771\u4eac", "/k%C3%B6ln?q=%E6%9D%B1%E4%BA%AC"),
        ("/a b", "/a%20b"),
        ('/a"<b>', "/a%22%3Cb%3E"),
        ("/\uff0f\uff0fevil.example", "/%EF%BC%8F%EF%BC%8Fevil.example"),
        ("/" + "a" * (MAX_LENGTH - 1), "/" + "a" * (MAX_LENGTH - 1)),
    ],
)
def test_a_path_of_ours_is_kept(candidate, path):
    """Query and fragment too; what a header cannot carry is escaped."""
    assert safe_next(candidate) == path


@pytest.mark.parametrize(
    "candidate",
    [
        None,
        "",
        "account",
        "?q=1",
        "#top",
        " /account",
        "https://evil.example",
        "https:/evil.example",
        "https:evil.example",
        "//evil.example",
        "///evil.example",
        "////evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "\\/evil.example",
        "/a\\b",
        "/\t/evil.example",
        "/\n/evil.example",
        "/\r\nLocation: https://evil.example",
        "\t//evil.example",
        "/\x00/evil.example",
        "/\x7f",
        "/\x85/evil.example",
        "/\u2028",
        "/\u200b",
        "/\ud800",
        "/%2fevil.example",
        "/%2F%2Fevil.example",
        "/%5cevil.example",
        "/%5C%5Cevil.example",
        "/%09/evil.example",
        "/%0d%0aSet-Cookie:x",
        "/%00",
        "/%252fevil.example",
        "/%255cevil.example",
        "/.//evil.example",
        "/..//evil.example",
        "/%2e%2e//evil.example",
        "/a//evil.example",
        "/a?b\\c",
        "/a?b\nc",
        "/a?\ud800",
        "/a#\ud800",
        "javascript:alert(1)",
        "data:text/html,x",
        "/" + "a" * MAX_LENGTH,
        "/" + "\u00e4" * 500,
    ],
)
def test_everything_else_becomes_the_default(candidate):
    """Other sites, what browsers read as other sites, and what somebody might decode into one."""
    assert safe_next(candidate) == "/"
    assert safe_next(candidate, "/home") == "/home"


def as_a_browser_reads(location: str) -> str:
    """The URL parser's forgiveness, at worst: tabs and breaks dropped, a backslash is a slash."""
    kept = "".join(ch for ch in location if ch not in "\t\r\n")
    return kept.strip("".join(map(chr, range(33)))).replace("\\", "/")


NASTY = st.text(st.sampled_from("/\\%25cf09ad.:@?#\t\n\r \x00evil\u00e4\uff0f"), max_size=12)


@given(st.one_of(st.text(), st.text().map("/".__add__), NASTY.map("/".__add__)))
def test_no_candidate_leaves_the_origin_or_breaks_the_header(candidate):
    """Whatever is returned resolves on our own host, in strict and in forgiving readers."""
    found = safe_next(candidate)
    assert found.isascii()
    assert found.isprintable()
    assert " " not in found
    assert len(found) <= MAX_LENGTH
    for reading in (found, unquote(found.partition("?")[0]), as_a_browser_reads(found)):
        assert reading.startswith("/")
        assert not reading.startswith("//")
        split = urlsplit(urljoin("https://app.example/deep/page", as_a_browser_reads(reading)))
        assert (split.scheme, split.netloc) == ("https", "app.example")


@given(st.one_of(st.text(), NASTY.map("/".__add__)))
def test_a_safe_path_is_safe_again(candidate):
    """The path survives the second check, when the browser comes back with it."""
    once = safe_next(candidate)
    assert safe_next(once) == once


@pytest.mark.parametrize(
    ("sign_in", "back", "location"),
    [
        ("/sign-in", "/account", "/sign-in?next=%2Faccount"),
        ("/sign-in", "/a?b=c&d=e#f", "/sign-in?next=%2Fa%3Fb%3Dc%26d%3De%23f"),
        ("/sign-in?lang=de", "/account", "/sign-in?lang=de&next=%2Faccount"),
        ("/sign-in", "/", "/sign-in?next=%2F"),
        ("/sign-in", None, "/sign-in"),
        ("/sign-in", "//evil.example", "/sign-in"),
        ("/sign-in", "/sign-in", "/sign-in"),
        ("/sign-in", "/sign-in?next=/x", "/sign-in"),
        ("/sign-in?lang=de", "/sign-in#x", "/sign-in?lang=de"),
        ("https://id.example/in", "/account", "https://id.example/in?next=%2Faccount"),
    ],
)
def test_the_sign_in_page_gets_the_way_back(sign_in, back, location):
    """Only a safe one, and never the sign-in page itself: that would go in circles."""
    assert sign_in_location(sign_in, back) == location


@given(st.text())
def test_the_way_back_arrives_as_it_was_sent(back):
    """One parameter, whole, and nothing beside it."""
    location = sign_in_location("/sign-in", back)
    assert location.isascii()
    expected = safe_next(back, default="")
    assert parse_qs(urlsplit(location).query).get("next", [""]) == [expected]
