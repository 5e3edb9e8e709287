"""Sweeping: removing what is due, in small bites, by one process at a time.

Each bite is one statement and one transaction. It takes the leader's advisory lock if nobody has
it, and does nothing otherwise; it passes over rows that somebody is changing (`SKIP LOCKED`), and
looks at `purge_at` again where one was changed since.

A touched row keeps its place in the index. When its slot has passed and it is not due, the sweep
moves it on: one indexed write per row and sweep that meets it, instead of one per touch.
"""

from __future__ import annotations

from strongroom.core.ops import Sweep

from .schema import PURGE_SLOT_BITS, lock_number
from .statements import Statement, Statements
from .work import Work

BITE_ROWS = 200
"""Rows in one statement, so that nobody waits long for a row that is on its way out."""


def sweep(sql: Statements, op: Sweep, again: bool = False) -> Work[int]:
    """Remove at most `op.limit` rows that are due -> how many were removed.

    Rows that were put off do not count, and no more of them are moved than may be removed.
    """
    del again
    slot, lock = op.now >> PURGE_SLOT_BITS, lock_number(sql.schema, "sweep")
    yield from _bites(sql.put_off, (lock, slot, op.now), max(op.limit, BITE_ROWS))
    removed = 0
    for text, values in (
        (sql.sweep_sessions, (lock, slot, op.now)),
        (sql.sweep_history, (lock, op.now)),
        (sql.sweep_epochs, (lock, op.epochs_before)),
    ):
        removed += yield from _bites(text, values, op.limit - removed)
    return removed


def _bites(text: bytes, values: tuple[int, ...], limit: int) -> Work[int]:
    taken = 0
    while taken < limit:
        rows = min(BITE_ROWS, limit - taken)
        [[(count,)]] = yield (Statement(text, (*values, rows)),)
        taken += int(count)
        if count < rows:
            break
    return taken
