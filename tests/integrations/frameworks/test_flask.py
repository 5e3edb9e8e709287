"""Flask: `flask.session` as its users know it, on Strongroom."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import flask
import pytest
from flask import (
    Blueprint,
    Flask,
    flash,
    get_flashed_messages,
    render_template_string,
    request,
    session,
    stream_with_context,
)
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from strongroom import (
    CsrfRefused,
    Routes,
    SessionManager,
    SessionPolicy,
    SignInRequired,
    open_store,
)
from strongroom.core.errors import ConfigurationError, StoreUnavailable
from strongroom.core.events import LoginSuccess, SessionEndedEvent
from strongroom.integrations.flask import (
    FlaskSession,
    Strongroom,
    current_session,
    manager_of,
    require_recent_sign_in,
    require_sign_in,
)
from strongroom.integrations.wsgi import SessionMiddleware
from strongroom.keyfile import generate
from strongroom.testing import FrozenClock
from strongroom.testing.clock import START
from tests.support.wsgi import WsgiBrowser

KEYS = generate("flask", START)
HTML = {"accept": "text/html"}


class Shop:
    """A Flask application, its manager, its clock and its events."""

    def __init__(self, policy: SessionPolicy | None = None, **config: Any) -> None:
        self.clock = FrozenClock()
        self.events: list[Any] = []
        self.store = open_store("memory://")
        self.manager = SessionManager(
            self.store, keys=KEYS, policy=policy, clock=self.clock, sinks=[self.events.append]
        )
        self.app = Flask("shop")
        self.app.config.update(config)
        self.strongroom = Strongroom(self.app, manager=self.manager)
        _pages(self.app)

    def browser(self, **how: Any) -> WsgiBrowser:
        return WsgiBrowser(self.app, **how)

    def signed_in(self) -> WsgiBrowser:
        browser = self.browser()
        assert browser.post("/sign-in/alice").status == 200
        return browser

    def told(self, event: Any) -> list[Any]:
        return [each for each in self.events if isinstance(each, event)]

    def stop(self) -> None:
        self.app.extensions["strongroom"].serving.stop()


def _pages(app: Flask) -> None:
    @app.get("/")
    def index() -> Any:
        return {"subject": current_session.subject, "data": dict(session)}

    @app.post("/sign-in/<name>")
    def sign_in(name: str) -> Any:
        with current_session.authenticating(name):
            current_session.sign_in(name)
        return {"subject": current_session.subject}

    @app.post("/sign-out")
    def sign_out() -> Any:
        current_session.sign_out()
        return "out"

    @app.get("/set/<key>/<value>")
    def put(key: str, value: str) -> Any:
        session[key] = value
        return "kept"

    @app.get("/account")
    @require_sign_in
    def account() -> Any:
        return {"account of": current_session.subject}

    @app.get("/plain")
    def plain() -> Any:
        return "nothing to do with sessions"


@pytest.fixture
def shop():
    shop = Shop()
    yield shop
    shop.stop()


def test_signing_in_and_out(shop: Shop) -> None:
    """Signing in starts a new session, the one before is worth nothing, and out is out (P10)."""
    browser = shop.browser()
    browser.get("/set/cart/2")
    planted = shop.browser(cookies=dict(browser.cookies))
    assert browser.post("/sign-in/alice").json == {"subject": "alice"}
    assert browser.get("/").json == {"subject": "alice", "data": {}}
    assert planted.get("/").json == {"subject": None, "data": {}}
    thief = shop.browser(cookies=dict(browser.cookies))
    assert browser.post("/sign-out").header("clear-site-data") == '"storage"'
    assert browser.cookies == {}
    assert thief.get("/").json["subject"] is None


def test_reading_and_doing_nothing_store_nothing(shop: Shop) -> None:
    """Who did nothing has no cookie, and a page that asks nothing varies by none (P24)."""
    assert shop.browser().get("/").cookies == []
    assert shop.browser().get("/").header("vary") == "Cookie"
    assert shop.browser().get("/plain").header("vary") is None


def test_the_session_is_the_mapping_that_flask_users_know(shop: Shop) -> None:
    """get, setdefault, pop, update, in, len, iteration, clear; new, modified, accessed."""
    seen: dict[str, Any] = {}

    @shop.app.get("/mapping")
    def mapping() -> Any:
        found = session._get_current_object()  # type: ignore[attr-defined]
        seen["type"] = isinstance(found, FlaskSession) and isinstance(
            found, flask.sessions.SessionMixin
        )
        seen["untouched"] = (session.new, session.modified, session.accessed)
        session.setdefault("a", 1)
        session.update(b=[1])
        seen["then"] = (session.pop("a"), "b" in session, len(session), list(session))
        seen["touched"] = (session.new, session.modified, session.accessed)
        session.modified = True
        return "x"

    browser = shop.browser()
    browser.get("/mapping")
    assert seen == {
        "type": True,
        "untouched": (True, False, False),
        "then": (1, True, 1, ["b"]),
        "touched": (True, True, True),
    }
    browser.get("/mapping")
    assert seen["untouched"] == (False, False, False)


def test_nested_changes_are_kept_without_a_flag(shop: Shop) -> None:
    """A list in the session is changed in place, and nobody sets session.modified (P7)."""

    @shop.app.get("/add")
    def add() -> Any:
        session.setdefault("cart", []).append("tea")
        return "added"

    browser = shop.browser()
    for _ in range(3):
        browser.get("/add")
    assert browser.get("/").json["data"] == {"cart": ["tea", "tea", "tea"]}


def test_flashed_messages_are_shown_once(shop: Shop) -> None:
    """flash and get_flashed_messages work unchanged, and their end leaves nothing behind."""

    @shop.app.get("/flash")
    def flashing() -> Any:
        flash("Saved.", "info")
        return "x"

    @shop.app.get("/shown")
    def shown() -> Any:
        return {"messages": get_flashed_messages(with_categories=True)}

    browser = shop.browser()
    browser.get("/flash")
    assert browser.get("/shown").json == {"messages": [["info", "Saved."]]}
    assert browser.get("/shown").json == {"messages": []}
    assert browser.get("/").json["data"] == {}


def test_a_permanent_session_outlives_the_window_and_never_the_session() -> None:
    """session.permanent dates the cookie, by PERMANENT_SESSION_LIFETIME or the absolute timeout,
    whichever ends first; by itself it stores nothing (P9, P24)."""
    shop = Shop(PERMANENT_SESSION_LIFETIME=timedelta(hours=2))

    @shop.app.before_request
    def permanent() -> None:
        session.permanent = request.args.get("for") != "window"

    assert shop.browser().get("/").cookies == []
    lasting = shop.browser()
    (cookie,) = lasting.post("/sign-in/alice").cookies
    assert cookie.endswith("; Max-Age=7200")
    assert lasting.get("/").json["data"] == {"_permanent": True}
    (cookie,) = shop.browser().post("/sign-in/alice?for=window").cookies
    assert "Max-Age" not in cookie
    shop.app.permanent_session_lifetime = timedelta(days=31)
    (cookie,) = shop.browser().post("/sign-in/alice").cookies
    assert cookie.endswith(f"; Max-Age={8 * 3600}")
    assert shop.browser(cookies=lasting.cookies).post("/sign-out").cookies[0].count("Max-Age") == 1
    shop.stop()


def test_the_test_client_and_its_session_transaction(shop: Shop) -> None:
    """Tests put into the session and read from it as before, and may sign somebody in."""
    shop.app.testing = True
    with shop.app.test_client() as client:
        with client.session_transaction(base_url="https://localhost") as before:
            before["cart"] = 2
        read = client.get("/", base_url="https://localhost").get_json()
        assert read == {"subject": None, "data": {"cart": 2}}
        assert session["cart"] == 2
        with client.session_transaction(base_url="https://localhost") as before:
            assert before["cart"] == 2
            assert isinstance(before, FlaskSession)
            before.sign_in("alice")
        assert client.get("/", base_url="https://localhost").get_json()["subject"] == "alice"
    assert len(shop.told(LoginSuccess)) == 1


def test_a_request_context_has_a_session_of_its_own(shop: Shop) -> None:
    """`test_request_context` opens a session without a server, and leaves nothing behind."""
    with shop.app.test_request_context("/"):
        session["a"] = 1
        assert dict(session) == {"a": 1}
        assert current_session.subject is None
        current_session.sign_in("alice")
    assert [each.reason for each in shop.told(SessionEndedEvent)] == ["aborted_response"]


def test_events_reach_the_sinks_when_a_test_looks(shop: Shop) -> None:
    """Flask's client closes no response, so with app.testing the events come at once."""
    shop.app.testing = True
    shop.app.test_client().post(
        "/sign-in/alice", headers={"sec-fetch-site": "same-origin"}, base_url="https://localhost"
    )
    assert len(shop.told(LoginSuccess)) == 1


