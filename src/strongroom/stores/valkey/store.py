"""The two faces of the store: one for threads, one for an event loop. Both drive the same body."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

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
    Notice,
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

from . import faults, fitness
from .body import Body
from .contents import ValkeyContents
from .faults import Lost, Refusal
from .routing import Exchange, Pause, Router, Steps
from .settings import Address, Settings
from .watching import Watcher
from .wire import AsyncConnection, Connection, Replies, check_greeting, greeting

R = TypeVar("R")

IDLE_CONNECTIONS = 32
"""Connections to one server that are kept for later. There are as many as threads ask at once."""


def _opening(body: Body, router: Router) -> Steps[None]:
    yield from fitness.check(router)
    yield from body.claim()


class ValkeyStore:
    """A store on Valkey or Redis. Any thread may call any method; so may a forked child.

    Each thread that asks has a connection for as long as it waits; connections are kept for the
    next one.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._body: Body | None = None
        self._router = Router(settings)
        self._pool = _Pool(settings)

    def __repr__(self) -> str:
        return f"ValkeyStore({', '.join(map(str, self._settings.addresses))})"

    def open(self, store_identity: bytes) -> None:
        """Connect, see that the servers are fit, and check that the store belongs to these keys.

        Raises:
            StoreMismatch: it belongs to others, or its server is not fit.
            StoreUnavailable: it cannot be reached or written.
        """
        self._open(store_identity)

    def open_to_fill(self, store_identity: bytes) -> None:
        """Open a prefix that is new, or was being filled before. See `stores.base.Movable`."""
        self._open(store_identity, fills=True)

    def _open(self, store_identity: bytes, *, fills: bool = False) -> None:
        router = Router(self._settings)
        body = Body(self._settings, router, store_identity, fills=fills)
        self._pool.open()
        try:
            self._pool.run(_opening(body, router))
        except BaseException:
            if self._body is None:
                self._pool.close()
            raise
        self._body, self._router = body, router

    def contents(self) -> ValkeyContents:
        """All that is kept under the prefix."""
        body = self._open_body
        return ValkeyContents(self._settings, self._router, body, self._pool.run)

    def close(self) -> None:
        """Close all connections. Closing twice is a no-op."""
        self._body = None
        self._pool.close()

    def find(self, op: Find) -> Found | None:
        return self._pool.run(self._open_body.find(op))

    def read_epoch(self, op: ReadEpoch) -> Epochs:
        return self._pool.run(self._open_body.read_epoch(op))

    def insert(self, op: Insert) -> Inserted:
        return self._pool.run(self._open_body.insert(op))

    def touch(self, op: Touch) -> Outcome:
        return self._pool.run(self._open_body.touch(op))

    def shift(self, op: Shift) -> Outcome:
        return self._pool.run(self._open_body.shift(op))

    def rotate(self, op: Rotate) -> Outcome:
        return self._pool.run(self._open_body.rotate(op))

    def replace(self, op: Replace) -> Outcome:
        return self._pool.run(self._open_body.replace(op))

    def end(self, op: End) -> Outcome:
        return self._pool.run(self._open_body.end(op))

    def end_subject(self, op: EndSubject) -> tuple[Found, ...]:
        return self._pool.run(self._open_body.end_subject(op))

    def end_all(self, op: EndAll) -> None:
        self._pool.run(self._open_body.end_all(op))

    def list_subject(self, op: ListSubject) -> tuple[Found, ...]:
        return self._pool.run(self._open_body.list_subject(op))

    def append(self, op: Append) -> None:
        self._pool.run(self._open_body.append(op))

    def read_history(self, op: ReadHistory) -> tuple[HistoryEntry, ...]:
        return self._pool.run(self._open_body.read_history(op))

    def erase(self, op: Erase) -> int:
        return self._pool.run(self._open_body.erase(op))

    def sweep(self, op: Sweep) -> int:
        return self._pool.run(self._open_body.sweep(op))

    def read_clock(self, op: ReadClock) -> int | None:
        return self._pool.run(self._open_body.read_clock(op))

    def watch(self, op: Watch) -> None:
        """Push changes until `op.stopped()`. See `watching.py`."""
        names = self._open_body.names
        pool = _Pool(self._settings)
        pool.open()
        try:
            Watcher(self._settings, names, op, pool.run).watch(lambda: self._body is not None)
        finally:
            pool.close()

    @property
    def _open_body(self) -> Body:
        if self._body is None:
            raise faults.not_open()
        return self._body


