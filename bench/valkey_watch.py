"""How soon a change is told, and what it costs the server: broadcast, publishing, default tracking.

    python -m bench.valkey_watch

It starts a server of its own on loopback. docs/decisions/0021 has the figures.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import hiredis

from strongroom.stores.valkey import Address, Settings
from strongroom.stores.valkey.wire import NOTHING, Connection
from tests.support.servers import valkey

WRITES = 2000
WATCHERS = 32


def connect(port: int, *commands: tuple[Any, ...]) -> Connection:
    line = Connection(Address("127.0.0.1", port), Settings((Address("127.0.0.1", port),)), after())
    if commands:
        line.exchange(commands, after())
    return line


def after() -> float:
    return time.monotonic() + 30


def listen(line: Connection, heard: Callable[[Any], None]) -> threading.Thread:
    """Call `heard` with every push until the connection is closed."""

    def run() -> None:
        line.socket.settimeout(None)
        while True:
            try:
                received = line.socket.recv(1 << 16)
            except OSError:
                return
            if not received:
                return
            line.reader.feed(received)
            while (said := line.reader.gets()) is not NOTHING:
                if isinstance(said, hiredis.PushNotification):
                    heard(said)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def cpu(server: valkey.Server) -> float:
    said: bytes = server.ask("INFO", "cpu")
    facts = dict(line.split(b":") for line in said.splitlines() if b":" in line)
    return float(facts[b"used_cpu_user"]) + float(facts[b"used_cpu_sys"])


SET = "redis.call('SET', KEYS[1], ARGV[1], 'PX', 100000) return 1"
PUBLISH = (
    "redis.call('SET', KEYS[1], ARGV[1], 'PX', 100000) "
    "redis.call('PUBLISH', 'changes', KEYS[1]) return 1"
)


def measure(name: str, port: int, server: valkey.Server, script: str, *subscribe: Any) -> None:
    """The time from sending a write to the push, and the server's time for a write."""
    for watchers in (1, WATCHERS):
        told = threading.Event()
        first = connect(port, ("HELLO", 3), *subscribe)
        listen(first, lambda _, told=told: told.set())  # type: ignore[misc]
        others = [connect(port, ("HELLO", 3), *subscribe) for _ in range(watchers - 1)]
        for each in others:
            listen(each, lambda _: None)
        writer = connect(port)
        delays = []
        used = cpu(server)
        for number in range(WRITES):
            if subscribe and "BCAST" not in subscribe[0] and "TRACKING" in subscribe[0]:
                first.socket.sendall(hiredis.pack_command(("GET", "sr:s{0000}x")))
                time.sleep(0.0002)
            told.clear()
            began = time.perf_counter()
            writer.exchange((("EVAL", script, 1, "sr:s{0000}x", b"%d" % number),), after())
            if subscribe:
                told.wait(5)
            delays.append((time.perf_counter() - began) * 1e6)
        used = (cpu(server) - used) / WRITES * 1e6
        delays.sort()
        print(
            f"{name:24} {watchers:3} watchers  p50 {statistics.median(delays):7.0f} us  "
            f"p99 {delays[int(len(delays) * 0.99)]:7.0f} us  server {used:6.1f} us a write",
            flush=True,
        )
        for each in (first, writer, *others):
            each.close()


def main() -> None:
    with valkey.single() as server:
        port = server.port
        measure("nobody is told", port, server, SET)
        broadcast = ("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "sr:s{")
        measure("broadcast tracking", port, server, SET, broadcast)
        measure("default tracking", port, server, SET, ("CLIENT", "TRACKING", "ON"))
        measure("publish from the script", port, server, PUBLISH, ("SUBSCRIBE", "changes"))


if __name__ == "__main__":
    main()
