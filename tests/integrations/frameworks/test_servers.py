"""Every framework under its real servers: hundreds of requests at once, and every way to fail.

Two worker processes each, where the server has workers, on one SQLite file. The pages stand in
tests/support/served.py.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from strongroom.keyfile import development_keys

ROOT = Path(__file__).parents[3]
APP = "tests.support.served:app"
UVICORN = f"uvicorn {APP} --port=PORT --workers=2 --log-level=warning"
HYPERCORN = f"hypercorn {APP} --bind=127.0.0.1:PORT --workers=2"
GRANIAN = f"granian {APP} --port=PORT --workers=2 --interface="
GUNICORN = f"gunicorn {APP} --bind=127.0.0.1:PORT --workers=2"

SERVERS = {
    ("starlette", "uvicorn"): UVICORN,
    ("starlette", "hypercorn"): HYPERCORN,
    ("starlette", "granian"): f"{GRANIAN}asgi",
    ("fastapi", "uvicorn"): UVICORN,
    ("fastapi-def", "uvicorn"): UVICORN,
    ("litestar", "uvicorn"): UVICORN,
    ("litestar", "granian"): f"{GRANIAN}asgi",
    ("quart", "hypercorn"): HYPERCORN,
    ("quart", "uvicorn"): UVICORN,
    ("django-asgi", "uvicorn"): f"{UVICORN} --lifespan=off",
    ("django-asgi", "hypercorn"): HYPERCORN,
    ("django-wsgi", "gunicorn"): f"{GUNICORN} --threads=8",
    ("flask", "gunicorn"): f"{GUNICORN} --threads=8",
    ("flask", "granian"): f"{GRANIAN}wsgi",
    ("wsgi", "gunicorn"): f"{GUNICORN} --threads=8",
    ("aiohttp", "alone"): "tests.support.served PORT",
    ("aiohttp", "gunicorn"): f"{GUNICORN} --worker-class=aiohttp.GunicornWebWorker",
}
REQUESTS = 300
AT_ONCE = 40
SAME_ORIGIN = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}

pytestmark = pytest.mark.slow


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The tests of one server share it, and so a worker."""
    metafunc.parametrize(
        "running",
        [
            pytest.param(row, id="-".join(row), marks=pytest.mark.xdist_group(f"{row}"))
            for row in SERVERS
        ],
        indirect=True,
        scope="module",
    )


@dataclass
class Answer:
    """What came back. `whole` says that the body did not break off."""

    status: int
    cookies: list[str]
    body: bytes
    whole: bool = True


@dataclass
class Client:
    """A browser's cookies on one server."""

    port: int
    cookies: dict[str, str] = field(default_factory=dict)

    def ask(self, path: str, method: str = "GET", body: str = "", *, read: int = -1) -> Answer:
        """One request on a connection of its own. With `read`, hang up after so many bytes."""
        connection = http.client.HTTPConnection("localhost", self.port, timeout=60)
        headers = {**SAME_ORIGIN, "Accept": "application/json"}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={v}" for name, v in self.cookies.items())
        if method == "POST":
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            connection.request(method, path, body=body or None, headers=headers)
            answer = connection.getresponse()
            told = answer.headers.get_all("Set-Cookie") or []
            self._keep(told)
            try:
                return Answer(answer.status, told, answer.read(None if read < 0 else read))
            except (http.client.IncompleteRead, ConnectionError) as error:
                part = getattr(error, "partial", b"")
                return Answer(answer.status, told, part, whole=False)
        finally:
            connection.close()

    def _keep(self, told: list[str]) -> None:
        for line in told:
            name, _, value = line.partition(";")[0].partition("=")
            if value.strip('"') and "max-age=0" not in line.lower():
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)

    def told(self) -> dict[str, Any]:
        """What the site says of the session."""
        import json

        answer = self.ask("/")
        assert answer.status == 200, answer
        found: dict[str, Any] = json.loads(answer.body)
        return found

    def signed_in(self, subject: str = "alice") -> Client:
        """This client, in which somebody has just signed in."""
        answer = self.ask("/sign-in", "POST", f"subject={subject}")
        assert answer.status == 200, answer
        return self

    def ask_until_done(self, path: str) -> Answer:
        """As a client does that is told 503 and Retry-After: nothing was written, ask again."""
        answer = self.ask(path)
        for _ in range(200):
            if answer.status != 503:
                break
            time.sleep(0.02)
            answer = self.ask(path)
        return answer


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The server's port."""
    kind, _ = request.param
    folder = tmp_path_factory.mktemp("served")
    development_keys(folder / "keys")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    env = {
        **os.environ,
        "KIND": kind,
        "STORE": f"sqlite:///{folder}/s.db",
        "KEYS": str(folder / "keys"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
    }
    command = [sys.executable, "-m", *SERVERS[request.param].replace("PORT", str(port)).split()]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
        try:
            _wait_for(port, process, folder / "log")
            yield port
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1200):
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError(f"the server did not start: {log.read_text()}")


