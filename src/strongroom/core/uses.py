"""What this process has seen of sessions in use: which signals it told, and who goes to and fro.

In memory and bounded; a process that starts anew tells a signal once more, and that is all.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

MOST = 4096
"""Sessions that something was remembered of: only those that moved are."""


@dataclass(slots=True)
class Uses:
    """Of one session."""

    told: set[tuple[str, ...]] = field(default_factory=set[tuple[str, ...]])
    moves: deque[tuple[int, str]] = field(default_factory=lambda: deque[tuple[int, str]](maxlen=32))

    def is_news(self, seen: tuple[str, ...]) -> bool:
        """Whether this was not told before; from now on it was."""
        if seen in self.told or len(self.told) >= 64:
            return False
        self.told.add(seen)
        return True

    def turns(self, network: str, at: int, within: int) -> int:
        """How often the session came back to a network that it had left, in the time before."""
        if network and (not self.moves or self.moves[-1][1] != network):
            self.moves.append((at, network))
        recent = [name for moment, name in self.moves if at - moment < within]
        return sum(1 for index, name in enumerate(recent) if name in recent[: max(0, index - 1)])


class UsesOfSessions:
    """Of all, by session id."""

    __slots__ = ("_uses",)

    def __init__(self) -> None:
        self._uses: OrderedDict[bytes, Uses] = OrderedDict()

    def of(self, session_id: bytes) -> Uses:
        """What is remembered of this session."""
        uses = self._uses.get(session_id)
        if uses is None:
            uses = self._uses[session_id] = Uses()
            if len(self._uses) > MOST:
                self._uses.popitem(last=False)
        return uses
