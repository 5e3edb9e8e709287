"""A persistent login opens a session (PROTOCOL D6).

It is looked at only where the request has no session, and it is used only by opening one: then its
token is renewed, and both cookies leave in one response. The session is derived from the token that
is handed out, so racers, retries and restored tabs share it, and whoever lost the response gets the
same pair again. The successor counts as confirmed when the session that came with it is.

Before the session is entered the login is read once more: whatever ended it in the meantime ends
the session too, or finds it in the subject's list (see `forgetting`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from strongroom.core.credentials import (
    NEVER,
    ChangedBy,
    Credential,
    Verdict,
    confirmed,
    first_used,
    handed_out_again,
    renewed,
)
from strongroom.core.csrf_rules import matches
from strongroom.core.devices import looks_alike
from strongroom.core.events import (
    CookieTossing,
    ExcessSessions,
    GenerationsUsedUp,
    RecordUnreadable,
    RememberedLoginUsed,
    SessionCreated,
    SessionEndedEvent,
    TokenRefused,
    TokenReuse,
    TwoPlaces,
)
from strongroom.core.exchange import RequestFacts
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
    ReadEpoch,
    Replace,
    Rotate,
    Shift,
)
from strongroom.core.record import EndReason, Identity, Kind, LoginLink, Record
from strongroom.core.remembered import following, session_with
from strongroom.core.tokens import MAX_RENEWAL, Token, renewal_of, successor
from strongroom.core.visit import Visit

from .forgetting import end_login, end_logins_of, login_ended
from .saving import adopt_new, new_record

_ATTEMPTS = 8
"""Tries against others that use the same login. Each lost try means that another one succeeded."""
_RUN_OUT = (EndReason.IDLE, EndReason.ABSOLUTE)


def may_reopen(visit: Visit) -> bool:
    """Whether a persistent login may open a session in this request.

    Not where the new cookies might not be kept, nor where another response may be setting newer
    ones (F1, F2), nor by a script that polls (E8). A session that merely ran out is no obstacle.
    """
    if visit.record is not None or visit.excluded or visit.tossed:
        return False
    if visit.cookie_locked and visit.refusal not in _RUN_OUT:
        return False
    if not visit.logins.some:  # almost always, and cheaper to see than all that follows
        return False
    facts = visit.facts
    if not reaches_jar(facts) or visit.cookie_may_be_at_home:
        return False
    if facts.fetch_site == "cross-site" and not facts.is_navigation:
        return False
    return not matches(facts.path, visit.ctx.policy.routes.passive)


def reaches_jar(facts: RequestFacts) -> bool:
    """Whether a cookie on this response is sure to be kept by the browser (D1)."""
    if facts.websocket or facts.is_prefetch:
        return False
    mode = facts.header(b"sec-fetch-mode")
    return facts.fetch_site != "cross-site" or mode in (None, "navigate")


def reopen(visit: Visit) -> Flow[None]:
    """Open a session by the persistent login that the request presents, if it still may."""
    presented = visit.logins
    if presented.unknown_key:
        visit.cookie_locked = True  # Another process may know the key (A4).
        return
    if len(presented.tokens) > 1:
        visit.note(CookieTossing, session_id=None, subject=None, count=len(presented.tokens))
        visit.tossed = visit.cookie_locked = True
        return
    if not presented.tokens:
        visit.login.dead = True
        visit.note(TokenRefused, session_id=None, subject=None, reason="persistent_login_forged")
        return
    for _ in range(_ATTEMPTS):
        if (yield from _use(visit, presented.tokens[0])):
            return
    _refuse(visit, "busy")


@dataclass(frozen=True, slots=True)
class _Login:
    """A live persistent login as it was read: whose it is, and what the presented token means."""

    record: Record
    identity: Identity
    subject: str
    verdict: Verdict

    @property
    def login_id(self) -> str:
        """Its public id."""
        return self.record.session_id.hex()


def _use(visit: Visit, token: Token) -> Flow[bool]:
    """One try. False where somebody else changed the login first: look again."""
    found: Found | None = yield Find(token.session_id, authoritative=True)
    login = yield from _alive(visit, token, found)
    if login is None:
        return True
    match login.verdict:
        case Verdict.CURRENT if not _is_settling(visit, login.record):
            return (yield from _renew(visit, login, token))
        case Verdict.CURRENT:
            # It came back at once, without the session that came with it: the same pair again.
            yield from _open(visit, login, token)
        case Verdict.ADOPT:
            return (yield from _adopt(visit, login, token))
        case Verdict.SUCCESSOR:
            yield from _again(visit, login, token)
        case Verdict.OVERLAP:
            handed = _handed_out(visit, login, token)
            yield from _open(visit, login, handed, with_cookies=False)
        case Verdict.REUSE_RECENT | Verdict.REUSE_STALE:
            yield from _reuse(visit, login)
        case verdict:
            _refuse(visit, verdict.value, quiet=verdict is Verdict.QUIET)
    return True


def _alive(visit: Visit, token: Token, found: Found | None) -> Flow[_Login | None]:
    """The login, if it lives. An end that is noticed here is written down (E6)."""
    ctx, now = visit.ctx, visit.opened_at
    if found is None:
        visit.login.dead = True
        visit.note(TokenRefused, session_id=None, subject=None, reason="persistent_login_unknown")
        return None
    try:
        identity = ctx.open_identity(found.record)
    except Exception as error:
        visit.note(RecordUnreadable, session_id=None, reason=type(error).__name__)
        raise
    if identity is not None and (
        identity.kind is not Kind.PERSISTENT
        or identity.subject is None
        or found.record.subject_key != ctx.keys.subject_key(identity.subject)
    ):
        _refuse(visit, "not_a_login")
        return None
    header = found.record.header
    reason = (
        EndReason.POLICY if identity is None else ctx.over(header, identity, now, found.store_epoch)
    )
    if identity is not None and identity.subject is not None and reason is None:
        verdict = ctx.judge(header.credential, token, now)
        return _Login(found.record, identity, identity.subject, verdict)
    if header.is_live:
        why, purge_at = reason or EndReason.POLICY, ctx.clocks.purge_at(Kind.PERSISTENT, now)
        outcome: Outcome = yield End(token.session_id, ctx.fresh(), why, now, purge_at)
        if outcome.applied and identity is not None and identity.subject is not None:
            visit.events.append(login_ended(now, token.session_id, identity.subject, why, None))
    # Within grace of its end another response may just be setting a newer cookie (F1).
    visit.login.dead = not header.is_live and now >= header.ended_at + ctx.clocks.grace
    return None


def _is_settling(visit: Visit, record: Record) -> bool:
    """Whether the current token was handed out so recently that the jar on the client's disk may
    still hold the one before: another renewal now would make that one look like theft (D1)."""
    credential = record.header.credential
    if credential.changed_by is not ChangedBy.RENEWAL or credential.confirmed_at != NEVER:
        return False
    return visit.opened_at < credential.changed_at + visit.ctx.clocks.settle


def _renew(visit: Visit, login: _Login, token: Token) -> Flow[bool]:
    """The usual case: the login's next token takes over, and comes with a new session."""
    ctx, credential = visit.ctx, login.record.header.credential
    handed = successor(ctx.keys.tokens, token, credential.next_key_id)
    if handed is None or handed.digest != credential.next:
        if renewal_of(credential.generation) == MAX_RENEWAL:
            visit.note(GenerationsUsedUp, session_id=None, subject=login.subject)
        _refuse(visit, "used_up")
        return True
    after = successor(ctx.keys.tokens, handed, ctx.keys.issuing)
    changed = renewed(credential, handed, after, ctx.now())
    record = yield from _moved(visit, login, changed)
    if record is None:
        return False
    yield from _open(visit, replace(login, record=record), handed)
    return True


