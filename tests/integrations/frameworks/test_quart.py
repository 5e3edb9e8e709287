"""Quart: `quart.session` as its users know it, on Strongroom."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import quart
from quart import (
    Blueprint,
    Quart,
    flash,
    get_flashed_messages,
    render_template_string,
    request,
    session,
    stream_with_context,
    websocket,
)
from quart.sessions import SecureCookieSessionInterface, SessionMixin

from strongroom import CsrfRefused, Routes, SessionPolicy, SignInRequired
from strongroom.core.errors import ActionNotAwaited, ConfigurationError, StoreUnavailable
from strongroom.core.events import LoginSuccess, SessionEndedEvent
from strongroom.integrations.asgi import SessionMiddleware
from strongroom.integrations.quart import (
    QuartSession,
    Strongroom,
    current_session,
    manager_of,
    require_recent_sign_in,
    require_sign_in,
)
from strongroom.keyfile import generate
from strongroom.manager import AsyncSessionManager
from strongroom.stores.urls import open_async_store
from strongroom.testing import FrozenClock
from strongroom.testing.clock import START
from tests.support.browser import Browser
from tests.support.watched import Watched

pytestmark = pytest.mark.anyio

KEYS = generate("quart", START)
JSON = "application/json"
SAME = {"sec-fetch-site": "same-origin"}


class Shop:
    """A Quart application, its manager, its clock and its events."""

    def __init__(self, policy: SessionPolicy | None = None, **config: Any) -> None:
        self.clock = FrozenClock()
        self.events: list[Any] = []
        self.store = Watched(open_async_store("memory://"))
        self.manager = AsyncSessionManager(
            cast(Any, self.store),
            keys=KEYS,
            policy=policy,
            clock=self.clock,
            sinks=[self.events.append],
        )
        self.app = Quart("shop")
        self.app.config.update(config)
        self.strongroom = Strongroom(self.app, manager=self.manager)
        _pages(self.app)

    def browser(self, **how: Any) -> Browser:
        return Browser(self.app, self.clock, **how)

    async def signed_in(self) -> Browser:
        browser = self.browser()
        assert (await browser.post("/sign-in/alice")).status == 200
        return browser

    def told(self, event: Any) -> list[Any]:
        return [each for each in self.events if isinstance(each, event)]


def _pages(app: Quart) -> None:
    @app.get("/")
    async def index() -> Any:
        return {"subject": current_session.subject, "data": dict(session)}

    @app.post("/sign-in/<name>")
    async def sign_in(name: str) -> Any:
        async with current_session.authenticating(name):
            await current_session.sign_in(name)
        return {"subject": current_session.subject}

    @app.post("/sign-out")
    async def sign_out() -> Any:
        await current_session.sign_out()
        return "out"

    @app.get("/set/<key>/<value>")
    async def put(key: str, value: str) -> Any:
        session[key] = value
        return "kept"

    @app.get("/account")
    @require_sign_in
    async def account() -> Any:
        return {"account of": current_session.subject}

    @app.get("/plain")
    async def plain() -> Any:
        return "nothing to do with sessions"


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    shop = Shop()
    yield shop
    await shop.manager.stop()


async def test_the_session_is_the_mapping_that_quart_users_know(shop: Shop) -> None:
    """setdefault, pop, update, in, len, iteration; new, modified, accessed."""
    seen: dict[str, Any] = {}

    @shop.app.get("/mapping")
    async def mapping() -> Any:
        found = session._get_current_object()  # type: ignore[attr-defined]
        seen["type"] = isinstance(found, QuartSession) and isinstance(found, SessionMixin)
        seen["untouched"] = (session.new, session.modified, session.accessed)
        session.setdefault("a", 1)
        session.update(b=[1])
        seen["then"] = (session.pop("a"), "b" in session, len(session), list(session))
        seen["touched"] = (session.new, session.modified, session.accessed)
        session.modified = True
        return "x"

    browser = shop.browser()
    await browser.goto("/mapping")
    assert seen == {
        "type": True,
        "untouched": (True, False, False),
        "then": (1, True, 1, ["b"]),
        "touched": (True, True, True),
    }
    await browser.goto("/mapping")
    assert seen["untouched"] == (False, False, False)


async def test_nested_changes_are_kept_without_a_flag(shop: Shop) -> None:
    """A list in the session is changed in place, and nobody sets session.modified (P7)."""

    @shop.app.get("/add")
    async def add() -> Any:
        session.setdefault("cart", []).append("tea")
        return "added"

    browser = shop.browser()
    for _ in range(3):
        await browser.goto("/add")
    assert (await browser.goto("/")).json["data"] == {"cart": ["tea", "tea", "tea"]}


async def test_flashed_messages_are_shown_once(shop: Shop) -> None:
    """flash and get_flashed_messages work unchanged, and their end leaves nothing behind."""

    @shop.app.get("/flash")
    async def flashing() -> Any:
        await flash("Saved.", "info")
        return "x"

    @shop.app.get("/shown")
    async def shown() -> Any:
        return {"messages": get_flashed_messages(with_categories=True)}

    browser = shop.browser()
    await browser.goto("/flash")
    assert (await browser.goto("/shown")).json == {"messages": [["info", "Saved."]]}
    assert (await browser.goto("/shown")).json == {"messages": []}
    assert (await browser.goto("/")).json["data"] == {}


async def test_a_permanent_session_outlives_the_window_and_never_the_session() -> None:
    """session.permanent dates the cookie, by PERMANENT_SESSION_LIFETIME or the absolute timeout,
    whichever ends first; by itself it stores nothing (P9, P24)."""
    for lifetime, seconds in ((timedelta(hours=2), 7200), (timedelta(days=31), 8 * 3600)):
        shop = Shop(PERMANENT_SESSION_LIFETIME=lifetime)

        @shop.app.before_request
        async def permanent() -> None:
            session.permanent = request.args.get("for") != "window"

        assert (await shop.browser().goto("/")).cookies == []
        lasting = shop.browser()
        (cookie,) = (await lasting.post("/sign-in/alice")).cookies
        assert cookie.endswith(f"; Max-Age={seconds}")
        assert (await lasting.goto("/")).json["data"] == {"_permanent": True}
        (cookie,) = (await shop.browser().post("/sign-in/alice?for=window")).cookies
        assert "Max-Age" not in cookie
        assert (await lasting.post("/sign-out")).cookies[0].count("Max-Age") == 1
        await shop.manager.stop()


async def test_the_test_client_and_its_session_transaction(shop: Shop) -> None:
    """Tests put into the session and read from it as before, and may sign somebody in."""
    client = shop.app.test_client()
    async with client.session_transaction() as before:
        before["cart"] = 2
        before.permanent = True
    read = await (await client.get("/")).get_json()
    assert read == {"subject": None, "data": {"cart": 2, "_permanent": True}}
    async with client.session_transaction() as before:
        assert before["cart"] == 2
        assert isinstance(before, QuartSession)
        await before.sign_in("alice")
    assert (await (await client.get("/")).get_json())["subject"] == "alice"
    assert len(shop.told(LoginSuccess)) == 1
    assert (await client.post("/sign-out")).status_code == 403
    assert (await client.post("/sign-out", headers=SAME)).status_code == 200


async def test_a_request_context_has_a_session_of_its_own(shop: Shop) -> None:
    """`test_request_context` opens a session without a server, and leaves nothing behind."""
    async with shop.app.test_request_context("/"):
        session["a"] = 1
        assert dict(session) == {"a": 1}
        assert current_session.subject is None
        await current_session.sign_in("alice")
    assert [each.reason for each in shop.told(SessionEndedEvent)] == ["aborted_response"]


@pytest.mark.parametrize("testing", [False, True])
@pytest.mark.parametrize("how", ["raises", "500", "after_request", "abort"])
async def test_a_failed_response_signs_nobody_in(how: str, testing: bool) -> None:
    """An exception, a 500, a failing after_request: the session ends again (P14)."""
    shop = Shop()
    shop.app.testing = testing

    @shop.app.post("/fail")
    async def fail() -> Any:
        await current_session.sign_in("alice")
        session["a"] = 1
        if how == "raises":
            raise RuntimeError("boom")
        if how == "abort":
            quart.abort(502)
        return "x", 500 if how == "500" else 200

    @shop.app.after_request
    async def after(response: Any) -> Any:
        if how == "after_request":
            raise RuntimeError("boom")
        return response

    browser = shop.browser()
    answer = await browser.post("/fail")
    assert answer.status in (500, 502)
    assert answer.cookies == []
    assert [each.reason for each in shop.told(SessionEndedEvent)] == ["aborted_response"]
    assert await shop.manager.sessions_of("alice") == []
    await shop.manager.stop()


async def test_an_error_that_is_handled_is_no_failure(shop: Shop) -> None:
    """An error handler that answers 4xx has made a response like any other (E1)."""

    @shop.app.errorhandler(ZeroDivisionError)
    async def handled(error: Exception) -> Any:
        return "never mind", 400

    @shop.app.post("/divide")
    async def divide() -> Any:
        await current_session.sign_in("alice")
        return str(1 / 0)

    browser = shop.browser()
    assert (await browser.post("/divide")).status == 400
    assert (await browser.goto("/")).json["subject"] == "alice"


async def test_our_error_after_a_sign_in_is_a_failure(shop: Shop) -> None:
    """Whoever was signed in before an error of ours is not, whatever is answered (E1)."""

    @shop.app.post("/both")
    async def both() -> Any:
        await current_session.sign_in("alice")
        current_session.require_recent_sign_in(acr="aal2")
        return "x"

    browser = shop.browser()
    assert (await browser.post("/both", accept=JSON)).status == 401
    assert (await browser.goto("/")).json["subject"] is None
    assert await shop.manager.sessions_of("alice") == []


async def test_signing_out_holds_whatever_the_status(shop: Shop) -> None:
    """A view that signed out and then broke has signed out (P14)."""

    @shop.app.post("/out")
    async def out() -> Any:
        await current_session.sign_out()
        return "broken", 500

    browser = await shop.signed_in()
    assert '""' not in (await browser.post("/out")).cookies[0]
    assert (await browser.goto("/")).json["subject"] is None
    assert await shop.manager.sessions_of("alice") == []


async def test_a_forgotten_await_is_told(shop: Shop) -> None:
    """In `async def` an action that was not awaited did not happen, and that is an error."""

    @shop.app.post("/forgets")
    async def forgets() -> Any:
        current_session.sign_in("alice")
        return "x"

    answer = await shop.browser().post("/forgets")
    assert isinstance(answer.error, ActionNotAwaited)
    assert (answer.status, answer.cookies) == (500, [])


async def test_a_plain_def_view_needs_no_await(shop: Shop) -> None:
    """Quart runs it in a thread, where every call has happened when it returns."""

    @shop.app.post("/plain-def")
    def view() -> Any:
        current_session.sign_in("bob")
        session["by"] = "a thread"
        return {"subject": current_session.subject}

    @shop.app.get("/guarded")
    @require_sign_in
    def guarded() -> Any:
        return {"subject": current_session.subject}

    browser = shop.browser()
    assert (await browser.post("/plain-def")).json == {"subject": "bob"}
    assert (await browser.goto("/guarded")).json == {"subject": "bob"}
    assert (await browser.goto("/")).json["data"] == {"by": "a thread"}


async def test_a_stream_reads_and_writes_the_session(shop: Shop) -> None:
    """stream_with_context: what a stream assigns is saved when it ends."""

    @shop.app.get("/stream")
    async def stream() -> Any:
        @stream_with_context
        async def parts() -> Any:
            yield f"{current_session.subject} "
            session["seen"] = 3
            yield "end"

        return parts()

    browser = await shop.signed_in()
    assert (await browser.goto("/stream")).text == "alice end"
    assert (await browser.goto("/")).json["data"] == {"seen": 3}


async def test_a_websocket_reads_the_session_and_saves_by_itself(shop: Shop) -> None:
    """`quart.session` in a WebSocket: what is assigned is kept with `save`, and not without."""

    @shop.app.websocket("/talk")
    async def talk() -> None:
        while True:
            key = str(await websocket.receive())
            session[key] = 1
            if key == "kept":
                await current_session.save()
            await websocket.send(f"{current_session.subject} {sorted(session)}")

    browser = await shop.signed_in()
    socket = browser.socket("/talk")
    assert await socket.ask_first("lost") == "alice ['lost']"
    await socket.hang_up()
    socket = browser.socket("/talk")
    assert await socket.ask_first("kept") == "alice ['kept']"
    await socket.hang_up()
    assert (await browser.goto("/")).json["data"] == {"kept": 1}
    stranger = browser.socket("/talk", source="https://evil.example")
    assert not await stranger.opened()


async def test_a_guarded_websocket_is_refused_before_it_opens(shop: Shop) -> None:
    """`require_sign_in` stands on WebSockets too, and so may any error of ours."""

    @shop.app.websocket("/guarded")
    @require_sign_in
    async def guarded() -> None:
        await websocket.send("come in")

    refused = shop.browser().socket("/guarded")
    assert not await refused.opened()
    assert await refused.closed() == 4403
    accepted = (await shop.signed_in()).socket("/guarded")
    assert await accepted.opened()


async def test_our_errors_are_responses_of_the_application(shop: Shop) -> None:
    """A person is sent to sign in and back, a program gets 401, and after_request sees both."""

    @shop.app.after_request
    async def mark(response: Any) -> Any:
        response.headers["x-seen"] = "yes"
        return response

    person = await shop.browser().goto("/account?tab=2")
    assert (person.status, person.header("location")) == (303, "/sign-in?next=%2Faccount%3Ftab%3D2")
    assert person.header("x-seen") == "yes"
    program = await shop.browser().goto("/account", accept=JSON)
    assert (program.status, program.json["code"]) == (401, "sign_in_required")
    assert (await (await shop.signed_in()).goto("/account")).json == {"account of": "alice"}


async def test_the_applications_own_error_pages_come_first(shop: Shop) -> None:
    """`errorhandler(SignInRequired)` and `errorhandler(CsrfRefused)` are asked before ours."""

    @shop.app.errorhandler(SignInRequired)
    async def please(error: SignInRequired) -> Any:
        return "our own words", 401

    @shop.app.errorhandler(CsrfRefused)
    async def refused(error: CsrfRefused) -> Any:
        return "not from there", 418

    assert (await shop.browser().goto("/account")).text == "our own words"
    answer = await shop.browser().post("/sign-in/alice", source="https://evil.example")
    assert (answer.status, answer.text) == (418, "not from there")


async def test_a_recent_sign_in_is_asked_for(shop: Shop) -> None:
    """Too long ago, a program gets RFC 9470's challenge, and a new proof passes (P25)."""

    @shop.app.get("/danger")
    @require_recent_sign_in(max_age=timedelta(minutes=5))
    async def danger() -> Any:
        return "done"

    @shop.app.post("/prove")
    async def prove() -> Any:
        await current_session.elevate(amr="pwd")
        return "x"

    browser = await shop.signed_in()
    assert (await browser.goto("/danger")).text == "done"
    shop.clock.advance(6 * 60_000)
    late = await browser.goto("/danger", accept=JSON)
    assert late.status == 401
    assert "insufficient_user_authentication" in (late.header("www-authenticate") or "")
    await browser.post("/prove")
    assert (await browser.goto("/danger")).text == "done"


