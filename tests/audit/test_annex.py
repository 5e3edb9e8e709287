"""What real applications taught the auditor: habits that are no faults, and faults behind them."""

from __future__ import annotations

import pytest

from strongroom.audit.run import Report
from strongroom.audit.target import Target, parse_target
from tests.audit.kit import examine, findings, told
from tests.audit.zoo.annex import PASSWORDS, build

ANNEX = """
url = "https://annex.example/"
user = "alice"
[sign_in]
page = "/in/door"
fields = { user = "{user}", password = "{password}" }
[proof]
url = "/in/"
[[change]]
name = "name"
page = "/in/"
fields = { name = "N{nonce}" }
read = "/in/"
"""
FAULTS = {
    "keeps what a visitor has": "fixation-kept",
    "signs out by any link": "end-by-get",
    "signs out by any link, strictly": "end-by-get",
}
UNTOLD = {
    "drawn by a script": ("end-visible", "up to its scripts"),
    "too busy to sign out": ("race-sign-out", "answered with 503"),
    "": ("fixation-again", "like one with a wrong password"),
}


def _target(*, found: bool = False) -> Target:
    text = ANNEX.replace('page = "/in/door"', 'page = "/in/door"\nurl = "/in/door"')
    if found:
        head, tail = text.split("[sign_in]")
        text = head + tail[tail.index("[[change]]") :]
        text = text.replace("annex.example/", "annex.example/in/door")
    return parse_target(text, PASSWORDS)


def _of(report: Report, check: str) -> tuple[str, str]:
    verdict = next(each.verdict for each in report.results if each.check.id == check)
    return verdict.outcome, verdict.summary


@pytest.mark.slow
@pytest.mark.parametrize("found", [False, True])
def test_the_sound_annex_has_no_finding(found: bool) -> None:
    """Nothing at `/`, a link with a token, a list without a choice: none is a fault."""
    report = examine(build(), _target(found=found))
    assert not findings(report), told(report)
    # The link is told without the token in it, which is as good as a password for that session.
    assert report.plan.told[-1].endswith("/in/leave?do=logout&sectok=...")
    passed = {each.check.id for each in report.of("pass")}
    assert {"csrf-forged", "end-by-get", "end-replay", "race-sign-out", "token-uuid"} <= passed


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_annex_is_found(fault: str) -> None:
    """The same habits do not hide what is wrong."""
    report = examine(build(fault), _target())
    assert findings(report) == {FAULTS[fault]}, told(report)
    # A cookie that no link from elsewhere brings along is a second layer.
    assert bool(report.of("warn")) == fault.endswith("strictly"), told(report)


@pytest.mark.slow
@pytest.mark.parametrize("fault", UNTOLD)
def test_what_cannot_be_told_is_said(fault: str) -> None:
    """Neither a pass nor a finding, where the probe did not do what it was meant to do."""
    check, reason = UNTOLD[fault]
    report = examine(build(fault), _target(), only=(check,))
    outcome, summary = _of(report, check)
    assert outcome == "could not tell", told(report)
    assert reason in summary
