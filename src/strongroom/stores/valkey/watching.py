"""Being told every change: the servers' own broadcast of invalidated keys, on one connection each.

`CLIENT TRACKING ON BCAST` makes a server name every key under our prefixes that is written, expires
or is deleted, by whomever, before it acknowledges the write. A question that is asked on the same
connection is answered behind all of that, so its answer proves that everything acknowledged before
it was asked has been told. docs/decisions/0021 has why not publishing, and the measurements.

Whatever leaves a doubt ends the watch with `StoreUnavailable`: a connection that is lost or silent,
a sentinel that names another primary, a cluster any node of which sees a primary that is not
watched. A slot that is being moved is no doubt, because both its nodes are watched.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from typing import Any

import hiredis

from strongroom.core.errors import StoreUnavailable
from strongroom.core.ops import Alive, Changed, ChangedAll, Watch
from strongroom.core.record import EPOCH_BYTES

from . import faults
from .faults import Lost, Refusal
from .names import Names
from .routing import Exchange, Router, Steps, Watched, first
from .settings import Address, Mode, Settings
from .wire import NOTHING, Command, Connection, Replies, pack

MOST_PATIENT_LOOK = 0.1
"""Seconds after which a watch looks whether it is to stop, however seldom its heart beats."""

_RECEIVE = 256 * 1024

Run = Callable[[Steps[Any]], Any]


class _Line:
    """One server that is watched."""

    def __init__(self, address: Address, settings: Settings, names: Names) -> None:
        self.address = address
        self._unheard: list[Any] = []
        self.due = 0
        deadline = time.monotonic() + settings.timeout_ms / 1000
        self._connection = Connection(address, settings, deadline)
        # The connection's own: it may have read the first pushes behind the greeting's answers.
        self._reader = self._connection.reader
        try:
            for reply in self._connection.exchange(_greeting(settings, names), deadline):
                if isinstance(reply, hiredis.ReplyError):
                    raise Refusal(address, str(reply))
            self.socket.setblocking(False)
        except BaseException:
            self.close()
            raise

    @property
    def socket(self) -> socket.socket:
        """What to wait for."""
        return self._connection.socket

    def ask(self, commands: tuple[Command, ...]) -> None:
        """Send the questions of one round."""
        self._unheard.clear()
        self.due = len(commands)
        try:
            # So little that it fits into any buffer, or the server has not read for very long.
            sent = self.socket.send(pack(commands))
        except OSError as error:
            raise Lost(self.address, "the connection is full or closed", sent=True) from error
        if sent != len(pack(commands)):
            raise Lost(self.address, "the connection is full", sent=True)

    def hear(self) -> list[Any]:
        """What has come: the pushes, in order; answers are kept for `answers`."""
        pushes: list[Any] = []
        while (received := self._receive()) is not None:
            if not received:
                raise Lost(self.address, "the server closed the connection", sent=False)
            try:
                self._reader.feed(received)
                while (said := self._reader.gets()) is not NOTHING:
                    is_push = isinstance(said, hiredis.PushNotification)
                    (pushes if is_push else self._unheard).append(said)
            except hiredis.ProtocolError as error:
                raise Lost(self.address, str(error), sent=False) from error
        return pushes

    def _receive(self) -> bytes | None:
        """Some bytes, none at the end of the connection, or None where nothing has come."""
        try:
            return self.socket.recv(_RECEIVE)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            # TLS has its own way of saying "nothing yet".
            if type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError"):
                return None
            raise Lost(self.address, str(error), sent=False) from error

    def answers(self) -> Replies | None:
        """The answers of this round, once all are there."""
        return self._unheard if len(self._unheard) >= self.due else None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _greeting(settings: Settings, names: Names) -> tuple[Command, ...]:
    words = settings.login.words
    user_and_password = words if len(words) == 2 else ("default", *words)
    prefixes: list[bytes | str] = []
    for prefix in names.watched:
        prefixes += ["PREFIX", prefix]
    said: list[Command] = [("HELLO", 3, *(("AUTH", *user_and_password) if words else ()))]
    if settings.database:
        said.append(("SELECT", settings.database))
    said.append(("CLIENT", "TRACKING", "ON", "BCAST", *prefixes))
    return tuple(said)


class Watcher:
    """One watch: its connections, its rounds of questions, and what it tells."""

    def __init__(self, settings: Settings, names: Names, op: Watch, run: Run) -> None:
        self._settings, self._names, self._op, self._run = settings, names, op, run
        self._router = Router(settings)
        self._lines: dict[Address, _Line] = {}
        self._epoch_key = names.epoch

    def watch(self, is_open: Callable[[], bool]) -> None:
        """Tell every change until the op is stopped.

        Raises:
            StoreUnavailable: a change may have been missed, or the store was closed.
        """
        try:
            with selectors.DefaultSelector() as selector:
                for address in self._servers():
                    line = _Line(address, self._settings, self._names)
                    self._lines[address] = line
                    selector.register(line.socket, selectors.EVENT_READ, line)
                while not self._op.stopped():
                    if not is_open():
                        raise faults.not_open()
                    self._round(selector, is_open)
        except Lost as lost:
            raise faults.unavailable(lost) from lost
        except Refusal as refusal:
            raise faults.unavailable(refusal) from refusal
        finally:
            for line in self._lines.values():
                line.close()

    def _servers(self) -> tuple[Address, ...]:
        """All servers that are written to."""
        if self._settings.mode is not Mode.CLUSTER:
            found: tuple[Address, ...] = self._run(self._router.topology.primaries())
            return found
        last: Lost | Refusal | None = None
        for node in self._settings.addresses:
            try:
                return tuple(sorted(self._run(_primaries_seen_by(node))))
            except (Lost, Refusal) as fault:
                last = fault
        raise last or faults.nobody_serves("it names no node")

    def _round(self, selector: selectors.BaseSelector, is_open: Callable[[], bool]) -> None:
        """Ask all, tell what comes until all have answered, and prove it; then listen on."""
        asked_at = time.monotonic()
        for line in self._lines.values():
            line.ask(self._questions())
        due = asked_at + self._settings.timeout_ms / 1000
        while any(line.answers() is None for line in self._lines.values()):
            if self._op.stopped() or not is_open():
                return
            if time.monotonic() >= due:
                silent = next(each for each in self._lines.values() if each.answers() is None)
                raise Lost(silent.address, "timed out", sent=False)
            self._listen(selector, due)
        epoch = self._judge()
        if not self._op.stopped():
            self._op.tell(Alive(asked_at, epoch))
        until = asked_at + self._op.heartbeat
        while time.monotonic() < until and not self._op.stopped() and is_open():
            self._listen(selector, until)

    def _listen(self, selector: selectors.BaseSelector, until: float) -> None:
        """Tell what comes, for a moment or until something has come."""
        left = max(until - time.monotonic(), 0.0)
        for key, _ in selector.select(min(left, MOST_PATIENT_LOOK)):
            line: _Line = key.data
            for push in line.hear():
                self._tell(push)

    def _tell(self, push: Any) -> None:
        if self._op.stopped():
            return
        if len(push) != 2 or push[0] != b"invalidate":
            return
        keys: list[Any] | None = push[1]
        if keys is None or self._epoch_key in keys:
            self._op.tell(ChangedAll())
            return
        ids = [self._names.session_id_of(each) for each in keys if isinstance(each, bytes)]
        told = tuple(each for each in ids if each is not None)
        if told:
            self._op.tell(Changed(told))

    def _questions(self) -> tuple[Command, ...]:
        get: Command = ("GET", self._epoch_key)
        return (get, ("CLUSTER", "NODES")) if self._settings.mode is Mode.CLUSTER else (get,)

    def _judge(self) -> bytes:
        """The store's epoch, if nobody's answer leaves a doubt.

        Raises:
            Lost: one does.
        """
        epoch: bytes | None = None
        for address, line in self._lines.items():
            replies = line.answers() or []
            if self._settings.mode is Mode.CLUSTER:
                seen = primaries_in(first(address, replies[1:]), address)
                if seen != self._lines.keys():
                    raise Lost(address, "the cluster's primaries are not who they were", sent=False)
            told = replies[0]
            if isinstance(told, bytes) and len(told) == EPOCH_BYTES:
                epoch = told
            elif isinstance(told, hiredis.ReplyError) and not str(told).startswith("MOVED"):
                raise Refusal(address, str(told))
        if isinstance(self._router.topology, Watched):
            primary = self._run(self._router.topology.look_up())
            if primary not in self._lines:
                raise Lost(primary, "it has become the primary", sent=False)
        if epoch is None:
            raise StoreUnavailable(
                "The session store has lost its epoch.",
                why="It may have lost everything else, too, so nothing that is cached is believed.",
                hint="The next session that is read or made gives it a new one.",
            )
        return epoch


def _primaries_seen_by(node: Address) -> Steps[frozenset[Address]]:
    said = first(node, (yield Exchange(node, (("CLUSTER", "NODES"),))))
    return primaries_in(said, node)


def primaries_in(said: Any, asked: Address) -> frozenset[Address]:
    """The primaries that CLUSTER NODES tells of, those without slots included.

    A primary that the others gave up counts only while it has slots: nobody serves them then.
    """
    found: set[Address] = set()
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    for line in text.splitlines():
        words = line.split()
        if len(words) < 8:
            continue
        flags = set(words[2].split(","))
        gone = "fail" in flags and len(words) == 8
        if "master" not in flags or gone or flags & {"noaddr", "handshake"}:
            continue
        host, _, port = words[1].partition("@")[0].rpartition(":")
        if port.isdigit():
            found.add(Address(host or asked.host, int(port)))
    return frozenset(found)
