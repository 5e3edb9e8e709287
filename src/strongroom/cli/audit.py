"""`strongroom audit`: prove the session security of any running site.

The passwords come from the environment or from the terminal, never from the command line, where
every process on the machine can read them. `audit init` and `audit explain` are in their own
modules.
"""

from __future__ import annotations

import argparse
import base64
import getpass
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from strongroom.core.errors import UsageError

from .audit_explain import EXPLAIN
from .audit_init import INIT
from .audit_options import FORMATS, PASSWORD, SECOND_PASSWORD, add_options, add_way
from .output import DONE, NOTHING, STORE, Output
from .parsing import Command

if TYPE_CHECKING:
    from strongroom.audit.run import Report
    from strongroom.audit.site import Options, Site
    from strongroom.audit.target import Target
    from strongroom.audit.verdict import Check

BASIC_PASSWORD = "STRONGROOM_AUDIT_BASIC_PASSWORD"  # noqa: S105 - the variable's name
_BAR = 24


def audit(options: argparse.Namespace, out: Output) -> int:
    """Audit the site, and print the report in the form that was asked for."""
    with told_as_usage():
        target = read_target(options, out)
        form = "json" if out.as_json and options.format == "terminal" else str(options.format)
        if options.dry_run:
            return _dry_run(options, target, out)
        with opened_site(options, target, out) as site:
            return _audited(options, site, form, out)


def _audited(options: argparse.Namespace, site: Site, form: str, out: Output) -> int:
    from strongroom.audit.baseline import accept, baseline_of
    from strongroom.audit.report import render
    from strongroom.audit.run import audit as run_checks

    plan = site.discover()
    out.note(*(f"found  {each}" for each in plan.told), *(f"       {e}" for e in plan.missing))

    def progress(number: int, total: int, check: Check) -> None:
        done = _BAR * number // max(1, total)
        bar = "█" * done + "░" * (_BAR - done)
        out.progress(f"{bar} {number}/{total}  {check.title[:60]}")

    report = run_checks(site, progress)
    out.progress("")
    if options.baseline:
        unused = accept(report, _read(options.baseline))
        out.note(
            *(f"The baseline accepts {each}, which is no finding any more." for each in unused)
        )
    if options.write_baseline:
        Path(options.write_baseline).write_text(baseline_of(report), "utf-8")
    text = render(report, form)
    if options.output:
        Path(options.output).write_text(text, "utf-8")
        out.note(f"The report is in {options.output}.")
    else:
        out.world.out.write(text)
    return _exit_code(report, strict=options.strict)


def _exit_code(report: Report, *, strict: bool) -> int:
    if report.plan.proof is None:
        return STORE
    untold = report.of("could not tell") if strict else []
    return NOTHING if report.findings or untold else DONE


def _dry_run(options: argparse.Namespace, target: Target, out: Output) -> int:
    """What would be done, and nothing of it."""
    from strongroom.audit.examine import network_for
    from strongroom.audit.http import HttpTransport
    from strongroom.audit.run import chosen

    transport = HttpTransport()
    hosts = sorted(network_for(target, transport).hosts)
    transport.close()
    checks = chosen(options.only, options.skip)
    if not checks:
        raise _no_check()
    changes = [f"{each.method or 'POST'} {each.url or each.page}" for each in target.changes]
    names = [each.name for each in target.accounts]
    rate = f"{options.rate:g} a second" if options.rate else "one after the other"
    rows = [
        ("site", target.url),
        ("hosts", ", ".join(hosts)),
        ("signs in as", ", ".join(names) or "nobody"),
        ("requests", f"at most {options.budget}, {rate}"),
        ("waits", options.wait or "not at all"),
        ("changes", ", ".join(changes) or "none: no request is named that changes something"),
        ("password", "changed and changed back" if target.password_change else "not changed"),
    ]
    document = {**dict(rows), "checks": [each.id for each in checks]}
    lines = [*out.pairs(rows), "", "Nothing was sent. These checks would be made:", ""]
    lines += out.table(["check", "what it does"], [(each.id, each.how) for each in checks])
    out.answer(document, lines)
    return DONE


def read_target(options: argparse.Namespace, out: Output) -> Target:
    """The target from the file and the options, passwords included."""
    from strongroom.audit.target import Account, parse_target

    text = _read(options.target) if options.target else ""
    target = parse_target(text, {}, url=options.url or "", user=options.user or "")
    if not target.url:
        raise UsageError(
            "There is no site to audit.",
            hint="Name it: strongroom audit https://app.example/ --user alice",
        )
    names = [each.name for each in target.accounts]
    if options.second_user and names:
        names = [names[0], options.second_user]
    variables = (PASSWORD, SECOND_PASSWORD)
    asks = not options.dry_run
    accounts = tuple(
        Account(name, _password(out, name, variable) if asks else "")
        for name, variable in zip(names, variables, strict=False)
    )
    return replace(target, accounts=accounts)


