"""One whole audit in one call: over the network, or of an application in this process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from .browser import Network
from .inprocess import transport_for
from .run import Progress, Report, audit
from .site import Clock, Options, Site
from .target import Target, TargetError
from .travel import TravellingClock
from .wire import Headers, Limits, Transport, origin_of


def network_for(
    target: Target,
    transport: Transport,
    *,
    rate: float = 0.0,
    budget: int = 5000,
    timeout: float = 20.0,
    extra: Headers = (),
    clock: Clock | None = None,
) -> Network:
    """The way to the hosts that the target names, and to no others.

    Raises: TargetError for an address that is no web page.
    """
    parts = urlsplit(target.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TargetError(
            f"{target.url or 'Nothing'} is not the address of a web page.",
            "Write it as the browser shows it: https://app.example/",
        )
    hosts = {parts.netloc.lower(), origin_of(target.url).partition("://")[2], parts.hostname}
    hosts |= {each.lower() for each in target.hosts}
    network = Network(
        transport,
        frozenset(hosts),
        limits=Limits(timeout=timeout),
        rate=rate,
        budget=budget,
        extra=extra,
    )
    for name, value in extra:
        if name.lower() in ("authorization", "cookie", "proxy-authorization"):
            network.secrets.add(value, value.partition(" ")[2], value.partition("=")[2])
    if clock is not None:
        network.now = clock.now
    return network


def examine(
    target: Target,
    transport: Transport,
    options: Options | None = None,
    *,
    clock: Clock | None = None,
    on_progress: Progress | None = None,
    **network: Any,
) -> Report:
    """Discover the site and run the checks. The transport stays open.

    Raises: Unreachable if not even the first page answers; TargetError.
    """
    way = network_for(target, transport, clock=clock, **network)
    site = Site(target, way, options or Options(), clock)
    site.discover()
    return audit(site, on_progress)


def examine_app(app: Any, target: Target, options: Options | None = None, **more: Any) -> Report:
    """The same for an ASGI or WSGI application in this process, with time travel.

    `advance` among `more` is the application's own clock: a function that moves it by seconds.
    """
    advance = more.pop("advance", None)
    if not target.url:
        target = replace(target, url="https://app.example/")
    transport = transport_for(app)
    try:
        with TravellingClock(advance) as clock:
            return examine(target, transport, options or Options(samples=24), clock=clock, **more)
    finally:
        transport.close()
