"""How session data is sealed at rest (PROTOCOL C3). Its first byte says how: a policy can change.

    t   under a key that needs the token's root: only a live request can open it
    s   under the server's key alone
    n   not at all
    m   mixed: what the policy names as `server_sealed` under the server's key, the rest as `t`

A mixed record holds the server's part first, behind its length. The token's part is bound to it, so
that whoever writes the store cannot join the halves of two moments unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .data import Encoded, pack, unpack
from .policy import DataSeal, SessionPolicy
from .record import Record, data_bound, unreadable
from .sealing import Codec, Sealer, UnlockedKeys

_TOKEN, _SERVER, _NONE, _MIXED = b"t", b"s", b"n", b"m"
_MARKS = {DataSeal.TOKEN: _TOKEN, DataSeal.SERVER: _SERVER, DataSeal.NONE: _NONE}
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class DataSeals:
    """Seals and opens session data, as the policy wants it and as each record says it is."""

    policy: SessionPolicy
    keys: UnlockedKeys
    sealer: Sealer
    codec: Codec

    def seal(self, values: Encoded, session_id: bytes, root: bytes) -> bytes:
        """Session data as the policy wants it at rest; empty data is empty bytes."""
        if not values:
            return b""
        mark = _MARKS[self.policy.seal_data]
        shared = self._shared(values) if mark == _TOKEN else {}
        if shared:
            own = {key: value for key, value in values.items() if key not in shared}
            servers = self._seal(_SERVER, shared, session_id, root)
            length = len(servers).to_bytes(_LENGTH_BYTES, "big")
            return _MIXED + length + servers + self._seal(_TOKEN, own, session_id, root, servers)
        if mark == _NONE:
            return mark + pack(self.codec, values)
        return mark + self._seal(mark, values, session_id, root)

    def open(self, record: Record, root: bytes) -> Encoded:
        """All of the record's data, for a request that holds its token.

        Data in the clear is believed only while the policy says so.

        Raises:
            UnreadableRecord: it is damaged, or was moved from another session.
        """
        mark, sealed = record.data[:1], record.data[1:]
        if not mark:
            return {}
        if mark == _MIXED:
            servers, own = _halves(sealed)
            return self._open(_SERVER, servers, record, root) | self._open(
                _TOKEN, own, record, root, servers
            )
        if mark == _NONE:
            return self._plain(sealed)
        return self._open(mark, sealed, record, root)

    def open_alone(self, record: Record) -> Encoded:
        """What servers can read of the record without its token; empty where they can read nothing.

        Raises:
            UnreadableRecord: it is damaged, or was moved from another session.
        """
        mark, sealed = record.data[:1], record.data[1:]
        if mark == _MIXED:
            return self._open(_SERVER, _halves(sealed)[0], record, b"")
        if mark == _SERVER:
            return self._open(_SERVER, sealed, record, b"")
        if mark == _NONE:
            return self._plain(sealed)
        return {}

    def _shared(self, values: Encoded) -> Encoded:
        return {key: values[key] for key in self.policy.server_sealed if key in values}

    def _seal(
        self, mark: bytes, values: Encoded, session_id: bytes, root: bytes, beside: bytes = b""
    ) -> bytes:
        key_id = self.keys.issuing
        bound = data_bound(self.keys, session_id, key_id) + beside
        key = self._key(mark, key_id, session_id, root)
        return self.sealer.seal(key, pack(self.codec, values), bound)

    def _open(
        self, mark: bytes, sealed: bytes, record: Record, root: bytes, beside: bytes = b""
    ) -> Encoded:
        key_id = record.header.data_key_id
        if mark not in (_TOKEN, _SERVER) or key_id not in self.keys.data:
            raise unreadable("its data is sealed in a way or under a key that is not known")
        bound = data_bound(self.keys, record.session_id, key_id) + beside
        key = self._key(mark, key_id, record.session_id, root)
        return _unpacked(lambda: self.sealer.open(key, sealed, bound), self.codec)

    def _plain(self, packed: bytes) -> Encoded:
        if self.policy.seal_data is not DataSeal.NONE:
            # The mark is the record's own word: whoever writes the store could write plain data.
            raise unreadable("its data is in the clear, which the policy does not allow")
        return _unpacked(lambda: packed, self.codec)

    def _key(self, mark: bytes, key_id: int, session_id: bytes, root: bytes) -> bytes:
        """A key for one session; with the root among its parts, a store alone cannot derive it."""
        if mark == _SERVER:
            return self.keys.server_data[key_id]
        return self.keys.mac(self.keys.data[key_id], session_id + root)[:32]


def _halves(sealed: bytes) -> tuple[bytes, bytes]:
    end = _LENGTH_BYTES + int.from_bytes(sealed[:_LENGTH_BYTES], "big")
    if len(sealed) < end:
        raise unreadable("its data is cut short")
    return sealed[_LENGTH_BYTES:end], sealed[end:]


def _unpacked(opened: Callable[[], bytes | None], codec: Codec) -> Encoded:
    try:
        packed = opened()
        if packed is None:
            raise ValueError("not what was sealed")
        return unpack(codec, packed)
    except ValueError as error:
        raise unreadable("its data is damaged or belongs to another session") from error
