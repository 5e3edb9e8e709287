"""Random bytes that come out the same in every run."""

from __future__ import annotations

import hashlib
from itertools import count

_LEAD = 8


class FixedEntropy:
    """FOR TESTS ONLY: predictable bytes, so whoever knows the seed knows every token.

    Called with a length, like the operating system's source. Two instances with one seed give the
    same bytes in the same order. Within one instance no two draws of eight bytes or more are equal
    (shorter ones repeat after 256**length draws, as they must). Any thread may call it.
    """

    def __init__(self, seed: int | str = 0) -> None:
        self._seed = str(seed).encode()
        start = hashlib.blake2b(self._seed, digest_size=_LEAD, person=b"lead").digest()
        self._start = int.from_bytes(start, "big")
        self._drawn = count()

    def __call__(self, length: int) -> bytes:
        """The next `length` bytes."""
        drawn = next(self._drawn)
        # An odd multiplier makes the lead a permutation of the counter, which is why draws differ
        # in their last bytes as well as in their first.
        lead = (self._start + drawn * 0x9E3779B97F4A7C15) % (1 << 8 * _LEAD)
        head = lead.to_bytes(_LEAD, "big")
        if length <= _LEAD:
            return head[_LEAD - length :]
        rest = hashlib.shake_128(self._seed + drawn.to_bytes(8, "big")).digest(length - _LEAD)
        return head + rest

    def __repr__(self) -> str:
        return f"FixedEntropy({self._seed.decode()!r}), for tests only"
