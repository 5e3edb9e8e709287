"""Runs commands in this process, with a clock that stands still, and compares what they print.

A transcript is a text file. Its first lines, after `#`, say what it shows. Then:

    % advance 16m                  time passes
    % sign-in alice PHONE UA...    alice signs in with this User-Agent; $PHONE is the session's id
    % terminal y                   the next command runs at a terminal, and this is typed
    % env NAME=value               an environment variable, from here on
    % file NAME text               a file with this one line
    $ strongroom keys list         a command; what it prints, errors too, must be what follows
    [exit 2]                       the exit code, where it is not 0

In what is printed `...` is anything within its line and, alone on a line, any lines.
"""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path

from strongroom import RequestFacts, SessionManager, SessionPolicy, open_store
from strongroom.cli.__main__ import run
from strongroom.cli.output import World
from strongroom.cli.parsing import duration
from strongroom.manager import visit_of
from strongroom.testing import FrozenClock

KEYS, STORE = "var/strongroom.keys", "sqlite:///var/sessions.db"


class Stream(io.StringIO):
    """A stream that may be a terminal."""

    def __init__(self, text: str = "", *, terminal: bool = False) -> None:
        super().__init__(text)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@dataclass
class Answer:
    """What a command came to."""

    code: int
    out: str
    err: str


@dataclass
class Desk:
    """An operator's desk: a folder, a clock, an environment. Commands run in the folder."""

    clock: FrozenClock = field(default_factory=FrozenClock)
    env: dict[str, str] = field(default_factory=lambda: {"SUDO_USER": "olga"})

    def run(self, *words: str, typed: str | None = None, merged: bool = False) -> Answer:
        """Run a command; with `typed`, at a terminal where that is typed."""
        terminal = typed is not None
        out = Stream(terminal=terminal)
        err = out if merged else Stream(terminal=terminal)
        world = World(
            input=Stream(f"{typed}\n" if typed else "", terminal=terminal),
            out=out,
            err=err,
            env=self.env,
            clock=self.clock,
            zone=UTC,
        )
        return Answer(run(words, world), out.getvalue(), "" if merged else err.getvalue())

    def say(self, line: str, **more: object) -> Answer:
        """Run a command as one writes it, without its first word."""
        return self.run(*shlex.split(line), **more)  # type: ignore[arg-type]

    def manager(self, policy: SessionPolicy | None = None) -> SessionManager:
        """The application's manager, on the same keys, store and clock."""
        return SessionManager(
            open_store(STORE), keys=KEYS, policy=policy, sinks=(), clock=self.clock
        )

    def sign_in(
        self, subject: str, agent: str = "curl/8", policy: SessionPolicy | None = None
    ) -> str:
        """Somebody signs in -> the session's public id."""
        with self.manager(policy) as sessions:
            headers = [(b"user-agent", agent.encode()), (b"sec-fetch-site", b"same-origin")]
            facts = RequestFacts(method="POST", peer="203.0.113.7", headers=headers)
            session = sessions.open(facts)
            session.sign_in(subject, amr=["pwd"])
            sessions.close(session)
            sessions.deliver(visit_of(session).take_events())
            session_id = session.session_id
        assert session_id is not None
        return session_id


@dataclass
class Step:
    """A command of a transcript, and what is shown for it."""

    command: str
    line: int
    shown: list[str] = field(default_factory=list)


def play(path: Path, desk: Desk) -> Iterator[tuple[str, str, str]]:
    """Each command of a transcript -> where it stands, what it printed, and what is shown."""
    names: dict[str, str] = {}
    typed: str | None = None
    for step in _steps(path):
        word, _, rest = step.command.partition(" ")
        rest = _filled(rest, names)
        if word == "%":
            typed = _prepare(rest, desk, names, typed)
            continue
        words = shlex.split(rest)
        assert words.pop(0) == "strongroom", step.command
        answer = desk.run(*words, typed=typed, merged=True)
        typed = None
        printed = answer.out.rstrip("\n") + (f"\n[exit {answer.code}]" if answer.code else "")
        shown = _filled("\n".join(step.shown), names)
        yield f"{path.name}:{step.line}: {step.command}", printed.strip(), shown.strip()


def _steps(path: Path) -> list[Step]:
    steps: list[Step] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if line.startswith(("$ ", "% ")):
            steps.append(Step(line, number))
        elif steps:
            steps[-1].shown.append(line)
        else:
            assert not line or line.startswith("#"), f"{path.name}:{number} comes before a command"
    return steps


def _prepare(order: str, desk: Desk, names: dict[str, str], typed: str | None) -> str | None:
    word, *rest = order.split(" ")
    match word:
        case "advance":
            desk.clock.advance(duration(rest[0]))
        case "sign-in":
            names[rest[1]] = desk.sign_in(rest[0], " ".join(rest[2:]))
        case "env":
            name, _, value = " ".join(rest).partition("=")
            desk.env[name] = value
        case "file":
            Path(rest[0]).write_text(" ".join(rest[1:]) + "\n", encoding="utf-8")
        case "terminal":
            return " ".join(rest)
        case _:
            raise AssertionError(f"a transcript cannot {word!r}")
    return typed


def _filled(text: str, names: Mapping[str, str]) -> str:
    return re.sub(r"\$([A-Z]+)\b", lambda found: names.get(found[1], found[0]), text)


def matches(shown: str, printed: str) -> bool:
    """Whether the output is what a transcript shows."""
    rows = [
        r"(?:.*\n)*" if row.strip() == "..." else ".*".join(map(re.escape, row.split("..."))) + "\n"
        for row in shown.splitlines()
    ]
    return re.fullmatch("".join(rows), f"{printed}\n" if printed else "") is not None
