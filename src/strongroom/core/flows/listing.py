"""The account owner's and the operator's view: list sessions, end them, read what happened.

Lists carry public ids, never a token. Ending costs the subject's sessions, never a scan; ending
everybody costs one write (ASVS 7.4, 7.5).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from strongroom.core.errors import SignInRequired, StrongroomError, UnreadableRecord
from strongroom.core.events import (
    AccountDisabled,
    AllSessionsEnded,
    CredentialsChanged,
    Event,
    SessionEndedEvent,
    SignedOutEverywhere,
)
from strongroom.core.ops import (
    End,
    EndAll,
    EndSubject,
    Find,
    Flow,
    Found,
    ListSubject,
    Outcome,
    Sweep,
)
from strongroom.core.policy import EPOCHS_KEPT, ms
from strongroom.core.record import EndReason, Identity, Kind, Record
from strongroom.core.tokens import SESSION_ID_BYTES
from strongroom.core.visit import Context, Visit

from .forgetting import end_login, login_ended, login_owner
from .signing import check_can_issue, rotate, with_factors
from .verifying import verify

SWEEP_BATCH = 500
_KEEP_EPOCHS = ms(EPOCHS_KEPT)


def moment(milliseconds: int) -> datetime:
    """A moment of the core as an aware datetime in UTC; what no calendar holds is its last day.

    Moments in a record's header can be written by whoever writes the store.
    """
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """One session as its owner sees it. Everything in it is safe to show, log and link (P5)."""

    session_id: str
    subject: str
    current: bool
    remembered: bool
    device: str
    address: str | None
    place: str | None
    created_at: datetime
    last_seen: datetime
    expires_at: datetime
    authenticated_at: datetime
    factors: tuple[str, ...]
    acr: str | None
    ended_at: datetime | None = None
    end_reason: EndReason | None = None
    login_id: str | None = None
    """The persistent login that ends with it, and it with that."""
    device_id: str | None = None
    """The device that it is used in, where that has an id."""

    @property
    def is_live(self) -> bool:
        """Whether it can still be used."""
        return self.end_reason is None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginInfo:
    """One persistent login as its owner sees it. Everything in it is safe to show (P5)."""

    login_id: str
    subject: str
    device: str
    address: str | None
    created_at: datetime
    last_used: datetime
    expires_at: datetime
    device_id: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What an action from outside came to: how many sessions ended, and the events of it."""

    ended: int
    events: tuple[Event, ...] = ()


def sessions_of(
    ctx: Context, subject: str, *, current: bytes | None = None, include_ended: bool = False
) -> Flow[list[SessionInfo]]:
    """The subject's signed-in sessions: the current one first, then the most recently used.

    An expiry that nobody has noticed yet shows as ended at its deadline.
    """
    listed: tuple[Found, ...] = yield ListSubject(ctx.keys.subject_key(subject))
    chosen = [
        info
        for info in session_infos(ctx, subject, listed, current)
        if include_ended or info.is_live
    ]
    chosen.sort(key=lambda info: info.last_seen, reverse=True)
    chosen.sort(key=lambda info: not info.current)
    return chosen


def session_infos(
    ctx: Context, subject: str, listed: Iterable[Found], current: bytes | None
) -> list[SessionInfo]:
    """The subject's signed-in sessions among these records, live and ended."""
    infos = [info for found in listed if (info := _info(ctx, found, current)) is not None]
    # The index is in the clear: whoever writes the store could file a session under somebody else.
    return [info for info in infos if info.subject == subject]


def logins_of(ctx: Context, subject: str) -> Flow[list[LoginInfo]]:
    """The browsers that are remembered for the subject, the most recently used first."""
    listed: tuple[Found, ...] = yield ListSubject(ctx.keys.subject_key(subject))
    logins = login_infos(ctx, subject, listed)
    return sorted(logins, key=lambda each: each.last_used, reverse=True)


def login_infos(ctx: Context, subject: str, listed: Iterable[Found]) -> list[LoginInfo]:
    """The subject's live persistent logins among these records."""
    logins: list[LoginInfo] = []
    for found in listed:
        record = found.record
        if login_owner(ctx, record) != subject:
            continue
        identity = ctx.open_identity(record)
        if identity is None or ctx.over(record.header, identity, ctx.now(), found.store_epoch):
            continue
        info = LoginInfo(
            login_id=record.session_id.hex(),
            subject=subject,
            device=identity.device.label,
            address=identity.address,
            created_at=moment(identity.created_at),
            last_used=moment(record.header.last_seen),
            expires_at=moment(identity.absolute_deadline),
            device_id=identity.device_id or None,
        )
        logins.append(info)
    return logins


def public_id(session_id: str) -> bytes | None:
    """A public session id as bytes, or None for what cannot be one: no store is asked for it."""
    try:
        raw = bytes.fromhex(session_id)
    except ValueError:
        return None
    return raw if len(raw) == SESSION_ID_BYTES else None


