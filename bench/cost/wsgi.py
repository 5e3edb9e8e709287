"""WSGI: no framework, and Flask, with us and with its peers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from . import ours
from .pages import OK, a_session, a_user, change, look
from .rows import Places, Row
from .sites import WsgiSite

_HEADERS = [("content-type", "text/plain"), ("content-length", "2")]

Pages = dict[str, Callable[[Any], None]]


def _nothing(session: Any) -> None:
    del session


def _sign_in(session: Any) -> None:
    session.update(a_session(a_user()))


BARE: Pages = dict.fromkeys(("/plain", "/read", "/write", "/login"), _nothing)
PEERS: Pages = {"/plain": _nothing, "/read": look, "/write": change, "/login": _sign_in}
OURS: Pages = {
    "/plain": _nothing,
    "/read": ours.look,
    "/write": change,
    "/login": ours.sign_in_at_once,
}


def raw(pages: Pages) -> Any:
    """An application without a framework."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        pages[environ["PATH_INFO"]](environ.get("strongroom.session"))
        start_response("200 OK", _HEADERS)
        return [OK]

    return app


def flask(pages: Pages) -> Any:
    """A Flask application."""
    from flask import Flask, session

    app = Flask("bench")
    app.secret_key = "k" * 32
    app.config["SESSION_COOKIE_SECURE"] = True

    def endpoint(page: Callable[[Any], None]) -> Callable[[], str]:
        def answer() -> str:
            page(session)
            return OK.decode()

        return answer

    for path, page in pages.items():
        app.add_url_rule(path, path, endpoint(page), methods=["GET", "POST"])
    return app


def _raw(_places: Places) -> WsgiSite:
    return WsgiSite(raw(BARE))


def _raw_ours(where: str, places: Places) -> WsgiSite:
    from strongroom.integrations.wsgi import SessionMiddleware

    return WsgiSite(
        SessionMiddleware(raw(OURS), store=ours.url(where, places), keys=ours.KEYS, sinks=())
    )


def _flask_bare(_places: Places) -> WsgiSite:
    from flask.sessions import SecureCookieSession, SessionInterface

    class NoSessions(SessionInterface):
        """What Flask itself costs, with an interface that does nothing."""

        def open_session(self, *_: Any) -> SecureCookieSession:
            return SecureCookieSession()

        def save_session(self, *_: Any) -> None:
            return

    app = flask(BARE)
    app.session_interface = NoSessions()
    return WsgiSite(app)


def _flask_cookie(_places: Places) -> WsgiSite:
    return WsgiSite(flask(PEERS))


def _flask_ours(where: str, places: Places) -> WsgiSite:
    from strongroom.integrations.flask import Strongroom, current_session

    pages = {
        **OURS,
        "/read": lambda _: ours.look(current_session),
        "/login": lambda _: ours.sign_in_at_once(current_session),
    }
    app = flask(pages)
    Strongroom(app, store=ours.url(where, places), keys=ours.KEYS, sinks=())
    return WsgiSite(app)


def _flask_session(places: Places, *, refresh: bool, database: int) -> WsgiSite:
    from flask_session import Session
    from redis import Redis

    pages = dict(PEERS)
    app = flask(pages)
    app.config.update(
        SESSION_TYPE="redis",
        SESSION_REDIS=Redis.from_url(places.database(database)),
        SESSION_REFRESH_EACH_REQUEST=refresh,
    )
    Session(app)
    return WsgiSite(app)


ROWS = [
    Row("raw WSGI", None, _raw),
    Row("Flask", None, _flask_bare),
    *(
        Row(f"Strongroom, {where}", base, partial(make, where), database=database)
        for base, make in (("raw WSGI", _raw_ours), ("Flask", _flask_ours))
        for where, database in (("memory", None), ("SQLite", None), ("Valkey", 8))
    ),
    Row("Flask, signed cookie", "Flask", _flask_cookie),
    Row(
        "Flask-Session, Valkey",
        "Flask",
        partial(_flask_session, refresh=True, database=4),
        database=4,
    ),
    Row(
        "Flask-Session, Valkey, not refreshed",
        "Flask",
        partial(_flask_session, refresh=False, database=5),
        database=5,
    ),
]
