"""Spikes among the events of this process, as events of their own."""

from __future__ import annotations

from strongroom.core.events import Event, EventSink, SignalRaised
from strongroom.core.spikes import Spikes


class SpikeSink:
    """Counts events, and tells `sink` when a minute has far more of a kind than usual.

        log = LoggingSink()
        sinks = [log, SpikeSink(log)]

    A spike is nobody's: the event has no subject and no session.
    """

    def __init__(self, sink: EventSink, spikes: Spikes | None = None) -> None:
        self._sink = sink
        self._spikes = spikes or Spikes()

    def __call__(self, event: Event) -> None:
        """Count the event."""
        signal = self._spikes.count(event.name, event.at)
        if signal is not None:
            self._sink(
                SignalRaised(
                    at=event.at,
                    signal=signal.name,
                    score=round(signal.score, 3),
                    why=signal.reason,
                    evidence=signal.evidence,
                    responses=("record",),
                )
            )
