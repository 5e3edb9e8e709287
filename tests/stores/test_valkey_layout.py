"""What lies in the keys, and what they are called: no server is needed for these."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.credentials import ChangedBy
from strongroom.core.errors import UnreadableRecord
from strongroom.core.record import EndReason, Kind
from strongroom.core.tokens import shard_of_session
from strongroom.stores.valkey import Address, layout
from strongroom.stores.valkey.names import Names, slot_of
from strongroom.stores.valkey.routing import slots_from
from strongroom.stores.valkey.watching import primaries_in
from strongroom.testing.records import (
    IDENTITY,
    a_credential,
    a_record,
    a_session_id,
    a_subject_key,
    an_entry,
)

NAMES = Names(b"sr:", IDENTITY)
NODE = Address("10.0.0.1", 7000)


def test_the_offsets_are_those_of_the_header():
    """Each field that the scripts touch lies where `core.record` packs it (C1)."""
    plain = a_record(credential=a_credential(), revision=b"r" * 8)
    changed = {
        "kind": replace(plain.header, kind=Kind.PENDING),
        "end_reason": replace(plain.header, end_reason=EndReason.EVICTED),
        "envelope_key_id": replace(plain.header, envelope_key_id=9),
        "data_key_id": replace(plain.header, data_key_id=9),
        "revision": replace(plain.header, revision=b"x" * 8),
        "data_version": replace(plain.header, data_version=b"x" * 8),
        "store_epoch": replace(plain.header, store_epoch=b"x" * 8),
        "inserted_at": replace(plain.header, inserted_at=1),
        "last_seen": replace(plain.header, last_seen=1),
        "idle_deadline": replace(plain.header, idle_deadline=1),
        "purge_at": replace(plain.header, purge_at=1),
        "ended_at": replace(plain.header, ended_at=1),
    }
    for name, value in {
        "changed_by": ChangedBy.ROTATION,
        "next_key_id": 9,
        "generation": 2**31,
        "previous": b"x" * 16,
        "current": b"x" * 16,
        "next": b"x" * 16,
        "changed_at": 1,
        "first_used_at": 2**62,
        "confirmed_at": 2**62,
    }.items():
        credential = replace(plain.header.credential, **{name: value})  # type: ignore[arg-type]
        changed[name] = replace(plain.header, credential=credential)
    assert changed.keys() | {"format", "length", "end"} == layout.OFFSETS.keys()
    before = plain.header.encode()
    assert len(before) == layout.OFFSETS["end"]
    for name, header in changed.items():
        after = header.encode()
        first = next(at for at in range(len(after)) if after[at] != before[at])
        starts = sorted(layout.OFFSETS.values())
        field = max(each for each in starts if each <= first)
        assert field == layout.OFFSETS[name], name


def test_a_credential_lies_where_the_header_has_it():
    """The two parts that a shift sends are the header's own bytes."""
    credential = a_credential(generation=7, first_used_at=5, previous=b"p" * 16)
    header = a_record(credential=credential).header.encode()
    notes, fields = layout.encode_credential(credential)
    at = layout.OFFSETS
    assert header[at["changed_by"] : at["envelope_key_id"]] == notes
    assert header[at["generation"] : at["inserted_at"]] == fields


@given(st.binary(max_size=300))
def test_noise_is_an_unreadable_record(noise: bytes):
    """Whatever the server holds, it is a record or it is damage; nothing else is raised (C4)."""
    with contextlib.suppress(UnreadableRecord):
        layout.decode(bytes(16), noise)
    with contextlib.suppress(UnreadableRecord):
        layout.decode_entry(bytes(16), noise)


@given(st.data())
def test_a_cut_record_is_unreadable_or_shorter_in_its_data(data: st.DataObject):
    """Cut anywhere before the data, a record is damage; the data itself is judged by its seal."""
    record = a_record(tail=b"newer")
    whole = layout.encode(record, 5)
    assert layout.decode(record.session_id, whole) == record
    end = data.draw(st.integers(0, len(whole) - len(record.data) - 1))
    with pytest.raises(UnreadableRecord):
        layout.decode(record.session_id, whole[:end])


