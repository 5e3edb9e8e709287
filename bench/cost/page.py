"""Draws docs/performance.md, its pictures and README's claims from bench/results.

    make bench-page        runs everything that the page shows, some minutes, and draws it
    python -m bench.cost.page --write       draws it from what was measured last

What a person wrote around the tables stays. A test in tests/house says when a drawing is out of
date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .instructions import FILE
from .svg import bars, lines
from .tables import RESULTS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "performance.md"
README = ROOT / "README.md"
IMAGES = ROOT / "docs" / "images"

Rows = list[dict[str, Any]]


def load(name: str) -> Any:
    """One file of results."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def _cpu(row: dict[str, Any], case: str) -> float | None:
    figures = row["added_cpu_us"].get(case)
    return None if figures is None else figures[0]


def rows_of(framework: str) -> Rows:
    """The rows that are compared with this framework."""
    return [row for row in load("in-process")["rows"] if row["framework"] == framework]


def row(framework: str, name: str) -> dict[str, Any]:
    """One of them."""
    return next(each for each in rows_of(framework) if each["name"] == name)


def draw_machine() -> str:
    """What was measured on."""
    told = load("in-process")
    where = told["machine"]
    named = [f"{name} {version}" for name, version in where["versions"].items()]
    return (
        f"{where['system']}, Python {where['python']}, {where['cores']} cores, load average "
        f"{where['load'][0]:.0f} (other work ran beside it), {told['rounds']} rounds. "
        f"{', '.join(named[1:])}."
    )


def draw_framework(framework: str) -> str:
    """Processor time that sessions add to a request, by case."""
    told = load("in-process")
    cases = ("anonymous", "forged", "untouched", "read", "write", "sign-in")
    bare = told["bare"][framework]["us"]
    table = [["", *cases], ["---"] * (len(cases) + 1)]
    table.append([f"{framework}, bare", *(_figure(bare[case][0]) for case in cases)])
    for each in rows_of(framework):
        name = f"**{each['name']}**" if each["name"].startswith("Strongroom") else each["name"]
        cells = [_figure(_cpu(each, case)) for case in cases]
        table.append([name, *cells])
    return _markdown(table)


def _figure(microseconds: float | None) -> str:
    if microseconds is None:
        return "-"
    return f"{microseconds:.1f}" if microseconds < 10 else f"{microseconds:,.0f}"


def _markdown(table: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in table)


def draw_store() -> str:
    """What a Valkey server is asked, what it keeps, and what the browser is sent."""
    heads = ["", "untouched", "read", "write", "bytes kept", "Set-Cookie bytes, read / write"]
    table = [heads, ["---"] * len(heads)]
    for each in load("in-process")["rows"]:
        asked = each["valkey_commands"]
        if not asked or each["framework"] not in ("Starlette", "FastAPI", "Litestar", "Flask"):
            continue
        sent = each["set_cookie_bytes"]
        table.append(
            [
                f"{each['framework']}: {each['name'].removesuffix(', Valkey')}",
                *(asked.get(case) or "-" for case in ("untouched", "read", "write")),
                f"{each['valkey_bytes']:,}",
                f"{sent['read']} / {sent['write']}",
            ]
        )
    return _markdown(table)


def draw_served() -> str:
    """Under uvicorn, 32 in flight."""
    told = load("served-uvicorn")
    bare = told["rows"]["Starlette"]
    heads = ["", "read, added µs", "share of bare", "p50 / p99 / p99.9 ms", "write, added µs"]
    table = [heads, ["---"] * len(heads)]
    for name, cases in told["rows"].items():
        read, write = cases["read x32"], cases["write x32"]
        table.append(
            [
                f"**{name}**" if name.startswith("Strongroom") else name,
                _figure(read["cpu_us"] - bare["read x32"]["cpu_us"]) if name != "Starlette" else "",
                f"{bare['read x32']['cpu_us'] / read['cpu_us']:.2f}",
                f"{read['p50_ms']:.1f} / {read['p99_ms']:.0f} / {read['p99_9_ms']:.0f}",
                _figure(write["cpu_us"] - bare["write x32"]["cpu_us"])
                if name != "Starlette"
                else "",
            ]
        )
    return _markdown(table)


def draw_storms() -> str:
    """Readers beside a storm."""
    heads = ["", "storm", "a second", "readers' p99 before", "during", "longest turn, of it ours"]
    table = [heads, ["---"] * len(heads)]
    for where, storms in load("storms")["rows"].items():
        for name, told in storms.items():
            if not told["events_s"]:
                continue  # Valkey forgets by itself: there is nothing to sweep
            table.append(
                [
                    where,
                    name,
                    f"{told['events_s']:,}",
                    f"{told['quiet_p99_ms']:.2f} ms",
                    f"{told['p99_ms']:.2f} ms",
                    f"{told['longest_turn_ms']:.0f} ms, {told['longest_turn_cpu_ms']:.1f} ms",
                ]
            )
    return _markdown(table)


