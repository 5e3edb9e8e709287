"""Moving everything to another store: nothing is lost, nothing comes back, nobody gets in early."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.errors import StoreMismatch, StoreUnavailable
from strongroom.core.ops import (
    Append,
    EndAll,
    EndSubject,
    Find,
    ListSubject,
    ReadEpoch,
    ReadHistory,
)
from strongroom.core.policy import EPOCHS_KEPT, ms
from strongroom.core.record import NO_SUBJECT, EndReason, Kind, Record
from strongroom.stores.base import Kept
from strongroom.stores.moving import LAST_PASSES, Move, Tally
from strongroom.stores.sqlite import SQLiteStore
from strongroom.stores.urls import open_store
from strongroom.testing import FixedEntropy
from strongroom.testing.clock import START
from strongroom.testing.records import (
    IDENTITY,
    KEEP,
    MINUTE,
    a_record,
    a_replace,
    a_session_id,
    a_subject_key,
    an_end,
    an_entry,
    an_insert,
)
from tests.stores.acl import RULES
from tests.support.servers import postgres, valkey

ALICE = a_subject_key("alice")
SUBJECTS = [f"subject{number}" for number in range(12)]


class Places:
    """New, empty stores of every kind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._servers: dict[str, Any] = {}
        self._numbers = itertools.count()

    def new(self, kind: str) -> str:
        """The URL of a store that nobody has used yet."""
        number = next(self._numbers)
        match kind:
            case "sqlite":
                return f"sqlite:///{self._folder}/{number}.db"
            case "postgres":
                server = self.server(kind)
                return f"{server.url(server.new_database())}"
            case _:
                return f"{self.server(kind).url}?prefix=place{number}:"

    def server(self, kind: str) -> Any:
        """The running server or cluster, started when it is first needed."""
        if kind not in self._servers:
            starts: dict[str, Any] = {
                "postgres": postgres.running,
                "valkey": valkey.single,
                "cluster": valkey.cluster,
            }
            self._servers[kind] = self._stack.enter_context(starts[kind]())
        return self._servers[kind]

    def close(self) -> None:
        """End the servers."""
        self._stack.close()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    made = Places(tmp_path_factory.mktemp("places"))
    try:
        yield made
    finally:
        made.close()


@contextmanager
def opened(url: str, *, to_fill: bool = False) -> Iterator[Any]:
    store: Any = open_store(url)
    if to_fill:
        store.open_to_fill(IDENTITY)
    else:
        store.open(IDENTITY)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def moving(source_url: str, target_url: str, now: int = START) -> Iterator[tuple[Move, Any, Any]]:
    """A move that has not begun, and both stores."""
    with opened(source_url) as source, opened(target_url, to_fill=True) as target:
        yield Move(source, source.contents(), target, target.contents(), now), source, target


def furnish(store: Any) -> list[Record]:
    """Put in a bit of everything that a store can keep."""
    entropy = FixedEntropy("furniture")
    made: list[Record] = []

    def insert(**fields: Any) -> Record:
        record: Record = store.insert(an_insert(a_record(entropy=entropy, **fields))).record
        made.append(record)
        return record

    for subject in SUBJECTS:
        for _ in range(3):
            insert(subject=subject)
        store.end(an_end(insert(subject=subject), purge_at=START + KEEP))
    insert(subject=None)
    insert(subject="alice", kind=Kind.PENDING)
    insert(subject="alice", kind=Kind.PERSISTENT)
    insert(subject="alice", kind=Kind.REMEMBERED, tail=b"of the next release", data=b"")
    insert(subject="alice", data=entropy(60_000))
    store.replace(a_replace(insert(subject="bob"), entropy=entropy))
    store.end_subject(everywhere("carol"))
    entries = [an_entry(subject, at=START + 1, purge_at=START + KEEP, entropy=entropy)
               for subject in SUBJECTS for _ in range(4)]  # fmt: skip
    entries += [an_entry("alice", at=START + number, purge_at=START + KEEP, entropy=entropy)
                for number in range(9)]  # fmt: skip
    store.append(Append(tuple(entries), keep=50))
    return made


