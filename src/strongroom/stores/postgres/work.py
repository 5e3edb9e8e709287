"""What each op asks of the server: one body for synchronous and asynchronous stores.

Each function is a generator that yields a step (statements that go out together, one round trip)
and is given back the rows of each. `connections.py` runs it, on a thread or on an event loop.

What an op does to a record stands in `core.lifecycle` and nowhere else: the record is read, the
core says what becomes of it, and it is written *if its header is still the one that was read*. A
header's revision is random and new with every write, so nobody's change can be written over. No
lock is held and no transaction is open between the two round trips (docs/decisions/0030).

`again` is true where an answer was lost with its connection, so that the op may have been done
already. An op knows its own change by the revision, and answers as it would have.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, TypeVar

from strongroom.core import lifecycle
from strongroom.core.errors import UnreadableRecord
from strongroom.core.ops import (
    GONE,
    Append,
    EndAll,
    EndSubject,
    Epochs,
    Erase,
    Find,
    Found,
    HistoryEntry,
    Insert,
    Inserted,
    ListSubject,
    Outcome,
    ReadClock,
    ReadEpoch,
    ReadHistory,
)
from strongroom.core.record import NO_EPOCH, NO_SUBJECT, Record, decode_header

from . import faults
from .schema import PURGE_SLOT_BITS
from .statements import (
    BEGIN,
    CLOCK,
    COMMIT,
    DURABLY,
    LOCK_SUBJECT,
    RELAXED,
    ROLLBACK,
    Statement,
    Statements,
    Step,
)

R = TypeVar("R")
Row = tuple[Any, ...]
Rows = list[Row]
Work = Generator[Step, list[Rows], R]
"""What an op asks of the server, step by step, until it knows its answer."""

UNLOCKED_TRIES = 3
"""How often a change is tried without a lock. After that the row is locked, so that a client that
writes its own session without a pause cannot put off the end of it."""


def find(sql: Statements, op: Find, again: bool = False) -> Work[Found | None]:
    """Read one record and the store's epoch, in one statement."""
    del again
    [rows] = yield (Statement(sql.find, (op.session_id,)),)
    *row, epoch = _own(rows)
    return None if row[0] is None else Found(as_record(row), epoch)


def read_epoch(sql: Statements, op: ReadEpoch, again: bool = False) -> Work[Epochs]:
    """Read the subject's epoch, zeros where it never had one, and the store's."""
    del again
    [rows] = yield (Statement(sql.epochs, (op.subject_key,)),)
    store, subject = _own(rows)
    return Epochs(subject or NO_EPOCH, store)


def change(
    sql: Statements, op: lifecycle.Change, again: bool = False, *, durable: bool
) -> Work[Outcome]:
    """Do what `core.lifecycle` says to one record, by compare-and-set on its whole header."""
    for _ in range(UNLOCKED_TRIES):
        [rows] = yield (Statement(sql.find_row, (op.session_id,)),)
        before, outcome = _applied(rows, op, again)
        if before is None or outcome.record is before or outcome.record is None:
            return outcome
        if not outcome.applied:
            return outcome
        [written] = yield (_update(sql, before, outcome.record, durable),)
        if written:
            return outcome
    return (yield from _change_locked(sql, op, again, durable))


def _change_locked(
    sql: Statements, op: lifecycle.Change, again: bool, durable: bool
) -> Work[Outcome]:
    *_, rows = yield (BEGIN, Statement(sql.find_row_locked, (op.session_id,)))
    before, outcome = _applied(rows, op, again)
    if before is None or not outcome.applied or outcome.record in (None, before):
        yield (ROLLBACK,)
        return outcome
    assert outcome.record is not None  # noqa: S101 - an applied outcome has one
    yield (_update(sql, before, outcome.record, durable), COMMIT)
    return outcome


def _applied(rows: Rows, op: lifecycle.Change, again: bool) -> tuple[Record | None, Outcome]:
    """The record as it is, and what the op makes of it."""
    if not rows:
        return None, GONE
    before = as_record(rows[0])
    if again and before.header.revision == op.revision:
        return before, Outcome(applied=True, record=before)
    return before, lifecycle.apply(before, op)


