"""The near cache over real servers and real connections, while its push channel fails in every way.

Each test ends a session from another process's store and keeps reading it through a near cache. No
read that began `max_staleness` after the end was acknowledged may find it live, and none may fail
while the store itself answers. When the fault is over, the cache answers from memory again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest

from strongroom.core.errors import StoreUnavailable
from strongroom.core.ops import Find
from strongroom.core.record import Record
from strongroom.stores.base import NearStats
from strongroom.stores.near_cache import AsyncNearCache, Limits, NearCache, watcher
from strongroom.stores.urls import open_async_store, open_store
from strongroom.testing.contract.harness import Blocking
from strongroom.testing.records import IDENTITY, a_record, an_end, an_insert
from tests.support.servers import pgbouncer, postgres, valkey
from tests.support.servers.wire import Wire

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("near cache faults"),
]

BOUND = 0.4
PATIENCE = 20.0

_numbers = itertools.count()


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Any]]:
    """One server of each kind, for the tests that leave it running."""
    with valkey.single() as first, postgres.running() as second:
        yield {"valkey": first, "postgres": second}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that says nothing is given up after ten times the bound, not after five seconds."""
    monkeypatch.setattr(watcher, "PATIENCE", 0.0)


class Split:
    """A store whose data connections and push channel take different ways to one server."""

    def __init__(self, data: Any, channel: Any) -> None:
        self._data, self._channel = data, channel

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._data, verb)

    def watch(self, op: Any) -> Any:
        return self._channel.watch(op)

    def open(self, identity: bytes) -> None:
        self._data.open(identity)
        self._channel.open(identity)

    def close(self) -> None:
        self._channel.close()
        self._data.close()


class AsyncSplit(Split):
    """The same for an event loop."""

    async def open(self, identity: bytes) -> None:  # type: ignore[override]
        await self._data.open(identity)
        await self._channel.open(identity)

    async def close(self) -> None:  # type: ignore[override]
        await self._channel.close()
        await self._data.close()


class Rig:
    """A near cache, what another process holds, and a reader that never stops."""

    def __init__(self, near: Any, other: Any, stats: Callable[[], NearStats]) -> None:
        self.near, self.other, self.stats = near, other, stats
        self.record: Record
        self.finds: list[tuple[float, bool]] = []
        """When each read began, and whether it found the session live."""
        self.errors: list[Exception] = []
        self._stopped = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)

    def begin(self) -> None:
        """Somebody is signed in, and the cache answers for them from memory."""
        inserted = self.other.insert(an_insert(a_record(subject=f"alice {next(_numbers)}")))
        assert inserted.record is not None
        self.record = inserted.record
        self.until_hits()

    def until_hits(self) -> None:
        """Wait until a read is answered from memory."""
        deadline = time.monotonic() + PATIENCE
        before = self.stats().hits
        while self.stats().hits == before:
            assert time.monotonic() < deadline, self.stats()
            self.near.find(Find(self.record.session_id))
            time.sleep(0.005)

    def start_reading(self) -> None:
        """From now on it is read all the time."""
        self._reader.start()

    def _read(self) -> None:
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                found = self.near.find(Find(self.record.session_id))
            except StoreUnavailable as error:
                self.errors.append(error)
            else:
                self.finds.append((began, found is not None and found.record.is_live))
            time.sleep(0.001)

    def end(self) -> float:
        """Another process ends the session -> when that was acknowledged."""
        assert self.other.end(an_end(self.record)).applied
        return time.monotonic()

    def end_when_it_can(self) -> float:
        """The same, tried until the store answers again."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(StoreUnavailable):
                return self.end()
        raise AssertionError("the store did not come back")

    def check(self, acknowledged: float, *, fails: bool = False) -> None:
        """Read on for longer than the bound; nobody was let in after it, and nobody was failed."""
        time.sleep(max(0.0, acknowledged + 2 * BOUND - time.monotonic()))
        self._stopped.set()
        self._reader.join(30)
        late = [began - acknowledged for began, live in self.finds if live]
        assert max(late) < BOUND
        assert [began for began, live in self.finds if not live and began > acknowledged]
        assert fails or not self.errors


@contextmanager
def rigged(url: str, channel_url: str, kind: str = "sync") -> Iterator[Rig]:
    """A rig of which data and push channel have these URLs."""
    limits = Limits(max_staleness=BOUND)
    with ExitStack() as stack:
        near: Any
        cache: Any
        if kind == "sync":
            near = cache = NearCache(Split(open_store(url), open_store(channel_url)), limits)
        else:
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, daemon=True)
            thread.start()

            def stop() -> None:
                loop.call_soon_threadsafe(loop.stop)
                thread.join(30)
                loop.close()

            stack.callback(stop)
            split: Any = AsyncSplit(open_async_store(url), open_async_store(channel_url))
            cache = AsyncNearCache(split, limits)
            near = Blocking(cache, loop)
        other = open_store(url)
        for store in (near, other):
            store.open(IDENTITY)
            stack.callback(store.close)
        rig = Rig(near, other, cache.stats)
        rig.begin()
        yield rig


def url_of(server: Any, port: int | None = None, name: str | None = None) -> str:
    """A URL of the server, by the wire's port if there is one."""
    if isinstance(server, valkey.Server):
        return f"valkey://127.0.0.1:{port or server.port}?prefix={name}:"
    return f"postgresql://postgres@127.0.0.1:{port or server.port}/postgres?schema={name}"


