"""After the response: late data and events; and streams of events end with their session (P16)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

from strongroom.integrations.exchange_sync import Exchange


def follow(response: Any, exchange: Exchange) -> None:
    """Do what is due once the response is sent, and end a stream of events with its session."""
    when_closed(response, exchange.finish)
    if is_event_stream(response) and exchange.visit.record is not None and not response.is_async:
        every = exchange.manager.policy.max_staleness.total_seconds()
        parts = response.streaming_content
        response.streaming_content = _while_alive(parts, exchange.still_lives, every)


def when_closed(response: Any, call: Callable[[], None]) -> None:
    """Call it when the server is done with the response, first of all."""
    response._resource_closers.insert(0, call)


def is_event_stream(response: Any) -> bool:
    """Whether the response stays open and pushes."""
    told = str(response.headers.get("Content-Type", ""))
    return bool(response.streaming) and told.startswith("text/event-stream")


def _while_alive(
    parts: Iterator[bytes], still_lives: Callable[[], bool], every: float
) -> Iterator[bytes]:
    asked_at = monotonic()
    for part in parts:
        if monotonic() - asked_at >= every:
            asked_at = monotonic()
            if not still_lives():
                return
        yield part
