"""The contract's fifth part: a long random walk, compared at each step with the pure model.

The model is `core.lifecycle` over dictionaries. A walk is a list of ops, which are values; so the
shortest list on which store and model differ is found by leaving ops out, and shown.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from strongroom.core import lifecycle
from strongroom.core.ops import (
    Append,
    AtLimit,
    EndAll,
    EndSubject,
    Epochs,
    Erase,
    Find,
    Found,
    HistoryEntry,
    Insert,
    Limit,
    ListSubject,
    Op,
    ReadEpoch,
    ReadHistory,
    Sweep,
)
from strongroom.core.record import NO_EPOCH, NO_SUBJECT, EndReason, Kind, Record
from strongroom.stores.base import Store
from strongroom.testing.clock import START
from strongroom.testing.records import (
    KEEP,
    a_record,
    a_replace,
    a_rotate,
    a_shift,
    a_subject_key,
    a_touch,
    an_end,
    an_entry,
)

from .harness import Harness

SUBJECTS = ("alice", "bob", None)
PEOPLE = ("alice", "bob")


_KINDS = (*Kind, *(kind for kind in Kind if kind.is_signed_in for _ in range(2)))
"""What a walk inserts: every kind, and mostly those that a limit counts, whatever is added."""


class Model:
    """What a store comes to, in as few words as possible: one thread, and no bytes."""

    def __init__(self, store_epoch: bytes) -> None:
        self.records: dict[bytes, Record] = {}
        self.epochs: dict[bytes, bytes] = {}
        self.history: dict[bytes, list[HistoryEntry]] = {}
        self.store_epoch = store_epoch

    def answer(self, op: Op) -> Any:
        """Do the op, and answer as the contract says."""
        match op:
            case Find():
                record = self.records.get(op.session_id)
                return None if record is None else Found(record, self.store_epoch)
            case ReadEpoch():
                return Epochs(self.epochs.get(op.subject_key, NO_EPOCH), self.store_epoch)
            case ListSubject():
                return tuple(Found(each, self.store_epoch) for each in self.of(op.subject_key))
            case Insert():
                inserted = lifecycle.insert(
                    op,
                    existing=self.records.get(op.record.session_id),
                    subject_epoch=self.epochs.get(op.record.subject_key, NO_EPOCH),
                    store_epoch=self.store_epoch,
                    others=self.of(op.record.subject_key),
                )
                if inserted.refusal is None and inserted.record is not None:
                    self.keep(*inserted.evicted, inserted.record)
                return inserted
            case EndSubject():
                ended = lifecycle.end_subject(self.of(op.subject_key), op)
                self.keep(*ended)
                self.epochs[op.subject_key] = op.new_epoch
                return tuple(Found(each, self.store_epoch) for each in ended)
            case EndAll():
                self.store_epoch = op.new_epoch
                return None
            case Append():
                for entry in op.entries:
                    kept = self.history.setdefault(entry.subject_key, [])
                    kept.insert(0, entry)
                    del kept[op.keep :]
                return None
            case ReadHistory():
                return tuple(self.history.get(op.subject_key, ())[: op.limit])
            case Erase() | Sweep():
                return self.forget(op)
            case _:
                return self.change(op)

    def change(self, op: Any) -> Any:
        """One of the ops that change one record."""
        outcome = lifecycle.apply(self.records.get(op.session_id), op)
        if outcome.applied and outcome.record is not None:
            self.keep(outcome.record)
        return outcome

    def forget(self, op: Erase | Sweep) -> int:
        """One of the ops that remove things."""
        return self.erase(op.subject_key) if isinstance(op, Erase) else self.sweep(op.now)

    def erase(self, subject_key: bytes) -> int:
        """Forget what the subject has left behind."""
        ended = [each for each in self.of(subject_key) if not each.is_live]
        for record in ended:
            del self.records[record.session_id]
        return len(ended) + len(self.history.pop(subject_key, ()))

    def sweep(self, now: int) -> int:
        """Forget all that is due; epochs stay."""
        due = [each for each in self.records.values() if each.header.purge_at <= now]
        for record in due:
            del self.records[record.session_id]
        removed = len(due)
        for key, kept in self.history.items():
            self.history[key] = [each for each in kept if each.purge_at > now]
            removed += len(kept) - len(self.history[key])
        return removed

    def keep(self, *records: Record) -> None:
        """Have the records as they are now."""
        self.records.update({each.session_id: each for each in records})

    def of(self, subject_key: bytes) -> list[Record]:
        """The subject's records, oldest first."""
        own = [each for each in self.records.values() if each.subject_key == subject_key]
        return sorted(own, key=lambda each: each.header.inserted_at)


