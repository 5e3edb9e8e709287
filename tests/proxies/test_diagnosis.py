"""The doctor's endpoint: who is answered, what is told, and what never is."""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount

from strongroom import ConfigurationError, Keyring, SessionPolicy, TrustedProxies, keyfile
from strongroom.cli.doctor_findings import Finding
from strongroom.cli.doctor_http import Place, Reply
from strongroom.cli.doctor_told import check_told
from strongroom.core.diagnosis import HEADER, LIFETIME, is_proved, prove
from strongroom.core.tokens import blake2b_mac, hmac_sha512
from strongroom.integrations.asgi import ASGIApp, SessionMiddleware
from strongroom.integrations.doctor import endpoint
from strongroom.manager import AsyncSessionManager
from strongroom.stores.base import AsyncStore, NearStats
from strongroom.stores.bridge import MAY_BE_INLINE, AsyncBridge
from strongroom.stores.memory import MemoryStore
from strongroom.stores.urls import open_async_store
from strongroom.testing import FrozenClock

CLOCK = FrozenClock()
NOW = CLOCK()
RING = keyfile.generate("shop", NOW)
MASK = bytes(16)
PATH = "/strongroom-doctor"


def proof(ring: Keyring = RING, now: int = NOW) -> str:
    """What a holder of these keys sends at this moment."""
    return prove([ring.unlock(NOW, mac) for mac in (blake2b_mac, hmac_sha512)], now, MASK)


def asked(
    headers: dict[str, str] | None = None,
    *,
    policy: SessionPolicy | None = None,
    method: str = "GET",
    app: ASGIApp = endpoint,
    ring: Keyring = RING,
    client: tuple[str, int] = ("10.0.0.5", 40000),
    path: str = PATH,
    store: AsyncStore | None = None,
) -> httpx2.Response:
    """The answer to one request."""

    async def ask() -> httpx2.Response:
        kept = store or open_async_store("memory://")
        manager = AsyncSessionManager(kept, keys=ring, policy=policy, sinks=(), clock=CLOCK)
        async with manager:
            inside = SessionMiddleware(app, manager=manager)

            async def served(scope: Any, receive: Any, send: Any) -> None:
                """As a server does, with the state that the lifespan left."""
                await inside({**scope, "state": {"strongroom": manager}}, receive, send)

            transport = httpx2.ASGITransport(app=served, client=client)
            async with httpx2.AsyncClient(
                transport=transport, base_url="http://shop.example"
            ) as browser:
                return await browser.request(method, path, headers=headers or {HEADER: proof()})

    return asyncio.run(ask())


def told(**more: Any) -> dict[str, Any]:
    """What the application says."""
    reply = asked(**more)
    assert reply.status_code == 200, reply.text
    facts: dict[str, Any] = reply.json()
    return facts


def test_what_the_application_believes_is_told() -> None:
    """Scheme, host and client as resolved, who connected, and what would become of a form."""
    policy = SessionPolicy(proxies=TrustedProxies.of("10.0.0.5"))
    headers = {
        HEADER: proof(),
        "Origin": "https://shop.example",
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Proto": "https",
        "Cookie": "a=s3cret; b=s3cret",
    }
    facts = told(policy=policy, headers=headers)
    expected = {
        "scheme": "https",
        "host": "shop.example",
        "client": "203.0.113.7",
        "peer": "10.0.0.5",
        "server_scheme": "http",
        "rewritten": False,
    }
    assert {name: facts[name] for name in expected} == expected
    assert facts["proxies"]["networks"] == ["10.0.0.5/32"]
    assert facts["cookies"] == ["a", "b"]
    assert facts["csrf"]["verdict"] == facts["websocket"]["verdict"] == "allow"
    assert "s3cret" not in json.dumps(facts)


class NearCache(AsyncBridge):
    """A store in front of which a near cache is in this state."""

    def __init__(self, **state: Any) -> None:
        super().__init__(MemoryStore(), inline=MAY_BE_INLINE)
        self._state = state

    def keep_within(self, max_staleness: float) -> None:
        """Nothing is kept."""

    def stats(self) -> NearStats:
        """The state as it was given."""
        nothing = dict.fromkeys([each.name for each in fields(NearStats)], 0)
        return NearStats(**{**nothing, "alive": False, "max_staleness": 1.0, **self._state})


class ToTheApplication:
    """The doctor's way to the application, without a network."""

    def __init__(self, store: AsyncStore) -> None:
        self._store = store

    def get(self, place: Place, headers: dict[str, str]) -> Reply:
        """Ask it."""
        said = asked(headers=headers, store=self._store)
        told_headers = tuple(said.headers.multi_items())
        return Reply(place, said.status_code, told_headers, said.content, "10.0.0.5", "10.0.0.1")


def near_cache_findings(store: AsyncStore) -> list[Finding]:
    """What the doctor says of the near cache of the application that answers."""
    way: Any = ToTheApplication(store)
    place = Place("http", "shop.example", 80)
    found = check_told(way, place, proof(), NOW)
    return [each for each in found if each.check == "near_cache"]


