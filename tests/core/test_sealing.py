"""The keyring and what is sealed with it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import ConfigurationError
from strongroom.core.record import data_bound
from strongroom.core.sealing import (
    MAX_KEY_ID,
    NONCE_BYTES,
    Key,
    Keyring,
    KeyState,
    bound_to,
)
from strongroom.core.tokens import Token, TokenRefusal, hmac_sha512, mint, parse
from tests.core.kit import NOW, a_key, a_keyring, a_sealer, unlocked

KEY = b"k" * 32


def test_a_keys_state_follows_from_its_moments() -> None:
    """Published, issuing, verifying, retired: to the millisecond, with nothing to switch (A1)."""
    old, new = a_key(1, retired_at=NOW + 100), a_key(2, issue_from=NOW + 10)
    ring = a_keyring(old, new)
    states = {
        NOW + 9: (KeyState.ISSUING, KeyState.PUBLISHED),
        NOW + 10: (KeyState.VERIFYING, KeyState.ISSUING),
        NOW + 99: (KeyState.VERIFYING, KeyState.ISSUING),
        NOW + 100: (KeyState.RETIRED, KeyState.ISSUING),
    }
    for moment, expected in states.items():
        assert (ring.state(old, moment), ring.state(new, moment)) == expected


def test_a_published_key_verifies_before_it_issues() -> None:
    """A new process's tokens are understood by one that does not issue under the key yet (A1)."""
    ring = a_keyring(a_key(1), a_key(2, issue_from=NOW + 10))
    keys = ring.unlock(NOW)
    assert keys.issuing == 1
    assert set(keys.tokens.token) == set(keys.envelope) == set(keys.data) == {1, 2}
    assert ring.unlock(NOW + 10).issuing == 2


def test_the_newest_key_issues() -> None:
    """By its moment, not by its place or number."""
    assert a_keyring(a_key(9), a_key(3, issue_from=5), a_key(7)).issuing(NOW).id == 3
    assert a_keyring(a_key(1), a_key(2)).issuing(NOW).id == 2, "of two at once, the higher id"


def test_a_ring_without_a_key_that_may_issue_says_so() -> None:
    """Nobody could sign in, so it fails at start-up with what to do."""
    for ring in (a_keyring(a_key(1, issue_from=NOW + 1)), a_keyring(a_key(1, retired_at=NOW))):
        with pytest.raises(ConfigurationError, match="keys rotate"):
            ring.unlock(NOW)


def test_a_retired_key_is_gone_from_every_table() -> None:
    """Retiring ends everything that was issued under the key, everywhere, in O(1) (A1)."""
    ring = a_keyring(Key(1, b"", 0, 0, NOW), a_key(2))
    before = unlocked(a_key(1), a_key(2))
    after = ring.unlock(NOW)
    for name in ("envelope", "data", "server_data", "history", "csrf", "pre_session"):
        assert set(getattr(after, name)) == {2}
    token = mint(before.tokens, key_id=1, session_id=KEY[:16], root=KEY[:16], secret=KEY[:16])
    assert isinstance(parse(before.tokens, token.text.encode()), Token)
    assert parse(after.tokens, token.text.encode()) is TokenRefusal.UNKNOWN_KEY


def test_a_key_id_is_never_used_twice() -> None:
    """Retired keys stay as names, and the 257th key needs a new ring (A1)."""
    assert a_keyring(Key(5, b"", 0, 0, NOW), a_key(2)).next_id() == 6
    with pytest.raises(ConfigurationError, match="256"):
        a_keyring(a_key(MAX_KEY_ID)).next_id()


def test_the_next_change_of_a_state_is_known() -> None:
    """So a process unlocks again when it has to, and not before."""
    ring = a_keyring(a_key(1, retired_at=NOW + 100), a_key(2, issue_from=NOW + 10))
    assert ring.changes_at(NOW) == NOW + 10
    assert ring.changes_at(NOW + 10) == NOW + 100
    assert ring.changes_at(NOW + 100) is None


@pytest.mark.parametrize(
    ("realm", "store_secret", "keys", "sentence"),
    [
        ("", KEY, (a_key(1),), "realm"),
        ("r" * 65, KEY, (a_key(1),), "realm"),
        ("r", KEY[:31], (a_key(1),), "store secret"),
        ("r", KEY, (), "no key"),
        ("r", KEY, (a_key(1), a_key(1, issue_from=5)), "twice"),
        ("r", KEY, (Key(256, KEY, 0, 0),), "0 to 255"),
        ("r", KEY, (Key(-1, KEY, 0, 0),), "0 to 255"),
        ("r", KEY, (Key(1, KEY[:31], 0, 0),), "32 to 64"),
    ],
)
def test_a_keyring_that_is_not_safe_is_refused(
    realm: str, store_secret: bytes, keys: tuple[Key, ...], sentence: str
) -> None:
    """At start-up, with a sentence that says what is wrong and a command that mends it."""
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        Keyring(realm, store_secret, keys)
    assert "keys generate" in caught.value.hint


def test_no_two_tables_share_a_key() -> None:
    """Each purpose, key and realm has derived keys of its own (A2)."""
    derived: list[bytes] = []
    for keys in (unlocked(a_key(1), a_key(2)), unlocked(a_key(1), realm="other")):
        for name in ("envelope", "data", "server_data", "history", "csrf", "pre_session"):
            derived += getattr(keys, name).values()
        derived += [*keys.tokens.token.values(), *keys.tokens.successor.values()]
        derived.append(keys.index)
    assert len(set(derived)) == len(derived)
    assert all(len(each) == 32 for each in derived)


