"""The tables, how they came to be, and whose they are.

Everything is in one schema of its own. It says what it is twice over: `schema_version` names the
program and the number of the last migration, and `store` holds the identity of the keys. A schema
that fails one of them is refused before anything in it is changed.

A migration is a function in `MIGRATIONS`; its place in the tuple is the version it leads to. All
that are missing run in one transaction under an advisory lock, so several processes may open an
empty database at once: one migrates, the others find it done. Processes of the release before go on
running during a deployment, so a migration may add, and may remove only what the release before no
longer uses.

A touch changes no indexed column, so it is a HOT update: `purge_slot`, the indexed one, stays where
it is until the sweep finds the row there and moves it on (docs/decisions/0031).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

PURGE_SLOT_BITS = 20
"""A purge slot is 2**20 ms, 17.5 minutes."""

PROGRAM = "strongroom"
FILL_FACTOR = 75
"""Per cent of a page that inserts fill. The rest takes the next versions of touched rows."""


def channel(schema: str) -> str:
    """The name under which every change is told."""
    return f"strongroom.{schema}"


def lock_number(schema: str, purpose: str) -> int:
    """The advisory lock of that purpose: a number that no other program is likely to use."""
    digest = hashlib.blake2b(f"strongroom {schema} {purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def create_tables(schema: str) -> tuple[str, ...]:
    """Version 1: sessions, epochs, histories, the store's own row, and who is told of changes."""
    name = f'"{schema}"'
    # Ciphertext does not compress, so nothing tries to. Columns of fixed width come first, so that
    # nothing is lost to padding. subject_key is NULL for nobody: visitors who are not signed in
    # weigh nothing in its index.
    return (
        f"""CREATE TABLE {name}.session (
            purge_at bigint NOT NULL,
            purge_slot integer NOT NULL,
            session_id bytea NOT NULL PRIMARY KEY,
            subject_key bytea,
            header bytea NOT NULL,
            envelope bytea NOT NULL,
            data bytea NOT NULL
        ) WITH (fillfactor = {FILL_FACTOR})""",
        *(
            f"ALTER TABLE {name}.session ALTER COLUMN {column} SET STORAGE {storage}"
            for column, storage in (
                ("session_id", "PLAIN"),
                ("subject_key", "PLAIN"),
                ("header", "MAIN"),
                ("envelope", "EXTERNAL"),
                ("data", "EXTERNAL"),
            )
        ),
        f"CREATE INDEX session_of_subject ON {name}.session (subject_key) "
        "WHERE subject_key IS NOT NULL",
        f"CREATE INDEX session_to_purge ON {name}.session (purge_slot)",
        f"""CREATE TABLE {name}.subject_epoch (
            replaced_at bigint NOT NULL,
            subject_key bytea NOT NULL PRIMARY KEY,
            epoch bytea NOT NULL
        )""",
        f"CREATE INDEX subject_epoch_to_purge ON {name}.subject_epoch (replaced_at)",
        f"""CREATE TABLE {name}.history (
            id bigint GENERATED ALWAYS AS IDENTITY,
            at bigint NOT NULL,
            purge_at bigint NOT NULL,
            key_id integer NOT NULL,
            subject_key bytea NOT NULL,
            sealed bytea NOT NULL,
            PRIMARY KEY (subject_key, at, id)
        )""",
        f"CREATE INDEX history_to_purge ON {name}.history (purge_at)",
        f"""CREATE TABLE {name}.store (
            id integer PRIMARY KEY CHECK (id = 1),
            identity bytea NOT NULL,
            epoch bytea NOT NULL,
            epoch_replaced_at bigint NOT NULL
        )""",
        *_telling(schema),
    )


def _telling(schema: str) -> tuple[str, ...]:
    """Triggers, so that whoever changes a session is told about, an operator's own SQL too."""
    name, told = f'"{schema}"', channel(schema)
    return (
        f"""CREATE FUNCTION {name}.tell_session() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_catalog.pg_notify('{told}', pg_catalog.encode(OLD.session_id, 'hex'));
            RETURN NULL;
        END $$""",
        f"""CREATE FUNCTION {name}.tell_everybody() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_catalog.pg_notify('{told}', '*');
            RETURN NULL;
        END $$""",
        f"CREATE TRIGGER session_changed AFTER UPDATE ON {name}.session FOR EACH ROW "
        "WHEN (OLD.header IS DISTINCT FROM NEW.header) "
        f"EXECUTE FUNCTION {name}.tell_session()",
        f"CREATE TRIGGER session_gone AFTER DELETE ON {name}.session FOR EACH ROW "
        f"EXECUTE FUNCTION {name}.tell_session()",
        f"CREATE TRIGGER sessions_emptied AFTER TRUNCATE ON {name}.session FOR EACH STATEMENT "
        f"EXECUTE FUNCTION {name}.tell_everybody()",
        f"CREATE TRIGGER epoch_replaced AFTER UPDATE OR DELETE ON {name}.store FOR EACH STATEMENT "
        f"EXECUTE FUNCTION {name}.tell_everybody()",
    )


MIGRATIONS: tuple[Callable[[str], tuple[str, ...]], ...] = (create_tables,)
