"""Beginning a persistent login at a sign-in, and how many an account may have (PROTOCOL D6)."""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.core.errors import UsageError
from strongroom.core.ops import Flow, Found, Insert, Inserted, ListSubject
from strongroom.core.record import AuthenticationEvent, EndReason, Kind, LoginLink, Record
from strongroom.core.tokens import SECRET_BYTES, SESSION_ID_BYTES, Purpose, Token, mint
from strongroom.core.visit import Attempt, Visit

from .forgetting import end_login, login_owner
from .saving import new_record


@dataclass(frozen=True, slots=True)
class NewLogin:
    """A persistent login that is about to be stored, and the token that opens it."""

    subject: str
    token: Token
    link: LoginLink


def plan_login(visit: Visit, subject: str, *, pending: bool) -> NewLogin:
    """The login that a sign-in is to begin; nothing is stored yet.

    Raises:
        UsageError: the policy has no persistent logins, or the sign-in is not complete yet.
    """
    if visit.ctx.policy.remember_for is None:
        raise UsageError(
            "This policy has no persistent logins, so nobody can be remembered.",
            why="remember_for is None: NIST SP 800-63B-4, 5.1, wants session secrets that do not "
            "outlive the browser.",
            hint="Leave remember=True away, or set remember_for and give the reason for it.",
        )
    if pending:
        raise UsageError(
            "A sign-in that still owes a factor cannot be remembered.",
            why="The persistent login would open sessions that one factor was proved for.",
            hint="Pass remember=True with the sign_in that proves the second factor.",
        )
    ctx = visit.ctx
    token = mint(
        ctx.keys.tokens,
        key_id=ctx.keys.issuing,
        session_id=ctx.keys.session_id(subject, ctx.entropy(SESSION_ID_BYTES)),
        root=ctx.entropy(SECRET_BYTES),
        secret=ctx.entropy(SECRET_BYTES),
        purpose=Purpose.PERSISTENT,
    )
    return NewLogin(subject, token, LoginLink(token.session_id, token.generation))


def begin_login(
    visit: Visit, login: NewLogin, events: tuple[AuthenticationEvent, ...], attempt: Attempt
) -> Flow[bool]:
    """Store it, ordered against "sign out everywhere" like the session itself (P15).

    False where everything of the subject was ended in the meantime.
    """
    ctx = visit.ctx
    record, _identity, _token = new_record(
        visit,
        Kind.PERSISTENT,
        subject=login.subject,
        events=events,
        epoch=attempt.epoch,
        store_epoch=attempt.store_epoch,
        token=login.token,
    )
    inserted: Inserted = yield Insert(record, ctx.now(), attempt.epoch)
    if inserted.record is None or inserted.refusal is not None:
        return False
    yield from _make_room(visit, login, record)
    return True


def hand_out_login(visit: Visit, login: NewLogin) -> None:
    """The response hands its token out, in the place of what the browser had."""
    visit.login.issue = login.token
    visit.login.lasts_until = visit.ctx.now() + visit.ctx.clocks.remember
    visit.login.forget = False


def _make_room(visit: Visit, login: NewLogin, new: Record) -> Flow[None]:
    """No account has more persistent logins than sessions: the least recently used end (C6)."""
    ctx = visit.ctx
    listed: tuple[Found, ...] = yield ListSubject(new.subject_key)
    others = [
        found.record
        for found in listed
        if found.record.header.kind is Kind.PERSISTENT
        and found.record.is_live
        and found.record.session_id != new.session_id
        and login_owner(ctx, found.record) == login.subject
    ]
    others.sort(key=lambda each: each.header.last_seen, reverse=True)
    for record in others[ctx.policy.max_sessions - 1 :]:
        visit.events += yield from end_login(
            ctx, login.subject, record.session_id, reason=EndReason.EVICTED
        )
