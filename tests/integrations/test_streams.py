"""Responses in parts: a stream of events ends with its session, and what is late is kept (P16)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from strongroom import SessionPolicy
from tests.support.browser import Gate
from tests.support.site import MakeSite, Reply, Site

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site(new_site: MakeSite) -> Site:
    """A site that looks after open streams a hundred times a second."""
    return await new_site(policy=SessionPolicy(max_staleness=timedelta(milliseconds=10)))


def put_stream(site: Site, ticks: AsyncIterator[bytes]) -> None:
    """A stream of these ticks, on every kind of application."""

    @site.page("/stream")
    async def stream(call):
        assert call.session.subject == "alice"
        return Reply(chunks=ticks, headers=[("content-type", "text/event-stream")])


async def endless(every: float) -> AsyncIterator[bytes]:
    """Ticks until somebody stops it."""
    while True:
        yield b"data: tick\n\n"
        await asyncio.sleep(every)


@pytest.mark.needs("push")
@pytest.mark.parametrize("every", [0.005, 3600.0], ids=["busy", "quiet"])
@pytest.mark.parametrize("spec", ["2.3", "2.4"])
async def test_a_stream_is_cut_when_its_session_ends(site: Site, every: float, spec: str):
    """Also where nothing is being sent at that moment (P16)."""
    put_stream(site, endless(every))
    alice = await site.signed_in()
    alice.spec_version = spec
    pending = alice.begin("/stream")
    await asyncio.wait_for(pending.started.wait(), 5)
    await asyncio.sleep(0.03)
    assert pending.so_far().body.startswith(b"data: tick")
    assert not pending.complete.is_set()
    await site.manager.end_all_of("alice")
    await asyncio.wait_for(pending.complete.wait(), 5)
    if every > 1 and spec == "2.4":
        await pending.cancel()  # Such an application learns at its next tick that nobody listens.
    await asyncio.wait_for(asyncio.gather(pending.task, return_exceptions=True), 5)


@pytest.mark.needs("push")
async def test_a_stream_that_ends_by_itself_is_not_touched(site: Site):
    """And leaves no tasks behind (P16)."""

    async def three() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"data: tick\n\n"

    put_stream(site, three())
    alice = await site.signed_in()
    await site.who(alice)
    before = len(asyncio.all_tasks())
    response = await alice.goto("/stream")
    assert response.body == b"data: tick\n\n" * 3
    assert response.error is None
    for _ in range(100):
        if len(asyncio.all_tasks()) <= before:
            return
        await asyncio.sleep(0.02)
    assert len(asyncio.all_tasks()) <= before


@pytest.mark.needs("streams", "cancel")
async def test_a_server_that_cancels_after_a_response_loses_nothing(site: Site):
    """What was assigned and what was told are kept, though the server does not wait (E1)."""
    gate = Gate()

    async def assigning(session: Any) -> AsyncIterator[bytes]:
        yield b"one"
        session["late"] = True

    @site.page("/late")
    async def late(call):
        return Reply(chunks=assigning(call.session))

    async def wait(*_: object) -> None:
        await gate.pass_through()

    alice = await site.signed_in()
    site.store.before["replace"] = wait
    pending = alice.begin("/late")
    await gate.reached()
    await pending.cancel()
    gate.open()
    site.store.before.clear()
    await asyncio.sleep(0.05)
    assert await site.data(alice) == {"late": True}


@pytest.mark.needs("streams")
async def test_what_a_stream_assigns_while_it_runs_is_saved(site: Site):
    """A session that began before the response takes data to the end of it (E1)."""

    async def assigning(session: Any) -> AsyncIterator[bytes]:
        yield b"one"
        session["late"] = True
        yield b"two"

    @site.page("/late")
    async def late(call):
        return Reply(chunks=assigning(call.session))

    alice = await site.signed_in()
    assert (await alice.goto("/late")).body == b"onetwo"
    assert await site.data(alice) == {"late": True}
