"""Sinks: logs, metrics, traces and webhooks tell what happened, and nothing that opens anything."""

from __future__ import annotations

import base64
import hmac
import http.server
import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

from strongroom import SessionManager, keyfile, open_store
from strongroom.core.errors import ConfigurationError
from strongroom.core.events import (
    ApplicationEvent,
    CrossSiteRefused,
    Event,
    LoginFailed,
    LoginSuccess,
    SessionCreated,
    SessionEndedEvent,
    TokenReuse,
    catalogue,
)
from strongroom.core.ops import Find
from strongroom.core.responses import DEFAULT_RESPONSES
from strongroom.core.spikes import RULES
from strongroom.stores.base import NearStats
from strongroom.stores.bridge import AsyncBridge
from strongroom.stores.memory import MemoryStore
from strongroom.telemetry import opentelemetry, webhooks
from strongroom.telemetry.metrics import NEAR_CACHE, SIGNALS, NearCacheCollector, PrometheusSink
from strongroom.telemetry.opentelemetry import OpenTelemetrySink, TracedStore
from strongroom.telemetry.owasp import OwaspSink, described
from strongroom.telemetry.webhooks import ATTEMPTS, WebhookSink, signed
from strongroom.testing.clock import START
from strongroom.testing.records import a_record, an_insert

ID = "8f" * 16
WHO: dict[str, Any] = {"at": START, "session_id": ID, "subject": "alice", "address": "192.0.2.7"}
SECRET = bytes(range(32))


# OWASP's vocabulary.


def test_an_entry_has_what_owasp_asks_for() -> None:
    """When in UTC, where, who, what, at which level (ASVS 16.2.1, 16.2.2, 16.2.4)."""
    entry = OwaspSink("shop", hostname="web1").entry(LoginSuccess(**WHO, factors=("pwd",)))
    assert entry["datetime"] == "2026-01-01T00:00:00.000Z"
    assert (entry["appid"], entry["hostname"]) == ("shop", "web1")
    assert (entry["event"], entry["level"]) == ("authn_login_success:alice", "INFO")
    assert (entry["source_ip"], entry["session"]) == ("192.0.2.7", ID)
    assert entry["details"] == {"factors": ("pwd",), "pending": False}
    assert entry["description"].endswith(".")


def test_a_session_s_reference_can_be_hashed() -> None:
    """The same session has the same reference, and the log does not link to a list (16.2.5)."""
    sink = OwaspSink("shop", reference_key=SECRET)
    one, same = (sink.entry(SessionCreated(**WHO, kind="anonymous")) for _ in range(2))
    assert one["session"] == same["session"] != ID
    assert (
        OwaspSink("shop", reference_key=SECRET[::-1]).entry(LoginFailed(**WHO))["session"]
        != (one["session"])
    )


