"""The settings of the cross-site decision fail at start-up, with a sentence (P18, P19)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.csrf_rules import CsrfRules, is_plain, matches, normal_origin
from strongroom.core.errors import ConfigurationError


def with_settings(settings: dict[str, Any]) -> CsrfRules:
    """Rules with settings whose names and types only the test knows."""
    return CsrfRules(**settings)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("https://app.example", "https://app.example"),
        ("HTTPS://App.Example", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:80", "http://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("https://app.example:8443", "https://app.example:8443"),
        ("https://app.example:0443", "https://app.example"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("https://[2001:DB8::0:1]", "https://[2001:db8::1]"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("https://my_host.example", "https://my_host.example"),
    ],
)
def test_an_origin_has_one_normal_form(text, normal):
    """Origins are compared as whole strings, so each has one spelling (OWASP-C6)."""
    assert normal_origin(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "app.example", "https://", "https:app.example", "//app.example", "://x"),
        *("https://app.example/", "https://app.example?x", "https://app.example#x"),
        *("https://user@app.example", "https://app.example:", "https://app.example:0"),
        *("https://app.example:65536", "https://app.example:+80", "https://app.example:8 0"),
        *("https://app..example", "https://.example", "https://app.example\n", " https://a.b"),
        *("https://a.b https://c.d", "https://a.b,https://c.d", "https://*.example"),
        *("https://[::1", "https://::1", "https://[:::]", "https://[fe80::1%25eth0]"),
        *("https://b\u00fccher.example", "https://\u212aelvin.example", "https://a.b:\u0668"),
        "https://" + "a" * 300,
    ],
)
def test_what_is_not_exactly_an_origin_has_no_normal_form(text):
    """No path, list, user name, pattern, other alphabet or stray space (OWASP-C6)."""
    assert normal_origin(text) is None


@given(st.text(max_size=400))
def test_no_text_makes_the_origin_parser_raise(text):
    """The Origin header is untrusted; whatever is accepted is already normal (P19)."""
    normal = normal_origin(text)
    if normal is not None:
        assert normal_origin(normal) == normal
        assert normal.isascii()


@given(st.from_regex(r"[a-z]{1,6}://[a-z0-9.\-\[\]:]{0,20}", fullmatch=True))
def test_the_normal_form_is_stable_for_things_that_look_like_origins(text):
    """Normalising twice changes nothing."""
    normal = normal_origin(text)
    assert normal is None or normal_origin(normal) == normal


def test_the_default_is_the_safe_choice():
    """No setting at all trusts nobody and exempts nothing (P18)."""
    rules = CsrfRules()
    assert (rules.origins, rules.trusted_origins, rules.exempt, rules.json_paths) == ((),) * 4
    assert (rules.field, rules.header_key) == ("csrf_token", b"x-csrf-token")


def test_rules_are_normalised_once_and_frozen():
    """What was checked at start-up is what every request meets."""
    rules = CsrfRules(
        origins=("HTTPS://App.Example:443", "https://app.example"),
        trusted_origins=("https://Partner.example",),
    )
    assert rules.origins == ("https://app.example",)
    assert rules.trusted_origins == ("https://partner.example",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        rules.origins = ()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("null", "sandboxed"),
        (" NULL ", "sandboxed"),
        ("*", "pattern"),
        ("https://*.app.example", "pattern"),
        ("https://b\u00fccher.example", "xn--"),
        ("wss://app.example", "page's origin"),
        ("app.example", "https://example.org"),
        ("//app.example", "scheme"),
        ("https://app.example/", "slash"),
        ("https://app.example/shop", "path"),
        ("https://app.example?x=1", "query"),
        ("https://me@app.example", "user name"),
        ("https://app.example:99999", "Origin header"),
        ("https://app example", "Origin header"),
        ("", "scheme"),
    ],
)
@pytest.mark.parametrize("setting", ["origins", "trusted_origins"])
def test_each_mistake_in_an_origin_is_told_with_its_remedy(setting, text, says):
    """What happened, why it matters, what to do: at start-up, not at the first attack (P18)."""
    with pytest.raises(ConfigurationError) as caught:
        with_settings({setting: (text,)})
    error = caught.value
    assert setting in error.what
    assert repr(text) in error.what
    assert error.why
    assert error.hint
    assert says in str(error)


def test_an_own_origin_is_a_website():
    """Cookies come over http and https; an app shell belongs to the trusted origins (P18)."""
    shell = "capacitor://localhost"
    assert CsrfRules(trusted_origins=(shell,)).trusted_origins == (shell,)
    with pytest.raises(ConfigurationError, match="trusted_origins"):
        CsrfRules(origins=("capacitor://localhost",))


@pytest.mark.parametrize(
    "text",
    [
        *("http://localhost", "http://localhost:3000", "http://app.localhost:3000"),
        *("http://127.0.0.1:8000", "http://[::1]:8000"),
    ],
)
def test_plain_http_is_trusted_on_this_machine(text):
    """Development servers need no certificate."""
    assert CsrfRules(trusted_origins=(text,)).trusted_origins == (text,)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "http://partner.example",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
        ),
        "http://evil-localhost",
    ],
)
def test_plain_http_is_not_trusted_across_a_network(text):
    """Whoever is on the network could post in that page's name (P18)."""
    with pytest.raises(ConfigurationError, match="https"):
        CsrfRules(trusted_origins=(text,))
    assert CsrfRules(origins=(text,)).origins == (text,)


