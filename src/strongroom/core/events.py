"""What happened, for people and machines: one frozen dataclass per event.

Names follow the OWASP logging vocabulary where it has one; the others are marked. Events carry the
public session id and the subject, never a token, a digest or a header (P5, ASVS 16.2.5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What all events have: the moment (ms UTC), and who and where as far as known."""

    name: ClassVar[str] = "event"
    severity: ClassVar[str] = "info"

    at: int
    session_id: str | None = None
    subject: str | None = None
    address: str | None = None
    device: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The event as plain values, its name first; what is unknown is left out."""
        known = {each.name: getattr(self, each.name) for each in fields(self)}
        present = {key: value for key, value in known.items() if value is not None}
        return {"event": self.name, "severity": self.severity, **present}


EventSink = Callable[[Event], None]
"""Takes an event and returns at once. What it raises is reported, and loses no request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCreated(Event):
    """A session record was stored."""

    name = "session_created"
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRenewed(Event):
    """The token was replaced; `how` is renewal, rotation or adopted (after a failover)."""

    name = "session_renewed"
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionExpired(Event):
    """One of the two clocks ran out."""

    name = "session_expired"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLogout(Event):
    """The user signed out."""

    name = "session_logout"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEndedEvent(Event):
    """Ended by something other than its own sign-out or clock (not in OWASP's list)."""

    name = "session_ended"
    reason: str
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUseAfterExpire(Event):
    """A token of an ended session was presented, or a write came after the end."""

    name = "session_use_after_expire"
    severity = "warning"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginSuccess(Event):
    """Somebody signed in; `factors` are the `amr` values proved now, `seen` what it looked like."""

    name = "authn_login_success"
    factors: tuple[str, ...] = ()
    pending: bool = False
    seen: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginFailed(Event):
    """Credentials were checked and nobody was signed in."""

    name = "authn_login_fail"
    severity = "warning"
    reason: str = "refused"
    seen: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRemembered(Event):
    """A persistent login began: this browser is remembered (not in OWASP's list)."""

    name = "authn_remember_created"
    login_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedLoginUsed(Event):
    """A persistent login opened a session (not in OWASP's list)."""

    name = "authn_remember_used"
    login_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedLoginEnded(Event):
    """A persistent login ended, and the sessions that came from it (not in OWASP's list)."""

    name = "authn_remember_ended"
    login_id: str
    reason: str
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDisowned(Event):
    """The owner said "this was not me" of a device: all that it had ended, and it is unknown again
    (not in OWASP's list)."""

    name = "device_disowned"
    severity = "warning"
    device_id: str
    ended: int = 0
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SteppedUp(Event):
    """A fresh or further factor was proved within a session (not in OWASP's list)."""

    name = "authn_step_up"
    factors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SteppedDown(Event):
    """Whoever is signed in closed their privileged window (not in OWASP's list)."""

    name = "authn_step_down"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUpAsked(Event):
    """An action was refused until a factor is proved anew."""

    name = "authz_fail"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalAsked(Event):
    """A transaction waits for its approval; what it is about stands in no event."""

    name = "authz_approval_asked"
    approval_id: str
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalGiven(Event):
    """Factors were proved for one transaction (not in OWASP's list)."""

    name = "authz_approval_given"
    approval_id: str
    action: str
    factors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalUsed(Event):
    """An approved transaction was carried out; its approval is used up (not in OWASP's list)."""

    name = "authz_approval_used"
    approval_id: str
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRefusedEvent(Event):
    """An approval was presented that is worth nothing; `reason` says why, nothing was done."""

    name = "authz_approval_refused"
    severity = "warning"
    approval_id: str | None
    action: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialsChanged(Event):
    """A password or another factor was changed; `ended` other sessions went with it."""

    name = "authn_password_change"
    ended: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountDisabled(Event):
    """Everything that an account had was ended (not in OWASP's list)."""

    name = "user_disabled"
    ended: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedOutEverywhere(Event):
    """A subject's sessions were ended together (not in OWASP's list)."""

    name = "session_signed_out_everywhere"
    ended: int = 0
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenReuse(Event):
    """A retired token came back when no honest browser would; `how` is recent or stale.

    `login_id` is the persistent login whose token it was, or that ended with the session.
    """

    name = "authn_token_reuse"
    severity = "critical"
    how: str
    ended: bool
    login_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRefused(Event):
    """A token was not believed; nothing ended (not in OWASP's list)."""

    name = "session_token_refused"
    severity = "warning"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CookieTossing(Event):
    """Several valid sessions came in one request: somebody planted a cookie (P21)."""

    name = "session_cookie_tossing"
    severity = "critical"
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoPlaces(Event):
    """One token from two clients that do not look alike (a signal, not a verdict)."""

    name = "session_two_places"
    severity = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRaised(Event):
    """Something looks wrong: `signal` names it, `why` is a sentence, `responses` what follows.

    `score` is between 0 and 1 (not in OWASP's list).
    """

    name = "session_signal"
    severity = "warning"
    signal: str
    score: float
    why: str
    evidence: Mapping[str, str | int | float] = field(default_factory=dict[str, str | int | float])
    responses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExcessSessions(Event):
    """The subject reached the policy's number of sessions; `evicted` gave way."""

    name = "excess_sessions_exceeded"
    severity = "warning"
    maximum: int
    evicted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossSiteRefused(Event):
    """A request from another site was refused; `rule` says which rule decided."""

    name = "malicious_csrf"
    severity = "warning"
    rule: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationsUsedUp(Event):
    """A session's generation numbers are used up: it renews no more (D5)."""

    name = "session_generations_used_up"
    severity = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordUnreadable(Event):
    """A record could not be opened: answered 503, never a sign-out."""

    name = "crypt_decrypt_fail"
    severity = "critical"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFailed(Event):
    """The store did not answer; nobody was let in."""

    name = "sys_store_unavailable"
    severity = "critical"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSkewed(Event):
    """This process's clock and the store's differ by more than `max_skew` (not in OWASP's list).

    `store_ahead_ms` is how far the store's is ahead at least; negative where it is behind.
    """

    name = "sys_clock_skew"
    severity = "warning"
    store_ahead_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectErased(Event):
    """Everything that was kept of somebody was removed (not in OWASP's list).

    Told to sinks only: in the subject's history it would be kept again.
    """

    name = "subject_erased"
    severity = "warning"
    removed: int
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AllSessionsEnded(Event):
    """The store-wide epoch was replaced: everybody is signed out."""

    name = "session_all_ended"
    severity = "warning"
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationEvent(Event):
    """Something that the application noted itself: `what` it was, and plain details."""

    name = "application"
    what: str
    details: Mapping[str, str | int | float | bool | None] = field(
        default_factory=dict[str, str | int | float | bool | None]
    )


def catalogue() -> list[type[Event]]:
    """Every event there is, by name (ASVS 16.1.1: the inventory of what is logged)."""
    # A dataclass with slots is made anew from its class, and the class that it was made from stays
    # among the subclasses until it is collected; the one made last counts.
    named = {each.name: each for each in Event.__subclasses__()}
    return [named[name] for name in sorted(named)]
