"""Several processes on one store, keys that change under way, and whoever can write the database.

P3, P11, P16, A1 and A2 with more than one manager, or with somebody between manager and store.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from strongroom import Keyring
from strongroom.core.events import TokenReuse
from strongroom.core.sealing import Key
from strongroom.testing.clock import START
from tests.support.browser import Gate
from tests.support.site import KEYS, MINUTE, MakeSite, Site

pytestmark = pytest.mark.anyio

(FIRST,) = KEYS.keys


async def two(new_site: MakeSite, **settings: Any) -> tuple[Site, Site]:
    """Two processes, as far as sessions can tell: one store, one clock, a manager each."""
    one = await new_site(**settings)
    other = await new_site(beside=one, clock=one.clock, **settings)
    return one, other


def ring(*keys: Key) -> Keyring:
    """The keyring with these keys."""
    return replace(KEYS, keys=keys)


async def test_a_revocation_is_seen_by_other_processes_at_the_next_request(new_site: MakeSite):
    """Whatever they had verified, opened or cached (P16)."""
    one, other = await two(new_site)
    alice = await one.signed_in()
    there = other.browser()
    there.jar = alice.jar
    assert await other.who(there) == "alice"
    await one.manager.end_all_of("alice")
    assert await other.who(there) is None
    await one.sign_in(alice, "alice")
    assert await other.who(there) == "alice"
    await alice.post("/elevate")
    assert await other.who(there) == "alice"
    await other.manager.end_everybody()
    assert await one.who(alice) is None


async def test_writers_in_two_processes_both_survive(new_site: MakeSite):
    """Compare-and-set is the store's, not the process's (P7)."""
    one, other = await two(new_site)
    gate = Gate()
    for site in (one, other):

        @site.page("/write")
        async def write(call):
            call.session[call.query["key"]] = True
            await gate.pass_through()

    alice = await one.signed_in()
    there = other.browser()
    there.jar = alice.jar
    both = [alice.begin_fetch("/write?key=a"), there.begin_fetch("/write?key=b")]
    await gate.reached(2)
    gate.open()
    for each in both:
        assert (await each.response()).status == 200
    assert await one.data(alice) == {"a": True, "b": True}


async def test_racers_agree_while_a_key_takes_over(new_site: MakeSite):
    """One process has changed to the new key, the other has not: one successor (P11, A2)."""
    second = Key(2, b"k" * 32, created_at=START, issue_from=START + 19 * MINUTE)
    one, other = await two(new_site, keys=ring(FIRST, second))
    alice = await one.signed_in()
    await one.use_until_confirmed(alice)
    there = other.browser()
    there.jar.restore(alice.jar.snapshot())
    one.clock.set(START + 19 * MINUTE - 1)
    assert await one.who(alice) == "alice"
    one.clock.advance(2)
    assert await other.who(there) == "alice"
    assert one.token(alice) == other.token(there) is not None
    await one.use_until_confirmed(alice)
    assert await one.who(alice) == "alice"
    assert one.told(TokenReuse) == other.told(TokenReuse) == []


async def test_a_session_that_moved_to_a_new_key_outlives_the_old_one(new_site: MakeSite):
    """Retiring a key loses nobody who was active since the new one took over (A1)."""
    second = Key(2, b"k" * 32, created_at=START, issue_from=START + 10 * MINUTE)
    dying = replace(FIRST, retired_at=START + 100 * MINUTE)
    site = await new_site(keys=ring(dying, second))
    alice, bob = await site.signed_in("alice"), await site.signed_in("bob")
    await alice.post("/set?cart=book")
    while site.clock() < START + 99 * MINUTE:
        site.clock.advance(MINUTE)
        assert await site.who(alice) == "alice"
    half_way = site.clock()
    site.clock.set(START + 100 * MINUTE)
    assert half_way < site.clock()
    assert await site.data(alice) == {"cart": "book"}
    assert await site.who(alice) == "alice"
    assert await site.who(bob) is None


@pytest.mark.stores("sqlite")
async def test_a_form_outlives_the_change_of_a_key(new_site: MakeSite):
    """Its token says under which key it was made (G2)."""
    second = Key(2, b"k" * 32, created_at=START, issue_from=START + MINUTE)
    site = await new_site(keys=ring(FIRST, second))
    alice, visitor = await site.signed_in(), site.browser()
    forms = [(await each.goto("/token")).json for each in (alice, visitor)]
    site.clock.advance(2 * MINUTE)
    for browser, token in zip((alice, visitor), forms, strict=True):
        browser.old = True
        assert (await browser.post("/set?a=b", {"csrf_token": token})).status == 200


# Whoever can write the database.

Row = dict[str, bytes]


def rewrite(site: Site, change: Callable[[dict[bytes, Row]], None]) -> None:
    """Let an attacker change rows; they are found by session id."""
    assert site.folder is not None, "nobody else can write into the memory store"
    connection = sqlite3.connect(site.folder / "sessions.db")
    columns = ("session_id", "header", "envelope", "data", "subject_key")
    with connection:
        found = connection.execute(f"SELECT {', '.join(columns)} FROM session").fetchall()
        rows = {row[0]: dict(zip(columns, row, strict=True)) for row in found}
        change(rows)
        for session_id, row in rows.items():
            connection.execute(
                "UPDATE session SET header = ?, envelope = ?, data = ?, subject_key = ? "
                "WHERE session_id = ?",
                (row["header"], row["envelope"], row["data"], row["subject_key"], session_id),
            )
    connection.close()
    site.manager.context.opened.clear()


async def told(site: Site, browser: Any) -> tuple[int, str | None]:
    """Status, and whom the site takes the browser for."""
    response = await browser.fetch("/")
    return response.status, response.json.get("subject")


@pytest.mark.stores("sqlite")
@pytest.mark.parametrize("column", ["envelope", "data", "both", "all"])
async def test_a_database_writer_cannot_become_somebody_else(site: Site, column: str):
    """Alice's sealed parts in Mallory's row are damage, whichever are copied (P3)."""
    alice, mallory = await site.signed_in("alice"), await site.signed_in("mallory")
    for browser in (alice, mallory):
        await browser.post("/set?cart=book")
    ids = [bytes.fromhex((await each.goto("/")).json["id"]) for each in (alice, mallory)]
    copied = {"both": ("envelope", "data"), "all": ("envelope", "data", "subject_key")}

    def copy(rows: dict[bytes, Row]) -> None:
        for name in copied.get(column, (column,)):
            rows[ids[1]][name] = rows[ids[0]][name]

    rewrite(site, copy)
    status, subject = await told(site, mallory)
    assert (status, subject) == (503, None)
    assert await told(site, alice) == (200, "alice")


@pytest.mark.stores("sqlite")
async def test_a_database_writer_cannot_complete_a_pending_sign_in(site: Site):
    """The kind stands in the sealed envelope as well (P3, C2)."""
    mallory = site.browser()
    await site.sign_in(mallory, "alice", pending="1")

    def promote(rows: dict[bytes, Row]) -> None:
        for row in rows.values():
            row["header"] = row["header"][:3] + b"\x02" + row["header"][4:]

    rewrite(site, promote)
    assert (await told(site, mallory))[1] is None
    assert await site.manager.sessions_of("alice") == []


@pytest.mark.stores("sqlite")
async def test_a_database_writer_cannot_make_a_session_live_longer(site: Site):
    """All moments in the clear header pushed far away: the sealed deadline stands (P3)."""
    alice = await site.signed_in()

    def prolong(rows: dict[bytes, Row]) -> None:
        for row in rows.values():
            moments = len(row["header"]) - 8 * 8
            far = (START + 10**12).to_bytes(8, "big")
            late = row["header"][moments:]
            changed = late[:32] + far + far + far + late[56:]
            row["header"] = row["header"][:moments] + changed

    rewrite(site, prolong)
    assert await told(site, alice) == (200, "alice")
    site.clock.advance(8 * 60 * MINUTE - 1)
    assert await told(site, alice) == (200, "alice")
    site.clock.advance(1)
    assert (await told(site, alice))[1] is None


@pytest.mark.stores("sqlite")
async def test_reading_the_database_signs_nobody_in(site: Site):
    """Every value in it, presented as a cookie (P3)."""
    alice = await site.signed_in()
    await alice.post("/set?cart=book")
    found: list[bytes] = []
    rewrite(site, lambda rows: found.extend(v for row in rows.values() for v in row.values()))
    thief = site.browser()
    for raw in found:
        for start in range(0, max(1, len(raw) - 15), 4):
            piece = raw[start : start + 63].hex()
            thief.jar.plant(site.cookie, piece[:84], "app.example")
            assert (await told(site, thief))[1] is None
    assert await site.who(alice) == "alice"
