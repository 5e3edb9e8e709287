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
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TypeVar

from strongroom.core import lifecycle
from strongroom.core.errors import ConfigurationError, StoreMismatch, StoreUnavailable
from strongroom.core.ops import (
    Append,
    End,
    EndAll,
    EndSubject,
    Epochs,
    Find,
    Found,
    HistoryEntry,
    Insert,
    Inserted,
    ListSubject,
    Outcome,
    ReadEpoch,
    ReadHistory,
    Replace,
    Rotate,
    Shift,
    Sweep,
    Touch,
)

from . import faults, rows, schema
from .checkpoint import Checkpointer, checkpoint
from .connection import Connection, Line, Lines, SessionFile, transaction
from .sweeping import sweep

T = TypeVar("T")

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
        self._checkpointer = Checkpointer(lambda: self._lines.keeping.run(checkpoint))

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
            self._file.create()
        except OSError as error:
            raise StoreUnavailable(
                f"The session database {path} cannot be made ({error.strerror}).",
                why="Without it no session can be kept.",
                hint="Let this user write the directory, or choose another path.",
            ) from error
        # A line of its own: it may wait, and what it finds wrong must not leave anything open.
        opening = Line(self._file, preparing=store_identity)
        try:
            opening.run(lambda connection: schema.prepare(connection, store_identity, path))
        finally:
            opening.close()
        if self._file.identity not in (None, store_identity):
            raise StoreMismatch("This store is open with other keys.", hint="Close it first.")
        self._file.identity = store_identity

    def close(self) -> None:
        """Close all connections, and end the thread that makes checkpoints."""
        self._checkpointer.stop()
        self._lines.close()
