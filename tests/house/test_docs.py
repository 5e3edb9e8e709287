"""Documentation is executed: what it shows is what happens, and what it links to is there.

In README.md and docs/**/*.md, the blocks of one file run in their order, in one process and one
temporary directory:

- ```python blocks share one namespace; `await` at the top level is allowed.
- ```console blocks: each `$ strongroom ...` or `$ python -m strongroom ...` runs, and what it
  prints must be what follows, where `...` stands for anything. Other commands are not run.

A block that cannot run says why, in a comment on the line before it:

    <!-- not run: needs a Valkey server -->
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if path.exists()
]
LINKING = sorted({*ROOT.glob("*.md"), *PAGES, *(ROOT / "examples").rglob("*.md")})

FENCE = re.compile(
    r"^(?:<!-- not run:(?P<reason>.*?)-->\n\n?)?"
    r"^(?P<indent> *)```(?P<language>python|console)[^\n]*\n(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
COMMAND = re.compile(r"\$ (strongroom|python -m strongroom)\b")

# Runs the blocks of one file, which come as JSON on standard input. Lines keep their numbers, so
# that a traceback points into the page. A runner keeps one event loop for all blocks.
DRIVER = r"""
import ast, asyncio, inspect, json, subprocess, sys, types
page = types.ModuleType("page")
sys.modules["page"] = page
with asyncio.Runner() as runner:
    for block in json.load(sys.stdin):
        if block["language"] == "console":
            done = subprocess.run(block["command"], shell=True, text=True, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
            print(json.dumps({"line": block["line"], "printed": done.stdout}), file=sys.stderr)
            continue
        source = "\n" * block["line"] + block["body"]
        code = compile(source, block["path"], "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
                       dont_inherit=True)
        result = eval(code, page.__dict__)
        if inspect.iscoroutine(result):
            async def wait(waiting=result):
                return await waiting
            runner.run(wait())
"""


def _blocks(path: Path) -> Iterator[dict[str, object]]:
    """What to run of a page: its python blocks, and its console commands with what they print."""
    text = path.read_text(encoding="utf-8")
    for fence in FENCE.finditer(text):
        if fence["reason"] is not None:
            assert fence["reason"].strip(), f"{path.name}: 'not run:' needs a reason"
            continue
        line = text.count("\n", 0, fence.start("body"))
        body = "\n".join(row.removeprefix(fence["indent"]) for row in fence["body"].splitlines())
        if fence["language"] == "python":
            yield {"language": "python", "path": str(path), "line": line, "body": body}
        else:
            yield from _commands(body, line)


def _commands(body: str, line: int) -> Iterator[dict[str, object]]:
    """Each command of ours in a console block, and the output that is shown for it."""
    for part in re.split(r"^(?=\$ )", body, flags=re.MULTILINE):
        first = line + 1
        line += part.count("\n")
        if not COMMAND.match(part):
            continue
        rows = part.splitlines()
        command = [rows.pop(0)[2:]]
        while command[-1].endswith("\\"):
            command.append(rows.pop(0))
        yield {
            "language": "console",
            "line": first,
            "command": "\n".join(command),
            "shown": "\n".join(rows),
        }


def _pattern(shown: str) -> re.Pattern[str]:
    """The output as a pattern: `...` is anything within its line, alone on a line any lines."""
    rows = []
    for row in shown.strip().splitlines():
        if row.strip() == "...":
            rows.append(r"(?:.*\n)*")
        else:
            rows.append(".*".join(map(re.escape, row.rstrip().split("..."))) + r"[ ]*\n")
    return re.compile("".join(rows))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_shows_is_what_happens(path: Path, tmp_path: Path) -> None:
    """Every block runs, without a warning, and every command prints what the page says."""
    blocks = list(_blocks(path))
    if not blocks:
        return
    # The page's `python` and `strongroom` are this environment's.
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", DRIVER],
        input=json.dumps(blocks),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": search, "NO_COLOR": "1", "COLUMNS": "100"},
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, f"\n{run.stdout}\n{run.stderr}"
    answers = [json.loads(row) for row in run.stderr.splitlines() if row.startswith('{"line": ')]
    printed = {answer["line"]: str(answer["printed"]) for answer in answers}
    for block in blocks:
        if block["language"] != "console":
            continue
        actual = printed[block["line"]].strip() + "\n"
        expected = str(block["shown"])
        assert _pattern(expected).fullmatch(actual if expected.strip() else actual.strip()), (
            f"{path.name}:{block['line']}: $ {block['command']}\nprints\n{actual}\nnot\n{expected}"
        )


@pytest.mark.parametrize("path", LINKING, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    """A link to a file finds the file, and one to a heading finds the heading."""
    text = re.sub(r"^ *```.*?^ *```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "", text)
    links = re.findall(r"\]\(<?([^)>\s]+)", text)
    links += re.findall(r"^\[[^\]]+\]:\s+(\S+)", text, re.MULTILINE)
    links += re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    dead = [link for link in links if not re.match(r"[a-z]+:", link) and not _leads(path, link)]
    assert not dead, f"{path.name} links to what is not there: {', '.join(dead)}"


def _leads(page: Path, link: str) -> bool:
    """Whether a relative link finds its file and, in a page, its heading."""
    name, _, heading = link.partition("#")
    target = (page.parent / name) if name else page
    if not target.exists():
        return False
    return not heading or target.suffix != ".md" or heading in _headings(target)


def _headings(page: Path) -> set[str]:
    """The anchors of a page's headings, made as the usual forges make them."""
    titles = re.findall(r"^#{1,6} +(.*?) *$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_reader_of_pages_reads(tmp_path: Path) -> None:
    """Blocks are found with their lines, marked ones are left out, and `...` matches anything."""
    page = tmp_path / "page.md"
    page.write_text(
        "# T\n\n```python\nx = 1\n```\n\n<!-- not run: no server -->\n```python\nboom()\n```\n"
        "\n```console\n$ pip install x\nok\n$ strongroom policy \\\n  show\nidle: ...\n```\n",
        encoding="utf-8",
    )
    python, console = _blocks(page)
    assert (python["body"], python["line"]) == ("x = 1", 3)
    assert console["command"] == "policy".join(["strongroom ", " \\\n  show"])
    assert (console["shown"], console["line"]) == ("idle: ...", 15)
    assert _pattern("idle: ...\n...\nend").fullmatch("idle: 30 min\na\nb\nend\n")
    assert not _pattern("idle: ...").fullmatch("absolute: 8 h\n")
