"""The policy: every limit in one typed object, and the judgement of the two clocks.

Profiles are named data with their source. What a profile says can be changed field by field; a
change that loosens one needs its reason, which `strongroom policy show` prints (ASVS 7.1.1, P27).

A duration is a `timedelta`, and zero is a value, never "off". `Clocks` holds the same durations in
milliseconds, once, for the hot path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from enum import Enum
from typing import Any, Literal, Self

from .assurance import NIST_AAL, AcrTable
from .cookies import MAX_AGE_CAP
from .csrf import CsrfRules
from .errors import ConfigurationError
from .ops import AtLimit, Limit
from .proxies import TrustedProxies
from .record import FORMAT, EndReason, Header, Identity, Kind
from .responses import DEFAULT_RESPONSES, ResponseTable
from .return_path import safe_next
from .signals import SignalRules

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
_CENTURY = 36500 * DAY

REMEMBER_AT_MOST = timedelta(seconds=MAX_AGE_CAP)
"""Browsers keep no cookie for longer than 400 days (rfc6265bis, 5.5)."""

TOUCH_AT_MOST = MINUTE
"""A touch interval above a minute would make "last seen" useless to the person who reads it."""

ATTEMPT_MAX = HOUR
"""How long checking credentials may take. Epochs of subjects are kept for longer than this, so an
attempt older than this could miss a "sign out everywhere" and is refused (P15)."""

ADOPTION_MAX = 90 * DAY
"""How far ahead the cut-off may be until which another library's cookies are adopted."""

EPOCHS_KEPT = ADOPTION_MAX + ATTEMPT_MAX
"""How long it is remembered that a subject's sessions were all ended: longer than any attempt to
sign in takes, and than an old cookie counts. It costs a few bytes for each such subject."""


class DataSeal(Enum):
    """Who can read session data at rest (P4)."""

    TOKEN = "token"  # noqa: S105 - the name of a way to seal, not a password
    """Only a live request: the key needs the token's root. The default."""
    SERVER = "server"
    """Anyone with the server's keys: needed where a server must read data without a request."""
    NONE = "none"
    """Anyone who reads the store, and whoever writes it can change the data unnoticed."""


@dataclass(frozen=True, slots=True)
class Routes:
    """Paths that are treated differently. A path, or a prefix that ends in `/*`."""

    public: tuple[str, ...] = ()
    """Work while the store is down: anonymous, read-only, `session.unavailable` is true (H1)."""
    excluded: tuple[str, ...] = ("/static/*", "/favicon.ico")
    """Have no session at all: no store is asked."""
    passive: tuple[str, ...] = ()
    """Polled by scripts: using them is not activity, so the idle clock goes on (E8)."""
    slow: tuple[str, ...] = ()
    """Their requests may take longer than `grace` to arrive: reuse there ends nothing."""
    sensitive: tuple[str, ...] = ()
    """Begin with the store's own word, past any near cache, as every unsafe method does: pages
    that ask for a recent sign-in (P25, H2)."""

    def __post_init__(self) -> None:
        for group in (self.public, self.excluded, self.passive, self.slow, self.sensitive):
            for path in group:
                if not path.startswith("/") or path == "/*" or "*" in path.removesuffix("/*"):
                    raise ConfigurationError(
                        f"The route {path!r} is neither a path nor a prefix.",
                        why="A pattern that matches more than it seems to weakens every page.",
                        hint="Write '/health' for one path, or '/static/*' for all below one.",
                    )


