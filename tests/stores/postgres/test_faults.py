"""What happens when PostgreSQL, the network or the pool fails, on a server of these tests' own.

For each: nobody gets in who should not, what was acknowledged as ended stays so, the error says
what it is, and recovery needs nobody (P6, P22).
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial

import psycopg
import pytest

from strongroom.core.errors import StoreError, StoreUnavailable
from strongroom.core.ops import Append, EndSubject, Find, Insert, ReadEpoch, ReadHistory
from strongroom.core.record import EndReason, Record
from strongroom.stores.base import Store
from strongroom.stores.postgres import work
from strongroom.stores.urls import open_async_store, open_store
from strongroom.testing.clock import START
from strongroom.testing.records import (
    KEEP,
    MINUTE,
    a_record,
    a_replace,
    a_rotate,
    a_shift,
    a_subject_key,
    a_touch,
    an_end,
    an_entry,
    an_insert,
)
from tests.stores.postgres.kit import (
    IDENTITY,
    either,
    everywhere,
    inserted,
    is_live,
    lines_of,
    opened,
)
from tests.support.servers import postgres

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("postgres")]

BRIEF = 600
"""An op's time in ms where a test waits until it is over."""


@pytest.fixture(scope="module")
def frail() -> Iterator[postgres.Server]:
    """A server that is restarted, killed and paused. Each test leaves it running."""
    with postgres.running(settings={"deadlock_timeout": "100ms", "max_connections": 30}) as server:
        yield server


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """Both kinds of store, through one face."""
    return str(request.param)


@pytest.fixture
def store(frail: postgres.Server, kind: str) -> Iterator[Store]:
    """A store in a database of its own, open, with little patience."""
    with either(kind, frail.url(timeout_ms=BRIEF, pool_max=6)) as store:
        yield store


def again(do: Callable[[], object]) -> None:
    """Wait until the store answers by itself."""

    def answers() -> bool:
        with suppress(StoreUnavailable):
            do()
            return True
        return False

    postgres.until(answers, "the store goes on by itself")


def test_a_restart_is_not_noticed(frail: postgres.Server, store: Store):
    """The pool's connections are all dead; the next read and the next end get new ones."""
    records = [inserted(store) for _ in range(6)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda each: store.find(Find(each.session_id)), records))
    frail.restart()
    assert is_live(store, records[0])
    for record in records:
        assert store.end(an_end(record)).applied
    assert not any(is_live(store, each) for each in records)


def test_a_server_that_dies_amid_revocations_forgets_none(frail: postgres.Server, store: Store):
    """SIGKILL while sessions end: each that was acknowledged is ended afterwards (P6)."""
    records = [inserted(store, subject=f"s{number % 5}") for number in range(300)]
    acknowledged: list[Record] = []
    begun = threading.Event()

    def end(record: Record) -> None:
        with suppress(StoreError):
            if store.end(an_end(record)).applied:
                acknowledged.append(record)
                if len(acknowledged) == 40:
                    begun.set()

    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(end, each) for each in records]
        assert begun.wait(postgres.PATIENCE)
        frail.kill()
        kept = len(acknowledged)
        with pytest.raises(StoreUnavailable):
            store.find(Find(records[0].session_id))
        frail.start()
        for each in running:
            each.result()
    assert kept >= 40
    again(lambda: store.find(Find(records[0].session_id)))
    assert not any(is_live(store, each) for each in acknowledged)
    for record in records:
        store.end(an_end(record))
    assert not any(is_live(store, each) for each in records)


def test_a_server_that_is_gone_says_so(frail: postgres.Server, store: Store):
    """Every op is 503 with the reason; a new store cannot be opened; all by itself it goes on."""
    record = inserted(store)
    frail.stop()
    try:
        for do in (
            lambda: store.find(Find(record.session_id)),
            lambda: store.end(an_end(record)),
            lambda: inserted(store),
        ):
            with pytest.raises(StoreUnavailable, match="lost or could not be made"):
                do()
        with pytest.raises(StoreUnavailable, match="refused"):
            open_store(frail.url("nowhere")).open(bytes(16))
    finally:
        frail.start()
    again(lambda: store.find(Find(record.session_id)))
    assert is_live(store, record)


