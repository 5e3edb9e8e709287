"""The contract's first part: what goes in comes out, byte for byte."""

# ruff: noqa: S101 - a contract test asserts, as every test does

from __future__ import annotations

from strongroom.core.credentials import ChangedBy
from strongroom.core.errors import StoreMismatch
from strongroom.core.ops import (
    Find,
    Found,
    Insert,
    InsertRefusal,
    ListSubject,
    ReadClock,
    ReadEpoch,
)
from strongroom.core.record import FORMAT, NO_EPOCH, EndReason, Kind, Record
from strongroom.core.tokens import shard_of_session
from strongroom.testing.clock import START
from strongroom.testing.records import (
    IDENTITY,
    a_credential,
    a_record,
    a_replace,
    a_rotate,
    a_shift,
    a_subject_key,
    a_touch,
    an_end,
    an_insert,
)

from .harness import Harness

FOREIGN = bytes(16)
CENTURY = 100 * 365 * 24 * 60 * 60 * 1000
AWKWARD = (
    bytes(16),
    b"\xff" * 16,
    b"\x00" + b"\xff" * 15,
    b"'\";--\\%_\n\r\t\x00\x1a{}*",
    b"\x80" * 16,
)
"""Ids that a store might take for text, for a pattern, or for the end of a string."""


