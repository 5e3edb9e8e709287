"""`strongroom bench`: what this very store and network do, measured on the reader's own machine."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from strongroom.core.errors import ConfigurationError, StoreUnavailable, UsageError
from strongroom.core.ops import End, Insert
from strongroom.core.policy import ms
from strongroom.core.record import EndReason, Kind
from strongroom.stores.base import Watchable

from . import settings
from .output import DONE, Output
from .parsing import Command

if TYPE_CHECKING:
    from strongroom.manager import SessionManager

_MOST = 64
_KEEP = 60_000


@dataclass(frozen=True, slots=True)
class _Mode:
    """One row: with or without a near cache, idle or under load, the channel whole or cut."""

    name: str
    near: bool = False
    load: int = 0
    cut: bool = False


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--processes", type=int, default=2, help="how many read (default: 2)")
    parser.add_argument("--rounds", type=int, default=50, help="ends in each row (default: 50)")
    settings.add_store(parser)


def revocation(options: argparse.Namespace, out: Output) -> int:
    """End sessions here, and measure when other processes see it."""
    if not (1 <= options.processes <= _MOST and options.rounds >= 1):
        raise UsageError(
            "Give 1 to 64 processes and at least one round.",
            hint="strongroom bench revocation --processes 2 --rounds 50",
        )
    url = settings.store_url(options, out)
    if "near_cache" in url:
        raise ConfigurationError(
            "This command puts its own near cache in front of the store.",
            hint="Leave near_cache_mb and near_cache_entries out of the URL.",
        )
    rows: list[dict[str, Any]] = []
    with settings.manager(options, out) as sessions:
        for mode in _modes(sessions):
            rounds = min(options.rounds, 10) if mode.cut else options.rounds
            took = _measured(sessions, url, mode, options.processes, rounds)
            let_in, seen = (_summary(each) for each in zip(*took, strict=True))
            still = {f"let_in_{name}": value for name, value in let_in.items()}
            rows.append({"mode": mode.name, "ends": rounds, **seen, **still})
    names = ("mode", "ends", "p50_ms", "p99_ms", "max_ms", "let_in_p99_ms", "let_in_max_ms")
    heads = ("Mode", "Ends", "Seen p50", "p99", "max", "Let in p99", "max")
    table = out.table(heads, [[row[name] for name in names] for row in rows])
    lines = [
        f"From the end's acknowledgement until {options.processes} other processes saw it, and",
        "until the last read began that still let it in, in milliseconds:",
        "",
        *table,
    ]
    out.answer({"processes": options.processes, "rows": rows}, lines)
    return DONE


def _modes(sessions: SessionManager) -> tuple[_Mode, ...]:
    modes = (_Mode("no near cache, idle"), _Mode("no near cache, load", load=2))
    if not isinstance(sessions.store, Watchable):
        return modes
    return (
        *modes,
        _Mode("near cache, idle", near=True),
        _Mode("near cache, load", near=True, load=2),
        _Mode("near cache, channel dead", near=True, cut=True),
    )


def _summary(took: Sequence[float]) -> dict[str, float]:
    ordered = sorted(max(each, 0.0) * 1000 for each in took)

    def at(share: float) -> float:
        return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 2)

    return {"p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": round(ordered[-1], 2)}


def _measured(
    sessions: SessionManager, url: str, mode: _Mode, processes: int, rounds: int
) -> list[tuple[float, float]]:
    """Seconds from each acknowledgement until each process let it in last, and saw the end."""
    first = {
        "url": url,
        "identity": sessions.store_identity.hex(),
        "near": mode.near,
        "load": mode.load,
        "cut": mode.cut,
        "max_staleness": sessions.policy.max_staleness.total_seconds(),
    }
    took: list[tuple[float, float]] = []
    with _readers(first, processes) as readers:
        for _ in range(rounds):
            session_id = _begin(sessions)
            for reader in readers:
                _send(reader, session_id.hex())
            for reader in readers:
                _hear(reader)
            now = sessions.clock()
            sessions.store.end(End(session_id, os.urandom(8), EndReason.OPERATOR, now, now + _KEEP))
            acknowledged = time.monotonic()
            for reader in readers:
                let_in, seen = _hear(reader)
                took.append((let_in - acknowledged, seen - acknowledged))
    return took


def _begin(sessions: SessionManager) -> bytes:
    """A session of nobody, which no cookie opens, and which is forgotten in a minute."""
    from strongroom.testing.records import a_record

    record = a_record(
        subject=None,
        kind=Kind.ANONYMOUS,
        now=sessions.clock(),
        entropy=os.urandom,
        idle_deadline=sessions.clock() + _KEEP,
        purge_at=sessions.clock() + _KEEP + ms(sessions.policy.max_skew),
    )
    sessions.store.insert(Insert(record, sessions.clock()))
    return record.session_id


Reader = subprocess.Popen[str]


@contextmanager
def _readers(first: dict[str, Any], count: int) -> Generator[list[Reader], None, None]:
    command = [sys.executable, "-m", "strongroom.cli.bench_reader"]
    readers = [
        subprocess.Popen(  # noqa: S603 - this interpreter, and nothing from outside
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(count)
    ]
    try:
        for reader in readers:
            _send(reader, first)
        yield readers
    finally:
        for reader in readers:
            reader.kill()
            reader.communicate()


def _send(reader: Reader, what: object) -> None:
    # Never as an argument: a store's URL may carry a password.
    assert reader.stdin is not None  # noqa: S101 - asked for above
    reader.stdin.write(json.dumps(what) + "\n")
    reader.stdin.flush()


def _hear(reader: Reader) -> Any:
    assert reader.stdout is not None  # noqa: S101 - asked for above
    line = reader.stdout.readline()
    if not line:
        raise StoreUnavailable(
            "A reading process ended before it saw the session end.",
            why="Nothing can be said of its time.",
            hint="What it complained of stands above.",
        )
    return json.loads(line)


COMMANDS = (
    Command(
        "bench revocation",
        "Measure how soon other processes see a session's end.",
        """Ends throw-away sessions, which no cookie opens, and looks from other processes until
        each sees it: with and without a near cache where the store pushes, idle, under load, and
        with a channel that says nothing any more. Nobody's session is touched. Processes must run
        on this machine, because they compare one clock.""",
        (
            "strongroom bench revocation --store valkey://localhost/0",
            "strongroom bench revocation --processes 4 --rounds 200",
        ),
        _options,
        revocation,
    ),
)
