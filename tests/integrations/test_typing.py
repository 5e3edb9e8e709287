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
    """A user's program: the framework's handler with this body."""
    return HANDLERS[framework].replace("BODY", body)


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
    for framework in HANDLERS:
        assert f"{framework}_right.py:" not in told, told
        for number, mistake in enumerate(MISTAKES.values()):
            name = f"{framework}_wrong{number}.py"
            lines = program(framework, mistake).splitlines()
            line = next(n for n, text in enumerate(lines, 1) if mistake in text)
            assert re.search(rf"{name}:{line}:.*error", told), (mistake, told)
