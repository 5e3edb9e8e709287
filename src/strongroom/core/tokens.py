"""The session token: what the browser holds, and everything that is derived from keys.

    format and purpose (1) | key id (2) | generation (4) | session id (16) | root (16) | secret (16)
    | tag (8)  =  63 bytes, 84 base64url characters, no spare bits

One keyed 512-bit hash over all but the tag yields the *tag* (refuses cheaply what we did not issue,
before any store is asked, P2) and the *digest* (all that a store ever sees, P3), in disjoint parts.
The *root* stays the same for a session's life and opens its data; the *secret* changes with every
generation. The next secret is derived from the current token under the server's key, so that
everybody who races with one token gets the same successor (P11), and nobody stores a secret.

A generation is two numbers in one: rotation (12 bits) above renewal (20 bits), so that comparing
the integers compares them in that order.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum

FORMAT = 1
TOKEN_BYTES = 63
TOKEN_LENGTH = 84
SESSION_ID_BYTES = 16
SHARD_BYTES = 2
SECRET_BYTES = 16
DIGEST_BYTES = 16
"""128 bits of a keyed hash: a second preimage needs the server's key, so more would only cost."""

NO_DIGEST = bytes(DIGEST_BYTES)
_BODY = struct.Struct(">BHI16s16s16s")
_TAG_BYTES = 8

RENEWAL_BITS = 20
MAX_RENEWAL = (1 << RENEWAL_BITS) - 1
MAX_ROTATION = (1 << 12) - 1

LABELS = {
    "token": "tag and digest of a token; the purpose is part of what is hashed",
    "successor": "the next secret from the current token",
    "remembered": "id, root and secret of the session that comes with a persistent login's token",
    "device": "the tag of a device cookie",
    "envelope": "AEAD key of identity envelopes",
    "data": "AEAD key of session data, with root and session id",
    "server-data": "AEAD key of session data that servers must read alone",
    "history": "AEAD key of stored events",
    "csrf": "CSRF tokens",
    "pre-session": "CSRF tokens before sign-in",
    "login-state": "AEAD key of sign-ins that are under way at an identity provider",
    "index": "the name under which a store knows a subject; it begins with the shard",
    "identity": "recognises a store, so that the wrong keys are refused at start-up; from it comes "
    "the mask that hides the shard in a session id, because a store has to find a session's shard",
}
"""Every derivation that exists (PROTOCOL A2). A label is never used for two things."""

Mac = Callable[[bytes, bytes], bytes]
"""A keyed hash: (key of 32 bytes, message) -> 64 bytes."""


def blake2b_mac(key: bytes, message: bytes) -> bytes:
    """Keyed BLAKE2b (RFC 7693): the default, twice as fast as HMAC here."""
    return hashlib.blake2b(message, key=key).digest()


