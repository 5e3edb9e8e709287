"""The near cache's two faces over a channel that fails, and reads that take their time (H3, P16).

Every test runs for both: the async one is seen through an event loop in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import pytest

from strongroom import SessionPolicy
from strongroom.core.errors import ConfigurationError, StoreUnavailable
from strongroom.core.ops import AtLimit, EndAll, EndSubject, Find, Found, Insert, Limit, Sweep
from strongroom.core.record import EndReason, Record
from strongroom.stores import pausing
from strongroom.stores.base import NearStats, Store
from strongroom.stores.bridge import AsyncBridge, WatchableBridge
from strongroom.stores.near_cache import AsyncNearCache, Limits, NearCache
from strongroom.stores.sqlite import SQLiteStore
from strongroom.testing.clock import START
from strongroom.testing.contract.harness import Blocking
from strongroom.testing.records import (
    IDENTITY,
    KEEP,
    a_record,
    a_replace,
    a_rotate,
    a_shift,
    a_subject_key,
    a_touch,
    an_end,
    an_insert,
)
from tests.support.channels import PATIENCE, FaultyStore

BOUND = 0.2
LIMITS = Limits(max_staleness=BOUND)


class Near:
    """A near cache behind a synchronous face, and the store behind it."""

    def __init__(self, kind: str) -> None:
        self.faulty = FaultyStore()
        self.pool = ThreadPoolExecutor(16)
        self.loop: asyncio.AbstractEventLoop | None = None
        if kind == "sync":
            self.cache: NearCache | AsyncNearCache = NearCache(self.faulty, LIMITS)
            self.face = cast("Store", self.cache)
        else:
            self.loop = asyncio.new_event_loop()
            self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
            self.thread.start()
            self.cache = AsyncNearCache(Threaded(self.faulty), LIMITS)
            self.face = cast("Store", Blocking(self.cache, self.loop))
        self.face.open(IDENTITY)

    def close(self) -> None:
        self.face.close()
        self.pool.shutdown(wait=True)
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(PATIENCE)
            self.loop.close()

    @property
    def stats(self) -> NearStats:
        return self.cache.stats()

    def insert(self, record: Record | None = None) -> Record:
        """A record that another process inserted."""
        inserted = self.faulty.insert(an_insert(record or a_record()))
        assert inserted.record is not None
        return inserted.record

    def find(self, record: Record, *, authoritative: bool = False) -> Found | None:
        return self.face.find(Find(record.session_id, authoritative=authoritative))

    def is_live(self, record: Record) -> bool:
        found = self.find(record)
        return found is not None and found.record.is_live

    def later(self, record: Record) -> Future[Found | None]:
        """A read that goes on beside the test."""
        return self.pool.submit(self.find, record)

    def kept(self) -> Record:
        """A record that is in the cache now."""
        record = self.insert()
        self.until(lambda: self.find(record) is not None and self.stats.entries > 0)
        return record

    def alive(self) -> None:
        """Wait until the channel is known to live."""
        nobody = a_record()
        self.until(lambda: self.find(nobody) is None and self.stats.alive)

    @staticmethod
    def until(there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not there():
            assert time.monotonic() < deadline, "it does not come"
            time.sleep(0.002)


class Threaded(WatchableBridge):
    """As the bridge, but each read in a thread of its own, so that a slow one holds nobody up."""

    async def find(self, op: Find) -> Found | None:
        return await asyncio.to_thread(self.store.find, op)


@pytest.fixture(params=["sync", "async"])
def near(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Near]:
    """A near cache whose channel lives, and comes back quickly."""
    monkeypatch.setattr(pausing, "FIRST_PAUSE", 0.01)
    made = Near(request.param)
    try:
        made.alive()
        yield made
    finally:
        made.faulty.broken = None
        made.close()


def test_a_hit_asks_nobody(near: Near):
    """Of a hundred reads the store sees the first."""
    record = near.insert()
    near.find(record)
    before = near.faulty.finds
    near.alive()
    asked = near.faulty.finds
    found = [near.find(record) for _ in range(100)]
    assert near.faulty.finds == asked
    assert before <= asked
    assert all(each is not None and not each.authoritative for each in found)
    assert near.stats.hits >= 100


def test_an_authoritative_read_asks_the_store_and_refreshes(near: Near):
    """However fresh the entry is (H2)."""
    record = near.kept()
    asked = near.faulty.finds
    found = near.find(record, authoritative=True)
    assert found is not None
    assert found.authoritative
    assert near.faulty.finds == asked + 1


def test_a_stampede_is_one_read(near: Near):
    """Eight requests miss the same session at once (no stampede)."""
    record = near.insert()
    asked = near.faulty.finds
    with near.faulty.slow_reads() as gate:
        first = near.later(record)
        assert near.faulty.arrived.acquire(timeout=PATIENCE)
        others = [near.later(record) for _ in range(7)]
        near.until(lambda: near.stats.misses >= 8)
        time.sleep(0.02)
        gate.set()
        answers = [each.result(PATIENCE) for each in (first, *others)]
    assert all(each is not None and each.record == record for each in answers)
    assert near.faulty.finds == asked + 1


def test_who_waits_for_a_read_that_fails_fails_with_it(near: Near):
    """A store that is down is not asked eight times by eight who came together (P22)."""
    record = near.insert()
    with near.faulty.slow_reads() as gate:
        first = near.later(record)
        assert near.faulty.arrived.acquire(timeout=PATIENCE)
        second = near.later(record)
        near.until(lambda: near.stats.misses >= 2)
        near.faulty.refuses = True  # a channel that came back would let the answers be kept
        near.faulty.cut_channel()
        near.until(lambda: not near.stats.alive)
        gate.set()
        assert first.result(PATIENCE) is not None
        assert second.result(PATIENCE) is not None
    near.faulty.broken = StoreUnavailable("It is down.")
    with pytest.raises(StoreUnavailable):
        near.find(record)


def test_an_end_that_overtakes_a_read_wins(near: Near):
    """The read saw the session alive; before its answer is here everybody knows better (P6)."""
    record = near.insert()
    with near.faulty.slow_reads() as gate:
        reading = near.later(record)
        assert near.faulty.arrived.acquire(timeout=PATIENCE)
        near.faulty.end(an_end(record))
        joined = near.later(record)
        assert near.faulty.arrived.acquire(timeout=PATIENCE), "it joined a read that was overtaken"
        gate.set()
        assert reading.result(PATIENCE) is not None
        found = joined.result(PATIENCE)
    assert found is not None
    assert not found.record.is_live
    assert not near.is_live(record)


def test_what_others_change_is_seen_at_once(near: Near):
    """A change that was told is seen by the next read, whatever kind it is (P16)."""
    for make in (a_touch, a_shift, a_rotate, a_replace, an_end):
        record = near.kept()
        op = make(record)
        changed = getattr(near.faulty, op.verb)(op)
        found = near.find(record)
        assert found is not None
        assert found.record == changed.record


def test_own_writes_are_seen_at_once_while_the_channel_says_nothing(near: Near):
    """Before they are acknowledged, and without any notice (P6, H3)."""
    for make in (a_touch, a_shift, a_rotate, a_replace, an_end):
        record = near.kept()
        near.faulty.hold()
        op = make(record)
        changed = getattr(near.face, op.verb)(op)
        found = near.find(record)
        assert found is not None
        assert found.record == changed.record
        near.faulty.release()


def test_what_an_own_write_ends_beside_is_gone_at_once(near: Near):
    """Everybody's sessions, a subject's, an evicted one, a swept one (P16, E3)."""
    subject = a_subject_key("alice")
    everywhere = EndSubject(subject, b"r" * 8, EndReason.EVERYWHERE, START, START + KEEP, b"e" * 8)
    newer = a_record(now=START + 1)
    limit = Limit(1, AtLimit.EVICT_OLDEST)
    acts: list[Callable[[], object]] = [
        lambda: near.face.end_subject(everywhere),
        lambda: near.face.insert(
            Insert(newer, START + 1, limit=limit, evicted_purge_at=START + KEEP)
        ),
    ]
    for act in acts:
        record = near.kept()
        near.faulty.hold()
        act()
        assert not near.is_live(record)
        near.faulty.release()
        near.face.end_subject(everywhere)
    due = near.insert(a_record(purge_at=START))
    near.find(due)
    near.faulty.hold()
    assert near.face.sweep(Sweep(START, limit=10)) == 1
    assert near.find(due) is None
    near.faulty.release()
    record = near.kept()
    near.faulty.hold()
    near.face.end_all(EndAll(b"n" * 8, START))
    found = near.find(record)
    assert found is not None
    assert found.store_epoch == b"n" * 8


def test_a_cut_channel_is_noticed_at_once(near: Near):
    """Nothing is answered from memory, and soon there is another channel (H3)."""
    record = near.kept()
    near.faulty.refuses = True
    near.faulty.cut_channel()
    near.until(lambda: not near.stats.alive)
    near.faulty.end(an_end(record))
    assert not near.is_live(record)
    assert near.stats.entries == 0
    near.faulty.refuses = False
    near.kept()
    assert near.stats.channels >= 2


def test_silence_is_borne_no_longer_than_the_bound(near: Near):
    """Proofs and notices are stuck: whoever asks later than the bound sees the end (P16).

    The bound is hard: it counts from the end's acknowledgement, and no load can stretch it.
    """
    record = near.kept()
    near.faulty.hold()
    near.faulty.end(an_end(record))
    ended_at = time.monotonic()
    while True:
        asked_at = time.monotonic()
        if not near.is_live(record):
            break
        assert asked_at < ended_at + BOUND
    near.faulty.release()
    near.kept()


def test_what_an_old_channel_still_says_counts_nothing(near: Near):
    """Its notices arrive when there is a new one, and its proofs do not prove that one (H3)."""
    near.kept()
    near.faulty.hold()
    near.until(lambda: not near.stats.alive)
    before = near.stats.channels
    near.faulty.cut_channel()
    near.until(lambda: near.stats.channels > before)
    with near.faulty._lock:
        stale, near.faulty._held = near.faulty._held or [], None
    record = near.kept()
    near.faulty.hold()
    for arrive in stale:
        arrive()
    assert near.find(record) is not None
    near.faulty.release()


def test_telling_twice_does_no_harm(near: Near):
    """A duplicate costs a read at most."""
    near.faulty.twice = True
    record = near.kept()
    near.faulty.end(an_end(record))
    assert not near.is_live(record)


def test_a_channel_that_is_open_and_dead_is_given_up(near: Near, monkeypatch: Any):
    """A network that swallows everything: reads go through, and a new channel is tried (H3)."""
    for face in ("blocking", "waiting"):
        monkeypatch.setattr(f"strongroom.stores.near_cache.{face}.patience", lambda _: 0.1)
    record = near.kept()
    near.faulty.deaf = True
    before = near.stats.channels
    near.until(lambda: near.stats.channels > before)
    near.faulty.end(an_end(record))
    assert not near.is_live(record)
    near.faulty.deaf = False
    near.kept()


def test_a_loss_is_logged_once_and_takes_nobody_down(near: Near, caplog: pytest.LogCaptureFixture):
    """However often the channel is refused; and so is its return (H3)."""
    record = near.kept()
    with caplog.at_level(logging.INFO, "strongroom"):
        near.faulty.refuses = True
        near.faulty.cut_channel()
        tried = near.faulty.watches
        near.until(lambda: near.faulty.watches > tried + 2)
        assert near.find(record) is not None
        near.faulty.refuses = False
        near.kept()
    said = [each.getMessage() for each in caplog.records if "push channel" in each.getMessage()]
    assert len(said) == 2
    assert "reads the store" in said[0]
    assert "is back" in said[1]


def test_closing_ends_the_channel_and_opening_begins_another(near: Near):
    """Nothing is left behind, and nothing from before counts."""
    record = near.kept()
    near.face.close()
    assert near.stats.entries == 0
    with pytest.raises(StoreUnavailable):
        near.find(record)
    near.until(lambda: not near.faulty._watchers)
    near.face.open(IDENTITY)
    assert near.find(record) is not None
    near.alive()
    near.face.close()
    near.face.close()


def test_pauses_grow_and_differ():
    """A thousand processes do not come back in step; after a success it begins anew."""
    pauses, others = (
        pausing.Pauses("it", "nothing happens"),
        pausing.Pauses("it", "nothing happens"),
    )
    waited = [pauses.lost(None) for _ in range(12)]
    assert all(0 < each <= pausing.LONGEST_PAUSE for each in waited)
    assert waited[-1] > 10 * waited[0]
    assert waited != [others.lost(None) for _ in range(12)]
    pauses.settled()
    assert pauses.lost(None) <= pausing.FIRST_PAUSE


def test_a_store_that_does_not_push_has_no_near_cache():
    """It would never let go of anything (P16)."""
    with pytest.raises(ConfigurationError, match="does not push"):
        NearCache(cast("Store", SQLiteStore("never.db")))
    with pytest.raises(ConfigurationError, match="does not push"):
        AsyncNearCache(AsyncBridge(SQLiteStore("never.db")))
    with pytest.raises(ConfigurationError, match="does not push"):
        WatchableBridge(SQLiteStore("never.db"))


def test_the_policy_sets_the_bound():
    """`max_staleness` is one number, and the smaller one wins (H3)."""
    from datetime import timedelta

    from strongroom.manager import AsyncSessionManager, SessionManager
    from tests.support.site import KEYS

    policy = SessionPolicy(max_staleness=timedelta(milliseconds=300))
    near = NearCache(FaultyStore())
    SessionManager(near, keys=KEYS, policy=policy)
    assert near.limits.max_staleness == 0.3
    waiting = AsyncNearCache(WatchableBridge(FaultyStore()), Limits(max_staleness=0.1))
    AsyncSessionManager(waiting, keys=KEYS, policy=policy)
    assert waiting.limits.max_staleness == 0.1


def test_who_stops_waiting_takes_nothing_from_the_others():
    """A cancelled request, first in line or not, leaves the others their answer."""

    async def scene() -> None:
        faulty = FaultyStore()
        near = AsyncNearCache(Threaded(faulty), LIMITS)
        await near.open(IDENTITY)
        record = faulty.insert(an_insert(a_record())).record
        assert record is not None
        while not near.stats().alive:
            await near.find(Find(b"n" * 16))
            await asyncio.sleep(0.005)
        for victim in (0, 1):
            faulty.touch(a_touch(record, later=victim + 1))
            with faulty.slow_reads() as gate:
                tasks = []
                for _ in range(3):
                    tasks.append(asyncio.ensure_future(near.find(Find(record.session_id))))
                    await asyncio.sleep(0)
                await asyncio.to_thread(faulty.arrived.acquire, timeout=PATIENCE)
                tasks[victim].cancel()
                await asyncio.sleep(0)
                gate.set()
                done = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(done[victim], asyncio.CancelledError)
            rest = [each for number, each in enumerate(done) if number != victim]
            assert all(isinstance(each, Found) for each in rest)
        await near.close()

    asyncio.run(scene())


def test_a_loop_that_ended_takes_no_other_down():
    """The channel lived in it; the next read elsewhere opens another."""
    faulty = FaultyStore()
    near = AsyncNearCache(WatchableBridge(faulty), LIMITS)
    faulty.open(IDENTITY)
    record = faulty.insert(an_insert(a_record())).record
    assert record is not None

    async def scene() -> int:
        await near.open(IDENTITY)
        while not near.stats().alive or near.stats().entries == 0:
            await near.find(Find(record.session_id))
            await asyncio.sleep(0.005)
        return near.stats().channels

    first = asyncio.run(scene())
    assert asyncio.run(scene()) > first

    async def last() -> None:
        await near.close()

    asyncio.run(last())


FORKING = """
import os, sys, time
from strongroom.core.ops import Find
from strongroom.stores.memory import MemoryStore
from strongroom.stores.near_cache import NearCache
from strongroom.testing.records import a_record, an_insert

near = NearCache(MemoryStore())
near.open(bytes(16))
record = near.insert(an_insert(a_record())).record

def fill():
    for _ in range(2000):
        near.find(Find(record.session_id))
        if near.stats().alive and near.stats().entries:
            return
        time.sleep(0.005)
    sys.exit("the channel does not live")

fill()
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
assert not near.stats().alive and not near.stats().entries, near.stats()
fill()
near.close()
"""


@pytest.mark.slow
def test_a_forked_child_has_a_channel_of_its_own():
    """gunicorn with --preload: what the parent knew proves nothing in the child (H3)."""
    subprocess.run([sys.executable, "-c", FORKING], check=True, timeout=60)
