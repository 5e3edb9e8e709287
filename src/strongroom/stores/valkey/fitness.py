"""Whether a server is one on which the promises can be kept: asked once, at start-up.

Every primary is asked. What is refused: a server that may evict our keys (an evicted session is a
silent sign-out, and an evicted epoch would let an old sign-in through), one that is too old, and
one that works together with others in another way than the URL says.
"""

from __future__ import annotations

from collections.abc import Iterable

from strongroom.core.errors import StoreError

from . import faults
from .faults import Lost, Refusal
from .routing import Exchange, Router, Steps, first
from .settings import Address, Mode, Settings

OLDEST = (7, 0)
"""Scripts that may run when the memory is full came with Redis 7.0; Valkey calls itself 7.2."""

_WHY_EVICTION = (
    "A session that is evicted is a silent sign-out, and an evicted epoch could let an old sign-in "
    "through."
)


def check(router: Router) -> Steps[None]:
    """Ask every primary what it is.

    Raises:
        StoreMismatch: one of them is not fit.
        StoreUnavailable: one of them does not answer.
    """
    try:
        primaries = yield from router.topology.primaries()
        for address in primaries:
            facts = yield from _facts(address, ("server", "memory", "cluster", "persistence"))
            refused = problem(facts, router.settings, address)
            if refused is not None:
                raise refused
    except Lost as lost:
        router.topology.doubt(lost.address)
        raise faults.unavailable(lost) from lost
    except Refusal as refusal:
        if router.settings.mode is Mode.CLUSTER and "cluster support disabled" in refusal.reply:
            raise faults.unfit(
                f"{refusal.address} belongs to no cluster",
                why="It cannot say who serves a session.",
                hint="Write valkey:// for a server alone.",
            ) from None
        raise faults.unavailable(refusal) from refusal


def _facts(address: Address, sections: Iterable[str]) -> Steps[dict[str, str]]:
    facts: dict[str, str] = {}
    for section in sections:
        said = first(address, (yield Exchange(address, (("INFO", section),))))
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else ""
        for line in text.splitlines():
            name, colon, value = line.partition(":")
            if colon:
                facts[name] = value
    return facts


def problem(facts: dict[str, str], settings: Settings, address: Address) -> StoreError | None:
    """Why the server is not fit, or None where it is."""
    version = facts.get("redis_version", "")
    numbers = tuple(int(each) for each in version.split(".")[:2] if each.isdigit())
    if numbers < OLDEST:
        return faults.unfit(
            f"{address} is of version {version or 'unknown'}",
            why="The store's scripts need Valkey, or Redis 7.0 or newer.",
            hint="Upgrade the server.",
        )
    is_cluster = facts.get("cluster_enabled") == "1"
    if is_cluster and settings.mode is not Mode.CLUSTER:
        return faults.unfit(
            f"{address} is a node of a cluster",
            why="Most sessions live on its other nodes.",
            hint="Write valkey+cluster:// in the store's URL.",
        )
    if settings.fsync and facts.get("aof_enabled") != "1":
        return faults.unfit(
            f"{address} has no append-only file, and durable_fsync asks for one",
            why="Nothing that it acknowledges could be waited for to be on its disk.",
            hint="Set appendonly yes, or leave durable_fsync away.",
        )
    policy = facts.get("maxmemory_policy", "unknown")
    if policy != "noeviction" and not settings.allow_eviction:
        return faults.unfit(
            f"{address} may evict sessions: its maxmemory-policy is {policy}",
            why=_WHY_EVICTION,
            hint="Set maxmemory-policy noeviction, on a server of its own if others need it "
            "otherwise; or say ?allow_eviction=1, and have sessions vanish.",
        )
    return None
