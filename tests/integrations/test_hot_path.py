"""What a request does not need does not happen, and what it then asks for is there all the same.

A request that has nothing to open makes no visit until somebody looks at its session. A request
that only reads writes nothing, whatever it looked at.
"""

from __future__ import annotations

from typing import Any

import pytest

from strongroom.core.errors import SessionReadOnly
from strongroom.core.visit import Visit
from strongroom.integrations import asgi
from strongroom.integrations.asgi import SessionMiddleware
from strongroom.keyfile import generate
from strongroom.manager import AsyncSessionManager
from strongroom.stores.bridge import AsyncBridge
from strongroom.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio
KEYS = generate("hot-path", 1_767_225_600_000)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Counting(AsyncBridge):
    """A store that notes what it is asked."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(), frozenset({"find"}))
        self.asked: list[str] = []

    async def _do(self, verb: str, call: Any, op: Any) -> Any:
        self.asked.append(verb)
        return await super()._do(verb, call, op)

    async def find(self, op: Any) -> Any:
        self.asked.append("find")
        return await super().find(op)


class Site:
    """An application of one page, which does what the test says."""

    def __init__(self) -> None:
        self.store = Counting()
        self.manager = AsyncSessionManager(self.store, keys=KEYS, sinks=())
        self.act: Any = None
        self.after: Any = None
        self.app = SessionMiddleware(self._page, manager=self.manager)
        self.cookie = b""

    async def _page(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if self.act is not None:
            await self.act(scope["session"])
        headers = iter([(b"content-type", b"text/plain")])
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if self.after is not None:
            await self.after(scope["session"])
        await send({"type": "http.response.body", "body": b"ok"})

    async def ask(self, method: str = "GET") -> list[tuple[bytes, bytes]]:
        """One request -> the response's headers."""
        told: list[tuple[bytes, bytes]] = []
        headers = [(b"host", b"shop.example"), (b"sec-fetch-site", b"same-origin")]
        scope = {
            "type": "http",
            "method": method,
            "path": "/",
            "scheme": "https",
            "headers": [*headers, (b"cookie", b"theme=dark" + self.cookie)],
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                told.extend(message["headers"])

        await self.app(scope, receive, send)
        for name, value in told:
            if name == b"set-cookie":
                self.cookie = b"; " + value.partition(b";")[0]
        return told

    async def signed_in(self) -> None:
        """Sign alice in, with a list in her session, and forget what the store was asked."""

        async def act(session: Any) -> None:
            await session.sign_in("alice")
            session["cart"] = [["book", 1]]

        self.act = act
        await self.ask("POST")
        self.act = None
        self.store.asked.clear()


@pytest.fixture
async def site() -> Any:
    made = Site()
    await made.manager.start()
    yield made
    await made.manager.stop()


async def test_an_anonymous_request_makes_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No visit, no facts, no store, no header of ours (P24)."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("something was made")

    monkeypatch.setattr(Visit, "__init__", never)
    monkeypatch.setattr(asgi, "facts_of", never)
    site.store.asked.clear()
    assert await site.ask() == [(b"content-type", b"text/plain")]
    assert site.store.asked == []


async def test_a_look_at_it_opens_it_late(site: Site) -> None:
    """Empty, nobody's, and the response depends on the cookie from then on (F5)."""
    seen: list[Any] = []

    async def act(session: Any) -> None:
        seen.extend([session.subject, dict(session), repr(session)])

    site.act = act
    assert (b"vary", b"Cookie") in await site.ask()
    assert seen == [None, {}, "<Session not stored anonymous>"]


async def test_what_is_put_into_it_is_kept(site: Site) -> None:
    """As where it was opened at once: the next request finds it."""

    async def put(session: Any) -> None:
        session["theme"] = "dark"

    found: list[Any] = []

    async def look(session: Any) -> None:
        found.append(session["theme"])

    site.act = put
    assert any(name == b"set-cookie" for name, _ in await site.ask())
    site.act = look
    await site.ask()
    assert found == ["dark"]


async def test_it_is_too_late_once_the_response_has_started(site: Site) -> None:
    """A session that is looked at for the first time then cannot begin any more."""

    async def after(session: Any) -> None:
        with pytest.raises(SessionReadOnly):
            session["theme"] = "dark"

    site.after = after
    headers = await site.ask()
    assert [name for name, _ in headers] == [b"content-type"]


async def test_a_list_that_was_only_read_is_no_change(site: Site) -> None:
    """One read of the store, no write, no cookie (P8, P13)."""
    await site.signed_in()

    async def act(session: Any) -> None:
        assert session["cart"] == [["book", 1]]

    site.act = act
    headers = await site.ask()
    assert site.store.asked == ["find"]
    assert all(name != b"set-cookie" for name, _ in headers)


async def test_a_list_that_was_changed_in_place_is_saved(site: Site) -> None:
    """Found by comparing the encoding, not by hoping that somebody sets a flag."""
    await site.signed_in()

    async def act(session: Any) -> None:
        session["cart"][0][1] += 1

    site.act = act
    await site.ask()
    assert site.store.asked == ["find", "replace"]


async def test_a_page_that_does_not_look_costs_one_read(site: Site) -> None:
    """Nothing is decrypted, nothing written, and no header is added."""
    await site.signed_in()
    assert await site.ask() == [(b"content-type", b"text/plain")]
    assert site.store.asked == ["find"]
