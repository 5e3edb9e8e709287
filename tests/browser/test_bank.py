"""What only a real browser can show: its cookie jar, its headers, its cache, its keyboard."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from examples.bank.screenshots import chromium_arguments, chromium_path

from .conftest import ALICE, Town, Visit, Visitor, another_site

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]

FORM = """<!doctype html><title>Win a boat</title><form method="post" action="{url}/move">
<input name="to" value="bob"><input name="amount" value="500"><button>Win a boat</button></form>"""


def test_signing_in_and_out(visit: Visit) -> None:
    """The cookies are out of scripts' reach; the session's is gone afterwards."""
    alice = visit()
    page = alice.sign_in()
    assert alice.path == "/account"
    assert page.get_by_role("heading", level=1).inner_text() == "Alice Marlowe"
    cookies = alice.context.cookies(alice.town.url)
    assert sorted(each["name"].partition("-")[0] for each in cookies) == ["device", "id"]
    assert all(each["httpOnly"] and each["sameSite"] == "Lax" for each in cookies)
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(alice.town.url + "/signed-out")
    assert alice.key == ""


def test_one_browser_is_ended_from_the_other(visit: Visit) -> None:
    """And is told why, on the page where it signs in again."""
    laptop, phone = visit(), visit(390, 844)
    laptop.sign_in()
    phone.sign_in()
    laptop.go("/devices")
    assert laptop.page.locator("li.device").count() == 2
    laptop.press("Sign out Chromium on Linux")
    assert "That device is signed out." in laptop.text
    phone.go("/account")
    assert phone.path.startswith("/sign-in")
    assert "You signed this device out from another one." in phone.text
    assert "Alice Marlowe" in laptop.go("/account").title() + laptop.text


def test_a_device_of_somebody_else_loses_all_that_it_has(visit: Visit) -> None:
    """And its owner is led to a new password (P16)."""
    laptop, thief = visit(), visit(390, 844)
    laptop.sign_in()
    thief.sign_in(stay=True)
    laptop.go("/devices")
    laptop.press("Not me")
    assert laptop.path == "/password"
    assert "Whoever used it knew your password" in laptop.text
    thief.go("/account")
    assert thief.path.startswith("/sign-in")
    laptop.go("/devices")
    assert "Nowhere else." in laptop.text


def test_a_step_up_leads_back_to_what_was_wanted(visit: Visit, town: Town) -> None:
    """After five minutes the password is asked for; the key is another one afterwards."""
    alice = visit()
    alice.sign_in()
    key = alice.key
    town.clock.advance(timedelta(minutes=6))
    alice.go("/settings/password")
    assert alice.path.startswith("/confirm")
    alice.page.get_by_label("Password").fill(ALICE[1])
    alice.press("Confirm")
    assert alice.path == "/settings/password"
    assert alice.key not in ("", key)


@pytest.mark.parametrize(
    ("host", "rule"), [("127.0.0.1", "cross_site"), ("localhost", "same_site")]
)
def test_another_site_cannot_send_a_form(visit: Visit, town: Town, host: str, rule: str) -> None:
    """P19: refused by the browser's own word. From a sibling even the cookie comes along."""
    alice = visit()
    alice.sign_in()
    balance = alice.page.locator(".sum").inner_text()
    with another_site(FORM.format(url=town.url)) as port:
        alice.page.goto(f"http://{host}:{port}/")
        alice.page.get_by_role("button", name="Win a boat").click()
        expect(alice.page.get_by_role("heading", level=1)).to_have_text("This request was refused")
    rules = [getattr(event, "rule", None) for event in town.events]
    assert rule in rules
    alice.go("/account")
    assert alice.page.locator(".sum").inner_text() == balance


@pytest.mark.parametrize("in_turn", [False, True], ids=["together", "in turn"])
def test_two_tabs_race_through_a_renewal(
    visit: Visit, town: Town, settled: Callable[[Visitor], None], in_turn: bool
) -> None:
    """P11: both come with the old key at one moment; both stay, with one new key."""
    alice = visit()
    alice.sign_in()
    settled(alice)
    old = alice.key
    tabs = [alice.page, alice.context.new_page()]
    tabs[1].goto("about:blank")
    town.gate.hold("/devices", 2, in_turn=in_turn)
    for tab in tabs:
        # Not `goto`, which would wait for the one before the other has begun.
        tab.evaluate(f"setTimeout(() => {{ location.href = '{town.url}/devices' }})")
    for tab in tabs:
        expect(tab.get_by_role("heading", level=1)).to_have_text("Where you are signed in")
        expect(tab.locator("li.device")).to_have_count(1)
    assert town.heard("session_renewed") == 1
    assert alice.key not in ("", old)
    for _ in range(3):
        town.clock.advance(timedelta(minutes=2))
        for tab in tabs:
            alice.go("/account", tab)
            expect(tab.get_by_role("heading", level=1)).to_have_text("Alice Marlowe")
    assert town.heard("authn_token_reuse") == town.heard("session_token_refused") == 0


