"""Another library's cookie counts once, and for as little as can be (P6, P10, P13, P14, P15)."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from flask import Flask
from itsdangerous import TimestampSigner
from quart import Quart

from strongroom import AtLimit, ConfigurationError, SessionPolicy
from strongroom.core.adoption import Adoption, OldSession
from strongroom.core.events import SessionCreated
from strongroom.core.record import Kind
from strongroom.integrations import asgi, flask, quart, wsgi
from strongroom.integrations.aiohttp import MANAGER, setup
from strongroom.integrations.litestar import StrongroomPlugin
from strongroom.integrations.old_cookies import starlette_cookie
from strongroom.testing.clock import START
from tests.support.browser import Browser
from tests.support.jar import Place
from tests.support.site import HOUR, KEYS, MakeSite, Reply, Site

pytestmark = pytest.mark.anyio

NOW = datetime.fromtimestamp(START / 1000, UTC)
HOST = Place("https", "app.example", "/", True, True, True)
DAY = 24 * HOUR


def read(value: str) -> OldSession | None:
    """The old library of these tests: `user=alice` is a session of alice's, with a cart."""
    kind, _, name = value.partition("=")
    if kind == "user":
        return OldSession(name, {"cart": ["book"]}, NOW - timedelta(minutes=1))
    if kind == "visitor":
        return OldSession(None, {"cart": ["book"]})
    if kind == "fails":
        raise RuntimeError("the old store is down")
    return None


def adoption(**changes: Any) -> Adoption:
    """How the site of these tests takes over."""
    return Adoption(**{"cookie": "old", "read": read, "until": NOW + timedelta(days=14), **changes})


@pytest.fixture
async def site(new_site: MakeSite) -> Site:
    """A site that has moved to Strongroom."""
    return await new_site(adopt=adoption())


def coming_back(site: Site, value: str = "user=alice") -> Browser:
    """A browser that was here before the move."""
    browser = site.browser()
    browser.jar.take(f"old={value}; Path=/; HttpOnly".encode(), HOST)
    return browser


@pytest.mark.everywhere
async def test_who_was_signed_in_stays_signed_in(site: Site):
    """In a new session of ours, with their data; the old cookie goes in the same response (P10)."""
    browser = coming_back(site)
    response = await browser.goto("/")
    assert response.json["subject"] == "alice"
    assert response.json["data"] == {"cart": ["book"]}
    assert browser.jar.get("old") is None
    assert len(response.cookies) == 2
    assert await site.who(browser) == "alice"
    assert [each.kind for each in site.told(SessionCreated)] == ["adopted"]
    assert len(await site.manager.sessions_of("alice")) == 1


async def test_an_adopted_session_is_remembered_and_never_recent(site: Site):
    """Nobody proved anything now, whatever the old session says (P25)."""
    told: list[Any] = []

    @site.page("/sensitive")
    async def sensitive(call):
        session = call.session
        told.append((session.is_remembered, session.acr, session.authenticated_at))
        session.require_recent_sign_in(max_age=timedelta(hours=8))

    response = await coming_back(site).fetch(
        "/sensitive", headers=[(b"sec-fetch-mode", b"navigate")]
    )
    assert response.status == 401
    ((remembered, _, at),) = told
    assert remembered
    assert at == NOW - timedelta(minutes=1)


async def test_a_visitors_data_comes_along(site: Site):
    """Nobody is signed in by it (P24)."""
    browser = coming_back(site, "visitor")
    told = (await browser.goto("/")).json
    assert (told["subject"], told["data"]) == (None, {"cart": ["book"]})
    assert browser.jar.get("old") is None
    assert await site.data(browser) == {"cart": ["book"]}


@pytest.mark.parametrize("value", ["garbage", "", "fails", "user="])
async def test_what_stands_for_nothing_signs_nobody_in(site: Site, value: str):
    """A forged cookie, an empty one, and an old store that fails: no error, and nobody (P22)."""
    browser = coming_back(site, value)
    response = await browser.goto("/")
    assert response.status == 200
    assert response.json["subject"] is None
    assert response.cookies == []


async def test_two_old_cookies_are_none(site: Site):
    """Somebody planted one of them, and no one can say which (P21)."""
    browser = site.browser()
    response = await browser.goto("/", headers=[(b"cookie", b"old=user=alice; old=user=mallory")])
    assert response.json["subject"] is None


