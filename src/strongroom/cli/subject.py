"""`strongroom subject`: what is kept of one person."""

from __future__ import annotations

import argparse
import json

from . import settings
from .output import DONE, Output
from .parsing import Command
from .sessions import subject_of, subject_options


def export(options: argparse.Namespace, out: Output) -> int:
    """Everything that is kept of one person, as JSON."""
    subject = subject_of(options.subject)
    with settings.manager(options, out) as sessions:
        document = sessions.export_subject(subject)
    out.answer(document, json.dumps(document, indent=2).splitlines())
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
)
