"""Events as JSON lines in Python's own logging, under the name `strongroom.events`.

One event is one line; control characters are escaped by JSON, so a client cannot forge a line
(ASVS 16.4.1). Times are RFC 3339 in UTC (ASVS 16.2.2). Tokens are not in events to begin with.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from strongroom.core.events import Event

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.CRITICAL}


class LoggingSink:
    """Writes every event to a logger, at the level of its severity."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("strongroom.events")

    def __call__(self, event: Event) -> None:
        """Write the event, if the logger wants its level."""
        level = _LEVELS.get(event.severity, logging.WARNING)
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", line(event))


def line(event: Event) -> str:
    """The event as one line of JSON."""
    told = event.as_dict()
    told["at"] = (
        datetime.fromtimestamp(event.at / 1000, UTC).isoformat(timespec="milliseconds")
    ).replace("+00:00", "Z")
    return json.dumps(told, ensure_ascii=True, default=str)
