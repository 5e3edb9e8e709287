"""Signals: what is seen before and now, and what looks wrong about it. Nothing decides here."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from strongroom.core.places import Place, distance_km, travel
from strongroom.core.signals import (
    HOUR,
    MINUTE,
    Footprint,
    Signal,
    SignalRules,
    sign_in_signals,
    strongest,
    use_signals,
)
from strongroom.testing.clock import START

RULES = SignalRules()
DAY = 24 * HOUR
BERLIN = Place("DE", "Berlin", 52.52, 13.405, 20.0, "AS3320")
POTSDAM = Place("DE", "Potsdam", 52.39, 13.06, 20.0, "AS3320")
SYDNEY = Place("AU", "Sydney", -33.87, 151.21, 50.0, "AS1221")
HOME = Footprint(START, "Firefox", 130, "Linux", "192.0.2.0/24", "device-1", BERLIN)


def named(signals: tuple[Signal, ...]) -> dict[str, float]:
    return {each.name: each.score for each in signals}


def seen(history: list[Footprint], now: Footprint) -> dict[str, float]:
    return named(sign_in_signals(history, now, RULES))


def later(footprint: Footprint, milliseconds: int, **changes: object) -> Footprint:
    return replace(footprint, at=footprint.at + milliseconds, **changes)  # type: ignore[arg-type]


def test_a_first_sign_in_is_never_a_signal() -> None:
    """Everything about it is new, and that means nothing."""
    assert seen([], HOME) == {}


def test_the_same_again_is_no_news() -> None:
    """The same person, the same place, the next morning."""
    assert seen([HOME], later(HOME, DAY)) == {}


def test_another_device_is_new_once() -> None:
    """By the stable id; without one by browser and platform."""
    phone = later(HOME, DAY, agent="Safari", platform="iPhone", device="device-2")
    assert seen([HOME], phone) == {"new_device": 0.6}
    assert seen([HOME, phone], later(phone, DAY)) == {}
    no_id = replace(phone, device="")
    assert seen([HOME], no_id) == {"new_device": 0.6}
    assert seen([HOME], later(HOME, DAY, device="")) == {}, "the same kind of browser"


def test_cleared_cookies_weigh_less_than_another_browser() -> None:
    """The same browser with another id is most often the old one after a clean-up."""
    assert seen([HOME], later(HOME, DAY, device="device-3")) == {"new_device": 0.3}


def test_a_failed_sign_in_makes_nothing_known() -> None:
    """Else an attacker would make their own device known by failing with it."""
    failed = later(HOME, HOUR, agent="curl", platform="", device="", succeeded=False)
    assert "new_device" in seen([HOME, failed], later(failed, HOUR, succeeded=True))


def test_another_country_and_another_network() -> None:
    """Known countries are listed in the evidence; an unknown country says nothing."""
    away = later(HOME, 3 * DAY, place=SYDNEY, network="198.51.100.0/24")
    assert seen([HOME], away) == {"new_country": 0.6, "new_network": 0.2}
    (country, _network) = sign_in_signals([HOME], away, RULES)
    assert country.evidence == {"country": "AU", "known": "DE"}
    nowhere = later(HOME, DAY, place=Place())
    assert "new_country" not in seen([HOME], nowhere)
    assert "new_country" not in seen([replace(HOME, place=Place())], away)


def test_travel_that_nobody_makes() -> None:
    """Berlin to Sydney within an hour (P12: what reuse cannot find, this may)."""
    away = later(HOME, HOUR, place=SYDNEY)
    found = {each.name: each for each in sign_in_signals([HOME], away, RULES)}
    signal = found["impossible_travel"]
    assert signal.score == 1.0
    assert "Berlin, DE to Sydney, AU" in signal.reason
    assert 15_900 < float(signal.evidence["kilometres"]) < 16_100
    assert "impossible_travel" not in seen([HOME], later(HOME, 24 * HOUR, place=SYDNEY))


@pytest.mark.parametrize("kind", ["vpn", "proxy", "tor", "hosting", "satellite", "anonymous"])
def test_an_address_that_stands_for_another_is_never_travel(kind: str) -> None:
    """Not on the way there, and not on the way back."""
    hidden = replace(SYDNEY, kind=kind)
    assert "impossible_travel" not in seen([HOME], later(HOME, HOUR, place=hidden))
    before = replace(HOME, place=replace(BERLIN, kind=kind))
    assert "impossible_travel" not in seen([before], later(HOME, HOUR, place=SYDNEY))


def test_unknown_places_are_never_travel() -> None:
    """Half a position is none."""
    for unknown in (Place(), Place("AU"), Place("AU", latitude=1.0), Place("AU", longitude=1.0)):
        assert "impossible_travel" not in seen([HOME], later(HOME, MINUTE, place=unknown))


def test_both_radii_are_taken_off() -> None:
    """Two guesses whose circles touch may be one place."""
    sure = distance_km(BERLIN, POTSDAM)
    assert sure == 0.0
    vague = replace(SYDNEY, radius_km=20_000.0)
    assert "impossible_travel" not in seen([HOME], later(HOME, MINUTE, place=vague))
    exact = distance_km(replace(BERLIN, radius_km=0), replace(SYDNEY, radius_km=0))
    assert exact is not None
    assert math.isclose(distance_km(BERLIN, SYDNEY) or 0, exact - 70.0)


def test_known_distances() -> None:
    """Quarter of the equator, the poles, across the date line, and no distance at all."""
    equator, quarter = Place(latitude=0.0, longitude=0.0), Place(latitude=0.0, longitude=90.0)
    pole, other_pole = Place(latitude=90.0, longitude=0.0), Place(latitude=-90.0, longitude=77.0)
    west, east = Place(latitude=0.0, longitude=179.5), Place(latitude=0.0, longitude=-179.5)
    assert math.isclose(distance_km(equator, quarter) or 0, 10_007.557, abs_tol=0.01)
    assert math.isclose(distance_km(pole, other_pole) or 0, 20_015.115, abs_tol=0.01)
    assert math.isclose(distance_km(west, east) or 0, 111.195, abs_tol=0.01)
    assert distance_km(equator, equator) == 0.0


def test_two_places_at_one_moment_are_infinitely_fast() -> None:
    """No division by nothing, and the score stays within its bounds."""
    way = travel(BERLIN, START, SYDNEY, START)
    assert way is not None
    assert way.speed == math.inf
    assert seen([HOME], replace(HOME, place=SYDNEY))["impossible_travel"] == 1.0


def test_guessing_until_it_works() -> None:
    """Failures since the last success, within the hour; a success in between starts anew."""
    guesses = [later(HOME, DAY + number, succeeded=False) for number in range(6)]
    now = later(HOME, DAY + MINUTE)
    assert seen([HOME, *guesses], now)["after_failures"] == pytest.approx(0.6)
    assert seen(guesses, now)["after_failures"] == pytest.approx(0.6), "without any success too"
    assert "after_failures" not in seen([HOME, *guesses[:4]], now)
    assert "after_failures" not in seen([HOME, *guesses], later(HOME, DAY + 2 * HOUR))
    in_between = later(HOME, DAY + 10)
    assert "after_failures" not in seen([HOME, *guesses, in_between], now)


def test_a_burst_of_sign_ins() -> None:
    """Five within ten minutes, this one counted."""
    four = [later(HOME, number * MINUTE) for number in range(4)]
    assert seen(four, later(HOME, 4 * MINUTE)) == {"sign_in_burst": 0.4}
    assert seen(four[:3], later(HOME, 4 * MINUTE)) == {}
    assert seen(four, later(HOME, 14 * MINUTE)) == {}


def test_an_unusual_time_needs_a_habit() -> None:
    """Somebody who signs in at nine each morning, at three at night; round midnight too."""
    nine = (START // DAY) * DAY + 9 * HOUR
    mornings = [replace(HOME, at=nine + day * DAY + day * MINUTE) for day in range(30)]
    night = replace(HOME, at=nine + 30 * DAY + 18 * HOUR)
    assert seen(mornings, night) == {"unusual_time": 0.2}
    assert seen(mornings[:19], night) == {}
    assert seen(mornings, replace(HOME, at=nine + 31 * DAY + HOUR)) == {}
    midnights = [replace(HOME, at=nine + day * DAY + 14 * HOUR + 50 * MINUTE) for day in range(30)]
    assert seen(midnights, replace(HOME, at=nine + 31 * DAY + 16 * HOUR)) == {}


def use(now: Footprint, then: Footprint = HOME) -> dict[str, float]:
    return named(use_signals(then, now, RULES))


def test_a_session_that_moves_to_another_browser() -> None:
    """Cookies do not do that by themselves; an upgrade is nothing, going back is something."""
    assert use(later(HOME, HOUR, agent="Chrome")) == {"agent_changed": 0.8}
    assert use(later(HOME, HOUR, platform="Windows")) == {"agent_changed": 0.8}
    assert use(later(HOME, HOUR, version=131)) == {}
    assert use(later(HOME, HOUR, version=129)) == {"agent_changed": 0.4}
    assert use(later(HOME, HOUR, version=0)) == {}, "unknown is not older"
    assert use(later(HOME, HOUR, agent="", platform="")) == {}, "a client that says nothing"


def test_a_session_that_moves_to_another_network() -> None:
    """A phone does it all day; another country is more; faster than any airliner is most."""
    assert use(later(HOME, HOUR, network="198.51.100.0/24")) == {"address_changed": 0.1}
    abroad = later(HOME, 48 * HOUR, network="198.51.100.0/24", place=SYDNEY)
    assert use(abroad) == {"address_changed": 0.5}
    at_once = later(HOME, HOUR, network="198.51.100.0/24", place=SYDNEY)
    assert use(at_once) == {"address_changed": 0.5, "impossible_travel": 1.0}
    assert use(later(HOME, HOUR, network="")) == {}, "an unknown address is no other one"


def test_the_strongest_signal() -> None:
    """What a page shows first."""
    assert strongest([]) is None
    one, two = Signal("a", 0.2, "A."), Signal("b", 0.7, "B.")
    assert strongest([one, two]) is two


def test_every_signal_is_a_sentence_with_a_score() -> None:
    """Whatever the input, the score is between 0 and 1 and the reason a whole sentence."""
    wild = Footprint(START - 5, "x" * 99, 10**9, "<b>", "not a network", "\0", SYDNEY)
    for then in (HOME, wild, Footprint(0)):
        for now in (HOME, wild, replace(wild, at=START + 1), Footprint(START + 1)):
            for each in (*sign_in_signals([then] * 6, now, RULES), *use_signals(then, now, RULES)):
                assert 0.0 <= each.score <= 1.0
                assert each.reason.endswith(".")
