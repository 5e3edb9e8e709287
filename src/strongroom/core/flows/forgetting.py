"""Ending a persistent login, and with it every session that came from it (PROTOCOL D6).

The login ends first: a step that fails in between leaves sessions with short clocks, never a login
that would open another one. A session that is being opened at the same moment is either found in
the list here, or finds the login ended when it looks once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from strongroom.core.errors import UnreadableRecord
from strongroom.core.events import Event, RememberedLoginEnded, SessionEndedEvent
from strongroom.core.ops import End, Find, Flow, Found, ListSubject, Outcome
from strongroom.core.record import EndReason, Identity, Kind, Record
from strongroom.core.visit import Context, Visit


def end_login(
    ctx: Context,
    subject: str,
    login_id: bytes,
    *,
    reason: EndReason,
    by: str | None = None,
    but: bytes | None = None,
) -> Flow[list[Event]]:
    """End the login and its sessions -> what happened. `but` is a session that the caller ends.

    What has ended already stays as it is; another subject's is never touched.
    """
    now, subject_key = ctx.now(), ctx.keys.subject_key(subject)
    events: list[Event] = []
    outcome: Outcome = yield End(
        login_id,
        ctx.fresh(),
        reason,
        now,
        ctx.clocks.purge_at(Kind.PERSISTENT, now),
        subject_key,
    )
    if outcome.applied:
        events.append(login_ended(now, login_id, subject, reason, by))

    def came_from_it(_session_id: bytes, identity: Identity) -> bool:
        return identity.login is not None and identity.login.login_id == login_id

    events += yield from end_family(ctx, subject, came_from_it, reason=reason, by=by, but=but)
    return events


def end_family(
    ctx: Context,
    subject: str,
    belongs: Callable[[bytes, Identity], bool],
    *,
    reason: EndReason,
    by: str | None = None,
    but: bytes | None = None,
) -> Flow[list[Event]]:
    """End the subject's live sessions that belong to something, and those that were handed over
    from them -> what happened. `but` is a session that the caller ends."""
    now, subject_key = ctx.now(), ctx.keys.subject_key(subject)
    listed: tuple[Found, ...] = yield ListSubject(subject_key)
    events: list[Event] = []
    for session_id in _family(ctx, listed, belongs):
        if session_id == but:
            continue
        purge_at = ctx.clocks.purge_at(Kind.REMEMBERED, now)
        ended: Outcome = yield End(session_id, ctx.fresh(), reason, now, purge_at, subject_key)
        if ended.record is not None and ended.record.header.kind.is_signed_in:
            told = SessionEndedEvent(
                at=now, session_id=session_id.hex(), subject=subject, reason=reason.value, by=by
            )
            events.append(told)
    return events


def end_logins_here(
    visit: Visit, identity: Identity | None, reason: EndReason, *, but: bytes | None = None
) -> Flow[None]:
    """End what could open a session in this browser again: its session's login, and those that it
    presents. The cookie goes with this response."""
    done: set[bytes] = set()
    if identity is not None and identity.login is not None and identity.subject is not None:
        done.add(identity.login.login_id)
        visit.events += yield from end_login(
            visit.ctx, identity.subject, identity.login.login_id, reason=reason, but=but
        )
    for token in visit.logins.tokens:
        if token.session_id in done:
            continue
        found: Found | None = yield Find(token.session_id, authoritative=True)
        owner = None if found is None else login_owner(visit.ctx, found.record)
        if found is None or owner is None or not found.record.is_live:
            continue
        if visit.ctx.judge(found.record.header.credential, token, visit.ctx.now()).accepted:
            visit.events += yield from end_login(
                visit.ctx, owner, token.session_id, reason=reason, but=but
            )
    visit.login.issue = None
    visit.login.forget = visit.logins.some


def end_logins_of(ctx: Context, records: Iterable[Record], reason: EndReason) -> Flow[list[Event]]:
    """End the logins that these ended sessions came from: they must not come back by themselves."""
    events: list[Event] = []
    for record in records:
        identity = _identity(ctx, record)
        if identity is not None and identity.login is not None and identity.subject is not None:
            events += yield from end_login(
                ctx, identity.subject, identity.login.login_id, reason=reason
            )
    return events


def login_owner(ctx: Context, record: Record) -> str | None:
    """Whose persistent login this is, or None where it is none, or lies in another's index."""
    identity = _identity(ctx, record)
    if identity is None or identity.kind is not Kind.PERSISTENT or identity.subject is None:
        return None
    if record.subject_key != ctx.keys.subject_key(identity.subject):
        return None
    return identity.subject


def login_ended(
    at: int, login_id: bytes, subject: str, reason: EndReason, by: str | None
) -> RememberedLoginEnded:
    """The event of a login's end."""
    return RememberedLoginEnded(
        at=at, subject=subject, login_id=login_id.hex(), reason=reason.value, by=by
    )


def _identity(ctx: Context, record: Record) -> Identity | None:
    try:
        return ctx.open_identity(record)
    except UnreadableRecord:
        return None


def _family(
    ctx: Context, listed: Iterable[Found], belongs: Callable[[bytes, Identity], bool]
) -> list[bytes]:
    """The live sessions that belong to it, and those that were handed over from one that does, be
    that over by now or not."""
    known = {
        found.record.session_id: (identity, found.record.is_live)
        for found in listed
        if (identity := _identity(ctx, found.record)) is not None
    }
    family = [
        session_id for session_id, (identity, _) in known.items() if belongs(session_id, identity)
    ]
    for parent in family:  # it grows while it is walked: handing over may be repeated
        family += [
            session_id
            for session_id, (identity, _) in known.items()
            if identity.linked_to == parent and session_id not in family
        ]
    return [session_id for session_id in family if known[session_id][1]]
