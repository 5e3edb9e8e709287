"""The table of docs/audit-real.md, drawn from the recipes."""

from __future__ import annotations

from .recipes import Recipe, recipes

BEGIN, END = "<!-- drawn from tests/audit/real/apps -->", "<!-- end of what is drawn -->"


def table() -> str:
    """The summary, and a list of the findings for each application."""
    rows = ["| application | language | its session | true | false | missed |",
            "|---|---|---|---|---|---|"]  # fmt: skip
    known = recipes()
    rows += [_row(each) for each in known]
    true, false, missed = (sum(each) for each in zip(*map(_counts, known), strict=True))
    rows += [f"| **{len(known)} applications** | | | **{true}** | **{false}** | **{missed}** |", ""]
    for each in known:
        rows += [f"### {each.name} {each.version}", ""]
        rows += [f"- `{name}` is {_said(reason)}." for name, reason in each.judged.items()]
        rows += [f"- `{name}` was missed: {reason}." for name, reason in each.missed.items()]
        rows += [""]
    return "\n".join(rows)


def _row(each: Recipe) -> str:
    true, false, missed = _counts(each)
    start = f"| {each.name} {each.version} | {each.language} | {each.design} "
    return f"{start}| {true} | {false} | {missed} |"


def _counts(each: Recipe) -> tuple[int, int, int]:
    verdicts = [reason.partition(":")[0] for reason in each.judged.values()]
    return verdicts.count("true"), verdicts.count("false"), len(each.missed)


def _said(reason: str) -> str:
    verdict, _, why = reason.partition(": ")
    return f"{verdict}: {why}"
