"""Step-up: what a route asks for, against what this session has proved, and when (P25, RFC 9470).

    ask(requirement, events, now)  ->  Satisfied | Challenge

Rules. Freshness runs from each authentication event, per factor; no activity moves it, so the
bound is hard. The level is derived from those events alone that are fresh enough: yesterday's
hardware key does not lift today's password. An event from the future beyond the allowed skew does
not count. A remembered session (persistent login) has the lowest level at most and is never recent:
"remember my browser" does not replace authentication (NIST SP 800-63B-4, 5.1).

Not here: single use and binding to one transaction (ASVS 7.5.3), which need a store: see
`flows/approving.py`. The levels are in `assurance.py`, where to send the browser is in
`return_path.py`, and reading somebody else's challenge is in `challenges.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .assurance import NIST_AAL, AcrTable, Level, Way
from .errors import ConfigurationError, StepUpRequired, UsageError
from .record import AuthenticationEvent
from .return_path import safe_next, sign_in_location

__all__ = [
    "NIST_AAL",
    "AcrTable",
    "AuthenticationEvent",
    "Challenge",
    "Level",
    "Requirement",
    "Satisfied",
    "ask",
    "safe_next",
    "sign_in_location",
]

DEFAULT_SKEW = 2_000
"""Milliseconds by which two servers' clocks may differ (PROTOCOL E6)."""

