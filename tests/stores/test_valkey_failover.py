"""Failovers, with Sentinel and in a cluster: what is kept, what can be lost, what prevents it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from strongroom.core.errors import StoreUnavailable
from strongroom.core.ops import EndSubject, Find, Insert, ListSubject, ReadEpoch, Watch
from strongroom.core.record import EndReason, Record
from strongroom.stores.base import Store
from strongroom.stores.valkey import Address, Mode, Settings, ValkeyStore
from strongroom.stores.valkey.names import Names
from strongroom.testing.clock import START
from strongroom.testing.records import (
    IDENTITY,
    KEEP,
    a_record,
    a_subject_key,
    an_end,
    an_insert,
)
from tests.support.servers import valkey

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NAMES = Names(b"sr:", IDENTITY)


def with_sentinels(group: valkey.Sentinels, **more: Any) -> Settings:
    addresses = tuple(Address("127.0.0.1", each.port) for each in group.sentinels)
    impatient = {"timeout_ms": 500, "patience_ms": 1_000}
    return Settings(addresses, Mode.SENTINEL, primary_name=group.name, **(impatient | more))


def in_cluster(group: valkey.Cluster, **more: Any) -> Settings:
    addresses = tuple(Address("127.0.0.1", each.port) for each in group.nodes)
    impatient = {"timeout_ms": 500, "patience_ms": 1_000}
    return Settings(addresses, Mode.CLUSTER, **(impatient | more))


@contextmanager
def opened(settings: Settings) -> Iterator[ValkeyStore]:
    store = ValkeyStore(settings)
    valkey.until(lambda: _open(store), "the store opens")
    try:
        yield store
    finally:
        store.close()


def _open(store: ValkeyStore) -> bool:
    try:
        store.open(IDENTITY)
    except StoreUnavailable as error:
        raise valkey.ServerError(str(error)) from error
    return True


def again(call: Any) -> Any:
    """Do it until the store answers: a failover takes a few seconds, and nobody helps it."""

    def attempt() -> tuple[Any]:
        try:
            return (call(),)
        except StoreUnavailable as error:
            raise valkey.ServerError(str(error)) from error

    return valkey.until(attempt, "the store recovers")[0]


def inserted(store: Store, subject: str = "alice") -> Record:
    kept = store.insert(an_insert(a_record(subject=subject, entropy=random.randbytes))).record
    assert kept is not None
    return kept


def is_live(store: Store, record: Record) -> bool:
    found = again(lambda: store.find(Find(record.session_id, authoritative=True)))
    return found is not None and found.record.is_live


def everywhere(subject: str) -> EndSubject:
    return EndSubject(
        a_subject_key(subject),
        random.randbytes(8),
        EndReason.EVERYWHERE,
        START,
        START + KEEP,
        random.randbytes(8),
    )


class Storm:
    """Four threads that end sessions and sign subjects out as fast as they can."""

    def __init__(self, store: ValkeyStore, records: list[Record], subjects: list[str]) -> None:
        self.acknowledged: list[Record] = []
        self.signed_out: list[str] = []
        self.errors: list[StoreUnavailable] = []
        self.others: list[BaseException] = []
        self._store = store
        self._records, self._subjects = list(records), list(subjects)
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(4)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive()
        assert self.others == []

    def _run(self, number: int) -> None:
        for record in self._records[number::4]:
            self._try(lambda record=record: self._end(record))
        for subject in self._subjects[number::4]:
            self._try(lambda subject=subject: self._sign_out(subject))

    def _try(self, call: Any) -> None:
        try:
            call()
        except StoreUnavailable as error:
            self.errors.append(error)
        except BaseException as error:
            self.others.append(error)
        time.sleep(0.002)

    def _end(self, record: Record) -> None:
        if self._store.end(an_end(record, entropy=random.randbytes)).applied:
            self.acknowledged.append(record)

    def _sign_out(self, subject: str) -> None:
        self._store.end_subject(everywhere(subject))
        self.signed_out.append(subject)


def storm(store: ValkeyStore, kill: Any) -> Storm:
    """Begin a storm of revocations, kill something in its middle, and let it pass."""
    records = [inserted(store, f"s{number}") for number in range(300)]
    subjects = [f"t{number}" for number in range(60)]
    for subject in subjects:
        inserted(store, subject)
    running = Storm(store, records, subjects)
    running.start()
    valkey.until(lambda: len(running.acknowledged) > 60, "the storm has begun")
    kill()
    running.join()
    assert running.errors, "the kill came too late to be noticed"
    assert all("session store" in str(each) for each in running.errors)
    return running


def nothing_came_back(store: ValkeyStore, passed: Storm) -> None:
    """What was acknowledged as ended is not live, and a new sign-in works (P6, P15)."""
    assert not [each for each in passed.acknowledged if is_live(store, each)]
    for subject in passed.signed_out:
        listed = again(lambda s=subject: store.list_subject(ListSubject(a_subject_key(s))))
        assert not any(each.record.is_live for each in listed)
    assert is_live(store, again(lambda: inserted(store, "new")))


class TestSentinel:
    """One primary, two replicas, three sentinels."""

    def test_a_primary_is_killed_in_a_storm_of_revocations(self):
        """With `durable_ends=1` nothing acknowledged as ended comes back; nobody helps (P6)."""
        with valkey.sentinel() as group, opened(with_sentinels(group, replicas=1)) as store:
            old = group.primary()
            passed = storm(store, old.kill)
            group.await_failover(old)
            # Two of three are left, and one of them follows: durable ops go on.
            nothing_came_back(store, passed)

    def test_what_a_failover_loses_and_durable_ends_keep(self):
        """The exception of asynchronous replication, shown: an end that no replica had yet is
        undone by a failover; where ends are durable it was never acknowledged (P6)."""
        with valkey.sentinel() as group, opened(with_sentinels(group)) as store:
            record, kept = inserted(store), inserted(store)
            until_replicated(group, 2)
            for replica in group.data[1:]:
                replica.pause()
            # Else the end would wait for them in a buffer of the kernel, and survive there.
            group.data[0].ask("CLIENT", "KILL", "TYPE", "replica")
            assert store.end(an_end(record)).applied, "acknowledged by the primary's memory alone"
            with (
                opened(with_sentinels(group, replicas=1)) as durable,
                pytest.raises(StoreUnavailable, match="not enough replicas"),
            ):
                durable.end(an_end(kept))
            group.data[0].kill()
            for replica in group.data[1:]:
                replica.resume()
            group.await_failover(group.data[0])
            assert is_live(store, record), "this is what docs/valkey.md warns of"
            # Ending again, as who was told 503 does, holds.
            assert again(lambda: store.end(an_end(record, entropy=random.randbytes))).applied
            assert not is_live(store, record)

    def test_an_old_primary_that_wakes_up_is_not_believed_for_long(self):
        """A primary that stood still for a failover serves nobody's write afterwards (P22)."""
        with valkey.sentinel() as group, opened(with_sentinels(group, replicas=1)) as store:
            record = inserted(store)
            old = group.primary()
            old.pause()
            with pytest.raises(StoreUnavailable):
                store.end(an_end(record))
            group.await_failover(old)
            assert again(lambda: store.end(an_end(record, entropy=random.randbytes))) is not None
            old.resume()
            valkey.until(lambda: old.role() == "slave", "the old primary follows")
            assert not is_live(store, record)

    def test_a_channel_does_not_outlive_its_primary(self):
        """Watching ends with an error at the failover, and can begin anew after it (H3)."""
        with valkey.sentinel() as group, opened(with_sentinels(group)) as store:
            old = group.primary()
            with watched(store) as notices:
                valkey.until(lambda: notices, "a proof of life")
                old.kill()
                valkey.until(lambda: isinstance(notices[-1], StoreUnavailable), "it is told")
            group.await_failover(old)
            record = again(lambda: inserted(store))
            with watched(store) as notices:
                valkey.until(lambda: notices, "a proof of life")
                again(lambda: store.end(an_end(record)))
                valkey.until(lambda: told(notices, record), "the end is told")


