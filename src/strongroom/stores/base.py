"""The contract of a store, normative: what it must do, what is a no-op, and what it must never do.

A store **must**

- carry out each op atomically, as `core.lifecycle` says what it comes to;
- give every reader the outcome of an acknowledged write (within the bound of its mode);
- make `end`, `end_subject` and `end_all` durable before it answers;
- write a record and its subject's index together, and replace a subject's epoch in the same step
  as ending its sessions;
- raise `StoreUnavailable` where it cannot answer in time, `StoreMismatch` where it belongs to
  others, `UnreadableRecord` for damage, and nothing else;
- keep a record's unknown tail as it is.

- refuse to be opened by others (`StoreMismatch`), and every op before `open` and after `close`
  (`StoreUnavailable`).

Anonymous sessions have no subject (`NO_SUBJECT`): they are in no list, and no `end_subject` reaches
them. A record that cannot be read raises where it is asked for, does not count towards a limit, and
is removed by `end_subject`, which must not leave anything behind that it could not end. Lists are
ordered by `inserted_at`. `erase` removes what has ended, before its time, and what cannot be read;
it leaves what lives.

A subject's epoch must be kept for `core.policy.EPOCHS_KEPT` (90 days and an hour) from its **last**
change, also where the subject has no session left: so long may a sign-in, or another library's
cookie, be under way that began before (E2). A sweep may forget it if it was last replaced before
`epochs_before`; a store whose server forgets by itself gives it that long each time. It is zeros
then, never another value.

The session id of a subject's record hides that subject's shard (`core.tokens.shard_of_session`), so
a store may keep both in one place; an id that is taken is answered as such, whoever asks. A store
whose server forgets by itself what is due counts from the op's own moment, because its clock need
not agree with the process's; it has nothing to sweep, and answers 0.

It is a **no-op**, answered as a value: finding what is not there, ending what has ended, touching
with a moment that is not later.

A store must **never** bring an ended record back, decide that a session is too old, carry data
through `touch`, `shift` or `rotate`, keep anything without a `purge_at`, or see a session token.

**Watching** is for stores that can push (`Watchable`): they tell every change of a record, by
whomever it was made, and every replacement of the store-wide epoch, in order, on one channel with
their proof of life. A channel that is lost, or may have lost something, raises `StoreUnavailable`
out of `watch`; it never goes on in silence.

**Moving** is for stores that can be read through and filled (`Movable`), past all ops. What is
being filled is no application's yet: it bears another identity until it is handed over, so `open`
refuses it, and after that nothing more is written into it.

`strongroom.testing.contract` proves a store against this page, races included.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, runtime_checkable

from strongroom.core.errors import StoreMismatch
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


@runtime_checkable
class Store(Protocol):
    """A store as synchronous code sees it. Every method may be called from any thread."""

    def open(self, store_identity: bytes) -> None:
        """Connect, migrate, and check that the store belongs to these keys (PROTOCOL A3).

        Raises:
            StoreMismatch: it belongs to other keys or another program, or a newer release.
            StoreUnavailable: it cannot be reached or written.
        """
        ...

    def close(self) -> None:
        """Let go of everything. Closing twice is a no-op."""
        ...

    def find(self, op: Find) -> Found | None: ...
    def read_epoch(self, op: ReadEpoch) -> Epochs: ...
    def insert(self, op: Insert) -> Inserted: ...
    def touch(self, op: Touch) -> Outcome: ...
    def shift(self, op: Shift) -> Outcome: ...
    def rotate(self, op: Rotate) -> Outcome: ...
    def replace(self, op: Replace) -> Outcome: ...
    def end(self, op: End) -> Outcome: ...
    def end_subject(self, op: EndSubject) -> tuple[Found, ...]: ...
    def end_all(self, op: EndAll) -> None: ...
    def list_subject(self, op: ListSubject) -> tuple[Found, ...]: ...
    def append(self, op: Append) -> None: ...
    def read_history(self, op: ReadHistory) -> tuple[HistoryEntry, ...]: ...
    def erase(self, op: Erase) -> int: ...
    def sweep(self, op: Sweep) -> int: ...
    def read_clock(self, op: ReadClock) -> int | None: ...


@runtime_checkable
class AsyncStore(Protocol):
    """The same store as asynchronous code sees it: the same ops, the same answers."""

    async def open(self, store_identity: bytes) -> None: ...
    async def close(self) -> None: ...
    async def find(self, op: Find) -> Found | None: ...
    async def read_epoch(self, op: ReadEpoch) -> Epochs: ...
    async def insert(self, op: Insert) -> Inserted: ...
    async def touch(self, op: Touch) -> Outcome: ...
    async def shift(self, op: Shift) -> Outcome: ...
    async def rotate(self, op: Rotate) -> Outcome: ...
    async def replace(self, op: Replace) -> Outcome: ...
    async def end(self, op: End) -> Outcome: ...
    async def end_subject(self, op: EndSubject) -> tuple[Found, ...]: ...
    async def end_all(self, op: EndAll) -> None: ...
    async def list_subject(self, op: ListSubject) -> tuple[Found, ...]: ...
    async def append(self, op: Append) -> None: ...
    async def read_history(self, op: ReadHistory) -> tuple[HistoryEntry, ...]: ...
    async def erase(self, op: Erase) -> int: ...
    async def sweep(self, op: Sweep) -> int: ...
    async def read_clock(self, op: ReadClock) -> int | None: ...


@runtime_checkable
class Watchable(Protocol):
    """A store that pushes changes, so that a near cache over it is told (PROTOCOL H3)."""

    def watch(self, op: Watch) -> None:
        """Push changes until `op.stopped()`; returns within a heartbeat of that.

        Raises:
            StoreUnavailable: the channel is lost, or may have lost something.
        """
        ...


@runtime_checkable
class AsyncWatchable(Protocol):
    """The same for asynchronous code; ends when it is cancelled."""

    async def watch(self, op: Watch) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NearStats:
    """A near cache at one moment: for the operator, and for metrics. Durations in seconds."""

    alive: bool
    entries: int
    size: int
    hits: int
    misses: int
    dropped: int
    """Entries that left because of a notice, an own write, or the loss of the channel."""
    crowded_out: int
    """Entries that left because there was no room."""
    overtaken: int
    """Reads whose answer was not kept, because a notice came while they were under way."""
    alive_for: float | None
    """Since when without a break, or None while it is not."""
    proof_age: float | None
    """How long ago the newest proof was asked for; None if this channel never gave one."""
    channels: int
    """How many channels were opened. One is normal; each further one is a reconnection."""
    max_staleness: float


@runtime_checkable
class Near(Protocol):
    """A store that may answer from memory, and so must be told how old an answer may be (H3)."""

    def keep_within(self, max_staleness: float) -> None:
        """No answer may be older than this many seconds. Called before the store is opened."""
        ...

    def stats(self) -> NearStats:
        """What it holds, and whether its channel lives."""
        ...


class Kept(Enum):
    """What a store keeps, and what it is kept under: a session id, or a subject's key."""

    SESSIONS = "sessions"
    EPOCHS = "epochs"
    HISTORIES = "histories"