def wait_until_out_of_use(rig: Rig) -> None:
    deadline = time.monotonic() + PATIENCE
    while rig.stats().alive:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def stall(wire: Wire, rig: Rig) -> None:
    """Nothing moves, for three times the bound; what was under way then arrives."""
    wire.stalled = True


def tear(wire: Wire, rig: Rig) -> None:
    """The connection is closed, and the next one is no better."""
    wire.stalled = True
    wire.tear()


def half_open(wire: Wire, rig: Rig) -> None:
    """The server's end is gone, and ours does not know."""
    wire.half_open()


def delay_a_little(wire: Wire, rig: Rig) -> None:
    """Everything comes late, and soon enough to be believed."""
    wire.delay = BOUND / 8


def delay_too_long(wire: Wire, rig: Rig) -> None:
    """Everything comes, and each proof is too old when it does."""
    wire.delay = 1.5 * BOUND


FAULTS: list[Callable[[Wire, Rig], None]] = [
    stall,
    tear,
    half_open,
    delay_a_little,
    delay_too_long,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("store", ["valkey", "postgres"])
def test_the_bound_holds_whatever_the_channel_does(
    servers: dict[str, Any], store: str, kind: str, fault: Callable[[Wire, Rig], None]
) -> None:
    """An end in the middle of the fault is seen within the bound, and nobody is failed (P16)."""
    server = servers[store]
    name = f"faults{next(_numbers)}"
    wire = Wire(server.port)
    try:
        with rigged(url_of(server, name=name), url_of(server, wire.port, name), kind) as rig:
            rig.start_reading()
            fault(wire, rig)
            acknowledged = rig.end()
            rig.check(acknowledged)
            if fault is not delay_a_little:
                wait_until_out_of_use(rig)
            wire.delay, wire.stalled = 0.0, False
            rig.begin()
            assert rig.stats().alive
            assert (rig.stats().channels > 1) >= (fault in (tear, half_open))
    finally:
        wire.close()


@pytest.mark.parametrize("store", ["valkey", "postgres"])
def test_while_the_channel_is_out_of_use_every_read_asks_the_store(
    servers: dict[str, Any], store: str
) -> None:
    """Reading through is no worse than having no cache: an end is seen by the very next read."""
    server = servers[store]
    name = f"faults{next(_numbers)}"
    wire = Wire(server.port)
    try:
        with rigged(url_of(server, name=name), url_of(server, wire.port, name)) as rig:
            wire.stalled = True
            wait_until_out_of_use(rig)
            hits = rig.stats().hits
            for _ in range(50):
                assert rig.near.find(Find(rig.record.session_id)).record.is_live
            rig.end()
            assert not rig.near.find(Find(rig.record.session_id)).record.is_live
            assert rig.stats().hits == hits
    finally:
        wire.close()


@pytest.mark.parametrize("store", ["valkey", "postgres"])
def test_the_channel_lives_on_while_the_data_is_cut(servers: dict[str, Any], store: str) -> None:
    """The other way round: the answers that are here are good, and the end is still told."""
    server = servers[store]
    name = f"faults{next(_numbers)}"
    wire = Wire(server.port)
    try:
        straight = url_of(server, name=name)
        with rigged(url_of(server, wire.port, name), straight) as rig, rig_other(rig, straight):
            hits = rig.stats().hits
            wire.stalled = True
            for _ in range(20):
                assert rig.near.find(Find(rig.record.session_id)).record.is_live
            assert rig.stats().hits == hits + 20
            rig.end()
            deadline = time.monotonic() + PATIENCE
            while rig.stats().entries:
                assert time.monotonic() < deadline
            # Whoever is not here can be read by nobody: no one is let in (P22).
            with pytest.raises(StoreUnavailable):
                rig.near.find(Find(rig.record.session_id))
            wire.stalled = False
    finally:
        wire.close()


@contextmanager
def rig_other(rig: Rig, url: str) -> Iterator[None]:
    """The other process has a way of its own."""
    store = open_store(url)
    store.open(IDENTITY)
    before, rig.other = rig.other, store
    try:
        yield
    finally:
        rig.other = before
        store.close()


def kill_clients(server: Any, url: str) -> None:
    """CLIENT KILL, of all of them: data and channel."""
    server.ask("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")


def flush_scripts(server: Any, url: str) -> None:
    """SCRIPT FLUSH: the end itself has to send its script anew."""
    server.ask("SCRIPT", "FLUSH")


def terminate_backends(server: Any, url: str) -> None:
    """pg_terminate_backend, of all of them."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )


@pytest.mark.parametrize(
    ("store", "blow"),
    [
        ("valkey", kill_clients),
        ("valkey", flush_scripts),
        ("postgres", terminate_backends),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_an_operator_does_to_connections(
    servers: dict[str, Any], store: str, blow: Callable[[Any, str], None]
) -> None:
    """Everything that the server cut comes back by itself, and nobody is failed by it."""
    server = servers[store]
    url = url_of(server, name=f"faults{next(_numbers)}")
    with rigged(url, url) as rig:
        rig.start_reading()
        time.sleep(0.1)
        blow(server, url)
        acknowledged = rig.end()
        rig.check(acknowledged)
        rig.begin()


@pytest.mark.parametrize("store", ["valkey", "postgres"])
def test_a_server_that_is_restarted(store: str) -> None:
    """While it is away nobody who is not here gets in; then everything goes on by itself."""
    start: Any = (
        valkey.single(appendonly="yes", appendfsync="always")
        if store == "valkey"
        else postgres.running()
    )
    with start as server, rigged(url_of(server, name="a"), url_of(server, name="a")) as rig:
        rig.start_reading()
        acknowledged = rig.end()
        server.kill()
        time.sleep(2 * BOUND)
        server.start()
        rig.check(acknowledged, fails=True)
        rig.begin()


def test_a_failover() -> None:
    """The new primary's ends are seen, and what the old one still says counts nothing."""
    with valkey.sentinel() as group:
        url = f"{group.url}{'&' if '?' in group.url else '?'}durable_ends=1"
        with rigged(url, url) as rig:
            rig.start_reading()
            old = group.primary()
            old.kill()
            group.await_failover(old)
            rig.check(rig.end_when_it_can(), fails=True)
            rig.begin()


def test_a_primary_that_was_cut_off_is_not_believed_beyond_the_bound() -> None:
    """It stands still with its channel open; nothing from before is answered meanwhile."""
    with valkey.sentinel() as group, rigged(group.url, group.url) as rig:
        old = group.primary()
        rig.start_reading()
        old.pause()
        paused = time.monotonic()
        time.sleep(2 * BOUND)
        assert not [began for began, live in rig.finds if live and began > paused + BOUND]
        group.await_failover(old)
        old.resume()
        valkey.until(lambda: old.role() == "slave", "the old primary follows")
        rig.check(rig.end_when_it_can(), fails=True)


@pytest.mark.skipif(
    pgbouncer.program() is None,
    reason="allowed: no pgbouncer is installed here; it comes with the operating system",
)
def test_behind_a_pooler_the_channel_goes_past_it(servers: dict[str, Any]) -> None:
    """Ends through PgBouncer are told by the direct connection; when that is torn, read through."""
    server = servers["postgres"]
    wire = Wire(server.port)
    name = f"faults{next(_numbers)}"
    try:
        with pgbouncer.in_front_of(server) as port:
            options = f"pgbouncer=1&direct_port={wire.port}"
            url = f"{url_of(server, port, name)}&{options}"
            with rigged(url, url) as rig:
                assert wire.connections == 1
                rig.start_reading()
                wire.stalled = True
                wire.tear()
                acknowledged = rig.end()
                rig.check(acknowledged)
                wait_until_out_of_use(rig)
                wire.stalled = False
                rig.begin()
    finally:
        wire.close()
