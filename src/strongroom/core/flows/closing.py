"""What the response's start decides: one save, activity, renewal, and at most one session cookie.

Everything about cookies is decided here, against the record as it is now, never on the view from
the request's beginning (F1). A request that changed nothing sets no cookie (P13).
"""

from __future__ import annotations

from strongroom.core.cookies import clear_site_data
from strongroom.core.credentials import (
    CURRENT,
    NEVER,
    ChangedBy,
    Credential,
    Verdict,
    confirmation_due,
    confirmed,
    first_used,
    handed_out_again,
    renewal_allowed,
    renewed,
)
from strongroom.core.csrf_rules import matches
from strongroom.core.events import GenerationsUsedUp, SessionEndedEvent, SessionRenewed
from strongroom.core.exchange import ResponseEdits
from strongroom.core.known_devices import DeviceMark, device_cookie
from strongroom.core.ops import Find, Flow, Found, Outcome, Replace, Rotate, Shift, Touch
from strongroom.core.record import EndReason, Kind, Record
from strongroom.core.tokens import MAX_RENEWAL, Token, renewal_of, successor
from strongroom.core.visit import Visit

from .remembering import confirm_login, login_to_hand_out, reaches_jar
from .saving import save
from .signalling import assess_use
from .signing import end_new, end_superseded

_SERVER_ERROR = 500
_RENEWAL = ChangedBy.RENEWAL
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_QUIET = (None, Verdict.CURRENT, Verdict.OVERLAP)
"""Verdicts that hand out no token."""


def close_visit(visit: Visit, status: int = 200) -> Flow[ResponseEdits]:
    """At the response's start: commit, and say what the response must carry.

    A response of 500 and above did not work: what it put into the session is not saved, and a
    session that it signed in ends again (P14). What was ended stays ended.

    Raises:
        StoreError, UsageError: nothing of the data was saved; answer 503 or 500.
    """
    if status >= _SERVER_ERROR:
        yield from abort(visit)
        visit.data.forget()
    else:
        yield from _end_stray(visit)
        yield from assess_use(visit)
        yield from save(visit, explicit=False)
        yield from end_superseded(visit)
        yield from _keep_alive(visit)
        if visit.issue is not None:
            yield from _reseal(visit)
    edits = yield from _edits(visit, status)
    visit.aborts = None
    visit.response_started = True
    return edits


def commit(visit: Visit) -> Flow[bool]:
    """Outside of any request: keep what was done, as a response that worked would.

    Raises:
        StoreError, UsageError, SessionEnded: nothing of the data was saved.
    """
    yield from _end_stray(visit)
    written = yield from save(visit)
    yield from end_superseded(visit)
    visit.aborts = visit.issue = None
    return written


def abort(visit: Visit) -> Flow[None]:
    """The response failed before it started: a session that it signed in never was (E1)."""
    visit.superseded = []
    if visit.aborts is None:
        return
    yield from _end_aborted(visit, visit.aborts)
    visit.leave()
    visit.cookie_locked = True
    if visit.device_mark is not None:
        visit.device_mark.issue = False


def _end_stray(visit: Visit) -> Flow[None]:
    """A sign-in was cancelled half-way, and the request went on: nobody ever gets its token."""
    made, record = visit.aborts, visit.record
    if made is not None and (record is None or record.session_id != made.session_id):
        yield from _end_aborted(visit, made)


def _end_aborted(visit: Visit, aborted: Record) -> Flow[None]:
    visit.aborts = None
    # A sign-in that was cancelled half-way is not the session that the visit is in.
    identity = visit.ctx.open_identity(aborted)
    outcome = yield from end_new(visit, aborted)
    if outcome.applied:
        visit.note(
            SessionEndedEvent,
            session_id=aborted.session_id.hex(),
            subject=None if identity is None else identity.subject,
            reason=EndReason.ABORTED.value,
        )


def needs_writing(visit: Visit, status: int = 200) -> bool:
    """Whether closing has anything to do but headers: the hot path asks this first.

    Raises:
        UnserialisableValue: something that cannot be kept was put inside a list or dict.
    """
    record = visit.record
    if visit.issue is not None or visit.aborts is not None or visit.superseded:
        return True
    if visit.verdict not in _QUIET or (record is not None and _has_duties(visit, record)):
        return True
    if not visit.has_data or visit.data.is_untouched:
        return False
    return status >= _SERVER_ERROR or visit.data.is_changed