def _password(out: Output, name: str, variable: str) -> str:
    given = out.world.env.get(variable)
    if given:
        return given
    if out.world.input is sys.stdin and sys.stdin.isatty():
        return getpass.getpass(f"Password of {name}: ", stream=out.world.err)
    raise UsageError(
        f"There is no password for {name}.",
        why="Without signing in almost nothing can be seen.",
        hint=f"Put it into the environment variable {variable}, or run this at a terminal.",
    )


@contextmanager
def opened_site(options: argparse.Namespace, target: Target, out: Output) -> Generator[Site]:
    """The site, reachable as the options say; connections are closed at the end."""
    from strongroom.audit.examine import network_for
    from strongroom.audit.http import HttpTransport
    from strongroom.audit.site import RealClock, Site

    transport = HttpTransport(insecure=options.insecure, ca=options.ca, proxy=options.proxy)
    try:
        network = network_for(
            target,
            transport,
            rate=options.rate,
            budget=options.budget,
            timeout=options.timeout.total_seconds(),
            extra=_extra(options, out),
        )

        def waiting(gone: float, whole: float, why: str) -> None:
            done = int(_BAR * gone / whole)
            bar = "█" * done + "░" * (_BAR - done)
            out.progress(f"{bar} {why}: {whole - gone:.0f} s left")

        yield Site(target, network, _options(options), RealClock(waiting))
    finally:
        transport.close()


def _options(options: argparse.Namespace) -> Options:
    from strongroom.audit.run import chosen
    from strongroom.audit.site import Options
    from strongroom.audit.target import seconds

    only, skip = tuple(options.only), tuple(options.skip)
    if not chosen(only, skip):
        raise _no_check()
    wait = seconds(options.wait) if options.wait else 0.0
    return Options(samples=options.samples, longest_wait=wait, only=only, skip=skip)


def _no_check() -> UsageError:
    return UsageError(
        "No check is left to be made.", hint="See what there is: strongroom audit explain"
    )


def _extra(options: argparse.Namespace, out: Output) -> tuple[tuple[str, str], ...]:
    """The headers that go with every request."""
    made: list[tuple[str, str]] = []
    for each in options.header:
        name, colon, value = each.partition(":")
        if not colon or not name.strip():
            raise UsageError(f"{each!r} is no header.", hint="Write it like 'X-Team: blue'.")
        made.append((name.strip(), value.strip()))
    if options.cookie:
        made.append(("Cookie", "; ".join(options.cookie)))
    if options.basic:
        user = str(options.basic)
        secret = _password(out, user, BASIC_PASSWORD)
        coded = base64.b64encode(f"{user}:{secret}".encode()).decode()
        made.append(("Authorization", f"Basic {coded}"))
    return tuple(made)


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not text in UTF-8.", hint="Check the file's name.") from None


@contextmanager
def told_as_usage() -> Generator[None]:
    """The auditor's own complaints as the command line tells them."""
    from strongroom.audit.target import TargetError
    from strongroom.audit.wire import Unreachable

    try:
        yield
    except TargetError as error:
        raise UsageError(error.what, hint=error.hint) from None
    except Unreachable as error:
        _unreachable(error.what)


def _unreachable(what: str) -> NoReturn:
    raise UsageError(
        what,
        why="Nothing can be audited that does not answer.",
        hint="Check the address, and that the site is running.",
    )


def _add(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    add_way(parser)


COMMANDS = (
    Command(
        "audit",
        "Prove the session security of a running site, of any make.",
        f"""Signs in, finds out what the session rests on, and tries what an attacker with a cookie,
        a form or a network would try. Each check ends as pass, fail, warn, not applicable or could
        not tell; none passes whose own probe was not first seen to work on this very site.

        It is polite: one request after the other, only to the hosts named, and nothing that changes
        data unless the target file names it. Audit only what is yours, or what you were asked to.

        The password is taken from {PASSWORD}, or asked for. The exit code is 0 without a finding,
        1 with one, 2 if the command is wrong or the site does not answer, 3 if the audit could not
        sign in.""",
        (
            "strongroom audit https://app.example/ --user alice",
            "strongroom audit --target audit.toml --format html --output report.html",
            "strongroom audit https://app.example/ --user alice --only csrf --dry-run",
        ),
        _add,
        audit,
    ),
    INIT,
    EXPLAIN,
)
__all__ = ["COMMANDS", "FORMATS"]
