"""What the tests of the auditor share: auditing in process, and naming what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from strongroom.audit.examine import examine_app
from strongroom.audit.run import Report
from strongroom.audit.site import Options
from strongroom.audit.target import Target, parse_target

ZOO = Path(__file__).parent / "zoo"


def target(name: str, passwords: dict[str, str]) -> Target:
    """The target file of a zoo application."""
    return parse_target((ZOO / f"{name}.toml").read_text("utf-8"), passwords)


def examine(app: Any, described: Target, **more: Any) -> Report:
    """Audit in process with a small sample; an error in a check is an error of the test."""
    options = Options(samples=24, parallel=4, raise_errors=True, only=more.pop("only", ()))
    return examine_app(app, described, options, **more)


def findings(report: Report) -> set[str]:
    """The ids of the checks that failed or warned."""
    return {each.check.id for each in report.of("fail", "warn")}


def told(report: Report) -> str:
    """Everything, for the message of a failing test."""
    lines = [f"{r.verdict.outcome:15}{r.check.id:28}{r.verdict.summary}" for r in report.results]
    return "\n".join([*report.plan.told, *report.plan.missing, *lines])
