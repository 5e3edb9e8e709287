"""The contract's part for stores that push changes, for a near cache and open sockets (H3, P16).

A store without `watch` skips it. One with connections overrides `cut`, so that its channel is lost
as a network loses it; the others lose it by being closed.
"""

# ruff: noqa: S101 - a contract test asserts, as every test does

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from unittest import SkipTest

from strongroom.core.errors import StoreUnavailable
from strongroom.core.ops import AtLimit, EndAll, EndSubject, Find, Insert, Limit, ReadEpoch, Sweep
from strongroom.core.record import EndReason
from strongroom.stores.base import Store
from strongroom.testing.clock import START
from strongroom.testing.records import (
    KEEP,
    a_record,
    a_replace,
    a_rotate,
    a_shift,
    a_subject_key,
    a_touch,
    an_end,
)

from .channel import PATIENCE, Channel
from .harness import Harness, race, spread


class Watching(Harness):
    """Whoever watches is told every change, by whomever it was made, in order with the proofs."""

    @contextmanager
    def watching(self, store: Store | None = None) -> Generator[Channel, None, None]:
        """A channel on the store that has proved once that it lives."""
        store = store or self.store
        if not self.can_watch(store):
            raise SkipTest("allowed: this store does not push changes")
        channel = Channel()
        stop = self.watch(store, channel)
        try:
            channel.proof()
            yield channel
        finally:
            stop()

    def cut(self, store: Store) -> None:
        """Lose the store's channel. The store need not answer any more afterwards."""
        store.close()

    def test_the_first_notice_proves_life(self) -> None:
        """Who begins to watch knows from which moment on it is told everything (H3)."""
        began = time.monotonic()
        with self.watching() as channel:
            first = channel.notices[0]
            epoch = self.store.read_epoch(ReadEpoch(a_subject_key("alice"))).store
            assert first == channel.proofs[0], "something was told before the first proof"
            assert began <= channel.proofs[0].asked_at <= time.monotonic()
            assert channel.proofs[0].store_epoch == epoch

    def test_proofs_go_on_without_changes(self) -> None:
        """Silence is never taken for life: each proof is newer than the one before (H3)."""
        with self.watching() as channel:
            for _ in range(3):
                channel.proof()
            moments = [each.asked_at for each in channel.proofs]
            assert moments == sorted(set(moments))

    def test_every_change_is_told(self) -> None:
        """Touch, renewal, rotation, save and end, each before the next proof (H3)."""
        with self.watching() as channel:
            for make in (a_touch, a_shift, a_rotate, a_replace, an_end):
                record = self.insert(a_record())
                channel.forget()
                op = make(record)
                assert getattr(self.store, op.verb)(op).applied
                assert told(channel, record.session_id), f"{op.verb} was not told"

    def test_ending_a_subject_is_told_for_each_session(self) -> None:
        """Every session that ends with it, the one that stays aside (P16)."""
        with self.watching() as channel:
            records = [self.insert(a_record()) for _ in range(3)]
            channel.forget()
            op = EndSubject(
                a_subject_key("alice"),
                self.entropy(8),
                EndReason.EVERYWHERE,
                START,
                START + KEEP,
                self.entropy(8),
                keep=records[0].session_id,
            )
            assert len(self.store.end_subject(op)) == 2
            assert told(channel, *(each.session_id for each in records[1:]))

    def test_who_gives_way_to_a_sign_in_is_told(self) -> None:
        """An evicted session ends in every process, as any other (P16, ASVS 7.1.2)."""
        with self.watching() as channel:
            old = self.insert(a_record())
            channel.forget()
            limit = Limit(1, AtLimit.EVICT_OLDEST)
            newer = a_record(now=START + 1)
            inserted = self.store.insert(
                Insert(newer, START + 1, limit=limit, evicted_purge_at=START + KEEP)
            )
            assert [each.session_id for each in inserted.evicted] == [old.session_id]
            assert told(channel, old.session_id)

    def test_what_a_sweep_takes_is_told(self) -> None:
        """A record that is gone is not what it was. What a server lets expire by itself is past
        every clock already, and need not be told."""
        with self.watching() as channel:
            record = self.insert(a_record(purge_at=START))
            channel.forget()
            if self.store.sweep(Sweep(START, limit=10)):
                assert self.store.find(Find(record.session_id)) is None
                assert told(channel, record.session_id)

    def test_a_new_store_epoch_is_told(self) -> None:
        """The next proof carries it, so that everybody is signed out everywhere (E3)."""
        with self.watching() as channel:
            before = channel.proof().store_epoch
            epoch = self.entropy(8)
            self.store.end_all(EndAll(epoch, START))
            assert channel.proof().store_epoch == epoch != before

    def test_changes_by_others_are_told(self) -> None:
        """Through another connection, as another process has it, in both directions (P16)."""
        second = self.opened_beside(self.store)
        with self.watching() as one, self.watching(second) as other:
            for watched, writer in ((one, second), (other, self.store)):
                record = self.insert(a_record())
                watched.forget()
                assert writer.end(an_end(record)).applied
                assert told(watched, record.session_id)

    def test_all_who_watch_are_told(self) -> None:
        """Two watchers of one store do not share its notices out."""
        with self.watching() as one, self.watching() as other:
            record = self.insert(a_record())
            self.store.end(an_end(record))
            assert told(one, record.session_id)
            assert told(other, record.session_id)

    def test_nothing_is_lost_in_a_crowd(self) -> None:
        """Whatever many threads change at once, all of it is told by the next proof (P16)."""
        stores = spread(self.handles(), 6)
        with self.watching() as channel:
            records = [
                [self.insert(a_record(subject=f"subject {each}")) for _ in range(self.rounds)]
                for each in range(len(stores))
            ]
            channel.forget()

            def end(store: Store, number: int) -> bool:
                return all(store.end(an_end(each)).applied for each in records[number])

            assert all(race(*(partial(end, each, n) for n, each in enumerate(stores))))
            assert told(channel, *(each.session_id for many in records for each in many))

    def test_a_lost_channel_raises(self) -> None:
        """It never goes on in silence: what would be missed must not be taken for quiet (H3)."""
        store = self.fresh()
        with self.watching(store) as channel:
            self.cut(store)
            assert channel.over.wait(PATIENCE), "the channel goes on in silence"
        assert isinstance(channel.error, StoreUnavailable), f"it ended with {channel.error!r}"

    def test_a_store_that_is_not_open_cannot_be_watched(self) -> None:
        """Neither before it is opened nor after it is closed."""
        never, closed = self.make_store(), self.fresh()
        self._opened.append(never)
        closed.close()
        for store in (never, closed):
            if not self.can_watch(store):
                raise SkipTest("allowed: this store does not push changes")
            channel = Channel()
            stop = self.watch(store, channel)
            assert channel.over.wait(PATIENCE)
            stop()
            assert isinstance(channel.error, StoreUnavailable)
            assert channel.notices == []

    def test_a_watch_ends_when_it_is_told_to(self) -> None:
        """Without an error, and nothing is told afterwards."""
        with self.watching() as channel:
            pass
        assert channel.error is None
        count = len(channel.notices)
        self.store.end(an_end(self.insert(a_record())))
        assert len(channel.notices) == count


def told(channel: Channel, *session_ids: bytes) -> bool:
    """Whether these were told by the next proof; "forget everything" tells all."""
    ids = channel.told()
    return ids is None or set(session_ids) <= ids
