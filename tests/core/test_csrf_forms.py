"""The token is found in a form's first bytes, however they are cut (P19)."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.csrf_forms import NEED_MORE, find_form_token

URLENCODED = "application/x-www-form-urlencoded"
BOUNDARY = "----WebKitFormBoundaryAbC123"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
FIELD = "csrf_token"


def find(content_type: str, body: bytes, complete: bool = True):
    return find_form_token(content_type, body, FIELD, complete=complete)


def part(name: str, value: bytes, extra: str = "") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
    return f"--{BOUNDARY}\r\n{head}".encode() + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


# --- urlencoded -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"csrf_token=abc", "abc"),
        (b"a=1&csrf_token=abc&b=2", "abc"),
        (b"csrf%5Ftoken=a%62c", "abc"),
        (b"csrf_token=a+b", "a b"),
        (b"csrf_token=a=b", "a=b"),
        (b"csrf_token", ""),
        (b"csrf_token=", ""),
        (b"csrf_token=%zz", "%zz"),
        (b"", None),
        (b"&&&", None),
        (b"csrf_tokens=abc", None),
        (b"xcsrf_token=abc", None),
        (b"CSRF_TOKEN=abc", None),
        (b"a=csrf_token=abc", None),
        (b"a=1;csrf_token=abc", None),
        (b"csrf_token[]=abc", None),
        # Present, and never valid.
        (b"csrf_token=abc&csrf_token=abc", ""),
        (b"csrf_token=&csrf%5ftoken=abc", ""),
        (b"csrf_token=%ff", ""),
        (b"csrf_token=\xe4", ""),
        (b"csrf_token=" + b"a" * 513, ""),
        (b"csrf_token=" + b"%61" * 100_000, ""),
    ],
)
def test_an_urlencoded_form_is_read_as_browsers_write_it(body, expected):
    """Pairs between ampersands; a repeated or impossible value is unusable (P19)."""
    assert find(URLENCODED, body) == expected


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        (b"", NEED_MORE),
        (b"csrf_to", NEED_MORE),
        (b"csrf_token=ab", NEED_MORE),
        (b"csrf_token=abc&", "abc"),
        (b"csrf_token=abc&x", "abc"),
        (b"csrf_token=abc&csrf_token=d&", ""),
        (b"a=1&b=2&", NEED_MORE),
    ],
)
def test_a_cut_urlencoded_value_is_never_taken_for_a_whole_one(prefix, expected):
    """Only an ampersand or the end ends a value."""
    assert find(URLENCODED, prefix, complete=False) == expected


@given(
    st.dictionaries(st.text(max_size=8).filter(lambda name: name != FIELD), st.text(max_size=8)),
    st.text("abcXYZ019-_", max_size=60),
    st.integers(0, 300),
)
def test_every_prefix_of_an_urlencoded_form_agrees_with_the_whole(others, token, cut):
    """A prefix gives the final answer or asks for more; the whole gives the token."""
    items = list(others.items())
    body = urlencode([*items[::2], (FIELD, token), *items[1::2]]).encode()
    assert find(URLENCODED, body) == token
    assert find(URLENCODED, body[:cut], complete=False) in (NEED_MORE, token)


# --- multipart ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (form(part(FIELD, b"abc")), "abc"),
        (form(part("a", b"1"), part(FIELD, b"abc"), part("b", b"2")), "abc"),
        (b"preamble\r\n" + form(part(FIELD, b"abc")), "abc"),
        (form(part(FIELD, b"abc")) + b"epilogue", "abc"),
        (form(part(FIELD, b"a\r\nb")), "a\r\nb"),
        (form(part(FIELD, b"")), ""),
        (form(part("a", b"\r\n\r\n\r\n"), part(FIELD, b"abc")), "abc"),
        (form(part("a", f"\r\n--{BOUNDARY}x\r\n".encode()), part(FIELD, b"abc")), "abc"),
        (form(part("a", f"--{BOUNDARY}".encode()), part(FIELD, b"abc")), "abc"),
        (form(part(FIELD, b"abc")).replace(b"123\r\n", b"123 \t\r\n"), "abc"),
        (form(part(FIELD, b"abc")).replace(b"Content-Disposition", b"cOnTent-disposition"), "abc"),
        (form(part(FIELD, b"abc", "\r\nContent-Type: text/plain; charset=utf-16")), "abc"),
        (form(part(FIELD, b"abc", "; x=y")), "abc"),
        (form(part(FIELD, b"abc")).replace(b'"csrf_token"', b"csrf_token"), "abc"),
        (form(), None),
        (b"", None),
        (b"junk", None),
        (form(part("a", b"1")), None),
        (form(part("a", b'name="csrf_token"\r\n\r\nabc')), None),
        (form(part("a", b"1", '; filename="x; name=csrf_token"')), None),
        (form(part("a", b"1", "; name=csrf_token")), None),
        (form(part(FIELD, b"abc", '; name="a"')), None),
        (form(part(FIELD, b"abc")).replace(b"Content-Disposition", b"X-Other"), None),
        (form(part(FIELD, b"abc")).replace(b"\r\n\r\n", b"\r\n"), None),
        (form(part(FIELD, b"abc")).replace(b"\r\n", b"\n"), None),
        (form(part(FIELD, b"abc")).replace(b"----Web", b"----Bew"), None),
        (part(FIELD, b"abc"), None),
        (form() + part(FIELD, b"abc"), None),
        # Present, and never valid.
        (form(part(FIELD, b"abc"), part(FIELD, b"abc")), ""),
        (form(part(FIELD, b"abc", '; filename="x.txt"')), ""),
        (form(part(FIELD, b"abc", "; filename*=utf-8''x")), ""),
        (form(part(FIELD, b"\xff")), ""),
        (form(part(FIELD, b"a" * 513)), ""),
    ],
)
def test_a_multipart_form_is_read_as_browsers_write_it(body, expected):
    """Parts between delimiter lines; no text inside one is taken for another (RFC 7578)."""
    assert find(MULTIPART, body) == expected


def test_the_token_is_found_before_an_upload_has_arrived():
    """An upload need not be read to its end: that is why the prefix is enough."""
    upload = part("file", b"x" * 100_000, '; filename="big.bin"')
    prefix = (part(FIELD, b"abc") + upload)[:500]
    assert find(MULTIPART, prefix, complete=False) == "abc"
    assert find(MULTIPART, (upload + part(FIELD, b"abc"))[:500], complete=False) is NEED_MORE


@given(
    st.lists(st.tuples(st.text("abcdef", max_size=5), st.binary(max_size=40)), max_size=3),
    st.text("abcXYZ019-_", max_size=60),
    st.lists(st.tuples(st.text("abcdef", max_size=5), st.binary(max_size=40)), max_size=3),
    st.integers(0, 900),
)
def test_every_prefix_of_a_multipart_form_agrees_with_the_whole(before, token, after, cut):
    """Cut in a delimiter, a header or a value: the answer is final, or more is wanted."""
    body = form(
        *(part(*item) for item in before), part(FIELD, token.encode()), *(part(*i) for i in after)
    )
    assert find(MULTIPART, body) == token
    assert find(MULTIPART, body[:cut], complete=False) in (NEED_MORE, token)


def test_the_closing_delimiter_ends_the_search():
    """A form that has ended without the field has none, whatever follows."""
    assert find(MULTIPART, form(part("a", b"1")), complete=False) is None


@pytest.mark.parametrize(
    "content_type",
    [
        f'multipart/form-data; boundary="{BOUNDARY}"',
        f"Multipart/Form-Data;BOUNDARY={BOUNDARY}",
        f"multipart/form-data; charset=utf-8; boundary={BOUNDARY}",
        f"multipart/form-data ; boundary={BOUNDARY} ; x=y",
    ],
)
def test_the_boundary_is_found_however_it_is_written(content_type):
    """Quotes, case and order make no difference (RFC 9110, 8.3.1)."""
    assert find(content_type, form(part(FIELD, b"abc"))) == "abc"


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        'multipart/form-data; boundary="x ',
        f"multipart/form-data; boundary={BOUNDARY}; boundary={BOUNDARY}",
        f"multipart/form-data; boundary={'x' * 71}",
        'multipart/form-data; boundary="x "',
        "multipart/form-data; boundary=x\u00e4",
        f"multipart/mixed; boundary={BOUNDARY}",
        "application/json",
        "text/plain",
        "",
        ";;;",
    ],
)
@pytest.mark.parametrize("complete", [True, False])
def test_a_body_that_is_no_form_has_no_token(content_type, complete):
    """There is nothing to wait for, so nothing more is asked for."""
    body = form(part(FIELD, b"abc")) + b"&csrf_token=abc"
    assert find(content_type, body, complete) is None


def test_a_boundary_is_text_and_no_pattern():
    """Every character that a boundary may have stands for itself (RFC 2046, 5.1.1)."""
    body = form(part(FIELD, b"abc"))
    odd = "a.b(c)+?'"
    content_type = f'multipart/form-data; boundary="{odd}"'
    assert find(content_type, body.replace(BOUNDARY.encode(), odd.encode())) == "abc"
    assert find(content_type, body.replace(BOUNDARY.encode(), b"aXb(c)+?'")) is None


def test_charset_junk_changes_nothing():
    """The charset of an urlencoded form means nothing (WHATWG URL)."""
    assert find(f"{URLENCODED}; charset=utf-7", b"csrf_token=+ADw-&") == " ADw-"


@given(
    st.one_of(st.text(), st.sampled_from([URLENCODED, MULTIPART])),
    st.binary(max_size=300),
    st.text(max_size=10),
    st.booleans(),
)
def test_nothing_raises_on_any_body(content_type, prefix, field, complete):
    """Untrusted bytes end in an answer; a whole body never asks for more (P19)."""
    found = find_form_token(content_type, prefix, field, complete=complete)
    assert not (complete and found is NEED_MORE)


PIECES = [
    *(f"--{BOUNDARY}".encode(), b"\r\n", b"--", b" ", b":", b"abc"),
    *(b"Content-Disposition: form-data", b'; name="csrf_token"'),
]


@given(st.lists(st.sampled_from(PIECES), max_size=24))
def test_nothing_raises_on_broken_multipart(pieces):
    """Every arrangement of the format's own pieces is read, or is no form."""
    body = b"".join(pieces)
    assert find(MULTIPART, body) is not NEED_MORE
    find(MULTIPART, body, complete=False)
