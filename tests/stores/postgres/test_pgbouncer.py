"""Behind a real PgBouncer in transaction mode, with fewer connections than the stores have."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from strongroom.core.errors import StoreUnavailable
from strongroom.core.ops import Find, Watch
from strongroom.stores.base import AsyncStore, Store
from strongroom.stores.postgres import AsyncPostgresStore, PostgresStore
from strongroom.stores.urls import open_async_store, open_store
from strongroom.testing.contract import AsyncStoreContract, StoreContract
from tests.stores.postgres.kit import inserted, opened
from tests.support.servers import pgbouncer, postgres

pytestmark = pytest.mark.skipif(
    pgbouncer.program() is None,
    reason="allowed: no pgbouncer is installed here; it comes with the operating system",
)

_numbers = itertools.count()


@pytest.fixture(scope="module")
def pooler(server: postgres.Server) -> Iterator[int]:
    """Its port. Each transaction may be on another connection of the server's."""
    with pgbouncer.in_front_of(server) as port:
        yield port


class BehindPgBouncer:
    """The contract, each store in a schema of its own, watching past the pooler."""

    rounds = 2
    many = 100
    walk = 30

    @pytest.fixture(autouse=True)
    def behind(self, server: postgres.Server, database: str, pooler: int) -> None:
        self.base = f"postgresql://postgres@127.0.0.1:{pooler}/{database}"
        self.options = f"pgbouncer=1&direct_port={server.port}&timeout_ms=20000&pool_max=4"

    def url(self, schema: str | None = None) -> str:
        """The URL of that schema, or of a new one."""
        return f"{self.base}?schema={schema or f'pooled_{next(_numbers)}'}&{self.options}"


class TestPostgresBehindPgBouncer(BehindPgBouncer, StoreContract):
    """Threads."""

    def make_store(self) -> Store:
        return open_store(self.url())

    def beside(self, store: Store) -> Store:
        assert isinstance(store, PostgresStore)
        return open_store(self.url(store.settings.schema))


class TestAsyncPostgresBehindPgBouncer(BehindPgBouncer, AsyncStoreContract):
    """An event loop."""

    def make_async_store(self) -> AsyncStore:
        return open_async_store(self.url())

    def async_beside(self, store: AsyncStore) -> AsyncStore:
        assert isinstance(store, AsyncPostgresStore)
        return open_async_store(self.url(store.settings.schema))


def test_watching_says_that_it_needs_the_server(server: postgres.Server, pooler: int):
    """Without direct_host= or direct_port= nothing is taken for quiet (H3)."""
    url = f"postgresql://postgres@127.0.0.1:{pooler}/{server.new_database()}?pgbouncer=1"
    with opened(url) as store, pytest.raises(StoreUnavailable, match="PgBouncer"):
        store.watch(Watch(lambda _notice: None, 0.1))


def test_a_pooler_that_nobody_told_of_is_named(server: postgres.Server, pooler: int):
    """The error says which option is missing, whatever fails first."""
    url = f"postgresql://postgres@127.0.0.1:{pooler}/{server.new_database()}"
    with pytest.raises(StoreUnavailable, match="pgbouncer=1"), opened(url) as store:
        for _ in range(20):
            store.find(Find(inserted(store).session_id))
