"""Times that cannot be: in a record that somebody wrote into the store, and in a clock that jumps.

Nobody is let in longer than the sealed deadline says (P3, P9), and nothing answers 500.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from strongroom import RequestFacts, SessionManager
from strongroom.core.record import Header
from strongroom.keyfile import generate
from strongroom.manager import visit_of
from strongroom.stores.base import Store
from strongroom.stores.memory import MemoryStore
from strongroom.stores.sqlite import SQLiteStore
from strongroom.testing import FrozenClock
from strongroom.testing.clock import START
from tests.support.flows import HOUR, MINUTE

FIELDS = ("inserted_at", "last_seen", "idle_deadline", "purge_at", "ended_at")
NOTES = ("changed_at", "first_used_at", "confirmed_at")
TIMES = (-(2**63), -1, 0, 2**53, 2**63 - 1)
BEFORE_1970, AT_1970, IN_2262 = -HOUR, 0, (2**63 - 1) // 1_000_000
RING = generate("wrong times", BEFORE_1970)


class Shop:
    """A manager whose every call is used, so that one that breaks is noticed."""

    def __init__(self, store: Store, now: int) -> None:
        self.clock = FrozenClock(now)
        self.store = store
        self.manager = SessionManager(store, keys=RING, clock=self.clock, sinks=())
        self.cookie = b""

    def ask(self, *, post: bool = False, sign_in: bool = False) -> str | None:
        """A request that uses what a session tells -> who is signed in."""
        headers = [(b"cookie", self.cookie), (b"sec-fetch-site", b"same-origin")]
        facts = RequestFacts(method="POST" if post else "GET", headers=headers)
        session = self.manager.open(facts)
        if sign_in:
            session.sign_in("alice")
        if post:
            session["visits"] = session.get("visits", 0) + 1
        told = session.subject
        assert session.expires_at is None or session.created_at is not None
        for line in self.manager.close(session).cookies:
            self.cookie = line.partition(b";")[0]
        self.manager.deliver(visit_of(session).take_events())
        return told

    def look_after(self) -> None:
        """What the owner and the operator do."""
        assert isinstance(self.manager.sessions_of("alice", include_ended=True), list)
        assert isinstance(self.manager.history("alice"), list)
        self.manager.export_subject("alice")
        self.manager.sweep()


def in_header(field: str, time: int) -> Callable[[Header], Header]:
    if field in FIELDS:
        return lambda header: replace(header, **{field: time})  # type: ignore[arg-type]
    return lambda header: replace(
        header,
        credential=replace(header.credential, **{field: time}),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("field", [*FIELDS, *NOTES])
def test_a_record_with_a_time_that_cannot_be(field: str, time: int) -> None:
    """Whoever writes the store ends a session early, or breaks nothing (P3, C1)."""
    store = MemoryStore()
    shop = Shop(store, START)
    with shop.manager:
        shop.ask(post=True, sign_in=True)
        ((session_id, record),) = store._records.items()
        store._records[session_id] = replace(record, header=in_header(field, time)(record.header))
        shop.clock.advance(20 * MINUTE)
        assert shop.ask() in ("alice", None)
        shop.look_after()
        shop.ask(post=True)
        shop.clock.advance(8 * HOUR - 20 * MINUTE)
        assert shop.ask() is None, "a time in the clear made the session live longer"
        assert shop.ask(post=True, sign_in=True) == "alice"
        assert shop.manager.end_all_of("alice") >= 1


@pytest.mark.parametrize("jump", list(permutations([BEFORE_1970, AT_1970, START, IN_2262], 2)))
@pytest.mark.parametrize("kept", ["memory", "sqlite"])
def test_a_clock_that_jumps_by_decades(kept: str, jump: tuple[int, int], tmp_path: Path) -> None:
    """Set wrong at the start of the machine, and put right, or the other way round (P9, E6)."""
    store: Store = MemoryStore() if kept == "memory" else SQLiteStore(tmp_path / "sessions.db")
    first, then = jump
    shop = Shop(store, first)
    with shop.manager:
        assert shop.ask(post=True, sign_in=True) == "alice"
        for now in (then, first, then):
            shop.clock.set(now)
            assert shop.ask(post=True) in ("alice", None)
            shop.look_after()
            assert shop.ask(post=True, sign_in=True) == "alice"
            assert shop.ask() == "alice"
            shop.clock.set(now + 8 * HOUR)
            assert shop.ask() is None
        assert shop.ask(post=True, sign_in=True) == "alice"
        assert shop.manager.end_all_of("alice") >= 1
        assert shop.ask() is None