@dataclass(frozen=True, kw_only=True)
class SessionPolicy:
    """Every limit and rule of a deployment. Without arguments: safe for an ordinary web site.

    Raises:
        ConfigurationError: values that contradict each other, that no browser would keep, or that
            loosen a named profile without a reason.
    """

    profile: str | None = None
    reasons: Mapping[str, str] = field(default_factory=dict[str, str])

    idle_timeout: timedelta = 30 * MINUTE
    absolute_timeout: timedelta = 8 * HOUR
    touch_interval: timedelta | None = None
    renew_after: timedelta | None = 15 * MINUTE
    grace: timedelta = timedelta(seconds=30)
    settle: timedelta = timedelta(seconds=90)

    anonymous_idle: timedelta = 30 * MINUTE
    anonymous_absolute: timedelta = 4 * HOUR
    pending_idle: timedelta = 5 * MINUTE
    pending_absolute: timedelta = 10 * MINUTE
    hand_over_lifetime: timedelta = MINUTE
    approval_lifetime: timedelta = 5 * MINUTE
    remember_for: timedelta | None = 30 * DAY
    know_devices_for: timedelta | None = 180 * DAY
    devices_need_consent: bool = True

    max_data: int = 64 * 1024
    max_anonymous_data: int = 4 * 1024
    max_sessions: int = 100
    at_limit: AtLimit = AtLimit.EVICT_LEAST_RECENTLY_USED
    history_retention: timedelta = 30 * DAY
    history_length: int = 200
    carry_over: tuple[str, ...] = ()
    conflicts: Literal["merge", "strict"] = "merge"
    seal_data: DataSeal = DataSeal.TOKEN
    server_sealed: tuple[str, ...] = ()
    record_format: int = FORMAT
    approved_only: bool = False

    cookie_name: str | None = None
    same_site: Literal["Lax", "Strict"] = "Lax"
    clear_site_data: tuple[str, ...] = ("storage",)
    development: bool = False

    origins: tuple[str, ...] = ()
    csrf: CsrfRules = field(default_factory=CsrfRules)
    proxies: TrustedProxies = field(default_factory=TrustedProxies)
    routes: Routes = field(default_factory=Routes)
    acr: AcrTable = NIST_AAL
    signals: SignalRules = field(default_factory=SignalRules)
    responses: ResponseTable = DEFAULT_RESPONSES
    keep_address: Literal["full", "network", "none"] = "full"
    sign_in_path: str = "/sign-in"
    step_up_path: str | None = None

    max_staleness: timedelta = timedelta(seconds=1)
    max_skew: timedelta = timedelta(seconds=2)

    def __post_init__(self) -> None:
        found = [*_contradictions(self), *_unexplained(self)]
        if found:
            raise ConfigurationError(
                "The session policy cannot be used: " + " ".join(found),
                why="Started like this, sessions would be unsafe or would not work.",
                hint="See what is in force with: strongroom policy show",
            )
        if self.origins and not self.csrf.origins:
            object.__setattr__(self, "csrf", replace(self.csrf, origins=self.origins))

    @property
    def clocks(self) -> Clocks:
        """The durations in milliseconds."""
        return Clocks.of(self)

    @property
    def limit(self) -> Limit:
        """The number of signed-in sessions, as a store understands it."""
        return Limit(self.max_sessions, self.at_limit)

    def deviations(self) -> list[Deviation]:
        """What differs from the named profile, with the reason (ASVS 7.1.1)."""
        if self.profile is None:
            return []
        standard = PROFILES[self.profile].values
        return [
            Deviation(name, expected, getattr(self, name), self.reasons.get(name))
            for name, expected in standard.items()
            if getattr(self, name) != expected
        ]

    @classmethod
    def owasp_low_risk(cls, **changes: Any) -> Self:
        """OWASP Session Management Cheat Sheet, low-risk: idle 30 minutes, absolute 8 hours."""
        return cls._from_profile("owasp_low_risk", changes)

    @classmethod
    def owasp_high_value(cls, **changes: Any) -> Self:
        """OWASP Session Management Cheat Sheet, high-value: idle 5 minutes, absolute 4 hours."""
        return cls._from_profile("owasp_high_value", changes)

    @classmethod
    def nist_aal1(cls, **changes: Any) -> Self:
        """NIST SP 800-63B-4, 2.1.3: overall 30 days."""
        return cls._from_profile("nist_aal1", changes)

    @classmethod
    def nist_aal2(cls, **changes: Any) -> Self:
        """NIST SP 800-63B-4, 2.2.3: overall 24 hours, inactivity 1 hour."""
        return cls._from_profile("nist_aal2", changes)

    @classmethod
    def nist_aal3(cls, **changes: Any) -> Self:
        """NIST SP 800-63B-4, 2.3.3: overall 12 hours, inactivity 15 minutes."""
        return cls._from_profile("nist_aal3", changes)

    @classmethod
    def for_development(cls, **changes: Any) -> Self:
        """For http://localhost only: no cookie prefix, no `Secure`, refused on any other host.

        Safari keeps no `Secure` cookie on http://localhost, so this is what works everywhere (F6).
        """
        return cls(development=True, **changes)

    @classmethod
    def _from_profile(cls, name: str, changes: dict[str, Any]) -> Self:
        settings: dict[str, Any] = {"profile": name, **PROFILES[name].values, **changes}
        return cls(**settings)


