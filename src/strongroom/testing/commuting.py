"""Which ops cannot notice each other, so that their order makes no difference.

Only what is certain counts: two reads, and two ops that look at nothing but two different records.
"""

from __future__ import annotations

from strongroom.core.ops import (
    End,
    Find,
    ListSubject,
    Op,
    ReadEpoch,
    ReadHistory,
    Replace,
    Rotate,
    Shift,
    Touch,
)

_OF_ONE_RECORD = (Find, Touch, Shift, Rotate, Replace, End)


def is_read(op: Op) -> bool:
    """Whether the op changes nothing."""
    return isinstance(op, Find | ReadEpoch | ListSubject | ReadHistory)


def commute(one: Op, other: Op) -> bool:
    """Whether doing the two in either order leaves the same store and gives the same answers."""
    if is_read(one) and is_read(other):
        return True
    if isinstance(one, _OF_ONE_RECORD) and isinstance(other, _OF_ONE_RECORD):
        return one.session_id != other.session_id
    return False
