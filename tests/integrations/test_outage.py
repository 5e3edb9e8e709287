"""When the store does not answer, or answers nonsense (P22, H1, C4)."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import Any

import pytest

from strongroom import SessionPolicy
from strongroom.core.errors import SessionReadOnly, StoreUnavailable
from strongroom.core.events import RecordUnreadable, StoreFailed
from strongroom.core.policy import Routes
from tests.support.site import MINUTE, MakeSite, Site

pytestmark = pytest.mark.anyio

POLICY = SessionPolicy(routes=Routes(public=("/", "/public/*", "/sign-out")))


@pytest.mark.everywhere
async def test_private_routes_answer_503_and_nobody_is_let_in(new_site: MakeSite):
    """With Retry-After, for people and programs, and no cookie is touched (P22)."""
    site = await new_site(policy=POLICY)
    alice = await site.signed_in()
    before = alice.jar.snapshot()
    site.store.down = True
    for response in (
        await alice.goto("/nothing"),
        await alice.fetch("/nothing"),
        await alice.post("/set?a=b"),
        await alice.goto("/no/such/page"),
    ):
        assert response.status == 503
        assert response.header("retry-after") == "5"
        assert response.cookies == []
    assert (await alice.fetch("/nothing")).json["code"] == "store_unavailable"
    assert alice.jar.snapshot() == before
    assert site.told(StoreFailed)[0].reason == "store_unavailable"
    site.store.down = False
    assert await site.who(alice) == "alice"


async def test_public_routes_go_on_without_anybody(new_site: MakeSite):
    """Anonymous, read-only, and `unavailable` is true (H1)."""
    site = await new_site(policy=POLICY)
    alice = await site.signed_in()
    site.store.down = True
    response = await alice.goto("/")
    assert response.status == 200
    assert response.json == {
        "subject": None,
        "pending": None,
        "id": None,
        "data": {},
        "unavailable": True,
    }
    assert response.cookies == []
    visitor = site.browser()
    assert (await visitor.goto("/")).json["unavailable"] is False
    assert (await visitor.goto("/nothing")).status == 200


async def test_what_cannot_be_kept_is_not_taken(new_site: MakeSite):
    """On a public route during an outage, writing raises instead of losing (P22)."""
    site = await new_site(policy=POLICY)

    @site.page("/public/write")
    async def write(call):
        with pytest.raises(SessionReadOnly):
            call.session["cart"] = "book"
        with pytest.raises(SessionReadOnly):
            call.session.clear()
        return "refused"

    alice = await site.signed_in()
    site.store.down = True
    assert (await alice.goto("/public/write")).json == "refused"


async def test_nobody_is_told_that_they_are_signed_out_when_they_are_not(new_site: MakeSite):
    """Signing out on a public route during an outage is a 503, not a comforting page (P14, P22)."""
    site = await new_site(policy=POLICY)
    alice = await site.signed_in()
    site.store.down = True
    for _ in range(2):
        assert (await alice.post("/sign-out")).status == 503
    site.store.down = False
    assert await site.who(alice) == "alice"
    assert (await alice.post("/sign-out")).status == 200


@pytest.mark.parametrize("verb", ["read_epoch", "insert", "end"])
async def test_a_sign_in_that_the_store_fails_signs_nobody_in(new_site: MakeSite, verb: str):
    """Whatever it was doing: 503, nobody signed in, nothing half done (P22, E4)."""
    site = await new_site(policy=POLICY)
    browser = await site.signed_in("bob")
    failing = True

    async def fail(*_: Any) -> None:
        nonlocal failing
        if failing:
            failing = verb != "end"
            raise StoreUnavailable("The disk is full.")

    site.store.before[verb] = fail
    response = await browser.fetch("/sign-in", "POST", chunks=[b"subject=alice"])
    assert response.status == 503
    assert response.cookies == []
    site.store.before.clear()
    assert await site.manager.sessions_of("alice") == []
    assert await site.who(browser) == "bob"


async def test_an_insert_that_failed_after_all_is_undone(site: Site):
    """The store had written it when the connection broke (E1)."""

    async def broken(*_: Any) -> None:
        raise StoreUnavailable("The connection broke.")

    site.store.after["insert"] = broken
    browser = site.browser()
    assert (await browser.fetch("/sign-in", "POST", chunks=[b"subject=alice"])).status == 503
    site.store.after.clear()
    assert await site.manager.sessions_of("alice") == []


@pytest.mark.everywhere
@pytest.mark.parametrize("verb", ["replace", "touch", "insert"])
async def test_a_commit_that_fails_is_a_503_and_not_a_success(site: Site, verb: str):
    """Nothing is acknowledged that was not kept (P22)."""
    browser = site.browser() if verb == "insert" else await site.signed_in()
    site.clock.advance(2 * MINUTE)

    async def fail(*_: Any) -> None:
        raise StoreUnavailable("No answer.")

    site.store.before[verb] = fail
    response = await browser.post("/set?cart=book")
    assert response.status == 503
    assert response.cookies == []
    site.store.before.clear()
    assert (await browser.post("/set?cart=bike")).status == 200
    assert await site.data(browser) == {"cart": "bike"}


async def test_the_store_goes_down_while_the_application_runs(site: Site):
    """Actions raise where they are called; the answer is a 503 (E1)."""

    @site.page("/act")
    async def act(call):
        site.store.down = True
        await getattr(call.session, call.query["do"])()

    alice = await site.signed_in()
    for action in ("sign_out", "elevate", "sign_out_others", "sessions", "hand_over"):
        response = await alice.fetch(f"/act?do={action}", "POST")
        site.store.down = False
        assert (response.status, response.cookies) == (503, []), action
        assert await site.who(alice) == "alice"


async def test_a_sign_out_is_kept_although_the_store_then_fails(site: Site):
    """The end was acknowledged, so its cookie goes too (P14)."""

    @site.page("/out-and-fail")
    async def out(call):
        await call.session.sign_out()
        site.store.down = True
        call.session["goodbye"] = True

    alice = await site.signed_in()
    response = await alice.post("/out-and-fail")
    assert response.status == 503
    assert site.token(alice) is None


async def test_a_history_that_cannot_be_stored_loses_no_request(site: Site):
    """Events go to the sinks all the same, after the response (DESIGN 6.8)."""

    async def fail(*_: Any) -> None:
        raise StoreUnavailable("No answer.")

    site.store.before["append"] = fail
    alice = await site.signed_in()
    assert await site.who(alice) == "alice"
    assert len(site.events) > 0


async def test_a_sink_that_fails_loses_no_request(new_site: MakeSite):
    """It is reported, and the other sinks go on (DESIGN 6.8)."""
    site = await new_site()

    def broken(_: object) -> None:
        raise RuntimeError("full")

    site.manager._sinks = (broken, site.events.append)
    alice = await site.signed_in()
    assert await site.who(alice) == "alice"
    assert len(site.events) > 0


# Records that cannot be read.


def spoiled(raw: bytes, how: str) -> bytes:
    """The column's bytes after a bad disk or a newer release was at work."""
    if how == "header":
        return raw[:7]
    if how == "future":
        return b"c" + raw[1:]
    return bytes([raw[0] ^ 0xFF]) + raw[1:]


