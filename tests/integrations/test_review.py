"""What a security review found in the middleware and its sockets, as the tests that now hold."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from strongroom import CsrfRules, SessionPolicy, keyfile
from strongroom.core.errors import ConfigurationError
from strongroom.core.exchange import RequestFacts
from strongroom.core.visit import Visit
from strongroom.integrations.asgi import SessionMiddleware
from strongroom.keyfile import generate
from strongroom.setup import KEYS_VARIABLE, async_manager, sync_manager
from strongroom.stores.memory import MemoryStore
from tests.support.browser import Browser
from tests.support.flows import a_key, a_ring
from tests.support.site import KEYS, MINUTE, Site

pytestmark = pytest.mark.anyio

QUICK = SessionPolicy(max_staleness=timedelta(milliseconds=10))
OWN = {"sec-fetch-site": "same-origin", "origin": "http://localhost"}


@pytest.fixture
async def a_site() -> AsyncIterator[Callable[..., Site]]:
    """Makes sites of one kind: none of this depends on the framework."""
    made: list[Site] = []

    def make(**settings: Any) -> Site:
        made.append(Site("asgi", "memory://", **settings))
        return made[-1]

    yield make
    for site in made:
        await site.manager.stop()


async def visit_with(site: Site, browser: Browser) -> Visit:
    """A socket's visit, opened with what is in the browser's jar now."""
    cookie = f"{site.cookie}={site.token(browser)}".encode()
    headers = [(b"host", b"app.example"), (b"cookie", cookie)]
    return await site.manager.open(RequestFacts(method="GET", headers=headers, websocket=True))


# Sockets.


@pytest.mark.parametrize("how", ["credentials_changed", "elevate"])
async def test_a_socket_opened_with_the_token_before_is_over(
    a_site: Callable[..., Site], how: str
) -> None:
    """A copy of the token that was rotated away is dead on open sockets too (P16, P26)."""
    site = a_site()

    @site.page("/credentials_changed")
    async def change(call: Any) -> None:
        await call.session.credentials_changed(amr="pwd")

    alice = await site.signed_in()
    before = await visit_with(site, alice)
    assert await site.manager.still_lives(before)
    assert (await alice.post(f"/{how}")).status == 200
    assert not await site.manager.still_lives(before)
    assert await site.manager.still_lives(await visit_with(site, alice))


def sealed_under(store: MemoryStore) -> int:
    """Which key the one record's envelope is sealed under."""
    (record,) = store.snapshot().records.values()
    return record.header.envelope_key_id


async def test_a_socket_whose_token_s_key_was_retired_is_over(
    a_site: Callable[..., Site], tmp_path: Path
) -> None:
    """Also where the record has been sealed under the newer key since (P16, A1)."""
    path = tmp_path / "keys"
    older, newer = a_key(1), a_key(2)
    keyfile.write(path, a_ring(older))
    site = a_site(keys=path)
    alice = await site.signed_in()
    keyfile.write(path, a_ring(newer, older), replace=True)
    site.clock.advance(16 * MINUTE)
    store: MemoryStore = site.store.real.store  # type: ignore[attr-defined]
    for _ in range(8):
        assert await site.who(alice) == "alice"
        if sealed_under(store) == 2:
            break
        site.clock.advance(200_000)
    visit = await visit_with(site, alice)
    assert visit.token is not None
    assert (visit.token.key_id, sealed_under(store)) == (1, 2)
    assert await site.manager.still_lives(visit)
    gone = replace(older, secret=b"", retired_at=site.clock())
    keyfile.write(path, a_ring(newer, gone), replace=True)
    site.clock.advance(2000)
    assert not await site.manager.still_lives(visit)