def everywhere(subject: str) -> EndSubject:
    entropy = FixedEntropy(f"everywhere {subject}")
    return EndSubject(
        subject_key=a_subject_key(subject),
        revision=entropy(8),
        reason=EndReason.EVERYWHERE,
        at=START,
        purge_at=START + KEEP,
        new_epoch=entropy(8),
    )


def told(store: Any, made: list[Record]) -> list[Any]:
    """What the store says about all of it, by its ops."""
    subjects = [a_subject_key(each) for each in [*SUBJECTS, "alice", "bob", "carol"]]
    said: list[Any] = [store.find(Find(each.session_id)) for each in made]
    said += [sorted(store.list_subject(ListSubject(each)), key=repr) for each in subjects]
    said += [store.read_epoch(ReadEpoch(each)) for each in [*subjects, NO_SUBJECT]]
    said += [store.read_history(ReadHistory(each, 100)) for each in subjects]
    return said


AMONG_SERVERS = [pytest.mark.slow, pytest.mark.xdist_group("moving"), pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    "kinds",
    [
        ("sqlite", "sqlite"),
        pytest.param(("sqlite", "valkey", "postgres", "sqlite"), marks=AMONG_SERVERS),
        pytest.param(("postgres", "cluster", "valkey", "postgres"), marks=AMONG_SERVERS),
        pytest.param(("cluster", "sqlite"), marks=AMONG_SERVERS),
    ],
    ids=" to ".join,
)
def test_everything_arrives_as_it_was(places: Places, kinds: tuple[str, ...]) -> None:
    """From store to store to store: every answer of the last one is the first one's."""
    urls = [places.new(kind) for kind in kinds]
    with opened(urls[0]) as first:
        made = furnish(first)
        expected = told(first, made)
    assert any(each.header.end_reason for each in (found.record for found in expected[: len(made)]))
    for source, target in itertools.pairwise(urls):
        with moving(source, target) as (move, _, _):
            done, last = move.finish(IDENTITY)
        assert (done.sessions, last.sessions) == (2 * len(made), len(made))
        assert (last.epochs, last.histories) == (1, 13)
        assert last.is_equal
        assert not (last.over or last.unreadable)
        with opened(target) as store:
            assert told(store, made) == expected
    with opened(urls[-1]) as last_store:
        # The index came along, so everything of a subject is found and ended at once.
        ended = last_store.end_subject(everywhere("alice"))
        assert len(ended) == 4
        live = last_store.list_subject(ListSubject(ALICE))
        assert not [each for each in live if each.record.is_live]


@pytest.mark.parametrize(
    "target_kind",
    ["sqlite", *(pytest.param(kind, marks=AMONG_SERVERS) for kind in ("valkey", "postgres"))],
)
def test_what_changes_meanwhile_is_brought_by_the_next_pass(
    places: Places, target_kind: str
) -> None:
    """A pass ahead, then an end, a removal, sign-outs everywhere: the copy has them all (P6)."""
    source_url, target_url = places.new("sqlite"), places.new(target_kind)
    with moving(source_url, target_url) as (move, source, target):
        made = furnish(source)
        assert move.once().written > len(made)
        assert move.once().is_equal
        source.end(an_end(made[0]))
        source.end_subject(everywhere(SUBJECTS[1]))
        # What a sweep or a limit takes out is gone without an end.
        _remove(source, made[8].session_id)
        source.append(Append((an_entry("alice", at=START + 99, purge_at=START + KEEP),), keep=5))
        source.end_all(EndAll(b"new-one!", START))
        ahead = move.once()
        assert ahead.removed == 1
        done, last = move.finish(IDENTITY)
        assert last.is_equal
        assert done.is_equal
        expected = told(source, made)
        assert told(target, made) == expected
    with opened(target_url) as store:
        assert told(store, made) == expected
        assert store.find(Find(made[8].session_id)) is None
        assert not store.find(Find(made[0].session_id)).record.is_live


def _remove(source: SQLiteStore, session_id: bytes) -> None:
    def remove(connection: Any) -> None:
        connection.execute("DELETE FROM session WHERE session_id = ?", (session_id,))

    source._lines.write(remove, durable=False)