@pytest.mark.parametrize("testing", [False, True])
@pytest.mark.parametrize("how", ["raises", "500", "after_request", "abort"])
def test_a_failed_response_signs_nobody_in(how: str, testing: bool) -> None:
    """An exception, a 500, a failing after_request: the session ends again (P14)."""
    shop = Shop()
    shop.app.testing = testing

    @shop.app.post("/fail")
    def fail() -> Any:
        current_session.sign_in("alice")
        session["a"] = 1
        if how == "raises":
            raise RuntimeError("boom")
        if how == "abort":
            flask.abort(502)
        return "x", 500 if how == "500" else 200

    @shop.app.after_request
    def after(response: Any) -> Any:
        if how == "after_request":
            raise RuntimeError("boom")
        return response

    browser = shop.browser()
    answer = browser.post("/fail")
    assert answer.status in (500, 502)
    assert browser.cookies == {}
    assert [each.reason for each in shop.told(SessionEndedEvent)] == ["aborted_response"]
    assert shop.manager.sessions_of("alice") == []
    shop.stop()


def test_an_error_that_is_handled_is_no_failure(shop: Shop) -> None:
    """An error handler that answers 4xx has made a response like any other (E1)."""

    @shop.app.errorhandler(ZeroDivisionError)
    def handled(error: Exception) -> Any:
        return "never mind", 400

    @shop.app.post("/divide")
    def divide() -> Any:
        current_session.sign_in("alice")
        return str(1 / 0)

    browser = shop.browser()
    assert browser.post("/divide").status == 400
    assert browser.get("/").json["subject"] == "alice"


