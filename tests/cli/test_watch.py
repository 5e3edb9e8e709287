"""`strongroom watch`: what happens is on the screen within seconds, whatever is in the log."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from strongroom.cli.board import Board
from strongroom.core.events import CrossSiteRefused, LoginSuccess, SessionCreated
from strongroom.core.signals import MINUTE
from strongroom.telemetry.logging import line
from strongroom.testing.clock import START


def refused(at: int = START, **more: Any) -> str:
    return line(CrossSiteRefused(at=at, rule="origin", path="/pay", address="203.0.113.7", **more))


def test_rates_and_totals() -> None:
    """A minute's count, the total, and a row of bars with the newest to the right."""
    board = Board()
    for number in range(8):
        board.feed(line(SessionCreated(at=START + number, kind="anonymous")))
    board.feed(line(SessionCreated(at=START + 2 * MINUTE, kind="anonymous")))
    assert board.totals["session_created"] == 9
    assert board.rate("session_created", START) == 8
    assert board.spark("session_created", START + 2 * MINUTE).endswith("█ ▁")
    assert len(board.spark("session_created", START)) == 30


def test_what_looks_wrong_is_notable_and_the_rest_is_not() -> None:
    """Warnings, alarms and signals; an ordinary sign-in is only counted."""
    board = Board()
    assert board.feed(line(LoginSuccess(at=START, subject="alice"))) == []
    (found,) = board.feed(refused())
    assert (found.name, found.address, found.why) == ("malicious_csrf", "203.0.113.7", "origin")
    signal = {
        "event": "session_signal",
        "severity": "info",
        "at": START,
        "signal": "new_device",
        "why": "Firefox on Linux was never used for this account before.",
    }
    (found,) = board.feed(json.dumps(signal))
    assert found.name == "new_device"


def test_a_spike_is_told_at_once() -> None:
    """In the minute in which it happens (issue: visible within seconds)."""
    board = Board()
    found = [each for number in range(40) for each in board.feed(refused(START + number))]
    assert [each.name for each in found if each.severity == "critical"] == ["csrf_spike"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "\n", "not json", "{", "{}", "[1]", '{"event": 1, "at": 1}', '{"event": "x"}'),
        *('{"event": "x", "at": "yesterday"}', '{"event": "x", "at": null}', "\x00\xff"),
    ],
)
def test_lines_that_are_no_events_are_left_out(text: str) -> None:
    """Whatever else is in a log: counted, and no trouble."""
    board = Board()
    assert board.feed(text) == []
    assert board.totals.total() == 0
    assert board.strange == bool(text.strip())


def test_a_logger_s_own_words_before_the_event_do_not_matter() -> None:
    """A format such as "%(levelname)s:%(name)s:%(message)s" is usual."""
    board = Board()
    board.feed("WARNING:strongroom.events:" + refused())
    assert board.totals["malicious_csrf"] == 1


def test_memory_stays_bounded() -> None:
    """A log of a year is read in one go (P24)."""
    board = Board()
    for minute in range(2000):
        board.feed(refused(START + minute * MINUTE))
    assert len(board.minutes) <= 61
    assert len(board.notable) <= 200


def reads(fd: int, seconds: float, until: str) -> str:
    """What is on the terminal, until it holds that text."""
    shown, give_up = "", time.monotonic() + seconds
    while until not in shown and time.monotonic() < give_up:
        if select.select([fd], [], [], 0.1)[0]:
            try:
                shown += os.read(fd, 65536).decode(errors="replace")
            except OSError:
                break
    return shown


@pytest.mark.slow
def test_on_a_terminal_it_is_a_screen_that_follows(tmp_path: Path) -> None:
    """What is written to the log appears; after a rotation too; escape sequences do nothing."""
    log = tmp_path / "events.jsonl"
    log.write_text(refused(subject="alice") + "\n")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "strongroom", "watch", str(log), "--for", "60s"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        assert "alice" in reads(ours, 30, "alice")
        with log.open("a") as file:
            file.write(refused(subject="bob\x1b[2Jxx") + "\n")
        shown = reads(ours, 30, "bob")
        assert "bob" in shown
        log.rename(tmp_path / "events.1")
        log.write_text(refused(subject="carol") + "\n")
        shown += reads(ours, 30, "carol")
        assert "carol" in shown
        assert "\x1b[2Jxx" not in shown
    finally:
        process.kill()
        process.wait()
        os.close(ours)
