"""The plain WSGI middleware, held to PEP 3333 by `wsgiref.validate` in every request."""

from __future__ import annotations

import io
import json
import threading
import time
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest

from strongroom import CsrfRules, Routes, SessionManager, SessionPolicy, open_store
from strongroom.core.errors import ConfigurationError, SessionReadOnly, StoreUnavailable
from strongroom.core.events import CrossSiteRefused, LoginSuccess, SessionEndedEvent
from strongroom.integrations import exchange_sync
from strongroom.integrations.environ import Replayed, facts_of_environ, read_form_token
from strongroom.integrations.wsgi import SessionMiddleware, session_of
from strongroom.keyfile import generate
from strongroom.manager import visit_of
from strongroom.testing import FrozenClock
from strongroom.testing.clock import START
from tests.support.wsgi import WsgiBrowser

KEYS = generate("wsgi", START)
MINUTE = 60_000


class Shop:
    """A WSGI application of small pages, its manager, its clock and its events."""

    def __init__(self, policy: SessionPolicy | None = None) -> None:
        self.clock = FrozenClock()
        self.events: list[Any] = []
        self.store = open_store("memory://")
        self.manager = SessionManager(
            self.store, keys=KEYS, policy=policy, clock=self.clock, sinks=[self.events.append]
        )
        self.pages: dict[str, Any] = {}
        self.middleware = SessionMiddleware(self._app, manager=self.manager)

    def _app(self, environ: Any, start_response: Any) -> Any:
        page = self.pages.get(environ["PATH_INFO"], _page)
        return page(environ, start_response)

    def browser(self, **how: Any) -> WsgiBrowser:
        return WsgiBrowser(self.middleware, **how)

    def signed_in(self) -> WsgiBrowser:
        browser = self.browser()
        assert browser.post("/sign-in", {"subject": "alice"}).status == 200
        return browser

    def told(self, event: Any) -> list[Any]:
        return [each for each in self.events if isinstance(each, event)]


def _page(environ: Any, start_response: Any) -> Any:
    """Sign in, out, set and read, by path and query."""
    session = session_of(environ)
    path = environ["PATH_INFO"]
    query = dict(parse_qsl(environ["QUERY_STRING"]))
    if path == "/sign-in":
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        form = dict(parse_qsl(body.decode()))
        session.sign_in(form["subject"])
    elif path == "/sign-out":
        session.sign_out()
    elif path == "/account":
        session.require_sign_in()
    elif path == "/set":
        for key, value in query.items():
            session[key] = value
    elif path == "/token":
        return _answer(start_response, session.csrf_token())
    return _answer(start_response, {"subject": session.subject, "data": dict(session)})


def _answer(start_response: Any, value: Any, status: str = "200 OK") -> list[bytes]:
    body = json.dumps(value).encode()
    start_response(
        status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    )
    return [body]


@pytest.fixture
def shop():
    shop = Shop()
    yield shop
    shop.middleware.serving.stop()


def test_signing_in_and_out_over_wsgi(shop: Shop) -> None:
    """A session begins with its first use, lives over requests, and ends on the server (P10)."""
    browser = shop.browser()
    assert browser.get("/").cookies == []
    first = browser.get("/set?cart=2")
    assert len(first.cookies) == 1
    before = dict(browser.cookies)
    signed = browser.post("/sign-in", {"subject": "alice"})
    assert signed.json == {"subject": "alice", "data": {}}
    assert browser.cookies != before
    assert "; Secure; HttpOnly; SameSite=Lax" in signed.cookies[0]
    assert browser.get("/").json["subject"] == "alice"
    assert browser.get("/").cookies == []
    thief = shop.browser(cookies=dict(browser.cookies))
    out = browser.post("/sign-out")
    assert out.header("clear-site-data") == '"storage"'
    assert browser.cookies == {}
    assert thief.get("/").json["subject"] is None


def test_the_planted_session_is_worth_nothing_after_sign_in(shop: Shop) -> None:
    """A token from before sign-in opens nothing afterwards (P10)."""
    browser = shop.browser()
    browser.get("/set?a=1")
    planted = shop.browser(cookies=dict(browser.cookies))
    browser.post("/sign-in", {"subject": "alice"})
    assert planted.get("/").json == {"subject": None, "data": {}}


