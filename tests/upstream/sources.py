"""The source distributions of frameworks, for their own tests: by pip, with the pins' hashes.

They are kept in .venv/upstream, unpacked, and never in the repository.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".venv" / "upstream"
PINS = ("dev.txt", "peers.txt")


def pin_of(package: str) -> tuple[str, str]:
    """The version that is installed or pinned, and its lines with the hashes."""
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        version = r"[^ ;\\]+"  # one of the peers, which are not installed
    for name in PINS:
        text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
        pattern = rf"^{package}==({version})(?: ;[^\\\n]*)? \\\n(?:    --hash=\S+(?: \\)?\n)+"
        found = re.search(pattern, text, re.MULTILINE)
        if found is not None:
            return found[1], found[0]
    raise AssertionError(f"{package} is not pinned")


def source_of(package: str) -> Path:
    """The folder of a package's source, downloaded once."""
    version, lines = pin_of(package)
    folder = KEPT / f"{package}-{version}"
    KEPT.mkdir(exist_ok=True)
    with (KEPT / f"{package}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            _download(lines, folder)
    (inner,) = [each for each in folder.iterdir() if each.is_dir()]
    return inner


def _download(lines: str, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    wanted = folder / "wanted.txt"
    wanted.write_text(lines, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input"]
    how = ["--no-deps", "--no-binary", ":all:", "--require-hashes", "-r", str(wanted)]
    done = subprocess.run(
        [*pip, *how, "-d", str(folder)], capture_output=True, text=True, check=False
    )
    archives = list(folder.glob("*.tar.gz"))
    if done.returncode != 0 and "hash" not in done.stderr.lower():
        package = lines.partition(" ")[0]
        pytest.skip(f"allowed: no source of {package} could be had: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    archives[0].unlink()
    (folder / "done").touch()
