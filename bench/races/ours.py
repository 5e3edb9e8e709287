"""Us, on every store, with and without the near cache."""

from __future__ import annotations

import json
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from strongroom import SessionPolicy
from strongroom.integrations.starlette import SessionMiddleware
from strongroom.keyfile import generate
from strongroom.manager import AsyncSessionManager
from strongroom.setup import async_manager

from .scenarios import Peer
from .web import AsgiSite, Gates

_KEYS = generate("races", 1_767_225_600_000)


class _Site(AsgiSite):
    """Ends its manager with itself."""

    def __init__(self, app: Any, manager: AsyncSessionManager) -> None:
        super().__init__(app)
        self._manager = manager

    async def close(self) -> None:
        """Close the store, and end its threads."""
        await self._manager.stop()


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
    manager = async_manager(url, _KEYS, SessionPolicy(), ())
    app.add_middleware(SessionMiddleware, manager=manager)
    name = f"__Host-id-{_short()}"
    return Peer(_Site(app, manager), gates, cookie=name, made_up="A" * 84)


def _short() -> str:
    return _KEYS.unlock(1_767_225_600_001).store_identity[:4].hex()
