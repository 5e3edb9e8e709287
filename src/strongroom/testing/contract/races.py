"""The contract's last part: real threads on one record, many times over.

Where a second store over the same data can be had, the contestants are dealt out to both, as the
requests of two processes would be. What must hold is stated for every order, so these tests need no
luck to pass; they need some to find a fault, which is what `rounds` is for.
"""

# ruff: noqa: S101 - a contract test asserts, as every test does

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from strongroom.core.ops import (
    AtLimit,
    EndAll,
    EndSubject,
    Find,
    Inserted,
    InsertRefusal,
    Limit,
    Outcome,
    ReadEpoch,
    Sweep,
)
from strongroom.core.record import EndReason, Record
from strongroom.stores.base import Store
from strongroom.testing.clock import START
from strongroom.testing.records import (
    KEEP,
    a_record,
    a_replace,
    a_rotate,
    a_session_id,
    a_shift,
    a_subject_key,
    a_touch,
    an_end,
    an_insert,
)

from .harness import Harness, race, spread

CONTESTANTS = 8


class Races(Harness):
    """Whatever the order, no update is lost and nothing that ended comes back."""

    def subjects(self) -> list[str]:
        """A new subject for each round."""
        return [f"subject {number}" for number in range(self.rounds)]

    def test_one_save_wins_a_version(self) -> None:
        """Of eight saves that began with the same data one is done, seven are told (P7)."""
        stores = spread(self.handles(), CONTESTANTS)
        for subject in self.subjects():
            record = self.insert(a_record(subject=subject))
            saves = [a_replace(record) for _ in stores]
            outcomes = race(
                *(partial(each.replace, op) for each, op in zip(stores, saves, strict=True))
            )
            (winner,) = [i for i, each in enumerate(outcomes) if each.applied]
            assert self.read(record).data == saves[winner].data
            assert all(each.record == outcomes[winner].record for each in outcomes)

    def test_no_update_is_lost(self) -> None:
        """Eight threads count to forty together by reading, adding one and saving (P7)."""
        each_adds = 5
        record = self.insert(a_record(data=b"0"))

        def count(store: Store) -> None:
            done = 0
            while done < each_adds:
                found = store.find(Find(record.session_id, authoritative=True))
                assert found is not None
                data = b"%d" % (int(found.record.data) + 1)
                done += store.replace(a_replace(found.record, data=data)).applied

        race(*(partial(count, each) for each in spread(self.handles(), CONTESTANTS)))
        assert self.read(record).data == b"%d" % (CONTESTANTS * each_adds)

    def test_one_renewal_wins_a_token(self) -> None:
        """Of renewals and rotations that began with one token only one is done (P10, P11)."""
        stores = spread(self.handles(), CONTESTANTS)
        for subject in self.subjects():
            record = self.insert(a_record(subject=subject))
            changes: list[Callable[[], Outcome]] = [
                partial(each.rotate, a_rotate(record))
                if number % 2
                else partial(each.shift, a_shift(record))
                for number, each in enumerate(stores)
            ]
            (winner,) = [each for each in race(*changes) if each.applied]
            assert winner.record == self.read(record)

    def test_nothing_brings_an_ended_session_back(self) -> None:
        """A sign-out among late writes of every kind stays a sign-out (P6)."""
        stores = spread(self.handles(), 6)
        for subject in self.subjects():
            record = self.insert(a_record(subject=subject))
            changes: list[Callable[[], Outcome]] = [
                partial(stores[0].touch, a_touch(record)),
                partial(stores[1].shift, a_shift(record)),
                partial(stores[2].replace, a_replace(record)),
                partial(stores[3].end, an_end(record)),
                partial(stores[4].rotate, a_rotate(record)),
                partial(stores[5].touch, a_touch(record, later=2)),
            ]
            outcomes = race(*changes)
            assert outcomes[3].applied, "an end is never refused"
            after = self.read(record)
            assert after == outcomes[3].record
            assert after.header.end_reason is EndReason.LOGOUT
            assert after.data == b""

    def test_touches_and_saves_do_not_meet(self) -> None:
        """Activity in parallel costs no save, and the latest moment stays (P8, P9)."""
        stores = spread(self.handles(), CONTESTANTS)
        for subject in self.subjects():
            record = self.insert(a_record(subject=subject))
            saving = a_replace(record)
            touches = [
                partial(each.touch, a_touch(record, later=number * 10))
                for number, each in enumerate(stores)
            ]
            *_, saved, renewed = race(
                *touches,
                partial(stores[0].replace, saving),
                partial(stores[-1].shift, a_shift(record)),
            )
            assert saved.applied
            assert renewed.applied
            after = self.read(record)
            assert after.data == saving.data
            assert after.header.last_seen == record.header.last_seen + (CONTESTANTS - 1) * 10

    def test_one_end_is_the_end(self) -> None:
        """Of eight ends one is done, with its reason; seven find nobody left (P17)."""
        stores = spread(self.handles(), CONTESTANTS)
        reasons = list(EndReason)
        for subject in self.subjects():
            record = self.insert(a_record(subject=subject))
            outcomes = race(
                *(
                    partial(each.end, an_end(record, reason=reasons[number]))
                    for number, each in enumerate(stores)
                )
            )
            (winner,) = [i for i, each in enumerate(outcomes) if each.applied]
            assert self.read(record).header.end_reason is reasons[winner]
            assert sum(each.is_gone for each in outcomes) == CONTESTANTS - 1

    def test_one_insert_takes_an_id(self) -> None:
        """Six restored tabs that open one session get the same one (D6)."""
        stores = spread(self.handles(), CONTESTANTS)
        for subject in self.subjects():
            session_id = a_session_id(subject, self.entropy)
            answers = race(
                *(
                    partial(
                        each.insert, an_insert(a_record(subject=subject, session_id=session_id))
                    )
                    for each in stores
                )
            )
            assert len([each for each in answers if each.refusal is None]) == 1
            assert len({each.record for each in answers}) == 1
            assert self.ids(subject) == [session_id]

    def test_no_sign_in_slips_past_a_sign_out_everywhere(self) -> None:
        """An insert with the old epoch is refused, or its session ends with the others (P15)."""
        stores = spread(self.handles(), CONTESTANTS)
        for subject in self.subjects():
            key = a_subject_key(subject)
            epoch = self.store.read_epoch(ReadEpoch(key)).subject
            everywhere = EndSubject(
                key, self.entropy(8), EndReason.EVERYWHERE, START, START + KEEP, self.entropy(8)
            )
            inserts: list[Callable[[], object]] = [
                partial(each.insert, an_insert(a_record(subject=subject), epoch=epoch))
                for each in stores
            ]
            inserts.insert(len(inserts) // 2, partial(stores[0].end_subject, everywhere))
            answers = race(*inserts)
            assert self.ids(subject, live=True) == []
            for answer in answers:
                if isinstance(answer, Inserted):
                    assert answer.refusal in (None, InsertRefusal.EPOCH)

    def test_a_limit_is_never_exceeded(self) -> None:
        """However many sign in at once, so many get in and no more (ASVS 7.1.2)."""
        stores = spread(self.handles(), CONTESTANTS)
        for number, subject in enumerate(self.subjects()):
            limit = Limit(3, list(AtLimit)[number % len(AtLimit)])
            answers = race(
                *(
                    partial(each.insert, an_insert(a_record(subject=subject), limit=limit))
                    for each in stores
                )
            )
            assert len(self.ids(subject, live=True)) == limit.maximum
            let_in = sum(each.refusal is None for each in answers)
            evicted = [record.session_id for each in answers for record in each.evicted]
            assert let_in - len(evicted) == limit.maximum
            assert len(evicted) == len(set(evicted)), "nobody is evicted twice"

    def test_no_reader_sees_half_a_write(self) -> None:
        """Header and data of what is read always belong to one write (E5)."""
        record = self.insert(a_record(data=b"", data_version=bytes(8)))

        def write(store: Store) -> bool:
            now = record
            for _ in range(self.rounds):
                version = self.entropy(8)
                data = version * 500
                outcome = store.replace(a_replace(now, data_version=version, data=data))
                now = outcome.record or now
            return True

        def read(store: Store) -> bool:
            for _ in range(self.rounds):
                found = store.find(Find(record.session_id))
                assert found is not None
                header = found.record.header
                assert found.record.data in (b"", header.data_version * 500)
            return True

        stores = spread(self.handles(), 4)
        race(*(partial(write, each) for each in stores[:2]), *(partial(read, s) for s in stores))

    def test_a_sweep_meets_live_sessions(self) -> None:
        """Housekeeping takes a record whole or leaves it; what it took stays away (P6)."""
        self.needs_sweeping()
        stores = spread(self.handles(), 3)
        for subject in self.subjects():
            record = self.insert(a_record(subject=subject, purge_at=START))
            contestants: list[Callable[[], Outcome | int]] = [
                partial(stores[0].touch, a_touch(record)),
                partial(stores[1].replace, a_replace(record)),
                partial(stores[2].sweep, Sweep(START, limit=10)),
            ]
            touched, _saved, swept = race(*contestants)
            assert isinstance(touched, Outcome)
            left = self.ids(subject)
            if swept:
                assert left == []
                assert self.store.find(Find(record.session_id)) is None
            else:
                assert left == [record.session_id]
                assert touched.applied

    def test_a_sign_in_after_the_end_of_all_sessions_lives(self) -> None:
        """A record gets the store's epoch of its own step, old or new, never a mixture (E3)."""
        stores = spread(self.handles(), 5)
        for subject in self.subjects():
            old = self.store.read_epoch(ReadEpoch(a_subject_key(subject))).store
            new = self.entropy(8)
            records = [a_record(subject=subject) for _ in stores[1:]]
            contestants: list[Callable[[], object]] = [
                partial(each.insert, an_insert(record))
                for each, record in zip(stores[1:], records, strict=True)
            ]
            race(partial(stores[0].end_all, EndAll(new, START)), *contestants)
            assert {self.epoch_of(each) for each in records} <= {old, new}
            assert self.epoch_of(self.insert(a_record(subject=subject))) == new

    def epoch_of(self, record: Record) -> bytes:
        """The store epoch that the record was given."""
        return self.read(record).header.store_epoch
