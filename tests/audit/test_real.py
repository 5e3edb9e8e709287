"""The page of the real applications says what their recipes say; `make audit-real` runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.audit.run import chosen
from strongroom.audit.target import parse_target
from tests.audit.real.recipes import PASSWORDS, Recipe, recipes
from tests.audit.real.table import BEGIN, END, table
from tests.support.drawings import Drawing

PAGE = Path(__file__).resolve().parents[2] / "docs" / "audit-real.md"


def test_the_page_is_drawn_from_the_recipes() -> None:
    """`python -m tests.audit.real --table` draws what stands between the two marks."""
    assert Drawing(PAGE, BEGIN, END, table).shown() == table().strip()


@pytest.mark.parametrize("each", recipes(), ids=lambda each: each.id)
def test_a_recipe_is_whole(each: Recipe) -> None:
    """Its target file can be read, its findings are checks, and each was judged true or false."""
    text = (each.folder / "audit.toml").read_text("utf-8")
    assert parse_target(text, PASSWORDS, url="http://127.0.0.1/").accounts
    assert set(each.judged) | set(each.missed) <= {check.id for check in chosen()}
    assert {reason.partition(": ")[0] for reason in each.judged.values()} <= {"true", "false"}
    assert each.python or each.npm or each.debian


def test_there_are_enough_of_them() -> None:
    """At least ten applications, in at least four languages."""
    known = recipes()
    assert len(known) >= 10
    assert len({each.language for each in known}) >= 4