@pytest.mark.parametrize("text", ["*", "/*"])
def test_the_whole_site_cannot_be_exempted(text):
    """An exemption is named one by one (OWASP-C5)."""
    with pytest.raises(ConfigurationError, match="everywhere"):
        CsrfRules(exempt=(text,))


@pytest.mark.parametrize(
    "text",
    [
        *("", "hooks", "hooks/*", "/hooks*", "/ho*oks", "/*/x", "/hooks/**", "//*", "/hooks//*"),
        *("/a/../b", "/a/./*", "/a\\b", "/a%2fb", "/a?b", "/a#b", "/a\nb", "https://x/y"),
    ],
)
@pytest.mark.parametrize("setting", ["exempt", "json_paths"])
def test_a_path_pattern_is_exact_or_ends_in_a_star(setting, text):
    """A pattern that would match too much, or never, fails at start-up (P18)."""
    with pytest.raises(ConfigurationError, match=setting):
        with_settings({setting: (text,)})


def test_good_patterns_stay_as_written():
    """An exact path, a prefix, the front page, and for JSON rules the whole site."""
    rules = CsrfRules(exempt=("/", "/hooks/*", "/a/b"), json_paths=("/*", "/api/*"))
    assert rules.exempt == ("/", "/hooks/*", "/a/b")
    assert rules.json_paths == ("/*", "/api/*")


@pytest.mark.parametrize("setting", ["origins", "trusted_origins", "exempt", "json_paths"])
def test_a_single_string_is_not_taken_for_a_list(setting):
    """`origins="https://..."` would be read letter by letter (P18)."""
    with pytest.raises(ConfigurationError, match="tuple"):
        with_settings({setting: "/hooks/x"})


@pytest.mark.parametrize(
    "wrong",
    [{"field": ""}, {"field": 'a"b'}, {"header": ""}, {"header": "X CSRF"}, {"header": "\u00e4"}],
)
def test_names_that_cannot_travel_are_refused(wrong):
    """Field and header names go into HTML and HTTP as they are (P18)."""
    with pytest.raises(ConfigurationError):
        with_settings(wrong)


@given(st.text(max_size=60))
def test_any_text_is_a_pattern_or_a_configuration_error(text):
    """No setting ends in another exception."""
    for setting in ("origins", "trusted_origins", "exempt", "json_paths", "field", "header"):
        value = text if setting in ("field", "header") else (text,)
        try:
            with_settings({setting: value})
        except ConfigurationError as error:
            assert error.hint


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("/a/b", True),
        ("/", True),
        ("/a/", True),
        ("/caf\u00e9 au lait", True),
        ("/a..b/.c", True),
        ("/a//b", False),
        ("/a/../b", False),
        ("/a/.", False),
        ("/a%2fb", False),
        ("/a\\b", False),
        ("/a\tb", False),
    ],
)
def test_a_plain_path_reads_alike_everywhere(path, plain):
    """Only such a path can be exempt."""
    assert is_plain(path) is plain


def test_a_prefix_matches_below_and_not_beside():
    """The slash belongs to the prefix."""
    assert matches("/hooks/a", ("/hooks/*",))
    assert not matches("/hooks", ("/hooks/*",))
    assert not matches("/hooksmith/a", ("/hooks/*",))
    assert not matches("/hooks", ())
