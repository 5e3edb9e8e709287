"""Flask, Django and plain Node: each fault is found by exactly its check, the sound one has "
"none."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from strongroom.audit.examine import examine
from strongroom.audit.http import HttpTransport
from strongroom.audit.run import Report
from strongroom.audit.site import Options
from strongroom.audit.target import Target, parse_target
from tests.audit.kit import ZOO, findings, told
from tests.audit.kit import examine as examine_here
from tests.audit.zoo import office

ROOT = Path(__file__).resolve().parents[2]
PASSWORDS = {"alice": "correct horse battery"}

OFFICE = {
    "key from a tutorial": "token-known-key",
    "narrow path": "cookie-path",
    "all in the cookie": "end-replay fixation-again",
    "half signed in": "trust-first-step",
}
LIBRARY = {
    "key from a tutorial": "token-known-key end-replay fixation-again",
    "in the cookie": "end-replay fixation-again",
    "no cycle_key": "fixation-kept",
    "no csrf": "csrf-forged csrf-sign-in csrf-sign-out",
    "one view exempt": "csrf-forged",
    "logout by get": "end-by-get",
    "no samesite": "cookie-samesite",
    "no httponly": "cookie-httponly",
    "cached": "transport-no-store",
    "any host": "trust-forwarded-host",
}
KIOSK = {
    "counts": "token-hash",
    "Math.random": "token-entropy",
    "no origin check": "csrf-content-type csrf-sign-in csrf-sign-out",
    "origin by regular expression": "csrf-origin",
    "takes the id from the query": "fixation-url",
    "never ends the old one": "fixation-again",
    "no samesite": "cookie-samesite",
    "saves the record again": "race-sign-out",
    "forgets to delete": "end-replay",
}
TICKET = {
    "counts": "token-order",
    "md5 of the clock": "token-hash",
    "no strict mode, no new id": "fixation-adopted fixation-kept",
    "id in the address": "fixation-url",
    "no new id": "fixation-kept",
    "keeps the old one": "fixation-again",
    "forgets the server": "end-replay",
    "logout by get": "end-by-get",
    "no csrf token": "csrf-forged csrf-sign-in csrf-sign-out",
    "no httponly": "cookie-httponly",
    "no samesite": "cookie-samesite",
    "cached": "transport-no-store transport-cookie-cached",
}


def _office() -> Target:
    text = """
    url = "https://office.example/"
    user = "alice"
    [[change]]
    name = "name"
    page = "/office/"
    url = "/office/name"
    fields = { name = "N{nonce}" }
    read = "/office/"
    """
    return parse_target(text, PASSWORDS)


@pytest.mark.slow
@pytest.mark.parametrize("fault", OFFICE)
def test_a_fault_of_the_office_is_found(fault: str) -> None:
    """Flask, with a sign-in over two pages that the auditor finds by itself."""
    report = examine_here(office.build(fault), _office())
    assert findings(report) == set(OFFICE[fault].split()), told(report)


@pytest.mark.slow
def test_the_sound_office_has_no_finding() -> None:
    """Flask without a fault, the sign-in over two pages included."""
    report = examine_here(office.build(), _office())
    assert not findings(report), told(report)
    assert "trust-first-step" in {each.check.id for each in report.of("pass")}, told(report)


@contextmanager
def running(*command: str) -> Generator[str]:
    """A program that prints its port -> its address; ended by its process."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, f"{command} did not start"
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()


def _audit(url: str, text: str, samples: int = 24) -> Report:
    transport = HttpTransport()
    try:
        described = parse_target(text, PASSWORDS, url=url)
        options = Options(samples=samples, parallel=4, raise_errors=True)
        return examine(described, transport, options)
    finally:
        transport.close()


NAME = """
user = "alice"
[[change]]
name = "name"
page = "/"
url = "/name/"
fields = { name = "N{nonce}" }
read = "/"
"""
MOTTO = """
user = "alice"
[[change]]
name = "motto"
url = "/api/motto"
json = { motto = "M{nonce}" }
read = "/api/me"
"""


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["", *LIBRARY])
def test_a_fault_of_the_library_is_found(fault: str) -> None:
    """Django on loopback; without a fault nothing is found."""
    with running(sys.executable, "-m", "tests.audit.zoo.library", "0", *fault.split()) as url:
        report = _audit(url, NAME)
    assert report.frameworks[:1] == ("Django",)
    assert findings(report) == set(LIBRARY.get(fault, "").split()), told(report)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["", *KIOSK])
def test_a_fault_of_the_kiosk_is_found(fault: str) -> None:
    """Plain Node, signing in with JSON from a script that the auditor reads; else nothing found."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("allowed: there is no Node on this machine")
    with running(node, str(ZOO / "kiosk.js"), *fault.split()) as url:
        report = _audit(url, MOTTO)
    assert findings(report) == set(KIOSK.get(fault, "").split()), told(report)


def _wait_for_port(port: int) -> None:
    for _attempt in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("PHP's server did not start")


@contextmanager
def php(fault: str, folder: Path) -> Generator[str]:
    """The ticket office in PHP's own server, with four workers -> its address."""
    program = shutil.which("php")
    if program is None:
        pytest.skip("allowed: there is no PHP on this machine")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    where = ["-d", f"session.save_path={folder}", "-S", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        [program, *where, str(ZOO / "ticket.php")],
        env={"PHP_CLI_SERVER_WORKERS": "4", "FAULT": fault},
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # its workers outlive their parent: the group is ended
    )
    try:
        _wait_for_port(port)
        yield f"http://127.0.0.1:{port}/"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


SEAT = """
user = "alice"
[[change]]
name = "seat"
page = "/"
url = "/seat.php"
fields = { seat = "S{nonce}" }
read = "/"
"""


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["", *TICKET])
def test_a_fault_of_the_ticket_office_is_found(fault: str, tmp_path: Path) -> None:
    """Plain PHP with PHP's own sessions, and what its settings do to them; else nothing found."""
    with php(fault, tmp_path) as url:
        report = _audit(url, SEAT)
    assert findings(report) == set(TICKET.get(fault, "").split()), told(report)