def plain_edits(visit: Visit, status: int = 200) -> ResponseEdits:
    """The edits of a response that sets no session cookie."""
    edits = ResponseEdits()
    if not (visit.seen or _says_something(visit)):
        return edits
    edits.vary_cookie = visit.seen
    ctx = visit.ctx
    edits.personal = visit.seen and visit.subject is not None
    edits.no_store = visit.csrf_token_used
    if visit.pre_session_new and visit.pre_session is not None and visit.kind is Kind.ANONYMOUS:
        edits.cookies.append(ctx.pre_cookie.render(visit.pre_session.hex(), None))
    edits.cookies += visit.state_cookies.values()
    if visit.device_mark is not None:
        edits.cookies += _device_cookie(visit, visit.device_mark)
    if _clears_login(visit, status):
        edits.cookies.append(ctx.login_cookie.render_deletion())
    if visit.signed_out:
        edits.cookies.append(ctx.cookie.render_deletion())
        _clear_site(visit, edits)
    elif visit.tossed and visit.facts.is_navigation:
        host = visit.facts.host or ""
        edits.cookies += ctx.cookie.render_deletions_wide(host)
        if visit.logins.some:
            edits.cookies += ctx.login_cookie.render_deletions_wide(host)
    elif _clears_cookie(visit, status):
        edits.cookies.append(ctx.cookie.render_deletion())
    if edits.cookies or visit.forgets_old:
        _forget_old(visit, edits)
    edits.no_store = edits.no_store or bool(edits.cookies)
    return edits


def _says_something(visit: Visit) -> bool:
    """Whether anything but a look at the session could show in the response."""
    login = visit.login
    return bool(
        visit.clear_cookie
        or visit.signed_out
        or visit.tossed
        or visit.csrf_token_used
        or visit.pre_session_new
        or visit.state_cookies
        or visit.device_mark is not None
        or visit.forgets_old
        or login.forget
        or login.dead
    )


def _device_cookie(visit: Visit, mark: DeviceMark) -> list[bytes]:
    """Handed out at a sign-in, so that its lifetime counts from the latest one."""
    ctx, lifetime = visit.ctx, visit.ctx.policy.know_devices_for
    if mark.issue and mark.device is not None and lifetime is not None:
        value = device_cookie(ctx.keys.device, ctx.keys.mac, mark.device)
        return [ctx.device_cookie.render(value, int(lifetime.total_seconds()))]
    return [ctx.device_cookie.render_deletion()] if mark.forget else []


def _forget_old(visit: Visit, edits: ResponseEdits) -> None:
    """Another library's cookie goes with every word of ours about the session: from then on it must
    not open one, also where a sign-out found nothing to end."""
    adoption = visit.ctx.adoption
    name = visit.ctx.cookie.name.encode("ascii")
    about_session = any(line.startswith(name + b"=") for line in edits.cookies)
    if adoption is None or not (about_session or visit.forgets_old):
        return
    if adoption.is_sent(visit.facts):
        line = adoption.deletion(visit.facts)
        if line not in edits.cookies:
            edits.cookies.append(line)


def _clears_cookie(visit: Visit, status: int) -> bool:
    """Whether a cookie that opens nothing goes with this response (F1).

    A redirect leaves it to the page that it leads to, which can then say why the session ended.
    """
    dead = visit.clear_cookie and visit.record is None and not visit.cookie_locked
    return dead and status not in _REDIRECTS


def _clears_login(visit: Visit, status: int) -> bool:
    """Whether the persistent login's cookie goes: signed out, replaced, or dead for long (F1)."""
    if visit.login.forget or (visit.signed_out and visit.logins.some):
        return True
    dead = visit.login.dead and not visit.cookie_locked and visit.facts.is_navigation
    return dead and status not in _REDIRECTS


def _clear_site(visit: Visit, edits: ResponseEdits) -> None:
    """What else goes at a sign-out, whether or not a new session begins right behind it (F4)."""
    ctx = visit.ctx
    if visit.has_pre_session:
        edits.cookies.append(ctx.pre_cookie.render_deletion())
    if ctx.policy.clear_site_data:
        cleared = clear_site_data(ctx.policy.clear_site_data)
        edits.headers.append((b"clear-site-data", cleared))


