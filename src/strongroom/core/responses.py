"""What follows from a signal: a table from its name and score, and nothing hidden.

The responses, from the mildest to the harshest. What is harsher does not include what is milder:
a row names all that happens.

    record    it stands in the events and in the account's history; every signal is recorded
    notify    the owner is told, with "was this you?"
    renew     the session token is replaced with the response
    lower     the session's assurance drops: what asks for a recent sign-in asks again
    step_up   as `lower`; and the page asks at once, where it can
    end       the session ends, or the sign-in is refused
    end_all   everything that the account has ends

The default table ends nothing and locks nobody out: phones change networks, browsers are upgraded,
people travel. It tells the owner, and it lowers the assurance where two facts speak together or one
is hard to explain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from .errors import ConfigurationError
from .signals import Signal


class Response(StrEnum):
    """One thing that can follow from a signal."""

    RECORD = "record"
    NOTIFY = "notify"
    RENEW = "renew"
    LOWER = "lower"
    STEP_UP = "step_up"
    END = "end"
    END_ALL = "end_all"


@dataclass(frozen=True, slots=True)
class ResponseRule:
    """From this score on, a signal of this name has these responses."""

    signal: str
    at_least: float
    responses: frozenset[Response]

    def __post_init__(self) -> None:
        """Refuses a score that no signal has."""
        if not 0.0 <= self.at_least <= 1.0:
            raise ConfigurationError(
                f"The rule for {self.signal!r} begins at a score of {self.at_least}.",
                why="Scores are between 0 and 1, so it would act always, or never.",
                hint="Write a number from 0 to 1.",
            )


def rule(signal: str, at_least: float, *responses: Response) -> ResponseRule:
    """A row of the table."""
    return ResponseRule(signal, at_least, frozenset(responses))


@dataclass(frozen=True, slots=True)
class ResponseTable:
    """Rules; of those that fit a signal, the one with the highest score counts.

    A signal that no rule names is recorded.
    """

    rules: tuple[ResponseRule, ...]

    def __repr__(self) -> str:
        """How many rules it has: they are read with `strongroom explain`."""
        return f"ResponseTable({len(self.rules)} rules)"

    def to(self, signal: Signal) -> frozenset[Response]:
        """What follows from one signal; recording always does."""
        fitting = [
            each
            for each in self.rules
            if each.signal == signal.name and signal.score >= each.at_least
        ]
        chosen = max(fitting, key=lambda each: each.at_least, default=None)
        record = frozenset({Response.RECORD})
        return record if chosen is None else record | chosen.responses

    def to_all(self, signals: Iterable[Signal]) -> frozenset[Response]:
        """What follows from several signals of one moment: all that follows from any."""
        return frozenset(response for each in signals for response in self.to(each))

    def changed(self, changes: Mapping[str, Iterable[ResponseRule]]) -> ResponseTable:
        """A table with all rules of the named signals replaced."""
        kept = [each for each in self.rules if each.signal not in changes]
        return ResponseTable((*kept, *(each for rules in changes.values() for each in rules)))


_R = Response
DEFAULT_RESPONSES = ResponseTable(
    (
        # Seen at a sign-in.
        rule("new_device", 0.5, _R.NOTIFY),
        rule("new_country", 0.0, _R.NOTIFY),
        rule("impossible_travel", 0.5, _R.NOTIFY, _R.LOWER),
        rule("after_failures", 0.5, _R.NOTIFY),
        rule("sign_in_burst", 0.4, _R.NOTIFY),
        rule("sign_in_risk", 0.5, _R.NOTIFY),
        rule("sign_in_risk", 0.9, _R.NOTIFY, _R.LOWER),
        # Seen while a session is used.
        rule("agent_changed", 0.4, _R.RENEW),
        rule("agent_changed", 0.8, _R.NOTIFY, _R.LOWER),
        rule("address_changed", 0.5, _R.LOWER),
        rule("two_places", 0.7, _R.NOTIFY, _R.LOWER),
        rule("other_subject", 0.0, _R.RECORD),
    )
)
"""Chosen from the simulation (`make simulate`), so that an honest person is seldom told and never
signed out: docs/signals.md has the figures."""
