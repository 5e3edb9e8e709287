"""What pages claim of speed was measured: they are drawn from bench/results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.cost import page

HINT = "draw it anew with: python -m bench.cost.page --write"


@pytest.mark.parametrize(
    ("path", "drawings"),
    [(page.PAGE, page.PAGE_DRAWINGS), (page.README, {"claims": page.draw_claims})],
    ids=["page", "README"],
)
def test_a_table_says_what_was_measured(path: Path, drawings: dict[str, Callable[[], str]]) -> None:
    """No figure is typed by hand."""
    text = path.read_text("utf-8")
    assert text == page.redrawn(text, drawings), f"{path.name} is out of date; {HINT}"


@pytest.mark.parametrize("name", page.PICTURES)
def test_a_picture_shows_what_was_measured(name: str) -> None:
    """The page's pictures too."""
    assert (page.IMAGES / name).read_text("utf-8") == page.PICTURES[name](), f"{name}: {HINT}"


def test_a_page_without_a_place_is_told() -> None:
    """A drawing that somebody took out of a page is missed."""
    with pytest.raises(LookupError, match="'claims'"):
        page.redrawn("nothing here", {"claims": page.draw_claims})


def test_peers_are_beside_us() -> None:
    """A table of ours alone would be no comparison, and one that failed would be missing."""
    told = page.load("in-process")
    names = {row["name"] for row in told["rows"]}
    assert len({each for each in names if not each.startswith("Strongroom")}) >= 12
    assert [row["name"] for row in told["rows"] if row["failed"]] == []
