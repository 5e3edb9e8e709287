"""One request through an ASGI application, in this process: everything but the network is real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.types import ASGIApp, Message

ORIGIN = "http://localhost"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Sequence[tuple[str, str]]
    text: str

    def header(self, name: str) -> str | None:
        """The header's first value, or None."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def cookies(self) -> list[str]:
        """Every Set-Cookie line."""
        return [value for key, value in self.headers if key == "set-cookie"]


async def send(
    app: ASGIApp,
    method: str,
    path: str,
    headers: Mapping[str, str],
    fields: Mapping[str, str] | None = None,
) -> Answer:
    """Send a request, with the fields as a form's body -> the whole answer. Nothing is followed."""
    bare, _, query = path.partition("?")
    body = urlencode(fields or {}).encode()
    sent = {"host": ORIGIN.removeprefix("http://"), **headers}
    if fields is not None:
        sent |= {
            "content-type": "application/x-www-form-urlencoded",
            "content-length": str(len(body)),
        }
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": bare,
        "raw_path": bare.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("localhost", 80),
        "state": {},
    }
    got: list[Message] = []
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def keep(message: Message) -> None:
        got.append(message)

    await app(scope, receive, keep)
    start = got[0]
    return Answer(
        status=start["status"],
        headers=[
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]
        ],
        text=b"".join(each.get("body", b"") for each in got[1:]).decode(),
    )
