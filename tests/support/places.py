"""Where a site's sessions are kept: a URL of its own on each kind of store, and all that is in it.

The servers of Valkey and PostgreSQL start with the first scenario that needs one and end with the
test run. A `Place` is one site's; `held` reads everything back as bytes, by the server's own
commands, so that the audit at a scenario's end looks for tokens where an attacker would (P5).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests.support.servers import postgres, valkey

_numbers = itertools.count()


@dataclass(frozen=True)
class Place:
    """One site's part of a store. `held` is None where the site knows better (memory, a file)."""

    url: str
    folder: Path | None = None
    held: Callable[[], bytes] | None = None


class Servers:
    """The servers of one test run, each started once, when it is first needed."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._started: dict[str, Any] = {}

    def stop(self) -> None:
        """End those that run."""
        self._stack.close()

    def place(self, store: str, folder: Path) -> Place:
        """A place of its own on this kind of store; `folder` is for what is kept in files."""
        if store == "memory":
            return Place("memory://")
        if store == "sqlite":
            return Place(f"sqlite:///{folder}/sessions.db", folder)
        if store == "valkey":
            server = self._server(store, valkey.single)
            prefix = f"site{next(_numbers)}:"
            return Place(f"{server.url}?prefix={prefix}", held=lambda: _in_valkey(server, prefix))
        server = self._server(store, postgres.running)
        name = server.new_database()
        return Place(server.url(name), held=lambda: _in_postgres(server.url(name)))

    def _server(self, store: str, start: Callable[[], Any]) -> Any:
        if store not in self._started:
            self._started[store] = self._stack.enter_context(start())
        return self._started[store]


def _in_valkey(server: valkey.Server, prefix: str) -> bytes:
    keys: list[bytes] = server.ask("KEYS", f"*{prefix}*")
    reading = {b"string": ("GET",), b"zset": ("ZRANGE", 0, -1), b"list": ("LRANGE", 0, -1)}
    reading |= {b"hash": ("HGETALL",), b"set": ("SMEMBERS",)}
    found: list[bytes] = [*keys]
    for key in keys:
        kind = server.ask("TYPE", key)
        kind = kind if isinstance(kind, bytes) else str(kind).encode()
        if kind == b"none":
            continue
        verb, *rest = reading[kind]
        told = server.ask(verb, key, *rest)
        found += told if isinstance(told, list) else [told or b""]
    return b"".join(found)


def _in_postgres(url: str) -> bytes:
    found: list[bytes] = []
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for schema, table in tables:
            rows = connection.execute(
                sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, table))
            ).fetchall()
            found += [each for row in rows for each in row if isinstance(each, bytes)]
    return b"".join(found)


__all__ = ["Place", "Servers"]
