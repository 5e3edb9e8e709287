"""Sessions in PostgreSQL 14 or newer, for those who have one: several machines, one truth.

`find` is one prepared statement and one round trip. A change is two, and holds no lock and no
transaction between them: the record is read, `core.lifecycle` says what becomes of it, and it is
written if its header is still what was read. Signing in, and signing out everywhere, are one
transaction each, in one line per subject.

**Durability.** `insert`, `rotate`, `end`, `end_subject` and `end_all` wait for the write-ahead log
to be on the disk (`synchronous_commit = on`, or what is stronger there), whatever the database's
own default is. `touch`, `shift`, `replace` and `append` do not wait: a crash of the server may take
those of the last moments, three times `wal_writer_delay` at most (0.6 s by default), never a part
of one. A lost touch makes a session idle a little early. A lost renewal is one that the browser has
and the store has not: its token equals the record's *next* digest, and is adopted. A lost replace
is a lost change of application data; what must not be lost belongs into the application's own
tables.

With asynchronous replication a failover loses what the standby had not received, ends included;
`synchronous_standby_names` and `synchronous_commit` say how to have it otherwise: docs/postgres.md.

**What it does not do**: read from a replica, also where the URL names one.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import psycopg

from strongroom.core.ops import (
    Append,
    End,
    EndAll,
    EndSubject,
    Epochs,
    Erase,
    Find,
    Found,
    HistoryEntry,
    Insert,
    Inserted,
    ListSubject,
    Outcome,
    ReadClock,
    ReadEpoch,
    ReadHistory,
    Replace,
    Rotate,
    Shift,
    Sweep,
    Touch,
    Watch,
)
from strongroom.stores.base import being_filled

from . import faults, preparing, sweeping, watching, work
from .connections import AsyncLines, Lines, Make, acarry_out, carry_out
from .contents import PostgresContents
from .settings import Settings
from .statements import CLOCK, Statements, statements

R = TypeVar("R")

PREPARING_SECONDS = 120.0
"""How long `open` and `migrate` may take: others may be migrating, and a large table takes time."""
SWEEPING_SECONDS = 60.0


class PostgresStore:
    """A store in PostgreSQL. Any thread may call any method; so may a forked child."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._sql = statements(settings.schema)
        self._lines: Lines | None = None
        self._identity = b""
        self._process = 0
        self._forking = threading.Lock()
        self._forsaken: list[Lines] = []

    def __repr__(self) -> str:
        return f"PostgresStore(schema={self.settings.schema!r})"

    def open(self, store_identity: bytes) -> None:
        """Connect, make or migrate the tables, and check that they belong to these keys.

        Raises:
            StoreMismatch: they belong to other keys, another program or a newer release.
            StoreUnavailable: the server cannot be reached or written, or the tables are missing
                and may not be made.
        """
        self.close()
        lines = Lines(self.settings)
        try:
            lines.run_beside(_preparing(self.settings, store_identity), PREPARING_SECONDS)
            lines.open()
            lines.run(_asking_the_clock, self.settings.timeout)
        except BaseException:
            lines.close()
            raise
        self._lines, self._process = lines, os.getpid()
        self._identity = store_identity

    def close(self) -> None:
        """Close all connections."""
        lines, self._lines = self._lines, None
        if lines is not None and self._process == os.getpid():
            lines.close()

    def migrate(self) -> tuple[int, int]:
        """Make the tables or bring them up to date, whatever `migrate=` says.

        Returns the version before, and now. Needs no keys; the store need not be open.
        """
        lines = Lines(self.settings)
        try:
            return lines.run_beside(
                lambda _again: preparing.migrate(self.settings.schema), PREPARING_SECONDS
            )
        finally:
            lines.close()

    def open_to_fill(self, store_identity: bytes) -> None:
        """Open tables that are new, or were being filled before. See `stores.base.Movable`."""
        self.open(being_filled(store_identity))

    def contents(self) -> PostgresContents:
        """All that the tables keep."""
        self._connected()

        def run(body: Callable[[], work.Work[R]]) -> R:
            return self._connected().run(lambda _again: body(), SWEEPING_SECONDS)

        return PostgresContents(self.settings.schema, self._identity, run)

    def find(self, op: Find) -> Found | None:
        """Read one record, and the store's epoch with it, from the primary."""
        return self._do(work.find, op)

    def read_epoch(self, op: ReadEpoch) -> Epochs:
        """Read the subject's epoch, zeros where it never had one, and the store's."""
        return self._do(work.read_epoch, op)

    def insert(self, op: Insert) -> Inserted:
        """Add a record, and end those that give way to it. On the disk when it returns."""
        return self._do(work.insert, op)

    def touch(self, op: Touch) -> Outcome:
        """Note activity."""
        return self._do(_relaxed, op)

    def shift(self, op: Shift) -> Outcome:
        """Replace the credential by compare-and-set on its current digest."""
        return self._do(_relaxed, op)

    def rotate(self, op: Rotate) -> Outcome:
        """Replace credential and envelope by compare-and-set. On the disk when it returns."""
        return self._do(_durable, op)

    def replace(self, op: Replace) -> Outcome:
        """Replace the data by compare-and-set on its version."""
        return self._do(_relaxed, op)

    def end(self, op: End) -> Outcome:
        """End one record. On the disk when it returns."""
        return self._do(_durable, op)

    def end_subject(self, op: EndSubject) -> tuple[Found, ...]:
        """End all live records of the subject but one, and replace its epoch. On the disk then."""
        return self._do(work.end_subject, op)

    def end_all(self, op: EndAll) -> None:
        """Replace the store-wide epoch. On the disk when it returns."""
        self._do(work.end_all, op)

    def list_subject(self, op: ListSubject) -> tuple[Found, ...]:
        """All records of the subject, oldest first."""
        return self._do(work.list_subject, op)

    def append(self, op: Append) -> None:
        """Add entries to histories; each subject keeps its newest."""
        self._do(work.append, op)

    def read_history(self, op: ReadHistory) -> tuple[HistoryEntry, ...]:
        """The newest entries of the subject, newest first."""
        return self._do(work.read_history, op)

    def erase(self, op: Erase) -> int:
        """Remove the subject's ended records and its history. On the disk when it returns."""
        return self._do(work.erase, op)

    def sweep(self, op: Sweep) -> int:
        """Remove at most `op.limit` rows that are due; nothing while another process sweeps."""
        return self._do(sweeping.sweep, op, SWEEPING_SECONDS)

    def read_clock(self, op: ReadClock) -> int | None:
        """The server's own clock."""
        return self._do(work.read_clock, op)

    def watch(self, op: Watch) -> None:
        """Push every change, by whomever it was made, on a connection of its own.

        Raises:
            StoreUnavailable: the connection is lost, or the server is silent.
        """
        ear = _ear(self._sql, op, self.settings)
        lines = self._connected()
        with lines.connected(direct=True) as connection:
            try:
                with lines.watchdog.guard(connection, float("inf")):
                    carry_out(connection, ear.listen(), pipelines=False)
                    while not op.stopped() and self._lines is lines:
                        if ear.is_time_to_ask(op.heartbeat):
                            with lines.watchdog.guard(connection, ear.deadline):
                                carry_out(connection, ear.ask(), pipelines=False)
                        wait = ear.wait_for(op.heartbeat)
                        for heard in connection.notifies(timeout=wait, stop_after=1):
                            ear.hear(heard.channel, heard.payload)
            except psycopg.Error as error:
                raise watching.lost(faults.first_line(error)) from error
        if not op.stopped():
            raise faults.not_open()

    def _do(self, body: Callable[..., work.Work[R]], op: object, seconds: float = 0) -> R:
        make: Make[R] = partial(body, self._sql, op)
        return self._connected().run(make, seconds or self.settings.timeout)

    def _connected(self) -> Lines:
        lines = self._lines
        if lines is None:
            raise faults.not_open()
        return lines if self._process == os.getpid() else self._begin_anew()

    def _begin_anew(self) -> Lines:
        """A forked child has its parent's sockets, and neither uses nor closes them."""
        with self._forking:
            if self._lines is None:
                raise faults.not_open()
            if self._process != os.getpid():
                lines = Lines(self.settings)
                lines.open()
                self._forsaken.append(self._lines)
                self._lines, self._process = lines, os.getpid()
            return self._lines


