"""Taking sessions over from what a Flask application used before: its cookies, or Flask-Session.

    adopt_sessions(
        app,
        SecureCookieSessionInterface(),
        subject_of=lambda old: old.get("user_id"),
        until=datetime(2027, 1, 31, tzinfo=UTC),
    )

With the first request of a browser that has no cookie of ours, the old interface reads its own; who
was signed in goes on in a *remembered* session, and the old one is emptied and saved, which deletes
its cookie and, for Flask-Session, its record.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Response, after_this_request, request
from flask.sessions import SessionInterface, SessionMixin

from strongroom.core.errors import ConfigurationError, SessionLimitReached, SessionReadOnly

from .guards import find_session
from .interface import FlaskSession

__all__ = ["adopt_sessions"]

_log = logging.getLogger("strongroom")


def adopt_sessions(
    app: Flask,
    old: SessionInterface,
    *,
    subject_of: Callable[[Mapping[str, Any]], str | int | None],
    until: datetime,
    carry: Iterable[str] = (),
) -> None:
    """Believe the old sessions until that moment, each once. Call it after `Strongroom(app)`.

    `old` is the interface that wrote them, with its settings still in place. `subject_of` says who
    is signed in by an old session's data, or None; `carry` names what else of it is kept.

    An old cookie that was copied signs its thief in as well, as it did before: choose an early end.

    Raises:
        ConfigurationError: `until` has no time zone, or the extension is missing.
    """
    if until.tzinfo is None:
        raise ConfigurationError(
            "adopt_sessions(until=...) has no time zone.",
            why="Old cookies would be believed for hours longer or shorter than meant.",
            hint="Write datetime(2027, 1, 31, tzinfo=UTC).",
        )
    if "strongroom" not in app.extensions:
        raise ConfigurationError(
            "adopt_sessions needs the Strongroom extension.",
            why="There is no session yet that an old one could be taken over into.",
            hint="Write Strongroom(app, ...) before adopt_sessions(app, ...).",
        )
    kept = tuple(carry)

    def take_over() -> None:
        if datetime.now(UTC) < until:
            _take_over(app, old, subject_of, kept)

    # Behind our own first function, which refuses what comes from other sites.
    app.before_request_funcs[None].insert(1, take_over)


def _take_over(
    app: Flask,
    old: SessionInterface,
    subject_of: Callable[[Mapping[str, Any]], str | int | None],
    carry: tuple[str, ...],
) -> None:
    session = find_session()
    if session.exchange.visit.record is not None or old.get_cookie_name(app) not in request.cookies:
        return
    before = old.open_session(app, request)
    if before is None or not before:
        return
    subject = subject_of(before)
    if subject is None or not _adopted(session, str(subject)):
        return
    session.update({key: before[key] for key in carry if key in before})
    _forget(app, old, before)


def _adopted(session: FlaskSession, subject: str) -> bool:
    try:
        return session.resume(subject).result()
    except (SessionReadOnly, SessionLimitReached) as error:
        # The page goes on for nobody; the next request may do it.
        _log.info("An old session was not taken over: %s", error)
        return False


def _forget(app: Flask, old: SessionInterface, before: SessionMixin) -> None:
    """Empty the old session; its own interface then deletes cookie and record."""
    before.clear()

    def delete(response: Response) -> Response:
        old.save_session(app, before, response)
        return response

    after_this_request(delete)
