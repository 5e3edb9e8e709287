"""All that is kept under a prefix, for moving it to another store: see `stores.base.Contents`.

Here alone the store lists keys: `SCAN`, server by server, which tells every key that is there all
the while. In a cluster no slot may be moved meanwhile, or a key could be missed on both nodes.

Whether the store is still being filled is looked at before each batch. It cannot be made one step
with the writing, because in a cluster the two are on different nodes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from strongroom.core.errors import UnreadableRecord
from strongroom.core.ops import HistoryEntry
from strongroom.core.record import NO_SUBJECT, Record
from strongroom.core.tokens import SHARD_BYTES
from strongroom.stores.base import Kept, KeptEpoch, not_being_filled

from . import faults, layout, scripts
from .body import EPOCH_LIVES_MS, Body, owner_as
from .faults import Lost, Refusal
from .names import Place
from .routing import Ask, Exchange, Router, Steps, first
from .scripts import LINGER_MS, SPARE_MS, Script
from .settings import Address, Mode, Settings
from .wire import Command, Word

BATCH = 200
_LETTERS = {Kept.SESSIONS: b"s", Kept.EPOCHS: b"e", Kept.HISTORIES: b"h"}


class ValkeyContents:
    """The contents of an open store."""

    def __init__(
        self, settings: Settings, router: Router, body: Body, run: Callable[[Steps[Any]], Any]
    ) -> None:
        self._settings = settings
        self._router = router
        self._names = body.names
        self._identity = body.identity
        self._run = run

    def size(self) -> int:
        """How many keys there are, others' and indexes among them."""
        return sum(self._on(each, ("DBSIZE",)) for each in self._primaries())

    def keys(self, kept: Kept) -> Iterator[list[bytes]]:
        """Everything's keys, in batches."""
        batch: list[bytes] = []
        for name in self._scanned(self._names.pattern(_LETTERS[kept])):
            sessions = kept is Kept.SESSIONS
            key = self._names.session_id_of(name) if sessions else self._names.subject_key_of(name)
            if key is not None:
                batch.append(key)
            if len(batch) == BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def read(self, kept: Kept, keys: Iterable[bytes], now: int) -> dict[bytes, Any]:
        """The values that are there."""
        found: dict[bytes, Any] = {}
        for group in self._in_one_slot(kept, keys):
            match kept:
                case Kept.SESSIONS:
                    found |= self._read_sessions(group)
                case Kept.EPOCHS:
                    found |= self._read_epochs(group, now)
                case Kept.HISTORIES:
                    found |= self._read_histories(group)
        return found

    def write(self, kept: Kept, values: Mapping[bytes, Any], now: int) -> None:
        """Put the values in the place of what is there."""
        self._check()
        for group in self._in_one_slot(kept, values):
            some = {key: values[key] for key in group}
            match kept:
                case Kept.SESSIONS:
                    self._write_sessions(some, now)
                case Kept.EPOCHS:
                    self._write_epochs(some, now)
                case Kept.HISTORIES:
                    self._write_histories(some, now)

    def remove(self, kept: Kept, keys: Iterable[bytes]) -> None:
        """Take these out."""
        self._check()
        for group in self._in_one_slot(kept, keys):
            if kept is Kept.SESSIONS:
                self._remove_sessions(group)
            else:
                self._ask(self._slot(kept, group[0]), "DEL", *self._keys(kept, group), durable=True)

    def hand_over(self, store_identity: bytes) -> None:
        """Let applications open the store."""
        names, identity = self._names, owner_as(store_identity)
        words = (self._identity, identity)
        said = self._script(scripts.HAND_OVER, names.store_slot, (names.identity,), words)
        if said[0] != b"ok":
            raise self._refusal()

    # -- sessions

    def _read_sessions(self, ids: list[bytes]) -> dict[bytes, Record | None]:
        values = self._ask(
            self._slot(Kept.SESSIONS, ids[0]), "MGET", *self._keys(Kept.SESSIONS, ids)
        )
        return {
            session_id: _decoded(session_id, value)
            for session_id, value in zip(ids, values, strict=True)
            if value is not None
        }

    def _write_sessions(self, records: dict[bytes, Record], now: int) -> None:
        keys: list[bytes] = []
        words: list[Word] = []
        for session_id, record in records.items():
            purge_at = record.header.purge_at
            keys += self._pair(session_id, record)
            words += (
                layout.encode(record, purge_at + SPARE_MS),
                purge_at - now + LINGER_MS,
                purge_at - now + SPARE_MS + LINGER_MS,
                session_id[SHARD_BYTES:],
            )
        slot = self._slot(Kept.SESSIONS, next(iter(records)))
        self._script(scripts.FILL, slot, tuple(keys), tuple(words))

    def _remove_sessions(self, ids: list[bytes]) -> None:
        found = self._read_sessions(ids)
        keys: list[bytes] = []
        words: list[Word] = []
        for session_id in ids:
            # Where nobody can read whose it was, an index keeps a member that its next use drops.
            pair = self._pair(session_id, found.get(session_id))
            keys += pair
            words.append(session_id[SHARD_BYTES:] if pair[0] != pair[1] else b"")
        slot = self._slot(Kept.SESSIONS, ids[0])
        self._script(scripts.TAKE_OUT, slot, tuple(keys), tuple(words))

    def _pair(self, session_id: bytes, record: Record | None) -> tuple[bytes, bytes]:
        """The keys of a record and of its subject's index; twice the first where it is in none."""
        place = self._names.of_session(session_id)
        key = place.session(session_id)
        if record is None or record.subject_key == NO_SUBJECT:
            return key, key
        return key, place.index(record.subject_key)

    # -- epochs and histories

    def _read_epochs(self, subjects: list[bytes], now: int) -> dict[bytes, KeptEpoch]:
        slot, keys = self._slot(Kept.EPOCHS, subjects[0]), self._keys(Kept.EPOCHS, subjects)
        said = self._script(scripts.READ_EPOCHS, slot, keys, (), durable=False)
        epochs, left = said[1::2], said[2::2]
        return {
            subject: KeptEpoch(epoch, now - EPOCH_LIVES_MS + lasts)
            for subject, epoch, lasts in zip(subjects, epochs, left, strict=True)
            if epoch
        }

    def _write_epochs(self, epochs: dict[bytes, KeptEpoch], now: int) -> None:
        for subject, kept in epochs.items():
            place = self._names.of_subject(subject)
            lasts = max(kept.replaced_at + EPOCH_LIVES_MS - now, 1)
            words = ("SET", place.epoch(subject), kept.epoch, "PX", lasts)
            self._ask(place.slot, *words, durable=True)

    def _read_histories(
        self, subjects: list[bytes]
    ) -> dict[bytes, tuple[HistoryEntry, ...] | None]:
        found: dict[bytes, tuple[HistoryEntry, ...] | None] = {}
        for subject in subjects:
            place = self._names.of_subject(subject)
            members = self._ask(place.slot, "ZREVRANGE", place.history(subject), 0, -1)
            if members:
                found[subject] = _entries(subject, members)
        return found

    def _write_histories(self, histories: dict[bytes, tuple[HistoryEntry, ...]], now: int) -> None:
        for subject, entries in histories.items():
            place = self._names.of_subject(subject)
            key = place.history(subject)
            self._ask(place.slot, "DEL", key)
            lasts = max(each.purge_at for each in entries) - now + LINGER_MS
            # The oldest first: entries of one moment are told apart by their places.
            packed = map(layout.encode_entry, reversed(entries))
            words: tuple[Word, ...] = (entries[0].at, len(entries), lasts, *packed)
            self._script(scripts.APPEND, place.slot, (key,), words)

    # -- asking

    def _check(self) -> None:
        names = self._names
        if self._ask(names.store_slot, "GET", names.identity) != self._identity:
            raise self._refusal()

    def _refusal(self) -> Exception:
        return not_being_filled(f"The store under the prefix {self._settings.prefix!r}")

    def _in_one_slot(self, kept: Kept, keys: Iterable[bytes]) -> Iterator[list[bytes]]:
        """The keys, in groups that one command may be about: all of them, but in a cluster."""
        groups: defaultdict[int, list[bytes]] = defaultdict(list)
        in_cluster = self._settings.mode is Mode.CLUSTER
        for key in keys:
            groups[self._slot(kept, key) if in_cluster else 0].append(key)
        yield from groups.values()

    def _place(self, kept: Kept, key: bytes) -> Place:
        names = self._names
        return names.of_session(key) if kept is Kept.SESSIONS else names.of_subject(key)

    def _slot(self, kept: Kept, key: bytes) -> int:
        return self._place(kept, key).slot

    def _keys(self, kept: Kept, keys: list[bytes]) -> tuple[bytes, ...]:
        named: dict[Kept, Callable[[Place, bytes], bytes]] = {
            Kept.SESSIONS: Place.session,
            Kept.EPOCHS: Place.epoch,
            Kept.HISTORIES: Place.history,
        }
        return tuple(named[kept](self._place(kept, key), key) for key in keys)

    def _ask(self, slot: int, *words: Word, durable: bool = False) -> Any:
        return self._run(self._router.call(Ask(slot, words, durable=durable)))

    def _script(
        self,
        script: Script,
        slot: int,
        keys: tuple[bytes, ...],
        words: tuple[Word, ...],
        *,
        durable: bool = True,
    ) -> Any:
        ask = Ask(slot, script=script, keys=keys, arguments=words, durable=durable)
        return self._run(self._router.call(ask))

    # -- every key there is

    def _scanned(self, pattern: bytes) -> Iterator[bytes]:
        for address in self._primaries():
            cursor: Any = b"0"
            while True:
                words = ("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
                cursor, names = self._on(address, words)
                yield from names
                if cursor == b"0":
                    break

    def _primaries(self) -> tuple[Address, ...]:
        found: tuple[Address, ...] = self._asked(self._router.topology.primaries())
        return found

    def _on(self, address: Address, words: Command) -> Any:
        def steps() -> Steps[Any]:
            return first(address, (yield Exchange(address, (words,))))

        return self._asked(steps())

    def _asked(self, steps: Steps[Any]) -> Any:
        try:
            return self._run(steps)
        except (Lost, Refusal) as fault:
            raise faults.unavailable(fault) from fault


def _decoded(session_id: bytes, value: object) -> Record | None:
    try:
        return layout.decode(session_id, value)
    except UnreadableRecord:
        return None


def _entries(subject_key: bytes, members: list[object]) -> tuple[HistoryEntry, ...] | None:
    try:
        return tuple(layout.decode_entry(subject_key, each) for each in members)
    except UnreadableRecord:
        return None
