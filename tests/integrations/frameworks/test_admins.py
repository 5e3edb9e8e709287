"""Other people's admin sites keep their sign-in in `request.session`, and need not be changed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqladmin import Admin as SqlAdmin
from sqladmin.authentication import AuthenticationBackend
from sqlalchemy import create_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette_admin import BaseAdmin
from starlette_admin.auth import AdminUser, AuthProvider
from starlette_admin.exceptions import LoginFailed

from strongroom.integrations.starlette import SessionMiddleware
from strongroom.manager import AsyncSessionManager
from strongroom.stores.urls import open_async_store
from strongroom.testing import FrozenClock
from tests.support.browser import Browser
from tests.support.browser import Response as BrowserResponse
from tests.support.site import KEYS

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

FORM = {"username": "root", "password": "right"}


@pytest.fixture
async def manager() -> AsyncIterator[AsyncSessionManager]:
    """A manager of its own for an application of its own."""
    store = open_async_store("memory://")
    manager = AsyncSessionManager(store, keys=KEYS, clock=FrozenClock(), sinks=[])
    yield manager
    await manager.stop()


class Backend(AuthenticationBackend):
    """As sqladmin's documentation writes it."""

    async def login(self, request: Request) -> bool:
        form = await request.form()
        if form["password"] != "right":
            return False
        request.session.update({"token": str(form["username"])})
        return True

    async def logout(self, request: Request) -> bool:
        request.session.clear()
        return True

    async def authenticate(self, request: Request) -> bool:
        return request.session.get("token") == "root"


class Provider(AuthProvider):
    """As starlette-admin's documentation writes it."""

    async def login(
        self, username: str, password: str, remember_me: bool, request: Request
    ) -> Response | None:
        if password != "right":
            raise LoginFailed("wrong")
        request.session["username"] = username
        return None

    async def authenticate(self, request: Request) -> AdminUser | None:
        name = request.session.get("username")
        return None if name is None else AdminUser(username=name)

    async def logout(self, request: Request) -> Response | None:
        request.session.clear()
        return None


def sqladmin() -> Starlette:
    """An application with sqladmin."""
    app = Starlette()
    engine = create_engine("sqlite://")
    SqlAdmin(app, engine, authentication_backend=Backend(secret_key="unused"))
    return app


def starlette_admin() -> Starlette:
    """An application with starlette-admin."""
    app = Starlette()
    BaseAdmin(auth_provider=Provider(), secret_key="of their own").mount_to(app)
    return app


@pytest.mark.parametrize("make", [sqladmin, starlette_admin])
async def test_an_admin_site_signs_in_and_out(manager: AsyncSessionManager, make: Any):
    """A wrong password, a right one, a page, out again: by its own forms (P7, P19)."""
    app = make()
    app.add_middleware(SessionMiddleware, manager=manager)
    browser = Browser(app, manager.clock)
    assert (await browser.goto("/admin/")).status in (302, 303)
    wrong = await submit(browser, "/admin/login", {**FORM, "password": "wrong"})
    assert wrong.status in (400, 401, 422)
    assert (await submit(browser, "/admin/login", FORM)).status in (302, 303)
    assert (await browser.goto("/admin/")).status == 200
    cross = await browser.post("/admin/login", FORM, source="https://evil.example.net")
    assert cross.status == 403
    if make is sqladmin:
        await browser.goto("/admin/logout")
    else:
        await submit(browser, "/admin/logout", {}, shown_on="/admin/")
    assert (await browser.goto("/admin/")).status in (302, 303)


async def submit(
    browser: Browser, path: str, form: dict[str, str], shown_on: str | None = None
) -> BrowserResponse:
    """Send a form as a person does, with what its page has hidden in it."""
    page = (await browser.goto(shown_on or path)).text
    hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page))
    return await browser.post(path, {**hidden, **form})
