"""What the keys are called, and in which slot of a cluster they live.

    <prefix>s{ssss}<14 bytes>   a session: the rest of its id, of which the shard is the beginning
    <prefix>i{ssss}<14 bytes>   a subject's index: the set of its sessions
    <prefix>e{ssss}<14 bytes>   a subject's epoch
    <prefix>h{ssss}<14 bytes>   a subject's history
    <prefix>{store}identity     whose store this is
    <prefix>{store}epoch        the store-wide epoch

`ssss` is the shard in hexadecimal. It is the hash tag, so all that a subject has is in one slot,
and one script can do one op. The two keys of the store are the only ones that never expire.
"""

from __future__ import annotations

import binascii

from strongroom.core.tokens import SHARD_BYTES, masked, shard_of_session, shard_of_subject

SLOTS = 16384


def slot_of(tag: bytes) -> int:
    """The slot of all keys with this hash tag (CRC-16/XMODEM, as the cluster specification has)."""
    return binascii.crc_hqx(tag, 0) % SLOTS


class Place:
    """All that is kept under one shard."""

    __slots__ = ("_prefix", "_tag", "shard", "slot")

    def __init__(self, prefix: bytes, shard: bytes) -> None:
        tag = shard.hex().encode()
        self.shard, self._prefix, self._tag = shard, prefix, b"{%s}" % tag
        self.slot = slot_of(tag)

    @property
    def sessions(self) -> bytes:
        """What the keys of all sessions here begin with."""
        return self._prefix + b"s" + self._tag

    def session(self, session_id: bytes) -> bytes:
        """The session's key."""
        return self._prefix + b"s" + self._tag + session_id[SHARD_BYTES:]

    def index(self, subject_key: bytes) -> bytes:
        """The key of a subject's index."""
        return self._prefix + b"i" + self._tag + subject_key[SHARD_BYTES:]

    def epoch(self, subject_key: bytes) -> bytes:
        """The key of a subject's epoch."""
        return self._prefix + b"e" + self._tag + subject_key[SHARD_BYTES:]

    def history(self, subject_key: bytes) -> bytes:
        """The key of a subject's history."""
        return self._prefix + b"h" + self._tag + subject_key[SHARD_BYTES:]


class Names:
    """The names of one application's keys. They need the store's identity, to unmask shards."""

    def __init__(self, prefix: bytes, store_identity: bytes) -> None:
        self._prefix = prefix
        self._identity = store_identity
        self.identity = prefix + b"{store}identity"
        self.epoch = prefix + b"{store}epoch"
        self.store_slot = slot_of(b"store")

    @property
    def watched(self) -> tuple[bytes, bytes]:
        """What the names begin with whose changes are told: sessions, and the store's epoch."""
        return self._prefix + b"s{", self.epoch

    def pattern(self, letter: bytes) -> bytes:
        """What matches the names of all keys of a kind. A prefix has no wildcards in it."""
        return self._prefix + letter + b"{*"

    def of_session(self, session_id: bytes) -> Place:
        """Where the session lives."""
        return Place(self._prefix, shard_of_session(self._identity, session_id))

    def of_subject(self, subject_key: bytes) -> Place:
        """Where all that the subject has lives."""
        return Place(self._prefix, shard_of_subject(subject_key))

    def session_id(self, place: Place, rest: bytes) -> bytes:
        """The id of a session in that place, from the rest that index and key hold."""
        return masked(self._identity, place.shard, bytes(SHARD_BYTES) + rest)

    def session_id_of(self, key: bytes) -> bytes | None:
        """The id of the session that a key holds; None where the name is no session's."""
        whole = self.subject_key_of(key)
        if whole is None:
            return None
        return masked(self._identity, whole[:SHARD_BYTES], bytes(SHARD_BYTES) + whole[SHARD_BYTES:])

    def subject_key_of(self, key: bytes) -> bytes | None:
        """The key of the subject whose epoch or history it is; None where the name is neither's."""
        start = len(self._prefix) + 2
        try:
            shard = bytes.fromhex(key[start : start + 4].decode("ascii"))
        except ValueError:
            return None
        rest = key[start + 5 :]
        return shard + rest if len(shard) == SHARD_BYTES and len(rest) == 14 else None
