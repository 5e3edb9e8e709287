"""Customers and their money, in one SQLite file. Knows nothing of sessions or passwords.

A balance is the sum of what came and went, so the two cannot disagree. Every call is one
transaction in a thread of its own; money is whole cents.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (
    id            TEXT PRIMARY KEY,
    username      TEXT NOT NULL UNIQUE,
    name          TEXT NOT NULL,
    email         TEXT NOT NULL,
    password_hash TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS transfers (
    id        INTEGER PRIMARY KEY,
    reference TEXT NOT NULL UNIQUE,
    at        INTEGER NOT NULL,
    sender    TEXT REFERENCES accounts (id),
    recipient TEXT NOT NULL REFERENCES accounts (id),
    cents     INTEGER NOT NULL CHECK (cents > 0),
    note      TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS transfers_out ON transfers (sender);
CREATE INDEX IF NOT EXISTS transfers_in ON transfers (recipient);
"""

_BALANCE = """
SELECT coalesce(sum(CASE WHEN recipient = :id THEN cents ELSE -cents END), 0)
FROM transfers WHERE sender = :id OR recipient = :id
"""

_ENTRIES = """
SELECT transfers.*, accounts.name AS other FROM transfers
LEFT JOIN accounts ON accounts.id = iif(recipient = :id, sender, recipient)
WHERE sender = :id OR recipient = :id ORDER BY transfers.id DESC LIMIT :limit
"""

_FORGET = (
    "DELETE FROM transfers WHERE sender = (SELECT id FROM accounts WHERE username = ?)",
    "DELETE FROM transfers WHERE recipient = (SELECT id FROM accounts WHERE username = ?)",
    "DELETE FROM accounts WHERE username = ?",
)


class UsernameTaken(Exception):
    """Somebody else has this username."""


class NotEnoughMoney(Exception):
    """The balance is smaller than what was to be moved; nothing was moved."""


@dataclass(frozen=True, slots=True)
class Account:
    """A customer. `id` never changes and says nothing: it is the sessions' subject."""

    id: str
    username: str
    name: str
    email: str
    password_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an account's book: cents are positive for money that came."""

    at: datetime
    other: str
    note: str
    cents: int


class Accounts:
    """The book. Safe to call from any number of requests at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch(mode=0o600)
        self.prepare("PRAGMA journal_mode = WAL;" + _SCHEMA)

    async def by_id(self, account_id: str) -> Account | None:
        """The account that a session's subject names."""
        query = "SELECT * FROM accounts WHERE id = ?"
        return await self.do(lambda db: _account(db.execute(query, (account_id,))))

    async def named(self, username: str) -> Account | None:
        """The account with this username."""
        query = "SELECT * FROM accounts WHERE username = ?"
        return await self.do(lambda db: _account(db.execute(query, (username,))))

    async def create(self, username: str, name: str, email: str, password_hash: str) -> Account:
        """A new account without money.

        Raises:
            UsernameTaken: nothing was created.
        """
        account = Account(secrets.token_hex(8), username, name, email, password_hash)
        row = (account.id, username, name, email, password_hash)
        try:
            await self.do(lambda db: db.execute("INSERT INTO accounts VALUES (?,?,?,?,?)", row))
        except sqlite3.IntegrityError:
            raise UsernameTaken from None
        return account

    async def set_email(self, account_id: str, email: str) -> None:
        """Where the bank writes to."""
        change = "UPDATE accounts SET email = ? WHERE id = ?"
        await self.do(lambda db: db.execute(change, (email, account_id)))

    async def set_password(self, account_id: str, password_hash: str) -> None:
        """What the next sign-in is checked against."""
        change = "UPDATE accounts SET password_hash = ? WHERE id = ?"
        await self.do(lambda db: db.execute(change, (password_hash, account_id)))

    async def forget(self, usernames: list[str]) -> None:
        """Remove accounts and every transfer that they took part in."""
        given = [(username,) for username in usernames]

        def work(db: sqlite3.Connection) -> None:
            for statement in _FORGET:
                db.executemany(statement, given)

        await self.do(work)

    async def balance(self, account_id: str) -> int:
        """What the account holds, in cents."""
        return await self.do(lambda db: _balance(db, account_id))

    async def entries(self, account_id: str, limit: int = 50) -> list[Entry]:
        """The account's book, newest first."""
        given = {"id": account_id, "limit": limit}
        return await self.do(
            lambda db: [_entry(row, account_id) for row in db.execute(_ENTRIES, given)]
        )

    async def move(
        self, sender: str | None, recipient: str, cents: int, note: str, *, at: int, reference: str
    ) -> None:
        """Move money at that moment (ms UTC); without a sender, the bank itself pays.

        A reference moves money once: a form that is sent twice does nothing the second time.

        Raises:
            NotEnoughMoney: nothing was moved.
        """
        row = (reference, at, sender, recipient, cents, note)

        def work(db: sqlite3.Connection) -> None:
            known = db.execute("SELECT 1 FROM transfers WHERE reference = ?", (reference,))
            if known.fetchone() is not None:
                return
            if sender is not None and _balance(db, sender) < cents:
                raise NotEnoughMoney
            db.execute(
                "INSERT INTO transfers (reference, at, sender, recipient, cents, note) "
                "VALUES (?,?,?,?,?,?)",
                row,
            )

        await self.do(work)

    def prepare(self, schema: str) -> None:
        """Make tables of somebody else's, such as the second factors, in the same file."""
        with closing(sqlite3.connect(self.path)) as db:
            db.executescript(schema)

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """One transaction, in a thread of its own."""
        return await asyncio.to_thread(self._in_transaction, work)

    def _in_transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("BEGIN IMMEDIATE")
            result = work(db)  # What it raises closes the connection, which undoes everything.
            db.execute("COMMIT")
            return result


def _account(found: sqlite3.Cursor) -> Account | None:
    row = found.fetchone()
    return None if row is None else Account(**dict(row))


def _balance(db: sqlite3.Connection, account_id: str) -> int:
    return int(db.execute(_BALANCE, {"id": account_id}).fetchone()[0])


def _entry(row: sqlite3.Row, account_id: str) -> Entry:
    return Entry(
        at=datetime.fromtimestamp(row["at"] / 1000, UTC),
        other=row["other"] or "Tern & Holloway",
        note=row["note"],
        cents=row["cents"] if row["recipient"] == account_id else -row["cents"],
    )
