"""What is printed: one table a framework, as text, Markdown or JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from .rounds import CASES, Added, Measured, added

RESULTS = Path(__file__).resolve().parent.parent / "results"
"""What the documentation's page is drawn from."""

_HEADS = [case.name for case in CASES]
_TOLD = (
    "strongroom starlette fastapi litestar flask django aiohttp starsessions fastapi-redis-sdk "
    "fastapi-alcazaba flask-session aiohttp-session redis hiredis psycopg uvloop"
).split()


def machine() -> dict[str, Any]:
    """Where this was measured."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": [round(each, 2) for each in os.getloadavg()],
        "versions": {name: _version(name) for name in _TOLD},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def frameworks(results: list[Measured]) -> Iterator[tuple[Measured, list[Measured]]]:
    """Each row without sessions, with those that are compared with it."""
    for base in results:
        if base.row.base is None:
            yield base, [each for each in results if each.row.base == base.row.name]


def as_json(results: list[Measured], rounds: int) -> str:
    """Every figure: microseconds added, by the wall's clock and by the processor's."""
    rows = [
        {
            "framework": base.row.name,
            "name": each.row.name,
            "failed": each.failed,
            "added_us": _figures(each, base, cpu=False),
            "added_cpu_us": _figures(each, base, cpu=True),
            "set_cookie_bytes": each.set_cookie,
            "valkey_commands": each.commands,
            "valkey_bytes": each.stored,
        }
        for base, compared in frameworks(results)
        for each in compared
    ]
    bare = {
        base.row.name: {"failed": base.failed, "us": _figures(base, None, cpu=False)}
        for base, _ in frameworks(results)
    }
    told = {"machine": machine(), "rounds": rounds, "bare": bare, "rows": rows}
    return json.dumps(told, indent=1) + "\n"


def _figures(each: Measured, base: Measured | None, *, cpu: bool) -> dict[str, list[float]]:
    found = {name: added(each, base, name, cpu=cpu) for name in _HEADS}
    return {
        name: [round(cost.median, 2), round(cost.low, 2), round(cost.high, 2)]
        for name, cost in found.items()
        if cost is not None
    }


def as_text(
    results: list[Measured], rounds: int, *, cpu: bool = False, markdown: bool = False
) -> str:
    """One table a framework, by the wall's clock or by this process's processor time."""
    where = machine()
    lines = [
        f"Microseconds{' of processor time' if cpu else ''} that sessions add to a request: "
        f"the median of {rounds} paired rounds, and the middle half of them.",
        f"Python {where['python']}, {where['cores']} cores, load {where['load'][0]}.",
        "",
    ]
    for base, compared in frameworks(results):
        if compared:
            lines += [*_table(base, compared, cpu=cpu, markdown=markdown), ""]
    lines += [f"Could not run: {each.row.name}: {each.failed}" for each in results if each.failed]
    return "\n".join(lines) + "\n"


def _table(base: Measured, compared: list[Measured], *, cpu: bool, markdown: bool) -> list[str]:
    heads = [name for name in _HEADS if any(name in each.costs for each in compared)]
    rows = [
        [base.row.name + ", bare", *(_cell(added(base, None, name, cpu=cpu)) for name in heads)]
    ]
    rows += [
        [each.row.name, *(_cell(added(each, base, name, cpu=cpu)) for name in heads)]
        for each in compared
        if each.costs
    ]
    return _laid_out(["", *heads], rows, markdown=markdown)


def _cell(cost: Added | None) -> str:
    if cost is None:
        return "-"
    return f"{_round(cost.median)} ({_round(cost.low)}..{_round(cost.high)})"


def _round(microseconds: float) -> str:
    return f"{microseconds:.1f}" if abs(microseconds) < 20 else f"{microseconds:.0f}"


def _laid_out(heads: list[str], rows: list[list[str]], *, markdown: bool) -> list[str]:
    if markdown:
        lines = [heads, ["---"] * len(heads), *rows]
        return ["| " + " | ".join(line) + " |" for line in lines]
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [heads, *rows]
    ]