def test_signing_out_holds_whatever_the_status(shop: Shop) -> None:
    """A view that signed out and then broke has signed out (P14)."""

    @shop.app.post("/out")
    def out() -> Any:
        current_session.sign_out()
        return "broken", 500

    browser = shop.signed_in()
    browser.post("/out")
    assert browser.cookies == {}
    assert shop.manager.sessions_of("alice") == []


def test_a_receiver_of_request_finished_that_fails_loses_no_cookie(shop: Shop) -> None:
    """Flask makes a second response then; what was decided for the first goes with it."""
    browser = shop.signed_in()

    def failing(sender: Any, **_: Any) -> None:
        raise RuntimeError("boom")

    with flask.request_finished.connected_to(failing, shop.app):
        answer = browser.post("/sign-out")
    assert (answer.status, browser.cookies) == (500, {})
    assert shop.manager.sessions_of("alice") == []


def test_a_stream_reads_and_writes_the_session(shop: Shop) -> None:
    """stream_with_context: what a stream assigns is saved when it ends."""

    @shop.app.get("/stream")
    def stream() -> Any:
        def parts() -> Any:
            yield f"{current_session.subject} "
            session["seen"] = 3
            yield "end"

        return shop.app.response_class(stream_with_context(parts()))

    browser = shop.signed_in()
    assert browser.get("/stream").text == "alice end"
    assert browser.get("/").json["data"] == {"seen": 3}


def test_a_stream_of_events_ends_with_its_session() -> None:
    """Ended elsewhere, the session takes its open event stream with it (P16)."""
    import time

    shop = Shop(SessionPolicy(max_staleness=timedelta(milliseconds=1)))
    closed: list[bool] = []

    @shop.app.get("/events")
    def events() -> Any:
        def parts() -> Any:
            try:
                yield "data: 1\n\n"
                shop.manager.end_all_of("alice")
                time.sleep(0.002)  # longer than an answer of the store may be believed
                yield "data: 2\n\n"
            finally:
                closed.append(True)

        return shop.app.response_class(parts(), mimetype="text/event-stream")

    browser = shop.signed_in()
    assert browser.get("/events").text == "data: 1\n\n"
    assert closed == [True]
    shop.stop()


