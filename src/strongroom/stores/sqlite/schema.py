"""The tables, how they came to be, and whose they are.

The file says what it is three times over: `application_id` (ours or another program's),
`user_version` (the schema's number) and the store's identity (our keys or others'). A file that
fails one of them is refused before anything in it is changed.

A migration is a function in `MIGRATIONS`; its place in the tuple is the version it leads to. All
that are missing run in one transaction, so several processes may open a file for the first time at
once: one migrates, the others find it done. Processes of the release before go on running during a
deployment, so a migration may add, and may remove only what the release before no longer uses.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from strongroom.core.errors import StoreMismatch, StoreUnavailable
from strongroom.core.record import EPOCH_BYTES
from strongroom.stores.base import being_filled, still_being_filled

APPLICATION_ID = int.from_bytes(b"StRm")
"""What `file(1)` and we know our databases by."""

# Tables that check their columns' types exist from SQLite 3.37 on; older ones work without.
_STRICT = "STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""

# A rowid table loads 2.7 times faster than one WITHOUT ROWID and is 15 % smaller. Touching rewrites
# header and purge_at in place; purge_slot, the indexed one, is coarse so that it seldom moves.
# subject_key is NULL for nobody, so that visitors who are not signed in weigh nothing in its index.
_VERSION_1 = (
    f"""CREATE TABLE session (
        id INTEGER PRIMARY KEY,
        session_id BLOB NOT NULL UNIQUE,
        purge_slot INTEGER NOT NULL,
        purge_at INTEGER NOT NULL,
        header BLOB NOT NULL,
        subject_key BLOB,
        envelope BLOB NOT NULL,
        data BLOB NOT NULL
    ) {_STRICT}""",
    "CREATE INDEX session_of_subject ON session (subject_key) WHERE subject_key IS NOT NULL",
    "CREATE INDEX session_to_purge ON session (purge_slot)",
    f"""CREATE TABLE subject_epoch (
        id INTEGER PRIMARY KEY,
        subject_key BLOB NOT NULL UNIQUE,
        epoch BLOB NOT NULL,
        replaced_at INTEGER NOT NULL
    ) {_STRICT}""",
    "CREATE INDEX subject_epoch_to_purge ON subject_epoch (replaced_at)",
    f"""CREATE TABLE history (
        id INTEGER PRIMARY KEY,
        subject_key BLOB NOT NULL,
        at INTEGER NOT NULL,
        purge_at INTEGER NOT NULL,
        key_id INTEGER NOT NULL,
        sealed BLOB NOT NULL
    ) {_STRICT}""",
    "CREATE INDEX history_of_subject ON history (subject_key, at)",
    "CREATE INDEX history_to_purge ON history (purge_at)",
    f"""CREATE TABLE store (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        identity BLOB NOT NULL,
        epoch BLOB NOT NULL,
        epoch_replaced_at INTEGER NOT NULL
    ) {_STRICT}""",
)

PURGE_SLOT_BITS = 20
"""A purge slot is 2**20 ms, 17.5 minutes: a session touched every minute moves in the index every
seventeenth time, and a sweep looks in vain at no more than one slot's worth of rows."""


def create_tables(connection: sqlite3.Connection) -> None:
    """Version 1: sessions, epochs, histories, and the store's own row."""
    for statement in _VERSION_1:
        connection.execute(statement)


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (create_tables,)


def prepare(connection: sqlite3.Connection, identity: bytes, path: Path) -> None:
    """Make the database ours and current, or find that it is. Safe from several processes at once.

    Raises:
        StoreMismatch: it is another program's, a newer release's, or belongs to other keys.
        StoreUnavailable: its file system cannot carry a write-ahead log.
        sqlite3.Error: it cannot be read or written; BUSY where waiting may help.
    """
    with one_view(connection):
        _check_application(connection, path)
    _use_write_ahead_log(connection, path)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        _check_application(connection, path)
        _migrate(connection, identity)
        _check(connection, identity, path)
        # A database that cannot be written is found out now. BEGIN does not: on a read-only file
        # it begins a read and says nothing. This removes nothing, but would need to be able to.
        connection.execute("DELETE FROM store WHERE id <> 1")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def check(connection: sqlite3.Connection, identity: bytes, path: Path) -> None:
    """Read whether this is our database, of our schema, and belongs to our keys.

    Raises:
        StoreMismatch: it is not, in one sentence.
    """
    with one_view(connection):
        _check(connection, identity, path)


@contextmanager
def one_view(connection: sqlite3.Connection) -> Generator[None, None, None]:
    """Let all that is read within come from one moment, whoever else writes."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:  # SQLite ends it by itself on some errors
            connection.execute("ROLLBACK")


def _check(connection: sqlite3.Connection, identity: bytes, path: Path) -> None:
    _check_application(connection, path)
    if _pragma(connection, "user_version") != len(MIGRATIONS):
        raise _foreign(path, "it has no session tables")
    rows = connection.execute("SELECT identity FROM store WHERE id = 1").fetchall()
    if [bytes(row[0]) for row in rows] == [being_filled(identity)]:
        raise still_being_filled(f"The session database {path}")
    if [bytes(row[0]) for row in rows] != [identity]:
        raise StoreMismatch(
            f"The session database {path} was made under other keys.",
            why="Its sessions could not be found or ended under the keys given now.",
            hint="Use the keyring and realm that it was made with, or another file.",
        )


def _check_application(connection: sqlite3.Connection, path: Path) -> None:
    application, version = (
        _pragma(connection, "application_id"),
        _pragma(connection, "user_version"),
    )
    if application == APPLICATION_ID:
        if version > len(MIGRATIONS):
            raise StoreMismatch(
                f"The session database {path} has schema {version}, written by a newer release; "
                f"this one knows schemas up to {len(MIGRATIONS)}.",
                why="An older release could damage what it does not understand.",
                hint="Run the newest release everywhere.",
            )
        return
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchall()[0][0]
    if application or version or tables:
        raise _foreign(path, "it is another program's SQLite database")


def _migrate(connection: sqlite3.Connection, identity: bytes) -> None:
    version = _pragma(connection, "user_version")
    if version == len(MIGRATIONS):
        return
    for migration in MIGRATIONS[version:]:
        migration(connection)
    if version == 0:
        connection.execute(
            "INSERT INTO store (id, identity, epoch, epoch_replaced_at) VALUES (1, ?, ?, 0)",
            (identity, os.urandom(EPOCH_BYTES)),
        )
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _use_write_ahead_log(connection: sqlite3.Connection, path: Path) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchall()[0][0]
    if mode != "wal":
        raise StoreUnavailable(
            f"The session database {path} cannot use a write-ahead log (it says {mode!r}).",
            why="Without one a reader would wait for every writer.",
            hint="Keep it on a local file system; for a network one use PostgreSQL or Valkey.",
        )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchall()[0][0]
    return value


def _foreign(path: Path, what: str) -> StoreMismatch:
    return StoreMismatch(
        f"{path} is not a session database: {what}.",
        why="It may belong to somebody else, so it was not changed.",
        hint="Check the path, or move the file away to start with an empty store.",
    )
