"""The names that `strongroom` offers are few, frozen in public_api.txt, and each explains itself.

To change what is public, change public_api.txt in the same commit, and say so in CHANGELOG.md.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

FROZEN = Path(__file__).with_name("public_api.txt").read_text(encoding="utf-8").split()
MOST_NAMES = 30


def test_the_public_names_are_the_frozen_ones() -> None:
    """Adding or removing a public name is a decision, not an accident."""
    strongroom = importlib.import_module("strongroom")
    assert sorted(strongroom.__all__) == sorted(FROZEN), (
        "strongroom.__all__ and tests/house/public_api.txt differ: if that is meant, change both, "
        "and say so in CHANGELOG.md."
    )


def test_there_are_few_public_names() -> None:
    """What a user wants to do fits into one head; the rest lives in named modules."""
    assert len(FROZEN) == len(set(FROZEN)) <= MOST_NAMES


def test_every_name_is_listed_by_dir() -> None:
    """Names that are loaded lazily are still found by completion and by help()."""
    strongroom = importlib.import_module("strongroom")
    assert set(FROZEN) <= set(dir(strongroom))


@pytest.mark.parametrize("name", FROZEN)
def test_a_public_name_explains_itself(name: str) -> None:
    """Each class and function has a docstring that somebody wrote."""
    thing = getattr(importlib.import_module("strongroom"), name)
    if not (inspect.isclass(thing) or inspect.isroutine(thing)):
        pytest.skip("allowed: a constant is explained where it is defined")
    written = thing.__doc__ or ""
    generated = dataclasses.is_dataclass(thing) and written.startswith(f"{name}(")
    assert written and not generated, f"strongroom.{name} has no docstring"


def test_each_name_loads_alone() -> None:
    """Each name can be the first that is asked for: no import works only after another."""
    code = "import sys, strongroom; getattr(strongroom, sys.argv[1])"
    failures = []
    for name in FROZEN:
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, name],
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            failures.append(f"{name}: {run.stderr.strip().splitlines()[-1]}")
    assert not failures, "\n".join(failures)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Loading lazily keeps Python's own answer to a name that is not there."""
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = importlib.import_module("strongroom").no_such_name
