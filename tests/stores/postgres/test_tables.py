"""What is in the tables, and what a change does to them: HOT updates, commits, the sweep."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from strongroom.core.errors import StoreUnavailable, UnreadableRecord
from strongroom.core.ops import Append, EndAll, Erase, Find, ListSubject, ReadEpoch, Sweep
from strongroom.stores.postgres import PostgresStore
from strongroom.stores.postgres.schema import PURGE_SLOT_BITS, lock_number
from strongroom.testing.clock import START
from strongroom.testing.records import (
    KEEP,
    MINUTE,
    a_replace,
    a_rotate,
    a_shift,
    a_subject_key,
    a_touch,
    an_end,
    an_entry,
)
from tests.stores.postgres.kit import everywhere, inserted, opened
from tests.support.servers import postgres

SLOT = 1 << PURGE_SLOT_BITS


@pytest.fixture
def db(server: postgres.Server) -> str:
    """A database of the test's own."""
    return server.new_database()


@pytest.fixture
def store(server: postgres.Server, db: str) -> Iterator[PostgresStore]:
    """A store in it, open."""
    with opened(server.url(db)) as store:
        yield store


def test_a_touch_is_a_hot_update(server: postgres.Server, db: str, store: PostgresStore):
    """Touches touch no index: every update is HOT (TRAPS 4.4)."""
    records = [inserted(store, subject=f"s{number}") for number in range(20)]
    for minute in range(1, 26):
        for record in records:
            op = a_touch(record, later=minute * 15 * MINUTE)
            assert store.touch(op).applied
    store.close()  # a server's process hands its statistics in when it ends
    sums = "SELECT sum(n_tup_upd)::int, sum(n_tup_hot_upd)::int FROM pg_stat_user_tables"
    with closing(server.connect(db)) as connection:

        def counted() -> object:
            connection.execute("SELECT pg_stat_clear_snapshot()")
            [(updates, hot)] = connection.execute(
                f"{sums} WHERE relname = 'session'".encode()
            ).fetchall()
            return (updates, hot) if updates >= 500 else None

        updates, hot = postgres.until(counted, "the server's statistics are in")
    assert updates == 500
    # Where a page has no room left for a moment, PostgreSQL takes another page: seldom.
    assert hot >= 0.95 * updates


def test_no_index_is_on_what_a_touch_changes(
    server: postgres.Server, db: str, store: PostgresStore
):
    """And the one that the sweep uses stays where it was, until the sweep itself moves it."""
    record = inserted(store)
    slots = "SELECT purge_slot, purge_at FROM strongroom.session"
    [(before, _)] = server.ask(slots, database=db)
    store.touch(a_touch(record, later=KEEP))
    [(after, purge_at)] = server.ask(slots, database=db)
    assert after == before < purge_at >> PURGE_SLOT_BITS
    # Its old place has passed: it is not due, stays, and goes to its new place once.
    assert store.sweep(Sweep(record.header.purge_at + SLOT, 10)) == 0
    [(moved, _)] = server.ask(slots, database=db)
    assert moved == purge_at >> PURGE_SLOT_BITS
    assert store.sweep(Sweep(purge_at - 1, 10)) == 0
    assert store.sweep(Sweep(purge_at, 10)) == 1


def test_an_end_brings_the_purge_forward(store: PostgresStore):
    """What may go earlier is found earlier."""
    record = inserted(store)
    store.end(an_end(record, purge_at=START + 5))
    assert store.sweep(Sweep(START + 5, 10)) == 1


def flushed(server: postgres.Server, db: str) -> bool:
    """Whether all that was written to the log so far is on the disk."""
    [(is_flushed,)] = server.ask(
        "SELECT pg_current_wal_insert_lsn() <= pg_current_wal_flush_lsn()", database=db
    )
    return bool(is_flushed)


def test_what_must_not_be_lost_waits_for_the_disk():
    """Ends, sign-ins and rotations do, also where the database's default is not to wait."""
    # Nothing but a commit that waits writes the log within the test.
    settings: dict[str, str | int] = {
        "synchronous_commit": "off",
        "wal_writer_delay": "10s",
        "wal_writer_flush_after": 0,
        "autovacuum": "off",
        "bgwriter_lru_maxpages": 0,
    }
    with postgres.running(settings=settings) as server:
        db = server.new_database()
        with opened(server.url(db)) as store:
            record = inserted(store)
            assert flushed(server, db), "insert"
            store.rotate(a_rotate(record))
            assert flushed(server, db), "rotate"
            store.end(an_end(record))
            assert flushed(server, db), "end"
            inserted(store)
            store.end_subject(everywhere())
            assert flushed(server, db), "end_subject"
            store.append(Append((an_entry(),), 10))
            store.erase(Erase(record.subject_key))
            assert flushed(server, db), "erase"
            store.end_all(EndAll(os.urandom(8), START))
            assert flushed(server, db), "end_all"
            kept, ended = inserted(store), inserted(store, subject="bob")
            store.end(an_end(ended))
            server.kill()
            server.start()
            assert store.find(Find(kept.session_id)) is not None
            assert store.find(Find(record.session_id)) is None
            found = store.find(Find(ended.session_id))
            assert found is not None
            assert not found.record.is_live


