"""aiohttp, with its own server's protocol."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from strongroom.integrations.aiohttp import get_session, setup
from tests.support.pages import METHODS, Reply, Talk, as_reply, call_of
from tests.support.site import Site

from .http_protocol import serve

_SIZES: dict[str, Any] = {"max_line_size": 1 << 21, "max_field_size": 1 << 21, "max_headers": 4096}
"""What the server lets through; other servers let as much through."""


def build(site: Site) -> Any:
    """The application, as ASGI."""
    return _Served(native(site))


def native(site: Site) -> web.Application:
    """The application, as aiohttp serves it."""

    async def endpoint(request: web.Request) -> web.StreamResponse:
        path = "/" + request.match_info["path"]
        if request.headers.get("upgrade") == "websocket":
            return await _talk(site, path, request)
        query = request.rel_url.raw_query_string
        body = await request.read()
        call = call_of(get_session(request), request.method, path, query, body)
        return await _answer(request, as_reply(await site.pages[path](call)))

    app = web.Application(client_max_size=1 << 22)
    for method in METHODS:
        app.router.add_route(method, "/{path:.*}", endpoint)
    setup(app, manager=site.manager)
    return app


async def _answer(request: web.Request, reply: Reply) -> web.StreamResponse:
    if reply.chunks is None and reply.after is None:
        return web.Response(body=reply.body, status=reply.status, headers=reply.headers)
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    await response.prepare(request)
    if reply.chunks is not None:
        async for chunk in reply.chunks:
            await response.write(chunk)
    await response.write(reply.body)
    await response.write_eof()
    if reply.after is not None:
        await reply.after()
    return response


async def _talk(site: Site, path: str, request: web.Request) -> web.WebSocketResponse:
    talk = AiohttpTalk(request)
    await site.sockets[path](talk)
    return talk.response


class AiohttpTalk(Talk):
    """A WebSocket through aiohttp's own object."""

    def __init__(self, request: web.Request) -> None:
        super().__init__(get_session(request), None, None)
        self.request = request
        self.response = web.WebSocketResponse()

    async def accept(self) -> None:
        """Take the handshake."""
        await self.response.prepare(self.request)

    async def hear(self) -> str | None:
        """The next text, or None when the client has gone."""
        message = await self.response.receive()
        return str(message.data) if message.type is web.WSMsgType.TEXT else None

    async def say(self, text: str) -> None:
        """Send a text."""
        await self.response.send_str(text)


class _Served:
    """The application as its runner serves it, one connection for each request."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._errors: dict[Any, BaseException] = {}
        """What handlers let escape, by connection: aiohttp logs it and answers 500."""
        self._handling: dict[Any, asyncio.Event] = {}
        """Set when a connection's handler has ended."""
        app.middlewares.insert(0, self._noting())
        self._runner: web.AppRunner | None = None

    def _noting(self) -> Any:
        @web.middleware
        async def noting(request: web.Request, handler: Any) -> web.StreamResponse:
            over = self._handling[request.protocol] = asyncio.Event()
            try:
                response: web.StreamResponse = await handler(request)
            except web.HTTPException:
                raise
            except Exception as error:
                self._errors[request.protocol] = error
                raise
            finally:
                over.set()
            return response

        return noting

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        runner = await self._started()
        assert runner.server is not None
        protocol = runner.server()

        async def handled() -> None:
            if protocol in self._handling:  # What its parser refuses has no handler.
                await self._handling[protocol].wait()

        await serve(protocol, scope, receive, send, handled)
        self._handling.pop(protocol, None)
        error = self._errors.pop(protocol, None)
        if error is not None:
            raise error  # As other frameworks do, once their page for 500 is sent.

    async def _started(self) -> web.AppRunner:
        if self._runner is None:
            # As most servers do, end a handler whose client has left.
            runner = web.AppRunner(self._app, access_log=None, handler_cancellation=True, **_SIZES)
            await runner.setup()
            self._runner = runner
        return self._runner

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        try:
            await self._started()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        runner, self._runner = self._runner, None
        assert runner is not None
        await runner.cleanup()
        await send({"type": "lifespan.shutdown.complete"})
