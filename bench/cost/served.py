"""Under a real server: uvicorn or granian in a process of its own, and a load generator of ours.

    make bench-served                 some minutes; ARGS="--server granian --seconds 2"

All servers run at the same time and take turns, so that whatever the machine does meets all. The
generator is Python: it asks over keep-alive connections, the next request when the answer is there.
It runs on a core of its own where there are two. `cpu_us` is the processor time that the server's
process spent on a request, by the kernel's count: what else the machine does meets the latencies
and the throughput, and hardly that. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .__main__ import places_for
from .rounds import CASES, IN_FLIGHT, Case
from .rows import Places, Row, all_rows
from .sites import FOREIGN, Answer, Asking, as_bytes
from .tables import RESULTS, machine

FRAMEWORK = "Starlette"
ROUNDS = 5
_FLIGHTS = (1, IN_FLIGHT)
_CASES = tuple(case for case in CASES if case.name in ("read", "write"))
_PATIENCE = 20.0


@dataclass(slots=True)
class Served:
    """A row behind a server, with the latencies (seconds) and throughputs of its turns."""

    row: Row
    port: int
    process: subprocess.Popen[bytes]
    jars: list[str] = field(default_factory=list[str])
    latencies: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    throughputs: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    cpu: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Seconds of processor time that the server's process spent on a request, by turn."""

    def cpu_seconds(self) -> float:
        """What the process has spent so far, by the kernel's own count."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(each.read_text().split()[0]) for each in tasks) / 1e9


class Connection(asyncio.Protocol):
    """One keep-alive connection: the next request goes out when the answer is whole."""

    def __init__(self, request: bytes, until: float) -> None:
        self._request = request
        self._until = until
        self._buffer = b""
        self._sent = 0.0
        self.took: list[float] = []
        self.last = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head):
            return
        now = time.perf_counter()
        self.took.append(now - self._sent)
        self.last, self._buffer = head, b""
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


async def _turn(served: Served, case: Case, flight: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    began, spent = time.perf_counter(), served.cpu_seconds()
    connections: list[Connection] = []
    for number in range(flight):
        cookies = served.jars[number % len(served.jars)]
        request = as_bytes(Asking(case.method, case.path, cookies))
        made = Connection(request, began + seconds)
        await loop.create_connection(lambda made=made: made, "127.0.0.1", served.port)
        connections.append(made)
    await asyncio.wait_for(asyncio.gather(*(each.done for each in connections)), 60)
    for each in connections:
        if not each.last.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{served.row.name} answered {each.last[:40]!r}")
    took = [each for connection in connections for each in connection.took]
    key = f"{case.name} x{flight}"
    served.latencies.setdefault(key, []).extend(took)
    elapsed = time.perf_counter() - began
    served.throughputs.setdefault(key, []).append(len(took) / elapsed)
    served.cpu.setdefault(key, []).append((served.cpu_seconds() - spent) / len(took))


async def _sign_in(served: Served) -> None:
    if served.row.base is None:
        served.jars = [FOREIGN]
        return
    loop = asyncio.get_running_loop()
    for _ in range(IN_FLIGHT):
        made = Connection(as_bytes(Asking("POST", "/login")), 0.0)
        await loop.create_connection(lambda made=made: made, "127.0.0.1", served.port)
        await made.done
        lines = made.last.decode("latin-1").split("\r\n")
        pairs = [line.partition(": ")[::2] for line in lines[1:]]
        answer = Answer(200, [value for name, value in pairs if name.lower() == "set-cookie"])
        jar = [f"{name}={value}" for name, value in answer.jar.items()]
        served.jars.append("; ".join([FOREIGN, *jar]))


@contextmanager
def _serving(row: Row, places: Places, server: str, place: int) -> Iterator[Served]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    told = {
        "row": row.name,
        "folder": f"{places.folder}/{place}",
        "valkey": places.valkey,
        "postgres": places.postgres,
        "server": server,
        "port": port,
    }
    command = [sys.executable, "-W", "ignore", "-m", "bench.cost.serving", json.dumps(told)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        _await_port(port, process)
        yield Served(row, port, process)
    finally:
        process.terminate()
        process.wait(10)


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + _PATIENCE
    while time.monotonic() < give_up and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("the server did not start")


def _rows() -> list[Row]:
    return [row for row in all_rows() if FRAMEWORK in (row.base, row.name)]


def main() -> int:
    """Serve every row of Starlette, ask in turns, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.cost.served")
    parser.add_argument("--server", choices=("uvicorn", "granian"), default="uvicorn")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long one turn lasts")
    parser.add_argument("--save", action="store_true", help="for the documentation's page")
    options = parser.parse_args()
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        places, new_database = stack.enter_context(places_for(servers=True))
        served: list[Served] = []
        for place, row in enumerate(_rows()):
            own = Places(places.folder, None, places.valkey, new_database())
            try:
                served.append(stack.enter_context(_serving(row, own, options.server, place)))
            except Exception as error:
                failed[row.name] = str(error)
        _pin(0, [os.getpid()])
        _pin(1, [each.process.pid for each in served])
        asyncio.run(_ask_all(served, options.rounds, options.seconds, failed))
        told = {each.row.name: _summary(each) for each in served if each.row.name not in failed}
    result = {"server": options.server, "machine": machine(), "rows": told, "failed": failed}
    text = json.dumps(result, indent=1) + "\n"
    sys.stdout.write(text)
    if options.save:
        (RESULTS / f"served-{options.server}.json").write_text(text)
    return 0


async def _ask_all(
    served: list[Served], rounds: int, seconds: float, failed: dict[str, str]
) -> None:
    for each in served:
        await _sign_in(each)
    for _ in range(rounds):
        for case in _CASES:
            for flight in _FLIGHTS:
                for each in served:
                    if each.row.name in failed:
                        continue
                    try:
                        await _turn(each, case, flight, seconds)
                    except Exception as error:
                        failed[each.row.name] = f"{type(error).__name__}: {error}"


def _pin(core: int, processes: list[int]) -> None:
    """Servers and their stores on one core, the generator on the other."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        for process in processes:
            os.sched_setaffinity(process, {core})


def _summary(served: Served) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for key, took in served.latencies.items():
        cuts = statistics.quantiles(took, n=1000, method="inclusive")
        found[key] = {
            "cpu_us": round(statistics.median(served.cpu[key]) * 1e6, 1),
            "requests_s": round(statistics.median(served.throughputs[key])),
            "p50_ms": round(cuts[499] * 1000, 3),
            "p99_ms": round(cuts[989] * 1000, 2),
            "p99_9_ms": round(cuts[998] * 1000, 2),
        }
    return found


if __name__ == "__main__":
    sys.exit(main())
