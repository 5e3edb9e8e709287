"""Records, epochs and histories as rows: all of the store's SQL but the tables themselves.

Every statement runs to its end before its function returns (`fetchall`, never a cursor kept), and
all values are parameters.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from strongroom.core.errors import UnreadableRecord
from strongroom.core.ops import Append, Epochs, Found, HistoryEntry
from strongroom.core.record import NO_EPOCH, NO_SUBJECT, Record, decode_header

from .schema import PURGE_SLOT_BITS, one_view


class Row(NamedTuple):
    """A session as the table has it. The header's column holds its unknown tail too."""

    id: int
    session_id: bytes
    subject_key: bytes | None
    header: bytes
    envelope: bytes
    data: bytes

    def record(self) -> Record:
        """The row as a record.

        Raises:
            UnreadableRecord: the header is damaged or of a release after the next.
        """
        header, tail = decode_header(self.header)
        return Record(
            session_id=self.session_id,
            subject_key=NO_SUBJECT if self.subject_key is None else self.subject_key,
            header=header,
            envelope=self.envelope,
            data=self.data,
            tail=tail,
        )


_ROW = "SELECT session.id, session_id, subject_key, header, envelope, data"
# The store's epoch comes with the record, in one view of the file: `end_all` is seen at the next
# request.
_FIND = f"{_ROW}, epoch FROM session, store WHERE session_id = ? AND store.id = 1"
_FIND_ROW = f"{_ROW} FROM session WHERE session_id = ?"
_OF_SUBJECT = f"{_ROW} FROM session WHERE subject_key = ?"
_INSERT = (
    "INSERT INTO session "
    "(session_id, purge_slot, purge_at, header, subject_key, envelope, data) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)


def find(connection: sqlite3.Connection, session_id: bytes) -> tuple[Row, bytes] | None:
    """The session's row and the store's epoch."""
    for found in connection.execute(_FIND, (session_id,)).fetchall():
        return Row(*found[:-1]), found[-1]
    return None


def find_row(connection: sqlite3.Connection, session_id: bytes) -> Row | None:
    """The session's row."""
    for found in connection.execute(_FIND_ROW, (session_id,)).fetchall():
        return Row(*found)
    return None


def of_subject(connection: sqlite3.Connection, subject_key: bytes) -> list[Row]:
    """The subject's rows, in no order. Nobody is not a subject, and has none."""
    return [Row(*each) for each in connection.execute(_OF_SUBJECT, (subject_key,)).fetchall()]


class Sorted:
    """A subject's rows: the records among them, oldest first, and the rows that nobody can read."""

    def __init__(self, found: Iterable[Row]) -> None:
        self.unreadable: list[Row] = []
        self._read: dict[bytes, tuple[Row, Record]] = {}
        for row in found:
            try:
                self._read[row.session_id] = row, row.record()
            except UnreadableRecord:
                self.unreadable.append(row)
        self.records = oldest_first(record for _, record in self._read.values())

    def update(self, connection: sqlite3.Connection, changed: Iterable[Record]) -> None:
        """Write those of the records that changed."""
        for record in changed:
            row, before = self._read[record.session_id]
            update(connection, row, before, record)

    def delete(self, connection: sqlite3.Connection, gone: Iterable[Record]) -> None:
        """Remove the rows of these records."""
        for record in gone:
            delete(connection, self._read[record.session_id][0])


def oldest_first(records: Iterable[Record]) -> list[Record]:
    """The records by the moment they were inserted."""
    return sorted(records, key=lambda each: each.header.inserted_at)


def insert(connection: sqlite3.Connection, record: Record) -> None:
    """Add a record; its index comes with it."""
    purge_at = record.header.purge_at
    subject_key = None if record.subject_key == NO_SUBJECT else record.subject_key
    connection.execute(
        _INSERT,
        (
            record.session_id,
            purge_at >> PURGE_SLOT_BITS,
            purge_at,
            record.header.encode(record.tail),
            subject_key,
            record.envelope,
            record.data,
        ),
    )


def update(connection: sqlite3.Connection, row: Row, before: Record, after: Record) -> None:
    """Write what changed, and leave alone what did not: an untouched index costs nothing."""
    columns: dict[str, object] = {"header": after.header.encode(after.tail)}
    was, now = before.header.purge_at, after.header.purge_at
    if now != was:
        columns["purge_at"] = now
    if now >> PURGE_SLOT_BITS != was >> PURGE_SLOT_BITS:
        columns["purge_slot"] = now >> PURGE_SLOT_BITS
    if after.envelope != before.envelope:
        columns["envelope"] = after.envelope
    if after.data != before.data:
        columns["data"] = after.data
    assignments = ", ".join(f"{name} = ?" for name in columns)
    connection.execute(
        f"UPDATE session SET {assignments} WHERE id = ?",  # noqa: S608 - the names stand above
        (*columns.values(), row.id),
    )


def delete(connection: sqlite3.Connection, row: Row) -> None:
    """Remove a row."""
    connection.execute("DELETE FROM session WHERE id = ?", (row.id,))


def store_epoch(connection: sqlite3.Connection) -> bytes:
    """The store-wide epoch."""
    epoch: bytes = connection.execute("SELECT epoch FROM store WHERE id = 1").fetchall()[0][0]
    return epoch


def replace_store_epoch(connection: sqlite3.Connection, epoch: bytes, at: int) -> None:
    """Let every record that carries another epoch be dead."""
    connection.execute(
        "UPDATE store SET epoch = ?, epoch_replaced_at = ? WHERE id = 1", (epoch, at)
    )


def subject_epoch(connection: sqlite3.Connection, subject_key: bytes) -> bytes:
    """The subject's epoch, zeros where it never had one."""
    statement = "SELECT epoch FROM subject_epoch WHERE subject_key = ?"
    for (epoch,) in connection.execute(statement, (subject_key,)).fetchall():
        return bytes(epoch)
    return NO_EPOCH


def replace_subject_epoch(
    connection: sqlite3.Connection, subject_key: bytes, epoch: bytes, at: int
) -> None:
    """Let every sign-in of the subject that began before be refused."""
    connection.execute(
        "INSERT INTO subject_epoch (subject_key, epoch, replaced_at) VALUES (?, ?, ?) "
        "ON CONFLICT (subject_key) DO UPDATE "
        "SET epoch = excluded.epoch, replaced_at = excluded.replaced_at",
        (subject_key, epoch, at),
    )


def epochs(connection: sqlite3.Connection, subject_key: bytes) -> Epochs:
    """The subject's epoch and the store's, in one view of the file."""
    with one_view(connection):
        return Epochs(subject_epoch(connection, subject_key), store_epoch(connection))


def snapshot_of(connection: sqlite3.Connection, subject_key: bytes) -> tuple[list[Row], bytes]:
    """The subject's rows and the store's epoch, in one view of the file."""
    with one_view(connection):
        return of_subject(connection, subject_key), store_epoch(connection)


def as_found(records: Iterable[Record], epoch: bytes) -> tuple[Found, ...]:
    """Records with the store's epoch."""
    return tuple(Found(each, epoch) for each in records)


def append_history(connection: sqlite3.Connection, op: Append) -> None:
    """Add the entries, and forget the oldest of each subject that they push out."""
    connection.executemany(
        "INSERT INTO history (subject_key, at, purge_at, key_id, sealed) VALUES (?, ?, ?, ?, ?)",
        [
            (each.subject_key, each.at, each.purge_at, each.key_id, each.sealed)
            for each in op.entries
        ],
    )
    connection.executemany(
        "DELETE FROM history WHERE id IN (SELECT id FROM history WHERE subject_key = ? "
        "ORDER BY at DESC, id DESC LIMIT -1 OFFSET ?)",
        [(key, op.keep) for key in {each.subject_key for each in op.entries}],
    )


def delete_history(connection: sqlite3.Connection, subject_key: bytes) -> int:
    """Remove all entries of the subject -> how many."""
    return connection.execute("DELETE FROM history WHERE subject_key = ?", (subject_key,)).rowcount


def read_history(
    connection: sqlite3.Connection, subject_key: bytes, limit: int
) -> tuple[HistoryEntry, ...]:
    """The subject's newest entries, newest first."""
    rows = connection.execute(
        "SELECT at, purge_at, sealed, key_id FROM history WHERE subject_key = ? "
        "ORDER BY at DESC, id DESC LIMIT ?",
        (subject_key, limit),
    ).fetchall()
    return tuple(HistoryEntry(subject_key, *row) for row in rows)
