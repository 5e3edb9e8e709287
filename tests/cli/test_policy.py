"""The policy document says everything, and nothing that is not so (P27)."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from strongroom import AtLimit, EndReason, SessionPolicy
from strongroom.cli.policy import LIMITS, NOT_LIMITS, told, what_ends_what
from strongroom.core.policy import PROFILES
from tests.cli.runner import Desk


def test_every_setting_is_shown_or_known_to_limit_nothing() -> None:
    """A new setting must say which it is: every limit in force is told (P27, ASVS 7.1.1)."""
    settings = {each.name for each in fields(SessionPolicy)}
    assert set(LIMITS) | NOT_LIMITS == settings
    assert not set(LIMITS) & NOT_LIMITS


def test_every_way_to_end_is_in_the_table() -> None:
    """Each reason that a record can carry is explained, but for those that no person causes."""
    reasons = {reason for _what, _ends, reason in what_ends_what(SessionPolicy())}
    internal = {EndReason.ABORTED, EndReason.POLICY, EndReason.REDEEMED}
    internal |= {EndReason.USED, EndReason.VOIDED}  # no sessions: approvals
    assert reasons - {"-"} == {each.value for each in EndReason if each not in internal}


@pytest.mark.parametrize("at_limit", AtLimit)
def test_the_limit_says_what_gives_way(at_limit: AtLimit) -> None:
    """ASVS 7.1.2: how many, and what happens then."""
    policy = SessionPolicy(max_sessions=3, at_limit=at_limit)
    (row,) = (row for row in what_ends_what(policy) if "more than 3" in row[0])
    assert (row[2] == "-") == (at_limit is AtLimit.REFUSE)


@pytest.mark.parametrize("name", PROFILES)
def test_the_json_of_a_policy_is_stable(desk: Desk, name: str) -> None:
    """Scripts read these names; durations are seconds."""
    shown = json.loads(desk.say(f"policy show --profile {name} --json").out)
    assert list(shown) == ["profile", "source", "limits", "deviations", "ends", "federation"]
    assert (shown["profile"], shown["source"]) == (name, PROFILES[name].source)
    assert list(shown["limits"]) == list(LIMITS)
    policy = getattr(SessionPolicy, name)()
    assert shown["limits"]["idle_timeout"] == policy.idle_timeout.total_seconds()
    assert shown["deviations"] == []
    assert all(list(row) == ["what", "ends", "reason"] for row in shown["ends"])


def test_a_deviation_comes_with_its_reason(desk: Desk) -> None:
    """ASVS 7.1.1: what differs, from what, and why."""
    Path("shop.py").write_text(
        "from datetime import timedelta\n"
        "from strongroom import SessionPolicy\n"
        "class App:\n"
        "    policy = SessionPolicy.nist_aal3(idle_timeout=timedelta(minutes=20),\n"
        "                                     reasons={'idle_timeout': 'long forms'})\n"
        "app = App()\n"
    )
    for name in ("shop:app", "shop:App.policy"):
        shown = json.loads(desk.say(f"policy show --policy {name} --json").out)
        assert shown["deviations"] == [
            {"name": "idle_timeout", "profile": 900.0, "in_force": 1200.0, "reason": "long forms"}
        ]
    desk.env["STRONGROOM_POLICY"] = "shop:app"
    assert "long forms" in desk.say("policy show").out


def test_an_unsafe_policy_says_what_is_wrong_with_it(desk: Desk) -> None:
    """The application's own mistake is told in its own words."""
    Path("shop.py").write_text(
        "from datetime import timedelta\nfrom strongroom import SessionPolicy\n"
        "policy = SessionPolicy.nist_aal3(idle_timeout=timedelta(minutes=20))\n"
    )
    answer = desk.say("policy show --policy shop:policy")
    assert answer.code == 2 and "idle_timeout is looser than nist_aal3" in answer.err


def test_what_somebodys_module_raises_is_not_repeated(desk: Desk) -> None:
    """Start-up code may fail with a password in its message."""
    Path("shop.py").write_text("raise RuntimeError('cannot connect as root:hunter2')\n")
    answer = desk.say("policy show --policy shop:policy")
    assert answer.code == 2 and "RuntimeError" in answer.err
    assert "hunter2" not in answer.out + answer.err


def test_every_value_reads_well() -> None:
    """No Python in what an operator reads."""
    policies = [SessionPolicy(), *(getattr(SessionPolicy, name)() for name in PROFILES)]
    for policy in policies:
        for name in LIMITS:
            assert not set("()<>_") & set(told(getattr(policy, name)))
    assert told(SessionPolicy(renew_after=None).renew_after) == "never"
