"""Finding a store by its URL. Drivers are imported only when their scheme is asked for.

    memory://                         this process only; ?max_records=
    sqlite:///var/sessions.db         a path relative to the working directory; ?busy_timeout_ms=
    sqlite:////var/lib/sessions.db    an absolute path
    postgresql://user@host/database   PostgreSQL, also as postgres://; options in docs/postgres.md

A URL may carry a password, so no message of ours repeats any part of it but a scheme and the
names of options that exist.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from strongroom.core.errors import ConfigurationError

from .base import AsyncStore, Store

Options = dict[str, int]


class _Scheme(NamedTuple):
    """How a scheme's stores are made, and which options it takes: whole numbers, and words."""

    example: str
    options: frozenset[str]
    make: Callable[[SplitResult, Options], Store]
    make_async: Callable[[SplitResult, Options], AsyncStore]
    words: frozenset[str] = frozenset()


def open_store(url: str) -> Store:
    """The store that the URL names, not yet opened: `open(identity)` connects it.

    Raises:
        ConfigurationError: no such scheme or option, or a value that it cannot have.
    """
    scheme, parts, options = _understood(url)
    return scheme.make(parts, options)


def open_async_store(url: str) -> AsyncStore:
    """The same store for asynchronous code. See `open_store`."""
    scheme, parts, options = _understood(url)
    return scheme.make_async(parts, options)


def _understood(url: str) -> tuple[_Scheme, SplitResult, Options]:
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
    return scheme, parts, _options(parts, scheme)


def _options(parts: SplitResult, scheme: _Scheme) -> Options:
    options: Options = {}
    seen: set[str] = set()
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in scheme.options | scheme.words or name in seen:
            known = ", ".join(sorted(scheme.options | scheme.words))
            # An unknown name is not repeated: it may be what follows a '?' in a password.
            problem = f"gives {name!r} twice" if name in seen else "has an unknown option"
            raise ConfigurationError(
                f"The {parts.scheme} store's URL {problem}.",
                why="An option that is ignored is worse than one that is refused.",
                hint=f"Its options are: {known}.",
            )
        seen.add(name)
        if name in scheme.words:
            continue
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


def _postgres(parts: SplitResult, options: Options) -> Store:
    postgres, settings = _postgres_module(), _postgres_settings(parts, options)
    store: Store = postgres.PostgresStore(settings)
    return store


def _async_postgres(parts: SplitResult, options: Options) -> AsyncStore:
    postgres, settings = _postgres_module(), _postgres_settings(parts, options)
    store: AsyncStore = postgres.AsyncPostgresStore(settings)
    return store


def _postgres_module() -> Any:
    try:
        from . import postgres
    except ImportError as error:
        if error.name is None or not error.name.startswith("psycopg"):
            raise
        raise ConfigurationError(
            "The postgresql store's driver, psycopg, is not installed or cannot be loaded.",
            why="Without it PostgreSQL cannot be spoken to.",
            hint="Run: pip install 'strongroom[postgres]'",
        ) from error
    return postgres


def _postgres_settings(parts: SplitResult, options: Options) -> Any:
    from .postgres.settings import understood

    words = {
        name: value
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if name in _POSTGRES_WORDS
    }
    return understood(parts, options, words)


# Here and not in the store, so that a wrong name is refused before any driver is loaded. All words
# but schema and direct_host are libpq's own.
_POSTGRES_NUMBERS = frozenset(
    "pool_min pool_max timeout_ms connect_timeout migrate pgbouncer direct_port".split()
)
_POSTGRES_WORDS = frozenset(
    "schema host hostaddr port user password passfile dbname service direct_host sslmode "
    "sslnegotiation sslcert sslkey sslpassword sslrootcert sslcrl sslcrldir sslsni "
    "ssl_min_protocol_version ssl_max_protocol_version channel_binding require_auth gssencmode "
    "krbsrvname application_name".split()
)

SCHEMES = {
    "memory": _Scheme("memory://", frozenset({"max_records"}), _memory, _async_memory),
    "sqlite": _Scheme(
        "sqlite:///var/sessions.db", frozenset({"busy_timeout_ms"}), _sqlite, _async_sqlite
    ),
    "postgresql": _Scheme(
        "postgresql://user@host/database",
        _POSTGRES_NUMBERS,
        _postgres,
        _async_postgres,
        _POSTGRES_WORDS,
    ),
}
SCHEMES["postgres"] = SCHEMES["postgresql"]._replace(example="")
"""Every scheme that `open_store` knows. A new store is one more row."""


def _unknown_scheme(scheme: str) -> ConfigurationError:
    said = f"There is no store for the scheme {scheme!r}" if scheme else "The URL has no scheme"
    examples = ", ".join(each.example for each in SCHEMES.values() if each.example)
    return ConfigurationError(
        f"{said}, so no store can be opened.", hint=f"Write one of these: {examples}."
    )