def _edits(visit: Visit, status: int) -> Flow[ResponseEdits]:
    token = yield from _token_to_hand_out(visit)
    login = None if token is None else (yield from login_to_hand_out(visit))
    if token is None:
        return plain_edits(visit, status)
    signed_out = visit.signed_out
    visit.clear_cookie = visit.signed_out = False
    if login is not None:
        visit.login.forget = visit.login.dead = False
    edits = plain_edits(visit)
    if login is not None:
        seconds = max((visit.login.lasts_until - visit.ctx.now()) // 1000, 1)
        edits.cookies.append(visit.ctx.login_cookie.render(login.text, seconds))
    if signed_out:
        _clear_site(visit, edits)
    edits.cookies.append(visit.ctx.cookie.render(token.text, None))
    _forget_old(visit, edits)
    if visit.aborts is not None and visit.has_pre_session:
        # The form token from before sign-in must be worth nothing afterwards (G2).
        edits.cookies.append(visit.ctx.pre_cookie.render_deletion())
    edits.no_store = True
    return edits


def _token_to_hand_out(visit: Visit) -> Flow[Token | None]:
    """The newest token that the client should hold, if the record agrees at this moment (F1)."""
    ctx = visit.ctx
    if visit.issue is None and visit.verdict is not Verdict.SUCCESSOR:
        return None
    if visit.token is None or not reaches_jar(visit.facts):
        return None
    found: Found | None = yield Find(visit.token.session_id, authoritative=True)
    if found is None or _is_over(visit, found):
        return None
    credential = found.record.header.credential
    if visit.issue is not None:
        return visit.issue if credential.current == visit.issue.digest else None
    now = ctx.now()
    token = _same_successor(visit, credential, now)
    if token is None or credential.first_used_at == NEVER:
        return token
    noted = handed_out_again(credential, now, ctx.clocks.settle)
    if noted == credential:
        return token
    # The client used it and lost it again, by a crash: it has to settle anew before it counts as
    # confirmed. If it was confirmed or replaced in the meantime, it is not handed out any more.
    outcome: Outcome = yield Shift(found.record.session_id, ctx.fresh(), credential.current, noted)
    confirmed_now = outcome.record is None or outcome.record.header.credential.confirmed_at != NEVER
    return None if confirmed_now or not outcome.applied else token


def _is_over(visit: Visit, found: Found) -> bool:
    """Whether the visit's session is over by now, by its end, its clocks or the store's epoch."""
    header, identity, ctx = found.record.header, visit.identity, visit.ctx
    if identity is None:
        return True
    return ctx.over(header, identity, ctx.now(), found.store_epoch) is not None


def _same_successor(visit: Visit, credential: Credential, now: int) -> Token | None:
    """Everybody who raced with one token gets the same next one (P11)."""
    ctx, token = visit.ctx, visit.token
    if token is None or ctx.judge(credential, token, now) is not Verdict.SUCCESSOR:
        return None
    # Which key the successor was made under is no longer in the record once it is current, so each
    # key is tried: there are one or two in use.
    for key_id in ctx.keys.tokens.successor:
        following = successor(ctx.keys.tokens, token, key_id)
        if following is not None and following.digest == credential.current:
            return following
    return None


def _keep_alive(visit: Visit) -> Flow[None]:
    """Activity: the touch, and on the same occasion first use, confirmation or renewal (D1)."""
    record = visit.record
    if record is None or visit.aborts is not None or not _is_activity(visit):
        return
    if _renewal_due(visit, record):
        yield from _renew(visit)
    if _touch_due(visit, record):
        yield from _touch(visit, record)
        yield from _note_use(visit)
    elif _note_overdue(visit, record):
        yield from _note_use(visit)


def _touch(visit: Visit, record: Record) -> Flow[None]:
    """Activity is when the request came: a slow one does not revive a session that idled out."""
    ctx, identity = visit.ctx, visit.identity
    if identity is None:
        return
    seen = visit.opened_at
    idle, _absolute = ctx.clocks.lifetimes(identity.kind)
    deadline = min(seen + idle, identity.absolute_deadline)
    outcome: Outcome = yield Touch(
        record.session_id, ctx.fresh(), seen, deadline, ctx.clocks.purge_at(identity.kind, deadline)
    )
    if outcome.record is not None:
        visit.now_holds(outcome.record)


def _note_use(visit: Visit) -> Flow[None]:
    """First use and confirmation of the current token; they start the renewal's clocks (D1).

    A use counts from when its request came: one that took long proves nothing of the jar since.
    """
    ctx, record = visit.ctx, visit.record
    if record is None or visit.verdict is not Verdict.CURRENT or visit.token is None:
        return
    credential, now = record.header.credential, ctx.now()
    if credential.current != visit.token.digest:
        return
    if credential.first_used_at == NEVER:
        changed = first_used(credential, now)
    elif confirmation_due(credential, visit.opened_at, ctx.clocks.settle):
        changed = confirmed(credential, now)
    else:
        return
    outcome: Outcome = yield Shift(record.session_id, ctx.fresh(), credential.current, changed)
    if outcome.applied and outcome.record is not None:
        visit.now_holds(outcome.record)
        link = None if visit.identity is None else visit.identity.login
        if link is not None and changed.confirmed_at != NEVER:
            yield from confirm_login(visit, link)


def _renew(visit: Visit) -> Flow[None]:
    """The next token takes over; the old one goes on working until the new one is confirmed."""
    ctx, record, token = visit.ctx, visit.record, visit.token
    if record is None or token is None:
        return
    credential, now = record.header.credential, ctx.now()
    following = successor(ctx.keys.tokens, token, credential.next_key_id)
    if following is None or following.digest != credential.next:
        if renewal_of(credential.generation) == MAX_RENEWAL:
            visit.note(GenerationsUsedUp)
        return
    after = successor(ctx.keys.tokens, following, ctx.keys.issuing)
    changed = renewed(credential, following, after, now)
    outcome: Outcome = yield Shift(record.session_id, ctx.fresh(), credential.current, changed)
    if outcome.record is None:
        return
    visit.now_holds(outcome.record)
    if outcome.applied:
        visit.issue = following
        visit.note(SessionRenewed, how="renewal")
    elif ctx.judge(outcome.record.header.credential, token, now) is Verdict.SUCCESSOR:
        visit.verdict = Verdict.SUCCESSOR


def _reseal(visit: Visit) -> Flow[None]:
    """Move a session that outlives a key to the issuing one, so that retiring loses nothing (A1).

    Best effort: whoever writes in between has the issuing key too.
    """
    ctx, record, identity, token = visit.ctx, visit.record, visit.identity, visit.token
    if record is None or identity is None or token is None:
        return
    header = record.header
    if header.envelope_key_id != ctx.keys.issuing:
        outcome: Outcome = yield Rotate(
            record.session_id,
            ctx.fresh(),
            header.credential.current,
            header.credential,
            identity.kind,
            ctx.seal_identity(identity, record.session_id),
            ctx.keys.issuing,
            header.last_seen,
            header.idle_deadline,
            header.purge_at,
        )
        if outcome.applied and outcome.record is not None:
            visit.now_holds(outcome.record)
    if header.data_key_id != ctx.keys.issuing and record.data:
        values = ctx.open_data(record, token.root)
        yield Replace(
            record.session_id,
            ctx.fresh(),
            header.data_version,
            ctx.fresh(),
            ctx.seal_data(values, record.session_id, token.root),
            ctx.keys.issuing,
        )


def _has_duties(visit: Visit, record: Record) -> bool:
    """Whether activity has something to write: the touch, a renewal, or a note of use."""
    return _touch_due(visit, record) or _renewal_due(visit, record) or _note_overdue(visit, record)


def _note_overdue(visit: Visit, record: Record) -> bool:
    """Whether a note of use waits for longer than a touch interval, because others do the touching.

    A thief on the old token would otherwise take every touch, and put off the confirmation, and
    with it being found, for as long as they are the busier one (D1).
    """
    credential, clocks, now = record.header.credential, visit.ctx.clocks, visit.opened_at
    if credential.changed_by is not _RENEWAL or visit.verdict is not CURRENT:
        return False
    if credential.first_used_at == NEVER:
        return now >= credential.changed_at + clocks.touch
    return confirmation_due(credential, now - clocks.touch, clocks.settle)


def _touch_due(visit: Visit, record: Record) -> bool:
    interval = visit.ctx.clocks.touch
    if visit.touch_every is not None:
        interval = min(interval, visit.touch_every)
    return visit.opened_at - record.header.last_seen >= interval


def _renewal_due(visit: Visit, record: Record) -> bool:
    """Whether a renewal starts here: due or asked for, settled, and sure to reach the jar (D1)."""
    clocks, credential = visit.ctx.clocks, record.header.credential
    if visit.verdict is not CURRENT or visit.issue is not None:
        return False
    now, interval = visit.ctx.now(), clocks.renew_after
    due = visit.renew_asked or (interval is not None and now - credential.changed_at >= interval)
    return due and renewal_allowed(credential, now, clocks.grace) and reaches_jar(visit.facts)


def _is_activity(visit: Visit) -> bool:
    """Prefetches and polling are not activity (E8)."""
    facts = visit.facts
    if facts.is_prefetch or facts.websocket:
        return False
    return not matches(facts.path, visit.ctx.policy.routes.passive)
