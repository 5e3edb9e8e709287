"""Moves the time of this process, so that an application in it can be seen to end its sessions.

`time.time`, `time.time_ns` and the present moment of `datetime` are moved, wherever a module holds
them. What waits (`monotonic`, event loops, sockets) is left alone, and so is what asks elsewhere: a
database's own clock, another process. An application with a clock of its own hands in `advance`.
"""

from __future__ import annotations

import datetime as datetime_module
import sys
import time as time_module
from collections.abc import Callable
from datetime import datetime as real_datetime
from datetime import timedelta, tzinfo
from types import ModuleType
from typing import Any

_REAL_TIME, _REAL_TIME_NS = time_module.time, time_module.time_ns
_LEFT_ALONE = ("_pytest", "pytest", "asyncio", "threading", "strongroom.audit", "time", "datetime")


class TravellingClock:
    """A clock that can be moved forward; use it as a context manager.

    `advance`, if given, moves the application's own clock by so many seconds, and nothing of this
    process is touched.
    """

    travels = True

    def __init__(self, advance: Callable[[float], None] | None = None) -> None:
        self._advance = advance
        self._offset = 0.0
        self._undo: list[tuple[ModuleType, str, Any]] = []

    def now(self) -> float:
        """Seconds UTC, as the application sees them."""
        return _REAL_TIME() + self._offset

    def wait(self, seconds: float, why: str = "") -> None:  # noqa: ARG002 - a real clock tells it
        """Let so much time pass at once."""
        self._offset += seconds
        if self._advance is not None:
            self._advance(seconds)

    def __enter__(self) -> TravellingClock:
        if self._advance is None:
            self._move()
        return self

    def __exit__(self, *_error: object) -> None:
        while self._undo:
            module, name, value = self._undo.pop()
            setattr(module, name, value)

    def _move(self) -> None:
        moved: dict[int, Any] = {
            id(_REAL_TIME): self.now,
            id(_REAL_TIME_NS): lambda: _REAL_TIME_NS() + int(self._offset * 1e9),
            id(real_datetime): _datetime(self),
        }
        for name, replacement in (("time", moved[id(_REAL_TIME)]),
                                  ("time_ns", moved[id(_REAL_TIME_NS)])):  # fmt: skip
            self._replace(time_module, name, replacement)
        self._replace(datetime_module, "datetime", moved[id(real_datetime)])
        for module in list(sys.modules.values()):
            if _is_left_alone(module):
                continue
            for name, value in list(vars(module).items()):
                if id(value) in moved:
                    self._replace(module, name, moved[id(value)])

    def _replace(self, module: ModuleType, name: str, value: Any) -> None:
        self._undo.append((module, name, getattr(module, name)))
        setattr(module, name, value)


def _is_left_alone(module: Any) -> bool:
    if not isinstance(module, ModuleType):
        return True
    return any(
        module.__name__ == name or module.__name__.startswith(f"{name}.") for name in _LEFT_ALONE
    )


class _Meta(type):
    """Every real moment is one of the moved class, too."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, real_datetime)


def _datetime(clock: TravellingClock) -> type:
    """A class like `datetime` whose present is the clock's; what it makes are real ones."""

    class Moved(real_datetime, metaclass=_Meta):
        def __new__(cls, *args: Any, **more: Any) -> Any:
            return real_datetime(*args, **more)

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return real_datetime.now(tz) + _offset(clock)

        @classmethod
        def utcnow(cls) -> Any:
            naive = real_datetime.now(datetime_module.UTC).replace(tzinfo=None)
            return naive + _offset(clock)

        @classmethod
        def today(cls) -> Any:
            return real_datetime.now() + _offset(clock)

    return Moved


def _offset(clock: TravellingClock) -> timedelta:
    return timedelta(seconds=clock.now() - _REAL_TIME())
