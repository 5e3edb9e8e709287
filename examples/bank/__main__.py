"""`python -m examples.bank`: run the bank on this machine."""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import socket
import sqlite3
import sys
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from strongroom import ConfigurationError, SessionPolicy, TrustedProxies

from .app import KEYS, create_app
from .desk import Bank
from .seed import CUSTOMERS, seed

_HERE = ("localhost", "127.0.0.1", "::1")
_LOG_SIZE = 1_000_000


class CannotStart(Exception):
    """A sentence for the person at the terminal."""


def main() -> int:
    """Run until Ctrl-C -> the exit code."""
    given = _arguments()
    # What the library warns of at the start, the notice below says too.
    logging.getLogger("strongroom").setLevel(logging.ERROR)
    try:
        sockets = _listen(given.host, given.port)
        new_keys = not (given.data_dir / KEYS).exists()
        app = _open(given)
    except (CannotStart, ConfigurationError) as error:
        print(f"The bank cannot open. {error}", file=sys.stderr)
        return 1
    print(_notice(given, sockets[0].getsockname()[1], new_keys=new_keys), flush=True)
    with suppress(KeyboardInterrupt):
        _serve(app, sockets)
    print("The bank is closed. Whoever was signed in still is when it opens again.")
    return 0


def _open(given: argparse.Namespace) -> FastAPI:
    policy = _policy(given.https_origin, given.host)
    try:
        app = create_app(data_dir=given.data_dir, policy=policy)
        _log(given.data_dir, events=given.events)
    except (OSError, sqlite3.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise CannotStart(
            f"{given.data_dir} cannot be used: {why}. Name another folder with --data-dir."
        ) from None
    if given.https_origin is None:
        bank: Bank = app.state.bank
        asyncio.run(seed(bank.accounts, bank.passwords, bank.clock()))
    return app


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.bank", description="Run the example bank on this machine."
    )
    parser.add_argument("--host", default="localhost", help="where to listen")
    parser.add_argument("--port", type=_port, default=8000, help="0 takes any free one")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path("var"),
        metavar="DIR",
        help="where keys, sessions and accounts are kept",
    )
    parser.add_argument("--events", action="store_true", help="security events on the terminal")
    parser.add_argument(
        "--https-origin",
        metavar="https://HOST",
        help="the production policy, behind a TLS proxy on this machine that serves this origin",
    )
    return parser.parse_args()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 65535")
    return int(text)


def _policy(https_origin: str | None, host: str) -> SessionPolicy:
    if https_origin is not None:
        proxies = TrustedProxies.of("127.0.0.1", "::1")
        return SessionPolicy(origins=(https_origin,), proxies=proxies)
    if host not in _HERE:
        raise CannotStart(
            f"Listening on {host} would show it to other machines, and without https it is for "
            "this one only: use --host localhost, or --https-origin behind a TLS proxy."
        )
    return SessionPolicy.for_development()


def _listen(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of the host, all on one port.

    Raises:
        CannotStart: the port is taken, or the host is not this machine's.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            try:
                sockets.append(_bound(family, address[0], port))
            except OSError as error:
                # A machine without IPv6 may know the name `localhost` for it all the same.
                if error.errno != errno.EADDRNOTAVAIL or not sockets:
                    raise
            port = sockets[0].getsockname()[1]
    except OSError as error:
        for each in sockets:
            each.close()
        if error.errno == errno.EADDRINUSE:
            raise CannotStart(
                f"Port {port} is taken by another program. Choose another one: "
                f"make demo PORT={port + 1} (or --port {port + 1})."
            ) from None
        raise CannotStart(f"Listening on {host}:{port} failed: {error.strerror}.") from None
    return sockets


def _bound(family: int, address: str | int, port: int) -> socket.socket:
    listening = socket.socket(family)
    try:
        if sys.platform != "win32":  # There it would share the port with a running program.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((address, port))
        # Asking now, so that a port in use is told before anything else is done.
        listening.listen()
    except OSError:
        listening.close()
        raise
    return listening


def _log(data_dir: Path, *, events: bool) -> None:
    """Security events as JSON lines: in a file, or on the terminal if that was asked for."""
    where: logging.Handler = (
        logging.StreamHandler()
        if events
        else RotatingFileHandler(data_dir / "events.log", maxBytes=_LOG_SIZE, backupCount=1)
    )
    logger = logging.getLogger("strongroom.events")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(where)


def _notice(given: argparse.Namespace, port: int, *, new_keys: bool) -> str:
    """What somebody who has just started the bank wants to know."""
    host = f"[{given.host}]" if ":" in given.host else given.host
    lines = ["", "  Tern & Holloway, a demonstration bank", ""]
    if given.https_origin:
        lines += [
            f"  Open        {given.https_origin}",
            f"              (listening on http://{host}:{port} for the proxy)",
            "  Policy      production: __Host- cookies, for https only",
        ]
    else:
        lines.append(f"  Open        http://{host}:{port}")
        for label, (username, _, password) in zip(("Sign in as", ""), CUSTOMERS, strict=True):
            lines.append(f"  {label:<11} {username:<6} password: {password}")
        lines.append("  Policy      development: cookies without Secure, for this machine only")
    made = "made now" if new_keys else "as they were, so earlier sign-ins still hold"
    events = "here, as JSON lines" if given.events else f"{given.data_dir / 'events.log'}"
    lines += [
        f"  Keys        {given.data_dir / KEYS} (mode 0600, {made});",
        "              production wants its own: strongroom keys generate",
        f"  Events      {events}",
        "  Close       Ctrl-C",
        "",
    ]
    return "\n".join(lines)


def _serve(app: FastAPI, sockets: list[socket.socket]) -> None:
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Strongroom judges forwarding headers itself; nobody may rewrite the peer before it.
        proxy_headers=False,
        timeout_graceful_shutdown=3,
    )
    uvicorn.Server(config).run(sockets=sockets)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # Before it was open.
        sys.exit(130)
