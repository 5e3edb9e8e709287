"""What PostgreSQL, its driver and the pool say, in the tree of `core.errors`.

Every fault becomes a `StoreError`. Messages hold PostgreSQL's own first line, never a statement, a
value or a password.
"""

from __future__ import annotations

import psycopg
import psycopg_pool

from strongroom.core.errors import StoreError, StoreMismatch, StoreUnavailable, UnreadableRecord

_NOT_LET_IN = "Nobody is let in or signed out while the sessions cannot be read or written."
_NOTHING_SAID = "Whether the change was made is not known; nothing was acknowledged."
_AGAIN = frozenset({"40001", "40P01"})
"""Serialization failure and deadlock: the server undid the whole, and asks to try again."""

Said = tuple[str, str, str]

_BY_STATE: dict[str, Said] = {
    "57014": (
        "PostgreSQL gave up on a statement of the session store",
        _NOTHING_SAID,
        "Look for load or a lock in pg_stat_activity; timeout_ms in the URL is the bound.",
    ),
    "55P03": (
        "A session's row was locked by somebody else for the whole timeout",
        _NOTHING_SAID,
        "Look in pg_stat_activity for a transaction that is left open on the session tables.",
    ),
    "25006": (
        "The PostgreSQL server cannot be written: it is a standby, or set to read only",
        "A session that cannot be written cannot be ended either.",
        "Name the primary in the URL, or all hosts, separated by commas.",
    ),
    "42501": (
        "The database user may not do what the session store needs",
        _NOT_LET_IN,
        "Run 'strongroom store migrate' as the owner, and grant as docs/postgres.md shows.",
    ),
    "26000": (
        "Something between us and PostgreSQL, such as a PgBouncer, hands on only a part",
        _NOT_LET_IN,
        "Add pgbouncer=1 to the store's URL.",
    ),
    "53100": (
        "PostgreSQL's disk is full",
        "The change was rolled back whole, and nothing was acknowledged.",
        "Make room; the store goes on by itself.",
    ),
    "53300": (
        "PostgreSQL has no connection left",
        _NOT_LET_IN,
        "Lower pool_max in the store's URL, or raise the server's max_connections.",
    ),
}
_BY_STATE["42P05"] = _BY_STATE["26000"]
_TABLES_GONE: Said = (
    "The session tables are not what they were when the store was opened",
    _NOT_LET_IN,
    "Run 'strongroom store migrate', or restore a backup and run 'strongroom store restored'.",
)
for _state in ("42P01", "3F000", "42703", "42883"):
    _BY_STATE[_state] = _TABLES_GONE
_DAMAGED: Said = (
    "PostgreSQL says that the session tables are damaged",
    "What they say about a session cannot be believed, so nobody is let in.",
    "Restore a backup, then run 'strongroom store restored'.",
)
_BY_CLASS: dict[str, Said] = {
    "28": (
        "PostgreSQL does not accept the session store's user",
        _NOT_LET_IN,
        "Check user and password in the store's URL, and the server's pg_hba.conf.",
    ),
    "3D": (
        "There is no such database",
        _NOT_LET_IN,
        "Create it, or correct the name in the store's URL.",
    ),
    "53": ("PostgreSQL has run out of something", _NOT_LET_IN, "Look at the server's log."),
}
_FAILED: Said = ("PostgreSQL failed", _NOT_LET_IN, "Look at the server's log.")
_POOLER = "unsupported startup parameter"
"""What a PgBouncer says to what it does not pass on. It has no code of its own for it."""
_LOST: Said = (
    "The connection to PostgreSQL was lost or could not be made",
    _NOT_LET_IN,
    "Look whether the server runs and can be reached; the store goes on by itself.",
)


def is_to_be_tried_again(error: psycopg.Error) -> bool:
    """Whether the server undid everything and a second try may succeed."""
    return error.sqlstate in _AGAIN


def is_lost(error: psycopg.Error, connection_is_broken: bool) -> bool:
    """Whether the connection, not the statement, was at fault."""
    state = error.sqlstate or ""
    return connection_is_broken or state.startswith("08") or state in ("57P01", "57P02", "57P03")