def test_an_entry_comes_back_as_it_was():
    """With its moments and its key id."""
    entry = an_entry(key_id=255)
    packed = layout.encode_entry(entry)
    member = packed[:8] + bytes(4) + packed[8:]  # as the script adds it
    assert layout.decode_entry(entry.subject_key, member) == entry


def test_all_that_a_subject_has_is_in_one_slot():
    """Sessions, index, epoch and history share the hash tag (DESIGN 5)."""
    key = a_subject_key("alice")
    place = NAMES.of_subject(key)
    for _ in range(20):
        session_id = a_session_id("alice")
        there = NAMES.of_session(session_id)
        assert there.slot == place.slot
        assert there.session(session_id).startswith(place.sessions)
        assert NAMES.session_id(there, session_id[2:]) == session_id
        assert NAMES.session_id_of(there.session(session_id)) == session_id
    names = (place.index(key), place.epoch(key), place.history(key), place.sessions)
    assert {each.partition(b"{")[2].partition(b"}")[0] for each in names} == {
        place.shard.hex().encode()
    }


def test_anonymous_sessions_are_spread():
    """A thousand of them are in about a thousand slots (DESIGN 5)."""
    slots = {NAMES.of_session(a_session_id(None)).slot for _ in range(1000)}
    assert len(slots) > 900


def test_only_keys_of_sessions_name_a_session():
    """What is pushed about other keys is nobody's session."""
    place = NAMES.of_subject(a_subject_key("alice"))
    for key in (b"", b"sr:", b"sr:s{", b"sr:s{zzzz}" + b"x" * 14, place.sessions + b"short"):
        assert NAMES.session_id_of(key) is None
    assert shard_of_session(IDENTITY, a_session_id("alice")) == place.shard


def test_slots_are_the_clusters():
    """The example of the cluster specification: CRC-16 of 123456789 is 0x31C3."""
    assert slot_of(b"123456789") == 0x31C3
    assert slot_of(b"foo") == 12182


def test_nonsense_about_slots_is_left_out():
    """A node's answer is untrusted: only rows that make sense count."""
    host = b"10.0.0.2"
    rows = [
        [0, 1, [host, 7001, b"id"]],
        [2, 3, [b"", 7002]],
        [4, 99999, [host, 7001]],
        [6, 5, [host, 7001]],
        ["a", 5, [host, 7001]],
        [7, 7, [host, b"port"]],
        [8, 8, []],
        9,
    ]
    serving = slots_from(rows, NODE)
    assert serving[0] == serving[1] == Address("10.0.0.2", 7001)
    assert serving[2] == serving[3] == Address("10.0.0.1", 7002), "it does not know its own name"
    assert set(serving[4:]) == {None}
    answers: tuple[object, ...] = (None, b"", 5, {})
    for nonsense in answers:
        assert set(slots_from(nonsense, NODE)) == {None}


def test_who_is_a_primary():
    """Those with and without slots; not replicas, not strangers, not those that were given up."""
    said = b"""\
a 10.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-5460
b 10.0.0.2:7001@17001,name master - 0 0 2 connected
c 10.0.0.3:7002@17002 slave a 0 0 1 connected
d 10.0.0.4:7003@17003 master,fail - 0 0 3 disconnected
e 10.0.0.5:7004@17004 master,fail - 0 0 4 disconnected 5461-9000
f 10.0.0.6:7005@17005 handshake - 0 0 0 connected
g :0@0 master,noaddr - 0 0 0 disconnected
nonsense
"""
    assert primaries_in(said, NODE) == {
        Address("10.0.0.1", 7000),
        Address("10.0.0.2", 7001),
        Address("10.0.0.5", 7004),
    }
    assert primaries_in(None, NODE) == frozenset()
