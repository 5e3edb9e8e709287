"""Django under real servers: hundreds of requests at once, and no change of anybody's is lost."""

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
from pathlib import Path

import pytest

from strongroom.keyfile import development_keys

pytestmark = pytest.mark.slow

PROJECT = """
import os
import django
from django.conf import settings
from django.http import JsonResponse
from django.urls import path

OURS = "strongroom.integrations.django"
settings.configure(
    SECRET_KEY="for this test", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", OURS],
    DATABASES={}, USE_TZ=True, DEBUG=True, SESSION_ENGINE=OURS, LOGGING_CONFIG=None,
    MIDDLEWARE=[OURS + ".middleware.SessionMiddleware"],
    STRONGROOM={"store": os.environ["STORE"], "keys": os.environ["KEYS"]},
)
django.setup()

def put(request, key):
    request.session[key] = 1
    return JsonResponse({})

async def aput(request, key):
    request.session[key] = 1
    return JsonResponse({})

def show(request):
    return JsonResponse(dict(request.session.items()))

urlpatterns = [path("put/<key>", put), path("aput/<key>", aput), path("", show)]

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
wsgi, asgi = get_wsgi_application(), get_asgi_application()
"""

SERVERS = {
    "gunicorn": ["gunicorn", "project:wsgi", "--workers=2", "--threads=8", "--bind=127.0.0.1:{}"],
    "uvicorn": ["uvicorn", "project:asgi", "--lifespan=off", "--port={}", "--log-level=warning"],
}
PAGE = {"gunicorn": "/put/", "uvicorn": "/aput/"}
REQUESTS = 200
AT_ONCE = 12


@contextlib.contextmanager
def running(server: str, folder: Path) -> Iterator[int]:
    """The server, on a port of this machine's own, until the block ends."""
    (folder / "project.py").write_text(PROJECT, encoding="utf-8")
    development_keys(folder / "keys")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    env = {**os.environ, "STORE": f"sqlite:///{folder}/s.db", "KEYS": str(folder / "keys")}
    command = [sys.executable, "-m", *(part.format(port) for part in SERVERS[server])]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
        try:
            _wait_for(port, process, folder)
            yield port
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, (folder / "log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("the server did not start")


def ask(port: int, path: str, cookie: str = "") -> tuple[int, str | None, bytes]:
    """One request -> status, Set-Cookie, body."""
    connection = http.client.HTTPConnection("localhost", port, timeout=60)
    try:
        connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Set-Cookie"), answer.read()
    finally:
        connection.close()


def ask_until_done(port: int, path: str, cookie: str) -> int:
    """As a client does that is told 503 and Retry-After: nothing was written, so it asks again."""
    for _ in range(100):
        status, _, _ = ask(port, path, cookie)
        if status != 503:
            return status
        time.sleep(0.05)
    return 503


@pytest.mark.parametrize("server", SERVERS)
def test_no_update_is_lost(server: str, tmp_path: Path) -> None:
    """Each request changes another key of one session; what was acknowledged is there (P7, P22)."""
    with running(server, tmp_path) as port:
        status, told, _ = ask(port, PAGE[server] + "first")
        assert status == 200, (tmp_path / "log").read_text()
        assert told is not None
        cookie = told.split(";")[0].strip()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            paths = [f"{PAGE[server]}k{number}" for number in range(REQUESTS)]
            statuses = set(pool.map(lambda each: ask_until_done(port, each, cookie), paths))
        assert statuses == {200}, (tmp_path / "log").read_text()[-2000:]
        _, _, body = ask(port, "/", cookie)
        assert body.count(b": 1") == REQUESTS + 1
