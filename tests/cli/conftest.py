"""A desk in an empty folder, for every test of the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.runner import Desk


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """An operator in an empty folder, before anything was set up."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield Desk()
    sys.modules.pop("shop", None)  # the application in some tests' folders


@pytest.fixture
def shop(desk: Desk) -> Desk:
    """An operator of an application that has keys and a store."""
    assert desk.run("keys", "generate").code == 0
    with desk.manager():
        pass
    return desk
