"""Signing in starts anew, elevation rotates at once, nothing planted survives (P10, D2, F2)."""

from __future__ import annotations

import base64

import pytest

from strongroom import SessionPolicy
from strongroom.core.csrf_rules import CsrfRules
from strongroom.core.errors import SessionReadOnly, UsageError
from strongroom.core.events import (
    LoginSuccess,
    SessionEndedEvent,
    SessionRenewed,
    SteppedUp,
    TokenRefused,
)
from strongroom.core.policy import ATTEMPT_MAX
from tests.support.browser import Gate
from tests.support.site import HOUR, MINUTE, MakeSite, Site

pytestmark = pytest.mark.anyio


def session_id(token: str | None) -> bytes:
    """The session id inside a token."""
    assert token is not None
    return base64.urlsafe_b64decode(token)[7:23]


@pytest.mark.everywhere
async def test_a_planted_anonymous_session_is_worth_nothing_after_sign_in(site: Site):
    """Fixation: the attacker's own session in the victim's browser (P10)."""
    attacker = site.browser()
    await attacker.post("/set?planted=1")
    planted = attacker.jar.snapshot()
    victim = site.browser()
    victim.jar.restore(planted)
    await site.sign_in(victim, "alice")
    assert session_id(site.token(victim)) != session_id(site.token(attacker))
    told = (await attacker.goto("/")).json
    assert (told["subject"], told["data"]) == (None, {})
    assert await site.data(victim) == {}


async def test_a_planted_signed_in_session_is_ended_by_the_victims_sign_in(site: Site):
    """Login CSRF by a planted cookie: nothing of it reaches the victim's session (P10)."""
    attacker = await site.signed_in("mallory")
    await attacker.post("/set?address=evil")
    victim = site.browser()
    victim.jar.restore(attacker.jar.snapshot())
    await site.sign_in(victim, "alice")
    assert await site.data(victim) == {}
    assert await site.who(attacker) is None


async def test_signing_in_again_as_the_same_subject_starts_anew(site: Site):
    """New id, new token, both clocks anew; the old one is dead (P10, E7, TRAPS 10)."""
    alice = await site.signed_in()
    await alice.post("/set?cart=book")
    before, old = alice.jar.snapshot(), site.token(alice)
    site.clock.advance(20 * MINUTE)
    await site.sign_in(alice, "alice")
    assert session_id(site.token(alice)) != session_id(old)
    assert await site.data(alice) == {}
    thief = site.browser()
    thief.jar.restore(before)
    assert await site.who(thief) is None
    assert len(await site.manager.sessions_of("alice")) == 1
    assert site.only(SessionEndedEvent).reason == "superseded_by_sign_in"


async def test_only_named_keys_are_carried_over_from_a_visitor(new_site: MakeSite):
    """And none from somebody else's signed-in session (P10)."""
    site = await new_site(policy=SessionPolicy(carry_over=("cart", "absent")))
    browser = site.browser()
    await browser.post("/set?cart=book&planted=1")
    await site.sign_in(browser, "alice")
    assert await site.data(browser) == {"cart": "book"}
    await site.sign_in(browser, "bob")
    assert await site.data(browser) == {}


@pytest.mark.everywhere
async def test_elevation_kills_the_old_token_at_once(site: Site):
    """A thief who has the cookie from before is out, quietly, and nobody is alarmed (P10, D2)."""
    alice = await site.signed_in()
    thief = site.browser()
    thief.jar.restore(alice.jar.snapshot())
    old = session_id(site.token(alice))
    assert (await alice.post("/elevate")).status == 200
    assert session_id(site.token(alice)) == old
    response = await thief.goto("/")
    assert response.json["subject"] is None
    assert response.cookies == []
    assert await site.who(alice) == "alice"
    assert site.only(SessionRenewed).how == "rotation"
    assert site.only(SteppedUp).factors == ("otp",)


async def test_after_an_elevation_an_old_token_ends_nothing(site: Site):
    """Rotated away, later: a signal, no verdict on the session (D)."""
    alice = await site.signed_in()
    thief = site.browser()
    thief.jar.restore(alice.jar.snapshot())
    await alice.post("/elevate")
    await site.use_until_confirmed(alice)
    site.clock.advance(MINUTE)
    response = await thief.goto("/")
    assert response.json["subject"] is None
    assert response.cookies == []
    assert site.only(TokenRefused).reason == "rotated_away"
    assert await site.who(alice) == "alice"