def until_replicated(group: valkey.Sentinels, replicas: int) -> None:
    valkey.until(lambda: group.data[0].ask("WAIT", replicas, 1000) >= replicas, "replicas follow")
    time.sleep(0.2)


class TestCluster:
    """Three primaries, three replicas."""

    def test_a_primary_is_killed_in_a_storm_of_revocations(self):
        """With `durable_ends=1` nothing acknowledged as ended comes back; nobody helps (P6)."""
        with (
            valkey.cluster() as group,
            opened(in_cluster(group, replicas=1, timeout_ms=250)) as store,
        ):
            victim = group.nodes[1]
            slot = 8000
            passed = storm(store, victim.kill)
            group.await_failover(slot, victim)
            with opened(in_cluster(group)) as relaxed:
                # One shard has no replica left, so nothing there can be made durable any more.
                nothing_came_back(relaxed, passed)

    def test_slots_move_under_load(self):
        """While sign-ins, ends and sign-outs everywhere run over a slot that moves key by key,
        nobody who was signed out stays in, and no session is lost (P6, P15, E5)."""
        with valkey.cluster() as group, opened(in_cluster(group, patience_ms=5_000)) as store:
            subject = "mover"
            key = a_subject_key(subject)
            slot = NAMES.of_subject(key).slot
            source = group.owner_of(slot)
            target = next(each for each in group.nodes[:3] if each is not source)
            kept = [inserted(store, subject) for _ in range(40)]
            stop = threading.Event()
            failed: list[BaseException] = []
            rounds: list[int] = []

            def load() -> None:
                try:
                    while not stop.is_set():
                        record = inserted_while_moving(store, subject)
                        if record is not None:
                            again(lambda r=record: store.end(an_end(r, entropy=random.randbytes)))
                            assert not is_live(store, record)
                            rounds.append(1)
                        assert is_live(store, random.choice(kept))
                except BaseException as error:
                    failed.append(error)

            threads = [threading.Thread(target=load) for _ in range(3)]
            for thread in threads:
                thread.start()
            for there, here in ((source, target), (target, source)):
                move(group, slot, there, here, pause=0.005)
            signed_out = []
            begin_to_move(group, slot, source, target)
            keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot, 20)
            migrate(source, target, keys)
            # Half of the subject's keys are here, half are there.
            try:
                store.end_subject(everywhere(subject))
                signed_out.append("at once")
            except StoreUnavailable as error:
                assert "session store" in str(error)
            move(group, slot, source, target)
            stop.set()
            for thread in threads:
                thread.join(120)
            assert failed == []
            assert rounds
            again(lambda: store.end_subject(everywhere(subject)))
            assert not any(is_live(store, each) for each in kept)
            listed = store.list_subject(ListSubject(key))
            assert {each.session_id for each in kept} <= {each.record.session_id for each in listed}

    def test_what_is_on_its_way_is_not_taken_for_gone(self):
        """With index and some sessions on either side, signing out everywhere ends all or fails;
        it never forgets a session that is on the other side (P15)."""
        with valkey.cluster() as group, opened(in_cluster(group, patience_ms=1_000)) as store:
            subject = "traveller"
            place = NAMES.of_subject(a_subject_key(subject))
            source = group.owner_of(place.slot)
            target = next(each for each in group.nodes[:3] if each is not source)
            # Subjects who signed out before have an epoch, so that all declared keys can move.
            store.end_subject(everywhere(subject))
            records = [inserted(store, subject) for _ in range(10)]
            begin_to_move(group, place.slot, source, target)
            own = [place.index(a_subject_key(subject)), place.epoch(a_subject_key(subject))]
            migrate(source, target, [*own, *(place.session(r.session_id) for r in records[:5])])
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    store.end_subject(everywhere(subject))
                with pytest.raises(StoreUnavailable):
                    store.list_subject(ListSubject(a_subject_key(subject)))
            assert all(is_live(store, each) for each in records), "single keys are found"
            move(group, place.slot, source, target)
            assert len(again(lambda: store.end_subject(everywhere(subject)))) == 10
            assert not any(is_live(store, each) for each in records)

    def test_a_channel_notices_that_primaries_change(self):
        """A failover ends the watch with an error; it can begin anew (H3)."""
        with valkey.cluster() as group, opened(in_cluster(group)) as store:
            victim = group.nodes[0]
            with watched(store) as notices:
                valkey.until(lambda: notices, "a proof of life")
                group.nodes[3].ask("CLUSTER", "FAILOVER")
                valkey.until(lambda: isinstance(notices[-1], StoreUnavailable), "it is told")
            group.await_failover(100, victim)
            record = again(lambda: inserted(store))

            def watch_works() -> bool:
                with watched(store) as notices:
                    valkey.until(lambda: notices, "something is told")
                    if isinstance(notices[-1], StoreUnavailable):
                        return False
                    again(lambda: store.end(an_end(record)))
                    return bool(valkey.until(lambda: told(notices, record), "the end is told"))

            valkey.until(watch_works, "it is watched anew")

    def test_a_channel_goes_on_while_a_slot_moves(self):
        """Both nodes are watched, so a move is no doubt, and what happens meanwhile is told."""
        with valkey.cluster() as group, opened(in_cluster(group)) as store:
            record = inserted(store, "watched")
            slot = NAMES.of_session(record.session_id).slot
            source = group.owner_of(slot)
            target = next(each for each in group.nodes[:3] if each is not source)
            with watched(store) as notices:
                valkey.until(lambda: notices, "a proof of life")
                begin_to_move(group, slot, source, target)
                place = NAMES.of_session(record.session_id)
                migrate(source, target, [place.session(record.session_id)])
                notices.clear()
                assert again(lambda: store.end(an_end(record))).applied
                valkey.until(lambda: told(notices, record), "the end is told")
                move(group, slot, source, target)
                assert not any(isinstance(each, StoreUnavailable) for each in notices)

    def test_an_epoch_that_lies_elsewhere_is_read_anew(self):
        """`end_all` in one process is seen by another within a second, by an authoritative find at
        once, and no sign-in after it is born with the old one (E3)."""
        from strongroom.core.ops import EndAll

        with (
            valkey.cluster() as group,
            opened(in_cluster(group)) as one,
            opened(in_cluster(group)) as other,
        ):
            record = inserted(one)
            assert other.find(Find(record.session_id)) is not None
            one.end_all(EndAll(b"\x09" * 8, START))
            found = other.find(Find(record.session_id, authoritative=True))
            assert found is not None
            assert found.store_epoch == b"\x09" * 8
            born = other.insert(Insert(a_record(), START)).record
            assert born is not None
            assert born.header.store_epoch == b"\x09" * 8
            assert other.read_epoch(ReadEpoch(a_subject_key("x"))).store == b"\x09" * 8


