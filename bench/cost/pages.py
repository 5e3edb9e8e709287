"""What every application of the bench does, whatever its framework: four pages and one session.

GET  /plain   does not look at the session
GET  /read    reads who is signed in, and the cart
POST /write   changes the cart; never to what it was
POST /login   signs in a user who was not there before
"""

from __future__ import annotations

import itertools
from typing import Any

OK = b"ok"

_numbers = itertools.count(1)


def a_user() -> str:
    """Another user each time, so that nobody collects sessions."""
    return f"user-{next(_numbers):09}"


def a_session(user: str) -> dict[str, Any]:
    """What a session usually holds: 250 bytes or so as JSON."""
    return {
        "user": user,
        "auth_hash": "3f" * 24,
        "csrf": "9a" * 16,
        "locale": "de-CH",
        "at": 1_767_225_600,
        "roles": ["customer"],
        "cart": [["sku-1001", 1]],
    }


def look(session: Any) -> None:
    """The page /read."""
    if not session["user"] or not session["cart"]:
        raise RuntimeError("the session is not the one that was signed in")


def change(session: Any) -> None:
    """The page /write: a new value each time, because stores skip what is equal."""
    session["cart"] = [["sku-1001", next(_numbers)]]
