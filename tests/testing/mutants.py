"""The memory store, broken in thirty-five ways, for the contract suite to find."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from strongroom.core import lifecycle
from strongroom.core.errors import StoreUnavailable
from strongroom.core.ops import (
    GONE,
    Alive,
    Append,
    Changed,
    End,
    EndAll,
    EndSubject,
    Erase,
    Find,
    Found,
    Insert,
    Inserted,
    InsertRefusal,
    ListSubject,
    Notice,
    Outcome,
    ReadHistory,
    Replace,
    Rotate,
    Shift,
    Sweep,
    Touch,
    Watch,
)
from strongroom.core.record import Record
from strongroom.stores.memory import MemoryStore
from strongroom.testing.clock import START

HOUR = 3_600_000


class Broken(MemoryStore):
    """A memory store whose mutants reach into it."""

    def now(self, session_id: bytes) -> Record | None:
        return self._records.get(session_id)

    def force(self, record: Record) -> Outcome:
        self._keep((record,))
        return Outcome(applied=True, record=record)


class UpsertsOnTouch(Broken):
    """Trap 3: a touch of an ended session writes it back, live."""

    def touch(self, op: Touch) -> Outcome:
        record = self.now(op.session_id)
        if record is not None and not record.is_live:
            header = replace(record.header, end_reason=None, last_seen=op.seen_at)
            return self.force(replace(record, header=header))
        return super().touch(op)


class ForgetsTheEpoch(Broken):
    """Trap 11: an insert does not compare the subject's epoch."""

    def insert(self, op: Insert) -> Inserted:
        return super().insert(replace(op, epoch=None))


class KeepsTheEpoch(Broken):
    """Signing out everywhere ends the sessions, but does not replace the epoch."""

    def end_subject(self, op: EndSubject) -> tuple[Found, ...]:
        before = self._epochs.get(op.subject_key, (bytes(8), 0))
        ended = super().end_subject(op)
        self._epochs[op.subject_key] = before
        return ended


class ResurrectingReplace(Broken):
    """Trap 3: a save goes by the version only, and the end does not change that."""

    def replace(self, op: Replace) -> Outcome:
        record = self.now(op.session_id)
        if record is not None and record.header.data_version == op.expected:
            return self.force(replace(record, data=op.data))
        return super().replace(op)


class LastSaveWins(Broken):
    """Trap 5: a save compares nothing."""

    def replace(self, op: Replace) -> Outcome:
        record = self.now(op.session_id)
        return super().replace(replace(op, expected=record.header.data_version) if record else op)


class TouchGoesBack(Broken):
    """A long request puts the last activity back."""

    def touch(self, op: Touch) -> Outcome:
        outcome = super().touch(op)
        if outcome.record is None:
            return outcome
        header = replace(outcome.record.header, last_seen=op.seen_at, revision=op.revision)
        return self.force(replace(outcome.record, header=header))


class TouchAlwaysWrites(Broken):
    """A touch that is not later still changes the revision, and so empties every cache."""

    def touch(self, op: Touch) -> Outcome:
        outcome = super().touch(op)
        if outcome.record is None:
            return outcome
        header = replace(outcome.record.header, revision=op.revision)
        return self.force(replace(outcome.record, header=header))


class RenewsByGeneration(Broken):
    """A renewal compares the generation, not the digest."""

    def shift(self, op: Shift) -> Outcome:
        record = self.now(op.session_id)
        if record is None or not record.is_live:
            return GONE
        if record.header.credential.generation == op.credential.generation - 1:
            op = replace(op, expected=record.header.credential.current)
        return super().shift(op)


class RotationDropsData(Broken):
    """A rotation writes a new record, and forgets what the application stored."""

    def rotate(self, op: Rotate) -> Outcome:
        outcome = super().rotate(op)
        return self.force(replace(outcome.record, data=b"")) if outcome.record else outcome


class EndKeepsData(Broken):
    """An ended record still holds what the application stored."""

    def end(self, op: End) -> Outcome:
        before = self.now(op.session_id)
        outcome = super().end(op)
        if before is None or outcome.record is None:
            return outcome
        return self.force(replace(outcome.record, data=before.data))


class EndsAgain(Broken):
    """The second end overwrites the reason of the first."""

    def end(self, op: End) -> Outcome:
        record = self.now(op.session_id)
        if record is None or record.is_live:
            return super().end(op)
        return self.force(lifecycle.end(record, op.reason, op.at, op.purge_at, op.revision))


class EndsAnybody(Broken):
    """An end does not look whose session it ends."""

    def end(self, op: End) -> Outcome:
        return super().end(replace(op, subject_key=None))


class IgnoresKeep(Broken):
    """Signing out everywhere else signs out here too."""

    def end_subject(self, op: EndSubject) -> tuple[Found, ...]:
        return super().end_subject(replace(op, keep=None))


class OverwritesOnInsert(Broken):
    """An insert is an upsert."""

    def insert(self, op: Insert) -> Inserted:
        before = self.now(op.record.session_id)
        if before is not None:
            self._drop(before)
        return super().insert(op)


