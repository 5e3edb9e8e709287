"""The bench of costs compares each row with its own framework, and names what it could not run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.cost import __main__ as command
from bench.cost import ours, tables
from bench.cost.rounds import CASES, Case, Cost, Measured, added, forged
from bench.cost.rows import Places, Row, all_rows


def nothing(_: Places) -> Any:
    raise LookupError("there is no such library here")


def measured(name: str, base: str | None, **seconds: list[float]) -> Measured:
    costs = {case: Cost(wall=wall, cpu=wall) for case, wall in seconds.items()}
    return Measured(Row(name, base, nothing), costs=costs)


def test_what_is_added_is_paired_by_round() -> None:
    """A round in which the machine was slow is slow for both, so it changes nothing."""
    bare = measured("bare", None, read=[10e-6, 10e-6, 500e-6, 10e-6])
    ours = measured("ours", "bare", read=[17e-6, 17e-6, 507e-6, 17e-6])
    cost = added(ours, bare, "read")
    assert cost is not None
    assert (round(cost.low), round(cost.median), round(cost.high)) == (7, 7, 7)
    assert added(ours, bare, "write") is None


def test_a_forged_cookie_is_of_the_same_shape() -> None:
    """Only the last character differs, so nothing but the tag can tell."""
    assert forged("a=1; id=xyz") == "a=1; id=xyA"
    assert forged("a=1; id=xyA") == "a=1; id=xyB"


def test_every_row_is_compared_with_a_bare_one() -> None:
    """And each of ours has a store that has a URL."""
    rows = all_rows()
    bare = {row.name for row in rows if row.base is None}
    assert {row.base for row in rows if row.base} <= bare
    told = {row.name.removeprefix("Strongroom, ") for row in rows if row.is_ours}
    assert told == set(ours.STORES)


def test_what_cannot_run_is_named() -> None:
    """A library that is missing stands under the table, with the reason."""
    failed = Measured(Row("a peer", "bare", nothing), failed="LookupError: no such library")
    text = tables.as_text([measured("bare", None, read=[1e-6] * 4), failed], 4)
    assert "Could not run: a peer: LookupError: no such library" in text


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
def test_a_case_that_needs_nobody_brings_nothing(case: Case) -> None:
    """Anonymous requests and sign-ins have no session; the others have."""
    assert (case.brings == "nothing") == (case.name in ("anonymous", "sign-in"))


@pytest.mark.slow
def test_it_measures_us_beside_nobody(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rounds of what needs no framework: each case has a figure, and no Set-Cookie on reads."""
    monkeypatch.setattr("logging.disable", lambda _: None)
    monkeypatch.setattr(
        "sys.argv", ["bench.cost", "--rounds", "2", "--only", "raw asgi", "--json", "--no-servers"]
    )
    assert command.main() == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in told["rows"]] == ["Strongroom, memory", "Strongroom, SQLite"]
    for row in told["rows"]:
        assert row["failed"] == ""
        assert {case.name for case in CASES if case.at_once == 1} == set(row["added_us"])
        assert row["set_cookie_bytes"]["read"] == row["set_cookie_bytes"]["write"] == 0
        assert row["set_cookie_bytes"]["sign-in"] > 100
