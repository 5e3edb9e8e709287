"""What a client says of its device: a label for people, and a coarse print to tell two apart.

The User-Agent is untrusted text. Nothing here decides anything; a wrong label is only a wrong
label.
"""

from __future__ import annotations

import ipaddress
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
# A home network or a carrier's cell keeps these bits for long: coarse enough not to cry wolf.
_IPV4_PREFIX, _IPV6_PREFIX = 24, 48

_REMEMBERED = 1024
"""Clients that are not described anew with each of their requests: it takes twenty microseconds."""


@lru_cache(maxsize=_REMEMBERED)
def describe(user_agent: str, address: str | None) -> Device:
    """The device as far as the User-Agent and the address tell."""
    agent = _first(_AGENTS, user_agent)
    platform = _first(_PLATFORMS, user_agent)
    label = " on ".join(part for part in (agent, platform) if part) or "Unknown device"
    return Device(label=label, agent=agent, platform=platform, network=_network(address))


def looks_alike(one: Device, other: Device) -> bool:
    """Whether two coarse prints could be one client. An unknown network says nothing."""
    same_network = one.network == other.network or not one.network or not other.network
    return one.agent == other.agent and one.platform == other.platform and same_network


def _first(table: tuple[tuple[str, str], ...], text: str) -> str:
    return next((name for mark, name in table if mark in text), "")


def _network(address: str | None) -> str:
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return ""
    prefix = _IPV4_PREFIX if parsed.version == 4 else _IPV6_PREFIX
    return str(ipaddress.ip_network((parsed, prefix), strict=False))
