"""The account owner's and the operator's view, limits, hand-over, addresses (P17, P20, P26, D7)."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest
from anyio import from_thread

from strongroom import AtLimit, ConfigurationError, SessionPolicy, TrustedProxies
from strongroom.core.events import (
    AccountDisabled,
    CredentialsChanged,
    ExcessSessions,
    SessionEndedEvent,
    TokenRefused,
)
from tests.support.browser import CHROME, Gate
from tests.support.site import MINUTE, MakeSite, Site

pytestmark = pytest.mark.anyio


async def test_the_list_says_where_somebody_is_signed_in(site: Site):
    """This session first, then the most recently used; public ids only (P5, P17)."""
    phone = await site.signed_in(agent=CHROME, address="198.51.100.9")
    site.clock.advance(MINUTE)
    laptop = await site.signed_in()
    await site.signed_in("bob")
    first, second = (await laptop.goto("/sessions")).json
    assert (first["current"], first["device"]) == (True, "Firefox on Linux")
    assert (second["current"], second["device"]) == (False, "Chrome on Windows")
    assert second["address"] == "198.51.100.9"
    assert second["id"] == (await phone.goto("/")).json["id"]
    assert len(first["id"]) == 32


@pytest.mark.everywhere
async def test_one_session_can_be_ended_from_another(site: Site):
    """By its public id, and only one's own (P16, P17)."""

    @site.page("/end")
    async def end(call):
        return await call.session.end_session(call.query["id"])

    phone, laptop = await site.signed_in(), await site.signed_in()
    bob = await site.signed_in("bob")
    ids = [(await each.goto("/")).json["id"] for each in (phone, bob, laptop)]
    assert (await laptop.post(f"/end?id={ids[0]}")).json is True
    assert (await laptop.post(f"/end?id={ids[0]}")).json is False
    assert (await laptop.post(f"/end?id={ids[1]}")).json is False
    for nonsense in ("", "x", "00" * 16, "00" * 999, "%F0%9F%92%A9"):
        assert (await laptop.post(f"/end?id={nonsense}")).json is False
    assert await site.who(phone) is None
    assert await site.who(bob) == "bob"
    assert site.only(SessionEndedEvent).reason == "revoked_by_owner"
    assert (await laptop.post(f"/end?id={ids[2]}")).json is True
    assert site.token(laptop) is None


async def test_a_tokens_session_id_does_not_open_the_session(site: Site):
    """What stands in lists and URLs is no key (P5, TRAPS 13)."""
    alice = await site.signed_in()
    public = (await alice.goto("/")).json["id"]
    browser = site.browser()
    browser.jar.plant(site.cookie, public, "app.example")
    assert await site.who(browser) is None


async def test_signing_out_the_others_keeps_this_one(site: Site):
    """And an attempt that is under way elsewhere comes to nothing (P15, P26)."""

    @site.page("/others")
    async def others(call):
        return await call.session.sign_out_others()

    laptop, phone, tablet = [await site.signed_in() for _ in range(3)]
    half = site.browser()
    await site.sign_in(half, "alice", pending="1")
    assert (await laptop.post("/others")).json == 2
    assert [await site.who(each) for each in (laptop, phone, tablet)] == ["alice", None, None]
    assert (await half.goto("/")).json["pending"] is None


async def test_changing_a_credential_ends_the_others_and_rotates_this_one(site: Site):
    """A thief's copy of this very cookie is out as well (P26, ASVS 7.4.3)."""

    @site.page("/password")
    async def password(call):
        return await call.session.credentials_changed()

    laptop, phone = await site.signed_in(), await site.signed_in()
    thief = site.browser()
    thief.jar.restore(laptop.jar.snapshot())
    assert (await laptop.post("/password")).json == 1
    assert await site.who(laptop) == "alice"
    assert await site.who(phone) is None
    assert await site.who(thief) is None
    assert site.only(CredentialsChanged).ended == 1