@dataclass(frozen=True, slots=True)
class Deviation:
    """A limit that is not the profile's."""

    name: str
    expected: Any
    actual: Any
    reason: str | None


@dataclass(frozen=True, slots=True)
class Profile:
    """A named set of limits, and where they come from."""

    source: str
    values: Mapping[str, Any]


_NIST_CSRF = CsrfRules(token_on_every_body=True)

PROFILES: Mapping[str, Profile] = {
    "owasp_low_risk": Profile(
        "OWASP Session Management Cheat Sheet: idle 15-30 minutes, absolute 4-8 hours",
        {"idle_timeout": 30 * MINUTE, "absolute_timeout": 8 * HOUR},
    ),
    "owasp_high_value": Profile(
        "OWASP Session Management Cheat Sheet: idle 2-5 minutes, absolute 4-8 hours",
        {
            "idle_timeout": 5 * MINUTE,
            "absolute_timeout": 4 * HOUR,
            "anonymous_idle": 5 * MINUTE,
            "renew_after": 5 * MINUTE,
        },
    ),
    "nist_aal1": Profile(
        "NIST SP 800-63B-4, 2.1.3: definite overall timeout, at most 30 days; 5.1 for CSRF",
        {
            "idle_timeout": 30 * DAY,
            "absolute_timeout": 30 * DAY,
            "approved_only": True,
            "remember_for": None,
            "csrf": _NIST_CSRF,
        },
    ),
    "nist_aal2": Profile(
        "NIST SP 800-63B-4, 2.2.3: overall at most 24 hours, inactivity at most 1 hour; 5.1 CSRF",
        {
            "idle_timeout": 1 * HOUR,
            "absolute_timeout": 24 * HOUR,
            "approved_only": True,
            "remember_for": None,
            "csrf": _NIST_CSRF,
        },
    ),
    "nist_aal3": Profile(
        "NIST SP 800-63B-4, 2.3.3: overall at most 12 hours, inactivity at most 15 minutes; 5.1",
        {
            "idle_timeout": 15 * MINUTE,
            "absolute_timeout": 12 * HOUR,
            "approved_only": True,
            "remember_for": None,
            "csrf": _NIST_CSRF,
        },
    ),
}


