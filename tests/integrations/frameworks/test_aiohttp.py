"""aiohttp's own server, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from strongroom import AsyncSessionManager, SessionPolicy, open_async_store
from strongroom.core.errors import ConfigurationError
from strongroom.core.events import LoginSuccess, SessionEndedEvent
from strongroom.integrations.aiohttp import MANAGER, get_session, require_sign_in, setup
from strongroom.keyfile import generate

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
OWN = {"sec-fetch-site": "same-origin", "accept": "application/json"}


@pytest.fixture
def events() -> list[Any]:
    return []


@pytest.fixture
async def client(events: list[Any]) -> AsyncIterator[Any]:
    app = web.Application(client_max_size=10**6)
    _pages(app)
    manager = AsyncSessionManager(
        open_async_store("memory://"),
        keys=generate("aiohttp", 0),
        policy=SessionPolicy.for_development(),
        sinks=[events.append],
    )
    setup(app, manager=manager)
    async with TestClient(TestServer(app, host="localhost"), headers=OWN) as client:
        yield client


def _pages(app: web.Application) -> None:
    async def index(request: web.Request) -> web.Response:
        session = get_session(request)
        return web.json_response({"subject": session.subject, "data": dict(session)})

    async def sign_in(request: web.Request) -> web.Response:
        form = await request.post()
        await get_session(request).sign_in(str(form.get("name", "alice")))
        return web.Response(text=str(len(form)))

    async def sign_out(request: web.Request) -> web.Response:
        await get_session(request).sign_out()
        raise web.HTTPSeeOther("/")

    async def put(request: web.Request) -> web.Response:
        get_session(request).update(request.query)
        return web.Response(text="kept")

    async def fail(request: web.Request) -> web.Response:
        await get_session(request).sign_in("alice")
        match request.query["how"]:
            case "raises":
                raise RuntimeError("boom")
            case "http":
                raise web.HTTPBadGateway
        return web.Response(status=500)

    async def forgetful(request: web.Request) -> web.Response:
        get_session(request).sign_in("alice")
        return web.Response()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"a")
        get_session(request)["late"] = True
        return response

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await asyncio.Event().wait()
        return response

    async def socket(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        await response.send_str(get_session(request).subject or "nobody")
        async for message in response:
            await response.send_str(message.data)
        return response

    async def token(request: web.Request) -> web.Response:
        return web.Response(text=get_session(request).csrf_token())

    @require_sign_in
    async def account(request: web.Request) -> web.Response:
        return web.Response(text=get_session(request).subject)

    app.add_routes(
        [
            web.get("/", index),
            web.post("/in", sign_in),
            web.post("/out", sign_out),
            web.get("/set", put),
            web.post("/fail", fail),
            web.post("/forgetful", forgetful),
            web.get("/stream", stream),
            web.get("/events", events),
            web.get("/socket", socket),
            web.get("/token", token),
            web.get("/account", account),
        ]
    )


async def told(client: Any) -> Any:
    async with client.get("/") as answer:
        return await answer.json()


async def sign_in(client: Any) -> None:
    async with client.post("/in", data={"name": "alice"}) as answer:
        assert answer.status == 200


async def test_signing_in_and_out(client: Any, events: list[Any]) -> None:
    """A new session at sign-in, data that is kept, and out is out, with a redirect that is raised
    (P10, P14)."""
    await (await client.get("/set?cart=2")).release()
    before = {each.key: each.value for each in client.session.cookie_jar}
    await sign_in(client)
    after = {each.key: each.value for each in client.session.cookie_jar}
    assert before.keys() == after.keys() and before != after
    assert await told(client) == {"subject": "alice", "data": {}}
    async with client.post("/out") as answer:
        assert (await answer.json())["subject"] is None
    assert len([each for each in events if isinstance(each, LoginSuccess)]) == 1


@pytest.mark.parametrize("how", ["raises", "http", "500"])
async def test_a_failed_response_signs_nobody_in(client: Any, events: list[Any], how: str) -> None:
    """An exception, an HTTPException of 5xx, a 500 that was returned (P14)."""
    async with client.post(f"/fail?how={how}") as answer:
        assert answer.status >= 500
        assert "set-cookie" not in answer.headers
    ended = [each.reason for each in events if isinstance(each, SessionEndedEvent)]
    assert ended == ["aborted_response"]
    assert (await told(client))["subject"] is None


async def test_a_forgotten_await_is_told(client: Any) -> None:
    """Nobody was signed in, and the answer is no 200."""
    async with client.post("/forgetful") as answer:
        assert answer.status == 500
    assert (await told(client))["subject"] is None


async def test_what_a_stream_assigns_is_saved_at_its_end(client: Any) -> None:
    """A session that began before the response takes data from its stream."""
    await sign_in(client)
    async with client.get("/stream") as answer:
        assert await answer.read() == b"a"
    for _ in range(100):
        if (await told(client))["data"]:
            break
        await asyncio.sleep(0.02)
    assert (await told(client))["data"] == {"late": True}


async def test_streams_and_sockets_end_with_their_session(client: Any) -> None:
    """Ended elsewhere, the session takes what is open with it, quiet as it is (P16)."""
    await sign_in(client)
    events = await client.get("/events")
    assert await events.content.readany() == b"data: 1\n\n"
    origin = {"origin": str(client.make_url("/").origin())}
    socket = await client.ws_connect("/socket", headers=origin)
    assert await socket.receive_str() == "alice"
    await client.server.app[MANAGER].end_all_of("alice")
    message = await socket.receive(timeout=30)
    assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 4401)
    with pytest.raises(aiohttp.ClientPayloadError):
        await asyncio.wait_for(events.content.read(), 30)


async def test_another_site_opens_no_socket_and_posts_nothing(client: Any) -> None:
    """Handshakes need our own origin, forms too (P19)."""
    await sign_in(client)
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await client.ws_connect("/socket", headers={"origin": "https://evil.example"})
    async with client.post("/out", headers={"sec-fetch-site": "cross-site"}) as answer:
        assert answer.status == 403
    assert (await told(client))["subject"] == "alice"


@pytest.mark.parametrize("size", [10, 300_000])
@pytest.mark.parametrize("multipart", [False, True])
async def test_a_form_is_whole_after_its_token_was_read(
    client: Any, size: int, multipart: bool
) -> None:
    """An old browser passes with its token, and the handler reads every field (P19)."""
    unsaid = {"sec-fetch-site": "unsaid"}
    token = await (await client.get("/token")).text()
    fields = {"csrf_token": token, "name": "bob", "text": "x" * size}
    form = aiohttp.FormData(fields, default_to_multipart=multipart)
    async with client.post("/in", data=form, headers=unsaid) as answer:
        assert (answer.status, await answer.text()) == (200, "3")
    assert (await told(client))["subject"] == "bob"
    async with client.post("/in", data={"name": "eve"}, headers=unsaid) as answer:
        assert answer.status == 403


async def test_our_refusals_are_answered_in_words(client: Any) -> None:
    """A person is sent to sign in and back; a program gets 401 with a code."""
    html = {"accept": "text/html"}
    async with client.get("/account?a=1", headers=html, allow_redirects=False) as answer:
        assert answer.headers["location"] == "/sign-in?next=%2Faccount%3Fa%3D1"
    async with client.get("/account") as answer:
        assert (answer.status, (await answer.json())["code"]) == (401, "sign_in_required")


async def test_concurrent_requests_lose_no_update(client: Any) -> None:
    """Two hundred requests at once, each with a key of its own: every key is there (P7)."""
    await sign_in(client)

    async def put(number: int) -> None:
        async with client.get(f"/set?key{number}={number}") as answer:
            assert answer.status == 200

    await asyncio.gather(*[put(number) for number in range(200)])
    assert len((await told(client))["data"]) == 200


async def test_every_byte_that_http_allows_in_the_cookie_header(client: Any) -> None:
    """In our cookie's value: no 500, and nobody is signed in by it (P2)."""
    await sign_in(client)
    (cookie,) = [each for each in client.session.cookie_jar if each.key.startswith("id-")]
    host, port = client.server.host, client.server.port
    for number in sorted({9, *range(32, 256)} - {127}):
        value = cookie.value[:40].encode() + bytes([number]) + cookie.value[41:].encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (
            f"GET / HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\ncookie: {cookie.key}="
        )
        writer.write(head.encode() + value + b"\r\n\r\n")
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200"), number
        assert (b'"alice"' in answer) == (value == cookie.value.encode())


async def test_what_newcomers_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setup, no keys, setup twice: each is told with what to do."""
    monkeypatch.delenv("STRONGROOM_KEYS", raising=False)
    with pytest.raises(ConfigurationError, match="strongroom keys generate"):
        setup(web.Application(), store="memory://")
    app = web.Application()
    setup(app, store="memory://", keys=generate("a", 0), sinks=())
    with pytest.raises(ConfigurationError, match="once"):
        setup(app, store="memory://", keys=generate("a", 0), sinks=())
    from aiohttp.test_utils import make_mocked_request

    with pytest.raises(ConfigurationError, match=r"setup\(app"):
        get_session(make_mocked_request("GET", "/"))


def test_importing_it_loads_no_other_framework() -> None:
    """No framework pays an import for another."""
    code = (
        "import sys, strongroom.integrations.aiohttp as f; print(sorted({m.partition('.')[0] "
        "for m in sys.modules} & {'starlette', 'fastapi', 'quart', 'flask', 'django', 'litestar'}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
