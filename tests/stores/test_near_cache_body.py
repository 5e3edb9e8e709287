"""The near cache's body, stepped by hand: what a moment, a notice and a read come to (H3).

The clock is a number, so every interleaving is written down and none is hoped for.
"""

from __future__ import annotations

import gc
import itertools
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import pytest

from strongroom.core.ops import Alive, Changed, ChangedAll, Found, Notice
from strongroom.core.record import EndReason, Record, decode_header
from strongroom.stores.near_cache.cache import ENTRY_BYTES, Cache, Fill, Limits, Listener
from strongroom.testing.records import a_record

EPOCH, NEW_EPOCH = b"\x01" * 8, b"\x02" * 8
LIMITS = Limits(entries=3, size=10**6, max_age=60.0, max_staleness=1.0)


class Bench:
    """A cache with a channel, and a clock that only moves when told."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.now = 100.0
        self.cache = Cache(limits)
        self.channel = self.cache.open_channel(self.now)

    def tell(self, notice: Notice, channel: int | None = None) -> None:
        self.cache.tell(self.channel if channel is None else channel, notice, self.now)

    def prove(self, epoch: bytes = EPOCH, ago: float = 0.0) -> None:
        self.tell(Alive(self.now - ago, epoch))

    def read(self, record: Record) -> Fill:
        """Send a read; its answer has not come yet."""
        fill, is_ours = self.cache.board(record.session_id, self.now, None, object, alone=False)
        assert fill is not None
        assert is_ours
        return fill

    def answer(self, fill: Fill, record: Record | None, epoch: bytes = EPOCH) -> None:
        found = None if record is None else Found(record, epoch)
        self.cache.landed(fill, found, self.now)

    def keep(self, record: Record) -> None:
        self.answer(self.read(record), record)

    def hit(self, record: Record) -> Found | None:
        return self.cache.hit(record.session_id, self.now)


@pytest.fixture
def bench() -> Bench:
    """A cache whose channel has just proved that it lives."""
    made = Bench()
    made.prove()
    return made


def ended(record: Record) -> Record:
    """The record after somebody's sign-out."""
    header = replace(record.header, end_reason=EndReason.LOGOUT, revision=b"e" * 8)
    return replace(record, header=header, data=b"")


def test_what_was_read_is_here(bench: Bench):
    """And says that it is no word of the store's (H2, H3)."""
    record = a_record()
    assert bench.hit(record) is None
    bench.keep(record)
    assert bench.hit(record) == Found(record, EPOCH, authoritative=False)


def test_without_a_proof_nothing_is_kept_or_shared():
    """A channel that has only just begun may have missed anything (H3)."""
    bench = Bench()
    fill, is_ours = bench.cache.board(b"x" * 16, bench.now, None, object, alone=False)
    assert (fill, is_ours) == (None, True)
    bench.tell(Changed((b"x" * 16,)))
    assert bench.cache.board(b"x" * 16, bench.now, None, object, alone=False)[0] is None


@pytest.mark.parametrize(("age", "usable"), [(0.0, True), (0.999, True), (1.0, False), (9, False)])
def test_a_hit_needs_a_proof_within_the_bound(bench: Bench, age: float, usable: bool):
    """At exactly `max_staleness` it is too old (H3, P16)."""
    record = a_record()
    bench.keep(record)
    bench.now += age
    assert (bench.hit(record) is not None) is usable


def test_a_proof_counts_from_when_it_was_asked_for(bench: Bench):
    """An answer that took long proves little: what came after the question is not in it (H3)."""
    record = a_record()
    bench.keep(record)
    bench.now += 0.9
    bench.prove(ago=0.8)
    bench.now += 0.1
    assert bench.hit(record) is not None
    bench.now += 0.11
    assert bench.hit(record) is None


def test_proofs_out_of_order_do_not_take_time_back(bench: Bench):
    """The newest question counts, whichever answer came last."""
    record = a_record()
    bench.keep(record)
    bench.now += 0.5
    bench.prove()
    bench.prove(ago=0.4)
    bench.now += 0.9
    assert bench.hit(record) is not None


@pytest.mark.parametrize(("age", "usable"), [(59.9, True), (60.0, False)])
def test_an_entry_ages_from_when_its_read_was_sent(bench: Bench, age: float, usable: bool):
    """Not from when the answer came, and no proof makes it younger (H3)."""
    record = a_record()
    fill = bench.read(record)
    bench.now += 0.5
    bench.answer(fill, record)
    for _ in range(round((age - 0.5) / 0.1)):
        bench.now += 0.1
        bench.prove()
    bench.now = 100.0 + age
    bench.prove()
    assert (bench.hit(record) is not None) is usable


