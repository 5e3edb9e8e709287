"""The example bank, told as its customers live it: signing up, moving money, and who is let in."""

from __future__ import annotations

import http.cookiejar
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST
from starlette.testclient import TestClient

from examples.bank import words
from examples.bank.app import create_app
from strongroom import EndReason, SessionPolicy, TrustedProxies
from strongroom.core.events import ApplicationEvent, Event, catalogue
from strongroom.testing import FrozenClock

ROOT = Path(__file__).resolve().parents[2]
ORIGIN = "http://localhost"
PASSWORD = "a lantern in the reeds"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
SAFARI = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Version/17.5 Safari/604.1"


class Page(HTMLParser):
    """What a test wants to know of a page: its forms, and what stands on it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.forms: list[dict[str, str]] = []
        self.ids: set[str] = set()
        self.described: set[str] = set()
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given["id"]} if "id" in given else set()
        self.described |= set(given.get("aria-describedby", "").split())
        if tag == "form":
            self.forms.append({"": given["action"]})
        elif tag == "input" and given.get("type") == "checkbox" and "checked" not in given:
            pass  # A box without a tick sends nothing.
        elif tag == "input" and "name" in given:
            self.forms[-1][given["name"]] = given.get("value", "")

    def handle_data(self, data: str) -> None:
        self.words += data.split()

    @property
    def text(self) -> str:
        """The words on the page, with one space between them."""
        return " ".join(self.words)

    def form(self, action: str) -> dict[str, str]:
        """The form that is sent to this path (a pattern), with its hidden fields."""
        found = [form for form in self.forms if re.fullmatch(action, form[""])]
        assert found, f"no form for {action} among {[form[''] for form in self.forms]}"
        return found[0]


class Browser:
    """A browser with cookies of its own. It fills in forms as they stand on the page."""

    def __init__(self, client: TestClient, agent: str = FIREFOX, origin: str = ORIGIN) -> None:
        self.client, self.agent, self.origin = client, agent, origin
        self.cookies: dict[str, str] = {}
        self.location = origin
        self.headers: dict[str, str] = {}
        self.status = 0
        self.page = Page("")

    def go(self, path: str) -> Page:
        """Open a page, following redirects."""
        return self._send("GET", path, None, {})

    def submit(self, action: str, site: str | None = "same-origin", **fields: str) -> Page:
        """Fill in a form of this page and send it, following redirects."""
        form = dict(self.page.form(action))
        return self.post(form.pop(""), {**form, **fields}, site)

    def post(self, path: str, fields: dict[str, str], site: str | None = "same-origin") -> Page:
        """Send a form. Without a site, from a browser that says nothing of where it comes from."""
        said = {}
        if site is not None:
            said = {"Sec-Fetch-Site": site, "Referer": self.origin + self.location}
        return self._send("POST", path, fields, said)

    def sign_in(self, username: str = "clara", password: str = PASSWORD, **ticked: str) -> Page:
        """From the sign-in page."""
        self.go("/sign-in")
        return self.submit("/sign-in", username=username, password=password, **ticked)

    def _send(
        self, method: str, path: str, fields: dict[str, str] | None, said: dict[str, str]
    ) -> Page:
        headers = {"Accept": "text/html", "User-Agent": self.agent, "Sec-Fetch-Mode": "navigate"}
        headers |= {"Sec-Fetch-Dest": "document", **said}
        self.client.cookies.clear()
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = self.client.request(
            method, self.origin + path, data=fields, headers=headers, follow_redirects=False
        )
        for line in answer.headers.get_list("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies.pop(name, None)
            if "Max-Age=0" not in line:
                self.cookies[name] = value
        if answer.status_code == 303:
            return self.go(answer.headers["location"])
        self.location, self.status = path, answer.status_code
        self.headers = dict(answer.headers)
        self.page = Page(answer.text)
        return self.page


class Town:
    """The bank, its clock, what its sinks heard, and the browsers of its customers."""

    def __init__(self, client: TestClient, clock: FrozenClock, events: list[Event]) -> None:
        self.client, self.clock, self.events = client, clock, events

    def browser(self, agent: str = FIREFOX) -> Browser:
        """Somebody else's browser, or another one of the same person."""
        return Browser(self.client, agent)

    def customer(self, username: str = "clara", agent: str = FIREFOX) -> Browser:
        """Somebody who has just opened an account."""
        browser = self.browser(agent)
        sign_up(browser, username)
        assert browser.location == "/account", browser.page.text
        return browser