def test_a_copied_cookie_is_found_out_after_the_renewal(
    visit: Visit, town: Town, settled: Callable[[Visitor], None]
) -> None:
    """P12: the thief's browser and the owner's are both signed out, and the owner is told."""
    alice, mallory = visit(), visit()
    alice.sign_in()
    settled(alice)
    mallory.context.add_cookies(alice.context.cookies(town.url))  # type: ignore[arg-type]
    for minutes in (0, 2, 2, 1):
        town.clock.advance(timedelta(minutes=minutes))
        alice.go("/account")
        assert alice.path == "/account"
    mallory.go("/account")
    assert mallory.path.startswith("/sign-in")
    alice.go("/account")
    assert "somebody used an old copy" in alice.text
    alice.sign_in()
    alice.go("/activity")
    assert "An old key of a session was used" in alice.text


def test_the_back_button_shows_nothing_after_signing_out(visit: Visit) -> None:
    """P23: pages of an account are not kept, neither by the cache nor by the back button's."""
    alice = visit()
    alice.sign_in()
    answer = alice.page.goto(alice.town.url + "/settings")
    assert answer is not None
    assert answer.header_value("cache-control") == "no-store"
    assert "alice@example.org" in alice.text
    alice.page.get_by_role("button", name="Sign out").click()
    expect(alice.page.get_by_role("heading", level=1)).to_have_text("You are signed out")
    for _ in range(2):
        alice.page.go_back()
        alice.page.wait_for_load_state()
        assert alice.path.startswith("/sign-in")
        assert "alice@example.org" not in alice.text


def test_signing_in_and_out_by_keyboard_alone(visit: Visit) -> None:
    """Every stop is reached with Tab, is seen to be, and does what it says with Enter."""
    alice = visit()
    page = alice.go("/")

    def tab_to(words: str) -> None:
        for _ in range(30):
            page.keyboard.press("Tab")
            stop = page.evaluate(FOCUS)
            assert stop["outline"], f"{stop['words']!r} does not show that it has the focus"
            if stop["words"] == words:
                return
        pytest.fail(f"Tab does not come to {words!r}")

    tab_to("Skip to the content")
    tab_to("Sign in")
    page.keyboard.press("Enter")
    expect(page).to_have_url(alice.town.url + "/sign-in")
    tab_to("Username")
    page.keyboard.type(ALICE[0])
    tab_to("Password")
    page.keyboard.type("not the password")
    page.keyboard.press("Enter")
    # The summary of what is wrong has the focus, so that it is read first.
    expect(page.get_by_role("alert")).to_be_focused()
    tab_to("Password")
    page.keyboard.type(ALICE[1])
    page.keyboard.press("Enter")
    expect(page).to_have_url(alice.town.url + "/account")
    tab_to("Sign out")
    page.keyboard.press("Enter")
    expect(page).to_have_url(alice.town.url + "/signed-out")


FOCUS = """() => {
    const on = document.activeElement, style = getComputedStyle(on);
    const label = on.labels && on.labels.length ? on.labels[0].innerText : on.innerText;
    return {
        words: (label || '').trim(),
        outline: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
    };
}"""


def test_a_remembered_browser_is_signed_in_after_a_restart(
    chromium: Browser, town: Town, tmp_path: Path
) -> None:
    """Chromium itself forgets the session's cookie, and keeps the persistent login's (D6)."""

    def started() -> Visitor:
        context = chromium.browser_type.launch_persistent_context(
            tmp_path / "profile", executable_path=chromium_path(), args=chromium_arguments()
        )
        return Visitor(context, town)

    before = started()
    before.sign_in(stay=True)
    kept = before.key
    before.context.close()

    after = started()
    assert after.key == ""
    after.go("/account")
    assert "Alice Marlowe" in after.text
    assert after.key not in ("", kept)
    after.go("/move")
    assert after.path == "/confirm?max_age=43200&next=%2Fmove"
    after.page.get_by_label("Password").fill(ALICE[1])
    after.press("Confirm")
    assert after.path == "/move"
    after.page.get_by_role("button", name="Sign out").click()
    after.page.wait_for_load_state()
    after.context.close()

    once_more = started()
    once_more.go("/account")
    assert once_more.path.startswith("/sign-in")
    once_more.context.close()
    assert before.complaints + after.complaints + once_more.complaints == []
