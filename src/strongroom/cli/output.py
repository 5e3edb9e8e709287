"""What reaches the terminal: plain text, aligned tables, readable times, or JSON.

Rules. Nothing that a client sent reaches a terminal raw: control characters, escape sequences,
invisible and direction-changing characters and markup become `�` (PROTOCOL I), so a table is safe
to look at and to paste. JSON is ASCII with everything escaped, so it keeps values exactly. Colour
is for terminals only, and never carries meaning alone. Moments are local, with their offset; in
JSON they are RFC 3339 in UTC.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, TextIO

from strongroom.core.errors import StoreError, StrongroomError, UsageError

DONE, NOTHING, USAGE, STORE, INTERRUPTED, NO_READER = 0, 1, 2, 3, 130, 141
"""The exit codes; docs/cli.md explains them. The last two are what a shell expects of signals."""

MARK = "\N{REPLACEMENT CHARACTER}"
CELL = 60
"""Characters of one value in a table: enough for any address or device, too few to flood."""

_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor movements
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f]).*?(?:\x07|\x1b\\|\x9c|\Z)"  # OSC, DCS: links, titles
    r"|\x1b[ -/]*[0-~]?",
    re.DOTALL,
)
_TAG = re.compile(r"</?[A-Za-z!?][^<>]*>|<(?=[A-Za-z!?/])")


@dataclass(frozen=True, slots=True)
class World:
    """What a command touches outside of itself. A test hands in another one.

    `zone` is where times are shown in; None is this machine's own.
    """

    input: TextIO
    out: TextIO
    err: TextIO
    env: Mapping[str, str]
    clock: Callable[[], int]
    zone: tzinfo | None = None


def printable(text: object, limit: int = 2000) -> str:
    """One line of the text without anything that a terminal would act upon or hide."""
    shown = _SEQUENCE.sub(MARK, str(text)[: limit * 4])
    shown = " ".join("".join(map(_visible, shown)).split())
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def plain(text: object, limit: int = CELL) -> str:
    """As `printable`, and without markup: for whatever a client may have had a hand in."""
    shown = _TAG.sub(MARK, printable(text, limit * 4))
    shown = shown.replace("`", "'").replace("](", "] (")
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if character in "\t\n\r" or category in ("Zl", "Zp"):
        return " "
    return MARK if category.startswith("C") else character


def width(text: str) -> int:
    """How many columns a terminal gives the text."""
    return sum(
        0 if unicodedata.combining(each) else 1 + (unicodedata.east_asian_width(each) in "WF")
        for each in text
    )


_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))


def span(duration: int | timedelta, units: int = 2) -> str:
    """A duration (in milliseconds, if a number) in its largest units: `1 min 30 s`."""
    left = duration if isinstance(duration, int) else duration // timedelta(milliseconds=1)
    parts: list[str] = []
    for size, name in _UNITS:
        count, left = divmod(left, size)
        if count and len(parts) < units:
            parts.append(f"{count} {name}")
        elif parts:
            break
    return " ".join(parts) or (f"{left} ms" if left else "0 s")


def rfc3339(moment: int | datetime | None) -> str | None:
    """The moment as JSON has it: UTC, with milliseconds."""
    if moment is None:
        return None
    told = moment if isinstance(moment, datetime) else _moment(moment)
    return told.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


class Output:
    """One command's answer, for a person or, with `--json`, for a machine."""

    def __init__(self, world: World, *, as_json: bool, colour: bool) -> None:
        self.world = world
        self.as_json = as_json
        self._colour = colour

    def answer(self, document: Mapping[str, Any], lines: Iterable[str]) -> None:
        """Print the result: the document with `--json`, else the lines."""
        if self.as_json:
            self.world.out.write(json.dumps(document, indent=2) + "\n")
        else:
            self.world.out.writelines(f"{line}\n" for line in lines)

    def note(self, *lines: str) -> None:
        """Tell a person something that is no part of the result."""
        self.world.err.writelines(f"{line}\n" for line in lines)

    def progress(self, text: str) -> None:
        """Show how far it is, on a terminal, over what was shown before. Empty clears it."""
        if self.world.err.isatty() and not self.as_json:
            self.world.err.write(f"\r\x1b[K{text}")
            self.world.err.flush()

    def failed(self, error: StrongroomError) -> int:
        """Print what happened, why it matters and what to do next -> the exit code."""
        exit_code = STORE if isinstance(error, StoreError) else USAGE
        return self._complain(exit_code, error.code, error.what, error.why, error.hint)

    def nothing(self, what: str, *, why: str = "", hint: str = "") -> int:
        """Print that there is nothing to do it to -> the exit code."""
        return self._complain(NOTHING, "not_found", what, why, hint)

    def _complain(self, exit_code: int, code: str, what: str, why: str, hint: str) -> int:
        parts = {"error": what, "why": why, "hint": hint}
        if self.as_json:
            told = {"code": code, "what": what, "why": why, "hint": hint, "exit": exit_code}
            self.note(json.dumps({"error": told}))
        else:
            self.note(*(f"{self._label(name)} {printable(told)}" for name, told in parts.items()
                        if told))  # fmt: skip
        return exit_code

    def _label(self, name: str) -> str:
        return self._styled(f"{name}:", "31;1" if name == "error" else "1", self.world.err)

    def heading(self, text: str) -> str:
        """The text as a heading."""
        return self._styled(text, "1", self.world.out)

    def _styled(self, text: str, code: str, stream: TextIO) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and stream.isatty() else text

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
        """The rows under their headings, aligned. None is `-`; every cell is made plain."""
        body = [["-" if cell is None else plain(cell) or "-" for cell in row] for row in rows]
        widths = [max(map(width, column)) for column in zip(headings, *body, strict=True)]
        lines = [_aligned(row, widths) for row in (headings, *body)]
        return [self.heading(lines[0]), *lines[1:]]

    def pairs(self, rows: Iterable[tuple[str, object]]) -> list[str]:
        """Names and values, aligned, without headings."""
        told = [(name, "-" if value is None else plain(value, 200)) for name, value in rows]
        wide = max((len(name) for name, _value in told), default=0)
        return [f"{name:<{wide}}  {value}" for name, value in told]

    def when(self, moment: int | datetime | None) -> str | None:
        """The moment as a person reads it: local, with the offset."""
        if moment is None:
            return None
        told = moment if isinstance(moment, datetime) else _moment(moment)
        return told.astimezone(self.world.zone).isoformat(" ", timespec="minutes")

    def near(self, moment: int | datetime) -> str:
        """How far the moment is from now: `in 15 min`, `3 h ago`."""
        told = moment if isinstance(moment, datetime) else _moment(moment)
        apart = round(told.timestamp() * 1000) - self.world.clock()
        size = 60_000 if abs(apart) >= 60_000 else 1000
        rounded = (abs(apart) + size // 2) // size * size
        if not rounded:
            return "just now"
        return f"in {span(rounded)}" if apart > 0 else f"{span(rounded)} ago"

    def confirm(self, question: str, explanation: Iterable[str], *, yes: bool) -> bool:
        """Whether the person at the terminal agrees; `--yes` agrees beforehand.

        Raises:
            UsageError: nobody is there to be asked.
        """
        if yes:
            return True
        if not (self.world.input.isatty() and self.world.err.isatty()):
            raise UsageError(
                "This needs a yes, and nobody is at a terminal to give it. Nothing was done.",
                why=" ".join(explanation),
                hint="If that is what you want, say the same with --yes.",
            )
        self.note(*explanation)
        self.world.err.write(f"{question} [y/N] ")
        self.world.err.flush()
        agreed = self.world.input.readline().strip().lower() in ("y", "yes")
        if not agreed:
            self.note("Nothing was changed.")
        return agreed


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * (wide - width(cell)) for cell, wide in zip(row, widths, strict=True))
    return "  ".join(padded).rstrip()