@contextmanager
def opened(
    data_dir: Path, clock: FrozenClock, policy: SessionPolicy | None = None
) -> Iterator[Town]:
    """The bank, from start-up to shut-down."""
    events: list[Event] = []
    app = create_app(
        data_dir=data_dir,
        policy=policy,
        clock=clock,
        sinks=[events.append],
        hasher=PasswordHasher.from_parameters(CHEAPEST),
    )
    with TestClient(app, base_url=ORIGIN, client=("127.0.0.1", 50000)) as client:
        yield Town(client, clock, events)


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def town(tmp_path: Path, clock: FrozenClock) -> Iterator[Town]:
    with opened(tmp_path, clock) as town:
        yield town


def sign_up(browser: Browser, name: str, changes: dict[str, str] | None = None) -> Page:
    browser.go("/sign-up")
    filled = {
        "username": name,
        "name": name.title(),
        "email": f"{name}@example.org",
        "new_password": PASSWORD,
        "again": PASSWORD,
    }
    return browser.submit("/sign-up", **(filled | (changes or {})))


# Coming in.


def test_opening_an_account_signs_in(town: Town) -> None:
    """Whoever opens an account stands in front of it, with the welcome gift."""
    page = town.customer("clara").page
    assert "Welcome, Clara." in page.text
    assert "€ 100.00" in page.text


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"username": "C!"}, "2 to 30 small letters"),
        ({"username": ""}, "Choose a username."),
        ({"email": "nowhere"}, "name@example.org"),
        ({"name": ""}, "Enter your name"),
        ({"new_password": "short", "again": "short"}, "Use at least 15 characters"),
        ({"again": "something else entirely"}, "not the same"),
        ({"new_password": "my name is clara", "again": "my name is clara"}, "username out of it"),
    ],
)
def test_a_form_says_what_is_not_right(town: Town, changes: dict[str, str], told: str) -> None:
    """Errors stand at their field and in a summary, whose links and descriptions lead somewhere."""
    browser = town.browser()
    page = sign_up(browser, "clara", changes)
    assert browser.status == 422
    assert page.text.count(told) == 2
    assert page.described <= page.ids


def test_a_username_is_given_out_once(town: Town) -> None:
    """The second one who wants it is told."""
    town.customer("clara")
    assert "Somebody else has this username." in sign_up(town.browser(), "clara").text


def test_a_wrong_password_lets_nobody_in(town: Town) -> None:
    """An unknown name and a wrong password get the same answer; the customer can read of it."""
    browser = town.customer("clara")
    stranger = town.browser(SAFARI)
    wrong = stranger.sign_in("clara", "let me in, I forgot it").text
    assert stranger.status == 422
    assert wrong == stranger.sign_in("nobody", "let me in, I forgot it").text.replace(
        "nobody", "clara"
    )
    assert stranger.go("/account").text.startswith("Sign in")
    assert "A wrong password was entered" in browser.go("/activity").text


def test_signing_in_leads_to_the_page_that_was_asked_for(town: Town) -> None:
    """And never to another site, whatever the link says."""
    town.customer("clara")
    browser = town.browser()
    browser.go("/settings")
    browser.submit("/sign-in", username="clara", password=PASSWORD)
    assert browser.location == "/settings"
    browser.submit("/sign-out")
    browser.go("/sign-in?next=https://evil.example/")
    browser.submit("/sign-in", username="clara", password=PASSWORD)
    assert browser.location == "/account"


# Money.


def test_money_moves_once(town: Town) -> None:
    """It leaves one account and reaches the other; sending the form again moves nothing."""
    bob, clara = town.customer("bob"), town.customer("clara")
    clara.go("/move")
    form = clara.page.form("/move") | {"to": "Bob", "amount": "12,5", "note": "Coffee"}
    del form[""]
    page = clara.post("/move", form)
    assert clara.location == "/account"
    assert "€ 12.50 went to Bob." in page.text
    assert "€ 87.50" in page.text
    assert "€ 87.50" in clara.post("/move", form).text
    assert "went to" not in clara.go("/account").text
    page = bob.go("/account")
    assert "€ 112.50" in page.text
    assert "Coffee" in page.text


