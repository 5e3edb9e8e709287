"""`strongroom subject`: what is kept of one person."""

from __future__ import annotations

import argparse
import json

from . import settings
from .output import DONE, NOTHING, Output, plain
from .parsing import Command
from .sessions import subject_of, subject_options


def export(options: argparse.Namespace, out: Output) -> int:
    """Everything that is kept of one person, as JSON."""
    subject = subject_of(options.subject)
    with settings.manager(options, out) as sessions:
        document = sessions.export_subject(subject)
    out.answer(document, json.dumps(document, indent=2).splitlines())
    return DONE


def _erase_options(parser: argparse.ArgumentParser) -> None:
    subject_options(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    settings.add_operator(parser)


def erase(options: argparse.Namespace, out: Output) -> int:
    """Remove everything that is kept of one person."""
    subject = subject_of(options.subject)
    explanation = [
        f"Every session of {plain(subject)} ends, and all that is kept of them is removed.",
        "Nothing brings it back. To see it first: strongroom subject export",
    ]
    with settings.manager(options, out) as sessions:
        question = f"Erase {plain(subject)}?"
        if not out.confirm(question, explanation, yes=options.yes):
            return NOTHING
        removed = sessions.erase_subject(subject, by=settings.operator(options, out))
    things = "1 thing" if removed == 1 else f"{removed:,} things"
    lines = [
        f"Erased {things} that were kept of {plain(subject)}.",
        "Logs, receivers of webhooks and backups have copies of their own. Nothing here keeps",
        "the person from signing in again: delete the account, too.",
    ]
    out.answer({"subject": subject, "erased": removed}, lines)
    return DONE


COMMANDS = (
    Command(
        "subject export",
        "Print everything that is kept of one person, as JSON.",
        """Sessions and remembered browsers, live and ended, and the history, for as long as they
        are kept. Moments are milliseconds UTC. What the application keeps in sessions is sealed
        under the visitor's own token, so only its size is told.""",
        ("strongroom subject export alice",),
        subject_options,
        export,
    ),
    Command(
        "subject erase",
        "End what one person has, and remove what is kept of them.",
        """Sessions and remembered browsers, live and ended, and the history. What stays is a few
        random bytes under a keyed hash, for 90 days: they keep a sign-in that began before out.""",
        ("strongroom subject erase alice --by 'Support, ticket 123'",),
        _erase_options,
        erase,
    ),
)
