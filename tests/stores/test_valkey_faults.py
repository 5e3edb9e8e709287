"""What happens to a Valkey store when its server fails, is full, hostile, or somebody else's.

For each fault: nobody gets in who should not, nothing acknowledged as ended comes back, errors are
`StoreUnavailable` with a clear cause, and recovery needs nobody.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from strongroom.core.errors import StoreMismatch, StoreUnavailable, UnreadableRecord
from strongroom.core.ops import (
    Append,
    AtLimit,
    EndAll,
    EndSubject,
    Find,
    InsertRefusal,
    Limit,
    ListSubject,
    ReadEpoch,
    ReadHistory,
    Watch,
)
from strongroom.core.record import EndReason, Kind, Record
from strongroom.stores.base import Store
from strongroom.stores.valkey import Address, AsyncValkeyStore, Settings, ValkeyStore, scripts
from strongroom.testing.clock import START
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
    an_entry,
    an_insert,
)
from tests.support.servers import valkey
from tests.support.servers.cutting import CuttingProxy
from tests.support.servers.ports import free_port

pytestmark = pytest.mark.slow

ALICE = a_subject_key("alice")


@pytest.fixture(scope="module")
def shared() -> Iterator[valkey.Server]:
    with valkey.single() as server:
        yield server


@pytest.fixture
def server(shared: valkey.Server) -> valkey.Server:
    shared.ask("FLUSHALL")
    shared.ask("CONFIG", "SET", "maxmemory", "0")
    return shared


def settings(port: int, **more: Any) -> Settings:
    """Impatient, so that a fault is seen soon."""
    return Settings(
        (Address("127.0.0.1", port),),
        **({"timeout_ms": 500, "patience_ms": 1_500} | more),
    )


@contextmanager
def opened(port: int, **more: Any) -> Iterator[ValkeyStore]:
    store = ValkeyStore(settings(port, **more))
    store.open(IDENTITY)
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def store(server: valkey.Server) -> Iterator[ValkeyStore]:
    with opened(server.port) as store:
        yield store


def inserted(store: Store, **fields: Any) -> Record:
    kept = store.insert(an_insert(a_record(**fields))).record
    assert kept is not None
    return kept


def is_live(store: Store, record: Record) -> bool:
    found = store.find(Find(record.session_id))
    return found is not None and found.record.is_live


def everywhere(subject_key: bytes = ALICE, **more: Any) -> EndSubject:
    return EndSubject(
        subject_key,
        random.randbytes(8),
        EndReason.EVERYWHERE,
        START,
        START + KEEP,
        random.randbytes(8),
        **more,
    )


class TestLostAnswers:
    """The connection is cut after the server ran the script, before its answer arrived."""

    @pytest.fixture
    def proxy(self, server: valkey.Server) -> Iterator[CuttingProxy]:
        proxy = CuttingProxy(server.port)
        yield proxy
        proxy.close()

    @pytest.fixture
    def through(self, proxy: CuttingProxy, server: valkey.Server) -> Iterator[ValkeyStore]:
        with opened(proxy.port) as store:
            # The server knows all scripts, so that what is lost is never "I do not know it".
            record = inserted(store, subject="warm")
            for make in (a_touch, a_shift, a_rotate, a_replace, an_end):
                op = make(record)
                getattr(store, op.verb)(op)
            store.end_subject(everywhere(a_subject_key("warm")))
            store.append(Append((an_entry("warm"),), 1))
            yield store

    @pytest.mark.parametrize("make", [a_touch, a_shift, a_rotate, a_replace, an_end])
    def test_a_change_whose_answer_was_lost_is_answered_as_done(
        self, proxy: CuttingProxy, through: ValkeyStore, make: Callable[[Record], Any]
    ):
        """The op's own revision shows that it was carried out; nothing is done twice (P7, P17)."""
        record = inserted(through)
        op = make(record)
        expected = getattr(MODEL, op.verb)
        proxy.cut_answers(op.revision)
        outcome = getattr(through, op.verb)(op)
        assert proxy.lost == 1
        assert outcome == expected(record, op)
        found = through.find(Find(record.session_id))
        assert found is not None
        assert found.record == outcome.record

    def test_an_insert_whose_answer_was_lost_is_answered_as_done(
        self, proxy: CuttingProxy, through: ValkeyStore
    ):
        """With those who gave way to it, so that their owners are told (P17)."""
        limit = Limit(2, AtLimit.EVICT_OLDEST)
        old = [inserted(through, now=START + number) for number in range(3)]
        op = an_insert(a_record(now=START + 9), limit=limit, evicted_purge_at=START + KEEP)
        proxy.cut_answers(op.record.header.revision)
        answer = through.insert(op)
        assert proxy.lost == 1
        assert answer.refusal is None
        assert {each.session_id for each in answer.evicted} == {each.session_id for each in old[:2]}
        assert all(each.header.end_reason is EndReason.EVICTED for each in answer.evicted)
        listed = through.list_subject(ListSubject(ALICE))
        assert sum(each.record.is_live for each in listed) == 2

    def test_an_id_taken_by_another_is_not_mistaken_for_ones_own(
        self, proxy: CuttingProxy, through: ValkeyStore
    ):
        """A repeated insert that finds somebody else's record says so (D6)."""
        first = inserted(through)
        op = an_insert(a_record(session_id=first.session_id))
        proxy.cut_answers(op.record.header.revision)
        answer = through.insert(op)
        assert (answer.record, answer.refusal) == (first, InsertRefusal.EXISTS)

    def test_a_sign_out_everywhere_whose_answer_was_lost_tells_who_ended(
        self, proxy: CuttingProxy, through: ValkeyStore
    ):
        """All that this op ended, and not what had ended before (P15, P17)."""
        live = [inserted(through) for _ in range(3)]
        through.end(an_end(inserted(through)))
        op = everywhere()
        proxy.cut_answers(op.revision)
        ended = through.end_subject(op)
        assert proxy.lost == 1
        assert {each.record.session_id for each in ended} == {each.session_id for each in live}
        assert through.read_epoch(ReadEpoch(ALICE)).subject == op.new_epoch

    def test_an_event_whose_answer_was_lost_is_kept_once(
        self, proxy: CuttingProxy, through: ValkeyStore
    ):
        """A history does not say twice what happened once."""
        entry = an_entry()
        proxy.cut_answers(entry.sealed)
        through.append(Append((entry,), keep=10))
        assert proxy.lost == 1
        assert through.read_history(ReadHistory(ALICE, 10)) == (entry,)

    def test_data_connections_that_are_cut_come_back(
        self, proxy: CuttingProxy, through: ValkeyStore
    ):
        """Nobody is told of it, because trying again is safe for every op (P22)."""
        record = inserted(through)
        for _ in range(5):
            proxy.cut_all()
            assert is_live(through, record)


