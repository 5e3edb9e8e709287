"""C6: what a sign-in by way of an identity provider must remember is in a sealed cookie.

Not in a record: nothing is stored for a visitor who turns back at the provider's page (P24).
"""

from __future__ import annotations

from typing import Any

import pytest

from strongroom.core import login_state
from strongroom.core.errors import RefusedError, UnserialisableValue, UsageError
from strongroom.core.ops import Flow
from strongroom.core.visit import Context, Visit
from strongroom.stores.memory import MemoryStore
from tests.support.flows import MINUTE, World, a_key, a_ring

VALUES = {"nonce": "n-0S6_WzA2Mj", "verifier": "dBjftJeZ4CVP", "next": "/orders?page=2"}


def beginning(**values: Any) -> tuple[Any, list[str]]:
    states: list[str] = []

    def act(visit: Visit) -> Flow[None]:
        states.append(login_state.begin(visit, values or VALUES))
        yield from ()

    return act, states


def finishing(state: str) -> tuple[Any, list[dict[str, Any]]]:
    kept: list[dict[str, Any]] = []

    def act(visit: Visit) -> Flow[None]:
        kept.append(login_state.finish(visit, state))
        yield from ()

    return act, kept


def begun(world: World, **values: Any) -> tuple[str, str]:
    """The state of a sign-in that has begun, and the cookie that the browser then has."""
    act, states = beginning(**values)
    (line,) = world.get(None, act).edits.cookies
    return states[0], line.decode().partition(";")[0]


def come_back(
    world: World, state: str, *cookies: str, ctx: Context | None = None
) -> dict[str, Any] | None:
    """What the callback gets in a browser with these cookies, or None where it is refused."""
    act, kept = finishing(state)
    reply = world.get(None, act, headers={"cookie": "; ".join(cookies)}, ctx=ctx)
    if isinstance(reply.error, RefusedError):
        return None
    assert reply.error is None, reply.error
    return kept[0]


def test_it_comes_back_as_it_was_and_nothing_is_stored() -> None:
    """The values are there on the way back, and no record was made for them (C6, P24)."""
    world = World()
    state, cookie = begun(world)
    assert come_back(world, state, cookie) == VALUES
    assert isinstance(world.store, MemoryStore)
    assert world.store.snapshot().records == {}


def test_the_cookie_says_nothing_and_is_as_safe_as_the_session_s() -> None:
    """Sealed, HttpOnly, Secure, Lax, ten minutes; the response is not kept by caches (P18, P23)."""
    world = World()
    act, _states = beginning()
    edits = world.get(None, act).edits
    (line,) = edits.cookies
    text = line.decode()
    assert text.startswith("__Host-login-")
    for attribute in ("; Max-Age=600", "; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax"):
        assert attribute in text
    assert not any(value in text for value in VALUES.values())
    assert edits.no_store


def test_it_ends_after_ten_minutes_exactly() -> None:
    """A browser may keep a cookie for longer; the server judges (C6)."""
    world = World()
    state, cookie = begun(world)
    world.clock.advance(10 * MINUTE - 1)
    assert come_back(world, state, cookie) == VALUES
    world.clock.advance(1)
    assert come_back(world, state, cookie) is None


def test_another_state_or_another_browser_opens_nothing() -> None:
    """A callback that somebody else's sign-in began is refused (ASVS 10.1.2, 10.2.1)."""
    world = World()
    (mine, cookie), (theirs, foreign) = begun(world), begun(world)
    assert come_back(world, theirs, cookie) is None
    assert come_back(world, mine) is None
    # Somebody who renames a cookie does not make it fit another state: it is bound to its own.
    renamed = foreign.replace(theirs[:8], mine[:8])
    assert come_back(world, mine, renamed) is None
    assert come_back(world, mine, cookie, renamed) is None, "two of one name are none"
    assert come_back(world, mine, cookie, foreign) == VALUES


def test_two_tabs_do_not_overwrite_each_other() -> None:
    """Each sign-in under way has a cookie of its own."""
    world = World()
    one, two = begun(world, tab=1), begun(world, tab=2)
    assert come_back(world, one[0], one[1], two[1]) == {"tab": 1}
    assert come_back(world, two[0], one[1], two[1]) == {"tab": 2}


def test_it_goes_with_the_response_to_the_callback() -> None:
    """It was for once, so the browser is told to drop exactly that cookie."""
    world = World()
    state, cookie = begun(world)
    act, _kept = finishing(state)
    (line,) = world.get(None, act, headers={"cookie": cookie}).edits.cookies
    assert line.startswith(cookie.partition("=")[0].encode() + b"=;")
    assert b"Max-Age=0" in line


@pytest.mark.parametrize("state", ["", "x", "a" * 22, "é" * 22, "=" * 22, "\x00" * 22, "a" * 9999])
def test_a_state_that_was_never_ours_is_refused(state: str) -> None:
    """Whatever comes in the callback's URL is refused, and nothing else happens."""
    world = World()
    _mine, cookie = begun(world)
    assert come_back(world, state, cookie) is None


def test_every_changed_byte_is_refused() -> None:
    """A cookie that is not as it was sealed is none (ASVS 11.3.2)."""
    world = World()
    state, cookie = begun(world, x=1)
    name, _, value = cookie.partition("=")
    for position, character in enumerate(value):
        changed = "A" if character != "A" else "B"
        tampered = f"{name}={value[:position]}{changed}{value[position + 1 :]}"
        assert come_back(world, state, tampered) is None


def test_retiring_the_key_ends_what_is_under_way() -> None:
    """Nothing that was issued under a retired key is believed (A1)."""
    world = World()
    state, cookie = begun(world)
    retired = world.context(a_ring(a_key(1, retired_at=world.clock()), a_key(2)))
    assert come_back(world, state, cookie, ctx=retired) is None
    rotated = world.context(a_ring(a_key(1), a_key(2)))
    assert come_back(world, state, cookie, ctx=rotated) == VALUES


def test_what_cannot_be_kept_is_refused_at_once() -> None:
    """An error before the visitor is sent away, not one after they come back."""
    world = World()
    for value, expected in ((object(), UnserialisableValue), ("x" * 5000, UsageError)):
        act, _states = beginning(value=value)
        with pytest.raises(expected):
            world.get(None, act)
