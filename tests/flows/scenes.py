"""Stages and checks that several files of this folder share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from strongroom.stores.memory import MemoryStore
from strongroom.testing import Fates
from tests.support.flows import (
    GRACE,
    MINUTE,
    RENEW,
    SETTLE,
    Action,
    Log,
    Prepared,
    Stage,
    World,
    Worlds,
    chain,
    elevating,
    nothing,
    renewing,
    replies,
    saving,
    signing_in,
    writing,
)


def signed_in(world: World) -> None:
    """Alice has just signed in."""
    world.jars["alice"] = world.sign_in(kept=0)


def touch_due(world: World) -> None:
    """A minute later: the next request notes activity and the token's first use."""
    signed_in(world)
    world.clock.advance(MINUTE)


def confirmation_due(world: World) -> None:
    """The next request confirms the token."""
    touch_due(world)
    world.get(world.jars["alice"])
    world.clock.advance(SETTLE)


def renewal_due(world: World) -> None:
    """The next request renews the token."""
    signed_in(world)
    world.confirmed(world.jars["alice"])
    world.clock.advance(RENEW)


def renewal_lost(world: World) -> None:
    """The token was renewed, and the response with the new one never arrived."""
    renewal_due(world)
    world.jars["successor"] = world.renewed(world.jars["alice"])


def renewal_forgotten(world: World) -> None:
    """The client has the renewed token, and the store lost the renewal in a failover."""
    renewal_due(world)
    assert isinstance(world.store, MemoryStore)
    before = world.store.snapshot()
    world.jars["alice"] = world.renewed(world.jars["alice"])
    world.store.restore(before)


def anonymous(world: World) -> None:
    """A visitor with something in the cart."""
    cookie = world.get(None, writing(cart=[1])).cookie
    assert cookie
    world.jars["visitor"] = cookie


def pending(world: World) -> None:
    """Alice's password is proved, and her second factor is owed."""
    cookie = world.get(None, signing_in("alice", pending=True)).cookie
    assert cookie
    world.jars["pending"] = cookie


@dataclass(frozen=True, slots=True)
class Work:
    """What a request does to a session, and the stage on which it does it."""

    stage: Stage
    action: Action = nothing
    method: str = "GET"


WORKS = {
    "look": Work(signed_in),
    "save": Work(signed_in, saving(saved=1), "POST"),
    "touch": Work(touch_due),
    "confirm": Work(confirmation_due),
    "renew": Work(renewal_due, chain(renewing, writing(saved=1)), "POST"),
    "successor": Work(renewal_lost),
    "adopt": Work(renewal_forgotten),
    "elevate": Work(signed_in, elevating(), "POST"),
    "sign in again": Work(signed_in, signing_in("alice"), "POST"),
}
"""Everything that a request can do to a session that it is in."""


def prepared(stage: Stage) -> Callable[[], Worlds]:
    """A stage in memory, set once and only if it is used."""
    known: list[Worlds] = []

    def get() -> Worlds:
        if not known:
            known.append(Prepared(stage))
        return known[0]

    return get


def check_no_late_cookie(world: World, fates: Fates, log: Log) -> None:
    """No reply whose cookie was decided after its session ended hands one out (F1)."""
    for name, reply in replies(fates).items():
        if reply.cookie and world.over(reply.cookie) is not None:
            ended = log.ended(world.token(reply.cookie).session_id)
            assert log.last(name) < ended, f"{name} hands out a cookie of an ended session"


def a_while() -> int:
    """Longer than any honest request is under way."""
    return GRACE + SETTLE
