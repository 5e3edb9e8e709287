"""`strongroom doctor`: why a cookie is not set, and why scheme or address are not what one expects.

Without a URL it looks at the configuration; with one, at the running application from outside. It
changes nothing, and asks with GET only.
"""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

from strongroom.core.errors import StrongroomError, UsageError
from strongroom.core.tokens import blake2b_mac, hmac_sha512

from . import settings
from .doctor_findings import Finding, failed, problem, skipped, tell
from .output import Output
from .parsing import Command, duration

if TYPE_CHECKING:
    from .doctor_http import Place, Way

ENDPOINT = "/strongroom-doctor"
_MOST_PAGES = 8


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "url", nargs="?", metavar="URL", help="where a browser finds the application"
    )
    asking = parser.add_argument_group("with a URL")
    asking.add_argument(
        "--path",
        action="append",
        default=[],
        metavar="PATH",
        help="another page to look at, such as the one with the sign-in form",
    )
    asking.add_argument(
        "--endpoint",
        default=ENDPOINT,
        metavar="PATH",
        help="where the application mounts its doctor's endpoint (default: %(default)s)",
    )
    trust = asking.add_mutually_exclusive_group()
    trust.add_argument("--ca", metavar="FILE", help="believe certificates of this authority")
    trust.add_argument(
        "--insecure", action="store_true", help="look all the same if the certificate is not right"
    )
    asking.add_argument(
        "--timeout",
        type=duration,
        default="10s",
        metavar="TIME",
        help="for each request (default: 10s)",
    )
    asking.add_argument(
        "--http-port", type=int, metavar="N", help="where http is answered (default: 80)"
    )
    asking.add_argument(
        "--from", dest="source", metavar="ADDRESS", help="this machine's address to ask from"
    )
    settings.add_store(parser)


def doctor(options: argparse.Namespace, out: Output) -> int:
    """Look at the configuration or, with a URL, at the running application."""
    if options.url is None:
        from .doctor_settings import check_settings

        findings = list(check_settings(options, out))
    else:
        findings = list(_check_running(options, out))
    return tell(findings, out)


def _check_running(options: argparse.Namespace, out: Output) -> Iterator[Finding]:
    # Imported here, because HTTP and TLS would make every other command start slower.
    from .doctor_http import NoAnswer, Place, Way
    from .doctor_pages import check_page, check_transport

    place = Place.of(options.url)
    way = Way(
        timeout=max(0.1, options.timeout.total_seconds()),
        ca=options.ca,
        insecure=options.insecure,
        source=options.source,
    )
    http_port = options.http_port
    if http_port is None and place.port == 443:
        http_port = 80
    try:
        replies = way.follow(place)
    except NoAnswer as error:
        yield problem("page", error.what, why=error.why, change=error.change)
        return
    now = out.world.clock()
    yield from check_transport(way, replies, http_port, now)
    yield from check_page(replies, now)
    here = replies[-1].place
    for path in options.path[:_MOST_PAGES]:
        try:
            yield from check_page(way.follow(here.other(_path(path))), now)
        except NoAnswer as error:
            yield problem("page", error.what, why=error.why, change=error.change)
    yield from _ask(way, here.other(_path(options.endpoint)), options, out)


def _ask(way: Way, place: Place, options: argparse.Namespace, out: Output) -> Iterator[Finding]:
    """The application's own word, where the keys are at hand."""
    wanted = options.keys is not None or settings.keys_in_environment(options, out)
    if not wanted and not settings.keys_path(options.keys, out).exists():
        yield skipped(
            "endpoint",
            "What the application believes of a request can be asked with its keys only.",
            change="Name them: --keys PATH; see docs/doctor.md for the endpoint.",
        )
        return
    try:
        ring, _source = settings.keyring(options, out)
        now = out.world.clock()
        rings = [ring.unlock(now, mac) for mac in (blake2b_mac, hmac_sha512)]
    except StrongroomError as error:
        yield failed("endpoint", error)
        return
    from strongroom.core.diagnosis import prove

    from .doctor_told import check_told

    yield from check_told(way, place, prove(rings, now, secrets.token_bytes(16)), now)


def _path(text: str) -> str:
    """A path of the application.

    Raises:
        UsageError: it is none.
    """
    if not text.startswith("/") or not text.isascii() or not text.isprintable() or " " in text:
        raise UsageError(
            "A path begins with '/' and has no spaces.", hint=f"Write it like {ENDPOINT}."
        )
    return text


COMMANDS = (
    Command(
        "doctor",
        "Say what is wrong with a configuration or a running site.",
        """Without a URL: keys, policy, cookies, origins, trusted proxies and store. With one: what
        browsers would refuse, what is not encrypted or could be cached and, with the application's
        keys, what it believes of the request: scheme, host, client address, and what a client
        could make it believe.

        Each check says ok, warning or problem; what is not ok says why, and what to change. The
        exit code is 1 where something is a problem. Nothing is changed.""",
        (
            "strongroom doctor --policy shop.settings:policy",
            "strongroom doctor https://shop.example --path /sign-in",
            "strongroom doctor https://localhost:8443 --ca ca.pem --keys var/strongroom.keys",
        ),
        _options,
        doctor,
    ),
)