async def test_two_elevations_at_once_leave_one_token(site: Site):
    """The second rotation finds its own token dead, and says so (D2)."""
    gate = Gate()

    @site.page("/slow")
    async def slow(call):
        await gate.pass_through()
        await call.session.elevate(amr="otp")

    alice = await site.signed_in()
    both = [alice.begin_fetch("/slow", "POST"), alice.begin_fetch("/slow", "POST")]
    await gate.reached(2)
    gate.open()
    assert sorted([(await each.response()).status for each in both]) == [200, 401]
    assert await site.who(alice) == "alice"


async def test_a_lost_elevation_costs_a_sign_in_that_ends_the_orphan(site: Site):
    """No alarm, no cookie touched, and one session in the end (D2)."""
    alice = await site.signed_in()
    pending = alice.begin_post("/elevate").lose()
    await pending.response()
    response = await alice.goto("/")
    assert response.json["subject"] is None
    assert response.cookies == []
    await site.sign_in(alice, "alice")
    assert await site.who(alice) == "alice"
    assert len(await site.manager.sessions_of("alice")) == 1
    assert site.told(TokenRefused) == []


async def test_somebody_elses_orphan_is_left_alone(site: Site):
    """A planted retired token ends nobody's session when its victim signs in (D2)."""
    alice = await site.signed_in("alice")
    stale = alice.jar.snapshot()
    await alice.post("/elevate")
    bob = site.browser()
    bob.jar.restore(stale)
    await site.sign_in(bob, "bob")
    assert await site.who(alice) == "alice"
    assert await site.who(bob) == "bob"


@pytest.mark.everywhere
async def test_a_pending_session_shows_its_pending_subject_only(site: Site):
    """Not signed in, not listed, short-lived, and completed by a second factor (C5)."""
    browser = site.browser()
    await site.sign_in(browser, "alice", pending="1")
    told = (await browser.goto("/")).json
    assert (told["subject"], told["pending"]) == (None, "alice")
    assert await site.manager.sessions_of("alice") == []
    assert (await browser.fetch("/sessions")).status == 401
    assert (await browser.fetch("/elevate", "POST")).status == 401
    await browser.post("/set?next=there")
    half = browser.jar.snapshot()
    await site.sign_in(browser, "alice", amr="otp")
    told = (await browser.goto("/")).json
    assert (told["subject"], told["pending"]) == ("alice", None)
    assert told["data"] == {"next": "there"}
    (listed,) = await site.manager.sessions_of("alice")
    assert listed.factors == ("pwd", "otp")
    thief = site.browser()
    thief.jar.restore(half)
    assert (await thief.goto("/")).json["pending"] is None


async def test_a_pending_session_has_clocks_of_its_own(site: Site):
    """Five idle minutes, ten in all, activity or not (C5)."""
    browser = site.browser()
    await site.sign_in(browser, "alice", pending="1")
    for _ in range(3):
        site.clock.advance(3 * MINUTE)
        assert (await browser.goto("/")).json["pending"] == "alice"
    site.clock.advance(MINUTE)
    assert (await browser.goto("/")).json["pending"] is None


async def test_a_second_factor_for_another_account_does_not_complete_the_first(site: Site):
    """Bob's second factor makes a session of Bob's, without Alice's password (C5)."""
    browser = site.browser()
    await site.sign_in(browser, "alice", pending="1")
    await browser.post("/set?next=there")
    await site.sign_in(browser, "bob", amr="otp")
    assert await site.who(browser) == "bob"
    (listed,) = await site.manager.sessions_of("bob")
    assert listed.factors == ("otp",)
    assert await site.data(browser) == {}


async def test_sign_in_without_a_factor_is_a_mistake(site: Site):
    """A session whose sign-in proved nothing would count as authenticated (P25)."""

    @site.page("/nothing-proved")
    async def nothing_proved(call):
        with pytest.raises(UsageError):
            await call.session.sign_in("alice", amr=())

    assert (await site.browser().post("/nothing-proved")).status == 200


