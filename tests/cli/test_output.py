"""What reaches a terminal is one harmless line a value, whatever a client sent."""

from __future__ import annotations

import io
import json
import unicodedata
from datetime import UTC, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from strongroom.cli.output import CELL, MARK, Output, World, plain, printable, rfc3339, span, width
from strongroom.core.errors import StoreUnavailable, UsageError
from strongroom.testing.clock import START


class Screen(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def an_output(
    *, terminal: bool = False, colour: bool = True, as_json: bool = False, hours: int = 0
) -> tuple[Output, Screen]:
    screen = Screen(terminal=terminal)
    zone = timezone(timedelta(hours=hours)) if hours else UTC
    world = World(io.StringIO(), screen, screen, {}, lambda: START, zone)
    return Output(world, as_json=as_json, colour=colour), screen


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("Safari on iPhone", "Safari on iPhone"),
        ("auth0|12 <- x", "auth0|12 <- x"),
        ("Zoë 東京", "Zoë 東京"),
        ("a\x1b[31mred\x1b[0m", f"a{MARK}red{MARK}"),
        ("\x1b]8;;https://evil.example\x07click\x1b]8;;\x07", f"{MARK}click{MARK}"),
        ("\x1b]0;title", MARK),
        ("\x9b2Jgone", f"{MARK}gone"),
        ("two\nlines\r\n\tand a tab", "two lines and a tab"),
        ("one\u2028two", "one two"),
        ("bell\x07 null\x00", f"bell{MARK} null{MARK}"),
        ("\u202egnp.exe", f"{MARK}gnp.exe"),
        ("zero\u200bwidth", f"zero{MARK}width"),
        ("\ud800", MARK),
        ("<img src=x onerror=alert(1)>", MARK),
        ("a</td><script>b", f"a{MARK}{MARK}b"),
        ("a <img src=x", f"a {MARK}img src=x"),
        ("![x](https://evil.example)", "![x] (https://evil.example)"),
        ("`rm -rf`", "'rm -rf'"),
        ("", ""),
    ],
)
def test_what_a_client_sent_is_made_plain(sent: str, shown: str) -> None:
    """Escape sequences, controls, direction changes and markup leave a mark; the rest stays."""
    assert plain(sent) == shown


@given(st.text(st.characters(), max_size=400))
@example("\x1b" * 50)
@example("<" * 70)
@example("\x1b]" + "a" * 300)
def test_no_text_escapes_its_cell(sent: str) -> None:
    """Whatever the text: one line, no control, no tag, bounded."""
    for shown in (plain(sent), printable(sent, 80)):
        assert all(unicodedata.category(each)[0] != "C" for each in shown)
        assert not {"\n", "\u2028"} & set(shown)
    assert len(plain(sent)) <= CELL
    assert "<a" not in plain(sent.replace("b", "<a"))


def test_a_huge_value_is_cut() -> None:
    """A value of a megabyte costs its beginning only, and says that it was cut."""
    assert plain("x" * 1_000_000).endswith("…")
    assert len(plain("<b>" * 1_000_000)) <= CELL


def test_columns_are_aligned_by_what_a_terminal_shows() -> None:
    """Wide characters take two columns, combining ones none, and no line ends in blanks."""
    out, _screen = an_output()
    lines = out.table(("A", "B"), [("東京", "x"), ("e\u0301", "y"), ("abcd", None)])
    assert lines == ["A     B", "東京  x", "e\u0301     y", "abcd  -"]
    assert width("東京") == 4


def test_colour_is_for_terminals_that_want_it() -> None:
    """No escape sequence goes into a file, or to a person who asked for none."""
    for terminal, colour in ((False, True), (True, False)):
        out, screen = an_output(terminal=terminal, colour=colour)
        out.failed(UsageError("No.", why="So.", hint="Do."))
        out.answer({}, [out.heading("Title")])
        assert screen.getvalue() == "error: No.\nwhy: So.\nhint: Do.\nTitle\n"
    out, screen = an_output(terminal=True)
    out.failed(UsageError("No."))
    assert screen.getvalue() == "\x1b[31;1merror:\x1b[0m No.\n"


def test_an_error_says_whose_fault_in_its_exit_code() -> None:
    """A store's failure is 3, a usage error 2; in JSON the parts have names."""
    out, screen = an_output(as_json=True)
    assert out.failed(StoreUnavailable("Gone.", why="W.", hint="H.")) == 3
    assert json.loads(screen.getvalue()) == {
        "error": {
            "code": "store_unavailable",
            "what": "Gone.",
            "why": "W.",
            "hint": "H.",
            "exit": 3,
        }
    }
    assert out.failed(UsageError("No.")) == 2
    assert out.nothing("None.") == 1


def test_json_is_ascii_whatever_the_value() -> None:
    """A value is kept exactly, and can still do nothing to a terminal."""
    out, screen = an_output(as_json=True)
    out.answer({"subject": "a\x1b[2J\u202e"}, ["not this"])
    assert screen.getvalue().isascii() and screen.getvalue().replace("\n", "").isprintable()
    assert json.loads(screen.getvalue()) == {"subject": "a\x1b[2J\u202e"}


def test_times_are_local_with_their_offset() -> None:
    """A person sees their own clock; a machine gets UTC."""
    out, _screen = an_output(hours=2)
    assert out.when(START) == "2026-01-01 02:00+02:00"
    assert out.when(None) is None
    assert rfc3339(START) == "2026-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    ("apart", "told"),
    [
        (0, "just now"),
        (499, "just now"),
        (-1500, "2 s ago"),
        (899_500, "in 15 min"),
        (59_700, "in 1 min"),
        (5_400_000, "in 1 h 30 min"),
        (-90_000_000, "1 d 1 h ago"),
    ],
)
def test_what_is_near_is_told_as_a_distance(apart: int, told: str) -> None:
    """Rounded to what a person would say."""
    assert an_output()[0].near(START + apart) == told


def test_durations_read_well() -> None:
    """In the largest units, exactly where two are enough; zero is a duration."""
    told = [span(each) for each in (0, 5, 30_000, 90_000, 28_800_000, 90_061_000)]
    assert told == ["0 s", "5 ms", "30 s", "1 min 30 s", "8 h", "1 d 1 h"]
    assert span(timedelta(days=30)) == "30 d"


def test_progress_is_for_terminals_only() -> None:
    """A log file is not filled with it, and JSON is not broken by it."""
    for terminal, as_json in ((False, False), (True, True)):
        out, screen = an_output(terminal=terminal, as_json=as_json)
        out.progress("removed 500 ...")
        assert screen.getvalue() == ""
    out, screen = an_output(terminal=True)
    out.progress("removed 500 ...")
    assert "removed 500" in screen.getvalue()
