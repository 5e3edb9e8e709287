"""What a browser may present, and what of it ever counts (P1, P2, P5, A4)."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from strongroom import Keyring
from strongroom.core.answers import Answer
from strongroom.core.events import TokenRefused
from strongroom.core.sealing import Key
from strongroom.keyfile import generate
from strongroom.testing.clock import START
from tests.support.browser import Browser
from tests.support.site import HOUR, KEYS, MakeSite, Site

pytestmark = pytest.mark.anyio

SHAPES = [
    "",
    "x",
    "A" * 83,
    "A" * 84,
    "A" * 85,
    "A" * 4000,
    '"' + "A" * 82 + '"',
    "AQ" + "A" * 82,
    "=" * 84,
    "%41" * 28,
    "null",
    "../../etc/passwd",
]


def present(site: Site, browser: Browser, value: str) -> None:
    """Put a session cookie of any value into the jar."""
    browser.jar.forget()
    browser.jar.plant(site.cookie, value, "app.example")


async def test_a_visitor_without_a_cookie_asks_no_store(site: Site):
    """Nothing is stored or read for somebody who did nothing (P24)."""
    browser = site.browser()
    await browser.goto("/nothing")
    site.store.reset()
    response = await browser.goto("/")
    assert response.json["subject"] is None
    assert site.store.asked == {}
    assert response.cookies == []


async def test_what_we_did_not_issue_never_reaches_the_store(site: Site):
    """Any shape of nonsense is refused before a store is asked, and is never adopted (P2)."""
    browser = site.browser()
    await browser.goto("/nothing")
    site.store.reset()
    for value in SHAPES:
        present(site, browser, value)
        response = await browser.goto("/")
        assert response.status == 200
        assert response.json["id"] is None
    assert site.store.asked == {}
    assert {each.reason for each in site.told(TokenRefused)} <= {"shape", "forged", "unknown_key"}


async def test_writing_with_a_planted_id_starts_a_session_with_another(site: Site):
    """An attacker-chosen cookie value is not the id of anything afterwards (P2, P10)."""
    browser = site.browser()
    planted = base64.urlsafe_b64encode(bytes(63)).decode()
    present(site, browser, planted)
    await browser.post("/set?cart=book")
    token = site.token(browser)
    assert token is not None
    assert token != planted
    assert base64.urlsafe_b64decode(token)[7:23] != bytes(16)
    assert await site.data(browser) == {"cart": "book"}


async def test_a_token_of_another_deployment_is_foreign(new_site: MakeSite):
    """Other keys, other realm: the tag is wrong, and no store is asked (P2, A2)."""
    theirs = await new_site(keys=generate("theirs", START))
    ours = await new_site()
    victim = await theirs.signed_in()
    token = theirs.token(victim)
    assert token is not None
    browser = ours.browser()
    await browser.goto("/nothing")
    ours.store.reset()
    present(ours, browser, token)
    assert await ours.who(browser) is None
    assert ours.store.asked == {}


async def test_two_realms_that_share_a_key_do_not_share_tokens(new_site: MakeSite):
    """The realm is in every derivation, so staging's token is noise in production (A2)."""
    staging = await new_site(keys=replace(KEYS, realm="staging"))
    production = await new_site()
    victim = await staging.signed_in()
    token = staging.token(victim)
    assert token is not None
    assert staging.cookie != production.cookie
    browser = production.browser()
    present(production, browser, token)
    assert await production.who(browser) is None


async def test_a_token_of_one_purpose_is_noise_to_another(site: Site):
    """A hand-over code is not a session token, nor the other way round (A2, D7)."""
    alice = await site.signed_in()

    @site.page("/code")
    async def code(call):
        return await call.session.hand_over()

    made = (await alice.post("/code")).json
    browser = site.browser()
    await browser.goto("/nothing")
    present(site, browser, made)
    site.store.reset()
    assert await site.who(browser) is None
    assert site.store.asked == {}


async def test_an_unknown_key_id_leaves_the_cookie_alone(new_site: MakeSite):
    """Another process may know the key, so nothing is set or cleared but by sign-in (A4)."""
    newer = Keyring(
        KEYS.realm,
        KEYS.store_secret,
        (*KEYS.keys, Key(2, b"k" * 32, created_at=START, issue_from=START)),
    )
    ahead = await new_site(keys=newer)
    behind = await new_site()
    token = ahead.token(await ahead.signed_in())
    assert token is not None
    browser = behind.browser()
    present(behind, browser, token)
    for response in (await browser.goto("/"), await browser.post("/set?cart=book")):
        assert response.cookies == []
    assert behind.token(browser) == token
    await behind.sign_in(browser)
    assert behind.token(browser) != token


async def test_retiring_a_key_ends_every_session_issued_under_it(new_site: MakeSite):
    """Everybody is signed out in O(1), and a write of theirs saves nothing (A1)."""
    (key,) = KEYS.keys
    dying = replace(key, retired_at=START + HOUR)
    newer = Key(2, b"k" * 32, created_at=START, issue_from=START + HOUR)
    site = await new_site(keys=replace(KEYS, keys=(dying, newer)))
    alice = await site.signed_in()
    assert await site.who(alice) == "alice"
    for _ in range(4):
        site.clock.advance(HOUR // 4 - 1)
        assert await site.who(alice) == "alice"
    site.clock.advance(HOUR)
    site.store.reset()
    assert await site.who(alice) is None
    assert site.store.asked == {}


@pytest.mark.slow
@pytest.mark.needs("bytes")
async def test_a_token_with_any_byte_changed_is_refused(site: Site):
    """Each character of a good token, replaced by each of several others, is noise (P2)."""
    alice = await site.signed_in()
    token = site.token(alice)
    assert token is not None
    mallory = site.browser()
    site.store.reset()
    for place in range(len(token)):
        for other in "A_-z09=+/ %\x7f":
            if token[place] == other:
                continue
            present(site, mallory, token[:place] + other + token[place + 1 :])
            response = await mallory.goto("/")
            assert response.status == 200
            assert response.json["subject"] is None
    assert site.store.asked == {}
    assert await site.who(alice) == "alice"


async def test_reprs_show_nothing_that_opens_anything(site: Site):
    """Sessions, visits, facts and edits can be printed in a debugger or a crash report (P5)."""
    shown: list[str] = []

    @site.page("/show")
    async def show(call):
        visit = call.session._visit
        things = [call.session, visit, visit.token, visit.record, visit.identity, visit.facts]
        things += [visit.data, visit.ctx.keys.tokens, visit.ctx.cookie]
        cookie = visit.ctx.cookie.render(visit.token.text, None)
        things.append(Answer(303, [(b"set-cookie", cookie)], b""))
        shown.extend(map(repr, things))
        shown.append(str(call.session))

    alice = await site.signed_in()
    await alice.goto("/show")
    token = site.token(alice)
    assert token is not None
    assert len(shown) > 5
    for text in shown:
        assert token not in text
        assert repr(base64.urlsafe_b64decode(token)[39:55]) not in text
