"""Each fault of the club is found by exactly its check, and the sound club has no finding."""

from __future__ import annotations

from dataclasses import replace

import pytest

from strongroom.audit.examine import examine as examine_through
from strongroom.audit.inprocess import AsgiTransport
from strongroom.audit.site import Options
from strongroom.audit.target import parse_target
from strongroom.audit.verdict import REGISTRY
from strongroom.audit.wire import Limits, Reply, Request
from tests.audit.kit import ZOO, examine, findings, target, told
from tests.audit.zoo.club import PASSWORDS, build

FAULTS = {
    "shares what comes at once": "race-sign-in",
    "list of one": "session-list",
    "short token": "token-entropy",
    "half random token": "token-entropy",
    "counter token": "token-order",
    "time token": "token-time",
    "hashed counter": "token-hash",
    "hashed name": "token-hash",
    "uuid token": "token-uuid",
    "biased token": "token-entropy",
    "repeating token": "token-duplicate",
    "static token": "token-static",
    "name in token": "token-personal-data",
    "password in cookie": "token-personal-data",
    "unchecked part": "token-tamper",
    "data carried along": "fixation-carried",
    "no idle timeout": "timeout-idle",
    "no absolute timeout": "timeout-absolute",
    "writes back what ended": "race-sign-out",
    "sign-out in the browser only": "end-replay",
    "no sign-out shown": "end-visible",
    "token in url": "fixation-url",
    "adopts foreign ids": "fixation-adopted",
    "identity header": "trust-identity-header",
    "jwt none": "token-jwt",
    "second cookie": "cookie-essential",
    "token per user": "csrf-session-token",
    "token for everybody": "csrf-foreign-token",
    "no protection": "csrf-forged",
    "sign-in unprotected": "csrf-sign-in",
    "sign-out unprotected": "csrf-sign-out",
    "multipart unchecked": "csrf-content-type",
    "any token": "csrf-wrong-token",
    "referrer": "transport-referer",
    "cacheable": "transport-no-store",
    "set-cookie cached": "transport-cookie-cached",
    "reflected cors": "transport-cors",
    "framed": "transport-embedding cookie-samesite",
    "no secure": "cookie-secure",
    "no httponly": "cookie-httponly",
    "samesite none": "cookie-samesite",
    "no samesite": "cookie-samesite",
    "domain": "cookie-domain",
    "lives a year": "cookie-lifetime",
    "set twice": "cookie-duplicate",
    "broken prefix": "cookie-refused",
    "too large": "cookie-size",
    "wrong password half in": "trust-wrong-password",
    "address from header": "trust-forwarded-address",
    "token in redirect": "transport-token-in-page",
    "no rotation": "fixation-kept",
    "old one lives": "fixation-again",
    "forwarded host": "trust-forwarded-host",
    "token in page": "transport-token-in-page",
    "rotates without overlap": "race-rotation",
    "change by get": "csrf-get",
    "method override": "csrf-method-override",
    "no step-up": "session-step-up",
    "json as text": "csrf-content-type",
    "sign-out by get": "end-by-get",
    "sign-out link": "end-by-get",
    "no clear-site-data": "end-clear-site-data",
    "cookie stays": "cookie-after-sign-out",
    "token in list": "session-list-token",
    "ends in the list only": "session-end-one",
    "old password not asked": "session-password-needs-old",
    "password change ends nothing": "end-password-change",
    "step-up keeps the token": "fixation-step-up",
    "reset half in": "trust-half-open",
    "socket for everybody": "csrf-websocket",
    "answers to .css": "transport-cache-deception",
    "no prefix": "cookie-prefix",
}
GUARDED = {
    ("trusts any metadata", "origin"): "csrf-fetch-metadata",
    ("origin may be missing", "origin"): "csrf-missing-headers",
    ("origin by prefix", "origin"): "csrf-origin",
    ("origin by suffix", "origin"): "csrf-origin",
    ("origin by part", "origin"): "csrf-origin",
    ("null origin", "origin"): "csrf-origin",
    ("sibling origin", "origin"): "csrf-same-site",
    ("metadata may be missing", "metadata"): "csrf-missing-headers",
    ("same-site allowed", "metadata"): "csrf-same-site",
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_by_exactly_its_check(fault: str) -> None:
    """A club with one fault has one finding: the check that is meant for it."""
    report = examine(build(fault), target("club", PASSWORDS))
    assert findings(report) == set(FAULTS[fault].split()), told(report)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "guard"), GUARDED)