def test_a_change_drops_its_entry_and_no_other(bench: Bench):
    """The next reader asks the store (P16)."""
    one, other = a_record(), a_record()
    bench.keep(one)
    bench.keep(other)
    bench.tell(Changed((one.session_id,)))
    assert bench.hit(one) is None
    assert bench.hit(other) is not None


def test_a_fill_that_a_change_overtook_is_thrown_away(bench: Bench):
    """The read saw the session alive, the sign-out is told, and only then the answer comes (P6)."""
    record = a_record()
    fill = bench.read(record)
    bench.tell(Changed((record.session_id,)))
    bench.answer(fill, record)
    assert bench.hit(record) is None
    assert not fill.usable
    assert bench.cache.stats(bench.now).overtaken == 1


def test_nobody_joins_a_read_that_a_change_overtook(bench: Bench):
    """Who comes after the change begins a read of their own (P6, H3)."""
    record = a_record()
    fill = bench.read(record)
    bench.tell(Changed((record.session_id,)))
    later = bench.read(record)
    assert later is not fill
    bench.answer(fill, record)
    bench.answer(later, ended(record))
    assert bench.hit(record) is None


def interleavings(*threads: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Every order of these steps that keeps each thread's own."""
    steps = [(number, step) for number, thread in enumerate(threads) for step in thread]
    orders = set()
    for order in itertools.permutations(steps):
        kept = [tuple(s for n, s in order if n == number) for number in range(len(threads))]
        if kept == list(threads):
            orders.add(tuple(step for _, step in order))
    return sorted(orders)


RACE = interleavings(("send 1", "land 1"), ("end", "told"), ("send 2", "land 2"))


@pytest.mark.parametrize("order", RACE, ids="-".join)
def test_no_order_of_reads_and_an_end_keeps_the_session_alive(bench: Bench, order: tuple[str, ...]):
    """Two misses, a sign-out in the store and its notice, in all ninety orders (P6, P16).

    Once it is told, no hit shows the session alive, and no later answer brings it back.
    """
    record = a_record()
    stored = record
    fills: dict[str, Fill] = {}
    seen: dict[str, Record] = {}
    told = False
    for step in order:
        what, _, number = step.partition(" ")
        match what:
            case "send":
                fill, _ = bench.cache.board(record.session_id, bench.now, None, object, alone=True)
                assert fill is not None
                fills[number], seen[number] = fill, stored
            case "land":
                bench.answer(fills[number], seen[number])
            case "end":
                stored = ended(record)
            case _:
                bench.tell(Changed((record.session_id,)))
                told = True
        if told:
            assert bench.hit(record) is None


@pytest.mark.parametrize("order", interleavings(("send", "land"), ("shift", "told")), ids="-".join)
def test_no_order_of_a_read_and_a_renewal_leaves_the_old_token(
    bench: Bench, order: tuple[str, ...]
):
    """What is kept after the notice is the record after the renewal, or nothing (H3, P11)."""
    record = a_record()
    renewed = replace(record, header=replace(record.header, revision=b"r" * 8))
    stored, fill, seen = record, None, record
    for step in order:
        match step:
            case "send":
                fill, seen = bench.read(record), stored
            case "land":
                assert fill is not None
                bench.answer(fill, seen)
            case "shift":
                stored = renewed
            case _:
                bench.tell(Changed((record.session_id,)))
    found = bench.hit(record)
    assert found is None or found.record == renewed


def test_an_own_write_counts_before_any_notice(bench: Bench):
    """In this process a write is seen at once, also by who had been reading (P6, H3)."""
    record = a_record()
    bench.keep(record)
    other = bench.cache.board(record.session_id, bench.now, None, object, alone=True)[0]
    assert other is not None
    bench.cache.drop((record.session_id,))
    assert bench.hit(record) is None
    bench.answer(other, record)
    assert bench.hit(record) is None


def test_a_late_notice_of_an_own_write_costs_a_read_and_nothing_else(bench: Bench):
    """It says what is known already: dropping once more is never wrong."""
    record = a_record()
    bench.cache.drop((record.session_id,))
    bench.keep(record)
    bench.tell(Changed((record.session_id,)))
    assert bench.hit(record) is None


@pytest.mark.parametrize(
    "blow",
    [
        lambda bench: bench.tell(ChangedAll()),
        lambda bench: bench.prove(NEW_EPOCH),
        lambda bench: bench.cache.lose_channel(bench.channel),
        lambda bench: bench.cache.open_channel(bench.now),
        lambda bench: bench.cache.distrust(bench.now),
        lambda bench: bench.cache.reset(),
    ],
    ids=["anything", "epoch", "lost", "another channel", "own epoch", "fork"],
)
def test_what_may_concern_all_leaves_nothing(bench: Bench, blow: Callable[[Bench], None]):
    """No entry, and no read that was under way (E3, H3)."""
    kept, reading = a_record(), a_record()
    bench.keep(kept)
    fill = bench.read(reading)
    blow(bench)
    bench.answer(fill, reading)
    for record in (kept, reading):
        assert bench.hit(record) is None
    assert bench.cache.stats(bench.now).entries == 0


def test_a_silence_leaves_nothing_from_before_it(bench: Bench):
    """A channel that could not prove its life in time begins anew (H3)."""
    record = a_record()
    bench.keep(record)
    fill = bench.read(a_record())
    bench.now += 1.0
    bench.prove()
    assert bench.hit(record) is None
    bench.answer(fill, record)
    assert bench.hit(record) is None


def test_an_old_channel_is_not_listened_to(bench: Bench):
    """Not even its proofs: what it tells is in no order with the new one (H3)."""
    old = bench.channel
    bench.channel = bench.cache.open_channel(bench.now)
    bench.tell(Alive(bench.now, EPOCH), channel=old)
    record = a_record()
    assert bench.cache.board(record.session_id, bench.now, None, object, alone=False)[0] is None
    bench.prove()
    bench.keep(record)
    bench.tell(ChangedAll(), channel=old)
    bench.cache.lose_channel(old)
    assert bench.hit(record) is not None


def test_hits_carry_the_newest_epoch_that_was_told(bench: Bench):
    """A record from before the end of all sessions is dead at the next hit (E3)."""
    record = a_record()
    bench.prove(NEW_EPOCH)
    bench.answer(bench.read(record), record, NEW_EPOCH)
    found = bench.hit(record)
    assert found is not None
    assert found.store_epoch == NEW_EPOCH


def test_a_read_with_another_epoch_than_the_channels_is_not_kept(bench: Bench):
    """The store was a moment ahead of its channel, or behind: nobody knows (E3)."""
    record = a_record()
    bench.answer(bench.read(record), record, NEW_EPOCH)
    assert bench.hit(record) is None


def test_an_own_new_epoch_is_not_undone_by_an_older_proof(bench: Bench):
    """It was asked for before the epoch was replaced, and carries the old one (E3, P16)."""
    record = a_record()
    bench.keep(record)
    bench.now += 0.1
    bench.cache.distrust(bench.now)
    bench.prove(EPOCH, ago=0.05)
    assert bench.cache.board(record.session_id, bench.now, None, object, alone=False)[0] is None
    bench.prove(NEW_EPOCH)
    bench.answer(bench.read(record), record, NEW_EPOCH)
    assert bench.hit(record) is not None


def test_what_does_not_exist_and_what_has_ended_is_not_kept(bench: Bench):
    """A session that begins in a moment must be found, and an end is judged by the store (H2)."""
    missing, dead = a_record(), a_record()
    bench.answer(bench.read(missing), None)
    bench.answer(bench.read(dead), ended(dead))
    assert bench.hit(missing) is None
    assert bench.hit(dead) is None


def test_many_at_once_share_one_read(bench: Bench):
    """The first reads, the others wait for it and get the same (no stampede)."""
    record = a_record()
    fill = bench.read(record)
    joined = [
        bench.cache.board(record.session_id, bench.now, None, object, alone=False) for _ in range(5)
    ]
    assert joined == [(fill, False)] * 5
    bench.answer(fill, record)
    assert fill.usable
    assert fill.answer == Found(record, EPOCH, authoritative=False)


def test_who_asks_the_store_itself_waits_for_nobody(bench: Bench):
    """An authoritative read is sent after it was asked for, always (H2); it may fill the cache."""
    record = a_record()
    first = bench.read(record)
    own, is_ours = bench.cache.board(record.session_id, bench.now, None, object, alone=True)
    assert own is not None
    assert own is not first
    assert is_ours
    bench.answer(own, record)
    assert bench.hit(record) is not None


def test_a_read_is_shared_only_where_it_can_be_waited_for(bench: Bench):
    """What one event loop waits for, another cannot."""
    record = a_record()
    bench.cache.board(record.session_id, bench.now, "one loop", object, alone=False)
    _, is_ours = bench.cache.board(record.session_id, bench.now, "another", object, alone=False)
    assert is_ours


def test_a_read_that_failed_is_forgotten(bench: Bench):
    """The next one tries again."""
    record = a_record()
    fill = bench.read(record)
    bench.cache.failed(fill, None)
    assert bench.read(record) is not fill


def test_an_answer_that_comes_after_the_channel_died_is_not_shared(bench: Bench):
    """Who waited reads anew: it is as old as its question (H3)."""
    record = a_record()
    fill = bench.read(record)
    bench.now += 1.0
    bench.answer(fill, record)
    assert not fill.usable


def test_the_least_recently_used_gives_way(bench: Bench):
    """There are never more entries than the limit (H3)."""
    records = [a_record() for _ in range(4)]
    for record in records[:3]:
        bench.keep(record)
    assert bench.hit(records[0]) is not None
    bench.keep(records[3])
    assert [bench.hit(each) is not None for each in records] == [True, False, True, True]
    stats = bench.cache.stats(bench.now)
    assert (stats.entries, stats.crowded_out) == (3, 1)


def test_there_are_never_more_bytes_than_the_limit():
    """Large sessions take the room of many; one larger than all of it is not kept."""
    bench = Bench(Limits(entries=1000, size=10 * (ENTRY_BYTES + 1000)))
    bench.prove()
    for _ in range(30):
        bench.keep(a_record(envelope=b"", data=b"d" * 1000))
    assert bench.cache.stats(bench.now).entries == 10
    bench.keep(a_record(data=b"d" * 100_000))
    stats = bench.cache.stats(bench.now)
    assert stats.entries == 10
    assert stats.size <= bench.cache.limits.size


def test_the_same_entry_twice_counts_once(bench: Bench):
    """An authoritative read refreshes what is here."""
    record = a_record()
    bench.keep(record)
    size = bench.cache.stats(bench.now).size
    bench.now += 0.5
    own, _ = bench.cache.board(record.session_id, bench.now, None, object, alone=True)
    assert own is not None
    bench.answer(own, record)
    assert bench.cache.stats(bench.now).size == size


def test_a_sweep_takes_what_was_due(bench: Bench):
    """And leaves the rest."""
    due, later = a_record(purge_at=5), a_record(purge_at=6)
    bench.keep(due)
    bench.keep(later)
    bench.cache.drop_due(5)
    assert bench.hit(due) is None
    assert bench.hit(later) is not None


def test_the_estimate_of_memory_is_no_lie():
    """What an entry counts for is what it takes, within a fifth."""
    bench = Bench(Limits(entries=10**6, size=10**9))
    bench.prove()

    def as_read() -> Record:
        made = a_record(entropy=os.urandom, store_epoch=EPOCH)
        header, tail = decode_header(made.header.encode(made.tail))
        return replace(made, header=header, tail=tail)

    bench.keep(as_read())
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        counted = bench.cache.stats(bench.now).size
        for _ in range(1000):
            bench.keep(as_read())
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    counted = bench.cache.stats(bench.now).size - counted
    assert 0.8 < taken / counted < 1.2


def test_who_listens_hears_from_a_proof_that_covers_them(bench: Bench):
    """What was told before their beginning is not for them, nor a proof that was asked before."""
    heard: list[Notice] = []
    lost: list[bool] = []
    listener = Listener(heard.append, bench.now + 0.1, lambda: lost.append(True))
    bench.cache.listen(listener)
    bench.now += 0.2
    bench.tell(Changed((b"a" * 16,)))
    bench.prove(ago=0.15)
    assert heard == []
    bench.prove()
    bench.tell(Changed((b"b" * 16,)))
    assert heard == [Alive(bench.now, EPOCH), Changed((b"b" * 16,))]
    bench.cache.lose_channel(bench.channel)
    assert lost == [True]


def test_who_listens_hears_after_it_took_effect(bench: Bench):
    """A socket that asks about its session on a notice does not get the entry from before (P16)."""
    record = a_record()
    bench.keep(record)
    seen: list[Found | None] = []
    bench.cache.listen(Listener(lambda _: seen.append(bench.hit(record)), bench.now, lambda: None))
    bench.prove()
    bench.tell(Changed((record.session_id,)))
    assert seen[-1] is None


def test_the_stats_tell_its_state(bench: Bench):
    """For doctor and metrics: is it alive, since when, and what did it do."""
    record = a_record()
    bench.hit(record)
    bench.keep(record)
    bench.hit(record)
    bench.now += 0.5
    bench.prove(ago=0.25)
    stats = bench.cache.stats(bench.now)
    assert (stats.alive, stats.hits, stats.misses, stats.entries) == (True, 1, 1, 1)
    assert (stats.alive_for, stats.proof_age, stats.channels) == (0.5, 0.25, 1)
    bench.cache.lose_channel(bench.channel)
    stats = bench.cache.stats(bench.now)
    assert (stats.alive, stats.alive_for, stats.proof_age, stats.dropped) == (False, None, None, 1)
