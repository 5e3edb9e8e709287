"""Sessions for any ASGI application: one middleware, no framework.

It makes facts of the scope, opens the visit, asks the cross-site question, puts `session` into the
scope, closes the visit at the response's start, and applies the edits. One response has one writer:
a mounted application that brings this middleware too leaves the work to the outer one (F6).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from strongroom.core.adoption import Adoption
from strongroom.core.answers import Answer, answer
from strongroom.core.errors import (
    ConfigurationError,
    OvertakenError,
    StoreError,
    StrongroomError,
    UsageError,
)
from strongroom.core.events import EventSink
from strongroom.core.exchange import SAFE_METHODS, RequestFacts, ResponseEdits
from strongroom.core.flows import cross_site, cross_site_with, refuse_cross_site
from strongroom.core.policy import SessionPolicy
from strongroom.core.visit import Visit
from strongroom.manager import AsyncSessionManager
from strongroom.managing import KeySource
from strongroom.running import AsyncRunner
from strongroom.session import Session
from strongroom.setup import async_manager

from .body import FormToken
from .watching import Watch

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_MARK = "strongroom.exchange"
_REFUSED_HANDSHAKE = 4403
_log = logging.getLogger("strongroom")


class SessionMiddleware:
    """Gives every request a `session` in its scope.

    Args:
        app: the application.
        store: a URL, such as `sqlite:///var/sessions.db` or `memory://`.
        keys: the path of a key file (`strongroom keys generate`), or a `Keyring`.
        policy: the limits in force; without one, the defaults for https.
        sinks: where events go; without any, JSON lines in the logger `strongroom.events`.
        adopt: how the sessions of another library are taken over: see docs/moving.
        manager: an `AsyncSessionManager` of your own, instead of all these.

    What is contradictory, unsafe, or would not work stops the server at start-up, with a sentence;
    where nobody sends it start-up messages, every request raises that `ConfigurationError`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        store: str | None = None,
        keys: KeySource | None = None,
        policy: SessionPolicy | None = None,
        sinks: Iterable[EventSink] | None = None,
        adopt: Adoption | None = None,
        manager: AsyncSessionManager | None = None,
    ) -> None:
        self.app = app
        self._broken: StrongroomError | None = None
        try:
            self.manager = manager or async_manager(store, keys, policy, sinks, adopt)
            self.watch = Watch(self.manager)
        except StrongroomError as error:
            # Raised here, it would look to the server as if there were no lifespan at all, and the
            # application would start and answer every request with 500.
            self._broken = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if self._broken is not None:
            await _refuse_to_start(self._broken, kind, receive, send)
        elif kind == "lifespan":
            await self._lifespan(scope, receive, send)
        elif kind not in ("http", "websocket") or _MARK in scope:
            await self.app(scope, receive, send)
        else:
            await self._request(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start and stop with the application; the store is opened before the first request."""

        async def sending(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                try:
                    await self.manager.start()
                except StrongroomError as error:
                    _log.error("%s", error)
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self.watch.stop()
                await self.manager.stop()
            await send(message)

        scope.setdefault("state", {})["strongroom"] = self.manager
        await self.app(scope, receive, sending)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        _refuse_another(scope)
        exchange = self._exchange(scope, receive, send)
        manager = self.manager
        if (
            exchange.may_open_late
            and scope["type"] == "http"
            and manager.has_nothing_to_open(scope["method"], scope["headers"])
        ):
            scope["session"] = Unopened(exchange)
        else:
            facts = facts_of(scope, manager.policy)
            try:
                exchange.begin(facts, await manager.open(facts))
            except StrongroomError as error:
                await self._without_session(error, facts, scope, receive, send)
                return
            scope["session"] = exchange.session
        scope[_MARK] = exchange
        try:
            await exchange.run(scope)
        finally:
            if exchange.is_open:
                await manager.finish(exchange.visit)

    def _exchange(self, scope: Scope, receive: Receive, send: Send) -> Exchange:
        return Exchange(self, scope, receive, send)

    async def _without_session(
        self,
        error: StrongroomError,
        facts: RequestFacts,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Nothing was opened, so there is nothing to close: tell the client, or fail loudly."""
        del scope, receive
        told = answer(error, facts, self.manager.policy)
        if told is None:
            raise error
        await send_answer(told, facts, send)


class Exchange:
    """One request and its response, between the server and the application.

    Where there is nothing to open, nothing is made until somebody asks: an anonymous request that
    does not look at its session costs little more than two calls (docs/decisions/0110).
    """

    facts: RequestFacts
    visit: Visit
    runner: AsyncRunner
    session: Session
    is_open = False
    """Whether there is a visit, and with it all of the above."""

    session_type: type[Session] = Session
    may_open_late = True
    """Whether a request that has nothing to open may go without a visit until somebody asks."""

    def __init__(
        self, middleware: SessionMiddleware, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self.manager = middleware.manager
        self.watch = middleware.watch
        self.app = middleware.app
        self.receive = receive
        self.send = send
        self.started = False
        self._scope = scope
        self._loop = asyncio.get_running_loop()

    def begin(self, facts: RequestFacts, visit: Visit) -> None:
        """From here on there is a visit, and a session on it."""
        self.facts, self.visit = facts, visit
        self.runner = AsyncRunner(self.manager.store, self._loop)
        self.session = self.session_type(visit, self.runner)
        self.is_open = True

    def begin_late(self) -> None:
        """Somebody asked, where there was nothing to open: the visit is an anonymous one."""
        if self.is_open:
            return
        facts = facts_of(self._scope, self.manager.policy)
        visit = self.manager.anonymous(facts)
        visit.response_started = self.started
        self.begin(facts, visit)

    async def run(self, scope: Scope) -> None:
        """Ask the cross-site question, run the application, and undo what failed (E1)."""
        websocket = scope["type"] == "websocket"
        try:
            if websocket or scope["method"] not in SAFE_METHODS:
                await self._refuse_cross_site()
            if websocket:
                await self.watch.socket(self.app, scope, self.receive, self.send, self.visit)
            else:
                await self.app(scope, self._receiving, self._sending)
            if self.is_open:
                self.runner.check()
        except StrongroomError as error:
            self.begin_late()
            await self._undo()
            told = answer(error, self.facts, self.manager.policy)
            if self.started or told is None or isinstance(error, UsageError):
                raise
            await self._tell(told, failed=isinstance(error, OvertakenError))
        except BaseException:
            await self._undo()
            raise
        else:
            if not self.started and not websocket:
                await self._undo()

    async def _refuse_cross_site(self) -> None:
        """Ask whether this request may change something; the form's token is read if it must be.

        Raises:
            CsrfRefused: it may not (P19).
        """
        decision = cross_site(self.visit)
        if decision.verdict == "needs_token":
            form = FormToken(self.facts, self.receive, self.manager.policy.csrf.field)
            presented = await form.read()
            self.receive = form.replay
            decision = cross_site_with(self.visit, presented)
        refuse_cross_site(self.visit, decision)

    async def _receiving(self) -> Message:
        """The request on its way in; a stream's is another one once its response has started."""
        return await self.receive()

    async def _sending(self, message: Message) -> None:
        """The response on its way out: what it must carry is decided at its start."""
        if not self.started and message["type"] == "http.response.start":
            if self.is_open:
                message = await self._start(message)
            self.started = True
        await self.send(message)

    async def _start(self, message: Message) -> Message:
        self.runner.check()
        edits = await self._close(message["status"])
        self.started = True  # by now: what fails from here on is not undone
        if edits:
            if edits.cookies:
                self.manager.warn_of_plain_http(self.facts)
            message = {**message, "headers": edits.apply(message.get("headers", ()))}
        if self.visit.record is not None:
            # ASGI allows any iterable, and this one is looked at twice.
            headers = list(message.get("headers", ()))
            message = {**message, "headers": headers}
            self._follow_stream(headers)
        return message

    async def _close(self, status: int) -> ResponseEdits:
        """One commit -> what the response must carry (F1)."""
        return await self.manager.close(self.visit, status)

    def _follow_stream(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """A stream of server-sent events ends with its session (P16)."""
        for name, value in headers:
            if name.lower() == b"content-type" and value.startswith(b"text/event-stream"):
                self.receive, self.send = self.watch.stream(self.visit, self.receive, self.send)

    async def _undo(self) -> None:
        """The response failed: whoever it signed in is not signed in."""
        if not self.is_open:
            return
        self.runner.forget()
        if self.started:
            return
        try:
            await self.manager.abort(self.visit)
        except StoreError:
            # Its cookie never left, so the orphan is worth nothing, and its clocks end it.
            _log.exception("A session that a failed response began could not be ended")

    async def _tell(self, told: Answer, *, failed: bool) -> None:
        """An answer of ours, with the edits that are due whatever happened, such as sign-out.

        What `failed` because something else happened first is not saved in part either.
        """
        if not self.facts.websocket:
            try:
                edits = await self._close(500 if failed else told.status)
                told = Answer(told.status, edits.apply(told.headers), told.body)
            except StrongroomError:
                _log.exception("A refusal could not carry the session's cookies")
        self.started = True
        await send_answer(told, self.facts, self.send)


class Unopened(Session):
    """The session of a request that has nothing to open; it is opened by the first look at it."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __getattr__(self, name: str) -> Any:
        # Only what is not there yet is asked for here.
        if name not in ("_visit", "_runner"):
            raise AttributeError(name)
        self._exchange.begin_late()
        self._visit, self._runner = self._exchange.visit, self._exchange.runner
        return getattr(self, name)


def _refuse_another(scope: Scope) -> None:
    """A session middleware around ours keeps what it found in a dict, and finds ours in its place.

    Raises:
        ConfigurationError: there is one.
    """
    if isinstance(scope.get("session"), dict):
        raise ConfigurationError(
            "Another session middleware runs outside of Strongroom's.",
            why="Both would write the session, and the other one cannot write ours.",
            hint="Take the other session middleware out; docs/moving shows how people stay signed "
            "in.",
        )


async def _refuse_to_start(error: StrongroomError, kind: str, receive: Receive, send: Send) -> None:
    """The settings cannot work: the server is told at start-up, and every request after it."""
    _log.error("%s", error)
    if kind != "lifespan":
        # Without the frames of the requests before, which every raising would add to.
        raise error.with_traceback(None)
    await receive()
    await send({"type": "lifespan.startup.failed", "message": str(error)})


async def send_answer(told: Answer, facts: RequestFacts, send: Send) -> None:
    """Send an answer in the application's place; a handshake is refused before it is accepted."""
    if facts.websocket:
        await send({"type": "websocket.close", "code": _REFUSED_HANDSHAKE, "reason": ""})
        return
    length = (b"content-length", str(len(told.body)).encode())
    await send(
        {
            "type": "http.response.start",
            "status": told.status,
            "headers": [*told.headers, length],
        }
    )
    body = b"" if facts.method == "HEAD" else told.body
    await send({"type": "http.response.body", "body": body})


def facts_of(scope: Scope, policy: SessionPolicy) -> RequestFacts:
    """The facts of an ASGI scope."""
    client = scope.get("client")
    websocket = scope["type"] == "websocket"
    return RequestFacts(
        method="GET" if websocket else scope["method"],
        path=scope["path"],
        query=scope.get("query_string", b"").decode("latin-1"),
        scheme=scope.get("scheme", "ws" if websocket else "http"),
        peer=client[0] if client else None,
        headers=scope["headers"],
        proxies=policy.proxies,
        websocket=websocket,
        root=scope.get("root_path", ""),
    )
