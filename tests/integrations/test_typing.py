"""Type checkers see the session's type in a user's program, and find mistakes before it runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.integrations import asgi

pytestmark = pytest.mark.slow

SOURCE = Path(str(asgi.__file__)).parents[2]

HANDLERS = {
    "fastapi": """
from fastapi import FastAPI
from strongroom.integrations.fastapi import CurrentSession, SessionMiddleware

app = FastAPI()
app.add_middleware(SessionMiddleware, store="memory://", keys="keys")

@app.get("/")
async def page(session: CurrentSession) -> None:
    BODY
""",
    "starlette": """
from starlette.requests import Request
from strongroom.integrations.starlette import session_of

async def page(request: Request) -> None:
    session = session_of(request)
    BODY
""",
    "litestar": """
from litestar import Litestar, get
from strongroom.integrations.litestar import CurrentSession, StrongroomPlugin

@get("/")
async def page(session: CurrentSession) -> None:
    BODY

app = Litestar([page], plugins=[StrongroomPlugin(store="memory://", keys="keys")])
""",
    "flask": """
from flask import Flask
from strongroom.integrations.flask import Strongroom, current_session as session

app = Flask(__name__)
Strongroom(app, store="memory://", keys="keys")

@app.get("/")
def page() -> str:
    BODY
    return "x"
""",
    "django": """
from django.http import HttpRequest
from strongroom.integrations.django import session_of

def page(request: HttpRequest) -> None:
    session = session_of(request)
    BODY
""",
    "aiohttp": """
from aiohttp import web
from strongroom.integrations.aiohttp import get_session, setup

async def page(request: web.Request) -> web.Response:
    session = get_session(request)
    BODY
    return web.Response()

app = web.Application()
setup(app, store="memory://", keys="keys")
""",
    "wsgi": """
from typing import Any
from strongroom.integrations.wsgi import session_of

def page(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    session = session_of(environ)
    BODY
    return []
""",
    "quart": """
from quart import Quart
from strongroom.integrations.quart import Strongroom, current_session as session

app = Quart(__name__)
Strongroom(app, store="memory://", keys="keys")

@app.get("/")
async def page() -> str:
    BODY
    return "x"
""",
}
BODY = """subject: str | None = session.subject
    session["n"] = session.get("n", 0) + 1
    await session.sign_in("alice", amr=["pwd", "otp"])
    ended: int = await session.sign_out_everywhere()
    print(subject, ended, [each.device for each in await session.sessions()])
"""
MISTAKES = {
    "no such attribute": "print(session.user)",
    "a subject may be missing": "subject: str = session.subject",
    "a subject is text": "await session.sign_in(7)",
    "how many is a number": "ended: str = await session.sign_out_everywhere()",
}


def program(framework: str, body: str) -> str:
    """A user's program: the framework's handler with this body; in `def` nothing is awaited."""
    if "async def" not in HANDLERS[framework]:
        body = in_plain_def(body)
    return HANDLERS[framework].replace("BODY", body)


def in_plain_def(body: str) -> str:
    """The same without `await`: an action has happened, and has a result."""
    return re.sub(r"await (session\.\w+\(.*?\))", r"\1.result()", body)


def mypy(folder: Path) -> str:
    """What mypy says of the folder, strictly."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "."]
    cache = ["--cache-dir", str(folder / ".cache"), "--disable-error-code", "import-untyped"]
    return run([*command, *cache], folder)


def pyright(folder: Path) -> str:
    """What pyright says of the folder."""
    return run([sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "."], folder)


def run(command: list[str], folder: Path) -> str:
    """The command's words."""
    environment = {
        **os.environ,
        "MYPYPATH": str(SOURCE),
        "PYTHONPATH": str(SOURCE),
        "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_users_program_is_checked(checker, tmp_path: Path) -> None:
    """Right programs pass, and in each wrong one the line with the mistake is named."""
    for framework in HANDLERS:
        (tmp_path / f"{framework}_right.py").write_text(program(framework, BODY))
        for number, mistake in enumerate(MISTAKES.values()):
            (tmp_path / f"{framework}_wrong{number}.py").write_text(program(framework, mistake))
    told = checker(tmp_path)
    for framework, handler in HANDLERS.items():
        assert f"{framework}_right.py:" not in told, told
        for number, mistake in enumerate(MISTAKES.values()):
            name = f"{framework}_wrong{number}.py"
            lines = program(framework, mistake).splitlines()
            wrong = mistake if "async def" in handler else in_plain_def(mistake)
            line = next(n for n, text in enumerate(lines, 1) if wrong in text)
            assert re.search(rf"{name}:{line}:.*error", told), (mistake, told)
