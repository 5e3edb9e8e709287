"""Servers that answer with rubbish, or for ever: the auditor ends, and says that it cannot tell."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest

from strongroom.audit.examine import examine
from strongroom.audit.http import HttpTransport
from strongroom.audit.site import Options
from strongroom.audit.target import Account, Target
from strongroom.audit.wire import Limits, Request, Unreachable

Talk = Callable[[socket.socket], None]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"


@contextmanager
def talking(talk: Talk) -> Generator[str]:
    """A server that reads a request and then says what it likes -> its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                connection.settimeout(5)
                connection.recv(65536)
                talk(connection)
            except OSError:
                return

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _peer = listening.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        over.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(10)


def _endless(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"\r\n")
    while True:
        connection.sendall(b"x" * 65536)


def _endless_chunks(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def _drip(connection: socket.socket) -> None:
    connection.sendall(HEAD)
    while True:
        connection.sendall(b"X-Slow: 1\r\n")
        time.sleep(0.05)


def _drip_body(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def _huge_cookie(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Set-Cookie: id=" + b"x" * 1_000_000 + b"\r\n\r\n")


def _many_cookies(connection: socket.socket) -> None:
    lines = b"".join(b"Set-Cookie: c%d=1\r\n" % number for number in range(4000))
    connection.sendall(HEAD + lines + b"Content-Length: 0\r\n\r\n")


def _circle(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")


def _odd_redirect(connection: socket.socket) -> None:
    where = b"Location: http://[::1:99999999/\xff\xfe?\x01\r\n"
    connection.sendall(b"HTTP/1.1 302 Found\r\n" + where + b"Content-Length: 0\r\n\r\n")


def _rubbish(connection: socket.socket) -> None:
    connection.sendall(b"\x00\xff\xfe not http at all\r\n\r\n")


def _silence(connection: socket.socket) -> None:
    time.sleep(4)


def _odd_charset(connection: socket.socket) -> None:
    body = b"<form action='http://[bad' method=post><input type=password name=\xff\xfe>"
    body += b"<a href='\x00:'>"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=klingon\r\n"
    connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def _false_gzip(connection: socket.socket) -> None:
    body = b"not gzip" * 10
    connection.sendall(
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )


def _bomb(connection: socket.socket) -> None:
    body = gzip.compress(b"0" * 50_000_000)
    connection.sendall(
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )


def _deep(connection: socket.socket) -> None:
    body = b"<form method=post>" + b"<div><a href=/x>" * 30_000
    connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def _hang_up(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def _hang_up_halfway(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n<form method=post>")


def _false_length(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Content-Length: -1\r\nContent-Length: nine\r\n\r\nbody")


def _false_chunk(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\nx\r\nZZ\r\n")


def _long_line(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"X-Long: " + b"x" * 2_000_000 + b"\r\n\r\n")


def _early(connection: socket.socket) -> None:
    for _ in range(200):
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        time.sleep(0.02)


def _odd_status(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 999 \xff\xfe\r\nContent-Length: 0\r\n\r\n")


TALKS: dict[str, Talk] = {
    "a connection that is dropped": _hang_up,
    "a body that is dropped halfway": _hang_up_halfway,
    "a false length": _false_length,
    "a false chunk": _false_chunk,
    "a header line of two megabytes": _long_line,
    "early hints without end": _early,
    "a status nobody knows": _odd_status,
    "an endless body": _endless,
    "endless chunks": _endless_chunks,
    "a header line now and then": _drip,
    "a byte of the body now and then": _drip_body,
    "a cookie of a megabyte": _huge_cookie,
    "four thousand cookies": _many_cookies,
    "redirects in circles": _circle,
    "a redirect to nowhere": _odd_redirect,
    "no HTTP at all": _rubbish,
    "silence": _silence,
    "an unknown charset": _odd_charset,
    "a false gzip": _false_gzip,
    "a compressed bomb": _bomb,
    "thirty thousand open tags": _deep,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TALKS)
def test_a_malformed_server_neither_hangs_nor_crashes_it(name: str) -> None:
    """Whatever is said, the audit ends without a pass that was not earned."""
    with talking(TALKS[name]) as url:
        transport = HttpTransport()
        try:
            options = Options(samples=10, raise_errors=True)
            described = Target(url, (Account("alice", "correct horse battery"),))
            try:
                report = examine(described, transport, options, timeout=0.5, budget=16)
            except Unreachable as error:
                assert error.what.endswith(".") and "127.0.0.1" in error.what, error.what
                return
        finally:
            transport.close()
    passed = {each.check.id for each in report.of("pass")}
    assert passed <= {"cookie-refused", "cookie-duplicate"}, passed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a header line now and then", "a byte of the body now and then"])
def test_the_whole_reply_has_one_time_limit(name: str) -> None:
    """A server that sends something before each time limit reaches the one of the whole reply."""
    with talking(TALKS[name]) as url:
        transport = HttpTransport()
        started = time.monotonic()
        with pytest.raises(Unreachable, match=r"within 0\.5 seconds"):
            transport.send(Request("GET", url), Limits(timeout=0.5))
        assert time.monotonic() - started < 30
        transport.close()


@pytest.mark.slow
def test_a_bomb_is_unpacked_up_to_the_limit_only() -> None:
    """Of 50 MB behind 50 KB, what the limit says is kept."""
    with talking(_bomb) as url:
        transport = HttpTransport()
        reply = transport.send(Request("GET", url), Limits(body=1_000_000))
        transport.close()
    assert len(reply.body) == 1_000_000
