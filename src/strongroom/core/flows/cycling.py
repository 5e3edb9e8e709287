"""Another key for the same session, where a framework promises one; and an end that comes early.

Both serve frameworks whose sessions have a key that can be cycled and an expiry that can be set
for one session. An expiry only ever shortens what the policy allows (P9).
"""

from __future__ import annotations

from strongroom.core.events import SessionExpired
from strongroom.core.ops import End, Find, Flow, Found, Outcome
from strongroom.core.record import EndReason, Identity, Kind
from strongroom.core.visit import Context, Visit

from .saving import cycle_anonymous
from .signing import check_can_issue, rotate

_TOUCHES = 10
"""Activity is noted this many times within a shortened idle timeout, as within the policy's."""


def cycle(visit: Visit) -> Flow[None]:
    """Replace what opens the session, and keep its data: the token at once where somebody is
    signed in (D2), the id too where nobody is. Without a stored session there is nothing to do.

    Raises:
        SessionEnded: it ended, or was cycled elsewhere, while this request was running.
    """
    if visit.record is None or visit.identity is None:
        return
    check_can_issue(visit)
    if visit.issue is not None:
        return  # What opens it was made in this request, and nobody has it yet.
    if visit.kind is Kind.ANONYMOUS:
        yield from cycle_anonymous(visit)
    else:
        yield from rotate(visit, visit.identity)


def end_early(
    visit: Visit, *, idle: int | None = None, until: int | None = None
) -> Flow[EndReason | None]:
    """End the session where its own expiry has passed -> why, or None while it lives.

    `idle` is milliseconds without activity, `until` a moment. Neither lengthens anything: the
    policy's clocks were judged before.
    """
    record, identity = visit.record, visit.identity
    if record is None or identity is None:
        return None
    if idle is not None:
        visit.touch_every = idle // _TOUCHES
    reason = None
    if until is not None and visit.opened_at >= until:
        reason = EndReason.ABSOLUTE
    elif idle is not None and visit.opened_at >= record.header.last_seen + idle:
        reason = EndReason.IDLE
    if reason is not None:
        yield from _expire(visit, record.session_id, identity, reason)
    return reason


def _expire(visit: Visit, session_id: bytes, identity: Identity, reason: EndReason) -> Flow[None]:
    """Written as the end before it is answered (E6)."""
    ctx, now = visit.ctx, visit.opened_at
    purge_at = ctx.clocks.purge_at(identity.kind, now)
    outcome: Outcome = yield End(session_id, ctx.fresh(), reason, now, purge_at)
    if outcome.applied:
        visit.note(SessionExpired, reason=reason.value)
    visit.leave()
    visit.refusal = reason
    # As with every end that is noticed: another response may be setting a newer cookie (F1).
    visit.cookie_locked = True


def is_live(ctx: Context, session_id: str) -> Flow[bool]:
    """Whether a session of any kind lives under this public id."""
    found = yield from _find(ctx, session_id)
    return found is not None


def end_by_id(ctx: Context, session_id: str, reason: EndReason) -> Flow[bool]:
    """End a session of any kind by its public id -> whether it was live."""
    found = yield from _find(ctx, session_id)
    if found is None:
        return False
    now, record = ctx.now(), found.record
    purge_at = ctx.clocks.purge_at(record.header.kind, now)
    outcome: Outcome = yield End(record.session_id, ctx.fresh(), reason, now, purge_at)
    return outcome.applied


def _find(ctx: Context, session_id: str) -> Flow[Found | None]:
    try:
        raw = bytes.fromhex(session_id)
    except ValueError:
        return None
    found: Found | None = yield Find(raw, authoritative=True)
    if found is None or (identity := ctx.open_identity(found.record)) is None:
        return None
    over = ctx.over(found.record.header, identity, ctx.now(), found.store_epoch)
    return found if over is None else None
