"""Asking for a recent sign-in, of people and of programs (P25, RFC 9470, ASVS 7.5)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from strongroom.core.events import StepUpAsked
from tests.support.site import MINUTE, Site

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bank(site: Site) -> Site:
    """A site with a transfer that wants a factor of the last five minutes, and a vault."""

    @site.page("/transfer")
    async def transfer(call):
        return call.session.require_recent_sign_in(max_age=timedelta(minutes=5))

    @site.page("/vault")
    async def vault(call):
        return call.session.require_recent_sign_in(max_age=timedelta(minutes=5), acr="aal2")

    @site.page("/account")
    async def account(call):
        return call.session.require_sign_in()

    return site


async def test_a_recent_sign_in_is_let_through(bank: Site):
    """For five minutes, to the millisecond (P25)."""
    alice = await bank.signed_in()
    bank.clock.advance(5 * MINUTE)
    assert (await alice.goto("/transfer")).json == "alice"
    bank.clock.advance(1)
    assert (await alice.goto("/transfer")).status == 303


async def test_the_bound_is_hard(bank: Site):
    """Using the page again and again does not keep it open (P25, TRAPS 18)."""
    alice = await bank.signed_in()
    for _ in range(5):
        assert (await alice.goto("/transfer")).status == 200
        bank.clock.advance(MINUTE)
    assert (await alice.goto("/transfer")).status == 200
    bank.clock.advance(MINUTE)
    assert (await alice.goto("/transfer")).status == 303


async def test_people_go_to_the_sign_in_page_and_back(bank: Site):
    """The way back is a path of ours, query and all (P25)."""
    alice = await bank.signed_in()
    bank.clock.advance(6 * MINUTE)
    response = await alice.goto("/transfer?to=bob&sum=5%26")
    location = urlsplit(response.header("location") or "")
    assert (response.status, location.path) == (303, "/sign-in")
    assert parse_qs(location.query) == {"next": ["/transfer?to=bob&sum=5%26"]}
    assert (await alice.post("/elevate?amr=pwd")).status == 200
    assert (await alice.goto("/transfer?to=bob")).json == "alice"
    assert bank.only(StepUpAsked).reason == "too_old"


async def test_after_a_form_people_come_back_to_its_page(bank: Site):
    """A form is not sent twice; a foreign Referer is no way back (P25)."""
    alice = await bank.signed_in()
    bank.clock.advance(6 * MINUTE)
    ours = [(b"referer", b"https://app.example/transfers?page=2")]
    response = await alice.post("/transfer", headers=ours)
    assert response.header("location") == "/sign-in?next=%2Ftransfers%3Fpage%3D2"
    for foreign in (b"https://app.example.evil.net/x", b"https://app.example//evil.net"):
        response = await alice.post("/transfer", headers=[(b"referer", foreign)])
        assert response.header("location") in ("/sign-in", "/sign-in?next=%2F"), foreign


@pytest.mark.parametrize(
    "path",
    ["//evil.example", "/\\evil.example", "/%2F/evil.example", "/%5C%5Cevil", "/a%0d%0aX:1", "/ä"],
)
async def test_the_way_back_never_leads_elsewhere(bank: Site, path: str):
    """Whatever the address says (CWE-601)."""

    async def anything(call):
        return call.session.require_sign_in()

    class Everywhere(dict[str, Any]):
        def __missing__(self, key: str) -> Any:
            return anything

    bank.pages = Everywhere(bank.pages)
    response = await bank.browser().goto(path)
    assert response.status in (303, 307, 404)
    for value in [response.header("location") or ""]:
        back = parse_qs(urlsplit(value).query).get("next", ["/"])[0]
        assert back.startswith("/")
        assert not back.startswith(("//", "/\\"))
        assert "\r" not in value
        assert "\n" not in value


async def test_programs_get_what_rfc_9470_says(bank: Site):
    """401, WWW-Authenticate with max_age and acr_values, and a problem document (P25)."""
    alice = await bank.signed_in()
    response = await alice.fetch("/vault", "POST")
    assert response.status == 401
    challenge = response.header("www-authenticate") or ""
    assert challenge.startswith('Bearer error="insufficient_user_authentication"')
    assert 'acr_values="aal2"' in challenge
    assert 'max_age="300"' in challenge
    assert response.json["code"] == "step_up_required"
    assert response.header("content-type") == "application/problem+json"
    await alice.post("/elevate?amr=otp")
    assert (await alice.fetch("/vault", "POST")).json == "alice"


async def test_each_factor_has_its_own_age(bank: Site):
    """Yesterday's key does not lift today's password (P25)."""
    alice = await bank.signed_in()
    await alice.post("/elevate?amr=otp")
    bank.clock.advance(6 * MINUTE)
    await alice.post("/elevate?amr=pwd")
    assert (await alice.fetch("/transfer")).status == 200
    assert (await alice.fetch("/vault")).status == 401
    await alice.post("/elevate?amr=otp")
    assert (await alice.fetch("/vault")).status == 200


async def test_nobody_is_asked_to_sign_in_first(bank: Site):
    """Without anybody it is a sign-in, not a step-up; pending is nobody (P25)."""
    visitor, half = bank.browser(), bank.browser()
    await bank.sign_in(half, "alice", pending="1")
    for browser in (visitor, half):
        for path in ("/account", "/transfer"):
            assert (await browser.goto(path)).status == 303
            response = await browser.fetch(path)
            assert (response.status, response.json["code"]) == (401, "sign_in_required")
    assert bank.told(StepUpAsked) == []


async def test_an_open_session_elsewhere_stays_as_old_as_it_is(bank: Site):
    """A step-up belongs to the session in which it was done (TRAPS 3.9)."""
    laptop, phone = await bank.signed_in(), await bank.signed_in()
    bank.clock.advance(6 * MINUTE)
    await laptop.post("/elevate?amr=pwd")
    assert (await laptop.fetch("/transfer")).status == 200
    assert (await phone.fetch("/transfer")).status == 401
