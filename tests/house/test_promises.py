"""What pages say about the code is drawn from the code: promises, lifecycle, policy, events, CSRF.

    python -m tests.house.test_promises            every promise with its tests, by name
    python -m tests.house.test_promises P6         the tests of one promise
    python -m tests.house.test_promises --write    draw every table in docs/ anew

A table stands between two comments in its page. What a person wrote in it (a promise's words, a
setting's meaning) is kept; everything else is drawn. A test shows a promise if its docstring, its
class's or its module's has the promise's number.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from datetime import timedelta
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.assurance import NIST_AAL
from strongroom.core.csrf import DECISIONS
from strongroom.core.events import Event, catalogue
from strongroom.core.explanations import EXPLANATIONS
from strongroom.core.lifecycle import TABLE
from strongroom.core.policy import PROFILES, SessionPolicy
from strongroom.core.record import EndReason, Kind
from strongroom.core.responses import DEFAULT_RESPONSES
from strongroom.telemetry.metrics import SIGNALS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "strongroom"
SHOWN_IN = (ROOT / "tests", SOURCE / "testing" / "contract")

PROMISES = tuple(f"P{number}" for number in range(1, 28))
LATER: Mapping[str, str] = {}
"""Promises that nothing keeps yet, each with the reason. Parts are listed in the page itself."""

_NUMBER = re.compile(r"\bP(\d{1,2})\b")


@dataclass(frozen=True, order=True)
class Shown:
    """A place that shows a promise: a test, or a class or module whose tests all do."""

    path: str
    name: str
    sentence: str


@cache
def shown() -> dict[str, list[Shown]]:
    """The tests of each promise, found in docstrings."""
    found: dict[str, list[Shown]] = {promise: [] for promise in PROMISES}
    for path in sorted(each for root in SHOWN_IN for each in root.rglob("*.py")):
        if path == Path(__file__):
            continue  # Its examples name promises and show none.
        for name, docstring in _docstrings(ast.parse(path.read_text(encoding="utf-8"))):
            sentence = docstring.strip().partition("\n")[0]
            place = Shown(path.relative_to(ROOT).as_posix(), name, sentence)
            for number in dict.fromkeys(_NUMBER.findall(docstring)):
                if f"P{number}" in found:
                    found[f"P{number}"].append(place)
    return found


def _docstrings(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Docstrings of tests, of classes that hold tests, and of modules that do."""
    tests = [each for each in ast.walk(module) if _is_test(each)]
    holders = [each for each in ast.walk(module) if isinstance(each, ast.ClassDef)]
    holders = [each for each in holders if any(_is_test(child) for child in each.body)]
    for node in [*([module] if tests else []), *holders, *tests]:
        docstring = ast.get_docstring(node)  # type: ignore[arg-type]
        if docstring:
            yield getattr(node, "name", ""), docstring


def _is_test(node: ast.AST) -> bool:
    is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return is_function and node.name.startswith("test_")  # type: ignore[attr-defined]


# Drawing. Each function takes what stands in the page now, and gives what should.


def draw_lifecycle(_: str) -> str:
    """Which op leads from which kind to which, as text."""
    first = " | ".join(_told(kind) for kind in TABLE)
    lines = [f"absent ── insert ──> {first}", ""]
    for kind, row in TABLE.items():
        ways: dict[str, list[str]] = {}
        for verb, kinds in row.items():
            ways.setdefault(_leads_to(kind, kinds), []).append(verb)
        for place, (target, verbs) in enumerate(ways.items()):
            name = _told(kind) if place == 0 else ""
            lines.append(f"{name:<14}── {', '.join(verbs):<30} ──> {target}")
        lines.append("")
    lines.append("ended         nothing leads out of it; swept after its history is kept")
    return "\n".join(["```text", *lines, "```"])


def _leads_to(kind: Kind, kinds: frozenset[Kind]) -> str:
    if not kinds:
        return "ended"
    return "itself" if kinds == {kind} else " | ".join(_told(each) for each in sorted(kinds))


def _told(kind: Kind) -> str:
    return kind.name.lower().replace("_", " ")


def draw_promises(now: str) -> str:
    """Each promise, its words as they stand, and the files that show it."""
    words = _column(now, 2)
    rows = []
    for promise, places in shown().items():
        files = sorted({place.path for place in places})
        links = ", ".join(f"[{'/'.join(Path(each).parts[-2:])}](../{each})" for each in files)
        rows.append((f"**{promise}**", words.get(promise, ""), links or LATER.get(promise, "")))
    return _table(("", "what is promised", "shown by"), rows)


