"""What a session's identity keeps of its sign-in beside the device: version, place, and a doubt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .data import is_array
from .places import UNKNOWN, Place

_VERSION = re.compile(
    r"(?:Firefox|FxiOS|Edg[A-Za-z]*|OPR|SamsungBrowser|CriOS|Chromium|Chrome|Version)/([0-9]{1,4})"
)
_OWN_NAME = re.compile(r"(?:Edg[A-Za-z]*|OPR|SamsungBrowser)/([0-9]{1,4})")
"""Browsers that say Chrome's version before their own."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the identity keeps beside the device: the browser's version, the place, and a doubt.

    `lowered` says that something looked wrong at the sign-in, so that the session's assurance is
    lower until a factor is proved anew.
    """

    version: int = 0
    place: Place = UNKNOWN
    lowered: bool = False

    def as_list(self) -> list[Any]:
        """For the envelope; the shortest form of nothing is nothing."""
        if self == NOTHING_KNOWN:
            return []
        return [self.version, self.lowered, *self.place.as_list()]

    @classmethod
    def of_list(cls, kept: object) -> Circumstances:
        """The inverse of `as_list`; what a newer release adds behind is left out."""
        if not is_array(kept) or len(kept) < 9:
            return NOTHING_KNOWN
        return cls(int(kept[0]), Place(*kept[2:9]), bool(kept[1]))


NOTHING_KNOWN = Circumstances()


@lru_cache(maxsize=1024)
def major_version(user_agent: str) -> int:
    """The browser's major version as the User-Agent has it; 0 where it says none."""
    found = _OWN_NAME.search(user_agent) or _VERSION.search(user_agent)
    return int(found[1]) if found else 0
