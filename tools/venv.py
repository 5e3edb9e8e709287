"""Make .venv and fill it from the hashed pins, once; the Makefile calls this before every target.

`.venv/strongroom.json` says which set of pins (`demo`, `dev` or `peers`) was installed last, and a
digest of the files that decided it. While that is right, a call costs one read of four small files.
A .venv that somebody made by hand is filled, not deleted, while its Python works.

Uses the standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "strongroom.json"
LOG = VENV / "install.log"

CONTAINED_IN = {"demo": ("demo", "dev", "peers"), "dev": ("dev", "peers"), "peers": ("peers",)}
"""Each set of pins, and the installed sets that satisfy it."""

SAYING = {
    "demo": "installing what the demo needs (once, about a minute) ...",
    "dev": "installing what tests and checks need (once, a few minutes) ...",
    "peers": "installing what is compared with (once, a few minutes) ...",
}

# pip's word for a package from an index, and for one that is a file on this machine.
PACKAGE = re.compile(r"(?:Collecting ([\w.-]+)==|Processing .*/([^-/]+)-)([^\s-]+)")


def digest(name: str) -> str:
    """Everything that decides what is in .venv: the pins, our own metadata, and where we are."""
    total = hashlib.sha256(str(ROOT).encode())
    for path in (
        ROOT / "pyproject.toml",
        ROOT / "requirements" / "build.txt",
        ROOT / "requirements" / f"{name}.txt",
    ):
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def is_ready(name: str) -> bool:
    """Whether what is installed is what the files ask for."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return False
    installed = stamp.get("set")
    return (
        installed in CONTAINED_IN[name]
        and stamp.get("digest") == digest(installed)
        and PYTHON.exists()
    )


@contextmanager
def locked() -> Iterator[None]:
    """Let one process install at a time. Where the file system cannot lock, go on without."""
    handle = os.open(ROOT / "requirements", os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another make that is installing ...")
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            pass
        yield
    finally:
        os.close(handle)


def make_venv() -> None:
    """Make .venv unless a usable one is there, with a sentence where this Python cannot."""
    if _works("import pip"):
        return
    if importlib.util.find_spec("ensurepip") is None:
        sys.exit(
            f"Python at {sys.executable} cannot make virtual environments, because its ensurepip "
            "is missing. On Debian and Ubuntu 'apt-get install python3-venv' brings it. "
            "Or name another Python: make PYTHON=/path/to/python3"
        )
    say(f"making .venv with Python {sys.version.split()[0]} ...")
    # Complete what is there if its Python runs (an interrupted attempt, or one made without pip);
    # what cannot be completed is made anew.
    said = ""
    for clear in ([], ["--clear"]) if _works("") else (["--clear"],):
        made = subprocess.run(
            [sys.executable, "-m", "venv", *clear, str(VENV)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if made.returncode == 0 and _works("import pip"):
            return
        said = made.stdout
    sys.exit(
        f"{said}\nPython at {sys.executable} could not make {VENV} (see above). "
        "On Debian and Ubuntu 'apt-get install python3-venv' is often what is missing."
    )


def _works(code: str) -> bool:
    """Whether .venv has a Python that is new enough and runs `code`."""
    if not PYTHON.exists():
        return False
    probe = f"import sys; assert sys.version_info >= (3, 11)\n{code}"
    return subprocess.run([PYTHON, "-c", probe], capture_output=True, check=False).returncode == 0


def install(name: str) -> None:
    """Install a set of pins, then this tree itself, in place."""
    say(SAYING[name])
    STAMP.unlink(missing_ok=True)
    LOG.write_text("")
    pins = (f"requirements/{file}.txt" for file in ("build", name))
    pip("--require-hashes", *(word for file in pins for word in ("-r", file)))
    # The builder was installed with its hash just now, so the build needs nothing from elsewhere.
    pip("--no-deps", "--no-build-isolation", "-e", ".")
    STAMP.write_text(json.dumps({"set": name, "digest": digest(name)}))
    say("ready.")


def pip(*arguments: str) -> None:
    """Run `pip install` and show one short line a package; the whole story goes to the log."""
    command = [str(PYTHON), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    # Settings that somebody has for their own pip would break an install into .venv.
    environment = {**os.environ, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
    with (
        LOG.open("a") as log,
        subprocess.Popen(
            [*command, "--progress-bar", "off", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101 - PIPE was asked for
        for line in process.stdout:
            log.write(line)
            if found := PACKAGE.match(line):
                print("  ", found[1] or found[2], found[3], flush=True)
            elif line.startswith("Installing collected packages"):
                print("   unpacking ...", flush=True)
    if process.returncode:
        tail = "".join(LOG.read_text().splitlines(keepends=True)[-20:])
        sys.exit(f"{tail}\npip could not install what is needed (see above; all of it: {LOG}).")


def say(sentence: str) -> None:
    """Tell the person at the terminal what is going on."""
    print(f"Strongroom: {sentence}", flush=True)


def main() -> None:
    """Bring .venv to the set of pins that the Makefile asked for."""
    name = sys.argv[1]
    if is_ready(name):
        return
    with locked():
        if is_ready(name):  # the process that we waited for did it
            return
        make_venv()
        install(name)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nStopped. The next make goes on from here.")
