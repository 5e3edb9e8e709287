"""Make the rows, measure them, and print the tables."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from . import tables
from .rounds import CASES, Contestant, Measured, measure
from .rows import Places, Row, all_rows
from .stored import look_at_valkey

QUICK_ROUNDS, ROUNDS = 15, 61


def main() -> int:
    """Measure in process -> 0, or 1 where one of our own rows failed."""
    options = _options()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    with places_for(servers=not options.no_servers) as (places, _):
        results = _run(_wanted(options.only), places, rounds)
    if options.save:
        (tables.RESULTS / "in-process.json").write_text(tables.as_json(results, rounds))
    if options.json:
        sys.stdout.write(tables.as_json(results, rounds))
    else:
        told = tables.as_text(results, rounds, cpu=options.cpu, markdown=options.markdown)
        sys.stdout.write(told)
    return 1 if any(each.failed and each.row.is_ours for each in results) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.cost")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds")
    parser.add_argument("--rounds", type=int, help=f"how many rounds (default: {ROUNDS})")
    parser.add_argument("--only", help="rows whose name or framework contains this")
    parser.add_argument("--no-servers", action="store_true", help="neither Valkey nor PostgreSQL")
    parser.add_argument("--cpu", action="store_true", help="this process's time, not the wall's")
    parser.add_argument("--save", action="store_true", help="for the documentation's page")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    return parser.parse_args()


def _wanted(only: str | None) -> list[Row]:
    """The rows asked for, and the bare ones that they are compared with."""
    rows = all_rows()
    if only is None:
        return rows
    word = only.lower()
    kept = [row for row in rows if row.base and word in f"{row.name} {row.base}".lower()]
    bases = {row.base for row in kept}
    return [row for row in rows if row in kept or row.name in bases]


def _run(rows: list[Row], places: Places, rounds: int) -> list[Measured]:
    results: list[Measured] = []
    contestants: list[Contestant] = []
    for row in rows:
        try:
            contestants.append(Contestant(row, places))
            results.append(contestants[-1].measured)
        except Exception as error:
            results.append(Measured(row, failed=f"{type(error).__name__}: {error}"[:160]))
    try:
        for case in CASES:
            measure(contestants, case, rounds)
        if places.valkey is not None:
            look_at_valkey(contestants, places.valkey)
    finally:
        for each in contestants:
            each.site.close()
    return results


@contextmanager
def places_for(*, servers: bool) -> Iterator[tuple[Places, Callable[[], str | None]]]:
    """A folder, a loop, a Valkey and a PostgreSQL -> they, and what makes a further database.

    What cannot be started is missing.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        loop = _loop()
        stack.callback(loop.close)
        valkey = _started(stack, "valkey", "single") if servers else None
        postgres = _started(stack, "postgres", "running") if servers else None

        def new_database() -> str | None:
            return None if postgres is None else postgres.url(postgres.new_database())

        url = None if valkey is None else valkey.url
        yield Places(folder, loop, url, new_database()), new_database


def _started(stack: ExitStack, name: str, how: str) -> Any:
    try:
        module = importlib.import_module(f"tests.support.servers.{name}")
        return stack.enter_context(getattr(module, how)())
    except Exception as error:
        sys.stderr.write(f"bench: {name} could not be started: {error}\n")
        return None


def _loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    made: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return made


if __name__ == "__main__":
    sys.exit(main())