def test_a_server_that_stands_still_is_not_waited_for(frail: postgres.Server, store: Store):
    """SIGSTOP for longer than an op's time: 503, and afterwards all is as acknowledged (P22)."""
    ended, live = inserted(store), inserted(store)
    assert store.end(an_end(ended)).applied
    frail.pause()
    try:
        for do in (
            lambda: store.find(Find(ended.session_id)),
            lambda: store.end(an_end(live)),
            lambda: store.end_subject(everywhere()),
        ):
            with pytest.raises(StoreUnavailable):
                do()
    finally:
        frail.resume()
    again(lambda: store.find(Find(ended.session_id)))
    assert not is_live(store, ended)
    again(lambda: store.end(an_end(live)))
    assert not is_live(store, live)


def test_a_row_that_somebody_holds_is_not_waited_for_long(frail: postgres.Server, store: Store):
    """Reading goes on; the end is refused in time, and succeeds when the holder is killed."""
    record = inserted(store)
    database = lines_of(store)._shared.settings.address["dbname"]
    with closing(frail.connect(database)) as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT 1 FROM strongroom.session FOR UPDATE")
        assert is_live(store, record)
        with pytest.raises(StoreUnavailable, match=r"(locked|gave up)"):
            store.end(an_end(record))
        assert is_live(store, record), "what was refused was not done"
        holder.execute("SET idle_in_transaction_session_timeout = '50ms'")
        postgres.until(lambda: _ends(store, record), "the holder was killed for being idle")
    assert not is_live(store, record)


def _ends(store: Store, record: Record) -> bool:
    with suppress(StoreUnavailable):
        return store.end(an_end(record)).applied
    return False


def test_a_client_that_stops_amid_a_sign_in_blocks_nobody_for_long(frail: postgres.Server):
    """It holds the subject's line; the server ends it for being idle in a transaction."""
    with opened(frail.url(timeout_ms=300)) as store:
        lines = store._lines
        assert lines is not None
        pool = lines._pool
        first = next(work.insert(store._sql, an_insert(a_record())))
        stuck = pool.getconn(5)
        try:
            for statement in first:
                stuck.execute(statement.text, statement.values or None)
            with pytest.raises(StoreUnavailable):
                store.end_subject(everywhere())
            again(lambda: store.end_subject(everywhere()))
        finally:
            stuck.close()
            pool.putconn(stuck)


def test_a_deadlock_is_tried_again(frail: postgres.Server, kind: str):
    """Somebody's transaction takes our rows in another order: ours is undone, and succeeds then."""
    with either(kind, frail.url(timeout_ms=20_000)) as store:
        first, second = sorted((inserted(store), inserted(store)), key=lambda each: each.session_id)
        database = lines_of(store)._shared.settings.address["dbname"]
        row = "SELECT 1 FROM strongroom.session WHERE session_id = %s FOR UPDATE"
        with closing(frail.connect(database)) as other, ThreadPoolExecutor(1) as thread:
            other.execute("SET deadlock_timeout = '60s'")
            other.execute("BEGIN")
            other.execute(row, (second.session_id,))
            ending = thread.submit(store.end_subject, everywhere())
            postgres.until(lambda: _waiting(frail, database), "the sign-out waits")
            other.execute(row, (first.session_id,))
            other.execute("COMMIT")
            assert len(ending.result()) == 2
        assert "deadlock detected" in frail.log
        assert not is_live(store, first)
        assert not is_live(store, second)


def _waiting(server: postgres.Server, database: str) -> bool:
    return bool(
        server.ask(
            "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'",
            database,
        )
    )


