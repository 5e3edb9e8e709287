"""The matrix: which kind of application runs which scenario, on which store, and what is left out.

python -m tests.integrations.test_matrix            prints the table of capabilities
python -m tests.integrations.test_matrix --write    draws it into docs/frameworks.md
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.integrations.conftest import EVERY_SCENARIO, QUICK
from tests.support.drawings import Drawing
from tests.support.kinds import CAPABILITIES, KINDS
from tests.support.site import STORES

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "frameworks.md"


def drawing() -> Drawing:
    """Where it stands."""
    begin, end = "<!-- drawn: capabilities -->", "<!-- end of what is drawn -->"
    return Drawing(PAGE, begin, end, drawn)


def drawn() -> str:
    """The table of what each kind can do, and under it why not."""
    names = list(KINDS)
    lines = [
        "| | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
        "| pages | " + " | ".join(f"`{KINDS[each].pages}`" for each in names) + " |",
    ]
    for capability, says in CAPABILITIES.items():
        cells = ["yes" if KINDS[each].can(capability) else "no" for each in names]
        lines.append(f"| **{capability}**: {says} | " + " | ".join(cells) + " |")
    reasons = [
        f"- {kind.name}, no {capability}: {reason}"
        for kind in KINDS.values()
        for capability, reason in kind.lacks.items()
    ]
    return "\n".join([*lines, *(["", *reasons] if reasons else [])])


def test_the_table_in_the_docs_is_what_runs() -> None:
    """Whoever reads the page knows what is tested on which framework."""
    assert drawing().shown() == drawn(), (
        "draw it anew: python -m tests.integrations.test_matrix --write"
    )


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_what_a_kind_lacks_is_a_capability_and_has_a_reason(kind) -> None:
    """A row that is misspelt would leave out nothing, or everything."""
    assert kind.lacks.keys() <= CAPABILITIES.keys()
    for capability, reason in kind.lacks.items():
        assert len(reason.split()) >= 4, f"say why {kind.name} has no {capability}"


def test_every_capability_is_needed_by_a_scenario() -> None:
    """A capability that no scenario needs would be a claim without a test."""
    text = "".join(each.read_text(encoding="utf-8") for each in HERE.glob("test_*.py"))
    marks = re.findall(r"mark\.needs\(([^)]*)\)", text)
    needed = {each for mark in marks for each in re.findall(r'"(\w+)"', mark)}
    assert needed == CAPABILITIES.keys()


def test_every_kind_and_every_store_is_in_the_matrix() -> None:
    """The quick selection and the full one name only what exists, and leave no store out."""
    assert EVERY_SCENARIO.keys() == set(STORES)
    for kinds in EVERY_SCENARIO.values():
        assert kinds
        assert kinds <= KINDS.keys()
    assert {kind for kind, _ in QUICK} <= KINDS.keys()
    assert {store for _, store in QUICK} <= set(STORES)
    assert EVERY_SCENARIO["memory"] == KINDS.keys()


if __name__ == "__main__":
    sys.exit(drawing().main())