class AsyncValkeyStore:
    """The same store for one event loop.

    All requests share one connection to each server, and one more for what waits for replicas. A
    cancelled request does not cancel what it sent: it will be carried out, and only the answer is
    dropped.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._body: Body | None = None
        self._lines = _Lines(settings)

    def __repr__(self) -> str:
        return f"AsyncValkeyStore({', '.join(map(str, self._settings.addresses))})"

    async def open(self, store_identity: bytes) -> None:
        """Connect and check. See `ValkeyStore.open`."""
        router = Router(self._settings)
        body = Body(self._settings, router, store_identity)
        self._lines.open()
        try:
            await self._lines.run(_opening(body, router))
        except BaseException:
            if self._body is None:
                await self._lines.close()
            raise
        self._body = body

    async def close(self) -> None:
        """Close all connections. Closing twice is a no-op."""
        self._body = None
        await self._lines.close()

    async def find(self, op: Find) -> Found | None:
        return await self._lines.run(self._open_body.find(op))

    async def read_epoch(self, op: ReadEpoch) -> Epochs:
        return await self._lines.run(self._open_body.read_epoch(op))

    async def insert(self, op: Insert) -> Inserted:
        return await self._lines.run(self._open_body.insert(op))

    async def touch(self, op: Touch) -> Outcome:
        return await self._lines.run(self._open_body.touch(op))

    async def shift(self, op: Shift) -> Outcome:
        return await self._lines.run(self._open_body.shift(op))

    async def rotate(self, op: Rotate) -> Outcome:
        return await self._lines.run(self._open_body.rotate(op))

    async def replace(self, op: Replace) -> Outcome:
        return await self._lines.run(self._open_body.replace(op))

    async def end(self, op: End) -> Outcome:
        return await self._lines.run(self._open_body.end(op))

    async def end_subject(self, op: EndSubject) -> tuple[Found, ...]:
        return await self._lines.run(self._open_body.end_subject(op))

    async def end_all(self, op: EndAll) -> None:
        await self._lines.run(self._open_body.end_all(op))

    async def list_subject(self, op: ListSubject) -> tuple[Found, ...]:
        return await self._lines.run(self._open_body.list_subject(op))

    async def append(self, op: Append) -> None:
        await self._lines.run(self._open_body.append(op))

    async def read_history(self, op: ReadHistory) -> tuple[HistoryEntry, ...]:
        return await self._lines.run(self._open_body.read_history(op))

    async def erase(self, op: Erase) -> int:
        return await self._lines.run(self._open_body.erase(op))

    async def sweep(self, op: Sweep) -> int:
        return await self._lines.run(self._open_body.sweep(op))

    async def read_clock(self, op: ReadClock) -> int | None:
        return await self._lines.run(self._open_body.read_clock(op))

    async def watch(self, op: Watch) -> None:
        """Push changes until it is cancelled. A thread listens; the loop is told."""
        names, loop = self._open_body.names, _running()
        done: asyncio.Future[None] = loop.create_future()
        stopped = threading.Event()

        def told(notice: Notice) -> None:
            if not stopped.is_set():
                op.tell(notice)

        def ended(error: BaseException | None) -> None:
            if not done.done():
                done.set_result(None) if error is None else done.set_exception(error)

        def in_loop(call: Callable[[Any], None], argument: Any) -> None:
            # A loop that is closed meanwhile has nobody left who would listen.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(call, argument)

        own = Watch(lambda notice: in_loop(told, notice), op.heartbeat, stopped.is_set)

        def listen() -> None:
            pool = _Pool(self._settings)
            pool.open()
            error: BaseException | None = None
            try:
                Watcher(self._settings, names, own, pool.run).watch(lambda: self._body is not None)
            except BaseException as raised:  # raised again in the loop
                error = raised
            finally:
                pool.close()
                in_loop(ended, error)

        threading.Thread(target=listen, name="strongroom-watch", daemon=True).start()
        try:
            await done
        finally:
            stopped.set()

    @property
    def _open_body(self) -> Body:
        if self._body is None:
            raise faults.not_open()
        return self._body


def _seconds(settings: Settings, exchange: Exchange) -> float:
    """How long the exchange may take: WAIT has its own time-out, on top of the usual."""
    return settings.timeout_ms / 1000 * (2 if exchange.alone else 1)


class _Pool:
    """Blocking connections, of which each thread takes one at a time, and the sync driver."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._idle: dict[Address, deque[Connection]] = {}
        self._is_open = False
        self._pid = 0

    def open(self) -> None:
        """Be ready."""
        self._is_open = True

    def close(self) -> None:
        """Close what is idle; what is in use closes when it is put back."""
        self._is_open = False
        idle, self._idle = self._idle, {}
        for connections in idle.values():
            _close_all(connections)

    def run(self, steps: Steps[R]) -> R:
        """Carry out the steps."""
        try:
            effect = next(steps)
            while True:
                if isinstance(effect, Pause):
                    time.sleep(effect.seconds)
                    effect = steps.send(None)
                    continue
                try:
                    replies = self._exchange(effect)
                except (Lost, Refusal) as fault:
                    effect = steps.throw(fault)
                else:
                    effect = steps.send(replies)
        except StopIteration as done:
            result: R = done.value
            return result

    def _exchange(self, exchange: Exchange) -> Replies:
        deadline = time.monotonic() + _seconds(self._settings, exchange)
        connection = self._take(exchange, deadline)
        try:
            replies = connection.exchange(exchange.commands, deadline)
        except Lost:
            # Whatever happened to this one has probably happened to its neighbours.
            _close_all(self._idle.pop(exchange.address, ()))
            raise
        self._put_back(connection)
        return replies

    def _take(self, exchange: Exchange, deadline: float) -> Connection:
        if self._pid != os.getpid():
            # A fork has given the child the parent's sockets; both would read each other's answers.
            idle, self._idle, self._pid = self._idle, {}, os.getpid()
            for connections in idle.values():
                _close_all(connections)
        try:
            return self._idle[exchange.address].pop()
        except (KeyError, IndexError):
            return self._connect(exchange, deadline)

    def _connect(self, exchange: Exchange, deadline: float) -> Connection:
        connection = Connection(exchange.address, self._settings, deadline)
        said = _greeting(self._settings, exchange)
        if said:
            try:
                check_greeting(exchange.address, connection.exchange(said, deadline))
            except BaseException:
                connection.close()
                raise
        return connection

    def _put_back(self, connection: Connection) -> None:
        idle = self._idle.setdefault(connection.address, deque())
        if self._is_open and len(idle) < IDLE_CONNECTIONS:
            idle.append(connection)
        else:
            connection.close()
        if not self._is_open:  # closed meanwhile, perhaps before this one was put back
            _close_all(idle)


