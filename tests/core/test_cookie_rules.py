"""What is wrong with a cookie's name and attributes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.cookies import CookieSpec
from strongroom.core.errors import ConfigurationError

PREFIXES = ["__Host-", "__Secure-", "__Http-", "__Host-Http-"]


@pytest.mark.parametrize("prefix", [*PREFIXES, ""])
def test_the_defaults_satisfy_every_prefix(prefix: str) -> None:
    """A cookie that nobody configured further is accepted by browsers (P18)."""
    spec = CookieSpec(f"{prefix}id")
    assert spec.problems() == []
    spec.check()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"name": ""}, "name is empty"),
        ({"name": "a b"}, "RFC 9110 token"),
        ({"name": "a=b"}, "RFC 9110 token"),
        ({"name": "naïve"}, "RFC 9110 token"),
        ({"name": "id\n"}, "RFC 9110 token"),
        ({"name": "x" * 257}, "257 characters"),
        ({"name": "__Host-id", "secure": False}, "'__Host-' without Secure"),
        ({"name": "__Secure-id", "secure": False}, "'__Secure-' without Secure"),
        ({"name": "__Http-id", "secure": False}, "'__Http-' without Secure"),
        ({"name": "__Host-Http-id", "secure": False}, "'__Host-Http-' without Secure"),
        ({"name": "__Host-id", "domain": "example.com"}, "'__Host-' with a Domain"),
        ({"name": "__Host-Http-id", "domain": "example.com"}, "'__Host-Http-' with a Domain"),
        ({"name": "__Host-id", "path": "/app"}, "Path other than '/'"),
        ({"name": "__Host-Http-id", "path": "/app"}, "Path other than '/'"),
        ({"name": "__Http-id", "http_only": False}, "'__Http-' without HttpOnly"),
        ({"name": "__Host-Http-id", "http_only": False}, "'__Host-Http-' without HttpOnly"),
        ({"path": ""}, "path is not one"),
        ({"path": "app"}, "path is not one"),
        ({"path": "/a;b"}, "path is not one"),
        ({"path": "/a\r\nSet-Cookie: x=y"}, "path is not one"),
        ({"path": "/ä"}, "path is not one"),
        ({"path": "/" + "a" * 1024}, "path is not one"),
        ({"domain": ""}, "domain is not a host name"),
        ({"domain": ".example.com"}, "domain is not a host name"),
        ({"domain": "Example.com"}, "domain is not a host name"),
        ({"domain": "localhost"}, "domain is not a host name"),
        ({"domain": "192.0.2.1"}, "domain is not a host name"),
        ({"domain": "example.com; Secure"}, "domain is not a host name"),
        ({"domain": "a." * 130 + "com"}, "domain is not a host name"),
        ({"same_site": "lax"}, "SameSite='lax' is unknown"),
        ({"same_site": None}, "SameSite='None' is unknown"),
        ({"same_site": "None", "secure": False}, "SameSite=None without Secure"),
        ({"same_site": "None"}, "cross_site_reason"),
        ({"same_site": "None", "cross_site_reason": "  "}, "cross_site_reason"),
        ({"partitioned": True, "secure": False}, "Partitioned without Secure"),
    ],
)
def test_what_a_browser_would_refuse_is_a_problem(settings: dict[str, Any], sentence: str) -> None:
    """Each refused or unsafe combination has a sentence of its own (P18)."""
    problems = CookieSpec(**{"name": "id", **settings}).problems()
    assert [problem for problem in problems if sentence in problem], problems


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_in_another_case_is_refused(prefix: str) -> None:
    """Browsers match prefixes in any case and servers do not, so a variant misleads one (CK-7)."""
    for variant in (prefix.lower(), prefix.upper(), prefix.swapcase()):
        problems = CookieSpec(f"{variant}id").problems()
        assert problems
        assert f"write exactly {prefix!r}" in problems[0]


def test_the_shorter_prefix_does_not_hide_a_variant_of_the_longer_one() -> None:
    """`__Host-http-` starts with `__Host-`, yet a browser takes it for `__Host-Http-` (CK-7)."""
    problems = CookieSpec("__Host-http-id").problems()
    assert "write exactly '__Host-Http-'" in problems[0]


def test_a_reason_allows_same_site_none() -> None:
    """Cross-site use is possible for those who say why (P18, ASVS 3.3.2)."""
    reason = "Partners embed the booking page."
    assert CookieSpec("__Host-id", same_site="None", cross_site_reason=reason).problems() == []


def test_check_names_the_cookie_and_every_problem_at_once() -> None:
    """One start-up shows all that must change, not the first of it (P18)."""
    spec = CookieSpec("__Host-id", secure=False, domain="example.com", path="/app")
    with pytest.raises(ConfigurationError) as caught:
        spec.check()
    assert len(spec.problems()) == 3
    for part in ("'__Host-id'", *spec.problems()):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"name": "__Secure-id", "domain": "example.com"}, "every host under example.com"),
        ({"name": "id"}, "start it with '__Host-'"),
        ({"name": "id", "path": "/app"}, "start it with '__Secure-'"),
        ({"name": "id", "domain": "example.com"}, "start it with '__Secure-'"),
        ({"name": "id", "secure": False}, "loopback hosts"),
        ({"name": "__Host-id", "http_only": False}, "Scripts can read"),
    ],
)
def test_what_weakens_a_cookie_is_a_warning(settings: dict[str, Any], sentence: str) -> None:
    """A choice that browsers accept is allowed, and told to the operator (ASVS 3.3)."""
    spec = CookieSpec(**settings)
    assert spec.problems() == []
    assert [warning for warning in spec.warnings() if sentence in warning], spec.warnings()


def test_the_default_cookie_has_no_warning() -> None:
    """The doctor has nothing to say about what nobody changed (P18)."""
    assert CookieSpec("__Host-id").warnings() == []


def test_a_specification_cannot_be_changed_afterwards() -> None:
    """What was checked at start-up is what is sent (P18)."""
    with pytest.raises(AttributeError):
        CookieSpec("__Host-id").secure = False  # type: ignore[misc]


@given(
    name=st.text(max_size=20) | st.sampled_from(PREFIXES).map("{}id".format),
    path=st.text(max_size=20) | st.just("/"),
    domain=st.none() | st.text(max_size=20) | st.just("example.com"),
    secure=st.booleans(),
    http_only=st.booleans(),
    same_site=st.sampled_from(["Lax", "Strict", "None"]),
    partitioned=st.booleans(),
    cross_site_reason=st.sampled_from(["", "Embedded."]),
)
def test_whatever_renders_is_one_line_with_known_attributes(**settings: Any) -> None:
    """No accepted setting can smuggle in an attribute or a header (CK-4, P18)."""
    spec = CookieSpec(**settings)
    if spec.problems():
        return
    first, *others = spec.render("abc", 60).decode("ascii").split("; ")
    assert first == f"{spec.name}=abc"
    names = [other.partition("=")[0] for other in others]
    assert len(set(names)) == len(names)
    assert {"Path", "SameSite", "Max-Age"} <= set(names)
    assert set(names) <= {
        *("Path", "SameSite", "Max-Age", "Domain", "Secure", "HttpOnly", "Partitioned")
    }
    assert all(part.isprintable() for part in (first, *others))
