"""Sign in, elevate, sign out: what changes a session's standing acts when it is called.

Signing in always starts a new session, whoever was signed in before; the old one ends (P10, E4).
Elevating rotates the token: the old one is dead at once (D2). Neither ever promotes a record.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from strongroom.core.credentials import Verdict, next_rotation, rotated
from strongroom.core.errors import (
    SessionEnded,
    SessionLimitReached,
    SessionReadOnly,
    SignInOvertaken,
    SignInRequired,
    StoreError,
    StoreUnavailable,
    UsageError,
)
from strongroom.core.events import (
    ExcessSessions,
    GenerationsUsedUp,
    LoginRemembered,
    LoginSuccess,
    SessionCreated,
    SessionEndedEvent,
    SessionLogout,
    SessionRenewed,
    SteppedUp,
)
from strongroom.core.known_devices import DEVICE_ID_BYTES, KnownDevice
from strongroom.core.ops import (
    End,
    Epochs,
    Find,
    Flow,
    Found,
    Insert,
    Inserted,
    InsertRefusal,
    Outcome,
    Rotate,
)
from strongroom.core.ops import ReadEpoch as ReadEpochOp
from strongroom.core.policy import ATTEMPT_MAX, ms
from strongroom.core.record import AuthenticationEvent, EndReason, Identity, Kind, Record
from strongroom.core.tokens import SECRET_BYTES, Token, mint, rotation_of, successor
from strongroom.core.visit import Attempt, Visit

from .beginning import NewLogin, begin_login, hand_out_login, plan_login
from .forgetting import end_logins_here
from .remembering import told_of_evicted
from .saving import adopt_new, check_size, new_record
from .signalling import Assessment, assess_sign_in, learn_sign_in, seen_by
from .verifying import verify

_ATTEMPTS = 4
MAX_SUBJECT_LENGTH = 512


def begin_attempt(visit: Visit, subject: str) -> Flow[Attempt]:
    """Before credentials are checked: remember the subject's epoch (P15, E2)."""
    check_subject(subject)
    ctx = visit.ctx
    began_at = ctx.now()
    epochs: Epochs = yield ReadEpochOp(ctx.keys.subject_key(subject))
    return Attempt(subject, epochs.subject, epochs.store, began_at)


def sign_in(
    visit: Visit,
    subject: str,
    factors: Iterable[str] = ("pwd",),
    *,
    pending: bool = False,
    carry: Iterable[str] | None = None,
    remember: bool = False,
) -> Flow[None]:
    """Start a new session for the subject and end the one before.

    With `pending`, the first of two factors is proved: the session exposes `pending_subject` only,
    lives by its own short clocks, and is completed by signing in again with the second factor.
    `carry` names data that comes along, where a framework promises it, instead of what the policy
    names; and then from an earlier session of the same subject too.

    With `remember`, a persistent login begins beside the session (D6). The one that this browser
    had ends in any case.

    Raises:
        UsageError: the policy has no persistent logins, or the sign-in is not complete yet.
        SignInOvertaken: the subject's sessions were all ended after this attempt began.
        SessionLimitReached: the policy refuses one more.
        StoreUnavailable: nothing was changed, or it was undone.
    """
    check_can_issue(visit)
    yield from verify(visit)
    visit.check_may_start()
    check_subject(subject)
    attempt = yield from _attempt_for(visit, subject)
    proved = tuple(AuthenticationEvent(each, visit.ctx.now()) for each in dict.fromkeys(factors))
    if not proved:
        raise UsageError(
            "sign_in needs at least one factor.",
            why="A session whose sign-in proved nothing would count as authenticated.",
            hint="Pass what was checked as RFC 8176 values, for example amr=['pwd', 'otp'].",
        )
    login = plan_login(visit, subject, pending=pending) if remember else None
    # What looks wrong is judged once, when the sign-in is complete.
    if not pending:
        _meet_device(visit)
    assessment = Assessment() if pending else (yield from assess_sign_in(visit, subject))
    old, old_identity = visit.record, visit.identity
    carried = _carried(visit, subject, None if carry is None else tuple(carry))
    aborts = visit.aborts
    record, identity, token = new_record(
        visit,
        Kind.PENDING if pending else Kind.AUTHENTICATED,
        values=carried,
        subject=subject,
        events=merged(_earlier_factors(old_identity, subject), proved),
        epoch=attempt.epoch,
        store_epoch=attempt.store_epoch,
        lowered=assessment.lowered,
        login=None if login is None else login.link,
    )
    stored = yield from insert_session(visit, record, attempt, subject, counted=not pending)
    if login is not None:
        yield from _begin_login(visit, login, identity, attempt, aborts)
    yield from end_before(visit, old, old_identity, subject, aborts)
    if login is not None:
        hand_out_login(visit, login)
    adopt_new(visit, stored, identity, token)
    if login is not None:
        visit.note(LoginRemembered, login_id=login.link.login_id.hex())
    visit.signed_out = visit.clear_cookie = False
    visit.attempt = None
    visit.attempt_open = False
    visit.note(SessionCreated, kind=identity.kind.name.lower())
    visit.note(
        LoginSuccess,
        factors=tuple(each.amr for each in proved),
        pending=pending,
        seen=seen_by(visit, subject),
    )
    if not pending:
        visit.mark().issue = visit.mark().allowed
        learn_sign_in(visit, assessment)