def _close_all(connections: deque[Connection] | tuple[()]) -> None:
    for connection in tuple(connections):
        connection.close()


def _greeting(settings: Settings, exchange: Exchange) -> Any:
    login = settings.sentinel_login if exchange.is_sentinel else settings.login
    return greeting(settings, login, is_data=not exchange.is_sentinel)


class _Lines:
    """The event loop's connections, one for each server and lane, and the async driver."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lines: dict[tuple[Address, bool], AsyncConnection] = {}
        self._making: dict[tuple[Address, bool], asyncio.Task[AsyncConnection]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_open = False

    def open(self) -> None:
        """Be ready."""
        self._is_open = True

    async def close(self) -> None:
        """Close all connections, and wait until they are closed."""
        self._is_open = False
        making, self._making = self._making, {}
        for task in making.values():
            task.cancel()
        await asyncio.gather(*making.values(), return_exceptions=True)
        lines, self._lines = self._lines, {}
        for line in lines.values():
            line.close()
        for line in lines.values():
            await line.closed()

    async def run(self, steps: Steps[R]) -> R:
        """Carry out the steps."""
        try:
            effect = next(steps)
            while True:
                if isinstance(effect, Pause):
                    await asyncio.sleep(effect.seconds)
                    effect = steps.send(None)
                    continue
                try:
                    line = self._lines.get((effect.address, effect.alone))
                    if line is None or line.is_lost or self._loop is not _running():
                        line = await self._line(effect)
                    replies = await line.exchange(effect.commands)
                except (Lost, Refusal) as fault:
                    effect = steps.throw(fault)
                else:
                    effect = steps.send(replies)
        except StopIteration as done:
            result: R = done.value
            return result

    async def _line(self, exchange: Exchange) -> AsyncConnection:
        """The connection for this exchange; those who ask meanwhile wait for the same one."""
        if self._loop is not _running():
            # Another loop: the old one's connections cannot be used here, nor closed from here.
            self._lines, self._making, self._loop = {}, {}, _running()
        name = (exchange.address, exchange.alone)
        task = self._making.get(name)
        if task is None:
            task = self._making[name] = asyncio.ensure_future(self._connect(exchange))
            forget: Callable[[Any], Any] = lambda _: self._making.pop(name, None)  # noqa: E731
            task.add_done_callback(forget)
        # Who is cancelled does not take the connection away from the others.
        return await asyncio.shield(task)

    async def _connect(self, exchange: Exchange) -> AsyncConnection:
        seconds = _seconds(self._settings, exchange)
        line = await AsyncConnection.open(exchange.address, self._settings, seconds, seconds)
        try:
            said = _greeting(self._settings, exchange)
            if said:
                check_greeting(exchange.address, await line.exchange(said))
            if not self._is_open:
                raise Lost(exchange.address, "the store was closed", sent=False)
        except BaseException:
            line.close()
            raise
        self._lines[exchange.address, exchange.alone] = line
        return line


def _running() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()