def _adopt(visit: Visit, login: _Login, token: Token) -> Flow[bool]:
    """The store lost an acknowledged use of the login: what the client holds counts (D1)."""
    ctx = visit.ctx
    after = successor(ctx.keys.tokens, token, ctx.keys.issuing)
    changed = renewed(login.record.header.credential, token, after, ctx.now())
    record = yield from _moved(visit, login, changed)
    if record is None:
        return False
    yield from _open(visit, replace(login, record=record), token)
    return True


def _moved(visit: Visit, login: _Login, credential: Credential) -> Flow[Record | None]:
    """Write the use: the credential, and where it was used, under the issuing key. None where
    somebody else was first."""
    ctx, identity = visit.ctx, login.identity
    named = visit.device_reference(login.subject) or identity.device_id
    used = replace(identity, device=visit.device(), address=visit.address, device_id=named)
    outcome: Outcome = yield Rotate(
        login.record.session_id,
        ctx.fresh(),
        login.record.header.credential.current,
        credential,
        Kind.PERSISTENT,
        ctx.seal_identity(used, login.record.session_id),
        ctx.keys.issuing,
        visit.opened_at,
        identity.absolute_deadline,
        ctx.clocks.purge_at(Kind.PERSISTENT, identity.absolute_deadline),
    )
    return outcome.record if outcome.applied else None


