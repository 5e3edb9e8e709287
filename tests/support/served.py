"""An application of any kind in a process of its own, for the real servers: `served:app`.

KIND=quart STORE=sqlite:////tmp/s.db KEYS=/tmp/keys hypercorn tests.support.served:app

Its pages go wrong in every way in which a page can: before the response starts, and half-way.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any, cast

from strongroom import AsyncSessionManager, SessionManager, SessionPolicy, open_async_store
from strongroom import open_store as open_sync_store
from tests.support.kinds import KINDS
from tests.support.pages import PAGES, Call, Page, Reply
from tests.support.site import Site


async def _raises(call: Call) -> Any:
    await call.session.sign_in("mallory")
    raise RuntimeError("this page fails")


async def _answers_500(call: Call) -> Any:
    await call.session.sign_in("mallory")
    return Reply(b"no", 500)


async def _out_and_raises(call: Call) -> Any:
    await call.session.sign_out()
    raise RuntimeError("this page fails when it has signed out")


async def _stream(call: Call) -> Any:
    async def parts() -> AsyncIterator[bytes]:
        yield f"{call.session.subject} ".encode()
        call.session["late"] = 1
        yield b"end"

    return Reply(chunks=parts())


async def _breaks(call: Call) -> Any:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one "
        raise RuntimeError("this stream fails")

    if "as" in call.query:
        await call.session.sign_in(call.query["as"])
    if "out" in call.query:
        await call.session.sign_out()
    return Reply(chunks=parts())


async def _long(call: Call) -> Any:
    """As much as no buffer holds, so that who hangs up is noticed."""

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(400):
            yield b"x" * 65536

    call.session["before"] = 1
    return Reply(chunks=parts())


FAILING: dict[str, Page] = {
    "/raises": _raises,
    "/answers-500": _answers_500,
    "/out-and-raises": _out_and_raises,
    "/stream": _stream,
    "/breaks": _breaks,
    "/long": _long,
}


class Served:
    """What a kind needs of a site, without the clock and the store that tests look into."""

    def __init__(self) -> None:
        self.kind = KINDS[os.environ["KIND"]]
        self.pages = {**PAGES, **FAILING}
        self.sockets: dict[str, Any] = {}
        self._settings: dict[str, Any] = {
            "keys": os.environ["KEYS"],
            "policy": SessionPolicy.for_development(),
        }
        store = open_async_store(os.environ["STORE"])
        self.manager = AsyncSessionManager(store, **self._settings)

    @property
    def sync_manager(self) -> SessionManager:
        """The manager for frameworks that know no event loop."""
        return SessionManager(open_sync_store(os.environ["STORE"]), **self._settings)


def application() -> Any:
    """The application that the environment names."""
    site = cast(Site, Served())
    return site.kind.native(site)


app = application()

if __name__ == "__main__":
    from aiohttp import web

    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), loop=asyncio.new_event_loop())
