"""Renewal survives real browsers; what no honest browser would do is found (P11, P12, D)."""

from __future__ import annotations

import base64

import pytest

from strongroom import SessionPolicy
from strongroom.core.events import SessionRenewed, TokenRefused, TokenReuse, TwoPlaces
from strongroom.core.policy import Routes
from tests.support.browser import CHROME, Browser, Gate
from tests.support.site import MINUTE, MakeSite, Site

pytestmark = pytest.mark.anyio


async def due(site: Site) -> Browser:
    """A browser whose next request renews its token."""
    alice = await site.signed_in()
    await site.use_until_confirmed(alice)
    site.clock.advance(15 * MINUTE)
    return alice


async def confirm(site: Site, browser: Browser) -> None:
    """Use the new token until the old one is retired, and grace is over."""
    await site.use_until_confirmed(browser)
    assert await site.who(browser) == "alice"


async def test_a_token_is_renewed_when_its_time_has_come(site: Site):
    """Same session, new token, one cookie; nobody notices (P11)."""
    alice = await due(site)
    before, old = (await alice.goto("/nothing")).cookies, None
    assert len(before) == 1
    old = site.token(alice)
    assert old is not None
    told = (await alice.goto("/")).json
    assert told["subject"] == "alice"
    assert base64.urlsafe_b64decode(old)[7:23].hex() == told["id"]
    assert site.only(SessionRenewed).how == "renewal"


async def test_data_opens_with_every_renewed_token(site: Site):
    """The root stays, so data needs no writing when the token changes (P4, P8)."""
    alice = await site.signed_in()
    await alice.post("/set?cart=book")
    site.store.reset()
    for _ in range(3):
        await site.use_until_confirmed(alice)
        site.clock.advance(15 * MINUTE)
        assert await site.data(alice) == {"cart": "book"}
    assert len(site.told(SessionRenewed)) == 3
    assert site.store.counts["replace"] == 0


@pytest.mark.everywhere
async def test_parallel_requests_get_the_same_successor(site: Site):
    """A page and its twelve requests, all with the old token (P11)."""
    alice = await due(site)
    old = alice.jar.snapshot()
    gate = Gate()

    @site.page("/part")
    async def part(call):
        await gate.pass_through()
        return call.session.subject

    many = [alice.begin_fetch("/part") for _ in range(12)]
    await gate.reached(12)
    gate.open()
    lines = []
    for each in many:
        response = await each.response()
        assert response.json == "alice"
        lines += response.cookies
    assert len(lines) == 12
    assert len(set(lines)) == 1
    late = site.browser()
    late.jar.restore(old)
    assert await site.who(late) == "alice"
    assert site.token(late) == site.token(alice)
    assert len(site.told(SessionRenewed)) == 1


async def test_a_lost_response_costs_nothing(site: Site):
    """The old token goes on, and hands out the same successor until it is confirmed (P11)."""
    alice = await due(site)
    await alice.begin("/").lose().response()
    old = site.token(alice)
    for _ in range(3):
        site.clock.advance(2 * MINUTE)
        lost = await alice.begin("/").lose().response()
        assert lost.json["subject"] == "alice"
        assert len(lost.cookies) == 1
    assert site.token(alice) == old
    assert await site.who(alice) == "alice"
    assert site.token(alice) != old
    await confirm(site, alice)
    assert await site.who(alice) == "alice"
    assert site.told(TokenReuse) == []


async def test_a_slow_response_does_not_bring_an_older_cookie(site: Site):
    """Opened before the renewal, ended after it: it carries the newest cookie (P13, F1)."""
    gate = Gate()

    @site.page("/slow")
    async def slow(call):
        await gate.pass_through()
        call.session["late"] = True

    alice = await due(site)
    pending = alice.begin("/slow")
    await gate.reached()
    await alice.goto("/")
    newest = site.token(alice)
    gate.open()
    await pending.response()
    assert site.token(alice) == newest
    assert (await site.data(alice)) == {"late": True}


