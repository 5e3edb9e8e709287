"""A TCP proxy that breaks connections at the worst moment: when the server has done its work."""

from __future__ import annotations

import contextlib
import socket
import threading


class CuttingProxy:
    """Passes bytes on to a port of this machine. `cut_answers` makes the next answers get lost."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lost = 0
        self._cuts: list[bytes] = []
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut_answers(self, *to: bytes) -> None:
        """Lose the answer to the next command that holds each of these, and its connection."""
        self._cuts.extend(to)

    def cut_all(self) -> None:
        """Close every connection as it is."""
        for each in self._sockets:
            _close(each)

    def close(self) -> None:
        """End everything."""
        _close(self._listener)
        self.cut_all()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                serving = threading.Thread(target=self._serve, args=(client, server), daemon=True)
                self._threads.append(serving)
                serving.start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        """One question, one answer: enough for a store that waits for each."""
        doomed = threading.Event()
        answers = threading.Thread(target=self._answer, args=(client, server, doomed), daemon=True)
        answers.start()
        with contextlib.suppress(OSError):
            while asked := client.recv(1 << 20):
                cut = next((word for word in self._cuts if word in asked), None)
                if cut is not None:
                    self._cuts.remove(cut)
                    doomed.set()
                server.sendall(asked)
        _close(client)
        _close(server)
        answers.join(10)

    def _answer(
        self, client: socket.socket, server: socket.socket, doomed: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while answer := server.recv(1 << 20):
                if doomed.is_set():
                    self.lost += 1
                    break
                client.sendall(answer)
        _close(client)
        _close(server)


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
