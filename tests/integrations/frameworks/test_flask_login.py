"""Flask-Login, Flask-WTF and the sessions of before, on top of Strongroom in Flask."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask, session
from flask.sessions import SecureCookieSessionInterface

from strongroom import SessionManager, open_store
from strongroom.core.errors import ConfigurationError
from strongroom.core.events import LoginSuccess
from strongroom.integrations.flask import (
    Strongroom,
    current_session,
    require_recent_sign_in,
)
from strongroom.integrations.flask.moving import adopt_sessions
from strongroom.keyfile import generate
from strongroom.testing import FrozenClock
from strongroom.testing.clock import START
from tests.support.wsgi import WsgiBrowser

flask_login: Any = pytest.importorskip("flask_login")
flask_wtf: Any = pytest.importorskip("flask_wtf")

SOON = datetime.now(UTC) + timedelta(days=1)


class User(flask_login.UserMixin):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.id = name


@pytest.fixture
def events() -> list[Any]:
    return []


@pytest.fixture
def app(events: list[Any]):
    app = Flask("shop")
    app.secret_key = "the applications own"
    manager = SessionManager(
        open_store("memory://"),
        keys=generate("flask", START),
        clock=FrozenClock(),
        sinks=[events.append],
    )
    Strongroom(app, manager=manager)
    login = flask_login.LoginManager(app)
    login.session_protection = None
    login.user_loader(User)
    _pages(app)
    yield app
    app.extensions["strongroom"].serving.stop()


def manager_of(app: Flask) -> SessionManager:
    manager: SessionManager = app.extensions["strongroom"].serving.manager
    return manager


def _pages(app: Flask) -> None:
    @app.get("/")
    def index() -> Any:
        user = flask_login.current_user
        return {
            "user": getattr(user, "id", None),
            "subject": current_session.subject,
            "remembered": current_session.is_remembered,
            "data": sorted(session),
        }

    @app.post("/in/<name>")
    def sign_in(name: str) -> Any:
        flask_login.login_user(User(name), remember=name == "bob")
        return "in"

    @app.post("/out")
    def sign_out() -> Any:
        flask_login.logout_user()
        return "out"

    @app.post("/confirm")
    def confirm() -> Any:
        flask_login.confirm_login()
        return "x"

    @app.get("/set")
    def put() -> Any:
        session["cart"] = 1
        return "x"

    @app.get("/members")
    @flask_login.login_required
    def members() -> Any:
        return flask_login.current_user.id

    @app.get("/danger")
    @require_recent_sign_in(max_age=timedelta(minutes=5))
    def danger() -> Any:
        return "done"


def test_login_user_starts_a_new_session(app: Flask, events: list[Any]) -> None:
    """A planted session is worth nothing after login_user, and the subject is the user (P10)."""
    browser = WsgiBrowser(app)
    browser.get("/set")
    planted = WsgiBrowser(app, cookies=dict(browser.cookies))
    browser.post("/in/alice")
    told = browser.get("/").json
    assert (told["user"], told["subject"]) == ("alice", "alice")
    assert browser.get("/members").text == "alice"
    assert planted.get("/").json["user"] is None
    assert len([each for each in events if isinstance(each, LoginSuccess)]) == 1


def test_logout_user_ends_the_session_on_the_server(app: Flask) -> None:
    """A copy of the cookie is worth nothing after logout_user, and neither cookie is left."""
    browser = WsgiBrowser(app)
    browser.post("/in/bob")
    assert set(browser.cookies) > {"remember_token"}
    thief = {name: value for name, value in browser.cookies.items() if name != "remember_token"}
    browser.post("/out")
    assert browser.cookies == {}
    assert WsgiBrowser(app, cookies=thief).get("/members").status == 401


def test_ending_a_session_elsewhere_signs_the_user_out(app: Flask) -> None:
    """Flask-Login's user goes with the session, which Flask's own cookies cannot do (P16)."""
    browser = WsgiBrowser(app)
    browser.post("/in/alice")
    manager_of(app).end_all_of("alice")
    assert browser.get("/").json["user"] is None


def test_remember_me_opens_a_session_that_owes_a_proof(app: Flask) -> None:
    """By Flask-Login's own cookie one is known, but a sensitive page asks anew (P25)."""
    browser = WsgiBrowser(app)
    browser.post("/in/bob")
    returning = WsgiBrowser(app, cookies={"remember_token": browser.cookies["remember_token"]})
    told = returning.get("/").json
    assert (told["user"], told["subject"], told["remembered"]) == ("bob", "bob", True)
    assert returning.get("/danger").status == 303
    returning.post("/confirm")
    assert returning.get("/danger").text == "done"


def test_remember_me_undoes_no_revocation(app: Flask) -> None:
    """A browser whose session was ended is asked to sign in, and its old cookie goes (P6)."""
    browser = WsgiBrowser(app)
    browser.post("/in/bob")
    manager_of(app).end_all_of("bob")
    assert browser.get("/members").status == 303
    assert "remember_token" not in browser.cookies
    assert browser.get("/").json["user"] is None
    assert manager_of(app).sessions_of("bob") == []


def test_remember_me_outlives_the_clocks(app: Flask) -> None:
    """A session that only timed out is what it is for."""
    browser = WsgiBrowser(app)
    browser.post("/in/bob")
    clock: Any = manager_of(app).clock
    clock.advance(60 * 60_000)
    told = browser.get("/").json
    assert (told["user"], told["subject"], told["remembered"]) == ("bob", "bob", True)