@pytest.mark.parametrize(
    ("state", "verdict", "says"),
    [
        (
            {"alive": True, "entries": 1200, "size": 3 << 20, "hits": 981, "misses": 19,
             "proof_age": 0.1234, "channels": 1},
            "ok",
            "holds 1,200 sessions in 3.0 MiB, and answered 98% of 1,000 reads; "
            "its newest proof of life is 123 ms old.",
        ),
        (
            {"alive": True, "entries": 10, "hits": 4, "misses": 6, "proof_age": 0.1,
             "crowded_out": 11, "channels": 1},
            "warning",
            "too small: it holds 10 sessions in 0.0 MiB, and answered 40% of 10 reads.",
        ),
        ({}, "ok", "has not been used yet"),
        ({"channels": 7, "misses": 3, "proof_age": None}, "warning", "its push channel is not"),
    ],
)  # fmt: skip
def test_the_state_of_the_near_cache_is_told(
    state: dict[str, Any], verdict: str, says: str
) -> None:
    """Whether it lives, what it holds, how much it answers; what is wrong says what to do."""
    [finding] = near_cache_findings(NearCache(**state))
    assert (finding.verdict, says in finding.what) == (verdict, True), finding
    assert verdict == "ok" or (finding.why and finding.change)


def test_a_store_without_a_near_cache_is_no_finding() -> None:
    """Most have none, and need none."""
    assert not near_cache_findings(open_async_store("memory://"))


def test_the_peer_that_a_server_rewrote_is_known() -> None:
    """No connection comes from port 0."""
    assert told(client=("203.0.113.7", 0))["rewritten"] is True


def test_its_answer_sets_a_cookie_like_the_sessions_and_is_kept_by_nobody() -> None:
    """So that the doctor sees what the way back does to it."""
    reply = asked()
    line = reply.headers["set-cookie"]
    assert line == reply.json()["sent_cookie"]
    assert line.startswith("__Host-doctor-") and "; Max-Age=60; Path=/; Secure; HttpOnly" in line
    assert "no-store" in reply.headers["cache-control"]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "1.x",
        proof(keyfile.generate("shop", NOW)),
        proof(keyfile.generate("bank", NOW)),
        proof(now=NOW - LIFETIME - 1),
        proof(now=NOW + LIFETIME + 1),
        proof().replace(f"{NOW}.", f"{NOW + 1}."),
        ", ".join(["1.x"] * 4 + [proof()]),
    ],
    ids="empty shape other-keys other-realm old future moved many".split(),
)
def test_nobody_else_is_told(header: str) -> None:
    """They get the page that is not there, and no cookie."""
    reply = asked({HEADER: header})
    assert (reply.status_code, reply.text) == (404, "Not Found")
    assert "set-cookie" not in reply.headers


def test_other_methods_are_told_nothing() -> None:
    """With the right proof too."""
    for method in ("HEAD", "OPTIONS", "POST"):
        headers = {HEADER: proof(), "Sec-Fetch-Site": "same-origin"}
        assert asked(headers, method=method).status_code == 404


def test_keys_rotate() -> None:
    """Of two keys either proves, and a retired one nothing."""
    both = keyfile.rotated(RING, NOW, NOW)
    assert asked({HEADER: proof()}, ring=both).status_code == 200
    assert asked({HEADER: proof(both)}, ring=both).status_code == 200
    assert asked({HEADER: proof()}, ring=keyfile.retired(both, 1, NOW)).status_code == 404


def test_the_policy_need_not_be_known_to_ask() -> None:
    """A policy that wants only approved functions derives its keys by another hash."""
    assert asked(policy=SessionPolicy.nist_aal2()).status_code == 200


@given(st.text())
def test_no_text_is_a_proof(text: str) -> None:
    """And none makes it fail."""
    assert not is_proved(RING.unlock(NOW), text, NOW)


@given(st.integers(0, len(proof()) - 1), st.characters(min_codepoint=33, max_codepoint=126))
def test_no_character_of_a_proof_can_be_changed(place: int, character: str) -> None:
    """One proof by itself: each character counts."""
    whole = prove([RING.unlock(NOW)], NOW, MASK)
    place %= len(whole)
    if whole[place] != character and character != ",":
        changed = whole[:place] + character + whole[place + 1 :]
        assert not is_proved(RING.unlock(NOW), changed, NOW)


def test_a_proof_is_no_csrf_token() -> None:
    """It is bound to no session and no visitor."""
    token = proof().partition(".")[2].partition(",")[0]
    headers = {"X-CSRF-Token": token, "Cookie": "x=1"}
    assert asked(headers, method="POST").status_code == 403


def test_where_it_can_be_mounted() -> None:
    """As a route of FastAPI and Starlette, and as an application of its own."""
    fastapi = FastAPI()
    fastapi.add_route(PATH, endpoint)
    starlette = Starlette(routes=[Mount(PATH, endpoint)])
    assert asked(app=fastapi).status_code == 200
    assert asked(app=starlette, path=f"{PATH}/").status_code == 200


def test_outside_of_the_middleware_it_says_so() -> None:
    """There it could not know anything."""

    async def call() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        await endpoint(scope, None, None)

    with pytest.raises(ConfigurationError, match="without SessionMiddleware"):
        asyncio.run(call())
