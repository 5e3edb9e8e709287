"""The hot path alone, for a tool that counts: `python -m bench.cost.hot` plays each case in turn.

Under callgrind, `os.getsid` marks where a case begins and ends: see instructions.py.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from strongroom.integrations.asgi import SessionMiddleware
from strongroom.manager import AsyncSessionManager
from strongroom.stores.urls import open_async_store

from . import asgi, ours
from .rounds import CASES, Contestant
from .rows import Places, Row
from .sites import AsgiSite

CASES_COUNTED = ("bare", "anonymous", "forged", "untouched", "read", "write", "sign-in")
REQUESTS = 100
WARM = 20


def _site(places: Places) -> AsgiSite:
    """Raw ASGI on a memory store, and a clock that stands still, so that no touch comes between."""
    manager = AsyncSessionManager(
        open_async_store("memory://"), keys=ours.KEYS, sinks=(), clock=lambda: _NOW
    )
    app: Any = SessionMiddleware(asgi.raw(asgi.OURS), manager=manager)
    return AsgiSite(app, places.loop)


_NOW = ours.KEYS.keys[0].issue_from + 1000


def main() -> None:
    """Each case, warm, and then counted between two marks."""
    loop = asyncio.new_event_loop()
    places = Places("", loop)
    contestant = Contestant(Row("Strongroom, memory", "raw ASGI", _site), places)
    bare = Contestant(Row("raw ASGI", None, asgi.ROWS[0].make), places)
    cases = {case.name: case for case in CASES}
    for name in CASES_COUNTED:
        case = cases["anonymous" if name == "bare" else name]
        played = bare if name == "bare" else contestant
        askings = played.askings(case)
        played.site.turn(askings * WARM, 1)()
        turn = played.site.turn(askings * REQUESTS, 1)
        os.getsid(0)
        turn()
        os.getsid(0)
    contestant.site.close()
    bare.site.close()
    loop.close()


if __name__ == "__main__":
    main()
