"""How many processor instructions the hot path takes, whatever else the machine does.

    make instructions                  compare with bench/instructions.json, 30 seconds
    make instructions ARGS='--write "why"'   write that file anew, with the reason

It needs `valgrind`. Another Python counts otherwise, so the file says of which version it is,
and nothing is compared across versions. Two runs differ by less than a half per cent, however busy
the machine is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .hot import CASES_COUNTED, REQUESTS

FILE = Path(__file__).resolve().parent.parent / "instructions.json"
GROWTH = 0.05
"""More than this is told, unless the file was written anew with a note that says why."""

_TOTAL = re.compile(r"^totals: (\d+)$", re.MULTILINE)

Counts = dict[str, int]


def python() -> str:
    """The version that the counts are of."""
    return ".".join(platform.python_version_tuple()[:2])


def counted() -> Counts:
    """Instructions a request, over the same application without sessions.

    Raises:
        RuntimeError: valgrind is missing, or could not run the program.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise RuntimeError("There is no valgrind here. Debian: apt-get install valgrind")
    with tempfile.TemporaryDirectory(prefix="instructions-") as folder:
        tool = ["--tool=callgrind", "--dump-before=getsid", f"--callgrind-out-file={folder}/out"]
        done = subprocess.run(
            [valgrind, *tool, sys.executable, "-m", "bench.cost.hot"],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            cwd=FILE.parent.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        totals = [_total(Path(folder, f"out.{number}")) for number in _turns()]
    if done.returncode or None in totals:
        raise RuntimeError(f"valgrind could not count:\n{done.stderr[-2000:]}")
    found = dict(zip(CASES_COUNTED, (total or 0 for total in totals), strict=True))
    bare = found.pop("bare")
    return {name: (total - bare) // REQUESTS for name, total in found.items()}


def _turns() -> range:
    """A dump is made before each mark, so every second one is a case's."""
    return range(2, 2 * len(CASES_COUNTED) + 1, 2)


def _total(dump: Path) -> int | None:
    found = _TOTAL.search(dump.read_text()) if dump.exists() else None
    return None if found is None else int(found[1])


def grown(before: Counts, now: Counts) -> list[str]:
    """A sentence on each case that takes more than `GROWTH` more than it did."""
    return [
        f"{name} takes {now[name]:,} instructions, {now[name] / before[name] - 1:.0%} more than "
        f"the {before[name]:,} of {FILE.name}."
        for name in before
        if now[name] > before[name] * (1 + GROWTH)
    ]


def main() -> int:
    """Count, and compare or write -> 1 where something grew."""
    parser = argparse.ArgumentParser(prog="python -m bench.cost.instructions")
    parser.add_argument("--write", metavar="NOTE", help="write the file anew: why it changed")
    options = parser.parse_args()
    now = counted()
    if options.write:
        told = {"python": python(), "note": options.write, "added": now}
        FILE.write_text(json.dumps(told, indent=1) + "\n")
    known = json.loads(FILE.read_text())
    for name, count in now.items():
        sys.stdout.write(f"{name:<12}{count:>10,}   ({known['added'][name]:,})\n")
    if known["python"] != python():
        sys.stdout.write(f"The file is of Python {known['python']}: nothing to compare.\n")
        return 0
    sentences = grown(known["added"], now)
    if sentences:
        advice = "Make it cheaper, or say why: make instructions ARGS='--write \"the reason\"'"
        sys.stdout.write("\n".join([*sentences, advice]) + "\n")
    return 1 if sentences else 0


if __name__ == "__main__":
    sys.exit(main())
