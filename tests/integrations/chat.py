"""A small application with open sockets and streams, which uvicorn starts in several processes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from strongroom import SessionPolicy
from strongroom.integrations.doctor import endpoint
from strongroom.integrations.starlette import SessionMiddleware, session_of


async def sign_in(request: Request) -> Response:
    """Whoever says a name has it."""
    await session_of(request).sign_in(request.query_params["name"], amr=["pwd"])
    return PlainTextResponse("ok")


async def stream(request: Request) -> Response:
    """A server-sent event now and then, for ever."""
    name = session_of(request).subject

    async def events() -> AsyncIterator[str]:
        while True:
            yield f"data: {name}\n\n"
            await asyncio.sleep(0.02)

    return StreamingResponse(events(), media_type="text/event-stream")


async def chat(websocket: WebSocket) -> None:
    """Says who is connected, each time that something is said."""
    await websocket.accept()
    try:
        while True:
            await websocket.receive_text()
            await websocket.send_text(str(session_of(websocket).subject))
    except WebSocketDisconnect:
        return


app = Starlette(
    routes=[
        Route("/sign-in", sign_in, methods=["POST"]),
        Route("/stream", stream),
        WebSocketRoute("/chat", chat),
        Route("/strongroom-doctor", endpoint),
    ]
)
app.add_middleware(
    SessionMiddleware,
    store=os.environ["CHAT_STORE"],
    keys=os.environ["CHAT_KEYS"],
    policy=SessionPolicy.for_development(
        max_staleness=timedelta(seconds=float(os.environ["CHAT_STALENESS"]))
    ),
)
