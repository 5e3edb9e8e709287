"""Asking for a recent sign-in, of people and of programs (P25, RFC 9470, ASVS 7.5)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from strongroom import SessionPolicy
from strongroom.core.challenges import read_challenge
from strongroom.core.events import SteppedDown, StepUpAsked
from tests.support.site import MINUTE, MakeSite, Site

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


async def test_a_client_of_an_api_asks_its_own_user_for_what_the_api_wants(bank: Site):
    """RFC 9470 both ways: one session's 401 is read by another application, and met there."""
    robot, alice = await bank.signed_in("robot"), await bank.signed_in()
    heard: list[str] = []

    @bank.page("/report")
    async def report(call):
        asked = read_challenge(heard)
        if asked is None:
            return "the API is content"
        requirement = asked.requirement(bank.manager.policy.acr)
        assert requirement is not None
        call.session.require(requirement)
        return "asked for here, and met"

    assert (await alice.fetch("/report")).json == "the API is content"
    told = await robot.fetch("/vault", "POST")
    heard.append(told.header("www-authenticate") or "")
    own = await alice.fetch("/report")
    assert own.status == 401
    assert own.header("www-authenticate") == heard[0]
    sent = await alice.goto("/report")
    assert (sent.status, sent.header("location")) == (303, "/sign-in?next=%2Freport")
    await alice.post("/elevate?amr=otp")
    assert (await alice.fetch("/report")).json == "asked for here, and met"


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


async def test_factors_are_asked_for_by_name_and_age(site: Site):
    """Several at once, each with an age of its own, and what is missing is said (P25)."""

    @site.page("/key")
    async def key(call):
        both = {"otp": timedelta(minutes=1), "pwd": timedelta(minutes=10)}
        return call.session.require_recent_sign_in(amr=both)

    @site.page("/both")
    async def both(call):
        return call.session.require_recent_sign_in(max_age=timedelta(hours=1), amr=["otp", "pwd"])

    alice = await site.signed_in()
    missing = await alice.fetch("/both")
    assert (missing.status, missing.json["reason"]) == (401, "method_missing")
    assert missing.json["amr_values"] == ["otp", "pwd"]
    assert missing.json["owed"] == [[["otp"]]]
    await alice.post("/elevate?amr=otp")
    assert (await alice.fetch("/both")).json == (await alice.fetch("/key")).json == "alice"
    site.clock.advance(2 * MINUTE)
    assert (await alice.fetch("/both")).status == 200
    stale = await alice.fetch("/key")
    assert stale.json["owed"] == [[["otp"]]]
    assert stale.json["amr_max_age"] == {"otp": 60, "pwd": 600}
    await alice.post("/elevate?amr=otp")
    assert (await alice.fetch("/key")).status == 200
    site.clock.advance(9 * MINUTE)
    assert (await alice.fetch("/key")).json["owed"] == [[["otp"], ["pwd"]]]


async def test_the_page_that_asks_knows_what_is_owed(new_site: MakeSite):
    """The way there carries what the route asked for, and the page offers what would do (P25)."""
    site = await new_site(policy=SessionPolicy(step_up_path="/confirm"))

    @site.page("/vault")
    async def vault(call):
        return call.session.require_recent_sign_in(max_age=timedelta(minutes=5), acr="aal2")

    @site.page("/confirm")
    async def confirm(call):
        challenge = call.session.asked(dict(call.query))
        if challenge is None:
            return "nothing"
        return [each for each in ("pwd", "otp", "mfa") if challenge.would_do([each])]

    alice = await site.signed_in()
    sent = urlsplit((await alice.goto("/vault")).header("location") or "")
    query = parse_qs(sent.query)
    assert sent.path == "/confirm"
    assert query == {"acr_values": ["aal2"], "max_age": ["300"], "next": ["/vault"]}
    assert (await alice.goto(f"/confirm?{sent.query}")).json == ["otp", "mfa"]
    await alice.post("/elevate?amr=otp")
    assert (await alice.goto(f"/confirm?{sent.query}")).json == "nothing"
    assert (await alice.goto("/vault")).json == "alice"
    # Whoever writes a link decides nothing by it.
    for wish in ("acr_values=aal9", "max_age=-1", "max_age=x", "", "amr_values=%22"):
        assert (await alice.goto(f"/confirm?{wish}")).json == "nothing"


async def test_a_privileged_window_has_a_hard_end(site: Site):
    """It is known from its beginning, and no use moves it (P25)."""

    @site.page("/window")
    async def window(call):
        until = call.session.privileged_until(max_age=timedelta(minutes=5))
        return None if until is None else round(until.timestamp() * 1000)

    alice = await site.signed_in()
    end = site.clock() + 5 * MINUTE
    for _ in range(5):
        assert (await alice.fetch("/window")).json == end
        site.clock.advance(MINUTE)
    assert (await alice.fetch("/window")).json == end
    site.clock.advance(1)
    assert (await alice.fetch("/window")).json is None
    await alice.post("/elevate?amr=otp")
    assert (await alice.fetch("/window")).json == site.clock() + 5 * MINUTE


async def test_a_window_never_outlives_the_session(site: Site):
    """Its end is the absolute deadline at the latest (P9)."""

    @site.page("/window")
    async def window(call):
        until = call.session.privileged_until(acr="aal1")
        return None if until is None else round(until.timestamp() * 1000)

    alice = await site.signed_in()
    assert (await alice.fetch("/window")).json == site.clock() + 8 * 60 * MINUTE
    assert (await site.browser().fetch("/window")).json is None


async def test_whoever_is_done_closes_the_window(bank: Site):
    """Nobody is signed out, the token is another, and only a new proof opens it again (P25)."""

    @bank.page("/done")
    async def done(call):
        await call.session.end_privilege()
        return call.session.subject

    alice = await bank.signed_in()
    before = bank.token(alice)
    bank.clock.advance(1)
    assert (await alice.post("/done")).json == "alice"
    assert bank.token(alice) != before
    assert (await alice.fetch("/transfer")).json["reason"] == "too_old"
    assert (await alice.fetch("/account")).json == "alice"
    await alice.post("/elevate?amr=pwd")
    assert (await alice.fetch("/transfer")).status == 401, "a proof of the same moment"
    bank.clock.advance(1)
    await alice.post("/elevate?amr=pwd")
    assert (await alice.fetch("/transfer")).json == "alice"
    assert bank.only(SteppedDown).subject == "alice"
    assert (await bank.browser().post("/done")).status in (303, 401)


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