def elevate(visit: Visit, factors: Iterable[str] = ("pwd",)) -> Flow[None]:
    """A factor was proved again, or a further one: rotate the token and start its age anew.

    Restarts the idle clock only, never the absolute one (E7).

    Raises:
        SignInRequired: nobody is signed in.
        SessionEnded: the session ended in the meantime, or its rotations are used up.
    """
    proved = tuple(dict.fromkeys(factors))
    yield from verify(visit)
    yield from rotate(visit, with_factors(visit, require_signed_in(visit), proved))
    visit.attempt_open = False
    visit.note(SteppedUp, factors=proved)


def with_factors(visit: Visit, identity: Identity, factors: Iterable[str]) -> Identity:
    """The identity once these factors were proved now: authenticated, on this device."""
    now = visit.ctx.now()
    proved = tuple(AuthenticationEvent(each, now) for each in dict.fromkeys(factors))
    if not proved:
        return identity
    events = merged(identity.events, proved)
    return replace(
        identity,
        kind=Kind.AUTHENTICATED,
        events=events,
        device=visit.device(),
        device_id=_device_id(visit, identity),
        circumstances=visit.circumstances(),
    )


def _device_id(visit: Visit, identity: Identity) -> str:
    """Its id as the browser says it now, or as it was where it does not say it any more."""
    named = "" if identity.subject is None else visit.device_reference(identity.subject)
    return named or identity.device_id


def _meet_device(visit: Visit) -> None:
    """Before a sign-in: the device gets an id if it agrees to one, under the issuing key."""
    ctx, mark = visit.ctx, visit.mark()
    if mark.allowed:
        known = mark.device
        device_id = ctx.entropy(DEVICE_ID_BYTES) if known is None else known.device_id
        mark.device = KnownDevice(ctx.keys.issuing, device_id)


def rotate(visit: Visit, identity: Identity) -> Flow[None]:
    """Replace the token at once, and the envelope with it (D2)."""
    check_can_issue(visit)
    ctx = visit.ctx
    record, token = visit.record, visit.token
    assert record is not None and token is not None  # noqa: S101 - a signed-in visit has both
    if ctx.over(record.header, identity, ctx.now(), record.header.store_epoch) is not None:
        raise _ended()
    for _ in range(_ATTEMPTS):
        fresh = _rotated_token(visit, record, token)
        now = ctx.now()
        idle, _absolute = ctx.clocks.lifetimes(identity.kind)
        deadline = min(now + idle, identity.absolute_deadline)
        outcome: Outcome = yield Rotate(
            record.session_id,
            ctx.fresh(),
            record.header.credential.current,
            rotated(fresh, successor(ctx.keys.tokens, fresh, ctx.keys.issuing), now),
            identity.kind,
            ctx.seal_identity(identity, record.session_id),
            ctx.keys.issuing,
            now,
            deadline,
            ctx.clocks.purge_at(identity.kind, deadline),
        )
        if outcome.record is None:
            break
        if outcome.applied:
            visit.token = visit.issue = fresh
            visit.identity = identity
            visit.record = outcome.record
            visit.note(SessionRenewed, how="rotation")
            return
        # A parallel request renewed the token. It is the same session, so privilege may change; but
        # if it was a rotation, our own token is dead and this request has no standing any more.
        if rotation_of(outcome.record.header.credential.generation) != rotation_of(
            token.generation
        ):
            break
        record = outcome.record
    raise _ended()


