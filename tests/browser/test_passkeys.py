"""Passkeys in a real browser, with Chromium's own virtual authenticator (over its DevTools)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from playwright.sync_api import CDPSession, expect

from .conftest import ALICE, Town, Visit, Visitor, another_site

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]


class Ring:
    """An authenticator that Chromium plays: it has a key for each site, and knows its owner."""

    def __init__(self, visitor: Visitor) -> None:
        self._cdp: CDPSession = visitor.context.new_cdp_session(visitor.page)
        self._cdp.send("WebAuthn.enable")
        settings = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        }
        added = self._cdp.send("WebAuthn.addVirtualAuthenticator", {"options": settings})
        self._id = added["authenticatorId"]

    @property
    def keys(self) -> list[Any]:
        """What it holds."""
        told = self._cdp.send("WebAuthn.getCredentials", {"authenticatorId": self._id})
        keys: list[Any] = told["credentials"]
        return keys

    @contextmanager
    def on_another_hand(self) -> Iterator[None]:
        """Somebody else's finger: it does not verify them."""
        self._verifies(verified=False)
        yield
        self._verifies(verified=True)

    def _verifies(self, *, verified: bool) -> None:
        given = {"authenticatorId": self._id, "isUserVerified": verified}
        self._cdp.send("WebAuthn.setUserVerified", given)


def with_a_passkey(visit: Visit) -> tuple[Visitor, Ring]:
    """Alice, who has just added one."""
    alice = visit()
    ring = Ring(alice)
    alice.sign_in()
    alice.go("/settings/factors/passkey")
    alice.page.get_by_label("What you call it").fill("my ring")
    alice.press("Add it")
    expect(alice.page).to_have_url(alice.town.url + "/settings/factors")
    return alice, ring


def sign_in_again(alice: Visitor) -> None:
    """Out, and in by the password: the second step is open."""
    alice.page.get_by_role("button", name="Sign out").click()
    expect(alice.page).to_have_url(alice.town.url + "/signed-out")
    alice.sign_in()
    assert alice.path == "/second"


def test_a_passkey_is_added_and_asked_for_at_the_next_sign_in(visit: Visit) -> None:
    """The key stays in the authenticator; between password and passkey nobody is signed in."""
    alice, ring = with_a_passkey(visit)
    (key,) = ring.keys
    assert key["rpId"] == "localhost"
    assert "my ring" in alice.text
    assert alice.page.locator(".codes li").count() == 8
    sign_in_again(alice)
    assert "You are not signed in yet." in alice.text
    half = alice.key
    alice.press("Use a passkey")
    expect(alice.page).to_have_url(alice.town.url + "/account")
    assert alice.key not in ("", half)
    alice.go("/devices")
    assert "by password and passkey" in alice.text
    (key,) = ring.keys
    assert key["signCount"] > 1


def test_a_large_transfer_is_approved_with_it(visit: Visit) -> None:
    """The page shows payee and amount, the ring is touched, and that transfer is made, once."""
    alice, ring = with_a_passkey(visit)
    alice.go("/move")
    alice.page.get_by_label("To", exact=True).fill("bob")
    alice.page.get_by_label("Amount in euros").fill("1200")
    alice.press("Move the money")
    assert alice.path.startswith("/approve/")
    assert "Bob Finch (bob)" in alice.text
    before, approval = alice.key, alice.path
    with ring.on_another_hand():
        alice.page.get_by_role("button", name="Use a passkey").click()
        expect(alice.page.get_by_text("No passkey was used.")).to_be_visible()
    alice.press("Use a passkey")
    expect(alice.page).to_have_url(alice.town.url + "/account")
    assert "1,200.00 went to Bob Finch." in alice.text
    assert alice.key not in ("", before)
    assert alice.town.heard("authz_approval_used") == 1
    alice.go(approval)
    assert "cannot be used" in alice.text


def test_settings_ask_for_it_after_five_minutes(visit: Visit, town: Town) -> None:
    """It is enough by itself: two factors in one."""
    alice, _ = with_a_passkey(visit)
    town.clock.advance(timedelta(minutes=6))
    alice.go("/settings/email")
    assert alice.path.startswith("/confirm?acr_values=aal2&max_age=300")
    assert alice.page.get_by_label("Password").count() == 0
    alice.press("Use a passkey")
    expect(alice.page).to_have_url(town.url + "/settings/email")


def test_another_site_gets_nothing_from_it(visit: Visit, town: Town) -> None:
    """The browser itself gives no other site a key of ours, whatever that site asks for."""
    alice, ring = with_a_passkey(visit)
    (key,) = ring.keys
    page = """<!doctype html><title>Win a boat</title><p id=told>...</p><script>
    navigator.credentials.get({publicKey: {challenge: new Uint8Array(32), rpId: 'localhost',
        userVerification: 'required'}})
        .then(() => told.textContent = 'signed', (error) => told.textContent = error.name);
    </script>"""
    with another_site(page) as port:
        alice.page.goto(f"http://127.0.0.1:{port}/")
        expect(alice.page.locator("#told")).to_have_text("SecurityError")
    assert ring.keys == [key]


def test_a_recovery_code_works_without_a_script(visit: Visit) -> None:
    """The ring is lost: a code from the sheet, in a browser that runs no script at all."""
    alice, _ = with_a_passkey(visit)
    code = alice.page.locator(".codes li").first.inner_text()
    bare = visit(java_script_enabled=False)
    bare.sign_in(ALICE)
    bare.page.get_by_text("Your phone is not here?").click()
    bare.page.get_by_label("One of your recovery codes").fill(code)
    bare.press("Use it")
    assert bare.path == "/settings/factors"
    assert "7 codes left" in bare.text
