"""Handing a session over to another client of the same user (PROTOCOL D7).

A native application with a web view must not copy the cookie. It asks for a code, which opens one
linked session of its own, once, within a minute. The code is a token of another purpose, so it is
noise wherever a session token is expected, and the other way round.
"""

from __future__ import annotations

from dataclasses import replace

from strongroom.core.errors import OvertakenError, RefusedError, SessionEnded, SignInRequired
from strongroom.core.events import LoginSuccess, SessionCreated, TokenRefused
from strongroom.core.ops import (
    End,
    Epochs,
    Find,
    Flow,
    Found,
    Insert,
    ListSubject,
    Outcome,
    ReadEpoch,
)
from strongroom.core.record import EndReason, Identity, Kind, Record
from strongroom.core.tokens import Purpose, Token, mint, parse, rotation_of
from strongroom.core.visit import Attempt, Context, Visit

from .saving import adopt_new, new_record
from .signing import check_can_issue, end_before, insert_session
from .verifying import verify

_UNTIL, _AS = "until", "as"
MAX_CODES = 5
"""Codes of one session that wait at a time: a person starts one or two other clients in a minute,
and a script that asks in a loop must not fill the store."""


def hand_over(visit: Visit) -> Flow[str]:
    """A code for one linked session; valid once, within `hand_over_lifetime` (60 seconds).

    Of one session's codes the newest `MAX_CODES` are good.

    Raises:
        SignInRequired: there is no signed-in session to hand over.
    """
    yield from verify(visit)
    ctx, identity, parent = visit.ctx, visit.identity, visit.record
    if identity is None or parent is None or not identity.kind.is_signed_in:
        raise SignInRequired(
            "Nobody is signed in, so there is no session to hand over.",
            why="A code without a session behind it would sign anybody in.",
            hint="Call session.hand_over() in a signed-in request.",
        )
    assert identity.subject is not None  # noqa: S101 - signed in means a subject
    epochs: Epochs = yield ReadEpoch(parent.subject_key)
    # In this order: whatever ends or rotates the session after the epoch was read is found here.
    now_there: Found | None = yield Find(parent.session_id, authoritative=True)
    if now_there is None or _is_over(visit, now_there) or _was_rotated(visit, now_there):
        raise SessionEnded(
            "The session ended, or changed its privilege, while this request was running.",
            why="A token that is dead cannot open another session.",
            hint="Ask the user to sign in again.",
        )
    record, granted, token = new_record(
        visit,
        Kind.HAND_OVER,
        subject=identity.subject,
        events=identity.events,
        closed_at=identity.closed_at,
        lowered=visit.is_doubtful,
        epoch=epochs.subject,
        store_epoch=parent.header.store_epoch,
        deadline=identity.absolute_deadline,
        linked_to=parent.session_id,
    )
    granted = replace(granted, extra={_UNTIL: identity.absolute_deadline, _AS: int(identity.kind)})
    code = _as_code(visit, token)
    header = replace(
        record.header, credential=replace(record.header.credential, current=code.digest)
    )
    record = replace(record, header=header, envelope=ctx.seal_identity(granted, record.session_id))
    yield Insert(record, ctx.now(), epochs.subject)
    yield from end_excess(ctx, parent, Kind.HAND_OVER, MAX_CODES, but=record.session_id)
    return code.text


def end_excess(ctx: Context, parent: Record, kind: Kind, most: int, *, but: bytes) -> Flow[None]:
    """End the oldest records of this kind that wait for the session, beyond `most` of them. After
    the insert, so that of several at once the last one to look sees them all."""
    listed: tuple[Found, ...] = yield ListSubject(parent.subject_key)
    waiting: list[tuple[int, bytes]] = []
    for found in listed:
        record = found.record
        if record.header.kind is not kind or record.session_id == but:
            continue
        granted = ctx.open_identity(record)
        if granted is None or granted.linked_to != parent.session_id:
            continue
        if ctx.over(record.header, granted, ctx.now(), found.store_epoch) is None:
            waiting.append((granted.created_at, record.session_id))
    waiting.sort(reverse=True)
    for _, session_id in waiting[most - 1 :]:
        now = ctx.now()
        purge_at = ctx.clocks.purge_at(kind, now)
        yield End(session_id, ctx.fresh(), EndReason.SUPERSEDED, now, purge_at)


