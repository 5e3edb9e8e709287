"""How random tokens can be, at most, seen from a sample. Pure functions.

A sample can show that tokens are bad, never that they are good: what a good generator and a bad one
with a good disguise give looks the same. So every figure here is an upper bound, and is called one.
With n tokens no position can show more than log2(n) bits; a position is therefore given all bits of
its alphabet unless the sample says otherwise.
"""

from __future__ import annotations

import base64
import binascii
import math
import string
from collections.abc import Sequence
from dataclasses import dataclass

_ALPHABETS = (
    ("digits", string.digits),
    ("hex", "0123456789abcdef"),
    ("hex", "0123456789ABCDEF"),
    ("base32", string.ascii_uppercase + "234567"),
    ("lower case and digits", string.ascii_lowercase + string.digits),
    ("letters and digits", string.ascii_letters + string.digits),
    ("base64url", string.ascii_letters + string.digits + "-_="),
    ("base64", string.ascii_letters + string.digits + "+/="),
)
_SIGMAS = 5.0
"""A fair bit strays so far once in 3.5 million, so a whole audit of them raises no false alarm."""

LEAST = 10
"""Tokens. With fewer nothing can be said about order or bias."""


@dataclass(frozen=True, slots=True)
class Bound:
    """An upper bound for the entropy of a token, and what it rests on."""

    bits: float
    length: int
    alphabet: str
    varying: int
    tokens: int
    biased: int = 0


def alphabet_of(tokens: Sequence[str]) -> tuple[str, int]:
    """The smallest usual alphabet that holds all characters: its name and its size."""
    used = set("".join(tokens)) - set(".:-_~%=") or set("".join(tokens))
    for name, letters in _ALPHABETS:
        if used <= set(letters):
            return name, len(letters.replace("=", ""))
    used = set("".join(tokens))
    return "printable", max(2, min(94, len(used)))


def bound(tokens: Sequence[str]) -> Bound:
    """The most bits that these tokens can have: by their characters, and by their bits."""
    name, size = alphabet_of(tokens)
    shortest = min(map(len, tokens), default=0)
    bits, varying = 0.0, 0
    for place in range(shortest):
        seen = {token[place] for token in tokens}
        if len(seen) < 2 and len(tokens) > 1:
            continue
        varying += 1
        bits += math.log2(_possible(len(seen), size, len(tokens)))
    biased = 0
    raw = [decoded_bytes(token) for token in tokens]
    known = [each for each in raw if each]
    if len(known) == len(tokens) and len(tokens) >= LEAST:
        fair, biased = fair_bits(known)
        bits = min(bits, float(fair))
    return Bound(bits, shortest, name, varying, len(tokens), biased)


def _possible(seen: int, size: int, tokens: int) -> float:
    """How many characters a position may have, when so many were seen in so many tokens."""
    expected = size * (1 - (1 - 1 / size) ** tokens)
    if seen >= expected * 0.5:
        return float(size)
    return float(max(1, seen))


def decoded_bytes(token: str) -> bytes:
    """The octets behind hex or base64; empty if it is neither."""
    if len(token) % 2 == 0 and set(token.lower()) <= set("0123456789abcdef"):
        return bytes.fromhex(token)
    plain = token.rstrip("=")
    try:
        padded = plain.replace("-", "+").replace("_", "/") + "=" * (-len(plain) % 4)
        return base64.b64decode(padded, validate=True)
    except (binascii.Error, ValueError):
        return b""


def fair_bits(raw: Sequence[bytes]) -> tuple[int, int]:
    """How many bit positions look like a fair coin, and how many are fixed or loaded."""
    length = min(map(len, raw))
    count = len(raw)
    limit = _SIGMAS * math.sqrt(count) / 2
    fair = 0
    for place in range(length * 8):
        ones = sum(each[place // 8] >> (7 - place % 8) & 1 for each in raw)
        if 0 < ones < count and abs(ones - count / 2) <= limit:
            fair += 1
    return fair, length * 8 - fair


def rank_correlation(values: Sequence[float]) -> float:
    """Spearman's rho of the values with their order: 1 for growing, -1 for shrinking, about "
    "0 else."""
    count = len(values)
    if count < 3 or len(set(values)) < max(3, count // 2):
        return 0.0
    ranks = {value: rank for rank, value in enumerate(sorted(set(values)))}
    order = [float(ranks[value]) for value in values]
    mean_x, mean_y = (count - 1) / 2, sum(order) / count
    top = sum((x - mean_x) * (y - mean_y) for x, y in enumerate(order))
    down = math.sqrt(
        sum((x - mean_x) ** 2 for x in range(count)) * sum((y - mean_y) ** 2 for y in order)
    )
    return top / down if down else 0.0


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the tokens, as octets from `start`, read as one number each."""

    start: int
    width: int
    little: bool
    values: tuple[int, ...]


def windows(raw: Sequence[bytes]) -> list[Window]:
    """Every part of four, six or eight octets that is not the same in all of them."""
    length = min(map(len, raw), default=0)
    found: list[Window] = []
    for width in (4, 6, 8):
        for start in range(max(0, length - width + 1)):
            for little in (False, True):
                parts = [each[start : start + width] for each in raw]
                values = tuple(
                    int.from_bytes(each, "little" if little else "big") for each in parts
                )
                if len(set(values)) > 1:
                    found.append(Window(start, width, little, values))
    return found


def moments(values: Sequence[int], now: float) -> str:
    """The unit in which all values are moments of the last day or the next; empty if none is."""
    for unit, factor in (("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6),
                         ("nanoseconds", 10**9)):  # fmt: skip
        if all(abs(value / factor - now) < 86_400 for value in values):
            return unit
    return ""
