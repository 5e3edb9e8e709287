"""A bare ASGI application: what the middleware does without any framework's help."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from strongroom.integrations.asgi import SessionMiddleware
from tests.support.pages import Talk, as_reply, call_of
from tests.support.site import Site


def build(site: Site) -> Any:
    """The application."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await site.sockets[scope["path"]](Talk(scope["session"], receive, send))
        else:
            await _answer(site, scope, receive, send)

    return SessionMiddleware(app, manager=site.manager)


async def _lifespan(receive: Any, send: Any) -> None:
    for done in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{done}"
        await send({"type": f"lifespan.{done}.complete"})


async def _answer(site: Site, scope: Any, receive: Any, send: Any) -> None:
    body = await _whole_body(receive)
    query = scope["query_string"].decode("latin-1")
    call = call_of(scope["session"], scope["method"], scope["path"], query, body)
    reply = as_reply(await site.pages[scope["path"]](call))
    headers = [(k.encode(), v.encode("latin-1")) for k, v in reply.headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if reply.chunks is not None:
        await _stream(reply.chunks, receive, send)
    await send({"type": "http.response.body", "body": reply.body})
    if reply.after is not None:
        await reply.after()


async def _stream(chunks: AsyncIterator[bytes], receive: Any, send: Any) -> None:
    """Send the parts until they end or the client has gone, as an application should."""

    async def all_parts() -> None:
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.create_task(all_parts()), asyncio.create_task(gone())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _whole_body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body