def test_what_is_over_or_unreadable_stays_behind_and_is_counted(places: Places) -> None:
    """Records whose time has come, epochs and entries that may be forgotten, and damage."""
    source_url, target_url = places.new("sqlite"), places.new("sqlite")
    with opened(source_url) as source:
        made = furnish(source)

        def damage(connection: Any) -> None:
            connection.execute(
                "UPDATE session SET header = x'FF' WHERE session_id = ?", (made[0].session_id,)
            )

        source._lines.write(damage, durable=False)
    later = START + ms(EPOCHS_KEPT)
    with moving(source_url, target_url, START + MINUTE) as (move, _, _):
        assert (tally := move.once()).unreadable == 1
        assert tally.sessions == len(made) - 1
    with moving(source_url, target_url, later) as (move, _, target):
        tally = move.once()
        assert (tally.sessions, tally.epochs, tally.histories) == (0, 0, 0)
        assert tally.over == len(made) - 1 + 1 + 13
        contents = target.contents()
        assert [list(contents.keys(kept)) for kept in Kept] == [[], [], []]


@pytest.mark.parametrize(
    "kind",
    ["sqlite", *(pytest.param(kind, marks=AMONG_SERVERS) for kind in ("valkey", "postgres"))],
)
def test_no_application_can_open_what_is_still_being_filled(places: Places, kind: str) -> None:
    """Whose session is not in it yet would be signed out; and after that nobody fills it any more,
    because what an application did there would be written over."""
    source_url, target_url = places.new("sqlite"), places.new(kind)
    with moving(source_url, target_url) as (move, source, target):
        made = furnish(source)
        move.once()
        with pytest.raises(StoreMismatch, match="still being filled"):
            open_store(target_url).open(IDENTITY)
        late = target.contents()
        move.finish(IDENTITY)
        with opened(target_url) as store:
            store.end(an_end(made[0]))
        for write in (
            lambda: late.write(Kept.SESSIONS, {made[0].session_id: made[0]}, START),
            lambda: late.remove(Kept.SESSIONS, [made[1].session_id]),
            lambda: late.hand_over(IDENTITY),
        ):
            with pytest.raises(StoreMismatch, match="not being filled any more"):
                write()
    with opened(target_url) as store:
        assert not store.find(Find(made[0].session_id)).record.is_live
        assert store.find(Find(made[1].session_id)) is not None
    again: Any = open_store(target_url)
    with pytest.raises(StoreMismatch):
        again.open_to_fill(IDENTITY)


