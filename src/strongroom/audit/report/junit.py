"""The report as JUnit XML, which every continuous integration shows as tests."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from .document import Document


def to_junit(told: Document) -> str:
    """One test case for each check: failed, skipped with the reason, or passed."""
    results = told["results"]
    failed = sum(1 for each in results if _is_failure(each))
    skipped = sum(1 for each in results if each["outcome"] in ("not applicable", "could not tell"))
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites><testsuite name="strongroom audit" tests="{len(results)}" '
        f'failures="{failed}" skipped="{skipped}" errors="0" time="{told["seconds"]}" '
        f"timestamp={quoteattr(told['started'].removesuffix('Z'))} "
        f"hostname={quoteattr(told['url'])}>",
    ]
    for each in results:
        lines += _case(each)
    return "\n".join([*lines, "</testsuite></testsuites>"]) + "\n"


def _is_failure(result: Document) -> bool:
    return result["outcome"] in ("fail", "warn") and not result["accepted"]


def _case(result: Document) -> list[str]:
    head = (
        f"<testcase classname={quoteattr('audit.' + result['family'])} "
        f"name={quoteattr(result['id'] + ': ' + result['title'])}"
    )
    if _is_failure(result):
        kind = f"{result['outcome']} ({result['severity']})"
        text = "\n".join([result["summary"], *result["details"], f"Why: {result['why']}",
                          f"Fix: {result['fix']}", ", ".join(result["references"])])  # fmt: skip
        failure = f"<failure type={quoteattr(kind)} message={quoteattr(result['summary'])}>"
        return [f"{head}>", f"{failure}{escape(text)}</failure>", "</testcase>"]
    if result["outcome"] in ("not applicable", "could not tell"):
        reason = f"{result['outcome']}: {result['summary']}"
        return [f"{head}>", f"<skipped message={quoteattr(reason)}/>", "</testcase>"]
    return [f"{head}/>"]
