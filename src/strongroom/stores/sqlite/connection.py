"""Connections: opened when first used, guarded by a lock, let go before a fork.

A `Line` is one connection and its lock. Each piece of work runs to its end under that lock, so no
statement stays open between two calls: an open one would pin an old view of the file, and the next
write would fail. Nobody waits longer than the busy timeout, for the lock and for other processes
together, and it is we who wait, not SQLite: its own handler sleeps up to 100 ms at a time.

**Fork.** An SQLite connection must not cross a fork: the child would believe that it holds its
parent's locks. All lines are therefore closed just before a fork and open again on both sides. For
forks that Python is not told about (uWSGI's), the child finds another process id and starts anew.

**A file that goes away.** The path is compared with the file that is open before every write, and
at most `FILE_CHECK_SECONDS` before every read. If the file is gone, every op fails until it is back
(it is never made anew by itself: an empty store would sign everybody out in silence). If another
file of the same identity is there, as after a restore, it is opened and used from then on.
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
from weakref import WeakSet

from strongroom.core.errors import StoreError

from . import faults, schema

FILE_CHECK_SECONDS = 1.0
"""How long a read may go on against a file that was deleted or replaced: no longer than the default
`max_staleness`. Looking costs 2 us, a fifth of a read."""

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

_FIRST_PAUSE, _LONGEST_PAUSE = 0.0002, 0.005

T = TypeVar("T")


class Connection(sqlite3.Connection):
    """A connection that remembers whether its commits wait for the disk."""

    is_durable = False


Work = Callable[[Connection], T]


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
        for setting in _SETTINGS:
            connection.execute(setting).close()
        return connection

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
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


class Line:
    """One connection and the lock that guards it."""

    def __init__(self, file: SessionFile, *, read_only: bool = False, watchful: bool = False) -> None:
        self._file = file
        self._read_only = read_only
        # A watchful line looks at the file before every use, not only once a second.
        self._check_every = 0.0 if watchful else FILE_CHECK_SECONDS
        self._lock = Lock()
        self._connection: Connection | None = None
        self._stamp: tuple[int, int] | None = None
        self._check_at = 0.0
        self._pid = os.getpid()

    def run(self, work: Work[T]) -> T:
        """Do the work, again and again while others hold a lock, until the busy timeout.

        Work that met a lock must have changed nothing.

        Raises:
            StoreUnavailable, StoreMismatch, UnreadableRecord: as the contract of stores says.
        """
        self._notice_fork()
        give_up_at = time.monotonic() + self._file.patience
        if not self._lock.acquire(timeout=self._file.patience):
            raise faults.too_busy(self._file.path)
        try:
            return self._until(give_up_at, work)
        except sqlite3.Error as error:
            raise self._failed(error) from error
        finally:
            self._lock.release()

    def run_at_once(self, work: Work[T]) -> T:
        """Do the work if that needs no waiting for anybody.

        Raises:
            BlockingIOError: it does; nothing was done.
        """
        self._notice_fork()
        if not self._lock.acquire(blocking=False):
            raise BlockingIOError
        try:
            return work(self._checked_connection())
        except sqlite3.Error as error:
            if faults.is_busy(error):
                raise BlockingIOError from error
            raise self._failed(error) from error
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        with self._lock:
            self._drop()

    def hold(self) -> None:
        """Close the connection and let nobody open one, until `release`."""
        self._lock.acquire()
        self._drop()

    def release(self) -> None:
        """The fork is over: go on, in the parent and in the child."""
        self._pid = os.getpid()
        self._lock.release()

    def _until(self, give_up_at: float, work: Work[T]) -> T:
        pause = _FIRST_PAUSE
        while True:
            try:
                return work(self._checked_connection())
            except sqlite3.Error as error:
                if not faults.is_busy(error) or time.monotonic() >= give_up_at:
                    raise
            # Jitter, so that two processes that met once do not go on meeting.
            time.sleep(pause * (0.5 + random.random()))  # noqa: S311
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _checked_connection(self) -> Connection:
        now = time.monotonic()
        connection = self._connection
        if connection is not None and now < self._check_at:
            return connection
        stamp = self._file.stamp()
        if connection is None or stamp != self._stamp:
            self._drop()
            connection = self._connect(stamp)
        self._check_at = now + self._check_every
        return connection

    def _connect(self, stamp: tuple[int, int] | None) -> Connection:
        identity = self._file.identity
        if identity is None:
            raise faults.not_open(self._file.path)
        if stamp is None:
            raise faults.missing(self._file.path)
        connection = self._file.connect()
        try:
            schema.check(connection, identity, self._file.path)
            if self._read_only:
                connection.execute("PRAGMA query_only = ON").close()
        except BaseException:
            connection.close()
            raise
        self._connection, self._stamp = connection, stamp
        return connection

    def _failed(self, error: sqlite3.Error) -> StoreError:
        if faults.needs_new_connection(error):
            self._drop()
        return faults.translated(error, self._file.path)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _notice_fork(self) -> None:
        if self._pid == os.getpid():
            return
        # A fork that Python was not told about. The old lock may be held by a thread that does not
        # exist here. Closing is safe, as the parent's locks keep it from changing the file.
        self._lock = Lock()
        self._drop()
        self._pid = os.getpid()


class Lines:
    """The lines of one store: they open together, close together and stand still for a fork."""

    def __init__(self, file: SessionFile) -> None:
        self.file = file
        # Reading has a line of its own, so that a request never waits for somebody's fsync.
        self.reading = Line(file, read_only=True)
        self.writing = Line(file, watchful=True)
        # For checkpoints and for looking what to sweep, which may take long.
        self.keeping = Line(file)
        with _FORKING:
            _ALL.add(self)

    def close(self) -> None:
        """Close all connections. SQLite removes the log with the last one of all processes."""
        self.file.identity = None
        for line in self._each():
            line.close()

    def hold(self) -> None:
        """Stand still for a fork."""
        for line in self._each():
            line.hold()

    def release(self) -> None:
        """The fork is over."""
        for line in self._each():
            line.release()

    def _each(self) -> tuple[Line, Line, Line]:
        return self.reading, self.keeping, self.writing


_ALL: WeakSet[Lines] = WeakSet()
_FORKING = Lock()
_held: list[Lines] = []


def _before_fork() -> None:
    _FORKING.acquire()
    _held.extend(_ALL)
    for lines in _held:
        lines.hold()


def _after_fork() -> None:
    for lines in _held:
        lines.release()
    _held.clear()
    _FORKING.release()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )
