"""Places from MaxMind DB files: whatever is wrong with them, an address is unknown, no more."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet  # type: ignore[import-untyped]

from strongroom import places
from strongroom.core.errors import ConfigurationError
from strongroom.core.places import UNKNOWN, Place
from strongroom.places import PlacesFile

BERLIN = {
    "city": {"names": {"de": "Berlin", "en": "Berlin"}},
    "country": {"iso_code": "DE"},
    "location": {"latitude": 52.52, "longitude": 13.405, "accuracy_radius": 20},
}


def database(path: Path, entries: dict[str, Any], *, ip_version: int = 6) -> Path:
    """A real MaxMind DB file with these networks in it."""
    writer = MMDBWriter(ip_version=ip_version, ipv4_compatible=ip_version == 6)
    for network, entry in entries.items():
        writer.insert_network(IPSet([network]), entry)
    beside = path.with_suffix(".new")
    writer.to_db_file(str(beside))
    beside.replace(path)
    return path


@pytest.fixture
def city(tmp_path: Path) -> Path:
    return database(tmp_path / "city.mmdb", {"192.0.2.0/24": BERLIN, "2001:db8::/32": BERLIN})


@pytest.fixture
def check_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "CHECK_SECONDS", 0.0)


def test_an_address_has_a_place(city: Path) -> None:
    """Country, city, position and radius, of IPv4 and IPv6."""
    locate = PlacesFile(city)
    expected = Place("DE", "Berlin", 52.52, 13.405, 20.0)
    assert locate("192.0.2.77") == locate("192.0.2.77") == expected
    assert locate("2001:db8::1") == expected


@pytest.mark.parametrize("address", ["198.51.100.1", "::1", "", "no address", "1.2.3.4.5", "\0"])
def test_what_is_not_in_it_is_unknown(city: Path, address: str) -> None:
    """Also what is no address at all."""
    assert PlacesFile(city)(address) == UNKNOWN


def test_several_files_are_put_together(city: Path, tmp_path: Path) -> None:
    """City from one, the operator from another, what hides from a third."""
    asn = {"192.0.2.0/24": {"autonomous_system_number": 64500}}
    hiding = {"192.0.2.128/25": {"is_anonymous": True, "is_anonymous_vpn": True}}
    locate = PlacesFile(
        city,
        database(tmp_path / "asn.mmdb", asn),
        database(tmp_path / "anonymous.mmdb", hiding),
    )
    assert (locate("192.0.2.1").network, locate("192.0.2.1").kind) == ("AS64500", "")
    assert (locate("192.0.2.200").city, locate("192.0.2.200").kind) == ("Berlin", "vpn")
    assert not locate("192.0.2.200").has_position


@pytest.mark.parametrize(
    "content", [b"", b"not a database", b"\x00" * 4096], ids=["empty", "text", "zeros"]
)
def test_a_corrupt_file_means_unknown(
    city: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Told once, and no request fails for it."""
    city.write_bytes(content)
    locate = PlacesFile(city)
    with caplog.at_level(logging.WARNING):
        assert locate("192.0.2.1") == locate("192.0.2.2") == UNKNOWN
    assert len(caplog.records) == 1
    assert "places are unknown" in caplog.text


def test_every_cut_of_a_good_file_means_unknown_or_is_right(city: Path) -> None:
    """A download that broke off anywhere never raises."""
    whole = city.read_bytes()
    for cut in range(0, len(whole), max(1, len(whole) // 40)):
        city.write_bytes(whole[:cut])
        assert PlacesFile(city)("192.0.2.1").country in ("", "DE")


@pytest.mark.parametrize(
    "entry",
    [
        {"country": "DE", "city": ["x"], "location": {"latitude": "x", "longitude": {}}},
        {"location": {"latitude": 1e9, "longitude": 0.0}},
        {"location": {"latitude": float("nan"), "longitude": float("nan")}},
        {"traits": {"autonomous_system_number": "AS1"}, "country": {"iso_code": 7}},
        {"country": {"iso_code": "D\x1b[31m"}},
    ],
)
def test_odd_entries_are_left_out(tmp_path: Path, entry: dict[str, Any]) -> None:
    """Values of other kinds, out of range, or with control characters in them."""
    place = PlacesFile(database(tmp_path / "odd.mmdb", {"192.0.2.0/24": entry}))("192.0.2.1")
    assert not place.has_position
    assert place.country in ("", "D[", "D")
    assert place.network == ""


def test_a_newer_edition_is_used_without_a_restart(city: Path, check_always: None) -> None:
    """The file is replaced while the process runs; a missing one is unknown until it is back."""
    locate = PlacesFile(city)
    assert locate("192.0.2.1").country == "DE"
    database(city, {"192.0.2.0/24": {"country": {"iso_code": "SE"}}})
    assert locate("192.0.2.1").country == "SE"
    city.unlink()
    assert locate("192.0.2.1") == UNKNOWN
    database(city, {"192.0.2.0/24": BERLIN})
    assert locate("192.0.2.1").country == "DE"


def test_ipv6_in_a_database_of_ipv4_is_unknown(tmp_path: Path, caplog: Any) -> None:
    """That is no damage, so nothing is told."""
    locate = PlacesFile(database(tmp_path / "v4.mmdb", {"192.0.2.0/24": BERLIN}, ip_version=4))
    assert locate("2001:db8::1") == UNKNOWN
    assert locate("192.0.2.1").country == "DE"
    assert caplog.records == []


def test_no_file_and_no_driver_are_told_at_start_up() -> None:
    """With the line that installs it."""
    with pytest.raises(ConfigurationError, match="no file"):
        PlacesFile()
    code = (
        "import sys; sys.modules['maxminddb'] = None\n"
        "from strongroom.places import PlacesFile\n"
        "try: PlacesFile('x.mmdb')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ConfigurationError")
    assert "strongroom[places]" in done.stdout
