"""Spikes: a minute that leaps against the median of the last hours."""

from __future__ import annotations

from strongroom.core.events import catalogue
from strongroom.core.signals import MINUTE, Signal
from strongroom.core.spikes import RULES, WINDOW, Spike, SpikeRule, Spikes
from strongroom.testing.clock import START

RULE = SpikeRule("spike", floor=10)


def minute_of(spike: Spike, minute: int, count: int) -> list[Signal]:
    """That many within one minute, and the signals that it raised."""
    at = START + minute * MINUTE
    raised = [spike.count(at + number * MINUTE // (count + 1)) for number in range(count)]
    return [each for each in raised if each is not None]


def steady(count: int, minutes: int = 60) -> tuple[Spike, int]:
    spike = Spike(RULE)
    for minute in range(minutes):
        assert minute_of(spike, minute, count) == []
    return spike, minutes


def test_a_leap_is_told_within_its_minute_and_once() -> None:
    """As soon as the count says so, not when the minute is over."""
    spike, now = steady(4)
    (signal,) = minute_of(spike, now, 200)
    assert int(signal.evidence["count"]) < 30, "told long before the two-hundredth"
    assert signal.evidence["usual"] == 4
    assert 0.5 <= signal.score <= 1
    assert len(minute_of(spike, now + 1, 200)) == 1, "and again while it lasts"


def test_a_busy_site_s_usual_minute_is_no_spike() -> None:
    """What is usual is what the last hours had; it may vary as its square root does."""
    spike, now = steady(9)
    assert minute_of(spike, now, 9 + 3 * 5) == []
    busy = Spike(RULE)
    for minute in range(60):
        minute_of(busy, minute, 400 + 7 * (minute % 5))
    assert minute_of(busy, 60, 500) == []
    assert len(minute_of(busy, 61, 900)) == 1


def test_below_the_floor_nothing_is_a_spike() -> None:
    """Three sign-ins in a quiet night are three sign-ins."""
    spike, now = steady(1)
    assert minute_of(spike, now, 9) == []
    assert len(minute_of(spike, now + 1, 10)) == 1


def test_a_new_process_has_only_the_floor() -> None:
    """No training step: the first minute is judged by the floor alone."""
    assert minute_of(Spike(RULE), 0, 9) == []
    assert len(minute_of(Spike(RULE), 0, 10)) == 1


def test_a_long_attack_does_not_become_the_usual() -> None:
    """A minute that leapt counts into the baseline as its threshold."""
    spike, now = steady(4)
    for minute in range(now, now + WINDOW // 3):
        assert minute_of(spike, minute, 500), f"minute {minute - now} of the attack is told"


def test_one_wild_minute_moves_nothing() -> None:
    """The median does not see it."""
    spike, now = steady(4)
    before = spike.threshold
    minute_of(spike, now, 5000)
    assert minute_of(spike, now + 1, 1) == []
    assert spike.threshold == before


def test_a_still_night_is_part_of_the_past() -> None:
    """Minutes without anything count as zero, also many at once."""
    spike, now = steady(9, minutes=5)
    assert spike.threshold > RULE.floor
    minute_of(spike, now + 10 * WINDOW, 1)
    assert spike.threshold == RULE.floor


def test_a_clock_that_goes_back_breaks_nothing() -> None:
    """It counts into the minute that is."""
    spike, now = steady(4)
    assert spike.count(START) is None
    assert len(minute_of(spike, now, 200)) == 1


def test_what_is_counted_are_events_that_exist() -> None:
    """A rule for an event that nobody makes would be silent for ever."""
    assert set(RULES) <= {event.name for event in catalogue()}
    spikes = Spikes()
    assert spikes.count("no such event", START) is None
    told = [spikes.count("malicious_csrf", START) for _ in range(20)]
    assert [each.name for each in told if each] == ["csrf_spike"]
