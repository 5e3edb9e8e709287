"""The checks, one module per family. Importing this package fills the table in `verdict`."""

from __future__ import annotations

from . import (
    cookies,
    csrf,
    csrf_session,
    ends,
    fixation,
    races,
    sessions,
    timeouts,
    tokens,
    transport,
    trust,
)

__all__ = [
    "cookies",
    "csrf",
    "csrf_session",
    "ends",
    "fixation",
    "races",
    "sessions",
    "timeouts",
    "tokens",
    "transport",
    "trust",
]
