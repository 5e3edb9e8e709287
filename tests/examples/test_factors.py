"""The bank's second factors: enrolled, asked for at sign-in, and for each large transfer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyotp
import pytest

from examples.bank import words
from examples.bank.desk import Bank
from strongroom.core.events import (
    ApplicationEvent,
    ApprovalRefusedEvent,
    ApprovalUsed,
    LoginFailed,
)
from strongroom.testing import FrozenClock
from tests.examples.test_bank import ORIGIN, PASSWORD, SAFARI, Browser, Town, opened
from tests.support.authenticator import Authenticator


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def town(tmp_path: Path, clock: FrozenClock) -> Iterator[Town]:
    with opened(tmp_path, clock) as town:
        yield town


def bank_of(town: Town) -> Bank:
    bank: Bank = town.client.app.state.bank  # type: ignore[attr-defined]
    return bank


def make_rich(town: Town, username: str, cents: int = 9_000_00) -> None:
    """The bank itself pays."""
    accounts = bank_of(town).accounts

    async def pay() -> None:
        account = await accounts.named(username)
        assert account is not None
        await accounts.move(None, account.id, cents, "", at=town.clock(), reference=username)

    asyncio.run(pay())


class App:
    """An authenticator app on a phone whose clock is the town's."""

    def __init__(self, town: Town, secret: str) -> None:
        self.town, self.app = town, pyotp.TOTP(secret)

    @property
    def code(self) -> str:
        """What it shows now."""
        return self.app.generate_otp(self.town.clock() // 30_000)

    def next(self) -> str:
        """What it shows next, once that is now."""
        self.town.clock.advance(timedelta(seconds=30))
        return self.code


def enrol(town: Town, browser: Browser) -> tuple[App, list[str]]:
    """Add an app, and write the recovery codes down."""
    page = browser.go("/settings/factors/app")
    secret = re.search(r"\b((?:[A-Z2-7]{4} ){7}[A-Z2-7]{4})\b", page.text)
    assert secret is not None
    app = App(town, secret[1].replace(" ", ""))
    page = browser.submit("/settings/factors/app", code=app.code)
    codes = re.findall(r"\b[a-z2-9]{4}(?:-[a-z2-9]{4}){3}\b", page.text)
    assert (browser.location, len(codes)) == ("/settings/factors", 8)
    return app, codes


def options_of(browser: Browser, html: str) -> str:
    """What the page's script would hand to the browser."""
    del browser
    found = re.search(r'data-options="([^"]+)"', html)
    assert found is not None, html
    return found[1].replace("&#34;", '"').replace("&amp;", "&")


def add_passkey(browser: Browser, **wrong: object) -> Authenticator:
    """Make one, by a browser that has an authenticator in memory."""
    key = Authenticator(ORIGIN, "localhost", **wrong)  # type: ignore[arg-type]
    page = browser.go("/settings/factors/passkey")
    credential = key.create(options_of(browser, page.html))
    browser.submit("/settings/factors/passkey", credential=credential, name="my ring")
    return key


# Enrolling.


def test_an_app_is_added_once_it_shows_the_right_code(town: Town) -> None:
    """A wrong code adds nothing; the same secret waits, in the session, for the right one."""
    clara = town.customer("clara")
    first = clara.go("/settings/factors/app").text
    assert "another code" in clara.submit("/settings/factors/app", code="000000").text
    assert clara.go("/settings/factors/app").text == first
    enrol(town, clara)
    assert "An app on your phone" in clara.page.text
    assert "recovery codes" not in clara.go("/settings/factors").text.partition("Asked for")[0]


def test_a_new_factor_signs_the_other_devices_out(town: Town) -> None:
    """Whoever is signed in elsewhere did not prove it (ASVS 7.4.3)."""
    clara, phone = town.customer("clara"), town.browser(SAFARI)
    phone.sign_in()
    enrol(town, clara)
    assert clara.go("/account").text.count("Clara")
    assert "Sign in" in phone.go("/account").text


def test_factors_are_changed_with_all_of_them(town: Town) -> None:
    """After five minutes the password alone changes nothing any more (ASVS 7.5.1)."""
    clara = town.customer("clara")
    app, _ = enrol(town, clara)
    town.clock.advance(timedelta(minutes=6))
    page = clara.go("/settings/factors")
    assert clara.location.startswith("/confirm?acr_values=aal2&max_age=300")
    assert {"password", "code"} <= page.ids
    clara.submit("/confirm", password=PASSWORD, code="000000")
    assert clara.status == 422
    clara.submit("/confirm", password=PASSWORD, code=app.code)
    assert clara.location == "/settings/factors"
    assert "It is removed" in clara.submit("/settings/factors/remove", which="app").text
    assert clara.go("/settings").text.count("None")


def test_what_is_fresh_is_not_asked_for_again(town: Town) -> None:
    """The page asks for what the route still misses: here the code alone."""
    clara = town.customer("clara")
    app, _ = enrol(town, clara)
    town.clock.advance(timedelta(minutes=6))
    clara.go("/confirm")  # Without a word about what for: the password, as ever.
    clara.submit("/confirm", password=PASSWORD)
    page = clara.go("/settings/email")
    assert "code" in page.ids
    assert "password" not in page.ids
    clara.submit("/confirm", code=app.code)
    assert clara.location == "/settings/email"


def test_whoever_is_done_is_asked_again(town: Town) -> None:
    """The window's end is told, and a button closes it before."""
    clara = town.customer("clara")
    town.clock.advance(1000)
    assert "can be changed without asking you again" in clara.go("/settings").text
    clara.submit("/settings/done")
    assert "without asking" not in clara.page.text
    clara.go("/settings/email")
    assert clara.location.startswith("/confirm")


# Signing in.


def test_a_code_is_asked_for_after_the_password(town: Town) -> None:
    """Between the two nobody is signed in, and every other page says so (ASVS 6.4.3)."""
    clara = town.customer("clara")
    app, _ = enrol(town, clara)
    phone = town.browser(SAFARI)
    page = phone.sign_in()
    assert phone.location == "/second"
    assert "You are not signed in yet" in page.text
    assert "Sign out" not in page.text
    for path in ("/account", "/move", "/devices", "/activity", "/settings", "/confirm"):
        assert "Sign in" in phone.go(path).text, path
        assert "Clara" not in phone.page.text
    phone.go("/second")
    phone.submit("/second", code=app.next())
    assert phone.location == "/account"
    assert "by password and one-time code" in phone.go("/devices").text


def test_a_code_works_once(town: Town) -> None:
    """Whoever looked over the shoulder comes too late (ASVS 6.5.1)."""
    clara = town.customer("clara")
    app, _ = enrol(town, clara)
    code = app.next()
    first, second = town.browser(), town.browser()
    for browser in (first, second):
        browser.sign_in()
        browser.submit("/second", code=code)
    assert first.location == "/account"
    assert "used already" in second.page.text


def test_codes_cannot_be_guessed(town: Town) -> None:
    """After five wrong ones none is looked at for five minutes, not even the right one."""
    clara = town.customer("clara")
    app, codes = enrol(town, clara)
    town.clock.advance(timedelta(seconds=30))
    thief = town.browser()
    thief.sign_in()
    for guess in range(5):
        assert "not right" in thief.submit("/second", code=f"00000{guess}").text
    assert "Too many" in thief.submit("/second", code=app.code).text
    assert "Too many" in thief.submit("/second", recovery=codes[0]).text
    told = [each for each in town.events if isinstance(each, LoginFailed)]
    assert len(told) == 7
    town.clock.advance(timedelta(minutes=5))
    thief.sign_in()
    thief.submit("/second", code=app.code)
    assert thief.location == "/account"


def test_a_lost_phone_is_replaced_with_a_recovery_code(town: Town) -> None:
    """It works once; right after it, the new phone can be added."""
    clara = town.customer("clara")
    _, codes = enrol(town, clara)
    town.clock.advance(timedelta(hours=1))
    laptop = town.browser(SAFARI)
    laptop.sign_in()
    page = laptop.submit("/second", recovery=codes[3].upper().replace("-", " "))
    assert laptop.location == "/settings/factors"
    assert "7 codes left" in page.text
    laptop.submit("/settings/factors/remove", which="app")
    enrol(town, laptop)
    another = town.browser()
    another.sign_in()
    assert "not one of your recovery codes" in another.submit("/second", recovery=codes[3]).text
    assert "A recovery code was used" in laptop.go("/activity").text


def test_new_recovery_codes_replace_the_old_ones(town: Town) -> None:
    """For a sheet of paper that was lost."""
    clara = town.customer("clara")
    _, old = enrol(town, clara)
    page = clara.submit("/settings/factors/codes")
    assert len(re.findall(r"\b[a-z2-9]{4}(?:-[a-z2-9]{4}){3}\b", page.text)) == 8
    phone = town.browser()
    phone.sign_in()
    assert "not one of" in phone.submit("/second", recovery=old[0]).text


def test_the_box_counts_after_the_second_step(town: Town) -> None:
    """A browser is remembered once both are proved, and not before."""
    clara = town.customer("clara")
    app, _ = enrol(town, clara)
    phone = town.browser(SAFARI)
    phone.sign_in(stay="yes")
    assert not any("remember" in name for name in phone.cookies)
    phone.submit("/second", code=app.next())
    assert any("remember" in name for name in phone.cookies)


def test_the_way_on_survives_the_second_step(town: Town) -> None:
    """Whoever wanted a page gets it."""
    clara = town.customer("clara")
    app, _ = enrol(town, clara)
    phone = town.browser()
    phone.go("/activity")
    phone.submit("/sign-in", username="clara", password=PASSWORD)
    phone.submit("/second", code=app.next())
    assert phone.location == "/activity"


# Large transfers.


def test_a_large_transfer_is_approved_by_itself(town: Town) -> None:
    """What is shown is what is moved, by a code that was proved for it (ASVS 7.5.3)."""
    town.customer("bob")
    clara = town.customer("clara")
    make_rich(town, "clara")
    app, _ = enrol(town, clara)
    clara.go("/move")
    page = clara.submit("/move", to="bob", amount="1200", note="The boat")
    assert clara.location.startswith("/approve/")
    assert "Bob (bob)" in page.text
    assert "€ 1,200.00" in page.text
    assert "The boat" in page.text
    assert "not right" in clara.submit("/approve/.*", code="123123").text
    page = clara.submit("/approve/.*", code=app.next())
    assert "€ 1,200.00 went to Bob." in page.text
    assert "You approved a transfer" in clara.go("/activity").text


def test_a_small_transfer_needs_no_approval(town: Town) -> None:
    """Below a thousand euros the sign-in is enough."""
    town.customer("bob")
    clara = town.customer("clara")
    make_rich(town, "clara")
    enrol(town, clara)
    clara.go("/move")
    assert "went to Bob" in clara.submit("/move", to="bob", amount="999.99").text


def test_without_a_second_factor_the_password_approves(town: Town) -> None:
    """Also right after the sign-in: it is for this transfer."""
    town.customer("bob")
    clara = town.customer("clara")
    make_rich(town, "clara")
    clara.go("/move")
    clara.submit("/move", to="bob", amount="1000")
    assert "not your password" in clara.submit("/approve/.*", password="wrong").text
    assert "went to Bob" in clara.submit("/approve/.*", password=PASSWORD).text


def test_an_approval_moves_money_once(town: Town) -> None:
    """A form that is sent twice is refused the second time."""
    town.customer("bob")
    clara = town.customer("clara")
    make_rich(town, "clara")
    clara.go("/move")
    clara.submit("/move", to="bob", amount="1000")
    form, path = dict(clara.page.form("/approve/.*")), clara.location
    clara.submit("/approve/.*", password=PASSWORD)
    form.pop("")
    clara.post(path, {**form, "password": PASSWORD})
    assert clara.status == 403
    assert "cannot be used" in clara.page.text
    assert "€ 8,100.00" in clara.go("/account").text
    assert [type(each) for each in town.events].count(ApprovalUsed) == 1
    (refused,) = [each for each in town.events if isinstance(each, ApprovalRefusedEvent)]
    assert refused.reason == "used"


def test_nobody_else_sees_or_approves_it(town: Town) -> None:
    """Neither another customer nor oneself on another device."""
    bob = town.customer("bob")
    clara, phone = town.customer("clara"), town.browser(SAFARI)
    phone.sign_in()
    make_rich(town, "clara")
    clara.go("/move")
    clara.submit("/move", to="bob", amount="1000")
    for browser in (bob, phone):
        browser.go(clara.location)
        assert browser.status == 403
        assert "1,000" not in browser.page.text


def test_too_much_is_told_before_it_is_approved(town: Town) -> None:
    """Nobody approves what cannot be paid."""
    town.customer("bob")
    clara = town.customer("clara")
    clara.go("/move")
    assert "not that much" in clara.submit("/move", to="bob", amount="1000").text


# Passkeys.


def test_a_passkey_signs_in_and_approves(town: Town) -> None:
    """It is two factors in one, and each answer is for one purpose."""
    town.customer("bob")
    clara = town.customer("clara")
    make_rich(town, "clara")
    key = add_passkey(clara)
    assert clara.location == "/settings/factors"
    assert "my ring" in clara.page.text
    phone = town.browser(SAFARI)
    page = phone.sign_in()
    assert phone.location == "/second"
    phone.submit("/second", credential=key.get(options_of(phone, page.html)))
    assert phone.location == "/account"
    phone.go("/move")
    page = phone.submit("/move", to="bob", amount="1200")
    page = phone.submit("/approve/.*", credential=key.get(options_of(phone, page.html)))
    assert "€ 1,200.00 went to Bob." in page.text
    town.clock.advance(timedelta(minutes=6))
    page = phone.go("/settings/email")
    phone.submit("/confirm", credential=key.get(options_of(phone, page.html)))
    assert phone.location == "/settings/email"


def test_a_passkeys_answer_counts_once_and_for_its_page(town: Town) -> None:
    """Neither twice, nor on another page, nor after five minutes."""
    town.customer("bob")
    clara = town.customer("clara")
    make_rich(town, "clara")
    key = add_passkey(clara)
    phone = town.browser(SAFARI)
    answer = key.get(options_of(phone, phone.sign_in().html))
    town.clock.advance(timedelta(minutes=4))
    phone.go("/move")  # Not signed in: the pending session goes on.
    phone.go("/second")
    assert "did not show" in phone.submit("/second", credential=answer).text
    answer = key.get(options_of(phone, phone.page.html))
    phone.submit("/second", credential=answer)
    assert phone.location == "/account"
    phone.go("/move")
    page = phone.submit("/move", to="bob", amount="1200")
    options = options_of(phone, page.html)
    assert "did not show" in phone.submit("/approve/.*", credential=answer).text
    answer = key.get(options)
    assert "did not show" in phone.submit("/approve/.*", credential=answer).text
    answer = key.get(options_of(phone, phone.page.html))
    town.clock.advance(timedelta(minutes=5))
    phone.submit("/approve/.*", credential=answer)
    assert phone.status == 403


def test_nothing_proved_confirms_nothing(town: Town) -> None:
    """Where only the passkey would do, a form without it is told so."""
    clara = town.customer("clara")
    add_passkey(clara)
    town.clock.advance(timedelta(minutes=6))
    page = clara.go("/settings/email")
    assert "password" not in page.ids
    assert "Your passkey is needed" in clara.submit("/confirm").text
    clara.go("/settings/email")
    assert clara.location.startswith("/confirm")


def test_an_answer_for_a_transfer_opens_no_settings(town: Town) -> None:
    """A challenge is for the page that it stands on: here the browser signs for the other."""
    town.customer("bob")
    clara = town.customer("clara")
    make_rich(town, "clara")
    key = add_passkey(clara)
    clara.go("/move")
    page = clara.submit("/move", to="bob", amount="1200")
    answer = key.get(options_of(clara, page.html))
    clara.go("/confirm")
    assert "did not show" in clara.submit("/confirm", credential=answer).text


def test_an_answer_comes_within_five_minutes(town: Town) -> None:
    """Also where the sign-in that it belongs to may take ten."""
    clara = town.customer("clara")
    key = add_passkey(clara)
    phone = town.browser(SAFARI)
    page = phone.sign_in()
    form, answer = dict(page.form("/second")), key.get(options_of(phone, page.html))
    form.pop("")
    town.clock.advance(timedelta(minutes=4))
    phone.go("/move")  # Not signed in: the pending session goes on.
    town.clock.advance(timedelta(minutes=1))
    assert "did not show" in phone.post("/second", {**form, "credential": answer}).text
    assert phone.status == 422


@pytest.mark.parametrize(
    "wrong",
    [
        {"origin": "http://localhost.evil.example"},
        {"host": "evil.example"},
        {"verified": False},
        {"count": -1},
        {"key_id": b"another key of ours"},
    ],
)
def test_a_wrong_answer_signs_nobody_in(town: Town, wrong: dict[str, object]) -> None:
    """From another site, without a finger, of a copied key, of no key at all."""
    clara = town.customer("clara")
    key = add_passkey(clara, count=5)
    phone = town.browser(SAFARI)
    page = phone.sign_in()
    for name, value in wrong.items():
        setattr(key, name, value)
    phone.submit("/second", credential=key.get(options_of(phone, page.html)))
    assert phone.status == 422
    assert "did not show" in phone.page.text
    for nonsense in ("x", "{}", "[]", '{"id": 5}', '{"id": "' + "A" * 22 + '"}'):
        phone.submit("/second", credential=nonsense)
        assert phone.status == 422


@pytest.mark.parametrize("wrong", [{"verified": False}, {"host": "evil.example"}])
def test_a_wrong_passkey_is_not_kept(town: Town, wrong: dict[str, object]) -> None:
    """Without a finger, or made for another site."""
    clara = town.customer("clara")
    key = Authenticator(ORIGIN, **{"host": "localhost", **wrong})  # type: ignore[arg-type]
    page = clara.go("/settings/factors/passkey")
    clara.submit("/settings/factors/passkey", credential=key.create(options_of(clara, page.html)))
    assert clara.status == 422
    assert "No passkey was made" in clara.page.text
    assert "my ring" not in clara.go("/settings/factors").text


def test_only_pages_with_a_passkey_have_a_script(town: Town) -> None:
    """One script of the bank's own, nothing inline; everywhere else none may run."""
    clara = town.customer("clara")
    clara.go("/settings/factors/passkey")
    assert "script-src 'self'" in clara.headers["content-security-policy"]
    for path in ("/settings/factors", "/settings/factors/app", "/account", "/confirm"):
        clara.go(path)
        assert "script-src 'none'" in clara.headers["content-security-policy"], path


def test_everything_that_the_bank_notes_is_told(town: Town) -> None:
    """In words, in the history of whoever it concerns."""
    clara = town.customer("clara")
    _, codes = enrol(town, clara)
    clara.submit("/settings/factors/codes")
    phone = town.browser()
    phone.sign_in()
    codes = re.findall(r"\b[a-z2-9]{4}(?:-[a-z2-9]{4}){3}\b", clara.page.text)
    phone.submit("/second", recovery=codes[0])
    phone.submit("/settings/factors/remove", which="app")
    told = phone.go("/activity").text
    noted = {each.what for each in town.events if isinstance(each, ApplicationEvent)}
    assert noted == {"factor_added", "factor_removed", "recovery_code_used", "recovery_codes_made"}
    for what in noted:
        assert words.NOTED[what] in told
    assert "Your password was entered" in told