def test_events_come_after_the_response(shop: Shop) -> None:
    """Sinks are called when the server has closed the response, not in its way."""
    seen: list[int] = []

    def page(environ: Any, start_response: Any) -> Any:
        session_of(environ).sign_in("alice")
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"a"
        seen.append(len(shop.told(LoginSuccess)))
        yield b"b"

    shop.pages["/late"] = page
    shop.browser().post("/late")
    assert seen == [0]
    assert len(shop.told(LoginSuccess)) == 1


@pytest.mark.parametrize("how", ["raises", "raises late", "500", "exc_info", "hangs up"])
def test_a_failed_response_signs_nobody_in(shop: Shop, how: str) -> None:
    """An exception, a 500, a head taken back, a client that left: the session ends again (P14)."""

    def page(environ: Any, start_response: Any) -> Any:
        session = session_of(environ)
        session.sign_in("alice")
        if how == "raises":
            raise RuntimeError("boom")
        status = "500 Broken" if how == "500" else "200 OK"
        start_response(status, [("Content-Type", "text/plain")])
        if how == "exc_info":
            try:
                raise RuntimeError("boom")
            except RuntimeError as error:
                info = (RuntimeError, error, error.__traceback__)
                start_response("500 Broken", [("Content-Type", "text/plain")], info)
        return _late(how)

    def _late(how: str) -> Any:
        if how == "raises late":
            raise RuntimeError("boom")
        if how == "hangs up":
            raise GeneratorExit
        yield b"body"

    shop.pages["/fail"] = page
    browser = shop.browser()
    if how == "hangs up":
        with pytest.raises(GeneratorExit):
            browser.post("/fail")
    else:
        assert browser.post("/fail").status == 500
    assert browser.cookies == {}
    assert [each.reason for each in shop.told(SessionEndedEvent)] == ["aborted_response"]
    assert shop.manager.sessions_of("alice") == []


def test_a_client_that_leaves_before_the_first_byte_is_not_signed_in(shop: Shop) -> None:
    """The server closes a response that never started: the session that it began ends (E1)."""

    def page(environ: Any, start_response: Any) -> Any:
        session_of(environ).sign_in("alice")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"never"]

    shop.pages["/gone"] = page
    environ = shop.browser()._environ("POST", "/gone", b"", "same-origin", {}, "text/plain")
    response = shop.middleware(environ, lambda *_: lambda _: None)
    assert len(shop.manager.sessions_of("alice")) == 1
    response.close()  # type: ignore[attr-defined]
    assert shop.manager.sessions_of("alice") == []


def test_signing_out_holds_whatever_the_status(shop: Shop) -> None:
    """A sign-out in a response that fails has still happened (P14)."""
    browser = shop.signed_in()

    def page(environ: Any, start_response: Any) -> Any:
        session_of(environ).sign_out()
        return _answer(start_response, "broken", "503 Busy")

    shop.pages["/out"] = page
    assert browser.post("/out").status == 503
    assert browser.cookies == {}
    assert shop.manager.sessions_of("alice") == []


def test_what_is_assigned_while_streaming_is_saved_at_the_end(shop: Shop) -> None:
    """A session that began before the response takes data from its stream."""
    browser = shop.signed_in()

    def page(environ: Any, start_response: Any) -> Any:
        session = session_of(environ)
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"a"
        session["seen"] = 3
        yield b"b"

    shop.pages["/stream"] = page
    assert browser.get("/stream").body == b"ab"
    assert browser.get("/").json["data"] == {"seen": 3}


