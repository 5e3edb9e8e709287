"""CSRF tokens: bound, masked, per form; nothing that a stranger writes makes one (P19, G2)."""

from __future__ import annotations

import base64
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.csrf_tokens import (
    MASK_BYTES,
    PRE_SESSION_BYTES,
    TOKEN_LENGTH,
    check_token,
    csrf_input,
    judge_token,
    mint_token,
    pre_session_binding,
    session_binding,
)
from strongroom.core.errors import UsageError
from strongroom.core.tokens import hmac_sha512

KEYS = {1: b"k" * 32, 2: b"n" * 32}
SESSION = session_binding(b"s" * 16, 2)
MASK = bytes(range(MASK_BYTES))

bindings = st.binary(max_size=64)
forms = st.text(max_size=20)
masks = st.binary(min_size=MASK_BYTES, max_size=MASK_BYTES + 8)


def minted(binding: bytes = SESSION, form: str = "", mask: bytes = MASK, key_id: int = 1) -> str:
    return mint_token(KEYS[key_id], key_id, binding, form, mask)


def altered(token: str, at: int, flip: int) -> str:
    """The token with one byte of its body changed."""
    raw = bytearray(base64.urlsafe_b64decode(token + "="))
    raw[at] ^= flip
    return base64.urlsafe_b64encode(bytes(raw)).rstrip(b"=").decode()


@given(bindings, forms, masks, st.sampled_from(sorted(KEYS)))
def test_a_minted_token_passes_where_it_belongs(binding, form, mask, key_id):
    """Mint and check are a pair, under every key of the ring (P19)."""
    token = minted(binding, form, mask, key_id)
    assert len(token) == TOKEN_LENGTH
    assert check_token(KEYS, binding, form, token)
    assert check_token(KEYS.get, binding, form, token)


@given(bindings, bindings, forms, forms)
def test_a_token_passes_nowhere_else(binding, other_binding, form, other_form):
    """Neither another session nor another form takes it (G2)."""
    token = minted(binding, form)
    belongs = (binding, form) == (other_binding, other_form)
    assert check_token(KEYS, other_binding, other_form, token) is belongs


def test_a_forms_token_and_the_general_one_do_not_replace_each_other():
    """A protected form takes only its own; other routes take only the general token."""
    assert check_token(KEYS, SESSION, "transfer", minted(form="transfer"))
    assert not check_token(KEYS, SESSION, "transfer", minted())
    assert not check_token(KEYS, SESSION, "", minted(form="transfer"))
    assert not check_token(KEYS, SESSION, "close-account", minted(form="transfer"))


def test_parts_cannot_be_shifted_into_each_other():
    """The message is length-prefixed (OWASP-C3)."""
    assert not check_token(KEYS, b"ab", "c", minted(b"a", "bc"))
    assert not check_token(KEYS, b"abc", "", minted(b"", "abc"))


@given(masks, masks)
def test_two_pages_share_nothing_but_the_first_bytes(one, two):
    """Compression finds the same secret bytes on no two pages (BREACH)."""
    raw = [base64.urlsafe_b64decode(minted(mask=mask) + "=") for mask in (one, two)]
    assert raw[0][:3] == raw[1][:3]
    unmasked = [bytes(a ^ b for a, b in zip(body[3:19], body[19:], strict=True)) for body in raw]
    assert unmasked[0] == unmasked[1]
    assert (raw[0][3:] == raw[1][3:]) is (one[:MASK_BYTES] == two[:MASK_BYTES])


@pytest.mark.parametrize("length", [0, 1, MASK_BYTES - 1])
def test_a_short_mask_is_a_mistake_of_the_application(length):
    """A mask that does not cover the MAC would show it (BREACH)."""
    with pytest.raises(UsageError, match="random"):
        minted(mask=bytes(length))


@given(st.integers(0, 34), st.integers(1, 255))
def test_changing_any_byte_ruins_a_token(at, flip):
    """Format, key id, mask and MAC all count (P19)."""
    assert not check_token(KEYS, SESSION, "", altered(minted(), at, flip))


def test_a_token_has_one_spelling():
    """The two spare bits at its end must be zero."""
    token = minted()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    passing = [end for end in alphabet if check_token(KEYS, SESSION, "", token[:-1] + end)]
    assert passing == [token[-1]]


@pytest.mark.parametrize(
    "presented",
    [
        "",
        "A" * TOKEN_LENGTH,
        minted()[:-1],
        minted() + "A",
        minted() + "=",
        minted() + "\n",
        " " + minted()[1:],
        minted()[:-1] + "\u00e4",
        minted()[:-1] + "+",
        minted()[:-1] + "/",
        "\ud800" * TOKEN_LENGTH,
        "\uff21" * TOKEN_LENGTH,
        "A" * 1_000_000,
    ],
)
def test_what_is_no_token_is_refused_without_a_fuss(presented):
    """Length and alphabet are checked before anything else (OWASP-S11)."""
    assert check_token(KEYS, SESSION, "", presented) is False


