"""Sessions from the operator's side: exact ids, harmless output, no silent emptiness."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from strongroom import SessionPolicy
from strongroom.core.events import CrossSiteRefused
from strongroom.testing.clock import START
from tests.cli.runner import Desk

SESSION_FIELDS = [
    *("session_id", "subject", "live", "remembered", "device", "address", "place"),
    *("created_at", "last_seen", "expires_at", "factors", "acr", "ended_at", "end_reason"),
]


def test_the_json_of_sessions_is_stable(shop: Desk) -> None:
    """Scripts read these names."""
    session_id = shop.sign_in("alice")
    listed = json.loads(shop.say("sessions list alice --json").out)
    assert list(listed) == ["subject", "sessions"]
    assert list(listed["sessions"][0]) == SESSION_FIELDS
    shown = json.loads(shop.say(f"sessions show {session_id} --json").out)
    assert shown == listed["sessions"][0]
    assert shown["factors"] == ["pwd"] and shown["created_at"] == "2026-01-01T00:00:00.000Z"
    history = json.loads(shop.say("sessions history alice --json").out)
    assert list(history) == ["subject", "events"]
    assert history["events"][0]["at"] == "2026-01-01T00:00:00.000Z"
    ended = json.loads(shop.say(f"sessions end {session_id} --json").out)
    assert ended == {"session_id": session_id, "subject": "alice", "ended": True}
    assert json.loads(shop.say("sessions end-all alice --json").out) == {
        **{"subject": "alice", "ended": 0}
    }
    everybody = json.loads(shop.say("sessions end-everybody --yes --json").out)
    assert everybody == {"ended": "everybody", "by": "olga", "at": "2026-01-01T00:00:00.000Z"}
    assert json.loads(shop.say("sessions sweep --json").out) == {"removed": 0}


def test_who_did_it_is_on_record(shop: Desk) -> None:
    """By the name given, else by the user behind sudo, so that "root" did nothing."""
    for more, name in (("--by 'Support 7'", "Support 7"), ("", "olga")):
        session_id = shop.sign_in("alice")
        assert shop.say(f"sessions end {session_id} {more}").code == 0
        event = json.loads(shop.say("sessions history alice --json --limit 1").out)["events"][0]
        assert (event["event"], event["by"]) == ("session_ended", name)


def test_a_token_is_not_repeated(shop: Desk) -> None:
    """Somebody pastes a cookie's value where an id belongs: it is a secret."""
    token = "Q" * 84
    for line in ("show", "end", "show --json"):
        answer = shop.say(f"sessions {line} {token}")
        assert answer.code == 2
        assert "QQQ" not in answer.out + answer.err
        assert "secret" in answer.err


def test_an_id_in_capitals_is_the_same_id(shop: Desk) -> None:
    """Whoever copied it from elsewhere."""
    assert shop.say(f"sessions show {shop.sign_in('alice').upper()}").code == 0


def test_what_clients_sent_reaches_no_terminal_raw(shop: Desk) -> None:
    """A path with escape sequences and markup is in a history; the table shows marks."""
    with shop.manager() as sessions:
        path = "/\x1b]0;owned\x07<script>alert(1)</script>\u202e"
        event = CrossSiteRefused(at=START, subject="alice\x1b[2J", rule="origin", path=path)
        sessions.deliver([event])
    answer = shop.run("sessions", "history", "alice\x1b[2J")
    assert "malicious_csrf" in answer.out
    assert answer.out.replace("\n", "").isprintable() and "<script" not in answer.out
    answer = shop.run("sessions", "list", "alice\x1b[2J")
    assert answer.out.replace("\n", "").isprintable()
    exact = json.loads(shop.run("sessions", "history", "alice\x1b[2J", "--json").out)
    assert exact["events"][0]["path"] == path


def test_a_subject_may_look_like_an_option(shop: Desk) -> None:
    """After `--` everything is a subject, even `--json` and `--help`."""
    answer = shop.run("sessions", "list", "--", "--help")
    assert (answer.code, answer.out) == (0, "--help is not signed in anywhere.\n")
    assert shop.run("sessions", "list", "--", "--json").out.startswith("--json is not")


@pytest.mark.parametrize("subject", ["", "  ", "\t"])
def test_an_empty_subject_is_refused(shop: Desk, subject: str) -> None:
    """An unset shell variable must not look like "nothing to end"."""
    for command in ("list", "end-all", "history"):
        assert shop.run("sessions", command, subject).code == 2


def test_a_store_that_is_not_there_is_not_made(shop: Desk) -> None:
    """A mistyped path must not answer "nobody is signed in"."""
    answer = shop.say("sessions list alice --store sqlite:///vra/sessions.db")
    assert answer.code == 2 and "no session database" in answer.err
    assert not Path("vra").exists()


def test_a_password_in_a_url_is_never_repeated(shop: Desk) -> None:
    """Whatever is wrong with the URL."""
    for url in (
        *("valkey://:hunter2@db:port/0", "hunter2", "sqlite://hunter2/x", "x://[hunter2"),
        *("sqlite:///x?hunter2=1", "memory://hunter2", "://hunter2"),
    ):
        for more in ("", " --json"):
            answer = shop.say(f"store check --store '{url}'{more}")
            assert answer.code == 2, url
            assert "hunter2" not in answer.out + answer.err


def test_a_damaged_store_is_the_stores_fault(shop: Desk) -> None:
    """Exit code 3, in three lines, without a traceback."""
    Path("var/sessions.db").write_bytes(b"not a database" * 100)
    for path in Path("var").glob("sessions.db-*"):
        path.unlink()
    answer = shop.say("sessions list alice")
    assert answer.code == 3
    assert [row.partition(":")[0] for row in answer.err.splitlines()] == ["error", "why", "hint"]


def test_the_policy_decides_what_is_live(shop: Desk) -> None:
    """The application's idle timeout, not the default, says who is still signed in."""
    policy = SessionPolicy.owasp_high_value()
    shop.sign_in("alice", policy=policy)
    shop.clock.advance(6 * 60_000)
    told = json.loads(shop.say("sessions list alice --json --profile owasp_high_value").out)
    assert told["sessions"] == []


def test_the_wrong_functions_are_told_from_the_wrong_keys(shop: Desk) -> None:
    """A store of a NIST policy opens under that policy only, and the hint says so."""
    Path("var/sessions.db").unlink()
    policy = SessionPolicy.nist_aal2()
    session_id = shop.sign_in("alice", policy=policy)
    answer = shop.say(f"sessions end {session_id}")
    assert answer.code == 3
    assert "approved_only=True" in answer.err and "--profile" in answer.err
    assert shop.say(f"sessions end {session_id} --profile nist_aal2").code == 0


def test_a_warning_is_one_line(shop: Desk) -> None:
    """What the library logs comes without a traceback, and is no part of the answer."""
    Path("shop.py").write_text(
        "from strongroom import SessionPolicy\npolicy = SessionPolicy.for_development()\n"
    )
    answer = shop.say("sessions list alice --policy shop:policy --json")
    assert json.loads(answer.out) == {"subject": "alice", "sessions": []}
    assert answer.err.startswith("warning: This is the development policy")
    assert answer.err.count("\n") == 1


def test_a_long_sweep_tells_how_far_it_is(shop: Desk) -> None:
    """On a terminal, and the line is cleared at the end."""
    for _ in range(3):
        shop.sign_in("alice")
    shop.clock.advance(40 * 24 * 60 * 60_000)
    answer = shop.run("sessions", "sweep", typed="")
    assert "removed" in answer.err and answer.err.endswith("\r\x1b[K")
    assert "Removed 9 things" in answer.out
