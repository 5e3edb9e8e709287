"""How long to wait before a lost channel is opened again, and what is said about it."""

from __future__ import annotations

import logging
from random import Random
from typing import Final

from strongroom.core.errors import StoreError

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
"""Seconds. A thousand processes that come back within five seconds are two hundred a second."""

_log = logging.getLogger("strongroom")


class Pauses:
    """Pauses that grow, and are never the same in two processes.

    A loss is logged once, however many tries follow it, and so is the return.
    """

    def __init__(self, whose: str, meanwhile: str) -> None:
        self._whose = whose
        self._meanwhile = meanwhile
        # For spreading only: the seed is the process's own, and nothing depends on its secrecy.
        self._random = Random()  # noqa: S311
        self._next = FIRST_PAUSE
        self._told = False

    def lost(self, error: BaseException | None) -> float:
        """A channel is lost, or fell silent without an error -> seconds to wait."""
        if not self._told:
            self._told = True
            unexpected = error is not None and not isinstance(error, StoreError)
            _log.warning(
                "The push channel of %s was lost (%s); until it is back, %s",
                self._whose,
                "it fell silent" if error is None else type(error).__name__,
                self._meanwhile,
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
            _log.info("The push channel of %s is back", self._whose)