@pytest.mark.parametrize(
    ("to", "amount", "told"),
    [
        ("carl", "1", "Nobody here has this username."),
        ("clara", "1", "your own account"),
        ("bob", "", "Enter an amount."),
        ("bob", "1.234", "such as 12 or 12.50"),
        ("bob", "0", "above zero"),
        ("bob", "100.01", "not that much"),
        ("", "1", "Enter the username"),
    ],
)
def test_money_that_cannot_move_stays(town: Town, to: str, amount: str, told: str) -> None:
    """The form comes back with what was filled in and what to change."""
    town.customer("bob")
    clara = town.customer("clara")
    clara.go("/move")
    page = clara.submit("/move", to=to, amount=amount, note="For you")
    assert clara.status == 422
    assert told in page.text
    assert page.form("/move")["note"] == "For you"
    assert "€ 100.00" in page.text


def test_another_site_cannot_move_money(town: Town) -> None:
    """Its form is refused by the browser's own word, and a form without a token is, too."""
    town.customer("bob")
    clara = town.customer("clara")
    forged = {"to": "bob", "amount": "50"}
    assert "refused" in clara.post("/move", forged, site="cross-site").text
    assert clara.status == 403
    clara.post("/move", forged, site=None)
    assert clara.status == 403
    assert "€ 100.00" in clara.go("/account").text
    assert "Another site tried to act in your name" in clara.go("/activity").text


def test_a_browser_that_says_nothing_can_move_money(town: Town) -> None:
    """The token in the form is enough, where neither Sec-Fetch-Site nor Origin comes."""
    town.customer("bob")
    clara = town.customer("clara")
    clara.go("/move")
    assert "went to Bob" in clara.submit("/move", site=None, to="bob", amount="1").text


# Confirming that it is you.


@pytest.mark.parametrize("path", ["/settings/email", "/settings/password"])
def test_an_old_sign_in_must_be_confirmed(town: Town, path: str) -> None:
    """After five minutes the password is asked for, and then the page comes that was asked for."""
    clara = town.customer("clara")
    clara.go(path)
    assert clara.location == path
    town.clock.advance(timedelta(minutes=5, seconds=1))
    assert "Confirm that it is you" in clara.go(path).text
    assert "not your password" in clara.submit("/confirm", password="I do not remember").text
    old = dict(clara.cookies)
    clara.submit("/confirm", password=PASSWORD)
    assert clara.location == path
    assert clara.cookies != old
    clara.cookies = old
    assert "Sign in" in clara.go("/account").text


def test_the_confirmation_is_for_whoever_needs_it(town: Town) -> None:
    """Right after signing in, the sign-in page sends on at once."""
    clara = town.customer("clara")
    clara.go("/sign-in?next=/move")
    assert clara.location == "/move"


def test_a_changed_email_stands_in_the_settings(town: Town) -> None:
    clara = town.customer("clara")
    clara.go("/settings/email")
    assert "name@example.org" in clara.submit("/settings/email", email="nowhere").text
    page = clara.submit("/settings/email", email="c@example.net")
    assert clara.location == "/settings"
    assert "c@example.net" in page.text


def test_a_changed_password_ends_the_other_sessions(town: Town) -> None:
    """Here the session goes on; elsewhere it is over, and the old password with it."""
    clara = town.customer("clara")
    phone = town.browser(SAFARI)
    phone.sign_in()
    clara.go("/settings/password")
    new = "moonlight over the ferry"
    assert (
        "not your present"
        in clara.submit("/settings/password", password="wrong", new_password=new, again=new).text
    )
    page = clara.submit("/settings/password", password=PASSWORD, new_password=new, again=new)
    assert "1 other device was signed out." in page.text
    assert "Sign in" in phone.go("/account").text
    assert phone.sign_in().text.count("do not belong together") == 2
    assert "Account" in phone.sign_in(password=new).text
    page = clara.go("/activity")
    assert "You changed your password" in page.text
    assert "Safari on iPhone · your password was changed" in page.text


# Remembered browsers.


def close(browser: Browser) -> None:
    """What a browser forgets when it is closed: the cookies without a lifetime."""
    for name in [each for each in browser.cookies if "remember" not in each]:
        del browser.cookies[name]


def test_a_remembered_browser_comes_back(town: Town) -> None:
    """It is signed in without a password, and money asks for one all the same."""
    town.customer("bob")
    town.customer("clara")
    phone = town.browser(SAFARI)
    phone.sign_in(stay="yes")
    close(phone)
    assert "Clara" in phone.go("/account").text
    page = phone.go("/move")
    assert "This browser was remembered" in page.text
    phone.submit("/confirm", password=PASSWORD)
    assert phone.location == "/move"
    assert "went to Bob" in phone.submit("/move", to="bob", amount="7").text


