"""Every store keeps the contract of `stores/base.py`: one suite, no test written twice.

The quick classes run each race a few times; the slow ones run them often, and with ten thousand
sessions for one subject.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.stores.base import AsyncStore, Store
from strongroom.stores.bridge import AsyncBridge, WatchableBridge
from strongroom.stores.memory import MemoryStore
from strongroom.stores.near_cache import AsyncNearCache, Limits, NearCache
from strongroom.stores.sqlite import SQLiteStore
from strongroom.testing.contract import AsyncStoreContract, StoreContract

BRISK = Limits(max_staleness=0.1)
"""A near cache whose channel proves its life forty times a second."""


class Quick:
    """Sizes for every day."""

    rounds = 5
    many = 200
    walk = 100


class Thorough:
    """Sizes for when there is time."""

    rounds = 100
    many = 10_000
    walk = 1_000


class OnDisk:
    """Each store in a file of its own; a second one beside it opens the same file."""

    @pytest.fixture(autouse=True)
    def in_its_own_directory(self, tmp_path: Path) -> None:
        self.directory = tmp_path
        self.files: dict[int, Path] = {}

    def at(self, path: Path | None = None) -> SQLiteStore:
        """A store over that file, or over a new one."""
        path = path or self.directory / f"{len(self.files)}.db"
        store = SQLiteStore(path)
        self.files[id(store)] = path
        return store


class TestMemoryStore(Quick, StoreContract):
    """One process's memory."""

    def make_store(self) -> Store:
        return MemoryStore()


class TestBridgedMemoryStore(Quick, AsyncStoreContract):
    """The same, as asynchronous code sees it."""

    def make_async_store(self) -> AsyncStore:
        return WatchableBridge(MemoryStore())


class TestSQLiteStore(OnDisk, Quick, StoreContract):
    """A file, and two stores over it as two processes have them."""

    def make_store(self) -> Store:
        return self.at()

    def beside(self, store: Store) -> Store:
        return self.at(self.files[id(store)])


class TestBridgedSQLiteStore(OnDisk, Quick, AsyncStoreContract):
    """The same, as asynchronous code sees it: in threads, and inline what need not wait."""

    def make_async_store(self) -> AsyncStore:
        return AsyncBridge(self.at(), inline=frozenset({"find"}))

    def async_beside(self, store: AsyncStore) -> AsyncStore:
        assert isinstance(store, AsyncBridge)
        return AsyncBridge(self.at(self.files[id(store.store)]))


class TestNearCache(Quick, StoreContract):
    """A near cache in front of it answers as the store itself (H3)."""

    def make_store(self) -> Store:
        return NearCache(MemoryStore(), BRISK)

    def cut(self, store: Store) -> None:
        assert isinstance(store, NearCache)
        store.store.close()


class TestAsyncNearCache(Quick, AsyncStoreContract):
    """The same, as asynchronous code sees it."""

    def make_async_store(self) -> AsyncStore:
        return AsyncNearCache(WatchableBridge(MemoryStore()), BRISK)


@pytest.mark.slow
class TestMemoryStoreThoroughly(Thorough, TestMemoryStore):
    """One process's memory, at length."""


@pytest.mark.slow
@pytest.mark.timeout(600)
class TestSQLiteStoreThoroughly(Thorough, TestSQLiteStore):
    """A file, at length."""


@pytest.mark.slow
@pytest.mark.timeout(600)
class TestBridgedSQLiteStoreThoroughly(Thorough, TestBridgedSQLiteStore):
    """A file as asynchronous code sees it, at length."""
