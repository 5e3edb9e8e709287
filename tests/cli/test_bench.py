"""`strongroom bench revocation`, with real processes on a real file."""

from __future__ import annotations

import json
import re

import pytest

from tests.cli.runner import STORE, Desk


@pytest.mark.slow
def test_every_process_sees_every_end(shop: Desk) -> None:
    """The command measures what it says, and touches nobody's session (P16)."""
    shop.sign_in("alice")
    answer = shop.say(f"--json bench revocation --store {STORE} --processes 2 --rounds 3")
    assert answer.code == 0, answer.err
    rows = json.loads(answer.out)["rows"]
    assert [row["mode"] for row in rows] == ["no near cache, idle", "no near cache, load"]
    for row in rows:
        assert row["ends"] == 3
        assert 0 <= row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]
        # A read that begins after the acknowledgement finds the end: no near cache, no delay.
        assert row["let_in_max_ms"] == 0
    table = shop.say(f"bench revocation --store {STORE} --processes 1 --rounds 1").out
    assert re.search(r"^Mode +Ends +Seen p50 +p99 +max +Let in p99 +max$", table, re.M)
    listed = json.loads(shop.say("sessions list alice --json").out)["sessions"]
    assert [each["live"] for each in listed] == [True]
