"""The risk of a sign-in: how likely it is anybody's against how likely it is the account's own."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from strongroom.core.places import Place
from strongroom.core.risk import DAY, Feature, Population, risk_signal, sign_in_risk
from strongroom.core.signals import HOUR, Footprint
from strongroom.testing.clock import START

HOME = Footprint(START, "Firefox", 130, "Linux", "192.0.2.0/24", place=Place(network="AS3320"))
OTHERS = [
    replace(HOME, agent="Chrome", platform="Windows", place=Place(network=f"AS{number}"))
    for number in range(20)
]


def everybody(times: int = 50) -> Population:
    crowd = Population()
    for number in range(times):
        crowd.learn(replace(OTHERS[number % len(OTHERS)], at=START + number * 1000))
    return crowd


def risk(history: list[Footprint], now: Footprint, crowd: Population | None = None) -> float:
    found = sign_in_risk(history, now, crowd or everybody())
    assert found is not None
    return found.score


def habit(count: int = 10) -> list[Footprint]:
    return [replace(HOME, at=START + day * DAY) for day in range(count)]


NEXT = replace(HOME, at=START + 10 * DAY)


def test_without_a_history_there_is_no_risk_to_tell() -> None:
    """Somebody's first sign-in says nothing; nor do failures, nor what came later."""
    assert sign_in_risk([], NEXT, everybody()) is None
    assert sign_in_risk([replace(HOME, succeeded=False)], NEXT, everybody()) is None
    assert sign_in_risk([replace(HOME, at=NEXT.at + 1)], NEXT, everybody()) is None
    assert risk_signal(None) is None


def test_what_the_account_always_shows_is_no_risk() -> None:
    """The same network, browser and time of day."""
    assert risk(habit(), NEXT) < 0.01


def test_each_unusual_thing_raises_it() -> None:
    """Another network, another browser, another time; all of them together most."""
    elsewhere = replace(NEXT, place=Place(network="AS7"))
    browser = replace(NEXT, agent="Chrome", platform="Windows")
    night = replace(NEXT, at=NEXT.at + 12 * HOUR)
    everything = replace(browser, place=Place(network="AS7"), at=night.at)
    usual = risk(habit(), NEXT)
    single = [risk(habit(), each) for each in (elsewhere, browser, night)]
    assert all(usual < each for each in single)
    assert all(each < risk(habit(), everything) for each in single)
    assert risk(habit(), everything) > 0.9


def test_a_habit_that_everybody_has_excuses_less_than_one_of_one_s_own() -> None:
    """Showing what is usual anywhere proves little; showing what only this account shows, much."""
    common = [replace(each, agent="Chrome", platform="Windows") for each in habit()]
    now = replace(NEXT, agent="Chrome", platform="Windows")
    assert risk(habit(), NEXT) < risk(common, now)


def test_a_short_history_proves_less_than_a_long_one() -> None:
    """The account's own share backs off to everybody's."""
    strange = replace(NEXT, agent="Chrome", platform="Windows")
    assert risk(habit(1), strange) < risk(habit(10), strange)


def test_it_says_what_weighs_most() -> None:
    """A signal from an even chance on, with each feature's part as evidence."""
    strange = replace(
        NEXT, agent="Chrome", platform="Windows", place=Place(), network="", at=NEXT.at + 12 * HOUR
    )
    signal = risk_signal(sign_in_risk(habit(30), strange, everybody()))
    assert signal is not None
    assert signal.name == "sign_in_risk"
    assert "the browser" in signal.reason
    assert {"client", "hour", "log10"} == set(signal.evidence)
    assert risk_signal(sign_in_risk(habit(), NEXT, everybody())) is None


def test_nothing_known_is_nothing_said() -> None:
    """Unknown features are left out, and only the hour remains."""
    found = sign_in_risk(habit(), Footprint(NEXT.at), everybody())
    assert found is not None
    assert set(found.parts) == {"hour"}


def test_what_was_long_ago_fades() -> None:
    """Half of it each thirty days; a thousand half-lives later it is gone, and no number is."""
    crowd = Population()
    old, new = Feature("where", "AS1"), Feature("where", "AS2")
    for _ in range(8):
        crowd.learn(replace(HOME, place=Place(network="AS1")))
    for _ in range(4):
        crowd.learn(replace(HOME, at=START + 60 * DAY, place=Place(network="AS2")))
    assert crowd.share(new) > crowd.share(old)
    crowd.learn(replace(HOME, at=START + 30_000 * DAY, place=Place(network="AS2")))
    assert crowd.share(old) == pytest.approx(crowd.share(Feature("where", "AS3")))
    assert 0 < crowd.share(old) < crowd.share(new) < 1


def test_it_stays_bounded() -> None:
    """An attacker with a million networks fills nobody's memory (P24)."""
    crowd = Population(most=50)
    for number in range(1000):
        crowd.learn(replace(HOME, place=Place(network=f"AS{number}")))
    assert sum(len(values) for values in crowd.state().values()) <= 50
    assert 0 < crowd.share(Feature("where", "AS999")) < 1


def test_it_survives_a_restart_as_plain_values() -> None:
    """What is kept is JSON, and goes on where it was."""
    crowd = everybody()
    again = Population()
    again.restore(json.loads(json.dumps(crowd.state())), START + 50_000)
    for value in ("AS1", "AS7", "unheard of"):
        feature = Feature("where", value)
        assert again.share(feature) == pytest.approx(crowd.share(feature))
