"""How likely a sign-in is somebody else's, in the manner of Freeman et al. (NDSS 2016).

"Who are you? A statistical approach to measuring user authenticity" weighs what is seen at a
sign-in by how usual it is for everybody against how usual it is for this account:

    risk = product over the features of  p(value | everybody) / p(value | this account)

An attacker is assumed to look like anybody. A value that the account always shows makes the risk
small, and smaller the rarer it is elsewhere; one that it never showed makes it larger, and larger
the longer the account's habit is. Both are smoothed: an account's probability backs off to
everybody's, and everybody's to a value never seen, so one sign-in proves little and no count is
ever zero.

The features are independent here, as in the paper's simple form: the network and its country say
the same thing twice, so only the finest one that is known counts.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .signals import HOUR, Footprint, Signal

DAY = 24 * HOUR

OWN_WEIGHT = 2.0
"""So many of an account's own sign-ins weigh as much as everybody's share does."""
UNSEEN = 1.0
"""A value that nobody ever showed counts as one sign-in among all."""
SUSPICIOUS = 1.0
"""The decimal logarithm of the risk that is an even chance: ten times likelier elsewhere."""
STEEPNESS = 2.0


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing that is looked at, and its value in this sign-in."""

    name: str
    value: str


def features(seen: Footprint) -> Iterator[Feature]:
    """What is known of a sign-in: where from, with what, and when. Unknown ones are left out."""
    where = seen.place.network or seen.network or seen.place.country
    if where:
        yield Feature("where", where)
    client = "/".join(part for part in (seen.agent, seen.platform) if part)
    if client:
        yield Feature("client", client)
    yield Feature("hour", str(seen.at % DAY // (6 * HOUR)))


class Population:
    """How often each value was seen among everybody's sign-ins, fading with time.

    In memory, bounded, and one a process: each learns from the sign-ins that it serves. `state` and
    `restore` carry it over a restart. It holds networks and kinds of browsers, and nobody's name.
    """

    __slots__ = ("_at", "_counts", "_half_life", "_most", "_totals", "_weight")

    def __init__(self, *, half_life: int = 30 * DAY, most: int = 20_000) -> None:
        self._half_life = half_life
        self._most = most
        self._counts: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._totals: dict[str, float] = {}
        self._at = 0
        self._weight = 1.0

    def learn(self, seen: Footprint) -> None:
        """Count a sign-in that succeeded."""
        # Counting later sign-ins for more is the same as letting earlier ones fade, and costs
        # nothing each time; when the weights grow large everything is brought down again.
        self._at = self._at or seen.at
        # A clock that was decades off must not make the power overflow: a sign-in would fail by it.
        halves = min((seen.at - self._at) / self._half_life, 1000.0)
        weight = 2.0**halves
        if weight > 2.0**20:
            self._fade(weight)
            self._at, weight = seen.at, 1.0
        self._weight = max(self._weight, weight)
        for feature in features(seen):
            key = (feature.name, feature.value)
            self._counts[key] = self._counts.pop(key, 0.0) + weight
            self._totals[feature.name] = self._totals.get(feature.name, 0.0) + weight
        while len(self._counts) > self._most:
            (name, _value), count = self._counts.popitem(last=False)
            self._totals[name] -= count

    def share(self, feature: Feature) -> float:
        """Everybody's probability of the value: above zero, also for one never seen."""
        one = UNSEEN * self._weight
        count = self._counts.get((feature.name, feature.value), 0.0)
        return (count + one) / (self._totals.get(feature.name, 0.0) + 2 * one)

    def state(self) -> dict[str, dict[str, float]]:
        """The counts as plain values, for a file."""
        told: dict[str, dict[str, float]] = {}
        for (name, value), count in self._counts.items():
            told.setdefault(name, {})[value] = count / self._weight
        return told

    def restore(self, state: Mapping[str, Mapping[str, float]], at: int) -> None:
        """Go on from a `state`, as of the moment `at` (ms UTC)."""
        self._at, self._weight = at, 1.0
        self._counts.clear()
        self._totals.clear()
        for name, values in state.items():
            for value, count in values.items():
                self._counts[name, value] = float(count)
                self._totals[name] = self._totals.get(name, 0.0) + float(count)

    def _fade(self, weight: float) -> None:
        for key in self._counts:
            self._counts[key] /= weight
        for name in self._totals:
            self._totals[name] /= weight
        self._weight = 1.0


@dataclass(frozen=True, slots=True)
class Risk:
    """`score` between 0 and 1, the logarithm that it was made of, and each feature's part."""

    score: float
    log10: float
    parts: Mapping[str, float]


def sign_in_risk(
    history: Sequence[Footprint], now: Footprint, everybody: Population
) -> Risk | None:
    """How much likelier this sign-in is anybody's than the account's own.

    None without a history: somebody's first sign-in says nothing.
    """
    own = [each for each in history if each.succeeded and each.at <= now.at]
    if not own:
        return None
    parts = {
        feature.name: math.log10(everybody.share(feature) / _own_share(own, feature, everybody))
        for feature in features(now)
    }
    log10 = sum(parts.values())
    return Risk(1.0 / (1.0 + 10.0 ** (-STEEPNESS * (log10 - SUSPICIOUS))), log10, parts)


def risk_signal(risk: Risk | None) -> Signal | None:
    """The risk as a signal, where it is more than an even chance."""
    if risk is None or risk.score < 0.5:
        return None
    most = max(risk.parts, key=lambda name: risk.parts[name])
    return Signal(
        "sign_in_risk",
        risk.score,
        f"This sign-in looks {10**risk.log10:.0f} times likelier for anybody than for this "
        f"account; what weighs most is {_IN_WORDS[most]}.",
        {"log10": round(risk.log10, 2), **{k: round(v, 2) for k, v in risk.parts.items()}},
    )


_IN_WORDS = {"where": "where it came from", "client": "the browser", "hour": "the time of day"}


def _own_share(own: Iterable[Footprint], feature: Feature, everybody: Population) -> float:
    """The account's probability of the value, backed off to everybody's."""
    seen = [value for each in own for value in features(each) if value.name == feature.name]
    same = sum(1 for each in seen if each.value == feature.value)
    backed_off = OWN_WEIGHT * everybody.share(feature)
    return (same + backed_off) / (len(seen) + OWN_WEIGHT)
