"""The life of a session: every cell of the table, and nothing that leads out of ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from strongroom.core import lifecycle
from strongroom.core.ops import GONE, AtLimit, EndSubject, InsertRefusal, Limit, Outcome
from strongroom.core.record import NO_EPOCH, EndReason, Kind, Record
from strongroom.testing.records import (
    KEEP,
    MINUTE,
    a_record,
    a_replace,
    a_rotate,
    a_shift,
    a_subject_key,
    a_touch,
    an_end,
    an_insert,
)
from tests.core.kit import NOW

OPS: dict[str, Callable[[Record], lifecycle.Change]] = {
    "touch": a_touch,
    "shift": a_shift,
    "rotate": a_rotate,
    "replace": a_replace,
    "end": an_end,
}
CELLS = [(kind, verb) for kind in Kind for verb in OPS]
EPOCH = b"\x07" * 8


def inserted(
    record: Record, *others: Record, limit: Limit | None = None, existing: Record | None = None
):
    """What inserting the record comes to beside these others of its subject."""
    return lifecycle.insert(
        an_insert(record, limit=limit, evicted_purge_at=NOW + KEEP),
        existing=existing,
        subject_epoch=NO_EPOCH,
        store_epoch=EPOCH,
        others=others,
    )


def test_the_table_knows_every_kind_and_no_other_op() -> None:
    """A kind or an op that is forgotten in the table would be refused in silence."""
    assert set(lifecycle.TABLE) == set(Kind)
    for kind, row in lifecycle.TABLE.items():
        assert set(row) <= set(OPS), f"{kind.name} names an op that is none"
        assert "end" in row, f"{kind.name} can never end"
        assert row["end"] == frozenset(), "nothing leads out of ended"


@pytest.mark.parametrize(("kind", "verb"), CELLS, ids=lambda cell: getattr(cell, "name", cell))
def test_a_live_record_of_each_kind_meets_each_op(kind: Kind, verb: str) -> None:
    """What has a cell is done and keeps the kind; what has none is answered as gone (P6, P10)."""
    record = a_record(kind=kind)
    outcome = lifecycle.apply(record, OPS[verb](record))
    if verb not in lifecycle.TABLE[kind]:
        assert outcome == GONE
        return
    assert outcome.applied
    assert outcome.record is not None
    assert outcome.record.header.kind is kind
    assert outcome.record.is_live is (verb != "end")
    assert outcome.record.header.revision != record.header.revision
    assert outcome.record.session_id == record.session_id


@pytest.mark.parametrize(("kind", "verb"), CELLS, ids=lambda cell: getattr(cell, "name", cell))
def test_ended_is_terminal(kind: Kind, verb: str) -> None:
    """No op does anything to an ended record of any kind (P6)."""
    record = a_record(kind=kind)
    for reason in EndReason:
        ended = lifecycle.end(record, reason, NOW, NOW + KEEP, b"r" * 8)
        assert lifecycle.apply(ended, OPS[verb](record)) == GONE
        assert lifecycle.apply(ended, OPS[verb](ended)) == GONE


@pytest.mark.parametrize("verb", OPS)
def test_what_is_absent_is_gone(verb: str) -> None:
    """No change makes a record (P2)."""
    assert lifecycle.apply(None, OPS[verb](a_record())) == GONE
    assert GONE.is_gone


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("other", Kind)
def test_only_a_remembered_session_is_ever_promoted(kind: Kind, other: Kind) -> None:
    """By a fresh proof of a factor; signing in makes a new session instead (P10)."""
    record = a_record(kind=kind)
    outcome = lifecycle.apply(record, a_rotate(record, kind=other))
    same = kind is other and kind is not Kind.HAND_OVER
    promoted = (kind, other) == (Kind.REMEMBERED, Kind.AUTHENTICATED)
    assert outcome.applied is (same or promoted)
    if outcome.record is not None:
        assert outcome.record.header.kind is other


def test_a_touch_takes_the_greater_of_each_moment() -> None:
    """Never back, each on its own, and not later is no write (P9)."""
    record = a_record()
    header = record.header
    for field in ("seen_at", "idle_deadline", "purge_at"):
        name = "last_seen" if field == "seen_at" else field
        later = getattr(header, name) + 1
        op = replace(a_touch(record, later=-MINUTE), **{field: later})
        after = lifecycle.apply(record, op).record
        assert after is not None
        expected = replace(header, **{name: later}, revision=op.revision)
        assert after == replace(record, header=expected)
    for later in (0, -1):
        untouched = lifecycle.apply(record, a_touch(record, later=later))
        assert untouched == Outcome(applied=True, record=record)


def test_no_op_but_replace_and_end_changes_the_data() -> None:
    """Touch, shift and rotate carry no application data (P8)."""
    record = a_record()
    for verb in ("touch", "shift", "rotate"):
        after = lifecycle.apply(record, OPS[verb](record)).record
        assert after is not None
        assert (after.data, after.header.data_version) == (record.data, record.header.data_version)
        assert lifecycle.apply(after, a_replace(record)).applied, "and none conflicts with a save"


def test_a_conflict_tells_what_the_winner_left() -> None:
    """Not applied, with the record as it is: the loser can be told (P7)."""
    record = a_record()
    for first, second in ((a_shift, a_shift), (a_shift, a_rotate), (a_replace, a_replace)):
        winner = lifecycle.apply(record, first(record)).record
        assert lifecycle.apply(winner, second(record)) == Outcome(applied=False, record=winner)


def test_an_unknown_tail_survives_every_change() -> None:
    """What a newer release wrote is not ours to drop (C4)."""
    record = a_record(tail=b"newer")
    for make in OPS.values():
        after = lifecycle.apply(record, make(record)).record
        assert after is not None
        assert after.tail == b"newer"


def test_an_end_wipes_the_data_and_keeps_the_rest() -> None:
    """With its reason and moment, for the history (P17)."""
    record = a_record()
    after = lifecycle.end(record, EndReason.REVOKED, NOW + 5, NOW + 9, b"r" * 8)
    header = replace(
        record.header,
        end_reason=EndReason.REVOKED,
        ended_at=NOW + 5,
        purge_at=NOW + 9,
        revision=b"r" * 8,
    )
    assert after == replace(record, header=header, data=b"")
    assert not after.is_live


def test_an_end_may_name_whose_session_it_means() -> None:
    """Another subject's session is left alone (P26)."""
    record = a_record(subject="alice")
    assert lifecycle.apply(record, an_end(record, subject_key=a_subject_key("mallory"))) == GONE
    assert lifecycle.apply(record, an_end(record, subject_key=a_subject_key("alice"))).applied


