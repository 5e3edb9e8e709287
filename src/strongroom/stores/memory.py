"""A store in one process's memory: the executable model that every other store is held against.

Each op is what `core.lifecycle` says, under one lock, and nothing else, so this file reads as the
contract. It suits tests and applications of one process. Nothing survives the process, and nothing
is evicted to make room: a full store refuses new sessions and keeps the old ones.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from threading import Event, Lock

from strongroom.core import lifecycle
from strongroom.core.errors import StoreMismatch, StoreUnavailable
from strongroom.core.ops import (
    Alive,
    Append,
    Changed,
    ChangedAll,
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
from strongroom.core.record import EPOCH_BYTES, NO_EPOCH, NO_SUBJECT, Record


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a `MemoryStore` holds at one moment. Immutable, and opaque to its holder."""

    records: dict[bytes, Record]
    epochs: dict[bytes, tuple[bytes, int]]
    history: dict[bytes, tuple[HistoryEntry, ...]]
    store_epoch: bytes


class MemoryStore:
    """Sessions in a dictionary. Any thread may call any method.

    `max_records` bounds how many records there may be, ended ones included; None is no bound.
    """

    def __init__(self, *, max_records: int | None = None) -> None:
        self._max_records = max_records
        self._lock = Lock()
        self._identity: bytes | None = None
        self._is_open = False
        self._store_epoch = NO_EPOCH
        self._records: dict[bytes, Record] = {}
        # The index by subject. Records of nobody are not in it: nobody is not a subject.
        self._of_subject: dict[bytes, dict[bytes, None]] = {}
        # The subject's epoch, and when it was last replaced.
        self._epochs: dict[bytes, tuple[bytes, int]] = {}
        # Newest first.
        self._history: dict[bytes, tuple[HistoryEntry, ...]] = {}
        # Who is told of changes, and what wakes their thread when the store is closed.
        self._watchers: dict[Event, Callable[[Notice], None]] = {}

    def open(self, store_identity: bytes) -> None:
        """Take the store into use; the first identity is the one it belongs to from then on.

        Raises:
            StoreMismatch: it was opened with other keys before.
        """
        with self._lock:
            if self._identity not in (None, store_identity):
                raise StoreMismatch(
                    "This memory store was opened under other keys before.",
                    why="Its sessions could not be found or ended under the new keys.",
                    hint="Use a new MemoryStore, or the keyring that it was opened with.",
                )
            if self._identity is None:
                self._identity = store_identity
                self._store_epoch = os.urandom(EPOCH_BYTES)
            self._is_open = True

    def close(self) -> None:
        """Stop answering. What is kept is there again after the next `open`."""
        with self._lock:
            self._is_open = False
            for closed in self._watchers:
                closed.set()

    def find(self, op: Find) -> Found | None:
        """Read one record."""
        with self._lock:
            self._check_open()
            record = self._records.get(op.session_id)
            return None if record is None else Found(record, self._store_epoch)

    def read_epoch(self, op: ReadEpoch) -> Epochs:
        """Read the subject's epoch, zeros where it never had one, and the store's."""
        with self._lock:
            self._check_open()
            return Epochs(self._epoch(op.subject_key), self._store_epoch)

    def insert(self, op: Insert) -> Inserted:
        """Add a record, and end those that give way to it.

        Raises:
            StoreUnavailable: the store is full.
        """
        with self._lock:
            self._check_open()
            limited = op.limit is not None
            others = self._records_of(op.record.subject_key) if limited else []
            inserted = lifecycle.insert(
                op,
                existing=self._records.get(op.record.session_id),
                subject_epoch=self._epoch(op.record.subject_key),
                store_epoch=self._store_epoch,
                others=others,
            )
            if inserted.record is not None and inserted.refusal is None:
                self._check_room()
                self._keep((*inserted.evicted, inserted.record))
                for each in lifecycle.forgettable(others, op.now):
                    self._drop(each)
            return inserted

    def touch(self, op: Touch) -> Outcome:
        """Note activity."""
        return self._change(op)

    def shift(self, op: Shift) -> Outcome:
        """Replace the credential by compare-and-set on its current digest."""
        return self._change(op)

    def rotate(self, op: Rotate) -> Outcome:
        """Replace credential and envelope by compare-and-set on the current digest."""
        return self._change(op)

    def replace(self, op: Replace) -> Outcome:
        """Replace the data by compare-and-set on its version."""
        return self._change(op)

    def end(self, op: End) -> Outcome:
        """End one record."""
        return self._change(op)

    def end_subject(self, op: EndSubject) -> tuple[Found, ...]:
        """End all live records of the subject but one, and replace its epoch."""
        with self._lock:
            self._check_open()
            ended = lifecycle.end_subject(self._records_of(op.subject_key), op)
            self._keep(ended)
            self._epochs[op.subject_key] = (op.new_epoch, op.at)
            return self._found(ended)

    def end_all(self, op: EndAll) -> None:
        """Replace the store-wide epoch, which every record must carry to be alive."""
        with self._lock:
            self._check_open()
            self._store_epoch = op.new_epoch
            self._tell(ChangedAll())

    def list_subject(self, op: ListSubject) -> tuple[Found, ...]:
        """All records of the subject, oldest first."""
        with self._lock:
            self._check_open()
            return self._found(self._records_of(op.subject_key))

    def append(self, op: Append) -> None:
        """Add entries to histories; each subject keeps its newest."""
        with self._lock:
            self._check_open()
            for entry in op.entries:
                newest_first = sorted(
                    (entry, *self._history.get(entry.subject_key, ())),
                    key=lambda each: each.at,
                    reverse=True,
                )
                self._history[entry.subject_key] = tuple(newest_first[: op.keep])

    def read_history(self, op: ReadHistory) -> tuple[HistoryEntry, ...]:
        """The newest entries of the subject, newest first."""
        with self._lock:
            self._check_open()
            return self._history.get(op.subject_key, ())[: op.limit]

    def erase(self, op: Erase) -> int:
        """Remove the subject's ended records and its history."""
        with self._lock:
            self._check_open()
            ended = [each for each in self._records_of(op.subject_key) if not each.is_live]
            for record in ended:
                self._drop(record)
            return len(ended) + len(self._history.pop(op.subject_key, ()))

    def sweep(self, op: Sweep) -> int:
        """Remove at most `op.limit` records, history entries and epochs that are due."""
        with self._lock:
            self._check_open()
            records = list(self._records.values())
        # Looking through everything takes long in a large store, so nobody waits for it; what it
        # finds is looked at again under the lock, where it may have been touched since.
        due = [each.session_id for each in records if each.header.purge_at <= op.now]
        with self._lock:
            self._check_open()
            removed = self._sweep_records(due[: op.limit], op.now)
            removed += self._sweep_history(op.now, op.limit - removed)
            return removed + self._sweep_epochs(op.epochs_before, op.limit - removed)

    def read_clock(self, op: ReadClock) -> int | None:
        """No clock of its own: it lives where its processes live."""
        del op
        return None

    def watch(self, op: Watch) -> None:
        """Push changes: they are told under the lock, before whoever made them has an answer.

        Raises:
            StoreUnavailable: the store is closed.
        """
        closed = Event()
        try:
            while not op.stopped():
                asked_at = time.monotonic()
                with self._lock:
                    self._check_open()
                    self._watchers[closed] = op.tell
                    op.tell(Alive(asked_at, self._store_epoch))
                closed.wait(op.heartbeat)
        finally:
            with self._lock:
                self._watchers.pop(closed, None)

    def snapshot(self) -> Snapshot:
        """What the store holds now, for `restore`: how a test makes a backup or a failover."""
        with self._lock:
            return Snapshot(
                dict(self._records), dict(self._epochs), dict(self._history), self._store_epoch
            )

    def restore(self, snapshot: Snapshot) -> None:
        """Hold what the snapshot held, as after the restore of a backup; later writes are lost."""
        with self._lock:
            self._records = {}
            self._of_subject = {}
            self._epochs = dict(snapshot.epochs)
            self._history = dict(snapshot.history)
            self._store_epoch = snapshot.store_epoch
            self._keep(snapshot.records.values())
            self._tell(ChangedAll())

    def _change(self, op: lifecycle.Change) -> Outcome:
        with self._lock:
            self._check_open()
            outcome = lifecycle.apply(self._records.get(op.session_id), op)
            if outcome.applied and outcome.record is not None:
                self._keep((outcome.record,))
            return outcome

    def _keep(self, records: Iterable[Record]) -> None:
        for record in records:
            self._tell(Changed((record.session_id,)))
            self._records[record.session_id] = record
            if record.subject_key != NO_SUBJECT:
                self._of_subject.setdefault(record.subject_key, {})[record.session_id] = None

    def _drop(self, record: Record) -> None:
        self._tell(Changed((record.session_id,)))
        del self._records[record.session_id]
        index = self._of_subject.get(record.subject_key, {})
        index.pop(record.session_id, None)
        if not index:
            self._of_subject.pop(record.subject_key, None)

    def _tell(self, notice: Notice) -> None:
        for tell in self._watchers.values():
            tell(notice)

    def _epoch(self, subject_key: bytes) -> bytes:
        return self._epochs.get(subject_key, (NO_EPOCH, 0))[0]

    def _records_of(self, subject_key: bytes) -> list[Record]:
        records = [self._records[each] for each in self._of_subject.get(subject_key, ())]
        return sorted(records, key=lambda each: each.header.inserted_at)

    def _found(self, records: Iterable[Record]) -> tuple[Found, ...]:
        return tuple(Found(each, self._store_epoch) for each in records)

    def _sweep_records(self, due: Iterable[bytes], now: int) -> int:
        removed = 0
        for session_id in due:
            record = self._records.get(session_id)
            if record is not None and record.header.purge_at <= now:
                self._drop(record)
                removed += 1
        return removed

    def _sweep_history(self, now: int, limit: int) -> int:
        due = islice(
            (each for kept in self._history.values() for each in kept if each.purge_at <= now),
            limit,
        )
        removed = list(due)
        for entry in removed:
            kept = tuple(each for each in self._history[entry.subject_key] if each is not entry)
            if kept:
                self._history[entry.subject_key] = kept
            else:
                del self._history[entry.subject_key]
        return len(removed)

    def _sweep_epochs(self, before: int, limit: int) -> int:
        due = list(islice((key for key, (_, at) in self._epochs.items() if at < before), limit))
        for subject_key in due:
            del self._epochs[subject_key]
        return len(due)

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailable(
                "This memory store is not open.",
                why="Nothing can be read or written before it is opened or after it is closed.",
                hint="Call open(store_identity) first; a session manager does so at start-up.",
            )

    def _check_room(self) -> None:
        if self._max_records is not None and len(self._records) >= self._max_records:
            raise StoreUnavailable(
                f"The memory store is full: it holds {self._max_records} records.",
                why="Nobody's live session is dropped to make room for another.",
                hint="Raise max_records, sweep more often, or use SQLite.",
            )