def test_the_stores_keys_do_not_change_with_the_others() -> None:
    """Index and identity are fixed for the life of a store (A3)."""
    one, other = unlocked(a_key(1)), unlocked(a_key(2))
    for name in ("index", "store_identity"):
        assert getattr(one, name) == getattr(other, name)
    assert len(one.store_identity) == 16
    elsewhere = a_keyring().__class__("test", b"t" * 32, (a_key(1),)).unlock(NOW)
    assert elsewhere.store_identity != one.store_identity


def test_keys_and_rings_show_no_secret() -> None:
    """In no `repr`, so in no log and no traceback (P5)."""
    ring = a_keyring(Key(1, b"THE-SECRET-OF-THE-KEY-THAT-IS-32", 0, 0))
    keys = ring.unlock(NOW)
    shown = f"{ring!r} {ring.keys[0]!r} {keys!r}"
    assert "THE-SECRET" not in shown
    assert "ssss" not in shown
    assert repr(keys.data[1]) not in shown


def test_subjects_are_known_by_a_keyed_hash() -> None:
    """A store cannot tell who somebody is, nor test a guess without the key (A3, P4)."""
    keys = unlocked()
    assert keys.subject_key("alice") == keys.subject_key("alice")
    assert len({keys.subject_key(each) for each in ("alice", "Alice", "alice ", "bob")}) == 4
    assert keys.subject_key("alice") != unlocked(realm="other").subject_key("alice")
    assert len(keys.subject_key("\ud800")) == 16, "a lone surrogate is a subject too"


@given(st.binary(min_size=16, max_size=16), st.text(max_size=10))
def test_all_session_ids_of_a_subject_hide_one_shard(random: bytes, subject: str) -> None:
    """So that they live in one slot of a cluster, and yet look unrelated (B)."""
    keys = unlocked()
    session_id = keys.session_id(subject, random)
    assert session_id[2:] == random[2:]
    assert keys.shard_of(session_id) == keys.shard_of(keys.session_id(subject, b"\x00" * 16))
    assert keys.shard_of(session_id) == keys.subject_key(subject)[:2]
    assert keys.session_id(None, random) == random


def test_masked_shards_look_unrelated() -> None:
    """A hundred sessions of one subject begin with about a hundred different pairs of bytes (B)."""
    keys = unlocked()
    ids = [keys.session_id("alice", n.to_bytes(16, "big")) for n in range(100)]
    assert len({each[:2] for each in ids}) > 90
    assert len({keys.shard_of(each) for each in ids}) == 1


def test_only_the_store_can_unmask_a_shard() -> None:
    """Under another store's identity the ids of one subject are as unrelated as they look (B)."""
    keys, other = unlocked(), unlocked(realm="other")
    ids = [keys.session_id("alice", n.to_bytes(16, "big")) for n in range(100)]
    assert len({other.shard_of(each) for each in ids}) > 90


PARTS = st.lists(st.binary(max_size=3) | st.text(max_size=3), max_size=4)


@given(PARTS, PARTS)
def test_bound_data_is_unambiguous(one: list[bytes | str], other: list[bytes | str]) -> None:
    """Moving a boundary between two parts is noticed (C2)."""
    plain = [
        [
            part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
            for part in each
        ]
        for each in (one, other)
    ]
    assert (bound_to(*one) == bound_to(*other)) is (plain[0] == plain[1])


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_what_was_sealed_is_opened(plaintext: bytes, bound: bytes) -> None:
    """With the same key and the same bound data, and with no other (P4)."""
    sealer = a_sealer()
    sealed = sealer.seal(KEY, plaintext, bound)
    assert sealer.open(KEY, sealed, bound) == plaintext
    assert sealer.open(b"K" * 32, sealed, bound) is None
    assert sealer.open(KEY, sealed, bound + b"x") is None
    assert len(sealed) == NONCE_BYTES + len(plaintext) + 16


@given(st.binary(max_size=60))
def test_noise_opens_to_nothing(noise: bytes) -> None:
    """Whatever stands in a damaged store, opening it is a value, not an exception (C4)."""
    assert a_sealer().open(KEY, noise, b"") is None


def test_sealing_twice_gives_two_ciphertexts() -> None:
    """Each seal draws a nonce of its own (SP 800-38D)."""
    sealer = a_sealer()
    assert sealer.seal(KEY, b"same", b"") != sealer.seal(KEY, b"same", b"")


def test_data_moved_to_another_session_does_not_open() -> None:
    """Session id and key id are bound to the data; so are the realm and the format (C3)."""
    keys, sealer = unlocked(), a_sealer()
    sealed = sealer.seal(KEY, b"data", data_bound(keys, b"i" * 16, 1))
    assert sealer.open(KEY, sealed, data_bound(keys, b"i" * 16, 1)) == b"data"
    assert sealer.open(KEY, sealed, data_bound(keys, b"j" * 16, 1)) is None
    assert sealer.open(KEY, sealed, data_bound(keys, b"i" * 16, 2)) is None
    other = unlocked(realm="other")
    assert sealer.open(KEY, sealed, data_bound(other, b"i" * 16, 1)) is None


def test_everything_works_with_approved_functions() -> None:
    """HMAC-SHA-512 in place of BLAKE2b derives other keys, of the same shape (B)."""
    approved = a_keyring().unlock(NOW, mac=hmac_sha512)
    assert approved.data[1] != unlocked().data[1]
    assert len(approved.subject_key("alice")) == 16