class Model:
    """What each op comes to, by the core's own words."""

    def __getattr__(self, verb: str) -> Callable[[Record, Any], Any]:
        from strongroom.core import lifecycle

        return lifecycle.apply


MODEL = Model()


class TestTheServerFails:
    """Killed, restarted, stopped."""

    def test_a_server_that_is_gone_lets_nobody_in(self):
        """Every op says so, and all of it works again when the server is back (P22)."""
        with valkey.single() as server, opened(server.port) as store:
            record = inserted(store)
            server.kill()
            for op in (Find(record.session_id), ReadEpoch(ALICE), everywhere(), an_end(record)):
                with pytest.raises(StoreUnavailable, match=f"{server.port} does not answer"):
                    getattr(store, op.verb)(op)
            server.start()
            assert is_live(store, inserted(store))

    def test_a_restart_with_empty_memory_lets_nobody_in(self):
        """What was lost is gone for everybody, and an attempt to sign in from before makes no
        session that lives, though its subject's epoch is zeros again (P15, E3)."""
        with valkey.single() as server, opened(server.port) as store:
            record = inserted(store)
            before = store.read_epoch(ReadEpoch(ALICE))
            store.end_subject(everywhere())
            server.restart()
            assert store.find(Find(record.session_id)) is None
            assert store.list_subject(ListSubject(ALICE)) == ()
            late = a_record(store_epoch=before.store)
            store.insert(an_insert(late, epoch=before.subject))
            found = store.find(Find(late.session_id))
            assert found is not None
            assert found.record.header.store_epoch != found.store_epoch, "dead at birth"
            with opened(server.port) as second:
                assert is_live(second, inserted(store))

    def test_a_lost_epoch_signs_everybody_out(self, server: valkey.Server, store: ValkeyStore):
        """Whoever deletes the store's keys by hand cannot make anything live longer (P3, E3)."""
        record = inserted(store)
        server.ask("DEL", "sr:{store}epoch")
        found = store.find(Find(record.session_id))
        assert found is not None
        assert found.store_epoch != record.header.store_epoch

    def test_a_paused_server_is_a_503_and_then_goes_on(self):
        """Stopped for longer than the time-out: an error in time, no end undone, nobody needed."""
        with valkey.single() as server, opened(server.port) as store:
            one, other = inserted(store), inserted(store)
            assert store.end(an_end(one)).applied
            server.pause()
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match="timed out"):
                store.end(an_end(other))
            assert time.monotonic() - began < 30
            server.resume()
            assert not is_live(store, one)
            # The end was never acknowledged; it may have happened late, and may be repeated.
            store.end(an_end(other))
            assert not is_live(store, other)

    def test_what_is_on_the_disk_survives_a_kill(self):
        """With `durable_fsync` what was acknowledged is there after a kill -9 and a start (P6)."""
        with (
            valkey.single(appendonly="yes", appendfsync="everysec") as server,
            opened(server.port, fsync=True) as store,
        ):
            records = [inserted(store) for _ in range(20)]
            for record in records[:10]:
                assert store.end(an_end(record)).applied
            epoch = everywhere(a_subject_key("bob"))
            store.end_subject(epoch)
            server.restart()
            assert [is_live(store, each) for each in records] == [False] * 10 + [True] * 10
            assert store.read_epoch(ReadEpoch(a_subject_key("bob"))).subject == epoch.new_epoch

    def test_a_server_without_a_log_is_refused_where_ends_must_be_on_disk(
        self, server: valkey.Server
    ):
        """At start-up, and not at the first sign-out."""
        with pytest.raises(StoreMismatch, match="append-only"):
            ValkeyStore(settings(server.port, fsync=True)).open(IDENTITY)

    def test_ends_that_nobody_can_confirm_are_not_acknowledged(
        self, server: valkey.Server, store: ValkeyStore
    ):
        """Not even the second time, when there is nothing left to write but its own proof (P6)."""
        record = inserted(store)
        with opened(server.port) as plain:
            gone = inserted(plain)
            plain.end(an_end(gone))
        durable = ValkeyStore(settings(server.port, replicas=1, timeout_ms=100))
        durable.open(IDENTITY)
        op = an_end(record)
        for again in (op, op, an_end(record), an_end(gone)):
            with pytest.raises(StoreUnavailable, match="not enough replicas"):
                durable.end(again)
        with pytest.raises(StoreUnavailable, match="not enough replicas"):
            durable.end_subject(everywhere())
        durable.close()

    def test_scripts_survive_being_flushed(self, server: valkey.Server, store: ValkeyStore):
        """A server that forgot them gets them again, in the same op (E5)."""
        for _ in range(3):
            server.ask("SCRIPT", "FLUSH")
            record = inserted(store)
            server.ask("SCRIPT", "FLUSH")
            assert store.touch(a_touch(record)).applied
            server.ask("SCRIPT", "FLUSH")
            assert len(store.end_subject(everywhere())) == 1
            assert not is_live(store, record)


