"""WebSockets and streams: read-only, saved by name, and closed with their session (P16, E8)."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from strongroom import SessionPolicy
from strongroom.core.errors import SessionReadOnly, UsageError
from strongroom.core.sealing import Key
from strongroom.testing.clock import START
from tests.support.browser import Browser, Socket
from tests.support.site import HOUR, KEYS, MINUTE, MakeSite, Site

pytestmark = [pytest.mark.anyio, pytest.mark.needs("websockets")]

QUICK = SessionPolicy(max_staleness=timedelta(milliseconds=10))


@pytest.fixture
async def site(new_site: MakeSite) -> Site:
    """A site that looks after open sockets a hundred times a second, with a chat on it."""
    site = await new_site(policy=QUICK)

    @site.socket("/chat")
    async def chat(talk):
        await talk.accept()
        while (text := await talk.hear()) is not None:
            await talk.say(f"{talk.session.subject}: {text}")

    return site


async def chatting(site: Site, browser: Browser) -> Socket:
    """A socket that works."""
    socket = browser.socket("/chat")
    assert await socket.opened()
    await socket.ask("hello")
    return socket


async def test_a_socket_is_in_the_session_of_its_handshake(site: Site):
    """The cookie of the handshake says who it is (P16)."""
    alice = await site.signed_in()
    socket = await chatting(site, alice)
    assert await socket.ask("hello") == "alice: hello"
    await socket.hang_up()
    visitor = site.browser().socket("/chat")
    assert await visitor.opened()
    assert await visitor.ask("hello") == "None: hello"
    await visitor.hang_up()


@pytest.mark.parametrize(
    "how", ["sign out", "operator", "everywhere", "everybody", "idle", "swept"]
)
async def test_a_socket_is_closed_when_its_session_ends_elsewhere(site: Site, how: str):
    """With 4401, and the application sees the client gone (P16)."""
    alice = await site.signed_in()
    other = await site.signed_in("bob")
    socket, bystander = await chatting(site, alice), await chatting(site, other)
    match how:
        case "sign out":
            await alice.post("/sign-out")
        case "operator":
            await site.manager.end_session("alice", (await alice.goto("/")).json["id"])
        case "everywhere":
            await (await site.signed_in()).post("/sign-out-everywhere")
        case "everybody":
            await site.manager.end_everybody()
        case "idle":
            site.clock.advance(29 * MINUTE)
            assert await site.who(other) == "bob"
            site.clock.advance(MINUTE)
        case _:
            site.clock.advance(29 * MINUTE)
            assert await site.who(other) == "bob"
            site.clock.advance(24 * 40 * HOUR)
            await site.manager.sweep()
    assert await socket.closed() == 4401
    assert socket.error is None
    if how in ("sign out", "operator", "everywhere", "idle"):
        assert await bystander.ask("still there?") == "bob: still there?"
        await bystander.hang_up()
    else:
        assert await bystander.closed() == 4401


async def test_retiring_a_key_closes_sockets_too(new_site: MakeSite):
    """Everything issued under it has ended, open or not (A1, P16)."""
    (key,) = KEYS.keys
    dying = replace(key, retired_at=START + 10 * MINUTE)
    newer = Key(2, b"k" * 32, created_at=START, issue_from=START + 10 * MINUTE)
    site = await new_site(policy=QUICK, keys=replace(KEYS, keys=(dying, newer)))

    @site.socket("/chat")
    async def chat(talk):
        await talk.accept()
        await talk.hear()

    alice = await site.signed_in()
    socket = alice.socket("/chat")
    assert await socket.opened()
    site.clock.advance(10 * MINUTE)
    assert await socket.closed() == 4401


async def test_a_socket_survives_an_outage_and_what_happened_in_it(site: Site):
    """A store that does not answer proves nothing; when it answers, the end is seen (P22)."""
    alice = await site.signed_in()
    socket = await chatting(site, alice)
    await site.manager.end_all_of("alice")
    site.store.down = True
    await asyncio.sleep(0.05)
    assert socket.close_code in (None, 4401)
    site.store.down = False
    assert await socket.closed() == 4401


async def test_one_unreadable_record_does_not_keep_other_sockets_open(site: Site):
    """Each is asked about, whatever became of the one before (P16)."""
    from strongroom.core.errors import UnreadableRecord

    first = await chatting(site, await site.signed_in("bob"))
    second = await chatting(site, await site.signed_in("alice"))
    bob = (await site.manager.sessions_of("bob"))[0].session_id

    async def garbled(op: Any) -> None:
        if op.session_id.hex() == bob:
            raise UnreadableRecord("Its header is cut off.")

    site.store.before["find"] = garbled
    await site.manager.end_all_of("alice")
    assert await second.closed() == 4401
    assert first.close_code is None
    site.store.before.clear()
    await first.hang_up()


async def test_sockets_leave_no_tasks_behind(site: Site):
    """Neither those that the client closes nor those that the session does (P16)."""
    alice = await site.signed_in()
    before = len(asyncio.all_tasks())
    for _ in range(5):
        await (await chatting(site, alice)).hang_up()
    last = await chatting(site, alice)
    await alice.post("/sign-out")
    assert await last.closed() == 4401
    await asyncio.sleep(0.05)
    gc.collect()
    assert len(asyncio.all_tasks()) <= before


async def test_a_socket_saves_only_when_it_says_so(site: Site):
    """Assigning alone is forgotten with the socket; `save` writes at once (TRAPS 21)."""

    @site.socket("/note")
    async def note(talk):
        await talk.accept()
        talk.session["draft"] = await talk.hear()
        await talk.say("noted")
        talk.session["kept"] = await talk.hear()
        await talk.session.save()
        await talk.say("saved")
        talk.session["forgotten"] = await talk.hear()

    alice = await site.signed_in()
    socket = alice.socket("/note")
    assert await socket.opened()
    await socket.ask("one")
    assert await site.data(alice) == {}
    await socket.ask("two")
    assert await site.data(alice) == {"draft": "one", "kept": "two"}
    await socket.hang_up()
    assert await site.data(alice) == {"draft": "one", "kept": "two"}


async def test_a_socket_cannot_start_or_end_what_needs_a_cookie(site: Site):
    """No response will ever carry one (E1)."""
    told: list[str] = []

    @site.socket("/act")
    async def act(talk):
        await talk.accept()
        session = talk.session
        actions = [session.sign_in("bob"), session.elevate(), session.sign_out()]
        actions += [session.accept_hand_over("x" * 84)]
        for action in actions:
            try:
                await action
            except UsageError as error:
                told.append(error.code)
            except Exception as error:
                told.append(type(error).__name__)
        await talk.say("done")

    @site.socket("/write")
    async def write(talk):
        await talk.accept()
        with pytest.raises(SessionReadOnly):
            talk.session["cart"] = "book"
        await talk.say("refused")

    alice = await site.signed_in()
    socket = alice.socket("/act")
    await socket.opened()
    await socket.next()
    assert told[:3] == ["usage", "usage", "usage"]
    assert await site.who(alice) == "alice"
    visitor = site.browser().socket("/write")
    await visitor.opened()
    assert (await visitor.next())["text"] == "refused"


async def test_sockets_are_no_activity_unless_they_say_so(site: Site):
    """Frames do not keep an absent user signed in; `touch` does, and tells the end (E8)."""
    told: list[bool] = []

    @site.socket("/touch")
    async def touch(talk):
        await talk.accept()
        while await talk.hear() is not None:
            told.append(await talk.session.touch())
            await talk.say("touched")

    alice = await site.signed_in()
    idle, active = await chatting(site, alice), alice.socket("/touch")
    await active.opened()
    for _ in range(4):
        site.clock.advance(20 * MINUTE)
        await active.ask("here")
        await idle.ask("here")
    assert told == [True] * 4
    assert await site.who(alice) == "alice"
    await site.manager.end_all_of("alice")
    assert await active.closed() == 4401
    assert await idle.closed() == 4401


async def test_a_socket_of_somebody_unknown_stays_open(site: Site):
    """There is no session to end (P16)."""
    socket = site.browser().socket("/chat")
    await socket.opened()
    await site.manager.end_everybody()
    await asyncio.sleep(0.05)
    assert await socket.ask("hello") == "None: hello"
    await socket.hang_up()


async def test_no_socket_is_opened_while_the_store_is_down(site: Site):
    """Nobody is let in (P22)."""
    alice = await site.signed_in()
    site.store.down = True
    socket = alice.socket("/chat")
    assert await socket.opened() is False
