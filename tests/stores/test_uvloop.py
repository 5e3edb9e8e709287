"""The stores that are awaited do their work on uvloop, which servers take where it is installed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from strongroom.core.ops import End, Find, Insert
from strongroom.core.record import EndReason, Kind
from strongroom.stores.base import AsyncStore
from strongroom.stores.urls import open_async_store
from strongroom.testing.records import a_record
from tests.support.servers import postgres, valkey

uvloop = pytest.importorskip("uvloop", reason="allowed: uvloop has no build for this machine")

pytestmark = pytest.mark.slow
IDENTITY = b"i" * 16
NOW = 1_767_225_600_000
Urls = dict[str, str]


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Urls]:
    """A store of each kind."""
    folder: Path = tmp_path_factory.mktemp("uvloop")
    with ExitStack() as stack:
        valkey_url = stack.enter_context(valkey.single()).url
        database = stack.enter_context(postgres.running())
        yield {
            "memory": "memory://",
            "sqlite": f"sqlite:///{folder}/sessions.db",
            "valkey": valkey_url,
            "valkey, near cache": f"{valkey_url}?near_cache_mb=1",
            "postgres": database.url(),
            "postgres, near cache": database.url(near_cache_mb=1),
        }


def on_uvloop(url: str, work: Callable[[AsyncStore], Awaitable[None]]) -> None:
    """Do the work on a store that is open, and close it whatever happens."""

    async def running() -> None:
        assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
        store = open_async_store(url)
        try:
            await store.open(IDENTITY)
            await work(store)
        finally:
            await store.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(running())


async def until_read_as_ended(store: AsyncStore, session_id: bytes) -> None:
    """A near cache is told of it in a moment."""
    async with asyncio.timeout(10):
        while (found := await store.find(Find(session_id))) is not None and found.record.is_live:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "kind",
    ["memory", "sqlite", "valkey", "valkey, near cache", "postgres", "postgres, near cache"],
)
def test_a_session_is_kept_and_ended(urls: Urls, kind: str) -> None:
    """Open, insert, read, end, and the end is seen (P16)."""

    async def work(store: AsyncStore) -> None:
        record = a_record(subject=None, kind=Kind.ANONYMOUS, now=NOW, entropy=os.urandom)
        assert (await store.insert(Insert(record, NOW))).refusal is None
        for _ in range(3):
            found = await store.find(Find(record.session_id))
            assert found is not None and found.record.is_live
        end = End(record.session_id, os.urandom(8), EndReason.LOGOUT, NOW, NOW + 60_000)
        assert (await store.end(end)).applied
        await until_read_as_ended(store, record.session_id)

    on_uvloop(urls[kind], work)


def test_many_at_once_share_one_valkey_connection(urls: Urls) -> None:
    """Requests that overlap are sent together, and each gets its own answer."""

    async def work(store: AsyncStore) -> None:
        records = [
            a_record(subject=None, kind=Kind.ANONYMOUS, now=NOW, entropy=os.urandom)
            for _ in range(64)
        ]
        await asyncio.gather(*(store.insert(Insert(each, NOW)) for each in records))
        found = await asyncio.gather(*(store.find(Find(each.session_id)) for each in records))
        assert [each.record.session_id for each in found if each is not None] == [
            each.session_id for each in records
        ]

    on_uvloop(urls["valkey"], work)
