"""The channel of changes: an operator's own SQL, a server that stands still, data cut beside it."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from strongroom.core.errors import StoreUnavailable
from strongroom.core.ops import ChangedAll
from strongroom.stores.base import Store
from strongroom.testing.contract.channel import Channel, watch_in_task, watch_in_thread
from strongroom.testing.contract.harness import Blocking
from strongroom.testing.records import an_end
from tests.stores.postgres.kit import either, inserted
from tests.support.servers import postgres

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("postgres")]


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """Both kinds of store, through one face."""
    return str(request.param)


@contextmanager
def watching(store: Store) -> Generator[Channel, None, None]:
    """A channel on the store that has proved once that it lives."""
    channel = Channel()
    watched: Any = store
    stop = (
        watch_in_task(watched.inner, channel, watched._loop)
        if isinstance(store, Blocking)
        else watch_in_thread(watched, channel)
    )
    try:
        channel.proof()
        yield channel
    finally:
        stop()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE strongroom.session SET header = header || '\\x00'",
        "DELETE FROM strongroom.session",
        "TRUNCATE strongroom.session",
        "UPDATE strongroom.store SET epoch = '\\x0102030405060708'",
    ],
)
def test_an_operators_own_sql_is_told(server: postgres.Server, kind: str, statement: str):
    """Whatever changes a session, a near cache is told of, by the next proof (H3, TRAPS 2.7)."""
    database = server.new_database()
    with either(kind, server.url(database)) as store, watching(store) as channel:
        record = inserted(store)
        channel.forget()
        server.ask(statement, database=database)
        ids = channel.told()
        assert ids is None or ids == {record.session_id}


def test_a_change_that_was_undone_is_not_told(server: postgres.Server, kind: str):
    """A notification belongs to its transaction: without a commit there is none."""
    database = server.new_database()
    with either(kind, server.url(database)) as store, watching(store) as channel:
        inserted(store)
        channel.forget()
        with server.connect(database) as other:
            other.execute("BEGIN")
            other.execute("DELETE FROM strongroom.session")
            other.execute("ROLLBACK")
        assert channel.told() == set()


def test_what_cannot_be_understood_empties_everything(server: postgres.Server, kind: str):
    """A notice of a release to come is taken for any change."""
    database = server.new_database()
    with either(kind, server.url(database)) as store, watching(store) as channel:
        channel.forget()
        server.ask("SELECT pg_notify('strongroom.strongroom', 'v2:abc')", database=database)
        assert channel.told() is None
        assert any(isinstance(each, ChangedAll) for each in channel.notices)


def test_a_watch_survives_the_loss_of_the_pool(server: postgres.Server, kind: str):
    """The push channel lives on while the connections for data are cut, and tells all."""
    database = server.new_database()
    with either(kind, server.url(database, pool_max=2)) as store, watching(store) as channel:
        record = inserted(store)
        channel.forget()
        server.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s "
            "AND query NOT LIKE '%%pg_notify%%' AND pid <> pg_backend_pid()",
            database,
        )
        assert store.end(an_end(record, entropy=os.urandom)).applied
        assert channel.told() == {record.session_id}


def test_a_server_that_stands_still_is_no_channel(kind: str):
    """Nothing is heard and nothing refused: the watch ends with an error all the same (H3)."""
    with (
        postgres.running() as server,
        either(kind, server.url(timeout_ms=500)) as store,
        watching(store) as channel,
    ):
        server.pause()
        try:
            assert channel.over.wait(postgres.PATIENCE), "the channel goes on in silence"
        finally:
            server.resume()
        assert isinstance(channel.error, StoreUnavailable)
