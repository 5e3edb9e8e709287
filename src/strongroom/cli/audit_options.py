"""The options that the audit's commands share."""

from __future__ import annotations

import argparse

from .parsing import duration

PASSWORD = "STRONGROOM_AUDIT_PASSWORD"  # noqa: S105 - the variable's name
SECOND_PASSWORD = "STRONGROOM_AUDIT_SECOND_PASSWORD"  # noqa: S105 - the variable's name
FORMATS = ("terminal", "json", "sarif", "junit", "html", "markdown")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What to audit, how far to go, and what to make of it."""
    add_site(parser)
    parser.add_argument("--second-user", metavar="NAME", help="the attacker's own account")
    parser.add_argument(
        "--only", action="append", default=[], metavar="CHECK", help="a check, family or pattern"
    )
    parser.add_argument(
        "--skip", action="append", default=[], metavar="CHECK", help="not this check or family"
    )
    parser.add_argument(
        "--samples",
        type=_count,
        default=200,
        metavar="N",
        help="tokens to collect (default: %(default)s)",
    )
    parser.add_argument(
        "--wait", metavar="TIME", help="longest time to wait for a timeout, such as 35m"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and send nothing"
    )
    result = parser.add_argument_group("the report")
    result.add_argument("--format", choices=FORMATS, default="terminal", help="its form")
    result.add_argument("--output", metavar="FILE", help="write it there")
    result.add_argument("--baseline", metavar="FILE", help="findings that are accepted")
    result.add_argument(
        "--write-baseline", metavar="FILE", help="accept what is found now, from here on"
    )
    result.add_argument(
        "--strict", action="store_true", help="exit 1 also for what could not be told"
    )


def add_site(parser: argparse.ArgumentParser) -> None:
    """Which site, and who signs in."""
    parser.add_argument("url", nargs="?", metavar="URL", help="where the site begins")
    parser.add_argument("--user", metavar="NAME", help="who signs in")
    parser.add_argument("--target", metavar="FILE", help="the description of the site")


def add_way(parser: argparse.ArgumentParser) -> None:
    """How the site is reached."""
    way = parser.add_argument_group("the way to the site")
    way.add_argument(
        "--header", action="append", default=[], metavar="NAME: VALUE", help="with every request"
    )
    way.add_argument(
        "--cookie", action="append", default=[], metavar="NAME=VALUE", help="with every request"
    )
    way.add_argument("--basic", metavar="USER", help="basic authentication in front of the site")
    way.add_argument("--ca", metavar="FILE", help="believe certificates of this authority")
    way.add_argument(
        "--insecure", action="store_true", help="go on if the certificate is not right"
    )
    way.add_argument("--proxy", metavar="URL", help="an http proxy on the way")
    way.add_argument(
        "--rate", type=float, default=0.0, metavar="N", help="requests a second at most"
    )
    way.add_argument(
        "--budget",
        type=_count,
        default=5000,
        metavar="N",
        help="requests at most (default: %(default)s)",
    )
    way.add_argument(
        "--timeout", type=duration, default="20s", metavar="TIME", help="for each (default: 20s)"
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above zero")
    return int(text)
