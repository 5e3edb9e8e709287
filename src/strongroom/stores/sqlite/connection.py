"""The file, its connections, and transactions. Nothing here is shared between threads.

It is we who wait for others' locks, not SQLite: its own handler sleeps up to 100 ms at a time, and
would do so in an event loop too.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import TypeVar

from . import faults, schema

CHECKPOINT_BACKSTOP_PAGES = 8192
"""Where a commit would checkpoint by itself, 32 MiB: only reached if the checkpointing thread
cannot run (uWSGI without threads), because doing so inside a request costs milliseconds."""

_SETTINGS = (
    "PRAGMA synchronous = NORMAL",
    f"PRAGMA wal_autocheckpoint = {CHECKPOINT_BACKSTOP_PAGES}",
    f"PRAGMA journal_size_limit = {16 << 20}",
    "PRAGMA cache_size = -8192",  # KiB, so 8 MiB
    # Freed cells are zeroed where that costs no extra write, so ended data does not linger.
    "PRAGMA secure_delete = FAST",
    # macOS only: its fsync does not reach the disk without these.
    "PRAGMA fullfsync = ON",
    "PRAGMA checkpoint_fullfsync = ON",
    # Whoever writes the file must not get code run by it.
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
)

FORKING = Lock()
"""Held while a fork is under way, and by whatever a fork must not cut in two."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.0002, 0.0005
# With two processes writing without a pause, the longest wait was 40 ms; with pauses of up to 5 ms,
# and with SQLite's own of up to 100 ms, it was 100 to 240 ms.

T = TypeVar("T")


class Connection(sqlite3.Connection):
    """A connection that remembers whether its commits wait for the disk."""

    is_durable = False


Work = Callable[[Connection], T]


def patiently(give_up_at: float, attempt: Callable[[], T]) -> T:
    """Attempt it again and again while somebody else holds a lock, until that monotonic moment."""
    pause = _FIRST_PAUSE
    while True:
        try:
            return attempt()
        except sqlite3.Error as error:
            if not faults.is_busy(error) or time.monotonic() >= give_up_at:
                raise
        # Jitter, so that two processes that met once do not go on meeting.
        time.sleep(pause * (0.5 + random.random()))  # noqa: S311
        pause = min(pause * 2, _LONGEST_PAUSE)


class SessionFile:
    """Where the database is, whose it must be, and how long to wait for it."""

    def __init__(self, path: Path, busy_timeout_ms: int) -> None:
        self.path = path
        self.patience = busy_timeout_ms / 1000
        self.identity: bytes | None = None

    def create(self) -> None:
        """Make the file and its directory where they are missing, for this user alone."""
        for directory in reversed(self.path.parents):
            if not directory.is_dir():
                directory.mkdir(mode=0o700, exist_ok=True)
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            return
        os.close(descriptor)

    def connect(self) -> Connection:
        """A connection to a file that exists. It never waits by itself and begins nothing."""
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw",
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
            factory=Connection,
        )
        try:
            for setting in _SETTINGS:
                connection.execute(setting).close()
        except BaseException:
            connection.close()
            raise
        return connection

    def prepare(self, identity: bytes) -> None:
        """Make the file, bring it up to date, and take it as the one that must be there.

        Raises:
            OSError: the file or its directory cannot be made.
            sqlite3.Error, StoreMismatch, StoreUnavailable: see `schema.prepare`.
        """
        # No fork may copy this connection; and closing a file that was just made would let go of
        # another connection's locks on it, if this process had one already.
        with FORKING:
            self.create()
            patiently(time.monotonic() + self.patience, lambda: self._prepare_once(identity))
            self.identity = identity

    def _prepare_once(self, identity: bytes) -> None:
        connection = self.connect()
        try:
            schema.prepare(connection, identity, self.path)
        finally:
            connection.close()

    def stamp(self) -> tuple[int, int] | None:
        """Which file the path leads to: device and inode, or None where there is none."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


def transaction(connection: Connection, work: Work[T], *, durable: bool) -> T:
    """Do the work in one write transaction; it is kept whole, or rolled back and raised.

    Durable means that the log has reached the disk before this returns. One connection with a
    switch serves both: a second one would read its whole cache anew after each write of the first.
    """
    if connection.is_durable is not durable:
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.is_durable = durable
    try:
        connection.execute("BEGIN IMMEDIATE")
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result
