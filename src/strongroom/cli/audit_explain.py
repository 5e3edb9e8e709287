"""`strongroom audit explain`: what a check does, why, and how to mend what it finds."""

from __future__ import annotations

import argparse
import difflib
import textwrap

from strongroom.core.errors import UsageError

from .output import DONE, Output
from .parsing import Command


def explain(options: argparse.Namespace, out: Output) -> int:
    """One check, or the list of all."""
    from strongroom.audit import checks
    from strongroom.audit.fixes import FIXES
    from strongroom.audit.verdict import FAMILIES, REGISTRY

    _loaded = checks.__all__
    if options.check is None:
        rows = [(each.id, each.severity, each.title) for each in REGISTRY.values()]
        listed = [{"id": a, "severity": b, "title": c} for a, b, c in rows]
        out.answer({"checks": listed}, out.table(["check", "severity", "what holds"], rows))
        return DONE
    check = REGISTRY.get(options.check)
    if check is None:
        near: list[str] = difflib.get_close_matches(str(options.check), list(REGISTRY), 1)
        raise UsageError(
            f"There is no check {options.check!r}.",
            hint=f"Did you mean: strongroom audit explain {near[0]}"
            if near
            else "See what there is: strongroom audit explain",
        )
    fix = FIXES[check.fix]
    document = {
        "id": check.id, "family": check.family, "title": check.title, "severity": check.severity,
        "references": list(check.refs), "why": check.why, "how": check.how, "fix": fix.text,
        "snippets": fix.snippets,
    }  # fmt: skip
    lines = [
        out.heading(check.title),
        f"{check.id}, {FAMILIES[check.family].lower()}, {check.severity}; {', '.join(check.refs)}",
        "",
        *_part("Why", check.why, out),
        *_part("How", check.how, out),
        *_part("Fix", fix.text, out),
    ]
    for framework, code in fix.snippets.items():
        lines += [f"{framework}:", *(f"    {row}" for row in code.splitlines()), ""]
    out.answer(document, lines[:-1])
    return DONE


def _part(name: str, text: str, out: Output) -> list[str]:
    return [out.heading(name), *textwrap.wrap(text, 79), ""]


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("check", nargs="?", metavar="CHECK", help="its id; without one, all")


EXPLAIN = Command(
    "audit explain",
    "Say what a check does, why, and how to mend what it finds.",
    """What it asks of the site, which standard wants it, why it matters, and how to mend what it
    finds in the frameworks that it knows. Without a check it lists all of them.""",
    ("strongroom audit explain end-replay", "strongroom audit explain"),
    _options,
    explain,
)
