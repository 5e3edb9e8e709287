"""Time and randomness in a test's hand behave as their docstrings say."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from strongroom.testing import FixedEntropy, FrozenClock


def test_a_frozen_clock_stands_still() -> None:
    """Two looks at the clock tell the same moment."""
    clock = FrozenClock(1000)
    assert (clock(), clock()) == (1000, 1000)
    assert isinstance(FrozenClock()(), int)


def test_time_passes_by_milliseconds_or_timedelta() -> None:
    """Both ways to name a duration come to the same, and zero is a duration."""
    clock = FrozenClock(1000)
    assert clock.advance(5) == 1005 == clock()
    assert clock.advance(timedelta(seconds=1, microseconds=500)) == 2005
    assert clock.advance(0) == 2005


def test_time_goes_back_only_where_it_is_meant() -> None:
    """A negative advance is a mistake; `rewind` and `set` are explicit."""
    clock = FrozenClock(1000)
    for backwards in (-1, timedelta(seconds=-1)):
        with pytest.raises(ValueError, match="rewind"):
            clock.advance(backwards)
        with pytest.raises(ValueError, match="positive"):
            clock.rewind(backwards)
    assert clock.rewind(timedelta(milliseconds=300)) == 700 == clock()
    assert clock.set(10) == 10 == clock()


def test_one_seed_gives_one_sequence() -> None:
    """The same seed gives the same bytes, and another seed gives others (P1, for tests only)."""
    draws = [tuple(FixedEntropy(seed)(n) for n in (16, 8, 32)) for seed in (7, 7, 8)]
    assert draws[0] == draws[1] != draws[2]
    one = FixedEntropy()
    assert [len(one(n)) for n in (0, 1, 8, 9, 16, 100)] == [0, 1, 8, 9, 16, 100]


def test_no_draw_is_repeated() -> None:
    """However many are drawn, from however many threads, no two are equal in any eight bytes."""
    entropy = FixedEntropy()
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda _: entropy(16), range(20_000)))
    assert len({each[:8] for each in drawn}) == len(drawn)
    assert len({FixedEntropy("x")(8), *(each[8:] for each in drawn)}) == len(drawn) + 1
    one_byte = FixedEntropy()
    assert len({one_byte(1) for _ in range(256)}) == 256


def test_the_entropy_says_that_it_is_for_tests() -> None:
    """Nobody can take it for a source of secrets."""
    assert "FOR TESTS ONLY" in (FixedEntropy.__doc__ or "")
    assert "for tests only" in repr(FixedEntropy())


def test_the_kit_needs_neither_pytest_nor_a_store_driver() -> None:
    """An application's test run may be unittest: the kit imports nothing that is not needed."""
    code = """
import sys
for name in ("pytest", "hypothesis", "cryptography", "msgspec", "sqlite3"):
    sys.modules[name] = None
import strongroom.testing, strongroom.testing.records, strongroom.testing.contract
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
