"""The bank as an application: a session manager, two middlewares, seven groups of pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import quote

from argon2 import PasswordHasher
from fastapi import FastAPI, Request
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.responses import Response

from strongroom import AsyncSessionManager, SessionPolicy, open_async_store
from strongroom.adapters import system_clock
from strongroom.core.events import EventSink
from strongroom.integrations.fastapi import SessionMiddleware, session_of
from strongroom.keyfile import development_keys
from strongroom.managing import KeySource
from strongroom.telemetry.logging import LoggingSink

from .accounts import Accounts
from .attacks.stage import ACCOUNTS, SESSIONS, Stage
from .attacks.watching import counted_store, overhear
from .desk import Bank, Desk
from .factors import Factors
from .headers import SecurityHeaders
from .passwords import Passwords
from .views import approving, attacker, confirming, devices, factors, money, settings, signing

KEYS = "strongroom.keys"


def create_app(
    *,
    data_dir: Path,
    policy: SessionPolicy | None = None,
    clock: Callable[[], int] = system_clock,
    sinks: Iterable[EventSink] | None = None,
    hasher: PasswordHasher | None = None,
    keys: KeySource | None = None,
) -> FastAPI:
    """The bank with everything that it keeps in `data_dir`: keys, sessions, accounts.

    Without a policy it is the one for development, on http://localhost only; then the attacker's
    desk is open, too. Tests hand in a clock and a cheap hasher.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    policy = replace(
        policy or SessionPolicy.for_development(),
        step_up_path=confirming.CONFIRM,
        devices_need_consent=False,  # The device cookie does nothing here but secure accounts.
    )
    if keys is None:
        keys, _made = development_keys(data_dir / KEYS, clock(), realm="bank")
    store = open_async_store(f"sqlite:///{quote(str(data_dir / SESSIONS))}")
    heard = (LoggingSink(),) if sinks is None else tuple(sinks)
    if policy.development:
        store, heard = counted_store(store), (*heard, overhear)
    manager = AsyncSessionManager(store, keys=keys, policy=policy, clock=clock, sinks=heard)
    accounts = Accounts(data_dir / ACCOUNTS)

    app = FastAPI(openapi_url=None)  # Pages for people: there is no API to describe.
    app.state.manager = manager
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
    for pages in (signing, confirming, money, approving, settings, factors, devices):
        app.include_router(pages.router)
    stage = None
    if policy.development:
        another = partial(create_app, policy=policy, sinks=(), hasher=hasher)
        stage = Stage(app, data_dir, accounts, manager, keys, another)
        app.include_router(attacker.router)
    app.state.bank = Bank(
        accounts, Passwords(hasher), Factors(accounts), clock, stage, policy.remember_for
    )
    app.add_exception_handler(HTTPException, _not_here)
    app.add_middleware(SessionMiddleware, manager=manager)
    app.add_middleware(SecurityHeaders, https=not policy.development)
    return app


async def _not_here(request: Request, error: Exception) -> Response:
    """A page for what is not there. Static files have no session, and so no page either."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if request.url.path.startswith("/static/"):
        return Response(status_code=status)
    return Desk(request, session_of(request)).page("error.html", status, code=status)