def test_a_stream_cannot_begin_a_session(shop: Shop) -> None:
    """After the first byte there is no cookie to set, so writing says so."""

    def page(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"a"
        session_of(environ)["seen"] = 3

    shop.pages["/stream"] = page
    answer = shop.browser().get("/stream")
    assert isinstance(answer.error, SessionReadOnly)
    assert "has started" in str(answer.error)


def test_a_generator_may_sign_in_before_its_first_byte(shop: Shop) -> None:
    """The response starts with its first byte, so empty parts before it do not matter."""

    def page(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b""
        session_of(environ).sign_in("alice")
        yield b"welcome"

    shop.pages["/stream"] = page
    browser = shop.browser()
    assert browser.post("/stream").body == b"welcome"
    assert browser.get("/").json["subject"] == "alice"


def test_the_write_callable_starts_the_response(shop: Shop) -> None:
    """Old applications write; their cookies come all the same."""

    def page(environ: Any, start_response: Any) -> Any:
        session_of(environ)["a"] = 1
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"written")
        return [b", returned"]

    shop.pages["/old"] = page
    browser = shop.browser()
    answer = browser.get("/old")
    assert answer.body == b"written, returned"
    assert browser.get("/").json["data"] == {"a": 1}


def test_a_head_has_the_same_cookies_and_no_body(shop: Shop) -> None:
    """HEAD is answered like GET, also where the answer is ours."""
    answer = shop.browser().fetch("HEAD", "/account")
    assert (answer.status, answer.body) == (303, b"")
    refused = shop.browser().fetch("HEAD", "/account", headers={"accept": "application/json"})
    assert (refused.status, refused.body) == (401, b"")
    assert int(refused.header("content-length") or 0) > 0


def test_our_refusals_are_answered_in_words(shop: Shop) -> None:
    """A person is sent to sign in and back; a program gets 401 with a code."""
    person = shop.browser().get("/account?tab=2")
    assert person.header("location") == "/sign-in?next=%2Faccount%3Ftab%3D2"
    program = shop.browser().get("/account", headers={"accept": "application/json"})
    assert (program.status, program.json["code"]) == (401, "sign_in_required")


def test_another_site_cannot_post_here(shop: Shop) -> None:
    """A cross-site form is refused before the application sees it, and told (P19)."""
    browser = shop.signed_in()
    answer = browser.post("/set?a=1", site="cross-site")
    assert answer.status == 403
    assert browser.get("/").json["data"] == {}
    assert [each.rule for each in shop.told(CrossSiteRefused)] == ["cross_site"]


def test_a_form_token_is_read_and_the_body_stays_whole(shop: Shop) -> None:
    """An old browser's form passes with its token, and the application reads all of it (P19)."""
    browser = shop.browser()
    token = browser.get("/token").json
    assert browser.post("/sign-in", {"subject": "bob"}, site=None).status == 403
    form = {"csrf_token": token, "subject": "bob"}
    assert browser.post("/sign-in", form, site=None).json["subject"] == "bob"


def test_websocket_handshakes_within_wsgi_are_checked(shop: Shop) -> None:
    """A GET that upgrades to a WebSocket needs our own origin (P19)."""
    browser = shop.signed_in()
    foreign = {"upgrade": "websocket", "origin": "https://evil.example"}
    assert browser.get("/", site=None, headers=foreign).status == 403
    own = {"upgrade": "websocket", "origin": "https://shop.example"}
    assert browser.get("/", site=None, headers=own).json["subject"] == "alice"


def test_a_stream_of_events_ends_with_its_session(shop: Shop) -> None:
    """Ended elsewhere, the session takes its open event stream with it (P16)."""
    shop = Shop(SessionPolicy(max_staleness=timedelta(milliseconds=1)))
    browser = shop.signed_in()

    def page(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        yield b"data: 1\n\n"
        yield b"data: 2\n\n"
        shop.manager.end_all_of("alice")
        time.sleep(0.002)  # longer than an answer of the store may be believed
        yield b"data: 3\n\n"
        yield b"data: 4\n\n"

    shop.pages["/events"] = page
    assert browser.get("/events").body == b"data: 1\n\ndata: 2\n\n"
    shop.middleware.serving.stop()


def test_while_the_store_is_down_nobody_is_let_in(shop: Shop) -> None:
    """503 with Retry-After for those who have a session, and a public page goes on (P22)."""
    shop = Shop(SessionPolicy(routes=Routes(public=("/public",))))
    browser = shop.signed_in()

    def down(op: Any) -> Any:
        raise StoreUnavailable("The store does not answer.")

    shop.store.find = down  # type: ignore[method-assign]
    answer = browser.get("/")
    assert (answer.status, answer.header("retry-after")) == (503, "5")
    assert answer.cookies == []
    assert browser.get("/public").json["subject"] is None
    shop.middleware.serving.stop()


def test_excluded_routes_have_no_session_and_no_wrapping() -> None:
    """What serves files gets its own iterable back from us, untouched."""
    shop = Shop(SessionPolicy(routes=Routes(excluded=("/static/*",))))
    body = [b"file"]

    def page(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return body

    shop.pages["/static/a"] = page
    environ = shop.browser()._environ("GET", "/static/a", b"", None, {}, "text/plain")
    assert shop.middleware(environ, lambda *_: lambda _: None) is body
    shop.middleware.serving.stop()


def test_two_middlewares_have_one_writer(shop: Shop) -> None:
    """An application within that brings the middleware too shares the outer session (F6)."""
    inner = SessionMiddleware(_page, store="memory://", keys=KEYS, sinks=())
    outer = SessionMiddleware(inner, manager=shop.manager)
    browser = WsgiBrowser(outer)
    browser.post("/sign-in", {"subject": "alice"})
    assert len(browser.cookies) == 1
    assert [each.current for each in shop.manager.sessions_of("alice")] == [False]
    outer.serving.stop()


def test_without_the_middleware_a_sentence_says_so() -> None:
    """The first mistake: nothing was wrapped."""
    with pytest.raises(ConfigurationError, match="Wrap the whole application"):
        session_of({})


def test_without_keys_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second mistake: no keys. It is told when the application is made, not later."""
    monkeypatch.delenv("STRONGROOM_KEYS", raising=False)
    with pytest.raises(ConfigurationError, match="strongroom keys generate"):
        SessionMiddleware(_page, store="memory://")


def test_the_facts_of_an_environ() -> None:
    """Paths decode as UTF-8, the root is SCRIPT_NAME, headers are bytes."""
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "/app",
        "PATH_INFO": "/caf\u00c3\u00a9",
        "QUERY_STRING": "a=1",
        "REMOTE_ADDR": "203.0.113.9",
        "wsgi.url_scheme": "https",
        "HTTP_COOKIE": "a=\u00ff",
        "HTTP_CONTENT_LENGTH": "7",
        "CONTENT_LENGTH": "",
        "CONTENT_TYPE": "text/plain",
    }
    facts = facts_of_environ(environ, SessionPolicy())
    assert (facts.path, facts.root, facts.query) == ("/app/café", "/app", "a=1")
    assert (facts.peer, facts.local_scheme, facts.websocket) == ("203.0.113.9", "https", False)
    assert facts.values(b"cookie") == [b"a=\xff"]
    assert facts.header(b"content-length") is None
    assert facts.header(b"content-type") == "text/plain"
    assert facts_of_environ({"REQUEST_METHOD": "GET"}, SessionPolicy()).peer is None


def test_cookie_headers_that_a_server_joined_are_not_split() -> None:
    """A cookie of another name cannot smuggle ours in behind a comma (P18)."""
    shop = Shop()
    browser = shop.signed_in()
    ((name, token),) = browser.cookies.items()
    planted = shop.browser(cookies={"theme": f"dark,{name}={token}"})
    assert planted.get("/").json["subject"] is None
    shop.middleware.serving.stop()


BODY = b"csrf_token=abc&text=" + b"x" * 200_000 + b"&last=1"


@pytest.mark.parametrize("size", [1, 7, 65_536, 1_000_000, -1])
def test_a_body_that_was_looked_into_reads_as_before(size: int) -> None:
    """Whatever the application reads by, it gets every byte once."""
    environ: dict[str, Any] = {
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "CONTENT_LENGTH": str(len(BODY)),
        "wsgi.input": io.BytesIO(BODY),
    }
    assert read_form_token(environ, "csrf_token") == "abc"
    stream, read = environ["wsgi.input"], b""
    while chunk := stream.read(size):
        read += chunk
    assert read == BODY


def test_lines_across_the_seam_stay_lines() -> None:
    """readline, readlines and iteration see one stream."""
    text = b"one\ntwo and more\nthree"
    whole = [b"one\n", b"two and more\n", b"three"]
    for seam in range(len(text) + 1):
        make = lambda seam=seam: Replayed(text[:seam], io.BytesIO(text[seam:]))  # noqa: E731
        assert list(make()) == whole
        assert make().readlines() == whole
        pieces, stream = [], make()
        while piece := stream.readline(5):
            pieces.append(piece)
        assert b"".join(pieces) == text
        assert max(map(len, pieces)) <= 5


def test_only_forms_are_read() -> None:
    """A body that is no form is not touched, nor one whose end nobody knows."""
    source = io.BytesIO(b"csrf_token=abc")
    environ: dict[str, Any] = {"CONTENT_TYPE": "application/json", "wsgi.input": source}
    assert read_form_token({**environ, "CONTENT_LENGTH": "14"}, "csrf_token") is None
    environ["CONTENT_TYPE"] = "application/x-www-form-urlencoded"
    assert read_form_token(environ, "csrf_token") is None
    assert (environ["wsgi.input"], source.tell()) == (source, 0)
    environ["wsgi.input_terminated"] = True
    assert read_form_token(environ, "csrf_token") == "abc"


def test_housekeeping_happens_in_a_thread_that_ends(shop: Shop) -> None:
    """After a response, at most once a minute, the process sweeps; no thread stays."""
    swept: list[str] = []
    sweep = shop.store.sweep

    def sweeping(op: Any) -> int:
        swept.append(threading.current_thread().name)
        return sweep(op)

    shop.store.sweep = sweeping  # type: ignore[method-assign]
    browser = shop.browser()
    for _ in range(5):
        browser.get("/")
    keeper = shop.middleware.serving._keeper
    assert keeper is not None
    keeper.join()
    assert swept == ["strongroom-housekeeping"]


def test_a_forked_process_keeps_its_own_house(shop: Shop) -> None:
    """What the parent noted of its thread and its lock does not hold in the child."""
    serving = shop.middleware.serving
    shop.browser().get("/")
    serving._opening.acquire()
    exchange_sync._after_fork()
    assert serving._keeper is None
    shop.browser().get("/")
    assert serving._keeper is not None
    serving._keeper.join()


def test_own_tokens_and_form_paths_hold_under_a_prefix() -> None:
    """A form's own token is good under the prefix that the application is mounted at (P19)."""
    shop = Shop(SessionPolicy(csrf=CsrfRules(own_token_paths=("/pay",))))

    def page(environ: Any, start_response: Any) -> Any:
        return _answer(start_response, session_of(environ).csrf_token("/pay"))

    shop.pages["/form"] = page
    browser = shop.browser()
    under = {"SCRIPT_NAME": "/app"}
    token = browser.get("/form", environ=under).json
    assert browser.post("/pay", {}, environ=under).status == 403
    assert browser.post("/pay", {"csrf_token": token}, environ=under).status == 200
    shop.middleware.serving.stop()


def test_the_visit_notes_that_its_response_depends_on_it(shop: Shop) -> None:
    """Reading the session sets Vary: Cookie; a page that did not, says nothing (F5)."""
    shop.pages["/plain"] = lambda environ, start: _answer(start, "plain")
    assert shop.browser().get("/plain").header("vary") is None
    assert shop.browser().get("/").header("vary") == "Cookie"
    exchange = shop.middleware.serving.open(
        facts_of_environ({"REQUEST_METHOD": "GET"}, shop.manager.policy)
    )
    assert visit_of(exchange.session) is exchange.visit
    exchange.finish()
    exchange.finish()


@pytest.mark.slow
def test_pyramid_runs_inside_of_it(shop: Shop) -> None:
    """A Pyramid view finds the session in its request's environ, and our errors pass through."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # WebOb imports cgi
        config_module = pytest.importorskip("pyramid.config")

    with config_module.Configurator() as config:
        config.add_route("who", "/account")
        config.add_view(
            lambda request: session_of(request.environ).require_sign_in(),
            route_name="who",
            renderer="json",
        )
        shop.pages["/account"] = config.make_wsgi_app()
    assert shop.browser(strict=False).get("/account").status == 303
    signed_in = WsgiBrowser(shop.middleware, strict=False, cookies=shop.signed_in().cookies)
    assert signed_in.get("/account").json == "alice"
