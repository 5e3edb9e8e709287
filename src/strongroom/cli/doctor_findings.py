"""What the doctor found: one finding a check, each with what, why, and what to change."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from strongroom.core.errors import StrongroomError

from .output import DONE, Output, plain

UNWELL = 1
"""The exit code where something is a problem. Warnings alone are no failure."""

Verdict = Literal["ok", "warning", "problem", "skipped"]

_COLUMNS = 96
_MARGIN = 9


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result. `check` is a stable name; texts are whole sentences."""

    check: str
    verdict: Verdict
    what: str
    why: str = ""
    change: str = ""


def ok(check: str, what: str) -> Finding:
    """Nothing to do."""
    return Finding(check, "ok", what)


def warning(check: str, what: str, *, why: str, change: str) -> Finding:
    """It works, and deserves a second look."""
    return Finding(check, "warning", what, why, change)


def problem(check: str, what: str, *, why: str, change: str) -> Finding:
    """Sessions do not work like this, or are not safe."""
    return Finding(check, "problem", what, why, change)


def skipped(check: str, what: str, *, change: str = "") -> Finding:
    """It could not be looked at, and how it could be."""
    return Finding(check, "skipped", what, change=change)


def failed(check: str, error: StrongroomError) -> Finding:
    """The library refuses it: its own sentences say why."""
    return Finding(check, "problem", error.what, error.why, error.hint)


def tell(findings: Sequence[Finding], out: Output) -> int:
    """Print them, in the order of the checks -> the exit code."""
    problems = sum(each.verdict == "problem" for each in findings)
    warnings = sum(each.verdict == "warning" for each in findings)
    document: dict[str, Any] = {
        "ok": not problems,
        "problems": problems,
        "warnings": warnings,
        "checks": [asdict(each) for each in findings],
    }
    lines = [line for each in findings for line in _lines(each, out)]
    out.answer(document, [*lines, "", _summary(problems, warnings)])
    return UNWELL if problems else DONE


def _lines(finding: Finding, out: Output) -> Iterator[str]:
    first, *rest = _wrapped(plain(finding.what, 600))
    label = f"{finding.verdict:<{_MARGIN}}"
    yield (out.heading(label) if finding.verdict == "problem" else label) + first
    yield from (" " * _MARGIN + line for line in rest)
    for name, text in (("why", finding.why), ("change", finding.change)):
        if text:
            yield from _indented(name, _wrapped(plain(text, 900), 8))


def _indented(name: str, lines: Iterable[str]) -> Iterator[str]:
    label = f"{name + ':':<8}"
    for line in lines:
        yield " " * _MARGIN + label + line
        label = " " * 8


def _wrapped(text: str, indent: int = 0) -> list[str]:
    # A setting is copied from here, so it is never broken in its middle.
    return textwrap.wrap(
        text, _COLUMNS - _MARGIN - indent, break_long_words=False, break_on_hyphens=False
    ) or [""]


def _summary(problems: int, warnings: int) -> str:
    if not problems and not warnings:
        return "Nothing is wrong."
    told = f"{_counted(problems, 'problem')}, {_counted(warnings, 'warning')}."
    return told[:1].upper() + told[1:]


def _counted(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"