def _update(sql: Statements, before: Record, after: Record, durable: bool) -> Statement:
    """Write what changed, and leave alone what did not."""
    envelope, data = after.envelope != before.envelope, after.data != before.data
    purge_at = after.header.purge_at
    values: list[Any] = [after.header.encode(after.tail), purge_at, purge_at >> PURGE_SLOT_BITS]
    values += [after.envelope] * envelope + [after.data] * data
    values += [before.session_id, before.header.encode(before.tail)]
    return Statement(sql.update(envelope=envelope, data=data, durable=durable), values)


def insert(sql: Statements, op: Insert, again: bool = False) -> Work[Inserted]:
    """Add a record, and end those that give way to it, in the order of the subject's lock (E2)."""
    record, subject_key = op.record, op.record.subject_key
    asked: list[Statement] = [BEGIN, DURABLY]
    if subject_key != NO_SUBJECT:
        asked.append(_lock(subject_key))
    # After the lock, not with it: a statement sees what was committed when it began.
    asked.append(Statement(sql.insert_view, (record.session_id, subject_key)))
    if op.limit is not None:
        asked.append(Statement(sql.subject_rows, (subject_key,)))
    while True:
        answers = yield tuple(asked)
        others, _unreadable = _sorted(answers[-1]) if op.limit is not None else ([], [])
        view = answers[-2 if op.limit is not None else -1]
        inserted = _inserted(view, op, others)
        if inserted.refusal is not None:
            yield (ROLLBACK,)
            return _known(inserted, op, again)
        if (yield from _add(sql, op, inserted, others)):
            return inserted
        # Somebody took the id, or changed what was to give way, a moment ago: look again.


def _inserted(view: Rows, op: Insert, others: list[Record]) -> Inserted:
    *row, store_epoch, subject_epoch = _own(view)
    return lifecycle.insert(
        op,
        existing=None if row[0] is None else as_record(row),
        subject_epoch=subject_epoch or NO_EPOCH,
        store_epoch=store_epoch,
        others=others,
    )


def _known(inserted: Inserted, op: Insert, again: bool) -> Inserted:
    """A record that is there with the op's own revision was put there by its first attempt."""
    record = inserted.record
    if again and record is not None and record.header.revision == op.record.header.revision:
        return Inserted(record)
    return inserted


def _add(sql: Statements, op: Insert, inserted: Inserted, others: list[Record]) -> Work[bool]:
    record = inserted.record
    assert record is not None  # noqa: S101 - it was not refused
    purge_at = record.header.purge_at
    values = (
        record.session_id,
        None if record.subject_key == NO_SUBJECT else record.subject_key,
        purge_at >> PURGE_SLOT_BITS,
        purge_at,
        record.header.encode(record.tail),
        record.envelope,
        record.data,
    )
    steps = [Statement(sql.insert, values)]
    forgotten = lifecycle.forgettable(others, op.now)
    if forgotten:
        ids = [each.session_id for each in forgotten]
        headers = [each.header.encode(each.tail) for each in forgotten]
        steps.append(Statement(sql.delete_rows_if_unchanged, (ids, headers)))
    if not inserted.evicted:
        written, *_ = yield (*steps, COMMIT)
        return bool(written)
    before = {each.session_id: each for each in others}
    ended = _unnested(before, inserted.evicted)
    written, *_, evicted = yield (*steps, Statement(sql.end_rows_if_unchanged, ended))
    done = bool(written) and len(evicted) == len(inserted.evicted)
    yield (COMMIT if done else ROLLBACK,)
    return done


def end_subject(sql: Statements, op: EndSubject, again: bool = False) -> Work[tuple[Found, ...]]:
    """End all live records of the subject but one, and replace its epoch, in one transaction."""
    *_, rows, view = yield (
        BEGIN,
        DURABLY,
        _lock(op.subject_key),
        Statement(sql.lock_subject_rows, (op.subject_key,)),
        Statement(sql.epochs, (op.subject_key,)),
    )
    store_epoch, _ = _own(view)
    records, unreadable = _sorted(rows)
    ended = lifecycle.end_subject(records, op)
    written: list[Statement] = []
    if ended:
        before = {each.session_id: each for each in records}
        written.append(Statement(sql.end_rows, _unnested(before, ended)))
    if unreadable:
        # What cannot be read cannot be marked as ended, and must not outlive this.
        written.append(Statement(sql.delete_rows, (unreadable,)))
    epoch = (op.subject_key, op.new_epoch, op.at)
    yield (*written, Statement(sql.replace_subject_epoch, epoch), COMMIT)
    if again:
        done = (each for each in records if each.header.revision == op.revision)
        ended = tuple(_oldest_first((*ended, *(each for each in done if not each.is_live))))
    return tuple(Found(each, store_epoch) for each in ended)


