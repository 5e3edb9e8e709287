"""What is said about cookies and caches, and what is made of several (P13, P18, P21, P23, F)."""

from __future__ import annotations

import traceback

import pytest

from strongroom import ConfigurationError, SessionPolicy
from strongroom.core.events import CookieTossing
from strongroom.core.policy import Routes
from tests.support.jar import Jar, Place
from tests.support.site import MINUTE, Everything, MakeSite, Reply, Site

pytestmark = pytest.mark.anyio


# P18: attributes.


async def test_the_session_cookie_has_every_attribute_it_should_have(site: Site):
    """`__Host-`, Secure, HttpOnly, SameSite=Lax, Path=/, no Domain, until the browser closes."""
    alice = site.browser()
    response = await site.sign_in(alice, "alice")
    (line,) = response.cookies
    pair, *attributes = line.split("; ")
    assert pair.startswith("__Host-id-")
    assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]
    assert len(pair.partition("=")[2]) == 84
    assert alice.jar.refused == []


@pytest.mark.everywhere
async def test_a_setting_that_cannot_work_is_one_line_of_the_log(
    new_site: MakeSite, everything: Everything
):
    """Before the traceback, and without the frames that are ours alone (STYLE)."""
    site = await new_site(policy=SessionPolicy.for_development())
    for _ in range(2):
        response = await site.browser(origin="http://app.example").goto("/")
        assert isinstance(response.error, ConfigurationError)
        frames = traceback.extract_tb(response.error.__traceback__)
        assert not [each for each in frames if each.name == "_check_host"]
    said = [each for each in everything.lines if each.startswith("The development policy was")]
    assert len(said) == 2
    assert "Open the site as http://localhost" in said[0]
    assert "\n" not in said[0]


async def test_the_development_policy_serves_this_machine_only(new_site: MakeSite):
    """No prefix, no Secure, on localhost; any other host is refused loudly (F6)."""
    site = await new_site(policy=SessionPolicy.for_development())
    alice = site.browser(origin="http://localhost:8000")
    (line,) = (await site.sign_in(alice, "alice")).cookies
    assert "Secure" not in line
    assert not line.startswith("__Host-")
    assert await site.who(alice) == "alice"
    for origin in ("http://192.0.2.7:8000", "http://app.example", "http://localhost.evil.net"):
        response = await site.browser(origin=origin).goto("/")
        assert response.status == 500
        assert isinstance(response.error, ConfigurationError)


async def test_the_default_policy_over_http_keeps_nobody_signed_in(site: Site):
    """A browser refuses the Secure cookie there: nothing half works (P18)."""
    browser = site.browser(origin="http://app.example")
    await site.sign_in(browser, "alice")
    assert len(browser.jar) == 0
    assert browser.jar.refused[0].startswith("Secure from an insecure place")


async def test_applications_on_one_host_have_cookies_of_their_own(new_site: MakeSite):
    """Cookies know no ports, so the name carries a hash of the realm (F6)."""
    from strongroom.keyfile import generate
    from strongroom.testing.clock import START

    one, two = await new_site(), await new_site(keys=generate("other", START))
    browser = await one.signed_in("alice")
    other = two.browser()
    other.jar = browser.jar
    await two.sign_in(other, "bob")
    assert await one.who(browser) == "alice"
    assert await two.who(other) == "bob"


# P13: who clears a cookie.


async def test_only_a_navigation_long_after_the_end_clears_a_cookie(site: Site):
    """Scripts never, and nobody within grace (P13, F1)."""
    alice = await site.signed_in()
    await site.manager.end_all_of("alice")
    assert (await alice.goto("/")).cookies == []
    site.clock.advance(29_000)
    assert (await alice.goto("/")).cookies == []
    site.clock.advance(1_000)
    assert (await alice.fetch("/")).cookies == []
    assert (await alice.post("/nothing", headers=[(b"sec-fetch-dest", b"iframe")])).cookies == []
    (line,) = (await alice.goto("/")).cookies
    assert line.startswith(f"{site.cookie}=; Max-Age=0")
    assert len(alice.jar) == 0


async def test_a_session_that_the_store_has_forgotten_is_cleared_by_a_navigation(site: Site):
    """Long after the end even the record is gone (P13)."""
    browser = site.browser()
    await browser.post("/set?cart=book")
    site.clock.advance(5 * 60 * MINUTE)
    await site.manager.sweep()
    assert (await browser.fetch("/")).cookies == []
    assert len((await browser.goto("/")).cookies) == 1
    assert len(browser.jar) == 0


async def test_a_sign_in_that_overlaps_an_ending_wins(site: Site):
    """A request of the old session that ends later does not clear the new cookie (P13)."""
    from tests.support.browser import Gate

    gate = Gate()

    @site.page("/slow")
    async def slow(call):
        await gate.pass_through()

    alice = await site.signed_in()
    pending = alice.begin("/slow")
    await gate.reached()
    await alice.post("/sign-out")
    await site.sign_in(alice, "bob")
    gate.open()
    assert (await pending.response()).cookies == []
    assert await site.who(alice) == "bob"


