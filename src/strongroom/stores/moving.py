"""Moving everything from one store to another, so that nobody has to sign in again.

One pass makes the second store what the first one is: it looks through both, compares everything
byte by byte, writes what differs and takes out what the first one does not have. So a pass that was
cut short is simply begun again, and a pass that finds nothing to do is the proof that the two are
equal. What is over is left behind, and what nobody can read.

While the application runs on the first store, passes only come nearer. Once it stands still the
last ones are equal, and the second store is handed over: docs/decisions/0043.

**What it does not do**: change the first store, or write into one that an application has opened.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

from strongroom.core.errors import StoreUnavailable
from strongroom.core.ops import EndAll, HistoryEntry, ReadEpoch
from strongroom.core.policy import EPOCHS_KEPT, ms
from strongroom.core.record import NO_SUBJECT, Record

from .base import Contents, Kept, KeptEpoch, Store

AT_ONCE = 8
"""Threads. A store over a network waits most of the time, and it is waited for side by side."""

LAST_PASSES = 3
"""How often a store that should stand still is compared before it is called restless."""

Tell = Callable[["Tally", int], None]
"""Is told how far a pass is, and about how far it has to go."""


@dataclass(slots=True)
class Tally:
    """What a pass did, in things of each kind."""

    looked_at: int = 0
    sessions: int = 0
    epochs: int = 0
    histories: int = 0
    """Those of each kind that the first store has, whether they had to be written or not."""
    written: int = 0
    removed: int = 0
    over: int = 0
    unreadable: int = 0

    def add(self, other: Tally) -> None:
        """Add another tally to this one."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    @property
    def is_equal(self) -> bool:
        """Whether the pass found nothing to do."""
        return not self.written and not self.removed


class Move:
    """A move between two open stores, of which the second is open to be filled."""

    def __init__(
        self,
        source: Store,
        here: Contents,
        target: Store,
        there: Contents,
        now: int,
        tell: Tell = lambda _tally, _size: None,
    ) -> None:
        self._source, self._here = source, here
        self._target, self._there = target, there
        # One moment for all passes: nothing becomes over between two of them.
        self._now = now
        self._tell = tell

    def once(self) -> Tally:
        """Make the second store what the first one is now."""
        tally = Tally()
        # Both are looked through, and the second one is then as large as the first.
        size = 2 * self._here.size()
        with ThreadPoolExecutor(AT_ONCE, "strongroom-copy") as pool:
            for kept in Kept:
                for work, keys in ((self._bring, self._here), (self._take_out, self._there)):
                    for done in _side_by_side(pool, work, kept, keys.keys(kept)):
                        tally.add(done)
                        self._tell(tally, size)
        # Last, so that a "sign everybody out" meanwhile holds for all that was brought.
        epoch = self._source.read_epoch(ReadEpoch(NO_SUBJECT)).store
        if self._target.read_epoch(ReadEpoch(NO_SUBJECT)).store != epoch:
            self._target.end_all(EndAll(epoch, self._now))
            tally.written += 1
        return tally

    def finish(self, store_identity: bytes) -> tuple[Tally, Tally]:
        """Go on until a pass finds both equal, and hand the second store over -> what was done in
        all, and what the last pass found.

        Raises:
            StoreUnavailable: the first store does not stand still; nothing was handed over.
        """
        done = Tally()
        for _ in range(LAST_PASSES):
            last = self.once()
            done.add(last)
            if last.is_equal:
                self._there.hand_over(store_identity)
                return done, last
        raise StoreUnavailable(
            "The store that is copied from still changes, so the copy is never equal to it.",
            why="What happened after its last reading, such as a sign-out, would not be in the "
            "copy, so the copy was not handed over.",
            hint="Stop the application, in every process, and run this again: it goes on from "
            "where it is.",
        )

    def _bring(self, kept: Kept, keys: list[bytes]) -> Tally:
        """Write what the second store lacks or has otherwise."""
        found = self._here.read(kept, keys, self._now)
        wanted, tally = self._sorted(found)
        setattr(tally, kept.value, len(wanted))
        there = self._there.read(kept, wanted, self._now)
        missing = {key: value for key, value in wanted.items() if there.get(key) != value}
        if missing:
            self._there.write(kept, missing, self._now)
        tally.looked_at, tally.written = len(keys), len(missing)
        return tally

    def _take_out(self, kept: Kept, keys: list[bytes]) -> Tally:
        """Take out what the first store does not have any more."""
        wanted, _ = self._sorted(self._here.read(kept, keys, self._now))
        gone = [key for key in keys if key not in wanted]
        if gone:
            self._there.remove(kept, gone)
        return Tally(looked_at=len(keys), removed=len(gone))

    def _sorted(self, found: dict[bytes, Any]) -> tuple[dict[bytes, Any], Tally]:
        """Of what was found, that which has to be in both stores; and what is left behind."""
        wanted: dict[bytes, Any] = {}
        tally = Tally()
        for key, value in found.items():
            kept = None if value is None else _lasting(value, self._now)
            if kept:
                wanted[key] = kept
            elif value is None:
                tally.unreadable += 1
            else:
                tally.over += 1
        return wanted, tally


def _lasting(value: Any, now: int) -> Any:
    """What of the value is still to be kept; None or nothing where it is over."""
    match value:
        case Record():
            return value if value.header.purge_at > now else None
        case KeptEpoch():
            return value if value.replaced_at + ms(EPOCHS_KEPT) > now else None
        case _:
            entries: tuple[HistoryEntry, ...] = value
            return tuple(each for each in entries if each.purge_at > now)


def _side_by_side(
    pool: ThreadPoolExecutor,
    work: Callable[[Kept, list[bytes]], Tally],
    kept: Kept,
    batches: Iterator[list[bytes]],
) -> Iterator[Tally]:
    """Do the work on every batch, a few at a time, so that not all keys are in memory at once."""
    while some := list(itertools.islice(batches, AT_ONCE * 2)):
        yield from pool.map(work, itertools.repeat(kept), some)