async def test_after_the_cut_off_an_old_cookie_is_worth_nothing(site: Site):
    """So a copy that somebody kept is too."""
    site.clock.advance(14 * DAY - 1)
    assert await site.who(coming_back(site)) == "alice"
    site.clock.advance(1)
    assert await site.who(coming_back(site)) is None


@pytest.mark.parametrize("how", ["everywhere", "disabled", "credentials"])
async def test_after_all_sessions_ended_no_old_cookie_counts(site: Site, how: str):
    """It is from before; the order is the store's, and remembered past the cut-off (P15, E2)."""
    alice = coming_back(site)
    await alice.goto("/")
    if how == "everywhere":
        await alice.post("/sign-out-everywhere")
    elif how == "disabled":
        await site.manager.account_disabled("alice")
    else:
        await site.manager.credentials_changed("alice")
    for _ in range(13):
        site.clock.advance(DAY)
        await site.manager.sweep()
        assert await site.who(coming_back(site)) is None
    assert await site.who(coming_back(site, "user=bob")) == "bob"


async def test_an_ended_session_of_ours_is_not_revived_by_an_old_cookie(site: Site):
    """With a cookie of ours in the request, even a dead one, the old one is not read (P6)."""
    browser = coming_back(site)
    await browser.goto("/")
    await site.manager.end_session("alice", (await browser.goto("/")).json["id"])
    browser.jar.take(b"old=user=alice; Path=/", HOST)
    assert await site.who(browser) is None
    site.clock.advance(HOUR)
    response = await browser.goto("/")  # clears our dead cookie, and the old one with it
    assert response.json["subject"] is None
    assert (site.token(browser), browser.jar.get("old")) == (None, None)


@pytest.mark.parametrize("first", [True, False])
async def test_who_signs_out_does_not_come_back_by_an_old_cookie(site: Site, first: bool):
    """Also where signing out is the first thing that they do after the move (P6, P14)."""
    browser = coming_back(site)
    if not first:
        await browser.goto("/")
        browser.jar.take(b"old=user=alice; Path=/", HOST)
    for by_script in (False, True):
        sent = browser.fetch("/sign-out", "POST") if by_script else browser.post("/sign-out")
        assert (await sent).status == 200
        assert browser.jar.get("old") is None
        assert await site.who(browser) is None
        browser.jar.take(b"old=user=alice; Path=/", HOST)


async def test_signing_in_replaces_the_old_cookie_too(site: Site):
    """Else it would sign somebody else in when the new session is over (P10)."""
    browser = coming_back(site, "user=mallory")
    await site.sign_in(browser, "alice")
    assert browser.jar.get("old") is None
    assert await site.who(browser) == "alice"
    assert await site.manager.sessions_of("mallory") == []


async def test_a_failed_response_leaves_the_old_cookie_and_no_session(site: Site):
    """The next request tries again (P14, E1)."""

    @site.page("/fails")
    async def fails(call):
        assert call.session.subject == "alice"
        return Reply(status=500)

    browser = coming_back(site)
    response = await browser.goto("/fails")
    assert (response.status, response.cookies) == (500, [])
    assert await site.manager.sessions_of("alice") == []
    assert await site.who(browser) == "alice"


@pytest.mark.parametrize("how", ["script", "image", "cross-site", "prefetch", "form"])
async def test_only_a_navigation_of_ones_own_is_taken_over(site: Site, how: str):
    """Where the cookie might not be kept, or ours might be at home, nothing is decided (D1, F2)."""
    browser = coming_back(site)
    other = "https://evil.example.net"
    if how == "script":
        response = await browser.fetch("/")
    elif how == "image":
        response = await browser.request(
            "GET", "/", mode="no-cors", dest="image", source=browser.origin
        ).response()
    elif how == "cross-site":
        response = await browser.goto("/", source=other)
    elif how == "prefetch":
        response = await browser.goto("/", headers=[(b"sec-purpose", b"prefetch")])
    else:
        response = await browser.post("/", source=other)
    assert response.cookies == []
    assert await site.manager.sessions_of("alice") == []
    assert await site.who(browser) == "alice"


