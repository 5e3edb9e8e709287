"""The near cache's body: what is kept, for how long, and when none of it may be used (PROTOCOL H3).

No IO, no clock, no threads of its own: every method takes the monotonic time in seconds, so a test
puts a revocation exactly between a read and its answer. Both faces, sync and async, share this.

    a hit     needs an entry younger than `max_age`, counted from when its read was *sent*, and a
              proof that was asked for less than `max_staleness` ago: whatever was acknowledged
              before that has been told, and what was told has been dropped.
    a fill    is a read under way. A notice about its session throws it away, whatever it brings:
              the read may have been answered before the change.
    a channel that is lost, was silent, or says that anything may have changed leaves nothing.

What is not kept: that a session does not exist, and sessions that have ended. Both are rare, and
both are asked of the store again before anybody acts on them (H2).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, Final

from strongroom.core.errors import ConfigurationError
from strongroom.core.ops import Alive, Changed, Found, Notice
from strongroom.core.record import Record
from strongroom.stores.base import NearStats

ENTRY_BYTES = 1_250
"""What an entry takes beside its envelope and data: the record's objects and its place here.
Measured with tracemalloc on CPython 3.11; tests/stores/test_near_cache_body.py holds it there."""

_NEVER: Final = float("-inf")


MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a near cache. Sizes are in bytes, durations in seconds.

    Raises:
        ConfigurationError: a limit is not positive.
    """

    entries: int = 50_000
    size: int = 64 * MEGABYTE
    max_age: float = 60.0
    """An entry is read again after this, told or not: for changes that nobody tells, such as a row
    that somebody deleted by hand."""
    max_staleness: float = 1.0
    """How long ago the channel may have been proved alive. The policy sets it (`keep_within`)."""

    def __post_init__(self) -> None:
        if min(self.entries, self.size, self.max_age, self.max_staleness) <= 0:
            raise ConfigurationError(
                "A near cache has a limit of zero.",
                why="It could never answer anything.",
                hint="Give it room, such as near_cache_mb=64 in the store's URL, or leave it out.",
            )

    @classmethod
    def of(cls, near_cache_mb: int | None = None, near_cache_entries: int | None = None) -> Limits:
        """The limits as a store's URL names them: in megabytes, with as many entries as fit."""
        size = cls().size if near_cache_mb is None else near_cache_mb * MEGABYTE
        fit = max(size // ENTRY_BYTES, min(size, 1))
        return cls(entries=fit if near_cache_entries is None else near_cache_entries, size=size)


DEFAULTS = Limits()


class Fill:
    """One read under way, and those who wait for it too."""

    __slots__ = (
        "answer",
        "domain",
        "error",
        "overtaken",
        "sent_at",
        "session_id",
        "usable",
        "wait",
    )

    def __init__(self, session_id: bytes, sent_at: float, domain: object, wait: Any) -> None:
        self.session_id = session_id
        self.sent_at = sent_at
        self.domain = domain
        """What can wait for it: the event loop, or None for threads."""
        self.wait = wait
        self.overtaken = False
        self.usable = False
        """Whether the answer is as good as a hit, so that others may have it."""
        self.answer: Found | None = None
        self.error: Exception | None = None


class Listener:
    """Somebody who is passed on what the channel tells, once it proved to cover their beginning."""

    __slots__ = ("lost", "since", "started", "tell")

    def __init__(
        self, tell: Callable[[Notice], None], since: float, lost: Callable[[], None]
    ) -> None:
        self.tell = tell
        self.since = since
        self.lost = lost
        self.started = False

    def hear(self, notice: Notice) -> None:
        """Pass it on; the first that is passed on is a proof asked for after the beginning."""
        if not self.started:
            if not (isinstance(notice, Alive) and notice.asked_at >= self.since):
                return
            self.started = True
        self.tell(notice)


class _Entry:
    __slots__ = ("found", "good_until", "size")

    def __init__(self, found: Found, good_until: float, size: int) -> None:
        self.found = found
        self.good_until = good_until
        self.size = size


class Cache:
    """Records near to whoever needs them. Any thread may call any method."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.hits = self.misses = self.dropped = self.crowded_out = self.overtaken = 0
        self.channels = 0
        self.reset()

    def reset(self) -> None:
        """Begin anew, as in a forked child, where no channel lives and any lock may be held."""
        self._lock = Lock()
        # The least recently used first. Each entry's `Found` carries the channel's epoch.
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._fills: dict[bytes, list[Fill]] = {}
        self._listeners: list[Listener] = []
        self._size = 0
        self._channel = 0
        self._epoch: bytes | None = None
        self._proved_at = self._heard_at = self._alive_since = self._not_before = _NEVER
        self._good_until = _NEVER

    # Reading.

    def hit(self, session_id: bytes, now: float) -> Found | None:
        """The record, if it is here and may be used now."""
        with self._lock:
            entry = self._entries.get(session_id)
            if entry is None or now >= self._good_until or now >= entry.good_until:
                self.misses += 1
                return None
            self.hits += 1
            self._entries.move_to_end(session_id)
            return entry.found

    def board(
        self, session_id: bytes, now: float, domain: object, wait: Callable[[], Any], *, alone: bool
    ) -> tuple[Fill | None, bool]:
        """A read to make or, unless `alone`, to wait for -> it, and whether it is the caller's.

        None while the channel is not known to be alive: then nothing is kept and nothing shared.
        """
        with self._lock:
            if not self._is_alive(now):
                return None, True
            under_way = self._fills.setdefault(session_id, [])
            if not alone:
                for fill in under_way:
                    if fill.domain is domain:
                        return fill, False
            fill = Fill(session_id, now, domain, wait())
            under_way.append(fill)
            return fill, True

    def landed(self, fill: Fill, found: Found | None, now: float) -> None:
        """The answer is here: keep it, unless something came in between."""
        with self._lock:
            self._forget(fill)
            if fill.overtaken:
                self.overtaken += 1
                return
            if not self._is_alive(now):
                return
            fill.usable = True
            if found is None:
                return
            fill.answer = replace(found, authoritative=False)
            # Another epoch than the channel's was replaced a moment ago, and will be told.
            if found.record.is_live and found.store_epoch == self._epoch:
                self._keep(fill)

    def failed(self, fill: Fill, error: Exception | None) -> None:
        """There is no answer. Whoever waits fails with this error, or looks again without one."""
        with self._lock:
            self._forget(fill)
            fill.error = error

    # What this process itself does.

    def drop(self, session_ids: Iterable[bytes]) -> None:
        """These were written here: neither an entry nor a read under way outlives that."""
        with self._lock:
            self._drop(session_ids)

    def drop_due(self, now_ms: int) -> None:
        """A sweep took what was due."""
        with self._lock:
            due = [
                key
                for key, entry in self._entries.items()
                if entry.found.record.header.purge_at <= now_ms
            ]
            self._drop(due)

    def distrust(self, now: float) -> None:
        """The store's epoch was replaced here: nothing is used until a proof asked for later."""
        with self._lock:
            self._not_before = now
            self._drop_all()

    # The channel.

    def open_channel(self, now: float) -> int:
        """A new channel begins -> its number. What older ones still say is not listened to."""
        with self._lock:
            self.channels += 1
            self._channel = self.channels
            self._heard_at = now
            self._drop_all()
            return self._channel

    def tell(self, channel: int, notice: Notice, now: float) -> None:
        """What the channel says, in its order."""
        with self._lock:
            if channel != self._channel:
                return
            match notice:
                case Changed(session_ids):
                    self._drop(session_ids)
                case Alive(asked_at, epoch):
                    self._prove(asked_at, epoch, now)
                case _:
                    self._drop_all()
            listeners = tuple(self._listeners)
        for each in listeners:
            each.hear(notice)

    def lose_channel(self, channel: int) -> None:
        """The channel is gone: drop everything, and read through until another one proves life."""
        with self._lock:
            if channel != self._channel:
                return
            self._channel = 0
            self._drop_all()
            listeners, self._listeners = self._listeners, []
        for each in listeners:
            each.lost()

    def is_silent(self, channel: int, since: float) -> bool:
        """Whether the channel, opened before that moment, has proved nothing asked for since."""
        with self._lock:
            return channel == self._channel and self._heard_at < since

    def listen(self, listener: Listener) -> None:
        """Pass notices on to it, after they took effect here."""
        with self._lock:
            self._listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """Pass nothing on any more."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def stats(self, now: float) -> NearStats:
        """What there is at this moment."""
        with self._lock:
            alive = self._is_alive(now)
            proved = self._proved_at != _NEVER
            return NearStats(
                alive=alive,
                entries=len(self._entries),
                size=self._size,
                hits=self.hits,
                misses=self.misses,
                dropped=self.dropped,
                crowded_out=self.crowded_out,
                overtaken=self.overtaken,
                alive_for=now - self._alive_since if alive else None,
                proof_age=now - self._proved_at if proved else None,
                channels=self.channels,
                max_staleness=self.limits.max_staleness,
            )

    # Under the lock.

    def _is_alive(self, now: float) -> bool:
        return now < self._good_until

    def _prove(self, asked_at: float, epoch: bytes, now: float) -> None:
        self._heard_at = max(self._heard_at, asked_at)
        if asked_at < self._not_before:
            return
        if epoch != self._epoch or not self._is_alive(now):
            # After a silence nothing from before it is used, however much was told late.
            self._drop_all()
            self._epoch = epoch
            self._alive_since = asked_at
        self._proved_at = max(self._proved_at, asked_at)
        self._good_until = self._proved_at + self.limits.max_staleness

    def _keep(self, fill: Fill) -> None:
        if fill.answer is None:
            return
        size = _size(fill.answer.record)
        if size > self.limits.size:
            return
        self._remove(fill.session_id)
        self._entries[fill.session_id] = _Entry(
            fill.answer, fill.sent_at + self.limits.max_age, size
        )
        self._size += size
        while len(self._entries) > self.limits.entries or self._size > self.limits.size:
            self._remove(next(iter(self._entries)))
            self.crowded_out += 1

    def _remove(self, session_id: bytes) -> bool:
        entry = self._entries.pop(session_id, None)
        if entry is not None:
            self._size -= entry.size
        return entry is not None

    def _drop(self, session_ids: Iterable[bytes]) -> None:
        for session_id in session_ids:
            self.dropped += self._remove(session_id)
            for fill in self._fills.pop(session_id, ()):
                fill.overtaken = True

    def _drop_all(self) -> None:
        self.dropped += len(self._entries)
        self._entries.clear()
        self._size = 0
        for fills in self._fills.values():
            for fill in fills:
                fill.overtaken = True
        self._fills.clear()
        self._epoch = None
        self._proved_at = self._good_until = _NEVER

    def _forget(self, fill: Fill) -> None:
        under_way = self._fills.get(fill.session_id)
        if under_way is not None and fill in under_way:
            under_way.remove(fill)
            if not under_way:
                del self._fills[fill.session_id]


def _size(record: Record) -> int:
    return ENTRY_BYTES + len(record.envelope) + len(record.data) + len(record.tail)
