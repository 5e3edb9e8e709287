"""Where the store pushes, sockets end at once; their own deadlines end them too (P16, E8).

`max_staleness` is a minute where a push is to close the socket, so that asking in turn cannot have.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from strongroom import SessionPolicy
from strongroom.stores.bridge import MAY_BE_INLINE, WatchableBridge
from strongroom.stores.near_cache import AsyncNearCache, Limits
from tests.support.browser import Browser, Socket
from tests.support.channels import FaultyStore
from tests.support.site import MINUTE, MakeSite, Site

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.stores("memory"),
    pytest.mark.needs("websockets"),
]

SLOW = SessionPolicy(max_staleness=timedelta(minutes=1))
QUICK = SessionPolicy(max_staleness=timedelta(milliseconds=20))


async def site_of(new_site: MakeSite, policy: SessionPolicy, **how: Any) -> Site:
    """A site with a chat on it."""
    site = await new_site(policy=policy, **how)

    @site.socket("/chat")
    async def chat(talk: Any) -> None:
        await talk.accept()
        while (text := await talk.hear()) is not None:
            await talk.say(f"{talk.session.subject}: {text}")

    return site


async def chatting(browser: Browser) -> Socket:
    """A socket that works, and that the store's channel covers."""
    socket = browser.socket("/chat")
    assert await socket.opened()
    await socket.ask("hello")
    await asyncio.sleep(0.05)
    return socket


@pytest.mark.parametrize("near", [False, True], ids=["store", "near cache"])
@pytest.mark.parametrize("how", ["one", "everybody"])
async def test_what_the_store_pushes_closes_the_socket_at_once(
    new_site: MakeSite, near: bool, how: str
):
    """By the store's own channel, or by the near cache's (P16)."""
    bridge = WatchableBridge(FaultyStore(), inline=MAY_BE_INLINE)
    store = AsyncNearCache(bridge, Limits(max_staleness=0.2)) if near else bridge
    # The near cache's own bound is shorter than the policy's: the smaller one wins.
    site = await site_of(new_site, SLOW, real_store=store)
    alice, bob = await site.signed_in(), await site.signed_in("bob")
    socket, other = await chatting(alice), await chatting(bob)
    if near:
        await asyncio.sleep(0.3)  # until a proof that was asked for after the sockets opened
    if how == "one":
        await site.manager.end_all_of("alice")
        assert await socket.closed() == 4401
        assert await other.ask("still there?") == "bob: still there?"
        await other.hang_up()
    else:
        await site.manager.end_everybody()
        assert await socket.closed() == 4401
        assert await other.closed() == 4401


@pytest.mark.parametrize("how", ["idle", "absolute"])
async def test_a_deadline_closes_the_socket_while_the_channel_says_nothing(
    new_site: MakeSite, how: str
):
    """No store tells that time has passed (P9, P16, E8)."""
    site = await site_of(new_site, QUICK)
    alice = await site.signed_in()
    socket = await chatting(alice)
    if how == "idle":
        site.clock.advance(30 * MINUTE - 1)
    else:
        for _ in range(8 * 3 - 1):
            site.clock.advance(20 * MINUTE)
            assert await site.who(alice) == "alice"
        site.clock.advance(20 * MINUTE - 1)
    await asyncio.sleep(0.1)
    assert socket.close_code is None
    site.clock.advance(1)
    assert await socket.closed() == 4401


@pytest.mark.slow
async def test_quiet_sockets_cost_the_store_nothing_while_it_pushes(new_site: MakeSite):
    """Ten thousand open sockets are not ten thousand reads a second (P16)."""
    site = await site_of(new_site, SessionPolicy(max_staleness=timedelta(milliseconds=200)))
    alice = await site.signed_in()
    socket = await chatting(alice)
    await asyncio.sleep(0.2)
    site.store.reset()
    await asyncio.sleep(2.0)
    assert site.store.counts["find"] <= 3  # asking in turn would be ten; a late proof costs one
    await socket.hang_up()


async def test_a_lost_channel_is_made_up_for_by_asking(new_site: MakeSite):
    """Refused, cut or silent: the socket still ends within the bound (P16, H3)."""
    faulty = FaultyStore()
    site = await site_of(new_site, QUICK, real_store=WatchableBridge(faulty, inline=MAY_BE_INLINE))
    alice = await site.signed_in()
    socket = await chatting(alice)
    faulty.refuses = True
    faulty.hold()
    faulty.cut_channel()
    await site.manager.end_all_of("alice")
    assert await socket.closed() == 4401
