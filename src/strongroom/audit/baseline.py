"""Findings that somebody has looked at and accepted, so that only new ones stop a pipeline.

A baseline is a JSON file: `{"accepted": [{"id": "...", "reason": "..."}]}`. An entry accepts a
check's finding up to its severity at the time; one that has become worse is new.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from .run import Report
from .target import TargetError
from .verdict import SEVERITIES


def accept(report: Report, text: str) -> list[str]:
    """Mark what the baseline accepts -> the ids in it that are no finding any more.

    Raises: TargetError for a baseline that cannot be read.
    """
    known = _entries(text)
    unused = set(known)
    for number, result in enumerate(report.results):
        entry = known.get(result.check.id)
        if entry is None or result.verdict.outcome not in ("fail", "warn"):
            continue
        unused.discard(result.check.id)
        worst = SEVERITIES.index(entry["severity"]) if entry.get("severity") in SEVERITIES else 0
        if SEVERITIES.index(result.severity) >= worst:
            report.results[number] = replace(result, accepted=True)
    return sorted(unused)


def baseline_of(report: Report) -> str:
    """A baseline that accepts what this report found; the reasons are to be written by hand."""
    entries = [
        {"id": each.check.id, "severity": each.severity, "reason": ""} for each in report.findings
    ]
    return json.dumps({"accepted": entries}, indent=2) + "\n"


def _entries(text: str) -> dict[str, Mapping[str, Any]]:
    try:
        said: Any = json.loads(text)
        listed = cast("Sequence[Mapping[str, Any]]", said["accepted"])
        return {str(each["id"]): each for each in listed}
    except (ValueError, KeyError, TypeError):
        raise TargetError(
            "The baseline cannot be read.",
            'It looks like {"accepted": [{"id": "cookie-prefix", "reason": "..."}]}; '
            "--write-baseline makes one.",
        ) from None
