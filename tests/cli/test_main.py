"""The installed command: exit codes, pipes, interruptions, and help for everything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.cli.__main__ import COMMANDS, GROUPS
from strongroom.cli.parsing import HELP_COLUMNS, Command, duration, find
from strongroom.core.errors import UsageError
from tests.cli.runner import Desk

COMMAND = Path(sys.executable).parent / "strongroom"


def strongroom(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as installed, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "strongroom.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each.words)
def test_every_command_teaches(command: Command, desk: Desk) -> None:
    """A purpose in one sentence, a paragraph, and examples that are this command."""
    assert command.purpose.endswith(".") and len(command.purpose) <= 66
    assert len(command.about.split()) >= 15
    assert command.examples and all(
        each.startswith(f"strongroom {command.words}") for each in command.examples
    )
    answer = desk.run(*command.words.split(), "--help")
    assert answer.code == 0 and command.purpose in answer.out
    usual = [row for row in answer.out.splitlines() if not row.startswith("  strongroom ")]
    assert max(map(len, usual)) <= HELP_COLUMNS + 1  # argparse counts no bracket
    assert desk.run("help", *command.words.split()).out == answer.out


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each.words)
def test_every_example_can_be_parsed(command: Command) -> None:
    """What the help shows is not refused."""
    import shlex

    for example in command.examples:
        found = find(shlex.split(example)[1:], COMMANDS)
        assert found is not None and found[0] is command
        command.parse(found[1])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each.words)
def test_every_failure_can_be_json(command: Command, desk: Desk) -> None:
    """With --json a failure is one object on stderr, and nothing is on stdout."""
    answer = desk.run("--json", *command.words.split(), "--nonsense")
    assert (answer.code, answer.out) == (2, "")
    assert list(json.loads(answer.err)["error"]) == ["code", "what", "why", "hint", "exit"]


def test_the_overview_names_every_command(desk: Desk) -> None:
    """`strongroom` alone is a friendly start, not an error."""
    for words in ((), ("--help",), ("help",), ("--no-color",)):
        answer = desk.run(*words)
        assert answer.code == 0
        assert all(f"strongroom {each.words} " in answer.out for each in COMMANDS)
    assert {each.words.partition(" ")[0] for each in COMMANDS} == set(GROUPS)
    assert max(map(len, desk.run().out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("said", "meant"),
    [("session", "sessions"), ("key", "keys"), ("sweep", "sessions sweep"), ("xyzzy", None)],
)
def test_a_mistyped_command_gets_the_nearest(said: str, meant: str | None) -> None:
    """Or nothing, where nothing is near."""
    with pytest.raises(UsageError) as raised:
        find([said], COMMANDS)
    hint = f"Did you mean: strongroom {meant}" if meant else "See what there is: strongroom"
    assert raised.value.hint == hint


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86400)]
)
def test_times_are_written_as_people_write_them(text: str, seconds: int) -> None:
    """And zero is a time."""
    assert duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "5", "-5m", "1.5h", "5 weeks", "9999999d", "٣m"])
def test_other_times_are_refused(text: str, desk: Desk) -> None:
    """Instead of guessing what was meant."""
    assert desk.run("keys", "rotate", f"--after={text}").code == 2


def test_the_exit_codes_are_what_a_shell_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own: done, nothing there, usage, store. Never a traceback."""
    monkeypatch.chdir(tmp_path)
    assert strongroom("keys", "generate").returncode == 0
    assert strongroom("keys", "retire", "7", "--yes").returncode == 1
    assert strongroom("keys", "rotate", "--nonsense").returncode == 2
    Path("var/sessions.db").write_text("not a database")
    done = strongroom("store", "check")
    assert done.returncode == 3
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr


def test_what_the_system_refuses_is_told(desk: Desk) -> None:
    """A path that cannot be is a sentence too."""
    for path in ("x" * 300, "missing/" + "y" * 300):
        for command in (["keys", "list"], ["keys", "rotate"], ["sessions", "list", "alice"]):
            answer = desk.run(*command, "--keys", path, "--store", "sqlite:///" + "z" * 300)
            assert answer.code == 2 and answer.err.startswith("error: "), answer


def test_a_package_that_is_not_installed_is_named_with_its_extra() -> None:
    """`pip install strongroom` brings no HTTP client; the command says what does."""
    code = (
        "import sys; sys.modules['httpcore'] = None\n"
        "from strongroom.cli.__main__ import main; sys.exit(main(['audit', 'https://shop.example/']))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: This command needs the package httpcore")
    assert "hint: pip install 'strongroom[audit]'" in done.stderr


def test_the_installed_command_is_this_one() -> None:
    """`strongroom` on the path answers."""
    done = subprocess.run([COMMAND, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("strongroom ")


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """`strongroom ... | head -1` says nothing of broken pipes."""
    line = f"'{sys.executable}' -m strongroom.cli policy show | head -1; echo ${{PIPESTATUS[0]}}"
    for _ in range(3):
        done = subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        assert done.stderr == ""
        assert done.stdout.splitlines()[1] in ("0", "141")


def test_control_c_is_quiet(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the question, for instance: exit code 130, nothing changed, no traceback."""
    desk.say("keys generate")
    code = (
        "import io, os, signal, sys\n"
        "from strongroom.cli.__main__ import run\n"
        "from strongroom.cli.output import World\n"
        # A shell's background jobs ignore the signal, and so would this.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Terminal(io.StringIO):\n"
        "    def isatty(self): return True\n"
        "    def readline(self): os.kill(os.getpid(), signal.SIGINT); return 'y'\n"
        "world = World(Terminal(), sys.stdout, Terminal(), {}, lambda: 2**42)\n"
        "sys.exit(run(['keys', 'retire', '1', '--and-rotate'], world))\n"
    )
    before = Path("var/strongroom.keys").read_bytes()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "")
    assert Path("var/strongroom.keys").read_bytes() == before


def test_help_is_quick() -> None:
    """The overview loads no cryptography, no driver and no event loop."""
    code = (
        "import sys; from strongroom.cli.__main__ import main; main([])\n"
        "print(sorted({'cryptography', 'msgspec', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_terminal_without_unicode_gets_something() -> None:
    """A mark that it cannot show becomes a question mark, not a traceback."""
    done = strongroom("keys", "list", "--keys", "a\u202eb", PYTHONIOENCODING="ascii")
    assert done.returncode == 2 and done.stderr.startswith("error: There is no key file at a")
