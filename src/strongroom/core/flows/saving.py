"""Saving data: by changed keys, by compare-and-set on the data's version, merged and retried (P7).

A save never carries anything but data, so it never conflicts with a touch or a renewal (P8), and it
is conditional on a live record, so a late one brings nothing back (P6).
"""

from __future__ import annotations

from dataclasses import replace

from strongroom.core.circumstances import NOTHING_KNOWN
from strongroom.core.credentials import NEVER, create
from strongroom.core.data import Changes, Encoded, pack
from strongroom.core.errors import (
    SessionEnded,
    SessionTooLarge,
    StoreUnavailable,
    WriteConflict,
)
from strongroom.core.events import SessionCreated, SessionUseAfterExpire
from strongroom.core.ops import Find, Flow, Found, GiveWay, Insert, Inserted, Outcome, Replace
from strongroom.core.record import (
    EPOCH_BYTES,
    NO_EPOCH,
    NO_SUBJECT,
    AuthenticationEvent,
    Device,
    EndReason,
    Header,
    Identity,
    Kind,
    LoginLink,
    Record,
)
from strongroom.core.tokens import SECRET_BYTES, SESSION_ID_BYTES, Token, mint, successor
from strongroom.core.visit import Visit

_ATTEMPTS = 16
"""Tries against other writers of one session. Each lost try means that another one succeeded."""
_WITHOUT_PAUSE = 3
"""So many tries only line up for it with the other writers of this process. From then on, writers
of other processes must be in the way: each try comes after a random while as well."""
_FIRST_PAUSE, _LONGEST_PAUSE = 8, 256
"""Milliseconds: about a write on a slow disk, and what nobody waits for too often. The while is
drawn below a limit that doubles from one to the other, so that a crowd thins out by itself."""


def save(visit: Visit, *, strict: bool | None = None, explicit: bool = True) -> Flow[bool]:
    """Write what changed; True if anything was written.

    Raises:
        UnserialisableValue, SessionTooLarge: nothing was written.
        WriteConflict: another request changed the same key, and `strict` asked to be told.
        SessionEnded: only where the save is `explicit`. Else what a request wrote
            without a session that it could be kept in is gone with the request.
    """
    changes = visit.data.changes()
    if not changes:
        return False
    if strict is None:
        strict = visit.ctx.policy.conflicts == "strict"
    if visit.record is None:
        if explicit and visit.cookie_locked:
            raise _cannot_begin(visit)
        return (yield from _start_anonymous(visit, changes))
    written = yield from _write(visit, changes, strict=strict)
    if written or not explicit:
        return written
    raise SessionEnded(
        "The session ended while this request was running, so its changes were not saved.",
        why="A late write must never bring an ended session back.",
        hint="Treat the user as signed out.",
    )


def _write(visit: Visit, changes: Changes, *, strict: bool) -> Flow[bool]:
    ctx, record, token = visit.ctx, visit.record, visit.token
    assert token is not None  # noqa: S101 - `save` asked before
    for tried in range(_ATTEMPTS):
        if tried > 0 and record is not None:
            record = yield from _given_way(visit, record, tried)
        if record is None:
            break
        loaded = record.header.data_version == visit.data_version
        stored = visit.data.stored if loaded else ctx.open_data(record, token.root)
        contested = visit.data.contested(changes, stored)
        if contested and strict:
            _yield_to_others(visit, changes, stored, record)
            raise WriteConflict(
                f"Another request changed {', '.join(map(repr, contested))} in the meantime.",
                why="Saving now would undo what it did. Nothing was written.",
                hint="Read the session again, decide, and save again.",
            )
        merged = visit.data.merged(changes, stored)
        check_size(visit, merged, visit.kind)
        outcome: Outcome = yield Replace(
            record.session_id,
            ctx.fresh(),
            record.header.data_version,
            ctx.fresh(),
            ctx.seal_data(merged, record.session_id, token.root),
            ctx.keys.issuing,
        )
        record = outcome.record
        if record is not None and outcome.applied:
            visit.now_holds(record)
            visit.data.rebase(merged)
            visit.data_version = record.header.data_version
            return True
    if record is None:
        visit.note(SessionUseAfterExpire, reason="write_after_end")
        return False
    raise StoreUnavailable(
        f"The session could not be saved in {_ATTEMPTS} tries, because others kept writing it.",
        why="Nothing was written by this request.",
        hint="Keep what many requests write at once in a database, not in the session.",
    )


