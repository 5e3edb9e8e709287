"""Run it: see the package."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .honest import Bothered, month
from .report import document, markdown, plots
from .schedules import play
from .thieves import ATTACKS, Outcome, attacked


def main() -> int:
    """A month of honest people, then each attack; the tables, and the pictures if asked."""
    parser = argparse.ArgumentParser(prog="python -m simulation")
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--times", type=int, default=100, help="how often each attack is played")
    parser.add_argument(
        "--schedules", type=int, default=100_000, help="random schedules of honest browsers"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write the SVG files there")
    options = parser.parse_args()
    say = _progress if sys.stderr.isatty() else _quiet
    say(f"a month of {options.people} people ...")
    honest: Bothered = month(options.seed, options.people, options.days)
    outcomes: list[Outcome] = []
    for name in ATTACKS:
        say(f"{name} ...")
        outcomes.append(attacked(name, options.times))
    say(f"{options.schedules:,} schedules of honest browsers ...")
    verdicts = play(options.schedules, options.seed)
    say("")
    told: dict[str, Any] = document(honest, outcomes, verdicts)
    sys.stdout.write(json.dumps(told, indent=2) + "\n" if options.json else markdown(told))
    if options.plots:
        options.plots.mkdir(parents=True, exist_ok=True)
        for name, picture in plots(told).items():
            (options.plots / name).write_text(picture, encoding="utf-8")
    return 0


def _progress(text: str) -> None:
    sys.stderr.write(f"\r\x1b[K{text}")
    sys.stderr.flush()


def _quiet(text: str) -> None:
    del text


if __name__ == "__main__":
    sys.exit(main())
