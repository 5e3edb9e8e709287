"""The life of a session: states, the table of transitions, and the only code that changes a state.

    absent ──insert──> anonymous | pending | authenticated | remembered
             or one of: hand over | persistent | approval
    any live state ──end──> ended, and nothing leads out of ended (P6)

`TABLE` says what may happen to a live record; `apply` does it. A store's atomic write is: load,
`apply`, keep the outcome. So every store behaves alike, and the stores that run scripts on a server
are held against this one by the contract suite.

What is *not* here: whether a session is too old (policy.py) or its token right (credentials.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from .credentials import with_notes
from .ops import (
    GONE,
    AtLimit,
    End,
    EndSubject,
    Insert,
    Inserted,
    InsertRefusal,
    Limit,
    Outcome,
    Replace,
    Rotate,
    Shift,
    Touch,
)
from .record import NO_EPOCH, EndReason, Header, Kind, Record

Change = Touch | Shift | Rotate | Replace | End

TABLE: dict[Kind, dict[str, frozenset[Kind]]] = {
    Kind.ANONYMOUS: {
        "touch": frozenset({Kind.ANONYMOUS}),
        "shift": frozenset({Kind.ANONYMOUS}),
        "rotate": frozenset({Kind.ANONYMOUS}),
        "replace": frozenset({Kind.ANONYMOUS}),
        "end": frozenset(),
    },
    # Signing in always starts a new session, so nothing is ever promoted: no row leads from
    # anonymous or pending to authenticated (P10).
    Kind.PENDING: {
        "touch": frozenset({Kind.PENDING}),
        "shift": frozenset({Kind.PENDING}),
        "rotate": frozenset({Kind.PENDING}),
        "replace": frozenset({Kind.PENDING}),
        "end": frozenset(),
    },
    Kind.AUTHENTICATED: {
        "touch": frozenset({Kind.AUTHENTICATED}),
        "shift": frozenset({Kind.AUTHENTICATED}),
        "rotate": frozenset({Kind.AUTHENTICATED}),
        "replace": frozenset({Kind.AUTHENTICATED}),
        "end": frozenset(),
    },
    Kind.REMEMBERED: {
        "touch": frozenset({Kind.REMEMBERED}),
        "shift": frozenset({Kind.REMEMBERED}),
        # A fresh proof of a factor makes a remembered session an authenticated one.
        "rotate": frozenset({Kind.REMEMBERED, Kind.AUTHENTICATED}),
        "replace": frozenset({Kind.REMEMBERED}),
        "end": frozenset(),
    },
    Kind.HAND_OVER: {"end": frozenset()},
    # A persistent login rotates when it opens a session; what it replaces is no data, but the
    # version that salts the next session's id.
    Kind.PERSISTENT: {
        "shift": frozenset({Kind.PERSISTENT}),
        "rotate": frozenset({Kind.PERSISTENT}),
        "replace": frozenset({Kind.PERSISTENT}),
        "end": frozenset(),
    },
    # An approval rotates when a factor is proved for it, and ends when it is used.
    Kind.APPROVAL: {"rotate": frozenset({Kind.APPROVAL}), "end": frozenset()},
}
"""What may happen to a live record of each kind, and which kinds it may have afterwards.

An op that has no entry leaves the record as it is and answers "gone"."""


def apply(record: Record | None, op: Change) -> Outcome:
    """What the op makes of the record. Pure: the caller keeps the outcome atomically."""
    if record is None or not record.is_live:
        return GONE
    kind = record.header.kind
    allowed = TABLE[kind].get(op.verb)
    if allowed is None or (isinstance(op, Rotate) and op.kind not in allowed):
        return GONE
    match op:
        case Touch():
            return _touch(record, op)
        case Shift():
            return _shift(record, op)
        case Rotate():
            return _rotate(record, op)
        case Replace():
            return _replace(record, op)
        case End():
            return _end(record, op)


def insert(
    op: Insert,
    *,
    existing: Record | None,
    subject_epoch: bytes,
    store_epoch: bytes,
    others: Iterable[Record],
) -> Inserted:
    """What an insert comes to, given what the store holds at that moment.

    `others` are the subject's records; only read where the op has a limit.
    """
    record = op.record
    if existing is not None:
        return Inserted(existing, InsertRefusal.EXISTS)
    if op.epoch is not None and op.epoch != subject_epoch:
        return Inserted(None, InsertRefusal.EPOCH)
    evicted: tuple[Record, ...] = ()
    if op.limit is not None:
        live = [
            each for each in counted(others, op.now, store_epoch) if each.session_id != op.replaces
        ]
        chosen = _give_way(op.limit, live)
        if chosen is None:
            return Inserted(None, InsertRefusal.LIMIT)
        evicted = tuple(
            end(each, EndReason.EVICTED, op.now, op.evicted_purge_at, record.header.revision)
            for each in chosen
        )
    if record.header.store_epoch == NO_EPOCH:
        record = replace(record, header=replace(record.header, store_epoch=store_epoch))
    return Inserted(record, None, evicted)


def counted(records: Iterable[Record], now: int, store_epoch: bytes) -> list[Record]:
    """The records that count towards a subject's limit: signed in, and usable still."""
    return [
        each
        for each in records
        if each.is_live
        and each.header.kind.is_signed_in
        and each.header.store_epoch == store_epoch
        and now < each.header.idle_deadline
    ]


