"""Which session a request is in, if any (PROTOCOL D, F3, H2).

Nothing that we did not issue reaches the store. Anything but a plain "current" is read again from
the primary before it acts. What is refused leaves the request anonymous; most refusals also lock
the cookie, because a response must not replace a cookie that it has not understood (P13).
"""

from __future__ import annotations

from typing import NamedTuple

from strongroom.core.cookies import SAME_NAME_LIMIT, find_cookies
from strongroom.core.credentials import CURRENT, Verdict, first_used, renewed
from strongroom.core.csrf_rules import matches, may_match
from strongroom.core.devices import looks_alike
from strongroom.core.events import (
    CookieTossing,
    RecordUnreadable,
    SessionEndedEvent,
    SessionExpired,
    SessionRenewed,
    SessionUseAfterExpire,
    TokenRefused,
    TokenReuse,
    TwoPlaces,
)
from strongroom.core.exchange import RequestFacts
from strongroom.core.ops import End, Find, Flow, Found, Outcome, Shift
from strongroom.core.record import EndReason, Identity, Kind
from strongroom.core.tokens import Token, TokenRefusal, successor
from strongroom.core.visit import Context, Visit

from .forgetting import end_login
from .remembering import may_reopen, reopen
from .signalling import assess_use, ends_here

MAX_TOKENS = 4
"""Cookies of our name that pass the tag and are looked up (F3)."""
MAX_CANDIDATES = SAME_NAME_LIMIT
"""Cookies of our name whose tag is checked, a microsecond each: far more than a browser has unless
somebody plants them."""
_ATTEMPTS = 4


def candidates(visit: Visit) -> list[Token]:
    """The tokens that the request presents: at most four, one for each session, newest wins."""
    ctx = visit.ctx
    presented = find_cookies(visit.facts.cookies, ctx.cookie.wire_name)
    if not presented:
        return []
    if len(presented) == 1:
        return _only(visit, presented[0])
    different = list(dict.fromkeys(presented))
    newest: dict[bytes, Token] = {}
    for value in different:
        token = ctx.verified.parse(value)
        if isinstance(token, TokenRefusal):
            _refuse_string(visit, token)
            continue
        known = newest.get(token.session_id)
        if known is None or token.generation > known.generation:
            newest[token.session_id] = token
    if len(presented) >= MAX_CANDIDATES or len(newest) > MAX_TOKENS:
        # Looking at the first few would let whoever plants the cookies choose among them.
        _toss(visit, len(different))
        return []
    return list(newest.values())


def _only(visit: Visit, presented: bytes) -> list[Token]:
    """What the usual request presents: one cookie, and nothing to choose between."""
    token = visit.ctx.verified.parse(presented)
    if isinstance(token, Token):
        return [token]
    _refuse_string(visit, token)
    return []


def asks_store(visit: Visit) -> bool:
    """Whether the request must begin with the store's own word: it may change something, it opens
    a socket, which lives long, or its route is named sensitive."""
    facts = visit.facts
    return not facts.is_safe or may_match(facts.path, facts.root, visit.ctx.policy.routes.sensitive)


def admit(visit: Visit, token: Token, found: Found | None) -> bool:
    """The hot path: a current token of a live session. False means that the flow must decide."""
    if found is None:
        return False
    seen = _assess(visit, token, found)
    if seen.over is not None or seen.verdict is not CURRENT or seen.identity is None:
        return False
    if not seen.identity.kind.is_session:
        return False
    visit.enter(found.record, seen.identity, token)
    visit.verified = found.authoritative
    visit.verdict = CURRENT
    # What changes something is looked at before it does; what reads, when it is due for a touch.
    return visit.facts.is_safe or not ends_here(visit)


def open_visit(ctx: Context, facts: RequestFacts) -> Flow[Visit]:
    """Begin a request: find its session, judge it, and write down an end that is noticed (E6)."""
    visit = Visit(ctx, facts)
    yield from enter_session(visit, candidates(visit))
    return visit


def enter_session(visit: Visit, tokens: list[Token]) -> Flow[None]:
    """Look the tokens up. One valid session is entered; several are cookie tossing (P21)."""
    entered: list[bytes] = []
    for token in tokens:
        if (yield from _look_up(visit, token)):
            entered.append(token.session_id)
    if len(entered) > 1:
        _toss(visit, len(entered))
    elif not entered and may_reopen(visit):
        yield from reopen(visit)