async def test_the_limit_of_sessions_holds(new_site: MakeSite):
    """Who may not sign in may not come back either (C6)."""
    policy = SessionPolicy(max_sessions=1, at_limit=AtLimit.REFUSE)
    site = await new_site(adopt=adoption(), policy=policy)
    await site.signed_in()
    response = await coming_back(site).goto("/")
    assert (response.status, response.json["subject"]) == (200, None)


async def test_too_much_data_is_not_adopted(new_site: MakeSite):
    """The visitor begins anew, instead of meeting an error at every request (C6)."""

    def huge(value: str) -> OldSession:
        return OldSession(value or None, {"x": "y" * 100_000})

    site = await new_site(adopt=adoption(read=huge))
    for value in ("alice", "visitor"):
        response = await coming_back(site, value).goto("/")
        assert (response.status, response.json["subject"]) == (200, None)
        assert response.json["data"] == {}


async def test_while_the_store_is_down_nobody_is_adopted(site: Site):
    """503, and the old cookie stays for later (P22)."""
    browser = coming_back(site)
    site.store.down = True
    assert (await browser.goto("/")).status == 503
    site.store.down = False
    assert await site.who(browser) == "alice"


async def test_the_old_session_is_deleted_once_the_new_one_has_taken_over(new_site: MakeSite):
    """Not before, and not where the response failed (P14)."""
    forgotten: list[str] = []
    site = await new_site(adopt=adoption(forget=forgotten.append))

    @site.page("/fails")
    async def fails(call):
        return Reply(status=503)

    browser = coming_back(site)
    await browser.goto("/fails")
    assert forgotten == []
    await browser.goto("/")
    await browser.goto("/")
    assert forgotten == ["user=alice"]


async def test_a_subject_that_is_no_text_is_a_mistake_that_is_logged(
    new_site: MakeSite, everything
):
    """And nobody is signed in by it."""
    site = await new_site(adopt=adoption(read=lambda value: OldSession(7)))  # type: ignore[arg-type]
    assert await site.who(coming_back(site)) is None
    assert "was not adopted" in everything.text


async def test_starlettes_own_cookie_is_read(new_site: MakeSite):
    """As its SessionMiddleware signs it; a forged or an old one is not believed."""
    reader = starlette_cookie("the old secret", subject="user_id", max_age=timedelta(days=1))
    site = await new_site(adopt=adoption(cookie="session", read=reader))
    data = base64.b64encode(json.dumps({"user_id": 7, "cart": [1]}).encode())

    def browser_with(secret: str) -> Browser:
        value = TimestampSigner(secret).sign(data).decode()
        browser = site.browser()
        browser.jar.take(f"session={value}; Path=/".encode(), HOST)
        return browser

    told = (await browser_with("the old secret").goto("/")).json
    assert (told["subject"], told["data"]) == ("7", {"cart": [1]})
    assert await site.who(browser_with("another secret")) is None


def test_settings_that_would_not_work_are_refused_with_a_sentence():
    """No time zone, no such cookie, a cut-off that is none (STYLE)."""
    for changes in ({"until": datetime(2026, 12, 24)}, {"cookie": "a b"}, {"path": "/;x"}):
        with pytest.raises(ConfigurationError):
            adoption(**changes)
    with pytest.raises(ConfigurationError, match="90 days"):
        adoption(until=NOW + timedelta(days=91)).check(START)
    adoption(until=NOW + timedelta(days=90)).check(START)
    assert Kind.REMEMBERED.is_signed_in


def test_every_integration_takes_the_setting():
    """What stands in docs/moving holds for each of them; Django has it in its settings."""
    how: dict[str, Any] = {"store": "memory://", "keys": KEYS, "sinks": (), "adopt": adoption()}
    made: list[Any] = [
        asgi.SessionMiddleware(None, **how).manager,  # type: ignore[arg-type]
        wsgi.SessionMiddleware(None, **how).manager,  # type: ignore[arg-type]
        StrongroomPlugin(**how).manager,
    ]
    for framework, extension in ((Flask, flask), (Quart, quart)):
        app: Any = framework("moved")
        extension.Strongroom(app, **how)
        made.append(extension.manager_of(app))
    served = web.Application()
    setup(served, **how)
    made.append(served[MANAGER])
    assert [each.adoption for each in made] == [how["adopt"]] * len(made)
