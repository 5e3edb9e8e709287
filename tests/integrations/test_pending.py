"""Half a sign-in is a state of its own, and opens nothing else (C5, P25, ASVS 6.4.3)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from strongroom import Session
from strongroom.core.events import LoginSuccess, SessionCreated
from strongroom.core.stepup import Challenge, Requirement
from tests.support.site import MINUTE, Site

pytestmark = pytest.mark.anyio

AGE = timedelta(hours=1)
NUMBER = "0" * 32

REFUSED: dict[str, Callable[[Session], Any]] = {
    "approval": lambda session: session.approval(NUMBER),
    "approve": lambda session: session.approve(NUMBER, amr="otp"),
    "ask_approval": lambda session: session.ask_approval("transfer", {"cents": 1}),
    "credentials_changed": lambda session: session.credentials_changed(amr="pwd"),
    "devices": lambda session: session.devices(),
    "elevate": lambda session: session.elevate(amr="otp"),
    "end_device": lambda session: session.end_device(NUMBER),
    "end_privilege": lambda session: session.end_privilege(),
    "end_session": lambda session: session.end_session(NUMBER),
    "hand_over": lambda session: session.hand_over(),
    "history": lambda session: session.history(),
    "persistent_logins": lambda session: session.persistent_logins(),
    "require": lambda session: session.require(Requirement(acr="aal1")),
    "require_approval": lambda session: session.require_approval("transfer", {"cents": 1}, None),
    "require_recent_sign_in": lambda session: session.require_recent_sign_in(acr="aal1"),
    "require_sign_in": lambda session: session.require_sign_in(),
    "sessions": lambda session: session.sessions(),
    "sign_out_everywhere": lambda session: session.sign_out_everywhere(),
    "sign_out_others": lambda session: session.sign_out_others(),
    "use_approval": lambda session: session.use_approval(NUMBER, "transfer"),
}
"""What a session of somebody may do, and half a sign-in may not: nobody is signed in."""

SAYS_NOBODY: dict[str, Callable[[Session], Any]] = {
    "acr": lambda session: session.acr,
    "asked": lambda session: session.asked({"max_age": "300"}) is None,
    "authenticated_at": lambda session: session.authenticated_at,
    "factors": lambda session: session.factors or None,
    "is_authenticated": lambda session: session.is_authenticated,
    "is_remembered": lambda session: session.is_remembered,
    "privileged_until": lambda session: session.privileged_until(max_age=AGE),
    "step_up": lambda session: not isinstance(session.step_up(acr="aal1"), Challenge),
    "subject": lambda session: session.subject,
}
"""What a pending session says of itself: None or False, as for a visitor."""

OPEN_TO_ALL = {
    "accept_hand_over",
    "authenticating",
    "begin_login",
    "copy",
    "created_at",
    "csrf_input",
    "csrf_token",
    "device",
    "ended_because",
    "expires_at",
    "finish_login",
    "note",
    "pending_subject",
    "renew",
    "resume",
    "save",
    "session_id",
    "sign_in",
    "sign_out",
    "start_new",
    "touch",
    "unavailable",
    "verify",
}
"""What any visitor may do, or is about the half sign-in itself."""


def test_every_action_is_in_one_of_the_three() -> None:
    """Whoever adds one to a session says what half a sign-in may do with it."""
    mapping = {"clear", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"}
    public = {name for name in dir(Session) if not name.startswith("_")} - mapping
    assert REFUSED.keys() | SAYS_NOBODY.keys() | OPEN_TO_ALL == public
    assert len(REFUSED) + len(SAYS_NOBODY) + len(OPEN_TO_ALL) == len(public)


@pytest.fixture
async def half(site: Site):
    """Alice's password was right. Another browser of hers is signed in."""

    @site.page("/do")
    async def do(call):
        done = REFUSED[call.query["what"]](call.session)
        return str(await done) if hasattr(done, "__await__") else str(done)

    @site.page("/say")
    async def say(call):
        return {name: bool(ask(call.session)) for name, ask in SAYS_NOBODY.items()}

    @site.page("/second")
    async def second(call):
        await call.session.sign_in(call.query.get("subject", "alice"), amr="otp")
        return [call.session.acr, dict(call.session)]

    browser = site.browser()
    await site.sign_in(browser, "alice", pending="1")
    return browser


async def test_half_a_sign_in_may_do_nothing(site: Site, half):
    """Each action answers as to a visitor, and changes nothing of the account's sessions."""
    laptop = await site.signed_in()
    for what in REFUSED:
        told = await half.fetch(f"/do?what={what}", "POST")
        assert (told.status, told.json["code"]) == (401, "sign_in_required"), what
    assert await site.who(laptop) == "alice"
    assert (await half.goto("/")).json["pending"] == "alice"


async def test_half_a_sign_in_says_that_it_is_nobody(site: Site, half):
    """Also what it has proved is nobody's business yet."""
    told = (await half.fetch("/say")).json
    assert not any(told.values())
    assert (await half.goto("/")).json["pending"] == "alice"
    # Whoever is signed in answers otherwise, so the question is one.
    alice = await site.signed_in()
    told = (await alice.fetch("/say")).json
    assert {"subject", "acr", "factors", "step_up", "privileged_until"} <= {
        name for name, said in told.items() if said
    }


async def test_the_second_factor_completes_it(site: Site, half):
    """As a new session with another token; both proofs count, and its data comes along (P10)."""
    await half.post("/set?cart=3")
    before = site.token(half)
    assert (await half.post("/second")).json == ["aal2", {"cart": "3"}]
    after = site.token(half)
    assert after != before
    copy = site.browser()
    copy.jar.plant(site.cookie, before or "", "app.example")
    assert (await copy.goto("/")).json == {
        "subject": None,
        "pending": None,
        "id": None,
        "data": {},
        "unavailable": False,
    }
    kinds = [each.kind for each in site.told(SessionCreated)]
    assert kinds == ["pending", "authenticated"]
    assert [each.pending for each in site.told(LoginSuccess)] == [True, False]


async def test_somebody_elses_second_factor_completes_nothing_of_hers(site: Site, half):
    """Neither her proof nor her data goes over to another subject."""
    await half.post("/set?cart=3")
    assert (await half.post("/second?subject=mallory")).json == ["aal1", {}]
    assert await site.who(half) == "mallory"
    assert await site.manager.sessions_of("alice") == []


async def test_it_is_in_no_list_and_counts_towards_nothing(site: Site, half):
    """A wrong second factor leaves no trace among the account's sessions."""
    del half
    assert await site.manager.sessions_of("alice") == []


async def test_it_waits_for_minutes_only(site: Site, half):
    """Five without a word, ten at most, however busy (C5)."""
    for _ in range(3):
        site.clock.advance(3 * MINUTE)
        assert (await half.goto("/")).json["pending"] == "alice"
    site.clock.advance(MINUTE)
    assert (await half.goto("/")).json["pending"] is None
    assert (await half.post("/second")).json == ["aal1", {}]


async def test_remembering_waits_for_the_second_factor(site: Site):
    """No browser is remembered for half a sign-in (NIST-B2)."""

    @site.page("/both")
    async def both(call):
        await call.session.sign_in("alice", pending=True, remember=True)

    browser = site.browser()
    assert (await browser.post("/both")).status == 500
    assert await site.manager.logins_of("alice") == []
    assert (await browser.goto("/")).json["pending"] is None
