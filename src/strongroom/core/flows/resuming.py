"""Going on with a sign-in that another system vouches for: its cookie says who, and proves nothing.

Nothing was proved here and now, so the session is a *remembered* one: it is signed in, and whatever
asks for a recent proof asks anew. A browser whose session of ours was ended by somebody is not
let back in this way, or a cookie of the other system would undo every revocation (P6). One whose
session only timed out is: that is what such cookies are for.
"""

from __future__ import annotations

from strongroom.core.events import SessionCreated
from strongroom.core.ops import Flow
from strongroom.core.record import EndReason, Kind
from strongroom.core.visit import Visit

from .saving import adopt_new, new_record
from .signing import begin_attempt, check_can_issue, end_before, insert_session
from .verifying import verify

_TIMED_OUT = (EndReason.IDLE, EndReason.ABSOLUTE)


def resume(visit: Visit, subject: str) -> Flow[bool]:
    """Start a remembered session for the subject -> whether it was done.

    It is not done where somebody is signed in, nor where the browser brought a cookie of ours whose
    session did not simply time out.

    Raises:
        SessionLimitReached, StoreUnavailable: nobody was signed in.
        SessionReadOnly: the request came from another site, or its response has started.
    """
    identity = visit.identity
    known = identity is not None and identity.kind is not Kind.ANONYMOUS
    ended = visit.refusal is not None and visit.refusal not in _TIMED_OUT
    if known or ended or visit.cookie_locked or visit.orphan is not None:
        return False
    check_can_issue(visit)
    visit.check_may_start()
    yield from verify(visit)
    attempt = yield from begin_attempt(visit, subject)
    old, aborts = visit.record, visit.aborts
    record, identity, token = new_record(
        visit,
        Kind.REMEMBERED,
        values=visit.data.selected(visit.ctx.policy.carry_over),
        subject=subject,
        epoch=attempt.epoch,
        store_epoch=attempt.store_epoch,
    )
    stored = yield from insert_session(visit, record, attempt, subject, counted=True)
    yield from end_before(visit, old, visit.identity, subject, aborts)
    adopt_new(visit, stored, identity, token)
    visit.signed_out = visit.clear_cookie = False
    visit.note(SessionCreated, kind=identity.kind.name.lower())
    return True
