"""Django: a session engine, a middleware, checks, and an admin page.

    INSTALLED_APPS = [..., "strongroom.integrations.django"]
    MIDDLEWARE = [..., "strongroom.integrations.django.middleware.SessionMiddleware", ...]
    SESSION_ENGINE = "strongroom.integrations.django"
    STRONGROOM = {"store": "sqlite:///var/sessions.db", "keys": "var/strongroom.keys"}

`request.session` works as Django documents it, `django.contrib.auth` does the right thing without
any code, and `session_of(request)` is the same session with everything that Strongroom can do.
"""

from __future__ import annotations

from .store import SessionStore, session_of

__all__ = ["SessionStore", "session_of"]
