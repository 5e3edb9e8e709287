"""Signed-in test clients: a real session in the client's cookie jar, without any password page.

    with TestClient(app, base_url="https://testserver.local") as client:
        signed_in(client, "alice")
        assert client.get("/account").status_code == 200

The session is made by the application's own manager as a sign-in is, so everything holds for it:
it is listed, it can be ended, its clocks run. The jar gets the Set-Cookie line that a response
would have carried. `signed_in` is for test clients that are called without `await` (Starlette's,
FastAPI's, Litestar's), `asigned_in` for those of `httpx` and the like.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable, MutableMapping
from email.message import Message
from http.cookiejar import CookieJar
from typing import Any, Protocol, cast
from urllib.request import Request

from strongroom.core.errors import ConfigurationError
from strongroom.core.exchange import RequestFacts
from strongroom.manager import AsyncSessionManager
from strongroom.running import AsyncRunner
from strongroom.session import Session

__all__ = ["asigned_in", "signed_in"]


class _Cookies(Protocol):
    @property
    def jar(self) -> CookieJar: ...


class Client(Protocol):
    """What a test client must have: httpx's clients do, and all that are made of them."""

    @property
    def base_url(self) -> Any: ...
    @property
    def cookies(self) -> Any: ...
    @property
    def headers(self) -> Any: ...


def signed_in(
    client: Client,
    subject: str,
    *,
    amr: str | Iterable[str] = "pwd",
    manager: AsyncSessionManager | None = None,
) -> str:
    """Sign the client in, at once -> the session's public id.

    The client then says of each request that it comes from a page of ours (`Sec-Fetch-Site`),
    unless the test has set that header. `manager` is found by itself where the client runs the
    application's start-up (`with TestClient(app) as client`).

    Raises:
        ConfigurationError: no manager is found, or the client would not send the cookie.
    """
    made = manager or _manager_of(client)
    work = functools.partial(_sign_in, client, made, subject, _factors(amr))
    portal = getattr(client, "portal", None)
    if portal is not None and not callable(portal):
        return str(portal.call(work))
    return asyncio.run(work())


async def asigned_in(
    client: Client,
    subject: str,
    *,
    manager: AsyncSessionManager,
    amr: str | Iterable[str] = "pwd",
) -> str:
    """As `signed_in`, for a client whose calls are awaited."""
    return await _sign_in(client, manager, subject, _factors(amr))


async def _sign_in(
    client: Client, manager: AsyncSessionManager, subject: str, amr: tuple[str, ...]
) -> str:
    facts = _facts(client, manager)
    visit = await manager.open(facts)
    session = Session(visit, AsyncRunner(manager.store, asyncio.get_running_loop()))
    await session.sign_in(subject, amr=amr)
    edits = await manager.close(visit)
    await manager.finish(visit)
    _keep(cast(_Cookies, client.cookies).jar, str(client.base_url), edits.cookies)
    headers = cast("MutableMapping[str, str]", client.headers)
    headers.setdefault("sec-fetch-site", "same-origin")
    return str(session.session_id)


def _facts(client: Client, manager: AsyncSessionManager) -> RequestFacts:
    """A request of this client's to the sign-in page, as far as it decides anything."""
    url = client.base_url
    scheme, netloc = str(url.scheme), url.netloc
    host = netloc if isinstance(netloc, bytes) else str(netloc).encode("ascii")
    if scheme != "https" and not manager.policy.development:
        raise ConfigurationError(
            f"The test client calls the application over {scheme}.",
            why="The policy's cookies are Secure, and a client does not send those over http.",
            hint='TestClient(app, base_url="https://testserver.local"), or the application with '
            "policy=SessionPolicy.for_development() and http://app.localhost.",
        )
    agent = str(client.headers.get("user-agent", "")).encode("latin-1", "replace")
    headers = [(b"host", host), (b"user-agent", agent), (b"sec-fetch-site", b"same-origin")]
    return RequestFacts(
        method="POST",
        path=manager.policy.sign_in_path,
        scheme=scheme,
        peer=None,
        headers=headers,
        proxies=manager.policy.proxies,
    )


def _keep(jar: CookieJar, url: str, lines: list[bytes]) -> None:
    """Let the jar read the lines as it reads a response's."""

    class Answer:
        def info(self) -> Message:
            message = Message()
            for line in lines:
                message["Set-Cookie"] = line.decode("ascii")
            return message

    jar.extract_cookies(cast(Any, Answer()), Request(url))  # noqa: S310 - it is never opened


def _manager_of(client: Client) -> AsyncSessionManager:
    state: Any = getattr(client, "app_state", None) or {}
    found = state.get("strongroom") if isinstance(state, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if found is None:
        app_state = getattr(getattr(client, "app", None), "state", None)
        found = getattr(app_state, "strongroom", None)
    if isinstance(found, AsyncSessionManager):
        return found
    raise ConfigurationError(
        "This test client knows no session manager.",
        why="It runs the application without its start-up, where the middleware says which it is.",
        hint="Write `with TestClient(app) as client:`, or pass manager=.",
    )


def _factors(amr: str | Iterable[str]) -> tuple[str, ...]:
    return (amr,) if isinstance(amr, str) else tuple(amr)