async def test_factors_are_asked_for_by_name(shop: Shop) -> None:
    """Each with an age of its own (P25)."""

    @shop.app.get("/key")
    @require_recent_sign_in(amr={"otp": timedelta(minutes=1)})
    async def key() -> Any:
        return "done"

    browser = await shop.signed_in()
    told = await browser.goto("/key", accept=JSON)
    assert (told.status, told.json["amr_max_age"]) == (401, {"otp": 60})


async def test_another_site_cannot_post_here(shop: Shop) -> None:
    """It is refused before any function of the application runs, whenever that was added (P19)."""
    ran: list[str] = []

    @shop.app.before_request
    async def mine() -> None:
        ran.append("mine")

    answer = await shop.browser().post("/sign-in/alice", source="https://evil.example")
    assert (answer.status, ran) == (403, [])
    assert await shop.manager.sessions_of("alice") == []


async def test_a_function_that_answers_before_ours_lets_nothing_through(shop: Shop) -> None:
    """Should something stand before our check and answer, a refused request is refused still."""

    async def let_through() -> str:
        return "let through"

    shop.app.before_request_funcs[None].insert(0, let_through)
    answer = await shop.browser().post("/sign-in/alice", source="https://evil.example")
    assert answer.status == 403


async def test_forms_carry_their_token_and_are_whole_after_it_was_read(shop: Shop) -> None:
    """csrf_input is there in every template, and an old browser's upload passes with it (P19)."""

    @shop.app.get("/form")
    async def form() -> Any:
        return await render_template_string("{{ csrf_input() }}|{{ csrf_token() }}")

    @shop.app.post("/upload")
    async def upload() -> Any:
        found = (await request.files)["file"]
        return {"size": len(found.read()), "name": (await request.form)["name"]}

    browser = shop.browser(old=True)
    page = (await browser.goto("/form")).text
    assert page.startswith('<input type="hidden" name="csrf_token" value="')
    token = page.rpartition("|")[2]
    parts = [
        f'--xxxx\r\ncontent-disposition: form-data; name="{name}"{more}\r\n\r\n{value}\r\n'
        for name, more, value in (
            ("csrf_token", "", token),
            ("name", "", "n"),
            ("file", '; filename="f"', "x" * 300_000),
        )
    ]
    body = ("".join(parts) + "--xxxx--\r\n").encode()
    kind = [(b"content-type", b"multipart/form-data; boundary=xxxx")]
    for chunks, status in (([body], 200), ([body.replace(token.encode(), b"x" * 60)], 403)):
        answer = await browser.request(
            "POST",
            "/upload",
            mode="navigate",
            dest="document",
            source=browser.origin,
            chunks=chunks,
            headers=kind,
        ).response()
        assert answer.status == status
        assert status == 403 or answer.json == {"size": 300_000, "name": "n"}


