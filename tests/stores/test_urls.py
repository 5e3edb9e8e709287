"""Stores by URL: what is understood, what is refused, and that no password is repeated."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from strongroom.core.errors import ConfigurationError
from strongroom.stores.bridge import MAY_BE_INLINE, AsyncBridge
from strongroom.stores.memory import MemoryStore
from strongroom.stores.near_cache import AsyncNearCache, Limits, NearCache
from strongroom.stores.near_cache.cache import ENTRY_BYTES, MEGABYTE
from strongroom.stores.postgres import AsyncPostgresStore, PostgresStore
from strongroom.stores.sqlite import SQLiteStore
from strongroom.stores.urls import open_async_store, open_store


def test_a_relative_path_has_three_slashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is relative to the working directory of the moment, and does not move with it."""
    monkeypatch.chdir(tmp_path)
    store = open_store("sqlite:///var/sessions.db")
    monkeypatch.chdir("/")
    store.open(b"identity")
    store.close()
    assert (tmp_path / "var" / "sessions.db").is_file()


def test_an_absolute_path_has_four_slashes(tmp_path: Path):
    """And what is percent-encoded in it is decoded."""
    store = open_store(f"sqlite:///{tmp_path}/a%20b%23c.db?busy_timeout_ms=0")
    assert repr(store) == f"SQLiteStore({str(tmp_path / 'a b#c.db')!r})"


def test_memory():
    """A store of this process, with its bound."""
    assert isinstance(open_store("memory://"), MemoryStore)
    assert isinstance(open_store("memory://?max_records=10"), MemoryStore)


def test_asynchronous_stores_are_bridges():
    """Memory runs in the loop, SQLite reads in it; both are given unopened."""
    memory = open_async_store("memory://")
    assert isinstance(memory, AsyncBridge)
    assert memory.inline == MAY_BE_INLINE
    sqlite = open_async_store("sqlite:///sessions.db")
    assert isinstance(sqlite, AsyncBridge)
    assert isinstance(sqlite.store, SQLiteStore)
    assert sqlite.inline == {"find"}


def test_a_near_cache_stands_in_front_of_a_store_that_pushes():
    """As large as the URL says; one of the two options is enough (H3)."""
    near = open_store("memory://?max_records=10&near_cache_mb=2")
    assert isinstance(near, NearCache)
    assert isinstance(near.store, MemoryStore)
    assert near.limits == Limits(size=2 * MEGABYTE, entries=2 * MEGABYTE // ENTRY_BYTES)
    small = open_async_store("memory://?near_cache_entries=5")
    assert isinstance(small, AsyncNearCache)
    assert small.limits == Limits(entries=5)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "no scheme"),
        ("sessions.db", "no scheme"),
        ("sqlite:sessions.db", "no scheme"),
        ("mysql://host/db", "'mysql'"),
        ("http://[", "no scheme"),
        ("sqlite://sessions.db", "names no file"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", ":memory:"),
        ("sqlite:///a.db#b", "#"),
        ("sqlite:///a.db?timeout=5", "unknown option"),
        ("sqlite:///a.db?busy_timeout_ms=1&busy_timeout_ms=2", "twice"),
        ("sqlite:///a.db?busy_timeout_ms=", "whole number"),
        ("sqlite:///a.db?busy_timeout_ms=-1", "whole number"),
        ("sqlite:///a.db?busy_timeout_ms=1.5", "whole number"),
        ("sqlite:///a.db?busy_timeout_ms=\u0665", "whole number"),
        ("memory://host", "no host"),
        ("memory:///path", "no host"),
        ("memory://?busy_timeout_ms=5", "unknown option"),
        ("postgresql://host/db?busy_timeout_ms=5", "unknown option"),
        ("postgresql://host/db?schema=a&schema=b", "twice"),
        ("postgresql://host/db?schema=Upper", "schema"),
        ("postgresql://host/db?schema=pg_own", "schema"),
        ("postgresql://host/db?schema=", "schema"),
        ("postgresql://host/db?pool_max=0", "pool"),
        ("postgresql://host/db?pool_max=2&pool_min=3", "pool"),
        ("postgresql://host/db?timeout_ms=0", "no time"),
        ("postgresql://host/db?connect_timeout=0", "no time"),
        ("postgresql://host/db?migrate=yes", "whole number"),
        ("postgresql://host/db?migrate=2", "neither 0 nor 1"),
        ("postgresql://host/db?host=other", "'host' twice"),
        ("postgresql://host:port/db", "cannot be understood"),
        ("postgres://user@a,b:c/db", "cannot be understood"),
        ("memory://?near_cache_mb=0", "limit of zero"),
        ("memory://?near_cache_entries=0", "limit of zero"),
        ("memory://?near_cache_mb=much", "whole number"),
        ("sqlite:///a.db?near_cache_mb=1", "unknown option"),
    ],
)
def test_what_is_wrong_is_said(url: str, said: str):
    """Each mistake has its sentence, for both kinds of store."""
    for opener in (open_store, open_async_store):
        with pytest.raises(ConfigurationError) as raised:
            opener(url)
        assert said in str(raised.value)


