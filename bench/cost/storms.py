"""Readers under load: what a storm does to their waits, and how long our code holds the event loop.

    python -m bench.cost.storms            two minutes: SQLite, Valkey, PostgreSQL

One process, as an application has it: readers open a session every few milliseconds, and beside
them a storm goes on: sign-ins, revocations, or the sweep of sessions that have expired. The
readers' waits are compared with a quiet moment just before. The longest turn of the event loop is
told twice: by the wall's clock, which on a busy machine is also the others' work, and by the
processor time of the loop's thread, which is ours alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import time
from asyncio import events
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from strongroom.core import flows
from strongroom.core.exchange import RequestFacts
from strongroom.core.ops import Insert
from strongroom.core.record import Kind
from strongroom.core.visit import Visit
from strongroom.drive import adrive
from strongroom.manager import AsyncSessionManager
from strongroom.stores.urls import open_async_store
from strongroom.testing.records import a_record

from . import ours
from .__main__ import places_for
from .pages import a_user
from .tables import RESULTS, machine

STORES = ("SQLite", "Valkey", "Valkey, near cache", "PostgreSQL", "PostgreSQL, near cache")
READERS, PACE = 8, 0.004
STORMERS = 4
EXPIRED = 20_000
LONG_AGO = 1_000_000


@dataclass(slots=True)
class Turns:
    """The longest turn of the loop so far, in seconds."""

    wall: float = 0.0
    cpu: float = 0.0


@contextlib.contextmanager
def watched_turns() -> Iterator[Turns]:
    """Time every callback that the loop runs (asyncio's own loop: uvloop has none to be timed)."""
    turns = Turns()
    run = events.Handle._run

    def timed(handle: events.Handle) -> None:
        began, cpu_began = time.perf_counter(), time.thread_time()
        run(handle)
        turns.cpu = max(turns.cpu, time.thread_time() - cpu_began)
        turns.wall = max(turns.wall, time.perf_counter() - began)

    events.Handle._run = timed  # type: ignore[method-assign]
    try:
        yield turns
    finally:
        events.Handle._run = run  # type: ignore[method-assign]


class Site:
    """A manager, and sessions that readers present."""

    def __init__(self, url: str) -> None:
        self.manager = AsyncSessionManager(open_async_store(url), keys=ours.KEYS, sinks=())
        self.facts: list[RequestFacts] = []

    async def sign_in(self) -> tuple[str, Visit]:
        """A new subject's session, and the request that made it."""
        subject = a_user()
        visit = Visit(self.manager.context, RequestFacts(method="POST"))
        await adrive(flows.sign_in(visit, subject, ("pwd",)), self.manager.store)
        visit.aborts = None
        await self.manager.deliver(visit.take_events())
        return subject, visit

    async def begin(self) -> None:
        """Open the store, and sign the readers in."""
        await self.manager.start()
        name = self.manager.context.cookie.name.encode()
        for _ in range(READERS):
            _, visit = await self.sign_in()
            assert visit.token is not None
            cookie = (b"cookie", name + b"=" + visit.token.text.encode())
            self.facts.append(RequestFacts(method="GET", headers=[cookie]))

    async def read(self, until: Callable[[], bool]) -> list[float]:
        """All readers, each at its pace -> seconds waited."""
        took: list[float] = []

        async def one(facts: RequestFacts) -> None:
            while True:
                began = time.perf_counter()
                visit = await self.manager.open(facts)
                took.append(time.perf_counter() - began)
                if visit.subject is None:
                    raise RuntimeError("a reader's session was lost")
                if until():
                    return
                await asyncio.sleep(PACE)

        await asyncio.gather(*(one(each) for each in self.facts))
        return took


async def _sign_in_storm(site: Site, until: Callable[[], bool]) -> int:
    count = 0

    async def one() -> None:
        nonlocal count
        while not until():
            await site.sign_in()
            count += 1

    await asyncio.gather(*(one() for _ in range(STORMERS)))
    return count


async def _revocation_storm(site: Site, until: Callable[[], bool]) -> int:
    count = 0

    async def one() -> None:
        nonlocal count
        while not until():
            subject, _ = await site.sign_in()
            count += await site.manager.end_all_of(subject)

    await asyncio.gather(*(one() for _ in range(STORMERS)))
    return count


async def _sweep(site: Site, until: Callable[[], bool]) -> int:
    del until
    return await site.manager.sweep()


async def _expired(site: Site, count: int) -> None:
    """Sessions of nobody that ended long ago."""
    for start in range(0, count, 64):
        records = [
            a_record(
                subject=None,
                kind=Kind.ANONYMOUS,
                now=LONG_AGO,
                entropy=os.urandom,
                idle_deadline=LONG_AGO,
                purge_at=LONG_AGO,
            )
            for _ in range(min(64, count - start))
        ]
        inserts = (site.manager.store.insert(Insert(each, LONG_AGO)) for each in records)
        await asyncio.gather(*inserts)


Storm = Callable[[Site, Callable[[], bool]], Awaitable[int]]
STORMS: dict[str, Storm] = {
    "sign-ins": _sign_in_storm,
    "revocations": _revocation_storm,
    "sweep": _sweep,
}


async def _weathered(site: Site, storm: Storm, seconds: float) -> dict[str, Any]:
    quiet = await site.read(_after(seconds))
    over = asyncio.Event()
    until = _after(seconds)

    async def blow() -> int:
        try:
            return await storm(site, until)
        finally:
            over.set()

    with watched_turns() as turns:
        began = time.perf_counter()
        count, loaded = await asyncio.gather(
            blow(), site.read(lambda: until() if storm is not _sweep else over.is_set())
        )
        took = time.perf_counter() - began
    return {
        "events_s": round(count / took),
        "quiet_p99_ms": _p99(quiet),
        "p50_ms": round(statistics.median(loaded) * 1000, 2),
        "p99_ms": _p99(loaded),
        "longest_turn_ms": round(turns.wall * 1000, 1),
        "longest_turn_cpu_ms": round(turns.cpu * 1000, 1),
    }


def _after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def _p99(took: list[float]) -> float:
    return round(statistics.quantiles(took or [0.0, 0.0], n=100)[98] * 1000, 2)


async def _play(url: str, seconds: float, expired: int) -> dict[str, Any]:
    site = Site(url)
    await site.begin()
    await asyncio.sleep(0.5)  # the first sweep of a store that was opened just now
    told: dict[str, Any] = {}
    try:
        for name, storm in STORMS.items():
            if storm is _sweep:
                await _expired(site, expired)
            told[name] = await _weathered(site, storm, seconds)
    finally:
        await site.manager.stop()
    return told


def main() -> int:
    """Play every storm on every store, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.cost.storms")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long a storm lasts")
    parser.add_argument("--expired", type=int, default=EXPIRED, help="sessions to sweep")
    parser.add_argument("--save", action="store_true", help="for the documentation's page")
    options = parser.parse_args()
    rows: dict[str, Any] = {}
    with places_for(servers=True) as (places, _):
        for where in STORES:
            rows[where] = asyncio.run(
                _play(ours.url(where, places), options.seconds, options.expired)
            )
    told = {"machine": machine(), "expired": options.expired, "rows": rows}
    text = json.dumps(told, indent=1) + "\n"
    sys.stdout.write(text)
    if options.save:
        (RESULTS / "storms.json").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