def accept_hand_over(visit: Visit, code: str) -> Flow[None]:
    """Open the linked session that a code stands for; the code is worth nothing afterwards.

    Raises:
        RefusedError: the code is unknown, used, too old, or its session has ended.
    """
    ctx = visit.ctx
    check_can_issue(visit)
    yield from verify(visit)
    visit.check_may_start()
    token = parse(ctx.keys.tokens, code.encode("utf-8", "replace"), Purpose.HAND_OVER)
    if not isinstance(token, Token):
        raise _refused(visit, "not_a_code")
    found: Found | None = yield Find(token.session_id, authoritative=True)
    granted = None if found is None else ctx.open_identity(found.record)
    if (
        found is None
        or granted is None
        or granted.kind is not Kind.HAND_OVER
        or granted.linked_to is None
        or found.record.header.credential.current != token.digest
    ):
        raise _refused(visit, "unknown_code")
    over = ctx.over(found.record.header, granted, ctx.now(), found.store_epoch)
    if over is not None:
        raise _refused(visit, "code_too_old_or_used")
    now = ctx.now()
    # Ending is what makes the code single-use: of two clients that try, one is told "gone".
    outcome: Outcome = yield End(
        token.session_id,
        ctx.fresh(),
        EndReason.REDEEMED,
        now,
        ctx.clocks.purge_at(Kind.HAND_OVER, now),
    )
    if not outcome.applied:
        raise _refused(visit, "code_used")
    parent: Found | None = yield Find(granted.linked_to, authoritative=True)
    if parent is None or _is_over(visit, parent):
        raise _refused(visit, "session_has_ended")
    yield from _open_linked(visit, granted, found.record)


def _was_rotated(visit: Visit, found: Found) -> bool:
    """Whether privilege changed since this request's token was made: then that token is dead."""
    generation = found.record.header.credential.generation
    return visit.token is None or rotation_of(visit.token.generation) != rotation_of(generation)


def _is_over(visit: Visit, found: Found) -> bool:
    """Whether that session is over at this moment, by its end, its clocks or the store's epoch."""
    ctx, record = visit.ctx, found.record
    identity = ctx.open_identity(record)
    if identity is None:
        return True
    return ctx.over(record.header, identity, ctx.now(), found.store_epoch) is not None


def _open_linked(visit: Visit, granted: Identity, grant: Record) -> Flow[None]:
    record, identity, token = new_record(
        visit,
        Kind(granted.extra[_AS]),
        subject=granted.subject,
        events=granted.events,
        closed_at=granted.closed_at,
        lowered=granted.circumstances.lowered,
        epoch=granted.epoch,
        store_epoch=grant.header.store_epoch,
        deadline=granted.extra[_UNTIL],
        linked_to=granted.linked_to,
    )
    subject = granted.subject
    assert subject is not None  # noqa: S101 - a grant is made by a signed-in session
    attempt = Attempt(subject, granted.epoch, grant.header.store_epoch, granted.created_at)
    old, old_identity, aborts = visit.record, visit.identity, visit.aborts
    try:
        stored = yield from insert_session(visit, record, attempt, subject, counted=True)
        yield from end_before(visit, old, old_identity, subject, aborts)
    except OvertakenError as error:
        raise _refused(visit, "overtaken") from error
    adopt_new(visit, stored, identity, token)
    visit.note(SessionCreated, kind=identity.kind.name.lower())
    visit.note(LoginSuccess, factors=tuple(each.amr for each in granted.events))


def _as_code(visit: Visit, token: Token) -> Token:
    return mint(
        visit.ctx.keys.tokens,
        key_id=token.key_id,
        session_id=token.session_id,
        root=token.root,
        secret=token.secret,
        purpose=Purpose.HAND_OVER,
    )


def _refused(visit: Visit, reason: str) -> RefusedError:
    visit.note(TokenRefused, session_id=None, subject=None, reason=f"hand_over_{reason}")
    return RefusedError(
        "This code does not open a session.",
        why="A code works once, within a minute, and only while its own session lives.",
        hint="Ask the application that gave it for a new one.",
    )
