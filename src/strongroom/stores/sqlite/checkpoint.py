"""Checkpoints: moving the write-ahead log into the database, away from every request.

A checkpoint inside a commit costs that request 5 to 13 ms. So a thread of the store's own does it,
at most once a second and only if something was written; an idle store wakes nobody. It also bounds
what a power failure can take of the writes that do not wait for the disk (touch, shift, replace).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from threading import Event, Lock, Thread

from strongroom.core.errors import StoreError

INTERVAL_SECONDS = 1.0

RESTART_ABOVE_PAGES = 4096
"""From 16 MiB on the log must start over. A passive checkpoint never gets it to under steady
writing, because there is always one more page; a restarting one makes writers wait for the rest."""


def checkpoint(connection: sqlite3.Connection) -> None:
    """Move what can be moved without anybody waiting, and begin the log anew if it is long."""
    _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()[0]
    if pages > RESTART_ABOVE_PAGES:
        connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()


class Checkpointer:
    """Runs `work` in a thread soon after a `wake`, and at most once per interval."""

    _lock: Lock
    _written: Event
    _stopping: Event
    _thread: Thread | None
    _pid: int

    def __init__(self, work: Callable[[], None], interval: float = INTERVAL_SECONDS) -> None:
        self._work = work
        self._interval = interval
        self._begin()

    def wake(self) -> None:
        """Something was written."""
        if self._pid != os.getpid():
            self._begin()  # threads do not survive a fork, and the lock may be held for ever
        if self._written.is_set():
            return
        with self._lock:
            self._written.set()
            if self._thread is None:
                self._start()

    def stop(self) -> None:
        """Let the thread finish what it does, and end it. The next `wake` starts another."""
        if self._pid != os.getpid():
            self._begin()
        # A thread and its two events change together, under the lock, which the thread never takes.
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._stopping.set()
                self._written.set()
                thread.join()
                self._written, self._stopping = Event(), Event()

    def _begin(self) -> None:
        self._lock = Lock()
        self._written = Event()
        self._stopping = Event()
        self._thread = None
        self._pid = os.getpid()

    def _start(self) -> None:
        thread = Thread(
            target=self._run,
            args=(self._written, self._stopping),
            name="strongroom-checkpoint",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:
            return  # the interpreter is going down; closing the last connection checkpoints
        self._thread = thread

    def _run(self, written: Event, stopping: Event) -> None:
        while True:
            written.wait()
            if stopping.wait(self._interval):
                return
            written.clear()
            # `stop` sets this before `written`, so if that was just cleared away, this tells.
            if stopping.is_set():
                return
            try:
                self._work()
            except StoreError:
                # Whoever writes next meets the same fault and can tell somebody; the log is safe.
                continue
