"""Connections: the pool, the bound on every wait, and another try where one is safe.

`Lines` runs an op's steps on a thread, `AsyncLines` on an event loop. They hold nothing but the
waiting; what they decide (when to try again, what an error means) is `Attempts`, which both share.

A server that stands still says nothing, and the driver would wait for ever: the `Watchdog` shuts
down the socket of an op that is over its time.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
import psycopg_pool
from psycopg.pq import TransactionStatus

from strongroom.core.errors import StoreError

from . import faults
from .settings import Settings
from .statements import Statement, Step
from .work import Rows, Work

R = TypeVar("R")
Make = Callable[[bool], Work[R]]
"""Makes an op's work; true where an earlier attempt may have done it already."""
SyncConnection = psycopg.Connection[tuple[Any, ...]]
AsyncConnection = psycopg.AsyncConnection[tuple[Any, ...]]
AnyConnection = SyncConnection | AsyncConnection

TRIES = 5
"""How often an op is begun, within its time."""
CLOSING_SECONDS = 2.0


class Attempts:
    """One op's tries: until when, and whether an error allows another."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.deadline = time.monotonic() + seconds
        self.again = False
        self._made = 0

    @property
    def left(self) -> float:
        """Seconds left; never nothing, so that a free connection is had at once."""
        return max(self.deadline - time.monotonic(), 0.001)

    def judge(self, error: psycopg.Error, *, broken: bool) -> bool:
        """Take the error in -> whether the other connections may be broken as well.

        Raises:
            StoreError: there is no further try.
        """
        self._made += 1
        late = time.monotonic() >= self.deadline
        lost = faults.is_lost(error, broken)
        if late and lost:
            raise faults.no_answer(self.seconds) from error
        if late or self._made >= TRIES or not (lost or faults.is_to_be_tried_again(error)):
            raise faults.translated(error) from error
        self.again |= lost
        return lost and self._made > 1


class Watchdog:
    """Cuts the connection of whoever is over time. One thread for all; any thread may ask it."""

    def __init__(self, tick: float) -> None:
        self._tick = tick
        self._lock = threading.Lock()
        self._guarded: dict[int, tuple[float, AnyConnection]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="strongroom-postgres-watchdog", daemon=True
        )
        self._thread.start()

    @contextmanager
    def guard(self, connection: AnyConnection, deadline: float) -> Generator[None, None, None]:
        """Until then, what runs inside has its time. A guard within a guard is the stricter."""
        key = id(connection)
        with self._lock:
            outer = self._guarded.get(key)
            self._guarded[key] = (deadline, connection)
        try:
            yield
        finally:
            with self._lock:
                if outer is None:
                    self._guarded.pop(key, None)
                else:
                    self._guarded[key] = outer

    def cut_all(self) -> None:
        """Cut whoever is guarded now: the store is being closed."""
        with self._lock:
            for _, connection in self._guarded.values():
                _cut(connection)

    def end(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join(CLOSING_SECONDS)

    def _run(self) -> None:
        while not self._ended.wait(self._tick):
            now = time.monotonic()
            with self._lock:  # held while cutting, so that nobody else has the connection by then
                for key, (deadline, connection) in list(self._guarded.items()):
                    if now >= deadline:
                        _cut(connection)
                        del self._guarded[key]


def _cut(connection: AnyConnection) -> None:
    """Shut the socket down: whoever waits for it finds the connection lost."""
    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as raw:
        raw.shutdown(socket.SHUT_RDWR)


class _Shared:
    """What both kinds of lines have: settings, watchdog, and why connecting failed last."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.watchdog = Watchdog(settings.timeout / 8)
        self.trouble: psycopg.Error | None = None
        # A PgBouncer of 1.18 was seen to stand still amid pipelined transactions (0030).
        self.pipelines = psycopg.Pipeline.is_supported() and not settings.is_pooled

    def pool_options(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "conninfo": settings.conninfo(),
            "kwargs": self.connect_options(),
            "min_size": settings.pool_min,
            "max_size": settings.pool_max,
            "open": False,
            "name": "strongroom",
            "timeout": settings.timeout,
            # Its own tries grow apart from each other; after this long it begins anew when asked.
            "reconnect_timeout": settings.timeout,
            "num_workers": 2,
        }

    def connect_options(self) -> dict[str, Any]:
        # Prepared from the first time on, but never behind a PgBouncer, where the next transaction
        # may be on another connection of the server's.
        threshold = None if self.settings.is_pooled else 0
        return {"autocommit": True, "prepare_threshold": threshold}

    def refused(self, error: Exception) -> StoreError:
        """Why no connection was to be had: the server's own reason, where there was one."""
        trouble, self.trouble = self.trouble, None
        if isinstance(error, psycopg_pool.PoolTimeout) and trouble is not None:
            return faults.translated(trouble)
        return faults.translated(error)