class DropsTheTail(Broken):
    """A change re-encodes the header and loses what a newer release wrote."""

    def replace(self, op: Replace) -> Outcome:
        outcome = super().replace(op)
        return self.force(replace(outcome.record, tail=b"")) if outcome.record else outcome


class ListsTheLiving(Broken):
    """A list leaves out what has ended."""

    def list_subject(self, op: ListSubject) -> tuple[Found, ...]:
        return tuple(each for each in super().list_subject(op) if each.record.is_live)


class DecidesExpiry(Broken):
    """The store believes to know which session is too old."""

    def find(self, op: Find) -> Found | None:
        found = super().find(op)
        expired = found is not None and found.record.header.idle_deadline < START + HOUR
        return None if expired else found


class SweepsEverything(Broken):
    """A sweep knows no limit."""

    def sweep(self, op: Sweep) -> int:
        return super().sweep(replace(op, limit=10**9))


class SweepsTooEarly(Broken):
    """A sweep goes by the idle deadline."""

    def sweep(self, op: Sweep) -> int:
        return super().sweep(replace(op, now=op.now + 5))


class SweepsEpochs(Broken):
    """An epoch goes with the subject's last session."""

    def sweep(self, op: Sweep) -> int:
        return super().sweep(replace(op, epochs_before=2**62))


class CountsEpochsFromTheFirst(Broken):
    """An epoch's time runs from when it was first replaced."""

    def end_subject(self, op: EndSubject) -> tuple[Found, ...]:
        _, first = self._epochs.get(op.subject_key, (b"", op.at))
        ended = super().end_subject(op)
        self._epochs[op.subject_key] = (op.new_epoch, first)
        return ended


class HidesTheStoreEpoch(Broken):
    """The end of all sessions is not told with the records that are read."""

    def find(self, op: Find) -> Found | None:
        found = super().find(op)
        return (
            None if found is None else replace(found, store_epoch=found.record.header.store_epoch)
        )


class HistoryGrows(Broken):
    """A history keeps everything."""

    def append(self, op: Append) -> None:
        super().append(replace(op, keep=10**9))


class HistoryIgnoresItsLimit(Broken):
    """A history is always read whole."""

    def read_history(self, op: ReadHistory) -> Any:
        return super().read_history(replace(op, limit=10**9))


class CountsTheEnded(Broken):
    """Ended sessions take places in the limit."""

    def insert(self, op: Insert) -> Inserted:
        if op.limit is not None:
            used = len(self._records_of(op.record.subject_key))
            if used >= op.limit.maximum and op.limit.when_reached.value == "refuse":
                return Inserted(None, InsertRefusal.LIMIT)
        return super().insert(op)


class TakesAnyKeys(Broken):
    """The store opens with whatever keys it is given."""

    def open(self, store_identity: bytes) -> None:
        self._identity = None if self._identity is None else store_identity
        super().open(store_identity)


class NotAtomic(Broken):
    """Read, think, write: each alone is locked, and together they are not."""

    def _change(self, op: lifecycle.Change) -> Outcome:
        outcome = lifecycle.apply(self.now(op.session_id), op)
        time.sleep(0.001)
        if outcome.applied and outcome.record is not None:
            self.force(outcome.record)
        return outcome


class LimitNotAtomic(Broken):
    """The sessions are counted first, and the record is inserted afterwards."""

    def insert(self, op: Insert) -> Inserted:
        others: Iterable[Record] = self._records_of(op.record.subject_key)
        epoch, _ = self._epochs.get(op.record.subject_key, (bytes(8), 0))
        existing = self.now(op.record.session_id)
        time.sleep(0.001)
        inserted = lifecycle.insert(
            op,
            existing=existing,
            subject_epoch=epoch,
            store_epoch=self._store_epoch,
            others=others,
        )
        if inserted.refusal is None and inserted.record is not None:
            self._keep((*inserted.evicted, inserted.record))
        return inserted


class CountsTheReplaced(Broken):
    """The session that a sign-in replaces takes a place of its own."""

    def insert(self, op: Insert) -> Inserted:
        return super().insert(replace(op, replaces=None))


class EndAllRewrites(Broken):
    """The end of all sessions stamps the new epoch on the old records, which so survive it."""

    def end_all(self, op: EndAll) -> None:
        super().end_all(op)
        for record in self._records.values():
            header = replace(record.header, store_epoch=op.new_epoch)
            self._records[record.session_id] = replace(record, header=header)


class EndsInSilence(Broken):
    """Who watches is not told of sign-outs."""

    def end(self, op: End) -> Outcome:
        telling, self._watchers = self._watchers, {}
        try:
            return super().end(op)
        finally:
            self._watchers = telling


class TellsOneSession(Broken):
    """Signing out everywhere tells of one session, and the others go on in other processes."""

    def end_subject(self, op: EndSubject) -> tuple[Found, ...]:
        telling, self._watchers = self._watchers, {}
        try:
            ended = super().end_subject(op)
        finally:
            self._watchers = telling
        self._tell(Changed(tuple(each.record.session_id for each in ended[:1])))
        return ended


