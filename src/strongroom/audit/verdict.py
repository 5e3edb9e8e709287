"""How a check ends, and the table of all checks.

`check` puts a function into the table, with everything that a report says of it. A function returns
a `Verdict`, or raises `Unsure` or `NotApplicable`; it may not return a pass that its own probe did
not earn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from .wire import Reply

if TYPE_CHECKING:
    from .site import Site

Outcome = Literal["pass", "fail", "warn", "not applicable", "could not tell"]
OUTCOMES: tuple[Outcome, ...] = ("fail", "warn", "could not tell", "pass", "not applicable")
Severity = Literal["critical", "high", "medium", "low", "info"]
SEVERITIES: tuple[Severity, ...] = ("critical", "high", "medium", "low", "info")


class Unsure(Exception):
    """The check could not tell. The text is the reason, a whole sentence."""


class NotApplicable(Exception):
    """There is nothing here to check. The text is the reason, a whole sentence."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out: a sentence, more sentences, and the exchanges that show it."""

    outcome: Outcome
    summary: str
    details: tuple[str, ...] = ()
    evidence: tuple[Reply, ...] = ()
    subject: str = ""
    severity: Severity | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `fix` names a topic of `fixes`; `needs` says what of the plan it cannot do "
    "without."""

    id: str
    family: str
    title: str
    severity: Severity
    refs: tuple[str, ...]
    why: str
    how: str
    fix: str
    run: Callable[[Site], Verdict] = field(repr=False)
    order: int = 50
    covered_by: tuple[str, ...] = ()


REGISTRY: dict[str, Check] = {}

FAMILIES: Mapping[str, str] = {
    "tokens": "Session tokens",
    "cookies": "Cookies",
    "fixation": "Fixation and rotation",
    "ends": "Signing out, and other ends",
    "timeouts": "Timeouts",
    "csrf": "Cross-site requests",
    "transport": "Transport and caching",
    "sessions": "Several sessions, and step-up",
    "trust": "Half-open sessions and forwarded headers",
    "races": "Races",
}


def check(
    identity: str,
    title: str,
    severity: Severity,
    refs: str,
    *,
    why: str,
    how: str,
    fix: str,
    order: int = 50,
    covered_by: tuple[str, ...] = (),
) -> Callable[[Callable[[Site], Verdict]], Callable[[Site], Verdict]]:
    """Put a function into the table. `refs` are ids, separated by commas; `order` is low for early.

    Where one of `covered_by` has failed, this check would find the same again, and is left out.

    The family is the first word of the identity.
    """

    def register(run: Callable[[Site], Verdict]) -> Callable[[Site], Verdict]:
        family = identity.partition("-")[0]
        family = {"token": "tokens", "cookie": "cookies", "end": "ends", "timeout": "timeouts",
                  "session": "sessions", "race": "races"}.get(family, family)  # fmt: skip
        if identity in REGISTRY or family not in FAMILIES:
            raise ValueError(identity)
        listed = tuple(each.strip() for each in refs.split(","))
        REGISTRY[identity] = Check(
            identity, family, title, severity, listed, why, how, fix, run, order, covered_by
        )
        return run

    return register


def passed(summary: str, *evidence: Reply, details: Sequence[str] = ()) -> Verdict:
    """The probe worked, and the site stood."""
    return Verdict("pass", summary, tuple(details), evidence)


def failed(
    summary: str, *evidence: Reply, details: Sequence[str] = (), severity: Severity | None = None
) -> Verdict:
    """An attacker gets something."""
    return Verdict("fail", summary, tuple(details), evidence, severity=severity)


def warned(
    summary: str, *evidence: Reply, details: Sequence[str] = (), severity: Severity | None = None
) -> Verdict:
    """Weaker than it should be, or one layer only."""
    return Verdict("warn", summary, tuple(details), evidence, severity=severity)
