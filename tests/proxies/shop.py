"""A small application behind the proxies: sign in, look at oneself, change something, a socket.

uvicorn starts it in a process of its own, so what it trusts comes in environment variables.
"""

from __future__ import annotations

import json
import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from strongroom import SessionPolicy, TrustedProxies
from strongroom.integrations.doctor import endpoint
from strongroom.integrations.starlette import SessionMiddleware, session_of


async def sign_in_form(request: Request) -> Response:
    """A form, and with it the cookie of a visitor who has not signed in."""
    return HTMLResponse(f"<form method=post>{session_of(request).csrf_input()}</form>")


async def sign_in(request: Request) -> Response:
    """Everybody is alice."""
    session = session_of(request)
    async with session.authenticating("alice"):
        await session.sign_in("alice", amr=["pwd"])
    return JSONResponse({"signed_in": session.subject})


async def me(request: Request) -> Response:
    """Who is asking, and from where each of their sessions was begun."""
    session = session_of(request)
    if session.subject is None:
        return JSONResponse({"subject": None})
    sessions = await session.sessions()
    return JSONResponse(
        {"subject": session.subject, "addresses": [each.address for each in sessions]}
    )


async def change(request: Request) -> Response:
    """Something that only our own pages may do."""
    session = session_of(request)
    session["changes"] = session.get("changes", 0) + 1
    return JSONResponse({"changes": session["changes"]})


async def socket(websocket: WebSocket) -> None:
    """Says who is connected."""
    await websocket.accept()
    await websocket.send_json({"subject": session_of(websocket).subject})
    await websocket.close()


def policy() -> SessionPolicy:
    """The default policy for https, and whatever this deployment trusts."""
    wanted = json.loads(os.environ.get("SHOP", "{}"))
    proxies = TrustedProxies(
        wanted.get("networks", ()),
        wanted.get("hops"),
        wanted.get("header", "x-forwarded"),
        unix=wanted.get("unix", False),
    )
    return SessionPolicy(proxies=proxies, origins=tuple(wanted.get("origins", ())))


app = Starlette(
    routes=[
        Route("/", me),
        Route("/me", me),
        Route("/sign-in", sign_in_form),
        Route("/sign-in", sign_in, methods=["POST"]),
        Route("/change", change, methods=["POST"]),
        Route("/strongroom-doctor", endpoint),
        WebSocketRoute("/socket", socket),
    ]
)
app.add_middleware(
    SessionMiddleware,
    store="memory://",
    keys=os.environ.get("SHOP_KEYS", "var/strongroom.keys"),
    policy=policy(),
)