async def test_a_very_slow_response_sets_no_cookie(site: Site):
    """Its token was retired and confirmed away meanwhile: it says nothing of cookies (P13)."""
    gate = Gate()

    @site.page("/slow")
    async def slow(call):
        await gate.pass_through()

    alice = await due(site)
    pending = alice.begin("/slow")
    await gate.reached()
    await alice.goto("/")
    await confirm(site, alice)
    gate.open()
    assert (await pending.response()).cookies == []
    assert await site.who(alice) == "alice"


async def test_an_older_cookie_that_the_network_delivers_late_costs_no_alarm(site: Site):
    """Two responses overtake each other on the way; the jar ends up with either, and works (F1)."""
    alice = await due(site)
    first = alice.begin("/").hold()
    await first.response()
    await alice.goto("/")
    first.deliver()
    await confirm(site, alice)
    assert site.told(TokenReuse) == []


async def test_a_crash_restores_the_jar_of_before_the_renewal(site: Site):
    """A browser writes its jar late; the token from before works, and is renewed (P11, D1)."""
    alice = await due(site)
    on_disk = alice.jar.snapshot()
    await alice.goto("/")
    for seconds in (1, 20, 38):
        site.clock.advance(seconds * 1000)
        await alice.goto("/")
    alice.jar.restore(on_disk)
    assert await site.who(alice) == "alice"
    await confirm(site, alice)
    assert await site.who(alice) == "alice"
    assert site.told(TokenReuse) == []


async def test_two_tabs_and_a_retry_by_a_balancer(site: Site):
    """The same request twice, seconds apart, is no theft within grace of the confirmation (P11)."""
    alice = await due(site)
    before = alice.jar.snapshot()
    await alice.goto("/")
    await site.confirm(alice)
    retried = site.browser()
    retried.jar.restore(before)
    site.clock.advance(29_000)
    response = await retried.goto("/")
    assert response.json["subject"] == "alice"
    assert response.cookies == []
    assert site.told(TokenReuse) == []


async def test_nothing_renews_where_the_cookie_might_not_be_kept(site: Site):
    """Prefetches and cross-site subresources never start a renewal (D1)."""
    alice = await due(site)
    await alice.goto("/", headers=[(b"sec-purpose", b"prefetch")])
    pending = alice.request(
        "GET",
        "/",
        mode="cors",
        dest="empty",
        source="https://evil.example.net",
        cookies=[f"{site.cookie}={site.token(alice)}".encode()],
    )
    await pending.response()
    assert site.told(SessionRenewed) == []
    await alice.goto("/")
    assert len(site.told(SessionRenewed)) == 1


async def test_renew_can_be_asked_for(site: Site):
    """`session.renew()` renews with this response, where the last one has settled (D1)."""

    @site.page("/renew")
    async def renew(call):
        await call.session.renew()

    alice = await site.signed_in()
    assert (await alice.goto("/renew")).cookies == []
    await site.use_until_confirmed(alice)
    assert len((await alice.goto("/renew")).cookies) == 1
    assert (await alice.goto("/renew")).cookies == []


# P12: reuse.


@pytest.mark.everywhere
async def test_a_thief_who_comes_late_ends_the_session_and_is_told_of(site: Site):
    """A retired token after grace and confirmation: the session ends, with its type (P12, D)."""
    alice = await due(site)
    thief = site.browser(agent=CHROME, address="198.51.100.9")
    thief.jar.restore(alice.jar.snapshot())
    await alice.goto("/")
    await confirm(site, alice)
    response = await thief.goto("/")
    assert response.json["subject"] is None
    assert response.cookies == []
    event = site.only(TokenReuse)
    assert (event.how, event.ended) == ("reuse_recent", True)
    assert (event.subject, event.address) == ("alice", "198.51.100.9")
    assert await site.who(alice) is None
    (listed,) = await site.manager.sessions_of("alice", include_ended=True)
    assert listed.end_reason == "token_reuse"


async def test_an_older_token_is_stale_reuse(site: Site):
    """Two renewals ago (P12)."""
    alice = await due(site)
    thief = site.browser()
    thief.jar.restore(alice.jar.snapshot())
    await alice.goto("/")
    await confirm(site, alice)
    site.clock.advance(15 * MINUTE)
    await alice.goto("/")
    await confirm(site, alice)
    await thief.goto("/")
    assert site.only(TokenReuse).how == "reuse_stale"
    assert await site.who(alice) is None


