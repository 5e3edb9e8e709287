"""Ports of loopback that stay free until a server has bound them."""

from __future__ import annotations

import random
import socket

_random = random.SystemRandom()

RANGE = (10_000, 32_000)
"""Below what systems give to outgoing connections: one of those could take the port in between."""


def free_port() -> int:
    """A loopback port that nobody listened on a moment ago."""
    while True:
        port = _random.randrange(*RANGE)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
