"""What the pure core is handed: encryption, the value codec, the clock and the entropy.

`cryptography` and `msgspec` are imported here and nowhere else, and this module is imported only
when a manager is made, so that `import strongroom` stays cheap.
"""

from __future__ import annotations

import math
import os
import time
from datetime import datetime
from enum import Enum

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .core.data import is_array, is_dict
from .core.errors import UnserialisableValue

MAX_DEPTH = 32
"""Deeper nesting than this is a mistake or an attack on the decoder's stack."""


def system_clock() -> int:
    """Milliseconds UTC since 1970."""
    return time.time_ns() // 1_000_000


def system_entropy(length: int) -> bytes:
    """Bytes from the operating system's CSPRNG (P1, ASVS 7.2.3)."""
    return os.urandom(length)


class AesGcm:
    """AES-256-GCM (NIST SP 800-38D). The key schedules of recently used keys are kept."""

    def __init__(self, keep: int = 256) -> None:
        self._ciphers: dict[bytes, AESGCM] = {}
        self._keep = keep

    def seal(self, key: bytes, nonce: bytes, plaintext: bytes, bound: bytes) -> bytes:
        """Ciphertext and 16-byte tag."""
        return self._cipher(key).encrypt(nonce, plaintext, bound)

    def open(self, key: bytes, nonce: bytes, sealed: bytes, bound: bytes) -> bytes | None:
        """The plaintext, or None where anything differs from what was sealed."""
        try:
            return self._cipher(key).decrypt(nonce, sealed, bound)
        except InvalidTag:
            return None

    def _cipher(self, key: bytes) -> AESGCM:
        cipher = self._ciphers.get(key)
        if cipher is None:
            cipher = AESGCM(key)
            if len(self._ciphers) >= self._keep:
                self._ciphers.clear()
            self._ciphers[key] = cipher
        return cipher


class MsgpackCodec:
    """MessagePack by msgspec, restricted to what comes back as it went in.

    None, bool, int of 64 bits, float, str, bytes, datetime with a zone, list, tuple (comes back as
    a list) and dict with str or int keys; subclasses come back as the plain type. Anything else,
    enumerations too, is refused.
    """

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder()

    def encode(self, value: object) -> bytes:
        """The value's bytes.

        Raises:
            UnserialisableValue: with the place of the first thing that cannot be kept.
        """
        _check(value, "the value", 0)
        try:
            return self._encoder.encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise _refused(*self._culprit("the value", value)) from error

    def _culprit(self, where: str, value: object) -> tuple[str, object]:
        """The first thing inside that cannot be encoded, which its encoder does not tell."""
        inside: list[tuple[str, object]] = []
        if is_dict(value):
            for key, item in value.items():
                inside += [(f"a key of {where}", key), (f"{where}[{key!r}]", item)]
        elif is_array(value):
            inside = [(f"{where}[{index}]", item) for index, item in enumerate(value)]
        for place, item in inside:
            try:
                self._encoder.encode(item)
            except (TypeError, ValueError, OverflowError, RecursionError):
                return self._culprit(place, item)
        return where, value

    def decode(self, encoded: bytes) -> object:
        """The value in these bytes.

        Raises:
            ValueError: they are damaged.
        """
        try:
            return self._decoder.decode(encoded)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise ValueError("these bytes are not a value") from error


_EXACT = frozenset({str, bytes, bool, int, type(None)})
"""Types, and no subclasses, of which every value can be kept: most values are of one of them."""
_PLAIN = (str, bytes, bool, int, float, type(None))


def _check(value: object, where: str, depth: int) -> None:
    """Refuse what MessagePack would convert in silence (sets, UUIDs, dataclasses, ...)."""
    if type(value) in _EXACT:
        return
    if isinstance(value, Enum):
        # It would come back as a plain str or int that equals it, and is not it.
        raise _refused(where, value)
    if isinstance(value, _PLAIN):
        if isinstance(value, float) and math.isnan(value):
            # NaN is unequal to itself, so it would look changed on every request.
            raise _refused(where, value)
        return
    if depth >= MAX_DEPTH:
        raise _refused("the value", value, f"nested deeper than {MAX_DEPTH} levels")
    if is_dict(value):
        for key, item in value.items():
            if not isinstance(key, str | int):
                raise _refused(f"a key of {where}", key)
            _check(item, f"{where}[{key!r}]", depth + 1)
    elif is_array(value):
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]", depth + 1)
    elif not (isinstance(value, datetime) and value.tzinfo is not None):
        raise _refused(where, value)


def _refused(where: str, value: object, kind: str = "") -> UnserialisableValue:
    named, advice = _described(value)
    return UnserialisableValue(
        f"{where[0].upper()}{where[1:]} is {kind or named}, which a session cannot keep.",
        why="It would not come back as it went in. Nothing was changed.",
        hint=advice,
    )


def _described(value: object) -> tuple[str, str]:
    """What a value is that cannot be kept, and what to keep instead."""
    kind = type(value).__name__
    if isinstance(value, float) and math.isnan(value):
        return "not a number (NaN)", "Store None instead."
    if type(value) is int and not -(2**63) <= value < 2**64:
        return "an int of more than 64 bits", "Store str(value) instead."
    if type(value) is str:
        return "text that is no Unicode (a lone surrogate)", "Find out where it was decoded."
    plain = "Store plain values (str, int, list, dict, ...) or an id to look it up by."
    return f"{'an' if kind[0] in 'aeioAEIO' else 'a'} {kind}", _ADVICE.get(kind, plain)


_ADVICE = {
    "datetime": "Give it a time zone, for example datetime.now(UTC).",
    "set": "Store a sorted list instead.",
    "frozenset": "Store a sorted list instead.",
    "Decimal": "Store str(value) instead.",
    "UUID": "Store str(value) instead.",
}
