"""A server that is an asyncio protocol and no ASGI application, reached as if it were one.

What the browser of the tests sends is written as HTTP/1.1 and given to the protocol, and what the
protocol writes is read by h11 and wsproto: its own parser and its own writer run, and no socket.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import h11
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    RejectConnection,
    Request,
    TextMessage,
)

Message = dict[str, Any]
_PRINTED = "".join(map(chr, range(33, 127)))
OVER = None
"""What `Pipe` reads after the last byte."""


class Pipe(asyncio.Transport):
    """The server's end of a connection: what it writes is to be read, and who it talks with."""

    def __init__(self, scope: Any) -> None:
        super().__init__()
        self._known = {"peername": scope["client"], "sslcontext": None}
        if scope["scheme"] in ("https", "wss"):
            self._known["sslcontext"] = True
        self.written: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._known.get(name, default)

    def write(self, data: Any) -> None:
        self.written.put_nowait(bytes(data))

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(parts))

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.written.put_nowait(OVER)

    abort = close
    pause_reading = resume_reading = lambda self: None


async def serve(
    protocol: Any, scope: Any, receive: Any, send: Any, handled: Callable[[], Awaitable[None]]
) -> None:
    """Let a protocol of the server's answer one request, or one WebSocket.

    A browser keeps its connection open after a response, so this waits until it is `handled`.
    """
    pipe = Pipe(scope)
    protocol.connection_made(pipe)
    if scope["type"] == "websocket":
        one, other = await _socket(protocol, pipe, scope, receive, send)
    else:
        one, other = await _request(protocol, pipe, scope, receive, send)
    try:
        await asyncio.wait((one, other), return_when=asyncio.FIRST_COMPLETED)
        if one.done():
            one.result()
            await handled()
    finally:
        pipe.close()
        protocol.connection_lost(None)
        one.cancel()
        other.cancel()
        await asyncio.gather(one, other, return_exceptions=True)


Ends = tuple[asyncio.Task[None], asyncio.Task[None]]
"""What carries the answer, and what carries the rest of what was sent."""


async def _request(protocol: Any, pipe: Pipe, scope: Any, receive: Any, send: Any) -> Ends:
    first = await receive()
    protocol.data_received(_head(scope, first) + first["body"])
    sending = asyncio.create_task(_rest(protocol, first, receive))
    return asyncio.create_task(_answer(pipe, scope["method"], send)), sending


def _head(scope: Any, first: Message) -> bytes:
    """The request's line and headers. What lies about the body's length no server lets through."""
    framing = (b"content-length", b"transfer-encoding", b"connection")
    headers = [pair for pair in scope["headers"] if pair[0].lower() not in framing]
    more = first.get("more_body", False)
    if more:
        headers.append((b"transfer-encoding", b"chunked"))
        first["body"] = _chunk(first["body"])
    elif first["body"] or scope["method"] not in ("GET", "HEAD"):
        headers.append((b"content-length", str(len(first["body"])).encode()))
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    target = quote(target, safe=_PRINTED).encode()  # as browsers do with what is not ASCII
    lines = [scope["method"].encode() + b" " + target + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


async def _rest(protocol: Any, first: Message, receive: Any) -> None:
    """The rest of the body; then wait until the client leaves."""
    more = first.get("more_body", False)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        assert more, "a body that was over goes on"
        more = message.get("more_body", False)
        protocol.data_received(_chunk(message["body"]) + (b"" if more else b"0\r\n\r\n"))


async def _answer(pipe: Pipe, method: str, send: Any) -> None:
    """What the server writes, as messages."""
    reading = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    reading.send(h11.Request(method=method, target="/", headers=[("host", "of.the.test")]))
    reading.send(h11.EndOfMessage())
    while True:
        event = reading.next_event()
        if event is h11.NEED_DATA:
            data = await pipe.written.get()
            if data is OVER:
                # In the middle of a response: to the browser it is cut here.
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            reading.receive_data(data)
        elif isinstance(event, h11.Response):
            headers = list(event.headers)
            start = {"type": "http.response.start", "status": event.status_code}
            await send({**start, "headers": headers})
        elif isinstance(event, h11.Data):
            body = {"type": "http.response.body", "body": bytes(event.data), "more_body": True}
            await send(body)
        elif isinstance(event, h11.EndOfMessage):
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        else:
            return


async def _socket(protocol: Any, pipe: Pipe, scope: Any, receive: Any, send: Any) -> Ends:
    client = WSConnection(ConnectionType.CLIENT)
    path = scope["path"] + ("?" + scope["query_string"].decode() if scope["query_string"] else "")
    extra = [(name, value) for name, value in scope["headers"] if name != b"host"]
    host = dict(scope["headers"])[b"host"].decode()
    protocol.data_received(client.send(Request(host=host, target=path, extra_headers=extra)))
    hearing = asyncio.create_task(_hear(client, protocol, pipe, send))
    talking = asyncio.create_task(_talk(client, protocol, receive, hearing))
    return hearing, talking


async def _talk(
    client: WSConnection, protocol: Any, receive: Any, hearing: asyncio.Task[None]
) -> None:
    """What the browser sends, until the server has answered its close."""
    assert (await receive())["type"] == "websocket.connect"
    while True:
        message = await receive()
        if message["type"] == "websocket.receive":
            protocol.data_received(client.send(TextMessage(message["text"])))
        else:
            with contextlib.suppress(Exception):  # It has been closed from the other end.
                protocol.data_received(client.send(CloseConnection(code=1001)))
            await asyncio.wait([hearing])
            return


async def _hear(client: WSConnection, protocol: Any, pipe: Pipe, send: Any) -> None:
    """What the server sends; a refused handshake is the close that ASGI has for it."""
    tell: dict[type, Callable[[Any], Message]] = {
        AcceptConnection: lambda _: {"type": "websocket.accept"},
        TextMessage: lambda event: {"type": "websocket.send", "text": event.data},
        RejectConnection: lambda event: _close(4000 + event.status_code),
        CloseConnection: lambda event: _close(event.code),
    }
    while True:
        data = await pipe.written.get()
        client.receive_data(data)
        for event in client.events():
            if type(event) in tell:
                await send(tell[type(event)](event))
            if isinstance(event, CloseConnection):
                with contextlib.suppress(Exception):
                    protocol.data_received(client.send(event.response()))
            if isinstance(event, CloseConnection | RejectConnection):
                return
        if data is OVER:
            return


def _close(code: int) -> Message:
    return {"type": "websocket.close", "code": code}