def test_signing_out_everywhere_ends_the_live_ones_but_one() -> None:
    """Ended ones keep their reason, and the kept one its life (P15)."""
    keep, live, other = a_record(), a_record(), a_record(kind=Kind.PENDING)
    gone = lifecycle.end(a_record(), EndReason.IDLE, NOW, NOW, b"g" * 8)
    op = EndSubject(
        a_subject_key("alice"),
        revision=b"r" * 8,
        reason=EndReason.EVERYWHERE,
        at=NOW,
        purge_at=NOW + KEEP,
        new_epoch=b"e" * 8,
        keep=keep.session_id,
    )
    ended = lifecycle.end_subject((keep, live, gone, other), op)
    assert [each.session_id for each in ended] == [live.session_id, other.session_id]
    assert all(each.header.end_reason is EndReason.EVERYWHERE for each in ended)


def test_an_insert_gets_the_stores_epoch_if_it_has_none() -> None:
    """Zeros are filled in; an epoch that is named stays (E3)."""
    assert inserted(a_record()).record.header.store_epoch == EPOCH
    named = a_record(store_epoch=b"n" * 8)
    assert inserted(named).record == named


def test_a_taken_id_is_refused_before_anything_else() -> None:
    """With the record that is there, live or ended (D6, P6)."""
    there = a_record()
    for existing in (there, lifecycle.end(there, EndReason.LOGOUT, NOW, NOW, b"r" * 8)):
        answer = inserted(a_record(), existing=existing, limit=Limit(1, AtLimit.EVICT_OLDEST))
        assert (answer.record, answer.refusal) == (existing, InsertRefusal.EXISTS)


def test_an_outdated_epoch_is_refused_and_none_is_not_asked() -> None:
    """Compared for equality, in the same step as the write (P15)."""
    for epoch, refusal in ((None, None), (b"e" * 8, None), (NO_EPOCH, InsertRefusal.EPOCH)):
        answer = lifecycle.insert(
            an_insert(a_record(), epoch=epoch),
            existing=None,
            subject_epoch=b"e" * 8,
            store_epoch=EPOCH,
            others=(),
        )
        assert answer.refusal is refusal
        assert (answer.record is None) is (refusal is not None)


@pytest.mark.parametrize("rule", AtLimit)
@pytest.mark.parametrize("there", range(5))
def test_a_limit_is_kept(rule: AtLimit, there: int) -> None:
    """With two allowed: room for one more, or refused, or as many evicted as are too many."""
    others = [a_record(now=NOW + n, last_seen=NOW - n, store_epoch=EPOCH) for n in range(there)]
    answer = inserted(a_record(), *others, limit=Limit(2, rule))
    excess = max(0, there + 1 - 2)
    if rule is AtLimit.REFUSE:
        assert answer.refusal is (InsertRefusal.LIMIT if excess else None)
        assert answer.evicted == ()
        return
    gone = others[:excess] if rule is AtLimit.EVICT_OLDEST else others[::-1][:excess]
    assert answer.refusal is None
    assert [each.session_id for each in answer.evicted] == [each.session_id for each in gone]
    assert all(each.header.end_reason is EndReason.EVICTED for each in answer.evicted)


def test_what_does_not_count_towards_a_limit() -> None:
    """Only live, signed-in sessions of this store's epoch that are not idle-expired count (C5)."""
    idle, fresh = (a_record(idle_deadline=NOW + each, store_epoch=EPOCH) for each in (0, 1))
    ended = lifecycle.end(a_record(store_epoch=EPOCH), EndReason.LOGOUT, NOW, NOW, b"r" * 8)
    before_everybody_was_signed_out = a_record(store_epoch=b"another!")
    remembered = a_record(kind=Kind.REMEMBERED, store_epoch=EPOCH)
    others = [
        a_record(kind=kind, store_epoch=EPOCH)
        for kind in (Kind.ANONYMOUS, Kind.PENDING, Kind.HAND_OVER)
    ]
    records = (idle, fresh, ended, before_everybody_was_signed_out, remembered, *others)
    assert lifecycle.counted(records, NOW, EPOCH) == [fresh, remembered]
