"""Adopting another library's session, once: see `core.adoption`.

Only where nothing of ours is in the request, on a navigation whose answer is sure to reach the
cookie jar, and until the cut-off. The rest is a sign-in like any other: a new session id and token,
the subject's epoch compared in the same step, and an end as aborted where the response fails (E1).
"""

from __future__ import annotations

from strongroom.core.adoption import OldSession
from strongroom.core.cookies import find_cookies
from strongroom.core.errors import OvertakenError, UsageError
from strongroom.core.events import SessionCreated
from strongroom.core.ops import Epochs, Flow, ReadEpoch
from strongroom.core.record import NO_EPOCH, AuthenticationEvent, Kind
from strongroom.core.visit import Attempt, Visit

from .saving import adopt_new, check_size, new_record
from .signing import check_subject, insert_session

_SAME_ENOUGH = (None, "none", "same-origin", "same-site")


def old_cookie(visit: Visit) -> str | None:
    """The old cookie that this request may be taken over from, or None."""
    adoption, facts, ctx = visit.ctx.adoption, visit.facts, visit.ctx
    if adoption is None or visit.record is not None or visit.cookie_locked or visit.unavailable:
        return None
    # From another site's page a Strict cookie of ours stays at home while the old one comes along.
    # Scripts and images wait for a navigation, or each of them would start a session of its own.
    mode = facts.header(b"sec-fetch-mode")
    if mode not in (None, "navigate") or facts.fetch_site not in _SAME_ENOUGH:
        return None
    if facts.websocket or facts.is_prefetch or visit.cookie_may_be_at_home:
        return None
    if ctx.now() >= adoption.closes_at:
        return None
    if find_cookies(facts.headers, ctx.cookie.wire_name):
        return None  # Ours came, and opens nothing: ended is terminal (P6).
    return adoption.presented(facts)


def adopt(visit: Visit, value: str, old: OldSession) -> Flow[bool]:
    """Start a session from an old one -> whether it was.

    Raises:
        StoreError: nobody is signed in.
        UsageError: the subject is no text, so that `read` has a mistake.
    """
    if old.subject is not None:
        check_subject(old.subject)
    try:
        adopted = yield from _adopt(visit, old)
    except (OvertakenError, UsageError):
        # They signed out everywhere since, have too many sessions, or what cannot be kept.
        visit.data.forget()
        return False
    if adopted:
        visit.adopted = value
    return adopted


def _adopt(visit: Visit, old: OldSession) -> Flow[bool]:
    subject = old.subject
    if subject is None:
        # A visitor's data: the session begins with it at the response's start (P24).
        check_size(visit, _assigned(visit, old), Kind.ANONYMOUS)
        return bool(old.data)
    ctx = visit.ctx
    epochs: Epochs = yield ReadEpoch(ctx.keys.subject_key(subject))
    values = _assigned(visit, old)
    visit.data.forget()
    check_size(visit, values, Kind.REMEMBERED)
    record, identity, token = new_record(
        visit,
        Kind.REMEMBERED,
        values=values,
        subject=subject,
        events=_events(old),
        store_epoch=epochs.store,
    )
    # An epoch that was ever replaced, by whatever ended all their sessions, is none any more.
    attempt = Attempt(subject, NO_EPOCH, epochs.store, ctx.now())
    stored = yield from insert_session(visit, record, attempt, subject, counted=True)
    adopt_new(visit, stored, identity, token)
    visit.note(SessionCreated, kind="adopted")
    return True


def _assigned(visit: Visit, old: OldSession) -> dict[str, bytes]:
    """The old session's data, checked and encoded by being assigned."""
    for key, value in old.data.items():
        visit.data[key] = value
    return visit.data.selected(tuple(old.data))


def _events(old: OldSession) -> tuple[AuthenticationEvent, ...]:
    if old.authenticated_at is None or old.authenticated_at.tzinfo is None:
        return ()
    return (AuthenticationEvent("pwd", int(old.authenticated_at.timestamp() * 1000)),)


def left_behind(visit: Visit) -> str | None:
    """After the response's start: the old cookie whose session may be deleted in its own store."""
    took_over = visit.record is not None or visit.signed_out
    return visit.adopted if took_over else None