@dataclass(frozen=True, slots=True)
class KeptEpoch:
    """A subject's epoch. Some stores know only roughly when it was replaced."""

    epoch: bytes
    replaced_at: int = field(compare=False)


class Contents(Protocol):
    """All that an open store keeps, past its ops: to be moved to another store, and for nothing
    else. The values are `Record`, `KeptEpoch`, and a tuple of `HistoryEntry`, newest first.

    Any thread may call any method.
    """

    def size(self) -> int:
        """About how many things there are to look through, for whoever shows progress."""
        ...

    def keys(self, kept: Kept) -> Iterator[list[bytes]]:
        """Everything's keys, in batches. Each that is there all the while comes at least once."""
        ...

    def read(self, kept: Kept, keys: Iterable[bytes], now: int) -> dict[bytes, Any]:
        """The values that are there; None is one that cannot be read."""
        ...

    def write(self, kept: Kept, values: Mapping[bytes, Any], now: int) -> None:
        """Put the values in the place of what is there, each with its index.

        Raises:
            StoreMismatch: the store is not being filled any more; nothing was written.
        """
        ...

    def remove(self, kept: Kept, keys: Iterable[bytes]) -> None:
        """Take these out. Raises as `write` does."""
        ...

    def hand_over(self, store_identity: bytes) -> None:
        """Let applications open the store, durably. Raises as `write` does."""
        ...


@runtime_checkable
class Movable(Protocol):
    """A store whose contents can be moved: `strongroom store copy`."""

    def contents(self) -> Contents:
        """All that this open store keeps."""
        ...

    def open_to_fill(self, store_identity: bytes) -> None:
        """Open a store that is empty, or that was being filled before, to be filled.

        Raises:
            StoreMismatch: it is an application's.
            StoreUnavailable: it cannot be reached or written.
        """
        ...


def being_filled(store_identity: bytes) -> bytes:
    """The identity that a store bears until everything is in it."""
    made = hashlib.blake2b(store_identity, digest_size=16, person=b"being filled")
    return made.digest()


def still_being_filled(what: str) -> StoreMismatch:
    """An application opens a store in which not everything is yet."""
    return StoreMismatch(
        f"{what} is still being filled from another store.",
        why="Whose session is not in it yet would be signed out.",
        hint="Let 'strongroom store copy' come to its end; it may be run again.",
    )


def not_being_filled(what: str) -> StoreMismatch:
    """Somebody would fill a store that applications open."""
    return StoreMismatch(
        f"{what} is not being filled any more: somebody handed it over meanwhile.",
        why="What an application does in it must not be written over. Nothing was.",
        hint="Run one 'strongroom store copy' into a store at a time.",
    )
