"""Finding a store by its URL. Drivers are imported only when their scheme is asked for.

    memory://                         this process only; ?max_records=
    sqlite:///var/sessions.db         a path relative to the working directory; ?busy_timeout_ms=
    sqlite:////var/lib/sessions.db    an absolute path
    valkey://host:6379/0              Valkey or Redis; valkeys:// with TLS
    valkey+sentinel://h1,h2,h3/name   a primary that sentinels watch
    valkey+cluster://h1,h2            a cluster; any of its nodes
    redis, rediss                     other names of valkey and valkeys, in all three
    postgresql://user@host/database   PostgreSQL, also as postgres://

Every store that pushes its changes also takes ?near_cache_mb= and ?near_cache_entries=: either puts
a near cache of that size in front of it (docs/near-cache.md).

A URL may carry a password, so no message of ours repeats any part of it but a scheme and the
names of options that exist.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from strongroom.core.errors import ConfigurationError

from .base import AsyncStore, Store

if TYPE_CHECKING:
    from .postgres.settings import Settings as PostgresSettings
    from .valkey import Settings

Options = dict[str, Any]


class _Scheme(NamedTuple):
    """How a scheme's stores are made, and which options it takes: whole numbers, and `texts`."""

    example: str
    options: frozenset[str]
    make: Callable[[SplitResult, Options], Store]
    make_async: Callable[[SplitResult, Options], AsyncStore]
    texts: frozenset[str] = frozenset()
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
    known_options = scheme.options | scheme.texts
    if scheme.pushes:
        known_options |= _NEAR_CACHE
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
        if name in scheme.texts:
            options[name] = value
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


def _postgres_settings(parts: SplitResult, options: Options) -> PostgresSettings:
    try:
        from .postgres.settings import understood
    except ImportError as error:
        if not (error.name or "").startswith("psycopg"):
            raise
        raise ConfigurationError(
            f"The {parts.scheme} store needs the package psycopg, which is not installed, or lacks "
            "its library libpq.",
            why="It speaks with PostgreSQL.",
            hint="pip install 'strongroom[postgres]'",
        ) from None
    return understood(parts, options)


def _postgres(parts: SplitResult, options: Options) -> Store:
    settings = _postgres_settings(parts, options)
    from .postgres import PostgresStore

    return PostgresStore(settings)


def _async_postgres(parts: SplitResult, options: Options) -> AsyncStore:
    settings = _postgres_settings(parts, options)
    from .postgres import AsyncPostgresStore

    return AsyncPostgresStore(settings)


def _postgres_scheme() -> _Scheme:
    numbers = "pool_min pool_max timeout_ms connect_timeout migrate pgbouncer direct_port"
    ours = "schema direct_host"
    # What libpq knows, but for target_session_attrs and options, which the store decides.
    theirs = (
        "host hostaddr port user password passfile dbname service application_name sslmode "
        "sslnegotiation sslcert sslkey sslpassword sslrootcert sslcrl sslcrldir sslsni "
        "ssl_min_protocol_version ssl_max_protocol_version channel_binding require_auth "
        "gssencmode krbsrvname"
    )
    return _Scheme(
        "postgresql://user@host/database",
        frozenset(numbers.split()),
        _postgres,
        _async_postgres,
        frozenset([*ours.split(), *theirs.split()]),
        pushes=True,
    )


def _valkey_settings(parts: SplitResult, options: Options) -> Settings:
    try:
        from .valkey.urls import settings_from
    except ModuleNotFoundError as error:
        if error.name != "hiredis":
            raise
        raise ConfigurationError(
            f"The {parts.scheme} store needs the package hiredis, which is not installed.",
            why="It reads what the server answers.",
            hint="pip install 'strongroom[valkey]'",
        ) from None
    return settings_from(parts, options)


def _valkey(parts: SplitResult, options: Options) -> Store:
    settings = _valkey_settings(parts, options)
    from .valkey import ValkeyStore

    return ValkeyStore(settings)


def _async_valkey(parts: SplitResult, options: Options) -> AsyncStore:
    settings = _valkey_settings(parts, options)
    from .valkey import AsyncValkeyStore

    return AsyncValkeyStore(settings)


def _valkey_scheme(example: str) -> _Scheme:
    numbers = "timeout_ms patience_ms durable_ends durable_fsync allow_eviction"
    texts = "prefix tls_ca tls_cert tls_key sentinel_user sentinel_password"
    return _Scheme(
        example,
        frozenset(numbers.split()),
        _valkey,
        _async_valkey,
        frozenset(texts.split()),
        pushes=True,
    )


SCHEMES = {
    "memory": _Scheme("memory://", frozenset({"max_records"}), _memory, _async_memory, pushes=True),
    "sqlite": _Scheme(
        "sqlite:///var/sessions.db", frozenset({"busy_timeout_ms"}), _sqlite, _async_sqlite
    ),
    **{
        f"{server}{how}": _valkey_scheme(f"valkey{how}://{path}")
        for server in ("valkey", "valkeys", "redis", "rediss")
        for how, path in (
            ("", "host:6379/0"),
            ("+sentinel", "host1,host2,host3/name"),
            ("+cluster", "host1,host2"),
        )
    },
    "postgresql": _postgres_scheme(),
    "postgres": _postgres_scheme(),
}
"""Every scheme that `open_store` knows. A new store is one more row."""


def _unknown_scheme(scheme: str) -> ConfigurationError:
    said = f"There is no store for the scheme {scheme!r}" if scheme else "The URL has no scheme"
    examples = ", ".join(dict.fromkeys(each.example for each in SCHEMES.values()))
    return ConfigurationError(
        f"{said}, so no store can be opened.", hint=f"Write one of these: {examples}."
    )