def end_all(sql: Statements, op: EndAll, again: bool = False) -> Work[None]:
    """Replace the store-wide epoch."""
    del again
    [rows] = yield (Statement(sql.replace_store_epoch, (op.new_epoch, op.at)),)
    if not rows:
        raise faults.row_missing()


def list_subject(sql: Statements, op: ListSubject, again: bool = False) -> Work[tuple[Found, ...]]:
    """All records of the subject, oldest first."""
    del again
    [rows] = yield (Statement(sql.list_subject, (op.subject_key,)),)
    epoch = _own(rows)[-1]
    records = [as_record(row) for row in rows if row[0] is not None]
    return tuple(Found(each, epoch) for each in _oldest_first(records))


def append(sql: Statements, op: Append, again: bool = False) -> Work[None]:
    """Add entries to histories; each subject keeps its newest."""
    del again
    if not op.entries:
        return
    columns = [
        [each.subject_key for each in op.entries],
        [each.at for each in op.entries],
        [each.purge_at for each in op.entries],
        [each.key_id for each in op.entries],
        [each.sealed for each in op.entries],
    ]
    subjects = list({each.subject_key for each in op.entries})
    yield (
        BEGIN,
        RELAXED,
        Statement(sql.append, columns),
        Statement(sql.trim, (subjects, op.keep)),
        COMMIT,
    )


def read_history(
    sql: Statements, op: ReadHistory, again: bool = False
) -> Work[tuple[HistoryEntry, ...]]:
    """The newest entries of the subject, newest first."""
    del again
    [rows] = yield (Statement(sql.read_history, (op.subject_key, op.limit)),)
    return tuple(HistoryEntry(op.subject_key, *row) for row in rows)


def erase(sql: Statements, op: Erase, again: bool = False) -> Work[int]:
    """Remove the subject's ended records and its history, in one transaction."""
    del again
    *_, rows = yield (
        BEGIN,
        DURABLY,
        _lock(op.subject_key),
        Statement(sql.lock_subject_rows, (op.subject_key,)),
    )
    records, unreadable = _sorted(rows)
    ended = [each.session_id for each in records if not each.is_live]
    gone = [*ended, *unreadable]
    *_, [(entries,)], _done = yield (
        Statement(sql.delete_rows, (gone,)),
        Statement(sql.delete_history, (op.subject_key,)),
        COMMIT,
    )
    return len(gone) + int(entries)


def read_clock(sql: Statements, op: ReadClock, again: bool = False) -> Work[int | None]:
    """The server's own clock."""
    del sql, op, again
    [[(now,)]] = yield (CLOCK,)
    return int(now)


def _lock(subject_key: bytes) -> Statement:
    """Whoever signs the subject in or out everywhere stands in one line (E2).

    The lock is the transaction's, so it works behind a pooler. Its number is from a keyed hash.
    """
    return Statement(LOCK_SUBJECT, (int.from_bytes(subject_key[:8], "big", signed=True),))


def _own(rows: Rows) -> Row:
    """A row that begins at the store's own row, which is always there."""
    if not rows:
        raise faults.row_missing()
    return rows[0]


def as_record(row: Iterable[Any]) -> Record:
    """A row as a record.

    Raises:
        UnreadableRecord: the header is damaged or of a release after the next.
    """
    session_id, subject_key, raw, envelope, data, *_ = row
    header, tail = decode_header(raw)
    return Record(session_id, subject_key or NO_SUBJECT, header, envelope, data, tail)


def _sorted(rows: Rows) -> tuple[list[Record], list[bytes]]:
    """The records, oldest first, and the ids of those that nobody can read."""
    records: list[Record] = []
    unreadable: list[bytes] = []
    for row in rows:
        try:
            records.append(as_record(row))
        except UnreadableRecord:
            unreadable.append(row[0])
    return _oldest_first(records), unreadable


def _oldest_first(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda each: each.header.inserted_at)


def _unnested(before: dict[bytes, Record], ended: Iterable[Record]) -> tuple[list[Any], ...]:
    """Ended records as columns: ids, headers as they were, headers now, and when to purge."""
    was = [before[each.session_id] for each in ended]
    return (
        [each.session_id for each in ended],
        [each.header.encode(each.tail) for each in was],
        [each.header.encode(each.tail) for each in ended],
        [each.header.purge_at for each in ended],
    )
