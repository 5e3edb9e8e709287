"""The races. Each tells True where the library fails, False where it holds, None where it cannot be
asked, because the library has no such thing."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from .web import Browser, Gates, Site, held


class Peer:
    """A library in an application with these pages: /get, /set, /login, /logout, /rotate."""

    def __init__(
        self,
        site: Site,
        gates: Gates,
        *,
        cookie: str,
        made_up: str,
        rotates: bool = True,
    ) -> None:
        self.site = site
        self.gates = gates
        self.cookie = cookie
        self.made_up = made_up
        self.rotates = rotates

    def browser(self) -> Browser:
        """A new client."""
        return Browser(self.site)

    async def data(self, browser: Browser) -> dict[str, Any]:
        """What the session holds, for these cookies; nothing where the request is refused."""
        answer = await browser.go("/get")
        if answer.status >= 400:
            return {}
        told: dict[str, Any] = json.loads(answer.body or "{}")
        return told

    async def signed_in(self) -> Browser:
        """A client that has signed in."""
        browser = self.browser()
        await browser.go("/login?user=alice", "POST")
        assert (await self.data(browser)).get("user") == "alice", "the sign-in did not work"
        return browser


Scenario = Callable[[Peer], Awaitable[bool | None]]


async def adopts_a_made_up_id(peer: Peer) -> bool | None:
    """A visitor comes with an id that the server never issued, and stores something."""
    victim = peer.browser()
    victim.jar[peer.cookie] = peer.made_up
    await victim.go("/set?key=secret&value=yes", "POST")
    attacker = peer.browser()
    attacker.jar[peer.cookie] = peer.made_up
    return "secret" in await peer.data(attacker)


async def a_read_undoes_a_write(peer: Peer) -> bool | None:
    """A slow request that only reads ends after a quick one has written."""
    browser = peer.browser()
    await browser.go("/set?key=a&value=1", "POST")
    reader = browser.copy()
    await held(reader, peer.gates, "/get", "GET", lambda: browser.go("/set?key=b&value=2", "POST"))
    return "b" not in await peer.data(browser)


async def two_writers_lose_one(peer: Peer) -> bool | None:
    """A slow request that writes one key ends after a quick one has written another."""
    browser = peer.browser()
    await browser.go("/set?key=a&value=1", "POST")
    slow = browser.copy()
    await held(
        slow,
        peer.gates,
        "/set?key=c&value=3",
        "POST",
        lambda: browser.go("/set?key=b&value=2", "POST"),
    )
    told = await peer.data(browser)
    return not {"b", "c"} <= set(told)


async def a_read_revives_a_signed_out_session(peer: Peer) -> bool | None:
    """A slow request that only reads ends after the sign-out."""
    return await _revived(peer, "/get", "GET")


async def a_write_revives_a_signed_out_session(peer: Peer) -> bool | None:
    """A slow request that writes ends after the sign-out."""
    return await _revived(peer, "/set?key=late&value=1", "POST")


async def _revived(peer: Peer, path: str, method: str) -> bool:
    browser = await peer.signed_in()
    slow, copy = browser.copy(), browser.copy()
    await held(slow, peer.gates, path, method, lambda: browser.go("/logout", "POST"))
    return "alice" in {(await peer.data(each)).get("user") for each in (copy, slow, browser.copy())}


async def the_old_id_lives_after_a_rotation(peer: Peer) -> bool | None:
    """A planted session is signed in with, as the documentation says; its old id is tried."""
    if not peer.rotates:
        return None
    browser = peer.browser()
    await browser.go("/set?key=planted&value=1", "POST")
    planted = browser.copy()
    if not planted.jar:
        return None
    await browser.go("/login?user=alice", "POST")
    return (await peer.data(planted)).get("user") == "alice"


async def a_read_revives_the_old_id(peer: Peer) -> bool | None:
    """A slow read under the old id ends after the sign-in has replaced it."""
    if not peer.rotates:
        return None
    browser = await peer.signed_in()
    old, slow = browser.copy(), browser.copy()
    await held(slow, peer.gates, "/get", "GET", lambda: browser.go("/rotate", "POST"))
    return (await peer.data(old)).get("user") == "alice"


async def a_copy_survives_the_sign_out(peer: Peer) -> bool | None:
    """No race: the cookie was copied, and the owner signs out."""
    browser = await peer.signed_in()
    copy = browser.copy()
    await browser.go("/logout", "POST")
    return (await peer.data(copy)).get("user") == "alice"


async def an_old_cookie_overwrites_a_newer(peer: Peer) -> bool | None:
    """A slow response arrives after the sign-in's, and puts the cookie from before into the jar."""
    browser = peer.browser()
    await browser.go("/set?key=a&value=1", "POST")
    slow = browser.copy()
    late = await held(
        slow, peer.gates, "/get", "GET", lambda: browser.go("/login?user=alice", "POST")
    )
    for name, value in late.cookies.items():
        if value:
            browser.jar[name] = value
        else:
            browser.jar.pop(name, None)
    return (await peer.data(browser)).get("user") != "alice"


SCENARIOS: dict[str, Scenario] = {
    "adopts a made-up id": adopts_a_made_up_id,
    "a read undoes a write": a_read_undoes_a_write,
    "two writers, one lost": two_writers_lose_one,
    "a read revives a signed-out session": a_read_revives_a_signed_out_session,
    "a write revives it": a_write_revives_a_signed_out_session,
    "the old id lives after sign-in": the_old_id_lives_after_a_rotation,
    "a read revives the old id": a_read_revives_the_old_id,
    "a copy survives the sign-out": a_copy_survives_the_sign_out,
    "a late response brings the old cookie back": an_old_cookie_overwrites_a_newer,
}
