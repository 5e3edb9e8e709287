"""Us, on every store, with and without the near cache."""

from __future__ import annotations

import json
import logging
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from strongroom import SessionPolicy
from strongroom.integrations.starlette import SessionMiddleware
from strongroom.keyfile import generate

from .scenarios import Peer
from .web import AsgiSite, Gates

_KEYS = generate("races", 1_767_225_600_000)


def on_store(url: str) -> Peer:
    """An application on Starlette, with its sessions there."""
    gates = Gates()

    async def get(request: Request) -> Response:
        session: Any = request.session
        told = dict(session)
        if session.subject:
            told["user"] = session.subject
        await gates.hold(request.query_params.get("gate"))
        return PlainTextResponse(json.dumps(told))

    async def put(request: Request) -> Response:
        session: Any = request.session
        session[request.query_params["key"]] = request.query_params["value"]
        await gates.hold(request.query_params.get("gate"))
        return PlainTextResponse("ok")

    async def login(request: Request) -> Response:
        session: Any = request.session
        await session.sign_in(request.query_params["user"])
        return PlainTextResponse("ok")

    async def rotate(request: Request) -> Response:
        session: Any = request.session
        await session.elevate(amr="otp")
        return PlainTextResponse("ok")

    async def logout(request: Request) -> Response:
        session: Any = request.session
        await session.sign_out()
        return PlainTextResponse("ok")

    app = Starlette(
        routes=[
            Route("/get", get),
            Route("/set", put, methods=["POST"]),
            Route("/login", login, methods=["POST"]),
            Route("/rotate", rotate, methods=["POST"]),
            Route("/logout", logout, methods=["POST"]),
        ]
    )
    logging.getLogger("strongroom").setLevel(logging.CRITICAL)
    app.add_middleware(SessionMiddleware, store=url, keys=_KEYS, policy=SessionPolicy(), sinks=())
    name = f"__Host-id-{_short()}"
    return Peer(AsgiSite(app), gates, cookie=name, made_up="A" * 84)


def _short() -> str:
    return _KEYS.unlock(1_767_225_600_001).store_identity[:4].hex()
