"""Events in the layout of the OWASP Logging Vocabulary, for whatever reads that.

    {"datetime": "2026-11-25T09:00:00.000Z", "appid": "shop", "event": "authn_login_success:alice",
     "level": "INFO", "description": "Somebody signed in ...", "source_ip": "192.0.2.7", ...}

The vocabulary puts the most important argument behind the event's name; here that is the subject,
percent-encoded, so that a subject with a comma or a colon cannot forge another argument. A session
is named by a keyed hash where a key is given (ASVS 16.2.5 asks it of tokens, and there are none in
events: the public id would do), so that a log alone does not link to a list of sessions.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from strongroom.core.events import Event

_LEVELS = {"info": "INFO", "warning": "WARN", "critical": "CRITICAL"}
_NUMBERS = {"INFO": logging.INFO, "WARN": logging.WARNING, "CRITICAL": logging.CRITICAL}
_TOLD = frozenset({"event", "severity", "at", "session_id", "subject", "address", "device"})


class OwaspSink:
    """Writes events in OWASP's layout to a logger: one line of JSON each.

    `appid` names the application, `hostname` the machine, if you want it in each line.
    `reference_key`, at least 16 bytes, makes the session's reference a keyed hash.
    """

    def __init__(
        self,
        appid: str,
        *,
        logger: logging.Logger | None = None,
        hostname: str | None = None,
        reference_key: bytes | None = None,
    ) -> None:
        self._appid = appid
        self._logger = logger or logging.getLogger("strongroom.owasp")
        self._hostname = hostname
        self._key = reference_key

    def __call__(self, event: Event) -> None:
        """Write the event, if the logger wants its level."""
        told = self.entry(event)
        number = _NUMBERS[told["level"]]
        if self._logger.isEnabledFor(number):
            self._logger.log(number, "%s", json.dumps(told, ensure_ascii=True, default=str))

    def entry(self, event: Event) -> dict[str, Any]:
        """The event as the vocabulary has it; what is unknown is left out."""
        fields = event.as_dict()
        who = quote(event.subject, safe="@._-") if event.subject else ""
        entry = {
            "datetime": utc(event.at),
            "appid": self._appid,
            "event": f"{event.name}:{who}" if who else event.name,
            "level": _LEVELS.get(event.severity, "WARN"),
            "description": described(event),
            "useragent": event.device,
            "source_ip": event.address,
            "hostname": self._hostname,
            "session": self._reference(event.session_id),
            "details": {key: value for key, value in fields.items() if key not in _TOLD},
        }
        return {key: value for key, value in entry.items() if value not in (None, {}, "")}

    def _reference(self, session_id: str | None) -> str | None:
        if session_id is None or self._key is None:
            return session_id
        return hashlib.blake2b(session_id.encode(), key=self._key, digest_size=16).hexdigest()


def utc(milliseconds: int) -> str:
    """A moment as RFC 3339 in UTC, with milliseconds (ASVS 16.2.2)."""
    told = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    return told.replace("+00:00", "Z")


def described(event: Event) -> str:
    """What the event is, in a sentence: the first line of its own documentation."""
    return (inspect.getdoc(type(event)) or event.name).splitlines()[0]