KEPT_OVER = 200
"""Sessions that are over, kept of one subject for the history. More would make every sign-in of
that subject cost more, and on one file everybody's."""
FORGOTTEN_AT_ONCE = 200


def forgettable(records: Iterable[Record], now: int) -> list[Record]:
    """The subject's records that an insert removes: over the longest, beyond `KEPT_OVER`."""
    over = [
        each
        for each in records
        if each.header.kind.is_signed_in and (not each.is_live or now >= each.header.idle_deadline)
    ]
    over.sort(key=lambda each: each.header.ended_at or each.header.idle_deadline)
    return over[:-KEPT_OVER][:FORGOTTEN_AT_ONCE]


def end_subject(records: Iterable[Record], op: EndSubject) -> tuple[Record, ...]:
    """The subject's records that the op ends, as they are afterwards."""
    return tuple(
        end(each, op.reason, op.at, op.purge_at, op.revision)
        for each in records
        if each.is_live and each.session_id != op.keep
    )


def end(record: Record, reason: EndReason, at: int, purge_at: int, revision: bytes) -> Record:
    """The record, ended: its data wiped, its identity kept for the history (P17)."""
    header = replace(
        record.header, end_reason=reason, ended_at=at, purge_at=purge_at, revision=revision
    )
    return replace(record, header=header, data=b"")


def _touch(record: Record, op: Touch) -> Outcome:
    header = _seen(record.header, op)
    if header == record.header:
        return Outcome(applied=True, record=record)
    return _written(record, replace(header, revision=op.revision))


def _shift(record: Record, op: Shift) -> Outcome:
    if record.header.credential.current != op.expected:
        return Outcome(applied=False, record=record)
    credential = with_notes(record.header.credential, op.credential)
    return _written(record, replace(record.header, credential=credential, revision=op.revision))


def _rotate(record: Record, op: Rotate) -> Outcome:
    if record.header.credential.current != op.expected:
        return Outcome(applied=False, record=record)
    header = replace(
        _seen(record.header, op),
        credential=with_notes(record.header.credential, op.credential),
        kind=op.kind,
        envelope_key_id=op.envelope_key_id,
        revision=op.revision,
    )
    return Outcome(applied=True, record=replace(record, header=header, envelope=op.envelope))


def _replace(record: Record, op: Replace) -> Outcome:
    if record.header.data_version != op.expected:
        return Outcome(applied=False, record=record)
    header = replace(
        record.header,
        data_version=op.data_version,
        data_key_id=op.data_key_id,
        revision=op.revision,
    )
    return Outcome(applied=True, record=replace(record, header=header, data=op.data))


def _end(record: Record, op: End) -> Outcome:
    if op.subject_key is not None and record.subject_key != op.subject_key:
        return GONE
    return Outcome(applied=True, record=end(record, op.reason, op.at, op.purge_at, op.revision))


def _seen(header: Header, op: Touch | Rotate) -> Header:
    return replace(
        header,
        last_seen=max(header.last_seen, op.seen_at),
        idle_deadline=max(header.idle_deadline, op.idle_deadline),
        purge_at=max(header.purge_at, op.purge_at),
    )


def _written(record: Record, header: Header) -> Outcome:
    return Outcome(applied=True, record=replace(record, header=header))


def _give_way(limit: Limit, live: list[Record]) -> list[Record] | None:
    """Which sessions give way to one more, or None where the policy refuses it."""
    excess = len(live) + 1 - limit.maximum
    if excess <= 0:
        return []
    if limit.when_reached is AtLimit.REFUSE:
        return None
    if limit.when_reached is AtLimit.EVICT_OLDEST:
        ordered = sorted(live, key=lambda each: each.header.inserted_at)
    else:
        ordered = sorted(live, key=lambda each: each.header.last_seen)
    return ordered[:excess]