class Lines:
    """Connections of a synchronous store. Any thread may run an op."""

    def __init__(self, settings: Settings) -> None:
        self._shared = shared = _Shared(settings)

        class Noting(psycopg.Connection[tuple[Any, ...]]):
            """A connection that tells why it could not be made: the pool only logs it."""

            @classmethod
            def connect(cls, *arguments: Any, **options: Any) -> Any:
                try:
                    made = super().connect(*arguments, **options)
                except psycopg.Error as error:
                    shared.trouble = error
                    raise
                shared.trouble = None
                return made

        self.watchdog = shared.watchdog
        self._pool: psycopg_pool.ConnectionPool[SyncConnection] = psycopg_pool.ConnectionPool(
            connection_class=Noting, **shared.pool_options()
        )

    def open(self) -> None:
        """Begin to connect."""
        self._pool.open()

    def close(self) -> None:
        """Let go of all connections. Who is at it finds the store closed."""
        self.watchdog.cut_all()
        self._pool.close(CLOSING_SECONDS)
        self.watchdog.end()

    def run(self, make: Make[R], seconds: float) -> R:
        """Run an op on a connection of the pool.

        Raises:
            StoreError: what it could not do, and why.
        """
        attempts = Attempts(seconds)
        while True:
            connection = self._take(attempts)
            try:
                with self.watchdog.guard(connection, attempts.deadline):
                    return carry_out(connection, make(attempts.again), self._shared.pipelines)
            except psycopg.Error as error:
                if attempts.judge(error, broken=connection.broken):
                    self._pool.drain()
            finally:
                if is_unclean(connection):
                    connection.close()
                self._pool.putconn(connection)

    def _take(self, attempts: Attempts) -> SyncConnection:
        try:
            return self._pool.getconn(min(attempts.left, self._shared.settings.timeout))
        except psycopg.OperationalError as error:
            raise self._shared.refused(error) from error

    def run_beside(self, make: Make[R], seconds: float) -> R:
        """Run something on a connection of its own, with no time-outs of the server's."""
        with self.connected(server_timeouts=False) as connection:
            try:
                with self.watchdog.guard(connection, time.monotonic() + seconds):
                    return carry_out(connection, make(False), pipelines=False)
            except psycopg.Error as error:
                raise faults.translated(error) from error

    @contextmanager
    def connected(
        self, *, direct: bool = False, server_timeouts: bool = True
    ) -> Generator[SyncConnection, None, None]:
        """A connection beside the pool, closed afterwards."""
        conninfo = self._shared.settings.conninfo(direct=direct, server_timeouts=server_timeouts)
        try:
            connection: SyncConnection = psycopg.connect(
                conninfo, autocommit=True, prepare_threshold=None
            )
        except psycopg.Error as error:
            raise faults.translated(error) from error
        try:
            yield connection
        finally:
            connection.close()


