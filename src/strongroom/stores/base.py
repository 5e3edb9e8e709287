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
ordered by `inserted_at`. A subject's epoch may be forgotten `epochs_before` its last change, and is
zeros then.

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

`strongroom.testing.contract` proves a store against this page, races included.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from strongroom.core.ops import (
    Append,
    End,
    EndAll,
    EndSubject,
    Epochs,
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


@runtime_checkable
class Near(Protocol):
    """A store that may answer from memory, and so must be told how old an answer may be (H3)."""

    def keep_within(self, max_staleness: float) -> None:
        """No answer may be older than this many seconds. Called before the store is opened."""
        ...
