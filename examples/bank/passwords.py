"""Passwords: argon2id, in a thread, and as slow for an unknown name as for a known one."""

from __future__ import annotations

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from .accounts import Account

MIN_LENGTH = 15
"""NIST SP 800-63B-4, 3.1.1.2: where the password is the only factor."""
MAX_LENGTH = 200

_AT_ONCE = 4
"""Each hash takes 64 MiB, so many of them at once would be a way to bring the bank down."""


class WrongPassword(Exception):
    """The password is not the account's, or there is no such account; nobody is told which."""


class Passwords:
    """Hashes and checks. The default cost is RFC 9106's second choice, as argon2-cffi has it."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._nobody = self._hasher.hash("nobody has this password")
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def hash(self, password: str) -> str:
        """The hash to keep, made in a thread."""
        async with self._turn:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def check(self, account: Account | None, password: str) -> Account:
        """The account, whose password this is.

        Raises:
            WrongPassword: it is not, or there is no account. Both take the same time.
        """
        expected = self._nobody if account is None else account.password_hash
        try:
            async with self._turn:
                await asyncio.to_thread(self._hasher.verify, expected, password[:MAX_LENGTH])
        except VerifyMismatchError:
            raise WrongPassword from None
        if account is None:
            raise WrongPassword
        return account
