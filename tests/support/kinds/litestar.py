"""Litestar, with its plugin: the session comes as a parameter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from litestar import Litestar, Request, WebSocket, route
from litestar.background_tasks import BackgroundTask
from litestar.handlers import websocket
from litestar.response import Response, Stream

from strongroom.integrations.litestar import CurrentSession, StrongroomPlugin, session_of
from tests.support.pages import METHODS, Talk, as_reply, call_of
from tests.support.site import Site


def build(site: Site) -> Any:
    """The application."""

    @route(["/", "/{path:path}"], http_method=METHODS, status_code=200)  # type: ignore[arg-type]
    async def endpoint(request: Request[Any, Any, Any], session: CurrentSession) -> Response[Any]:
        scope = request.scope
        query = scope["query_string"].decode("latin-1")
        body = await request.body()
        call = call_of(session, scope["method"], scope["path"], query, body)
        return response_of(await site.pages[scope["path"]](call))

    @websocket(["/", "/{path:path}"])
    async def socket(socket: WebSocket[Any, Any, Any]) -> None:
        page = site.sockets[socket.scope["path"]]
        await page(Talk(session_of(socket), socket.receive, socket.send))

    return Litestar(
        route_handlers=[endpoint, socket],
        plugins=[StrongroomPlugin(manager=site.manager)],
        openapi_config=None,
        logging_config=None,  # it would take the root logger's handlers away, and with them P5's
    )


async def _run(after: Callable[[], Awaitable[None]]) -> None:
    """Litestar awaits coroutine functions alone, and not what a lambda makes."""
    await after()


def response_of(answered: Any) -> Response[Any]:
    """What a page returned, as Litestar's response."""
    reply = as_reply(answered)
    headers = dict(reply.headers)
    background = None if reply.after is None else BackgroundTask(_run, reply.after)
    kind = headers.pop("content-type", "application/octet-stream")
    if reply.chunks is not None:
        return Stream(
            reply.chunks,
            status_code=reply.status,
            headers=headers,
            media_type=kind,
            background=background,
        )
    return Response(
        reply.body,
        status_code=reply.status,
        headers=headers,
        media_type=kind,
        background=background,
    )