def test_a_browser_that_did_not_ask_is_forgotten(town: Town) -> None:
    """No box, no cookie that outlives the browser."""
    clara = town.customer("clara")
    clara.submit("/sign-out")
    clara.sign_in()
    close(clara)
    assert clara.cookies == {}
    assert "Sign in" in clara.go("/account").text


def test_a_remembered_browser_is_listed_while_it_is_closed(town: Town) -> None:
    """And can be forgotten from another one."""
    clara = town.customer("clara")
    phone = town.browser(SAFARI)
    phone.sign_in(stay="yes")
    assert "Remembered until" in clara.go("/devices").text
    town.clock.advance(timedelta(hours=9))
    clara.sign_in()
    page = clara.go("/devices")
    assert "not open now" in page.text
    assert "1 other device" in page.text
    assert "That device is signed out." in clara.submit(r"/devices/[0-9a-f]{32}/end").text
    close(phone)
    assert "Sign in" in phone.go("/account").text


def test_signing_out_everywhere_else_forgets_remembered_browsers(town: Town) -> None:
    """Also those that are closed."""
    clara = town.customer("clara")
    phone = town.browser(SAFARI)
    phone.sign_in(stay="yes")
    close(phone)
    clara.go("/devices")
    clara.submit("/devices/end-others")
    assert "Sign in" in phone.go("/account").text


def test_a_policy_without_persistent_logins_has_no_box(tmp_path: Path, clock: FrozenClock) -> None:
    """And whoever sends the field all the same is signed in, for this time."""
    policy = replace(SessionPolicy.for_development(), remember_for=None)
    with opened(tmp_path, clock, policy) as town:
        clara = town.customer("clara")
        clara.submit("/sign-out")
        assert "Stay signed in" not in clara.go("/sign-in").text
        clara.sign_in(stay="yes")
        assert clara.location == "/account"
        close(clara)
        assert clara.cookies == {}


# Devices.


def test_every_device_is_listed_and_can_be_ended(town: Town) -> None:
    """The list says what each one is; one that is ended moves to the second list."""
    clara = town.customer("clara")
    phone = town.browser(SAFARI)
    town.clock.advance(timedelta(minutes=3))
    phone.sign_in()
    page = phone.go("/devices")
    assert page.text.index("Safari on iPhone This device") < page.text.index("Firefox on Linux")
    assert "127.0.0.1" in page.text
    assert "3 minutes ago" in page.text
    page = phone.submit(r"/devices/[0-9a-f]{32}/end")
    assert "That device is signed out." in page.text
    assert "you signed it out from another device" in page.text
    assert "Sign in" in clara.go("/account").text


def test_ending_others_asks_for_a_recent_sign_in(town: Town) -> None:
    """A stolen session must not be able to lock its owner out (ASVS 7.5.2)."""
    clara = town.customer("clara")
    phones = [town.browser(SAFARI) for _ in range(2)]
    for phone in phones:
        phone.sign_in()
    town.clock.advance(timedelta(minutes=6))
    clara.go("/devices")
    clara.submit("/devices/end-others")
    assert "Confirm that it is you" in clara.page.text
    clara.submit("/confirm", password=PASSWORD)
    assert clara.location == "/devices"
    assert "Signed out on 2 other devices." in clara.submit("/devices/end-others").text
    assert all("Sign in" in phone.go("/account").text for phone in phones)
    assert "Clara" in clara.go("/account").text


def test_nobody_ends_the_session_of_somebody_else(town: Town) -> None:
    """A session id is no secret, so knowing it must be worth nothing."""
    clara, mallory = town.customer("clara"), town.customer("mallory")
    town.browser(SAFARI).sign_in()
    victim = clara.go("/devices").form(r"/devices/[0-9a-f]{32}/end")[""]
    mallory.go("/devices")
    assert "signed out already" in mallory.post(victim, {}).text
    assert clara.go("/devices").text.count("Safari on iPhone") == 3  # Name, and its two buttons.


def test_not_me_ends_all_that_a_device_has(town: Town) -> None:
    """Its sessions and its persistent login; then the password is to be changed."""
    clara, thief = town.customer("clara"), town.browser(SAFARI)
    thief.sign_in(stay="yes")
    clara.go("/devices")
    page = clara.submit(r"/devices/[0-9a-f]+/not-me")
    assert clara.location == "/password"
    assert "Whoever used it knew your password" in page.text
    close(thief)
    assert "Sign in" in thief.go("/account").text
    assert "Nowhere else" in clara.go("/devices").text
    assert "You said that a device was not yours" in clara.go("/activity").text


