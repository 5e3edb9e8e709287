"""The report as Markdown, for an issue or a pull request."""

from __future__ import annotations

import re

from .document import Document

_TITLES = {
    "fail": "Failed",
    "warn": "Warnings",
    "could not tell": "Could not be told",
    "pass": "Passed",
    "not applicable": "Not applicable",
}


def to_markdown(told: Document) -> str:
    """The report as Markdown; what the site sent stands in code spans or is escaped."""
    counts = ", ".join(f"{count} {name}" for name, count in told["counts"].items() if count)
    lines = [f"# Session audit of {_plain(told['url'])}", "",
             f"{told['started']}, {told['requests']} requests: {counts}.", ""]  # fmt: skip
    lines += [f"- {_plain(each)}" for each in [*told["found"], *told["missing"]]]
    for outcome, title in _TITLES.items():
        chosen = [each for each in told["results"] if each["outcome"] == outcome]
        if not chosen:
            continue
        lines += ["", f"## {title}", ""]
        if outcome in ("fail", "warn"):
            for each in chosen:
                lines += _finding(each)
        else:
            lines += ["| check | |", "|---|---|"]
            lines += [f"| {e['id']} | {_plain(e['summary'])} |" for e in chosen]
    return "\n".join(lines) + "\n"


def _finding(result: Document) -> list[str]:
    lines = [f"### {result['title']}", "",
             f"**{result['severity']}**, `{result['id']}`, {', '.join(result['references'])}"
             + (" (accepted by the baseline)" if result["accepted"] else ""), "",
             _plain(result["summary"])]  # fmt: skip
    lines += ["", *(f"- {_plain(each)}" for each in result["details"])] if result["details"] else []
    lines += ["", f"*Why:* {result['why']}", "", f"*Fix:* {result['fix']}", ""]
    for snippet in result["snippets"]:
        lines += [f"{snippet['framework']}:", "", "```", snippet["code"], "```", ""]
    for each in result["evidence"]:
        rows = [each["request"], *each["request_headers"], "", each["request_body"], "",
                f"-> {each['status']}", *each["response_headers"]]  # fmt: skip
        body = "\n".join(rows).replace("```", "'''")
        lines += ["<details><summary>Evidence</summary>", "", "```http", body, "```", "",
                  "</details>", ""]  # fmt: skip
    return lines


def _plain(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", escaped)
