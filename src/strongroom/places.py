"""Places from MaxMind DB files, if there are any (`pip install "strongroom[places]"`).

    locate = PlacesFile("var/GeoLite2-City.mmdb", "var/GeoLite2-ASN.mmdb")
    SessionManager(store, keys=..., locate=locate)

Any file of that format will do: City, Country, ASN, Anonymous-IP, from whichever vendor. What the
files say of an address is put together, a later file filling in what an earlier one left open. They
are read again when they change on disk. A file that is missing, corrupt or of another kind means
"unknown", and is told once in the log: it is never a reason to turn anybody away.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any, cast

from .core.errors import ConfigurationError
from .core.places import UNKNOWN, Place

CHECK_SECONDS = 60.0
"""How often the files are looked at for a newer edition: they come out twice a week."""
REMEMBERED = 4096
"""Addresses whose place is kept in memory, a few hundred bytes each."""

_KINDS = (
    ("is_tor_exit_node", "tor"),
    ("is_anonymous_vpn", "vpn"),
    ("is_public_proxy", "proxy"),
    ("is_residential_proxy", "proxy"),
    ("is_satellite_provider", "satellite"),
    ("is_hosting_provider", "hosting"),
    ("is_anonymous_proxy", "anonymous"),
    ("is_anonymous", "anonymous"),
)
_log = logging.getLogger("strongroom")


class PlacesFile:
    """Looks addresses up in these files. Any thread may call it; it never raises.

    Raises:
        ConfigurationError: no file was named, or `maxminddb` is not installed.
    """

    def __init__(self, *paths: str | os.PathLike[str]) -> None:
        if not paths:
            raise ConfigurationError(
                "PlacesFile was given no file.",
                why="Without one every address is unknown, which needs no PlacesFile.",
                hint='Name a file: PlacesFile("var/GeoLite2-City.mmdb")',
            )
        self._files = [_File(Path(each).absolute()) for each in paths]
        self._known: OrderedDict[str, Place] = OrderedDict()
        self._lock = Lock()
        self._check_at = 0.0

    def __call__(self, address: str) -> Place:
        """Where the address seems to be; `UNKNOWN` where the files do not say."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return UNKNOWN
        with self._lock:
            self._look_for_newer()
            known = self._known.get(address)
            if known is None:
                known = self._look_up(parsed)
                self._known[address] = known
                if len(self._known) > REMEMBERED:
                    self._known.popitem(last=False)
            return known

    def _look_for_newer(self) -> None:
        now = time.monotonic()
        if now < self._check_at:
            return
        self._check_at = now + CHECK_SECONDS
        newer = [each.refresh() for each in self._files]
        if any(newer):
            self._known.clear()

    def _look_up(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Place:
        found: dict[str, Any] = {}
        for file in self._files:
            for name, value in _flat(file.get(address)).items():
                found.setdefault(name, value)
        return _place(found) if found else UNKNOWN


class _File:
    """One database, opened in memory so that replacing the file disturbs nobody."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: Any = None
        self._stamp: tuple[int, int, int] | None = None
        self._maxminddb = _driver()

    def refresh(self) -> bool:
        """Open the file if it is another one than before -> whether that was so."""
        try:
            stat = self._path.stat()
            stamp = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if stamp == self._stamp:
                return False
            reader = self._maxminddb.open_database(self._path, self._maxminddb.MODE_MEMORY)
        except Exception as error:  # whatever is wrong with the file, an address is unknown
            return self._give_up(error)
        self._reader, self._stamp = reader, stamp
        return True

    def get(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Mapping[str, Any]:
        """The entry of an address; empty where there is none, or the file is damaged there."""
        if self._reader is None:
            return {}
        try:
            entry: object = self._reader.get(address)
        except Exception as error:  # also an IPv6 address in a database of IPv4
            if not isinstance(error, ValueError):
                self._give_up(error)
            return {}
        return cast("Mapping[str, Any]", entry) if isinstance(entry, dict) else {}

    def _give_up(self, error: Exception) -> bool:
        had, self._reader = self._reader is not None, None
        if had or self._stamp is None:
            self._stamp = (0, 0, 0)
            _log.warning(
                "The address database %s cannot be used (%s): places are unknown until it can. "
                "Download it again; it is looked at once a minute.",
                self._path.name,
                type(error).__name__,
            )
        return had


def _driver() -> Any:
    try:
        import maxminddb
    except ImportError:
        raise ConfigurationError(
            "Reading places needs the package maxminddb, which is not installed.",
            why="Without it no address can be looked up.",
            hint='Install it: pip install "strongroom[places]"',
        ) from None
    return maxminddb


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that count, out of the layouts of the usual databases; odd values are left out."""
    country = _inner(entry, "country") or _inner(entry, "registered_country")
    location, traits = _inner(entry, "location"), {**entry, **_inner(entry, "traits")}
    number = traits.get("autonomous_system_number")
    fields: dict[str, Any] = {
        "country": _text(country.get("iso_code"))[:2],
        "city": _text(_inner(_inner(entry, "city"), "names").get("en"))[:64],
        "position": _position(location),
        "radius_km": _number(location.get("accuracy_radius")),
        "network": f"AS{number}" if isinstance(number, int) else "",
        "kind": next((kind for name, kind in _KINDS if traits.get(name) is True), ""),
    }
    return {name: value for name, value in fields.items() if value}


def _place(found: Mapping[str, Any]) -> Place:
    latitude, longitude = found.get("position", (None, None))
    return Place(
        country=found.get("country", ""),
        city=found.get("city", ""),
        latitude=latitude,
        longitude=longitude,
        radius_km=found.get("radius_km", 0.0),
        network=found.get("network", ""),
        kind=found.get("kind", ""),
    )


def _inner(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = entry.get(name)
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _text(value: object) -> str:
    text = value if isinstance(value, str) else ""
    return "".join(each for each in text if each.isprintable())


def _number(value: object) -> float:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 21_000
    return float(cast("float", value)) if fits else 0.0


def _position(location: Mapping[str, Any]) -> tuple[float, float] | None:
    latitude, longitude = location.get("latitude"), location.get("longitude")
    if not isinstance(latitude, int | float) or not isinstance(longitude, int | float):
        return None
    # Not a number is not within either bound.
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        return None
    return float(latitude), float(longitude)