def test_an_own_device_is_known_over_sign_outs(town: Town) -> None:
    """By its cookie: nobody is told of a new device who has none."""
    clara = town.customer("clara")
    clara.submit("/sign-out")
    town.clock.advance(timedelta(hours=1))
    clara.sign_in()
    other = town.browser(SAFARI)
    other.sign_in()
    kept = [name for name in clara.cookies if name.startswith("device-")]
    assert kept and all(clara.cookies[each] != other.cookies[each] for each in kept)


def test_signing_out_makes_the_cookie_worthless(town: Town) -> None:
    """Not only in the browser: the session has ended where it is kept."""
    clara = town.customer("clara")
    kept = {name: value for name, value in clara.cookies.items() if "device" not in name}
    page = clara.submit("/sign-out")
    assert "You are signed out" in page.text
    assert not set(kept) & set(clara.cookies)
    clara.cookies = kept
    assert clara.go("/account").text.startswith("Sign in")


def test_the_sign_in_page_says_why_a_session_ended(town: Town) -> None:
    """Whoever was signed out from elsewhere is told so; whoever signed out themselves is not."""
    clara = town.customer("clara")
    phone = town.browser(SAFARI)
    phone.sign_in()
    kept = dict(phone.cookies)
    clara.go("/devices")
    clara.submit("/devices/end-others")
    assert "You signed out everywhere else" in phone.go("/account").text
    phone.sign_in()
    phone.submit("/sign-out")
    phone.cookies = kept
    clara.submit("/sign-out")
    assert "signed out" not in clara.go("/sign-in").text


def test_what_the_customer_did_stands_in_the_history(town: Town) -> None:
    """What the bank itself notes is told beside the sign-ins, in the bank's own words."""
    town.customer("bob")
    clara = town.customer("clara")
    clara.go("/move")
    clara.submit("/move", to="bob", amount="7")
    clara.go("/settings/email")
    clara.submit("/settings/email", email="c@example.net")
    page = clara.go("/activity").text
    assert "You moved money" in page
    assert "€ 7.00 to bob" in page
    assert "You changed your e-mail address" in page
    noted = {event.what for event in town.events if isinstance(event, ApplicationEvent)}
    assert noted == {"email_changed", "money_moved"} < set(words.NOTED)


def test_an_account_that_is_gone_is_signed_out(town: Town, tmp_path: Path) -> None:
    """A session may outlive its account; it opens nothing."""
    clara = town.customer("clara")
    with closing(sqlite3.connect(tmp_path / "bank.db")) as db, db:
        db.executescript("DELETE FROM transfers; DELETE FROM accounts;")
    assert clara.go("/account").text.startswith("Sign in")
    assert "Open an account" in clara.go("/").text


# The house.


def test_a_second_start_keeps_sessions(tmp_path: Path, clock: FrozenClock) -> None:
    """Keys and store are files, so that closing the bank signs nobody out."""
    with opened(tmp_path, clock) as town:
        cookies = town.customer("clara").cookies
    with opened(tmp_path, clock) as town:
        clara = town.browser()
        clara.cookies = cookies
        assert "Clara" in clara.go("/account").text


def test_what_is_kept_is_for_this_user_only(town: Town, tmp_path: Path) -> None:
    """Keys, sessions and password hashes are nobody else's to read."""
    town.customer("clara")
    for name in ("strongroom.keys", "sessions.db", "bank.db"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) & 0o077 == 0, name


def test_every_answer_has_the_security_headers(town: Town) -> None:
    """Pages, refusals, files, and what is not there."""
    clara = town.customer("clara")
    for path in ("/", "/account", "/nothing", "/static/style.css", "/static/nothing"):
        clara.go(path)
        assert "frame-ancestors 'none'" in clara.headers["content-security-policy"], path
        assert clara.headers["x-content-type-options"] == "nosniff"
        assert clara.headers["referrer-policy"] == "same-origin"
    clara.post("/move", {}, site="cross-site")
    assert clara.status == 403
    assert "frame-ancestors" in clara.headers["content-security-policy"]