_HTTP_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a route asks for: not older than `max_age` (ms), at least level `acr`, all of `amr`.

    A `max_age` of zero is a value: the proof must be from this very moment. All parts that are set
    must hold together, and with `max_age` for fresh events alone, so that `acr` with `max_age` is
    full re-authentication (ASVS 7.5.1) and `max_age` alone is any one factor anew (ASVS 7.5.2).

    `ages` gives single factors an age of their own (ms), beside `max_age`: each must be proved, and
    an older proof of it counts for nothing, not for the level either.

    Raises:
        ConfigurationError: nothing is asked for, or an age is negative.
    """

    max_age: int | None = None
    acr: str | None = None
    amr: frozenset[str] = frozenset()
    ages: Mapping[str, int] = field(default_factory=dict[str, int], hash=False)

    def __post_init__(self) -> None:
        """A requirement that guards nothing is a mistake, not a wish."""
        if self.max_age is None and self.acr is None and not self.named:
            raise ConfigurationError(
                "A step-up requirement asks for nothing.",
                why="The route would look guarded and not be.",
                hint="Set max_age, acr or amr.",
            )
        for age in (self.max_age, *self.ages.values()):
            if age is not None and age < 0:
                raise ConfigurationError(
                    f"max_age cannot be {age}.",
                    why="Nobody can have authenticated in the future.",
                    hint="Give milliseconds; 0 means right now.",
                )

    @property
    def named(self) -> frozenset[str]:
        """Every method that must have been proved, with an age of its own or without."""
        return self.amr | self.ages.keys()

    def fresh_until(self, event: AuthenticationEvent) -> int | None:
        """The last moment (ms UTC) at which the event counts here; None where it has no end."""
        ages = [each for each in (self.max_age, self.ages.get(event.amr)) if each is not None]
        return event.at + min(ages) if ages else None


@dataclass(frozen=True, slots=True)
class Satisfied:
    """The requirement holds, at this level, and by these proofs no longer than `until` (ms UTC).

    The end is hard: nothing but a new proof moves it. None where nothing asked has an age.
    """

    acr: str
    until: int | None = None


_SENTENCES = {
    "remembered": "This browser was remembered; please sign in to go on.",
    "doubtful": "Something about this session looks unusual; please confirm it is you.",
    "not_authenticated": "Nothing in this session proves who you are; please sign in.",
    "too_old": "The last authentication is too long ago for this; please confirm it is you.",
    "too_weak": "This needs a stronger authentication than the session has.",
    "method_missing": "This needs an authentication method that was not used in this session.",
    "not_approved": "This has to be approved by you; please confirm it.",
}
"""Every reason for a challenge, by its stable code. Fit for a quoted string in a header."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The requirement does not hold: `reason` is a stable code, and it is told in three ways.

    `owed` says what would help, fewest proofs first: any one of its entries, and in it from each
    set one method. With `approval_id` they must be proved for that transaction.
    """

    reason: str
    requirement: Requirement
    owed: tuple[Way, ...] = ()
    approval_id: str | None = None

    def would_do(self, methods: Iterable[str]) -> bool:
        """Whether proving all of these now would be enough: for a page that offers several ways."""
        proved = frozenset(methods)
        return any(all(choice & proved for choice in way) for way in self.owed)

    @property
    def sentence(self) -> str:
        """The reason for people."""
        return _SENTENCES[self.reason]

    @property
    def max_age_seconds(self) -> int | None:
        """Whole seconds, as OAuth counts; rounded down, so that nobody is promised too much."""
        age = self.requirement.max_age
        return None if age is None else age // 1000

    def www_authenticate(self, scheme: str = "Bearer") -> str:
        """The WWW-Authenticate header of the 401 answer (RFC 9470, 3).

        A 401 must name a scheme (RFC 9110, 11.6.1), and cookies have none. `Bearer` is the one for
        which RFC 9470 defines these parameters, clients look for it, and no browser opens a dialog.
        An application whose clients would then send tokens may name its own, such as `Session`.

        Raises:
            UsageError: the scheme is no HTTP token.
        """
        if not _HTTP_TOKEN.fullmatch(scheme):
            raise UsageError(
                f"{scheme!r} is no authentication scheme.",
                why="It would break the header.",
                hint="Use one word, such as 'Bearer' or 'Session'.",
            )
        parts = ['error="insufficient_user_authentication"', f'error_description="{self.sentence}"']
        if self.requirement.acr is not None:
            parts.append(f'acr_values="{self.requirement.acr}"')
        if self.max_age_seconds is not None:
            parts.append(f'max_age="{self.max_age_seconds}"')
        return f"{scheme} {', '.join(parts)}"

    def problem(self) -> dict[str, object]:
        """The JSON body (application/problem+json, RFC 9457); absent parts are left out."""
        body: dict[str, object] = {
            "type": "about:blank",
            "title": "Unauthorized",
            "status": 401,
            "detail": self.sentence,
            "code": StepUpRequired.code,
            "error": "insufficient_user_authentication",
            "reason": self.reason,
        }
        if self.requirement.acr is not None:
            body["acr_values"] = self.requirement.acr
        if self.requirement.named:
            body["amr_values"] = sorted(self.requirement.named)
        if self.requirement.ages:
            ages = self.requirement.ages
            body["amr_max_age"] = {amr: ages[amr] // 1000 for amr in sorted(ages)}
        if self.max_age_seconds is not None:
            body["max_age"] = self.max_age_seconds
        if self.approval_id is not None:
            body["approval"] = self.approval_id
        if self.owed:
            body["owed"] = [[sorted(choice) for choice in way] for way in self.owed]
        return body


def ask(
    requirement: Requirement,
    events: Iterable[AuthenticationEvent],
    now: int,
    table: AcrTable = NIST_AAL,
    remembered: bool = False,
    *,
    skew: int = DEFAULT_SKEW,
    doubtful: bool = False,
    closed_at: int = 0,
) -> Satisfied | Challenge:
    """Whether the events meet the requirement at `now` (ms UTC, as is `skew`).

    Events up to `closed_at` are not recent at any age: there somebody gave their privilege up.

    A session that a persistent login opened, or about which something is `doubtful`, meets only
    what asks for the weakest level at any age.

    Raises:
        ConfigurationError: the requirement names a level that the table does not have.
    """
    wanted = None if requirement.acr is None else table.rank(requirement.acr)
    believed = [event for event in events if event.at <= now + skew]
    fresh = [event for event in believed if _is_fresh(event, requirement, now, closed_at)]
    above_lowest = wanted not in (None, 0)
    reason = None
    if requirement.max_age is not None or requirement.named or above_lowest:
        reason = "remembered" if remembered else "doubtful" if doubtful else None
    reason = reason or _missing(requirement, wanted, believed, table)
    if reason is None and _missing(requirement, wanted, fresh, table) is not None:
        reason = "too_old"
    level = table.derive(fresh, remembered)
    if reason is not None or level is None:
        owed = _owed(requirement, wanted or 0, fresh, table)
        return Challenge(reason or "too_old", requirement, owed)
    return Satisfied(level, _until(requirement, wanted, fresh, table))


def _missing(
    requirement: Requirement,
    wanted: int | None,
    events: list[AuthenticationEvent],
    table: AcrTable,
) -> str | None:
    """The reason why these events would not do at any age, or None."""
    level = table.derive(events)
    if level is None:
        return "not_authenticated"
    if wanted is not None and table.rank(level) < wanted:
        return "too_weak"
    if not requirement.named <= {event.amr for event in events}:
        return "method_missing"
    return None


def _is_fresh(
    event: AuthenticationEvent, requirement: Requirement, now: int, closed_at: int
) -> bool:
    """Age counts from the event itself; nothing that happened since makes it younger."""
    until = requirement.fresh_until(event)
    return until is None or (now <= until and event.at > closed_at)


def _until(
    requirement: Requirement,
    wanted: int | None,
    fresh: list[AuthenticationEvent],
    table: AcrTable,
) -> int | None:
    """The moment at which the first proof goes without which the rest is not enough."""
    ends = [(requirement.fresh_until(event), event) for event in fresh]
    for end in sorted({end for end, _ in ends if end is not None}):
        left = [event for until, event in ends if until is None or until > end]
        if _missing(requirement, wanted, left, table) is not None:
            return end
    return None


def _owed(
    requirement: Requirement, wanted: int, fresh: list[AuthenticationEvent], table: AcrTable
) -> tuple[Way, ...]:
    """The ways from the fresh events to the requirement, fewest proofs first."""
    have = frozenset(event.amr for event in fresh)
    named = tuple(frozenset({amr}) for amr in sorted(requirement.named - have))
    have |= requirement.named
    ways: list[Way] = []
    for level in table.levels[wanted:]:
        for way in level.ways:
            left = (*named, *(choice for choice in way if not choice & have))
            if left not in ways:
                ways.append(left)
    # Nothing is left to prove where the session itself is doubted: then any one factor, anew.
    if () in ways:
        ways = list(table.levels[0].ways)
    short = [way for way in ways if not any(_is_more(way, other) for other in ways)]
    return tuple(sorted(short, key=len))


def _is_more(way: Way, other: Way) -> bool:
    """Whether going this way always goes the other one too, and not the other way round."""
    return _covers(way, other) and not _covers(other, way)


def _covers(way: Way, other: Way) -> bool:
    return all(any(choice <= wanted for choice in way) for wanted in other)
