"""Facts that look wrong: pure functions from what was seen before and what is seen now.

Each signal has a score between 0 and 1, a sentence, and the evidence that it was made of. A signal
is no verdict: what follows from it stands in the policy's table (`responses.py`), and honest people
cause most of them, which docs/signals.md goes through one by one.

A history that is empty raises nothing: somebody's first sign-in is new in every way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .places import UNKNOWN, Place, travel

MINUTE = 60_000
HOUR = 60 * MINUTE


@dataclass(frozen=True, slots=True)
class Signal:
    """One fact that looks wrong: `name` is stable, `score` is between 0 and 1."""

    name: str
    score: float
    reason: str
    evidence: Mapping[str, str | int | float] = field(default_factory=dict[str, str | int | float])


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one sign-in looked like, or one use of a session. Empty text is unknown.

    `at` is ms UTC; `version` the browser's major version, 0 where unknown; `network` the coarse
    prefix of the address; `device` the stable device id, where there is one.
    """

    at: int
    agent: str = ""
    version: int = 0
    platform: str = ""
    network: str = ""
    device: str = ""
    place: Place = UNKNOWN
    succeeded: bool = True


@dataclass(frozen=True, slots=True)
class SignalRules:
    """Thresholds. The defaults come from `make simulate`; docs/signals.md says what they cost."""

    fastest_kmh: float = 1_000.0
    """Faster than any airliner from door to door."""
    shortest_km: float = 500.0
    """Databases place an address hundreds of kilometres off now and then, in its own country."""
    failures: int = 5
    failure_window: int = 1 * HOUR
    burst: int = 5
    burst_window: int = 10 * MINUTE
    usual_after: int = 20
    """Sign-ins that must be known before any time of day can be unusual."""
    unusual_share: float = 0.02


def sign_in_signals(
    history: Sequence[Footprint], now: Footprint, rules: SignalRules
) -> tuple[Signal, ...]:
    """What looks wrong about a sign-in, given the subject's earlier ones in any order."""
    known = [each for each in history if each.succeeded and each.at <= now.at]
    found = (
        _after_failures(history, now, rules),
        *(
            (
                _new_device(known, now),
                _new_country(known, now),
                _new_network(known, now),
                _impossible_travel(known, now, rules),
                _burst(known, now, rules),
                _unusual_time(known, now, rules),
            )
            if known
            else ()
        ),
    )
    return tuple(signal for signal in found if signal is not None)


def use_signals(then: Footprint, now: Footprint, rules: SignalRules) -> tuple[Signal, ...]:
    """What looks wrong about a use of a session, given how its sign-in or last proof looked."""
    found = (
        _agent_changed(then, now),
        _address_changed(then, now),
        _impossible_travel([then], now, rules) if now.network != then.network else None,
    )
    return tuple(signal for signal in found if signal is not None)


def _new_device(known: Sequence[Footprint], now: Footprint) -> Signal | None:
    """By the stable id where the browser has one, else by browser and platform."""
    if now.device and any(each.device == now.device for each in known):
        return None
    alike = [each for each in known if (each.agent, each.platform) == (now.agent, now.platform)]
    if alike and not (now.device and any(each.device for each in alike)):
        return None  # Before this browser had an id, its kind is all that is known of it.
    what = " on ".join(part for part in (now.agent, now.platform) if part) or "An unknown client"
    # The same kind of browser without its id is most often the same one with its cookies cleared.
    return Signal(
        "new_device",
        0.3 if alike else 0.6,
        f"{what} was never used for this account before.",
        {"agent": now.agent, "platform": now.platform, "earlier_sign_ins": len(known)},
    )


def _new_country(known: Sequence[Footprint], now: Footprint) -> Signal | None:
    countries = {each.place.country for each in known if each.place.country}
    if not now.place.country or not countries or now.place.country in countries:
        return None
    return Signal(
        "new_country",
        0.6,
        f"The address is in {now.place.country}, where this account was never used before.",
        {"country": now.place.country, "known": " ".join(sorted(countries))},
    )


def _new_network(known: Sequence[Footprint], now: Footprint) -> Signal | None:
    """By the operator of the network where it is known, else by the address's prefix."""
    name = now.place.network or now.network
    earlier = {each.place.network or each.network for each in known} - {""}
    if not name or not earlier or name in earlier:
        return None
    return Signal(
        "new_network",
        0.2,
        f"The network {name} was never used for this account before.",
        {"network": name, "earlier_networks": len(earlier)},
    )


