"""The kit that proves stores and applications: public, and no part of what serves requests.

- `FrozenClock`, `FixedEntropy`: time and randomness in a test's hand;
- `records`: plausible records, credentials and ops, made without keys;
- `stepper`: flows through every interleaving, with faults and with time passing between ops;
- `contract`: the suite that a store must pass, races included. It is written for pytest; the rest
  needs nothing but the standard library.
"""

from __future__ import annotations

import sys

from .clock import FrozenClock
from .entropy import FixedEntropy
from .stepper import Fate, Fates, Scenario, ScheduleFailed, TooManySchedules, interleavings, replay

__all__ = [
    "Fate",
    "Fates",
    "FixedEntropy",
    "FrozenClock",
    "Scenario",
    "ScheduleFailed",
    "TooManySchedules",
    "interleavings",
    "replay",
]

if (_pytest := sys.modules.get("pytest")) is not None:
    # So that a failing contract test shows the values that differ, as one in a test file does.
    _pytest.register_assert_rewrite(f"{__name__}.contract")
