"""The race bench finds what is broken, and finds nothing in us (P6, P7, P10, P13)."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from bench.races.ours import on_store
from bench.races.scenarios import SCENARIOS, Peer
from bench.races.web import AsgiSite, Gates

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def naive() -> Peer:
    """Sessions as one writes them at first: load, change, save all of it, whatever happened."""
    store: dict[str, dict[str, Any]] = {}
    gates = Gates()

    async def app(scope: Any, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        asked = {k: v[0] for k, v in parse_qs(scope["query_string"].decode()).items()}
        cookies = dict(scope["headers"]).get(b"cookie", b"").decode()
        key = cookies.partition("session=")[2] or secrets.token_hex()
        session = dict(store.get(key, {}))
        told = dict(session)
        match scope["path"]:
            case "/set":
                session[asked["key"]] = asked["value"]
            case "/login":
                session["user"] = asked["user"]
            case "/logout":
                store.pop(key, None)
                session = {}
        await gates.hold(asked.get("gate"))
        if session:
            store[key] = session
        line = f"session={key}".encode()
        headers = [(b"set-cookie", line)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})

    return Peer(AsgiSite(app), gates, cookie="session", made_up="a" * 32)


FAILS_AT = {
    "adopts a made-up id",
    "a read undoes a write",
    "two writers, one lost",
    "a read revives a signed-out session",
    "a write revives it",
    "the old id lives after sign-in",
}


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_race_is_lost_by_what_is_broken(name: str) -> None:
    """The bench can fail: sessions as one writes them at first lose the races that they must."""
    assert (await SCENARIOS[name](naive()) is True) or name not in FAILS_AT


@pytest.mark.parametrize("name", SCENARIOS)
async def test_we_lose_none(name: str) -> None:
    """In memory here; `make races` asks the same of every store."""
    peer: Any = on_store("memory://")
    try:
        assert await SCENARIOS[name](peer) is False
    finally:
        await peer.site.close()


async def test_nor_on_disk(tmp_path: Path) -> None:
    """All of them, one after the other, over one file."""
    peer: Any = on_store(f"sqlite:///{tmp_path}/sessions.db")
    told = {name: await scenario(peer) for name, scenario in SCENARIOS.items()}
    await peer.site.close()
    assert set(told.values()) == {False}
