"""Session tokens: what we issued is recognised before any store is asked, and nothing else is."""

from __future__ import annotations

import base64
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from strongroom.core.tokens import (
    DIGEST_BYTES,
    LABELS,
    MAX_RENEWAL,
    MAX_ROTATION,
    TOKEN_BYTES,
    TOKEN_LENGTH,
    Purpose,
    Token,
    TokenKeys,
    TokenRefusal,
    VerifiedTokens,
    blake2b_mac,
    derive,
    generation_of,
    hmac_sha512,
    mint,
    parse,
    renewal_of,
    rotation_of,
    successor,
)
from tests.core.kit import KEYS, a_token, following, token_keys

ALPHABET = (string.ascii_letters + string.digits + "-_").encode()
SIXTEEN = st.binary(min_size=16, max_size=16)
GENERATIONS = st.integers(0, 2**32 - 1)


def presented(token: Token) -> bytes:
    """The token as a browser sends it."""
    return token.text.encode("ascii")


@given(SIXTEEN, SIXTEEN, SIXTEEN, GENERATIONS, st.sampled_from(Purpose), st.sampled_from([1, 2]))
def test_what_was_minted_is_parsed(
    session_id: bytes, root: bytes, secret: bytes, generation: int, purpose: Purpose, key_id: int
) -> None:
    """A token comes back with every part as it was, from 84 characters for 63 bytes (B)."""
    token = mint(
        KEYS,
        key_id=key_id,
        session_id=session_id,
        root=root,
        secret=secret,
        generation=generation,
        purpose=purpose,
    )
    assert len(token.text) == TOKEN_LENGTH
    assert set(presented(token)) <= set(ALPHABET)
    parsed = parse(KEYS, presented(token), purpose)
    assert isinstance(parsed, Token)
    for name in ("purpose", "key_id", "generation", "session_id", "root", "secret", "digest"):
        assert getattr(parsed, name) == getattr(token, name)
    assert parsed.text == token.text


def test_the_format_does_not_drift() -> None:
    """Tokens of this release are those of the next: a vector, computed once (B)."""
    token = a_token(generation_of(2, 3))
    raw = base64.urlsafe_b64decode(token.text)
    assert len(raw) == TOKEN_BYTES
    assert raw[:-8].hex() == "11" + "0001" + "00200003" + "07" * 16 + "08" * 16 + "09" * 16
    body = raw[:-8]
    hashed = blake2b_mac(KEYS.token[1], body)
    assert raw[-8:] == hashed[:8]
    assert token.digest == hashed[8 : 8 + DIGEST_BYTES]


@given(st.integers(0, TOKEN_LENGTH - 1), st.sampled_from(list(ALPHABET)))
def test_a_token_with_any_character_changed_is_refused(position: int, character: int) -> None:
    """There is no character that does not count (P2, B: no spare bits)."""
    original = presented(a_token())
    changed = bytearray(original)
    changed[position] = character
    if bytes(changed) != original:
        assert isinstance(parse(KEYS, bytes(changed)), TokenRefusal)


@given(st.binary(max_size=200))
@example(b"")
@example(b"=" * TOKEN_LENGTH)
@example(b"\xff" * TOKEN_LENGTH)
@example(b"A" * TOKEN_LENGTH)
@example(b"A" * (TOKEN_LENGTH - 1) + b"=")
@example(b"A" * (TOKEN_LENGTH - 2) + b"==")
def test_no_bytes_make_the_parser_raise(noise: bytes) -> None:
    """Whatever a client sends is a refusal, not an exception (P2)."""
    assert isinstance(parse(KEYS, noise), TokenRefusal)


@given(st.lists(st.sampled_from([*ALPHABET, *b"+/= \n\x00\xff"]), min_size=84, max_size=84))
def test_noise_of_the_right_length_is_refused(noise: list[int]) -> None:
    """The right length and a near alphabet are not enough (P2)."""
    assert isinstance(parse(KEYS, bytes(noise)), TokenRefusal)


