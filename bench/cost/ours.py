"""Strongroom's part of the bench: one keyring, the stores' URLs, and the pages."""

from __future__ import annotations

import time
from typing import Any

from strongroom.keyfile import generate

from .pages import a_session, a_user, change
from .rows import Places

KEYS = generate("bench", time.time_ns() // 1_000_000)

STORES: dict[str, int | None] = {
    "memory": None,
    "SQLite": None,
    "Valkey": 8,
    "Valkey, near cache": 9,
    "PostgreSQL": None,
    "PostgreSQL, near cache": None,
}
"""Where sessions are kept, and the number of the Valkey database."""


def url(where: str, places: Places) -> str:
    """The store's URL."""
    if where == "memory":
        return "memory://"
    if where == "SQLite":
        return f"sqlite:///{places.folder}/sessions.db"
    near = "near_cache_mb=8" if where.endswith("near cache") else ""
    if where.startswith("Valkey"):
        return _with(places.database(STORES[where] or 0), near)
    if places.postgres is None:
        raise LookupError("no PostgreSQL server could be started here")
    return _with(places.postgres, near)


def _with(url: str, option: str) -> str:
    if not option:
        return url
    return f"{url}{'&' if '?' in url else '?'}{option}"


def look(session: Any) -> None:
    """The page /read, on our session."""
    if not session.subject or not session["cart"]:
        raise RuntimeError("the session is not the one that was signed in")


def the_data() -> tuple[str, dict[str, Any]]:
    """A user, and what else the session holds: the same as everybody's, the user apart."""
    user = a_user()
    data = a_session(user)
    del data["user"]
    return user, data


def pages(page: Any) -> Any:
    """The four pages of an asynchronous application."""

    async def read(request: Any) -> None:
        look(request.session)

    async def write(request: Any) -> None:
        change(request.session)

    async def sign_in(request: Any) -> None:
        user, data = the_data()
        async with request.session.authenticating(user):
            await request.session.sign_in(user)
        request.session.update(data)

    return page(read, write, sign_in)


def sign_in_at_once(session: Any) -> None:
    """The page /login of a synchronous application."""
    user, data = the_data()
    with session.authenticating(user):
        session.sign_in(user)
    session.update(data)