def _given_way(visit: Visit, record: Record, tried: int) -> Flow[Record | None]:
    """The record to try again on, after others had their turn; None once the session has ended."""
    pause = 0
    if tried >= _WITHOUT_PAUSE:
        window = min(_FIRST_PAUSE << (tried - _WITHOUT_PAUSE), _LONGEST_PAUSE)
        pause = 1 + int.from_bytes(visit.ctx.entropy(2), "big") % window
    waited: bool = yield GiveWay(record.session_id, pause)
    if not waited:
        return record
    found: Found | None = yield Find(record.session_id, authoritative=True)
    return found.record if found is not None and found.record.is_live else None


def _cannot_begin(visit: Visit) -> SessionEnded:
    """A cookie came that opens nothing, and must not be replaced by this response (P13, A4)."""
    refusal = visit.refusal
    reason = refusal.value if isinstance(refusal, EndReason) else refusal
    return SessionEnded(
        f"The cookie of this request opens no session ({reason or 'several at once'}), and none "
        "can begin here.",
        why="Another response may be setting a newer cookie at this moment. Nothing was saved.",
        hint="Treat the visitor as signed out; signing in still works.",
    )


def _yield_to_others(visit: Visit, changes: Changes, stored: Encoded, record: Record) -> None:
    """After a conflict the contested keys read as the others left them; the rest stays changed."""
    contested = visit.data.contested(changes, stored)
    visit.data.rebase(stored)
    for key, value in changes.items():
        if value is None and key not in contested:
            visit.data.pop(key, None)
    visit.now_holds(record)
    visit.data_version = record.header.data_version


def _start_anonymous(visit: Visit, changes: Changes) -> Flow[bool]:
    """An anonymous session is stored once it holds something, and not before (P24)."""
    values = {key: value for key, value in changes.items() if value is not None}
    if not values or visit.cookie_locked:
        return False
    yield from _insert_anonymous(visit, values)
    return True


def begin_anonymous(visit: Visit) -> Flow[None]:
    """Store an anonymous session now, empty or not, because the application asked for its id.

    Raises:
        SessionEnded: the request came with a cookie that must not be replaced (P13, A4).
        SessionReadOnly: no session can begin here.
    """
    if visit.cookie_locked:
        raise _cannot_begin(visit)
    visit.check_may_write()
    values = {key: value for key, value in visit.data.changes().items() if value is not None}
    yield from _insert_anonymous(visit, values)


def cycle_anonymous(visit: Visit) -> Flow[None]:
    """Give an anonymous session another id and token, with the data that it has now.

    The old one ends when the response starts, and its absolute deadline goes on counting.
    """
    old, identity = visit.record, visit.identity
    assert old is not None and identity is not None  # noqa: S101 - the caller asked before
    values = visit.data.selected(tuple(visit.data))
    yield from _insert_anonymous(visit, values, identity.absolute_deadline)
    visit.superseded.append(old.session_id)


def _insert_anonymous(visit: Visit, values: Encoded, deadline: int | None = None) -> Flow[None]:
    check_size(visit, values, Kind.ANONYMOUS)
    record, identity, token = new_record(visit, Kind.ANONYMOUS, values=values, deadline=deadline)
    inserted: Inserted = yield Insert(record, visit.ctx.now())
    adopt_new(visit, inserted.record or record, identity, token)
    visit.note(SessionCreated, kind=Kind.ANONYMOUS.name.lower())


