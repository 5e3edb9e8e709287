"""The pytest plugin, as somebody else's project uses it: a run of pytest in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.audit.kit import ZOO
from tests.audit.zoo.club import PASSWORDS

ROOT = Path(__file__).resolve().parents[2]

THREE_LINES = """
from tests.audit.zoo.club import build

def test_sound(session_audit):
    report = session_audit(build(), target={target!r}, password="correct horse battery")
    report.check()

def test_faulty(session_audit):
    report = session_audit(build("no rotation"), user="alice", password="correct horse battery",
                           url="https://club.example/", only=["fixation"])
    assert [each.check.id for each in report.findings] == ["fixation-kept"]
    report.check()

def test_wrong_password(session_audit):
    session_audit(build(), user="alice", password="wrong", url="https://club.example/").check()
"""

SETTINGS = """
[pytest]
session_audit_app = tests.audit.zoo.club:build()
session_audit_target = audit.toml
"""


def _pytest(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    passwords = {
        "STRONGROOM_AUDIT_PASSWORD": PASSWORDS["alice"],
        "STRONGROOM_AUDIT_SECOND_PASSWORD": PASSWORDS["mallory"],
    }
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "-q", *words]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **passwords, **more},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.slow
def test_three_lines_are_enough(tmp_path: Path) -> None:
    """The fixture passes a sound application, names the fault, and takes no sign-in for no "
    "proof."""
    target = tmp_path / "audit.toml"
    target.write_text((ZOO / "club.toml").read_text("utf-8"), "utf-8")
    (tmp_path / "test_it.py").write_text(THREE_LINES.format(target=str(target)), "utf-8")
    run = _pytest(tmp_path)
    assert "2 failed, 1 passed" in run.stdout, run.stdout
    assert "fixation-kept (fail, high): The cookie from before the sign-in" in run.stdout
    assert "The audit proved nothing: No way to sign in was found" in run.stdout
    assert PASSWORDS["mallory"] not in run.stdout


@pytest.mark.slow
def test_a_test_for_each_check(tmp_path: Path) -> None:
    """`--session-audit` adds a test for each check, and without it there is none."""
    (tmp_path / "pytest.ini").write_text(SETTINGS, "utf-8")
    (tmp_path / "audit.toml").write_text((ZOO / "club.toml").read_text("utf-8"), "utf-8")
    run = _pytest(tmp_path, "--session-audit")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "failed" not in run.stdout
    assert "allowed: not applicable: The sign-in has one page." in run.stdout
    assert "no tests ran" in _pytest(tmp_path).stdout


@pytest.mark.slow
def test_a_finding_is_told_without_a_traceback(tmp_path: Path) -> None:
    """A failing check says what, why and how to mend it."""
    settings = SETTINGS.replace("build()", "faulty")
    (tmp_path / "pytest.ini").write_text(settings.replace("tests.audit.zoo.club", "shop"), "utf-8")
    (tmp_path / "shop.py").write_text(
        "from tests.audit.zoo.club import build\nfaulty = build('no httponly')\n", "utf-8"
    )
    (tmp_path / "audit.toml").write_text((ZOO / "club.toml").read_text("utf-8"), "utf-8")
    run = _pytest(tmp_path, "--session-audit", PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}")
    assert run.returncode == 1, run.stdout + run.stderr
    assert "__Host-id: no HttpOnly." in run.stdout
    assert "Why: One injected line of JavaScript" in run.stdout
    assert "Traceback" not in run.stdout


@pytest.mark.slow
def test_without_an_application_it_says_what_to_do(tmp_path: Path) -> None:
    """The option without the setting is a mistake in the use, and told as one."""
    run = _pytest(tmp_path, "--session-audit")
    assert run.returncode == 4, run.stdout + run.stderr
    assert "set session_audit_app" in run.stdout + run.stderr