class Reading(Harness):
    """Finding, inserting, epochs, and the store's own life."""

    def test_what_was_never_inserted_is_absent(self) -> None:
        """Not found is a value, and looking does not create anything (P2)."""
        assert self.store.find(Find(FOREIGN)) is None
        assert self.store.find(Find(FOREIGN, authoritative=True)) is None
        assert self.store.list_subject(ListSubject(a_subject_key("nobody"))) == ()
        assert self.store.find(Find(FOREIGN)) is None

    def test_an_inserted_record_is_found_as_it_was(self) -> None:
        """A round trip changes nothing but the store epoch that was left to the store."""
        for kind in Kind:
            record = a_record(kind=kind)
            stored = self.insert(record)
            assert stored.session_id == record.session_id
            for authoritative in (False, True):
                found = self.store.find(Find(record.session_id, authoritative))
                assert found is not None
                assert found == Found(stored, stored.header.store_epoch, found.authoritative)
                assert found.authoritative or not authoritative
            assert faithful(self.read(record), stored)

    def test_its_clock_is_milliseconds_or_it_has_none(self) -> None:
        """A store with a clock of its own tells it, so that an offset can be measured (E6)."""
        told = self.store.read_clock(ReadClock())
        if told is not None:
            again = self.store.read_clock(ReadClock())
            assert again is not None
            assert START - CENTURY < told <= again < START + CENTURY

    def test_a_record_of_nobody_is_found_as_it_was(self) -> None:
        """An anonymous record has no subject, and two of them have nothing in common."""
        one, other = self.insert(a_record(subject=None)), self.insert(a_record(subject=None))
        assert self.read(one) == one
        self.store.end(an_end(one))
        assert self.read(other) == other

    def test_every_field_keeps_its_full_range(self) -> None:
        """The largest and the smallest value of each field survive, zero bytes included (C1)."""
        for filler, number, key_id in ((b"\x00", 0, 0), (b"\xff", 2**32 - 1, 255)):
            credential = a_credential(
                generation=number,
                current=filler * 16,
                next=filler * 16,
                previous=filler * 16,
                next_key_id=key_id,
                changed_by=ChangedBy.ROTATION,
                changed_at=2**47,
                first_used_at=2**47 + 1,
                confirmed_at=2**47 + 3,
            )
            record = a_record(
                credential=credential,
                revision=filler * 8,
                data_version=filler * 8,
                store_epoch=b"\x01" * 8,
                envelope_key_id=key_id,
                data_key_id=key_id,
                last_seen=2**47 + 5,
                idle_deadline=2**47 + 7,
                purge_at=2**47 + 9,
            )
            assert faithful(self.insert(record), record)
            assert faithful(self.read(record), record)

    def test_sealed_bytes_of_any_size_and_value_survive(self) -> None:
        """Data and envelope are bytes: empty, all 256 values, and the 64 KiB of the policy."""
        for blob in (b"", bytes(range(256)), b"\x00", b"\xc3\x28", self.entropy(64 * 1024)):
            record = a_record(envelope=blob, data=blob)
            assert faithful(self.insert(record), self.read(record))
            assert self.read(record).data == blob == self.read(record).envelope

    def test_a_tail_of_a_newer_release_survives(self) -> None:
        """What this release does not know about a header comes back, after a change too (C4)."""
        tail = b"\x00\x07newer\xff\x00"
        record = self.insert(a_record(tail=tail, format=FORMAT + 1))
        self.store.touch(a_touch(record))
        self.store.shift(a_shift(record))
        self.store.rotate(a_rotate(self.read(record)))
        self.store.replace(a_replace(record))
        for _ in range(2):
            after = self.read(record)
            assert (after.tail, after.header.format) == (tail, FORMAT + 1)
            self.store.end(an_end(record))

    def test_ids_are_bytes_and_nothing_else(self) -> None:
        """Ids with NUL bytes, 0xff, quotes and wildcards stay apart, also as subjects."""
        for each in AWKWARD:
            record = a_record(session_id=each)
            # The subject of a session's shard, as awkward as the session.
            subject_key = shard_of_session(IDENTITY, each) + each[:1:-1]
            record = Record(each, subject_key, record.header, record.envelope, record.data)
            stored = self.insert(record)
            assert self.read(record) == stored
            listed = self.store.list_subject(ListSubject(record.subject_key))
            assert [found.record for found in listed] == [stored]
        assert len({self.read(a_record(session_id=each)).session_id for each in AWKWARD}) == 5

    def test_an_id_is_taken_once(self) -> None:
        """A second insert changes nothing and answers with the record that is there (D6)."""
        first = self.insert(a_record())
        second = a_record(session_id=first.session_id, subject="mallory")
        refused = self.store.insert(an_insert(second))
        assert refused.refusal is InsertRefusal.EXISTS
        assert refused.record == first == self.read(first)
        assert self.ids("mallory") == []

    def test_the_id_of_an_ended_record_stays_taken(self) -> None:
        """An insert does not bring an ended record back (P6)."""
        first = self.insert(a_record())
        ended = self.store.end(an_end(first)).record
        again = self.store.insert(an_insert(a_record(session_id=first.session_id)))
        assert again.refusal is InsertRefusal.EXISTS
        assert again.record == ended == self.read(first)

    def test_an_insert_whose_epoch_is_outdated_is_refused(self) -> None:
        """A sign-in that began before "sign out everywhere" creates nothing (P15, E2)."""
        subject_key = a_subject_key("alice")
        before = self.store.read_epoch(ReadEpoch(subject_key)).subject
        assert before == NO_EPOCH, "a subject that was never seen has zeros"
        self.insert(a_record(), epoch=before)
        record = a_record()
        for wrong in (b"\x01" * 8, b"\x00" * 7 + b"\x01", b"\xff" * 8):
            refused = self.store.insert(Insert(record, START, epoch=wrong))
            assert (refused.record, refused.refusal) == (None, InsertRefusal.EPOCH)
        assert self.store.find(Find(record.session_id)) is None
        assert len(self.ids()) == 1

    def test_the_store_fills_in_its_epoch(self) -> None:
        """A record with zeros gets the store's epoch; one that names an epoch keeps it (E3)."""
        store_epoch = self.store.read_epoch(ReadEpoch(a_subject_key("alice"))).store
        filled = self.insert(a_record())
        assert filled.header.store_epoch == store_epoch == self.read(filled).header.store_epoch
        named = self.insert(a_record(store_epoch=b"\x09" * 8))
        assert named.header.store_epoch == b"\x09" * 8 == self.read(named).header.store_epoch
        found = self.store.find(Find(named.session_id))
        assert found is not None
        assert found.store_epoch == store_epoch, "the answer tells the store's, not the record's"

    def test_closing_twice_is_a_no_op(self) -> None:
        """A shutdown that runs twice does no harm."""
        self.store.close()
        self.store.close()

    def test_a_store_of_other_keys_is_refused(self) -> None:
        """The wrong index key would find and end nothing, so the store refuses to start (A3)."""
        stored = self.insert(a_record())
        store = self.store
        store.close()
        other = self.beside(store) or store
        self._opened.append(other)
        try:
            other.open(IDENTITY[::-1])
        except StoreMismatch:
            pass
        else:
            raise AssertionError("a store that belongs to other keys was opened")
        other.close()
        # The refusal changed nothing: with the right keys it still opens.
        self._store = self.opened(self.beside(store) or store)
        assert self.read(stored) == stored

    def test_what_was_acknowledged_is_there_after_a_restart(self) -> None:
        """Records, ends, epochs and the index outlive the process (P6, P15)."""
        live, ended = self.insert(a_record()), self.insert(a_record())
        self.store.end(an_end(ended, reason=EndReason.REVOKED))
        was = self.store.find(Find(live.session_id)), self.store.find(Find(ended.session_id))
        epochs = self.store.read_epoch(ReadEpoch(a_subject_key("alice")))
        first = self.store
        first.close()
        self._store = self.opened_beside(first)
        assert was == tuple(self.store.find(Find(each.session_id)) for each in (live, ended))
        assert self.store.read_epoch(ReadEpoch(a_subject_key("alice"))) == epochs
        assert set(self.ids()) == {live.session_id, ended.session_id}

    def test_another_process_sees_what_was_acknowledged(self) -> None:
        """A second store over the same data reads the outcome of every write (P16)."""
        record = self.insert(a_record())
        second = self.opened_beside(self.store)
        found = second.find(Find(record.session_id, authoritative=True))
        assert found is not None
        assert found.record == record
        self.store.end(an_end(record))
        found = second.find(Find(record.session_id, authoritative=True))
        assert found is not None
        assert not found.record.is_live


def faithful(one: Record, other: Record) -> bool:
    """Whether two records are the same to the last byte of their headers."""
    return one == other and one.header.encode(one.tail) == other.header.encode(other.tail)
