"""Opening: tables made once by many, roles, whose they are, and what is told where it cannot be."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from strongroom.core.errors import StoreMismatch, StoreUnavailable
from strongroom.core.ops import EndAll, Find, Sweep
from strongroom.stores.postgres.schema import MIGRATIONS
from strongroom.stores.urls import open_store
from strongroom.testing.clock import START
from strongroom.testing.records import a_replace, a_rotate, a_shift, a_touch, an_end
from tests.cli.runner import Desk
from tests.stores.postgres.kit import (
    IDENTITY,
    everywhere,
    inserted,
    is_live,
    opened,
    unopened,
)
from tests.support.servers import postgres

PAGE = Path(__file__).parents[3] / "docs" / "postgres.md"

OPENING = """if True:
    import sys
    from strongroom.stores.urls import open_store
    from strongroom.testing.records import a_record, an_insert
    store = open_store(sys.argv[1])
    sys.stdin.readline()
    store.open(bytes(16))
    import os
    store.insert(an_insert(a_record(entropy=os.urandom)))
    store.close()
"""


def blocks(name: str) -> list[str]:
    """The SQL of the page under the heading that ends with that name."""
    text = PAGE.read_text("utf-8")
    section = text.split(f"# {name}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^```sql\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


@pytest.fixture
def role(server: postgres.Server) -> Iterator[str]:
    """A login without any right of its own."""
    name = f"app_{server.new_database()}"
    server.ask(f"CREATE ROLE {name} LOGIN")
    yield name


def test_many_processes_open_an_empty_database_at_once(server: postgres.Server):
    """One makes the tables, the others wait and find them; all work."""
    database = server.new_database()
    url = server.url(database)
    processes = [
        subprocess.Popen([sys.executable, "-c", OPENING, url], stdin=subprocess.PIPE, text=True)
        for _ in range(5)
    ]
    for each in processes:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in processes:
        assert each.wait(postgres.PATIENCE) == 0
        assert each.stdin is not None
        each.stdin.close()
    assert server.ask("SELECT count(*) FROM strongroom.session", database=database) == [(5,)]
    versions = server.ask("SELECT * FROM strongroom.schema_version", database=database)
    assert versions == [("strongroom", len(MIGRATIONS))]


FORKING = """if True:
    import os, sys
    from strongroom.core.ops import Find
    from strongroom.stores.urls import open_store
    from strongroom.testing.records import a_record, an_end, an_insert
    store = open_store(sys.argv[1])
    store.open(bytes(16))
    record = store.insert(an_insert(a_record())).record
    if os.fork() == 0:
        assert store.find(Find(record.session_id)).record == record
        store.close()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
    assert store.end(an_end(record)).applied
    assert not store.find(Find(record.session_id)).record.is_live
    store.close()