async def test_while_the_store_is_down_nobody_is_let_in() -> None:
    """503 with Retry-After through the application's handlers; a public page goes on (P22)."""
    shop = Shop(SessionPolicy(routes=Routes(public=("/plain",))))
    browser = await shop.signed_in()
    shop.store.down = True
    answer = await browser.goto("/")
    assert (answer.status, answer.header("retry-after"), answer.cookies) == (503, "5", [])
    assert (await browser.goto("/plain")).status == 200

    @shop.app.errorhandler(StoreUnavailable)
    async def words(error: StoreUnavailable) -> Any:
        return "one moment", 503

    assert (await browser.goto("/")).text == "one moment"
    socket = browser.socket("/anything")
    assert not await socket.opened()
    shop.store.down = False
    await shop.manager.stop()


async def test_blueprints_and_factories(tmp_path: Path) -> None:
    """`init_app` serves several applications, each with its settings and its own store."""
    strongroom = Strongroom(keys=KEYS, sinks=())
    pages = Blueprint("pages", "pages", url_prefix="/pages")

    @pages.get("/set")
    async def put() -> Any:
        session["where"] = quart.current_app.name
        return "x"

    @pages.get("/get")
    async def get() -> Any:
        return dict(session)

    apps = []
    for name in ("one", "two"):
        app = Quart(name)
        app.config["STRONGROOM_STORE"] = f"sqlite:///{tmp_path}/{name}.db"
        strongroom.init_app(app)
        app.register_blueprint(pages)
        apps.append(app)
    for app in apps:
        async with app.test_app() as served:
            client = served.test_client()
            await client.get("/pages/set")
            assert await (await client.get("/pages/get")).get_json() == {"where": app.name}
    assert manager_of(apps[0]) is not manager_of(apps[1])


