"""Start-up and shutdown: the store is opened before the first request and closed after the last."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.site import Site

pytestmark = [pytest.mark.anyio, pytest.mark.needs("lifespan")]


@pytest.mark.everywhere
async def test_a_store_is_open_before_the_first_request(site: Site):
    """And it is closed when the server stops; the next start opens it again (DESIGN 4)."""
    for round_ in (1, 2):
        async with Running(site.app):
            assert site.store.counts["open"] == round_
            assert await site.who(await site.signed_in()) == "alice"
            assert site.store.counts["open"] == round_
        assert site.store.counts["close"] == round_


async def test_a_store_that_does_not_open_stops_the_server(site: Site):
    """It says why, instead of starting and answering every request with 503 (P22)."""

    async def down(*_: object) -> None:
        site.store.down = True
        await site.store.find(None)

    site.store.before["open"] = down
    with pytest.raises(AssertionError, match="does not answer"):
        async with Running(site.app):
            raise RuntimeError("it has started")
    site.store.before.clear()


class Running:
    """An application between the server's start and stop."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def __aenter__(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self._task = asyncio.create_task(self._app(scope, self._to_app.get, self._from_app.put))
        await self._ask("startup")

    async def __aexit__(self, *_: object) -> None:
        await self._ask("shutdown")
        await self._task

    async def _ask(self, what: str) -> None:
        self._to_app.put_nowait({"type": f"lifespan.{what}"})
        told = await asyncio.wait_for(self._from_app.get(), 10)
        if told["type"].endswith("failed"):
            self._task.cancel()  # as a server does, which now exits
            await asyncio.gather(self._task, return_exceptions=True)
        assert told["type"] == f"lifespan.{what}.complete", told
