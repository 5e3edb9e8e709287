"""Many writers of one session at once: each gets its turn, and none is told to come back (P7, P22).

With real concurrency: tasks of one event loop, threads, and processes on one SQLite file.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from strongroom import AsyncSessionManager, RequestFacts, SessionManager, keyfile, open_store, turns
from strongroom.core.ops import GiveWay, Op
from strongroom.drive import adrive, drive
from strongroom.stores.memory import MemoryStore
from strongroom.stores.urls import open_async_store
from strongroom.testing.clock import START

SESSION = b"s" * 16


WRITER = """if True:
    import sys
    from strongroom import RequestFacts, SessionManager, open_store

    url, keys, cookie, key, times = sys.argv[1:]
    headers = [(b"cookie", cookie.encode()), (b"sec-fetch-site", b"same-origin")]
    with SessionManager(open_store(url), keys=keys, sinks=()) as sessions:
        for _ in range(int(times)):
            session = sessions.open(RequestFacts(method="POST", headers=headers))
            session[key] = session.get(key, 0) + 1
            sessions.close(session)
"""
"""A process that writes: a request after the other, each adds one to a key of its own."""


@dataclass
class Place:
    """A SQLite file, its keys, and the cookie of somebody who is signed in."""

    url: str
    keys: str
    cookie: str = ""

    @property
    def facts(self) -> RequestFacts:
        headers = [(b"cookie", self.cookie.encode()), (b"sec-fetch-site", b"same-origin")]
        return RequestFacts(method="POST", headers=headers)

    def manager(self) -> SessionManager:
        return SessionManager(open_store(self.url), keys=self.keys, sinks=())

    def kept(self) -> dict[str, Any]:
        """What is in the session now."""
        with self.manager() as sessions:
            return dict(sessions.open(self.facts))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    keyfile.write(tmp_path / "keys", keyfile.generate("crowd", START))
    place = Place(f"sqlite:///{tmp_path}/sessions.db", str(tmp_path / "keys"))
    with place.manager() as sessions:
        session = sessions.open(place.facts)
        session.sign_in("alice")
        (line,) = sessions.close(session).cookies
    place.cookie = line.decode().partition(";")[0]
    return place


@pytest.mark.anyio
async def test_a_crowd_of_tasks(place: Place) -> None:
    """An event loop with 24 requests under way in one session, all the time."""
    writers, times = 24, 8
    store = open_async_store(place.url)
    async with AsyncSessionManager(store, keys=place.keys, sinks=()) as sessions:

        async def write(key: str) -> None:
            for _ in range(times):
                visit = await sessions.open(place.facts)
                visit.data[key] = visit.data.get(key, 0) + 1
                await sessions.close(visit)

        await asyncio.gather(*(write(f"k{number}") for number in range(writers)))
    assert place.kept() == {f"k{number}": times for number in range(writers)}


def test_a_crowd_of_threads(place: Place) -> None:
    """A threaded server with 24 requests under way in one session."""
    writers, times = 24, 8
    with place.manager() as sessions, ThreadPoolExecutor(writers) as pool:

        def write(key: str) -> None:
            for _ in range(times):
                session = sessions.open(place.facts)
                session[key] = session.get(key, 0) + 1
                sessions.close(session)

        for done in [pool.submit(write, f"k{number}") for number in range(writers)]:
            done.result()
    assert place.kept() == {f"k{number}": times for number in range(writers)}


@pytest.mark.slow
def test_a_crowd_of_processes(place: Place) -> None:
    """Eight processes: no line is common to them, so they wait for random whiles (P7)."""
    writers, times = 8, 12
    said = [sys.executable, "-c", WRITER, place.url, place.keys, place.cookie]
    started = [subprocess.Popen([*said, f"k{number}", str(times)]) for number in range(writers)]
    assert [each.wait(60) for each in started] == [0] * writers
    assert place.kept() == {f"k{number}": times for number in range(writers)}


# The line itself.


def a_flow(log: list[str], name: str, *steps: int) -> Generator[Op, Any, str]:
    for milliseconds in steps:
        waited = yield GiveWay(SESSION, milliseconds)
        log.append(f"{name} {'waited' if waited else 'at once'}")
    return name


@pytest.mark.anyio
async def test_one_flow_at_a_time_has_its_turn() -> None:
    """In the order in which they came; the turn lasts to the flow's end, and the line then goes."""
    log: list[str] = []
    flows = [a_flow(log, name, 0, 20) for name in "abc"]
    store: Any = None
    assert await asyncio.gather(*(adrive(each, store) for each in flows)) == ["a", "b", "c"]
    assert log == ["a at once", "a waited", "b waited", "b waited", "c waited", "c waited"]
    gc.collect()
    assert not turns._async_lines


@pytest.mark.anyio
async def test_whoever_is_cancelled_in_line_holds_up_nobody() -> None:
    """A client that goes away, before its turn or in it."""
    log: list[str] = []
    store: Any = None
    tasks = [asyncio.create_task(adrive(a_flow(log, name, 0, 5_000), store)) for name in "ab"]
    await asyncio.sleep(0.01)
    for each in reversed(tasks):
        each.cancel()
    assert await adrive(a_flow(log, "c", 0), store) == "c"
    assert log[0] == "a at once" and log[-1].startswith("c") and "b" not in " ".join(log[1:])


@pytest.mark.parametrize("how", ["loop", "threads"])
def test_a_turn_that_does_not_come_is_done_without(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line makes fair; it must not make anybody wait for a flow that hangs."""
    monkeypatch.setattr(turns, "TURN_AT_MOST", 0.05)
    log: list[str] = []
    store = MemoryStore()

    async def both() -> None:
        slow = asyncio.create_task(adrive(a_flow(log, "slow", 0, 400), store))  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        await adrive(a_flow(log, "next", 0), store)  # type: ignore[arg-type]
        await slow

    if how == "loop":
        asyncio.run(both())
    else:
        slow = threading.Thread(target=drive, args=(a_flow(log, "slow", 0, 400), store))
        slow.start()
        time.sleep(0.05)
        drive(a_flow(log, "next", 0), store)
        slow.join()
    assert log == ["slow at once", "next waited", "slow waited"]


def test_a_flow_that_fails_gives_its_turn_back() -> None:
    """Else every writer of the session would wait for its time in line (P22)."""

    def failing() -> Generator[Op, Any, None]:
        yield GiveWay(SESSION, 0)
        raise ValueError("broken")

    log: list[str] = []
    with pytest.raises(ValueError, match="broken"):
        drive(failing(), MemoryStore())
    drive(a_flow(log, "next", 0), MemoryStore())
    assert log == ["next at once"]
