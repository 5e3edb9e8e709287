"""The keyring, and what is sealed with it.

A key's state follows from three moments, so it never has to be stored or switched:

    published   known everywhere, `issue_from` lies ahead
    issuing     the newest key whose `issue_from` has come
    verifying   an older one: still believed, no longer used for anything new
    retired     `retired_at` has come: everything issued under it has ended, everywhere, in O(1)

A key id is never used twice, which is why retired keys stay in the ring as names without secrets.
The store secret (index and shard) is fixed for the life of a store (PROTOCOL A3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from .errors import ConfigurationError
from .tokens import (
    Mac,
    TokenKeys,
    blake2b_mac,
    derive,
    masked,
    shard_of_session,
    shard_of_subject,
)

SECRET_LENGTH = 32
_LONGEST_SECRET = 64  # what keyed BLAKE2b takes
NONCE_BYTES = 12
SEAL_FORMAT = 1
MAX_KEY_ID = 255


class Aead(Protocol):
    """Authenticated encryption with a 32-byte key and a 12-byte nonce (ASVS 11.3.2)."""

    def seal(self, key: bytes, nonce: bytes, plaintext: bytes, bound: bytes) -> bytes:
        """Ciphertext and tag."""
        ...

    def open(self, key: bytes, nonce: bytes, sealed: bytes, bound: bytes) -> bytes | None:
        """The plaintext, or None where key, nonce, text or bound data are not the ones sealed."""
        ...


class Codec(Protocol):
    """Turns values into bytes and back; deterministic, and free of code execution (no pickle)."""

    def encode(self, value: object) -> bytes:
        """Raises `UnserialisableValue` for what would not come back as it went in."""
        ...

    def decode(self, encoded: bytes) -> object:
        """Raises `ValueError` for damaged bytes."""
        ...


class KeyState(StrEnum):
    """What a key may be used for."""

    PUBLISHED = "published"
    ISSUING = "issuing"
    VERIFYING = "verifying"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Key:
    """One key. Moments are milliseconds UTC; `secret` is empty once retired."""

    id: int
    secret: bytes = field(repr=False)
    created_at: int
    issue_from: int
    retired_at: int | None = None

    def is_retired(self, now: int) -> bool:
        """Whether everything issued under this key has ended.

        A key without its secret is retired whatever the clock says: a clock that went back must not
        make keys out of nothing.
        """
        return self.retired_at is not None and (not self.secret or now >= self.retired_at)


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys of one application in one environment, which the `realm` names (PROTOCOL A).

    Raises:
        ConfigurationError: a key id twice or out of range, a short secret, no key, no realm.
    """

    realm: str
    store_secret: bytes = field(repr=False)
    keys: tuple[Key, ...]

    def __post_init__(self) -> None:
        ids = [key.id for key in self.keys]
        broken = (
            (not self.keys, "it has no key"),
            (not self.realm or len(self.realm) > 64, "its realm is empty or over 64 characters"),
            (len(set(ids)) != len(ids), "a key id stands in it twice"),
            (any(not 0 <= each <= MAX_KEY_ID for each in ids), "a key id is not within 0 to 255"),
            (not _is_fit(self.store_secret), "its store secret is not of 32 to 64 bytes"),
            (
                any(
                    (key.secret or key.retired_at is None) and not _is_fit(key.secret)
                    for key in self.keys
                ),
                "a key that is in use is not of 32 to 64 bytes",
            ),
        )
        for wrong, sentence in broken:
            if wrong:
                raise ConfigurationError(
                    f"The keyring cannot be used: {sentence}.",
                    why="Sessions are only as safe as the keys that they are issued under.",
                    hint="Make a new one with: strongroom keys generate",
                )

    def state(self, key: Key, now: int) -> KeyState:
        """What the key may be used for at this moment."""
        if key.is_retired(now):
            return KeyState.RETIRED
        if now < key.issue_from:
            return KeyState.PUBLISHED
        issuing = self.issuing(now)
        return KeyState.ISSUING if key.id == issuing.id else KeyState.VERIFYING

    def issuing(self, now: int) -> Key:
        """The newest key whose time has come.

        Raises:
            ConfigurationError: all keys are retired, or none issues yet.
        """
        ready = [key for key in self.keys if not key.is_retired(now) and now >= key.issue_from]
        if not ready:
            raise ConfigurationError(
                "No key of the keyring may issue sessions now.",
                why="Nobody can sign in, because every key is retired or not yet due.",
                hint="Add one that issues at once with: strongroom keys rotate --now",
            )
        return max(ready, key=lambda key: (key.issue_from, key.id))

    def next_id(self) -> int:
        """An id that was never used.

        Raises:
            ConfigurationError: all 256 ids were used.
        """
        highest = max(key.id for key in self.keys)
        if highest >= MAX_KEY_ID:
            raise ConfigurationError(
                "The keyring has used all of its 256 key ids.",
                why="A key id that is used twice would make an old token valid again.",
                hint="Start a new keyring: strongroom keys generate. It signs everybody out once.",
            )
        return highest + 1

    def unlock(self, now: int, mac: Mac = blake2b_mac) -> UnlockedKeys:
        """Every derived key that may be used now, by key id."""
        usable = [key for key in self.keys if not key.is_retired(now)]

        def table(label: str) -> dict[int, bytes]:
            return {key.id: derive(mac, key.secret, label, self.realm) for key in usable}

        def fixed(label: str) -> bytes:
            return derive(mac, self.store_secret, label, self.realm)

        return UnlockedKeys(
            realm=self.realm,
            mac=mac,
            issuing=self.issuing(now).id,
            tokens=TokenKeys(mac, token=table("token"), successor=table("successor")),
            remembered=table("remembered"),
            device=table("device"),
            envelope=table("envelope"),
            data=table("data"),
            server_data=table("server-data"),
            history=table("history"),
            csrf=table("csrf"),
            pre_session=table("pre-session"),
            login_state=table("login-state"),
            index=fixed("index"),
            store_identity=fixed("identity")[:16],
            retired=frozenset(key.id for key in self.keys if key.is_retired(now)),
            binds={
                what: bound_to(what, SEAL_FORMAT, self.realm)
                for what in ("identity", "data", "history", "login-state")
            },
        )

    def changes_at(self, now: int) -> int | None:
        """The next moment at which a state changes, or None: when to `unlock` again."""
        ahead = [key.issue_from for key in self.keys]
        ahead += [key.retired_at for key in self.keys if key.retired_at is not None]
        return min((moment for moment in ahead if moment > now), default=None)


