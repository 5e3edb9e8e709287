"""Everything that is kept of one person is removed: for the right to erasure."""

from __future__ import annotations

from strongroom.core.events import SubjectErased
from strongroom.core.ops import Erase, Flow
from strongroom.core.record import EndReason
from strongroom.core.visit import Context

from .histories import drawer_keys
from .listing import Report, end_subject


def erase_subject(ctx: Context, subject: str, *, by: str | None = None) -> Flow[Report]:
    """End everything that the subject has, then remove it, and the history -> how many things.

    The subject's epoch stays for as long as it keeps a sign-in from before out (P15): random bytes
    under a keyed hash. The events of this are for the sinks only: told to the history, they would
    begin it anew.
    """
    ending = yield from end_subject(ctx, subject, reason=EndReason.DISABLED, by=by)
    removed = 0
    for key in drawer_keys(ctx, subject):
        count: int = yield Erase(key)
        removed += count
    erased = SubjectErased(at=ctx.now(), subject=subject, removed=removed, by=by)
    return Report(removed, (*ending.events, erased))