def test_it_is_left_alone_where_that_is_asked_for(events: list[Any]) -> None:
    """STRONGROOM_FLASK_LOGIN = False leaves signing in to the application's own calls."""
    app = Flask("shop")
    app.secret_key = "x"
    app.config["STRONGROOM_FLASK_LOGIN"] = False
    Strongroom(app, store="memory://", keys=generate("a", 0), sinks=[events.append])
    login = flask_login.LoginManager(app)
    login.user_loader(User)
    _pages(app)
    browser = WsgiBrowser(app)
    browser.post("/in/alice")
    assert browser.get("/").json["subject"] is None
    app.extensions["strongroom"].serving.stop()


# Flask-WTF.


def _with_forms(form_class: Any, **config: Any) -> Flask:
    app = Flask("forms")
    app.secret_key = "x"
    app.config.update(config)
    Strongroom(app, store="memory://", keys=generate("a", 0), sinks=())

    @app.route("/form", methods=["GET", "POST"])
    def form() -> Any:
        form = form_class()
        return {"valid": form.validate_on_submit(), "html": str(form.hidden_tag())}

    return app


def _token(html: str) -> str:
    return html.partition('value="')[2].partition('"')[0]


def test_flask_wtf_forms_work_unchanged_and_check_a_second_time() -> None:
    """Their token lives in our session, and ours need not be asked in a browser of today (P19)."""
    app = _with_forms(flask_wtf.FlaskForm)
    browser = WsgiBrowser(app)
    token = _token(browser.get("/form").json["html"])
    referer = {"referer": "https://shop.example/form"}
    assert browser.post("/form", {"csrf_token": token}, headers=referer).json["valid"]
    assert not browser.post("/form", {"csrf_token": "x"}, headers=referer).json["valid"]
    assert browser.post("/form", {"csrf_token": token}, site="cross-site").status == 403
    app.extensions["strongroom"].serving.stop()


def test_a_form_of_ours_carries_our_token() -> None:
    """With StrongroomForm an old browser passes, and a look at a form stores nothing (P19, P24)."""
    from strongroom.integrations.flask.forms import StrongroomForm

    app = _with_forms(StrongroomForm, WTF_CSRF_ENABLED=False)
    browser = WsgiBrowser(app)
    shown = browser.get("/form")
    assert all(name.startswith("__Host-pre-") for name in browser.cookies)
    token = _token(shown.json["html"])
    assert browser.post("/form", {"csrf_token": token}, site=None).json["valid"]
    assert browser.post("/form", {"csrf_token": "x"}, site=None).status == 403
    app.extensions["strongroom"].serving.stop()


# Moving from Flask's cookie sessions.


def _old_cookie(**data: Any) -> dict[str, str]:
    before = Flask("shop")
    before.secret_key = "the applications own"

    @before.get("/in")
    def sign_in() -> Any:
        session.update(data)
        return "x"

    browser = WsgiBrowser(before)
    browser.get("/in")
    return browser.cookies


def _moving(app: Flask, until: datetime = SOON) -> None:
    adopt_sessions(
        app,
        SecureCookieSessionInterface(),
        subject_of=lambda old: old.get("user"),
        until=until,
        carry=("cart",),
    )


def test_old_cookies_keep_people_signed_in_once(app: Flask) -> None:
    """Who was signed in by Flask's own cookie goes on, remembered; that cookie goes (P25)."""
    _moving(app)
    browser = WsgiBrowser(app, cookies=_old_cookie(user="carol", cart=[2], rest=1))
    told = browser.get("/").json
    assert (told["subject"], told["remembered"], told["data"]) == ("carol", True, ["cart"])
    assert "session" not in browser.cookies
    assert len(browser.cookies) == 1
    assert browser.get("/danger").status == 303


def test_old_cookies_end_on_their_day(app: Flask) -> None:
    """After `until` nobody comes in by an old cookie."""
    _moving(app, datetime.now(UTC) - timedelta(seconds=1))
    browser = WsgiBrowser(app, cookies=_old_cookie(user="carol"))
    assert browser.get("/").json["subject"] is None


def test_a_forged_old_cookie_is_nobodys(app: Flask) -> None:
    """A signature that is not the application's own is not believed."""
    _moving(app)
    cookies = _old_cookie(user="carol")
    cookies["session"] = cookies["session"][:-2] + "xx"
    assert WsgiBrowser(app, cookies=cookies).get("/").json["subject"] is None


def test_an_old_cookie_undoes_no_sign_out(app: Flask) -> None:
    """Whoever signed out here does not come back by what the old system left (P6)."""
    _moving(app)
    old = _old_cookie(user="carol")
    browser = WsgiBrowser(app, cookies=dict(old))
    browser.get("/")
    manager_of(app).end_all_of("carol")
    browser.cookies.update(old)
    assert browser.get("/").json["subject"] is None


def test_moving_needs_the_extension_and_a_time_zone(app: Flask) -> None:
    """Two mistakes that would be found late are found at once."""
    with pytest.raises(ConfigurationError, match="before adopt_sessions"):
        _moving(Flask("bare"))
    with pytest.raises(ConfigurationError, match="no time zone"):
        _moving(app, datetime(2027, 1, 31))
