"""What every test shares: how hard Hypothesis tries, and that CI skips nothing in silence."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TypeVar

import pytest
from hypothesis import settings

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

IN_CI = bool(os.environ.get("CI"))

# No deadline for one example: two workers on two busy cores are slow now and then, and that is no
# finding. CI draws the same examples each time; a developer's machine keeps looking for new ones.
settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile(
    "ci", max_examples=200, deadline=None, derandomize=True, print_blob=True, database=None
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "dev"))


def _refuse_skip(report: Report) -> Report:
    """Turn a skip into a failure under CI, unless its reason starts with `allowed:`."""
    if not (IN_CI and report.skipped) or hasattr(report, "wasxfail"):
        return report
    longrepr = report.longrepr
    reason = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not reason.startswith("allowed:"):
        report.outcome = "failed"
        report.longrepr = (
            f"{report.nodeid} was skipped ({reason}). Under CI every test runs: bring what it "
            "needs, or start the reason with 'allowed:' and say why nobody misses it."
        )
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Judge each test's report."""
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Judge modules that skip themselves as a whole (`pytest.importorskip`)."""
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    """Let tests of one `xdist_group` run on one worker.

    pytest-xdist 3.8 writes the group behind a test's id, in an attribute that pytest 9.2 does not
    read any more; so each worker started every server, and each server was started twice.
    """
    yield
    for item in items:
        grouped = getattr(item, "_nodeid", item.nodeid)
        if grouped != item.nodeid:
            item._id = type(item.id).parse(grouped)
