"""A memory store whose push channel fails in every way that a network can make it fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from strongroom.core.errors import StoreUnavailable
from strongroom.core.ops import Find, Found, Notice, Watch
from strongroom.stores.memory import MemoryStore

PATIENCE = 30.0


class FaultyStore(MemoryStore):
    """Its channel can be delayed, cut, silenced, refused, and told twice; its reads can be slow.

    What "another process" does is done to this object itself, behind the near cache's back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.finds = 0
        self.watches = 0
        self.refuses = False
        self.twice = False
        self.deaf = False
        """The channel stays open and says nothing at all, for ever."""
        self.broken: Exception | None = None
        self._cut = threading.Event()
        self._held: list[Callable[[], None]] | None = None
        self._gate: threading.Event | None = None
        self.arrived = threading.Semaphore(0)

    # The channel.

    def watch(self, op: Watch) -> None:
        self.watches += 1
        if self.refuses:
            raise StoreUnavailable("The channel is refused.")
        cut = self._cut = threading.Event()

        def tell(notice: Notice) -> None:
            if self.deaf:
                return
            for _ in range(2 if self.twice else 1):
                if self._held is None:
                    op.tell(notice)
                else:
                    self._held.append(lambda: op.tell(notice))

        super().watch(Watch(tell, op.heartbeat, lambda: op.stopped() or cut.is_set()))
        if cut.is_set():
            raise StoreUnavailable("The channel was cut.")

    def cut_channel(self) -> None:
        """The connection is gone."""
        self._cut.set()

    def hold(self) -> None:
        """From now on notices and proofs are under way, and do not arrive."""
        self._held = []

    def release(self) -> None:
        """What was held arrives, in its order."""
        with self._lock:
            held, self._held = self._held or [], None
            for arrive in held:
                arrive()

    # Reading.

    def find(self, op: Find) -> Found | None:
        self.finds += 1
        if self.broken is not None:
            raise self.broken
        found = super().find(op)
        gate = self._gate
        if gate is not None:
            self.arrived.release()
            assert gate.wait(PATIENCE)
        return found

    @contextmanager
    def slow_reads(self) -> Iterator[threading.Event]:
        """Reads see the record as it is, and their answer comes when the event is set."""
        gate = self._gate = threading.Event()
        try:
            yield gate
        finally:
            self._gate = None
            gate.set()
