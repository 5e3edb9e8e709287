"""What a `postgresql://` URL says: where the server is, and how the store behaves.

    postgresql://user:password@host:5432/database
    postgresql://user@primary:5432,standby:5432/database?sslmode=verify-full
    postgresql:///database?host=/run/postgresql

What `libpq` knows goes to `libpq`, except what the store decides by itself. The password is in no
message and no `repr`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, unquote

from psycopg.conninfo import make_conninfo

from strongroom.core.errors import ConfigurationError

DEFAULT_SCHEMA = "strongroom"
_OURS = frozenset(
    "schema pool_min pool_max timeout_ms connect_timeout migrate pgbouncer direct_host "
    "direct_port".split()
)
_SCHEMA = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,39}")
# A server that has gone without a word is found out in about half a minute also where nobody asks.
_KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}


@dataclass(frozen=True, slots=True)
class Settings:
    """How the store connects and waits. Times are seconds.

    `timeout` bounds one op altogether: waiting for a connection, for locks and for the answer.
    `migrates` lets `open` make or change tables. `is_pooled` says that a PgBouncer in transaction
    mode stands between; `direct` then says where the server itself is, for `watch`.
    """

    address: Mapping[str, str] = field(repr=False)
    schema: str = DEFAULT_SCHEMA
    pool_min: int = 1
    pool_max: int = 10
    timeout: float = 2.0
    connect_timeout: int = 3
    migrates: bool = True
    is_pooled: bool = False
    direct: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    def __post_init__(self) -> None:
        if not _SCHEMA.fullmatch(self.schema):
            raise ConfigurationError(
                "The postgresql store's schema has a name that it cannot have.",
                why="It stands in every statement and names a channel.",
                hint="Use up to 40 of a-z, 0-9 and _, not beginning with a digit or pg_.",
            )
        if not 0 <= self.pool_min <= self.pool_max or self.pool_max < 1:
            raise ConfigurationError(
                f"A pool of {self.pool_min} to {self.pool_max} connections cannot be had.",
                hint="Give pool_max at least 1, and pool_min no more than that.",
            )
        if self.timeout <= 0 or self.connect_timeout < 1:
            raise ConfigurationError(
                "The postgresql store's URL gives no time to answer.",
                why="Every op would fail.",
                hint="Give timeout_ms and connect_timeout above zero: timeout_ms=2000.",
            )

    def conninfo(self, *, direct: bool = False, server_timeouts: bool = True) -> str:
        """What `libpq` connects with. `direct` goes past a PgBouncer."""
        address = {**self.address, **self.direct} if direct else dict(self.address)
        address.setdefault("application_name", "strongroom")
        # Only a server that can be written is asked, also where several hosts are named: what a
        # replica says about a session may have ended already (PROTOCOL H2).
        fixed: dict[str, str | int] = {
            "target_session_attrs": "read-write",
            "connect_timeout": self.connect_timeout,
            "client_encoding": "utf8",
            **_KEEPALIVE,
        }
        if server_timeouts and (direct or not self.is_pooled):
            fixed["options"] = self._server_timeouts()
        return make_conninfo("", **address, **fixed)

    def _server_timeouts(self) -> str:
        """What makes the server itself give up, so that nothing goes on after we have."""
        milliseconds = int(self.timeout * 1000)
        return (
            f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds} "
            f"-c idle_in_transaction_session_timeout={2 * milliseconds}"
        )


def understood(parts: SplitResult, options: Mapping[str, Any]) -> Settings:
    """The URL's settings.

    Raises:
        ConfigurationError: something in it cannot be. It is not repeated: it may be a password.
    """
    address = _address(parts)
    theirs = {name: str(value) for name, value in options.items() if name not in _OURS}
    for name in theirs.keys() & address.keys():
        raise ConfigurationError(
            f"The {parts.scheme} store's URL gives {name!r} twice.",
            hint="Say it before the '?' or after it, not in both places.",
        )
    direct = {"direct_host": "host", "direct_port": "port"}
    return Settings(
        address=address | theirs,
        schema=options.get("schema", DEFAULT_SCHEMA),
        pool_min=options.get("pool_min", 1),
        pool_max=options.get("pool_max", 10),
        timeout=options.get("timeout_ms", 2000) / 1000,
        connect_timeout=options.get("connect_timeout", 3),
        migrates=_switch("migrate", options, default=True),
        is_pooled=_switch("pgbouncer", options, default=False),
        direct={name: str(options[given]) for given, name in direct.items() if given in options},
    )


def _switch(name: str, options: Mapping[str, Any], *, default: bool) -> bool:
    value = options.get(name, int(default))
    if value not in (0, 1):
        raise ConfigurationError(
            f"The option {name!r} of the postgresql store's URL is neither 0 nor 1.",
            hint=f"Write {name}=1 for yes, {name}=0 for no.",
        )
    return bool(value)


def _address(parts: SplitResult) -> dict[str, str]:
    """User, password, hosts and database, as `libpq` names them."""
    login, at, hosts = parts.netloc.rpartition("@")
    address: dict[str, str] = {}
    if at:
        user, colon, password = login.partition(":")
        address["user"] = unquote(user)
        if colon:
            address["password"] = unquote(password)
    if hosts:
        names, ports = zip(*(_host(each) for each in hosts.split(",")), strict=True)
        address["host"] = ",".join(names)
        if any(ports):
            address["port"] = ",".join(port or "5432" for port in ports)
    database = unquote(parts.path.removeprefix("/"))
    if database:
        address["dbname"] = database
    return address


def _host(written: str) -> tuple[str, str]:
    """One host and its port; an address of IPv6 stands in brackets."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[^\[\]:]*)(?::([0-9]{1,5}))?", written)
    if match is None:
        raise ConfigurationError(
            "The postgresql store's URL has a host or port that cannot be understood.",
            hint="Write host:port, an IPv6 address in brackets, and %-encode a password's : / @.",
        )
    return unquote(match[1].strip("[]")), match[2] or ""
