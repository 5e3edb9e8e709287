"""Events as Prometheus metrics (`pip install "strongroom[metrics]"`).

    manager = SessionManager(store, keys=..., sinks=[LoggingSink(), PrometheusSink()])

Labels come from closed sets (event names, reasons, signal names that exist), so no client can make
the number of series grow; anything else counts as "other". Nothing about a person is in a metric.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from strongroom.core.errors import ConfigurationError
from strongroom.core.events import Event, catalogue
from strongroom.core.record import EndReason

OTHER = "other"
_ENDS = frozenset({"session_ended", "session_logout", "session_expired"})


class PrometheusSink:
    """Counts events. `registry` is prometheus_client's default one unless given.

    Metrics: `strongroom_events_total{event,severity}`, `strongroom_sessions_ended_total{reason}`,
    `strongroom_sign_ins_total{outcome}`, `strongroom_signals_total{signal}`,
    `strongroom_last_event_timestamp_seconds{severity}`.

    Raises:
        ConfigurationError: prometheus_client is not installed.
    """

    def __init__(self, registry: Any = None) -> None:
        client = _client()
        options = {} if registry is None else {"registry": registry}
        self._events = client.Counter(
            "strongroom_events", "Session events by name.", ["event", "severity"], **options
        )
        self._ended = client.Counter(
            "strongroom_sessions_ended", "Sessions that ended, by reason.", ["reason"], **options
        )
        self._sign_ins = client.Counter(
            "strongroom_sign_ins", "Sign-ins that succeeded or failed.", ["outcome"], **options
        )
        self._signals = client.Counter(
            "strongroom_signals", "Signals raised, by name.", ["signal"], **options
        )
        self._last = client.Gauge(
            "strongroom_last_event_timestamp_seconds",
            "When the last event of this severity happened.",
            ["severity"],
            **options,
        )
        self._known = frozenset(each.name for each in catalogue())
        self._reasons = frozenset(each.value for each in EndReason)
        for outcome in ("success", "failure"):
            self._sign_ins.labels(outcome)  # there from the start, so that a rate begins at zero

    def __call__(self, event: Event) -> None:
        """Count the event."""
        name = event.name if event.name in self._known else OTHER
        self._events.labels(name, event.severity).inc()
        self._last.labels(event.severity).set(event.at / 1000)
        if name in _ENDS:
            reason = str(getattr(event, "reason", "logout"))
            self._ended.labels(reason if reason in self._reasons else OTHER).inc()
        elif name == "authn_login_success":
            self._sign_ins.labels("success").inc()
        elif name == "authn_login_fail":
            self._sign_ins.labels("failure").inc()
        signal = getattr(event, "signal", None)
        if isinstance(signal, str):
            self._signals.labels(signal if signal in SIGNALS else OTHER).inc()


SIGNALS = frozenset(
    "new_device new_country new_network impossible_travel after_failures sign_in_burst "
    "unusual_time sign_in_risk agent_changed address_changed two_places other_subject "
    "session_creation_spike csrf_spike token_guessing failed_sign_in_spike sign_in_spike".split()
)
"""The names that signals have; a test holds them against the core."""


class GaugesOf:
    """A collector of numbers that something tells when it is asked, such as a near cache's.

        registry.register(GaugesOf("strongroom_near_cache", cache.stats))

    `tell` gives names and numbers (True counts as 1); what is no number is left out.
    """

    def __init__(self, prefix: str, tell: Callable[[], Mapping[str, object]]) -> None:
        self._prefix = prefix
        self._tell = tell
        _client()
        from prometheus_client.core import GaugeMetricFamily

        self._metric: Any = GaugeMetricFamily

    def collect(self) -> Iterable[Any]:
        """What the registry asks at each scrape."""
        for name, value in self._numbers():
            yield self._metric(f"{self._prefix}_{name}", f"{name} of {self._prefix}.", value=value)

    def _numbers(self) -> Iterator[tuple[str, float]]:
        for name, value in self._tell().items():
            if isinstance(value, int | float):
                yield name, float(value)


def _client() -> Any:
    try:
        import prometheus_client
    except ImportError:
        raise ConfigurationError(
            "Metrics need the package prometheus_client, which is not installed.",
            why="Events would not be counted.",
            hint='Install it: pip install "strongroom[metrics]"',
        ) from None
    return prometheus_client