def _again(visit: Visit, login: _Login, token: Token) -> Flow[None]:
    """The client lost the response: the same successor, and the session that came with it."""
    handed = _handed_out(visit, login, token)
    if handed is not None and not looks_alike(login.identity.device, visit.device()):
        visit.note(TwoPlaces, session_id=None, subject=login.subject)
    yield from _open(visit, login, handed)


def _handed_out(visit: Visit, login: _Login, token: Token) -> Token | None:
    current = login.record.header.credential.current
    return following(visit.ctx.keys.tokens, token, current)


def _open(
    visit: Visit, login: _Login, handed: Token | None, *, with_cookies: bool = True
) -> Flow[None]:
    """Insert the session that comes with this token, or find it there, and enter it."""
    if handed is None:
        _refuse(visit, "key_gone")
        return
    ctx, record = visit.ctx, login.record
    epochs: Epochs = yield ReadEpoch(record.subject_key)
    for _ in range(_ATTEMPTS):
        token = session_with(ctx.keys, handed, record.header.data_version, login.subject)
        made = _session(visit, login, handed, token, epochs)
        stored, identity = yield from _insert(visit, login, made, epochs)
        if stored is None:
            return
        if ctx.over(stored.header, identity, ctx.now(), epochs.store) is None:
            yield from _enter(visit, login, stored, identity, token, handed, with_cookies)
            return
        # The session that came with this token is over. Another salt gives another one (P6).
        salted = yield from _salted(visit, record)
        if salted is None:
            _refuse(visit, "ended")
            return
        record = salted
    _refuse(visit, "busy")


def _session(
    visit: Visit, login: _Login, handed: Token, token: Token, epochs: Epochs
) -> tuple[Record, Identity]:
    record, identity, _token = new_record(
        visit,
        Kind.REMEMBERED,
        subject=login.subject,
        events=login.identity.events,
        epoch=epochs.subject,
        store_epoch=login.record.header.store_epoch,
        deadline=login.identity.absolute_deadline,
        login=LoginLink(login.record.session_id, handed.generation),
        token=token,
    )
    return record, identity


def _insert(
    visit: Visit, login: _Login, made: tuple[Record, Identity], epochs: Epochs
) -> Flow[tuple[Record | None, Identity]]:
    """The record as it is stored, be it ours or a racer's; None where it was refused."""
    ctx, now = visit.ctx, visit.ctx.now()
    record, identity = made
    purge_at = ctx.clocks.purge_at(Kind.REMEMBERED, now)
    inserted: Inserted = yield Insert(record, now, epochs.subject, ctx.policy.limit, purge_at)
    if inserted.refusal is InsertRefusal.EXISTS and inserted.record is not None:
        known = ctx.open_identity(inserted.record)
        return inserted.record, identity if known is None else known
    if inserted.refusal is InsertRefusal.LIMIT:
        maximum = ctx.policy.max_sessions
        visit.note(ExcessSessions, session_id=None, subject=login.subject, maximum=maximum)
        _refuse(visit, "too_many_sessions", quiet=True)
        return None, identity
    if inserted.record is None or inserted.refusal is not None:
        _refuse(visit, "overtaken")
        return None, identity
    visit.note(
        SessionCreated, session_id=record.session_id.hex(), subject=login.subject, kind="remembered"
    )
    yield from told_of_evicted(visit, login.subject, inserted.evicted)
    return inserted.record, identity


def told_of_evicted(visit: Visit, subject: str, evicted: tuple[Record, ...]) -> Flow[None]:
    """Say which sessions gave way; their logins end too, or each would evict the other in turn."""
    if not evicted:
        return
    maximum = visit.ctx.policy.max_sessions
    visit.note(
        ExcessSessions, session_id=None, subject=subject, maximum=maximum, evicted=len(evicted)
    )
    for each in evicted:
        visit.note(
            SessionEndedEvent,
            session_id=each.session_id.hex(),
            subject=subject,
            reason=EndReason.EVICTED.value,
        )
    visit.events += yield from end_logins_of(visit.ctx, evicted, EndReason.EVICTED)