async def test_the_owner_with_the_stolen_token_ends_the_thief(site: Site):
    """The thief renewed first: when the owner comes, the fork is found all the same (P12)."""
    alice = await due(site)
    thief = site.browser()
    thief.jar.restore(alice.jar.snapshot())
    assert await site.who(thief) == "alice"
    await confirm(site, thief)
    assert await site.who(alice) is None
    assert await site.who(thief) is None
    assert site.only(TokenReuse).ended


async def test_a_request_with_a_body_is_refused_but_decides_nothing(site: Site):
    """An upload may have been under way for long; the next request without a body decides (D)."""
    alice = await due(site)
    thief = site.browser()
    thief.jar.restore(alice.jar.snapshot())
    await alice.goto("/")
    await confirm(site, alice)
    response = await thief.post("/set?cart=evil", {"x": "y"})
    assert response.cookies == []
    assert site.only(TokenReuse).ended is False
    assert await site.who(alice) == "alice"
    assert await site.data(alice) == {}
    await thief.goto("/")
    assert [each.ended for each in site.told(TokenReuse)] == [False, True]
    assert await site.who(alice) is None


async def test_a_route_marked_slow_is_spared(new_site: MakeSite):
    """Its requests may take longer than grace to arrive (D)."""
    site = await new_site(policy=SessionPolicy(routes=Routes(slow=("/nothing",))))
    alice = await due(site)
    thief = site.browser()
    thief.jar.restore(alice.jar.snapshot())
    await alice.goto("/")
    await confirm(site, alice)
    await thief.goto("/nothing")
    assert site.only(TokenReuse).ended is False
    assert await site.who(alice) == "alice"


async def test_reuse_never_touches_another_session(site: Site):
    """A retired token of a session that has ended is an event only (D3)."""
    alice = await due(site)
    thief = site.browser()
    thief.jar.restore(alice.jar.snapshot())
    await alice.goto("/")
    await confirm(site, alice)
    await site.sign_in(alice, "alice")
    assert (await thief.goto("/")).json["subject"] is None
    assert await site.who(alice) == "alice"
    assert site.told(TokenReuse) == []


async def test_one_token_from_two_places_is_a_signal(site: Site):
    """While both tokens work, another kind of client with the old one is told of (D)."""
    alice = await due(site)
    thief = site.browser(agent=CHROME, address="198.51.100.9")
    thief.jar.restore(alice.jar.snapshot())
    await alice.goto("/")
    assert await site.who(thief) == "alice"
    assert site.only(TwoPlaces).address == "198.51.100.9"


@pytest.mark.stores("memory")
async def test_a_store_that_lost_a_renewal_adopts_what_the_client_holds(site: Site):
    """After a failover the next token is known, so nobody is signed out (D, P11).

    On the memory store, which is the one that can be set back to an older state.
    """
    memory = site.store.real.store  # type: ignore[attr-defined]
    alice = await due(site)
    backup = memory.snapshot()
    await alice.goto("/")
    memory.restore(backup)
    assert await site.who(alice) == "alice"
    assert [each.how for each in site.told(SessionRenewed)] == ["renewal", "adopted"]
    await confirm(site, alice)
    assert await site.who(alice) == "alice"
    assert site.told(TokenReuse) == []
    assert site.told(TokenRefused) == []


@pytest.mark.slow
async def test_a_day_of_an_honest_browser_raises_no_alarm(site: Site):
    """Parallel requests, lost responses, crashes, pauses, over all renewals (P11)."""
    alice = await site.signed_in()
    on_disk = alice.jar.snapshot()
    for step in range(90):
        site.clock.advance((7, 40, 200, 600)[step % 4] * 1000)
        kept = alice.jar.snapshot()
        page = [alice.begin("/"), alice.begin_fetch("/"), alice.begin_fetch("/nothing")]
        if step % 5 == 0:
            page[0].lose()
        for each in page:
            assert (await each.response()).status == 200
        assert await site.who(alice) == "alice", step
        if step % 9 == 8:
            alice.jar.restore(on_disk)
            assert await site.who(alice) == "alice", step
        on_disk = kept
    assert len(site.told(SessionRenewed)) > 5
    assert site.told(TokenReuse) == []
