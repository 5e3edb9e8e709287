"""What an action of a session is: a call that acts on the store, awaited or done at once.

In `async def` every action is awaited; in a plain `def` endpoint, which runs in a thread of its
own, the same call does its work before it returns. `running.py` has the runners.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Generic, Protocol, TypeVar

from .core.ops import Flow

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Action(Protocol[R_co]):
    """A call that acts on the store: awaited in `async def`, done already in plain `def`."""

    def __await__(self) -> Generator[Any, Any, R_co]: ...

    def result(self) -> R_co:
        """What a finished action came to; for plain `def` endpoints."""
        ...


class Runner(Protocol):
    """Runs flows for one request: on the event loop, or at once."""

    def run(self, name: str, flow: Flow[R]) -> Action[R]:
        """The action that the flow is, under the name that its caller knows it by."""
        ...


class Done(Generic[R]):
    """An action that has happened already."""

    __slots__ = ("_value",)

    def __init__(self, value: R) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, Any, R]:
        yield from ()
        return self._value

    def result(self) -> R:
        """What it came to."""
        return self._value
