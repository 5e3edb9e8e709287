"""Quart: `Strongroom(app)`, and `quart.session` works as before, on a session that is safe.

    app = Quart(__name__)
    Strongroom(app, store="sqlite:///var/sessions.db", keys="var/strongroom.keys")

`current_session` is the same session with its type and all that it can do: `await
current_session.sign_in(...)` in `async def`, and the same without `await` in a plain `def` view,
which Quart runs in a thread. WebSockets have it too.
"""

from __future__ import annotations

from .extension import Strongroom, manager_of
from .guards import current_session, require_recent_sign_in, require_sign_in
from .interface import QuartSession

__all__ = [
    "QuartSession",
    "Strongroom",
    "current_session",
    "manager_of",
    "require_recent_sign_in",
    "require_sign_in",
]