class TestAFullServer:
    """maxmemory, with and without eviction."""

    def test_a_full_server_refuses_sign_ins_and_still_ends_sessions(
        self, server: valkey.Server, store: ValkeyStore
    ):
        """New sessions answer 503, and everything that protects somebody goes on (P22)."""
        first, second, third = (inserted(store) for _ in range(3))
        server.ask("CONFIG", "SET", "maxmemory", 1)
        for refused in (
            lambda: store.insert(an_insert(a_record())),
            lambda: store.replace(a_replace(first)),
            lambda: store.append(Append((an_entry(),), 5)),
        ):
            with pytest.raises(StoreUnavailable, match="maxmemory"):
                refused()
        assert is_live(store, first)
        assert store.touch(a_touch(first)).applied
        assert store.rotate(a_rotate(second)).applied
        assert store.end(an_end(third)).applied
        assert len(store.end_subject(everywhere())) == 2
        store.end_all(EndAll(b"\x07" * 8, START))
        assert store.read_epoch(ReadEpoch(ALICE)).store == b"\x07" * 8
        server.ask("CONFIG", "SET", "maxmemory", 0)
        assert is_live(store, inserted(store))

    def test_a_server_that_may_evict_is_refused(self):
        """By its policy, whatever its memory is now; unless that is asked for by name (E5)."""
        with valkey.single(maxmemory_policy="volatile-lru") as server:
            store = ValkeyStore(settings(server.port))
            with pytest.raises(StoreMismatch, match="volatile-lru") as refused:
                store.open(IDENTITY)
            assert "noeviction" in refused.value.hint
            with opened(server.port, allow_eviction=True) as store:
                assert is_live(store, inserted(store))

    def test_what_is_evicted_is_gone_and_nobody_gets_in(self):
        """With eviction allowed: an evicted session is signed out, never somebody else's (P2)."""
        with (
            valkey.single(maxmemory_policy="allkeys-random") as server,
            opened(server.port, allow_eviction=True) as store,
        ):
            records = [inserted(store, subject=f"s{number}") for number in range(200)]
            info = server.ask("INFO", "memory").split(b"\r\nused_memory:")[1]
            server.ask("CONFIG", "SET", "maxmemory", int(info.split(b"\r")[0]) + 20_000)

            def evicts() -> bool:
                inserted(store, subject="one more", entropy=random.randbytes)
                return b"evicted_keys:0" not in server.ask("INFO", "stats")

            valkey.until(evicts, "something is evicted")
            server.ask("CONFIG", "SET", "maxmemory", "0")
            for record in records:
                found = store.find(Find(record.session_id))
                assert found is None or found.record == record


