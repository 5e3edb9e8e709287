"""The state of a sign-in that goes by way of an identity provider (PROTOCOL C6, OpenID Connect).

Between the redirect to the provider and the way back, an application must remember a nonce, a PKCE
verifier and where the visitor wanted to go. That is kept in a sealed cookie of ten minutes, one for
each sign-in under way, and not in a session record: nothing is stored for a visitor who turns back
at the provider's page (P24), and two tabs do not overwrite each other's.

The `state` parameter is random and is what the cookie is bound to: a callback with another `state`,
or in another browser, opens nothing (ASVS 10.1.2, 10.2.1). The cookie goes with the response to the
callback. A copy of it is worth something only with the provider's code, which is single use.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from .cookies import CookieSpec, cookie_name, find_cookies
from .data import is_dict
from .errors import RefusedError
from .visit import Context, Visit

LIFETIME = 10 * 60 * 1000
"""Milliseconds that a visitor has at the provider: a password manager, a second factor, a phone."""
STATE_BYTES = 16
_STATE_LENGTH = 22
_SHOWN = 8
"""Characters of the state in the cookie's name. The state is no secret: it is in the URL."""


def begin(visit: Visit, values: Mapping[str, Any]) -> str:
    """Keep `values` until the visitor comes back -> the `state` to send along.

    Raises:
        UnserialisableValue: a value cannot be kept.
        UsageError: together they are larger than a cookie.
    """
    ctx = visit.ctx
    state = _text(ctx.entropy(STATE_BYTES))
    spec = _spec(ctx, state)
    key_id = ctx.keys.issuing
    plain = ctx.codec.encode({"until": ctx.now() + LIFETIME, "values": dict(values)})
    sealed = ctx.sealer.seal(ctx.keys.login_state[key_id], plain, _bound(ctx, state))
    cookie = spec.render(_text(bytes((key_id,)) + sealed), LIFETIME // 1000)
    visit.state_cookies[spec.name] = cookie
    return state


def finish(visit: Visit, state: str) -> dict[str, Any]:
    """What was kept under this `state`; its cookie goes with this response.

    Raises:
        RefusedError: nothing is kept for it in this browser, or not any more.
    """
    kept = _opened(visit, state) if len(state) == _STATE_LENGTH and state.isascii() else None
    if kept is None:
        raise RefusedError(
            "This sign-in was not begun in this browser, or more than ten minutes ago.",
            why="Going on could sign the visitor in to somebody else's account.",
            hint="Begin the sign-in again. If it always fails: the provider must come back by GET, "
            "because a browser keeps the cookie at home on a POST from another site.",
        )
    spec = _spec(visit.ctx, state)
    visit.state_cookies[spec.name] = spec.render_deletion()
    return kept


def _opened(visit: Visit, state: str) -> dict[str, Any] | None:
    ctx = visit.ctx
    if _as_bytes(state) is None:
        return None
    found = set(find_cookies(visit.facts.headers, _spec(ctx, state).name.encode("ascii")))
    raw = _as_bytes(found.pop().decode("latin-1")) if len(found) == 1 else None
    key = ctx.keys.login_state.get(raw[0]) if raw else None
    if raw is None or key is None:
        return None
    plain = ctx.sealer.open(key, raw[1:], _bound(ctx, state))
    kept = None if plain is None else ctx.codec.decode(plain)
    if not is_dict(kept) or ctx.now() >= kept["until"]:
        return None
    values: dict[str, Any] = kept["values"]
    return values


def _spec(ctx: Context, state: str) -> CookieSpec:
    """The cookie of one sign-in. Lax, so that it comes along on the way back from the provider."""
    secure = ctx.cookie.secure
    short = ctx.keys.store_identity[:4].hex()
    name = cookie_name(f"login-{state[:_SHOWN]}", short, secure=secure)
    return CookieSpec(name=name, secure=secure, same_site="Lax")


def _bound(ctx: Context, state: str) -> bytes:
    return ctx.keys.binds["login-state"] + state.encode("ascii")


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _as_bytes(text: str) -> bytes | None:
    """The inverse of `_text`; None for what it did not make."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None
    return raw if raw and _text(raw) == text else None