def sign_out(visit: Visit, reason: EndReason = EndReason.LOGOUT) -> Flow[None]:
    """End the session on the server, durably, whatever becomes of the response (P14).

    Without a session there is nothing to end; no other session is ever touched (P13). A token that
    another request replaced at this moment still ends its own (docs/decisions/0001).
    """
    check_can_issue(visit)
    visit.forgets_old = True
    if visit.unavailable:
        raise StoreUnavailable(
            "Nobody can be signed out while the store does not answer.",
            why="The session would live on, and its owner believe that it had ended.",
            hint="Let the 503 be seen, and try again in a moment.",
        )
    record, identity = visit.record, visit.identity
    if record is None and visit.orphan is not None:
        record, identity = yield from _just_replaced(visit, visit.orphan)
    yield from end_logins_here(visit, identity, reason, but=_id_of(record))
    if record is not None and identity is not None:
        yield from end_record(visit, record, reason)
        about = {"session_id": record.session_id.hex(), "subject": identity.subject}
        if reason is EndReason.LOGOUT and identity.kind.is_signed_in:
            visit.note(SessionLogout, **about)
        else:
            visit.note(SessionEndedEvent, **about, reason=reason.value)
        for each in visit.superseded:
            yield from _end_id(visit, each, EndReason.SUPERSEDED, Kind.ANONYMOUS)
        visit.superseded = []
        visit.signed_out = True
    # A token that a rotation replaced, or several cookies: whoever asks to be signed out means it.
    visit.signed_out = visit.signed_out or visit.tossed or visit.orphan is not None
    visit.leave()
    visit.aborts = None


def _just_replaced(visit: Visit, token: Token) -> Flow[tuple[Record, Identity] | tuple[None, None]]:
    """The session whose token was replaced so lately that an honest request may still bring it: the
    other tab elevated while this one signed out. Later the old token ends nothing (D)."""
    ctx = visit.ctx
    found: Found | None = yield Find(token.session_id, authoritative=True)
    identity = None if found is None else ctx.open_identity(found.record)
    if found is None or identity is None:
        return None, None
    record, now = found.record, ctx.now()
    if ctx.over(record.header, identity, now, found.store_epoch) is not None:
        return None, None
    verdict = ctx.judge(record.header.credential, token, now)
    may_be_honest = verdict is Verdict.QUIET or verdict.accepted
    return (record, identity) if may_be_honest else (None, None)


def end_record(visit: Visit, record: Record, reason: EndReason) -> Flow[Outcome]:
    """End one record now."""
    return (yield from _end_id(visit, record.session_id, reason, record.header.kind))


def _end_id(visit: Visit, session_id: bytes, reason: EndReason, kind: Kind) -> Flow[Outcome]:
    ctx = visit.ctx
    now = ctx.now()
    purge_at = ctx.clocks.purge_at(kind, now)
    outcome: Outcome = yield End(session_id, ctx.fresh(), reason, now, purge_at)
    return outcome


def end_superseded(visit: Visit) -> Flow[None]:
    """At the response's start: end the anonymous sessions that sign-ins left behind.

    Not earlier, so that a sign-in whose response fails does not cost the visitor their cart too.
    """
    while visit.superseded:
        yield from _end_id(visit, visit.superseded[0], EndReason.SUPERSEDED, Kind.ANONYMOUS)
        visit.superseded.pop(0)


def _attempt_for(visit: Visit, subject: str) -> Flow[Attempt]:
    """The attempt whose epoch counts: a pending session's, the running one's, or one from now."""
    identity = visit.identity
    if identity is not None and identity.kind is Kind.PENDING and identity.subject == subject:
        # The first factor was proved under this epoch; everything since then must not count.
        assert visit.record is not None  # noqa: S101 - an identity comes with its record
        return Attempt(
            subject, identity.epoch, visit.record.header.store_epoch, identity.created_at
        )
    attempt = visit.attempt
    if attempt is None or attempt.subject != subject:
        return (yield from begin_attempt(visit, subject))
    if visit.ctx.now() > attempt.began_at + ms(ATTEMPT_MAX):
        raise _overtaken("Checking the credentials took longer than an hour")
    return attempt


