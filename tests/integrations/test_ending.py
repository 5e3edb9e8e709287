"""Ended is terminal, and both clocks are kept (P6, P9, P14, P15, P17)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from strongroom import SessionPolicy
from strongroom.core.events import (
    LoginFailed,
    SessionEndedEvent,
    SessionExpired,
    SessionLogout,
    SessionUseAfterExpire,
)
from strongroom.core.policy import Routes
from tests.support.browser import Browser, Gate
from tests.support.site import HOUR, MINUTE, MakeSite, Reply, Site

pytestmark = pytest.mark.anyio


# P6: ended is terminal.


@pytest.mark.everywhere
async def test_a_late_write_does_not_revive_a_session(site: Site):
    """A slow request that writes, and a sign-out in between: nobody is signed in again (P6)."""
    gate = Gate()

    @site.page("/slow")
    async def slow(call):
        call.session["cart"] = "book"
        await gate.pass_through()

    alice = await site.signed_in()
    stolen = alice.jar.snapshot()
    pending = alice.begin("/slow")
    await gate.reached()
    assert (await alice.post("/sign-out")).status == 200
    gate.open()
    response = await pending.response()
    assert response.status == 200
    assert response.cookies == []
    assert await site.who(alice) is None
    alice.jar.restore(stolen)
    assert await site.who(alice) is None
    assert site.told(SessionUseAfterExpire)[0].reason == "write_after_end"


async def test_a_late_explicit_save_is_told(site: Site):
    """`save` raises SessionEnded; the user gets the sign-in page, a program 401 (P6)."""
    gate = Gate()

    @site.page("/slow")
    async def slow(call):
        call.session["cart"] = "book"
        await gate.pass_through()
        await call.session.save()

    alice = await site.signed_in()
    pending = [alice.begin("/slow"), alice.begin_fetch("/slow")]
    await gate.reached(2)
    await alice.post("/sign-out")
    gate.open()
    page, api = [await each.response() for each in pending]
    assert page.status == 303
    assert page.header("location") == "/sign-in?next=%2Fslow"
    assert api.status == 401
    assert api.json["code"] == "session_ended"


async def test_a_late_touch_or_renewal_does_not_revive_a_session(site: Site):
    """A request whose touch and renewal are due finds the session ended (P6)."""
    gate = Gate()

    @site.page("/slow")
    async def slow(call):
        await call.session.renew()
        await gate.pass_through()
        return call.session.subject

    alice = await site.signed_in()
    await site.use_until_confirmed(alice)
    site.clock.advance(20 * MINUTE)
    stolen = alice.jar.snapshot()
    pending = alice.begin("/slow")
    await gate.reached()
    await site.manager.end_all_of("alice")
    gate.open()
    assert (await pending.response()).cookies == []
    for jar in (alice.jar.snapshot(), stolen):
        alice.jar.restore(jar)
        assert await site.who(alice) is None


async def test_elevating_an_ended_session_is_refused(site: Site):
    """A dead token gains no privilege (P6, D2)."""
    gate = Gate()

    @site.page("/slow")
    async def slow(call):
        await gate.pass_through()
        await call.session.elevate(amr="otp")

    alice = await site.signed_in()
    pending = alice.begin_fetch("/slow", "POST")
    await gate.reached()
    await site.manager.end_all_of("alice")
    gate.open()
    response = await pending.response()
    assert response.status == 401
    assert response.cookies == []


async def test_a_stolen_cookie_is_worthless_after_sign_out(site: Site):
    """Signing out ends the record, not only the cookie (P6)."""
    alice = await site.signed_in()
    thief = site.browser()
    thief.jar.restore(alice.jar.snapshot())
    assert await site.who(thief) == "alice"
    response = await alice.post("/sign-out")
    assert response.cookies[0].startswith(f"{site.cookie}=; Max-Age=0")
    assert site.token(alice) is None
    assert await site.who(thief) is None
    assert site.only(SessionLogout).subject == "alice"


async def test_two_sign_outs_at_once_both_work(site: Site):
    """A double click is no error, and tells one sign-out (P6)."""
    alice = await site.signed_in()
    gate = Gate()

    @site.page("/out")
    async def out(call):
        await gate.pass_through()
        await call.session.sign_out()

    both = [alice.begin_post("/out"), alice.begin_post("/out")]
    await gate.reached(2)
    gate.open()
    for each in both:
        assert (await each.response()).status == 200
    assert site.token(alice) is None


# P9: two clocks.


@pytest.mark.everywhere
async def test_idleness_ends_a_session_at_its_deadline(site: Site):
    """One millisecond before the deadline it lives, at the deadline it does not (P9)."""
    alice = await site.signed_in()
    site.clock.advance(30 * MINUTE - 1)
    thief = site.browser()
    thief.jar.restore(alice.jar.snapshot())
    assert await site.who(alice) == "alice"  # This touches.
    site.clock.advance(30 * MINUTE)
    assert await site.who(alice) is None
    assert site.only(SessionExpired).reason == "idle_timeout"
    site.clock.rewind(10 * MINUTE)
    assert await site.who(thief) is None


async def test_activity_never_moves_the_absolute_deadline(site: Site):
    """Used every ten minutes, it still ends after eight hours, renewals and all (P9)."""
    alice = await site.signed_in()
    for _ in range(47):
        site.clock.advance(10 * MINUTE)
        assert await site.who(alice) == "alice"
    site.clock.advance(10 * MINUTE)
    assert await site.who(alice) is None
    assert site.only(SessionExpired).reason == "absolute_timeout"


async def test_elevation_restarts_the_idle_clock_only(site: Site):
    """The absolute deadline stays where sign-in put it (E7)."""
    alice = await site.signed_in()
    for _ in range(24):
        site.clock.advance(20 * MINUTE - 1)
        assert (await alice.post("/elevate")).status == 200
    site.clock.advance(24)
    assert await site.who(alice) is None


async def test_last_seen_never_goes_backwards(site: Site):
    """A clock that jumps back shortens nothing and writes nothing older (P9)."""
    alice = await site.signed_in()
    site.clock.advance(10 * MINUTE)
    before = (await alice.goto("/sessions")).json[0]["last_seen"]
    before = (await alice.goto("/sessions")).json[0]["last_seen"]
    site.clock.rewind(9 * MINUTE)
    after = (await alice.goto("/sessions")).json[0]["last_seen"]
    assert after == before
    site.clock.advance(9 * MINUTE + 30 * MINUTE - 1)
    assert await site.who(alice) == "alice"


async def test_a_shorter_policy_reaches_sessions_that_began_before_it(
    new_site: MakeSite, store_name: str
):
    """The policy counts as it is now (P9)."""
    site = await new_site()
    alice = await site.signed_in()
    strict = await new_site(
        policy=SessionPolicy(idle_timeout=timedelta(minutes=5)),
        clock=site.clock,
        real_store=site.store.real,
    )
    site.clock.advance(6 * MINUTE)
    browser = strict.browser()
    browser.jar.restore(alice.jar.snapshot())
    assert await strict.who(browser) is None


async def test_polling_and_prefetching_are_no_activity(new_site: MakeSite):
    """A page that polls does not keep an absent user signed in (E8)."""
    site = await new_site(policy=SessionPolicy(routes=Routes(passive=("/nothing",))))
    alice = await site.signed_in()
    for _ in range(29):
        site.clock.advance(MINUTE)
        await alice.fetch("/nothing")
        await alice.goto("/", headers=[(b"sec-purpose", b"prefetch;prerender")])
    site.clock.advance(MINUTE)
    assert await site.who(alice) is None


async def test_an_expiry_is_written_before_it_is_answered(site: Site):
    """Whoever asks first after the deadline ends the session for everybody (E6)."""
    alice = await site.signed_in()
    copy = alice.jar.snapshot()
    site.clock.advance(30 * MINUTE)
    site.store.reset()
    assert await site.who(alice) is None
    assert site.store.written == {"end": 1}
    site.clock.rewind(20 * MINUTE)
    alice.jar.restore(copy)
    assert await site.who(alice) is None


@pytest.mark.parametrize("away", [HOUR, 9 * HOUR, 72 * HOUR])
async def test_after_a_long_absence_the_next_visit_starts_afresh(site: Site, away: int):
    """However the session ended meanwhile, the cookie goes and new data can be kept (F1)."""
    alice = await site.signed_in()
    site.clock.advance(away)

    @site.page("/start")
    async def start(call):
        call.session["state"] = "oauth"

    response = await alice.goto("/start")
    assert response.status == 200
    assert site.token(alice) is not None
    assert await site.data(alice) == {"state": "oauth"}


# P14: failed responses.


@pytest.mark.everywhere
@pytest.mark.parametrize("how", ["exception", "500", "503"])
async def test_a_failed_response_leaves_nobody_signed_in(site: Site, how: str):
    """And the cart from before is still there (P14, E1)."""

    @site.page("/fails")
    async def fails(call):
        await call.session.sign_in("alice")
        if how == "exception":
            raise RuntimeError("a bug")
        return Reply(status=int(how))

    browser = site.browser()
    await browser.post("/set?cart=book")
    before = browser.jar.snapshot()
    assert (await browser.post("/fails")).status >= 500
    await nobody_was_signed_in(site, browser, before)


@pytest.mark.needs("cancel")
async def test_a_cancelled_request_leaves_nobody_signed_in(site: Site):
    """As a failed response does (P14, E1)."""
    gate = Gate()

    @site.page("/waits")
    async def waits(call):
        await call.session.sign_in("alice")
        await gate.pass_through()

    browser = site.browser()
    await browser.post("/set?cart=book")
    before = browser.jar.snapshot()
    pending = browser.begin_post("/waits")
    await gate.reached()
    pending.task.cancel()
    gate.open()
    await asyncio.gather(pending.task, return_exceptions=True)
    await nobody_was_signed_in(site, browser, before)


async def nobody_was_signed_in(site: Site, browser: Browser, before: Any) -> None:
    """The jar, the cart and the store are as they were."""
    assert browser.jar.snapshot() == before
    told = (await browser.goto("/")).json
    assert told["subject"] is None
    assert told["data"] == {"cart": "book"}
    assert await site.manager.sessions_of("alice") == []
    assert site.only(SessionEndedEvent).reason == "aborted_response"


@pytest.mark.needs("cancel")
async def test_a_sign_in_that_is_cancelled_within_the_store_leaves_no_session(site: Site):
    """The insert was handed over and is carried out; its session is ended all the same (E1)."""
    stored = asyncio.Event()

    async def stop_here(*_: object) -> None:
        stored.set()
        await asyncio.sleep(3600)

    site.store.after["insert"] = stop_here
    browser = site.browser()
    pending = browser.begin_post("/sign-in", {"subject": "alice"})
    await stored.wait()
    site.store.after.clear()
    pending.task.cancel()
    await asyncio.wait([pending.task], timeout=0.2)
    await asyncio.gather(pending.task, return_exceptions=True)
    assert await site.manager.sessions_of("alice") == []
    assert await site.who(browser) is None


@pytest.mark.everywhere
@pytest.mark.parametrize("how", ["exception", "500"])
async def test_signing_out_holds_whatever_the_response(site: Site, how: str):
    """The session is over on the server; the cookie goes when a response of ours is sent (P14)."""

    @site.page("/fails")
    async def fails(call):
        await call.session.sign_out()
        if how == "exception":
            raise RuntimeError("a bug")
        return Reply(status=500)

    alice = await site.signed_in()
    stolen = alice.jar.snapshot()
    response = await alice.post("/fails")
    assert response.status == 500
    if how == "500":
        assert site.token(alice) is None
        assert response.header("clear-site-data") == '"storage"'
    alice.jar.restore(stolen)
    assert await site.who(alice) is None


async def test_what_a_failed_response_wrote_is_not_saved(site: Site):
    """A response of 500 did not work, so its data is not kept (P14)."""

    @site.page("/fails")
    async def fails(call):
        call.session["paid"] = True
        return Reply(status=500)

    alice = await site.signed_in()
    await alice.post("/fails")
    assert await site.data(alice) == {}


async def test_signing_out_in_the_same_request_after_signing_in(site: Site):
    """The last word counts, in either order (P14, TRAPS 9)."""

    @site.page("/in-out")
    async def in_out(call):
        await call.session.sign_in("alice")
        await call.session.sign_out()

    @site.page("/out-in")
    async def out_in(call):
        await call.session.sign_out()
        await call.session.sign_in("bob")

    browser = site.browser()
    await browser.post("/set?cart=book")
    await browser.post("/in-out")
    assert site.token(browser) is None
    assert await site.manager.sessions_of("alice") == []
    await site.sign_in(browser, "alice")
    await browser.post("/out-in")
    assert await site.who(browser) == "bob"
    assert await site.manager.sessions_of("alice") == []


# P15: order.


@pytest.mark.everywhere
async def test_sign_out_everywhere_between_check_and_sign_in_wins(site: Site):
    """Credentials that were checked before it cannot create a session after it (P15, E2)."""
    gate = Gate()

    @site.page("/slow-sign-in")
    async def slow(call):
        async with call.session.authenticating("alice"):
            await gate.pass_through()
            await call.session.sign_in("alice")

    attacker = site.browser()
    alice = await site.signed_in()
    pending = attacker.begin_fetch("/slow-sign-in", "POST")
    await gate.reached()
    assert (await alice.post("/sign-out-everywhere")).json == 1
    gate.open()
    response = await pending.response()
    assert response.status == 409
    assert response.json["code"] == "sign_in_overtaken"
    assert await site.manager.sessions_of("alice") == []
    assert site.only(LoginFailed).subject == "alice"


async def test_a_pending_sign_in_does_not_outlive_sign_out_everywhere(site: Site):
    """The second factor completes nothing whose first factor came before it (P15)."""
    gate = Gate()

    @site.page("/second")
    async def second(call):
        await gate.pass_through()
        await call.session.sign_in("alice", amr="otp")

    attacker = site.browser()
    await site.sign_in(attacker, "alice", pending="1")
    alice = await site.signed_in()
    pending = attacker.begin_fetch("/second", "POST")
    await gate.reached()
    await alice.post("/sign-out-everywhere")
    gate.open()
    assert (await pending.response()).status == 409
    told = (await attacker.goto("/")).json
    assert told["subject"] is None
    assert told["pending"] is None
    assert await site.manager.sessions_of("alice") == []


async def test_an_attempt_of_more_than_an_hour_is_refused(site: Site):
    """Epochs are not kept for ever, so an attempt has an end (P15)."""

    @site.page("/slow-sign-in")
    async def slow(call):
        async with call.session.authenticating("alice"):
            site.clock.advance(HOUR + 1)
            await call.session.sign_in("alice")

    assert (await site.browser().fetch("/slow-sign-in", "POST")).status == 409


async def test_a_failed_check_is_recorded(site: Site):
    """`authenticating` tells a failure by itself, also where no such account exists (P15)."""

    @site.page("/nobody")
    async def nobody(call):
        async with call.session.authenticating(None):
            pass

    browser = site.browser()
    await browser.post("/sign-in", {"subject": "alice", "password": "wrong"})
    await browser.post("/nobody")
    known, unknown = site.told(LoginFailed)
    assert (known.subject, unknown.subject) == ("alice", None)
    assert known.address == "203.0.113.7"
    assert [each["event"] for each in await site.manager.history("alice")] == ["authn_login_fail"]


async def test_everybody_can_be_signed_out_in_one_write(site: Site):
    """The store-wide epoch ends sessions of all kinds, and pending sign-ins (E3)."""
    alice, bob = await site.signed_in("alice"), await site.signed_in("bob")
    half = site.browser()
    await site.sign_in(half, "carol", pending="1")
    shopper = site.browser()
    await shopper.post("/set?cart=book")
    await site.manager.end_everybody(by="operator")
    for browser in (alice, bob, shopper):
        told = (await browser.goto("/")).json
        assert (told["subject"], told["data"]) == (None, {})
    assert (await half.goto("/")).json["pending"] is None


# P17: reasons.


@pytest.mark.everywhere
async def test_every_end_has_its_reason_in_list_and_history(site: Site):
    """The owner sees how each session ended, and when (P17)."""
    reasons = {}

    async def ends(name: str, how) -> None:
        browser = await site.signed_in()
        reasons[(await browser.goto("/")).json["id"]] = name
        await how(browser)

    async def forgotten(browser) -> None:
        site.clock.advance(31 * MINUTE)
        await browser.goto("/")

    async def superseded(browser) -> None:
        await site.sign_in(browser)
        await browser.post("/sign-out")

    await ends("idle_timeout", forgotten)
    await ends("logout", lambda browser: browser.post("/sign-out"))
    await ends("revoked_by_operator", lambda _: site.manager.end_all_of("alice", by="root"))
    await ends("superseded_by_sign_in", superseded)
    await ends("account_disabled", lambda _: site.manager.account_disabled("alice"))
    await ends("signed_out_everywhere", lambda browser: browser.post("/sign-out-everywhere"))
    await ends("credential_changed", lambda _: site.manager.credentials_changed("alice"))
    alice = await site.signed_in()
    listed = {each["id"]: each["reason"] for each in (await alice.goto("/sessions?all=1")).json}
    assert {key: listed[key] for key in reasons} == reasons
    told = {each.get("reason") for each in (await alice.goto("/history")).json}
    assert set(reasons.values()) - {"logout"} <= told
