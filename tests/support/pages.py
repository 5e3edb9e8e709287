"""What a scenario is written in: pages as coroutine functions that take a `Call`.

A page is written once and knows no framework. Where pages run in a thread of their own, every
action of a session is done when it returns, so `in_thread` runs the same coroutine to its end.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qsl

from strongroom import Session

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@dataclass
class Reply:
    """A response by hand.

    With `chunks` it is sent in parts, as they come; `after` runs when all of it has been sent.
    """

    body: bytes = b""
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    chunks: AsyncIterator[bytes] | None = None
    after: Callable[[], Awaitable[None]] | None = None


@dataclass
class Call:
    """What a page is called with."""

    session: Session
    method: str
    path: str
    query: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        """The urlencoded form."""
        return dict(parse_qsl(self.body.decode("latin-1")))


Page = Callable[[Call], Awaitable[Any]]
SocketPage = Callable[["Talk"], Awaitable[None]]


class Talk:
    """A WebSocket as a socket page sees it."""

    def __init__(self, session: Session, receive: Any, send: Any) -> None:
        self.session = session
        self._receive = receive
        self._send = send

    async def accept(self) -> None:
        """Take the handshake."""
        message = await self._receive()
        assert message["type"] == "websocket.connect"
        await self._send({"type": "websocket.accept"})

    async def hear(self) -> str | None:
        """The next text, or None when the client has gone."""
        message = await self._receive()
        return message.get("text") if message["type"] == "websocket.receive" else None

    async def say(self, text: str) -> None:
        """Send a text."""
        await self._send({"type": "websocket.send", "text": text})


# The standard pages.


async def whoami(call: Call) -> Any:
    """Everything that a session says of itself."""
    session = call.session
    return {
        "subject": session.subject,
        "pending": session.pending_subject,
        "id": session.session_id,
        "data": dict(session),
        "unavailable": session.unavailable,
    }


async def _sign_in(call: Call) -> Any:
    form = call.form
    amr = form.get("amr", "pwd").split()
    async with call.session.authenticating(form["subject"]):
        if form.get("password", "right") == "right":
            await call.session.sign_in(form["subject"], amr=amr, pending="pending" in form)
    return {"subject": call.session.subject}


async def _sign_out(call: Call) -> Any:
    await call.session.sign_out()


async def _everywhere(call: Call) -> Any:
    return await call.session.sign_out_everywhere()


async def _elevate(call: Call) -> Any:
    await call.session.elevate(amr=call.query.get("amr", "otp"))


async def _set(call: Call) -> Any:
    for key, value in call.query.items():
        call.session[key] = value


async def _nothing(call: Call) -> Any:
    return "nothing to do with sessions"


async def _list(call: Call) -> Any:
    listed = await call.session.sessions(include_ended="all" in call.query)
    return [
        {
            "id": each.session_id,
            "current": each.current,
            "device": each.device,
            "address": each.address,
            "last_seen": each.last_seen.timestamp() * 1000,
            "reason": None if each.end_reason is None else each.end_reason.value,
        }
        for each in listed
    ]


async def _history(call: Call) -> Any:
    return await call.session.history()


async def _token(call: Call) -> Any:
    return call.session.csrf_token(call.query.get("form", ""))


async def _echo(call: Call) -> Any:
    return Reply(call.body, headers=[("content-type", "application/octet-stream")])


PAGES: dict[str, Page] = {
    "/": whoami,
    "/sign-in": _sign_in,
    "/sign-out": _sign_out,
    "/sign-out-everywhere": _everywhere,
    "/elevate": _elevate,
    "/set": _set,
    "/nothing": _nothing,
    "/sessions": _list,
    "/history": _history,
    "/token": _token,
    "/echo": _echo,
}


# For the builders of applications.


def as_reply(answered: Any) -> Reply:
    """What a page returned, as a response."""
    if isinstance(answered, Reply):
        return answered
    headers = [("content-type", "application/json")]
    return Reply(json.dumps(answered).encode(), headers=headers)


def call_of(session: Session, method: str, path: str, query: str, body: bytes) -> Call:
    """The call of a request; `query` is what stands behind the question mark."""
    return Call(session, method, path, dict(parse_qsl(query, keep_blank_values=True)), body)


def in_thread(page: Awaitable[Any]) -> Any:
    """Run a page to its end where nothing may have to wait for an event loop."""
    work = cast("Coroutine[Any, Any, Any]", page)
    try:
        waits_for = work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError(f"in a plain `def` nothing waits, but this did: {waits_for!r}")


def in_parts(chunks: AsyncIterator[bytes]) -> Iterator[bytes]:
    """The parts of a response where nothing may have to wait for an event loop."""
    while True:
        try:
            yield in_thread(chunks.__anext__())
        except StopAsyncIteration:
            return


__all__ = [
    "METHODS",
    "PAGES",
    "Call",
    "Page",
    "Reply",
    "SocketPage",
    "Talk",
    "as_reply",
    "call_of",
    "in_parts",
    "in_thread",
]