def find_session(ctx: Context, session_id: str) -> Flow[SessionInfo | None]:
    """One signed-in session by its public id, live or ended."""
    raw = public_id(session_id)
    if raw is None:
        return None
    found: Found | None = yield Find(raw, authoritative=True)
    return None if found is None else _info(ctx, found, None)


def end_session(
    ctx: Context, subject: str, session_id: str, *, reason: EndReason, by: str | None = None
) -> Flow[Report]:
    """End one session of the subject. Another subject's, or one that has ended, is a no-op.

    The persistent login that it came from ends too, or it would come back by itself; and by a
    login's own id, the login ends with every session that came from it.
    """
    raw = public_id(session_id)
    if raw is None:
        return Report(0)
    login_id = yield from _login_of(ctx, subject, raw)
    events: list[Event] = []
    if login_id is not None:
        events = yield from end_login(ctx, subject, login_id, reason=reason, by=by, but=raw)
        if raw == login_id:
            return Report(len(events), tuple(events))
    now = ctx.now()
    outcome: Outcome = yield End(
        raw,
        ctx.fresh(),
        reason,
        now,
        ctx.clocks.purge_at(Kind.AUTHENTICATED, now),
        ctx.keys.subject_key(subject),
    )
    if not outcome.applied:
        return Report(len(events), tuple(events))
    told = _ended(now, session_id, subject, reason, by)
    return Report(1 + len(events), (*events, told))


def _login_of(ctx: Context, subject: str, session_id: bytes) -> Flow[bytes | None]:
    """The persistent login that has this id, or that the session with this id came from."""
    found: Found | None = yield Find(session_id, authoritative=True)
    if found is None or found.record.subject_key != ctx.keys.subject_key(subject):
        return None
    try:
        identity = ctx.open_identity(found.record)
    except UnreadableRecord:
        return None
    if identity is None or identity.subject != subject:
        return None
    if identity.kind is Kind.PERSISTENT:
        return session_id
    return None if identity.login is None else identity.login.login_id


def end_subject(
    ctx: Context,
    subject: str,
    *,
    reason: EndReason,
    by: str | None = None,
    keep: bytes | None = None,
    visit: Visit | None = None,
) -> Flow[Report]:
    """End a subject's sessions but `keep`, in one step that sign-ins are ordered by (P15).

    An authentication that goes on in the same `visit` carries the new epoch: a reset of the
    password ends everything and then signs in (E2). A first factor from before it counts no more.
    """
    now = ctx.now()
    epoch = ctx.fresh()
    ended: tuple[Found, ...] = yield EndSubject(
        ctx.keys.subject_key(subject),
        ctx.fresh(),
        reason,
        now,
        ctx.clocks.purge_at(Kind.AUTHENTICATED, now),
        epoch,
        keep,
    )
    if visit is not None and visit.attempt is not None and visit.attempt.subject == subject:
        visit.attempt = replace(visit.attempt, epoch=epoch)
    if visit is not None and visit.kind is Kind.PENDING and _is_of(visit, subject):
        visit.leave()
    sessions = [each.record for each in ended if each.record.header.kind.is_signed_in]
    events: list[Event] = [
        _ended(now, each.session_id.hex(), subject, reason, by) for each in sessions
    ]
    events += [
        login_ended(now, each.record.session_id, subject, reason, by)
        for each in ended
        if each.record.header.kind is Kind.PERSISTENT
    ]
    if visit is not None and (keep is not None or _is_of(visit, subject)):
        # This browser's persistent login has ended with everything else.
        visit.login.issue, visit.login.forget = None, visit.logins.some
    if reason in (EndReason.EVERYWHERE, EndReason.OPERATOR):
        events.append(SignedOutEverywhere(at=now, subject=subject, ended=len(sessions), by=by))
    return Report(len(sessions), tuple(events))


def _is_of(visit: Visit, subject: str) -> bool:
    return visit.identity is not None and visit.identity.subject == subject


def account_disabled(ctx: Context, subject: str, *, by: str | None = None) -> Flow[Report]:
    """The account was disabled or deleted: everything that it has ends (P26, ASVS 7.4.2)."""
    report = yield from end_subject(ctx, subject, reason=EndReason.DISABLED, by=by)
    event = AccountDisabled(at=ctx.now(), subject=subject, ended=report.ended)
    return Report(report.ended, (*report.events, event))


def end_others(visit: Visit, reason: EndReason = EndReason.EVERYWHERE) -> Flow[Report]:
    """End all sessions of the signed-in subject but this one."""
    yield from verify(visit)
    subject, record = _require(visit)
    report = yield from end_subject(
        visit.ctx, subject, reason=reason, keep=record.session_id, by=subject, visit=visit
    )
    visit.events += report.events
    return report