class Walker:
    """Draws ops that are as often outdated as up to date, for few subjects and sessions."""

    def __init__(self, seed: int, *, sweeps: bool = True) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a walk that can be repeated
        # Without sweeping nothing may come due on the way, because the store would forget it.
        self.sweeps = sweeps
        self.stranger = a_record()
        self.seen: list[Record] = [self.stranger]
        self.epochs = [NO_EPOCH]
        self.now = START

    def draw(self) -> Op:
        """The next op."""
        self.now += self.random.randrange(1, 1000)
        drawers: tuple[tuple[Callable[[], Op], int], ...] = (
            (self.insert, 5),
            (lambda: a_touch(self.known(), later=self.random.choice((-5, 0, 7, 900))), 3),
            (lambda: a_shift(self.known()), 4),
            (lambda: a_shift(self.known(), expected=self.known().header.credential.current), 1),
            (self.rotate, 3),
            (lambda: a_replace(self.known(), data=self.random.randbytes(5)), 5),
            (self.end, 2),
            (self.end_subject, 1),
            (self.end_all, 1),
            (self.append, 3),
            (lambda: Find(self.known().session_id), 1),
            (lambda: ListSubject(self.somebody()), 1),
            (lambda: ReadHistory(self.somebody(), self.random.randrange(4)), 1),
            (self.erase, 1),
            (lambda: Sweep(self.now, limit=1_000), 1 if self.sweeps else 0),
        )
        weights = [weight for _, weight in drawers]
        return self.random.choices([make for make, _ in drawers], weights)[0]()

    def learn(self, answer: Any) -> None:
        """Remember the records of an answer, so that later ops can build on them."""
        for each in answer if isinstance(answer, tuple) else (answer,):  # pyright: ignore
            record = getattr(each, "record", None)  # pyright: ignore
            if isinstance(record, Record):
                self.seen = [*self.seen[-11:], record]

    def known(self) -> Record:
        """A record as it is, or as it once was."""
        return self.random.choice(self.seen)

    def taken(self) -> bytes | None:
        """The id of a record that is or was in the store; None before there is any."""
        inserted = [each.session_id for each in self.seen if each is not self.stranger]
        return self.random.choice(inserted) if inserted else None

    def due(self) -> int:
        """When something may be forgotten: soon, or long after the walk."""
        return self.now + self.random.choice((10_000 if self.sweeps else KEEP, KEEP))

    def somebody(self) -> bytes:
        """A subject."""
        return a_subject_key(self.random.choice(PEOPLE))

    def insert(self) -> Op:
        """A sign-in, sometimes with an outdated epoch, a limit, or an id that is taken."""
        subject = self.random.choice(SUBJECTS)
        record = a_record(
            subject=subject,
            kind=self.random.choice(_KINDS) if subject else Kind.ANONYMOUS,
            now=self.now,
            session_id=self.random.choice((None, None, None, self.taken())),
            tail=self.random.randbytes(self.random.choice((0, 0, 3))),
            idle_deadline=self.now + self.random.choice((1, 5_000, 500_000)),
            purge_at=self.due(),
        )
        limit = Limit(self.random.randrange(1, 4), self.random.choice(list(AtLimit)))
        return Insert(
            record,
            self.now,
            epoch=self.random.choice((None, self.random.choice(self.epochs))),
            limit=self.random.choice((None, limit)),
            evicted_purge_at=self.now + KEEP,
            replaces=self.random.choice((None, self.known().session_id, self.own(record))),
        )

    def own(self, record: Record) -> bytes | None:
        """A session of the same subject, which is what a sign-in replaces; None if it has none."""
        own = [
            each.session_id
            for each in self.seen
            if each.subject_key == record.subject_key and each.is_live
        ]
        return self.random.choice(own) if own else None

    def rotate(self) -> Op:
        """An elevation, to any kind."""
        kind = self.random.choice((self.known().header.kind, Kind.AUTHENTICATED))
        return a_rotate(self.known(), kind=kind, seen_at=self.now)

    def end(self) -> Op:
        """A sign-out or a revocation, sometimes of another subject's session."""
        key = self.random.choice((None, self.known().subject_key, self.somebody()))
        return an_end(
            self.known(), reason=self.random.choice(list(EndReason)), at=self.now, subject_key=key
        )

    def end_subject(self) -> Op:
        """Signing out everywhere, or everywhere else."""
        self.epochs.append(self.random.randbytes(8))
        known = self.known()
        return EndSubject(
            self.somebody() if known.subject_key == NO_SUBJECT else known.subject_key,
            revision=self.random.randbytes(8),
            reason=EndReason.EVERYWHERE,
            at=self.now,
            purge_at=self.now + KEEP,
            new_epoch=self.epochs[-1],
            keep=self.random.choice((None, known.session_id)),
        )

    def end_all(self) -> Op:
        """A new epoch for the whole store."""
        return EndAll(self.random.randbytes(8), self.now)

    def erase(self) -> Op:
        """Everything that somebody has left behind; ids that are gone are not taken any more."""
        key = self.somebody()
        self.seen = [self.stranger, *(each for each in self.seen if each.subject_key != key)]
        return Erase(key)

    def append(self) -> Op:
        """An event or two."""
        entries = tuple(
            an_entry(
                self.random.choice(PEOPLE),
                at=self.now + number,
                purge_at=self.due(),
            )
            for number in range(self.random.randrange(3))
        )
        return Append(entries, keep=4)