def _impossible_travel(
    known: Sequence[Footprint], now: Footprint, rules: SignalRules
) -> Signal | None:
    """Against the latest place that is known: an earlier one is always slower to leave."""
    placed = [each for each in known if each.place.has_position]
    if not placed:
        return None
    last = max(placed, key=lambda each: each.at)
    if _same_operator(last.place, now.place):
        return None
    way = travel(last.place, last.at, now.place, now.at)
    if way is None or way.kilometres < rules.shortest_km or way.speed <= rules.fastest_kmh:
        return None
    return Signal(
        "impossible_travel",
        min(1.0, 0.5 + 0.1 * way.speed / rules.fastest_kmh),
        f"{way.kilometres:.0f} km at least from {last.place.label or 'the last place'} to "
        f"{now.place.label or 'here'} in {_told(way.hours)}, which nobody travels.",
        {
            "kilometres": round(way.kilometres),
            "hours": round(way.hours, 2),
            "from": last.place.label,
            "to": now.place.label,
        },
    )


def _same_operator(one: Place, other: Place) -> bool:
    """A mobile carrier hands out addresses of the whole country, whichever city they are in."""
    return bool(one.network) and (one.network, one.country) == (other.network, other.country)


def _after_failures(
    history: Sequence[Footprint], now: Footprint, rules: SignalRules
) -> Signal | None:
    """Failures since the last success: somebody guessed, and now it worked."""
    last = max((each.at for each in history if each.succeeded and each.at <= now.at), default=0)
    since = max(last, now.at - rules.failure_window)
    failed = [each for each in history if not each.succeeded and since <= each.at <= now.at]
    if len(failed) < rules.failures:
        return None
    elsewhere = sum(1 for each in failed if each.network and each.network != now.network)
    return Signal(
        "after_failures",
        min(1.0, 0.3 + 0.05 * len(failed)),
        f"{len(failed)} sign-ins failed right before this one.",
        {"failures": len(failed), "from_other_networks": elsewhere},
    )


def _burst(known: Sequence[Footprint], now: Footprint, rules: SignalRules) -> Signal | None:
    recent = sum(1 for each in known if now.at - each.at < rules.burst_window) + 1
    if recent < rules.burst:
        return None
    return Signal(
        "sign_in_burst",
        min(1.0, 0.4 * recent / rules.burst),
        f"{recent} sign-ins within {rules.burst_window // MINUTE} minutes.",
        {"sign_ins": recent, "minutes": rules.burst_window // MINUTE},
    )


def _unusual_time(known: Sequence[Footprint], now: Footprint, rules: SignalRules) -> Signal | None:
    """The share of earlier sign-ins within two hours of this time of day (UTC, round the clock)."""
    if len(known) < rules.usual_after:
        return None
    share = sum(1 for each in known if _hours_apart(each.at, now.at) <= 2) / len(known)
    if share >= rules.unusual_share:
        return None
    return Signal(
        "unusual_time",
        0.2,
        f"Of {len(known)} earlier sign-ins, {share:.0%} were around this time of day.",
        {"share": round(share, 3), "earlier_sign_ins": len(known)},
    )


def _agent_changed(then: Footprint, now: Footprint) -> Signal | None:
    """Another browser or platform, or an older version: browsers upgrade and do not go back."""
    if not (then.agent or then.platform) or not (now.agent or now.platform):
        return None
    before = " on ".join(part for part in (then.agent, then.platform) if part)
    after = " on ".join(part for part in (now.agent, now.platform) if part)
    evidence: dict[str, str | int | float] = {"before": before, "after": after}
    if (then.agent, then.platform) != (now.agent, now.platform):
        return Signal(
            "agent_changed", 0.8, f"The session began in {before} and is used in {after}.", evidence
        )
    if 0 < now.version < then.version:
        evidence |= {"before_version": then.version, "after_version": now.version}
        return Signal(
            "agent_changed",
            0.4,
            f"{now.agent} {then.version} became {now.agent} {now.version}: "
            "browsers are upgraded, not set back.",
            evidence,
        )
    return None


def _address_changed(then: Footprint, now: Footprint) -> Signal | None:
    """Phones change networks all day, so this alone weighs little; another country weighs more."""
    if not then.network or not now.network or then.network == now.network:
        return None
    before, after = then.place.country, now.place.country
    abroad = bool(before and after and before != after)
    where = f" from {before} to {after}" if abroad else ""
    return Signal(
        "address_changed",
        0.5 if abroad else 0.1,
        f"The session moved to another network{where}.",
        {"before": then.network, "after": now.network},
    )


def strongest(signals: Iterable[Signal]) -> Signal | None:
    """The one with the highest score, or None where there is none."""
    return max(signals, key=lambda each: each.score, default=None)


def _hours_apart(one: int, other: int) -> float:
    """How far two moments are apart as times of day: at most twelve hours."""
    day = 24 * HOUR
    apart = abs(one - other) % day
    return min(apart, day - apart) / HOUR


def _told(hours: float) -> str:
    return f"{hours * 60:.0f} minutes" if hours < 2 else f"{hours:.1f} hours"
