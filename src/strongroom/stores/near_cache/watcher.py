"""What both faces say and do about their channel: how long they wait, and what they log.

A channel is opened again for ever, after a pause that grows and is never the same in two processes.
Its loss is logged once, and its return; it takes no request down, because reads go to the store.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from random import Random
from typing import Final, Protocol
from weakref import WeakSet

from strongroom.core.errors import ConfigurationError, StoreError, StoreUnavailable

from .cache import Limits

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
"""Seconds. A thousand processes that come back within five seconds are two hundred a second."""

HEARTBEATS: Final = 4
"""Proofs within `max_staleness`, so that one that is late makes nobody read through."""

PATIENCE: Final = 5.0
"""Seconds without a proof after which a channel that still seems open is given up. Until then the
silence costs no more than reading through."""

_log = logging.getLogger("strongroom")


class Pauses:
    """How long to wait before the next channel; `settled` after one that proved to live."""

    def __init__(self) -> None:
        # For spreading only: the seed is the process's own, and nothing depends on its secrecy.
        self._random = Random()  # noqa: S311
        self._next = FIRST_PAUSE
        self._told = False

    def lost(self, error: BaseException | None) -> float:
        """A channel is lost -> seconds to wait. The first time in a row it is logged."""
        if not self._told:
            self._told = True
            unexpected = error is not None and not isinstance(error, StoreError)
            _log.warning(
                "The near cache's push channel was lost (%s); every request reads the store until "
                "it is back",
                "it fell silent" if error is None else type(error).__name__,
                exc_info=error if unexpected else None,
            )
        pause = self._next * self._random.uniform(0.5, 1.0)
        self._next = min(2 * self._next, LONGEST_PAUSE)
        return pause

    def settled(self) -> None:
        """A channel has proved that it lives."""
        self._next = FIRST_PAUSE
        if self._told:
            self._told = False
            _log.info("The near cache's push channel is back")


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
