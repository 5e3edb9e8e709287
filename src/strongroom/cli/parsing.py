"""Commands as data: what each is for, its options, its examples; and finding the one meant.

argparse parses one command's options. Which command it is, help, and "did you mean" are here, so
that every failure is told in the same three lines.
"""

from __future__ import annotations

import argparse
import difflib
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

from strongroom.core.errors import UsageError

from .output import Output

HELP_COLUMNS = 79
"""Help is wrapped here whatever the terminal, so that it reads the same in the documentation."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `words` is how it is called, `purpose` one line, `about` a paragraph."""

    words: str
    purpose: str
    about: str
    examples: tuple[str, ...]
    options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Output], int]

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """The options in these words.

        Raises:
            UsageError: they are not this command's.
        """
        parser = self._parser()
        options, left = parser.parse_known_args(words)
        if left:
            raise UsageError(
                f"'strongroom {self.words}' does not know {left[0]!r}.",
                hint=_meant(left[0], re.findall(r"--[a-z][a-z-]*", parser.format_usage()))
                or f"See: strongroom {self.words} --help",
            )
        return options

    def help(self) -> str:
        """All that there is to say about it."""
        return self._parser().format_help()

    def _parser(self) -> _Parser:
        parser = _Parser(
            prog=f"strongroom {self.words}",
            description=f"{self.purpose}\n\n{_wrapped(self.about)}",
            epilog="examples:\n" + "\n".join(f"  {example}" for example in self.examples),
            formatter_class=_Formatter,
            allow_abbrev=False,
            add_help=False,
        )
        self.options(parser)
        everywhere = parser.add_argument_group("everywhere")
        everywhere.add_argument("--json", action="store_true", help="print JSON, errors too")
        everywhere.add_argument("--no-color", action="store_true", help="print without colour")
        everywhere.add_argument("--help", "-h", action="store_true", help="print this")
        return parser


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=HELP_COLUMNS)


class _Parser(argparse.ArgumentParser):
    color = False  # from Python 3.14 on, argparse would colour its help by itself

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting, so that it is told like every other failure."""
        raise UsageError(f"{message[:1].upper()}{message[1:]}.", hint=f"See: {self.prog} --help")


def find(words: Sequence[str], commands: Sequence[Command]) -> tuple[Command, Sequence[str]] | None:
    """The command that the words begin with, and the words after it; None for a bare group.

    Raises:
        UsageError: there is no such command; the hint names the nearest.
    """
    group, *rest = words
    for command in commands:
        if rest and command.words == f"{group} {rest[0]}":
            return command, rest[1:]
    for command in commands:
        if command.words == group:
            return command, rest
    names = [command.words for command in commands]
    of_group = [name.partition(" ")[2] for name in names if name.startswith(f"{group} ")]
    if not of_group:
        groups = list(dict.fromkeys(name.partition(" ")[0] for name in names))
        # `strongroom rotate` means `strongroom keys rotate`.
        ends = {name.rpartition(" ")[2]: name for name in names}
        near = _nearest(group, [*groups, *ends])
        raise _unknown(f"{group!r}", ends.get(near, near) if near else None)
    if not rest or rest[0].startswith("-"):
        return None
    near = _nearest(rest[0], of_group)
    raise _unknown(f"'{group} {rest[0]}'", f"{group} {near}" if near else f"{group} --help")


def duration(text: str) -> timedelta:
    """A duration as people write it: `90s`, `15m`, `2h`, `1d`. Zero is a value."""
    match = re.fullmatch(r"([0-9]{1,6}) ?(s|m|min|h|d)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90s, 15m, 2h or 1d")
    unit = {"s": "seconds", "h": "hours", "d": "days"}.get(match[2], "minutes")
    return timedelta(**{unit: int(match[1])})


def _nearest(word: str, known: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, known, 1, 0.65)), None)


def _meant(word: str, known: Sequence[str]) -> str:
    near = _nearest(word, known)
    return f"Did you mean {near}?" if near else ""


def _unknown(said: str, near: str | None) -> UsageError:
    return UsageError(
        f"There is no command {said}.",
        hint=f"Did you mean: strongroom {near}" if near else "See what there is: strongroom",
    )


def _wrapped(text: str) -> str:
    paragraphs = textwrap.dedent(text).strip().split("\n\n")
    return "\n\n".join(textwrap.fill(" ".join(each.split()), HELP_COLUMNS) for each in paragraphs)
