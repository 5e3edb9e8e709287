"""Lines: a connection opened when first used, guarded by a lock, let go before a fork.

Each piece of work runs to its end under its line's lock, so no statement stays open between two
calls: an open one would pin an old view of the file, and the next write would fail. Nobody waits
longer than the busy timeout, for the lock and for other processes together.

**Fork.** An SQLite connection must not cross a fork: the child would believe that it holds its
parent's locks. All lines are therefore closed just before a fork and open again on both sides. In a
fork that Python is not told about (uWSGI's), the child finds another process id and starts anew;
that is sound only if no other thread was using the store, so open it after the fork (`lazy-apps`).

**A file that goes away.** The path is compared with the file that is open before every write, and
at most `FILE_CHECK_SECONDS` before every read. If the file is gone, every op fails until it is back
(it is never made anew by itself: an empty store would sign everybody out in silence). If another
file of the same identity is there, as after a restore, it is opened and used from then on.
"""

from __future__ import annotations

import os
import sqlite3
import time
from threading import Lock
from typing import TypeVar
from weakref import WeakSet

from strongroom.core.errors import StoreError

from . import faults, schema
from .checkpoint import Checkpointer, checkpoint
from .connection import FORKING, Connection, SessionFile, Work, patiently, transaction

FILE_CHECK_SECONDS = 1.0
"""How long a read may go on against a file that was deleted or replaced: no longer than the default
`max_staleness`. Looking costs 2 us, a fifth of a read."""

T = TypeVar("T")


class Line:
    """One connection and the lock that guards it."""

    def __init__(
        self, file: SessionFile, *, read_only: bool = False, watchful: bool = False
    ) -> None:
        self._file = file
        self._read_only = read_only
        # A watchful line looks at the file before every use, not only once a second.
        self._check_every = 0.0 if watchful else FILE_CHECK_SECONDS
        self._lock = Lock()
        self._connection: Connection | None = None
        self._stamp: tuple[int, int] | None = None
        self._check_at = 0.0

    def run(self, work: Work[T]) -> T:
        """Do the work, again and again while others hold a lock, until the busy timeout.

        Work that met a lock must have changed nothing.

        Raises:
            StoreUnavailable, StoreMismatch, UnreadableRecord: as the contract of stores says.
        """
        _notice_fork()
        give_up_at = time.monotonic() + self._file.patience
        if not self._lock.acquire(timeout=self._file.patience):
            raise faults.too_busy(self._file.path)
        try:
            return patiently(give_up_at, lambda: work(self._checked_connection()))
        except sqlite3.Error as error:
            raise self._failed(error) from error
        finally:
            self._lock.release()

    def run_at_once(self, work: Work[T]) -> T:
        """Do the work if that needs no waiting for anybody.

        Raises:
            BlockingIOError: it does; nothing was done.
        """
        _notice_fork()
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
        self._lock.release()

    def abandon(self) -> None:
        """Start anew in a forked child, where whoever held the lock may not exist."""
        self._lock = Lock()
        self._drop()

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
        stuck = self._connection is not None and self._connection.in_transaction
        if stuck or faults.needs_new_connection(error):
            self._drop()
        return faults.translated(error, self._file.path)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class Lines:
    """The lines of one store: they open together, close together and stand still for a fork."""

    def __init__(self, file: SessionFile) -> None:
        self.file = file
        # Reading has a line of its own, so that a request never waits for somebody's fsync.
        self.reading = Line(file, read_only=True)
        self.writing = Line(file, watchful=True)
        # For checkpoints and for looking what to sweep, which may take long.
        self.keeping = Line(file)
        self._checkpointer = Checkpointer(lambda: self.keeping.run(checkpoint))
        with FORKING:
            _ALL.add(self)

    def write(self, work: Work[T], *, durable: bool) -> T:
        """Do the work in one write transaction, and see to it that a checkpoint follows."""
        result = self.writing.run(lambda connection: transaction(connection, work, durable=durable))
        self._checkpointer.wake()
        return result

    def close(self) -> None:
        """Close all connections. SQLite removes the log with the last one of all processes."""
        self._checkpointer.stop()
        self.file.identity = None
        for line in self._each():
            line.close()

    def hold(self) -> None:
        """Stand still for a fork, with no thread that it would cut off."""
        self._checkpointer.stop()
        for line in self._each():
            line.hold()

    def release(self) -> None:
        """The fork is over."""
        for line in self._each():
            line.release()

    def abandon(self) -> None:
        """Start anew in a child that found itself forked."""
        for line in self._each():
            line.abandon()

    def _each(self) -> tuple[Line, Line, Line]:
        return self.reading, self.keeping, self.writing


_ALL: WeakSet[Lines] = WeakSet()
_held: list[Lines] = []
_pid = os.getpid()


def _before_fork() -> None:
    FORKING.acquire()
    _held.extend(_ALL)
    for lines in _held:
        lines.hold()


def _after_fork() -> None:
    global _pid  # noqa: PLW0603 - there is one process, and this is its number
    _pid = os.getpid()
    for lines in _held:
        lines.release()
    _held.clear()
    FORKING.release()


def _notice_fork() -> None:
    """In a child that Python was not told about: let go of all inherited connections, at once.

    All of them, because SQLite counts its locks per process: as long as one inherited connection
    is open, a new one believes that this process holds locks which only the parent does. Closing
    them is safe: the parent's locks keep it from changing the file.
    """
    global _pid  # noqa: PLW0603
    if _pid != os.getpid():
        _pid = os.getpid()
        for lines in list(_ALL):
            lines.abandon()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )
