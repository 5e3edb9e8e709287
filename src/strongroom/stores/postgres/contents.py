"""All that the tables keep, for moving it to another store and from one: `stores.base.Contents`.

Tables are walked by their keys, so a walk sees every row that is there all the while. Each batch is
written in one transaction that also holds on to the store's own row, so that nobody can hand the
store over in the middle of one.
"""

# ruff: noqa: S608 - the schema's name was checked, and every value is a parameter

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from strongroom.core.errors import UnreadableRecord
from strongroom.core.ops import HistoryEntry
from strongroom.core.record import NO_SUBJECT
from strongroom.stores.base import Kept, KeptEpoch, not_being_filled

from . import work
from .schema import PURGE_SLOT_BITS
from .statements import BEGIN, COMMIT, DURABLY, RELAXED, ROLLBACK, Statement
from .work import Work

R = TypeVar("R")

BATCH = 200

_KEYS = {
    Kept.SESSIONS: "SELECT session_id FROM {schema}.session WHERE session_id > %b "
    "ORDER BY session_id LIMIT {batch}",
    Kept.EPOCHS: "SELECT subject_key FROM {schema}.subject_epoch WHERE subject_key > %b "
    "ORDER BY subject_key LIMIT {batch}",
    Kept.HISTORIES: "SELECT DISTINCT subject_key FROM {schema}.history WHERE subject_key > %b "
    "ORDER BY subject_key LIMIT {batch}",
}
_READS = {
    Kept.SESSIONS: "SELECT session_id, subject_key, header, envelope, data FROM {schema}.session "
    "WHERE session_id = ANY(%b::bytea[])",
    Kept.EPOCHS: "SELECT subject_key, epoch, replaced_at FROM {schema}.subject_epoch "
    "WHERE subject_key = ANY(%b::bytea[])",
    Kept.HISTORIES: "SELECT subject_key, at, purge_at, sealed, key_id FROM {schema}.history "
    "WHERE subject_key = ANY(%b::bytea[]) ORDER BY at DESC, id DESC",
}
_WRITES = {
    Kept.SESSIONS: "INSERT INTO {schema}.session "
    "(session_id, subject_key, purge_slot, purge_at, header, envelope, data) SELECT * FROM unnest("
    "%b::bytea[], %b::bytea[], %s::int[], %s::bigint[], %b::bytea[], %b::bytea[], %b::bytea[])",
    Kept.EPOCHS: "INSERT INTO {schema}.subject_epoch (subject_key, epoch, replaced_at) "
    "SELECT * FROM unnest(%b::bytea[], %b::bytea[], %s::bigint[])",
    Kept.HISTORIES: "INSERT INTO {schema}.history (subject_key, at, purge_at, sealed, key_id) "
    "SELECT u.subject_key, u.at, u.purge_at, u.sealed, u.key_id FROM unnest("
    "%b::bytea[], %s::bigint[], %s::bigint[], %b::bytea[], %s::int[]) "
    "WITH ORDINALITY AS u (subject_key, at, purge_at, sealed, key_id, place) ORDER BY u.place",
}
_TABLES = {
    Kept.SESSIONS: ("session", "session_id"),
    Kept.EPOCHS: ("subject_epoch", "subject_key"),
    Kept.HISTORIES: ("history", "subject_key"),
}


class Run(Protocol):
    """Runs steps on the store's connections."""

    def __call__(self, body: Any) -> Any: ...


class PostgresContents:
    """The contents of a schema. `identity` is what it has to bear."""

    def __init__(self, schema: str, identity: bytes, run: Run) -> None:
        self._schema = schema
        self._identity = identity
        self._run = run

    def size(self) -> int:
        """How many things there are, as far as the server's statistics know."""
        names = ", ".join(
            f"'\"{self._schema}\".{table}'::regclass" for table, _ in _TABLES.values()
        )
        asked = self._text(
            "SELECT sum(GREATEST(reltuples, 0))::bigint FROM pg_catalog.pg_class "
            f"WHERE oid IN ({names})"
        )
        [[[size]]] = self._run(lambda: _ask(asked))
        return int(size)

    def keys(self, kept: Kept) -> Iterator[list[bytes]]:
        """Everything's keys, in batches."""
        after = b""
        while True:
            asked = self._text(_KEYS[kept], (after,))
            [found] = self._run(lambda asked=asked: _ask(asked))
            if not found:
                return
            after = found[-1][0]
            yield [key for (key,) in found]

    def read(self, kept: Kept, keys: Iterable[bytes], now: int) -> dict[bytes, Any]:
        """The values that are there."""
        del now
        asked = self._text(_READS[kept], (list(keys),))
        [found] = self._run(lambda: _ask(asked))
        return _understood(kept, found)

    def write(self, kept: Kept, values: Mapping[bytes, Any], now: int) -> None:
        """Put the values in the place of what is there."""
        del now
        write = self._text(_WRITES[kept], _columns(kept, values))
        self._run(lambda: self._while_filled(RELAXED, self._removal(kept, values), write))

    def remove(self, kept: Kept, keys: Iterable[bytes]) -> None:
        """Take these out."""
        self._run(lambda: self._while_filled(RELAXED, self._removal(kept, keys)))

    def hand_over(self, store_identity: bytes) -> None:
        """Let applications open the store. What was written before is on the disk then, too."""
        change = self._text(
            "UPDATE {schema}.store SET identity = %b WHERE id = 1", (store_identity,)
        )
        self._run(lambda: self._while_filled(DURABLY, change))

    def _while_filled(self, mode: Statement, *statements: Statement) -> Work[None]:
        """Do it in a transaction, if the store is still being filled."""
        lock = "UPDATE" if mode is DURABLY else "SHARE"
        owner = self._text(f"SELECT identity FROM {{schema}}.store WHERE id = 1 FOR {lock}")
        *_, rows = yield (BEGIN, mode, owner)
        if [bytes(identity) for (identity,) in rows] != [self._identity]:
            yield (ROLLBACK,)
            raise not_being_filled(f"The schema {self._schema!r}")
        yield (*statements, COMMIT)

    def _removal(self, kept: Kept, keys: Iterable[bytes]) -> Statement:
        table, column = _TABLES[kept]
        return self._text(
            f"DELETE FROM {{schema}}.{table} WHERE {column} = ANY(%b::bytea[])", (list(keys),)
        )

    def _text(self, text: str, values: tuple[Any, ...] = ()) -> Statement:
        schema = f'"{self._schema}"'
        return Statement(text.format(schema=schema, batch=BATCH).encode(), values)


def _ask(*statements: Statement) -> Work[list[Any]]:
    return (yield statements)


def _understood(kept: Kept, rows: list[Any]) -> dict[bytes, Any]:
    if kept is Kept.EPOCHS:
        return {key: KeptEpoch(epoch, replaced_at) for key, epoch, replaced_at in rows}
    if kept is Kept.SESSIONS:
        return {row[0]: _record(row) for row in rows}
    entries: defaultdict[bytes, list[HistoryEntry]] = defaultdict(list)
    for key, *fields in rows:
        entries[key].append(HistoryEntry(key, *fields))
    return {key: tuple(each) for key, each in entries.items()}


def _record(row: Any) -> Any:
    try:
        return work.as_record(row)
    except UnreadableRecord:
        return None


def _columns(kept: Kept, values: Mapping[bytes, Any]) -> tuple[list[Any], ...]:
    """The values as the columns that the statement unnests."""
    rows: list[tuple[Any, ...]] = []
    for key, value in values.items():
        if kept is Kept.SESSIONS:
            header = value.header
            subject_key = None if value.subject_key == NO_SUBJECT else value.subject_key
            purge_at = header.purge_at
            whole = (value.envelope, value.data)
            slot = purge_at >> PURGE_SLOT_BITS
            rows.append((key, subject_key, slot, purge_at, header.encode(value.tail), *whole))
        elif kept is Kept.EPOCHS:
            rows.append((key, value.epoch, value.replaced_at))
        else:
            # The oldest first: entries of one moment are told apart by their number.
            rows += [
                (key, each.at, each.purge_at, each.sealed, each.key_id) for each in reversed(value)
            ]
    return tuple(map(list, zip(*rows, strict=True)))
