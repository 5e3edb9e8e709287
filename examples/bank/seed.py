"""Two customers to try the bank with, made once."""

from __future__ import annotations

from datetime import timedelta

from .accounts import Account, Accounts
from .passwords import Passwords

CUSTOMERS = (
    ("alice", "Alice Marlowe", "a quiet river at dawn"),
    ("bob", "Bob Finch", "seven lamps on the quay"),
)
"""Username, name and password. They are known to everybody, so they are for localhost only."""

_BANK = ""
_STORY = (
    # Days ago, from, to, cents, note.
    (41, _BANK, "alice", 12_400_00, "Opening deposit"),
    (40, _BANK, "bob", 2_150_00, "Opening deposit"),
    (23, "alice", "bob", 385_00, "Half of the boat hire"),
    (16, "bob", "alice", 42_50, "Concert tickets"),
    (9, "alice", "bob", 1_250_00, "The blue armchair"),
    (2, "bob", "alice", 18_90, "Lunch on Thursday"),
)


async def seed(accounts: Accounts, passwords: Passwords, now: int) -> bool:
    """Make the customers, unless they are there -> whether they were made now."""
    made: dict[str, Account] = {}
    for username, name, password in CUSTOMERS:
        if await accounts.named(username) is not None:
            return False
        email = f"{username}@example.org"
        made[username] = await accounts.create(
            username, name, email, await passwords.hash(password)
        )
    for number, (days, sender, recipient, cents, note) in enumerate(_STORY):
        await accounts.move(
            made[sender].id if sender else None,
            made[recipient].id,
            cents,
            note,
            at=now - timedelta(days=days) // timedelta(milliseconds=1),
            reference=f"seed:{number}",
        )
    return True
