"""The persistent login in a request: which one the browser presents, and the session it comes with.

A persistent login's token and the session's token reach the browser in one response. The session is
derived from the login's token, so that everybody who races with one token gets one session (D6).
The salt is the login record's data version: random, and replaced in one atomic step where a derived
session is over already, so that no ended id ever comes back (P6).

This module asks no store; `flows/remembering.py` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .cookies import SAME_NAME_LIMIT, find_cookies
from .sealing import UnlockedKeys
from .tokens import SECRET_BYTES, Purpose, Token, TokenKeys, TokenRefusal, mint, parse, successor


@dataclass(frozen=True, slots=True)
class Presented:
    """What came under the persistent login's cookie name.

    `tokens` has the newest of each login; `unknown_key` says that another process may know more.
    """

    some: bool
    tokens: tuple[Token, ...] = ()
    unknown_key: bool = False


class LoginCookie:
    """What this response does to the persistent login's cookie.

    `issue` is handed out if the login still agrees when the response starts; `forget` deletes the
    cookie, `dead` does so on a navigation only.
    """

    issue: Token | None = None
    lasts_until = 0
    forget = False
    dead = False
    presented: Presented | None = None


NONE = Presented(some=False)


def find_logins(headers: Sequence[tuple[bytes, bytes]], name: bytes, keys: TokenKeys) -> Presented:
    """The persistent logins that these headers present. Any bytes are tolerated (P2)."""
    values = find_cookies(headers, name)
    if not values:
        return NONE
    newest: dict[bytes, Token] = {}
    unknown_key = len(values) >= SAME_NAME_LIMIT
    for value in dict.fromkeys(values):
        token = parse(keys, value, Purpose.PERSISTENT)
        if isinstance(token, TokenRefusal):
            unknown_key = unknown_key or token is TokenRefusal.UNKNOWN_KEY
            continue
        known = newest.get(token.session_id)
        if known is None or token.generation > known.generation:
            newest[token.session_id] = token
    return Presented(True, tuple(newest.values()), unknown_key)


def session_with(keys: UnlockedKeys, login: Token, salt: bytes, subject: str) -> Token:
    """The token of the session that comes with this token of a persistent login.

    The session's id, root and secret are disjoint parts of one keyed hash (P1).
    """
    derived = keys.mac(keys.remembered[login.key_id], login.text.encode("ascii") + salt)
    return mint(
        keys.tokens,
        key_id=login.key_id,
        session_id=keys.session_id(subject, derived[:16]),
        root=derived[16 : 16 + SECRET_BYTES],
        secret=derived[32 : 32 + SECRET_BYTES],
    )


def following(keys: TokenKeys, token: Token, digest: bytes) -> Token | None:
    """The successor of `token` that has this digest, or None where there is none.

    Under which key it was made is not in the record once it is current, so each one is tried.
    """
    for key_id in keys.successor:
        made = successor(keys, token, key_id)
        if made is not None and made.digest == digest:
            return made
    return None
