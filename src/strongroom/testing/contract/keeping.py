"""The contract's fourth part: histories, and the sweep."""

# ruff: noqa: S101 - a contract test asserts, as every test does

from __future__ import annotations

from dataclasses import replace
from functools import partial
from unittest import SkipTest

from strongroom.core.ops import (
    GONE,
    Append,
    EndSubject,
    Erase,
    Find,
    HistoryEntry,
    Insert,
    InsertRefusal,
    ReadEpoch,
    ReadHistory,
    Sweep,
)
from strongroom.core.policy import EPOCHS_KEPT, ms
from strongroom.core.record import NO_EPOCH, NO_SUBJECT, EndReason, Record
from strongroom.testing.clock import START
from strongroom.testing.records import (
    KEEP,
    MINUTE,
    a_record,
    a_subject_key,
    a_touch,
    an_end,
    an_entry,
)

from .changing import every_change
from .harness import Harness, eventually


class Keeping(Harness):
    """Nothing is kept without an end, and nothing goes before its time (P24)."""

    def append(self, *entries: HistoryEntry, keep: int = 100) -> None:
        """Add the entries in one op."""
        self.store.append(Append(entries, keep))

    def history(self, subject: str = "alice", limit: int = 100) -> tuple[HistoryEntry, ...]:
        """The subject's entries, newest first."""
        return self.store.read_history(ReadHistory(a_subject_key(subject), limit))

    def test_a_subject_without_history_has_none(self) -> None:
        """Not found is a value."""
        assert self.history() == ()

    def test_a_history_is_read_newest_first(self) -> None:
        """Entries come back to the byte, whichever op brought them, each subject's its own."""
        entries = [an_entry(at=START + number, key_id=number * 51) for number in range(6)]
        entries[3] = replace(entries[3], sealed=b"")
        entries[4] = replace(entries[4], sealed=bytes(range(256)))
        bob = an_entry("bob", at=START + 3)
        self.append(*entries[:2], bob)
        for entry in entries[2:]:
            self.append(entry)
        assert self.history() == tuple(reversed(entries))
        assert self.history("bob") == (bob,)
        assert self.history(limit=2) == (entries[5], entries[4])
        assert self.history(limit=0) == ()

    def test_appending_nothing_is_a_no_op(self) -> None:
        """An op without entries changes no history."""
        entry = an_entry()
        self.append(entry)
        self.append(keep=1)
        assert self.history() == (entry,)

    def test_a_history_keeps_its_newest_entries(self) -> None:
        """At most `keep` a subject stay, so no client can fill the store (P24)."""
        entries = [an_entry(at=START + number) for number in range(7)]
        self.append(an_entry("bob"))
        for entry in entries[:5]:
            self.append(entry, keep=3)
        assert self.history() == (entries[4], entries[3], entries[2])
        self.append(*entries[5:], keep=3)
        assert self.history() == (entries[6], entries[5], entries[4])
        assert len(self.history("bob")) == 1

    def test_events_of_one_moment_are_all_kept_in_their_order(self) -> None:
        """A moment is not a name, and of one millisecond what was appended last is newest."""
        entries = [an_entry(at=START) for _ in range(8)]
        self.append(*entries[:3])
        for entry in entries[3:]:
            self.append(entry)
        assert self.history() == tuple(reversed(entries))
        last = an_entry(at=START)
        self.append(last, keep=3)
        assert self.history() == (last, entries[7], entries[6])

    def test_a_sweep_takes_what_is_due_and_nothing_else(self) -> None:
        """Only `purge_at` decides, at its very millisecond; live or ended does not matter (P9)."""
        self.needs_sweeping()
        due, at_the_moment = (a_record(purge_at=START + each) for each in (9, 10))
        later, ended = a_record(purge_at=START + 11), a_record()
        for record in (due, at_the_moment, later, ended):
            self.insert(record)
        self.store.end(an_end(ended, purge_at=START + 8))
        assert self.store.sweep(Sweep(START + 10, limit=100)) == 3
        for record in (due, at_the_moment, ended):
            assert self.store.find(Find(record.session_id)) is None
        assert self.read(later).is_live
        assert self.ids() == [later.session_id], "the index goes with its records"
        assert self.store.sweep(Sweep(START + 10, limit=100)) == 0

    def test_what_was_swept_cannot_be_changed(self) -> None:
        """A late write does not bring back what housekeeping took (P6)."""
        self.needs_sweeping()
        record = self.insert(a_record(purge_at=START))
        assert self.store.sweep(Sweep(START, limit=1)) == 1
        for op in every_change(record):
            assert getattr(self.store, op.verb)(op) == GONE
        assert self.store.find(Find(record.session_id)) is None
        assert self.ids() == []

    def test_a_touch_puts_off_the_sweep(self) -> None:
        """What was touched since is not due any more."""
        self.needs_sweeping()
        record = self.insert(a_record(purge_at=START))
        self.store.touch(replace(a_touch(record), purge_at=START + KEEP))
        assert self.store.sweep(Sweep(START + 1, limit=10)) == 0
        assert self.read(record).is_live

    def test_a_sweep_takes_no_more_than_its_limit(self) -> None:
        """However much is due, one sweep is short; repeated, it takes everything (P24)."""
        self.needs_sweeping()
        for number in range(7):
            self.insert(a_record(subject=None if number % 2 else "alice", purge_at=START))
        for number in range(4):
            self.append(an_entry(at=START + number, purge_at=START))
        removed = [self.store.sweep(Sweep(START, limit=3)) for _ in range(5)]
        assert all(0 <= each <= 3 for each in removed)
        assert sum(removed) == 11
        assert (self.ids(), self.history()) == ([], ())

    def test_a_sweep_shortens_histories(self) -> None:
        """An entry goes when its time has come, whatever else the subject has (P24)."""
        self.needs_sweeping()
        old, new = an_entry(at=START, purge_at=START + 5), an_entry(at=START + 1)
        self.append(old, new)
        assert self.store.sweep(Sweep(START + 4, limit=100)) == 0
        assert self.store.sweep(Sweep(START + 5, limit=100)) == 1
        assert self.history() == (new,)

    def test_what_is_due_is_forgotten_without_a_sweep(self) -> None:
        """By the server's clock: record, index and history, and nothing comes back (P6, P24)."""
        if not self.forgets_by_itself:
            raise SkipTest("allowed: this store is swept")
        short = START + 50
        gone, ended = self.insert(a_record(purge_at=short)), self.insert(a_record())
        touched, later = self.insert(a_record(purge_at=short)), self.insert(a_record())
        self.append(an_entry("bob", at=START, purge_at=short))
        self.store.touch(replace(a_touch(touched), purge_at=START + KEEP))
        self.store.end(an_end(ended, at=START, purge_at=short))
        for record in (gone, ended):
            eventually(partial(self.misses, record), "what is due is forgotten")
            for op in every_change(record):
                assert getattr(self.store, op.verb)(op) == GONE
        eventually(lambda: self.history("bob") == (), "a history of what is due is forgotten")
        assert self.store.sweep(Sweep(START + 10, limit=100)) == 0
        assert not self.misses(later)
        assert set(self.ids(live=True)) == {touched.session_id, later.session_id}

    def misses(self, record: Record) -> bool:
        """Whether the record is not there, live or ended."""
        return self.store.find(Find(record.session_id)) is None

    def test_what_a_subject_has_left_behind_can_be_erased(self) -> None:
        """Ended records and the whole history, before their time; nobody else's, and nobody's."""
        ended, alive = self.insert(a_record()), self.insert(a_record())
        other, nobody = self.insert(a_record(subject="bob")), self.insert(a_record(subject=None))
        for record in (ended, other, nobody):
            self.store.end(an_end(record))
        self.append(an_entry(), an_entry(at=START + 1), an_entry("bob"))
        assert self.store.erase(Erase(a_subject_key("alice"))) == 3
        assert self.misses(ended) and self.history() == ()
        assert self.ids() == [alive.session_id], "what lives stays"
        assert not self.misses(other) and len(self.history("bob")) == 1
        assert not self.misses(nobody)
        assert self.store.erase(Erase(a_subject_key("alice"))) == 0
        assert self.store.erase(Erase(NO_SUBJECT)) == 0
        assert not self.misses(nobody)

    def test_who_was_erased_stays_out(self) -> None:
        """The epoch is kept, so a sign-in from before is still refused (P15)."""
        key = a_subject_key("alice")
        self.insert(a_record())
        ending = EndSubject(
            key, self.entropy(8), EndReason.DISABLED, START, START + KEEP, b"\x05" * 8
        )
        self.store.end_subject(ending)
        assert self.store.erase(Erase(key)) == 1
        late = self.store.insert(Insert(a_record(), START, epoch=NO_EPOCH))
        assert late.refusal is InsertRefusal.EPOCH
        assert self.store.read_epoch(ReadEpoch(key)).subject == b"\x05" * 8

    def test_an_epoch_outlives_its_sessions(self) -> None:
        """An old sign-in is refused however much was swept in between (P15)."""
        key = a_subject_key("alice")
        record = self.insert(a_record())
        self.store.end_subject(
            EndSubject(key, self.entropy(8), EndReason.EVERYWHERE, START, START + 1, b"\x05" * 8)
        )
        swept = self.store.sweep(Sweep(START + KEEP, limit=100))
        assert swept == (0 if self.forgets_by_itself else 1)
        assert self.store.sweep(Sweep(START + KEEP, limit=100, epochs_before=START)) == 0
        eventually(lambda: self.store.find(Find(record.session_id)) is None, "it is forgotten")
        assert self.store.read_epoch(ReadEpoch(key)).subject == b"\x05" * 8
        late = self.store.insert(Insert(a_record(), START, epoch=NO_EPOCH))
        assert late.refusal is InsertRefusal.EPOCH

    def test_an_epoch_is_kept_as_long_as_a_sign_in_may_be_under_way(self) -> None:
        """For `EPOCHS_KEPT` from its last change, not from its first (E2, P15)."""
        key, again = a_subject_key("alice"), START + 10 * MINUTE
        for at, epoch in ((START, b"\x05" * 8), (again, b"\x06" * 8)):
            self.store.end_subject(
                EndSubject(key, self.entropy(8), EndReason.EVERYWHERE, at, at, epoch)
            )
            if self.forgets_by_itself:
                assert self.epoch_lasts(self.store, key) > ms(EPOCHS_KEPT) - MINUTE
        last = again + ms(EPOCHS_KEPT)
        self.store.sweep(Sweep(last, limit=100, epochs_before=last - ms(EPOCHS_KEPT)))
        assert self.store.read_epoch(ReadEpoch(key)).subject == b"\x06" * 8
        late = self.store.insert(Insert(a_record(), START, epoch=b"\x05" * 8))
        assert late.refusal is InsertRefusal.EPOCH

    def test_an_old_epoch_may_be_forgotten(self) -> None:
        """Once no sign-in can be that old; it is zeros again then, never another value (P24)."""
        key = a_subject_key("alice")
        self.store.end_subject(
            EndSubject(key, self.entropy(8), EndReason.EVERYWHERE, START, START, b"\x05" * 8)
        )
        self.store.sweep(Sweep(START, limit=100, epochs_before=START + 1))
        assert self.store.read_epoch(ReadEpoch(key)).subject in (NO_EPOCH, b"\x05" * 8)