def _toss(visit: Visit, count: int) -> None:
    """Somebody planted cookies: the request is anonymous and writes nothing (F3)."""
    visit.note(CookieTossing, session_id=None, subject=None, count=count)
    visit.leave()
    visit.tossed = visit.cookie_locked = True


class _Assessment(NamedTuple):
    identity: Identity | None
    over: EndReason | None
    verdict: Verdict


def _assess(visit: Visit, token: Token, found: Found) -> _Assessment:
    """What the record and the token come to at this moment. Pure, but for reporting damage."""
    ctx, record = visit.ctx, found.record
    try:
        identity = ctx.open_identity(record)
    except Exception as error:
        visit.note(RecordUnreadable, session_id=token.session_id.hex(), reason=type(error).__name__)
        raise
    data_is_lost = record.data != b"" and record.header.data_key_id in ctx.keys.retired
    over = (
        EndReason.POLICY  # Its key was retired, and everything issued under that with it (A1).
        if identity is None or data_is_lost
        else ctx.over(record.header, identity, visit.opened_at, found.store_epoch)
    )
    verdict = ctx.judge(record.header.credential, token, visit.opened_at)
    return _Assessment(identity, over, verdict)


def _look_up(visit: Visit, token: Token) -> Flow[bool]:
    """Whether this token opens a session; if so the visit has entered it."""
    found: Found | None = yield Find(token.session_id, asks_store(visit))
    if admit(visit, token, found):
        return True
    if found is None or not found.authoritative:
        found = yield Find(token.session_id, authoritative=True)
    if found is None:
        visit.refusal = "unknown"
        visit.clear_cookie = visit.facts.is_navigation
        visit.note(
            SessionUseAfterExpire, session_id=token.session_id.hex(), reason="unknown_session"
        )
        return False
    return (yield from decide(visit, token, found))


def decide(visit: Visit, token: Token, found: Found) -> Flow[bool]:
    """Act on what an authoritative read says (PROTOCOL, table D)."""
    for _ in range(_ATTEMPTS):
        seen = _assess(visit, token, found)
        if seen.over is not None or seen.identity is None:
            yield from _over(visit, token, found, seen)
            return False
        if not seen.identity.kind.is_session:
            visit.cookie_locked = True
            return False
        match seen.verdict:
            case Verdict.CURRENT | Verdict.OVERLAP | Verdict.SUCCESSOR:
                visit.enter(found.record, seen.identity, token)
                visit.verdict = seen.verdict
                if seen.verdict is Verdict.SUCCESSOR:
                    _look_for_two_places(visit, seen.identity)
                if not visit.facts.is_safe:
                    yield from assess_use(visit)
                return visit.record is not None
            case Verdict.ADOPT:
                outcome: Outcome = yield _adoption(visit, token, found)
                if outcome.applied and outcome.record is not None:
                    visit.enter(outcome.record, seen.identity, token)
                    visit.verdict = Verdict.CURRENT
                    visit.note(SessionRenewed, how="adopted")
                    return True
                # Somebody else moved the record between our read and our write: look again.
                again: Found | None = yield Find(token.session_id, authoritative=True)
                if again is None:
                    return False
                found = again
            case Verdict.REUSE_RECENT | Verdict.REUSE_STALE:
                yield from _reuse(visit, token, seen)
                return False
            case _:
                _refuse(visit, token, seen)
                return False
    visit.cookie_locked = True
    return False


def _adoption(visit: Visit, token: Token, found: Found) -> Shift:
    """The store lost an acknowledged renewal: what the client holds counts, as first used (D1)."""
    ctx, credential = visit.ctx, found.record.header.credential
    following = successor(ctx.keys.tokens, token, ctx.keys.issuing)
    adopted = first_used(renewed(credential, token, following, visit.opened_at), visit.opened_at)
    return Shift(token.session_id, ctx.fresh(), credential.current, adopted)


