"""Our own bank passes: on loopback with its SQLite file, and in process through its timeouts."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST

from examples.bank.app import create_app
from examples.bank.seed import CUSTOMERS, seed
from strongroom import SessionPolicy
from strongroom.audit.examine import examine
from strongroom.audit.http import HttpTransport
from strongroom.audit.site import Options
from strongroom.audit.target import Target, parse_target
from strongroom.testing import FrozenClock
from tests.audit.conftest import served
from tests.audit.kit import examine as examine_here
from tests.audit.kit import findings, told

ROOT = Path(__file__).resolve().parents[2]
PASSWORDS = {name: password for name, _full, password in CUSTOMERS}


def _target(url: str) -> Target:
    text = (ROOT / "examples" / "bank" / "audit.toml").read_text("utf-8")
    return parse_target(text, PASSWORDS, url=url)


def _bank(folder: Path, **more: Any) -> Any:
    app = create_app(
        data_dir=folder, hasher=PasswordHasher.from_parameters(CHEAPEST), sinks=(), **more
    )
    bank = app.state.bank
    asyncio.run(seed(bank.accounts, bank.passwords, bank.clock()))
    return app


@pytest.mark.slow
def test_the_bank_passes_over_the_network(tmp_path: Path) -> None:
    """The demo as `make demo` runs it: no failure, no warning, and most checks can be made."""
    with served(_bank(tmp_path)) as url:
        transport = HttpTransport()
        try:
            options = Options(samples=12, raise_errors=True)
            report = examine(_target(url), transport, options)
        finally:
            transport.close()
    assert not findings(report), told(report)
    assert len(report.of("pass")) >= 55, told(report)
    untold = {each.check.id for each in report.of("could not tell")}
    assert untold == {"timeout-idle", "timeout-absolute", "session-step-up"}, told(report)


@pytest.mark.slow
def test_the_bank_passes_through_time(tmp_path: Path) -> None:
    """With its clock moved, idle and absolute timeout and step-up are seen to hold as well."""
    clock = FrozenClock()
    policy = SessionPolicy(origins=("https://bank.example",))
    app = _bank(tmp_path, clock=clock, policy=policy)
    report = examine_here(
        app,
        _target("https://bank.example/"),
        advance=lambda seconds: clock.advance(timedelta(seconds=seconds)) and None,
    )
    assert not findings(report), told(report)
    assert not report.of("could not tell"), told(report)
