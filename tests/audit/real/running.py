"""Installs one application into a folder of its own, and runs it on loopback for one audit."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .recipes import PASSWORDS, Recipe

_STEP = 540
"""Seconds that one step of an installation may take."""


class Failed(Exception):
    """The application could not be installed or started. The text is a sentence, and the log."""


def install(recipe: Recipe, home: Path) -> None:
    """Fetch what it needs from the registries, unless a run before has done it."""
    home.mkdir(parents=True, exist_ok=True)
    missing = [each for each in recipe.debian if not _has_package(each)]
    if missing:
        _step(["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing], home)
    done = home / "installed.txt"
    wanted = "\n".join([*recipe.python, *recipe.npm])
    if done.exists() and done.read_text("utf-8") == wanted:
        return
    if recipe.python:
        uv = str(Path(sys.executable).with_name("uv"))
        _step([uv, "venv", "-q", "--clear", str(home / "venv")], home)
        _step([uv, "pip", "install", "-q", "--python", _python(home), *recipe.python], home)
    if recipe.npm:
        _step(
            ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(home), *recipe.npm], home
        )
    done.write_text(wanted, "utf-8")


def _has_package(name: str) -> bool:
    asked = ["dpkg-query", "-W", "-f", "${Status}", name]
    told = subprocess.run(asked, capture_output=True, text=True, check=False)
    return told.stdout.endswith("ok installed")


def _python(home: Path) -> str:
    own = home / "venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


@contextmanager
def running(recipe: Recipe, home: Path) -> Generator[str]:
    """The application, freshly set up and started -> its address; ended with all its children."""
    work = home / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(recipe.folder, work)
    port = _free_port()
    known = {
        "python": _python(home),
        "bin": str(home / "venv" / "bin"),
        "home": str(home),
        "work": str(work),
        "port": str(port),
        **PASSWORDS,
    }
    env = {
        **{key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "TZ")},
        "HOME": str(work),
        "NODE_PATH": str(home / "node_modules"),
        **{key: _filled(value, known) for key, value in recipe.env.items()},
    }
    for command in recipe.setup:
        _step([_filled(each, known) for each in command], home, work, env)
    log = (home / "server.log").open("wb")
    command = [_filled(each, known) for each in recipe.start]
    process = subprocess.Popen(
        command, cwd=work, env=env, stdout=log, stderr=log, start_new_session=True
    )
    try:
        url = f"http://{recipe.host}:{port}"
        _wait_for(process, url + recipe.ready, recipe.patience, home)
        for command in recipe.after:
            _step([_filled(each, known) for each in command], home, work, env)
        yield url + recipe.base
    finally:
        _end(process)
        log.close()


def _filled(text: str, known: dict[str, str]) -> str:
    for name, value in known.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def _step(
    command: Sequence[str], home: Path, work: Path | None = None, env: dict[str, str] | None = None
) -> None:
    with (home / "setup.log").open("ab") as log:
        log.write(f"$ {' '.join(command)}\n".encode())
        log.flush()
        told = subprocess.run(
            command, cwd=work or home, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            timeout=_STEP, check=False,
        )  # fmt: skip
    if told.returncode:
        raise Failed(f"{command[0]} ended with {told.returncode}.\n{_tail(home / 'setup.log')}")


def _wait_for(process: subprocess.Popen[bytes], url: str, patience: int, home: Path) -> None:
    for _second in range(patience):
        if process.poll() is not None:
            raise Failed(f"The application ended by itself.\n{_tail(home / 'server.log')}")
        try:
            urllib.request.urlopen(url, timeout=20).close()
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return
        except OSError:
            pass
        else:
            return
        time.sleep(1)
    raise Failed(f"{url} did not answer in {patience} seconds.\n{_tail(home / 'server.log')}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-12:])


def _end(process: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            break
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            continue
