"""`make audit-real`: install real applications, audit each on loopback, compare with the judgement.

Not part of `make test`: it installs some gigabytes from the registries and takes its time.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from strongroom.audit.examine import examine
from strongroom.audit.http import HttpTransport
from strongroom.audit.report import render
from strongroom.audit.run import Report
from strongroom.audit.site import Options
from strongroom.audit.target import parse_target
from strongroom.audit.wire import Unreachable

from .recipes import PASSWORDS, Recipe, recipe, recipes
from .running import Failed, install, running
from .table import table


def main() -> int:
    """Exit 0 if every application ran and nothing was found that nobody has judged."""
    parser = argparse.ArgumentParser(prog="python -m tests.audit.real")
    parser.add_argument("apps", nargs="*", help="which ones; all by default")
    parser.add_argument("--home", type=Path, default=Path("build/audit-real"))
    parser.add_argument("--list", action="store_true", help="only list them")
    parser.add_argument("--table", action="store_true", help="only draw the page's table")
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--wait", type=float, default=0, help="seconds that a check may wait")
    parser.add_argument("--serve", action="store_true", help="only start it, until Enter")
    options = parser.parse_args()
    chosen = [recipe(each) for each in options.apps] if options.apps else recipes()
    home: Path = options.home.resolve()
    if options.table:
        _say(table())
        return 0
    if options.list:
        _say("\n".join(f"{each.id:16} {each.language:12} {each.name}" for each in chosen))
        return 0
    return 1 if sum(not _one(each, home / each.id, options) for each in chosen) else 0


def _one(each: Recipe, home: Path, options: argparse.Namespace) -> bool:
    _say(f"== {each.name} {each.version} ({each.language})")
    try:
        install(each, home)
        with running(each, home) as url:
            if options.serve:
                _say(url)
                sys.stdin.readline()
                return True
            report = _audited(each, url, options)
    except (Failed, Unreachable) as error:
        _say(f"   did not run: {error}")
        return False
    for form, suffix in (("html", "html"), ("json", "json"), ("terminal", "txt")):
        (home / f"report.{suffix}").write_text(render(report, form), "utf-8")
    return _told(each, report, everything=not options.only)


def _audited(each: Recipe, url: str, options: argparse.Namespace) -> Report:
    target = parse_target((each.folder / "audit.toml").read_text("utf-8"), PASSWORDS, url=url)
    transport = HttpTransport()
    settings = Options(
        samples=options.samples, only=tuple(options.only), longest_wait=options.wait,
        raise_errors=True,
    )  # fmt: skip
    try:
        return examine(target, transport, settings, budget=20_000)
    finally:
        transport.close()


def _told(each: Recipe, report: Report, *, everything: bool) -> bool:
    for line in [*report.plan.told, *report.plan.missing]:
        _say(f"   {line}")
    found = {result.check.id: result for result in report.of("fail", "warn")}
    for name, result in found.items():
        judged = each.judged.get(name, "NOT JUDGED YET")
        _say(f"   {result.verdict.outcome} {name}: {result.verdict.summary}\n        {judged}")
    untold: dict[str, list[str]] = {}
    for result in report.of("could not tell"):
        untold.setdefault(result.verdict.summary, []).append(result.check.id)
    for reason, names in untold.items():
        _say(f"   ? {', '.join(names)}: {reason}")
    gone = sorted(set(each.judged) - set(found)) if everything else []
    for name in gone:
        _say(f"   no longer found: {name}")
    count = {name: len(report.of(name)) for name in ("pass", "fail", "warn", "could not tell")}
    took = f"{report.requests} requests, {report.seconds:.0f} s, at {time.strftime('%H:%M')}"
    _say(f"   {', '.join(f'{number} {name}' for name, number in count.items())}; {took}")
    return not gone and set(found) <= set(each.judged) and bool(report.of("pass"))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
