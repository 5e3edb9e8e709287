"""Session data as the application sees it: a mutable mapping that knows what changed.

Each value is encoded on its own, so a save writes only the keys that changed, and two requests that
change different keys both survive (P7). Changes inside a list or a dict are found by comparing the
encoding with the one that was loaded, not by hoping that somebody sets a flag. A value that cannot
be kept is refused when it is assigned, before anything is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, TypeGuard

from .errors import UnserialisableValue
from .sealing import Codec

MAX_KEY_LENGTH = 256

Encoded = dict[str, bytes]
"""Values by key, each encoded on its own."""

Changes = Mapping[str, bytes | None]
"""What a request did: the new encoding of a key, or None where the key was deleted."""


class SessionData(MutableMapping[str, Any]):
    """Values by name. Loaded when first looked at, decoded when a value is first read."""

    __slots__ = ("_codec", "_deleted", "_guard", "_live", "_load", "_read", "_stored", "assigned")

    def __init__(
        self,
        codec: Codec,
        load: Callable[[], Encoded],
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        self._codec = codec
        self._load: Callable[[], Encoded] | None = load
        self._guard = guard
        self._stored: Encoded = {}
        self._live: dict[str, Any] = {}
        self._read: dict[str, Any] = {}
        self._deleted: set[str] = set()
        self.assigned = False
        """Whether something was assigned or deleted since the last save."""

    def __repr__(self) -> str:
        """Never shows values: they are the application's and may be personal."""
        return "SessionData(values hidden)"

    def __getitem__(self, key: str) -> Any:
        if key in self._live:
            return self._live[key]
        if key in self._deleted:
            raise KeyError(key)
        if key in self._read:
            return self._read[key]
        value: Any = self._codec.decode(self._encoded()[key])
        # What cannot change by itself need not be compared at the end.
        kept = self._live if is_dict(value) or is_array(value) else self._read
        kept[key] = value
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        """Assign.

        Raises:
            UnserialisableValue: the key or the value cannot be kept; nothing was changed.
            SessionReadOnly: no session can be written here.
        """
        self._guard()
        _check_key(key)
        self._codec.encode(value)
        self._encoded()
        self._live[key] = value
        self._deleted.discard(key)
        self.assigned = True

    def __delitem__(self, key: str) -> None:
        self._guard()
        if key not in self:
            raise KeyError(key)
        self._live.pop(key, None)
        self._read.pop(key, None)
        self.assigned = True
        if key in self._stored:
            self._deleted.add(key)

    def __contains__(self, key: object) -> bool:
        return key in self._live or (key in self._encoded() and key not in self._deleted)

    def __iter__(self) -> Iterator[str]:
        for key in self._encoded():
            if key not in self._deleted:
                yield key
        for key in list(self._live):
            if key not in self._stored:
                yield key

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def clear(self) -> None:
        """Delete everything, without decoding any of it."""
        self._guard()
        self._deleted.update(self._encoded())
        self._live.clear()
        self._read.clear()
        self.assigned = True

    @property
    def is_untouched(self) -> bool:
        """Whether there is nothing to compare: nothing assigned, deleted, or able to change."""
        return not self._live and not self._deleted

    @property
    def is_changed(self) -> bool:
        """Whether saving would write something: what was only read is compared, and is no change.

        Raises:
            UnserialisableValue: see `changes`.
        """
        return self.assigned or bool(self.changes())

    def changes(self) -> Changes:
        """What differs from what was loaded.

        Raises:
            UnserialisableValue: something that cannot be kept was put inside a list or dict.
        """
        if self.is_untouched:
            return {}
        changed: dict[str, bytes | None] = {
            key: None for key in self._deleted if key in self._stored
        }
        for key, value in self._live.items():
            encoded = self._encode(key, value)
            if self._stored.get(key) != encoded:
                changed[key] = encoded
        return changed

    def merged(self, changes: Changes, stored: Encoded) -> Encoded:
        """`stored` with the changes applied."""
        result = {key: value for key, value in stored.items() if key not in changes}
        result.update({key: value for key, value in changes.items() if value is not None})
        return result

    def contested(self, changes: Changes, stored: Encoded) -> list[str]:
        """Keys that somebody else changed as well, even to the same value: of two who each added
        one to a counter, one was lost."""
        return sorted(key for key in changes if stored.get(key) != self._stored.get(key))

    def rebase(self, stored: Encoded) -> None:
        """From now on, `stored` is what was loaded. Values that others changed are read anew."""
        for key in [key for key in self._live if self._stored.get(key) != stored.get(key)]:
            if stored.get(key) != self._encode(key, self._live[key]):
                del self._live[key]
        self._load = None
        self._read.clear()
        self._stored = dict(stored)
        self._deleted.clear()
        self.assigned = False

    def forget(self) -> None:
        """Drop every change: the response failed."""
        self._live.clear()
        self._read.clear()
        self._deleted.clear()
        self.assigned = False

    def selected(self, keys: tuple[str, ...]) -> Encoded:
        """The named keys as they are now, encoded: what is carried into a new session."""
        return {key: self._encode(key, self[key]) for key in keys if key in self}

    @property
    def stored(self) -> Encoded:
        """What was loaded, encoded."""
        return self._encoded()

    def _encoded(self) -> Encoded:
        if self._load is not None:
            # Forgotten only once it succeeded: after a failure, empty would look like loaded.
            self._stored = self._load()
            self._load = None
        return self._stored

    def _encode(self, key: str, value: Any) -> bytes:
        try:
            return self._codec.encode(value)
        except UnserialisableValue as error:
            raise UnserialisableValue(
                f"session[{key!r}]: {error.what}", why=error.why, hint=error.hint
            ) from error


def is_dict(value: object) -> TypeGuard[dict[Any, Any]]:
    """Whether a value of any origin is a dict, said so that type checkers keep quiet about it."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """Whether a value of any origin is a list or a tuple."""
    return isinstance(value, list | tuple)


def pack(codec: Codec, values: Encoded) -> bytes:
    """All values as one."""
    return codec.encode(values)


def unpack(codec: Codec, packed: bytes) -> Encoded:
    """The inverse of `pack`.

    Raises:
        ValueError: these bytes are not session data.
    """
    if not packed:
        return {}
    decoded = codec.decode(packed)
    if not is_dict(decoded):
        raise ValueError("session data is not a mapping")
    # Exactly these types, which is what decoders make; a loop over the items would cost more.
    if decoded and ({*map(type, decoded)} != {str} or {*map(type, decoded.values())} != {bytes}):
        raise ValueError("session data holds something else than encoded values")
    return decoded


def _check_key(key: object) -> None:
    fits = isinstance(key, str) and 0 < len(key) <= MAX_KEY_LENGTH
    # Half of a surrogate pair has no UTF-8, and would fail only when the session is saved.
    if not fits or any("\ud800" <= each <= "\udfff" for each in str(key)):
        raise UnserialisableValue(
            "A session key must be text of 1 to 256 characters.",
            why="Nothing was changed.",
            hint="Use a short name, for example session['cart'].",
        )
