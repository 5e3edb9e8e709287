"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import timedelta

START = 1_767_225_600_000
"""2026-01-01T00:00:00Z in milliseconds: a moment at which nothing special happens."""


class FrozenClock:
    """Milliseconds UTC since 1970, as every manager and flow wants its clock.

    Time never goes back by accident: `advance` refuses to, `rewind` says that it is meant.
    """

    def __init__(self, start: int = START) -> None:
        self._now = start

    def __call__(self) -> int:
        """The moment that it is now, in milliseconds UTC."""
        return self._now

    def __repr__(self) -> str:
        return f"FrozenClock({self._now})"

    def advance(self, by: int | timedelta) -> int:
        """Let time pass, and tell the new moment.

        Raises:
            ValueError: `by` is negative.
        """
        step = milliseconds(by)
        if step < 0:
            raise ValueError("advance() goes forward; a clock that jumps back is rewind()")
        self._now += step
        return self._now

    def rewind(self, by: int | timedelta) -> int:
        """Put the clock back, as an NTP correction or a bad administrator does.

        Raises:
            ValueError: `by` is negative.
        """
        step = milliseconds(by)
        if step < 0:
            raise ValueError("rewind() takes how far to go back, as a positive duration")
        self._now -= step
        return self._now

    def set(self, moment: int) -> int:
        """Make it that moment (ms UTC), earlier or later."""
        self._now = moment
        return self._now


def milliseconds(duration: int | timedelta) -> int:
    """A duration as whole milliseconds; an int is milliseconds already."""
    if isinstance(duration, timedelta):
        return duration // timedelta(milliseconds=1)
    return duration
