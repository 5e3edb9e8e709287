"""All that the file keeps, for moving it to another store and from one: see `stores.base.Contents`.

Rows are walked by their number, so a walk sees every row that is there all the while.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from strongroom.core.errors import UnreadableRecord
from strongroom.core.ops import Append, HistoryEntry
from strongroom.core.record import Record
from strongroom.stores.base import Kept, KeptEpoch, not_being_filled

from . import rows
from .connection import Connection
from .lines import Lines

BATCH = 200

# A subject's history is many rows, and is walked by its subject.
_WALKS = {
    Kept.SESSIONS: "SELECT id, session_id FROM session WHERE id > ? ORDER BY id LIMIT ?",
    Kept.EPOCHS: "SELECT id, subject_key FROM subject_epoch WHERE id > ? ORDER BY id LIMIT ?",
    Kept.HISTORIES: "SELECT DISTINCT subject_key, subject_key FROM history "
    "WHERE subject_key > ? ORDER BY subject_key LIMIT ?",
}
_REMOVALS = {
    Kept.SESSIONS: "DELETE FROM session WHERE session_id = ?",
    Kept.EPOCHS: "DELETE FROM subject_epoch WHERE subject_key = ?",
    Kept.HISTORIES: "DELETE FROM history WHERE subject_key = ?",
}
_SIZE = (
    "SELECT (SELECT count(*) FROM session) + (SELECT count(*) FROM subject_epoch) "
    "+ (SELECT count(DISTINCT subject_key) FROM history)"
)


class SQLiteContents:
    """The contents of an open store's file. `identity` is what the file has to bear."""

    def __init__(self, lines: Lines, identity: bytes) -> None:
        self._lines = lines
        self._identity = identity

    def size(self) -> int:
        """How many things there are."""
        return self._lines.keeping.run(lambda c: int(c.execute(_SIZE).fetchall()[0][0]))

    def keys(self, kept: Kept) -> Iterator[list[bytes]]:
        """Everything's keys, in batches."""
        after: Any = b"" if kept is Kept.HISTORIES else 0
        while found := self._lines.keeping.run(_walk(kept, after)):
            after = found[-1][0]
            yield [key for _, key in found]

    def read(self, kept: Kept, keys: Iterable[bytes], now: int) -> dict[bytes, Any]:
        """The values that are there."""
        del now
        asked = list(keys)

        def read(connection: Connection) -> dict[bytes, Any]:
            found = {key: _READERS[kept](connection, key) for key in asked}
            return {key: value[0] for key, value in found.items() if value}

        return self._lines.reading.run(read)

    def write(self, kept: Kept, values: Mapping[bytes, Any], now: int) -> None:
        """Put the values in the place of what is there."""
        del now

        def write(connection: Connection) -> None:
            self._check(connection)
            connection.executemany(_REMOVALS[kept], [(key,) for key in values])
            for key, value in values.items():
                _put(connection, key, value)

        self._lines.write(write, durable=False)

    def remove(self, kept: Kept, keys: Iterable[bytes]) -> None:
        """Take these out."""

        def remove(connection: Connection) -> None:
            self._check(connection)
            connection.executemany(_REMOVALS[kept], [(key,) for key in keys])

        self._lines.write(remove, durable=False)

    def hand_over(self, store_identity: bytes) -> None:
        """Let applications open the file; all that was written is on the disk then."""

        def hand_over(connection: Connection) -> None:
            self._check(connection)
            connection.execute("UPDATE store SET identity = ? WHERE id = 1", (store_identity,))

        self._lines.write(hand_over, durable=True)

    def _check(self, connection: Connection) -> None:
        identity = connection.execute("SELECT identity FROM store WHERE id = 1").fetchall()
        if [bytes(row[0]) for row in identity] != [self._identity]:
            raise not_being_filled(f"The session database {self._lines.file.path}")


def _walk(kept: Kept, after: Any) -> Callable[[Connection], list[tuple[Any, bytes]]]:
    return lambda connection: connection.execute(_WALKS[kept], (after, BATCH)).fetchall()


def _record(connection: sqlite3.Connection, session_id: bytes) -> tuple[Record | None, ...]:
    row = rows.find_row(connection, session_id)
    if row is None:
        return ()
    try:
        return (row.record(),)
    except UnreadableRecord:
        return (None,)


def _epoch(connection: sqlite3.Connection, subject_key: bytes) -> tuple[KeptEpoch, ...]:
    statement = "SELECT epoch, replaced_at FROM subject_epoch WHERE subject_key = ?"
    return tuple(KeptEpoch(*row) for row in connection.execute(statement, (subject_key,)))


def _history(
    connection: sqlite3.Connection, subject_key: bytes
) -> tuple[tuple[HistoryEntry, ...], ...]:
    found = rows.read_history(connection, subject_key, -1)
    return (found,) if found else ()


# Each answers with nothing, or with the one value.
_READERS: dict[Kept, Callable[[sqlite3.Connection, bytes], tuple[Any, ...]]] = {
    Kept.SESSIONS: _record,
    Kept.EPOCHS: _epoch,
    Kept.HISTORIES: _history,
}


def _put(connection: Connection, key: bytes, value: Any) -> None:
    match value:
        case Record():
            rows.insert(connection, value)
        case KeptEpoch(epoch, replaced_at):
            rows.replace_subject_epoch(connection, key, epoch, replaced_at)
        case _:
            rows.append_history(connection, Append(tuple(reversed(value)), len(value)))