class TestWhoseServerItIs:
    """Several applications on one server, and servers that are not what they should be."""

    def test_applications_with_prefixes_do_not_meet(
        self, server: valkey.Server, store: ValkeyStore
    ):
        """The same subject and even the same id are two things under two prefixes (A3)."""
        record = inserted(store)
        with opened(server.port, prefix="other:") as other:
            assert other.find(Find(record.session_id)) is None
            assert other.list_subject(ListSubject(ALICE)) == ()
            other.end_subject(everywhere())
            assert other.insert(an_insert(record)).refusal is None
        assert is_live(store, record)

    def test_databases_do_not_meet(self, server: valkey.Server, store: ValkeyStore):
        """A number in the URL is a database of its own."""
        record = inserted(store)
        with opened(server.port, database=3) as other:
            assert other.find(Find(record.session_id)) is None

    def test_another_programs_keys_are_refused(self, server: valkey.Server):
        """And left as they are (A3)."""
        server.ask("LPUSH", "sr:{store}identity", "theirs")
        with pytest.raises(StoreMismatch, match="another program"):
            ValkeyStore(settings(server.port)).open(IDENTITY)
        server.ask("SET", "sr:{store}identity", "theirs")
        with pytest.raises(StoreMismatch, match="prefix"):
            ValkeyStore(settings(server.port)).open(IDENTITY)
        assert server.ask("GET", "sr:{store}identity") == b"theirs"

    def test_a_node_of_a_cluster_is_no_single_server(self):
        """The sentence says which scheme to write."""
        with (
            valkey.single(cluster_enabled="yes", cluster_port=free_port()) as server,
            pytest.raises(StoreMismatch, match="cluster"),
        ):
            ValkeyStore(settings(server.port)).open(IDENTITY)

    def test_the_rules_for_a_user_are_enough(self, server: valkey.Server):
        """An ACL user with what docs/valkey.md lists can do every op, and touch nothing else."""
        from strongroom.stores.valkey import Login
        from tests.stores.acl import RULES

        server.ask("ACL", "SETUSER", "shop", "reset", "on", ">pass", *RULES)
        login = Login("shop", "pass")
        with opened(server.port, login=login, replicas=0, fsync=False) as store:
            record = inserted(store)
            for make in (a_touch, a_shift, a_rotate, a_replace):
                op = make(store.find(Find(record.session_id)).record)  # type: ignore[union-attr]
                assert getattr(store, op.verb)(op).applied
            store.append(Append((an_entry(),), 5))
            assert len(store.read_history(ReadHistory(ALICE, 5))) == 1
            assert len(store.list_subject(ListSubject(ALICE))) == 1
            assert store.end(an_end(record)).applied
            store.end_subject(everywhere())
            store.end_all(EndAll(b"\x07" * 8, START))
            with watched(store) as notices:
                valkey.until(lambda: notices, "a proof of life")
        for words in (("GET", "other:key"), ("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "GET", "*")):
            assert server.ask("ACL", "DRYRUN", "shop", *words) != b"OK", words
        server.ask("ACL", "DELUSER", "shop")

    def test_who_may_not_is_told_why(self, server: valkey.Server):
        """A wrong password, and a user without rights, are said as what they are (P5)."""
        from strongroom.stores.valkey import Login

        with pytest.raises(StoreUnavailable, match="WRONGPASS") as wrong:
            ValkeyStore(settings(server.port, login=Login("shop", "hunter2"))).open(IDENTITY)
        assert "hunter2" not in str(wrong.value)
        server.ask("ACL", "SETUSER", "weak", "reset", "on", ">pass", "+info", "~other:*")
        with pytest.raises(StoreUnavailable, match="NOPERM"):
            ValkeyStore(settings(server.port, login=Login("weak", "pass"))).open(IDENTITY)
        server.ask("ACL", "DELUSER", "weak")
        with valkey.single(requirepass="pass") as locked:
            with pytest.raises(StoreUnavailable, match="NOAUTH"):
                ValkeyStore(settings(locked.port)).open(IDENTITY)
            with opened(locked.port, login=Login("", "pass")) as store:
                assert is_live(store, inserted(store))


class TestUntrustedBytes:
    """Whoever writes the database can destroy records, and nothing more."""

    def key(self, server: valkey.Server, record: Record) -> bytes:
        (found,) = [
            each for each in server.ask("KEYS", "sr:s*") if each.endswith(record.session_id[2:])
        ]
        assert isinstance(found, bytes)
        return found

    @pytest.mark.parametrize(
        "damage", [b"", b"\x01", b"\x09" * 300, b"\x01\x00\x95" + b"\xff" * 300]
    )
    def test_damage_is_told_and_ends_with_its_subject(
        self, server: valkey.Server, store: ValkeyStore, damage: bytes
    ):
        """Raised where it is asked for, not counted, and removed by a sign-out everywhere (C4)."""
        record, other = inserted(store), inserted(store)
        server.ask("SET", self.key(server, record), damage)
        with pytest.raises(UnreadableRecord):
            store.find(Find(record.session_id))
        for make in (a_touch, a_shift, a_rotate, a_replace, an_end):
            op = make(record)
            with pytest.raises(UnreadableRecord):
                getattr(store, op.verb)(op)
        with pytest.raises(UnreadableRecord):
            store.list_subject(ListSubject(ALICE))
        limit = Limit(2, AtLimit.REFUSE)
        assert store.insert(an_insert(a_record(), limit=limit)).refusal is None
        ended = store.end_subject(everywhere())
        assert other.session_id in {each.record.session_id for each in ended}
        assert store.find(Find(record.session_id)) is None
        assert not any(each.record.is_live for each in store.list_subject(ListSubject(ALICE)))


class TestHousekeeping:
    """Everything has an end, and the index outlives its sessions."""

    def ttl(self, server: valkey.Server, pattern: str) -> int:
        (key,) = server.ask("KEYS", pattern)
        left: int = server.ask("PTTL", key)
        return left

    def test_every_key_expires_but_the_stores_own_two(
        self, server: valkey.Server, store: ValkeyStore
    ):
        """After every kind of op nothing is left that would stay for ever (P24)."""
        for kind in Kind:
            inserted(store, kind=kind)
        inserted(store, subject=None)
        record = inserted(store)
        for make in (a_touch, a_shift, a_rotate, a_replace, an_end):
            op = make(store.find(Find(record.session_id)).record)  # type: ignore[union-attr]
            getattr(store, op.verb)(op)
        store.append(Append((an_entry(),), 5))
        store.insert(an_insert(a_record(), limit=Limit(1, AtLimit.EVICT_OLDEST)))
        store.end_subject(everywhere())
        eternal = [each for each in server.ask("KEYS", "*") if server.ask("PTTL", each) == -1]
        assert sorted(eternal) == [b"sr:{store}epoch", b"sr:{store}identity"]

    def test_an_index_outlives_a_session_that_is_used_for_ever(
        self, server: valkey.Server, store: ValkeyStore
    ):
        """A touch that would outlast the index extends it, so that ending everywhere finds it."""
        record = inserted(store)
        for days in (1, 6, 8, 30, 400):
            seen = START + days * KEEP
            op = replace(a_touch(record), seen_at=seen, purge_at=seen + KEEP)
            assert store.touch(op).applied
            assert self.ttl(server, "sr:i*") > self.ttl(server, "sr:s*"), days
        later = START + 1000 * KEEP
        rotating = a_rotate(record, seen_at=later, purge_at=later + 100 * KEEP)
        assert store.rotate(rotating).applied
        assert self.ttl(server, "sr:i*") > self.ttl(server, "sr:s*")
        assert len(store.end_subject(everywhere())) == 1

    def test_an_index_outlives_the_history_of_a_session_that_ended(
        self, server: valkey.Server, store: ValkeyStore
    ):
        """An end that is kept longer than the session would have been extends it, too (P17)."""
        record = inserted(store)
        op = an_end(record, at=START, purge_at=START + 500 * KEEP)
        assert store.end(op).applied
        assert self.ttl(server, "sr:i*") > self.ttl(server, "sr:s*") > 400 * KEEP

    def test_an_index_forgets_those_who_are_gone(self, server: valkey.Server, store: ValkeyStore):
        """Members whose records expired are taken out when the index is used (P24)."""
        for _ in range(5):
            inserted(store)
        server.ask("DEL", *server.ask("KEYS", "sr:s*"))
        assert store.list_subject(ListSubject(ALICE)) == ()
        assert server.ask("KEYS", "sr:i*") == []
        gone = [inserted(store, kind=Kind.PENDING) for _ in range(5)]
        server.ask("DEL", *server.ask("KEYS", "sr:s*"))
        inserted(store)
        (index,) = server.ask("KEYS", "sr:i*")
        assert server.ask("SCARD", index) == 1, f"{len(gone)} are gone"

    def test_no_script_reaches_for_all_keys(self):
        """No command whose cost grows with everybody's sessions (E5)."""
        for name in vars(scripts):
            script = getattr(scripts, name)
            if isinstance(script, scripts.Script):
                assert not {b"'SCAN'", b"'KEYS'", b"'FLUSHALL'"} & set(script.text.split())


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


class TestChannels:
    """The push channel and the data connections fail one without the other."""

    def clients(self, server: valkey.Server, *, tracking: bool) -> list[bytes]:
        lines = server.ask("CLIENT", "LIST").splitlines()
        # `t`: this client tracks keys.
        return [
            line.split()[0].removeprefix(b"id=")
            for line in lines
            if (b"t" in line.split(b" flags=")[1].split()[0]) is tracking
            and (b"name=strongroom" in line or tracking)
        ]

    def test_a_channel_that_is_cut_is_told_though_data_lives(
        self, server: valkey.Server, store: ValkeyStore
    ):
        """Watching ends with an error; finding goes on (H3)."""
        record = inserted(store)
        with watched(store) as notices:
            valkey.until(lambda: notices, "a proof of life")
            (channel,) = self.clients(server, tracking=True)
            server.ask("CLIENT", "KILL", "ID", channel)
            valkey.until(lambda: isinstance(notices[-1], StoreUnavailable), "the loss is told")
            assert is_live(store, record)

    def test_data_that_is_cut_does_not_end_the_channel(
        self, server: valkey.Server, store: ValkeyStore
    ):
        """And what happens then is still told."""
        record = inserted(store)
        with watched(store) as notices:
            valkey.until(lambda: notices, "a proof of life")
            for client in self.clients(server, tracking=False):
                server.ask("CLIENT", "KILL", "ID", client)
            assert store.end(an_end(record)).applied
            valkey.until(
                lambda: any(
                    record.session_id in getattr(each, "session_ids", ()) for each in notices
                ),
                "the end is told",
            )
            assert not any(isinstance(each, StoreUnavailable) for each in notices)

    def test_a_paused_server_ends_the_channel(self):
        """Silence for longer than the time-out is not taken for quiet (H3)."""
        with valkey.single() as server, opened(server.port) as store, watched(store) as notices:
            valkey.until(lambda: notices, "a proof of life")
            server.pause()
            valkey.until(lambda: isinstance(notices[-1], StoreUnavailable), "the silence is told")
            server.resume()

    def test_a_store_that_lost_its_epoch_ends_the_channel(
        self, server: valkey.Server, store: ValkeyStore
    ):
        """It may have lost everything, so nothing that is cached is believed (E3)."""
        with watched(store) as notices:
            valkey.until(lambda: notices, "a proof of life")
            server.ask("FLUSHALL")
            valkey.until(lambda: isinstance(notices[-1], StoreUnavailable), "the loss is told")

    def test_what_is_changed_by_hand_is_told(self, server: valkey.Server, store: ValkeyStore):
        """By whomever a record is written or deleted: the server itself tells (P16)."""
        record = inserted(store)
        with watched(store) as notices:
            valkey.until(lambda: notices, "a proof of life")
            server.ask("DEL", *server.ask("KEYS", "sr:s*"))
            valkey.until(
                lambda: any(
                    record.session_id in getattr(each, "session_ids", ()) for each in notices
                ),
                "the deletion is told",
            )


class TestOrder:
    """P15, with many at once."""

    def test_signing_out_everywhere_among_many_sign_ins(self, store: ValkeyStore):
        """While 100 sign-ins a second run, no attempt from before an end survives it (P15)."""
        stop = threading.Event()
        made: list[tuple[bytes, Record]] = []

        def sign_in() -> None:
            while not stop.is_set():
                epoch = store.read_epoch(ReadEpoch(ALICE)).subject
                record = a_record(entropy=random.randbytes)
                if store.insert(an_insert(record, epoch=epoch)).refusal is None:
                    made.append((epoch, record))
                time.sleep(0.02)

        threads = [threading.Thread(target=sign_in) for _ in range(4)]
        for thread in threads:
            thread.start()
        epochs = []
        for _ in range(20):
            time.sleep(0.05)
            op = everywhere()
            store.end_subject(op)
            epochs.append(op.new_epoch)
        stop.set()
        for thread in threads:
            thread.join()
        assert len(made) > 50
        live = {
            each.record.session_id
            for each in store.list_subject(ListSubject(ALICE))
            if each.record.is_live
        }
        after_the_last = {record.session_id for epoch, record in made if epoch == epochs[-1]}
        assert live == after_the_last
        store.end_subject(everywhere())
        assert not any(each.record.is_live for each in store.list_subject(ListSubject(ALICE)))


class TestEventLoops:
    """What is particular to the asynchronous store."""

    def test_a_cancelled_request_never_shifts_the_answers(self, server: valkey.Server):
        """Whoever is cancelled, everybody else gets the answer to their own question (P2)."""

        async def run() -> None:
            store = AsyncValkeyStore(settings(server.port))
            await store.open(IDENTITY)
            records = [a_record(entropy=random.randbytes) for _ in range(50)]
            for record in records:
                await store.insert(an_insert(record))
            chance = random.Random(5)

            async def ask(record: Record) -> None:
                found = await store.find(Find(record.session_id))
                assert found is not None
                assert found.record.session_id == record.session_id
                assert found.record.data == record.data

            for _ in range(40):
                tasks = [asyncio.ensure_future(ask(each)) for each in records]
                await asyncio.sleep(0)
                for task in chance.sample(tasks, 20):
                    task.cancel()
                for answer in await asyncio.gather(*tasks, return_exceptions=True):
                    assert answer is None or isinstance(answer, asyncio.CancelledError)
            await store.close()

        asyncio.run(run())

    def test_a_store_can_be_used_by_one_loop_after_another(self, server: valkey.Server):
        """As tests and command lines do; connections of a loop that is over are not used."""
        store = AsyncValkeyStore(settings(server.port))
        record = a_record()

        async def once() -> None:
            await store.open(IDENTITY)
            await store.insert(an_insert(record))
            assert await store.find(Find(record.session_id)) is not None
            await store.close()

        for _ in range(2):
            asyncio.run(once())

    def test_a_paused_server_is_a_503_for_all_who_wait(self):
        """Each in time, and the connection is made anew afterwards (P22)."""

        async def run(server: valkey.Server) -> None:
            store = AsyncValkeyStore(settings(server.port))
            await store.open(IDENTITY)
            server.pause()
            asked = [store.find(Find(bytes(16))) for _ in range(20)]
            for answer in await asyncio.gather(*asked, return_exceptions=True):
                assert isinstance(answer, StoreUnavailable)
                assert "timed out" in str(answer)
            server.resume()
            assert await store.find(Find(bytes(16))) is None
            await store.close()

        with valkey.single() as server:
            asyncio.run(run(server))


def test_a_forked_child_has_connections_of_its_own(server: valkey.Server, store: ValkeyStore):
    """Parent and child never read each other's answers (P2)."""
    records = [inserted(store, entropy=random.randbytes) for _ in range(20)]
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        ok = all(is_live(store, each) for each in records * 20)
        os.write(write, b"y" if ok else b"n")
        os._exit(0)
    assert all(is_live(store, each) for each in records * 20)
    os.waitpid(child, 0)
    assert os.read(read, 1) == b"y"
    os.close(read)
    os.close(write)
