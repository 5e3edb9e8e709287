"""Second factors, beside the accounts: an app with codes, passkeys, recovery codes.

Knows nothing of sessions. A code works once (ASVS 6.5.1): the step of the newest one is kept. Wrong
codes are counted before anybody is told, in the transaction that checks, so that a thousand guesses
at one moment are five (ASVS 6.6.3). Recovery codes are random enough for a plain digest.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field

import pyotp

from .accounts import Accounts

_SCHEMA = """
CREATE TABLE IF NOT EXISTS apps (
    account TEXT PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    secret  TEXT NOT NULL,
    used    INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS passkeys (
    id         TEXT PRIMARY KEY,
    account    TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    public_key BLOB NOT NULL,
    count      INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS recovery (
    digest  BLOB PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE
) STRICT;
CREATE TABLE IF NOT EXISTS tries (
    account TEXT PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    wrong   INTEGER NOT NULL,
    since   INTEGER NOT NULL
) STRICT;
"""

STEP = 30
"""Seconds for which an app shows one code (RFC 6238)."""
_DRIFT = 1
"""Steps that a phone's clock may be off, either way."""
MAX_WRONG = 5
PAUSE = 5 * 60 * 1000
"""After five wrong codes, none is looked at for so long (ms), counted from the first of them."""
CODES = 8
_Matching = Callable[[sqlite3.Connection], bool]
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without what looks alike. Sixteen of them are 79 bits."""


class WrongCode(Exception):
    """The code is not one of the account's, or was used."""


class TooManyTries(Exception):
    """Too many codes were wrong; this one was not looked at."""


@dataclass(frozen=True, slots=True)
class Passkey:
    """A key whose private half is in somebody's device or password manager."""

    id: str
    account: str
    name: str
    public_key: bytes = field(repr=False)
    count: int


@dataclass(frozen=True, slots=True)
class Owned:
    """What an account has beside its password."""

    app: bool
    passkeys: tuple[Passkey, ...]
    recovery: int

    def __bool__(self) -> bool:
        """Whether signing in needs a second step."""
        return self.app or bool(self.passkeys)


class Factors:
    """In the file of the accounts. Safe to call from any number of requests at once."""

    def __init__(self, accounts: Accounts) -> None:
        self._do = accounts.do
        accounts.prepare(_SCHEMA)

    async def of(self, account: str) -> Owned:
        """What the account has."""
        return await self._do(lambda db: _owned(db, account))

    async def keep_app(self, account: str, secret: str, code: str, now: int) -> None:
        """From now on codes of this secret count, if the app shows the right one.

        Raises:
            WrongCode: nothing was kept.
        """
        step = _step_of(secret, code, now, used=-1)
        if step is None:
            raise WrongCode
        row = (account, secret, step)
        await self._do(lambda db: db.execute("INSERT OR REPLACE INTO apps VALUES (?,?,?)", row))

    async def check_code(self, account: str, code: str, now: int) -> None:
        """Use a code of the app up.

        Raises:
            WrongCode, TooManyTries: nobody proved anything.
        """

        def matches(db: sqlite3.Connection) -> bool:
            app = db.execute("SELECT secret, used FROM apps WHERE account = ?", (account,))
            row = app.fetchone()
            step = None if row is None else _step_of(row["secret"], code, now, row["used"])
            if step is not None:
                db.execute("UPDATE apps SET used = ? WHERE account = ?", (step, account))
            return step is not None

        await self._try(account, now, matches)

    async def check_recovery_code(self, account: str, code: str, now: int) -> None:
        """Use a recovery code up.

        Raises:
            WrongCode, TooManyTries: nobody proved anything.
        """
        given = (account, _digest(code))

        def matches(db: sqlite3.Connection) -> bool:
            used = db.execute("DELETE FROM recovery WHERE account = ? AND digest = ?", given)
            return used.rowcount == 1

        await self._try(account, now, matches)

    async def new_recovery_codes(self, account: str) -> list[str]:
        """Eight new ones; those from before are worth nothing any more."""
        codes = ["".join(secrets.choice(_ALPHABET) for _ in range(16)) for _ in range(CODES)]

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM recovery WHERE account = ?", (account,))
            rows = [(_digest(code), account) for code in codes]
            db.executemany("INSERT INTO recovery VALUES (?,?)", rows)

        await self._do(work)
        return ["-".join(code[place : place + 4] for place in range(0, 16, 4)) for code in codes]

    async def add_passkey(self, passkey: Passkey) -> None:
        """One more key of an account."""
        row = (passkey.id, passkey.account, passkey.name, passkey.public_key, passkey.count)
        await self._do(lambda db: db.execute("INSERT INTO passkeys VALUES (?,?,?,?,?)", row))

    async def note_use(self, passkey: Passkey, count: int) -> None:
        """The count that the key told; a copy of it would tell a lower one some day."""
        given = (count, passkey.id)
        change = "UPDATE passkeys SET count = ? WHERE id = ?"
        await self._do(lambda db: db.execute(change, given))

    async def remove(self, account: str, which: str) -> Owned:
        """Take the app (`app`) or one passkey away -> what is left.

        Recovery codes go with the last of them: they stand in for a second factor.
        """

        def work(db: sqlite3.Connection) -> Owned:
            if which == "app":
                db.execute("DELETE FROM apps WHERE account = ?", (account,))
            else:
                db.execute("DELETE FROM passkeys WHERE account = ? AND id = ?", (account, which))
            if not _owned(db, account):
                db.execute("DELETE FROM recovery WHERE account = ?", (account,))
            return _owned(db, account)

        return await self._do(work)

    async def _try(self, account: str, now: int, matches: _Matching) -> None:
        def work(db: sqlite3.Connection) -> bool | None:
            tries = db.execute("SELECT wrong, since FROM tries WHERE account = ?", (account,))
            row = tries.fetchone()
            wrong, since = (0, now) if row is None or now - row["since"] >= PAUSE else row
            if wrong >= MAX_WRONG:
                return None
            if matches(db):
                db.execute("DELETE FROM tries WHERE account = ?", (account,))
                return True
            counted = (account, wrong + 1, since)
            db.execute("INSERT OR REPLACE INTO tries VALUES (?,?,?)", counted)
            return False

        right = await self._do(work)
        if right is None:
            raise TooManyTries
        if not right:
            raise WrongCode


def new_secret() -> str:
    """The secret of a new app: 160 bits, as RFC 4226 recommends."""
    return pyotp.random_base32()


def app_address(secret: str, username: str) -> str:
    """The `otpauth:` address that an app on the same device opens."""
    return pyotp.TOTP(secret).provisioning_uri(name=username, issuer_name="Tern & Holloway")


def _step_of(secret: str, code: str, now: int, used: int) -> int | None:
    """The step whose code this is, if it is near and newer than the one used last."""
    given = "".join(code.split())
    here = now // 1000 // STEP
    app = pyotp.TOTP(secret)
    for step in range(here - _DRIFT, here + _DRIFT + 1):
        if hmac.compare_digest(app.generate_otp(step).encode(), given.encode()):
            return step if step > used else None
    return None


def _digest(code: str) -> bytes:
    plain = "".join(each for each in code.lower() if each.isalnum())
    return hashlib.sha256(b"recovery" + plain.encode()).digest()


def _owned(db: sqlite3.Connection, account: str) -> Owned:
    given = (account,)
    passkeys = db.execute("SELECT * FROM passkeys WHERE account = ? ORDER BY rowid", given)
    return Owned(
        app=db.execute("SELECT 1 FROM apps WHERE account = ?", given).fetchone() is not None,
        passkeys=tuple(Passkey(**dict(row)) for row in passkeys),
        recovery=db.execute("SELECT count(*) FROM recovery WHERE account = ?", given).fetchone()[0],
    )