@dataclass(frozen=True, slots=True)
class Clocks:
    """The policy's durations as milliseconds."""

    idle: int
    absolute: int
    touch: int
    renew_after: int | None
    grace: int
    settle: int
    anonymous_idle: int
    anonymous_absolute: int
    pending_idle: int
    pending_absolute: int
    hand_over: int
    approval: int
    remember: int
    retention: int
    _of_kind: tuple[tuple[int, int], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Every request asks, so the answers are laid out once, by the kind's number."""
        signed_in = self.idle, self.absolute
        told = {
            Kind.ANONYMOUS: (self.anonymous_idle, self.anonymous_absolute),
            Kind.PENDING: (self.pending_idle, self.pending_absolute),
            Kind.AUTHENTICATED: signed_in,
            Kind.REMEMBERED: signed_in,
            Kind.HAND_OVER: (self.hand_over, self.hand_over),
            Kind.APPROVAL: (self.approval, self.approval),
            Kind.PERSISTENT: (self.remember, self.remember),
        }
        object.__setattr__(self, "_of_kind", tuple(told[kind] for kind in Kind))

    @classmethod
    def of(cls, policy: SessionPolicy) -> Clocks:
        """Derived once: the touch interval is a tenth of the idle timeout, at most a minute."""
        touch = policy.touch_interval
        if touch is None:
            touch = min(policy.idle_timeout / 10, TOUCH_AT_MOST)
        return cls(
            idle=ms(policy.idle_timeout),
            absolute=ms(policy.absolute_timeout),
            touch=ms(touch),
            renew_after=None if policy.renew_after is None else ms(policy.renew_after),
            grace=ms(policy.grace),
            settle=ms(policy.settle),
            anonymous_idle=ms(policy.anonymous_idle),
            anonymous_absolute=ms(policy.anonymous_absolute),
            pending_idle=ms(policy.pending_idle),
            pending_absolute=ms(policy.pending_absolute),
            hand_over=ms(policy.hand_over_lifetime),
            approval=ms(policy.approval_lifetime),
            remember=0 if policy.remember_for is None else ms(policy.remember_for),
            retention=ms(policy.history_retention),
        )

    def lifetimes(self, kind: Kind) -> tuple[int, int]:
        """Idle and absolute timeout of a kind, in milliseconds (C5)."""
        return self._of_kind[kind]

    def purge_at(self, kind: Kind, moment: int) -> int:
        """When a record that stops at `moment` may be forgotten: only accounts have a history."""
        return moment + (self.retention if kind.is_signed_in else self.grace + self.settle)


def judge(
    header: Header, identity: Identity, now: int, *, clocks: Clocks, store_epoch: bytes
) -> EndReason | None:
    """Why this session is over at this moment, or None while it lives (P9).

    The policy counts as it is now: a shortened timeout reaches sessions that began before it.
    """
    if header.end_reason is not None:
        return header.end_reason
    if header.store_epoch != store_epoch:
        return EndReason.STORE_RESET
    idle, absolute = clocks.lifetimes(identity.kind)
    if now >= min(identity.absolute_deadline, identity.created_at + absolute):
        return EndReason.ABSOLUTE
    if now >= min(header.idle_deadline, header.last_seen + idle):
        return EndReason.IDLE
    return None


def ms(duration: timedelta) -> int:
    """The duration in whole milliseconds."""
    return duration // timedelta(milliseconds=1)


_POSITIVE = (
    "idle_timeout",
    "absolute_timeout",
    "grace",
    "settle",
    "anonymous_idle",
    "anonymous_absolute",
    "pending_idle",
    "pending_absolute",
    "hand_over_lifetime",
    "approval_lifetime",
    "max_staleness",
)
_CLEARABLE = frozenset({"cache", "cookies", "storage", "executionContexts", "clientHints"})


def _contradictions(policy: SessionPolicy) -> list[str]:
    """Sentences on what cannot be, each with what to change."""
    checks = [
        (getattr(policy, name) <= timedelta(0), f"{name} must be longer than zero.")
        for name in _POSITIVE
    ]
    checks += [
        (getattr(policy, name) > _CENTURY, f"{name} is longer than a century.")
        for name in (*_POSITIVE, "history_retention", "max_skew")
    ]
    out_of_range = [sentence for wrong, sentence in checks if wrong]
    if out_of_range:
        return out_of_range  # What follows adds durations up.
    touch = policy.touch_interval
    renew = policy.renew_after
    known = {each.name for each in fields(policy)}
    checks += [
        (
            policy.idle_timeout > policy.absolute_timeout,
            "idle_timeout is longer than absolute_timeout, so it would never act: shorten it.",
        ),
        (
            policy.settle <= policy.grace,
            "settle must be longer than grace, or an honest retry would look like theft.",
        ),
        (
            touch is not None and not timedelta(0) <= touch < policy.idle_timeout,
            "touch_interval must be shorter than idle_timeout, or active people are signed out.",
        ),
        (renew is not None and renew > _CENTURY, "renew_after is longer than a century."),
        (
            renew is not None and renew < policy.settle + policy.grace,
            "renew_after must be at least settle + grace, because no renewal starts earlier.",
        ),
        (
            policy.remember_for is not None
            and not timedelta(seconds=1) <= policy.remember_for <= REMEMBER_AT_MOST,
            "remember_for must be between a second and 400 days, which is as long as a browser "
            "keeps a cookie; None switches persistent logins off.",
        ),
        (
            policy.know_devices_for is not None
            and not timedelta(seconds=1) <= policy.know_devices_for <= REMEMBER_AT_MOST,
            "know_devices_for must be between a second and 400 days, which is as long as a browser "
            "keeps a cookie; None gives no browser an id.",
        ),
        (policy.max_sessions < 1, "max_sessions must be at least 1."),
        (policy.max_data < 1 or policy.max_anonymous_data < 1, "data limits must be positive."),
        (
            policy.server_sealed != () and policy.seal_data is not DataSeal.TOKEN,
            "server_sealed names what servers may read alone, but seal_data already lets them "
            "read everything: leave one of the two out.",
        ),
        (
            not 1 <= policy.record_format <= FORMAT,
            f"this release writes record formats 1 to {FORMAT}, so record_format cannot be "
            f"{policy.record_format}.",
        ),
        (policy.history_length < 0, "history_length cannot be negative."),
        (
            policy.history_retention < timedelta(0),
            "history_retention cannot be negative; zero keeps nothing.",
        ),
        (
            not set(policy.clear_site_data) <= _CLEARABLE,
            f"clear_site_data knows only {', '.join(sorted(_CLEARABLE))}.",
        ),
        (
            not _is_page(policy.sign_in_path),
            "sign_in_path must be a plain path of this site, such as '/sign-in'.",
        ),
        (
            policy.step_up_path is not None and not _is_page(policy.step_up_path),
            "step_up_path must be a plain path of this site, or be left out.",
        ),
        (
            policy.profile is not None and policy.profile not in PROFILES,
            f"there is no profile {policy.profile!r}; there are {', '.join(PROFILES)}.",
        ),
        (
            not set(policy.reasons) <= known,
            "reasons names a field that does not exist: "
            + ", ".join(sorted(set(policy.reasons) - known))
            + ".",
        ),
        (
            policy.development and any(each.startswith("https:") for each in policy.origins),
            "development is for http://localhost only: leave it out where the site has https.",
        ),
    ]
    return [sentence for wrong, sentence in checks if wrong]


def _is_page(path: str) -> bool:
    """Whether the browser can be sent there, and nowhere else."""
    return path != "" and safe_next(path, "") == path


def _unexplained(policy: SessionPolicy) -> list[str]:
    """Loosened limits of a named profile that come without a reason."""
    if policy.profile not in PROFILES:
        return []
    return [
        f"{each.name} is looser than {policy.profile} says; give the reason, for example "
        f"reasons={{{each.name!r}: 'why this is right here'}}."
        for each in policy.deviations()
        if each.reason is None and _is_looser(each)
    ]


def _is_looser(deviation: Deviation) -> bool:
    if deviation.name == "remember_for":
        return deviation.actual is not None
    if isinstance(deviation.expected, timedelta):
        return deviation.actual is None or deviation.actual > deviation.expected
    if isinstance(deviation.expected, CsrfRules):
        asked = deviation.expected.token_on_every_body
        return asked and not deviation.actual.token_on_every_body
    return bool(deviation.expected) and not deviation.actual
