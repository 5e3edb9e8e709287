"""The contract's second part: touch, shift, rotate and replace, each with what it may not carry."""

# ruff: noqa: S101 - a contract test asserts, as every test does

from __future__ import annotations

from dataclasses import replace

from strongroom.core import lifecycle
from strongroom.core.ops import GONE, Find, Outcome
from strongroom.core.record import Kind, Record
from strongroom.testing.clock import START
from strongroom.testing.records import (
    MINUTE,
    a_credential,
    a_record,
    a_replace,
    a_rotate,
    a_shift,
    a_touch,
    an_end,
)

from .harness import Harness
from .reading import faithful


class Changing(Harness):
    """Every write is conditional on a record that exists and is live."""

    def change(self, record: Record, op: lifecycle.Change) -> Outcome:
        """Do the op; answer and stored record must be what `core.lifecycle` says."""
        before = self.store.find(Find(record.session_id))
        expected = lifecycle.apply(before.record if before else None, op)
        outcome: Outcome = getattr(self.store, op.verb)(op)
        assert outcome == expected
        if outcome.record is not None:
            assert faithful(self.read(record), outcome.record)
        return outcome

    def test_a_touch_moves_the_clocks_and_nothing_else(self) -> None:
        """Noting activity carries no data and changes no credential (P8)."""
        record = self.insert(a_record())
        outcome = self.change(record, a_touch(record))
        assert outcome.applied
        after = self.read(record)
        assert after.header.last_seen == record.header.last_seen + MINUTE
        assert (after.data, after.envelope) == (record.data, record.envelope)
        assert after.header.data_version == record.header.data_version
        assert after.header.revision != record.header.revision

    def test_a_touch_never_goes_back(self) -> None:
        """Each of the three moments is the greater of the stored and the op's own (P9)."""
        record = self.insert(a_record())
        now = self.change(record, a_touch(record, later=10 * MINUTE)).record
        assert now is not None
        mixed = replace(a_touch(now), seen_at=1, purge_at=1)
        after = self.change(record, mixed).record
        assert after is not None
        assert after.header.last_seen == now.header.last_seen
        assert after.header.purge_at == now.header.purge_at
        assert after.header.idle_deadline == now.header.idle_deadline + MINUTE

    def test_a_touch_that_is_not_later_is_a_no_op(self) -> None:
        """It is answered as applied, and the revision stays, so no cache is emptied for it."""
        record = self.insert(a_record())
        outcome = self.change(record, a_touch(record, later=0))
        assert outcome == Outcome(applied=True, record=record)
        outcome = self.change(record, a_touch(record, later=-MINUTE))
        assert outcome == Outcome(applied=True, record=record)
        assert faithful(self.read(record), record)

    def test_a_touch_does_not_disturb_a_save(self) -> None:
        """A save prepared before a touch, a shift and a rotation still succeeds (P8)."""
        record = self.insert(a_record())
        saving = a_replace(record)
        self.store.touch(a_touch(record))
        self.store.shift(a_shift(self.read(record)))
        self.store.rotate(a_rotate(self.read(record)))
        outcome = self.change(record, saving)
        assert outcome.applied
        assert self.read(record).data == saving.data

    def test_a_save_does_not_disturb_a_renewal(self) -> None:
        """Credential and data change independently of each other (P8)."""
        record = self.insert(a_record())
        renewing = a_shift(record)
        self.store.replace(a_replace(record))
        self.store.touch(a_touch(record))
        assert self.change(record, renewing).applied

    def test_a_shift_carries_the_credential_only(self) -> None:
        """Renewal changes no clock, no data, no identity (P8)."""
        record = self.insert(a_record())
        op = a_shift(record)
        after = self.change(record, op).record
        assert after is not None
        header = replace(record.header, credential=op.credential, revision=op.revision)
        assert faithful(after, replace(record, header=header))

    def test_a_shift_compares_the_digest(self) -> None:
        """Of two renewals that began with one token only the first is done (P11, E5)."""
        record = self.insert(a_record())
        first, second = a_shift(record), a_shift(record)
        assert self.change(record, first).applied
        refused = self.change(record, second)
        assert not refused.applied
        assert refused.record is not None, "the loser is told what the winner left"
        assert refused.record.header.credential == first.credential

    def test_a_shift_does_not_go_by_the_generation(self) -> None:
        """The same generation with another digest is somebody else's renewal (E5)."""
        record = self.insert(a_record())
        twin = a_credential(generation=record.header.credential.generation)
        op = a_shift(record, expected=twin.current)
        assert not self.change(record, op).applied
        assert faithful(self.read(record), record)

    def test_a_late_note_of_use_does_not_undo_a_confirmation(self) -> None:
        """Two notes about one token: a confirmation never moves, whichever comes last (D1)."""
        record = self.insert(a_record())
        known = record.header.credential
        seen = replace(known, first_used_at=START + 1)
        safe = replace(seen, confirmed_at=START + 2)
        for noted in (seen, safe, replace(known, first_used_at=START + 9)):
            op = replace(a_shift(record), expected=known.current, credential=noted)
            assert self.change(record, op).applied
        assert self.read(record).header.credential == safe

    def test_a_rotation_replaces_credential_and_envelope_together(self) -> None:
        """The data stays, the old token is dead at once, the idle clock starts anew (D2, E7)."""
        record = self.insert(a_record())
        op = a_rotate(record)
        after = self.change(record, op).record
        assert after is not None
        assert after.header.credential == op.credential
        assert (after.envelope, after.header.envelope_key_id) == (op.envelope, op.envelope_key_id)
        assert (after.data, after.header.data_version) == (record.data, record.header.data_version)
        assert after.header.last_seen == op.seen_at

    def test_a_rotation_compares_the_digest(self) -> None:
        """A renewal that came first wins, and nothing of the rotation is kept (P10)."""
        record = self.insert(a_record())
        rotating = a_rotate(record)
        self.store.shift(a_shift(record))
        renewed = self.read(record)
        refused = self.change(record, rotating)
        assert refused == Outcome(applied=False, record=renewed)
        assert faithful(self.read(record), renewed)

    def test_a_rotation_never_moves_the_clocks_back(self) -> None:
        """Its moments, too, are the greater of two (P9)."""
        record = self.insert(a_record())
        self.change(record, a_touch(record, later=10 * MINUTE))
        now = self.read(record)
        after = self.change(record, a_rotate(record, seen_at=START, idle_deadline=1, purge_at=1))
        assert after.record is not None
        assert after.record.header.last_seen == now.header.last_seen
        assert after.record.header.idle_deadline == now.header.idle_deadline

    def test_only_the_table_changes_a_kind(self) -> None:
        """Each rotation from one kind to another does what `lifecycle.TABLE` says (P10)."""
        for kind in Kind:
            for other in Kind:
                record = self.insert(a_record(kind=kind))
                outcome = self.change(record, a_rotate(record, kind=other))
                allowed = other in lifecycle.TABLE[kind].get("rotate", ())
                assert outcome.applied is allowed, f"{kind.name} to {other.name}"
                if not allowed:
                    assert outcome == GONE
                    assert faithful(self.read(record), record)

    def test_a_grant_can_only_be_ended(self) -> None:
        """A hand-over is not a session: nothing touches, renews or saves it (D7)."""
        record = self.insert(a_record(kind=Kind.HAND_OVER))
        for op in (a_touch(record), a_shift(record), a_rotate(record), a_replace(record)):
            assert self.change(record, op) == GONE
        assert faithful(self.read(record), record)
        assert self.change(record, an_end(record)).applied

    def test_a_save_compares_the_data_version(self) -> None:
        """Of two saves that began with the same data the second is told of the first (P7)."""
        record = self.insert(a_record())
        first, second = a_replace(record), a_replace(record)
        assert self.change(record, first).applied
        refused = self.change(record, second)
        assert not refused.applied
        assert refused.record is not None
        assert refused.record.data == first.data == self.read(record).data

    def test_a_save_changes_data_and_nothing_else(self) -> None:
        """No clock, no credential and no identity moves with a save (P8)."""
        record = self.insert(a_record())
        op = a_replace(record, data=b"\x00\xff" * 1000)
        after = self.change(record, op).record
        assert after is not None
        header = replace(
            record.header,
            data_version=op.data_version,
            data_key_id=op.data_key_id,
            revision=op.revision,
        )
        assert faithful(after, replace(record, header=header, data=op.data))

    def test_saving_nothing_empties_the_data(self) -> None:
        """Empty data is a value, not a wish to keep the old (P7)."""
        record = self.insert(a_record())
        assert self.change(record, a_replace(record, data=b"")).applied
        assert self.read(record).data == b""

    def test_what_is_absent_stays_absent(self) -> None:
        """No change creates the record that it does not find (P2, P6)."""
        record = a_record()
        for op in every_change(record):
            assert self.change(record, op) == GONE
            assert self.store.find(Find(record.session_id)) is None
        assert self.ids() == []


def every_change(record: Record) -> tuple[lifecycle.Change, ...]:
    """One of each op that changes a record, all of which would succeed on it."""
    return (
        a_touch(record),
        a_shift(record),
        a_rotate(record),
        a_replace(record),
        an_end(record),
    )