@pytest.mark.parametrize("subject", ["", "x" * 513, 7, None, b"alice"], ids=lambda s: repr(s)[:9])
async def test_subjects_are_text(site: Site, subject):
    """A number would be another account in the index (P10)."""

    @site.page("/odd")
    async def odd(call):
        with pytest.raises(UsageError):
            await call.session.sign_in(subject)

    assert (await site.browser().post("/odd")).status == 200


async def test_any_text_is_a_subject(site: Site):
    """Non-ASCII, quotes, line breaks, and what looks like another id, each its own account."""
    for subject in ("æøå", "a\nb", "a'; drop table", "\x00", "ALICE", "alice ", "𝒶" * 512):
        browser = await site.signed_in(subject)
        assert (await browser.goto("/")).json["subject"] == subject.replace("\r\n", "\n")
        assert len(await site.manager.sessions_of(subject)) == 1


# F2: a cookie that stayed at home.


async def test_a_cross_site_callback_cannot_replace_a_session_it_cannot_see(new_site: MakeSite):
    """Writing and signing in raise an error that names `start_new`; no cookie is set (F2, P13)."""
    rules = CsrfRules(exempt=("/callback", "/callback-sign-in", "/callback-new"))
    site = await new_site(policy=SessionPolicy(csrf=rules))
    errors: list[SessionReadOnly] = []

    @site.page("/callback")
    async def callback(call):
        assert call.session.subject is None
        with pytest.raises(SessionReadOnly) as caught:
            call.session["state"] = "x"
        errors.append(caught.value)

    @site.page("/callback-sign-in")
    async def callback_sign_in(call):
        with pytest.raises(SessionReadOnly) as caught:
            await call.session.sign_in("mallory")
        errors.append(caught.value)

    @site.page("/callback-new")
    async def callback_new(call):
        call.session.start_new()
        await call.session.sign_in("bob")

    alice = await site.signed_in()
    before = alice.jar.snapshot()
    site.store.reset()
    for path in ("/callback", "/callback-sign-in"):
        response = await alice.post(path, source="https://idp.example.net")
        assert response.status == 200, response.error
        assert response.cookies == []
    assert [("start_new()" in str(each)) for each in errors] == [True, True]
    assert site.store.written == {}
    assert alice.jar.snapshot() == before
    assert await site.who(alice) == "alice"
    await alice.post("/callback-new", source="https://idp.example.net")
    assert await site.who(alice) == "bob"


async def test_a_cross_site_sign_out_form_signs_nobody_out(site: Site):
    """The cookie stays at home and the request is refused; the session goes on (P13, P19)."""
    alice = await site.signed_in()
    response = await alice.post("/sign-out", source="https://evil.example.net")
    assert response.status == 403
    assert response.cookies == []
    assert await site.who(alice) == "alice"


async def test_an_image_on_another_site_changes_nothing(site: Site):
    """A subresource request without our cookie neither signs out nor replaces (P13)."""
    alice = await site.signed_in()
    before = alice.jar.snapshot()
    pending = alice.request(
        "GET", "/set?cart=evil", mode="no-cors", dest="image", source="https://evil.example.net"
    )
    response = await pending.response()
    assert response.cookies == []
    assert alice.jar.snapshot() == before
    assert await site.data(alice) == {}


async def test_a_refused_second_sign_in_in_one_request_leaves_nobody_signed_in(site: Site):
    """What fails is the whole response, not only its second half (P14)."""
    gate = Gate()

    @site.page("/two")
    async def two(call):
        await call.session.sign_in("alice")
        async with call.session.authenticating("bob"):
            await gate.pass_through()
            await call.session.sign_in("bob")

    browser = site.browser()
    pending = browser.begin_fetch("/two", "POST")
    await gate.reached()
    await site.manager.end_all_of("bob")
    gate.open()
    assert (await pending.response()).status == 409
    assert await site.who(browser) is None
    assert await site.manager.sessions_of("alice") == []


async def test_events_tell_a_sign_in_once(site: Site):
    """Who, when, from where, with which factors (OWASP authn_login_success)."""
    await site.signed_in("alice")
    event = site.only(LoginSuccess)
    assert (event.subject, event.factors, event.address) == ("alice", ("pwd",), "203.0.113.7")
    assert event.at == site.clock()
    assert ATTEMPT_MAX.total_seconds() * 1000 == HOUR
