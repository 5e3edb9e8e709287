"""Flask, Django and plain Node: each fault is found by exactly its check, the sound one has "
"none."""

from __future__ import annotations

import shutil
import subprocess
import sys
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