def _begin_login(
    visit: Visit, login: NewLogin, identity: Identity, attempt: Attempt, aborts: Record | None
) -> Flow[None]:
    """Store the login that the new session belongs to; without it, nobody was signed in."""
    try:
        begun = yield from begin_login(visit, login, identity.events, attempt)
    except StoreError:
        yield from _undo_insert(visit, aborts)
        raise
    if not begun:
        yield from _undo_insert(visit, aborts)
        raise _overtaken("All sessions of this user were ended while the credentials were checked")


def insert_session(
    visit: Visit, record: Record, attempt: Attempt, subject: str, *, counted: bool
) -> Flow[Record]:
    """Insert a new signed-in session, which ends again if this response fails (E1)."""
    ctx = visit.ctx
    now = ctx.now()
    # From here on the record may exist, even if the answer never arrives: a failure must end it.
    before, visit.aborts = visit.aborts, record
    try:
        inserted: Inserted = yield Insert(
            record,
            now,
            attempt.epoch,
            ctx.policy.limit if counted else None,
            ctx.clocks.purge_at(Kind.AUTHENTICATED, now),
            None if visit.record is None else visit.record.session_id,
        )
    except StoreError:
        yield from _undo_insert(visit, before)
        raise
    if inserted.refusal is not None:
        visit.aborts = before
    maximum = ctx.policy.max_sessions
    if inserted.refusal is InsertRefusal.LIMIT:
        visit.note(ExcessSessions, session_id=None, subject=subject, maximum=maximum)
        raise SessionLimitReached(
            f"{maximum} sessions are signed in, which is as many as the policy allows.",
            why="Nobody was signed in.",
            hint="Offer the list of sessions and let the user end one, or let the policy evict.",
        )
    if inserted.refusal is not None or inserted.record is None:
        raise _overtaken("All sessions of this user were ended while the credentials were checked")
    visit.aborts = inserted.record
    yield from told_of_evicted(visit, subject, inserted.evicted)
    return inserted.record


def _undo_insert(visit: Visit, before: Record | None) -> Flow[None]:
    """The store failed on a sign-in, and may have kept it all the same: end it, if it answers.

    An earlier sign-in of the same request still ends if its response fails.
    """
    record, visit.aborts = visit.aborts, before
    if record is not None:
        with suppress(StoreError):
            yield from end_new(visit, record)


def end_new(visit: Visit, record: Record) -> Flow[Outcome]:
    """A sign-in did not come to its end: the session ends, and the login that began with it."""
    visit.login.issue = None
    identity = visit.ctx.open_identity(record)
    if identity is not None and identity.login is not None:
        yield from _end_id(visit, identity.login.login_id, EndReason.ABORTED, Kind.PERSISTENT)
    return (yield from end_record(visit, record, EndReason.ABORTED))


def end_before(
    visit: Visit,
    old: Record | None,
    identity: Identity | None,
    subject: str,
    aborts: Record | None,
) -> Flow[None]:
    """End the session that this one takes over from. If that fails, undo the sign-in (E4)."""
    is_anonymous = identity is not None and identity.kind is Kind.ANONYMOUS
    try:
        if old is not None and identity is not None and not is_anonymous:
            ended = yield from _supersede(visit, old.session_id, identity)
            if not ended and identity.kind is Kind.PENDING and identity.subject == subject:
                yield from _undo_insert(visit, aborts)
                raise _overtaken("The first factor's session ended before the second was proved")
        yield from end_logins_here(visit, identity, EndReason.SUPERSEDED, but=_id_of(old))
        if visit.orphan is not None:
            yield from _end_orphan(visit, visit.orphan, subject)
            visit.orphan = None
    except StoreError:
        yield from _undo_insert(visit, aborts)
        raise
    # Last, when nothing can fail any more: else a failed sign-in would cost the visitor their cart.
    if old is not None and is_anonymous:
        visit.superseded.append(old.session_id)


def _id_of(record: Record | None) -> bytes | None:
    return None if record is None else record.session_id


def _supersede(visit: Visit, session_id: bytes, identity: Identity) -> Flow[bool]:
    outcome = yield from _end_id(visit, session_id, EndReason.SUPERSEDED, identity.kind)
    if outcome.applied:
        visit.note(
            SessionEndedEvent,
            session_id=session_id.hex(),
            subject=identity.subject,
            reason=EndReason.SUPERSEDED.value,
        )
    return outcome.applied


