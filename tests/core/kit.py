"""Keys, tokens and sealers that the core's tests share."""

from __future__ import annotations

from strongroom.adapters import AesGcm, MsgpackCodec
from strongroom.core.sealing import Key, Keyring, Sealer, UnlockedKeys
from strongroom.core.tokens import Mac, Token, TokenKeys, blake2b_mac, derive, mint, successor
from strongroom.testing import FixedEntropy

NOW = 1_767_225_600_000


def token_keys(*ids: int, mac: Mac = blake2b_mac, realm: str = "test") -> TokenKeys:
    """Token keys with these ids, each of its own secret."""
    secrets = {each: bytes([each]) * 32 for each in ids or (1,)}
    return TokenKeys(
        mac,
        token={each: derive(mac, secret, "token", realm) for each, secret in secrets.items()},
        successor={
            each: derive(mac, secret, "successor", realm) for each, secret in secrets.items()
        },
    )


KEYS = token_keys(1, 2)


def a_token(generation: int = 0, *, filler: int = 7, key_id: int = 1) -> Token:
    """A session token of that generation; tokens with one filler are of one session."""
    return mint(
        KEYS,
        key_id=key_id,
        session_id=bytes([filler]) * 16,
        root=bytes([filler + 1]) * 16,
        secret=bytes([filler + 2]) * 16,
        generation=generation,
    )


def following(token: Token, key_id: int = 1) -> Token:
    """The successor of a token, which must have one."""
    made = successor(KEYS, token, key_id)
    assert made is not None
    return made


def a_keyring(*keys: Key, realm: str = "test") -> Keyring:
    """A keyring of these keys, or of one that issues since the beginning."""
    return Keyring(realm, b"s" * 32, keys or (a_key(1),))


def a_key(key_id: int, *, issue_from: int = 0, retired_at: int | None = None) -> Key:
    """A key whose secret is its own."""
    return Key(key_id, bytes([key_id]) * 32, 0, issue_from, retired_at)


def unlocked(*keys: Key, realm: str = "test", now: int = NOW) -> UnlockedKeys:
    """The derived keys of such a keyring."""
    return a_keyring(*keys, realm=realm).unlock(now)


def a_sealer() -> Sealer:
    """AES-256-GCM, with nonces that are the same in every run."""
    return Sealer(AesGcm(), FixedEntropy("nonces"))


CODEC = MsgpackCodec()
