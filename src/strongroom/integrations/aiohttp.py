"""aiohttp's server: `setup(app, store=..., keys=...)`, then `get_session(request)`.

aiohttp speaks neither ASGI nor WSGI. A middleware in front of all others opens the session and
sends the response itself, so that it knows when the response is over; the signal
`on_response_prepare` is the response's start, also of streams and of aiohttp's own error pages.
WebSockets are closed with code 4401 and streams of events are cut when their session ends (P16).
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Awaitable, Callable, Iterable
from functools import wraps
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from strongroom.core.adoption import Adoption
from strongroom.core.answers import Answer, answer
from strongroom.core.csrf_forms import NeedMore, find_form_token
from strongroom.core.errors import (
    ConfigurationError,
    OvertakenError,
    StoreError,
    StrongroomError,
    UsageError,
)
from strongroom.core.events import EventSink
from strongroom.core.exchange import RequestFacts
from strongroom.core.flows import cross_site, cross_site_with, refuse_cross_site
from strongroom.core.policy import SessionPolicy
from strongroom.core.visit import Visit
from strongroom.manager import AsyncSessionManager
from strongroom.managing import KeySource
from strongroom.running import AsyncRunner
from strongroom.session import Session
from strongroom.setup import async_manager

from .watching import ENDED_CODE, Watch

__all__ = ["MANAGER", "get_session", "require_sign_in", "setup"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MANAGER = web.AppKey("strongroom.manager", AsyncSessionManager)
"""Where an application keeps its manager: `request.app[MANAGER]`."""

# aiohttp 3.14 brought typed keys for requests, and warns of others.
_EXCHANGE: Any = (
    web.RequestKey("strongroom.exchange", object)
    if hasattr(web, "RequestKey")
    else "strongroom.exchange"
)
_MAX_PREFIX = 64 * 1024
_FAILED = 500
_log = logging.getLogger("strongroom")


def setup(
    app: web.Application,
    *,
    store: str | None = None,
    keys: KeySource | None = None,
    policy: SessionPolicy | None = None,
    sinks: Iterable[EventSink] | None = None,
    adopt: Adoption | None = None,
    manager: AsyncSessionManager | None = None,
) -> None:
    """Give every request of the application, and of those mounted in it, a session.

    Call it last, on the outermost application: what it does must enclose everything else. `adopt`
    says how the sessions of another library are taken over: see docs/moving.

    Raises:
        ConfigurationError: what is contradictory, unsafe, or would not work, with a sentence.
    """
    if MANAGER in app:
        raise ConfigurationError(
            "This application has Strongroom's sessions already.",
            why="Two middlewares would each write the session.",
            hint="Call strongroom.integrations.aiohttp.setup(app, ...) once.",
        )
    serving = _Serving(manager or async_manager(store, keys, policy, sinks, adopt))
    app[MANAGER] = serving.manager
    app.middlewares.insert(0, serving.middleware())
    app.on_response_prepare.append(_prepare)
    app.on_startup.insert(0, serving.start)
    app.on_cleanup.append(serving.stop)


def get_session(request: web.Request) -> Session:
    """The session of a request.

    Raises:
        ConfigurationError: `setup` was not called on the application.
    """
    exchange = request.get(_EXCHANGE)
    if not isinstance(exchange, _Exchange):
        raise ConfigurationError(
            "This request has no Strongroom session.",
            why="Its application was not set up, or a middleware in front of ours asks for it.",
            hint="Call strongroom.integrations.aiohttp.setup(app, store=..., keys=...) last.",
        )
    return exchange.session


def require_sign_in(handler: Handler) -> Handler:
    """A handler for people who are signed in; others get the sign-in page, and programs 401."""

    @wraps(handler)
    async def guarded(request: web.Request) -> web.StreamResponse:
        get_session(request).require_sign_in()
        return await handler(request)

    return guarded


def facts_of(request: web.Request, policy: SessionPolicy) -> RequestFacts:
    """The facts of an aiohttp request; the peer is the socket's, whatever `remote` was set to."""
    transport = request.transport
    peer: Any = None if transport is None else transport.get_extra_info("peername")
    upgrade = request.headers.get("Upgrade", "").strip().lower()
    return RequestFacts(
        method=request.method,
        path=request.path,
        query=request.rel_url.raw_query_string,
        scheme=request.scheme,
        # A unix socket's peer is a path or nothing, which is no address.
        peer=str(peer[0]) if isinstance(peer, tuple) else None,  # pyright: ignore
        headers=[(name.lower(), value) for name, value in request.raw_headers],
        proxies=policy.proxies,
        websocket=upgrade == "websocket",
    )


class _Serving:
    """The sessions of one application."""

    def __init__(self, manager: AsyncSessionManager) -> None:
        self.manager = manager
        self.watch = Watch(manager)

    async def start(self, _app: web.Application) -> None:
        """Before the first request: open the store; what does not work stops the server."""
        await self.manager.start()

    async def stop(self, _app: web.Application) -> None:
        """After the last one."""
        await self.watch.stop()
        await self.manager.stop()

    def middleware(self) -> Any:
        """The middleware, in front of all others."""

        @web.middleware
        async def sessions(request: web.Request, handler: Handler) -> web.StreamResponse:
            if _EXCHANGE in request:
                return await handler(request)
            facts = facts_of(request, self.manager.policy)
            try:
                visit = await self.manager.open(facts)
            except StrongroomError as error:
                told = answer(error, facts, self.manager.policy)
                if told is None:
                    raise
                return _response(told)
            exchange = _Exchange(self, visit, request)
            request[_EXCHANGE] = exchange
            try:
                return await exchange.run(handler)
            finally:
                exchange.over()
                await self.manager.finish(visit)

        return sessions


