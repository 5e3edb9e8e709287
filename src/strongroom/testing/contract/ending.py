"""The contract's third part: ended is terminal, for one, for a subject, and for all."""

# ruff: noqa: S101 - a contract test asserts, as every test does

from __future__ import annotations

from strongroom.core.ops import (
    GONE,
    AtLimit,
    EndAll,
    EndSubject,
    Find,
    Found,
    Insert,
    InsertRefusal,
    Limit,
    ListSubject,
    ReadEpoch,
)
from strongroom.core.record import NO_SUBJECT, EndReason, Kind, Record
from strongroom.testing.clock import START
from strongroom.testing.records import (
    KEEP,
    MINUTE,
    a_record,
    a_subject_key,
    an_end,
    an_insert,
)

from .changing import every_change
from .harness import Harness
from .reading import faithful


class Ending(Harness):
    """Ends, epochs and limits."""

    def end_all_of(self, subject: str, **fields: bytes | None) -> tuple[Found, ...]:
        """Sign the subject out everywhere, one minute after the start."""
        op = EndSubject(
            a_subject_key(subject),
            revision=self.entropy(8),
            reason=EndReason.EVERYWHERE,
            at=START + MINUTE,
            purge_at=START + KEEP,
            new_epoch=fields.get("new_epoch") or self.entropy(8),
            keep=fields.get("keep"),
        )
        return self.store.end_subject(op)

    def test_ended_is_terminal(self) -> None:
        """No later op of any kind changes an ended record or brings it back (P6)."""
        for kind in Kind:
            record = self.insert(a_record(kind=kind))
            ended = self.store.end(an_end(record)).record
            assert ended is not None
            for op in every_change(record):
                assert getattr(self.store, op.verb)(op) == GONE, f"{op.verb} after the end"
                assert faithful(self.read(record), ended)

    def test_an_end_is_kept_with_its_reason(self) -> None:
        """Every reason survives, with its moment, for the history (P17)."""
        for reason in EndReason:
            record = self.insert(a_record())
            op = an_end(record, reason=reason, at=START + 5, purge_at=START + 9)
            outcome = self.store.end(op)
            assert outcome.applied
            after = self.read(record)
            assert outcome.record == after
            assert after.header.end_reason is reason
            assert (after.header.ended_at, after.header.purge_at) == (START + 5, START + 9)
            assert after.header.revision == op.revision

    def test_an_end_wipes_the_data_and_keeps_the_identity(self) -> None:
        """What the application stored is gone; who it was stays for the history (P4, P17)."""
        record = self.insert(a_record(data=b"the application's secret"))
        self.store.end(an_end(record))
        after = self.read(record)
        assert after.data == b""
        assert after.envelope == record.envelope
        assert after.header.credential == record.header.credential

    def test_ending_twice_is_a_no_op(self) -> None:
        """The second end is answered as gone, and the first reason stays (P17)."""
        record = self.insert(a_record())
        first = self.store.end(an_end(record)).record
        again = self.store.end(an_end(record, reason=EndReason.OPERATOR, at=START + MINUTE))
        assert again == GONE
        assert self.read(record) == first

    def test_nobody_ends_the_session_of_another_subject(self) -> None:
        """A revocation that names a subject does nothing to other people's sessions (P26)."""
        record = self.insert(a_record(subject="alice"))
        op = an_end(record, subject_key=a_subject_key("mallory"))
        assert self.store.end(op) == GONE
        assert faithful(self.read(record), record)
        op = an_end(record, subject_key=a_subject_key("alice"))
        assert self.store.end(op).applied

    def test_a_subject_signs_out_everywhere(self) -> None:
        """All live sessions end, and the answer is exactly those, as they are now (P15, P17)."""
        live = [self.insert(a_record(now=START + number)) for number in range(3)]
        pending = self.insert(a_record(kind=Kind.PENDING))
        gone = self.insert(a_record())
        self.store.end(an_end(gone, reason=EndReason.IDLE))
        bob = self.insert(a_record(subject="bob"))
        ended = self.end_all_of("alice")
        expected = {each.session_id for each in (*live, pending)}
        assert {each.record.session_id for each in ended} == expected
        for each in ended:
            assert self.read(each.record) == each.record
            assert each.record.header.end_reason is EndReason.EVERYWHERE
            assert each.record.data == b""
        assert self.read(gone).header.end_reason is EndReason.IDLE, "its own reason stays"
        assert faithful(self.read(bob), bob)

    def test_a_subject_signs_out_everywhere_else(self) -> None:
        """The session that is kept stays as it is, to the byte (P26)."""
        kept, other = self.insert(a_record()), self.insert(a_record())
        ended = self.end_all_of("alice", keep=kept.session_id)
        assert [each.record.session_id for each in ended] == [other.session_id]
        assert faithful(self.read(kept), kept)
        assert not self.read(other).is_live

    def test_signing_out_everywhere_replaces_the_epoch(self) -> None:
        """Also for a subject without sessions: a sign-in may be under way (P15)."""
        key = a_subject_key("alice")
        bob = self.store.read_epoch(ReadEpoch(a_subject_key("bob")))
        before = self.store.read_epoch(ReadEpoch(key))
        new = self.entropy(8)
        assert self.end_all_of("alice", new_epoch=new) == ()
        after = self.store.read_epoch(ReadEpoch(key))
        assert (after.subject, after.store) == (new, before.store)
        assert self.store.read_epoch(ReadEpoch(a_subject_key("bob"))) == bob
        late = self.store.insert(Insert(a_record(), START, epoch=before.subject))
        assert late.refusal is InsertRefusal.EPOCH
        self.insert(a_record(), epoch=new)

    def test_nobody_is_not_a_subject(self) -> None:
        """Sessions of nobody are not listed together, and cannot be ended together (P26)."""
        records = [self.insert(a_record(subject=None)) for _ in range(2)]
        nobody = EndSubject(
            NO_SUBJECT, self.entropy(8), EndReason.EVERYWHERE, START, START + KEEP, self.entropy(8)
        )
        assert self.store.list_subject(ListSubject(NO_SUBJECT)) == ()
        assert self.store.end_subject(nobody) == ()
        for record in records:
            assert faithful(self.read(record), record)

    def test_everybody_can_be_signed_out_at_once(self) -> None:
        """The store's epoch is told with every record that is read from then on (E3)."""
        old = self.insert(a_record())
        new = self.entropy(8)
        self.store.end_all(EndAll(new, at=START))
        found = self.store.find(Find(old.session_id))
        assert found is not None
        assert found.store_epoch == new != found.record.header.store_epoch
        assert faithful(found.record, old), "the epoch alone tells; no record is rewritten"
        assert self.store.read_epoch(ReadEpoch(a_subject_key("alice"))).store == new
        listed = self.store.list_subject(ListSubject(a_subject_key("alice")))
        assert [each.store_epoch for each in listed] == [new]
        assert self.insert(a_record()).header.store_epoch == new

    def test_a_subject_is_listed_oldest_first(self) -> None:
        """Live and ended, by the moment of their insertion, and nobody else's (P17)."""
        moments = (5, 1, 4, 2, 3)
        records = {at: self.insert(a_record(now=START + at)) for at in moments}
        self.insert(a_record(subject="bob"))
        self.insert(a_record(subject=None))
        self.store.end(an_end(records[2]))
        assert self.ids() == [records[at].session_id for at in sorted(moments)]
        listed = self.store.list_subject(ListSubject(a_subject_key("alice")))
        assert [each.record for each in listed] == [
            self.read(records[at]) for at in sorted(moments)
        ]

    def test_a_full_subject_is_refused(self) -> None:
        """At the limit, `REFUSE` inserts nothing and ends nothing (ASVS 7.1.2)."""
        limit = Limit(2, AtLimit.REFUSE)
        first, second = (self.insert(a_record(), limit=limit) for _ in range(2))
        third = a_record()
        refused = self.store.insert(an_insert(third, limit=limit))
        assert (refused.record, refused.refusal) == (None, InsertRefusal.LIMIT)
        assert self.store.find(Find(third.session_id)) is None
        assert {first.session_id, second.session_id} == set(self.ids(live=True))
        self.insert(a_record(subject="bob"), limit=limit)

    def test_the_oldest_session_gives_way(self) -> None:
        """The one that signed in first ends as evicted, and the answer tells it (P17)."""
        self.gives_way(AtLimit.EVICT_OLDEST, loser=0)

    def test_the_least_recently_used_session_gives_way(self) -> None:
        """The one whose last use is longest ago ends as evicted (P17)."""
        self.gives_way(AtLimit.EVICT_LEAST_RECENTLY_USED, loser=1)

    def gives_way(self, rule: AtLimit, *, loser: int) -> None:
        """One more than three: the loser ends, the others stay."""
        seen = (START + 9, START + 6, START + 7)
        records = [
            self.insert(a_record(now=START + number, last_seen=seen[number])) for number in range(3)
        ]
        one_more = a_record(now=START + MINUTE)
        op = an_insert(one_more, limit=Limit(3, rule), evicted_purge_at=START + KEEP)
        inserted = self.store.insert(op)
        assert inserted.refusal is None
        assert [each.session_id for each in inserted.evicted] == [records[loser].session_id]
        after = self.read(records[loser])
        assert inserted.evicted == (after,)
        assert after.header.end_reason is EndReason.EVICTED
        assert (after.header.ended_at, after.data) == (START + MINUTE, b"")
        assert len(self.ids(live=True)) == 3

    def test_a_lowered_limit_evicts_all_that_are_too_many(self) -> None:
        """After a sign-in there are at most as many as the policy says now (ASVS 7.1.2)."""
        for number in range(5):
            self.insert(a_record(now=START + number))
        op = an_insert(a_record(now=START + 9), limit=Limit(2, AtLimit.EVICT_OLDEST))
        assert len(self.store.insert(op).evicted) == 4
        assert len(self.ids(live=True)) == 2

    def test_only_live_signed_in_sessions_count(self) -> None:
        """Ended, idle, pending, anonymous and handed-over ones take nobody's place (C5)."""
        limit = Limit(1, AtLimit.REFUSE)
        self.store.end(an_end(self.insert(a_record())))
        self.insert(a_record(idle_deadline=START))
        for kind in (Kind.ANONYMOUS, Kind.PENDING, Kind.HAND_OVER):
            self.insert(a_record(kind=kind))
        self.insert(a_record(kind=Kind.REMEMBERED), limit=limit)
        refused = self.store.insert(an_insert(a_record(), limit=limit))
        assert refused.refusal is InsertRefusal.LIMIT, "a remembered session counts"

    def test_the_session_that_is_replaced_does_not_count(self) -> None:
        """Signing in again needs no free place, and evicts nobody but for the others (P10)."""
        first, second = self.insert(a_record()), self.insert(a_record(now=START + 1))
        limit = Limit(2, AtLimit.REFUSE)
        again = an_insert(a_record(), limit=limit, replaces=first.session_id)
        assert self.store.insert(again).refusal is None
        assert faithful(self.read(first), first), "it is the flow that ends it"
        full = an_insert(a_record(), limit=limit, replaces=b"nobody's session")
        assert self.store.insert(full).refusal is InsertRefusal.LIMIT
        evicting = an_insert(
            a_record(now=START + 2),
            limit=Limit(1, AtLimit.EVICT_OLDEST),
            replaces=first.session_id,
        )
        evicted = [each.session_id for each in self.store.insert(evicting).evicted]
        assert first.session_id not in evicted
        assert second.session_id in evicted

    def test_nothing_is_evicted_for_an_insert_that_is_refused(self) -> None:
        """An outdated epoch or a taken id is refused before anybody gives way (P15)."""
        record = self.insert(a_record())
        limit = Limit(1, AtLimit.EVICT_OLDEST)
        outdated = self.store.insert(an_insert(a_record(), limit=limit, epoch=b"\x01" * 8))
        taken = self.store.insert(an_insert(a_record(session_id=record.session_id), limit=limit))
        assert (outdated.refusal, outdated.evicted) == (InsertRefusal.EPOCH, ())
        assert (taken.refusal, taken.evicted) == (InsertRefusal.EXISTS, ())
        assert faithful(self.read(record), record)

    def test_many_sessions_of_one_subject(self) -> None:
        """A subject with a great many sessions is listed and signed out completely (P15)."""
        records: list[Record] = []
        for number in range(self.many):
            records.append(self.insert(a_record(now=START + number, data=b"", envelope=b"e")))
        assert self.ids() == [each.session_id for each in records]
        ended = self.end_all_of("alice", keep=records[-1].session_id)
        assert len(ended) == self.many - 1
        assert self.ids(live=True) == [records[-1].session_id]
