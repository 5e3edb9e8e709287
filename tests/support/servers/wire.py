"""A TCP wire to a server of this machine that stalls, delays, tears and dies at one end only."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, field

TICK = 0.005


@dataclass(eq=False)
class _Way:
    """One direction of one connection: what came in, and when it may go out."""

    source: socket.socket
    target: socket.socket
    held: deque[tuple[float, bytes]] = field(default_factory=deque[tuple[float, bytes]])


class Wire:
    """Passes bytes on, both ways. All of its faults are for all connections, old and new."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.delay = 0.0
        """Seconds that everything is under way, in either direction."""
        self.stalled = False
        """Nothing moves; both ends believe in the connection, and new ones are accepted too."""
        self._ways: list[_Way] = []
        self._orphans: list[socket.socket] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def tear(self) -> None:
        """Both ends see the connection close."""
        with self._lock:
            ways, self._ways = self._ways, []
            for way in ways:
                self._close(way.source)

    def half_open(self) -> None:
        """The server's end is gone, and the client is never told: as when a machine loses power,
        or a firewall forgets the connection. New connections are as good as before."""
        with self._lock:
            ways, self._ways = self._ways, []
            for way in ways:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(way.source)
                if way.source.getpeername()[1] == self._server:
                    way.source.close()
                else:
                    self._orphans.append(way.source)

    def close(self) -> None:
        """End everything."""
        self._ended.set()
        self._thread.join(10)
        self.tear()
        for each in (*self._orphans, self._listener):
            each.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            ready = self._selector.select(TICK)
            with self._lock:
                for key, _ in ready:
                    if key.fileobj is self._listener:
                        self._accept()
                    else:
                        self._read(key.data)
                self._pass_on()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self._server))
        except OSError:
            client.close()
            return
        self.connections += 1
        for source, target in ((client, server), (server, client)):
            way = _Way(source, target)
            self._ways.append(way)
            self._selector.register(source, selectors.EVENT_READ, way)

    def _read(self, way: _Way) -> None:
        if way not in self._ways:
            return
        try:
            came = way.source.recv(1 << 16)
        except OSError:
            came = b""
        if came:
            way.held.append((time.monotonic() + self.delay, came))
        else:
            self._end(way)

    def _pass_on(self) -> None:
        now = time.monotonic()
        for way in tuple(self._ways):
            while not self.stalled and way.held and way.held[0][0] <= now:
                _, bytes_ = way.held.popleft()
                try:
                    way.target.sendall(bytes_)
                except OSError:
                    self._end(way)
                    break

    def _end(self, way: _Way) -> None:
        gone = [each for each in self._ways if {each.source, each.target} & {way.source}]
        for each in gone:
            self._ways.remove(each)
            self._close(each.source)

    def _close(self, one: socket.socket) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(one)
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
