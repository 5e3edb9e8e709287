"""Watching: every change as the server tells it, in the order in which it was committed.

A trigger sends a notification with each change, in the change's own transaction, so it is told if
and only if it was committed, whoever made it (docs/decisions/0032).

**The proof of life** is a notification to ourselves. PostgreSQL keeps one queue for a database, in
the order of commits; when our own comes back, all that was committed before we sent it has come
before. A connection that was silently lost never gives one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from strongroom.core.errors import StoreUnavailable
from strongroom.core.ops import Alive, Changed, ChangedAll, Notice, Watch

from .schema import channel
from .statements import Statement, Statements
from .work import Work

_HEX_ID = 32


@dataclass(slots=True)
class Proof:
    """A notification on its way to ourselves."""

    token: str
    asked_at: float
    epoch: bytes = b""
    is_back: bool = False


@dataclass(slots=True)
class Ear:
    """What one watcher has asked and heard. It decides; `watch` in the stores waits."""

    sql: Statements
    tell: Callable[[Notice], None]
    patience: float
    own: str = field(default_factory=lambda: f"strongroom.{os.urandom(8).hex()}")
    proof: Proof | None = None
    _next_at: float = 0.0

    def listen(self) -> Work[None]:
        """Listen before the first proof, so that nothing falls between."""
        for name in (channel(self.sql.schema), self.own):
            yield (Statement(f'LISTEN "{name}"'.encode()),)

    def ask(self) -> Work[None]:
        """Ask for a proof. The epoch is read in the same statement, after the moment is noted."""
        proof = self.proof = Proof(os.urandom(8).hex(), time.monotonic())
        [rows] = yield (Statement(self.sql.prove, (self.own, proof.token)),)
        epoch = rows[0][1]
        if epoch is None:
            raise lost("the store's own row is gone")
        proof.epoch = bytes(epoch)
        self._prove()

    def hear(self, name: str, payload: str) -> None:
        """Take in one notification."""
        if name == self.own:
            if self.proof is not None and payload == self.proof.token:
                self.proof.is_back = True
                self._prove()
        elif len(payload) == _HEX_ID:
            self.tell(Changed((bytes.fromhex(payload),)))
        else:
            # An operator's "*", or something that this release does not know: forget everything.
            self.tell(ChangedAll())

    def _prove(self) -> None:
        proof = self.proof
        if proof is not None and proof.is_back and proof.epoch:
            self.tell(Alive(proof.asked_at, proof.epoch))
            self.proof = None

    @property
    def deadline(self) -> float:
        """Until when a question that is asked now must be answered."""
        return time.monotonic() + self.patience

    def is_time_to_ask(self, heartbeat: float) -> bool:
        """Whether a heartbeat has passed and no proof is on its way."""
        now = time.monotonic()
        if self.proof is not None:
            return False
        if now < self._next_at:
            return False
        self._next_at = now + heartbeat
        return True

    def wait_for(self, heartbeat: float) -> float:
        """How long to listen before there is something to do.

        Raises:
            StoreUnavailable: the proof has not come back in time.
        """
        now = time.monotonic()
        if self.proof is None:
            return min(max(self._next_at - now, 0.0), heartbeat)
        if now - self.proof.asked_at > self.patience:
            raise lost("a notification to ourselves has not come back in time")
        return min(heartbeat, 0.1)


def ear(sql: Statements, op: Watch, patience: float) -> Ear:
    """A new watcher."""
    return Ear(sql, op.tell, patience)


def lost(why: str) -> StoreUnavailable:
    """The channel is not to be trusted any more."""
    return StoreUnavailable(
        f"PostgreSQL's channel of changes was lost: {why}.",
        why="What is not told must not be taken for quiet: every read goes to the store.",
        hint="It is opened again by itself; look whether the server runs and can be reached.",
    )


def not_through_a_pooler() -> StoreUnavailable:
    """LISTEN needs a connection of one's own."""
    return StoreUnavailable(
        "A PgBouncer in transaction mode stands between, and nothing can be listened to there.",
        why="Changes by other processes would not be told.",
        hint="Say where the server itself is, with direct_host= and direct_port= in the store's "
        "URL, or do without the near cache.",
    )
