"""Sessions in one SQLite file: the embedded default, for several processes on one machine.

Each write is one transaction: read the row, ask `core.lifecycle` what the op makes of it, write
that. Readers never wait for writers, and a revocation is seen at the next request, because every
check reads the row and the store's epoch in one statement.

**Durability.** `insert`, `rotate`, `end`, `end_subject` and `end_all` are on the disk before they
are acknowledged, whatever then fails. `touch`, `shift`, `replace` and `append` survive the death of
the process, but a power failure may take those of the last second or so. A lost touch makes a
session idle a little early. A lost renewal is one that the browser has and the store has not: its
token equals the record's *next* digest, and is adopted. A lost replace is a lost change of
application data; what must not be lost belongs into the application's own database.

**What it does not do**: work on a network file system, or on several machines.
"""

from __future__ import annotations

import sqlite3
from os import PathLike
from pathlib import Path

from strongroom.core import lifecycle
from strongroom.core.errors import ConfigurationError
from strongroom.core.ops import (
    GONE,
    Append,
    End,
    EndAll,
    EndSubject,
    Epochs,
    Erase,
    Find,
    Found,
    HistoryEntry,
    Insert,
    Inserted,
    ListSubject,
    Outcome,
    ReadClock,
    ReadEpoch,
    ReadHistory,
    Replace,
    Rotate,
    Shift,
    Sweep,
    Touch,
)
from strongroom.stores.base import being_filled

from . import faults, rows
from .connection import Connection, SessionFile
from .contents import SQLiteContents
from .lines import Lines
from .sweeping import sweep

BUSY_TIMEOUT_MS = 2000
"""How long an op waits for other writers before it answers 503: far longer than any write takes,
and far shorter than a browser or a proxy waits."""


class SQLiteStore:
    """A store in the file at `path`. Any thread may call any method; so may a forked child.

    The path is made absolute at once; missing directories are made when the store is opened, for
    this user alone. `busy_timeout_ms` bounds how long one op waits for others' locks.

    Raises:
        ConfigurationError: the path is SQLite's name for no file at all, or a time-out is negative.
    """

    def __init__(
        self, path: str | PathLike[str], *, busy_timeout_ms: int = BUSY_TIMEOUT_MS
    ) -> None:
        _check_settings(str(path), busy_timeout_ms)
        self._file = SessionFile(Path(path).absolute(), busy_timeout_ms)
        self._lines = Lines(self._file)

    def __repr__(self) -> str:
        return f"SQLiteStore({str(self._file.path)!r})"

    def open(self, store_identity: bytes) -> None:
        """Make the file or bring it up to date, and check that it belongs to these keys.

        Raises:
            StoreMismatch: it belongs to other keys, another program or a newer release.
            StoreUnavailable: it cannot be made, opened or written.
            UnreadableRecord: the file is damaged.
        """
        path = self._file.path
        try:
            self._file.prepare(store_identity)
        except sqlite3.Error as error:
            raise faults.translated(error, path) from error
        except OSError as error:
            raise faults.cannot_be_made(error, path) from error

    def close(self) -> None:
        """Close all connections, and end the thread that makes checkpoints."""
        self._lines.close()

    def find(self, op: Find) -> Found | None:
        """Read one record, and the store's epoch with it."""
        return _as_found(self._lines.reading.run(lambda c: rows.find(c, op.session_id)))

    def find_at_once(self, op: Find) -> Found | None:
        """Read one record if that needs no waiting for anybody, for callers in an event loop.

        Raises:
            BlockingIOError: it does need waiting; ask `find` in a thread.
        """
        return _as_found(self._lines.reading.run_at_once(lambda c: rows.find(c, op.session_id)))

    def read_epoch(self, op: ReadEpoch) -> Epochs:
        """Read the subject's epoch, zeros where it never had one, and the store's."""
        return self._lines.reading.run(lambda c: rows.epochs(c, op.subject_key))

    def insert(self, op: Insert) -> Inserted:
        """Add a record, and end those that give way to it. On the disk when it returns."""
        return self._lines.write(lambda c: _insert(c, op), durable=True)

    def touch(self, op: Touch) -> Outcome:
        """Note activity."""
        return self._change(op, durable=False)

    def shift(self, op: Shift) -> Outcome:
        """Replace the credential by compare-and-set on its current digest."""
        return self._change(op, durable=False)

    def rotate(self, op: Rotate) -> Outcome:
        """Replace credential and envelope by compare-and-set. On the disk when it returns."""
        return self._change(op, durable=True)

    def replace(self, op: Replace) -> Outcome:
        """Replace the data by compare-and-set on its version."""
        return self._change(op, durable=False)

    def end(self, op: End) -> Outcome:
        """End one record. On the disk when it returns."""
        return self._change(op, durable=True)

    def end_subject(self, op: EndSubject) -> tuple[Found, ...]:
        """End all live records of the subject but one, and replace its epoch. On the disk then."""
        return self._lines.write(lambda c: _end_subject(c, op), durable=True)

    def end_all(self, op: EndAll) -> None:
        """Replace the store-wide epoch. On the disk when it returns."""
        self._lines.write(lambda c: rows.replace_store_epoch(c, op.new_epoch, op.at), durable=True)

    def list_subject(self, op: ListSubject) -> tuple[Found, ...]:
        """All records of the subject, oldest first."""
        found, epoch = self._lines.reading.run(lambda c: rows.snapshot_of(c, op.subject_key))
        return rows.as_found(rows.oldest_first(row.record() for row in found), epoch)

    def append(self, op: Append) -> None:
        """Add entries to histories; each subject keeps its newest."""
        self._lines.write(lambda c: rows.append_history(c, op), durable=False)

    def read_history(self, op: ReadHistory) -> tuple[HistoryEntry, ...]:
        """The newest entries of the subject, newest first."""
        return self._lines.reading.run(lambda c: rows.read_history(c, op.subject_key, op.limit))

    def erase(self, op: Erase) -> int:
        """Remove the subject's ended records and its history. On the disk when it returns."""
        return self._lines.write(lambda c: _erase(c, op), durable=True)

    def sweep(self, op: Sweep) -> int:
        """Remove at most `op.limit` rows that are due, in bites that hold up nobody for long."""
        return sweep(self._lines, op)

    def read_clock(self, op: ReadClock) -> int | None:
        """No clock of its own: it lives where its processes live."""
        del op
        return None

    def open_to_fill(self, store_identity: bytes) -> None:
        """Open a file that is new, or was being filled before. See `stores.base.Movable`."""
        self.open(being_filled(store_identity))

    def contents(self) -> SQLiteContents:
        """All that the open file keeps."""
        identity = self._file.identity
        if identity is None:
            raise faults.not_open(self._file.path)
        return SQLiteContents(self._lines, identity)

    def _change(self, op: lifecycle.Change, *, durable: bool) -> Outcome:
        return self._lines.write(lambda c: _change(c, op), durable=durable)