def test_our_errors_are_responses_of_the_application(shop: Shop) -> None:
    """A person is sent to sign in and back, a program gets 401, and after_request sees both."""

    @shop.app.after_request
    def mark(response: Any) -> Any:
        response.headers["x-seen"] = "yes"
        return response

    person = shop.browser().get("/account?tab=2")
    assert (person.status, person.header("location")) == (303, "/sign-in?next=%2Faccount%3Ftab%3D2")
    assert person.header("x-seen") == "yes"
    program = shop.browser().get("/account", headers={"accept": "application/json"})
    assert (program.status, program.json["code"]) == (401, "sign_in_required")
    assert shop.signed_in().get("/account").json == {"account of": "alice"}


def test_the_applications_own_error_pages_come_first(shop: Shop) -> None:
    """`errorhandler(SignInRequired)` and `errorhandler(CsrfRefused)` are asked before ours."""

    @shop.app.errorhandler(SignInRequired)
    def please(error: SignInRequired) -> Any:
        return "our own words", 401

    @shop.app.errorhandler(CsrfRefused)
    def refused(error: CsrfRefused) -> Any:
        return "not from there", 418

    assert shop.browser().get("/account").text == "our own words"
    answer = shop.browser().post("/sign-in/alice", site="cross-site")
    assert (answer.status, answer.text) == (418, "not from there")


def test_a_recent_sign_in_is_asked_for(shop: Shop) -> None:
    """Too long ago, a program gets RFC 9470's challenge, and a new proof passes (P25)."""

    @shop.app.get("/danger")
    @require_recent_sign_in(max_age=timedelta(minutes=5))
    def danger() -> Any:
        return "done"

    @shop.app.post("/prove")
    def prove() -> Any:
        current_session.elevate(amr="pwd")
        return "x"

    browser = shop.signed_in()
    assert browser.get("/danger").text == "done"
    shop.clock.advance(6 * 60_000)
    late = browser.get("/danger", headers={"accept": "application/json"})
    assert "insufficient_user_authentication" in (late.header("www-authenticate") or "")
    browser.post("/prove")
    assert browser.get("/danger").text == "done"


def test_factors_are_asked_for_by_name(shop: Shop) -> None:
    """Each with an age of its own (P25)."""

    @shop.app.get("/key")
    @require_recent_sign_in(amr={"otp": timedelta(minutes=1)})
    def key() -> Any:
        return "done"

    browser = shop.signed_in()
    told = browser.get("/key", headers={"accept": "application/json"})
    assert (told.status, told.json["amr_max_age"]) == (401, {"otp": 60})


def test_another_site_cannot_post_here(shop: Shop) -> None:
    """It is refused before any function of the application runs, whenever that was added (P19)."""
    ran: list[str] = []

    @shop.app.before_request
    def mine() -> None:
        ran.append("mine")

    answer = shop.browser().post("/sign-in/alice", site="cross-site")
    assert (answer.status, ran) == (403, [])
    assert shop.manager.sessions_of("alice") == []


def test_a_function_that_answers_before_ours_lets_nothing_through(shop: Shop) -> None:
    """Should something stand before our check and answer, a refused request is refused still."""
    shop.app.before_request_funcs[None].insert(0, lambda: "let through")
    assert shop.browser().post("/sign-in/alice", site="cross-site").status == 403


def test_forms_carry_their_token(shop: Shop) -> None:
    """csrf_input is there in every template, and an old browser's form passes with it (P19)."""

    @shop.app.get("/form")
    def form() -> Any:
        return render_template_string("{{ csrf_input() }}|{{ csrf_token() }}")

    browser = shop.browser()
    page = browser.get("/form").text
    assert page.startswith('<input type="hidden" name="csrf_token" value="')
    token = page.rpartition("|")[2]
    assert browser.post("/sign-in/alice", site=None).status == 403
    assert browser.post("/sign-in/alice", {"csrf_token": token}, site=None).status == 200


