"""The CSRF token: proof that a page of ours, made for this very visitor, sent it (P19, G2).

    format (1) | key id (2) | mask (16) | MAC xor mask (16)  =  35 bytes, 47 base64url characters

The MAC is the first 16 bytes of a keyed hash over the parts (label, binding, form), each prefixed
with its length (OWASP-C3), so that no two lists of parts can be read as one. It holds no time: it
is worth as much as what it is bound to, and dies with it (OWASP-C4). The mask is fresh random for
each token, so that a page that is compressed over and over never shows the same bytes (BREACH).

The *binding* says whose token it is. Signed in: the session id and kind, so that renewal leaves
open forms working and signing in does not. Before that: the random value of the pre-session
cookie, which is dropped at sign-in, never promoted (login CSRF, OWASP-C11). The *form* narrows it
further: a token minted for a form passes only there, and the general token, whose form is empty,
passes only where no form is named. Nothing is stored.
"""

from __future__ import annotations

import base64
import hmac
import html
import re
import string
import struct
from collections.abc import Callable, Mapping
from typing import Literal

from .errors import UsageError
from .tokens import Mac, blake2b_mac

FORMAT = 1
MASK_BYTES = 16
TOKEN_LENGTH = 47
PRE_SESSION_BYTES = 16
"""128 bits: an attacker cannot guess the cookie of a visitor who has not signed in."""

TokenCheck = Literal["unread", "absent", "valid", "invalid"]
"""What is known of the presented token. `unread` means that nobody has looked yet."""

Keys = Mapping[int, bytes] | Callable[[int], bytes | None]
"""The CSRF keys by key id, or a function that finds one; a retired key is not among them."""

_LABEL = b"strongroom/csrf/1"
_BODY = struct.Struct(">BH16s16s")
_LETTERS = string.ascii_letters + string.digits
_SHAPE = re.compile(r"[A-Za-z0-9_-]{47}")


def session_binding(session_id: bytes, kind: int) -> bytes:
    """The binding of a token to a session and its kind: a sign-in of any sort ends the token."""
    return b"session\0" + kind.to_bytes(2, "big") + session_id


def pre_session_binding(value: bytes) -> bytes:
    """The binding of a token to the random value of the pre-session cookie, as bytes.

    Raises:
        UsageError: fewer than `PRE_SESSION_BYTES`. A visitor without the cookie has no binding:
            everybody would share the empty one, and the attacker's token would be the victim's.
    """
    if len(value) < PRE_SESSION_BYTES:
        raise UsageError(
            f"A pre-session value has at least {PRE_SESSION_BYTES} bytes.",
            why="A short or empty one would bind the token to nobody.",
            hint="Treat the token as invalid if the cookie is absent or malformed.",
        )
    return b"pre-session\0" + value


def mint_token(
    key: bytes, key_id: int, binding: bytes, form: str, mask: bytes, *, mac: Mac = blake2b_mac
) -> str:
    """A token for this binding and form (empty for the general one).

    `key` is the keyring's CSRF key with this id. `mask` is fresh random, at least `MASK_BYTES`
    long; what is longer is not used.

    Raises:
        UsageError: the mask is too short.
    """
    if len(mask) < MASK_BYTES:
        raise UsageError(
            f"A CSRF mask has at least {MASK_BYTES} bytes.",
            why="A shorter one would leave part of the token the same on every page (BREACH).",
            hint="Pass fresh bytes from the operating system's random source.",
        )
    mask = mask[:MASK_BYTES]
    body = _BODY.pack(FORMAT, key_id, mask, _xor(_tag(mac, key, binding, form), mask))
    return _text(body)


def secret_text(key: bytes, binding: bytes, *, mac: Mac = blake2b_mac) -> str:
    """The secret of a framework's own form tokens for this binding: 32 letters and digits.

    For frameworks that mask a secret by themselves; nobody but the masked token ever sees it.
    """
    digest = b"".join(_tag(mac, key, binding, f"\0secret{part}") for part in range(2))
    return "".join(_LETTERS[each % len(_LETTERS)] for each in digest)


def check_token(
    keys: Keys, binding: bytes, form: str, presented: str, *, mac: Mac = blake2b_mac
) -> bool:
    """Whether the string is a token for exactly this binding and form. Never raises on any string.

    A bool and not an exception, because no token and a wrong token are only two rows of `decide`,
    which is what refuses.
    """
    # Length and alphabet first: nothing else is spent on what cannot be a token (OWASP-S11).
    if _SHAPE.fullmatch(presented) is None:
        return False
    raw = base64.urlsafe_b64decode(presented + "=")
    # Two spare bits at the end would give every token four spellings.
    if _text(raw) != presented:
        return False
    version, key_id, mask, masked = _BODY.unpack(raw)
    key = keys(key_id) if callable(keys) else keys.get(key_id)
    if version != FORMAT or key is None:
        return False
    return hmac.compare_digest(_xor(masked, mask), _tag(mac, key, binding, form))


def judge_token(
    keys: Keys, binding: bytes | None, form: str, presented: str | None, *, mac: Mac = blake2b_mac
) -> TokenCheck:
    """What `decide` wants to know. A visitor with nothing to bind to (None) has no valid token."""
    if presented is None:
        return "absent"
    valid = binding is not None and check_token(keys, binding, form, presented, mac=mac)
    return "valid" if valid else "invalid"


def csrf_input(name: str, token: str) -> str:
    """A hidden HTML input with the token. Put it first in the form, so that it is found early."""
    return f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(token)}">'


def _tag(mac: Mac, key: bytes, binding: bytes, form: str) -> bytes:
    """The keyed hash over length-prefixed parts, label first."""
    parts = (_LABEL, binding, form.encode("utf-8", "surrogatepass"))
    message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return mac(key, message)[:MASK_BYTES]


def _xor(left: bytes, right: bytes) -> bytes:
    """One-time pad: applied twice with the same mask it changes nothing."""
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _text(body: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(body).rstrip(b"=").decode("ascii")