class AsyncPostgresStore:
    """The same store for asynchronous code, on the event loop on which it is opened.

    A cancelled request does not cancel its write: it is carried out, and only the answer is
    dropped; otherwise nobody would know whether it happened.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._sql = statements(settings.schema)
        self._lines: AsyncLines | None = None
        self._writes: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"AsyncPostgresStore(schema={self.settings.schema!r})"

    async def open(self, store_identity: bytes) -> None:
        """See `PostgresStore.open`."""
        await self.close()
        lines = AsyncLines(self.settings)
        try:
            await lines.run_beside(_preparing(self.settings, store_identity), PREPARING_SECONDS)
            await lines.open()
            await lines.run(_asking_the_clock, self.settings.timeout)
        except BaseException:
            await lines.close()
            raise
        self._lines = lines

    async def close(self) -> None:
        """Close all connections when the writes that were begun are done."""
        lines, self._lines = self._lines, None
        if lines is not None:
            if self._writes:
                await asyncio.wait(tuple(self._writes))
            await lines.close()

    async def find(self, op: Find) -> Found | None:
        """See `PostgresStore.find`."""
        return await self._do(work.find, op)

    async def read_epoch(self, op: ReadEpoch) -> Epochs:
        """See `PostgresStore.read_epoch`."""
        return await self._do(work.read_epoch, op)

    async def insert(self, op: Insert) -> Inserted:
        """See `PostgresStore.insert`."""
        return await self._whole(self._do(work.insert, op))

    async def touch(self, op: Touch) -> Outcome:
        """See `PostgresStore.touch`."""
        return await self._whole(self._do(_relaxed, op))

    async def shift(self, op: Shift) -> Outcome:
        """See `PostgresStore.shift`."""
        return await self._whole(self._do(_relaxed, op))

    async def rotate(self, op: Rotate) -> Outcome:
        """See `PostgresStore.rotate`."""
        return await self._whole(self._do(_durable, op))

    async def replace(self, op: Replace) -> Outcome:
        """See `PostgresStore.replace`."""
        return await self._whole(self._do(_relaxed, op))

    async def end(self, op: End) -> Outcome:
        """See `PostgresStore.end`."""
        return await self._whole(self._do(_durable, op))

    async def end_subject(self, op: EndSubject) -> tuple[Found, ...]:
        """See `PostgresStore.end_subject`."""
        return await self._whole(self._do(work.end_subject, op))

    async def end_all(self, op: EndAll) -> None:
        """See `PostgresStore.end_all`."""
        await self._whole(self._do(work.end_all, op))

    async def list_subject(self, op: ListSubject) -> tuple[Found, ...]:
        """See `PostgresStore.list_subject`."""
        return await self._do(work.list_subject, op)

    async def append(self, op: Append) -> None:
        """See `PostgresStore.append`."""
        await self._whole(self._do(work.append, op))

    async def read_history(self, op: ReadHistory) -> tuple[HistoryEntry, ...]:
        """See `PostgresStore.read_history`."""
        return await self._do(work.read_history, op)

    async def erase(self, op: Erase) -> int:
        """See `PostgresStore.erase`."""
        return await self._whole(self._do(work.erase, op))

    async def sweep(self, op: Sweep) -> int:
        """See `PostgresStore.sweep`."""
        return await self._do(sweeping.sweep, op, SWEEPING_SECONDS)

    async def read_clock(self, op: ReadClock) -> int | None:
        """See `PostgresStore.read_clock`."""
        return await self._do(work.read_clock, op)

    async def watch(self, op: Watch) -> None:
        """See `PostgresStore.watch`; ends when it is cancelled."""
        ear = _ear(self._sql, op, self.settings)
        lines = self._connected()
        connection = await lines.connect(direct=True)
        try:
            with lines.watchdog.guard(connection, float("inf")):
                await acarry_out(connection, ear.listen(), pipelines=False)
                while self._lines is lines:
                    if ear.is_time_to_ask(op.heartbeat):
                        with lines.watchdog.guard(connection, ear.deadline):
                            await acarry_out(connection, ear.ask(), pipelines=False)
                    wait = ear.wait_for(op.heartbeat)
                    async for heard in connection.notifies(timeout=wait, stop_after=1):
                        ear.hear(heard.channel, heard.payload)
        except psycopg.Error as error:
            raise watching.lost(faults.first_line(error)) from error
        finally:
            await connection.close()
        raise faults.not_open()

    async def _do(self, body: Callable[..., work.Work[R]], op: object, seconds: float = 0) -> R:
        make: Make[R] = partial(body, self._sql, op)
        return await self._connected().run(make, seconds or self.settings.timeout)

    async def _whole(self, writing: Coroutine[Any, Any, R]) -> R:
        task = asyncio.ensure_future(writing)
        self._writes.add(task)
        task.add_done_callback(self._written)
        return await asyncio.shield(task)

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked has it already, or was cancelled and asks no more

    def _connected(self) -> AsyncLines:
        if self._lines is None:
            raise faults.not_open()
        return self._lines


_relaxed = partial(work.change, durable=False)
_durable = partial(work.change, durable=True)


def _asking_the_clock(_again: bool) -> work.Work[None]:
    """The pool connects in another way than `open` did: find out now whether it can."""
    yield (CLOCK,)


def _preparing(settings: Settings, identity: bytes) -> Make[None]:
    def make(_again: bool) -> work.Work[None]:
        return preparing.prepare(settings.schema, identity, migrates=settings.migrates)

    return make


def _ear(sql: Statements, op: Watch, settings: Settings) -> watching.Ear:
    if settings.is_pooled and not settings.direct:
        raise watching.not_through_a_pooler()
    return watching.ear(sql, op, settings.timeout)