def note_commits(server: postgres.Server, db: str) -> None:
    """Have the server log how each change of a session or a history is committed."""
    server.ask(
        "CREATE FUNCTION strongroom.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE WARNING 'commit %', current_setting('synchronous_commit'); RETURN NEW; END $$",
        database=db,
    )
    for table in ("session", "history"):
        server.ask(
            f"CREATE TRIGGER note BEFORE INSERT OR UPDATE ON strongroom.{table} FOR EACH ROW "
            "EXECUTE FUNCTION strongroom.note()",
            database=db,
        )


COMMITS = {
    "touch": (lambda store, record: store.touch(a_touch(record)), "off"),
    "shift": (lambda store, record: store.shift(a_shift(record)), "off"),
    "replace": (lambda store, record: store.replace(a_replace(record)), "off"),
    "append": (lambda store, record: store.append(Append((an_entry(),), 10)), "off"),
    "insert": (lambda store, record: inserted(store), None),
    "rotate": (lambda store, record: store.rotate(a_rotate(record)), None),
    "end": (lambda store, record: store.end(an_end(record)), None),
    "end_subject": (lambda store, record: store.end_subject(everywhere()), None),
}


@pytest.mark.parametrize("name", COMMITS)
@pytest.mark.parametrize(("default", "durable"), [("off", "on"), ("remote_apply", "remote_apply")])
def test_what_waits_for_the_disk(server: postgres.Server, name: str, default: str, durable: str):
    """Ends, sign-ins and rotations do whatever the default; a stronger default stays (P6)."""
    write, expected = COMMITS[name]
    db = server.new_database()
    with opened(server.url(db)) as store:
        record = inserted(store)
        note_commits(server, db)
    server.ask(f"ALTER DATABASE {db} SET synchronous_commit = '{default}'")
    before = len(server.log)
    with opened(server.url(db)) as store:
        write(store, record)
    noted = set(re.findall(r"WARNING:  commit (\w+)", server.log[before:]))
    assert noted == {expected or durable}


def test_a_database_that_wants_serializable_gets_along(server: postgres.Server):
    """Another default isolation changes nothing: what is refused for it is tried again."""
    db = server.new_database()
    server.ask(f"ALTER DATABASE {db} SET default_transaction_isolation = 'serializable'")
    with opened(server.url(db, timeout_ms=20_000)) as store:
        record = inserted(store)
        threads = [
            threading.Thread(target=store.touch, args=(a_touch(record, later=each * MINUTE),))
            for each in range(1, 9)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = store.find(Find(record.session_id))
        assert found is not None
        assert found.record.header.last_seen == record.header.last_seen + 8 * MINUTE


def test_a_damaged_row_is_said_and_is_ended(server: postgres.Server, db: str, store: PostgresStore):
    """It is 503 where it is asked for, and does not outlive a sign-out everywhere (C4)."""
    record, good = inserted(store), inserted(store)
    server.ask(
        "UPDATE strongroom.session SET header = '\\x00ff' WHERE session_id = %s",
        record.session_id,
        database=db,
    )
    with pytest.raises(UnreadableRecord):
        store.find(Find(record.session_id))
    with pytest.raises(UnreadableRecord):
        store.list_subject(ListSubject(a_subject_key("alice")))
    ended = store.end_subject(everywhere())
    assert [each.record.session_id for each in ended] == [good.session_id]
    assert store.find(Find(record.session_id)) is None


def test_a_store_without_its_row_lets_nobody_in(
    server: postgres.Server, db: str, store: PostgresStore
):
    """Without the epoch that every record must carry none can be judged (E3)."""
    record = inserted(store)
    server.ask("DELETE FROM strongroom.store", database=db)
    for ask in (
        lambda: store.find(Find(record.session_id)),
        lambda: store.read_epoch(ReadEpoch(a_subject_key("alice"))),
        lambda: store.end_all(EndAll(os.urandom(8), START)),
        lambda: inserted(store),
    ):
        with pytest.raises(StoreUnavailable, match="row is missing"):
            ask()


def test_one_process_sweeps_at_a_time(server: postgres.Server, db: str, store: PostgresStore):
    """Who finds another at it does nothing, and waits for nobody."""
    inserted(store, purge_at=START)
    with closing(server.connect(db)) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (lock_number("strongroom", "sweep"),))
        assert store.sweep(Sweep(START, 10)) == 0
    postgres.until(lambda: store.sweep(Sweep(START, 10)) == 1, "the other's lock is gone")


def test_a_sweep_passes_over_rows_in_use(server: postgres.Server, db: str, store: PostgresStore):
    """A row that somebody holds is left for the next time."""
    held, free = (inserted(store, purge_at=START) for _ in range(2))
    with closing(server.connect(db)) as other, other.transaction():
        other.execute(
            "SELECT 1 FROM strongroom.session WHERE session_id = %s FOR UPDATE",
            (held.session_id,),
        )
        assert store.sweep(Sweep(START, 10)) == 1
        assert store.find(Find(free.session_id)) is None
    assert store.sweep(Sweep(START, 10)) == 1


def test_a_change_reads_and_writes_without_a_transaction_open(
    server: postgres.Server, db: str, store: PostgresStore
):
    """Between its two round trips it holds nothing: who is cut there blocks nobody (0030)."""
    record = inserted(store)
    server.ask("ALTER DATABASE {} SET log_statement = 'all'".format(db))  # noqa: UP032
    with opened(server.url(db)) as watched:
        before = len(server.log)
        watched.touch(a_touch(record))
        watched.end(an_end(replace(record)))
    assert "BEGIN" not in server.log[before:]