def test_shape_is_checked_before_any_hash() -> None:
    """A flood of nonsense costs no cryptography (P2)."""
    hashed: list[bytes] = []

    def counting(key: bytes, message: bytes) -> bytes:
        hashed.append(message)
        return blake2b_mac(key, message)

    keys = TokenKeys(counting, KEYS.token, KEYS.successor)
    good = presented(a_token())
    for bad in (good[:-1], good + b"A", b"\x00" + good[1:], b"*" * 84, b"", b"A" * 84):
        assert parse(keys, bad) is TokenRefusal.SHAPE
    assert hashed == []
    assert isinstance(parse(keys, good), Token)
    assert len(hashed) == 1


def test_only_one_spelling_of_a_token_is_accepted() -> None:
    """The standard alphabet, spaces and foreign characters: decoders skip them, we do not (B)."""
    for secret in range(256):
        token = mint(
            KEYS, key_id=1, session_id=b"i" * 16, root=b"r" * 16, secret=bytes([secret]) * 16
        )
        other = presented(token).replace(b"-", b"+").replace(b"_", b"/")
        if other != presented(token):
            assert parse(KEYS, other) is TokenRefusal.SHAPE
    good = presented(a_token())
    for inserted in (b" ", b"\n", b"\xff", b"="):
        assert parse(KEYS, good[:40] + inserted + good[40:]) is TokenRefusal.SHAPE
        assert parse(KEYS, good[:40] + inserted + good[40:-1]) is TokenRefusal.SHAPE


def test_a_token_of_another_purpose_is_noise() -> None:
    """A persistent login's token opens no session, whatever its tag (A2)."""
    for minted in Purpose:
        token = mint(
            KEYS, key_id=1, session_id=b"i" * 16, root=b"r" * 16, secret=b"s" * 16, purpose=minted
        )
        for wanted in Purpose:
            parsed = parse(KEYS, presented(token), wanted)
            assert isinstance(parsed, Token) is (minted is wanted)
            if minted is not wanted:
                assert parsed is TokenRefusal.SHAPE


def test_a_token_under_an_unknown_key_says_so() -> None:
    """A key that was retired, or is not yet known, is told apart from a forgery (A4)."""
    token = presented(a_token(key_id=2))
    assert parse(token_keys(1), token) is TokenRefusal.UNKNOWN_KEY


def test_another_key_secret_or_realm_makes_other_tokens() -> None:
    """Two applications that share a key or a server cannot take each other's tokens (A2)."""
    token = presented(a_token())
    assert parse(token_keys(1, realm="other"), token) is TokenRefusal.FORGED
    assert parse(token_keys(1, mac=hmac_sha512), token) is TokenRefusal.FORGED
    swapped = TokenKeys(KEYS.mac, {1: KEYS.token[2]}, {})
    assert parse(swapped, token) is TokenRefusal.FORGED
    assert parse(TokenKeys(KEYS.mac, {1: KEYS.successor[1]}, {}), token) is TokenRefusal.FORGED


def test_tokens_work_with_approved_functions_only() -> None:
    """HMAC-SHA-512 stands in for BLAKE2b where policy asks for it (B)."""
    keys = token_keys(1, mac=hmac_sha512)
    token = mint(keys, key_id=1, session_id=b"i" * 16, root=b"r" * 16, secret=b"s" * 16)
    assert isinstance(parse(keys, presented(token)), Token)
    assert len(hmac_sha512(b"k", b"m")) == len(blake2b_mac(b"k", b"m")) == 64


def test_the_digest_is_not_in_the_token() -> None:
    """What a store sees and what a browser holds have no byte in common but the id (P3)."""
    token = a_token()
    raw = base64.urlsafe_b64decode(token.text)
    assert token.digest not in raw
    assert len(token.digest) == DIGEST_BYTES
    assert a_token(1).digest != token.digest


@given(GENERATIONS, GENERATIONS)
def test_a_generation_is_rotation_then_renewal(one: int, other: int) -> None:
    """Comparing the integers compares rotation first, then renewal (B)."""
    assert generation_of(rotation_of(one), renewal_of(one)) == one
    pairs = [(rotation_of(each), renewal_of(each)) for each in (one, other)]
    assert (one < other) is (pairs[0] < pairs[1])
    assert 0 <= rotation_of(one) <= MAX_ROTATION
    assert 0 <= renewal_of(one) <= MAX_RENEWAL


