"""Where the servers are, how they are talked to, and what is asked of them.

Nothing here shows a password: `repr` leaves it out, and no error repeats it.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from strongroom.core.errors import ConfigurationError

PREFIX = "sr:"
TIMEOUT_MS = 1_000
"""How long one exchange may take: a thousand times what a healthy server needs, and short enough
that a stuck server costs a request no more than a browser's patience."""
PATIENCE_MS = 2_000
"""How long an op may be tried in all, before it is answered 503."""
EPOCH_MS = 1_000
"""How old the store-wide epoch of a find may be in a cluster, where it lives on another node: the
protocol's default of `max_staleness` (E3). On one server every find reads it."""


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Mode(Enum):
    """How the servers work together."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Login:
    """An ACL user and password, or a password alone; neither where no login is asked for."""

    user: str = ""
    password: str = field(default="", repr=False)

    @property
    def words(self) -> tuple[str, ...]:
        """What follows AUTH; nothing where no login is asked for."""
        if not self.password:
            return ()
        return (self.user, self.password) if self.user else (self.password,)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a store on Valkey or Redis. Times are milliseconds.

    `addresses` are the server's, the sentinels', or a few of the cluster's nodes. `replicas` is how
    many replicas must have a durable op before it is acknowledged; `fsync` demands that it is in
    the append-only file of the primary, and of as many replicas.

    Raises:
        ConfigurationError: values that contradict each other.
    """

    addresses: tuple[Address, ...]
    mode: Mode = Mode.SINGLE
    primary_name: str = ""
    database: int = 0
    login: Login = Login()
    sentinel_login: Login = Login()
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    prefix: str = PREFIX
    timeout_ms: int = TIMEOUT_MS
    patience_ms: int = PATIENCE_MS
    replicas: int = 0
    fsync: bool = False
    allow_eviction: bool = False

    def __post_init__(self) -> None:
        if not self.addresses:
            raise ConfigurationError("The store names no server.", hint="Give a host.")
        if self.mode is Mode.CLUSTER and self.database:
            raise ConfigurationError(
                "The store names a database number, and a cluster has only database 0.",
                hint="Leave the number away; tell applications apart by their prefix.",
            )
        if self.mode is Mode.SENTINEL and not self.primary_name:
            raise ConfigurationError(
                "The store names no primary.",
                why="Sentinels watch several, and have to be asked for one by its name.",
                hint="Write it as the path: valkey+sentinel://host1,host2,host3/rooms.",
            )
        if set(self.prefix) & set("{}*?[]\\") or not self.prefix.isascii() or not self.prefix:
            raise ConfigurationError(
                f"The prefix {self.prefix!r} cannot begin the names of keys.",
                why="Braces would decide the slot of a cluster, wildcards what an ACL allows.",
                hint="Use letters, digits and colons, such as 'shop:'.",
            )
        if self.timeout_ms < 1 or self.patience_ms < self.timeout_ms:
            raise ConfigurationError(
                f"timeout_ms is {self.timeout_ms} and patience_ms {self.patience_ms}.",
                why="One exchange takes some time, and all attempts at least as long as one.",
                hint=f"The defaults are {TIMEOUT_MS} and {PATIENCE_MS}.",
            )

    @property
    def is_durable(self) -> bool:
        """Whether ends wait for more than the primary's memory."""
        return self.replicas > 0 or self.fsync

    @property
    def wait(self) -> tuple[str | int, ...]:
        """The command that waits until what this connection wrote is durable."""
        if self.fsync:
            return ("WAITAOF", 1, self.replicas, self.timeout_ms)
        return ("WAIT", self.replicas, self.timeout_ms)

    def is_enough(self, answer: object) -> bool:
        """Whether what WAIT or WAITAOF answered is what was asked for."""
        if self.fsync:
            match answer:
                case [int(local), int(remote)]:
                    return local >= 1 and remote >= self.replicas
                case _:
                    return False
        return isinstance(answer, int) and answer >= self.replicas
