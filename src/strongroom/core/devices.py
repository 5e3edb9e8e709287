"""What a client says of its device: a label for people, and a coarse print to tell two apart.

The User-Agent and the client hints are untrusted text, so a label is made of words that stand
here. Nothing here decides anything; a wrong label is only a wrong label.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

from .record import Device

_AGENTS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("Firefox", "Firefox"),
    ("FxiOS", "Firefox"),
    ("CriOS", "Chrome"),
    ("Chromium", "Chromium"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
    ("curl", "curl"),
    ("python", "Python"),
)
_PLATFORMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Macintosh", "macOS"),
    ("Linux", "Linux"),
)
# A browser that calls itself Chrome in its User-Agent says in Sec-CH-UA who it is. The first of
# these counts, because the engine's own name stands in every list.
_BRANDS = (
    "Brave",
    "Vivaldi",
    "Opera",
    "Microsoft Edge",
    "Samsung Internet",
    "DuckDuckGo",
    "YaBrowser",
    "Google Chrome",
    "Chromium",
)
_SHORT = {"Microsoft Edge": "Edge", "Google Chrome": "Chrome", "YaBrowser": "Yandex Browser"}
_HINTED_PLATFORMS = {
    "Android": "Android",
    "iOS": "iPhone",
    "macOS": "macOS",
    "Windows": "Windows",
    "Linux": "Linux",
    "Chrome OS": "ChromeOS",
    "Chromium OS": "ChromeOS",
}
_BRAND = re.compile(r'"([^"\\]{1,40})"\s*;\s*v=')
# A home network or a carrier's cell keeps these bits for long: coarse enough not to cry wolf.
_IPV4_PREFIX, _IPV6_PREFIX = 24, 48

_REMEMBERED = 1024
"""Clients that are not described anew with each of their requests: it takes twenty microseconds."""


@lru_cache(maxsize=_REMEMBERED)
def describe(
    user_agent: str,
    address: str | None,
    brands: str = "",
    platform_hint: str = "",
) -> Device:
    """The device as far as the User-Agent and the address tell.

    The hints (`Sec-CH-UA`, `Sec-CH-UA-Platform`) make the label better and leave the print alone:
    a browser does not send them with every request, and one device must not look like two.
    """
    agent = _first(_AGENTS, user_agent)
    platform = _first(_PLATFORMS, user_agent)
    named = (_brand(brands) or agent, _platform(platform_hint) or platform)
    label = " on ".join(part for part in named if part) or "Unknown device"
    return Device(label=label, agent=agent, platform=platform, network=_network(address))


def looks_alike(one: Device, other: Device) -> bool:
    """Whether two coarse prints could be one client. An unknown network says nothing."""
    same_network = one.network == other.network or not one.network or not other.network
    return one.agent == other.agent and one.platform == other.platform and same_network


def _brand(hint: str) -> str:
    """The browser's own name, out of a list that has its engine's and a nonsense one too."""
    said = set(_BRAND.findall(hint))
    found = next((brand for brand in _BRANDS if brand in said), "")
    return _SHORT.get(found, found)


def _platform(hint: str) -> str:
    return _HINTED_PLATFORMS.get(hint.strip().strip('"'), "")


def _first(table: tuple[tuple[str, str], ...], text: str) -> str:
    return next((name for mark, name in table if mark in text), "")


def _network(address: str | None) -> str:
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return ""
    prefix = _IPV4_PREFIX if parsed.version == 4 else _IPV6_PREFIX
    return str(ipaddress.ip_network((parsed, prefix), strict=False))
