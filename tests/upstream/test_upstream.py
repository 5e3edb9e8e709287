"""The frameworks' own session tests, from their source distributions, against our sessions.

python -m tests.upstream.test_upstream            prints the page
python -m tests.upstream.test_upstream --write    draws it into docs/upstream.md
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.drawings import Drawing

from .sources import ROOT, pin_of, source_of
from .suites import SUITES, WITHOUT_TESTS, Suite

PLUGIN = Path(__file__).parent / "plugin"
PAGE = ROOT / "docs" / "upstream.md"

slow = pytest.mark.slow
patient = pytest.mark.timeout(900)
"""The first run downloads."""


def results_of(suite: Suite, folder: Path) -> dict[str, bool]:
    """Run a suite in a process of its own -> which tests passed."""
    source = source_of(suite.package)
    environment = {
        **os.environ,
        "POINT": suite.package,
        "RESULTS": str(folder / "results"),
        "PYTHONPATH": os.pathsep.join([str(PLUGIN), "."]),
    }
    environment.pop("PYTEST_XDIST_WORKER", None)
    if suite.package == "django":
        source /= "tests"
        command = [sys.executable, str(PLUGIN / "pointed_django.py")]
    else:
        plugins = ["-p", "pointed", "-p", "no:cacheprovider", "-p", "no:xdist"]
        chosen = ["-k", suite.select] if suite.select else []
        if suite.package == "aiohttp-session":
            chosen.append("--noconftest")  # It starts servers for the storages.
        how = ["-q", "-c", os.devnull, "--rootdir=.", *plugins, *chosen, *suite.files]
        command = [sys.executable, "-m", "pytest", *how]
    done = subprocess.run(
        command, cwd=source, env=environment, capture_output=True, text=True, check=False
    )
    assert (folder / "results").exists(), done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, bool] = json.loads((folder / "results").read_text(encoding="utf-8"))
    return found


@slow
@patient
@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.package)
def test_their_own_tests_pass_but_for_what_we_say(suite: Suite, tmp_path: Path) -> None:
    """Whatever is answered differently stands in the table with its reason, and nothing else."""
    if not pin_of(suite.package)[0].startswith(suite.version):
        pytest.skip(f"allowed: the table is of {suite.package} {suite.version}")
    results = results_of(suite, tmp_path)
    failed = {name for name, passed in results.items() if not passed}
    assert failed == suite.different
    assert sum(results.values()) == suite.passes


@slow
@patient
@pytest.mark.parametrize("package", WITHOUT_TESTS)
def test_a_source_without_tests_has_none(package: str) -> None:
    """As soon as there are tests in it, they are to be run."""
    tests = [each for each in source_of(package).rglob("test_*.py") if "session" in each.name]
    assert tests == []
    assert not (source_of(package) / "tests").exists()


def drawing() -> Drawing:
    """Where the page has it."""
    begin, end = "<!-- drawn: upstream -->", "<!-- end of what is drawn -->"
    return Drawing(PAGE, begin, end, drawn)


def drawn() -> str:
    """The part of the page that comes from the table."""
    lines: list[str] = []
    for suite in SUITES.values():
        lines += [
            f"## {suite.package}",
            "",
            f"Run: {suite.says}. {suite.passes} answer as they do there.",
            "",
        ]
        if not suite.differs:
            lines += ["None is answered differently.", ""]
            continue
        lines += ["| answered differently | because |", "|---|---|"]
        for reason, names in suite.differs.items():
            lines.append(f"| {', '.join(f'`{name}`' for name in names)} | {reason}. |")
        lines.append("")
    without = " and ".join(name.capitalize() for name in WITHOUT_TESTS)
    lines.append(f"The source distributions of {without} hold no tests.")
    return "\n".join(lines)


def test_the_page_says_what_is_run() -> None:
    """Whoever moves to us reads what will be different."""
    assert drawing().shown() == drawn(), (
        "draw it anew: python -m tests.upstream.test_upstream --write"
    )


if __name__ == "__main__":
    sys.exit(drawing().main())
