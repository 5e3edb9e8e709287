"""What a session weighs and what an op costs among ten thousand, a hundred thousand, a million.

    make scale                                     every store at every size, some twenty minutes
    make scale ARGS="--stores sqlite --sizes 10000,100000"

Each store is filled with sessions of two factors and a device, 200 bytes of data, five for each
subject, so a million are those of 200,000 subjects. Then its ops are done one after the other on
subjects and sessions drawn at random, on one connection, and the median is told beside what it was
at the first size: an op that scans would grow with the total. The servers are the tests' own, on
this machine; a network adds its round trip to each op.
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strongroom.core.ops import (
    AtLimit,
    EndSubject,
    Find,
    Insert,
    Limit,
    ListSubject,
    Sweep,
)
from strongroom.core.record import EndReason, Record
from strongroom.stores.base import Kept
from strongroom.stores.memory import MemoryStore
from strongroom.stores.urls import open_store
from strongroom.testing.clock import START
from strongroom.testing.records import IDENTITY, KEEP, a_record, a_subject_key, a_touch
from tests.support.servers import postgres, valkey

SIZES = (10_000, 100_000, 1_000_000)
EACH = 5
"""Sessions of one subject."""
BATCH = 1_000
ROUNDS = 300
DUE = 2_000
"""Sessions that a sweep finds due."""
LATER = START + 10 * KEEP
ENVELOPE, DATA = 178, 229
"""Bytes of what is sealed: a subject with two factors, a device and an address; 200 bytes of data.
docs/valkey.md has how they come about."""


@dataclass
class Place:
    """A store that is measured: open, with what it takes on its server or disk."""

    name: str
    store: Any
    weigh: Callable[[], int]
    sweeps: bool = True


@dataclass
class Row:
    """One store at one size. Times are microseconds, medians of one op each."""

    name: str
    sessions: int
    weight: int = 0
    times: dict[str, float] = field(default_factory=dict[str, float])


def main() -> int:
    """Measure and print a table -> 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--stores", default=",".join(STORES))
    options = parser.parse_args()
    for name in options.stores.split(","):
        rows: list[Row] = []
        for size in map(int, options.sizes.split(",")):
            with STORES[name]() as place:
                rows.append(measured(place, size))
            sys.stdout.write(told(rows[-1], rows[0]))
            sys.stdout.flush()
    return 0


def told(row: Row, first: Row) -> str:
    """The row as a line of a Markdown table; each time beside its growth since the first size."""
    cells = [f"{row.name}, {row.sessions:,}", f"{row.weight:,}"]
    for op, took in row.times.items():
        grown = "" if row is first else f" ({took / first.times[op]:.2f}x)"
        cells.append(f"{took:,.0f}{grown}")
    head = ""
    if row is first:
        names = ["store, sessions", "bytes a session", *row.times]
        head = f"\n| {' | '.join(names)} |\n|{'---|' * len(names)}\n"
    return f"{head}| {' | '.join(cells)} |\n"