def spoil(site: Site, how: str) -> None:
    """Damage every record in the store."""
    column = "header" if how == "future" else how
    if site.folder is not None:
        connection = sqlite3.connect(site.folder / "sessions.db")
        with connection:
            rows = connection.execute(f"SELECT id, {column} FROM session").fetchall()
            changed = [(spoiled(raw, how), row) for row, raw in rows if raw]
            connection.executemany(f"UPDATE session SET {column} = ? WHERE id = ?", changed)
        connection.close()
        return
    memory = site.store.real.store  # type: ignore[attr-defined]
    for key, record in memory._records.items():
        assert column != "header", "the memory store keeps headers as objects"
        damaged = spoiled(getattr(record, how) or b"?", how)
        memory._records[key] = replace(record, **{how: damaged})


@pytest.mark.stores("memory", "sqlite")
@pytest.mark.parametrize("how", ["envelope", "data"])
async def test_an_unreadable_record_is_503_and_never_a_sign_out(site: Site, how: str):
    """Garbled or cut off: nobody loses their session (C4)."""
    await unreadable_is_503(site, how)


@pytest.mark.stores("sqlite")
@pytest.mark.parametrize("how", ["header", "future"])
async def test_an_unreadable_header_is_503_and_never_a_sign_out(site: Site, how: str):
    """Garbled, or of a release after the next; the memory store keeps headers as objects (C4)."""
    await unreadable_is_503(site, how)


async def unreadable_is_503(site: Site, how: str) -> None:
    """Damage the record of somebody who is signed in, and look what they get."""
    alice = await site.signed_in()
    await alice.post("/set?cart=book")
    site.manager.context.opened.clear()
    spoil(site, how)
    before = alice.jar.snapshot()
    response = await alice.fetch("/")
    assert response.status == 503
    assert response.json["code"] == "unreadable_record"
    assert (await alice.goto("/")).cookies == []
    assert alice.jar.snapshot() == before
    if how == "envelope":
        assert site.told(RecordUnreadable)


@pytest.mark.stores("memory", "sqlite")
async def test_one_unreadable_record_does_not_hide_the_others_in_a_list(site: Site):
    """The owner still sees and ends the sessions that can be read (C4)."""
    alice = await site.signed_in()
    site.manager.context.opened.clear()
    spoil(site, "envelope")
    again = await site.signed_in()
    (listed,) = (await again.goto("/sessions")).json
    assert listed["current"]
    assert (await again.post("/sign-out-everywhere")).status == 200
    site.clock.advance(MINUTE)
    assert (await alice.fetch("/")).status in (200, 503)