def draw_policy(now: str) -> str:
    """Each field of the policy with its default; meanings as they stand."""
    meaning = _column(now, 3)
    rows = [
        (f"`{each.name}`", _default(each), meaning.get(each.name, ""))
        for each in fields(SessionPolicy)
    ]
    return _table(("field", "default", "what it is"), rows)


def _default(setting: Field[Any]) -> str:
    if setting.default_factory is not MISSING:
        made = setting.default_factory()
        return "`{}`" if made == {} else f"`{type(made).__name__}()`"
    return _value(setting.default)


def _value(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case timedelta():
            return _span(value)
        case Enum():
            return f"`{type(value).__name__}.{value.name}`"
        case _ if value is NIST_AAL:
            return "`NIST_AAL`"
        case str() | tuple():
            return f"`{value!r}`" if value else "none"
        case _:
            return str(value)


def _span(duration: timedelta) -> str:
    for name, size in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        count, rest = divmod(int(duration.total_seconds()), size)
        if count and not rest:
            return f"{count} {name}{'s' if count > 1 else ''}"
    return str(duration)


def draw_profiles(_: str) -> str:
    """Each profile with its limits and its source."""
    rows = []
    for name, profile in PROFILES.items():
        limits = [
            f"{key} {_value(value)}" if key != "csrf" else "a token with every body"
            for key, value in profile.values.items()
        ]
        rows.append((f"`{name}()`", ", ".join(limits), profile.source))
    return _table(("profile", "limits", "source"), rows)


def draw_decisions(_: str) -> str:
    """Every decision that the cross-site check can come to."""
    rows = [(each.verdict, f"`{each.rule}`", each.reason) for each in DECISIONS.values()]
    return _table(("decision", "rule", "reason"), rows)


def draw_events(_: str) -> str:
    """Every event, with its severity and the fields of its own."""
    rows = []
    for event in catalogue():
        sentence = (event.__doc__ or "").strip().partition("\n")[0].replace("|", "\\|")
        rows.append((f"`{event.name}`", event.severity, ", ".join(_own(event)), sentence))
    return _table(("event", "severity", "beside the usual", "when"), rows)


def _own(event: type[Event]) -> list[str]:
    usual = {each.name for each in fields(Event)}
    return [f"`{each.name}`" for each in fields(event) if each.name not in usual]


def draw_signals(_: str) -> str:
    """Every signal: what it means, what is innocent about it, and what the defaults do."""
    rows = []
    for name in sorted(SIGNALS):
        told = EXPLANATIONS[name]
        answers = [
            f"from {rule.at_least:g}: {', '.join(sorted(rule.responses)) or 'record'}"
            for rule in DEFAULT_RESPONSES.rules
            if rule.signal == name
        ]
        rows.append((f"`{name}`", told.means, told.innocent, "; ".join(answers) or "record"))
    return _table(("signal", "what it means", "how honest people cause it", "defaults"), rows)


def draw_reasons(_: str) -> str:
    """Every reason why a session can end."""
    return ", ".join(f"`{reason.value}`" for reason in EndReason) + "."


DRAWINGS: Mapping[tuple[str, str], Callable[[str], str]] = {
    ("concepts.md", "lifecycle"): draw_lifecycle,
    ("promises.md", "promises"): draw_promises,
    ("policy.md", "fields"): draw_policy,
    ("policy.md", "profiles"): draw_profiles,
    ("csrf.md", "decisions"): draw_decisions,
    ("events.md", "catalogue"): draw_events,
    ("events.md", "reasons"): draw_reasons,
    ("signals.md", "signals"): draw_signals,
}


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _column(table: str, place: int) -> dict[str, str]:
    """What stands in one column of a table, by its first column's bare text."""
    cells = [re.split(r"(?<!\\)\|", line) for line in table.splitlines() if line.startswith("|")]
    return {row[1].strip(" `*"): row[place].strip() for row in cells if len(row) > place + 1}


def _redrawn(page: str, name: str, draw: Callable[[str], str]) -> tuple[str, str]:
    """The page as it is, and as it is with the drawing made anew."""
    text = (DOCS / page).read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- drawn: {name} -->\n)(.*?)(\n<!-- end of {name} -->)", re.DOTALL)
    assert len(pattern.findall(text)) == 1, f"docs/{page} has no place for the drawing {name!r}"
    return text, pattern.sub(lambda m: m[1] + "\n" + draw(m[2]) + "\n" + m[3], text)