def measured(place: Place, size: int) -> Row:
    """Fill the store, weigh it, and time its ops."""
    row = Row(place.name, size)
    before = place.weigh()
    records = list(_filled(place.store, size))
    row.weight = round((place.weigh() - before) / size)
    draw = random.Random(size)
    store, times = place.store, row.times
    subjects = draw.sample(range(size // EACH), 2 * ROUNDS)
    times["find"] = _median(lambda: Find(draw.choice(records).session_id), store.find)
    times["touch"] = _median(lambda: a_touch(draw.choice(records)), store.touch)
    listed = iter(subjects[:ROUNDS])
    times["list one subject"] = _median(lambda: ListSubject(_key(next(listed))), store.list_subject)
    limited = iter(subjects[:ROUNDS])
    times["sign in"] = _median(lambda: _insert(next(limited)), store.insert)
    ended = iter(subjects[ROUNDS:])
    times["end one subject"] = _median(lambda: _everywhere(next(ended)), store.end_subject)
    if place.sweeps:
        _make_due(store)
        took, swept = _timed(lambda: _sweep(store))
        assert swept == DUE, swept
        times["sweep, a session"] = took / swept
        times["sweep of nothing"] = _median(lambda: Sweep(START + 1, 500), store.sweep)
    return row


def _filled(store: Any, size: int) -> Iterator[Record]:
    """Fill the store, past its ops, and keep some of the records to ask for."""
    kept = max(size // 10_000, 1)
    for start in range(0, size, BATCH):
        records = [_record(number) for number in range(start, min(start + BATCH, size))]
        _put(store, records)
        yield from records[::kept]


def _put(store: Any, records: list[Record]) -> None:
    if isinstance(store, MemoryStore):
        for record in records:
            store.insert(Insert(record, START))
    else:
        whole = {each.session_id: each for each in records}
        store.contents().write(Kept.SESSIONS, whole, START)


def _record(number: int, **header: Any) -> Record:
    return a_record(
        subject=_name(number // EACH),
        entropy=os.urandom,
        envelope=os.urandom(ENVELOPE),
        data=os.urandom(DATA),
        **{"purge_at": LATER, **header},
    )


def _name(number: int) -> str:
    return f"subject {number}"


def _key(number: int) -> bytes:
    return a_subject_key(_name(number))


def _insert(subject: int) -> Insert:
    """A sign-in that is counted against a limit, and ends nobody."""
    limit = Limit(EACH * 10, AtLimit.EVICT_OLDEST)
    return Insert(_record(subject * EACH), START, None, limit, LATER)


def _everywhere(subject: int) -> EndSubject:
    new = os.urandom(16)
    return EndSubject(
        _key(subject), new[:8], EndReason.EVERYWHERE, START, START + KEEP, new_epoch=new[8:]
    )


def _make_due(store: Any) -> None:
    for start in range(0, DUE, BATCH):
        records = [
            _record(EACH * number, purge_at=START, inserted_at=START)
            for number in range(start, start + BATCH)
        ]
        _put(store, records)


def _sweep(store: Any) -> int:
    removed = 0
    while done := store.sweep(Sweep(START, 500)):
        removed += done
    return removed


def _timed(work: Callable[[], int]) -> tuple[float, int]:
    began = time.perf_counter()
    done = work()
    return (time.perf_counter() - began) * 1e6, done


def _median(make: Callable[[], Any], work: Callable[[Any], Any]) -> float:
    """The median time of the work, on as many ops as there are rounds."""
    took: list[float] = []
    for _ in range(ROUNDS):
        op = make()
        began = time.perf_counter()
        work(op)
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e6


@contextmanager
def _memory() -> Iterator[Place]:
    store = MemoryStore(max_records=2 * max(SIZES))
    store.open(IDENTITY)
    yield Place("memory", store, _resident)
    store.close()


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def _sqlite() -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"

        def weigh() -> int:
            with sqlite3.connect(path) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                told = [connection.execute(f"PRAGMA {name}").fetchone()[0]
                        for name in ("page_count", "freelist_count", "page_size")]  # fmt: skip
            connection.close()
            return int((told[0] - told[1]) * told[2])

        yield from _opened("SQLite", f"sqlite:///{path}", weigh)


@contextmanager
def _valkey() -> Iterator[Place]:
    with valkey.single() as server:
        yield from _opened("Valkey", server.url, lambda: _used(server), sweeps=False)


@contextmanager
def _cluster() -> Iterator[Place]:
    with valkey.cluster() as group:

        def weigh() -> int:
            return sum(_used(node) for node in group.nodes if node.role() == "master")

        yield from _opened("Valkey cluster", group.url, weigh, sweeps=False)


def _used(server: valkey.Server) -> int:
    told: bytes = server.ask("INFO", "memory")
    lines = dict(line.split(b":", 1) for line in told.splitlines() if b":" in line)
    return int(lines[b"used_memory_dataset"]) + int(lines[b"used_memory_overhead"])


@contextmanager
def _postgres() -> Iterator[Place]:
    with postgres.running() as server:
        name = server.new_database()

        def weigh() -> int:
            server.ask("VACUUM", database=name)
            [(size,)] = server.ask("SELECT pg_database_size(current_database())", database=name)
            return int(size)

        yield from _opened("PostgreSQL", server.url(name), weigh)


def _opened(
    name: str, url: str, weigh: Callable[[], int], *, sweeps: bool = True
) -> Iterator[Place]:
    store: Any = open_store(url)
    store.open_to_fill(IDENTITY)
    with ExitStack() as stack:
        stack.callback(store.close)
        yield Place(name, store, weigh, sweeps)


STORES = {
    "memory": _memory,
    "sqlite": _sqlite,
    "valkey": _valkey,
    "cluster": _cluster,
    "postgres": _postgres,
}


if __name__ == "__main__":
    raise SystemExit(main())