def credentials_changed(visit: Visit, factors: Iterable[str] = ()) -> Flow[Report]:
    """A factor of the signed-in subject changed: the others end, this one rotates (ASVS 7.4.3).

    `factors` were proved on the way, such as the old password: they count from now.
    """
    check_can_issue(visit)
    yield from verify(visit)
    _require(visit)
    assert visit.identity is not None  # noqa: S101 - a signed-in visit has one
    # First the rotation: a copy of the old token must not make itself a new session in between.
    yield from rotate(visit, with_factors(visit, visit.identity, factors))
    report = yield from end_others(visit, EndReason.CREDENTIAL)
    visit.attempt_open = False
    visit.note(CredentialsChanged, ended=report.ended)
    return report


def reset_credentials(ctx: Context, subject: str, visit: Visit | None = None) -> Flow[Report]:
    """A factor was changed from outside any session of the subject: everything it has ends."""
    report = yield from end_subject(ctx, subject, reason=EndReason.CREDENTIAL, visit=visit)
    event = CredentialsChanged(at=ctx.now(), subject=subject, ended=report.ended)
    return Report(report.ended, (*report.events, event))


def end_everybody(ctx: Context, *, by: str | None = None) -> Flow[Report]:
    """Sign everybody out, and make every record of a restored backup worthless (E3)."""
    now = ctx.now()
    yield EndAll(ctx.fresh(), now)
    return Report(0, (AllSessionsEnded(at=now, by=by),))


def sweep(ctx: Context, *, batch: int = SWEEP_BATCH) -> Flow[int]:
    """Remove what may be forgotten, in bounded batches -> how many things were removed."""
    total = 0
    while True:
        now = ctx.now()
        removed: int = yield Sweep(now, batch, now - _KEEP_EPOCHS)
        total += removed
        if removed < batch:
            return total


def server_data(ctx: Context, session_id: str) -> Flow[dict[str, Any] | None]:
    """What servers may read alone of a live session's data, or None where there is none (C3)."""
    raw = public_id(session_id)
    if raw is None:
        return None
    found: Found | None = yield Find(raw, authoritative=True)
    if found is None or (identity := ctx.open_identity(found.record)) is None:
        return None
    if ctx.over(found.record.header, identity, ctx.now(), found.store_epoch) is not None:
        return None
    values = ctx.data_seals.open_alone(found.record)
    return {key: ctx.codec.decode(value) for key, value in values.items()}


def _info(ctx: Context, found: Found, current: bytes | None) -> SessionInfo | None:
    record = found.record
    try:
        identity = ctx.open_identity(record)
    except UnreadableRecord:
        return None
    if identity is None or identity.subject is None or not identity.kind.is_signed_in:
        return None
    reason = ctx.over(record.header, identity, ctx.now(), found.store_epoch)
    idle_deadline = record.header.idle_deadline
    remembered = identity.kind is Kind.REMEMBERED
    return SessionInfo(
        session_id=record.session_id.hex(),
        subject=identity.subject,
        current=record.session_id == current,
        remembered=remembered,
        device=identity.device.label,
        address=identity.address,
        place=identity.place,
        created_at=moment(identity.created_at),
        last_seen=moment(record.header.last_seen),
        expires_at=moment(min(idle_deadline, identity.absolute_deadline)),
        authenticated_at=moment(
            max((each.at for each in identity.events), default=identity.created_at)
        ),
        factors=tuple(each.amr for each in identity.events),
        acr=ctx.policy.acr.derive(identity.events, remembered),
        ended_at=_ended_at(record, identity, reason),
        end_reason=reason,
        login_id=None if identity.login is None else identity.login.login_id.hex(),
        device_id=identity.device_id or None,
    )


def _ended_at(record: Record, identity: Identity, reason: EndReason | None) -> datetime | None:
    if reason is None:
        return None
    if record.header.ended_at:
        return moment(record.header.ended_at)
    deadlines = {
        EndReason.IDLE: record.header.idle_deadline,
        EndReason.ABSOLUTE: identity.absolute_deadline,
    }
    # Everybody was signed out at once by one write, which left no time in any record.
    return moment(deadlines[reason]) if reason in deadlines else None


def _require(visit: Visit) -> tuple[str, Record]:
    if visit.subject is None or visit.record is None:
        raise _nobody()
    return visit.subject, visit.record


def _nobody() -> StrongroomError:
    return SignInRequired(
        "Nobody is signed in.",
        why="There are no other sessions to speak of.",
        hint="Protect the route with require_sign_in.",
    )


def _ended(
    at: int, session_id: str, subject: str, reason: EndReason, by: str | None
) -> SessionEndedEvent:
    return SessionEndedEvent(
        at=at, session_id=session_id, subject=subject, reason=reason.value, by=by
    )
