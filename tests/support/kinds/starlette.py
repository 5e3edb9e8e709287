"""Starlette, with `request.session`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from strongroom import Session
from strongroom.integrations.starlette import SessionMiddleware, session_of
from tests.support.pages import METHODS, Call, Talk, as_reply, call_of
from tests.support.site import Site


def build(site: Site) -> Any:
    """The application."""

    async def endpoint(request: Request) -> Response:
        call = call_from(request, session_of(request), await request.body())
        return response_of(await site.pages[request.scope["path"]](call))

    async def socket(connection: WebSocket) -> None:
        await talk(site, connection)

    app = Starlette(
        routes=[
            Route("/{path:path}", endpoint, methods=METHODS),
            WebSocketRoute("/{path:path}", socket),
        ]
    )
    app.add_middleware(SessionMiddleware, manager=site.manager)
    return app


def call_from(request: Request, session: Session, body: bytes) -> Call:
    """The call of a Starlette request."""
    query = request.scope["query_string"].decode("latin-1")
    return call_of(session, request.method, request.scope["path"], query, body)


def response_of(answered: Any) -> Response:
    """What a page returned, as Starlette's response."""
    reply = as_reply(answered)
    response: Response
    if reply.chunks is not None:
        response = StreamingResponse(reply.chunks, reply.status)
    else:
        response = Response(reply.body, reply.status)
    response.raw_headers += [(k.encode(), v.encode("latin-1")) for k, v in reply.headers]
    if reply.after is not None:
        response.background = BackgroundTask(_run, reply.after)
    return response


async def _run(after: Callable[[], Awaitable[None]]) -> None:
    """Starlette runs what is no coroutine function in a thread, such as a lambda that makes one."""
    await after()


async def talk(site: Site, socket: WebSocket) -> None:
    """Run a socket page on Starlette's WebSocket."""
    page = site.sockets[socket.scope["path"]]
    await page(Talk(cast(Session, socket.session), socket.receive, socket.send))
