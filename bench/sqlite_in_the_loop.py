"""How long SQLite takes inside the event loop, and how long a thread takes to be asked.

    python -m bench.sqlite_in_the_loop

Prints a median and a 99.9th percentile per way, in microseconds; the ways take turns, so that a
busy machine is unkind to all of them alike. docs/decisions/0002 draws its conclusions from it.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from strongroom.core.ops import Find, Touch
from strongroom.stores.bridge import AsyncBridge
from strongroom.stores.sqlite import SQLiteStore
from strongroom.testing.records import a_record, a_touch, an_end, an_insert

SESSIONS = 2_000
ROUNDS = 30
OPS_A_ROUND = 200

Way = Callable[[int], Awaitable[object]]


async def measured(ways: dict[str, Way]) -> dict[str, list[float]]:
    """The time of every single op of every way, in us."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    step = 0
    for _ in range(ROUNDS):
        for name, way in ways.items():
            for _ in range(OPS_A_ROUND):
                step += 1
                started = time.perf_counter()
                await way(step)
                times[name].append((time.perf_counter() - started) * 1e6)
    return times


async def in_flight(way: Way, together: int) -> float:
    """The time an op takes with others in flight, in us: all of them divided by their number."""
    rounds = []
    for round_number in range(ROUNDS):
        started = time.perf_counter()
        await asyncio.gather(*(way(round_number * together + each) for each in range(together)))
        rounds.append((time.perf_counter() - started) * 1e6 / together)
    return statistics.median(rounds)


async def compare(directory: Path) -> None:
    """Fill a store and measure every way on it."""
    store = SQLiteStore(directory / "sessions.db")
    store.open(bytes(32))
    records = [a_record(subject=f"subject {number % 400}") for number in range(SESSIONS)]
    for record in records:
        store.insert(an_insert(record))
    bridge = AsyncBridge(store, inline=frozenset({"find"}))
    await bridge.open(bytes(32))
    executor = ThreadPoolExecutor(1)
    loop = asyncio.get_running_loop()

    def find(step: int) -> Find:
        return Find(records[step * 7919 % SESSIONS].session_id)

    def touch(step: int) -> Touch:
        return a_touch(records[step * 7919 % SESSIONS], later=step)

    async def find_inline(step: int) -> object:
        return store.find_at_once(find(step))

    async def touch_inline(step: int) -> object:
        return store.touch(touch(step))

    async def end_inline(step: int) -> object:
        return store.end(an_end(records[step % SESSIONS]))

    ways: dict[str, Way] = {
        "find, inline": find_inline,
        "find, inline, through the bridge": lambda step: bridge.find(find(step)),
        "find, asyncio.to_thread": lambda step: asyncio.to_thread(store.find, find(step)),
        "find, one executor thread": lambda step: loop.run_in_executor(
            executor, store.find, find(step)
        ),
        "touch, inline": touch_inline,
        "touch, through the bridge (its thread)": lambda step: bridge.touch(touch(step)),
    }
    print(f"{'us per op':40}{'median':>10}{'p99.9':>10}{'maximum':>10}{'32 in flight':>14}")
    for name, times in (await measured(ways)).items():
        report(name, times, await in_flight(ways[name], 32))
    # Last, because it uses the records up.
    ends: list[float] = []
    for step in range(SESSIONS // 2):
        started = time.perf_counter()
        await end_inline(step)
        ends.append((time.perf_counter() - started) * 1e6)
    report("end (fsync), inline", ends, None)
    executor.shutdown()
    await bridge.close()


def report(name: str, times: list[float], together: float | None) -> None:
    """One line of the table."""
    times = sorted(times)
    tail = times[int(len(times) * 0.999)]
    last = "" if together is None else f"{together:14.0f}"
    print(f"{name:40}{statistics.median(times):10.0f}{tail:10.0f}{times[-1]:10.0f}{last}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        asyncio.run(compare(Path(made)))
