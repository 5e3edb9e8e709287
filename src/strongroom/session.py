"""`session`: what an application holds in its hand during a request.

A mutable mapping of the application's data, and the actions that change who is signed in. In
`async def` every action is awaited; in a plain `def` endpoint, which runs in a thread of its own,
the same call does its work before it returns. So one class serves both, and a forgotten `await` is
told with a sentence instead of doing nothing in silence.

What asks for more than a session, step-up and approvals, is in `privilege.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from .actions import Action, Done, Runner
from .core import flows, login_state
from .core.csrf_tokens import csrf_input
from .core.events import ApplicationEvent, LoginFailed
from .core.flows.devices import DeviceInfo
from .core.flows.listing import LoginInfo, Report, SessionInfo, moment
from .core.flows.signalling import seen_by
from .core.flows.signing import check_can_issue
from .core.ops import Flow, Touch
from .core.record import EndReason, Kind
from .core.visit import Visit
from .privilege import Privilege, proved, subject_of


class Session(Privilege, MutableMapping[str, Any]):
    """The session of one request. Its `repr` shows whose it is, never what opens it."""

    __slots__ = ()

    def __repr__(self) -> str:
        visit = self._visit
        return f"<Session {visit.session_id or 'not stored'} {visit.kind.name.lower()}>"

    # The application's data.

    def __getitem__(self, key: str) -> Any:
        return self._seen().data[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._seen().data[key] = value

    def __delitem__(self, key: str) -> None:
        del self._seen().data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen().data)

    def __len__(self) -> int:
        return len(self._seen().data)

    def __contains__(self, key: object) -> bool:
        return key in self._seen().data

    def __ior__(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Self:
        """`session |= values`, as of a dict."""
        self.update(values)
        return self

    def copy(self) -> dict[str, Any]:
        """The data as a plain dict, as `dict(session)` gives it."""
        return dict(self)

    def popitem(self) -> tuple[str, Any]:
        """Take the newest key out, as of a dict.

        Raises:
            KeyError: there is none.
        """
        keys = list(self)
        if not keys:
            raise KeyError("The session holds nothing.")
        return keys[-1], self.pop(keys[-1])

    def clear(self) -> None:
        """Delete all data. Nobody is signed out by this: see `sign_out`."""
        self._seen().data.clear()

    # Who and what.

    @property
    def subject(self) -> str | None:
        """Who is signed in, or None. A session that waits for a second factor has none."""
        return self._seen().subject

    @property
    def is_authenticated(self) -> bool:
        """Whether somebody is signed in."""
        return self._seen().subject is not None

    @property
    def is_remembered(self) -> bool:
        """Whether a persistent login opened the session; sensitive actions ask anew."""
        return self._seen().kind is Kind.REMEMBERED

    @property
    def pending_subject(self) -> str | None:
        """Who has proved the first factor and still owes the second."""
        visit = self._seen()
        if visit.identity is None or visit.kind is not Kind.PENDING:
            return None
        return visit.identity.subject

    @property
    def session_id(self) -> str | None:
        """The public id: safe in lists, logs and URLs. None where nothing is stored."""
        return self._seen().session_id

    @property
    def authenticated_at(self) -> datetime | None:
        """When a factor was last proved in this session."""
        latest = max((each.at for each in self._seen().factors), default=None)
        return None if latest is None else moment(latest)

    @property
    def factors(self) -> tuple[str, ...]:
        """The factors proved in this session, as RFC 8176 values."""
        return tuple(each.amr for each in self._seen().factors)

    @property
    def acr(self) -> str | None:
        """The level of assurance, derived from the factors by the policy's table."""
        visit = self._seen()
        weak = visit.kind is Kind.REMEMBERED or visit.is_doubtful
        return visit.ctx.policy.acr.derive(visit.factors, weak)

    @property
    def device(self) -> str:
        """A readable label of the device, as it was at sign-in, or as it is now."""
        visit = self._seen()
        if visit.identity is None or visit.identity.subject is None:
            return visit.device().label
        return visit.identity.device.label

    @property
    def created_at(self) -> datetime | None:
        """When the session began."""
        identity = self._seen().identity
        return None if identity is None else moment(identity.created_at)

    @property
    def expires_at(self) -> datetime | None:
        """When it ends if it is not used again."""
        visit = self._seen()
        if visit.record is None or visit.identity is None:
            return None
        return moment(min(visit.record.header.idle_deadline, visit.identity.absolute_deadline))

    @property
    def ended_because(self) -> EndReason | None:
        """Why the session that this browser still had a cookie for has ended, if it is known."""
        refusal = self._seen().refusal
        return refusal if isinstance(refusal, EndReason) else None

    @property
    def unavailable(self) -> bool:
        """Whether the store does not answer: on public routes only, read-only, nobody known."""
        return self._seen().unavailable

    # Signing in and out.

    def authenticating(self, subject: str | None) -> Authenticating:
        """The context around checking credentials; use it with `async with`, or `with` in `def`.

        It notes the order against "sign out everywhere" before the check (P15), and records a
        failure if nobody is signed in at its end. `subject` is the account's id, or None where
        no such account exists: then only the failure is recorded.
        """
        return Authenticating(self._seen(), self._runner, subject)

    def sign_in(
        self,
        subject: str,
        *,
        amr: str | Iterable[str] = "pwd",
        pending: bool = False,
        remember: bool = False,
    ) -> Action[None]:
        """Start a new session for the subject, who has just proved these factors (RFC 8176).

        With `pending`, a second factor is still owed: `subject` stays None until another
        `sign_in` of the same subject completes it. With `remember`, this browser is remembered for
        `remember_for` (30 days): it comes back as a session that `is_remembered`. A persistent
        login that the browser had before ends in any case.

        Raises:
            SignInOvertaken, SessionLimitReached, StoreUnavailable: nobody was signed in.
        """
        flow = flows.sign_in(self._seen(), subject, proved(amr), pending=pending, remember=remember)
        return self._run("sign_in", flow)

    def resume(self, subject: str) -> Action[bool]:
        """Go on with a sign-in that another system's cookie vouches for -> whether it did.

        The session is a remembered one: nothing was proved now, so sensitive actions ask anew. No
        browser whose session here was ended by somebody gets in by this. See docs/moving.
        """
        return self._run("resume", flows.resume(self._seen(), subject))

    def elevate(self, *, amr: str | Iterable[str] = "pwd") -> Action[None]:
        """A factor was proved again, or a further one: the token is rotated at once (ASVS 7.2.4).

        Raises:
            SignInRequired, SessionEnded: nothing was changed.
        """
        return self._run("elevate", flows.elevate(self._seen(), proved(amr)))

    def renew(self) -> Action[None]:
        """Ask for a renewal of the token with this response, before its time has come."""
        self._seen().renew_asked = True
        return Done(None)

    def sign_out(self) -> Action[None]:
        """End the session on the server, durably, and delete its cookie."""
        return self._run("sign_out", flows.sign_out(self._seen()))

    def sign_out_everywhere(self) -> Action[int]:
        """End every session of the subject, this one too -> how many."""
        return self._run("sign_out_everywhere", _sign_out_everywhere(self._seen()))

    def sign_out_others(self) -> Action[int]:
        """End every session of the subject but this one -> how many.

        Ask for a recent sign-in first (ASVS 7.5.2).
        """
        return self._run("sign_out_others", _count(flows.end_others(self._seen())))

    def credentials_changed(self, *, amr: str | Iterable[str] = ()) -> Action[int]:
        """A password or another factor changed: end the others, rotate this one (ASVS 7.4.3).

        `amr` names what was proved on the way, such as the old password: it counts from now.
        """
        flow = _count(flows.credentials_changed(self._seen(), proved(amr)))
        return self._run("credentials_changed", flow)

    def hand_over(self) -> Action[str]:
        """A single-use code that opens a linked session elsewhere within 60 seconds (D7)."""
        return self._run("hand_over", flows.hand_over(self._seen()))

    def accept_hand_over(self, code: str) -> Action[None]:
        """Open the linked session that a code stands for.

        Raises:
            RefusedError: the code is unknown, used or too old, or its session has ended.
        """
        return self._run("accept_hand_over", flows.accept_hand_over(self._seen(), code))

    def begin_login(self, **values: Any) -> str:
        """Keep these values until the visitor comes back from an identity provider -> `state`.

        In a sealed cookie of ten minutes, one for each sign-in under way: nothing is stored. Send
        the `state` along, and give what comes back to `finish_login`.

        Raises:
            UnserialisableValue, UsageError: a value cannot be kept in a cookie.
        """
        visit = self._seen()
        check_can_issue(visit)
        return login_state.begin(visit, values)

    def finish_login(self, state: str) -> dict[str, Any]:
        """What `begin_login` kept under this `state`, in this browser, once.

        Raises:
            RefusedError: nothing is kept for it here, or not any more; begin anew.
        """
        visit = self._seen()
        check_can_issue(visit)
        return login_state.finish(visit, state)

    # Saving.

    def save(self, *, strict: bool | None = None) -> Action[bool]:
        """Write the data now -> whether anything had changed. For WebSockets the only way.

        Raises:
            WriteConflict: with `strict`, if another request changed the same key.
            SessionEnded: the session ended in the meantime; nothing was written.
        """
        return self._run("save", flows.save(self._seen(), strict=strict))

    def touch(self) -> Action[bool]:
        """Note activity on a WebSocket or stream -> whether the session still lives (E8)."""
        return self._run("touch", _touch(self._seen()))

    def start_new(self) -> None:
        """Allow a new session on a cross-site request, replacing one that cannot be seen (F2)."""
        self._seen().start_allowed = True

    # Sessions of the same subject.

    def sessions(self, *, include_ended: bool = False) -> Action[list[SessionInfo]]:
        """Where the subject is signed in: this session first, then the most recently used."""
        visit = self._seen()
        return self._run("sessions", _sessions(visit, include_ended=include_ended))

    def persistent_logins(self) -> Action[list[LoginInfo]]:
        """The browsers that are remembered for the subject, the most recently used first."""
        visit = self._seen()
        return self._run("persistent_logins", flows.logins_of(visit.ctx, subject_of(visit)))

    def devices(self) -> Action[list[DeviceInfo]]:
        """The subject's devices, with what each one has: this one first, then the latest used."""
        return self._run("devices", _devices(self._seen()))

    def end_device(self, device_id: str) -> Action[bool]:
        """ "This was not me": end all that this device of the subject has -> whether there is one.

        Its sessions, persistent logins and what was handed over from them; and at its next sign-in
        it counts as new. Whoever used it knew the password: ask for another one.

        Ask for a recent sign-in first (ASVS 7.5.2).
        """
        return self._run("end_device", _end_device(self._seen(), device_id))

    def end_session(self, session_id: str) -> Action[bool]:
        """End one session of the subject by its public id -> whether it was live.

        The persistent login that it came from ends with it; by a login's id, the login ends with
        all its sessions.

        Ask for a recent sign-in first (ASVS 7.5.2).
        """
        return self._run("end_session", _end_session(self._seen(), session_id))

    def history(self, limit: int = 50) -> Action[list[dict[str, Any]]]:
        """What happened to the subject's sessions, newest first."""
        visit = self._seen()
        return self._run("history", _history(visit, limit))

    def note(self, what: str, **details: str | int | float | bool | None) -> None:
        """Note something of your own in the events and the subject's history.

        Never pass a secret: events are logged.

        Raises:
            UnserialisableValue: a detail is not a plain value; nothing was noted.
        """
        visit = self._seen()
        visit.ctx.codec.encode([what, details])
        visit.note(ApplicationEvent, what=what, details=details)

    # Forms.

    def csrf_token(self, form: str = "") -> str:
        """The token for a form, or for the X-CSRF-Token header of a script (P19).

        Every call gives another string for the same secret (BREACH). With `form`, the path that
        the form posts to, the token is good there only; on the policy's `own_token_paths` no other
        one is.
        """
        return self._seen().mint_csrf_token(form)

    def csrf_input(self, form: str = "") -> str:
        """A hidden input with the token, for a template."""
        return csrf_input(self._visit.ctx.policy.csrf.field, self.csrf_token(form))