def test_a_full_pool_says_so(frail: postgres.Server, kind: str):
    """Whoever gets no connection in time is told why; then there is one again (P22)."""
    with either(kind, frail.url(timeout_ms=300, pool_max=1)) as store:
        record = inserted(store)
        database = lines_of(store)._shared.settings.address["dbname"]
        with closing(frail.connect(database)) as holder, ThreadPoolExecutor(4) as threads:
            holder.execute("BEGIN")
            holder.execute("SELECT 1 FROM strongroom.session FOR UPDATE")
            failures = [threads.submit(store.end, an_end(record)) for _ in range(4)]
            said = " ".join(str(each.exception()) for each in failures)
            holder.execute("ROLLBACK")
        assert "in use for the whole timeout" in said
        again(lambda: store.end(an_end(record)))
        assert not is_live(store, record)


def test_a_server_without_connections_says_so(frail: postgres.Server, kind: str):
    """Its own words are in the error, and the hint says which number to change."""
    url = frail.url(timeout_ms=BRIEF, pool_min=0)
    with either(kind, url) as store:
        record = inserted(store)
        database = lines_of(store)._shared.settings.address["dbname"]
        frail.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s "
            "AND pid <> pg_backend_pid()",
            database,
        )
        others: list[psycopg.Connection] = []
        try:
            with pytest.raises(psycopg.OperationalError):
                while True:
                    others.append(frail.connect())
            with pytest.raises(StoreUnavailable, match=r"(no connection left|lost)"):
                store.find(Find(record.session_id))
        finally:
            for each in others:
                each.close()
        again(lambda: store.find(Find(record.session_id)))
        assert is_live(store, record)


SLOWLY = """
CREATE FUNCTION strongroom.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_sleep(0.4); RETURN NULL; END $$;
CREATE TRIGGER dawdle AFTER INSERT OR UPDATE ON strongroom.session
    FOR EACH STATEMENT EXECUTE FUNCTION strongroom.dawdle();
"""

CUT = {
    "end": lambda store, record: store.end(an_end(record)),
    "touch": lambda store, record: store.touch(a_touch(record)),
    "shift": lambda store, record: store.shift(a_shift(record)),
    "rotate": lambda store, record: store.rotate(a_rotate(record)),
    "replace": lambda store, record: store.replace(a_replace(record)),
}


@pytest.mark.parametrize("verb", CUT)
@pytest.mark.parametrize("by", ["network", "server"])
def test_a_connection_cut_amid_a_change(frail: postgres.Server, kind: str, verb: str, by: str):
    """Whether it was done or not, it is done once, and answered as what it did (P6, P7)."""
    with either(kind, frail.url(timeout_ms=20_000)) as store:
        record = inserted(store)
        database = _make_slow(frail, store)
        with ThreadPoolExecutor(1) as thread:
            doing = thread.submit(CUT[verb], store, record)
            _cut(frail, store, database, by)
            outcome = doing.result()
        assert outcome.applied
        found = store.find(Find(record.session_id))
        assert found is not None
        assert outcome.record == found.record


@pytest.mark.parametrize("by", ["network", "server"])
def test_a_connection_cut_amid_a_sign_in_and_a_sign_out(frail: postgres.Server, kind: str, by: str):
    """The new session is there once; signing out everywhere tells all that it ended (P15)."""
    with either(kind, frail.url(timeout_ms=20_000)) as store:
        inserted(store)
        database = _make_slow(frail, store)
        with ThreadPoolExecutor(1) as thread:
            op = an_insert(a_record(entropy=os.urandom))
            signing_in = thread.submit(store.insert, op)
            _cut(frail, store, database, by)
            assert signing_in.result().refusal is None
            ending = thread.submit(store.end_subject, everywhere())
            _cut(frail, store, database, by)
            assert len(ending.result()) == 2
        assert not is_live(store, op.record)


def _make_slow(server: postgres.Server, store: Store) -> str:
    database = lines_of(store)._shared.settings.address["dbname"]
    server.ask(SLOWLY, database=database)
    return database


