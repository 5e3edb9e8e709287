"""PostgreSQL keeps the contract of `stores/base.py`, sync and async, on a real server."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from strongroom.stores.base import AsyncStore, Store
from strongroom.stores.near_cache import AsyncNearCache, Limits, NearCache
from strongroom.stores.postgres import AsyncPostgresStore, PostgresStore
from strongroom.stores.urls import open_async_store, open_store
from strongroom.testing.contract import AsyncStoreContract, StoreContract
from strongroom.testing.contract.harness import Blocking
from tests.support.servers import postgres

_numbers = itertools.count()


def schema_of(store: Any) -> str:
    """The schema of a store, whatever stands in front of it."""
    while not isinstance(store, PostgresStore | AsyncPostgresStore):
        store = store.inner if isinstance(store, Blocking) else store.store
    return store.settings.schema


class OnPostgres:
    """Each store in a schema of its own; a second one beside it uses the same schema."""

    rounds = 4
    many = 200
    walk = 60

    @pytest.fixture(autouse=True)
    def on_the_server(self, server: postgres.Server, database: str) -> None:
        self.server, self.database = server, database

    def url(self, schema: str | None = None) -> str:
        """The URL of that schema, or of a new one."""
        schema = schema or f"contract_{next(_numbers)}"
        return self.server.url(self.database, schema=schema, pool_max=4, timeout_ms=20_000)

    def cut(self, store: Store) -> None:
        """End the server's side of the channel; the store's other connections live on."""
        proving = f"%pg_notify%{schema_of(store)}%"
        self.server.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE %s "
            "AND pid <> pg_backend_pid()",
            proving,
        )


class TestPostgresStore(OnPostgres, StoreContract):
    """Threads, and two stores over one schema as two processes have them."""

    def make_store(self) -> Store:
        return open_store(self.url())

    def beside(self, store: Store) -> Store:
        return open_store(self.url(schema_of(store)))


class TestAsyncPostgresStore(OnPostgres, AsyncStoreContract):
    """The same on an event loop."""

    def make_async_store(self) -> AsyncStore:
        return open_async_store(self.url())

    def async_beside(self, store: AsyncStore) -> AsyncStore:
        return open_async_store(self.url(schema_of(store)))


BRISK = Limits(max_staleness=0.1)
"""A near cache whose channel proves its life forty times a second."""


class TestNearCacheOverPostgres(OnPostgres, StoreContract):
    """Threads, each store with a near cache of its own in front."""

    def make_store(self) -> Store:
        return NearCache(open_store(self.url()), BRISK)

    def beside(self, store: Store) -> Store:
        return NearCache(open_store(self.url(schema_of(store))), BRISK)


class TestAsyncNearCacheOverPostgres(OnPostgres, AsyncStoreContract):
    """The same on an event loop."""

    def make_async_store(self) -> AsyncStore:
        return AsyncNearCache(open_async_store(self.url()), BRISK)

    def async_beside(self, store: AsyncStore) -> AsyncStore:
        return AsyncNearCache(open_async_store(self.url(schema_of(store))), BRISK)


class OnDebians(OnPostgres):
    """The same on a release that Debian ships."""

    release = 0

    @pytest.fixture(scope="class")
    @classmethod
    def older(cls) -> Iterator[postgres.Server]:
        """A server of that release."""
        with postgres.running(programs=postgres.debian(cls.release)) as server:
            yield server

    @pytest.fixture(autouse=True)
    def on_the_server(self, older: postgres.Server) -> None:
        self.server, self.database = older, "postgres"


for _release in (14, 15):
    # One skip for a release that is not here, not one for every test of the contract.
    if postgres.debian(_release):
        _name = f"TestPostgres{_release}"
        globals()[_name] = type(_name, (OnDebians, TestPostgresStore), {"release": _release})


@pytest.mark.slow
@pytest.mark.parametrize("release", [14, 15])
def test_an_older_release_is_tested_where_it_is_installed(release: int):
    """The contract runs on Debian's 14 and 15 too; the wheel is 17."""
    if postgres.debian(release) is None:
        pytest.skip(f"allowed: Debian's PostgreSQL {release} is not installed here")
    assert f"TestPostgres{release}" in globals()