def hmac_sha512(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA-512 (FIPS 198-1), for policies that want only NIST-approved functions."""
    return hmac.digest(key, message, "sha512")


def derive(mac: Mac, secret: bytes, label: str, realm: str, *more: bytes) -> bytes:
    """A 32-byte key for one label, in one realm. Parts are length-prefixed: no two can collide.

    Raises:
        KeyError: the label is not in `LABELS`.
    """
    LABELS[label]
    parts = (b"strongroom/1", label.encode(), realm.encode(), *more)
    message = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
    return mac(secret, message)[:32]


def shard_of_subject(subject_key: bytes) -> bytes:
    """The two bytes that all keys of a subject share: the hash tag in a cluster."""
    return subject_key[:SHARD_BYTES]


def masked(store_identity: bytes, shard: bytes, random: bytes) -> bytes:
    """A session id that hides the shard in its first two bytes; the rest is random as given."""
    mask = _mask(store_identity, random)
    return bytes((shard[0] ^ mask[0], shard[1] ^ mask[1])) + random[SHARD_BYTES:]


def shard_of_session(store_identity: bytes, session_id: bytes) -> bytes:
    """The two bytes that a session id hides: its subject's shard, or noise for nobody's session."""
    mask = _mask(store_identity, session_id)
    return bytes((session_id[0] ^ mask[0], session_id[1] ^ mask[1]))


def _mask(store_identity: bytes, session_id: bytes) -> bytes:
    # Only whoever knows the store's identity can tell that two ids may belong to one subject. A
    # plain hash with a secret prefix will do: what is hashed has always the same length.
    return hashlib.sha256(b"shard mask" + store_identity + session_id[SHARD_BYTES:]).digest()


class Purpose(IntEnum):
    """What a token is for. A token of one purpose is noise to every other."""

    SESSION = 1
    PERSISTENT = 2
    HAND_OVER = 3


class TokenRefusal(Enum):
    """Why a string is not a token of ours. None of these ever reaches a store (P2)."""

    SHAPE = "not a token at all"
    UNKNOWN_KEY = "its key is not in the keyring, or retired"
    FORGED = "its tag is wrong"


def generation_of(rotation: int, renewal: int) -> int:
    """The two numbers as one integer."""
    return (rotation << RENEWAL_BITS) | renewal


def rotation_of(generation: int) -> int:
    """How often privilege changed."""
    return generation >> RENEWAL_BITS


def renewal_of(generation: int) -> int:
    """How often the token was renewed since the last rotation."""
    return generation & MAX_RENEWAL


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """A token whose tag is right. Its `repr` shows nothing that opens anything (P5)."""

    purpose: Purpose
    key_id: int
    generation: int
    session_id: bytes
    root: bytes
    secret: bytes
    digest: bytes
    text: str

    def __repr__(self) -> str:
        return f"Token({self.purpose.name} of {self.session_id.hex()}, secret hidden)"


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """The derived keys that tokens need, by key id. Built by the keyring; holds no retired key."""

    mac: Mac
    token: Mapping[int, bytes]
    successor: Mapping[int, bytes]

    def __repr__(self) -> str:
        return f"TokenKeys(ids {sorted(self.token)}, keys hidden)"


def mint(
    keys: TokenKeys,
    *,
    key_id: int,
    session_id: bytes,
    root: bytes,
    secret: bytes,
    generation: int = 0,
    purpose: Purpose = Purpose.SESSION,
) -> Token:
    """A token from given bytes: 16 each of session id, root and secret, from a CSPRNG (P1)."""
    body = _BODY.pack(FORMAT << 4 | purpose, key_id, generation, session_id, root, secret)
    hashed = keys.mac(keys.token[key_id], body)
    text = base64.urlsafe_b64encode(body + hashed[:_TAG_BYTES]).decode("ascii")
    digest = hashed[_TAG_BYTES : _TAG_BYTES + DIGEST_BYTES]
    return Token(purpose, key_id, generation, session_id, root, secret, digest, text)


def parse(
    keys: TokenKeys, presented: bytes, purpose: Purpose = Purpose.SESSION
) -> Token | TokenRefusal:
    """The token in these bytes, or why it is none. Never raises; length and alphabet come first."""
    if len(presented) != TOKEN_LENGTH:
        return TokenRefusal.SHAPE
    try:
        raw = base64.urlsafe_b64decode(presented)
    except (binascii.Error, ValueError):
        return TokenRefusal.SHAPE
    # The decoder skips foreign characters, so only a string that comes out the same is one of ours.
    if base64.urlsafe_b64encode(raw) != presented:
        return TokenRefusal.SHAPE
    head, key_id, generation, session_id, root, secret = _BODY.unpack_from(raw)
    if head != FORMAT << 4 | purpose:
        return TokenRefusal.SHAPE
    key = keys.token.get(key_id)
    if key is None:
        return TokenRefusal.UNKNOWN_KEY
    hashed = keys.mac(key, raw[:-_TAG_BYTES])
    if not hmac.compare_digest(hashed[:_TAG_BYTES], raw[-_TAG_BYTES:]):
        return TokenRefusal.FORGED
    digest = hashed[_TAG_BYTES : _TAG_BYTES + DIGEST_BYTES]
    text = presented.decode("ascii")
    return Token(purpose, key_id, generation, session_id, root, secret, digest, text)


def successor(keys: TokenKeys, token: Token, next_key_id: int) -> Token | None:
    """The token that follows by renewal, or None where its key is gone or the numbers are used up.

    `next_key_id` is what the record says: it was fixed when `token` was minted, so that old and
    new processes derive the same bytes.
    """
    key = keys.successor.get(next_key_id)
    if key is None or renewal_of(token.generation) == MAX_RENEWAL:
        return None
    body = _BODY.pack(
        FORMAT << 4 | token.purpose,
        next_key_id,
        token.generation + 1,
        token.session_id,
        token.root,
        token.secret,
    )
    return mint(
        keys,
        key_id=next_key_id,
        session_id=token.session_id,
        root=token.root,
        secret=keys.mac(key, body)[:SECRET_BYTES],
        generation=token.generation + 1,
        purpose=token.purpose,
    )


class VerifiedTokens:
    """Token strings whose tag was found right, so that a hit spares the hash.

    In memory only and bounded: when full, it starts again empty, which costs one hash a token. It
    belongs to one `TokenKeys`; retiring a key makes new ones and so empties it (PROTOCOL H3).
    """

    __slots__ = ("_keys", "_known", "_limit")

    def __init__(self, keys: TokenKeys, limit: int = 4096) -> None:
        self._keys = keys
        self._known: dict[bytes, Token] = {}
        self._limit = limit

    def parse(self, presented: bytes) -> Token | TokenRefusal:
        """As `parse`, for session tokens."""
        known = self._known.get(presented)
        if known is not None:
            return known
        parsed = parse(self._keys, presented)
        if isinstance(parsed, Token):
            if len(self._known) >= self._limit:
                self._known.clear()
            self._known[presented] = parsed
        return parsed