def translated(error: Exception) -> StoreError:
    """The error as the store's contract has it."""
    if isinstance(error, psycopg_pool.PoolTimeout | psycopg_pool.TooManyRequests):
        return pool_exhausted()
    if isinstance(error, psycopg_pool.PoolClosed):
        return not_open()
    state = getattr(error, "sqlstate", None) or ""
    if state in ("XX001", "XX002"):
        return _worded(UnreadableRecord, _DAMAGED, error)
    said = _BY_STATE.get(state) or _BY_CLASS.get(state[:2])
    if _POOLER in str(error):
        said = _BY_STATE["26000"]
    if said is None:
        lost = isinstance(error, psycopg.OperationalError)
        said = _LOST if lost or state.startswith("57P0") else _FAILED
    return _worded(StoreUnavailable, said, error)


def pool_exhausted() -> StoreUnavailable:
    """Every connection was in use for the whole timeout, and the server can be reached."""
    return StoreUnavailable(
        "Every connection of the session store's pool was in use for the whole timeout.",
        why=_NOT_LET_IN,
        hint="Look for slow statements; if requests are merely many, raise pool_max in the URL.",
    )


def no_answer(seconds: float) -> StoreUnavailable:
    """The server holds the connection and says nothing."""
    return StoreUnavailable(
        f"PostgreSQL did not answer within {seconds:g} seconds.",
        why=_NOTHING_SAID,
        hint="Look whether the server, its disk or the network is overloaded or stands still.",
    )


def not_open() -> StoreUnavailable:
    """The store was closed, or never opened."""
    return StoreUnavailable(
        "This PostgreSQL store is not open.",
        why="Nothing can be read or written before it is opened or after it is closed.",
        hint="Call open(store_identity) first; a session manager does so at start-up.",
    )


def row_missing() -> StoreUnavailable:
    """The store's own row is gone, so that no session can be judged."""
    what, why, hint = _TABLES_GONE
    return StoreUnavailable(f"{what}: the store's own row is missing.", why=why, hint=hint)


def foreign(schema: str, what: str) -> StoreMismatch:
    """The schema is somebody else's."""
    return StoreMismatch(
        f"The schema {schema!r} holds no sessions of ours: {what}.",
        why="It may belong to somebody else, so it was not changed.",
        hint="Name another with schema= in the store's URL, or correct the database.",
    )


def newer(schema: str, version: int, known: int) -> StoreMismatch:
    """A newer release has been here."""
    return StoreMismatch(
        f"The schema {schema!r} has version {version}, written by a newer release; this one knows "
        f"versions up to {known}.",
        why="An older release could damage what it does not understand.",
        hint="Run the newest release everywhere.",
    )


def other_keys(schema: str) -> StoreMismatch:
    """The tables belong to another keyring or realm."""
    return StoreMismatch(
        f"The session tables in the schema {schema!r} were made under other keys.",
        why="Its sessions could not be found or ended under the keys given now.",
        hint="Use the keyring and realm that they were made with, or another schema.",
    )


def to_be_migrated(schema: str, version: int, newest: int) -> StoreUnavailable:
    """The tables are missing or old, and this process may not make them."""
    has = "has no session tables yet" if version == 0 else f"has version {version} of {newest}"
    return StoreUnavailable(
        f"The schema {schema!r} {has}, and this process does not make or change tables.",
        why="Sessions cannot be kept in tables that are not there.",
        hint="Run 'strongroom store migrate --store URL' as the owner of the schema; the URL of "
        "the application may keep migrate=0.",
    )


def _worded(fault: type[StoreError], said: Said, error: Exception) -> StoreError:
    what, why, hint = said
    return fault(f"{what} ({first_line(error)}).", why=why, hint=hint)


def first_line(error: Exception) -> str:
    """PostgreSQL's own words, one line, without detail: details may hold values."""
    diagnosis = getattr(error, "diag", None)
    primary = getattr(diagnosis, "message_primary", None)
    said = primary or str(error).partition("\n")[0] or type(error).__name__
    state = getattr(error, "sqlstate", None)
    return f"{said}; {state}" if state else said