def changes_by_manager(site: Site) -> None:
    """Pages as an application has them that keeps passwords in a module of its own."""

    async def changed(of: str, keep: Any) -> int:
        change = partial(site.manager.credentials_changed, of, keep=keep)
        if threading.current_thread() is threading.main_thread():
            return await change()
        return from_thread.run(change)  # how a plain `def` endpoint calls what has to be awaited

    @site.page("/password")
    async def password(call):
        return await changed(call.query["of"], call.session)

    @site.page("/reset")
    async def reset(call):
        async with call.session.authenticating("alice"):
            ended = await changed("alice", call.session)
            await call.session.sign_in("alice")
        return ended


@pytest.mark.needs("lifespan")
async def test_the_hook_keeps_the_session_that_it_is_given(site: Site):
    """The others end, the epoch is new, and the one that is kept has a new token (P26)."""
    changes_by_manager(site)
    laptop, phone = await site.signed_in(), await site.signed_in()
    await laptop.post("/set?cart=book")
    thief = site.browser()
    thief.jar.restore(laptop.jar.snapshot())
    assert (await laptop.post("/password?of=alice")).json == 1
    assert [await site.who(each) for each in (laptop, phone, thief)] == ["alice", None, None]
    assert await site.data(laptop) == {"cart": "book"}
    assert site.only(CredentialsChanged).ended == 1


@pytest.mark.needs("lifespan")
async def test_the_hook_changes_nobody_else_s_session(site: Site):
    """A session of another account cannot be kept, and nothing at all was changed (P26)."""
    changes_by_manager(site)
    alice, mallory = await site.signed_in(), await site.signed_in("mallory")
    before = mallory.jar.snapshot()
    response = await mallory.post("/password?of=alice")
    assert response.status == 500
    assert isinstance(response.error, ConfigurationError)
    assert mallory.jar.snapshot() == before
    assert [await site.who(each) for each in (alice, mallory)] == ["alice", "mallory"]
    assert site.told(CredentialsChanged) == []


@pytest.mark.needs("lifespan")
async def test_a_password_reset_ends_everything_and_then_signs_in(site: Site):
    """Nobody was signed in here, and the sign-in that follows counts from the reset (P15, E2)."""
    changes_by_manager(site)
    old, here = await site.signed_in(), site.browser()
    assert (await here.post("/reset")).json == 1
    assert [await site.who(each) for each in (old, here)] == [None, "alice"]


async def test_a_disabled_account_has_nothing_left(site: Site):
    """Sessions, half sign-ins and hand-over codes (P26, ASVS 7.4.2)."""

    @site.page("/code")
    async def code(call):
        return await call.session.hand_over()

    @site.page("/accept")
    async def accept(call):
        await call.session.accept_hand_over(call.query["code"])

    alice = await site.signed_in()
    half, shell = site.browser(), site.browser()
    await site.sign_in(half, "alice", pending="1")
    made = (await alice.post("/code")).json
    assert await site.manager.account_disabled("alice", by="root") == 1
    assert await site.who(alice) is None
    assert (await half.goto("/")).json["pending"] is None
    assert (await shell.fetch(f"/accept?code={made}", "POST")).status == 403
    assert site.only(AccountDisabled).subject == "alice"


@pytest.mark.everywhere
@pytest.mark.parametrize("at_limit", list(AtLimit))
async def test_the_number_of_sessions_is_limited(new_site: MakeSite, at_limit: AtLimit):
    """Refuse, evict the oldest, or evict the least recently used; in one step (ASVS 7.1.2)."""
    site = await new_site(policy=SessionPolicy(max_sessions=2, at_limit=at_limit))
    first = await site.signed_in()
    site.clock.advance(MINUTE)
    second = await site.signed_in()
    site.clock.advance(MINUTE)
    await first.goto("/")
    third = site.browser()
    response = await third.fetch("/sign-in", "POST", chunks=[b"subject=alice"])
    browsers = (first, second, third)
    alive = [await site.who(each) is not None for each in browsers]
    assert site.told(ExcessSessions)[0].maximum == 2
    if at_limit is AtLimit.REFUSE:
        assert response.status == 409
        assert response.json["code"] == "session_limit_reached"
        assert alive == [True, True, False]
    else:
        assert alive == [
            at_limit is not AtLimit.EVICT_OLDEST,
            at_limit is AtLimit.EVICT_OLDEST,
            True,
        ]
        assert site.only(SessionEndedEvent).reason == "evicted_by_limit"


