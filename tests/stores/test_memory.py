"""What is particular to the memory store: its bound, its snapshots, and whose it is."""

from __future__ import annotations

import pytest

from strongroom.core.errors import StoreMismatch, StoreUnavailable
from strongroom.core.ops import AtLimit, EndAll, Find, Insert, Limit, ListSubject, ReadEpoch, Sweep
from strongroom.core.record import NO_SUBJECT
from strongroom.stores.base import Store
from strongroom.stores.memory import MemoryStore
from strongroom.testing.clock import START
from strongroom.testing.records import a_record, a_subject_key, an_end, an_insert

IDENTITY = b"identity"
LATER = START + 10**10


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.open(IDENTITY)
    return store


def test_it_is_a_store():
    """The model has every method of the contract."""
    assert isinstance(MemoryStore(), Store)


def test_other_keys_are_refused(store: MemoryStore):
    """A store that was opened with one identity is not opened with another, closed or not."""
    store.close()
    with pytest.raises(StoreMismatch):
        store.open(b"another")


def test_a_closed_store_answers_nothing(store: MemoryStore):
    """After closing, every op says that the store is not open; opening again finds everything."""
    record = a_record()
    store.insert(an_insert(record))
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable, match="not open"):
        store.find(Find(record.session_id))
    store.open(IDENTITY)
    assert store.find(Find(record.session_id)) is not None


def test_a_full_store_refuses_and_evicts_nobody():
    """At `max_records` an insert fails, every session stays, and the sweep makes room."""
    store = MemoryStore(max_records=2)
    store.open(IDENTITY)
    records = [a_record() for _ in range(3)]
    for record in records[:2]:
        store.insert(an_insert(record))
    with pytest.raises(StoreUnavailable, match="full"):
        store.insert(an_insert(records[2]))
    for record in records[:2]:
        found = store.find(Find(record.session_id))
        assert found is not None
        assert found.record.is_live
    assert store.sweep(Sweep(LATER, 10)) == 2
    assert store.insert(an_insert(records[2])).refusal is None


def test_a_full_store_ends_nobody_for_a_session_it_cannot_take():
    """An insert that would evict by the subject's limit, but has no room, changes nothing."""
    store = MemoryStore(max_records=1)
    store.open(IDENTITY)
    old, new = a_record(), a_record()
    store.insert(an_insert(old))
    with pytest.raises(StoreUnavailable):
        store.insert(Insert(new, START, limit=Limit(1, AtLimit.EVICT_OLDEST)))
    found = store.find(Find(old.session_id))
    assert found is not None
    assert found.record.is_live


def test_a_snapshot_brings_everything_back(store: MemoryStore):
    """Restoring undoes what came after: ends, epochs and the index alike."""
    record = a_record()
    store.insert(an_insert(record))
    before = store.read_epoch(ReadEpoch(record.subject_key))
    snapshot = store.snapshot()
    store.end(an_end(record))
    store.end_all(EndAll(b"e" * 8, START))
    store.insert(an_insert(a_record()))
    store.restore(snapshot)
    listed = store.list_subject(ListSubject(record.subject_key))
    assert [each.record.session_id for each in listed] == [record.session_id]
    assert listed[0].record.is_live
    assert store.read_epoch(ReadEpoch(record.subject_key)) == before


def test_a_snapshot_is_not_changed_by_what_follows(store: MemoryStore):
    """The same snapshot can be restored twice."""
    snapshot = store.snapshot()
    for _ in range(2):
        store.insert(an_insert(a_record()))
        store.restore(snapshot)
        assert store.list_subject(ListSubject(a_subject_key("alice"))) == ()


def test_nobody_is_not_a_subject(store: MemoryStore):
    """Visitors who are not signed in share no index, so nothing can list or end them together."""
    record = a_record(subject=None)
    store.insert(an_insert(record))
    assert record.subject_key == NO_SUBJECT
    assert store.list_subject(ListSubject(NO_SUBJECT)) == ()
