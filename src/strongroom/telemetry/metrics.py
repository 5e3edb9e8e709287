"""Events as Prometheus metrics (`pip install "strongroom[metrics]"`).

    manager = SessionManager(store, keys=..., sinks=[LoggingSink(), PrometheusSink()])

Labels come from closed sets (event names, reasons, signal names that exist), so no client can make
the number of series grow; anything else counts as "other". Nothing about a person is in a metric.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
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


class NearCacheCollector:
    """The state of this process's near cache, told when it is scraped.

        registry.register(NearCacheCollector(manager.near_cache))

    `state` is a manager's `near_cache` or a near cache's own `stats`. A process without a near
    cache has no such metrics. Durations are in seconds.

    Raises:
        ConfigurationError: prometheus_client is not installed.
    """

    def __init__(self, state: Callable[[], Any]) -> None:
        self._state = state
        _client()
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        self._kinds: dict[str, Any] = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}

    def collect(self) -> Iterable[Any]:
        """What the registry asks at each scrape."""
        state = self._state()
        if state is None:
            return
        for name, kind, field, told in NEAR_CACHE:
            value = getattr(state, field)
            if value is not None:
                yield self._kinds[kind](f"strongroom_near_cache_{name}", told, value=float(value))


NEAR_CACHE = (
    ("alive", "gauge", "alive", "1 while the push channel is known to be alive, else 0."),
    ("entries", "gauge", "entries", "Sessions that are held."),
    ("bytes", "gauge", "size", "Memory that they take."),
    ("proof_age_seconds", "gauge", "proof_age", "Age of the newest proof of life; none if lost."),
    ("max_staleness_seconds", "gauge", "max_staleness", "The age at which it stops answering."),
    ("hits", "counter", "hits", "Reads that were answered from memory."),
    ("misses", "counter", "misses", "Reads that asked the store."),
    ("dropped", "counter", "dropped", "Sessions dropped because they changed, or all of them."),
    ("crowded_out", "counter", "crowded_out", "Sessions that left because there was no room."),
    ("overtaken", "counter", "overtaken", "Reads whose answer was older than a notice."),
    ("channels", "counter", "channels", "Push channels that were opened; 1 is normal."),
)
"""Each metric's name, kind, the field that it shows, and its help. A test holds the fields."""


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
