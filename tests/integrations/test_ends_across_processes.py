"""An ended session's sockets and streams end in every process, over real servers (P16).

Two processes of one application, each with a socket and a stream of alice's, and a socket of bob's.
A third process, the operator's, ends alice's sessions.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from strongroom import SessionManager, SessionPolicy, keyfile, open_store
from strongroom.testing import FrozenClock
from tests.cli.runner import Desk
from tests.proxies.servers import ROOT, running
from tests.support.places import Servers
from tests.support.servers.ports import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("ends across processes"),
]

SOON = 3.0
"""Seconds: room for a busy machine, and far less than the bound where the store pushes."""


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    made = Servers()
    try:
        yield made
    finally:
        made.stop()


class Stream(threading.Thread):
    """Somebody who reads the events of one process until there are no more."""

    def __init__(self, port: int, cookie: str) -> None:
        super().__init__(daemon=True)
        self._url, self._cookie = f"http://127.0.0.1:{port}/stream", cookie
        self.began = threading.Event()
        self.ended_at = 0.0
        self.start()

    def run(self) -> None:
        """Read."""
        try:
            with httpx2.stream("GET", self._url, headers={"cookie": self._cookie}) as response:
                for line in response.iter_lines():
                    if line == "data: alice":
                        self.began.set()
        except httpx2.TransportError:
            pass  # it was cut, as it should be
        self.ended_at = time.monotonic()


@contextmanager
def socket_to(port: int, cookie: str, name: str) -> Iterator[ClientConnection]:
    """A socket that works."""
    origin = Origin(f"http://127.0.0.1:{port}")
    with connect(
        f"ws://127.0.0.1:{port}/chat", origin=origin, additional_headers={"Cookie": cookie}
    ) as made:
        made.send("who am I?")
        assert made.recv(10) == name
        yield made


def signed_in(port: int, name: str) -> str:
    """A browser's cookie."""
    headers = {"sec-fetch-site": "same-origin"}
    answer = httpx2.post(f"http://127.0.0.1:{port}/sign-in?name={name}", headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.headers["set-cookie"]).partition(";")[0]


@pytest.mark.parametrize(
    ("store", "near", "staleness"),
    [
        ("sqlite", "", 1.0),
        ("valkey", "", 30.0),
        ("valkey", "near_cache_mb=8", 30.0),
        ("postgres", "", 30.0),
        ("postgres", "near_cache_mb=8", 30.0),
    ],
)
def test_sockets_and_streams_end_in_every_process(
    servers: Servers, tmp_path: Path, store: str, near: str, staleness: float
) -> None:
    """Closed with 4401 or cut, long before anybody would have asked where the store pushes."""
    url = servers.place(store, tmp_path).url
    keys = tmp_path / "keys"
    keyfile.write(keys, keyfile.generate("chat", time.time_ns() // 1_000_000))
    app_url = f"{url}{'&' if '?' in url else '?'}{near}" if near else url
    env = {
        "CHAT_STORE": app_url,
        "CHAT_KEYS": str(keys),
        "CHAT_STALENESS": str(staleness),
        "PYTHONPATH": str(ROOT),
    }
    with ExitStack() as stack:
        ports = [free_port(), free_port()]
        for port in ports:
            command: list[str | Path] = [sys.executable, "-m", "uvicorn", "--port", str(port)]
            command += ["--no-proxy-headers", "tests.integrations.chat:app"]
            stack.enter_context(running(command, port, tmp_path / f"{port}.log", env))
        alice, bob = signed_in(ports[0], "alice"), signed_in(ports[1], "bob")
        hers = [stack.enter_context(socket_to(port, alice, "alice")) for port in ports]
        his = [stack.enter_context(socket_to(port, bob, "bob")) for port in ports]
        streams = [Stream(port, alice) for port in ports]
        assert all(each.began.wait(10) for each in streams)
        time.sleep(1.0)  # until each channel has proved that it lives
        desk = Desk(FrozenClock(time.time_ns() // 1_000_000))
        told = desk.run("doctor", f"http://127.0.0.1:{ports[0]}/", "--keys", str(keys)).out
        assert bool(near) is ("The near cache holds" in " ".join(told.split()))
        policy = SessionPolicy.for_development()
        with SessionManager(open_store(url), keys=keys, policy=policy, sinks=()) as operator:
            assert operator.end_all_of("alice", by="olga") == 1
            acknowledged = time.monotonic()
        for socket in hers:
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(10)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4401
        assert time.monotonic() - acknowledged < SOON
        for each in streams:
            each.join(10)
            assert not each.is_alive()
            assert each.ended_at - acknowledged < SOON
        for socket in his:
            socket.send("who am I?")
            assert socket.recv(10) == "bob"