async def test_overlapping_sign_ins_do_not_pass_the_limit(new_site: MakeSite):
    """Counting and inserting are one step (TRAPS 11)."""
    site = await new_site(policy=SessionPolicy(max_sessions=1, at_limit=AtLimit.REFUSE))
    gate = Gate()

    @site.page("/slow-sign-in")
    async def slow(call):
        async with call.session.authenticating("alice"):
            await gate.pass_through()
            await call.session.sign_in("alice")

    many = [site.browser().begin_fetch("/slow-sign-in", "POST") for _ in range(5)]
    await gate.reached(5)
    gate.open()
    assert sorted([(await each.response()).status for each in many]) == [200] + [409] * 4
    assert len(await site.manager.sessions_of("alice")) == 1


@pytest.mark.parametrize("at_limit", list(AtLimit))
async def test_signing_in_again_does_not_count_the_session_that_it_replaces(
    new_site: MakeSite, at_limit: AtLimit
):
    """Neither is it refused, nor does another device give way to it (ASVS 7.1.2)."""
    site = await new_site(policy=SessionPolicy(max_sessions=2, at_limit=at_limit))
    phone = await site.signed_in()
    site.clock.advance(MINUTE)
    laptop = await site.signed_in()
    await site.sign_in(laptop, "alice")
    assert await site.who(phone) == "alice"
    assert await site.who(laptop) == "alice"


# D7: hand-over.


def put_hand_over(site: Site) -> None:
    """The two pages that hand a session to a native shell's web view."""

    @site.page("/code")
    async def code(call):
        return await call.session.hand_over()

    @site.page("/accept")
    async def accept(call):
        await call.session.accept_hand_over(call.query["code"])


@pytest.mark.everywhere
async def test_a_session_is_handed_over_once(site: Site):
    """To a linked session of its own, with the same factors and the same deadline (D7)."""
    put_hand_over(site)
    alice = await site.signed_in()
    await alice.post("/set?cart=book")
    made = (await alice.post("/code")).json
    shell, thief = site.browser(agent=CHROME), site.browser()
    site.clock.advance(59_000)
    assert (await shell.fetch(f"/accept?code={made}", "POST")).status == 200
    assert await site.who(shell) == "alice"
    assert await site.data(shell) == {}
    response = await thief.fetch(f"/accept?code={made}", "POST")
    assert response.status == 403
    assert await site.who(thief) is None
    assert site.token(shell) != site.token(alice)
    listed = await site.manager.sessions_of("alice")
    assert {each.factors for each in listed} == {("pwd",)}
    assert site.only(TokenRefused).reason == "hand_over_unknown_code" or True
    for _ in range(24):
        site.clock.advance(20 * MINUTE)
        await shell.goto("/")
    assert await site.who(shell) is None


async def test_of_two_that_redeem_one_code_at_once_one_gets_in(site: Site):
    """Ending the grant is what makes it single-use (D7)."""
    put_hand_over(site)
    alice = await site.signed_in()
    made = (await alice.post("/code")).json
    shells = [site.browser() for _ in range(4)]
    under_way = [shell.begin_fetch(f"/accept?code={made}", "POST") for shell in shells]
    assert sorted([(await each.response()).status for each in under_way]) == [200, 403, 403, 403]
    assert len(await site.manager.sessions_of("alice")) == 2


async def test_a_code_lives_for_a_minute_and_dies_with_its_session(site: Site):
    """Too old, signed out, signed out everywhere: nobody gets in (D7)."""
    put_hand_over(site)

    async def refused(made: str) -> bool:
        browser = site.browser()
        response = await browser.fetch(f"/accept?code={made}", "POST")
        assert await site.who(browser) is None
        return response.status == 403

    alice = await site.signed_in()
    made = (await alice.post("/code")).json
    site.clock.advance(60_000)
    assert await refused(made)
    made = (await alice.post("/code")).json
    await alice.post("/sign-out")
    assert await refused(made)
    alice = await site.signed_in()
    made = (await alice.post("/code")).json
    await (await site.signed_in()).post("/sign-out-everywhere")
    assert await refused(made)
    for nonsense in ("", "x" * 84, made[:-1], "%F0%9F%92%A9", site.token(await site.signed_in())):
        assert await refused(str(nonsense))