async def test_excluded_paths_have_no_session(site: Site):
    """Static files ask no store and say nothing of cookies (H1)."""
    alice = await site.signed_in()

    @site.page("/static/app.js")
    async def script(call):
        return call.session.subject

    site.store.reset()
    response = await alice.goto("/static/app.js")
    assert response.json is None
    assert site.store.asked == {}
    assert response.cookies == []


# P21: several cookies of one name.


def header(site: Site, *tokens: str | None) -> list[bytes]:
    """A Cookie header with these tokens under our name."""
    return [b"; ".join(f"{site.cookie}={token}".encode() for token in tokens)]


async def test_of_one_session_the_highest_generation_wins(site: Site):
    """An older token of the same session beside the newest changes nothing, in any order (P21)."""
    alice = await site.signed_in()
    old = site.token(alice)
    await site.renew(alice)
    new = site.token(alice)
    for tokens in ([old, new], [new, old], [old, new, old]):
        response = await alice.begin("/", cookies=header(site, *tokens)).response()
        assert response.json["subject"] == "alice"
    assert site.told(CookieTossing) == []


async def test_two_valid_sessions_are_a_signal_and_no_choice(site: Site):
    """Anonymous, nothing written, told, and a navigation expires the name (P21, F3)."""
    alice, mallory = await site.signed_in("alice"), await site.signed_in("mallory")
    one, other = site.token(alice), site.token(mallory)
    for tokens in ([one, other], [other, one]):
        cookies = header(site, *tokens)
        site.store.reset()
        response = await alice.begin("/", cookies=cookies).response()
        assert response.json["subject"] is None
        assert site.store.written == {}
        assert response.cookies[0].startswith(f"{site.cookie}=; Max-Age=0")
        scripted = await alice.begin_fetch("/", cookies=cookies).response()
        assert scripted.json["subject"] is None
        assert scripted.cookies == []
    assert {each.count for each in site.told(CookieTossing)} == {2}


async def test_cookies_in_several_headers_are_judged_together(site: Site):
    """HTTP/2 may split the Cookie header (P21)."""
    alice, mallory = await site.signed_in("alice"), await site.signed_in("mallory")
    both = [
        f"{site.cookie}={site.token(alice)}".encode(),
        f"theme=dark; {site.cookie}={site.token(mallory)}".encode(),
    ]
    assert (await alice.begin("/", cookies=both).response()).json["subject"] is None
    noise = [f"a=1; {site.cookie}=noise".encode(), both[0], b"b=2"]
    assert (await alice.begin("/", cookies=noise).response()).json["subject"] == "alice"


async def test_noise_beside_a_valid_cookie_is_no_signal(site: Site):
    """What we did not issue does not count as a session (P21)."""
    alice = await site.signed_in()
    token = site.token(alice)
    response = await alice.begin("/", cookies=header(site, "x", token, "A" * 84)).response()
    assert response.json["subject"] == "alice"
    assert site.told(CookieTossing) == []


async def test_a_hundred_sessions_in_one_request_cost_no_read(site: Site):
    """More than four sessions are cookie tossing on sight; nobody's order chooses one (P21)."""
    browsers = [site.browser() for _ in range(20)]
    for number, browser in enumerate(browsers):
        await browser.post(f"/set?n={number}")
    tokens = [site.token(browser) for browser in browsers] * 5
    site.store.reset()
    response = await browsers[0].begin("/", cookies=header(site, *tokens)).response()
    assert response.json["data"] == {}
    assert site.store.asked == {}
    assert [event.count for event in site.told(CookieTossing)] == [20]


async def test_signing_in_with_tossed_cookies_works(site: Site):
    """The user gets a session of their own, and its cookie comes after the deletions (F3)."""
    alice, mallory = await site.signed_in("alice"), await site.signed_in("mallory")
    cookies = header(site, site.token(alice), site.token(mallory))
    browser = site.browser()
    pending = browser.request(
        "POST",
        "/sign-in",
        mode="navigate",
        dest="document",
        source=browser.origin,
        chunks=[b"subject=carol"],
        cookies=cookies,
    )
    assert (await pending.response()).status == 200
    assert await site.who(browser) == "carol"


async def test_one_cookie_of_an_ended_session_beside_one_under_grace(site: Site):
    """A refusal that must leave the cookie alone is not overruled by one that clears (D, F1)."""
    gone, alice = await site.signed_in("gone"), await site.signed_in("alice")
    await gone.post("/sign-out")
    dead = gone.seen[0].so_far().cookies[0].split(";")[0].partition("=")[2]
    site.clock.advance(5 * MINUTE)
    retired = site.token(alice)
    await alice.begin_post("/elevate").lose().response()
    response = await alice.begin("/", cookies=header(site, dead, retired)).response()
    assert response.json["subject"] is None
    assert response.cookies == []


