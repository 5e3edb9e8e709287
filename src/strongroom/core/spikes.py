"""Rates that leap: a count a minute against what the last hours had, without a training step.

The baseline is the median of the last minutes and their median absolute deviation, which one wild
minute does not move: half of the window would have to be wild. Below a floor nothing is a spike, so
that three sign-ins in a quiet night are none.

Each process counts what it serves itself. Pure: the moment is a parameter.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from .signals import MINUTE, Signal

WINDOW = 180
"""Minutes that make the baseline: long enough for a median, short enough to follow the day."""
MAD_TO_SIGMA = 1.4826
"""A normal distribution's standard deviation from its median absolute deviation."""


@dataclass(frozen=True, slots=True)
class SpikeRule:
    """`floor` a minute is never a spike; `deviations` above the median is one."""

    name: str
    floor: int
    deviations: float = 6.0


class Spike:
    """Counts one kind of thing, and says when a minute has far more of it than usual."""

    __slots__ = ("_count", "_minute", "_past", "_told", "rule")

    def __init__(self, rule: SpikeRule) -> None:
        self.rule = rule
        self._past: deque[int] = deque(maxlen=WINDOW)
        self._minute = 0
        self._count = 0
        self._told = False

    def count(self, at: int, by: int = 1) -> Signal | None:
        """Count so many at the moment `at` -> the signal, once a minute at the most.

        It is told in the minute that leaps, as soon as the count does; not after the minute.
        """
        self._advance(at // MINUTE)
        self._count += by
        if self._told or self._count < self.threshold:
            return None
        self._told = True
        usual = _median(self._past)
        return Signal(
            self.rule.name,
            min(1.0, 0.5 + 0.1 * self._count / max(1.0, self.threshold)),
            f"{self._count} within this minute; usual are {usual:g}.",
            {"count": self._count, "usual": usual, "threshold": round(self.threshold, 1)},
        )

    @property
    def threshold(self) -> float:
        """The count a minute from which on it is a spike."""
        if not self._past:
            return float(self.rule.floor)
        usual = _median(self._past)
        deviation = MAD_TO_SIGMA * _median(abs(each - usual) for each in self._past)
        # With a still past the deviation is zero; a count then varies as its square root does.
        spread = max(deviation, math.sqrt(usual))
        return max(float(self.rule.floor), usual + self.rule.deviations * spread)

    def _advance(self, minute: int) -> None:
        if not self._minute:
            self._minute = minute
        passed = minute - self._minute
        if passed <= 0:
            return  # The same minute, or a clock that went back: it counts into this one.
        # A minute that leapt is no baseline: else a long attack would become the usual.
        self._past.append(min(self._count, int(self.threshold)))
        for _ in range(min(passed - 1, WINDOW)):
            self._past.append(0)
        self._minute, self._count, self._told = minute, 0, False


RULES = {
    "session_created": SpikeRule("session_creation_spike", floor=60),
    "malicious_csrf": SpikeRule("csrf_spike", floor=20),
    "session_token_refused": SpikeRule("token_guessing", floor=20),
    "authn_login_fail": SpikeRule("failed_sign_in_spike", floor=30),
    "authn_login_success": SpikeRule("sign_in_spike", floor=60),
}
"""What is counted, by the event's name, and the name of the signal that it raises."""


class Spikes:
    """All of them, fed with the names of events."""

    __slots__ = ("_spikes",)

    def __init__(self, rules: dict[str, SpikeRule] | None = None) -> None:
        self._spikes = {name: Spike(rule) for name, rule in (rules or RULES).items()}

    def count(self, event: str, at: int) -> Signal | None:
        """Count an event -> the signal of its kind, if this one makes it a spike."""
        spike = self._spikes.get(event)
        return None if spike is None else spike.count(at)


def _median(values: Iterable[float]) -> float:
    """The middle value; of an even number the mean of the middle two; of none zero."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    middle = len(ordered) // 2
    return (ordered[middle] + ordered[~middle]) / 2