def _cut(server: postgres.Server, store: Store, database: str, by: str) -> None:
    asleep = (
        "SELECT pid FROM pg_stat_activity WHERE datname = %s AND wait_event = 'PgSleep' "
        "AND pid <> ALL (%s)"
    )
    [(pid,)] = postgres.until(lambda: server.ask(asleep, database, []), "the change has begun")
    if by == "server":
        server.ask("SELECT pg_terminate_backend(%s)", pid)
    else:
        lines_of(store).watchdog.cut_all()
    # Until then its locks are held, and a second cut would meet the first attempt.
    alive = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
    postgres.until(lambda: not server.ask(alive, pid), "the cut connection is gone")


def test_a_cancelled_request_does_not_cancel_its_write(frail: postgres.Server):
    """It is carried out, and closing waits for it; a cancelled read leaves the pool as it was."""
    database = frail.new_database()
    with opened(frail.url(database)) as store:
        record = inserted(store)
        _make_slow(frail, store)

    async def cancelled() -> None:
        store = open_async_store(frail.url(database, pool_max=1))
        await store.open(IDENTITY)
        for doing in (store.find(Find(record.session_id)), store.end(an_end(record))):
            task = asyncio.ensure_future(doing)
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.wait([task])
        await store.close()

    asyncio.run(cancelled())
    with opened(frail.url(database)) as store:
        assert not is_live(store, record)


def test_a_history_entry_is_added_once(frail: postgres.Server, store: Store):
    """Also when the answer to the first attempt was lost."""
    entry = an_entry()
    for _ in range(2):
        store.append(Append((entry,), 10))
    assert store.read_history(ReadHistory(entry.subject_key, 10)) == (entry,)


def test_a_server_that_cannot_be_written_is_refused(frail: postgres.Server, kind: str):
    """A standby is never asked, and a server set to read only cannot be opened (H2)."""
    database = frail.new_database()
    with either(kind, frail.url(database)) as store:
        record = inserted(store)
    frail.ask(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    with (
        pytest.raises(StoreUnavailable, match="read-only"),
        either(kind, frail.url(database)) as store,
    ):
        store.find(Find(record.session_id))


def _has(things: Sized, count: int) -> bool:
    return len(things) >= count


def test_signing_out_everywhere_among_a_hundred_sign_ins_a_second(
    frail: postgres.Server, kind: str
):
    """Who began before it is refused or ended; who began after it is in (P15)."""
    with either(kind, frail.url(timeout_ms=20_000, pool_max=8)) as store:
        key = a_subject_key("alice")
        stop = threading.Event()
        signed_in: list[tuple[bytes, Record]] = []
        refused: list[bytes] = []

        def sign_in() -> None:
            while not stop.is_set():
                epoch = store.read_epoch(ReadEpoch(key)).subject
                record = a_record(entropy=os.urandom)
                done = store.insert(Insert(record, START, epoch=epoch))
                if done.record is None:
                    refused.append(epoch)
                else:
                    signed_in.append((epoch, done.record))
                time.sleep(0.03)

        epochs: list[bytes] = []
        with ThreadPoolExecutor(5) as threads:
            running = [threads.submit(sign_in) for _ in range(5)]
            for number in range(1, 7):
                enough = partial(_has, signed_in, 25 * number)
                postgres.until(enough, "sign-ins go on")
                op = EndSubject(
                    key,
                    os.urandom(8),
                    EndReason.EVERYWHERE,
                    START + number * MINUTE,
                    START + KEEP,
                    os.urandom(8),
                )
                store.end_subject(op)
                epochs.append(op.new_epoch)
            postgres.until(lambda: len(signed_in) >= 175, "sign-ins go on")
            stop.set()
            for each in running:
                each.result()
        live = [(epoch, record) for epoch, record in signed_in if is_live(store, record)]
        assert live, "whoever signs in after it is let in"
        assert {epoch for epoch, _ in live} == {epochs[-1]}
        assert epochs[-1] not in refused