class Authenticating:
    """See `Session.authenticating`."""

    __slots__ = ("_runner", "_subject", "_visit")

    def __init__(self, visit: Visit, runner: Runner, subject: str | None) -> None:
        self._visit = visit
        self._runner = runner
        self._subject = subject

    def __enter__(self) -> None:
        self._begin().result()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._finish()

    async def __aenter__(self) -> None:
        await self._begin()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._finish()

    def _begin(self) -> Action[None]:
        return self._runner.run("authenticating", _begin(self._visit, self._subject))

    def _finish(self) -> None:
        visit = self._visit
        visit.attempt = None
        # A sign-in takes this mark away; whatever else happened in between, nobody got in.
        if visit.attempt_open:
            visit.attempt_open = False
            visit.note(LoginFailed, session_id=None, subject=self._subject, seen=seen_by(visit))


def _begin(visit: Visit, subject: str | None) -> Flow[None]:
    if subject is not None:
        visit.attempt = yield from flows.begin_attempt(visit, subject)
    visit.attempt_open = True


def _count(flow: Flow[Report]) -> Flow[int]:
    report = yield from flow
    return report.ended


def _sign_out_everywhere(visit: Visit) -> Flow[int]:
    check_can_issue(visit)
    yield from flows.verify(visit)
    subject = subject_of(visit)
    report = yield from flows.end_subject(
        visit.ctx, subject, reason=EndReason.EVERYWHERE, by=subject, visit=visit
    )
    visit.events += report.events
    visit.leave()
    visit.aborts = None
    visit.signed_out = visit.forgets_old = True
    return report.ended