def _end_orphan(visit: Visit, token: Token, subject: str) -> Flow[None]:
    """A rotation's response was lost, and the user signs in again: the old session is theirs (D2).

    Only where the subject is the same, so that a planted token ends nobody else's session.
    """
    found: Found | None = yield Find(token.session_id, authoritative=True)
    if found is None or not found.record.is_live:
        return
    identity = visit.ctx.open_identity(found.record)
    if identity is not None and identity.subject == subject:
        yield from _supersede(visit, token.session_id, identity)


def _carried(visit: Visit, subject: str, named: tuple[str, ...] | None) -> dict[str, bytes]:
    """What comes along into the new session: the named keys, from nobody else's session.

    A pending session of the same subject comes along whole: it is one sign-in in two steps.
    """
    identity = visit.identity
    if identity is None or visit.kind is Kind.ANONYMOUS:
        carried = visit.data.selected(visit.ctx.policy.carry_over if named is None else named)
    elif identity.kind is Kind.PENDING and identity.subject == subject:
        carried = visit.data.selected(tuple(visit.data))
    elif named is not None and identity.subject == subject:
        carried = visit.data.selected(named)
    else:
        return {}
    check_size(visit, carried, Kind.AUTHENTICATED)
    return carried


def _earlier_factors(identity: Identity | None, subject: str) -> tuple[AuthenticationEvent, ...]:
    if identity is None or identity.kind is not Kind.PENDING or identity.subject != subject:
        return ()
    return identity.events


def merged(
    earlier: tuple[AuthenticationEvent, ...], proved: tuple[AuthenticationEvent, ...]
) -> tuple[AuthenticationEvent, ...]:
    """The newest event of each factor; its age runs from the proof, not from the request (P25)."""
    latest = {each.amr: each for each in (*earlier, *proved)}
    return tuple(latest.values())


def _rotated_token(visit: Visit, record: Record, token: Token) -> Token:
    ctx = visit.ctx
    generation = next_rotation(record.header.credential.generation)
    if generation is None:
        visit.note(GenerationsUsedUp)
        raise SessionEnded(
            "This session has changed its privilege as often as a session can.",
            why="Another change could repeat an old token.",
            hint="Ask the user to sign in again.",
        )
    return mint(
        ctx.keys.tokens,
        key_id=ctx.keys.issuing,
        session_id=record.session_id,
        root=token.root,
        secret=ctx.entropy(SECRET_BYTES),
        generation=generation,
    )


def require_signed_in(visit: Visit) -> Identity:
    """Who is signed in.

    Raises:
        SignInRequired: nobody is.
    """
    if visit.identity is None or not visit.identity.kind.is_signed_in:
        raise SignInRequired(
            "Nobody is signed in.",
            why="Only a signed-in session can be elevated.",
            hint="Call session.sign_in(...) after checking the credentials.",
        )
    return visit.identity


def check_subject(subject: object) -> None:
    """Refuse a subject that could not be found again, or is no text.

    Raises:
        UsageError: it is not text of 1 to 512 characters.
    """
    if not isinstance(subject, str) or not subject or len(subject) > MAX_SUBJECT_LENGTH:
        raise UsageError(
            "A subject must be text of 1 to 512 characters.",
            why="It names the account in every list, event and index.",
            hint="Pass the user's id as text, for example str(user.id).",
        )


def check_can_issue(visit: Visit) -> None:
    """Refuse what changes the cookie where none can be set any more (E1), or none was read."""
    if visit.excluded:
        raise SessionReadOnly(
            "This route is excluded from sessions by the policy.",
            why="The session that the browser has was not read, so it cannot be changed.",
            hint="Take the path out of Routes(excluded=...).",
        )
    if visit.response_started or visit.facts.websocket:
        raise UsageError(
            "The response has started, so no cookie can be set any more.",
            why="The browser would keep the old token, and the session would be half changed.",
            hint="Call this in a normal request, before the response is returned.",
        )


def _overtaken(what: str) -> SignInOvertaken:
    return SignInOvertaken(
        f"{what}.", why="Nobody was signed in.", hint="Ask the user to sign in again."
    )


def _ended() -> SessionEnded:
    return SessionEnded(
        "The session ended, or was elevated elsewhere, while this request was running.",
        why="A token that is dead cannot gain privilege.",
        hint="Ask the user to sign in again.",
    )
