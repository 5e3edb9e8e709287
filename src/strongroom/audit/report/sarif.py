"""The report as SARIF 2.1.0, which code hosts show beside the code."""

from __future__ import annotations

import json

from .document import Document

_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "info": "note"}
_SCORES = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "3.0", "info": "1.0"}


def to_sarif(told: Document) -> str:
    """One rule for each check, one result for each failure, warning and pass that was made."""
    run: Document = {
        "tool": {
            "driver": {
                "name": "strongroom audit",
                "rules": [_rule(each) for each in told["results"]],
            }
        },
        "results": [_result(told, number, each) for number, each in enumerate(told["results"])],
        "invocations": [{"executionSuccessful": True, "startTimeUtc": told["started"]}],
        "properties": {"url": told["url"], "requests": told["requests"]},
    }
    whole = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    }
    return json.dumps(whole, indent=2) + "\n"


def _rule(result: Document) -> Document:
    return {
        "id": result["id"],
        "shortDescription": {"text": result["title"]},
        "fullDescription": {"text": result["why"]},
        "help": {"text": f"{result['how']} {result.get('fix', '')}".strip()},
        "properties": {
            "tags": ["security", *result["references"]],
            "security-severity": _SCORES[result["severity"]],
        },
    }


def _result(told: Document, number: int, result: Document) -> Document:
    kinds = {"fail": "fail", "warn": "fail", "pass": "pass", "not applicable": "notApplicable",
             "could not tell": "open"}  # fmt: skip
    kind = kinds[result["outcome"]]
    made: Document = {
        "ruleId": result["id"],
        "ruleIndex": number,
        "kind": kind,
        "level": _level(result) if kind == "fail" else "none",
        "message": {"text": " ".join([result["summary"], *result["details"]])},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": told["url"]}}}],
        "partialFingerprints": {"check": result["id"]},
    }
    if result["accepted"]:
        made["suppressions"] = [{"kind": "external", "status": "accepted"}]
    return made


def _level(result: Document) -> str:
    return "note" if result["outcome"] == "warn" and result["severity"] == "info" else (
        "warning" if result["outcome"] == "warn" else _LEVELS[result["severity"]]
    )  # fmt: skip