def test_an_upload_is_whole_after_its_token_was_read(shop: Shop) -> None:
    """Flask's form parser and `request.stream` see the body as it came (P19)."""

    @shop.app.get("/form")
    def form() -> Any:
        return current_session.csrf_token()

    @shop.app.post("/upload")
    def upload() -> Any:
        return {"size": len(request.files["file"].read()), "name": request.form["name"]}

    browser = shop.browser()
    token = browser.get("/form").text
    boundary = "xxxx"
    parts = [
        f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"{more}\r\n\r\n{value}\r\n'
        for name, more, value in (
            ("csrf_token", "", token),
            ("name", "", "n"),
            ("file", '; filename="f"', "x" * 300_000),
        )
    ]
    answer = browser.fetch(
        "POST",
        "/upload",
        body=("".join(parts) + f"--{boundary}--\r\n").encode(),
        site=None,
        content_type=f"multipart/form-data; boundary={boundary}",
    )
    assert answer.json == {"size": 300_000, "name": "n"}


def test_while_the_store_is_down_nobody_is_let_in() -> None:
    """503 with Retry-After through the application's handlers; a public page goes on (P22)."""
    shop = Shop(SessionPolicy(routes=Routes(public=("/plain",))))
    browser = shop.signed_in()

    def down(op: Any) -> Any:
        raise StoreUnavailable("The store does not answer.")

    shop.store.find = down  # type: ignore[method-assign]
    answer = browser.get("/")
    assert (answer.status, answer.header("retry-after"), answer.cookies) == (503, "5", [])
    assert browser.get("/plain").status == 200
    shop.stop()


def test_a_save_that_fails_is_told_instead_of_the_page(shop: Shop) -> None:
    """The page is not sent when what it did could not be kept (P22)."""
    browser = shop.signed_in()

    def down(op: Any) -> Any:
        raise StoreUnavailable("The store does not answer.")

    shop.store.replace = down  # type: ignore[method-assign]
    answer = browser.get("/set/a/1")
    assert (answer.status, answer.header("retry-after")) == (503, "5")
    assert answer.text.count("kept") == 0


def test_blueprints_and_factories(tmp_path: Path) -> None:
    """`init_app` serves several applications, each with its settings and its own store."""
    strongroom = Strongroom(keys=KEYS, sinks=())
    pages = Blueprint("pages", "pages", url_prefix="/pages")

    @pages.get("/set")
    def put() -> Any:
        session["where"] = flask.current_app.name
        return "x"

    @pages.get("/get")
    def get() -> Any:
        return dict(session)

    apps = []
    for name in ("one", "two"):
        app = Flask(name)
        app.config["STRONGROOM_STORE"] = f"sqlite:///{tmp_path}/{name}.db"
        strongroom.init_app(app)
        app.register_blueprint(pages)
        apps.append(app)
    browsers = [WsgiBrowser(app) for app in apps]
    for browser in browsers:
        browser.get("/pages/set")
    assert [browser.get("/pages/get").json["where"] for browser in browsers] == ["one", "two"]
    assert manager_of(apps[0]) is not manager_of(apps[1])
    for app in apps:
        app.extensions["strongroom"].serving.stop()


def test_mounted_applications_share_the_outer_session(shop: Shop) -> None:
    """Inside of the plain middleware there is one session, and one writer (F6)."""
    inner = Flask("inner")
    Strongroom(inner, store="memory://", keys=KEYS, sinks=())
    _pages(inner)
    whole = SessionMiddleware(
        DispatcherMiddleware(shop.app, {"/inner": inner}),
        manager=shop.manager,
    )
    browser = WsgiBrowser(whole)
    browser.post("/inner/sign-in/alice")
    assert len(browser.cookies) == 1
    assert browser.get("/").json["subject"] == "alice"
    whole.serving.stop()


def test_async_views_use_the_same_calls(shop: Shop) -> None:
    """An `async def` view runs in a loop of its own; an action may be awaited there or not."""
    pytest.importorskip("asgiref", reason="allowed: async views need flask[async]")

    @shop.app.post("/async")
    @require_sign_in
    async def view() -> Any:
        await current_session.elevate(amr="otp")
        return {"factors": current_session.factors}

    assert shop.signed_in().post("/async").json == {"factors": ["pwd", "otp"]}


# What newcomers meet first.


