"""How a record lies in its key: one string, so that a read is one GET.

    header (and a newer release's tail) | subject key (16) | index kept until (8) | length of the
    envelope (4) | envelope | data

The header is the fixed layout of `core.record`, which the scripts read and write by offset. *Index
kept until* is the moment up to which the subject's index is known to last: a touch that stays below
it need not look at the index.

What comes from the server is untrusted: every length is checked, and damage is `UnreadableRecord`.
"""

from __future__ import annotations

import struct

from strongroom.core.credentials import Credential
from strongroom.core.ops import HistoryEntry
from strongroom.core.record import Record, decode_header, unreadable

_FIELDS = (
    ("format", "B"),
    ("length", "H"),
    ("kind", "B"),
    ("end_reason", "B"),
    ("changed_by", "B"),
    ("next_key_id", "B"),
    ("envelope_key_id", "B"),
    ("data_key_id", "B"),
    ("revision", "8s"),
    ("data_version", "8s"),
    ("store_epoch", "8s"),
    ("generation", "I"),
    ("previous", "16s"),
    ("current", "16s"),
    ("next", "16s"),
    ("changed_at", "q"),
    ("first_used_at", "q"),
    ("confirmed_at", "q"),
    ("inserted_at", "q"),
    ("last_seen", "q"),
    ("idle_deadline", "q"),
    ("purge_at", "q"),
    ("ended_at", "q"),
)
"""The header's fields as `core.record` packs them; a test holds the two together."""


def _offsets() -> dict[str, int]:
    found: dict[str, int] = {}
    at = 0
    for name, code in _FIELDS:
        found[name] = at
        at += struct.calcsize(">" + code)
    return found | {"end": at}


OFFSETS = _offsets()
"""Where each field of the header begins, and where the header ends."""

FIXED = 28
"""Bytes between the header and the envelope."""

_MIDDLE = struct.Struct(">16sQI")
_NOTES = struct.Struct(">BB")
_CREDENTIAL = struct.Struct(">I16s16s16sqqq")
_ENTRY = struct.Struct(">qqB")
_PLACE = slice(8, 12)
"""Where the script that appends an entry puts its place among those of the same moment."""


def encode(record: Record, index_until: int) -> bytes:
    """The record as its key holds it."""
    middle = _MIDDLE.pack(record.subject_key, index_until, len(record.envelope))
    return b"".join((record.header.encode(record.tail), middle, record.envelope, record.data))


def decode(session_id: bytes, value: object) -> Record:
    """The record that a key holds.

    Raises:
        UnreadableRecord: it is damaged, or of a release after the next.
    """
    if not isinstance(value, bytes) or len(value) < 3:
        raise unreadable("its key holds no record")
    size = int.from_bytes(value[1:3], "big")
    header, tail = decode_header(value[:size])
    if len(value) < size + FIXED:
        raise unreadable("it is cut off behind its header")
    subject_key, _until, length = _MIDDLE.unpack_from(value, size)
    start = size + FIXED
    if len(value) < start + length:
        raise unreadable("its identity envelope is cut off")
    envelope, data = value[start : start + length], value[start + length :]
    return Record(session_id, subject_key, header, envelope, data, tail)


def moment(milliseconds: int) -> bytes:
    """A moment as the header has it."""
    return milliseconds.to_bytes(8, "big", signed=True)


def encode_credential(credential: Credential) -> tuple[bytes, bytes]:
    """A credential's two parts in the header: two notes, and generation, digests and moments."""
    c = credential
    return _NOTES.pack(c.changed_by, c.next_key_id), _CREDENTIAL.pack(
        c.generation,
        c.previous,
        c.current,
        c.next,
        c.changed_at,
        c.first_used_at,
        c.confirmed_at,
    )


def encode_entry(entry: HistoryEntry) -> bytes:
    """A history's entry as the script that appends it wants it."""
    return _ENTRY.pack(entry.at, entry.purge_at, entry.key_id) + entry.sealed


def decode_entry(subject_key: bytes, member: object) -> HistoryEntry:
    """The entry that a member holds.

    Raises:
        UnreadableRecord: it is damaged.
    """
    if not isinstance(member, bytes) or len(member) < _PLACE.stop + _ENTRY.size - _PLACE.start:
        raise unreadable("an entry of its subject's history is cut off")
    entry = member[: _PLACE.start] + member[_PLACE.stop :]
    at, purge_at, key_id = _ENTRY.unpack_from(entry)
    return HistoryEntry(subject_key, at, purge_at, entry[_ENTRY.size :], key_id)
