"""pytest: the `session_audit` fixture, and `pytest --session-audit`.

The same checks as on the command line, in process against an ASGI, WSGI or Django application, with
the time moved where a timeout has to pass. Nothing of the auditor is loaded before it is used: this
module is imported by every run of pytest on a machine that has Strongroom.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from .run import Report, Result
    from .target import Target

PASSWORD = "STRONGROOM_AUDIT_PASSWORD"  # noqa: S105 - the variable's name
SECOND_PASSWORD = "STRONGROOM_AUDIT_SECOND_PASSWORD"  # noqa: S105 - the variable's name


class SessionAudit(Protocol):
    """What the fixture gives: call it with an application."""

    def __call__(
        self,
        app: Any,
        *,
        user: str = "",
        password: str = "",
        second_user: str = "",
        second_password: str = "",
        target: str | Path | Target | None = None,
        url: str = "",
        only: Sequence[str] = (),
        skip: Sequence[str] = (),
        advance: Callable[[float], None] | None = None,
        samples: int = 24,
    ) -> Report:
        """Audit this application -> the report; `.check()` raises AssertionError on a finding.

        `target` is a target file or a `Target`; `advance` moves the application's own clock by so
        many seconds, where it has one. `url` is the address that it believes to have.
        """
        ...


@pytest.fixture
def session_audit() -> SessionAudit:
    """A function that audits an application in this process -> `strongroom.audit.run.Report`."""
    return _audit


def _audit(
    app: Any,
    *,
    user: str = "",
    password: str = "",
    second_user: str = "",
    second_password: str = "",
    target: str | Path | Target | None = None,
    url: str = "",
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    advance: Callable[[float], None] | None = None,
    samples: int = 24,
) -> Report:
    from .examine import examine_app
    from .site import Options

    passwords = {user: password, second_user: second_password}
    described = _described(target, user, second_user, url, passwords)
    options = Options(samples=samples, only=tuple(only), skip=tuple(skip))
    return examine_app(app, described, options, advance=advance)


def _described(
    target: str | Path | Target | None,
    user: str,
    second_user: str,
    url: str,
    passwords: dict[str, str],
) -> Target:
    from dataclasses import replace

    from .target import Account, Target, parse_target

    if isinstance(target, Target):
        return target
    text = "" if target is None else Path(target).read_text("utf-8")
    described = parse_target(text, passwords, url=url, user=user)
    names = [each.name for each in described.accounts]
    if second_user:
        names = [*names[:1], second_user]
    environment = (os.environ.get(PASSWORD, ""), os.environ.get(SECOND_PASSWORD, ""))
    accounts = tuple(
        Account(name, passwords.get(name) or known)
        for name, known in zip(names, environment, strict=False)
    )
    return replace(described, accounts=accounts)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--session-audit`, and what it needs to know in the settings."""
    group = parser.getgroup("strongroom")
    group.addoption(
        "--session-audit",
        action="store_true",
        help="audit the sessions of the application named by session_audit_app",
    )
    parser.addini("session_audit_app", "the application, as module:name or module:factory()")
    parser.addini("session_audit_target", "the target file; see docs/audit.md")
    parser.addini("session_audit_advance", "module:function that moves the application's clock")


def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add one test for each check."""
    if not config.getoption("--session-audit"):
        return
    items.extend(_items(session, config))


def _items(session: pytest.Session, config: pytest.Config) -> Iterator[pytest.Item]:
    from .run import chosen

    spec = str(config.getini("session_audit_app"))
    if not spec:
        raise pytest.UsageError(
            "--session-audit does not know which application: set session_audit_app = "
            "'module:name' in pytest's settings."
        )
    shared = _Shared(config, spec)
    for check in chosen():
        make: Any = getattr(AuditItem, "from_parent")  # noqa: B009 - untyped in pytest
        yield make(session, name=f"session-audit::{check.id}", shared=shared)


class _Shared:
    """One audit for all items, made when the first one runs."""

    def __init__(self, config: pytest.Config, spec: str) -> None:
        self._config, self._spec = config, spec
        self._report: Report | None = None

    def result(self, identity: str) -> tuple[Report, Result]:
        """The result of one check."""
        if self._report is None:
            self._report = self._run()
        found = next(each for each in self._report.results if each.check.id == identity)
        return self._report, found

    def _run(self) -> Report:
        named = str(self._config.getini("session_audit_target"))
        advance = str(self._config.getini("session_audit_advance"))
        return _audit(
            _load(self._spec),
            target=self._config.rootpath / named if named else None,
            advance=_load(advance) if advance else None,
        )


def _load(spec: str) -> Any:
    """The object that `module:name` names, called if it ends with `()`."""
    module, _, name = spec.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.removesuffix("()").split("."):
        found = getattr(found, part)
    return found() if name.endswith("()") else found


class AuditItem(pytest.Item):
    """One check as a test: it fails with a finding, and is skipped where nothing can be said."""

    def __init__(self, *, shared: _Shared, **more: Any) -> None:
        super().__init__(**more)  # pyright: ignore[reportUnknownMemberType]
        self._shared = shared

    def runtest(self) -> None:
        """Judge this check's result."""
        report, result = self._shared.result(self.name.partition("::")[2])
        said = report.secrets.mask(result.verdict.summary)
        if result.is_finding:
            raise _Finding("\n".join(_explained(said, result)))
        if result.verdict.outcome != "pass":
            pytest.skip(f"allowed: {result.verdict.outcome}: {said}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        """A finding in words, without a traceback that nobody needs."""
        if isinstance(excinfo.value, _Finding):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo, style))

    def reportinfo(self) -> tuple[os.PathLike[str], int | None, str]:
        """Where it stands: in the settings."""
        return self.config.rootpath, None, self.name


class _Finding(AssertionError):
    """A check that failed or warned."""


def _explained(said: str, result: Result) -> Iterable[str]:
    from .fixes import FIXES

    check = result.check
    yield f"{check.title}: {result.verdict.outcome} ({result.severity})"
    yield said
    yield f"Why: {check.why}"
    yield f"Fix: {FIXES[check.fix].text}"
    yield f"{check.id}, {', '.join(check.refs)}"