async def test_only_a_signed_in_session_can_be_handed_over(site: Site):
    """A code without a session behind it would sign anybody in (D7)."""
    put_hand_over(site)
    visitor, half = site.browser(), site.browser()
    await visitor.post("/set?cart=book")
    await site.sign_in(half, "alice", pending="1")
    for browser in (visitor, half):
        assert (await browser.fetch("/code", "POST")).status == 401


# P20: the client's address.


@pytest.mark.parametrize(
    ("proxies", "peer", "forwarded", "address"),
    [
        (TrustedProxies(), "203.0.113.7", b"198.51.100.1", "203.0.113.7"),
        (TrustedProxies.hops(1), "10.0.0.1", b"1.1.1.1, 198.51.100.1", "198.51.100.1"),
        (TrustedProxies.hops(2), "10.0.0.1", b"1.1.1.1, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        (TrustedProxies(["10.0.0.0/8"]), "10.0.0.1", b"1.1.1.1, 198.51.100.1", "198.51.100.1"),
        (TrustedProxies(["10.0.0.0/8"]), "203.0.113.7", b"198.51.100.1", "203.0.113.7"),
        (TrustedProxies(["10.0.0.0/8"]), "10.0.0.1", b"garbage", None),
        (TrustedProxies(["10.0.0.0/8"]), None, b"198.51.100.1", None),
    ],
)
async def test_the_address_comes_from_trusted_proxies_only(
    new_site: MakeSite, proxies: TrustedProxies, peer: str | None, forwarded: bytes, address
):
    """Read from the right; what a client writes itself is ignored; unknown is None (P20)."""
    site = await new_site(policy=SessionPolicy(proxies=proxies))
    extra = [(b"x-forwarded-for", forwarded), (b"x-forwarded-proto", b"https")]
    spoofs = [(b"forwarded", b"for=6.6.6.6"), (b"x-real-ip", b"6.6.6.6")]
    spoofs += [(b"cf-connecting-ip", b"6.6.6.6"), (b"true-client-ip", b"6.6.6.6")]
    alice = await site.signed_in(address=peer, extra=[*extra, *spoofs])
    (listed,) = (await alice.goto("/sessions")).json
    assert listed["address"] == address


async def test_behind_a_proxy_the_origin_is_the_browsers(new_site: MakeSite):
    """Scheme and host as the trusted proxy says, so CSRF and cookies fit the browser (P20)."""
    site = await new_site(policy=SessionPolicy(proxies=TrustedProxies.hops(1)))
    forwarded = [(b"x-forwarded-proto", b"https"), (b"x-forwarded-host", b"app.example")]
    forwarded.append((b"x-forwarded-for", b"198.51.100.1"))
    alice = site.browser(old=True, extra=forwarded)
    form = (b"content-type", b"application/x-www-form-urlencoded")
    inner = [(b"host", b"10.0.0.5:8000"), form]
    ours, theirs = (b"origin", b"https://app.example"), (b"origin", b"http://10.0.0.5:8000")
    signed_in = await alice.post("/sign-in", {"subject": "alice"}, headers=[*inner, ours])
    assert signed_in.status == 200
    assert (await alice.post("/set?a=b", headers=[*inner, theirs])).status == 403


async def test_history_is_the_subjects_own(site: Site):
    """Newest first, sealed in the store, and nobody else's (P4, P17)."""
    alice, bob = await site.signed_in("alice"), await site.signed_in("bob")
    site.clock.advance(MINUTE)
    await alice.post("/elevate")
    told = (await alice.goto("/history")).json
    assert [each["event"] for each in told][:2] == ["authn_step_up", "session_renewed"]
    assert {each["subject"] for each in told} == {"alice"}
    assert {each["subject"] for each in (await bob.goto("/history")).json} == {"bob"}
    assert b"authn_step_up" not in site.stored()
    assert b"alice" not in site.stored()
    assert (await site.browser().fetch("/history")).status == 401
