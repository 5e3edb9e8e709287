"""What a request set off: the events that the sinks heard, and how often the store was asked.

Both go by a context variable, so that of everything that happens in the bank only what the attack
did itself is seen.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast

from strongroom.core.events import Event
from strongroom.stores.base import AsyncStore

_READS = frozenset({"find", "read_epoch", "list_subject", "read_history"})
_NOT_OPS = frozenset({"open", "close"})


@dataclass(slots=True)
class Seen:
    """What happened while somebody watched."""

    events: list[Event] = field(default_factory=list[Event])
    reads: int = 0
    writes: int = 0


_watching: ContextVar[Seen | None] = ContextVar("watching", default=None)


@contextmanager
def watching() -> Generator[Seen]:
    """See what the requests within set off."""
    seen = Seen()
    token = _watching.set(seen)
    try:
        yield seen
    finally:
        _watching.reset(token)


def overhear(event: Event) -> None:
    """An event sink, beside the others."""
    seen = _watching.get()
    if seen is not None:
        seen.events.append(event)


def counted_store(store: AsyncStore) -> AsyncStore:
    """The store; the calls that it gets are counted where somebody watches."""
    return cast("AsyncStore", _Counted(store))


class _Counted:
    def __init__(self, store: AsyncStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        seen = _watching.get()
        if seen is not None and name not in _NOT_OPS:
            # Keeping the history is not part of the answer.
            seen.reads += name in _READS
            seen.writes += name not in _READS and name != "append"
        return getattr(self._store, name)
