"""Every transcript in transcripts/ is what really happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.cli.__main__ import COMMANDS
from tests.cli.runner import Desk, matches, play

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_is_what_happens(path: Path, desk: Desk) -> None:
    """Each command prints what its transcript shows, to the letter, in a frozen minute."""
    desk.env["NO_COLOR"] = "1"
    for where, printed, shown in play(path, desk):
        assert matches(shown, printed), f"{where}\nprints\n{printed}\nnot\n{shown}"


def test_every_command_has_a_transcript() -> None:
    """A command that no transcript runs is one that nobody has looked at."""
    text = "\n".join(path.read_text("utf-8") for path in TRANSCRIPTS)
    missing = [each.words for each in COMMANDS if f"$ strongroom {each.words}" not in text]
    assert not missing


@pytest.mark.parametrize(
    ("shown", "printed", "equal"),
    [
        ("a ... z", "a b z", True),
        ("a ... z", "a b\nz", False),
        ("a\n...\nz", "a\nb\nc\nz", True),
        ("a\n...\nz", "a\nz", True),
        ("a", "a\nb", False),
        ("", "", True),
        ("", "a", False),
    ],
)
def test_the_reader_of_transcripts_reads(shown: str, printed: str, equal: bool) -> None:
    """`...` is anything within a line, or any lines; the rest is to the letter."""
    assert matches(shown, printed) is equal
