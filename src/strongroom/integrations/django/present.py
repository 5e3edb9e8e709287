"""The session of the request that is being served, for code that Django hands no request."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from .store import SessionStore

_present: ContextVar[SessionStore | None] = ContextVar("strongroom_session", default=None)


@contextmanager
def entered(store: SessionStore) -> Generator[None, None, None]:
    """While its request is served. Threads that serve the same request see it too."""
    token = _present.set(store)
    try:
        yield
    finally:
        _present.reset(token)


def present() -> SessionStore | None:
    """The session of this request, or None outside of any."""
    return _present.get()