@pytest.mark.parametrize("subject", ["a\nb", 'a"}{"', "a,b:c", "\x1b[31m", "\u2028", "é" * 300])
def test_nobody_forges_a_line(subject: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a subject contains, it is one line, and one argument of the event (16.4.1)."""
    with caplog.at_level(logging.INFO, "strongroom.owasp"):
        OwaspSink("shop")(LoginFailed(at=START, subject=subject, device=subject))
    (record,) = caplog.records
    line = record.getMessage()
    assert line.isascii() and line.isprintable()
    assert json.loads(line)["event"].count(":") == 1


def test_every_event_has_a_sentence() -> None:
    """The description is its own documentation."""
    for kind in catalogue():
        sentence = (kind.__doc__ or "").splitlines()[0]
        assert sentence and "(" not in kind.name
    assert described(LoginFailed(at=START)).startswith("Credentials were checked")


# Prometheus.


def scraped(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def test_events_are_counted() -> None:
    """By name and severity; ends by reason; sign-ins by outcome."""
    registry = CollectorRegistry()
    sink = PrometheusSink(registry)
    assert 'strongroom_sign_ins_total{outcome="failure"} 0.0' in scraped(registry)
    for event in (
        LoginSuccess(**WHO),
        LoginFailed(**WHO),
        LoginFailed(**WHO),
        SessionEndedEvent(**WHO, reason="token_reuse"),
        CrossSiteRefused(**WHO, rule="origin", path="/pay"),
    ):
        sink(event)
    text = scraped(registry)
    assert 'strongroom_events_total{event="malicious_csrf",severity="warning"} 1.0' in text
    assert 'strongroom_sessions_ended_total{reason="token_reuse"} 1.0' in text
    assert 'strongroom_sign_ins_total{outcome="failure"} 2.0' in text
    assert 'strongroom_last_event_timestamp_seconds{severity="warning"}' in text


def test_no_client_makes_a_series() -> None:
    """A thousand strange reasons are one series, and nobody's name is in any (P5)."""
    registry = CollectorRegistry()
    sink = PrometheusSink(registry)
    for number in range(1000):
        sink(SessionEndedEvent(at=START, subject=f"user{number}", reason=f"reason {number}"))
        sink(ApplicationEvent(at=START, what=f"what {number}"))
    text = scraped(registry)
    assert 'strongroom_sessions_ended_total{reason="other"} 1000.0' in text
    assert "user" not in text and "what" not in text
    assert len(text.splitlines()) < 60


def test_the_names_of_signals_are_the_core_s() -> None:
    """A signal that the metric does not know would count as "other"."""
    assert {each.signal for each in DEFAULT_RESPONSES.rules} <= SIGNALS
    assert {each.name for each in RULES.values()} <= SIGNALS


def test_the_near_cache_is_scraped() -> None:
    """Whether it lives, what it holds, what it answered, and how old its newest proof is."""
    store = open_store("memory://?near_cache_mb=1")
    keys = keyfile.generate("shop", START)
    registry = CollectorRegistry()
    with SessionManager(store, keys=keys, sinks=()) as sessions:
        registry.register(NearCacheCollector(sessions.near_cache))
        record = store.insert(an_insert(a_record(session_id=bytes(16)))).record
        assert record is not None
        deadline = time.monotonic() + 10
        while "strongroom_near_cache_hits_total 0.0" in scraped(registry):
            assert time.monotonic() < deadline, scraped(registry)
            store.find(Find(record.session_id))
        text = scraped(registry)
        for line in ("alive 1.0", "entries 1.0", "channels_total 1.0", "max_staleness_seconds 1.0"):
            assert f"strongroom_near_cache_{line}" in text
        [age] = re.findall(r"^strongroom_near_cache_proof_age_seconds (\S+)$", text, re.M)
        assert 0 <= float(age) < 1
    text = scraped(registry)
    assert "strongroom_near_cache_alive 0.0" in text and "dropped_total 1.0" in text
    assert "proof_age" not in text


def test_every_field_of_the_near_cache_s_state_is_a_metric() -> None:
    """But one, which the others tell; and without a near cache there is none."""
    known = {each.name for each in fields(NearStats)} - {"alive_for"}
    assert {field for _, _, field, _ in NEAR_CACHE} == known
    registry = CollectorRegistry()
    with SessionManager(MemoryStore(), keys=keyfile.generate("shop", START), sinks=()) as sessions:
        registry.register(NearCacheCollector(sessions.near_cache))
        assert scraped(registry) == ""


# OpenTelemetry.


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """A real SDK, with spans in memory, that only our module sees."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    real = opentelemetry._api()
    monkeypatch.setattr(
        real.trace, "get_tracer", lambda name: provider.get_tracer(name), raising=True
    )
    yield exporter
    provider.shutdown()


def test_events_are_counted_and_stand_in_the_span(spans: InMemorySpanExporter) -> None:
    """With the semantic conventions' names; who it was only where that is asked for."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    discreet = OpenTelemetrySink(meter_provider=provider)
    telling = OpenTelemetrySink(meter_provider=provider, subjects=True)
    with opentelemetry._api().trace.get_tracer("test").start_as_current_span("request"):
        discreet(SessionCreated(**WHO, kind="authenticated"))
        telling(SessionEndedEvent(**WHO, reason="logout"))
        discreet(TokenReuse(**WHO, how="stale", ended=True))
    (span,) = spans.get_finished_spans()
    names = [event.name for event in span.events]
    assert names == ["session.start", "session.end", "strongroom.authn_token_reuse"]
    first, second, _third = (dict(event.attributes or {}) for event in span.events)
    assert first["session.id"] == ID and "user.id" not in first
    assert second["user.id"] == "alice" and second["client.address"] == "192.0.2.7"
    data = reader.get_metrics_data()
    assert data is not None
    told = json.loads(data.to_json())["resource_metrics"][0]["scope_metrics"]
    metrics = {metric["name"] for scope in told for metric in scope["metrics"]}
    assert metrics == {"strongroom.events", "strongroom.sessions.balance"}
    provider.shutdown()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_store_operations_are_spans(spans: InMemorySpanExporter, anyio_backend: str) -> None:
    """Sync and async; the operation's name, and nothing of what it was about (P5)."""
    del anyio_backend
    plain = TracedStore(MemoryStore(), system="memory")
    plain.open(bytes(16))
    assert plain.find(Find(bytes(16))) is None
    bridged = TracedStore(AsyncBridge(MemoryStore()))
    await bridged.open(bytes(16))
    assert await bridged.find(Find(bytes(16))) is None
    await bridged.close()
    told = spans.get_finished_spans()
    assert [span.name for span in told if "find" in span.name] == ["strongroom find"] * 2
    for span in told:
        assert set(span.attributes or {}) == {"db.system.name", "db.operation.name"}


# Webhooks.


class Receiver:
    """A server that answers as it is told, and keeps what it got."""

    def __init__(self, *statuses: int) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        waiting = list(statuses)
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                status = waiting.pop(0) if waiting else 204
                self.send_response(status)
                if status in (301, 302):
                    self.send_header("location", "http://127.0.0.1:9/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def delivered(*statuses: int, events: int = 1) -> tuple[Receiver, WebhookSink, list[float]]:
    receiver, pauses = Receiver(*statuses), list[float]()
    sink = WebhookSink(receiver.url, SECRET, pause=pauses.append)
    for number in range(events):
        sink(TokenReuse(**{**WHO, "at": START + number}, how="stale", ended=True))
    expected = max(events, len(statuses))
    for _ in range(2000):
        if len(receiver.got) >= expected:
            break
        time.sleep(0.01)
    sink.close()
    receiver.stop()
    return receiver, sink, pauses


def test_a_delivery_is_signed_as_the_standard_says() -> None:
    """Standard Webhooks: the receiver verifies id, time and body with the shared secret."""
    receiver, sink, _pauses = delivered()
    ((headers, body),) = receiver.got
    message = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(SECRET, message, "sha256")).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert json.loads(body)["type"] == "authn_token_reuse"
    assert json.loads(body)["data"]["subject"] == "alice"
    assert (sink.failed, sink.dropped) == (0, 0)


def test_the_signature_of_the_specification_s_own_example() -> None:
    """The known answer of the specification (standard-webhooks, spec, "Signature scheme")."""
    secret = base64.b64decode("C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
    headers = signed(
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        1649367553,
        b'{"email":"test@example.com","username":"test_user"}',
        secret,
    )
    assert headers["webhook-signature"] == "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="


def test_a_failure_is_tried_again_with_longer_pauses_and_the_same_id() -> None:
    """A receiver knows a repeated delivery by its id."""
    receiver, sink, pauses = delivered(500, 503, 302, 204)
    assert len({headers["webhook-id"] for headers, _body in receiver.got}) == 1
    assert len(receiver.got) == 4
    assert 0.5 <= pauses[0] <= 1 <= pauses[1] <= 2 <= pauses[2] <= 4
    assert sink.failed == 0


def test_events_arrive_in_order_and_none_is_lost() -> None:
    """A failure in between holds the others up, and does not drop them."""
    receiver, _sink, _pauses = delivered(204, 500, 204, 204, 204, events=4)
    told = [json.loads(body)["data"]["at"] - START for _headers, body in receiver.got]
    assert told == [0, 1, 1, 2, 3]


def test_a_receiver_that_is_gone_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """After six tries, by id and host alone; 410 is obeyed at once."""
    with caplog.at_level(logging.ERROR, "strongroom"):
        _receiver, sink, pauses = delivered(*[500] * ATTEMPTS)
    assert (sink.failed, len(pauses)) == (1, ATTEMPTS - 1)
    assert "could not be delivered to 127.0.0.1" in caplog.text
    assert "alice" not in caplog.text
    receiver, sink, _pauses = delivered(410)
    assert (sink.failed, len(receiver.got)) == (1, 1)


def test_a_full_queue_drops_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow receiver does not fill this process's memory (P24)."""
    monkeypatch.setattr(webhooks, "MOST", 2)
    hold = threading.Event()

    def slow(_url: str, _body: bytes, _headers: dict[str, str]) -> int:
        hold.wait(30)
        return 204

    sink = WebhookSink("https://siem.example/hook", SECRET, post=slow)
    for _ in range(10):
        sink(TokenReuse(**WHO, how="stale", ended=True))
    assert sink.dropped >= 7
    hold.set()
    sink.close()


def test_what_is_mere_information_stays_here() -> None:
    """Unless it is asked for; and the sink says nothing of its secret."""
    posted: list[bytes] = []

    def post(_url: str, body: bytes, _headers: dict[str, str]) -> int:
        posted.append(body)
        return 204

    def everything(event: Event) -> bool:
        return event.severity in ("info", "warning", "critical")

    quiet = WebhookSink("https://siem.example/hook", SECRET, post=post)
    quiet(LoginSuccess(**WHO))
    quiet.close()
    assert posted == []
    telling = WebhookSink("https://siem.example/hook", SECRET, wants=everything, post=post)
    telling(LoginSuccess(**WHO))
    telling.close()
    assert len(posted) == 1
    assert SECRET.hex() not in repr(telling)


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("http://siem.example/hook", SECRET),
        ("ftp://siem.example/hook", SECRET),
        ("file:///etc/passwd", SECRET),
        ("https://siem.example/hook", b"short"),
    ],
)
def test_what_is_unsafe_is_refused_at_start_up(url: str, secret: bytes) -> None:
    """Events say who signed in, so they go over https, under a secret worth the name."""
    with pytest.raises(ConfigurationError):
        WebhookSink(url, secret)