def test_signing_out_is_possible_on_every_page(town: Town) -> None:
    """ASVS 7.4.4. And every page has a landmark, a way past the top, and no script."""
    clara = town.customer("clara")
    pages = "account move devices activity settings settings/email settings/password nothing"
    for path in pages.split():
        page = clara.go(f"/{path}")
        assert page.form("/sign-out"), path
        assert "main" in page.ids


def test_behind_https_cookies_are_host_bound(tmp_path: Path, clock: FrozenClock) -> None:
    """With the production policy and a trusted proxy, the whole story works over https."""
    policy = SessionPolicy(
        origins=("https://bank.example",), proxies=TrustedProxies.of("127.0.0.1")
    )
    with opened(tmp_path, clock, policy) as town:
        town.client.headers["X-Forwarded-For"] = "192.0.2.7"
        town.client.headers["X-Forwarded-Proto"] = "https"
        clara = Browser(town.client, origin="http://bank.example")
        clara.go("/sign-up")
        assert sign_up(clara, "clara").text.count("Clara") > 1
        assert all(name.startswith("__Host-") for name in clara.cookies)
        assert clara.headers["strict-transport-security"]
        assert "192.0.2.7" in clara.go("/devices").text


def test_everything_that_can_happen_has_words() -> None:
    """A new event or reason of the library is told in words, or left out on purpose."""
    names = {event.name for event in catalogue()}
    assert set(words.HAPPENED) | words.NOT_TOLD == names
    assert not set(words.HAPPENED) & words.NOT_TOLD
    assert set(words.ENDED) == set(EndReason)


# The program.


@contextmanager
def running(data_dir: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """`python -m examples.bank`, with the address and the notice that it prints."""
    command = [sys.executable, "-W", "error", "-m", "examples.bank", "--port", "0"]
    program = subprocess.Popen(
        [*command, "--data-dir", str(data_dir), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert program.stdout is not None
    notice = ""
    try:
        while "Ctrl-C" not in notice:
            line = program.stdout.readline()
            assert line, f"it ended: {notice}"
            notice += line
        address = re.search(r"http://\S+:\d+", notice)
        assert address is not None
        yield program, address[0], notice
    finally:
        program.kill()
        program.wait()
        program.stdout.close()


@pytest.mark.slow
def test_the_program_runs_and_ends_quietly(tmp_path: Path) -> None:
    """What it prints is enough to sign in; Ctrl-C ends it without a trace; sessions stay."""
    jar = http.cookiejar.CookieJar()
    visitor = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    with running(tmp_path) as (program, address, notice):
        told = re.search(r"(alice)\s+password: (.+)", notice)
        assert told is not None
        assert "development" in notice
        assert "made now" in notice
        form = Page(visitor.open(f"{address}/sign-in").read().decode()).form("/sign-in")
        filled = {**form, "username": told[1], "password": told[2]}
        body = urllib.parse.urlencode(filled).encode()
        assert "Alice Marlowe" in visitor.open(f"{address}/sign-in", body).read().decode()
        program.send_signal(signal.SIGINT)
        rest, _ = program.communicate(timeout=20)
        assert program.returncode == 0
        assert "Traceback" not in rest
        assert '"authn_login_success"' in (tmp_path / "events.log").read_text()
    with running(tmp_path, "--events") as (_, second, notice):
        assert "as they were" in notice
        cookie = "; ".join(f"{each.name}={each.value}" for each in jar)
        request = urllib.request.Request(f"{second}/account", headers={"Cookie": cookie})
        assert "Alice Marlowe" in urllib.request.urlopen(request).read().decode()


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_address_that_is_printed_opens_the_bank(tmp_path: Path, host: str) -> None:
    """Also where the host is an IPv6 address, which a URL puts into brackets."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, 0), family=family).close()
    except OSError:
        pytest.skip("allowed: this machine has no IPv6")
    with running(tmp_path, "--host", host) as (_, address, _notice):
        assert "Tern" in urllib.request.urlopen(address).read().decode()


def _told(tmp_path: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "examples.bank", "--data-dir", str(tmp_path), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.slow
def test_a_port_in_use_is_told_in_words(tmp_path: Path) -> None:
    """With what to type instead."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = _told(tmp_path, "--host", "127.0.0.1", "--port", str(port))
    assert f"Port {port} is taken" in told
    assert f"make demo PORT={port + 1}" in told


@pytest.mark.slow
def test_other_machines_are_not_served_without_https(tmp_path: Path) -> None:
    """The development policy would let anybody on the network read the cookies."""
    assert "--https-origin" in _told(tmp_path, "--host", "0.0.0.0", "--port", "0")