class ProvesTooEarly(Broken):
    """A change is told only after a proof that claims to cover it."""

    late: tuple[Notice, ...] = ()

    def _tell(self, notice: Notice) -> None:
        self.late += (notice,)

    def watch(self, op: Watch) -> None:
        def tell(notice: Notice) -> None:
            op.tell(notice)
            late, self.late = self.late, ()
            for each in late:
                op.tell(each)

        super().watch(replace(op, tell=tell))


class ProvesAnOldEpoch(Broken):
    """Proofs carry the store's epoch as it was when the watch began."""

    def watch(self, op: Watch) -> None:
        epoch = self._store_epoch

        def tell(notice: Notice) -> None:
            op.tell(replace(notice, store_epoch=epoch) if isinstance(notice, Alive) else notice)

        super().watch(replace(op, tell=tell))


class ClosesInSilence(Broken):
    """A channel that is lost ends as if it had been told to."""

    def watch(self, op: Watch) -> None:
        with suppress(StoreUnavailable):
            super().watch(op)


class ErasesTheLiving(Broken):
    """Erasing takes live records with it."""

    def erase(self, op: Erase) -> int:
        for record in self._records_of(op.subject_key):
            self._drop(record)
        return super().erase(op)


class ErasesRecordsOnly(Broken):
    """Erasing leaves the history."""

    def erase(self, op: Erase) -> int:
        kept = self._history.pop(op.subject_key, ())
        removed = super().erase(op) + len(kept)
        self._history[op.subject_key] = kept
        return removed


class ErasesTheEpoch(Broken):
    """Erasing forgets that everything was ended."""

    def erase(self, op: Erase) -> int:
        self._epochs.pop(op.subject_key, None)
        return super().erase(op)


SEEN_BY = {
    ErasesTheLiving: "test_what_a_subject_has_left_behind_can_be_erased",
    ErasesRecordsOnly: "test_what_a_subject_has_left_behind_can_be_erased",
    ErasesTheEpoch: "test_who_was_erased_stays_out",
    UpsertsOnTouch: "test_ended_is_terminal",
    ForgetsTheEpoch: "test_an_insert_whose_epoch_is_outdated_is_refused",
    KeepsTheEpoch: "test_signing_out_everywhere_replaces_the_epoch",
    ResurrectingReplace: "test_ended_is_terminal",
    LastSaveWins: "test_a_save_compares_the_data_version",
    TouchGoesBack: "test_a_touch_never_goes_back",
    TouchAlwaysWrites: "test_a_touch_that_is_not_later_is_a_no_op",
    RenewsByGeneration: "test_a_shift_does_not_go_by_the_generation",
    RotationDropsData: "test_a_rotation_replaces_credential_and_envelope_together",
    EndKeepsData: "test_an_end_wipes_the_data_and_keeps_the_identity",
    EndsAgain: "test_ending_twice_is_a_no_op",
    EndsAnybody: "test_nobody_ends_the_session_of_another_subject",
    IgnoresKeep: "test_a_subject_signs_out_everywhere_else",
    OverwritesOnInsert: "test_the_id_of_an_ended_record_stays_taken",
    DropsTheTail: "test_a_tail_of_a_newer_release_survives",
    ListsTheLiving: "test_a_subject_is_listed_oldest_first",
    DecidesExpiry: "test_an_inserted_record_is_found_as_it_was",
    SweepsEverything: "test_a_sweep_takes_no_more_than_its_limit",
    SweepsTooEarly: "test_a_sweep_takes_what_is_due_and_nothing_else",
    CountsEpochsFromTheFirst: "test_an_epoch_is_kept_as_long_as_a_sign_in_may_be_under_way",
    SweepsEpochs: "test_an_epoch_outlives_its_sessions",
    HidesTheStoreEpoch: "test_everybody_can_be_signed_out_at_once",
    HistoryGrows: "test_a_history_keeps_its_newest_entries",
    HistoryIgnoresItsLimit: "test_a_history_is_read_newest_first",
    CountsTheEnded: "test_only_live_signed_in_sessions_count",
    TakesAnyKeys: "test_a_store_of_other_keys_is_refused",
    NotAtomic: "test_one_save_wins_a_version",
    LimitNotAtomic: "test_a_limit_is_never_exceeded",
    CountsTheReplaced: "test_the_session_that_is_replaced_does_not_count",
    EndAllRewrites: "test_everybody_can_be_signed_out_at_once",
    EndsInSilence: "test_every_change_is_told",
    TellsOneSession: "test_ending_a_subject_is_told_for_each_session",
    ProvesTooEarly: "test_every_change_is_told",
    ProvesAnOldEpoch: "test_a_new_store_epoch_is_told",
    ClosesInSilence: "test_a_lost_channel_raises",
}
"""Each mutant, and the one test that is there to see its fault (others may see it too)."""

ABOUT_WATCHING = frozenset(
    {EndsInSilence, TellsOneSession, ProvesTooEarly, ProvesAnOldEpoch, ClosesInSilence}
)
"""Those whose fault is in what they push, and not in what they answer."""