def _salted(visit: Visit, record: Record) -> Flow[Record | None]:
    """The login with another salt: ours, or the one that a racer wrote. None where it ended."""
    ctx = visit.ctx
    outcome: Outcome = yield Replace(
        record.session_id,
        ctx.fresh(),
        record.header.data_version,
        ctx.fresh(),
        record.data,
        record.header.data_key_id,
    )
    return outcome.record


def _enter(
    visit: Visit,
    login: _Login,
    stored: Record,
    identity: Identity,
    token: Token,
    handed: Token,
    with_cookies: bool,
) -> Flow[None]:
    """Enter the session, unless the login has ended in the meantime, or the session moved on."""
    ctx = visit.ctx
    again: Found | None = yield Find(login.record.session_id, authoritative=True)
    if again is None or not again.record.is_live:
        reason = EndReason.LOGOUT if again is None else again.record.header.end_reason
        now = ctx.now()
        purge_at = ctx.clocks.purge_at(Kind.REMEMBERED, now)
        yield End(stored.session_id, ctx.fresh(), reason or EndReason.LOGOUT, now, purge_at)
        _refuse(visit, "ended", quiet=True)
        return
    if stored.header.credential.current != token.digest:
        _refuse(visit, "session_moved_on", quiet=True)
        return
    if with_cookies:
        stored = yield from _settle_anew(visit, stored)
        adopt_new(visit, stored, identity, token)
        visit.login.issue, visit.login.lasts_until = handed, login.identity.absolute_deadline
        visit.cookie_locked = False
    else:
        visit.enter(stored, identity, token)
        visit.verdict = Verdict.OVERLAP
    visit.clear_cookie = False
    visit.refusal = None
    visit.note(RememberedLoginUsed, login_id=login.login_id)


def _settle_anew(visit: Visit, stored: Record) -> Flow[Record]:
    """A session that was used and is handed out again was lost with the login's token (D1)."""
    ctx, credential = visit.ctx, stored.header.credential
    noted = handed_out_again(credential, ctx.now(), ctx.clocks.settle)
    if noted == credential:
        return stored
    outcome: Outcome = yield Shift(stored.session_id, ctx.fresh(), credential.current, noted)
    return outcome.record or stored


def confirm_login(visit: Visit, link: LoginLink) -> Flow[None]:
    """The session is safe in the client's jar, and with it the login's token that it came with."""
    ctx = visit.ctx
    found: Found | None = yield Find(link.login_id, authoritative=True)
    if found is None or not found.record.is_live:
        return
    credential, now = found.record.header.credential, ctx.now()
    if credential.generation == link.generation and credential.confirmed_at == NEVER:
        changed = confirmed(first_used(credential, now), now)
        yield Shift(link.login_id, ctx.fresh(), credential.current, changed)


def login_to_hand_out(visit: Visit) -> Flow[Token | None]:
    """The login's token for this response, if the login agrees at this moment (F1)."""
    token = visit.login.issue
    if token is None or not reaches_jar(visit.facts):
        return None
    found: Found | None = yield Find(token.session_id, authoritative=True)
    if found is None or not found.record.is_live:
        return None
    return token if found.record.header.credential.current == token.digest else None


def _reuse(visit: Visit, login: _Login) -> Flow[None]:
    """A retired token that no honest browser presents: the whole family ends (P12, D3)."""
    facts = visit.facts
    visit.cookie_locked = True
    visit.refusal = login.verdict.value
    spare = facts.has_body or matches(facts.path, visit.ctx.policy.routes.slow)
    if not spare:
        visit.events += yield from end_login(
            visit.ctx, login.subject, login.record.session_id, reason=EndReason.REUSE
        )
    visit.note(
        TokenReuse,
        session_id=None,
        subject=login.subject,
        how=login.verdict.value,
        ended=not spare,
        login_id=login.login_id,
    )


def _refuse(visit: Visit, reason: str, *, quiet: bool = False) -> None:
    """Nobody is signed in, and no cookie is touched."""
    visit.cookie_locked = True
    if visit.refusal is None:
        visit.refusal = reason
    if not quiet:
        visit.note(TokenRefused, session_id=None, subject=None, reason=f"persistent_login_{reason}")
