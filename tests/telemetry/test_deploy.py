"""The alert rules and the dashboard load, and ask for metrics that exist."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry, generate_latest

from strongroom.core.events import catalogue
from strongroom.core.explanations import EXPLANATIONS
from strongroom.stores.memory import MemoryStore
from strongroom.stores.near_cache import NearCache
from strongroom.telemetry.metrics import SIGNALS, NearCacheCollector, PrometheusSink

ROOT = Path(__file__).resolve().parents[2]
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/strongroom.rules.yml").read_text())[
        "groups"
    ]
    for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/strongroom.json").read_text())
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]


def metrics() -> set[str]:
    registry = CollectorRegistry()
    PrometheusSink(registry)
    state = NearCache(MemoryStore()).stats()
    registry.register(NearCacheCollector(lambda: replace(state, proof_age=0.1)))
    text = generate_latest(registry).decode()
    return set(re.findall(r"^# TYPE (\S+)", text, re.M))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_is_one_that_prometheus_understands(expression: str) -> None:
    """Parsed by Prometheus' own grammar, over metrics that the sink has."""
    promql_parser.parse(expression)
    asked = set(re.findall(r"strongroom_\w+", expression))
    assert asked and asked <= metrics()
    for event in re.findall(r'event="(\w+)"', expression):
        assert event in {each.name for each in catalogue()}
    for names in re.findall(r'signal=~?"([\w|]+)"', expression):
        assert set(names.split("|")) <= SIGNALS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_what_it_means_and_what_to_look_at(rule: dict[str, Any]) -> None:
    """Somebody is woken by it."""
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"].endswith(".")
    for name in re.findall(r"strongroom explain (\w+)", rule["annotations"]["description"]):
        assert name in EXPLANATIONS


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    """A title, a schema, panels that lie beside each other, and a data source to choose."""
    assert DASHBOARD["schemaVersion"] >= 36 and DASHBOARD["uid"] == "strongroom"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells
        assert panel["datasource"]["uid"] == "${datasource}"


def test_the_siem_example_names_fields_that_events_have() -> None:
    """The mapping is TOML, and reads nothing that is never written."""
    text = (ROOT / "examples/siem/vector.toml").read_text()
    source = tomllib.loads(text)["transforms"]["ecs"]["source"]
    known = {"at", "event", "severity", "session_id", "subject", "address", "device", "signal"}
    assert set(re.findall(r"\bevent\.(\w+)", source)) <= known | {"why", "reason", "rule"}
