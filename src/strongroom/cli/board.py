"""What `strongroom watch` shows: rates, spikes and the latest signals, from lines of an event log.

Pure: lines and moments go in, rows come out. A line that is no event is counted and left out.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from strongroom.core.data import is_dict
from strongroom.core.signals import MINUTE, Signal
from strongroom.core.spikes import RULES, Spikes

LATEST = 200
SHOWN_MINUTES = 30
_BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Notable:
    """Something that somebody should see: a warning, an alarm, a signal, a spike."""

    at: int
    severity: str
    name: str
    subject: str
    address: str
    device: str
    why: str


@dataclass(slots=True)
class Board:
    """Everything that the screen shows. Feed it lines as they come."""

    spikes: Spikes = field(default_factory=Spikes)
    notable: deque[Notable] = field(default_factory=lambda: deque[Notable](maxlen=LATEST))
    minutes: dict[int, Counter[str]] = field(default_factory=dict[int, Counter[str]])
    totals: Counter[str] = field(default_factory=Counter[str])
    strange: int = 0
    """Lines that are no events."""

    def feed(self, line: str) -> list[Notable]:
        """Take in a line of the log -> what is notable about it."""
        event = _event(line)
        if event is None:
            self.strange += bool(line.strip())
            return []
        name, at = event["event"], _moment(event["at"])
        self.totals[name] += 1
        self._count(at // MINUTE, name)
        found = list(self._notable(event, at))
        self.notable.extend(found)
        return found

    def rate(self, name: str, now: int) -> int:
        """How many of them in the last sixty seconds, at a minute's grain."""
        minute = now // MINUTE
        return self.minutes.get(minute, Counter[str]())[name] or self.minutes.get(
            minute - 1, Counter[str]()
        ).get(name, 0)

    def spark(self, name: str, now: int) -> str:
        """The last half hour as a row of bars, the newest to the right."""
        minute = now // MINUTE
        counts = [
            self.minutes.get(each, Counter[str]())[name]
            for each in range(minute - SHOWN_MINUTES + 1, minute + 1)
        ]
        most = max(counts, default=0)
        return "".join(_BARS[-(-each * 8 // most) if most else 0] for each in counts)

    def names(self) -> list[str]:
        """What to show rates of: what can spike first, then whatever else happened most."""
        others = [name for name, _count in self.totals.most_common() if name not in RULES]
        return [*RULES, *others]

    def _count(self, minute: int, name: str) -> None:
        self.minutes.setdefault(minute, Counter[str]())[name] += 1
        if len(self.minutes) > 2 * SHOWN_MINUTES:
            for old in sorted(self.minutes)[:-SHOWN_MINUTES]:
                del self.minutes[old]

    def _notable(self, event: dict[str, Any], at: int) -> Iterator[Notable]:
        spike = self.spikes.count(event["event"], at)
        if spike is not None:
            yield _of_spike(spike, at)
        severity = str(event.get("severity", "info"))
        if severity == "info" and "signal" not in event:
            return
        why = event.get("why") or event.get("reason") or event.get("rule") or event.get("how") or ""
        yield Notable(
            at,
            severity,
            str(event.get("signal") or event["event"]),
            str(event.get("subject") or ""),
            str(event.get("address") or ""),
            str(event.get("device") or ""),
            str(why),
        )


def _of_spike(signal: Signal, at: int) -> Notable:
    return Notable(at, "critical", signal.name, "", "", "", signal.reason)


def _event(line: str) -> dict[str, Any] | None:
    # A logging format may put its own words before the line of JSON.
    start = line.find("{")
    if start < 0:
        return None
    try:
        event: object = json.loads(line[start:])
        if not is_dict(event) or not isinstance(event.get("event"), str) or "at" not in event:
            return None
        _moment(event["at"])
    except (ValueError, OverflowError):
        return None
    return {str(key): value for key, value in event.items()}


def _moment(at: object) -> int:
    """A moment as the log has it, RFC 3339 or milliseconds, in milliseconds.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(at, int):
        return at
    return int(datetime.fromisoformat(str(at)).timestamp() * 1000)
