"""Runs the checks, in their order, and keeps what they found.

A check that cannot reach the site, or meets something nobody thought of, could not tell; it never
stops the others. The order is: what is cheap and what others rest on first, what waits last.
"""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from . import checks as _all_checks
from .browser import BudgetSpent
from .discovery import Plan
from .fingerprint import recognise
from .masking import Secrets
from .recipes import Lost
from .site import Site
from .verdict import REGISTRY, Check, NotApplicable, Outcome, Severity, Unsure, Verdict
from .wire import Unreachable

_LOADED = _all_checks.__all__

_EVIDENCE = 2
"""Exchanges that are kept of a check which names none itself: its last ones."""

Progress = Callable[[int, int, Check], None]


@dataclass(frozen=True, slots=True)
class Result:
    """One check and how it ended. `accepted` says that a baseline knows this finding."""

    check: Check
    verdict: Verdict
    accepted: bool = False

    @property
    def is_finding(self) -> bool:
        """Whether somebody has to look: a failure or a warning that nobody has accepted."""
        return self.verdict.outcome in ("fail", "warn") and not self.accepted

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return self.verdict.severity or self.check.severity


@dataclass(slots=True)
class Report:
    """All that came out of one audit."""

    url: str
    started: datetime
    plan: Plan
    results: list[Result]
    frameworks: tuple[str, ...] = ()
    requests: int = 0
    seconds: float = 0.0
    secrets: Secrets = field(default_factory=Secrets, repr=False)

    def of(self, *outcomes: Outcome) -> list[Result]:
        """The results that ended so."""
        return [each for each in self.results if each.verdict.outcome in outcomes]

    @property
    def findings(self) -> list[Result]:
        """Failures and warnings that no baseline accepts, the worst first."""
        order = ("critical", "high", "medium", "low", "info")
        found = [each for each in self.results if each.is_finding]
        return sorted(found, key=lambda r: (r.verdict.outcome != "fail", order.index(r.severity)))

    def check(self, *, warnings: bool = True) -> None:
        """Raise AssertionError with every finding; without `warnings` only for failures.

        An audit that never got as far as signing in is no proof of anything, and raises as well.
        """
        bad = [r for r in self.findings if warnings or r.verdict.outcome == "fail"]
        if self.plan.proof is None or not self.of("pass"):
            reason = self.plan.missing[0] if self.plan.missing else "No check could be made."
            raise AssertionError(f"The audit proved nothing: {reason}")
        if bad:
            lines = [f"{r.check.id} ({r.verdict.outcome}, {r.severity}): "
                     f"{self.secrets.mask(r.verdict.summary)}" for r in bad]  # fmt: skip
            raise AssertionError("\n".join([f"Found at {self.url}:", *lines]))


def chosen(only: Sequence[str] = (), skip: Sequence[str] = ()) -> list[Check]:
    """The checks with these names or families (`*` is allowed), in the order in which they run."""
    picked = [
        each
        for each in REGISTRY.values()
        if (not only or _named(each, only)) and not _named(each, skip)
    ]
    return sorted(picked, key=lambda each: each.order)


def _named(each: Check, patterns: Iterable[str]) -> bool:
    return any(
        fnmatch.fnmatchcase(each.id, pattern) or each.family == pattern for pattern in patterns
    )


def audit(site: Site, on_progress: Progress | None = None) -> Report:
    """Every chosen check on this site. `site.discover()` has been called.

    Raises: nothing that a site could cause.
    """
    started, begun = site.clock.now(), time.monotonic()
    report = Report(
        site.target.url, datetime.fromtimestamp(started, UTC), site.plan, [],
        secrets=site.network.secrets,
    )  # fmt: skip
    picked = chosen(site.options.only, site.options.skip)
    for number, each in enumerate(picked):
        if on_progress is not None:
            on_progress(number, len(picked), each)
        verdict = _run(each, site)
        if verdict.outcome in ("fail", "warn"):
            site.failed.add(each.id)
        report.results.append(Result(each, verdict))
    report.frameworks = recognise(site.network.replies)
    report.requests = site.network.sent
    report.seconds = time.monotonic() - begun  # what it took here, not what was travelled
    return report


def _run(each: Check, site: Site) -> Verdict:
    covered = [other for other in each.covered_by if other in site.failed]
    if covered:
        return Verdict("not applicable", f"It would find the same again: see {covered[0]}.")
    asked = len(site.network.replies)
    verdict = _judged(each, site)
    if verdict.evidence:
        return verdict
    return replace(verdict, evidence=tuple(site.network.replies[asked:][-_EVIDENCE:]))


def _judged(each: Check, site: Site) -> Verdict:
    try:
        return each.run(site)
    except NotApplicable as error:
        return Verdict("not applicable", str(error))
    except (Unsure, Lost) as error:
        return Verdict("could not tell", str(error))
    except Unreachable as error:
        return Verdict("could not tell", error.what)
    except BudgetSpent:
        return Verdict("could not tell", "The audit had used up its requests: see --budget.")
    except Exception as error:
        if site.options.raise_errors:
            raise
        return Verdict(
            "could not tell",
            f"The check itself failed ({type(error).__name__}). Please report it, with the site's "
            "answer if you may.",
        )