def draw_instructions() -> str:
    """The hot path's processor instructions."""
    told = json.loads(FILE.read_text())
    table = [["case", "instructions added"], ["---", "---"]]
    table += [[case, f"{count:,}"] for case, count in told["added"].items()]
    return _markdown(table)


def draw_claims() -> str:
    """What README says, by the same figures."""
    mine = row("Starlette", "Strongroom, Valkey, near cache")["added_cpu_us"]
    cookie = row("Starlette", "Starlette SessionMiddleware, signed cookie")["added_cpu_us"]
    theirs = row("Starlette", "starsessions, Valkey")["added_cpu_us"]
    anonymous, read = mine["anonymous"][0], mine["read"][0]
    return "\n".join(
        (
            f"A request of somebody without a session costs {anonymous:.0f} µs of processor time,",
            "and stores nothing. A page that reads a session on Valkey, encrypted and revocable",
            f"at once, costs {read:.0f} µs with the near cache; with starsessions on Valkey it",
            f"costs {theirs['read'][0]:.0f}, and with Starlette's signed cookie, which nobody can",
            f"revoke, {cookie['read'][0]:.0f}.",
            "[How fast, and why](docs/performance.md) has the other figures, also those that are",
            "worse than our peers'.",
        )
    )


PAGE_DRAWINGS: dict[str, Callable[[], str]] = {
    "machine": draw_machine,
    "starlette": partial(draw_framework, "Starlette"),
    "raw-asgi": partial(draw_framework, "raw ASGI"),
    "fastapi": partial(draw_framework, "FastAPI"),
    "litestar": partial(draw_framework, "Litestar"),
    "flask": partial(draw_framework, "Flask"),
    "django-wsgi": partial(draw_framework, "Django, WSGI"),
    "store": draw_store,
    "served": draw_served,
    "storms": draw_storms,
    "instructions": draw_instructions,
}


def draw_read() -> str:
    """The picture of a page that reads."""
    return bars(
        "Microseconds of processor time that a session adds to a page that reads it (Starlette)",
        [
            (each["name"], _cpu(each, "read") or 0.0, each["name"].startswith("Strongroom"))
            for each in rows_of("Starlette")
        ],
    )


def draw_anonymous() -> str:
    """The picture of a request without a session."""
    named = [
        (f"{each['framework']}: {each['name']}", _cpu(each, "anonymous") or 0.0, each)
        for framework in ("Starlette", "FastAPI", "Litestar", "Flask")
        for each in rows_of(framework)
        if "PostgreSQL" not in each["name"] and "SQLite" not in each["name"]
    ]
    return bars(
        "Microseconds of processor time that sessions add to a request of somebody without one",
        [(name, value, each["name"].startswith("Strongroom")) for name, value, each in named],
    )


def draw_growth(what: str, unit: str) -> str:
    """The picture of a curve."""
    points = load("growth")["points"]
    curves = {
        name.partition(": ")[2]: [(x, y) for x, y in each]
        for name, each in points.items()
        if name.startswith(what)
    }
    return lines(f"Microseconds of processor time a request, by {unit}", curves)


PICTURES: dict[str, Callable[[], str]] = {
    "performance-read.svg": draw_read,
    "performance-anonymous.svg": draw_anonymous,
    "performance-data.svg": partial(draw_growth, "data", "bytes in the session"),
    "performance-cookies.svg": partial(draw_growth, "cookies", "other cookies in the header"),
    "performance-sessions.svg": partial(draw_growth, "sessions", "sessions of the subject"),
}


def redrawn(text: str, drawings: dict[str, Callable[[], str]]) -> str:
    """The page with every drawing made anew.

    Raises:
        LookupError: it has no place for one of them.
    """
    for name, draw in drawings.items():
        place = re.compile(rf"(<!-- drawn: {name} -->\n)(.*?)(\n<!-- end of {name} -->)", re.DOTALL)
        if len(place.findall(text)) != 1:
            raise LookupError(f"There is no place for the drawing {name!r}.")
        before, after = place.split(text, maxsplit=1)[0], place.split(text, maxsplit=1)[-1]
        begin, end = f"<!-- drawn: {name} -->\n", f"\n<!-- end of {name} -->"
        text = f"{before}{begin}\n{draw()}\n{end}{after}"
    return text


def main() -> int:
    """Write what is out of date."""
    if "--write" not in sys.argv:
        sys.stdout.write("python -m bench.cost.page --write\n")
        return 2
    PAGE.write_text(redrawn(PAGE.read_text("utf-8"), PAGE_DRAWINGS), "utf-8")
    README.write_text(redrawn(README.read_text("utf-8"), {"claims": draw_claims}), "utf-8")
    for name, draw in PICTURES.items():
        (IMAGES / name).write_text(draw(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
