"""Footprints from what is kept: a session's identity, or the events of a subject's history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .circumstances import Circumstances
from .data import is_dict
from .events import DeviceDisowned
from .places import Place
from .record import Device
from .signals import Footprint


def footprint(
    at: int, device: Device, circumstances: Circumstances, *, device_id: str = ""
) -> Footprint:
    """What the signals compare."""
    return Footprint(
        at=at,
        agent=device.agent,
        version=circumstances.version,
        platform=device.platform,
        network=device.network,
        device=device_id,
        place=circumstances.place,
    )


def as_seen(footprint: Footprint) -> dict[str, Any]:
    """A footprint as plain values, for an event; what is unknown is left out."""
    place = footprint.place
    told: dict[str, Any] = {
        "agent": footprint.agent,
        "version": footprint.version,
        "platform": footprint.platform,
        "network": footprint.network,
        "device": footprint.device,
        "country": place.country,
        "city": place.city,
        "operator": place.network,
        "kind": place.kind,
    }
    known = {name: value for name, value in told.items() if value}
    if place.latitude is not None and place.longitude is not None:
        # Zero is a latitude.
        known |= {
            "latitude": place.latitude,
            "longitude": place.longitude,
            "radius_km": place.radius_km,
        }
    return known


def known_from(events: Sequence[Mapping[str, Any]]) -> list[tuple[Footprint, Mapping[str, Any]]]:
    """The sign-ins in a history, each with its event; without those of devices that the owner
    disowned afterwards."""
    disowned: dict[str, int] = {}
    for event in events:
        if event.get("event") == DeviceDisowned.name:
            name = str(event["device_id"])
            disowned[name] = max(int(event["at"]), disowned.get(name, 0))
    return [
        (seen, event)
        for event in events
        if (seen := from_history(event)) is not None and seen.at > disowned.get(seen.device, -1)
    ]


def from_history(event: Mapping[str, Any]) -> Footprint | None:
    """The footprint of a sign-in in a subject's history; None for any other event."""
    name = event.get("event")
    if name not in ("authn_login_success", "authn_login_fail") or event.get("pending"):
        return None
    kept = event.get("seen")
    seen: Mapping[str, Any] = kept if is_dict(kept) else {}
    return Footprint(
        at=int(event["at"]),
        agent=str(seen.get("agent", "")),
        version=int(seen.get("version", 0)),
        platform=str(seen.get("platform", "")),
        network=str(seen.get("network", "")),
        device=str(seen.get("device", "")),
        place=Place(
            country=str(seen.get("country", "")),
            city=str(seen.get("city", "")),
            latitude=seen.get("latitude"),
            longitude=seen.get("longitude"),
            radius_km=float(seen.get("radius_km", 0.0)),
            network=str(seen.get("operator", "")),
            kind=str(seen.get("kind", "")),
        ),
        succeeded=name == "authn_login_success",
    )
