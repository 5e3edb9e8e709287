"""The whole of a first visit in a real browser, as `make demo` invites to it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from playwright.sync_api import expect

from .conftest import Town, Visit, Visitor

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]

OLD, NEW = "a quiet night on the canal", "moonlight over the ferry"


def fill(visitor: Visitor, button: str, **fields: str) -> None:
    """Fill a form of the page, by the names of its fields, and send it."""
    for name, value in fields.items():
        visitor.page.locator(f"main [name={name}]").fill(value)
    visitor.press(button)


def test_from_signing_up_to_signing_out(visit: Visit, town: Town) -> None:
    """An account, a transfer, a new password after a step-up, the other device, and out again."""
    clara, phone = visit(), visit(390, 844)
    clara.go("/sign-up")
    clara.page.locator("main [name=username]").fill("clara")
    clara.page.locator("main [name=name]").fill("Clara Ines")
    clara.page.locator("main [name=email]").fill("clara@example.org")
    fill(clara, "Open the account", new_password=OLD, again=OLD)
    assert clara.path == "/account"
    assert "€\xa0100.00" in clara.text

    clara.go("/move")
    fill(clara, "Move the money", to="bob", amount="12.50", note="Lunch")
    assert "€\xa087.50" in clara.text

    phone.sign_in(("clara", OLD))
    assert phone.path == "/account"
    town.clock.advance(timedelta(minutes=6))
    clara.go("/settings/password")
    assert clara.path.startswith("/confirm"), "an old sign-in is not enough"
    key = clara.key
    fill(clara, "Confirm", password=OLD)
    assert clara.path == "/settings/password"
    fill(clara, "Change it", password=OLD, new_password=NEW, again=NEW)
    assert "1 other device was signed out." in clara.text
    assert clara.key not in ("", key)

    phone.go("/account")
    assert phone.path.startswith("/sign-in")
    phone.sign_in(("clara", OLD))
    assert "do not belong together" in phone.text
    phone.sign_in(("clara", NEW))
    assert phone.path == "/account"

    clara.page.get_by_role("button", name="Sign out").click()
    expect(clara.page).to_have_url(town.url + "/signed-out")
    clara.go("/account")
    assert clara.path.startswith("/sign-in")
    phone.go("/account")
    assert "€\xa087.50" in phone.text