def test_without_the_extension_a_sentence_says_so() -> None:
    """`current_session` in an application that has no extension."""
    app = Flask("bare")
    app.secret_key = "x"
    with app.test_request_context("/"), pytest.raises(ConfigurationError, match="init_app"):
        assert current_session.subject
    with pytest.raises(ConfigurationError, match="no Strongroom extension"):
        manager_of(app)


def test_without_keys_the_application_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """No keys: told where the application is made, with the command that makes them."""
    monkeypatch.delenv("STRONGROOM_KEYS", raising=False)
    with pytest.raises(ConfigurationError, match="strongroom keys generate"):
        Strongroom(Flask("bare"), store="memory://")


def test_two_extensions_in_one_application(shop: Shop) -> None:
    """`Strongroom(app)` and `init_app(app)` together are one too many."""
    with pytest.raises(ConfigurationError, match="but not both"):
        shop.strongroom.init_app(shop.app)


def test_another_session_extension_after_ours_is_found(shop: Shop) -> None:
    """The wrong order: somebody replaced the interface, and every request says so."""
    shop.app.session_interface = flask.sessions.SecureCookieSessionInterface()
    shop.app.secret_key = "x"
    shop.app.testing = True
    with pytest.raises(ConfigurationError, match="replaced Strongroom's session interface"):
        shop.app.test_client().get("/plain")


def test_settings_without_effect_are_named(caplog: pytest.LogCaptureFixture) -> None:
    """Flask's cookie settings are not ignored in silence."""
    shop = Shop(SESSION_COOKIE_DOMAIN=".shop.example", SESSION_COOKIE_SAMESITE="None")
    assert "SESSION_COOKIE_DOMAIN, SESSION_COOKIE_SAMESITE" in caplog.text
    caplog.clear()
    Shop()
    assert caplog.text == ""
    shop.stop()


def test_http_in_production_is_told_once(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """A Secure cookie over http: browsers drop it, and the log says what to do (P18)."""
    caplog.set_level(logging.WARNING)
    browser = shop.browser(scheme="http")
    browser.post("/sign-in/alice")
    browser.post("/sign-in/alice")
    assert caplog.text.count("SessionPolicy.for_development()") == 1


def test_the_operators_commands_know_the_applications_settings(tmp_path: Path) -> None:
    """`flask strongroom sessions list` needs no --store, --keys or --policy."""
    from strongroom import keyfile

    keys = tmp_path / "shop.keys"
    keyfile.write(keys, generate("shop", 0))
    store = f"sqlite:///{tmp_path}/sessions.db"
    app = Flask("shop")
    Strongroom(app, store=store, keys=keys, policy=SessionPolicy.owasp_high_value(), sinks=())
    _pages(app)
    WsgiBrowser(app).post("/sign-in/alice")
    runner = app.test_cli_runner()
    listed = runner.invoke(args=["strongroom", "sessions", "list", "alice"])
    assert (listed.exit_code, "Firefox" in listed.output) == (0, True), listed.output
    shown = runner.invoke(args=["strongroom", "policy", "show"])
    assert "owasp_high_value" in shown.output
    wrong = runner.invoke(args=["strongroom", "sessions", "lisst"])
    assert (wrong.exit_code, "Did you mean" in wrong.output) == (2, True)
    app.extensions["strongroom"].serving.stop()


def test_importing_it_loads_no_other_framework() -> None:
    """No framework pays an import for another."""
    code = (
        "import sys, strongroom.integrations.flask as f; print(sorted(m for m in sys.modules "
        "if m.partition('.')[0] in {'starlette', 'fastapi', 'quart', 'aiohttp', 'django', "
        "'litestar', 'flask_login', 'flask_wtf', 'wtforms'} or m == 'strongroom.cli'))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_body_is_not_touched_where_no_token_is_needed(shop: Shop) -> None:
    """A same-origin request's stream comes to the view as the server made it."""
    source = io.BytesIO(b"a=1")

    @shop.app.post("/raw")
    def raw() -> Any:
        return {"same": request.environ["wsgi.input"] is source}

    browser = shop.browser(strict=False)
    answer = browser.post("/raw", environ={"wsgi.input": source, "CONTENT_LENGTH": "3"})
    assert answer.json == {"same": True}
