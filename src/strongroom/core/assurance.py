"""Levels of assurance as data: which authentication methods, together, make which `acr` (P25).

A table lists levels from the weakest to the strongest, and for each the ways to reach it. An
application may bring its own table; a method (`amr` value, RFC 8176) that a table does not name
proves nothing in it. An identity provider that does not say how it authenticated is the method
`fed`, the weakest factor (ASVS 6.8.4). How old a proof is does not matter here: `stepup.py` sorts
out what is too old before it asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .errors import ConfigurationError
from .record import AuthenticationEvent

_NAME = re.compile(r"[!#-\[\]-~]+")
"""What fits into `acr_values` as it is: no space, quote or backslash (RFC 6749, A.4)."""

Way = tuple[frozenset[str], ...]
"""One way to reach a level: from each set, one of these `amr` values must have been proved."""


@dataclass(frozen=True, slots=True)
class Level:
    """An `acr` value, the ways to reach it, and where that is written down."""

    name: str
    ways: tuple[Way, ...]
    source: str = ""

    def __post_init__(self) -> None:
        """Refuses what would grant the level for nothing, or for one proof counted twice."""
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(
                f"{self.name!r} cannot name a level.",
                why="It travels in a header, between spaces and quotes.",
                hint="Use printable ASCII without spaces, quotes and backslashes.",
            )
        for way in self.ways:
            if not way or not all(way):
                raise ConfigurationError(
                    f"Level {self.name!r} has a way that asks for nothing.",
                    why="Everybody, or nobody, would reach it.",
                    hint="Name at least one method in each set.",
                )
            if sum(map(len, way)) != len(frozenset[str]().union(*way)):
                raise ConfigurationError(
                    f"Level {self.name!r} has a way with one method in two sets.",
                    why="One proof would count as two factors.",
                    hint="Make the sets of a way disjoint.",
                )

    def reached_by(self, methods: frozenset[str]) -> bool:
        """Whether these `amr` values make the level."""
        return any(all(choice & methods for choice in way) for way in self.ways)


@dataclass(frozen=True, slots=True)
class AcrTable:
    """Levels of assurance, weakest first: data that an application may replace.

    Raises:
        ConfigurationError: no levels, or two of one name.
    """

    levels: tuple[Level, ...]

    def __post_init__(self) -> None:
        """Checks that each level has one rank."""
        names = [level.name for level in self.levels]
        if not names or len(set(names)) != len(names):
            raise ConfigurationError(
                "A table of levels needs at least one level, and each name once.",
                why="A level's rank is its place in the table.",
                hint="List the levels from the weakest to the strongest.",
            )

    def rank(self, name: str) -> int:
        """The level's place, zero for the weakest.

        Raises:
            ConfigurationError: the table does not have it.
        """
        for place, level in enumerate(self.levels):
            if level.name == name:
                return place
        raise ConfigurationError(
            f"There is no level {name!r}.",
            why="A route that asks for it could never be reached.",
            hint=f"The table has: {', '.join(level.name for level in self.levels)}.",
        )

    def derive(self, events: Iterable[AuthenticationEvent], remembered: bool = False) -> str | None:
        """The strongest level that the events make, whatever their age; None if not even one.

        A remembered session gets the weakest level at most (NIST-B2).
        """
        methods = frozenset(event.amr for event in events)
        reached = [level.name for level in self.levels if level.reached_by(methods)]
        if not reached:
            return None
        return self.levels[0].name if remembered else reached[-1]


_KNOWS = frozenset({"pwd", "pin"})
_HARDWARE = frozenset({"hwk", "sc"})
_HAS = _HARDWARE | {"otp", "swk", "sms", "tel"}
_IS = frozenset({"face", "fpt", "iris", "retina", "vbm"})
_MULTI = frozenset({"mfa"})
# Not in any set, because they prove no factor: kba (questions are not accepted, 3.1.1), geo, rba,
# user, wia, mca, pop. A biometric counts only beside something held (3.2.3).

NIST_AAL = AcrTable(
    (
        Level("aal1", ((_KNOWS | _HAS | _MULTI | {"fed"},),), "NIST SP 800-63B-4, 2.1"),
        Level("aal2", ((_KNOWS, _HAS), (_HAS, _IS), (_MULTI,)), "NIST SP 800-63B-4, 2.2"),
        Level("aal3", ((_HARDWARE, _KNOWS | _IS | _MULTI),), "NIST SP 800-63B-4, 2.3"),
    )
)
"""The default: one factor; two kinds of factor or a multi-factor authenticator; a hardware key that
was unlocked by, or used beside, a second kind. `amr` values are those of RFC 8176, plus `fed`."""
