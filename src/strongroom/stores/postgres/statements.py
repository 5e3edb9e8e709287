"""Every statement of the store but those that make its tables, for one schema.

All values are parameters; the schema's name was checked and is quoted. Statements are bytes, so
that the driver takes each for the same prepared statement every time.
"""

# ruff: noqa: S608 - the schema's name was checked, and every value is a parameter

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .schema import PURGE_SLOT_BITS


class Statement(NamedTuple):
    """One statement with its values."""

    text: bytes
    values: Sequence[Any] = ()


Step = tuple[Statement, ...]
"""Statements that go to the server together and cost one round trip."""

# What must not be lost waits for the disk, whatever the database's own setting is; a stronger one
# (remote_apply) stays. What may be lost does not wait. Both hold for this transaction alone.
_DURABLE = (
    "CASE pg_catalog.current_setting('synchronous_commit') WHEN 'off' "
    "THEN pg_catalog.set_config('synchronous_commit', 'on', true) END"
)
_RELAXED = "pg_catalog.set_config('synchronous_commit', 'off', true)"

BEGIN = Statement(b"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
COMMIT = Statement(b"COMMIT")
ROLLBACK = Statement(b"ROLLBACK")
DURABLY = Statement(f"SELECT {_DURABLE}".encode())
RELAXED = Statement(f"SELECT {_RELAXED}".encode())
CLOCK = Statement(b"SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000)::bigint")
LOCK_SUBJECT = b"SELECT pg_catalog.pg_advisory_xact_lock(%s::bigint)"


def _commit_mode(durable: bool) -> str:
    # A sub-select with a volatile function is neither pulled up nor left out.
    return f"(SELECT {_DURABLE if durable else _RELAXED}) AS commit_mode"


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements of the store in that schema."""

    schema: str
    find: bytes
    find_row: bytes
    find_row_locked: bytes
    list_subject: bytes
    lock_subject_rows: bytes
    epochs: bytes
    insert_view: bytes
    subject_rows: bytes
    insert: bytes
    end_rows: bytes
    end_rows_if_unchanged: bytes
    delete_rows: bytes
    delete_rows_if_unchanged: bytes
    replace_subject_epoch: bytes
    replace_store_epoch: bytes
    append: bytes
    trim: bytes
    read_history: bytes
    delete_history: bytes
    sweep_sessions: bytes
    put_off: bytes
    sweep_history: bytes
    sweep_epochs: bytes
    prove: bytes

    def update(self, *, envelope: bool, data: bool, durable: bool) -> bytes:
        """Change one row if its header is still the one that was read."""
        columns = "header = %b, purge_at = %s::bigint, purge_slot = LEAST(purge_slot, %s::int)"
        columns += ", envelope = %b" * envelope + ", data = %b" * data
        return (
            f'UPDATE "{self.schema}".session SET {columns} FROM {_commit_mode(durable)} '
            "WHERE session_id = %b AND header = %b RETURNING 1"
        ).encode()


_ROW = "s.session_id, s.subject_key, s.header, s.envelope, s.data"
_UNNESTED = (
    "unnest(%b::bytea[], %b::bytea[], %b::bytea[], %s::bigint[]) "
    "AS u (session_id, was, header, purge_at)"
)
_END_ROWS = (
    "{schema}.session s SET header = u.header, data = '', purge_at = u.purge_at, "
    f"purge_slot = LEAST(s.purge_slot, (u.purge_at >> {PURGE_SLOT_BITS})::int) FROM {_UNNESTED} "
    "WHERE s.session_id = u.session_id"
)

_TEXTS = {
    # One statement and one view: the record, and the epoch that every record must carry.
    "find": f"SELECT {_ROW}, t.epoch FROM {{schema}}.store t LEFT JOIN {{schema}}.session s "
    "ON s.session_id = %b WHERE t.id = 1",
    "find_row": f"SELECT {_ROW} FROM {{schema}}.session s WHERE s.session_id = %b",
    "find_row_locked": f"SELECT {_ROW} FROM {{schema}}.session s WHERE s.session_id = %b "
    "FOR UPDATE",
    "list_subject": f"SELECT {_ROW}, t.epoch FROM {{schema}}.store t "
    "LEFT JOIN {schema}.session s ON s.subject_key = %b WHERE t.id = 1",
    "subject_rows": f"SELECT {_ROW} FROM {{schema}}.session s WHERE s.subject_key = %b",
    "lock_subject_rows": f"SELECT {_ROW} FROM {{schema}}.session s WHERE s.subject_key = %b "
    "ORDER BY s.session_id FOR UPDATE",
    "epochs": "SELECT t.epoch, e.epoch FROM {schema}.store t LEFT JOIN {schema}.subject_epoch e "
    "ON e.subject_key = %b WHERE t.id = 1",
    "insert_view": f"SELECT {_ROW}, t.epoch, e.epoch FROM {{schema}}.store t "
    "LEFT JOIN {schema}.session s ON s.session_id = %b "
    "LEFT JOIN {schema}.subject_epoch e ON e.subject_key = %b WHERE t.id = 1",
    "insert": "INSERT INTO {schema}.session "
    "(session_id, subject_key, purge_slot, purge_at, header, envelope, data) "
    "VALUES (%b, %b, %s::int, %s::bigint, %b, %b, %b) ON CONFLICT DO NOTHING RETURNING 1",
    "end_rows": f"UPDATE {_END_ROWS} RETURNING 1",
    "end_rows_if_unchanged": f"UPDATE {_END_ROWS} AND s.header = u.was RETURNING 1",
    "delete_rows": "DELETE FROM {schema}.session WHERE session_id = ANY (%b::bytea[])",
    "delete_rows_if_unchanged": "DELETE FROM {schema}.session s "
    "USING unnest(%b::bytea[], %b::bytea[]) AS u (session_id, was) "
    "WHERE s.session_id = u.session_id AND s.header = u.was",
    "replace_subject_epoch": "INSERT INTO {schema}.subject_epoch AS e "
    "(subject_key, epoch, replaced_at) VALUES (%b, %b, %s::bigint) ON CONFLICT (subject_key) "
    "DO UPDATE SET epoch = excluded.epoch, replaced_at = excluded.replaced_at",
    "replace_store_epoch": "UPDATE {schema}.store SET epoch = %b, epoch_replaced_at = %s::bigint "
    "FROM {durably} WHERE id = 1 RETURNING 1",
    # An entry that is there already came with an attempt whose answer was lost.
    "append": "INSERT INTO {schema}.history (subject_key, at, purge_at, key_id, sealed) "
    "SELECT u.subject_key, u.at, u.purge_at, u.key_id, u.sealed "
    "FROM unnest(%b::bytea[], %s::bigint[], %s::bigint[], %s::int[], %b::bytea[]) "
    "WITH ORDINALITY AS u (subject_key, at, purge_at, key_id, sealed, place) "
    "WHERE NOT EXISTS (SELECT 1 FROM {schema}.history h WHERE h.subject_key = u.subject_key "
    "AND h.at = u.at AND h.sealed = u.sealed) ORDER BY u.place",
    # Two who shorten one history at once do not wait for each other, so they cannot deadlock.
    "trim": "DELETE FROM {schema}.history WHERE (subject_key, at, id) IN ("
    "SELECT subject_key, at, id FROM {schema}.history WHERE (subject_key, at, id) IN ("
    "SELECT k.subject_key, e.at, e.id FROM unnest(%b::bytea[]) AS k (subject_key) "
    "CROSS JOIN LATERAL (SELECT h.at, h.id FROM {schema}.history h "
    "WHERE h.subject_key = k.subject_key ORDER BY h.at DESC, h.id DESC OFFSET %s::bigint) AS e) "
    "FOR UPDATE SKIP LOCKED)",
    "read_history": "SELECT at, purge_at, sealed, key_id FROM {schema}.history "
    "WHERE subject_key = %b ORDER BY at DESC, id DESC LIMIT %s::bigint",
    "delete_history": "WITH gone AS (DELETE FROM {schema}.history WHERE subject_key = %b "
    "RETURNING 1) SELECT count(*) FROM gone",
    "prove": "SELECT pg_catalog.pg_notify(%s::text, %s::text), "
    "(SELECT epoch FROM {schema}.store WHERE id = 1)",
}

_LEADER = (
    "leader AS MATERIALIZED (SELECT pg_catalog.pg_try_advisory_xact_lock(%s::bigint) AS leads, "
    f"{_RELAXED}), "
)
# In the current slot the exact moment decides; everything in an earlier one is due, unless it was
# touched since: the row's slot does not move with a touch. Nobody is waited for.
_DUE = (
    "SELECT s.session_id FROM {schema}.session s, leader WHERE leader.leads AND {condition} "
    "ORDER BY s.purge_slot LIMIT %s::bigint FOR UPDATE OF s SKIP LOCKED"
)
_SWEEPS = {
    "sweep_sessions": f"WITH {_LEADER} due AS ({_DUE}), gone AS (DELETE FROM {{schema}}.session d "
    "USING due WHERE d.session_id = due.session_id RETURNING 1) SELECT count(*) FROM gone",
    "put_off": f"WITH {_LEADER} due AS ({_DUE}), moved AS (UPDATE {{schema}}.session d "
    f"SET purge_slot = (d.purge_at >> {PURGE_SLOT_BITS})::int "
    "FROM due WHERE d.session_id = due.session_id RETURNING 1) SELECT count(*) FROM moved",
    "sweep_history": f"WITH {_LEADER} due AS (SELECT s.subject_key, s.at, s.id "
    "FROM {schema}.history s, leader WHERE leader.leads AND s.purge_at <= %s::bigint "
    "LIMIT %s::bigint FOR UPDATE OF s SKIP LOCKED), gone AS (DELETE FROM {schema}.history d "
    "USING due WHERE (d.subject_key, d.at, d.id) = (due.subject_key, due.at, due.id) RETURNING 1) "
    "SELECT count(*) FROM gone",
    "sweep_epochs": f"WITH {_LEADER} due AS (SELECT s.subject_key FROM {{schema}}.subject_epoch s, "
    "leader WHERE leader.leads AND s.replaced_at < %s::bigint LIMIT %s::bigint "
    "FOR UPDATE OF s SKIP LOCKED), gone AS (DELETE FROM {schema}.subject_epoch d USING due "
    "WHERE d.subject_key = due.subject_key RETURNING 1) SELECT count(*) FROM gone",
}
_CONDITIONS = {
    "sweep_sessions": "s.purge_slot <= %s::int AND s.purge_at <= %s::bigint",
    "put_off": f"s.purge_slot < %s::int AND s.purge_at >> {PURGE_SLOT_BITS} > s.purge_slot "
    "AND s.purge_at > %s::bigint",
}


def statements(schema: str) -> Statements:
    """The statements for that schema."""
    texts = dict(_TEXTS)
    for name, text in _SWEEPS.items():
        texts[name] = text.replace("{condition}", _CONDITIONS.get(name, ""))
    return Statements(
        schema,
        **{
            name: text.replace("{schema}", f'"{schema}"')
            .replace("{durably}", _commit_mode(durable=True))
            .encode()
            for name, text in texts.items()
        },
    )
