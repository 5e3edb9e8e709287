"""Which server is asked, how often, and what to make of it: one body for sync and async.

Everything here is a generator that yields `Exchange` and `Pause`; a driver in `store.py` carries
them out. `call` is the loop that every op goes through: find the server, ask it, and try again with
a growing, random pause where that can help, until the op's patience is at its end.

Trying again is safe for every op. Reads change nothing; writes are conditional or take the greater
of two; and an op whose answer was lost says so the second time (`ARGV[1]` of a script), so that the
server can recognise by the op's own revision that it was carried out.
"""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import hiredis

from . import faults
from .faults import Lost, Refusal
from .names import SLOTS
from .scripts import Script
from .settings import Address, Mode, Settings
from .wire import Command, Replies, Word

R = TypeVar("R")

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.25
MANY_MOVES = 16
"""How often one op may be sent on before the nodes count as disagreeing."""


@dataclass(slots=True)
class Exchange:
    """Send the commands to that server -> its replies, error replies among them.

    `alone`: on a connection that nobody else uses meanwhile, because WAIT holds it up.
    """

    address: Address
    commands: tuple[Command, ...]
    alone: bool = False
    is_sentinel: bool = False


@dataclass(slots=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


Effect = Exchange | Pause
Steps = Generator[Effect, Any, R]


@dataclass(slots=True)
class Ask:
    """One command about one slot: plain words, or a script with its keys and arguments."""

    slot: int
    words: Command = ()
    script: Script | None = None
    keys: tuple[bytes, ...] = ()
    arguments: tuple[Word, ...] = ()
    durable: bool = False

    def command(self, *, again: bool, whole: bool) -> Command:
        """The command, by the script's name or with its `whole` text."""
        if self.script is None:
            return self.words
        named: Command = ("EVAL", self.script.text) if whole else ("EVALSHA", self.script.sha)
        return (*named, len(self.keys), *self.keys, b"1" if again else b"0", *self.arguments)


class Topology(Protocol):
    """Who serves what, as far as is known."""

    def serving(self, slot: int) -> Steps[Address]:
        """The server to ask about the slot."""
        ...

    def primaries(self) -> Steps[tuple[Address, ...]]:
        """All servers that are written to, looked up anew."""
        ...

    def doubt(self, address: Address) -> None:
        """That server did not do what it should: look again."""
        ...

    def moved(self, slot: int, address: Address) -> None:
        """A node says that another one serves the slot."""
        ...


class Alone:
    """One server, or what stands before it."""

    def __init__(self, settings: Settings) -> None:
        self._address = settings.addresses[0]

    def serving(self, slot: int) -> Steps[Address]:
        del slot
        yield from ()
        return self._address

    def primaries(self) -> Steps[tuple[Address, ...]]:
        yield from ()
        return (self._address,)

    def doubt(self, address: Address) -> None:
        pass

    def moved(self, slot: int, address: Address) -> None:
        pass


class Watched:
    """A primary that sentinels watch: they are asked who it is, and it is asked whether it is."""

    def __init__(self, settings: Settings) -> None:
        self._sentinels = list(settings.addresses)
        self._name = settings.primary_name
        self._primary: Address | None = None

    def serving(self, slot: int) -> Steps[Address]:
        del slot
        if self._primary is None:
            self._primary = yield from self.look_up()
        return self._primary

    def primaries(self) -> Steps[tuple[Address, ...]]:
        self._primary = yield from self.look_up()
        return (self._primary,)

    def look_up(self) -> Steps[Address]:
        """The primary that a sentinel names, and that is one itself."""
        last: Lost | Refusal | None = None
        for sentinel in tuple(self._sentinels):
            try:
                primary = yield from self._named_by(sentinel)
            except (Lost, Refusal) as fault:
                last = fault
                continue
            # Who answered is asked first the next time.
            self._sentinels.remove(sentinel)
            self._sentinels.insert(0, sentinel)
            return primary
        raise last or Lost(self._sentinels[0], "no sentinel is known", sent=False)

    def _named_by(self, sentinel: Address) -> Steps[Address]:
        asked = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
        said = first(sentinel, (yield Exchange(sentinel, (asked,), is_sentinel=True)))
        match said:
            case [bytes(host), bytes(port)] if port.isdigit():
                primary = Address(host.decode("ascii", "replace"), int(port))
            case _:
                raise Refusal(sentinel, f"NOSUCH the sentinel knows no {self._name!r}")
        match first(primary, (yield Exchange(primary, (("ROLE",),)))):
            case [b"master", *_]:
                return primary
            case _:
                raise Refusal(primary, "READONLY it is not what the sentinel calls it, a primary")

    def doubt(self, address: Address) -> None:
        if address == self._primary:
            self._primary = None

    def moved(self, slot: int, address: Address) -> None:
        pass


class Cluster:
    """The map of a cluster's slots. Who sends us on corrects it, and who fails voids it."""

    def __init__(self, settings: Settings) -> None:
        self._seeds = settings.addresses
        self._serving: list[Address | None] = [None] * SLOTS
        self._is_stale = True

    def serving(self, slot: int) -> Steps[Address]:
        address = self._serving[slot]
        if self._is_stale or address is None:
            yield from self._refresh()
            address = self._serving[slot]
        if address is None:
            raise Refusal(self._seeds[0], f"CLUSTERDOWN nobody serves slot {slot}")
        return address

    def primaries(self) -> Steps[tuple[Address, ...]]:
        yield from self._refresh()
        return tuple(sorted({each for each in self._serving if each is not None}))

    def doubt(self, address: Address) -> None:
        del address
        self._is_stale = True

    def moved(self, slot: int, address: Address) -> None:
        self._serving[slot] = address

    def _refresh(self) -> Steps[None]:
        last: Lost | Refusal | None = None
        known = {each: None for each in self._serving if each is not None}
        for node in (*known, *(each for each in self._seeds if each not in known)):
            try:
                said = first(node, (yield Exchange(node, (("CLUSTER", "SLOTS"),))))
            except (Lost, Refusal) as fault:
                last = fault
                continue
            self._serving = slots_from(said, node)
            self._is_stale = False
            return
        raise last or Lost(self._seeds[0], "no node of the cluster is known", sent=False)


def slots_from(said: Any, node: Address) -> list[Address | None]:
    """What CLUSTER SLOTS answered, as who serves each slot. Nonsense is left out."""
    serving: list[Address | None] = [None] * SLOTS
    # pyright knows less about it than mypy, hence the Any.
    rows: Any = cast("Any", said) if isinstance(said, list) else []
    for row in rows:
        try:
            start, end, (host, port, *_) = int(row[0]), int(row[1]), row[2]
            # A node that does not know its own name leaves the host empty: it is who was asked.
            address = Address(host.decode("ascii") if host else node.host, int(port))
        except (TypeError, ValueError, LookupError, AttributeError):
            continue
        if 0 <= start <= end < SLOTS:
            serving[start : end + 1] = [address] * (end + 1 - start)
    return serving


def topology(settings: Settings) -> Topology:
    """The topology for the settings' mode."""
    kinds: dict[Mode, type[Alone] | type[Watched] | type[Cluster]] = {
        Mode.SINGLE: Alone,
        Mode.SENTINEL: Watched,
        Mode.CLUSTER: Cluster,
    }
    return kinds[settings.mode](settings)


def first(address: Address, replies: Replies) -> Any:
    """The first reply.

    Raises:
        Refusal: it is an error.
    """
    reply = replies[0]
    if isinstance(reply, hiredis.ReplyError):
        raise Refusal(address, str(reply))
    return reply


class Router:
    """Carries out asks, wherever they have to go."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.topology = topology(settings)

    def call(self, ask: Ask) -> Steps[Any]:
        """The reply to the ask.

        Raises:
            StoreUnavailable: no answer within the patience, or a refusal that does not pass.
        """
        attempt = _Attempt(self, ask, time.monotonic() + self.settings.patience_ms / 1000)
        while True:
            try:
                return (yield from attempt.make())
            except Lost as lost:
                attempt.was_sent |= lost.sent
                self.topology.doubt(lost.address)
                yield from attempt.pause(lost)
            except Refusal as refusal:
                self.topology.doubt(refusal.address)
                if not refusal.may_pass:
                    raise faults.unavailable(refusal) from None
                yield from attempt.pause(refusal)

    def pauses(self) -> Steps[None]:
        """A short pause between two attempts at something that is more than one ask."""
        yield Pause(FIRST_PAUSE * (1 + random.random()))  # noqa: S311 - jitter


class _Attempt:
    """The attempts at one ask."""

    def __init__(self, router: Router, ask: Ask, deadline: float) -> None:
        self._router, self._ask, self._deadline = router, ask, deadline
        self._next_pause = FIRST_PAUSE
        self.was_sent = False

    def pause(self, fault: Lost | Refusal) -> Steps[None]:
        """Wait a little longer than the last time, at random, so that not all come at once."""
        pause = self._next_pause * (0.5 + random.random())  # noqa: S311 - jitter
        self._next_pause = min(self._next_pause * 2, LONGEST_PAUSE)
        if time.monotonic() + pause >= self._deadline:
            raise faults.unavailable(fault) from None
        yield Pause(pause)

    def make(self) -> Steps[Any]:
        """Ask, follow where the nodes send us, and return the reply."""
        address = yield from self._router.topology.serving(self._ask.slot)
        asking = whole = False
        for _ in range(MANY_MOVES):
            try:
                return (yield from self._exchange(address, asking=asking, whole=whole))
            except Refusal as refusal:
                match refusal.code:
                    case "NOSCRIPT" if not whole:
                        whole = True
                    case "MOVED" | "ASK" if self._router.settings.mode is Mode.CLUSTER:
                        asking = refusal.code == "ASK"
                        address = self._sent_on(refusal)
                    case _:
                        raise
        raise Refusal(address, "TRYAGAIN the nodes keep sending the store on")

    def _exchange(self, address: Address, *, asking: bool, whole: bool) -> Steps[Any]:
        ask = self._ask
        commands: list[Command] = [("ASKING",)] if asking else []
        commands.append(ask.command(again=self.was_sent, whole=whole))
        waits = ask.durable and self._router.settings.is_durable
        if waits:
            commands.append(self._router.settings.wait)
        replies = yield Exchange(address, tuple(commands), alone=waits)
        reply = first(address, replies[1:] if asking else replies)
        if waits:
            self.was_sent = True
            waited = first(address, replies[-1:])
            if not self._router.settings.is_enough(waited):
                raise faults.not_durable(address)
        return reply

    def _sent_on(self, refusal: Refusal) -> Address:
        """Where `MOVED slot host:port` or `ASK slot host:port` points."""
        words = refusal.reply.split()
        host, _, port = words[-1].rpartition(":")
        if len(words) < 3 or not port.isdigit():
            raise refusal
        address = Address(host or refusal.address.host, int(port))
        if refusal.code == "MOVED":
            self._router.topology.moved(self._ask.slot, address)
        return address


def chunks(members: Sequence[Any]) -> list[tuple[Any, Any]]:
    """A flat list of pairs, as pairs."""
    return list(zip(members[::2], members[1::2], strict=False))