def _over(visit: Visit, token: Token, found: Found, seen: _Assessment) -> Flow[None]:
    """The session has ended. An end that is noticed here is written before it is answered (E6)."""
    ctx, header, now = visit.ctx, found.record.header, visit.opened_at
    reason = seen.over or EndReason.POLICY
    subject = None if seen.identity is None else seen.identity.subject
    about = {"session_id": token.session_id.hex(), "subject": subject}
    if header.is_live:
        outcome: Outcome = yield End(
            token.session_id,
            ctx.fresh(),
            reason,
            now,
            ctx.clocks.purge_at(header.kind, now),
        )
        ended_at = now
        if outcome.applied:
            expired = reason in (EndReason.IDLE, EndReason.ABSOLUTE)
            kind = SessionExpired if expired else SessionEndedEvent
            visit.note(kind, **about, reason=reason.value)
    else:
        ended_at = header.ended_at
        visit.note(SessionUseAfterExpire, **about, reason=reason.value)
    visit.refusal = reason
    _settle_cookie(visit, long_ago=_long_over(visit, header.idle_deadline, ended_at))


def _long_over(visit: Visit, idle_deadline: int, ended_at: int) -> bool:
    """Whether no honest request of that session can still be under way.

    Nobody has used it since its idle deadline, whatever it is that is noticed only now.
    """
    return visit.opened_at >= min(idle_deadline, ended_at) + visit.ctx.clocks.grace


def _settle_cookie(visit: Visit, *, long_ago: bool) -> None:
    """Within grace of an end another response may just be setting a newer cookie (F1)."""
    if long_ago:
        visit.clear_cookie = visit.facts.is_navigation
    else:
        visit.cookie_locked = True


def _reuse(visit: Visit, token: Token, seen: _Assessment) -> Flow[None]:
    """A retired token that no honest browser would present: the session ends (P12, D3).

    A request with a body may have been under way for long, so it is refused and reported, and the
    next request without one decides.
    """
    ctx, facts, now = visit.ctx, visit.facts, visit.opened_at
    spare = facts.has_body or matches(facts.path, ctx.policy.routes.slow)
    visit.cookie_locked = True
    visit.refusal = seen.verdict.value
    ended = False
    login_id = None
    if not spare:
        login_id = yield from _end_what_could_bring_it_back(visit, token, seen.identity)
        outcome: Outcome = yield End(
            token.session_id,
            ctx.fresh(),
            EndReason.REUSE,
            now,
            ctx.clocks.purge_at(seen.identity.kind if seen.identity else Kind.ANONYMOUS, now),
        )
        ended = outcome.applied
    visit.note(
        TokenReuse,
        session_id=token.session_id.hex(),
        subject=None if seen.identity is None else seen.identity.subject,
        how=seen.verdict.value,
        ended=ended,
        login_id=login_id,
    )


def _end_what_could_bring_it_back(
    visit: Visit, token: Token, identity: Identity | None
) -> Flow[str | None]:
    """The persistent login that the session came from, and the others that did (D3)."""
    if identity is None or identity.login is None or identity.subject is None:
        return None
    visit.events += yield from end_login(
        visit.ctx,
        identity.subject,
        identity.login.login_id,
        reason=EndReason.REUSE,
        but=token.session_id,
    )
    return identity.login.login_id.hex()


def _refuse(visit: Visit, token: Token, seen: _Assessment) -> None:
    """Not signed in, no cookie touched; an alarm only where an honest browser would not do it."""
    visit.refusal = seen.verdict.value
    visit.cookie_locked = True
    if seen.verdict in (Verdict.QUIET, Verdict.ROTATED_AWAY):
        visit.orphan = token
    if seen.verdict is not Verdict.QUIET:
        visit.note(
            TokenRefused,
            session_id=token.session_id.hex(),
            subject=None if seen.identity is None else seen.identity.subject,
            reason=seen.verdict.value,
        )


def _refuse_string(visit: Visit, refusal: TokenRefusal) -> None:
    """Not a token of ours: never adopted, and no store was asked (P2)."""
    if refusal is TokenRefusal.UNKNOWN_KEY:
        # Another process may know the key that this one does not know yet (A4).
        visit.cookie_locked = True
    if visit.refusal is None:
        visit.refusal = refusal.name.lower()
        visit.note(TokenRefused, session_id=None, subject=None, reason=refusal.name.lower())


def _look_for_two_places(visit: Visit, identity: Identity) -> None:
    if identity.kind.is_signed_in and not looks_alike(identity.device, visit.device()):
        visit.note(TwoPlaces)
