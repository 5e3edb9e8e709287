"""How far this process's clock is off the store's (PROTOCOL E6).

Deadlines are judged by the judging process's clock, so two servers whose clocks differ judge one
session differently: "never later than the policy says" holds to within that difference. It is
measured at start-up and once a minute, and an event tells where it is more than the policy allows.
"""

from __future__ import annotations

from strongroom.core.events import ClockSkewed
from strongroom.core.ops import Flow, ReadClock
from strongroom.core.policy import ms
from strongroom.core.visit import Context


def clock_offset(asked_at: int, told: int, answered_at: int) -> int:
    """How far the store's clock is ahead at least; negative where it is behind. Milliseconds.

    The store looked at its clock at some moment between asking and answering, so a reading between
    the two proves no difference, however long the answer took.
    """
    if told > answered_at:
        return told - answered_at
    return min(told - asked_at, 0)


def check_clock(ctx: Context) -> Flow[ClockSkewed | None]:
    """The event that says that the clocks differ by more than `max_skew`, or None."""
    asked_at = ctx.now()
    told: int | None = yield ReadClock()
    answered_at = ctx.now()
    if told is None:
        return None
    offset = clock_offset(asked_at, told, answered_at)
    if abs(offset) <= ms(ctx.policy.max_skew):
        return None
    return ClockSkewed(at=answered_at, store_ahead_ms=offset)
