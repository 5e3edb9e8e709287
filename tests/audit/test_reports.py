"""Every form of a report says the same, holds no secret, and is what its readers expect."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from strongroom.audit.baseline import accept, baseline_of
from strongroom.audit.discovery import Plan
from strongroom.audit.fixes import FIXES
from strongroom.audit.masking import Secrets
from strongroom.audit.report import FORMATS, render
from strongroom.audit.run import Report, chosen
from strongroom.audit.target import TargetError
from strongroom.audit.verdict import REGISTRY
from tests.audit.kit import examine, target
from tests.audit.zoo.club import PASSWORDS, build


@pytest.fixture(scope="module")
def report() -> Report:
    """A club that stores the password in a cookie, shows the token, and signs out by a link."""
    only = ("cookies", "token-personal-data", "transport-token-in-page", "end-by-get", "end-replay")
    return examine(build("token in page"), target("club", PASSWORDS), only=only)


@pytest.mark.parametrize("form", FORMATS)
def test_no_report_holds_a_secret(report: Report, form: str) -> None:
    """Passwords and session tokens of the whole audit are in no form of the report (P5)."""
    text = render(report, form)
    assert "transport-token-in-page" in text
    for password in PASSWORDS.values():
        assert password not in text
    values = [
        line.partition("=")[2].partition(";")[0]
        for reply in report_replies(report)
        for line in reply
    ]
    assert len(values) > 5
    assert not [value for value in values if len(value) > 10 and value in text]


def report_replies(report: Report) -> list[list[str]]:
    """The Set-Cookie lines of all evidence."""
    return [
        reply.values("set-cookie")
        for result in report.results
        for reply in result.verdict.evidence
        if reply.values("set-cookie")
    ]


def test_json_has_every_check(report: Report) -> None:
    """The JSON report has a result for each check that was made, with its references."""
    told = json.loads(render(report, "json"))
    assert {each["id"] for each in told["results"]} == {r.check.id for r in report.results}
    assert told["findings"] == 1
    assert all(each["references"] and each["why"] for each in told["results"])


def test_sarif_is_sarif(report: Report) -> None:
    """Version, one run, a rule for each result, and a level for what failed."""
    told = json.loads(render(report, "sarif"))
    (run,) = told["runs"]
    assert told["version"] == "2.1.0"
    rules = [each["id"] for each in run["tool"]["driver"]["rules"]]
    for each in run["results"]:
        assert rules[each["ruleIndex"]] == each["ruleId"]
        assert (each["kind"] == "fail") == (each["level"] != "none")
    assert [e["ruleId"] for e in run["results"] if e["kind"] == "fail"] == [
        "transport-token-in-page"
    ]


def test_junit_counts_what_failed(report: Report) -> None:
    """Tests, failures and skipped ones are as many as the suite says."""
    suite = ET.fromstring(render(report, "junit")).find("testsuite")
    assert suite is not None
    assert int(suite.attrib["tests"]) == len(suite.findall("testcase")) == len(report.results)
    assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure")) == 1
    assert int(suite.attrib["skipped"]) == len(suite.findall("testcase/skipped"))


def test_html_is_one_closed_file_without_scripts(report: Report) -> None:
    """Nothing is fetched, nothing is run, every element is closed."""
    text = render(report, "html")
    assert "<script" not in text.lower()
    assert "src=" not in text
    assert 'http-equiv="Content-Security-Policy"' in text
    assert _unclosed(text) == []


def _unclosed(text: str) -> list[str]:
    open_now: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "br", "link"):
                open_now.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_now.pop() == tag

    Reader().feed(text)
    return open_now


def test_a_baseline_accepts_what_is_known(report: Report) -> None:
    """What a baseline names is no finding any more; what it names in vain is told."""
    text = baseline_of(report)
    fresh = Report(report.url, report.started, report.plan, list(report.results))
    assert accept(fresh, text) == []
    assert fresh.findings == []
    assert accept(fresh, '{"accepted": [{"id": "csrf-get"}]}') == ["csrf-get"]
    with pytest.raises(TargetError):
        accept(fresh, "[]")


def test_a_baseline_does_not_accept_what_became_worse(report: Report) -> None:
    """A finding that was accepted as low is new when it is more than that."""
    fresh = Report(report.url, report.started, report.plan, list(report.results))
    accept(fresh, '{"accepted": [{"id": "transport-token-in-page", "severity": "low"}]}')
    assert [each.check.id for each in fresh.findings] == ["transport-token-in-page"]


def test_a_report_with_findings_raises(report: Report) -> None:
    """`check` names each finding; an audit that proved nothing is no success either."""
    with pytest.raises(AssertionError, match="transport-token-in-page"):
        report.check()
    with pytest.raises(AssertionError, match="proved nothing"):
        Report(report.url, report.started, report.plan, []).check()
    with pytest.raises(AssertionError, match="proved nothing"):
        # What needs no sign-in passes all the same, and is no proof.
        Report(report.url, report.started, Plan(), list(report.of("pass"))).check()


def test_secrets_are_masked_in_every_spelling() -> None:
    """Raw, in a URL and in HTML, the same number stands for the same secret."""
    secrets = Secrets()
    secrets.add("p&ss wörd", "short")
    text = secrets.mask("p&ss wörd p%26ss%20w%C3%B6rd p&amp;ss wörd short")
    assert text == " ".join(["[secret 1, 9 characters]"] * 3) + " short"
    shown = secrets.header("Set-Cookie", "id=abcdefghij; Path=/; HttpOnly")
    assert shown == "id=[10 characters]; Path=/; HttpOnly"
    assert secrets.header("Cookie", "id=abcdefghij; theme=dark1") == (
        "id=[10 characters]; theme=dark1"
    )
    assert secrets.header("Authorization", "Basic YWxhZGRpbg==") == "Basic [secret]"


def test_the_table_of_checks_is_whole() -> None:
    """Each check has references, a reason, a fix that exists; names and families choose."""
    for check in REGISTRY.values():
        assert check.fix in FIXES, check.id
        assert check.why.endswith(".") and check.how.endswith("."), check.id
        assert set(check.covered_by) <= set(REGISTRY), check.id
    assert {each.family for each in chosen(("csrf",))} == {"csrf"}
    assert [each.id for each in chosen(("cookie-s*",), ("cookie-size",))] == [
        "cookie-secure",
        "cookie-samesite",
    ]