def test_no_update_is_lost_and_no_cookie_decided_twice(running: int) -> None:
    """Each of hundreds of requests changes another key of one session; what was acknowledged is
    there, and none of them sets or clears a cookie (P7, P13, P22)."""
    alice = Client(running).signed_in()

    def put(number: int) -> Answer:
        return Client(running, dict(alice.cookies)).ask_until_done(f"/set?k{number}=1")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(put, range(REQUESTS)))
    assert {each.status for each in answers} == {200}
    assert [each.cookies for each in answers if each.cookies] == []
    assert alice.told()["data"] == {f"k{number}": "1" for number in range(REQUESTS)}


def test_a_page_that_fails_signs_nobody_in(running: int) -> None:
    """A visitor's cart is there still, in the same session and with the same cookie; somebody else
    who was signed in is not made into the new one (P13, P14)."""
    for page in ("/raises", "/answers-500"):
        visitor = Client(running)
        visitor.ask("/set?cart=book")
        cookies, before = dict(visitor.cookies), visitor.told()
        answer = visitor.ask(page)
        assert (answer.status, answer.cookies) == (500, [])
        assert (visitor.cookies, visitor.told()) == (cookies, before)
        assert before["data"] == {"cart": "book"}
        alice = Client(running).signed_in()
        answer = alice.ask(page)
        assert (answer.status, answer.cookies) == (500, [])
        assert alice.told()["subject"] is None


def test_signing_out_holds_though_the_page_fails(running: int) -> None:
    """The session is over on the server, whatever became of the response (P14)."""
    alice = Client(running).signed_in()
    thief = Client(running, dict(alice.cookies))
    assert alice.ask("/out-and-raises").status == 500
    assert alice.told()["subject"] is None
    assert thief.told()["subject"] is None


def test_a_stream_keeps_what_it_assigns_and_sets_no_cookie(running: int) -> None:
    """A response in parts reads the session and writes to it, to its end (P13, E1)."""
    alice = Client(running).signed_in()
    answer = alice.ask("/stream")
    assert (answer.status, answer.body, answer.cookies) == (200, b"alice end", [])
    for _ in range(100):
        if alice.told()["data"] == {"late": 1}:
            return
        time.sleep(0.02)
    assert alice.told()["data"] == {"late": 1}


def test_a_stream_that_fails_half_way_leaves_nothing_half_done(running: int) -> None:
    """What was decided when it began holds: who it signed in is signed in with the cookie that has
    left, who it signed out is out, and nobody else's cookie is touched (P13, P14)."""
    alice = Client(running).signed_in()
    before = dict(alice.cookies)
    answer = alice.ask("/breaks")
    assert (answer.status, answer.cookies) == (200, [])
    assert (alice.cookies, alice.told()["subject"]) == (before, "alice")
    answer = alice.ask("/breaks?as=carol")
    assert answer.status == 200
    assert (alice.told()["subject"], len(alice.cookies)) == ("carol", 1)
    assert Client(running, before).told()["subject"] is None
    carol = dict(alice.cookies)
    alice.ask("/breaks?out=")
    assert alice.told()["subject"] is None
    assert Client(running, carol).told()["subject"] is None


def test_who_hangs_up_half_way_stays_signed_in(running: int) -> None:
    """A client that leaves in the middle of a long response, again and again (P13)."""
    alice = Client(running).signed_in()
    before = dict(alice.cookies)
    for _ in range(5):
        assert alice.ask("/long", read=1000).status == 200
    assert (alice.cookies, alice.told()["subject"]) == (before, "alice")
    assert alice.told()["data"] == {"before": 1}