def test_a_fault_of_a_guard_is_found(fault: str, guard: str) -> None:
    """What guards by Origin or Fetch Metadata alone, and carelessly, is found, too."""
    report = examine(build(fault, guard), target("club", PASSWORDS))
    assert findings(report) == {GUARDED[fault, guard]}, told(report)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "guard"), [("", "token"), ("jwt", "token"), ("", "origin"), ("", "metadata")]
)
def test_the_sound_club_has_no_finding(variant: str, guard: str) -> None:
    """Without the fault nothing is found, and nothing is left untold: every check has an answer."""
    report = examine(build(variant, guard), target("club", PASSWORDS))
    assert not findings(report), told(report)
    assert not report.of("could not tell"), told(report)
    assert len(report.of("pass")) > 50


def test_every_check_has_a_fault_that_it_finds() -> None:
    """A check that no fault ever made fail is one that nobody has seen work."""
    found = {each for value in [*FAULTS.values(), *GUARDED.values()] for each in value.split()}
    assert set(REGISTRY) - found <= ELSEWHERE


ELSEWHERE = {
    "cookie-path",
    "session-concurrent",
    "timeout-declared",
    "token-known-key",
    "transport-hsts",
    "transport-http",
    "trust-first-step",
}
"""Seen at work in the other tests of this folder."""


class Network(AsgiTransport):
    """The way to the club as if it were a network's; plain http sends to https, or answers."""

    is_network = True
    sends_on = True

    def send(self, request: Request, limits: Limits) -> Reply:
        if self.sends_on and request.url.startswith("http:"):
            there = request.url.replace("http:", "https:", 1)
            return Reply(request, 301, (("location", there),))
        return super().send(request, limits)


@pytest.mark.parametrize(
    ("fault", "url", "found"),
    [
        ("", "https://club.example/", set()),
        ("no hsts", "https://club.example/", {"transport-hsts"}),
        ("short hsts", "https://club.example/", {"transport-hsts"}),
        ("no secure", "http://club.example/", {"transport-http"}),
        ("plain as well", "https://club.example/", {"transport-http"}),
    ],
)
def test_the_way_to_the_club_is_judged(fault: str, url: str, found: set[str]) -> None:
    """Without encryption, without HSTS, and with less than a year of it."""
    described = replace(target("club", PASSWORDS), url=url)
    transport = Network(build(fault))
    transport.sends_on = fault not in ("no secure", "plain as well")
    try:
        options = Options(only=("transport-hsts", "transport-http"), raise_errors=True)
        report = examine_through(described, transport, options)
    finally:
        transport.close()
    assert findings(report) == found, told(report)


DECLARED = """
[sessions]
url = "/sessions"
pattern = "/sessions/([0-9a-f]{16})/end"
[end_session]
page = "/sessions"
url = "/sessions/{session}/end"
"""


@pytest.mark.parametrize("fault", ["", "ends in the list only"])
def test_ending_a_session_is_done_as_declared(fault: str) -> None:
    """Where the list has no form to be found, the file names the sessions and what ends one."""
    declared = parse_target((ZOO / "club.toml").read_text("utf-8") + DECLARED, PASSWORDS)
    report = examine(build(fault), declared, only=("session-end-one",))
    assert findings(report) == ({"session-end-one"} if fault else set()), told(report)
    assert report.of("pass", "fail"), told(report)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["", "data carried along"])
def test_the_address_may_have_a_path(fault: str) -> None:
    """Pages of the target file that begin with a slash are the host's, whatever the address is."""
    described = replace(target("club", PASSWORDS), url="https://club.example/home")
    report = examine(build(fault), described, only=("fixation-carried",))
    assert findings(report) == ({"fixation-carried"} if fault else set()), told(report)
    assert report.of("pass", "warn"), told(report)


@pytest.mark.parametrize(
    ("check", "changed"),
    [
        ("session-concurrent", {"most_sessions": 2}),
        ("timeout-declared", {"idle": 7200.0, "absolute": 3600.0}),
        ("timeout-declared", {"idle": 172_800.0, "absolute": 0.0}),
    ],
)
def test_what_is_declared_is_compared(check: str, changed: dict[str, float]) -> None:
    """A limit that is declared and not kept, and timeouts that make no sense, are told."""
    described = replace(target("club", PASSWORDS), **changed)  # type: ignore[arg-type]
    assert findings(examine(build(), described, only=(check,))) == {check}
