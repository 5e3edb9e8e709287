"""PostgreSQL keeps the contract of `stores/base.py`, sync and async, on a real server."""

from __future__ import annotations

import itertools

import pytest

from strongroom.stores.base import AsyncStore, Store
from strongroom.stores.postgres import AsyncPostgresStore, PostgresStore
from strongroom.stores.urls import open_async_store, open_store
from strongroom.testing.contract import AsyncStoreContract, StoreContract
from tests.support.servers import postgres

_numbers = itertools.count()


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


class TestPostgresStore(OnPostgres, StoreContract):
    """Threads, and two stores over one schema as two processes have them."""

    def make_store(self) -> Store:
        return open_store(self.url())

    def beside(self, store: Store) -> Store:
        assert isinstance(store, PostgresStore)
        return open_store(self.url(store.settings.schema))


class TestAsyncPostgresStore(OnPostgres, AsyncStoreContract):
    """The same on an event loop."""

    def make_async_store(self) -> AsyncStore:
        return open_async_store(self.url())

    def async_beside(self, store: AsyncStore) -> AsyncStore:
        assert isinstance(store, AsyncPostgresStore)
        return open_async_store(self.url(store.settings.schema))
