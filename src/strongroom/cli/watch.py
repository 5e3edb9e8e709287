"""`strongroom watch`: a screen with rates, spikes and the latest signals, from the event log."""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from strongroom.core.errors import ConfigurationError

from .board import Board, Notable
from .output import DONE, Output, plain
from .parsing import Command, duration

POLL_SECONDS = 0.25
"""How often the file is looked at: what happens is on the screen within half a second."""
DRAW_SECONDS = 0.5
_HOME, _CLEAR, _CLEAR_BELOW = "\x1b[H", "\x1b[2J", "\x1b[J"


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("log", metavar="LOG", help="the file with events as JSON lines; - reads in")
    parser.add_argument(
        "--for", dest="lasting", type=duration, metavar="TIME", help="stop after this long"
    )
    parser.add_argument("--once", action="store_true", help="show what the log holds now, and stop")


def watch(options: argparse.Namespace, out: Output) -> int:
    """Follow the log; a screen on a terminal, one line for each notable thing elsewhere."""
    board = Board()
    screen = out.world.out.isatty() and not out.as_json and not options.once
    lasting = options.lasting
    until = None if lasting is None else time.monotonic() + lasting.total_seconds()
    drawn = 0.0
    if screen:
        out.world.out.write(_CLEAR)
    for line in _lines(options.log, out.world.input, once=options.once, until=until):
        found = board.feed(line) if line else []
        if screen:
            if time.monotonic() - drawn >= DRAW_SECONDS:
                drawn = time.monotonic()
                _draw(board, out)
        elif not options.once:
            _tell(found, out)
    if options.once:
        out.answer(_document(board, out), _screen(board, out, rows=10**6))
    return DONE


def _lines(log: str, reading: TextIO, *, once: bool, until: float | None) -> Iterator[str]:
    """Lines as they come; an empty one whenever there is none, so that the screen goes on."""
    if log == "-":
        yield from reading
        return
    path = Path(log)
    file = _opened(path)
    try:
        while True:
            line = file.readline()
            if line:
                yield line
                continue
            yield ""
            if once or (until is not None and time.monotonic() >= until):
                return
            time.sleep(POLL_SECONDS)
            if _is_another(path, file):
                file.close()
                file = _opened(path)
    finally:
        file.close()


def _opened(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigurationError(
            f"The log {path} cannot be read: {error.strerror}.",
            why="There is nothing to watch.",
            hint="Events go to the logger strongroom.events; give it a FileHandler, and name its "
            "file here.",
        ) from None


def _is_another(path: Path, file: TextIO) -> bool:
    """Whether the log was rotated, or cut, since it was opened."""
    try:
        now = path.stat()
    except OSError:
        return False  # Between two files: the old one is read on until the new one is there.
    then = os.fstat(file.fileno())
    return (now.st_ino, now.st_dev) != (then.st_ino, then.st_dev) or now.st_size < file.tell()


def _tell(found: list[Notable], out: Output) -> None:
    for each in found:
        document = {name: getattr(each, name) for name in Notable.__slots__}
        if out.as_json:
            import json

            out.world.out.write(json.dumps(document) + "\n")
        else:
            out.world.out.write("  ".join(_row(each, out)) + "\n")
        out.world.out.flush()


def _draw(board: Board, out: Output) -> None:
    size = shutil.get_terminal_size()
    lines = _screen(board, out, rows=size.lines)[: size.lines - 1]
    text = "\n".join(f"{line[: size.columns]}\x1b[K" for line in lines)
    out.world.out.write(f"{_HOME}{text}{_CLEAR_BELOW}")
    out.world.out.flush()


def _screen(board: Board, out: Output, *, rows: int) -> list[str]:
    now = out.world.clock()
    names = board.names()[: max(5, rows // 2 - 4)]
    rates = [
        (name, board.rate(name, now), board.totals[name], board.spark(name, now)) for name in names
    ]
    lines = [f"strongroom watch  {out.when(now)}", ""]
    lines += _rates(rates, out)
    lines += ["", out.heading("LATEST"), *_latest(board, out, rows - len(lines) - 4)]
    if board.strange:
        lines += ["", f"{board.strange:,} lines are no events and were left out."]
    return lines


def _rates(rates: list[tuple[str, int, int, str]], out: Output) -> list[str]:
    lines = [out.heading(f"{'EVENT':<32}{'A MINUTE':>9}{'TOTAL':>9}  THE LAST HALF HOUR")]
    for name, rate, total, spark in rates:
        lines.append(f"{plain(name, 31):<32}{rate:>9,}{total:>9,}  {spark}".rstrip())
    return lines


def _latest(board: Board, out: Output, count: int) -> list[str]:
    newest = list(board.notable)[-max(1, count) :][::-1]
    return ["  ".join(_row(each, out)) for each in newest] or ["Nothing that looks wrong."]


def _row(each: Notable, out: Output) -> list[str]:
    who = " ".join(plain(part, 30) for part in (each.subject, each.address, each.device) if part)
    return [
        str(out.when(each.at)),
        f"{each.severity:<8}",
        plain(each.name, 40),
        *([who] if who else []),
        *([plain(each.why, 160)] if each.why else []),
    ]


def _document(board: Board, out: Output) -> dict[str, object]:
    now = out.world.clock()
    return {
        "totals": dict(board.totals),
        "a_minute": {name: board.rate(name, now) for name in board.totals},
        "notable": [
            {name: getattr(each, name) for name in Notable.__slots__} for each in board.notable
        ],
        "strange_lines": board.strange,
    }


COMMANDS = (
    Command(
        "watch",
        "Follow the event log: rates, spikes and the latest signals.",
        """On a terminal a screen that is drawn twice a second; elsewhere, one line for each thing
        that looks wrong. It reads the JSON lines that the default sink writes, from a file (which
        may be rotated) or from standard input, so it works over ssh and on any number of servers'
        logs put together. Ctrl-C stops it.""",
        (
            "strongroom watch /var/log/shop/events.jsonl",
            "strongroom watch -",
            "strongroom watch events.jsonl --once --json",
        ),
        _options,
        watch,
    ),
)
