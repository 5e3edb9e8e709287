"""Each op as the asks that carry it out: one body for the synchronous and the asynchronous store.

A find is one plain command. On one server it reads the record and the store-wide epoch together, so
`end_all` is seen at the next request; in a cluster the epoch lives on another node, is read at most
once a second, and by every authoritative find. Every op over a subject is one script on one slot.
"""

from __future__ import annotations

import os
import time
from typing import Any

from strongroom.core.errors import StoreUnavailable
from strongroom.core.ops import (
    GONE,
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
    InsertRefusal,
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
)
from strongroom.core.policy import EPOCHS_KEPT, ms
from strongroom.core.record import EPOCH_BYTES, NO_EPOCH, NO_SUBJECT, Record, unreadable
from strongroom.core.tokens import SHARD_BYTES
from strongroom.stores.base import being_filled, still_being_filled

from . import faults, layout, scripts
from .names import Names, Place
from .routing import Ask, Router, Steps
from .scripts import LINGER_MS, RULES, SPARE_MS, Script
from .settings import EPOCH_MS, Mode, Settings
from .wire import Word

EPOCH_LIVES_MS = ms(EPOCHS_KEPT)
"""How long a subject's epoch is kept after its last change: no insert with an older one comes."""

_MANY_TRIES = 100


def owner_as(store_identity: bytes) -> bytes:
    """The store's identity as its key has it."""
    return b"strongroom/1 " + store_identity


