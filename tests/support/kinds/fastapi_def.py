"""FastAPI with plain `def` endpoints: each page in a worker thread, without any `await`."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI
from starlette.requests import Request

from strongroom.integrations.fastapi import CurrentSession
from tests.support.pages import METHODS, in_thread
from tests.support.site import Site

from .fastapi import finished
from .starlette import call_from, response_of


def build(site: Site) -> Any:
    """The application."""
    app = FastAPI()

    async def whole_body(request: Request) -> bytes:
        return await request.body()

    @app.api_route("/{path:path}", methods=METHODS)
    def endpoint(
        request: Request, session: CurrentSession, body: bytes = Depends(whole_body)
    ) -> Any:
        call = call_from(request, session, body)
        return response_of(in_thread(site.pages[request.scope["path"]](call)))

    return finished(app, site)
