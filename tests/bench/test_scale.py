"""The scale bench fills, weighs and times every kind of op, in small."""

from __future__ import annotations

import re
import sys

import pytest

from bench import scale


def test_every_op_is_timed_at_every_size(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One table for each store; from the second size on each time says how it has grown."""
    monkeypatch.setattr(scale, "ROUNDS", 4)
    monkeypatch.setattr(scale, "DUE", 1_000)
    argv = ["scale", "--stores", "memory,sqlite", "--sizes", "100,300"]
    monkeypatch.setattr(sys, "argv", argv)
    assert scale.main() == 0
    told = capsys.readouterr().out
    assert told.count("| store, sessions | bytes a session | find | touch |") == 2
    grown = re.findall(r"^\| (\S+), 300 \|(.+)$", told, re.M)
    assert [name for name, _ in grown] == ["memory", "SQLite"]
    assert all(len(re.findall(r"\(\d+\.\d\dx\)", cells)) == 7 for _, cells in grown)
    [weight] = re.findall(r"^\| SQLite, 300 \| (\S+) \|", told, re.M)
    assert int(weight.replace(",", "")) > scale.ENVELOPE + scale.DATA
