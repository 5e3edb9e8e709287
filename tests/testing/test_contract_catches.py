"""The contract suite is itself tested: it fails on stores that are broken, each in its own way.

Each mutant is the memory store with one fault that somebody has shipped. The suite runs over it as
pytest would run it, and the tests that are meant to see the fault must be among those that fail.
"""

from __future__ import annotations

from typing import Any
from unittest import SkipTest

import pytest

from strongroom.core.errors import StrongroomError
from strongroom.stores.base import Store
from strongroom.stores.memory import MemoryStore
from strongroom.testing.contract import AsyncStoreContract, StoreContract
from tests.testing.mutants import (
    ABOUT_WATCHING,
    SEEN_BY,
    Broken,
    CountsEpochsFromTheFirst,
    LastSaveWins,
    LimitNotAtomic,
    NotAtomic,
    SweepsEverything,
    SweepsTooEarly,
    TakesAnyKeys,
)


def suite(store: type[MemoryStore]) -> type[StoreContract]:
    """The contract over that store, in small."""

    class Suite(StoreContract):
        rounds, many, walk = 3, 10, 40

        def make_store(self) -> Store:
            return store()

    return Suite


def failing(contract: type[StoreContract]) -> set[str]:
    """The names of the suite's tests that fail, each run on an instance of its own."""
    failed: set[str] = set()
    for name in sorted(dir(contract)):
        if name.startswith("test_"):
            case = contract()
            case.setup_method()
            try:
                getattr(case, name)()
            except SkipTest:
                pass
            except (AssertionError, ValueError, StrongroomError):
                failed.add(name)
            finally:
                case.teardown_method()
    return failed


def test_a_right_store_passes() -> None:
    """What is found in a mutant is the mutation, not the machinery."""
    assert failing(suite(MemoryStore)) == set()


@pytest.mark.slow
@pytest.mark.parametrize("mutant", SEEN_BY, ids=lambda mutant: mutant.__name__)
def test_a_broken_store_fails(mutant: type[Broken]) -> None:
    """The test that is there for this fault sees it."""
    assert SEEN_BY[mutant] in failing(suite(mutant))


@pytest.mark.slow
def test_the_random_walk_alone_finds_most_faults() -> None:
    """The model sees what nobody thought of: nearly all faults that need no second thread."""
    walk = "test_a_random_walk_agrees_with_the_model"
    blind = {TakesAnyKeys, NotAtomic, LimitNotAtomic, SweepsEverything, SweepsTooEarly}
    blind |= {CountsEpochsFromTheFirst, *ABOUT_WATCHING}
    found: set[type[Broken]] = set()
    for mutant in SEEN_BY.keys() - blind:
        case = suite(mutant)()
        case.walk = 800
        case.setup_method()
        try:
            getattr(case, walk)()
        except AssertionError as error:
            assert "differ after these ops" in str(error)
            found.add(mutant)
        finally:
            case.teardown_method()
    assert found == SEEN_BY.keys() - blind


class BrokenAsyncStore:
    """An async store that is right but for one thing: it forgets to compare the version."""

    def __init__(self) -> None:
        self._store = LastSaveWins()

    def __getattr__(self, verb: str) -> Any:
        if verb == "watch":
            raise AttributeError(verb)  # It would stand in the loop.

        async def call(*arguments: Any) -> Any:
            return getattr(self._store, verb)(*arguments)

        return call


def test_a_broken_async_store_fails() -> None:
    """The same tests see the same fault through an event loop."""

    class Suite(AsyncStoreContract):
        rounds, many, walk = 2, 5, 20

        def make_async_store(self) -> Any:
            return BrokenAsyncStore()

    assert SEEN_BY[LastSaveWins] in failing(Suite)
