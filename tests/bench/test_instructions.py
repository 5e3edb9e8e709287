"""The hot path's processor instructions do not grow unnoticed: bench/instructions.json has them."""

from __future__ import annotations

import json
import shutil

import pytest

from bench.cost.hot import CASES_COUNTED
from bench.cost.instructions import FILE, counted, grown, python


def test_growth_is_told() -> None:
    """Five per cent is noise and small change; more is a sentence with both figures."""
    assert grown({"read": 1000}, {"read": 1050}) == []
    (sentence,) = grown({"read": 1000}, {"read": 1200})
    assert (
        sentence == "read takes 1,200 instructions, 20% more than the 1,000 of instructions.json."
    )


def test_the_file_has_every_case_and_a_reason() -> None:
    """Whoever writes it anew says why."""
    told = json.loads(FILE.read_text())
    assert set(told["added"]) == set(CASES_COUNTED) - {"bare"}
    assert len(told["note"]) > 10


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(
    shutil.which("valgrind") is None, reason="allowed: valgrind is not installed here"
)
@pytest.mark.skipif(
    json.loads(FILE.read_text())["python"] != python(),
    reason="allowed: the counts are of another Python",
)
def test_the_hot_path_has_not_grown() -> None:
    """Counted under callgrind, so a busy machine does not matter."""
    assert grown(json.loads(FILE.read_text())["added"], counted()) == []