async def test_mounted_applications_share_the_outer_session(shop: Shop) -> None:
    """Inside of the plain middleware there is one session, and one writer (F6)."""
    whole = SessionMiddleware(cast(Any, shop.app), manager=shop.manager)
    browser = Browser(whole, shop.clock)
    answer = await browser.post("/sign-in/alice")
    assert len(answer.cookies) == 1
    assert (await browser.goto("/")).json["subject"] == "alice"


# What newcomers meet first.


async def test_without_the_extension_a_sentence_says_so() -> None:
    """`current_session` in an application that has no extension."""
    app = Quart("bare")
    app.secret_key = "x"
    async with app.test_request_context("/"):
        with pytest.raises(ConfigurationError, match="init_app"):
            assert current_session.subject
    with pytest.raises(ConfigurationError, match="no Strongroom extension"):
        manager_of(app)


async def test_without_keys_the_application_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """No keys: told where the application is made, with the command that makes them."""
    monkeypatch.delenv("STRONGROOM_KEYS", raising=False)
    with pytest.raises(ConfigurationError, match="strongroom keys generate"):
        Strongroom(Quart("bare"), store="memory://")


async def test_two_extensions_in_one_application(shop: Shop) -> None:
    """`Strongroom(app)` and `init_app(app)` together are one too many."""
    with pytest.raises(ConfigurationError, match="but not both"):
        shop.strongroom.init_app(shop.app)


