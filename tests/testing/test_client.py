"""Signed-in test clients: a real session, in the jar, as a response would have put it there."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from litestar import Litestar, get
from litestar.testing import TestClient as LitestarClient
from starlette.testclient import TestClient

from strongroom import ConfigurationError, SessionPolicy
from strongroom.integrations.fastapi import CurrentSession, SessionMiddleware
from strongroom.integrations.litestar import CurrentSession as LitestarSession
from strongroom.integrations.litestar import StrongroomPlugin
from strongroom.manager import AsyncSessionManager
from strongroom.stores.urls import open_async_store
from strongroom.testing import FrozenClock
from strongroom.testing.client import asigned_in, signed_in
from tests.support.site import KEYS

HTTPS = "https://testserver.local"


def manager_of_tests(**settings: Any) -> AsyncSessionManager:
    """A manager on a store of its own."""
    store = open_async_store("memory://")
    return AsyncSessionManager(store, keys=KEYS, clock=FrozenClock(), sinks=[], **settings)


def application(manager: AsyncSessionManager) -> FastAPI:
    """An application with a page that needs a sign-in, and one that ends it."""
    app = FastAPI()
    app.add_middleware(SessionMiddleware, manager=manager)

    @app.get("/me")
    async def me(session: CurrentSession) -> list[Any]:
        return [session.subject, session.acr, len(await session.sessions())]

    @app.post("/sign-out")
    async def sign_out(session: CurrentSession) -> None:
        await session.sign_out()

    return app


def test_a_client_is_signed_in_by_a_real_session():
    """It is listed, has the factors that were named, and signing out ends it (P10)."""
    with TestClient(application(manager_of_tests()), base_url=HTTPS) as client:
        session_id = signed_in(client, "alice", amr=["pwd", "otp"])
        assert client.get("/me").json() == ["alice", "aal2", 1]
        assert len(session_id) == 32
        assert len(client.cookies.jar) == 1
        assert client.post("/sign-out").status_code == 200
        assert len(client.cookies.jar) == 0
        assert client.get("/me").status_code == 401


def test_a_client_without_a_start_up_needs_the_manager():
    """It is told so in a sentence, and with the manager it works (STYLE)."""
    manager = manager_of_tests()
    client = TestClient(application(manager), base_url=HTTPS)
    with pytest.raises(ConfigurationError, match="with TestClient"):
        signed_in(client, "alice")
    signed_in(client, "alice", manager=manager)
    assert client.get("/me").json()[0] == "alice"


def test_a_client_that_would_not_send_the_cookie_is_refused():
    """Else the test would meet 401 and nobody knew why (STYLE)."""
    with (
        TestClient(application(manager_of_tests())) as client,
        pytest.raises(ConfigurationError, match="https://testserver"),
    ):
        signed_in(client, "alice")


def test_the_development_policy_works_over_http():
    """On a host of this machine."""
    manager = manager_of_tests(policy=SessionPolicy.for_development())
    with TestClient(application(manager), base_url="http://app.localhost") as client:
        signed_in(client, "alice")
        assert client.get("/me").json()[0] == "alice"


@pytest.mark.anyio
async def test_an_awaited_client_is_signed_in_too():
    """Such as httpx's, with the manager at hand."""
    manager = manager_of_tests()
    transport = httpx.ASGITransport(application(manager))
    async with httpx.AsyncClient(transport=transport, base_url=HTTPS) as client:
        await asigned_in(client, "alice", manager=manager)
        assert (await client.get("/me")).json()[0] == "alice"
    await manager.stop()


def test_litestars_client_is_signed_in():
    """It is the same kind of client."""

    @get("/me")
    async def me(session: LitestarSession) -> str:
        return str(session.subject)

    plugin = StrongroomPlugin(manager=manager_of_tests())
    app = Litestar([me], plugins=[plugin], logging_config=None)
    with LitestarClient(app, base_url=HTTPS) as client:
        signed_in(client, "alice")
        assert client.get("/me").text == "alice"


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio, as everywhere."""
    return "asyncio"
