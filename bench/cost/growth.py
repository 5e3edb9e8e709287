"""How the cost of a request grows: with its session's data, its cookies, and a subject's sessions.

    python -m bench.cost.growth       seconds; in process, memory store, processor time

How it grows with the number of sessions in a store is what `make scale` measures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from strongroom import SessionPolicy
from strongroom.integrations.asgi import SessionMiddleware
from strongroom.manager import AsyncSessionManager
from strongroom.stores.urls import open_async_store

from . import asgi, ours
from .rounds import CASES, Case, Contestant
from .rows import Places, Row
from .sites import AsgiSite, Asking
from .tables import RESULTS, machine

DATA_BYTES = (100, 1_000, 4_000, 16_000, 64_000)
COOKIES = (0, 10, 30, 100)
SESSIONS = (1, 10, 100, 1_000)
_ROUNDS = 21
_CASES = {case.name: case for case in CASES}

Points = dict[str, list[list[float]]]


class Growing(Contestant):
    """An application whose sessions hold so much, asked with so many other cookies."""

    def __init__(self, places: Places, data_bytes: int = 100, cookies: int = 0) -> None:
        self.manager = AsyncSessionManager(
            open_async_store("memory://"),
            keys=ours.KEYS,
            sinks=(),
            policy=SessionPolicy(max_data=1 << 20),
        )
        self._fill = "x" * data_bytes
        self._others = "".join(f"; cookie{number}=value{number}" for number in range(cookies))
        super().__init__(Row("Strongroom, memory", "raw ASGI", self._site), places)

    def _site(self, places: Places) -> AsgiSite:
        async def fill(request: Any) -> None:
            await asgi.OURS["/login"](request)
            request.session["fill"] = self._fill

        async def read(request: Any) -> None:
            if request.session["fill"] != self._fill:
                raise RuntimeError("the session is not the one that was signed in")

        pages = {**asgi.OURS, "/login": fill, "/read": read}
        app: Any = SessionMiddleware(asgi.raw(pages), manager=self.manager)
        return AsgiSite(app, places.loop)

    def askings(self, case: Case) -> list[Asking]:
        """The same requests, with the others' cookies before ours."""
        return [
            Asking(each.method, each.path, self._others[2:] + "; " + each.cookies)
            if self._others
            else each
            for each in super().askings(case)
        ]


def _microseconds(turns: dict[float, tuple[Callable[[], None], int]]) -> list[list[float]]:
    """Processor time of each turn, in rounds -> [x, median microseconds a request]."""
    took: dict[float, list[float]] = {x: [] for x in turns}
    for _ in range(_ROUNDS):
        for x, (turn, requests) in turns.items():
            began = time.process_time()
            turn()
            took[x].append((time.process_time() - began) / requests * 1e6)
    return [[x, round(statistics.median(each), 1)] for x, each in took.items()]


def _grown(made: dict[float, Growing], case: str) -> list[list[float]]:
    return _microseconds({x: each.turn_of(_CASES[case]) for x, each in made.items()})


def measured(places: Places) -> Points:
    """Each curve, as its points."""
    assert places.loop is not None
    by_data = {float(size): Growing(places, data_bytes=size) for size in DATA_BYTES}
    by_cookies = {float(count): Growing(places, cookies=count) for count in COOKIES}
    points = {
        "data: a page that does not look": _grown(by_data, "untouched"),
        "data: read": _grown(by_data, "read"),
        "data: write": _grown(by_data, "write"),
        "cookies: anonymous": _grown(by_cookies, "anonymous"),
        "cookies: read": _grown(by_cookies, "read"),
        "sessions: list": _of_subject(places.loop),
    }
    for each in (*by_data.values(), *by_cookies.values()):
        each.site.close()
    return points


def _of_subject(loop: asyncio.AbstractEventLoop) -> list[list[float]]:
    """Listing where a subject is signed in, with so many sessions."""
    manager = AsyncSessionManager(
        open_async_store("memory://"),
        keys=ours.KEYS,
        sinks=(),
        policy=SessionPolicy(max_sessions=SESSIONS[-1]),
    )
    turns: dict[float, tuple[Callable[[], None], int]] = {}
    for count in SESSIONS:
        loop.run_until_complete(_many(manager, f"subject-{count}", count))

        def turn(subject: str = f"subject-{count}") -> None:
            loop.run_until_complete(manager.sessions_of(subject))

        turns[float(count)] = turn, 1
    points = _microseconds(turns)
    loop.run_until_complete(manager.stop())
    return points


async def _many(manager: AsyncSessionManager, subject: str, count: int) -> None:
    from strongroom.core import flows
    from strongroom.core.exchange import RequestFacts
    from strongroom.core.visit import Visit
    from strongroom.drive import adrive

    await manager.start()
    for _ in range(count):
        visit = Visit(manager.context, RequestFacts(method="POST"))
        await adrive(flows.sign_in(visit, subject, ("pwd",)), manager.store)
        visit.aborts = None


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.cost.growth")
    parser.add_argument("--save", action="store_true", help="for the documentation's page")
    options = parser.parse_args()
    loop = asyncio.new_event_loop()
    text = json.dumps({"machine": machine(), "points": measured(Places("", loop))}, indent=1) + "\n"
    loop.close()
    sys.stdout.write(text)
    if options.save:
        (RESULTS / "growth.json").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
