"""The store's vocabulary. Each op is a value, and each is one atomic command (PROTOCOL E5).

Flows yield ops; `strongroom.drive` hands them to a store. Because an op is a value, a test can stop
a flow between two of them and put somebody else's logout exactly there.

None of `Touch`, `Shift` and `Rotate` carries application data or conflicts with `Replace` (P8).
What a conditional op answers is an `Outcome`; what each one does to a record stands in
`lifecycle.py` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, TypeVar

from .credentials import Credential
from .record import EndReason, Kind, Record


@dataclass(frozen=True, slots=True)
class Op:
    """One atomic command. `verb` names the store's method that carries it out."""

    verb: ClassVar[str]


R = TypeVar("R")
Flow = Generator[Op, Any, R]
"""A sequence of ops that ends in an `R`. Runs on any store, sync or async."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a conditional op.

    applied and a record: done, this is the record now. Not applied and a record: somebody else
    changed it first, this is what they left. Not applied and no record: it is gone or ended.
    """

    applied: bool
    record: Record | None

    @property
    def is_gone(self) -> bool:
        """Whether there is no live record."""
        return self.record is None


GONE = Outcome(applied=False, record=None)


@dataclass(frozen=True, slots=True)
class Find(Op):
    """Read one record, ended or not -> `Found`, or None where there is none.

    `authoritative` asks the primary, past every cache and replica (H2).
    """

    verb: ClassVar[str] = "find"
    session_id: bytes
    authoritative: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A record as it was read, and the store-wide epoch at most `max_staleness` old (E3)."""

    record: Record
    store_epoch: bytes
    authoritative: bool = True


@dataclass(frozen=True, slots=True)
class ReadEpoch(Op):
    """Read a subject's epoch and the store's -> `Epochs` (E2). Always authoritative."""

    verb: ClassVar[str] = "read_epoch"
    subject_key: bytes


@dataclass(frozen=True, slots=True)
class Epochs:
    """Random values that whatever ends all sessions replaces. A subject never seen has zeros."""

    subject: bytes
    store: bytes


class AtLimit(Enum):
    """What happens when a subject signs in once more than the policy allows (ASVS 7.1.2)."""

    REFUSE = "refuse"
    EVICT_OLDEST = "evict_oldest"
    EVICT_LEAST_RECENTLY_USED = "evict_least_recently_used"


@dataclass(frozen=True, slots=True)
class Limit:
    """How many signed-in sessions a subject may have, and what gives way."""

    maximum: int
    when_reached: AtLimit


class InsertRefusal(Enum):
    """Why nothing was inserted."""

    EPOCH = "epoch"
    LIMIT = "limit"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class Insert(Op):
    """Add a record -> `Inserted`.

    With `epoch`, only if the subject's epoch still equals it. With `limit`, live signed-in sessions
    of the subject are counted in the same step, and evicted ones ended; `replaces` is the session
    that ends right after, so it does not count. A record whose
    `store_epoch` is all zeros gets the store's own.
    """

    verb: ClassVar[str] = "insert"
    record: Record
    now: int
    epoch: bytes | None = None
    limit: Limit | None = None
    evicted_purge_at: int = 0
    replaces: bytes | None = None


@dataclass(frozen=True, slots=True)
class Inserted:
    """The record as stored, or why it was not. `EXISTS` comes with the record that is there."""

    record: Record | None
    refusal: InsertRefusal | None = None
    evicted: tuple[Record, ...] = ()


@dataclass(frozen=True, slots=True)
class Touch(Op):
    """Note activity -> `Outcome`. The greater of each moment wins, so it never goes back (P9)."""

    verb: ClassVar[str] = "touch"
    session_id: bytes
    revision: bytes
    seen_at: int
    idle_deadline: int
    purge_at: int


@dataclass(frozen=True, slots=True)
class Shift(Op):
    """Replace the credential if its current digest is `expected` -> `Outcome`.

    For renewal, first use and confirmation. Compares the digest, not the generation, so that a
    lost renewal and a repeated one cannot be taken for each other.
    """

    verb: ClassVar[str] = "shift"
    session_id: bytes
    revision: bytes
    expected: bytes
    credential: Credential


@dataclass(frozen=True, slots=True)
class Rotate(Op):
    """Replace credential and envelope if the current digest is `expected` -> `Outcome`."""

    verb: ClassVar[str] = "rotate"
    session_id: bytes
    revision: bytes
    expected: bytes
    credential: Credential
    kind: Kind
    envelope: bytes = field(repr=False)
    envelope_key_id: int
    seen_at: int
    idle_deadline: int
    purge_at: int


@dataclass(frozen=True, slots=True)
class Replace(Op):
    """Replace the data if its version is `expected` -> `Outcome`."""

    verb: ClassVar[str] = "replace"
    session_id: bytes
    revision: bytes
    expected: bytes
    data_version: bytes
    data: bytes = field(repr=False)
    data_key_id: int


@dataclass(frozen=True, slots=True)
class End(Op):
    """End a live record -> `Outcome` with the ended record; gone if nobody was left to end.

    Durable before it is acknowledged. The data is wiped; header and envelope stay for the history.
    With `subject_key`, only if the record belongs to that subject.
    """

    verb: ClassVar[str] = "end"
    session_id: bytes
    revision: bytes
    reason: EndReason
    at: int
    purge_at: int
    subject_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class EndSubject(Op):
    """End a subject's live records but `keep`, and replace its epoch -> tuple of ended `Found`.

    Durable before it is acknowledged.
    """

    verb: ClassVar[str] = "end_subject"
    subject_key: bytes
    revision: bytes
    reason: EndReason
    at: int
    purge_at: int
    new_epoch: bytes
    keep: bytes | None = None


@dataclass(frozen=True, slots=True)
class EndAll(Op):
    """Replace the store-wide epoch -> None. Every record with another one is dead, in O(1)."""

    verb: ClassVar[str] = "end_all"
    new_epoch: bytes
    at: int


@dataclass(frozen=True, slots=True)
class ListSubject(Op):
    """All records of a subject, live and ended, oldest first -> tuple of `Found`."""

    verb: ClassVar[str] = "list_subject"
    subject_key: bytes


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A sealed event of a subject; the store sees only when it may be forgotten."""

    subject_key: bytes
    at: int
    purge_at: int
    sealed: bytes = field(repr=False)
    key_id: int = 0


