"""`strongroom explain`: why something happened, what is innocent about it, and what to do."""

from __future__ import annotations

import argparse
import difflib
import json
from typing import Any

from strongroom.core.data import is_dict
from strongroom.core.errors import UsageError
from strongroom.core.explanations import EXPLANATIONS, Explanation
from strongroom.core.responses import DEFAULT_RESPONSES, ResponseRule

from .output import DONE, Output, plain
from .parsing import Command


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "event",
        metavar="EVENT",
        nargs="?",
        help="an event's or a signal's name, or a line of the event log; - reads such a line",
    )


def explain(options: argparse.Namespace, out: Output) -> int:
    """Explain an event or a signal, or one that happened; without one, list them."""
    if options.event is None:
        return _all(out)
    text = out.world.input.readline() if options.event == "-" else str(options.event)
    name, event = _understood(text.strip())
    told = EXPLANATIONS.get(name)
    if told is None:
        raise _unknown(name)
    rows = [rule for rule in DEFAULT_RESPONSES.rules if rule.signal == name]
    document = {
        "name": name,
        "means": told.means,
        "innocent": told.innocent,
        "responses": [
            {"from_score": rule.at_least, "responses": sorted(rule.responses)} for rule in rows
        ],
        "do": told.do,
        "event": event or None,
    }
    out.answer(document, _lines(name, told, rows, event, out))
    return DONE


def _lines(
    name: str,
    told: Explanation,
    rows: list[ResponseRule],
    event: dict[str, Any],
    out: Output,
) -> list[str]:
    lines = [out.heading(name), *_paragraph("What it means", told.means)]
    if reason := event.get("why"):
        lines += _paragraph("This time", plain(reason, 400))
    lines += _paragraph("How honest people cause it", told.innocent)
    for rule in rows:
        what = ", ".join(sorted(each.value for each in rule.responses)) or "record"
        lines += _paragraph(f"What the defaults do from a score of {rule.at_least:g}", what)
    lines += _paragraph("What to do", told.do)
    if event:
        shown = [(key, value) for key, value in event.items() if key not in ("event", "why")]
        lines += ["", out.heading("The event"), *out.pairs(shown)]
    return lines


def _paragraph(title: str, text: str) -> list[str]:
    from textwrap import wrap

    return ["", f"{title}:", *(f"  {line}" for line in wrap(text, 76))]


def _understood(text: str) -> tuple[str, dict[str, Any]]:
    """The name that is asked for, and the event that it is in if it was one.

    Raises:
        UsageError: it looks like a line of a log and is none.
    """
    if not text.startswith("{"):
        return text, {}
    try:
        event: object = json.loads(text)
    except ValueError:
        event = None
    if not is_dict(event) or not isinstance(event.get("event"), str):
        raise UsageError(
            "That is no line of the event log.",
            why="Such a line is JSON, and its first field is the event's name.",
            hint="Quote the whole line, or give it on standard input: ... | strongroom explain -",
        )
    name = event.get("signal") or event["event"]
    # OWASP's layout has the subject behind the name.
    return str(name).partition(":")[0], {str(key): value for key, value in event.items()}


def _unknown(name: str) -> UsageError:
    close = difflib.get_close_matches(name, EXPLANATIONS, 1)
    return UsageError(
        f"There is no event or signal {plain(name)!r}.",
        hint=f"Did you mean {close[0]}?" if close else "List them: strongroom explain",
    )


def _all(out: Output) -> int:
    rows = [(name, told.means) for name, told in sorted(EXPLANATIONS.items())]
    document = {"explained": [name for name, _means in rows]}
    out.answer(document, out.table(("NAME", "WHAT IT MEANS"), rows))
    return DONE


COMMANDS = (
    Command(
        "explain",
        "Say why something happened, and what to do.",
        """Takes the name of an event or a signal, or a whole line of the event log, and says what
        it means, how honest people cause it, what the default policy does about it, and what you
        can do. Without a name it lists what it knows.""",
        (
            "strongroom explain authn_token_reuse",
            "strongroom explain impossible_travel --json",
        ),
        _options,
        explain,
    ),
)