@given(st.one_of(st.text(), st.from_regex(r"[A-Za-z0-9_-]{47}", fullmatch=True)))
def test_no_string_raises_and_none_passes(presented):
    """The token is untrusted text (P19)."""
    assert check_token(KEYS, SESSION, "", presented) is False


def test_shape_is_judged_before_any_key_is_looked_up():
    """Junk costs no keyed hash."""

    def lookup(key_id: int) -> bytes | None:
        raise AssertionError(f"key {key_id} was looked up for junk")

    assert check_token(lookup, SESSION, "", "junk") is False


def test_rotating_the_key_keeps_open_forms_until_it_retires():
    """An older key still verifies; a retired one is not in the ring (A1)."""
    old = minted(key_id=1)
    assert check_token(KEYS, SESSION, "", old)
    assert not check_token({2: KEYS[2]}, SESSION, "", old)
    assert not check_token({1: KEYS[2]}, SESSION, "", old)


def test_a_token_survives_renewal_and_not_a_change_of_kind():
    """Bound to session id and kind: no generation is in it (G2)."""
    pending, signed_in = session_binding(b"s" * 16, 1), session_binding(b"s" * 16, 2)
    assert check_token(KEYS, signed_in, "", minted(session_binding(b"s" * 16, 2)))
    assert not check_token(KEYS, signed_in, "", minted(pending))
    assert not check_token(KEYS, session_binding(b"t" * 16, 2), "", minted(signed_in))


@given(
    st.binary(min_size=PRE_SESSION_BYTES, max_size=40),
    st.binary(min_size=16, max_size=16),
    st.integers(0, 255),
)
def test_what_is_bound_before_sign_in_is_never_bound_to_a_session(value, session_id, kind):
    """A pre-session token cannot be promoted (login CSRF, OWASP-C11)."""
    assert pre_session_binding(value) != session_binding(session_id, kind)


def test_an_attackers_own_pre_session_token_is_not_the_victims():
    """Each visitor's cookie is random, so the token of one is nothing to another (G2)."""
    attacker, victim = pre_session_binding(b"a" * 16), pre_session_binding(b"v" * 16)
    assert not check_token(KEYS, victim, "", minted(attacker))


@pytest.mark.parametrize("value", [b"", b"short", b"x" * (PRE_SESSION_BYTES - 1)])
def test_a_visitor_without_a_cookie_has_no_binding(value):
    """The empty binding would be everybody's (login CSRF)."""
    with pytest.raises(UsageError, match="cookie"):
        pre_session_binding(value)


@pytest.mark.parametrize(
    ("binding", "presented", "expected"),
    [
        (SESSION, None, "absent"),
        (SESSION, "", "invalid"),
        (SESSION, "junk", "invalid"),
        (SESSION, minted(), "valid"),
        (None, minted(), "invalid"),
        (None, None, "absent"),
    ],
)
def test_the_judgement_is_what_the_engine_asks_for(binding, presented, expected):
    """No cookie means no valid token, whatever was sent (P19)."""
    assert judge_token(KEYS, binding, "", presented) == expected


def test_a_policy_may_choose_the_hash():
    """HMAC-SHA-512 where only NIST-approved functions are wanted; the two do not mix."""
    token = mint_token(KEYS[1], 1, SESSION, "", MASK, mac=hmac_sha512)
    assert check_token(KEYS, SESSION, "", token, mac=hmac_sha512)
    assert not check_token(KEYS, SESSION, "", token)


def test_the_layout_is_frozen():
    """A token that a running release minted is checked by the next one."""
    assert minted(form="transfer") == "AQABAAECAwQFBgcICQoLDA0OD3h6Jafl9f-np4RFVVRAgJ8"


def test_a_token_says_nothing_about_its_session():
    """Neither the binding nor the form can be read out of it (OWASP-C2)."""
    raw = base64.urlsafe_b64decode(minted(form="transfer") + "=")
    assert b"ssss" not in raw
    assert b"transfer" not in raw


class Inputs(HTMLParser):
    """Collects the attributes of input elements, as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag == "input"
        self.found.append(dict(attrs))


@given(st.text(st.characters(exclude_categories=["C", "Z"])), st.just("a\"'<>&b"))
def test_the_hidden_input_is_escaped(name, token):
    """Whatever the name and token, the element is one hidden input with these values."""
    parser = Inputs()
    parser.feed(csrf_input(name, token))
    assert parser.found == [{"type": "hidden", "name": name, "value": token}]