@dataclass(frozen=True, slots=True)
class UnlockedKeys:
    """The derived keys in use. `store_identity` is no secret to the store, which keeps it."""

    realm: str
    mac: Mac = field(repr=False)
    issuing: int
    tokens: TokenKeys = field(repr=False)
    remembered: Mapping[int, bytes] = field(repr=False)
    device: Mapping[int, bytes] = field(repr=False)
    envelope: Mapping[int, bytes] = field(repr=False)
    data: Mapping[int, bytes] = field(repr=False)
    server_data: Mapping[int, bytes] = field(repr=False)
    history: Mapping[int, bytes] = field(repr=False)
    csrf: Mapping[int, bytes] = field(repr=False)
    pre_session: Mapping[int, bytes] = field(repr=False)
    login_state: Mapping[int, bytes] = field(repr=False)
    index: bytes = field(repr=False)
    store_identity: bytes = field(repr=False)
    retired: frozenset[int]
    """Key ids that were in use once. An id that is neither here nor in use is another process's."""
    binds: Mapping[str, bytes] = field(repr=False)
    """What associated data begins with, by what is sealed: the same for every record."""

    def subject_key(self, subject: str) -> bytes:
        """The 16 bytes under which a store knows a subject (PROTOCOL A3)."""
        return self.mac(self.index, subject.encode("utf-8", "surrogatepass"))[:16]

    def session_id(self, subject: str | None, random: bytes) -> bytes:
        """A session id from 16 random bytes, its first two the masked shard of the subject.

        Without a subject all sixteen are random.
        """
        if subject is None:
            return random
        shard = shard_of_subject(self.subject_key(subject))
        return masked(self.store_identity, shard, random)

    def shard_of(self, session_id: bytes) -> bytes:
        """The two-byte shard that a session id hides: the hash tag in a cluster."""
        return shard_of_session(self.store_identity, session_id)


def bound_to(*parts: bytes | str | int) -> bytes:
    """Associated data from parts, length-prefixed, so that no two lists give the same bytes."""
    encoded = [
        part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        for part in parts
    ]
    return b"".join(len(part).to_bytes(2, "big") + part for part in encoded)


def _is_fit(secret: bytes) -> bool:
    return SECRET_LENGTH <= len(secret) <= _LONGEST_SECRET


class Sealer:
    """AEAD with random nonces: `nonce (12) | ciphertext and tag`.

    NIST SP 800-38D allows 2**32 random nonces under one AES-GCM key. Data keys belong to one
    session; the envelope key sees one use per sign-in and per rotation.
    """

    __slots__ = ("_aead", "_entropy")

    def __init__(self, aead: Aead, entropy: Callable[[int], bytes]) -> None:
        self._aead = aead
        self._entropy = entropy

    def seal(self, key: bytes, plaintext: bytes, bound: bytes) -> bytes:
        """The sealed bytes, bound to `bound`."""
        nonce = self._entropy(NONCE_BYTES)
        return nonce + self._aead.seal(key, nonce, plaintext, bound)

    def open(self, key: bytes, sealed: bytes, bound: bytes) -> bytes | None:
        """The plaintext, or None where anything about it is not as it was sealed."""
        if len(sealed) < NONCE_BYTES + 16:
            return None
        return self._aead.open(key, sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)