async def test_another_session_extension_after_ours_is_found(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """The wrong order: somebody replaced the interface, and every request says so."""
    shop.app.session_interface = SecureCookieSessionInterface()
    shop.app.secret_key = "x"
    assert (await shop.browser().goto("/plain")).status == 500
    assert "replaced Strongroom's session interface" in caplog.text


async def test_settings_without_effect_are_named(caplog: pytest.LogCaptureFixture) -> None:
    """Quart's cookie settings are not ignored in silence."""
    Shop(SESSION_COOKIE_DOMAIN=".shop.example", SESSION_COOKIE_SAMESITE="None")
    assert "SESSION_COOKIE_DOMAIN, SESSION_COOKIE_SAMESITE" in caplog.text
    caplog.clear()
    Shop()
    assert caplog.text == ""


async def test_http_in_production_is_told_once(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """A Secure cookie over http: browsers drop it, and the log says what to do (P18)."""
    caplog.set_level(logging.WARNING)
    browser = shop.browser(origin="http://app.example")
    await browser.post("/sign-in/alice")
    await browser.post("/sign-in/alice")
    assert caplog.text.count("SessionPolicy.for_development()") == 1


async def test_every_byte_that_http_allows_in_the_cookie_header(shop: Shop) -> None:
    """In our cookie's value and around it: no 500, and nobody is signed in by it (P2)."""
    alice = await shop.signed_in()
    name = shop.manager.context.cookie.name
    token = alice.jar.get(name) or ""
    for number in sorted({*range(256)} - {0, 10, 13}):
        broken = token[:40].encode() + bytes([number]) + token[41:].encode()
        answer = await alice.begin("/", cookies=[name.encode() + b"=" + broken]).response()
        assert answer.status == 200
        assert answer.json["subject"] == ("alice" if broken == token.encode() else None)


async def test_the_operators_commands_know_the_applications_settings(tmp_path: Path) -> None:
    """`quart strongroom sessions list` needs no --store, --keys or --policy."""
    from anyio import to_thread

    from strongroom import keyfile

    keys = tmp_path / "shop.keys"
    keyfile.write(keys, generate("shop", 0))
    app = Quart("shop")
    Strongroom(
        app,
        store=f"sqlite:///{tmp_path}/sessions.db",
        keys=keys,
        policy=SessionPolicy.owasp_high_value(),
        sinks=(),
    )
    _pages(app)
    async with app.test_app() as served:
        await served.test_client().post("/sign-in/alice", headers=SAME)
        runner = app.test_cli_runner()

        def run(*words: str) -> Any:
            return runner.invoke(args=["strongroom", *words])

        listed = await to_thread.run_sync(run, "sessions", "list", "alice")
        assert listed.exit_code == 0, listed.output
        assert re.search("alice|current|ago|now", listed.output), listed.output
        shown = await to_thread.run_sync(run, "policy", "show")
        assert "owasp_high_value" in shown.output