def test_a_move_that_was_cut_short_goes_on(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was written when it broke off, the next run writes only the rest."""
    source_url, target_url = places.new("sqlite"), places.new("sqlite")
    with opened(source_url, to_fill=True) as source:
        many = [a_record(subject=f"of many {number}") for number in range(700)]
        source.contents().write(Kept.SESSIONS, {each.session_id: each for each in many}, START)
        source.contents().hand_over(IDENTITY)
    with moving(source_url, target_url) as (move, source, target):
        there, writes = target.contents(), itertools.count()
        write = there.write

        def breaks_off(*arguments: Any) -> None:
            if next(writes) == 2:
                raise StoreUnavailable("The power failed.")
            write(*arguments)

        monkeypatch.setattr(there, "write", breaks_off)
        broken = Move(source, source.contents(), target, there, START)
        with pytest.raises(StoreUnavailable, match="power"):
            broken.finish(IDENTITY)
        done = move.once()
        assert (done.sessions, done.is_equal) == (700, False)
        assert 0 < done.written < 700
        assert move.finish(IDENTITY)[0].is_equal


def test_a_store_that_does_not_stand_still_is_not_left(places: Places) -> None:
    """If the application was not stopped, its last sign-outs would be missing: no hand-over."""
    source_url, target_url = places.new("sqlite"), places.new("sqlite")
    with moving(source_url, target_url) as (move, source, target):
        furnish(source)

        class Restless:
            """Somebody signs in while the contents are read."""

            def __init__(self) -> None:
                self._inner = source.contents()
                self.reads = 0

            def keys(self, kept: Kept) -> Any:
                if kept is Kept.SESSIONS:
                    self.reads += 1
                    source.insert(an_insert(a_record(subject="dave")))
                return self._inner.keys(kept)

            def __getattr__(self, name: str) -> Any:
                return getattr(self._inner, name)

        restless = Restless()
        bound = Move(source, restless, target, target.contents(), START)
        with pytest.raises(StoreUnavailable, match="still changes"):
            bound.finish(IDENTITY)
        assert restless.reads == LAST_PASSES
        with pytest.raises(StoreMismatch, match="still being filled"):
            open_store(target_url).open(IDENTITY)
        assert move.finish(IDENTITY)[1].is_equal


def test_the_first_store_is_not_changed(places: Places, tmp_path: Path) -> None:
    """Every row of every table is what it was."""
    source_url, target_url = places.new("sqlite"), places.new("sqlite")

    def dumped(store: SQLiteStore) -> list[str]:
        return store._lines.reading.run(lambda connection: list(connection.iterdump()))

    with opened(source_url) as source:
        furnish(source)
        before = dumped(source)
    with moving(source_url, target_url) as (move, source, _):
        move.finish(IDENTITY)
        assert dumped(source) == before


def test_progress_is_told(places: Places) -> None:
    """How far it is and about how far it has to go, whatever the store's kind."""
    source_url, target_url = places.new("sqlite"), places.new("sqlite")
    seen: list[tuple[int, int]] = []
    with opened(source_url) as source, opened(target_url, to_fill=True) as target:
        made = furnish(source)

        def tell(tally: Tally, size: int) -> None:
            seen.append((tally.looked_at, size))

        Move(source, source.contents(), target, target.contents(), START, tell).once()
    whole = len(made) + 1 + 13
    assert seen == sorted(seen)
    assert seen[-1] == (2 * whole, 2 * whole)


@pytest.mark.slow
@pytest.mark.xdist_group("moving")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["valkey", "cluster", "postgres"])
def test_a_server_keeps_what_was_moved_no_longer_than_asked(places: Places, kind: str) -> None:
    """A moved record goes when its time comes: its expiry came with it, and its index's (P24)."""
    source_url, target_url = places.new("sqlite"), places.new(kind)
    with moving(source_url, target_url) as (move, source, target):
        record = a_record(purge_at=START + MINUTE)
        source.insert(an_insert(record))
        move.finish(IDENTITY)
        if kind == "postgres":
            return
        contents, place = target.contents(), target._body.names.of_session(record.session_id)
        lasting = contents._ask(place.slot, "PTTL", place.session(record.session_id))
        assert 0 < lasting <= MINUTE + 2_000
        assert contents._ask(place.slot, "PTTL", place.index(record.subject_key)) >= lasting


@pytest.mark.slow
@pytest.mark.xdist_group("moving")
def test_the_documented_rules_and_two_more_are_enough_for_a_user(places: Places) -> None:
    """What docs/valkey.md says that moving needs of an ACL user is all that it needs."""
    server = places.server("valkey")
    server.ask("ACL", "SETUSER", "mover", "reset", "on", ">pass", *RULES, "+scan", "+dbsize")
    url = server.url.replace("://", "://mover:pass@") + "?prefix=sr:"
    source_url = places.new("sqlite")
    with moving(source_url, url) as (move, source, _):
        made = furnish(source)
        move.once()
        _remove(source, made[0].session_id)
        move.finish(IDENTITY)
    with moving(url, places.new("sqlite")) as (back, _, _):
        assert back.finish(IDENTITY)[1].sessions == len(made) - 1


def test_ids_and_keys_are_told_from_names() -> None:
    """Somebody else's keys under a prefix that begins alike are no sessions of ours."""
    from strongroom.stores.valkey.names import Names

    names = Names(b"sr:", IDENTITY)
    session_id = a_session_id("alice")
    key = names.of_session(session_id).session(session_id)
    assert names.session_id_of(key) == session_id
    assert names.subject_key_of(names.of_subject(ALICE).epoch(ALICE)) == ALICE
    assert names.session_id_of(key + b"x") is None
    assert names.session_id_of(b"sr:s{zzzz}" + bytes(14)) is None