class Walking(Harness):
    """Store and model agree on every answer, and on everything that is left at the end."""

    def test_a_random_walk_agrees_with_the_model(self) -> None:
        """Each answer and each record is what `core.lifecycle` says, to the byte (P6 to P9)."""
        for seed in range(4):
            walker = Walker(seed, sweeps=not self.forgets_by_itself)
            done: list[Op] = []
            store, model = self.pair()
            for _ in range(self.walk):
                op = walker.draw()
                done.append(op)
                answer = model.answer(op)
                walker.learn(answer)
                if plain(getattr(store, op.verb)(op)) != plain(answer):
                    break
            if self.difference(done):
                shown = "\n".join(f"  {op!r}" for op in self.shortest(done))
                raise AssertionError(f"Store and model differ after these ops:\n{shown}")

    def pair(self) -> tuple[Store, Model]:
        """A new store, and a model of it."""
        store = self.fresh()
        return store, Model(store.read_epoch(ReadEpoch(a_subject_key("alice"))).store)

    def difference(self, ops: list[Op]) -> bool:
        """Whether the ops lead store and model apart, in an answer or in what is left."""
        store, model = self.pair()
        ids = {each.record.session_id for each in ops if isinstance(each, Insert)}
        keys = [a_subject_key(each) for each in PEOPLE]
        looks: list[Op] = [Find(each) for each in sorted(ids)]
        for key in keys:
            looks += [ListSubject(key), ReadEpoch(key), ReadHistory(key, 100)]
        return any(
            plain(getattr(store, op.verb)(op)) != plain(model.answer(op)) for op in (*ops, *looks)
        )

    def shortest(self, ops: list[Op]) -> list[Op]:
        """The ops without any that the difference does not need."""
        for number in reversed(range(len(ops))):
            fewer = ops[:number] + ops[number + 1 :]
            if self.difference(fewer):
                ops = fewer
        return ops


def plain(answer: Any) -> Any:
    """An answer as what it says: an order only where one is promised, epochs as they are."""
    if isinstance(answer, Found):
        return answer.record, answer.store_epoch, answer.record.header.encode()
    if isinstance(answer, tuple):
        return [plain(each) for each in answer]  # pyright: ignore
    return answer