@dataclass(frozen=True, slots=True)
class Append(Op):
    """Add entries to subjects' histories -> None. At most `keep` a subject stay, newest first."""

    verb: ClassVar[str] = "append"
    entries: tuple[HistoryEntry, ...]
    keep: int


@dataclass(frozen=True, slots=True)
class ReadHistory(Op):
    """The newest entries of a subject, newest first -> tuple of `HistoryEntry`."""

    verb: ClassVar[str] = "read_history"
    subject_key: bytes
    limit: int


@dataclass(frozen=True, slots=True)
class Erase(Op):
    """Remove a subject's ended records and its history, due or not -> how many things.

    Its live records stay: end them first. So does its epoch, which keeps an old sign-in out.
    """

    verb: ClassVar[str] = "erase"
    subject_key: bytes


@dataclass(frozen=True, slots=True)
class Sweep(Op):
    """Remove at most `limit` things whose `purge_at` has come -> how many were removed."""

    verb: ClassVar[str] = "sweep"
    now: int
    limit: int
    epochs_before: int = 0


@dataclass(frozen=True, slots=True)
class ReadClock(Op):
    """Ask for the store's own clock -> milliseconds UTC, or None where it uses the process's (E6).

    The answer lets a process measure how far its own clock is off; no deadline is judged by it.
    """

    verb: ClassVar[str] = "read_clock"


@dataclass(frozen=True, slots=True)
class GiveWay(Op):
    """Line up for this session, and then wait so long -> whether any time passed at all.

    The one op that no store sees: whoever drives the flow does it, in the way that its code waits.
    In one process, one flow at a time has its turn, from here to its end; nothing is decided by it.
    """

    verb: ClassVar[str] = "give_way"
    session_id: bytes
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Changed:
    """These records are not what they were: changed, ended, replaced or gone."""

    session_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ChangedAll:
    """Any record may have changed, or the store-wide epoch has: forget everything."""


@dataclass(frozen=True, slots=True)
class Alive:
    """The channel lives: every change acknowledged before `asked_at` has been told by now.

    `asked_at` is the process's monotonic clock, in seconds, when the proof was *asked for*. The
    first notice of a channel is an `Alive`: what changed before it was asked for is not told.
    """

    asked_at: float
    store_epoch: bytes


Notice = Changed | ChangedAll | Alive
"""What a store pushes while it is watched, in the order in which it happened."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Push every change to `tell` until told to stop, with an `Alive` every `heartbeat` seconds.

    Not an `Op` that flows yield: it does not end by itself. `tell` never blocks and never raises.
    A synchronous store runs it in a thread of the caller's and asks `stopped` at least once a
    heartbeat; an asynchronous one is cancelled.
    """

    tell: Callable[[Notice], None]
    heartbeat: float
    stopped: Callable[[], bool] = lambda: False