class Body:
    """The ops over one store, of which the names and the servers are known."""

    def __init__(
        self, settings: Settings, router: Router, store_identity: bytes, *, fills: bool = False
    ) -> None:
        self._settings = settings
        self._router = router
        self._being_filled = owner_as(being_filled(store_identity))
        self.identity = self._being_filled if fills else owner_as(store_identity)
        self._in_cluster = settings.mode is Mode.CLUSTER
        self.names = Names(settings.prefix.encode(), store_identity)
        self._epoch = NO_EPOCH
        self._epoch_asked_at = float("-inf")

    # -- the store itself

    def claim(self) -> Steps[bytes]:
        """Make the store ours if it is nobody's -> its epoch.

        Raises:
            StoreMismatch: it belongs to others.
        """
        names = self.names
        said = yield from self._script(
            scripts.CLAIM,
            names.store_slot,
            (names.identity, names.epoch),
            (self.identity, os.urandom(EPOCH_BYTES)),
        )
        if said[0] != self.identity:
            if said[0] == self._being_filled:
                raise still_being_filled(f"The store under the prefix {self._settings.prefix!r}")
            raise faults.belongs_to_others(self._settings.prefix)
        return _epoch_from(said[1])

    def store_epoch(self, max_age_ms: int = 0) -> Steps[bytes]:
        """The store-wide epoch, read anew unless it is known and young enough."""
        asked_at = time.monotonic()
        if (asked_at - self._epoch_asked_at) * 1000 < max_age_ms:
            return self._epoch
        told = yield from self._plain(self.names.store_slot, "GET", self.names.epoch)
        epoch = _epoch_from(told) if told is not None else (yield from self.claim())
        self._note_epoch(epoch, asked_at)
        return epoch

    def _note_epoch(self, epoch: bytes, asked_at: float) -> None:
        if asked_at > self._epoch_asked_at:
            self._epoch, self._epoch_asked_at = epoch, asked_at

    def end_all(self, op: EndAll) -> Steps[None]:
        """Replace the store-wide epoch."""
        yield from self._script(
            scripts.END_ALL, self.names.store_slot, (self.names.epoch,), (op.new_epoch,), True
        )
        # What was known, or is being read, may be the old one.
        self._epoch, self._epoch_asked_at = op.new_epoch, time.monotonic()

    def read_clock(self, op: ReadClock) -> Steps[int | None]:
        """The server's own clock."""
        del op
        match (yield from self._plain(self.names.store_slot, "TIME")):
            case [bytes(seconds), bytes(micros)] if seconds.isdigit() and micros.isdigit():
                return int(seconds) * 1000 + int(micros) // 1000
            case _:
                raise unreadable("the server's clock tells no time")

    def sweep(self, op: Sweep) -> Steps[int]:
        """Nothing: the server forgets by itself, and an index is pruned when it is used."""
        del op
        yield from ()
        return 0

    # -- reading

    def find(self, op: Find) -> Steps[Found | None]:
        """Read one record, and the store's epoch."""
        place = self.names.of_session(op.session_id)
        key = place.session(op.session_id)
        if self._in_cluster:
            value = yield from self._plain(place.slot, "GET", key)
            if value is None:
                return None
            record = layout.decode(op.session_id, value)
            max_age = 0 if op.authoritative else EPOCH_MS
            return Found(record, (yield from self.store_epoch(max_age)))
        value, epoch = yield from self._plain(place.slot, "MGET", key, self.names.epoch)
        if value is None:
            return None
        record = layout.decode(op.session_id, value)
        return Found(record, _epoch_from(epoch) if epoch else (yield from self.claim()))

    def read_epoch(self, op: ReadEpoch) -> Steps[Epochs]:
        """Read the subject's epoch, zeros where it never had one, and the store's."""
        if op.subject_key == NO_SUBJECT:
            return Epochs(NO_EPOCH, (yield from self.store_epoch()))
        place = self.names.of_subject(op.subject_key)
        key = place.epoch(op.subject_key)
        if self._in_cluster:
            store = yield from self.store_epoch()
            own = yield from self._plain(place.slot, "GET", key)
        else:
            own, store = yield from self._plain(place.slot, "MGET", key, self.names.epoch)
            store = _epoch_from(store) if store else (yield from self.claim())
        return Epochs(NO_EPOCH if own is None else _epoch_from(own), store)

    def list_subject(self, op: ListSubject) -> Steps[tuple[Found, ...]]:
        """All records of the subject, oldest first."""
        if op.subject_key == NO_SUBJECT:
            return ()
        place = self.names.of_subject(op.subject_key)
        keys = (place.index(op.subject_key), *self._epoch_key())
        said = yield from self._certain(scripts.LIST, place, keys, (place.sessions,))
        return (yield from self._found(place, said))

    def read_history(self, op: ReadHistory) -> Steps[tuple[HistoryEntry, ...]]:
        """The newest entries of the subject, newest first."""
        if op.limit < 1:
            return ()
        place = self.names.of_subject(op.subject_key)
        key = place.history(op.subject_key)
        said = yield from self._plain(place.slot, "ZREVRANGE", key, 0, op.limit - 1)
        return tuple(layout.decode_entry(op.subject_key, each) for each in said)

    # -- changing one record

    def touch(self, op: Touch) -> Steps[Outcome]:
        """Note activity."""
        moments = b"".join(map(layout.moment, (op.seen_at, op.idle_deadline, op.purge_at)))
        return (yield from self._change(scripts.TOUCH, op.session_id, op.revision, moments))

    def shift(self, op: Shift) -> Steps[Outcome]:
        """Replace the credential by compare-and-set on its current digest."""
        credential = layout.encode_credential(op.credential)
        return (
            yield from self._change(
                scripts.SHIFT, op.session_id, op.revision, op.expected, *credential
            )
        )

    def rotate(self, op: Rotate) -> Steps[Outcome]:
        """Replace credential and envelope by compare-and-set on the current digest."""
        moments = b"".join(map(layout.moment, (op.seen_at, op.idle_deadline, op.purge_at)))
        return (
            yield from self._change(
                scripts.ROTATE,
                op.session_id,
                op.revision,
                op.expected,
                *layout.encode_credential(op.credential),
                moments,
                bytes((op.kind,)),
                bytes((op.envelope_key_id,)),
                op.envelope,
                durable=True,
            )
        )

    def replace(self, op: Replace) -> Steps[Outcome]:
        """Replace the data by compare-and-set on its version."""
        key_id = bytes((op.data_key_id,))
        return (
            yield from self._change(
                scripts.REPLACE,
                op.session_id,
                op.revision,
                op.expected,
                op.data_version,
                key_id,
                op.data,
            )
        )

    def end(self, op: End) -> Steps[Outcome]:
        """End one record."""
        return (
            yield from self._change(
                scripts.END,
                op.session_id,
                op.revision,
                bytes((op.reason.number,)),
                layout.moment(op.at),
                layout.moment(op.purge_at),
                b"" if op.subject_key is None else op.subject_key,
                durable=True,
            )
        )

    def _change(
        self,
        script: Script,
        session_id: bytes,
        revision: bytes,
        *arguments: Word,
        durable: bool = False,
    ) -> Steps[Outcome]:
        place = self.names.of_session(session_id)
        strict = b"1" if durable and self._settings.is_durable else b"0"
        words = (strict, session_id[SHARD_BYTES:], revision, *arguments)
        keys: tuple[bytes, ...] = (place.session(session_id),)
        said = yield from self._script(script, place.slot, keys, words, durable)
        if said[0] == b"extend":
            # The index would not outlive the record any more: this time it is written, too.
            record = layout.decode(session_id, said[1])
            keys = (*keys, place.index(record.subject_key))
            said = yield from self._script(script, place.slot, keys, words, durable)
        if said[0] == b"gone":
            return GONE
        return Outcome(said[0] == b"done", layout.decode(session_id, said[1]))

    # -- a subject's records

    def insert(self, op: Insert) -> Steps[Inserted]:
        """Add a record, and end those that give way to it."""
        record, names = op.record, self.names
        place = names.of_session(record.session_id)
        has_subject = record.subject_key != NO_SUBJECT
        if has_subject and names.of_subject(record.subject_key).shard != place.shard:
            return (yield from self._foreign(op, place))
        keys: tuple[bytes, ...] = (place.session(record.session_id),)
        if has_subject:
            keys = (*keys, place.index(record.subject_key), place.epoch(record.subject_key))
        keys = (*keys, *self._epoch_key())
        for _ in range(_MANY_TRIES):
            epoch = (yield from self.store_epoch()) if self._in_cluster else b""
            words = _insert_words(op, epoch)
            said = yield from self._certain(scripts.INSERT, place, keys, words, durable=True)
            if said[0] != b"lost":
                return self._inserted(place, op, said)
            yield from self.claim()
        raise faults.nobody_serves("its epoch does not stay")

    def _foreign(self, op: Insert, place: Place) -> Steps[Inserted]:
        """An id that is not of the subject's shard can only be one that is taken."""
        session_id = op.record.session_id
        value = yield from self._plain(place.slot, "GET", place.session(session_id))
        if value is not None:
            return Inserted(layout.decode(session_id, value), InsertRefusal.EXISTS)
        raise StoreUnavailable(
            "A session cannot be kept under an id that was not made for its subject.",
            why="Ending all of the subject's sessions would not find it.",
            hint="Make ids with UnlockedKeys.session_id, under the keys of this store.",
        )

    def _inserted(self, place: Place, op: Insert, said: list[Any]) -> Inserted:
        match said[0]:
            case b"exists":
                record = layout.decode(op.record.session_id, said[1])
                return Inserted(record, InsertRefusal.EXISTS)
            case b"epoch":
                return Inserted(None, InsertRefusal.EPOCH)
            case b"limit":
                return Inserted(None, InsertRefusal.LIMIT)
            case _:
                record = layout.decode(op.record.session_id, said[1])
                return Inserted(record, None, tuple(self._records(place, said[2:])))

    def end_subject(self, op: EndSubject) -> Steps[tuple[Found, ...]]:
        """End all live records of the subject but one, and replace its epoch."""
        if op.subject_key == NO_SUBJECT:
            return ()
        place = self.names.of_subject(op.subject_key)
        keys = (place.index(op.subject_key), place.epoch(op.subject_key), *self._epoch_key())
        kept = b"" if op.keep is None else op.keep[SHARD_BYTES:]
        if op.keep is not None and self.names.of_session(op.keep).shard != place.shard:
            kept = b""  # somebody else's session, which only ends in the same bytes
        words = (
            place.sessions,
            op.revision,
            bytes((op.reason.number,)),
            layout.moment(op.at),
            layout.moment(op.purge_at),
            op.new_epoch,
            EPOCH_LIVES_MS,
            kept,
        )
        said = yield from self._certain(scripts.END_SUBJECT, place, keys, words, durable=True)
        return (yield from self._found(place, said))

    def append(self, op: Append) -> Steps[None]:
        """Add entries to histories: one script for each subject."""
        of_subject: dict[bytes, list[HistoryEntry]] = {}
        for entry in op.entries:
            of_subject.setdefault(entry.subject_key, []).append(entry)
        for subject_key, entries in of_subject.items():
            place = self.names.of_subject(subject_key)
            newest = max(each.at for each in entries)
            lives = max(each.purge_at - each.at for each in entries) + LINGER_MS
            packed = map(layout.encode_entry, entries)
            words: tuple[Word, ...] = (newest, op.keep, lives, *packed)
            keys = (place.history(subject_key),)
            yield from self._script(scripts.APPEND, place.slot, keys, words)

    def erase(self, op: Erase) -> Steps[int]:
        """Remove the subject's ended records and its history."""
        if op.subject_key == NO_SUBJECT:
            return 0
        place = self.names.of_subject(op.subject_key)
        keys = (place.index(op.subject_key), place.history(op.subject_key))
        said = yield from self._certain(scripts.ERASE, place, keys, (place.sessions,), durable=True)
        return int(said[1])

    # -- asking

    def _plain(self, slot: int, *words: Word) -> Steps[Any]:
        return (yield from self._router.call(Ask(slot, words)))

    def _script(
        self,
        script: Script,
        slot: int,
        keys: tuple[bytes, ...],
        arguments: tuple[Word, ...],
        durable: bool = False,
    ) -> Steps[list[Any]]:
        ask = Ask(slot, script=script, keys=keys, arguments=arguments, durable=durable)
        said = yield from self._router.call(ask)
        if not isinstance(said, list) or not said:
            raise unreadable("a script answered what it cannot")
        return said  # pyright: ignore[reportUnknownVariableType]

    def _certain(
        self,
        script: Script,
        place: Place,
        keys: tuple[bytes, ...],
        arguments: tuple[Word, ...],
        *,
        durable: bool = False,
    ) -> Steps[list[Any]]:
        """Run a script that looks through an index, until no member of it is in doubt.

        What is missing is asked for key by key: such a question finds a key on either side of a
        move. What is gone then stays gone, because no id is used twice.
        """
        gone, sure = b"", b"0" if self._in_cluster else b"1"
        deadline = time.monotonic() + self._settings.patience_ms / 1000
        while True:
            words: tuple[Word, ...] = (*arguments, gone, sure)
            said = yield from self._script(script, place.slot, keys, words, durable)
            if said[0] != b"missing":
                return said
            moving = False
            for rest in said[1:]:
                if (yield from self._plain(place.slot, "EXISTS", place.sessions + rest)):
                    moving = True
                else:
                    gone += rest
            if moving:
                if time.monotonic() > deadline:
                    raise faults.nobody_serves("a slot is being moved, and its keys are apart")
                yield from self._router.pauses()

    def _epoch_key(self) -> tuple[bytes, ...]:
        """The store's epoch, as one more key of a script; in a cluster it is elsewhere."""
        return () if self._in_cluster else (self.names.epoch,)

    def _records(self, place: Place, pairs: list[Any]) -> list[Record]:
        ids = [self.names.session_id(place, rest) for rest in pairs[::2]]
        return [layout.decode(*each) for each in zip(ids, pairs[1::2], strict=True)]

    def _found(self, place: Place, said: list[Any]) -> Steps[tuple[Found, ...]]:
        records = self._records(place, said[2:])
        records.sort(key=lambda each: each.header.inserted_at)
        epoch = _epoch_from(said[1]) if said[1] else (yield from self.store_epoch())
        return tuple(Found(each, epoch) for each in records)


def _insert_words(op: Insert, store_epoch: bytes) -> tuple[Word, ...]:
    """The arguments of INSERT, but for what is gone."""
    record, header = op.record, op.record.header
    lives = header.purge_at - op.now
    replaced = b"" if op.replaces is None else op.replaces[SHARD_BYTES:]
    return (
        layout.encode(record, header.purge_at + SPARE_MS),
        lives + LINGER_MS,
        max(lives, 0) + SPARE_MS + LINGER_MS,
        record.session_id[SHARD_BYTES:],
        b"" if op.epoch is None else op.epoch,
        store_epoch,
        layout.moment(op.now),
        layout.moment(op.evicted_purge_at),
        b"" if op.limit is None else op.limit.maximum,
        b"" if op.limit is None else RULES[op.limit.when_reached],
        replaced,
        b"0" if record.subject_key == NO_SUBJECT else b"1",
    )


def _epoch_from(told: object) -> bytes:
    if not isinstance(told, bytes) or len(told) != EPOCH_BYTES:
        raise unreadable("what should be an epoch is none")
    return told
