"""Talking to one server: a blocking connection, and one for an event loop. RESP through hiredis.

Both answer in the order of asking. The asynchronous one is shared by all requests of a process:
each command goes out at once, and its answer is handed to whoever stands first in line. A request
that is cancelled keeps its place in that line, so nobody can ever receive another's answer, and
many requests in flight share one system call. docs/decisions/0020 has why, and the measurements.

Whatever goes wrong is `Lost`, and the connection is not used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis

from .faults import Lost, Refusal
from .settings import Address, Login, Settings

Word = bytes | str | int
Command = tuple[Word, ...]
Replies = list[Any]

NOTHING: Any = object()
"""What a reader answers while nothing whole has come."""
_PACK: Callable[[Command], bytes] = getattr(hiredis, "pack_command")  # noqa: B009 - its stub is wrong
_RECEIVE = 64 * 1024
_NAME = ("CLIENT", "SETNAME", "strongroom")


def pack(commands: tuple[Command, ...]) -> bytes:
    """The commands as they are sent."""
    return b"".join([_PACK(each) for each in commands])


def _reader() -> Any:
    return hiredis.Reader(notEnoughData=NOTHING)


def greeting(settings: Settings, login: Login, *, is_data: bool) -> tuple[Command, ...]:
    """What a new connection says first."""
    said: list[Command] = []
    if login.words:
        said.append(("AUTH", *login.words))
    if is_data and settings.database:
        said.append(("SELECT", settings.database))
    if is_data:
        said.append(_NAME)
    return tuple(said)


def check_greeting(address: Address, replies: Replies) -> None:
    """What a server answered to the greeting.

    Raises:
        Refusal: it does not let us in.
    """
    for reply in replies:
        # A server, or a user, without CLIENT SETNAME is none the worse for it.
        if isinstance(reply, hiredis.ReplyError) and "SETNAME" not in str(reply).upper():
            raise Refusal(address, str(reply))


class Connection:
    """A blocking connection. One caller at a time."""

    def __init__(self, address: Address, settings: Settings, deadline: float) -> None:
        self.address = address
        self.reader = _reader()
        try:
            plain = socket.create_connection(address, timeout=_left(deadline))
            try:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.socket = (
                    plain
                    if settings.tls is None
                    else settings.tls.wrap_socket(plain, server_hostname=address.host)
                )
            except BaseException:
                plain.close()
                raise
        except OSError as error:
            raise Lost(address, _reason(error), sent=False) from error

    def exchange(self, commands: tuple[Command, ...], deadline: float) -> Replies:
        """Send the commands, and wait for all their replies; error replies are among them.

        Raises:
            Lost: no answer in time, or the connection is gone. It is closed then.
        """
        sent = False
        try:
            self.socket.settimeout(_left(deadline))
            packed = pack(commands)
            sent = True
            self.socket.sendall(packed)
            return [self._reply(deadline) for _ in commands]
        except (OSError, hiredis.ProtocolError) as error:
            self.close()
            raise Lost(self.address, _reason(error), sent=sent) from error
        except BaseException:
            self.close()  # its next answer would be ours, not the next caller's
            raise

    def _reply(self, deadline: float) -> Any:
        while (reply := self.reader.gets()) is NOTHING:
            self.socket.settimeout(_left(deadline))
            received = self.socket.recv(_RECEIVE)
            if not received:
                raise ConnectionResetError("the server closed the connection")
            self.reader.feed(received)
        return reply

    def close(self) -> None:
        """Close it. Closing twice is a no-op."""
        with contextlib.suppress(OSError):
            self.socket.close()


class AsyncConnection(asyncio.Protocol):
    """A connection for an event loop, shared by whoever asks."""

    def __init__(self, address: Address, timeout: float) -> None:
        self.address = address
        self.is_lost = False
        self._timeout = timeout
        self._reader = _reader()
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._watchdog: asyncio.TimerHandle | None = None
        self._gone: asyncio.Future[None] | None = None

    @classmethod
    async def open(
        cls, address: Address, settings: Settings, timeout: float, connecting: float
    ) -> AsyncConnection:
        """Connect within `connecting` seconds; every answer is due in `timeout`.

        Raises:
            Lost: it cannot be done in time.
        """
        loop = asyncio.get_running_loop()
        made = cls(address, timeout)
        try:
            async with asyncio.timeout(connecting):
                await loop.create_connection(
                    lambda: made,
                    *address,
                    ssl=settings.tls,
                    server_hostname=address.host if settings.tls else None,
                )
        except (OSError, TimeoutError) as error:
            made.close()
            raise Lost(address, _reason(error), sent=False) from error
        except BaseException:
            made.close()
            raise
        return made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have all of its methods, and are no instances of it.
        self._transport = cast("asyncio.Transport", transport)
        self._gone = asyncio.get_running_loop().create_future()
        connected = transport.get_extra_info("socket")
        if connected is not None:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def exchange(self, commands: tuple[Command, ...]) -> Replies:
        """Send the commands, and wait for all their replies; error replies are among them.

        Raises:
            Lost: no answer in time, or the connection is gone.
        """
        transport = self._transport
        if self.is_lost or transport is None:
            raise Lost(self.address, "the connection is closed", sent=False)
        loop = asyncio.get_running_loop()
        packed = pack(commands)
        due = loop.time() + self._timeout
        replies = [loop.create_future() for _ in commands]
        self._waiting.extend((each, due) for each in replies)
        if self._watchdog is None:
            self._watchdog = loop.call_at(due, self._look)
        transport.write(packed)
        if len(replies) == 1:
            return [await replies[0]]
        return list(await asyncio.gather(*replies))

    def data_received(self, data: bytes) -> None:
        reader, waiting = self._reader, self._waiting
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not NOTHING:
                if not waiting:
                    self._lose("it sent an answer that nobody asked for")
                    return
                future, _ = waiting.popleft()
                if not future.done():  # whoever asked may have been cancelled
                    future.set_result(reply)
        except hiredis.ProtocolError as error:
            self._lose(_reason(error))

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose("the server closed the connection" if exc is None else _reason(exc))
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    def _look(self) -> None:
        """Whether the answer that is due first is overdue: then the connection is given up."""
        self._watchdog = None
        if not self._waiting:
            return
        loop = asyncio.get_running_loop()
        due = self._waiting[0][1]
        if loop.time() >= due:
            self._lose("timed out")
        else:
            self._watchdog = loop.call_at(due, self._look)

    def _lose(self, why: str) -> None:
        self.is_lost = True
        waiting, self._waiting = self._waiting, deque()
        for future, _ in waiting:
            if not future.done():
                future.set_exception(Lost(self.address, why, sent=True))
                future.exception()  # a command of a batch may have nobody left who looks
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close it; whoever waits is told. Closing twice is a no-op."""
        self._lose("the store was closed")

    async def closed(self) -> None:
        """Wait until the socket is really closed."""
        if self._gone is not None:
            await self._gone


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
