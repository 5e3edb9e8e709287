"""Where an address seems to be, and whether somebody could have travelled between two places.

A place comes from whatever database of addresses the application has, or from none. It is a guess
with a radius, so the distance between two places is what is left when both radii are taken off, and
an address that stands for somebody else's (a VPN, a proxy, a satellite) is never travel at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

EARTH_RADIUS_KM = 6371.0088
"""Mean radius of the Earth (IUGG); a sphere is within half a per cent of the real thing."""

HIDING = frozenset({"vpn", "proxy", "tor", "hosting", "satellite", "anonymous"})
"""Kinds of network whose address says nothing of where the person is."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a database says of an address; every field may be unknown.

    `country` is ISO 3166-1 alpha-2; `network` a name such as "AS64500"; `radius_km` the database's
    own accuracy radius; `kind` one of `HIDING`, or empty for an ordinary network.
    """

    country: str = ""
    city: str = ""
    latitude: float | None = None
    longitude: float | None = None
    radius_km: float = 0.0
    network: str = ""
    kind: str = ""

    @property
    def label(self) -> str:
        """For people: "Berlin, DE", or as much of it as is known."""
        return ", ".join(part for part in (self.city, self.country) if part)

    @property
    def has_position(self) -> bool:
        """Whether it can be a stop on somebody's way."""
        return self.latitude is not None and self.longitude is not None and self.kind not in HIDING

    def as_list(self) -> list[str | float | None]:
        """The fields in their order, for an encoding."""
        return [
            self.country,
            self.city,
            self.latitude,
            self.longitude,
            self.radius_km,
            self.network,
            self.kind,
        ]


UNKNOWN = Place()


@dataclass(frozen=True, slots=True)
class Travel:
    """A way that somebody would have to have made: what is certain of it."""

    kilometres: float
    hours: float

    @property
    def speed(self) -> float:
        """Kilometres an hour; two places at one moment are infinitely fast."""
        return self.kilometres / self.hours if self.hours > 0 else math.inf


def distance_km(one: Place, other: Place) -> float | None:
    """The great-circle distance less both radii, never below zero; None where one is unknown."""
    if not (one.has_position and other.has_position):
        return None
    between = _great_circle(
        one.latitude or 0.0, one.longitude or 0.0, other.latitude or 0.0, other.longitude or 0.0
    )
    return max(0.0, between - _radius(one) - _radius(other))


def travel(one: Place, at: int, other: Place, later: int) -> Travel | None:
    """The way between two places seen at two moments (ms); None where it cannot be known."""
    apart = distance_km(one, other)
    if apart is None:
        return None
    return Travel(apart, abs(later - at) / 3_600_000)


def _great_circle(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """The haversine formula: exact enough at every distance, also the smallest."""
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    half_lat, half_lon = (phi2 - phi1) / 2, math.radians(lon2 - lon1) / 2
    chord = math.sin(half_lat) ** 2 + math.cos(phi1) * math.cos(phi2) * math.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, chord)))


def _radius(place: Place) -> float:
    return place.radius_km if place.radius_km > 0 else 0.0
