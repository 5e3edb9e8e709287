"""Events and store operations for OpenTelemetry (`pip install "strongroom[traces]"`).

    sinks = [LoggingSink(), OpenTelemetrySink()]
    store = TracedStore(open_async_store(url))

`OpenTelemetrySink` counts events in the meter `strongroom` and adds each one to the span in which
it happened, with the semantic conventions' attributes: `session.id`, `session.previous_id`,
`user.id`, `client.address`, `user_agent.original` is never sent. `TracedStore` makes a client span
of each store operation, with `db.operation.name`, and no parameter of it.

The SDK, its exporters and whom they send to are the application's to choose.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from strongroom.core.errors import ConfigurationError
from strongroom.core.events import Event

NAME = "strongroom"
_STARTS = frozenset({"session_created"})
_ENDS = frozenset({"session_ended", "session_logout", "session_expired"})


class OpenTelemetrySink:
    """Counts events, and tells them in the current span.

    `subjects` False leaves `user.id` and `client.address` out of spans: traces often reach more
    people than a security log does.

    Raises:
        ConfigurationError: opentelemetry-api is not installed.
    """

    def __init__(self, *, meter_provider: Any = None, subjects: bool = False) -> None:
        api = _api()
        meter = api.metrics.get_meter(NAME, meter_provider=meter_provider)
        self._trace = api.trace
        self._subjects = subjects
        self._events = meter.create_counter(
            "strongroom.events", unit="{event}", description="Session events by name."
        )
        self._live = meter.create_up_down_counter(
            "strongroom.sessions.balance",
            unit="{session}",
            description="Sessions begun less sessions ended, as this process saw them.",
        )

    def __call__(self, event: Event) -> None:
        """Count the event, and add it to the span that is open."""
        self._events.add(1, {"event.name": event.name, "severity": event.severity})
        if event.name in _STARTS or event.name in _ENDS:
            self._live.add(1 if event.name in _STARTS else -1)
        span = self._trace.get_current_span()
        if span.is_recording():
            span.add_event(conventional_name(event), self._attributes(event))

    def _attributes(self, event: Event) -> dict[str, str | int | float | bool]:
        told: dict[str, object] = {
            "session.id": event.session_id,
            "event.severity": event.severity,
            "strongroom.reason": getattr(event, "reason", None),
            "session.previous_id": getattr(event, "previous_id", None),
        }
        if self._subjects:
            told |= {"user.id": event.subject, "client.address": event.address}
        return {key: value for key, value in told.items() if isinstance(value, str | int | float)}


def conventional_name(event: Event) -> str:
    """The name in the semantic conventions where there is one, else ours with a prefix."""
    if event.name in _STARTS:
        return "session.start"
    if event.name in _ENDS:
        return "session.end"
    return f"strongroom.{event.name}"


class TracedStore:
    """A store, sync or async, whose operations are client spans. Goes around any other."""

    def __init__(self, store: object, *, system: str = "other_sql") -> None:
        self._store = store
        self._tracer = _api().trace.get_tracer(NAME)
        self._attributes = {"db.system.name": system}

    def __getattr__(self, verb: str) -> Any:
        found = getattr(self._store, verb)
        if verb.startswith("_") or not callable(found):
            return found
        return _traced(self._tracer, verb, found, self._attributes)


def _traced(tracer: Any, verb: str, call: Any, attributes: dict[str, str]) -> Any:
    """The call within a span of its own; what it raises is recorded by its type alone."""
    from inspect import iscoroutinefunction

    told = {**attributes, "db.operation.name": verb}

    def span() -> Any:
        return tracer.start_as_current_span(
            f"strongroom {verb}", attributes=told, record_exception=False
        )

    async def awaited(*arguments: Any) -> Any:
        with span():
            return await call(*arguments)

    def called(*arguments: Any) -> Any:
        with span():
            return call(*arguments)

    return awaited if iscoroutinefunction(call) else called


def _api() -> Any:
    try:
        from opentelemetry import metrics, trace
    except ImportError:
        raise ConfigurationError(
            "Traces need the package opentelemetry-api, which is not installed.",
            why="Nothing would be told to the collector.",
            hint='Install it: pip install "strongroom[traces]"',
        ) from None
    both = ModuleType("opentelemetry")
    both.metrics, both.trace = metrics, trace  # type: ignore[attr-defined]
    return both
