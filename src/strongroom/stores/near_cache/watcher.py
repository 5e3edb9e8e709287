"""What both faces say and do about their channel.

A channel is opened again for ever. Its loss takes no request down, because reads go to the store.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Final, Protocol
from weakref import WeakSet

from strongroom.core.errors import ConfigurationError, StoreUnavailable
from strongroom.stores.pausing import Pauses

from .cache import Limits

HEARTBEATS: Final = 4
"""Proofs within `max_staleness`, so that one that is late makes nobody read through."""

PATIENCE: Final = 5.0
"""Seconds without a proof after which a channel that still seems open is given up. Until then the
silence costs no more than reading through."""


def pauses() -> Pauses:
    """Between one channel and the next."""
    return Pauses("the near cache", "every request reads the store")


def heartbeat(limits: Limits) -> float:
    """Seconds between two proofs."""
    return limits.max_staleness / HEARTBEATS


def patience(limits: Limits) -> float:
    """Seconds without a proof after which a channel is given up."""
    return max(PATIENCE, 10 * limits.max_staleness)


def within(limits: Limits, max_staleness: float) -> Limits:
    """The limits, with answers no older than that; the smaller bound wins."""
    return replace(limits, max_staleness=min(limits.max_staleness, max_staleness))


class Forks(Protocol):
    """What has to begin anew in a forked child."""

    def after_fork(self) -> None:
        """No thread survived, a lock may be held for ever, and nothing is proved any more."""
        ...


_forking: WeakSet[Forks] = WeakSet()


def begin_anew_after_fork(each: Forks) -> None:
    """Have its `after_fork` called in every child, such as gunicorn's with `--preload`."""
    _forking.add(each)


def _after_fork() -> None:
    for each in list(_forking):
        each.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def no_channel() -> StoreUnavailable:
    """Who listens to the near cache loses its channel with it."""
    return StoreUnavailable(
        "The near cache's push channel was lost.",
        why="What changes until it is back would not be told.",
        hint="Ask the store, and watch again in a moment.",
    )


def not_open() -> StoreUnavailable:
    """Nobody can listen to a near cache whose store is not open."""
    return StoreUnavailable(
        "This near cache is not open.",
        why="It watches its store only between open and close.",
        hint="Call open(store_identity) first; a session manager does so at start-up.",
    )


def cannot_watch(store: object) -> ConfigurationError:
    """A near cache over a store that tells it nothing would never let go of anything."""
    return ConfigurationError(
        f"A near cache over {type(store).__name__} cannot work.",
        why="That store does not push its changes, so an ended session would stay signed in.",
        hint="Use the store without one, or Valkey, Redis or PostgreSQL.",
    )