def new_record(
    visit: Visit,
    kind: Kind,
    *,
    values: Encoded | None = None,
    subject: str | None = None,
    events: tuple[AuthenticationEvent, ...] = (),
    epoch: bytes = NO_EPOCH,
    store_epoch: bytes = NO_EPOCH,
    deadline: int | None = None,
    linked_to: bytes | None = None,
    lowered: bool = False,
    login: LoginLink | None = None,
    token: Token | None = None,
    closed_at: int = NEVER,
) -> tuple[Record, Identity, Token]:
    """A new session: new id, root and secret, both clocks at their beginning (P10, E7).

    With `token`, its id and secrets are given: they were derived (D6).
    """
    ctx = visit.ctx
    now = ctx.now()
    idle, absolute = ctx.clocks.lifetimes(kind)
    token = token or _new_token(visit, subject)
    session_id = token.session_id
    circumstances = NOTHING_KNOWN
    if subject is not None:
        circumstances = replace(visit.circumstances(), lowered=lowered)
    identity = Identity(
        kind=kind,
        created_at=now,
        absolute_deadline=min(now + absolute, deadline or now + absolute),
        subject=subject,
        events=events,
        device=visit.device() if subject is not None else Device(),
        address=visit.address if subject is not None else None,
        place=circumstances.place.label or None,
        epoch=epoch,
        linked_to=linked_to,
        circumstances=circumstances,
        login=login,
        closed_at=closed_at,
        device_id="" if subject is None else visit.device_reference(subject),
    )
    idle_deadline = min(now + idle, identity.absolute_deadline)
    header = Header(
        kind=kind,
        credential=create(token, successor(ctx.keys.tokens, token, ctx.keys.issuing), now),
        revision=ctx.fresh(),
        data_version=ctx.entropy(EPOCH_BYTES),
        store_epoch=store_epoch,
        envelope_key_id=ctx.keys.issuing,
        data_key_id=ctx.keys.issuing,
        inserted_at=now,
        last_seen=now,
        idle_deadline=idle_deadline,
        purge_at=ctx.clocks.purge_at(kind, idle_deadline),
        format=ctx.policy.record_format,
    )
    record = Record(
        session_id=session_id,
        subject_key=NO_SUBJECT if subject is None else ctx.keys.subject_key(subject),
        header=header,
        envelope=ctx.seal_identity(identity, session_id),
        data=ctx.seal_data(values or {}, session_id, token.root),
    )
    return record, identity, token


def _new_token(visit: Visit, subject: str | None) -> Token:
    ctx = visit.ctx
    return mint(
        ctx.keys.tokens,
        key_id=ctx.keys.issuing,
        session_id=ctx.keys.session_id(subject, ctx.entropy(SESSION_ID_BYTES)),
        root=ctx.entropy(SECRET_BYTES),
        secret=ctx.entropy(SECRET_BYTES),
    )


def adopt_new(visit: Visit, record: Record, identity: Identity, token: Token) -> None:
    """From here on the request is in this new session, whose cookie the response hands out."""
    visit.enter(record, identity, token)
    visit.verdict = None
    visit.issue = token


def check_size(visit: Visit, values: Encoded, kind: Kind) -> None:
    """Refuse more data than the policy allows, before anything is written (P24)."""
    policy = visit.ctx.policy
    limit = policy.max_anonymous_data if kind is Kind.ANONYMOUS else policy.max_data
    size = len(pack(visit.ctx.codec, values))
    if size > limit:
        raise SessionTooLarge(
            f"The session's data is {size} bytes, and the policy allows {limit}.",
            why="Every request would carry it from the store. Nothing was written.",
            hint="Keep large things in a database and their ids in the session, "
            "or raise max_data (max_anonymous_data before sign-in).",
        )
