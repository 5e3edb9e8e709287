"""docs/audit-checks.md is drawn from the table of checks: `python -m "
"tests.audit.test_page_of_checks`."""

from __future__ import annotations

from pathlib import Path

from strongroom.audit import checks
from strongroom.audit.fixes import FIXES
from strongroom.audit.verdict import FAMILIES, REGISTRY

PAGE = Path(__file__).resolve().parents[2] / "docs" / "audit-checks.md"


def drawn() -> str:
    """The page as it should be."""
    assert checks.__all__
    lines = [
        "# The checks of `strongroom audit`",
        "",
        f"{len(REGISTRY)} checks in {len(FAMILIES)} families, drawn from the code. "
        f"`strongroom audit "
        "explain CHECK` says the same at the terminal, with snippets for the frameworks.",
    ]
    for family, title in FAMILIES.items():
        lines += ["", f"## {title}", "", f"`--only {family}` makes these alone.", ""]
        for each in REGISTRY.values():
            if each.family == family:
                lines += [
                    f"### {each.id}",
                    "",
                    f"**{each.title}.** {each.severity.title()}; {', '.join(each.refs)}.",
                    "",
                    f"*Why.* {each.why}",
                    "",
                    f"*How.* {each.how}",
                    "",
                    f"*Fix.* {FIXES[each.fix].text}",
                    "",
                ]
    return "\n".join(lines).rstrip() + "\n"


def test_the_page_of_checks_is_the_table() -> None:
    """What the page says of the checks is what they say of themselves."""
    assert PAGE.read_text("utf-8") == drawn(), "run: python -m tests.audit.test_page_of_checks"


if __name__ == "__main__":
    PAGE.write_text(drawn(), "utf-8")
