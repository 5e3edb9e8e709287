"""A person who is sent to the sign-in page is told why: the reason survives the redirect (P17)."""

from __future__ import annotations

from datetime import timedelta

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from strongroom import AsyncSessionManager, SessionPolicy, open_async_store
from strongroom.integrations.starlette import SessionMiddleware, session_of
from strongroom.keyfile import generate
from strongroom.testing import FrozenClock

OWN = {"sec-fetch-site": "same-origin"}
NAVIGATION = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "accept": "text/html"}


async def sign_in(request: Request) -> PlainTextResponse:
    session = session_of(request)
    if request.method == "POST":
        await session.sign_in("alice")
    return PlainTextResponse(session.ended_because or "no reason")


async def account(request: Request) -> PlainTextResponse:
    return PlainTextResponse(session_of(request).require_sign_in())


def test_an_idle_session_says_so_after_the_redirect() -> None:
    """The redirect leaves the dead cookie to the page, which tells why and clears it (F1)."""
    clock = FrozenClock()
    manager = AsyncSessionManager(
        open_async_store("memory://"),
        keys=generate("reasons", 0),
        policy=SessionPolicy.for_development(),
        sinks=(),
        clock=clock,
    )
    app = Starlette(
        routes=[Route("/sign-in", sign_in, methods=["GET", "POST"]), Route("/account", account)]
    )
    app.add_middleware(SessionMiddleware, manager=manager)
    with TestClient(app, base_url="http://localhost") as client:
        client.post("/sign-in", headers=OWN)
        clock.advance(timedelta(minutes=31))
        away = client.get("/account", headers=NAVIGATION, follow_redirects=False)
        assert (away.status_code, away.headers.get("set-cookie")) == (303, None)
        told = client.get("/sign-in", headers=NAVIGATION)
        assert told.text == "idle_timeout"
        assert "Max-Age=0" in told.headers["set-cookie"]
        assert client.get("/sign-in", headers=NAVIGATION).text == "no reason"
