"""Quart, with `quart.session`."""

from __future__ import annotations

from typing import Any, cast

from quart import Quart, Response, request, session, websocket

from strongroom import Session
from strongroom.integrations.quart import Strongroom
from tests.support.pages import METHODS, Talk, as_reply, call_of
from tests.support.site import Site


def build(site: Site) -> Any:
    """The application."""
    app = native(site)
    # So that an error reaches the server, as it does from every other kind.
    app.config["PROPAGATE_EXCEPTIONS"] = True
    return app


def native(site: Site) -> Quart:
    """The application, as it is served."""
    app = Quart("site", static_folder=None)
    Strongroom(app, manager=site.manager)

    @app.route("/", defaults={"path": ""}, methods=METHODS, provide_automatic_options=False)
    @app.route("/<path:path>", methods=METHODS, provide_automatic_options=False)
    async def endpoint(path: str) -> Response:
        own = cast(Session, session._get_current_object())  # type: ignore[attr-defined]
        query = request.query_string.decode("latin-1")
        body = cast(bytes, await request.get_data())
        call = call_of(own, request.method, request.path, query, body)
        reply = as_reply(await site.pages[request.path](call))
        response = Response(reply.body if reply.chunks is None else reply.chunks, reply.status)
        response.headers.clear()
        for name, value in reply.headers:
            response.headers.add(name, value)
        return response

    @app.websocket("/", defaults={"path": ""})
    @app.websocket("/<path:path>")
    async def socket(path: str) -> None:
        own = cast(Session, session._get_current_object())  # type: ignore[attr-defined]
        await site.sockets[websocket.path](QuartTalk(own))

    return app


class QuartTalk(Talk):
    """A WebSocket through Quart's own object, which has no raw messages to give."""

    def __init__(self, own: Session) -> None:
        super().__init__(own, None, None)

    async def accept(self) -> None:
        """Take the handshake."""
        await websocket.accept()

    async def hear(self) -> str | None:
        """The next text; Quart cancels the page when the client has gone."""
        return cast(str, await websocket.receive())

    async def say(self, text: str) -> None:
        """Send a text."""
        await websocket.send(text)