class _Exchange:
    """One request and its response."""

    def __init__(self, serving: _Serving, visit: Visit, request: web.Request) -> None:
        self.serving = serving
        self.manager = serving.manager
        self.visit = visit
        self.facts = visit.facts
        self.request = request
        self.runner = AsyncRunner(self.manager.store, asyncio.get_running_loop())
        self.session = Session(visit, self.runner)
        self.started = False
        self.over: Callable[[], None] = lambda: None
        """What is open does not have to be closed any more when the session ends."""
        self._overtaken = False

    async def run(self, handler: Handler) -> web.StreamResponse:
        """Ask the cross-site question, run the handler, send its response to the end (E1)."""
        try:
            await self._refuse_cross_site()
            try:
                response = await handler(self.request)
                self.runner.check()
            except web.HTTPException as raised:
                # In aiohttp this is a response; it is sent here, and raised to whom it concerns.
                await self._send(raised)
                raise
            return await self._send(response)
        except StrongroomError as error:
            await self._undo()
            self._overtaken = isinstance(error, OvertakenError)
            told = answer(error, self.facts, self.manager.policy)
            if self.started or told is None or isinstance(error, UsageError):
                raise
            return await self._tell(told)
        except web.HTTPException:
            raise
        except BaseException:
            await self._undo()
            raise

    async def start(self, response: web.StreamResponse) -> None:
        """The response's start: one commit, and what the response must carry (F1)."""
        if self.started:
            return
        if self.facts.websocket:
            self.started = True
            if isinstance(response, web.WebSocketResponse):
                self._until_end(lambda: response.close(code=ENDED_CODE))
            return
        self.runner.check()
        if self.visit.aborts is not None and _has_left(self.request):
            raise ConnectionResetError("The client left before the response to its sign-in began.")
        edits = await self.manager.close(
            self.visit, _FAILED if self._overtaken else response.status
        )
        self.started = True
        if edits.cookies:
            self.manager.warn_of_plain_http(self.facts)
        if edits:
            headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in _pairs(response)]
            _put(response, edits.apply(headers))
        if response.content_type == "text/event-stream":
            self._until_end(_canceller())

    def _until_end(self, close: Callable[[], Awaitable[object]]) -> None:
        """Close it when its session ends (P16, E8)."""
        self.over()
        self.over = self.serving.watch.until_end(self.visit, close)

    async def _send(self, response: web.StreamResponse) -> web.StreamResponse:
        """To its last byte, so that what follows a response really does."""
        if not self.facts.websocket:
            await response.prepare(self.request)
            await response.write_eof()
        return response

    async def _tell(self, told: Answer) -> web.StreamResponse:
        """An answer of ours, with the edits that are due whatever happened, such as sign-out."""
        try:
            return await self._send(_response(told))
        except StrongroomError:
            _log.exception("A refusal could not carry the session's cookies")
            self.started = True
            return await self._send(_response(told))

    async def _undo(self) -> None:
        """The response failed: whoever it signed in is not signed in."""
        self.runner.forget()
        if self.started:
            return
        try:
            await self.manager.abort(self.visit)
        except StoreError:
            # Its cookie never left, so the orphan is worth nothing, and its clocks end it.
            _log.exception("A session that a failed response began could not be ended")

    async def _refuse_cross_site(self) -> None:
        """Ask whether this request may change something (P19)."""
        if self.facts.is_safe:
            return
        decision = cross_site(self.visit)
        if decision.verdict == "needs_token":
            field = self.manager.policy.csrf.field
            decision = cross_site_with(self.visit, await _form_token(self.request, field))
        refuse_cross_site(self.visit, decision)


async def _prepare(request: web.Request, response: web.StreamResponse) -> None:
    """Every response starts here, also those that aiohttp makes of an exception."""
    exchange = request.get(_EXCHANGE)
    if isinstance(exchange, _Exchange):
        await exchange.start(response)


async def _form_token(request: web.Request, field: str) -> str | None:
    """The token in the beginning of a form; afterwards the body reads as it came."""
    content_type = request.headers.get("Content-Type", "")
    found = find_form_token(content_type, b"", field)
    prefix, searched = bytearray(), 0
    try:
        while isinstance(found, NeedMore) and len(prefix) < _MAX_PREFIX:
            chunk = await request.content.readany()
            prefix += chunk
            # Searching when it has doubled, a body in single bytes buys no quadratic work.
            if not chunk or len(prefix) >= min(2 * searched, _MAX_PREFIX):
                searched = len(prefix)
                head = bytes(prefix[:_MAX_PREFIX])
                found = find_form_token(content_type, head, field, complete=not chunk)
    finally:
        if prefix:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # aiohttp would rather nobody did this.
                request.content.unread_data(bytes(prefix))
    return None if isinstance(found, NeedMore) else found


def _has_left(request: web.Request) -> bool:
    """Whether nobody waits for the response any more: its cookie would reach nobody (P14)."""
    return request.transport is None or request.transport.is_closing()


def _canceller() -> Callable[[], Awaitable[object]]:
    """Ends the handler of a stream, wherever it waits."""
    task = asyncio.current_task()

    async def cancel() -> None:
        if task is not None:
            task.cancel()

    return cancel


def _pairs(response: web.StreamResponse) -> list[tuple[str, str]]:
    return list(response.headers.items())


def _put(response: web.StreamResponse, headers: list[tuple[bytes, bytes]]) -> None:
    """Replace the headers; the content type is kept where aiohttp looks for it."""
    decoded = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    response.headers.clear()
    response.headers.extend(CIMultiDict(decoded))


def _response(told: Answer) -> web.Response:
    response = web.Response(status=told.status, body=told.body)
    _put(response, list(told.headers))
    return response