@pytest.mark.parametrize(("page", "name"), DRAWINGS, ids=["/".join(each) for each in DRAWINGS])
def test_a_drawing_in_a_page_is_up_to_date(page: str, name: str) -> None:
    """What stands in the page is what the code says now."""
    text, fresh = _redrawn(page, name, DRAWINGS[page, name])
    assert text == fresh, (
        f"The drawing {name!r} in docs/{page} is out of date; draw it anew with: "
        "python -m tests.house.test_promises --write"
    )


@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_has_its_tests(promise: str) -> None:
    """Nothing is promised that no test shows, unless it is said to come later, and why."""
    places = shown()[promise]
    if promise in LATER:
        assert LATER[promise].strip(), f"{promise} comes later, and nobody says why"
        assert not places, f"{promise} has tests now: take it out of LATER"
        return
    assert places, (
        f"No test shows {promise}. Put its number into the docstring of the one that does."
    )


@pytest.mark.parametrize(
    ("page", "name", "place"), [("promises.md", "promises", 2), ("policy.md", "fields", 3)]
)
def test_a_drawing_leaves_no_words_out(page: str, name: str, place: int) -> None:
    """Each promise has its words, and each setting its meaning."""
    text, fresh = _redrawn(page, name, DRAWINGS[page, name])
    del text
    rows = _column(fresh.partition(f"<!-- drawn: {name} -->")[2].partition("<!-- end")[0], place)
    silent = [first for first, words in rows.items() if not words]
    assert not silent, f"docs/{page} says nothing about {', '.join(silent)}"


def test_every_rule_that_the_code_cites_is_in_the_protocol() -> None:
    """Whoever meets "(D1)" in the code finds D1 in docs/protocol.md."""
    page = (DOCS / "protocol.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^- \*\*([A-H]\d)\*\*", page, re.MULTILINE))
    cited: dict[str, str] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for group in re.findall(r"PROTOCOL ((?:[A-H]\d(?:, )?)+)|\(((?:[A-H]\d(?:, )?)+)\)", text):
            for rule in re.findall(r"[A-H]\d", "".join(group)):
                cited.setdefault(rule, path.name)
    missing = {rule: where for rule, where in cited.items() if rule not in told}
    assert not missing, f"docs/protocol.md lacks rules that the code cites: {missing}"


def test_every_standard_that_the_code_cites_is_explained() -> None:
    """Whoever meets "OWASP-C5" or "CK-3" finds in docs/standards.md what it asks for."""
    told = set(_column((DOCS / "standards.md").read_text(encoding="utf-8"), 3))
    cited: dict[str, str] = {}
    for path in sorted(each for root in (SOURCE, ROOT / "tests") for each in root.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for rule in re.findall(r"\b(?:OWASP-[CS]|NIST-B|CK-)\d+", text):
            cited.setdefault(rule, path.name)
    missing = {rule: where for rule, where in cited.items() if rule not in told}
    assert not missing, f"docs/standards.md does not explain: {missing}"


def test_every_requirement_of_the_chapter_is_answered() -> None:
    """ASVS 5.0 chapter 7 has nineteen requirements, and the page answers each once."""
    page = (DOCS / "asvs.md").read_text(encoding="utf-8")
    answered = re.findall(r"^\| \*\*(7\.\d\.\d)\*\* ", page, re.MULTILINE)
    sizes = {1: 3, 2: 4, 3: 2, 4: 5, 5: 3, 6: 2}
    assert answered == [f"7.{part}.{n + 1}" for part, size in sizes.items() for n in range(size)]


def main(arguments: list[str]) -> int:
    """Draw, or list."""
    if arguments == ["--write"]:
        for (page, name), draw in DRAWINGS.items():
            text, fresh = _redrawn(page, name, draw)
            if text != fresh:
                (DOCS / page).write_text(fresh, encoding="utf-8")
                print(f"drew {name} in docs/{page}")
        return 0
    unknown = [each for each in arguments if each not in PROMISES]
    if unknown:
        print(__doc__)
        return 2
    for promise, places in shown().items():
        if not arguments or promise in arguments:
            print(f"{promise}" + ("" if places else "  no test"))
            for place in sorted(places):
                print(f"  {place.path}{'::' if place.name else ''}{place.name}  {place.sentence}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