# P23: caches.


async def test_responses_that_depend_on_a_session_say_so(site: Site):
    """Vary for whoever reads it, no-store for what is personal (P23, F5)."""
    visitor = site.browser()
    read = await visitor.goto("/")
    assert read.header("vary") == "Cookie"
    assert read.header("cache-control") is None
    untouched = await visitor.goto("/nothing")
    assert untouched.header("vary") is None
    alice = await site.signed_in()
    personal = await alice.goto("/")
    assert (personal.header("vary"), personal.header("cache-control")) == ("Cookie", "no-store")


async def test_what_the_application_says_of_caching_is_kept_where_it_may_be(site: Site):
    """Its own words for personal pages; but a cookie is never cached (P23)."""

    @site.page("/cached")
    async def cached(call):
        if "write" in call.query:
            call.session["n"] = call.query["write"]
        said = call.session.subject or "nobody"
        headers = [("Cache-Control", "private, max-age=60"), ("Vary", "Accept, cookie")]
        return Reply(said.encode(), headers=headers)

    alice = await site.signed_in()
    response = await alice.goto("/cached")
    assert response.header("cache-control") == "private, max-age=60"
    assert response.header("vary") == "Accept, cookie"
    response = await site.browser().goto("/cached?write=1")
    assert response.cookies != []
    assert response.header("cache-control") == "no-store"


async def test_a_form_token_is_not_cached(site: Site):
    """A page with a token in it belongs to one browser (F5)."""
    response = await site.browser().goto("/token")
    assert response.header("cache-control") == "no-store"


async def test_signing_out_clears_what_is_ours(new_site: MakeSite):
    """Storage by default, more where the policy says that the whole domain is ours (P23, F4)."""
    site = await new_site()
    alice = await site.signed_in()
    response = await alice.post("/sign-out")
    assert response.header("clear-site-data") == '"storage"'
    assert response.header("cache-control") == "no-store"
    for types, expected in (((), None), (("cache", "cookies"), '"cache", "cookies"')):
        other = await new_site(policy=SessionPolicy(clear_site_data=types))
        response = await (await other.signed_in()).post("/sign-out")
        assert response.header("clear-site-data") == expected


async def test_every_answer_of_ours_is_uncacheable(new_site: MakeSite):
    """Refusals and outages are nobody else's business (P23)."""
    site = await new_site(policy=SessionPolicy(routes=Routes(public=("/nothing",))))

    @site.page("/account")
    async def account(call):
        return call.session.require_sign_in()

    browser = site.browser()
    answers = [
        await browser.goto("/account"),
        await browser.fetch("/account"),
        await browser.post("/set?a=b", source="https://evil.example.net"),
    ]
    alice = await site.signed_in()
    site.store.down = True
    answers += [await alice.goto("/"), await alice.fetch("/")]
    assert [each.status for each in answers] == [303, 401, 403, 503, 503]
    for each in answers:
        assert each.header("cache-control") == "no-store"
        assert "Cookie" in (each.header("vary") or "")


# The jar itself, because everything above believes it.


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (b"a=1", True),
        (b"__Host-a=1; Secure; Path=/", True),
        (b"__Host-a=1; Secure", False),
        (b"__Host-a=1; Path=/", False),
        (b"__Host-a=1; Secure; Path=/x", False),
        (b"__Host-a=1; Secure; Path=/; Domain=app.example", False),
        (b"__host-a=1; Path=/", False),
        (b"__Secure-a=1", False),
        (b"a=1; Domain=evil.net", False),
        (b"a=1; Domain=example", False),
        (b"a=1; SameSite=None", False),
        (b"a=1\x00; Secure", False),
        (b"a=" + b"x" * 4096, False),
        (b"=1", False),
    ],
    ids=repr,
)
def test_the_jar_keeps_what_browsers_keep(line: bytes, kept: bool):
    """rfc6265bis, 5.6 and 5.7."""
    jar = Jar(lambda: 0)
    assert jar.take(line, Place("https", "app.example", "/deep/er")) is kept
    assert len(jar) == kept


def test_the_jar_deletes_and_expires():
    """Max-Age zero and a past date delete; only the same name, domain and path."""
    now = [1_000_000]
    jar, place = Jar(lambda: now[0]), Place("https", "app.example", "/a/b")
    jar.take(b"x=1; Path=/", place)
    jar.take(b"x=; Path=/a; Max-Age=0", place)
    assert len(jar) == 1
    jar.take(b"x=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT", place)
    jar.take(b"y=2; Path=/; Max-Age=10", place)
    assert jar.header(place) == b"y=2"
    now[0] += 10_000
    assert jar.header(place) is None
    jar.take(b"z=3; Path=/a; SameSite=Strict; Secure", place)
    assert jar.header(Place("https", "app.example", "/b")) is None
    assert jar.header(Place("http", "app.example", "/a")) is None
    assert jar.header(Place("https", "app.example", "/a", same_site=False)) is None
