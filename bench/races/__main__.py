"""Run every library through every race, each in a process of its own, and print one table."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from .scenarios import SCENARIOS, Peer

Row = dict[str, bool | str | None]


def main() -> int:
    """The table; exit 1 where we are not the row without a failure."""
    parser = argparse.ArgumentParser(prog="python -m bench.races")
    parser.add_argument("--only", help="libraries whose name contains this")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--redis", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        warnings.simplefilter("ignore")
        logging.getLogger("strongroom").setLevel(logging.CRITICAL)
        # Made outside of any event loop: Django refuses to migrate within one.
        peer = _made(options.one, options.redis)
        sys.stdout.write(json.dumps(asyncio.run(_race(peer))))
        return 0
    with _servers() as (valkey, ours):
        from .peers import PEERS

        names = [*ours, *PEERS]
        rows = {
            name: _in_a_process(ours.get(name, name), valkey)
            for name in names
            if not options.only or options.only.lower() in name.lower()
        }
    sys.stdout.write(json.dumps(rows, indent=2) + "\n" if options.json else _table(rows))
    failed = [
        name for name, row in rows.items() if name.startswith("Strongroom") and not _holds(row)
    ]
    return 1 if failed else 0


def _holds(row: Row) -> bool:
    return all(told is False for told in row.values())


@contextmanager
def _servers() -> Iterator[tuple[str, dict[str, str]]]:
    """A Valkey and a PostgreSQL, and our own stores' URLs by the row's name."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="races-"))
        ours = {
            "Strongroom, memory": "memory://",
            "Strongroom, SQLite": f"sqlite:///{folder}/sessions.db",
        }
        from tests.support.servers import postgres, valkey

        server = stack.enter_context(valkey.single())
        watched = stack.enter_context(valkey.sentinel()).url
        cluster = stack.enter_context(valkey.cluster()).url
        database = stack.enter_context(postgres.running())
        # Each row has keys of its own, and so a database or a prefix of its own.
        ours |= {
            "Strongroom, Valkey": server.url,
            "Strongroom, Valkey, near cache": f"{server.url.removesuffix('0')}1?near_cache_mb=8",
            "Strongroom, Sentinel": watched,
            "Strongroom, Sentinel, near cache": f"{watched}?prefix=near:&near_cache_mb=8",
            "Strongroom, Cluster": cluster,
            "Strongroom, Cluster, near cache": f"{cluster}?prefix=near:&near_cache_mb=8",
            "Strongroom, PostgreSQL": database.url(),
            "Strongroom, PostgreSQL, near cache": database.url(near_cache_mb=8),
        }
        yield server.url.replace("valkey://", "redis://"), ours


def _in_a_process(name: str, redis: str) -> Row:
    command = [sys.executable, "-W", "ignore", "-m", "bench.races", "--one", name]
    done = subprocess.run(
        [*command, "--redis", redis], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no word"
        return dict.fromkeys(SCENARIOS, f"could not run: {why}")
    row: Row = json.loads(done.stdout)
    return row


async def _race(peer: Peer) -> Row:
    row: Row = {}
    for scenario, play in SCENARIOS.items():
        try:
            row[scenario] = await asyncio.wait_for(play(peer), 60)
        except Exception as error:
            row[scenario] = f"could not run: {type(error).__name__}: {error}"[:120]
    close = getattr(peer.site, "close", None)
    if close is not None:
        await close()
    return row


def _made(name: str, redis: str) -> Peer:
    if "://" in name:
        from .ours import on_store

        return on_store(name)
    from .peers import PEERS

    return PEERS[name](redis)


def _table(rows: dict[str, Row]) -> str:
    heads = list(SCENARIOS)
    lines = ["| | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(_cell(row[each]) for each in heads) + " |")
    lines += ["", "**yes** is a failure; - is what the library has no call for."]
    return "\n".join(lines) + "\n"


def _cell(told: bool | str | None) -> str:
    if told is None:
        return "-"
    if isinstance(told, str):
        return told
    return "**yes**" if told else "no"


if __name__ == "__main__":
    sys.exit(main())
