"""The SARIF report has the shape that SARIF 2.1.0 asks for, in every part that it uses.

The tables are written from the standard (OASIS, "Static Analysis Results Interchange Format
2.1.0", sections 3.13 to 3.58). A property that is not in them fails: who adds one to the report
adds it here, with its type.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from strongroom.audit.baseline import accept, baseline_of
from strongroom.audit.report import render
from tests.audit.kit import examine, target
from tests.audit.zoo.club import PASSWORDS, build

Rule = str | tuple[str, ...] | Callable[[object], bool]
"""The name of an object, `[name]` for a list of them, allowed words, or a test of the value."""


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _texts_once(value: object) -> bool:
    """A list of texts, each once, as the tags of a property bag are (3.8.2)."""
    return isinstance(value, list) and all(map(_text, value)) and len(set(value)) == len(value)


def _index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _moment(value: object) -> bool:
    """UTC, with a Z at the end (3.9)."""
    if not (isinstance(value, str) and value.endswith("Z")):
        return False
    datetime.fromisoformat(value)
    return bool(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", value))


def _uri(value: object) -> bool:
    return isinstance(value, str) and bool(
        re.fullmatch(r"[A-Za-z][\w+.-]*:[^\s<>\"{}|\\^`]+", value)
    )


def _score(value: object) -> bool:
    """What code hosts read: a number as a text."""
    return isinstance(value, str) and 0 < float(value) <= 10


SHAPES: dict[str, tuple[tuple[str, ...], dict[str, Rule]]] = {
    "log": (("version", "runs"), {"$schema": _uri, "version": ("2.1.0",), "runs": "[run]"}),
    "run": (
        ("tool",),
        {
            "tool": "tool",
            "results": "[result]",
            "invocations": "[invocation]",
            "properties": "run bag",
        },
    ),
    "run bag": ((), {"url": _uri, "requests": _index}),
    "tool": (("driver",), {"driver": "driver"}),
    "driver": (("name",), {"name": _text, "rules": "[rule]"}),
    "rule": (
        ("id",),
        {
            "id": _text,
            "shortDescription": "message",
            "fullDescription": "message",
            "help": "message",
            "properties": "rule bag",
        },
    ),
    "rule bag": ((), {"tags": _texts_once, "security-severity": _score}),
    "message": (("text",), {"text": _text}),
    "invocation": (
        ("executionSuccessful",),
        {"executionSuccessful": lambda value: isinstance(value, bool), "startTimeUtc": _moment},
    ),
    "result": (
        ("message",),
        {
            "ruleId": _text,
            "ruleIndex": _index,
            "kind": ("notApplicable", "pass", "fail", "review", "open", "informational"),
            "level": ("none", "note", "warning", "error"),
            "message": "message",
            "locations": "[location]",
            "partialFingerprints": "fingerprints",
            "suppressions": "[suppression]",
        },
    ),
    "location": ((), {"physicalLocation": "physical location"}),
    "physical location": (("artifactLocation",), {"artifactLocation": "artifact location"}),
    "artifact location": ((), {"uri": _uri}),
    "fingerprints": ((), {"check": _text}),
    "suppression": (
        ("kind",),
        {
            "kind": ("inSource", "external"),
            "status": ("accepted", "underReview", "rejected"),
        },
    ),
}


def wrongs(value: Any, shape: str = "log", where: str = "$") -> Iterator[str]:
    """Each place where this is not of that shape."""
    required, known = SHAPES[shape]
    if not isinstance(value, dict):
        yield f"{where} is no object"
        return
    for name in required:
        if name not in value:
            yield f"{where}.{name} is missing"
    for name, each in value.items():
        place = f"{where}.{name}"
        rule = known.get(name)
        if rule is None:
            yield f"{place} is not known"
        elif isinstance(rule, tuple):
            if each not in rule:
                yield f"{place} is {each!r}"
        elif not isinstance(rule, str):
            if not rule(each):
                yield f"{place} cannot be {each!r}"
        elif not rule.startswith("["):
            yield from wrongs(each, rule, place)
        elif not isinstance(each, list):
            yield f"{place} is no list"
        else:
            for number, one in enumerate(each):
                yield from wrongs(one, rule[1:-1], f"{place}[{number}]")


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """A report with every outcome that there is, one of its findings accepted."""
    described = replace(target("club", PASSWORDS), changes=())
    only = ("end-by-get", "cookie-secure", "timeout-declared", "transport-http", "csrf-get")
    report = examine(build("sign-out by get"), described, only=only)
    accept(report, baseline_of(report))
    log: dict[str, Any] = json.loads(render(report, "sarif"))
    return log


def test_the_report_has_the_shape_of_sarif(told: dict[str, Any]) -> None:
    """Every property is known, every required one is there, every word is one of the allowed."""
    assert list(wrongs(told)) == []
    kinds = {each["kind"] for each in told["runs"][0]["results"]}
    assert kinds == {"pass", "fail", "notApplicable", "open"}
    assert any("suppressions" in each for each in told["runs"][0]["results"])


def test_rules_and_results_agree(told: dict[str, Any]) -> None:
    """A rule's id is there once; a result that is no failure has the level none (3.27.10)."""
    (run,) = told["runs"]
    rules = [each["id"] for each in run["tool"]["driver"]["rules"]]
    assert len(set(rules)) == len(rules)
    for each in run["results"]:
        assert rules[each["ruleIndex"]] == each["ruleId"]
        assert each["kind"] == "fail" or each["level"] == "none"


SPOILT: dict[str, Callable[[dict[str, Any]], object]] = {
    "$.version is '2.0.0'": lambda log: log.update(version="2.0.0"),
    "$.runs is missing": lambda log: log.pop("runs"),
    "$.extra is not known": lambda log: log.update(extra=1),
    "$.runs is no list": lambda log: log.update(runs={}),
    "$.runs[0].tool is missing": lambda log: log["runs"][0].pop("tool"),
    "$.runs[0].results[0].level is 'high'": lambda log: log["runs"][0]["results"][0].update(
        level="high"
    ),
    "$.runs[0].results[0].message is no object": lambda log: log["runs"][0]["results"][0].update(
        message="text"
    ),
    "$.runs[0].results[0].ruleIndex cannot be -1": lambda log: log["runs"][0]["results"][0].update(
        ruleIndex=-1
    ),
    "$.runs[0].invocations[0].startTimeUtc cannot be 'now'": lambda log: log["runs"][0][
        "invocations"
    ][0].update(startTimeUtc="now"),
}


@pytest.mark.parametrize("wrong", SPOILT)
def test_what_is_not_sarif_is_seen(told: dict[str, Any], wrong: str) -> None:
    """The tables themselves are seen to work: each spoilt report is told by its place."""
    spoilt = copy.deepcopy(told)
    SPOILT[wrong](spoilt)
    assert list(wrongs(spoilt)) == [wrong]