def test_racers_get_the_same_successor() -> None:
    """The successor follows from the token and the server's key alone (P11)."""
    token = a_token()
    one, other = following(token), following(token)
    assert one.text == other.text
    assert (one.session_id, one.root) == (token.session_id, token.root)
    assert one.generation == token.generation + 1
    assert one.secret != token.secret
    parsed = parse(KEYS, presented(one))
    assert isinstance(parsed, Token)
    assert parsed.digest == one.digest


def test_a_successor_needs_the_secret_and_the_key() -> None:
    """Neither another secret nor another key leads to it (P3, D)."""
    token = a_token()
    expected = following(token)
    impostor = mint(KEYS, key_id=1, session_id=token.session_id, root=token.root, secret=b"x" * 16)
    assert following(impostor).secret != expected.secret
    assert following(token, 2).secret != expected.secret
    assert following(token, 2).key_id == 2


def test_renewal_stops_at_the_last_number() -> None:
    """Nothing wraps: after the last renewal number there is no successor (D5)."""
    assert following(a_token(generation_of(1, MAX_RENEWAL - 1))).generation == generation_of(
        1, MAX_RENEWAL
    )
    assert successor(KEYS, a_token(generation_of(1, MAX_RENEWAL)), 1) is None
    assert successor(KEYS, a_token(2**32 - 1), 1) is None


def test_a_token_whose_key_is_gone_has_no_successor() -> None:
    """Retiring a key ends what was issued under it (A1)."""
    assert successor(token_keys(1), a_token(), 2) is None


@pytest.mark.parametrize("label", LABELS)
def test_each_label_gives_a_key_of_its_own(label: str) -> None:
    """No two derivations share a key, in one realm or in two (A2)."""
    keys = {derive(blake2b_mac, b"k" * 32, each, "r") for each in LABELS}
    assert len(keys) == len(LABELS)
    mine = derive(blake2b_mac, b"k" * 32, label, "r")
    assert len(mine) == 32
    assert derive(blake2b_mac, b"k" * 32, label, "other") != mine
    assert derive(blake2b_mac, b"K" * 32, label, "r") != mine


def test_an_unlisted_label_is_an_error() -> None:
    """Every derivation stands in one table (A2)."""
    with pytest.raises(KeyError):
        derive(blake2b_mac, b"k" * 32, "something else", "r")


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_different_parts_derive_different_keys(one: list[bytes], other: list[bytes]) -> None:
    """Parts are length-prefixed, so moving a boundary changes the key (A2)."""
    first, second = (derive(blake2b_mac, b"k" * 32, "data", "r", *parts) for parts in (one, other))
    assert (first == second) is (one == other)


def test_nothing_that_opens_anything_is_shown() -> None:
    """Neither `repr` nor an f-string of a token or of keys holds a secret (P5)."""
    token = a_token()
    shown = f"{token} {token!r} {KEYS} {KEYS!r}"
    assert token.text not in shown
    for secret in (token.secret, token.root, token.digest, *KEYS.token.values()):
        assert secret.hex() not in shown
        assert repr(secret) not in shown
    assert token.session_id.hex() in shown


def test_a_verified_token_is_hashed_once() -> None:
    """A hit spares the hash, and is the same token (H3)."""
    hashed: list[bytes] = []

    def counting(key: bytes, message: bytes) -> bytes:
        hashed.append(message)
        return blake2b_mac(key, message)

    verified = VerifiedTokens(TokenKeys(counting, KEYS.token, KEYS.successor))
    good = presented(a_token())
    first = verified.parse(good)
    assert verified.parse(good) is first
    assert isinstance(first, Token)
    assert len(hashed) == 1


def test_a_refused_token_is_not_remembered() -> None:
    """Nonsense fills no memory, and stays refused (P2)."""
    verified = VerifiedTokens(KEYS, limit=1)
    good = presented(a_token())
    bad = good[:-1] + (b"A" if good[-1:] != b"A" else b"B")
    first = verified.parse(good)
    for _ in range(3):
        assert verified.parse(bad) is TokenRefusal.FORGED
    assert verified.parse(good) is first


def test_the_verified_tokens_are_bounded() -> None:
    """When full it starts again, and answers stay right (P24)."""
    verified = VerifiedTokens(KEYS, limit=2)
    tokens = [a_token(filler=each) for each in range(5)]
    for _ in range(2):
        for token in tokens:
            parsed = verified.parse(presented(token))
            assert isinstance(parsed, Token)
            assert parsed.digest == token.digest
