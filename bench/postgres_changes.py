"""What a change costs in PostgreSQL, three ways, and what it costs to tell about it.

    python -m bench.postgres_changes

Starts a server of its own, with fsync. A change (a touch) is made by compare-and-set as the store
does it; in a transaction that locks the row; and by a function in the server. Then ends and touches
are made with and without the triggers that tell watchers. The ways take turns, so that a busy
machine is unkind to all alike. docs/decisions/0030 and 0032 draw their conclusions from it.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial

from strongroom.core import lifecycle
from strongroom.core.ops import End, Find, Outcome, Touch
from strongroom.core.record import Record, decode_header
from strongroom.stores.postgres import PostgresStore
from strongroom.stores.postgres.statements import BEGIN, COMMIT, RELAXED, Statement, Statements
from strongroom.stores.postgres.work import Work
from strongroom.stores.urls import open_store
from strongroom.testing.records import a_record, a_touch, an_end, an_insert
from tests.support.servers import postgres

SESSIONS = 400
ROUNDS = 12
THREADS = 8

Way = Callable[[int], object]

# Bytes 5 of the header is the end's reason; the moments are at 111 (last seen), 119, 127.
FUNCTION = """
CREATE FUNCTION touch_there(id bytea, rev bytea, seen bytea, idle bytea, purge bytea, at bigint)
RETURNS TABLE (subject_key bytea, header bytea, envelope bytea, data bytea) LANGUAGE plpgsql AS $$
DECLARE was record; h bytea;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT s.subject_key, s.header, s.envelope, s.data INTO was
    FROM strongroom.session s WHERE s.session_id = id FOR UPDATE;
    IF NOT FOUND OR get_byte(was.header, 4) <> 0 THEN RETURN; END IF;
    h := overlay(was.header PLACING rev FROM 10);
    h := overlay(h PLACING greatest(substr(h, {seen}, 8), seen) FROM {seen});
    h := overlay(h PLACING greatest(substr(h, {idle}, 8), idle) FROM {idle});
    h := overlay(h PLACING greatest(substr(h, {purge}, 8), purge) FROM {purge});
    UPDATE strongroom.session s SET header = h, purge_at = at WHERE s.session_id = id;
    RETURN QUERY SELECT was.subject_key, h, was.envelope, was.data;
END $$
"""


def locked(sql: Statements, op: Touch, again: bool = False) -> Work[Outcome]:
    """A transaction that locks the row, in two round trips."""
    del again
    *_, rows = yield (BEGIN, RELAXED, Statement(sql.find_row_locked, (op.session_id,)))
    session_id, subject_key, raw, envelope, data = rows[0]
    header, tail = decode_header(raw)
    outcome = lifecycle.apply(Record(session_id, subject_key, header, envelope, data, tail), op)
    assert outcome.record is not None
    values = (outcome.record.header.encode(tail), op.purge_at, 2**30, session_id, raw)
    update = sql.update(envelope=False, data=False, durable=False)
    yield (Statement(update, values), COMMIT)
    return outcome


def inside(sql: Statements, op: Touch, again: bool = False) -> Work[bytes]:
    """A function in the server, in one round trip."""
    del sql, again
    moments = [each.to_bytes(8, "big") for each in (op.seen_at, op.idle_deadline, op.purge_at)]
    text = b"SELECT * FROM touch_there(%b, %b, %b, %b, %b, %s::bigint)"
    [rows] = yield (Statement(text, (op.session_id, op.revision, *moments, op.purge_at)),)
    decode_header(rows[0][1])
    return bytes(rows[0][1])


def offsets() -> dict[str, int]:
    """Where the moments stand in a header, counted from one."""
    at = a_record(last_seen=2**40 + 1, idle_deadline=2**40 + 2, purge_at=2**40 + 3)
    raw = at.header.encode()
    return {
        name: raw.index((2**40 + number).to_bytes(8, "big")) + 1
        for number, name in enumerate(("seen", "idle", "purge"), 1)
    }


def in_turns(ways: dict[str, Way], each: int) -> None:
    """Print each way's median and 99th percentile, one after the other in flight."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    step = 0
    for _ in range(ROUNDS):
        for name, way in ways.items():
            for _ in range(each):
                step += 1
                began = time.perf_counter()
                way(step)
                times[name].append((time.perf_counter() - began) * 1e6)
    for name, taken in times.items():
        p99 = statistics.quantiles(taken, n=100)[98]
        print(f"{name:48} median {statistics.median(taken):7.0f} us   p99 {p99:7.0f} us")


def together(ways: dict[str, Way], each: int) -> None:
    """Print how many ops a second so many threads get done."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    step = 0
    for _ in range(ROUNDS):
        for name, way in ways.items():

            def run(first: int, way: Way = way) -> None:
                for number in range(each):
                    way(first + number)

            threads = [
                threading.Thread(target=run, args=(step + number * each,))
                for number in range(THREADS)
            ]
            step += THREADS * each
            began = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            rates[name].append(THREADS * each / (time.perf_counter() - began))
    for name, taken in rates.items():
        print(f"{name:48} {statistics.median(taken):7.0f} a second in {THREADS} threads")


def main() -> None:
    """Measure, and print."""
    with postgres.running(settings={"fsync": "on"}) as server:
        database = server.new_database()
        store = open_store(server.url(database, pool_max=THREADS, timeout_ms=20_000))
        assert isinstance(store, PostgresStore)
        store.open(bytes(16))
        server.ask(FUNCTION.format(**offsets()), database=database)
        records = [
            store.insert(an_insert(a_record(subject=f"{n % 100}", envelope=bytes(250)))).record
            for n in range(SESSIONS)
        ]
        known = [each for each in records if each is not None]

        moments = itertools.count(1)

        def touched(step: int) -> Touch:
            return a_touch(known[step * 7 % SESSIONS], later=next(moments))

        def by(body: Callable[..., Work[object]], step: int) -> object:
            lines = store._lines
            assert lines is not None
            return lines.run(partial(body, store._sql, touched(step)), 20.0)

        ways: dict[str, Way] = {
            "find": lambda step: store.find(Find(known[step % SESSIONS].session_id)),
            "touch, compare-and-set (2 round trips)": lambda step: store.touch(touched(step)),
            "touch, locking transaction (2 pipelines)": partial(by, locked),
            "touch, function in the server (1 round trip)": partial(by, inside),
        }
        in_turns(ways, 100)
        together(ways, 25)

        def end(_step: int) -> Outcome:
            record = store.insert(an_insert(a_record(subject=None))).record
            assert record is not None
            op: End = an_end(record)
            return store.end(op)

        for state in ("ENABLE", "DISABLE"):
            server.ask(f"ALTER TABLE strongroom.session {state} TRIGGER USER", database=database)
            word = "told" if state == "ENABLE" else "not told"
            told: dict[str, Way] = {
                f"touch, {word}": lambda step: store.touch(touched(step)),
                f"insert and end (both durable), {word}": end,
            }
            in_turns(told, 50)
            together(told, 10)
        store.close()


if __name__ == "__main__":
    main()