def _change(connection: Connection, op: lifecycle.Change) -> Outcome:
    row = rows.find_row(connection, op.session_id)
    if row is None:
        return GONE
    before = row.record()
    outcome = lifecycle.apply(before, op)
    if outcome.applied and outcome.record is not None and outcome.record is not before:
        rows.update(connection, row, before, outcome.record)
    return outcome


def _insert(connection: Connection, op: Insert) -> Inserted:
    subject_key = op.record.subject_key
    existing = rows.find_row(connection, op.record.session_id)
    # A record that cannot be read is not a session anybody is in, so it does not count.
    found = rows.of_subject(connection, subject_key) if op.limit is not None else []
    others = rows.Sorted(found)
    inserted = lifecycle.insert(
        op,
        existing=None if existing is None else existing.record(),
        subject_epoch=rows.subject_epoch(connection, subject_key),
        store_epoch=rows.store_epoch(connection),
        others=others.records,
    )
    if inserted.record is not None and inserted.refusal is None:
        others.update(connection, inserted.evicted)
        others.delete(connection, lifecycle.forgettable(others.records, op.now))
        rows.insert(connection, inserted.record)
    return inserted


def _end_subject(connection: Connection, op: EndSubject) -> tuple[Found, ...]:
    found = rows.Sorted(rows.of_subject(connection, op.subject_key))
    ended = lifecycle.end_subject(found.records, op)
    found.update(connection, ended)
    # What cannot be read cannot be marked as ended, and must not outlive this.
    for row in found.unreadable:
        rows.delete(connection, row)
    rows.replace_subject_epoch(connection, op.subject_key, op.new_epoch, op.at)
    return rows.as_found(ended, rows.store_epoch(connection))


def _erase(connection: Connection, op: Erase) -> int:
    found = rows.Sorted(rows.of_subject(connection, op.subject_key))
    ended = [each for each in found.records if not each.is_live]
    found.delete(connection, ended)
    for row in found.unreadable:
        rows.delete(connection, row)
    gone = len(ended) + len(found.unreadable)
    return gone + rows.delete_history(connection, op.subject_key)


def _as_found(found: tuple[rows.Row, bytes] | None) -> Found | None:
    if found is None:
        return None
    row, epoch = found
    return Found(row.record(), epoch)


def _check_settings(path: str, busy_timeout_ms: int) -> None:
    if path in ("", ":memory:") or path.startswith("file:"):
        raise ConfigurationError(
            f"SQLiteStore needs the path of a file, not {path!r}.",
            why="Every process and every connection would have sessions of its own.",
            hint="Give a path, such as 'var/sessions.db', or use MemoryStore.",
        )
    if busy_timeout_ms < 0:
        raise ConfigurationError(
            f"busy_timeout_ms is {busy_timeout_ms}, and time does not run backwards.",
            hint=f"Give milliseconds; the default is {BUSY_TIMEOUT_MS}.",
        )
