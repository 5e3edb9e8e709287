"""Notices: what an account's owner is told, and what nobody can put into their mouth."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import Any

import pytest

from strongroom.core.events import (
    CredentialsChanged,
    Event,
    LoginSuccess,
    SignalRaised,
    SignedOutEverywhere,
    TokenReuse,
)
from strongroom.telemetry.notices import Notice, NoticeSink
from strongroom.testing.clock import START

PAGE = "https://shop.example/account/devices"


def notices(*events: Event) -> list[Notice]:
    sent: list[Notice] = []
    zone = timezone(timedelta(hours=1), "CET")
    sink = NoticeSink(sent.append, site="Shop", devices_page=PAGE, zone=zone)
    for event in events:
        sink(event)
    return sent


def a_signal(*responses: str, **more: Any) -> SignalRaised:
    about: dict[str, Any] = {
        "subject": "alice",
        "device": "Safari on iPhone",
        "address": "192.0.2.7",
        **more,
    }
    why = "Safari on iPhone was never used for this account before."
    return SignalRaised(
        at=START, signal="new_device", score=0.6, why=why, responses=responses, **about
    )


def test_a_notice_says_what_where_when_and_what_to_do() -> None:
    """Well written enough to be sent as it is (ASVS 6.3.5)."""
    (notice,) = notices(a_signal("notify", "record"))
    assert (notice.subject, notice.title) == ("alice", "New sign-in to your Shop account")
    assert notice.text == (
        "Your Shop account was used:\n"
        "\n"
        "  When: 01 January 2026, 01:00 CET\n"
        "  Device: Safari on iPhone\n"
        "  Address: 192.0.2.7\n"
        "  What we noticed: Safari on iPhone was never used for this account before.\n"
        "\n"
        "Was this you? Then there is nothing to do.\n"
        "If it was not you, change your password now: that signs out everybody else.\n"
        f"See where you are signed in, and sign out what is not yours: {PAGE}"
    )


def test_only_what_the_table_says_is_told() -> None:
    """A signal that is merely recorded bothers nobody, nor does an ordinary sign-in."""
    assert notices(a_signal("record"), LoginSuccess(at=START, subject="alice")) == []


@pytest.mark.parametrize(
    "event",
    [
        TokenReuse(at=START, subject="alice", how="stale", ended=True),
        CredentialsChanged(at=START, subject="alice"),
        SignedOutEverywhere(at=START, subject="alice"),
    ],
    ids=lambda event: event.name,
)
def test_changes_of_the_account_are_told(event: Event) -> None:
    """Whatever the table says (ASVS 6.3.7)."""
    (notice,) = notices(event)
    assert "Shop" in notice.title and PAGE in notice.text


def test_what_is_nobody_s_is_sent_to_nobody() -> None:
    """A spike has no owner."""
    spike = SignalRaised(
        at=START, signal="csrf_spike", score=0.9, why="Many.", responses=("notify",)
    )
    assert notices(spike) == []


@pytest.mark.parametrize("text", ["x\r\nBcc: all@example", "\x1b[2J", "a\u2028b", "y" * 5000])
def test_a_browser_cannot_write_lines_of_its_own(text: str) -> None:
    """No header, no line and no flood comes from what a client said of itself (16.4.1)."""
    (notice,) = notices(a_signal("notify", device=text))
    (line,) = [each for each in notice.text.splitlines() if "Device" in each]
    assert len(line) < 220 and line.isprintable()
    assert len(notice.text.splitlines()) == 10