"""


def test_a_forked_child_has_connections_of_its_own(server: postgres.Server):
    """It uses none of its parent's, and the parent's go on working."""
    command = [sys.executable, "-W", "error", "-c", FORKING, server.url()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_other_keys_are_refused(server: postgres.Server):
    """A store belongs to the keys that it was first opened with, and nothing is changed (A3)."""
    url = server.url()
    with opened(url) as store:
        record = inserted(store)
    with pytest.raises(StoreMismatch, match="other keys"):
        unopened(url).open(b"other")
    with opened(url) as store:
        assert is_live(store, record)


def test_a_newer_schema_is_refused(server: postgres.Server):
    """An older release does not touch what it does not understand."""
    database = server.new_database()
    with opened(server.url(database)):
        pass
    server.ask("UPDATE strongroom.schema_version SET version = 999", database=database)
    with pytest.raises(StoreMismatch, match="newer release"):
        unopened(server.url(database)).open(IDENTITY)


@pytest.mark.parametrize(
    "table",
    [
        "strongroom.session (id int)",
        "strongroom.schema_version (installed_rank int)",
        "strongroom.schema_version (program text, version int)",
    ],
)
def test_somebody_elses_schema_is_left_alone(server: postgres.Server, table: str):
    """Tables of the same name that are not ours stop the opening; nothing is made beside them."""
    database = server.new_database()
    server.ask("CREATE SCHEMA strongroom", database=database)
    server.ask(f"CREATE TABLE {table}", database=database)
    with pytest.raises(StoreMismatch, match="holds no sessions of ours"):
        unopened(server.url(database)).open(IDENTITY)
    count = "SELECT count(*) FROM pg_class WHERE relnamespace = 'strongroom'::regnamespace"
    assert server.ask(count, database=database) == [(1,)]


def test_schemas_do_not_meet(server: postgres.Server):
    """Two applications share a database, each in a schema of its own."""
    database = server.new_database()
    with (
        opened(server.url(database, schema="one")) as one,
        opened(server.url(database, schema="two"), b"other keys") as two,
    ):
        record = inserted(one)
        assert two.find(Find(record.session_id)) is None
        two.end_all(EndAll(b"12345678", START))
        assert is_live(one, record)


def test_who_may_not_make_tables_says_what_to_run(server: postgres.Server, role: str):
    """With and without the right, the error names the command; nothing is half made."""
    database = server.new_database()
    with pytest.raises(StoreUnavailable, match="strongroom store migrate"):
        unopened(server.url(database, user=role)).open(IDENTITY)
    with pytest.raises(StoreUnavailable, match="strongroom store migrate"):
        unopened(server.url(database, migrate=0)).open(IDENTITY)
    there = "SELECT to_regnamespace('strongroom')"
    assert server.ask(there, database=database) == [(None,)]


def test_a_role_without_a_grant_is_found_out_at_the_start(server: postgres.Server, role: str):
    """Not at the first sign-out: opening needs what every op needs."""
    database = server.new_database()
    with opened(server.url(database)):
        pass
    server.ask(f"GRANT USAGE ON SCHEMA strongroom TO {role}", database=database)
    server.ask(f"GRANT SELECT ON ALL TABLES IN SCHEMA strongroom TO {role}", database=database)
    with pytest.raises(StoreUnavailable, match="may not do"):
        unopened(server.url(database, user=role, migrate=0)).open(IDENTITY)


def test_owner_and_application_as_the_page_shows(server: postgres.Server):
    """The page's SQL: one role makes tables, another works with them and can do no more."""
    database = server.new_database()
    [setup, grants] = blocks("Two roles")
    for role in ("shop_owner", "shop_app"):
        server.ask(f"DROP ROLE IF EXISTS {role}")
    server.ask(setup, database=database)
    desk = Desk()
    owner = server.url(database, user="shop_owner")
    made = desk.run("store", "migrate", "--store", owner)
    assert made.out == f"The tables were made; their version is {len(MIGRATIONS)}.\n", made.err
    done = desk.run("store", "migrate", "--store", owner)
    assert done.out.startswith("The tables are at version")
    with closing(server.connect(database, "shop_owner")) as connection:
        connection.execute(grants.encode())
    with opened(server.url(database, user="shop_app", migrate=0)) as store:
        record = inserted(store)
        for op in (a_touch(record), a_shift(record), a_replace(record)):
            assert getattr(store, op.verb)(op).applied
        found = store.find(Find(record.session_id))
        assert found is not None
        assert store.rotate(a_rotate(found.record)).applied
        assert store.end(an_end(record)).applied
        inserted(store)
        assert len(store.end_subject(everywhere())) == 1
        store.end_all(EndAll(b"12345678", START))
        inserted(store, purge_at=START)
        assert store.sweep(Sweep(START, 10)) == 1
    with closing(server.connect(database, "shop_app")) as connection:
        for statement in (
            b"DROP TABLE strongroom.session",
            b"TRUNCATE strongroom.session",
            b"ALTER TABLE strongroom.session DISABLE TRIGGER USER",
            b"UPDATE strongroom.schema_version SET version = 0",
        ):
            with pytest.raises(Exception, match=r"(permission denied|must be owner)"):
                connection.execute(statement)


def test_a_partitioned_table_as_the_page_shows(server: postgres.Server):
    """The page's SQL turns a table with sessions in it into partitions; everything goes on."""
    database = server.new_database()
    with opened(server.url(database)) as store:
        before = [inserted(store, subject=f"s{number}") for number in range(40)]
    [partitioning] = blocks("Very large tables")
    server.ask(partitioning, database=database)
    with opened(server.url(database)) as store:
        assert all(is_live(store, each) for each in before)
        records = [inserted(store) for _ in range(30)]
        for record in records[:10]:
            assert store.touch(a_touch(record)).applied
            assert store.end(an_end(record)).applied
        assert len(store.end_subject(everywhere())) == 20
        assert not any(is_live(store, each) for each in records)
        assert all(is_live(store, each) for each in before)
        late = before[0].header.purge_at
        assert store.sweep(Sweep(late + 60_000, 100)) == 70
    partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'strongroom.session'::regclass"
    assert server.ask(partitions, database=database) == [(16,)]


def test_no_message_holds_the_password(server: postgres.Server):
    """Neither the error of a connection nor what it came from (P5)."""
    url = f"postgresql://nobody_here:hunter2@127.0.0.1:{server.port}/nothing"
    for schema in ("", "?connect_timeout=1"):
        with pytest.raises(StoreUnavailable) as raised:
            open_store(url + schema).open(IDENTITY)
        error: BaseException | None = raised.value
        while error is not None:
            assert "hunter2" not in f"{error} {error!r}"
            error = error.__cause__ or error.__context__