async def test_a_wrong_keyring_at_one_moment_leaves_no_socket_unwatched(
    a_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever one check raises, the next sockets are asked about (P16)."""
    site = a_site(policy=QUICK)

    @site.socket("/chat")
    async def chat(talk: Any) -> None:
        await talk.accept()
        await talk.say("hello")
        await talk.hear()

    first, second = await site.signed_in("bob"), await site.signed_in("alice")
    sockets = [each.socket("/chat") for each in (first, second)]
    for each in sockets:
        assert await each.opened()
        await each.next()
    real, raised = site.manager.still_lives, list[str | None]()

    async def still_lives(visit: Visit) -> bool:
        if visit.subject == "bob":
            raised.append(visit.subject)
            raise ConfigurationError("The new keyring has another realm.")
        return await real(visit)

    monkeypatch.setattr(site.manager, "still_lives", still_lives)
    await site.manager.end_all_of("bob")
    await site.manager.end_all_of("alice")
    assert await sockets[1].closed() == 4401
    assert raised
    assert sockets[0].close_code is None
    monkeypatch.undo()
    assert await sockets[0].closed() == 4401, "and that one is asked about again"


# Paths.


async def _done(request: Request) -> PlainTextResponse:
    return PlainTextResponse("done")


@pytest.mark.parametrize("root", ["", "/app"])
def test_an_encoded_line_break_is_no_way_around_a_path_s_rule(root: str) -> None:
    """Starlette routes `/transfer%0A` to `/transfer`, so the rule must go with it (P19)."""
    rules = CsrfRules(own_token_paths=("/transfer",), json_paths=("/api",))
    routes = [Route(each, _done, methods=["POST"]) for each in ("/transfer", "/api", "/rename")]
    app = Starlette(routes=routes)
    policy = SessionPolicy.for_development(csrf=rules)
    app.add_middleware(
        SessionMiddleware, store="memory://", keys=generate("paths", 0), policy=policy, sinks=()
    )
    with TestClient(app, base_url="http://localhost", root_path=root) as client:

        def post(path: str) -> int:
            return client.post(root + path, data={"a": "1"}, headers=OWN).status_code

        assert post("/rename") == 200
        for path in ("/transfer", "/transfer%0A", "/api", "/api%0A"):
            assert post(path) == 403


# The response, and the start.


async def _serve(app: Any, scope: dict[str, Any]) -> list[dict[str, Any]]:
    """What a server is sent when it calls the application once."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup" if scope["type"] == "lifespan" else "http.request"}

    async def send(message: Any) -> None:
        sent.append({**message, "headers": list(message.get("headers", ()))})

    await app(scope, receive, send)
    return sent


def _get(scheme: str = "https") -> dict[str, Any]:
    headers = [(b"host", b"app.example")]
    return {"type": "http", "method": "GET", "path": "/", "headers": headers, "scheme": scheme}


@pytest.mark.parametrize("writes", [False, True])
async def test_headers_given_as_a_generator_all_arrive(
    a_site: Callable[..., Site], writes: bool
) -> None:
    """A policy that the application sends is not lost by being looked at twice."""
    told = [(b"content-type", b"text/html"), (b"content-security-policy", b"default-src 'none'")]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if writes:
            scope["session"]["seen"] = 1
        headers = (each for each in told)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    start, _body = await _serve(SessionMiddleware(app, manager=a_site().manager), _get())
    assert start["headers"][:2] == told
    assert any(name == b"set-cookie" for name, _ in start["headers"]) is writes


async def test_missing_keys_stop_the_server_at_start_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told as a failed start, with the sentence; where nobody listens, no request is served."""
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    calls: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope)

    broken = SessionMiddleware(app, store="memory://")
    (failed,) = await _serve(broken, {"type": "lifespan"})
    assert failed["type"] == "lifespan.startup.failed"
    assert "given no keys" in failed["message"]
    depths = set[int]()
    for scope in (_get(), _get(), {**_get("wss"), "type": "websocket"}):
        with pytest.raises(ConfigurationError, match="given no keys") as raised:
            await _serve(broken, scope)
        depths.add(len(raised.traceback))
    assert not calls
    assert len(depths) == 1, "a traceback that grows with every request"


def _warnings(caplog: pytest.LogCaptureFixture, about: str) -> int:
    return sum(
        each.levelno == logging.WARNING and about in each.getMessage()
        for each in caplog.records
        if each.name == "strongroom"
    )


async def test_a_secure_cookie_over_plain_http_is_warned_about_once(
    a_site: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    """Browsers drop it without a word, so the log says why nobody stays signed in (P18)."""
    site = a_site()
    await site.signed_in()
    assert _warnings(caplog, "over http") == 0
    for _ in range(2):
        await site.signed_in(origin="http://app.example")
    assert _warnings(caplog, "over http") == 1
    assert not any(token in caplog.text for token in site.tokens())


@pytest.mark.parametrize("make", [async_manager, sync_manager])
def test_a_memory_store_is_warned_about(
    make: Callable[..., Any], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Two workers would not see each other's sessions; a file says nothing."""
    make(f"sqlite:///{tmp_path}/s.db", KEYS)
    assert _warnings(caplog, "memory://") == 0
    make("memory://", KEYS)
    assert _warnings(caplog, "memory://") == 1
