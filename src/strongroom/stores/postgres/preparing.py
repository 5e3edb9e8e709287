"""Making the tables, bringing them up to date, and checking that they are ours."""

# ruff: noqa: S608 - the schema's name was checked, and every value is a parameter

from __future__ import annotations

import os

import psycopg

from strongroom.core.record import EPOCH_BYTES
from strongroom.stores.base import being_filled, still_being_filled

from . import faults
from .schema import MIGRATIONS, PROGRAM, lock_number
from .statements import BEGIN, COMMIT, DURABLY, ROLLBACK, Statement
from .work import Work

NEWEST = len(MIGRATIONS)


def prepare(schema: str, identity: bytes, *, migrates: bool) -> Work[None]:
    """Have the tables ready for these keys; the first keys are those that they belong to.

    Raises:
        StoreMismatch: they are another program's, a newer release's, or belong to other keys.
        StoreUnavailable: they are missing or old, and this process may not make them.
    """
    version = yield from read_version(schema)
    if version < NEWEST:
        if not migrates:
            raise faults.to_be_migrated(schema, version, NEWEST)
        yield from migrate(schema)
    yield from _belong(schema, identity)


def migrate(schema: str) -> Work[tuple[int, int]]:
    """Make the tables or bring them up to date -> the version before, and now.

    Several processes at once: one does it, the others wait for it and find it done.
    """
    version = yield from read_version(schema)
    if version == NEWEST:
        return version, version
    yield (BEGIN, _text(f"SELECT pg_advisory_xact_lock({lock_number(schema, 'migrate')})"))
    before = yield from read_version(schema)
    for statement in _missing(schema, before):
        yield (statement,)
    yield (COMMIT,)
    return before, NEWEST


def _missing(schema: str, version: int) -> list[Statement]:
    name = f'"{schema}"'
    statements: list[str] = []
    if version == 0:
        statements += [
            f"CREATE TABLE {name}.schema_version (program text NOT NULL, version integer NOT NULL)",
            f"INSERT INTO {name}.schema_version VALUES ('{PROGRAM}', 0)",
        ]
    for migration in MIGRATIONS[version:]:
        statements += migration(schema)
    statements.append(f"UPDATE {name}.schema_version SET version = {NEWEST}")
    made = [_text(each) for each in statements]
    if version == 0:
        made.insert(0, _create_schema(schema))
    return made


def _create_schema(schema: str) -> Statement:
    # IF NOT EXISTS asks for the right to create schemas also where it exists, and an owner of the
    # schema alone need not have it.
    return _text(
        f"""DO $$ BEGIN
            IF pg_catalog.to_regnamespace('"{schema}"') IS NULL THEN
                CREATE SCHEMA "{schema}";
            END IF;
        END $$"""
    )


def read_version(schema: str) -> Work[int]:
    """The number of the last migration, or 0 where there is nothing of ours yet.

    Raises:
        StoreMismatch: the schema is another program's or a newer release's.
    """
    [[(is_there, relations)]] = yield (
        _text(
            f"""SELECT pg_catalog.to_regclass('"{schema}".schema_version') IS NOT NULL,
            (SELECT count(*) FROM pg_catalog.pg_class
             WHERE relnamespace = pg_catalog.to_regnamespace('"{schema}"'))"""
        ),
    )
    if not is_there:
        if relations:
            raise faults.foreign(schema, "it has other tables in it")
        return 0
    try:
        [rows] = yield (_text(f'SELECT program, version FROM "{schema}".schema_version'),)
    except psycopg.errors.UndefinedColumn:
        raise faults.foreign(schema, "its schema_version is another program's") from None
    if len(rows) != 1 or rows[0][0] != PROGRAM:
        raise faults.foreign(schema, "its schema_version is another program's")
    version = int(rows[0][1])
    if version > NEWEST:
        raise faults.newer(schema, version, NEWEST)
    return version


def _belong(schema: str, identity: bytes) -> Work[None]:
    """Check that the tables are of these keys and can be written; make them so if nobody has."""
    name = f'"{schema}"'
    select = _text(f"SELECT identity FROM {name}.store WHERE id = 1")
    [rows] = yield (select,)
    if not rows:
        claim = Statement(
            f"INSERT INTO {name}.store (id, identity, epoch, epoch_replaced_at) "
            "VALUES (1, %b, %b, 0) ON CONFLICT DO NOTHING".encode(),
            (identity, os.urandom(EPOCH_BYTES)),
        )
        *_, rows = yield (BEGIN, DURABLY, claim, COMMIT, select)
    bears = [bytes(row[0]) for row in rows]
    if bears == [being_filled(identity)]:
        raise still_being_filled(f"The schema {schema!r}")
    if bears != [identity]:
        raise faults.other_keys(schema)
    # None of these changes a row, but each would need to be able to: what cannot be written is
    # found out now, not at the first sign-out.
    yield (
        BEGIN,
        _text(f"UPDATE {name}.store SET epoch = epoch WHERE id <> 1"),
        *(
            _text(f"{verb} WHERE subject_key IS NULL AND false")
            for table, column in (
                ("session", "purge_at"),
                ("subject_epoch", "replaced_at"),
                ("history", "purge_at"),
            )
            for verb in (
                f"UPDATE {name}.{table} SET {column} = {column}",
                f"DELETE FROM {name}.{table}",
            )
        ),
        ROLLBACK,
    )


def _text(text: str) -> Statement:
    return Statement(text.encode())