def _sessions(visit: Visit, *, include_ended: bool) -> Flow[list[SessionInfo]]:
    yield from flows.verify(visit)
    current = None if visit.record is None else visit.record.session_id
    return (
        yield from flows.sessions_of(
            visit.ctx, subject_of(visit), current=current, include_ended=include_ended
        )
    )


def _history(visit: Visit, limit: int) -> Flow[list[dict[str, Any]]]:
    yield from flows.verify(visit)
    return (yield from flows.history(visit.ctx, subject_of(visit), limit))


def _end_session(visit: Visit, session_id: str) -> Flow[bool]:
    yield from flows.verify(visit)
    subject = subject_of(visit)
    if session_id == visit.session_id:
        yield from flows.sign_out(visit)
        return True
    report = yield from flows.end_session(
        visit.ctx, subject, session_id, reason=EndReason.REVOKED, by=subject
    )
    visit.events += report.events
    return report.ended > 0


def _devices(visit: Visit) -> Flow[list[DeviceInfo]]:
    subject, record = subject_of(visit), visit.record
    current = None if record is None else record.session_id
    return (yield from flows.devices_of(visit.ctx, subject, current=current))


def _end_device(visit: Visit, device_id: str) -> Flow[bool]:
    yield from flows.verify(visit)
    subject, current = subject_of(visit), None if visit.record is None else visit.record.session_id
    device = yield from flows.find_device(visit.ctx, subject, device_id, current=current)
    if device is None:
        return False
    if device.current:
        yield from flows.sign_out(visit)
    report = yield from flows.end_device(visit.ctx, device, reason=EndReason.REVOKED, by=subject)
    visit.events += report.events
    return True


def _touch(visit: Visit) -> Flow[bool]:
    record, identity, ctx = visit.record, visit.identity, visit.ctx
    if record is None or identity is None:
        return False
    now = ctx.now()
    idle, _absolute = ctx.clocks.lifetimes(identity.kind)
    deadline = min(now + idle, identity.absolute_deadline)
    if ctx.over(record.header, identity, now, record.header.store_epoch) is not None:
        return False
    outcome = yield Touch(
        record.session_id, ctx.fresh(), now, deadline, ctx.clocks.purge_at(identity.kind, deadline)
    )
    if outcome.record is None:
        return False
    visit.now_holds(outcome.record)
    return True
