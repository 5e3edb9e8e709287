"""The report for a terminal: calm, the worst first, what to do beside what was found."""

from __future__ import annotations

import textwrap

from .document import Document

WIDTH = 96
_MARKS = {
    "fail": "✗ fail",
    "warn": "! warn",
    "could not tell": "? could not tell",
    "pass": "✓ pass",
    "not applicable": "· not applicable",
}


def to_terminal(told: Document) -> str:
    """The report as plain text."""
    lines = [f"{told['url']}", ""]
    lines += [f"  {each}" for each in told["found"]]
    lines += _wrapped(told["missing"], "  missing: ")
    if told["frameworks"]:
        lines.append(f"  looks like: {', '.join(told['frameworks'])}")
    lines.append("")
    for result in told["results"]:
        if result["outcome"] in ("fail", "warn"):
            lines += _finding(result)
    lines += _list(told, "could not tell", "Could not be told:")
    lines += _passes(told)
    lines += _list(told, "not applicable", "Not applicable:")
    lines.append(_sum(told))
    return "\n".join(lines) + "\n"


def _finding(result: Document) -> list[str]:
    accepted = ", accepted by the baseline" if result["accepted"] else ""
    head = f"{_MARKS[result['outcome']]}  {result['title']}  ({result['severity']}{accepted})"
    lines = [head, *_wrapped([result["summary"], *result["details"]], "    ")]
    if result["accepted"]:
        return [*lines, ""]
    lines += _wrapped([result["why"]], "    why: ")
    lines += _wrapped([result["fix"]], "    fix: ")
    for snippet in result["snippets"]:
        lines.append(f"    {snippet['framework']}:")
        lines += [f"        {row}" for row in snippet["code"].splitlines()]
    for exchange in result["evidence"][-2:]:
        lines.append(f"    seen: {exchange['request']} -> {exchange['status']}")
    lines.append(f"    {result['id']} · {', '.join(result['references'])}")
    return [*lines, ""]


def _list(told: Document, outcome: str, heading: str) -> list[str]:
    chosen = [each for each in told["results"] if each["outcome"] == outcome]
    if not chosen:
        return []
    lines = [heading]
    for each in chosen:
        lines += _wrapped([f"{each['id']}: {each['summary']}"], "  ")
    return [*lines, ""]


def _passes(told: Document) -> list[str]:
    lines: list[str] = []
    for family in told["families"]:
        chosen = [
            each["title"]
            for each in told["results"]
            if each["family_title"] == family and each["outcome"] == "pass"
        ]
        if chosen:
            lines += [f"{family}:", *(f"  ✓ {title}" for title in chosen), ""]
    return lines


def _sum(told: Document) -> str:
    counts = told["counts"]
    parts = [f"{counts[each]} {name}" for each, name in (
        ("fail", "failed"), ("warn", "warned"), ("could not tell", "could not be told"),
        ("pass", "passed"), ("not applicable", "not applicable")) if counts[each]]  # fmt: skip
    return f"{', '.join(parts)}; {told['requests']} requests, {told['seconds']:.0f} s."


def _wrapped(texts: list[str], start: str) -> list[str]:
    lines: list[str] = []
    for text in texts:
        lines += textwrap.wrap(
            text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start)
        )
    return lines