class AsyncLines:
    """Connections of an asynchronous store, on the event loop on which it was opened."""

    def __init__(self, settings: Settings) -> None:
        self._shared = shared = _Shared(settings)

        class Noting(psycopg.AsyncConnection[tuple[Any, ...]]):
            """A connection that tells why it could not be made: the pool only logs it."""

            @classmethod
            async def connect(cls, *arguments: Any, **options: Any) -> Any:
                try:
                    made = await super().connect(*arguments, **options)
                except psycopg.Error as error:
                    shared.trouble = error
                    raise
                shared.trouble = None
                return made

        self.watchdog = shared.watchdog
        self._pool: psycopg_pool.AsyncConnectionPool[AsyncConnection] = (
            psycopg_pool.AsyncConnectionPool(connection_class=Noting, **shared.pool_options())
        )

    async def open(self) -> None:
        """Begin to connect."""
        await self._pool.open()

    async def close(self) -> None:
        """Let go of all connections. Who is at it finds the store closed."""
        self.watchdog.cut_all()
        await self._pool.close(CLOSING_SECONDS)
        self.watchdog.end()

    async def run(self, make: Make[R], seconds: float) -> R:
        """As `Lines.run`."""
        attempts = Attempts(seconds)
        while True:
            connection = await self._take(attempts)
            try:
                with self.watchdog.guard(connection, attempts.deadline):
                    return await acarry_out(
                        connection, make(attempts.again), self._shared.pipelines
                    )
            except psycopg.Error as error:
                if attempts.judge(error, broken=connection.broken):
                    await self._pool.drain()
            finally:
                if is_unclean(connection):
                    await connection.close()
                await self._pool.putconn(connection)

    async def _take(self, attempts: Attempts) -> AsyncConnection:
        try:
            return await self._pool.getconn(min(attempts.left, self._shared.settings.timeout))
        except psycopg.OperationalError as error:
            raise self._shared.refused(error) from error

    async def run_beside(self, make: Make[R], seconds: float) -> R:
        """As `Lines.run_beside`."""
        connection = await self.connect(server_timeouts=False)
        try:
            with self.watchdog.guard(connection, time.monotonic() + seconds):
                return await acarry_out(connection, make(False), pipelines=False)
        except psycopg.Error as error:
            raise faults.translated(error) from error
        finally:
            await connection.close()

    async def connect(
        self, *, direct: bool = False, server_timeouts: bool = True
    ) -> AsyncConnection:
        """A connection beside the pool; close it."""
        conninfo = self._shared.settings.conninfo(direct=direct, server_timeouts=server_timeouts)
        try:
            return await psycopg.AsyncConnection.connect(
                conninfo, autocommit=True, prepare_threshold=None
            )
        except psycopg.Error as error:
            raise faults.translated(error) from error


def is_unclean(connection: AnyConnection) -> bool:
    """Whether something was left half done, so that nobody else may have the connection."""
    return connection.pgconn.transaction_status != TransactionStatus.IDLE


def carry_out(connection: SyncConnection, work: Work[R], pipelines: bool) -> R:
    """Run the steps one after the other. What the server raises, the work sees at its `yield`."""
    try:
        step = next(work)
        while True:
            try:
                answers = _ask(connection, step, pipelines)
            except psycopg.Error as error:
                step = work.throw(error)
            else:
                step = work.send(answers)
    except StopIteration as done:
        result: R = done.value
        return result


async def acarry_out(connection: AsyncConnection, work: Work[R], pipelines: bool) -> R:
    """As `carry_out`."""
    try:
        step = next(work)
        while True:
            try:
                answers = await _aask(connection, step, pipelines)
            except psycopg.Error as error:
                step = work.throw(error)
            else:
                step = work.send(answers)
    except StopIteration as done:
        result: R = done.value
        return result


def _ask(connection: SyncConnection, step: Step, pipelines: bool) -> list[Rows]:
    if len(step) == 1 or not pipelines:
        return [_rows(_execute(connection, each)) for each in step]
    with connection.pipeline():
        cursors = [_execute(connection, each) for each in step]
    return [_rows(each) for each in cursors]


def _execute(connection: SyncConnection, statement: Statement) -> psycopg.Cursor[tuple[Any, ...]]:
    return connection.execute(statement.text, statement.values or None, binary=True)


def _rows(cursor: psycopg.Cursor[tuple[Any, ...]]) -> Rows:
    return cursor.fetchall() if _has_rows(cursor) else []


def _has_rows(cursor: psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]) -> bool:
    # `description` would tell the same, and costs more than the rest of the reading.
    return cursor.pgresult is not None and cursor.pgresult.nfields > 0


async def _aask(connection: AsyncConnection, step: Step, pipelines: bool) -> list[Rows]:
    if len(step) == 1 or not pipelines:
        return [await _arows(await _aexecute(connection, each)) for each in step]
    async with connection.pipeline():
        cursors = [await _aexecute(connection, each) for each in step]
    return [await _arows(each) for each in cursors]


async def _aexecute(
    connection: AsyncConnection, statement: Statement
) -> psycopg.AsyncCursor[tuple[Any, ...]]:
    return await connection.execute(statement.text, statement.values or None, binary=True)


async def _arows(cursor: psycopg.AsyncCursor[tuple[Any, ...]]) -> Rows:
    return await cursor.fetchall() if _has_rows(cursor) else []
