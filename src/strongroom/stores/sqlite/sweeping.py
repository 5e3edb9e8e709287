"""Sweeping: removing what is due, in small bites, so that no writer waits long for it.

What to remove is looked up first, outside any transaction, because that may walk over many rows of
the current purge slot that are not due yet. Each bite is then a transaction of its own that looks
again: a session touched in between stays.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from strongroom.core.ops import Sweep

from .connection import Connection
from .lines import Lines
from .schema import PURGE_SLOT_BITS

BITE_ROWS = 50
"""Rows removed in one transaction: 500 at once held up writers for 14 to 178 ms."""

_BREATH_SECONDS = 0.001


class _Kind(NamedTuple):
    """One table's rows that may go: how to find them, and how to remove one that is still due."""

    due: str
    remove: str


# In the current slot the exact moment decides; everything in an earlier one is due.
_SESSIONS = _Kind(
    f"SELECT id FROM session WHERE purge_slot <= ?1 >> {PURGE_SLOT_BITS} AND purge_at <= ?1 "  # noqa: S608
    "ORDER BY purge_slot LIMIT ?2",
    "DELETE FROM session WHERE id = ? AND purge_at <= ?",
)
_HISTORY = _Kind(
    "SELECT id FROM history WHERE purge_at <= ? LIMIT ?",
    "DELETE FROM history WHERE id = ? AND purge_at <= ?",
)
_EPOCHS = _Kind(
    "SELECT id FROM subject_epoch WHERE replaced_at < ? LIMIT ?",
    "DELETE FROM subject_epoch WHERE id = ? AND replaced_at < ?",
)


def sweep(lines: Lines, op: Sweep) -> int:
    """Remove at most `op.limit` rows that are due, and say how many."""
    removed = 0
    for kind, bound in ((_SESSIONS, op.now), (_HISTORY, op.now), (_EPOCHS, op.epochs_before)):
        removed += _sweep_kind(lines, kind, bound, op.limit - removed)
    return removed


def _sweep_kind(lines: Lines, kind: _Kind, bound: int, limit: int) -> int:
    removed = 0
    while removed < limit:
        bite = min(BITE_ROWS, limit - removed)

        def look(connection: Connection, bite: int = bite) -> list[tuple[int]]:
            return connection.execute(kind.due, (bound, bite)).fetchall()

        due = lines.keeping.run(look)
        removed += _remove(lines, kind, [(row_id, bound) for (row_id,) in due])
        if len(due) < bite:
            break
        time.sleep(_BREATH_SECONDS)  # the lock is not fair: let somebody else have it
    return removed


def _remove(lines: Lines, kind: _Kind, due: list[tuple[int, int]]) -> int:
    if not due:
        return 0

    def remove(connection: Connection) -> int:
        return connection.executemany(kind.remove, due).rowcount

    return lines.write(remove, durable=False)
