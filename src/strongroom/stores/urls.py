"""Finding a store by its URL. Drivers are imported only when their scheme is asked for.

    memory://                         this process only; ?max_records=
    sqlite:///var/sessions.db         a path relative to the working directory; ?busy_timeout_ms=
    sqlite:////var/lib/sessions.db    an absolute path

Every store that pushes its changes also takes ?near_cache_mb= and ?near_cache_entries=: either puts
a near cache of that size in front of it (docs/near-cache.md).

A URL may carry a password, so no message of ours repeats any part of it but a scheme and the
names of options that exist.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from strongroom.core.errors import ConfigurationError

from .base import AsyncStore, Store

Options = dict[str, int]


class _Scheme(NamedTuple):
    """How a scheme's stores are made, and which whole numbers it takes as options."""

    example: str
    options: frozenset[str]
    make: Callable[[SplitResult, Options], Store]
    make_async: Callable[[SplitResult, Options], AsyncStore]
    pushes: bool = False
    """Whether its stores push changes, so that a near cache can stand in front of them."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A URL, understood: what to make, and how large a near cache to put in front of it."""

    scheme: _Scheme
    parts: SplitResult
    options: Options
    near: Options


_NEAR_CACHE = frozenset({"near_cache_mb", "near_cache_entries"})


def open_store(url: str) -> Store:
    """The store that the URL names, not yet opened: `open(identity)` connects it.

    Raises:
        ConfigurationError: no such scheme or option, or a value that it cannot have.
    """
    asked = _understood(url)
    store = asked.scheme.make(asked.parts, asked.options)
    if not asked.near:
        return store
    from .near_cache import Limits, NearCache

    return NearCache(store, Limits.of(**asked.near))


def open_async_store(url: str) -> AsyncStore:
    """The same store for asynchronous code. See `open_store`."""
    asked = _understood(url)
    store = asked.scheme.make_async(asked.parts, asked.options)
    if not asked.near:
        return store
    from .near_cache import AsyncNearCache, Limits

    return AsyncNearCache(store, Limits.of(**asked.near))


def _understood(url: str) -> _Asked:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _unknown_scheme("") from None  # urlsplit's own message repeats the URL
    scheme = SCHEMES.get(parts.scheme) if "://" in url else None
    if scheme is None:
        raise _unknown_scheme(parts.scheme if "://" in url else "")
    if parts.fragment:
        raise ConfigurationError(
            f"The {parts.scheme} store's URL has a '#' in it.",
            why="What follows it would be ignored.",
            hint="Write it as %23.",
        )
    options = _options(parts, scheme)
    near = {name: options.pop(name) for name in _NEAR_CACHE & options.keys()}
    return _Asked(scheme, parts, options, near)


def _options(parts: SplitResult, scheme: _Scheme) -> Options:
    options: Options = {}
    known_options = scheme.options | _NEAR_CACHE if scheme.pushes else scheme.options
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in known_options or name in options:
            known = ", ".join(sorted(known_options))
            # An unknown name is not repeated: it may be what follows a '?' in a password.
            problem = f"gives {name!r} twice" if name in options else "has an unknown option"
            raise ConfigurationError(
                f"The {parts.scheme} store's URL {problem}.",
                why="An option that is ignored is worse than one that is refused.",
                hint=f"Its options are: {known}.",
            )
        if not (value.isascii() and value.isdigit()):
            raise ConfigurationError(
                f"The option {name!r} of the {parts.scheme} store's URL is not a whole number.",
                hint=f"Write it in digits, such as {name}=2000.",
            )
        options[name] = int(value)
    return options


def _memory(parts: SplitResult, options: Options) -> Store:
    from .memory import MemoryStore

    if parts.netloc or parts.path:
        raise ConfigurationError(
            "A memory store has no host and no path.", hint="Write memory:// and nothing more."
        )
    return MemoryStore(**options)


def _async_memory(parts: SplitResult, options: Options) -> AsyncStore:
    from .bridge import MAY_BE_INLINE, WatchableBridge

    return WatchableBridge(_memory(parts, options), inline=MAY_BE_INLINE)


def _sqlite(parts: SplitResult, options: Options) -> Store:
    from .sqlite import SQLiteStore

    if parts.netloc or len(parts.path) < 2:
        raise ConfigurationError(
            "The sqlite store's URL names no file.",
            why="What stands after two slashes would be a host, and a file has none.",
            hint="Write three slashes before a relative path, four before an absolute one: "
            "sqlite:///var/sessions.db, sqlite:////var/lib/sessions.db.",
        )
    return SQLiteStore(unquote(parts.path[1:]), **options)


def _async_sqlite(parts: SplitResult, options: Options) -> AsyncStore:
    from .bridge import AsyncBridge

    # Only reading: docs/decisions/0002.
    return AsyncBridge(_sqlite(parts, options), inline=frozenset({"find"}))


SCHEMES = {
    "memory": _Scheme("memory://", frozenset({"max_records"}), _memory, _async_memory, pushes=True),
    "sqlite": _Scheme(
        "sqlite:///var/sessions.db", frozenset({"busy_timeout_ms"}), _sqlite, _async_sqlite
    ),
}
"""Every scheme that `open_store` knows. A new store is one more row."""


def _unknown_scheme(scheme: str) -> ConfigurationError:
    said = f"There is no store for the scheme {scheme!r}" if scheme else "The URL has no scheme"
    examples = ", ".join(each.example for each in SCHEMES.values())
    return ConfigurationError(
        f"{said}, so no store can be opened.", hint=f"Write one of these: {examples}."
    )
