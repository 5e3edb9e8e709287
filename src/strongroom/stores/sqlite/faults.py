"""What SQLite says, in the tree of `core.errors`: every fault becomes a `StoreError`."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from strongroom.core.errors import StoreError, StoreMismatch, StoreUnavailable, UnreadableRecord

_NOT_LET_IN = "Nobody is let in or signed out while the sessions cannot be read or written."
_NOTHING_WRITTEN = "The change was rolled back whole, and nothing was acknowledged."

_WAITING = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_SAID = {
    sqlite3.SQLITE_FULL: (
        "The disk with the session database {path} is full, or the database's own limit is reached",
        _NOTHING_WRITTEN,
        "Make room; the store goes on by itself. Reading still works.",
    ),
    sqlite3.SQLITE_IOERR: (
        "The disk with the session database {path} reports an error",
        _NOTHING_WRITTEN,
        "Look at the system's log for the disk; restore a backup if the file is damaged.",
    ),
    sqlite3.SQLITE_READONLY: (
        "The session database {path} cannot be written by this process",
        "A session that cannot be written cannot be ended either.",
        "Let this user write the file and its directory, on a file system mounted read-write.",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "The session database {path} cannot be opened",
        _NOT_LET_IN,
        "It must be a file in a directory that this user may write; a missing one is made only "
        "when the store is opened.",
    ),
}
_DAMAGED = (
    "The session database {path} is damaged",
    "What it says about a session cannot be believed, so nobody is let in.",
    "Restore a backup and end all sessions, or move the file away to start with an empty store.",
)
_FOREIGN = (
    "{path} is not a session database: it is not an SQLite file",
    "It may belong to somebody else, so it was not changed.",
    "Check the path, or move the file away to start with an empty store.",
)
_FATAL = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
    }
)


def code_of(error: sqlite3.Error) -> int:
    """The primary result code, or 0 where the error is Python's own."""
    code: int = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF


def is_busy(error: sqlite3.Error) -> bool:
    """Whether somebody else holds a lock, so that waiting may help."""
    return code_of(error) in _WAITING


def needs_new_connection(error: sqlite3.Error) -> bool:
    """Whether the connection may remember a state of the file that is no longer true."""
    return code_of(error) in _FATAL


def translated(error: sqlite3.Error, path: Path) -> StoreError:
    """The error as the store's contract has it. Holds the path and SQLite's words, no values."""
    code = code_of(error)
    if code == sqlite3.SQLITE_NOTADB:
        return _worded(StoreMismatch, _FOREIGN, error, path)
    if code == sqlite3.SQLITE_CORRUPT:
        return _worded(UnreadableRecord, _DAMAGED, error, path)
    if is_busy(error):
        return too_busy(path)
    said = _SAID.get(code, ("The session database {path} failed", _NOT_LET_IN, ""))
    return _worded(StoreUnavailable, said, error, path)


def too_busy(path: Path) -> StoreUnavailable:
    """Somebody else held the lock for longer than the busy timeout."""
    return StoreUnavailable(
        f"The session database {path} was locked by somebody else for the whole busy timeout.",
        why=_NOTHING_WRITTEN,
        hint="Look for a backup, a shell or a stuck process that holds a transaction open on it; "
        "if writes are merely many, raise busy_timeout_ms.",
    )


def not_open(path: Path) -> StoreUnavailable:
    """The store was closed, or never opened."""
    return StoreUnavailable(
        f"The session database {path} is not open.",
        why="Nothing can be read or written before it is opened or after it is closed.",
        hint="Call open(store_identity) first; a session manager does so at start-up.",
    )


def cannot_be_made(error: OSError, path: Path) -> StoreUnavailable:
    """The file, or its directory, could not be created."""
    return StoreUnavailable(
        f"The session database {path} cannot be made ({error.strerror}).",
        why="Without it no session can be kept.",
        hint="Let this user write the directory, or choose another path.",
    )


def missing(path: Path) -> StoreUnavailable:
    """The file went away while the store was open."""
    return StoreUnavailable(
        f"The session database {path} is gone: it was moved or deleted while in use.",
        why="What is written to a deleted file is lost, and what is read from it may have ended.",
        hint="Put the file back, with its -wal file, or restart to begin with an empty store.",
    )


def _worded(
    fault: type[StoreError], said: tuple[str, str, str], error: sqlite3.Error, path: Path
) -> StoreError:
    what, why, hint = said
    return fault(f"{what.format(path=path)} ({error}).", why=why, hint=hint)
