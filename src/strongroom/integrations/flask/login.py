"""Flask-Login on top of Strongroom: its calls change nothing in the code, and do the right thing.

`login_user` starts a new session and ends the one before (P10), `logout_user` ends it on the
server, `confirm_login` is a fresh proof, and a user who came by Flask-Login's own "remember me"
cookie gets a *remembered* session, in which sensitive actions ask anew. Flask-Login says so by
signals; the extension connects to them where an application has a `login_manager`.
"""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask_login import (  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
    user_loaded_from_cookie,
    user_logged_in,
    user_logged_out,
    user_login_confirmed,
)

from strongroom.core.errors import SignInRequired

from .guards import find_session
from .interface import FlaskSession, settings_of

_KEYS = ("_user_id", "_fresh", "_id", "_remember", "_remember_seconds", "_flashes")
"""What Flask-Login keeps in the session, and the words that the next page shows."""


def follow(app: Flask) -> None:
    """Act on what Flask-Login says in this application."""
    signals: Any = (
        (user_logged_in, _signed_in),
        (user_loaded_from_cookie, _remembered),
        (user_login_confirmed, _confirmed),
        (user_logged_out, _signed_out),
    )
    for signal, receiver in signals:
        signal.connect(receiver, app)


def _signed_in(app: Flask, user: Any, **_: Any) -> None:
    """A new session of the user's, with the factor that STRONGROOM_LOGIN_AMR names ("pwd")."""
    session = find_session()
    kept = _kept(session)
    session.sign_in(str(user.get_id()), amr=_amr(app))
    session.update(kept)


def _remembered(_app: Flask, user: Any, **_: Any) -> None:
    """Nothing was proved now. Where a session of ours was ended, the cookie is not believed, and
    goes with it.

    Raises:
        SignInRequired: answered with the sign-in page.
    """
    session = find_session()
    kept = _kept(session)
    if session.subject == kept.get("_user_id"):
        return
    if session.resume(str(user.get_id())).result():
        session.update(kept)
        return
    for key in _KEYS:
        session.pop(key, None)
    session["_remember"] = "clear"
    raise SignInRequired(
        "The session in this browser has ended.",
        why="A cookie from before its end must not open another one.",
        hint="Sign in to go on.",
    )


def _confirmed(app: Flask, **_: Any) -> None:
    session = find_session()
    if session.is_authenticated:
        session.elevate(amr=_amr(app))


def _signed_out(_app: Flask, **_: Any) -> None:
    session = find_session()
    told = {key: session[key] for key in ("_remember", "_flashes") if key in session}
    session.sign_out()
    # Read at this response's end, where Flask-Login then deletes its own cookie.
    session.update(told)


def _amr(app: Flask) -> str | tuple[str, ...]:
    found: str | tuple[str, ...] = settings_of(app).get("STRONGROOM_LOGIN_AMR", "pwd")
    return found


def _kept(session: FlaskSession) -> dict[str, Any]:
    return {key: session[key] for key in _KEYS if key in session}