def inserted_while_moving(store: ValkeyStore, subject: str) -> Record | None:
    """A sign-in; None where the slot is moving and the store said so."""
    try:
        return inserted(store, subject)
    except StoreUnavailable:
        return None


def begin_to_move(
    group: valkey.Cluster, slot: int, source: valkey.Server, target: valkey.Server
) -> None:
    """Announce on both sides that the slot moves, key by key."""
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", group.id_of(source))
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", group.id_of(target))


def migrate(source: valkey.Server, target: valkey.Server, keys: list[bytes]) -> None:
    """Move some keys over."""
    if keys:
        source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)


def move(
    group: valkey.Cluster,
    slot: int,
    source: valkey.Server,
    target: valkey.Server,
    pause: float = 0.0,
) -> None:
    """Move the slot, a few keys at a time, and tell everybody."""
    begin_to_move(group, slot, source, target)
    while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 5):
        migrate(source, target, keys)
        time.sleep(pause)
    name = group.id_of(target)
    target.ask("CLUSTER", "SETSLOT", slot, "NODE", name)
    source.ask("CLUSTER", "SETSLOT", slot, "NODE", name)
    for node in group.nodes[:3]:
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", name)


@contextmanager
def watched(store: ValkeyStore) -> Iterator[list[Any]]:
    """What the store tells meanwhile; its error is the last thing."""
    notices: list[Any] = []
    stop = threading.Event()

    def run() -> None:
        try:
            store.watch(Watch(notices.append, 0.05, stop.is_set))
        except StoreUnavailable as error:
            notices.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield notices
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def told(notices: list[Any], record: Record) -> bool:
    return any(record.session_id in getattr(each, "session_ids", ()) for each in notices)
