"""A near cache in front of a real server keeps the contract of `stores/base.py`, races included.

It is the public suite, unchanged. Two stores over the same data are two near caches, as two
processes have them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from strongroom.stores.base import AsyncStore, Store
from strongroom.stores.near_cache import AsyncNearCache, Limits, NearCache
from strongroom.stores.postgres import AsyncPostgresStore, PostgresStore
from strongroom.stores.urls import open_async_store, open_store
from strongroom.testing.contract import AsyncStoreContract, StoreContract
from strongroom.testing.contract.harness import Harness
from tests.stores.test_valkey_contract import (
    ForLoops,
    ForThreads,
    InCluster,
    Single,
    WithSentinel,
)
from tests.support.servers import postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BRISK = Limits(max_staleness=0.2)


class Sizes:
    """A near cache adds nothing to how much a server bears, so small numbers do."""

    rounds = 5
    many = 200
    walk = 100


class NearThreads(Sizes, Harness):
    """Near caches in front of the stores of whatever stands behind this class."""

    def make_store(self) -> Store:
        return NearCache(super().make_store(), BRISK)

    def beside(self, store: Store) -> Store:
        behind = super().beside(cast("NearCache", store).store)
        assert behind is not None
        return NearCache(behind, BRISK)


class NearLoops(Sizes):
    """The same for an event loop."""

    def make_async_store(self) -> AsyncStore:
        made: AsyncStore = super().make_async_store()  # type: ignore[misc]
        return AsyncNearCache(made, BRISK)

    def async_beside(self, store: AsyncStore) -> AsyncStore:
        behind = cast("AsyncNearCache", store).store
        made: AsyncStore = super().async_beside(behind)  # type: ignore[misc]
        return AsyncNearCache(made, BRISK)


class OnPostgres:
    """Each store in a schema of its own, on a server of this class."""

    numbers = iter(range(10**6))

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls) -> Iterator[tuple[postgres.Server, str]]:
        with postgres.running() as running:
            yield running, running.new_database()

    @pytest.fixture(autouse=True)
    def on_the_server(self, server: tuple[postgres.Server, str]) -> None:
        self.server_, self.database = server

    def url(self, beside: PostgresStore | AsyncPostgresStore | None = None) -> str:
        schema = f"near_{next(self.numbers)}" if beside is None else beside.settings.schema
        return self.server_.url(self.database, schema=schema, pool_max=4, timeout_ms=20_000)


class PostgresForThreads(OnPostgres):
    """Its stores for threads."""

    def make_store(self) -> Store:
        return open_store(self.url())

    def beside(self, store: Store) -> Store:
        return open_store(self.url(cast("PostgresStore", store)))


class PostgresForLoops(OnPostgres):
    """Its stores for an event loop."""

    def make_async_store(self) -> AsyncStore:
        return open_async_store(self.url())

    def async_beside(self, store: AsyncStore) -> AsyncStore:
        return open_async_store(self.url(cast("AsyncPostgresStore", store)))


class TestNearValkey(NearThreads, Single, ForThreads, StoreContract):
    """One server, for threads."""


class TestAsyncNearValkey(NearLoops, Single, ForLoops, AsyncStoreContract):
    """One server, for an event loop."""


class TestNearSentinel(NearThreads, WithSentinel, ForThreads, StoreContract):
    """Sentinel, for threads."""


class TestAsyncNearSentinel(NearLoops, WithSentinel, ForLoops, AsyncStoreContract):
    """Sentinel, for an event loop."""


class TestNearCluster(NearThreads, InCluster, ForThreads, StoreContract):
    """A cluster, for threads."""


class TestAsyncNearCluster(NearLoops, InCluster, ForLoops, AsyncStoreContract):
    """A cluster, for an event loop."""


class TestNearPostgres(NearThreads, PostgresForThreads, StoreContract):
    """PostgreSQL, for threads."""


class TestAsyncNearPostgres(NearLoops, PostgresForLoops, AsyncStoreContract):
    """PostgreSQL, for an event loop."""