def test_postgresql_by_its_url():
    """Login, hosts, database and libpq's own options are understood; ours are not passed on."""
    store = open_store(
        "postgres://us%20er:p%40ss@[::1]:5433,second/shop?sslmode=verify-full"
        "&sslrootcert=/etc/ca.pem&schema=web&timeout_ms=500&pool_max=7&pool_min=2&migrate=0"
    )
    assert isinstance(store, PostgresStore)
    settings = store.settings
    assert (settings.schema, settings.timeout) == ("web", 0.5)
    assert (settings.pool_min, settings.pool_max, settings.migrates) == (2, 7, False)
    said = conninfo_to_dict(settings.conninfo())
    assert (said["user"], said["password"]) == ("us er", "p@ss")
    assert (said["host"], said["port"]) == ("::1,second", "5433,5432")
    assert (said["dbname"], said["sslmode"]) == ("shop", "verify-full")
    assert "statement_timeout=500" in str(said["options"])
    assert "p@ss" not in f"{store!r} {settings!r}"
    assert isinstance(open_async_store("postgresql:///shop?host=/run/pg"), AsyncPostgresStore)
    assert isinstance(open_store("postgresql://host/db?near_cache_mb=8"), NearCache)
    assert open_store("postgresql://host/db").settings.schema == "strongroom"  # type: ignore[attr-defined]


def test_only_a_server_that_can_be_written_is_asked():
    """What a replica says about a session may have ended already (H2)."""
    for url in ("postgresql://a,b/db", "postgresql://a/db?pgbouncer=1&direct_host=b"):
        store = open_store(url)
        assert isinstance(store, PostgresStore)
        for direct in (False, True):
            said = conninfo_to_dict(store.settings.conninfo(direct=direct))
            assert said["target_session_attrs"] == "read-write"
    with pytest.raises(ConfigurationError, match="unknown option"):
        open_store("postgresql://a/db?target_session_attrs=any")


def test_behind_a_pgbouncer_nothing_is_asked_that_it_refuses():
    """No server time-outs at the start of a connection, unless it goes past the pooler."""
    store = open_store("postgresql://pooler:6432/db?pgbouncer=1&direct_host=db&direct_port=5432")
    assert isinstance(store, PostgresStore)
    through = conninfo_to_dict(store.settings.conninfo())
    beside = conninfo_to_dict(store.settings.conninfo(direct=True))
    assert "options" not in through
    assert (through["host"], through["port"]) == ("pooler", "6432")
    assert (beside["host"], beside["port"]) == ("db", "5432")


def test_a_driver_that_is_missing_is_named():
    """The sentence says what to install; nothing else of the package fails."""
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from strongroom.core.errors import ConfigurationError\n"
        "from strongroom.stores.urls import open_store\n"
        "try: open_store('postgresql://host/db')\n"
        "except ConfigurationError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'strongroom[postgres]'" in done.stdout, done.stderr


def test_an_unknown_scheme_lists_the_known_ones():
    """The hint shows how each is written."""
    with pytest.raises(ConfigurationError) as raised:
        open_store("oracle://host")
    assert "memory://" in raised.value.hint
    assert "sqlite:///" in raised.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "oracle://user:hunter2@host/db",
        "user:hunter2@host/db",
        "hunter2",
        "sqlite://user:hunter2@host/db",
        "sqlite:///a.db?hunter2=1",
        "sqlite:///a.db?busy_timeout_ms=hunter2",
        "sqlite:///a.db#hunter2",
        "memory://user:hunter2@",
        "oracle://user:hunter2@[bad",
        "postgresql://user:hun:ter2@host:hunter2/db",
        "postgresql://user:hunter2@host/db?hunter2=1",
        "postgresql://user:hunter2@host/db?schema=hunter2%20",
        "postgresql://user:p@ss/hunter2@host/db?pool_max=0",
        "oracle://user:hunter2@host:port\u2100/",
    ],
)
def test_no_message_repeats_a_password(url: str):
    """Neither the error nor what it came from holds what may be a secret."""
    with pytest.raises(ConfigurationError) as raised:
        open_store(url)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_no_driver_is_loaded_before_it_is_asked_for():
    """Importing the module, and making another store, leaves sqlite3 and asyncio alone."""
    code = (
        "import sys; from strongroom.stores.urls import open_store; open_store('memory://'); "
        "sys.exit(bool({'sqlite3', 'asyncio', 'psycopg'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
