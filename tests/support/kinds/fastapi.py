"""FastAPI with `async def` endpoints: the session comes as a parameter."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.websockets import WebSocket

from strongroom.integrations.fastapi import CurrentSession, SessionMiddleware
from tests.support.pages import METHODS
from tests.support.site import Site

from .starlette import call_from, response_of, talk


def build(site: Site) -> Any:
    """The application."""
    app = FastAPI()

    @app.api_route("/{path:path}", methods=METHODS)
    async def endpoint(request: Request, session: CurrentSession) -> Any:
        call = call_from(request, session, await request.body())
        return response_of(await site.pages[request.scope["path"]](call))

    return finished(app, site)


def finished(app: FastAPI, site: Site) -> Any:
    """The application with its sockets and its middleware."""

    @app.websocket("/{path:path}")
    async def socket(connection: WebSocket) -> None:
        await talk(site, connection)

    app.add_middleware(SessionMiddleware, manager=site.manager)
    return app
