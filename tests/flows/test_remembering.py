"""Persistent logins (PROTOCOL D6): per device, rotating, revocable, never stronger than they are.

The browser's jar has two cookies of ours here: the session's, which is gone when it is closed, and
the persistent login's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import pytest

from strongroom import SessionPolicy
from strongroom.core import flows
from strongroom.core.cookies import CookieSpec
from strongroom.core.errors import UsageError
from strongroom.core.events import RememberedLoginUsed, TokenReuse
from strongroom.core.ops import Flow
from strongroom.core.record import EndReason, Kind
from strongroom.core.stepup import Challenge, Requirement, ask
from strongroom.core.tokens import Purpose
from strongroom.testing import Fates, interleavings
from tests.support.flows import (
    CROSS_SITE,
    ENDERS,
    GRACE,
    HOUR,
    MINUTE,
    NAVIGATION,
    SETTLE,
    Action,
    Log,
    Prepared,
    Reply,
    World,
    Worlds,
    a_key,
    a_ring,
    elevating,
    nothing,
    replies,
    scenario,
    signing_in,
    signing_out,
    writing,
)

DAY = 24 * HOUR
LOGIN = CookieSpec("__Host-remember")


@dataclass
class Jar:
    """What the browser has. `closed` is the browser after it was closed and opened again."""

    session: str | None = None
    login: str | None = None

    def closed(self) -> Jar:
        return Jar(None, self.login)

    def copy(self) -> Jar:
        return Jar(self.session, self.login)

    def take(self, reply: Reply) -> Jar:
        if reply.cookie is not None:
            self.session = reply.cookie or None
        if reply.login is not None:
            self.login = reply.login or None
        return self

    @property
    def header(self) -> dict[str, str]:
        parts = [("__Host-id", self.session), ("__Host-remember", self.login)]
        text = "; ".join(f"{name}={value}" for name, value in parts if value)
        return {"cookie": text} if text else {}


def asked(world: World, jar: Jar, action: Action = nothing, **said: Any) -> Flow[Reply]:
    headers = {**NAVIGATION, **jar.header, **said.pop("headers", {})}
    return world.request(None, action, headers=headers, **said)


def get(world: World, jar: Jar, action: Action = nothing, **said: Any) -> Reply:
    """A request whose cookies are kept in the jar."""
    reply = world.run(asked(world, jar, action, **said))
    jar.take(reply)
    return reply


def remembered(world: World) -> Jar:
    """Somebody who ticked the box."""
    jar = Jar()
    reply = get(world, jar, signing_in("alice", remember=True), method="POST")
    assert jar.session and jar.login, reply.error
    return jar


def stage(world: World) -> None:
    jar = remembered(world)
    assert jar.login is not None
    world.jars["login"] = jar.login
    world.jars["alice"] = jar.session or ""


@cache
def staged() -> Worlds:
    return Prepared(stage)


def begun() -> tuple[World, Jar]:
    world = staged()()
    return world, Jar(world.jars["alice"], world.jars["login"])


def settled(world: World, jar: Jar) -> None:
    """Use the session until the login's token counts as safe in the jar."""
    for _ in range(3):
        world.clock.advance(SETTLE)
        assert get(world, jar).subject == "alice"
    world.clock.advance(GRACE)


def test_the_box_was_not_ticked() -> None:
    """Nobody is remembered who did not ask for it."""
    world = World()
    jar = Jar()
    get(world, jar, signing_in("alice"), method="POST")
    assert jar.login is None
    assert get(world, jar.closed()).subject is None


def test_its_cookie_is_as_safe_as_the_session_s_and_lasts_as_long_as_the_policy_says() -> None:
    """`__Host-`, HttpOnly, Secure, SameSite, an absolute lifetime (P18, ASVS 10.4.8)."""
    world = World()
    reply = get(world, Jar(), signing_in("alice", remember=True), method="POST")
    (line,) = [each.decode() for each in reply.edits.cookies if b"remember" in each]
    for attribute in ("Max-Age=2592000", "Path=/", "Secure", "HttpOnly", "SameSite=Lax"):
        assert f"; {attribute}" in line
    assert reply.edits.no_store


def test_a_closed_browser_comes_back_with_less_assurance() -> None:
    """The session is of its own kind, and what is sensitive asks for a fresh sign-in (NIST-B2)."""
    world, jar = begun()
    jar = jar.closed()
    world.clock.advance(3 * DAY)
    reply = get(world, jar)
    assert reply.subject == "alice"
    assert reply.here.kind is Kind.REMEMBERED
    assert reply.saw(RememberedLoginUsed)
    answer = ask(Requirement(max_age=HOUR), reply.here.factors, world.clock(), remembered=True)
    assert isinstance(answer, Challenge) and answer.reason == "remembered"
    elevated = get(world, jar, elevating("pwd"), method="POST")
    assert elevated.here.kind is Kind.AUTHENTICATED


def test_signing_out_by_a_token_that_was_just_replaced_forgets_the_browser() -> None:
    """The other tab elevated at that moment: nothing comes back by itself (P14, D6)."""
    world, jar = begun()
    session = Jar(jar.session)
    assert get(world, Jar(jar.session), elevating(), method="POST").cookie
    get(world, session, signing_out, method="POST")
    assert world.live_of("alice") == []
    assert get(world, jar.closed()).subject is None


def test_its_token_is_replaced_whenever_it_opens_a_session_and_only_then() -> None:
    """Rotating (ASVS 10.4.5); a request in a live session leaves it alone (P13)."""
    world, jar = begun()
    first = jar.login
    world.clock.advance(MINUTE)
    assert get(world, jar).login is None
    jar = jar.closed()
    world.clock.advance(HOUR)
    get(world, jar)
    assert jar.login not in (None, first)


def test_a_session_that_idled_out_comes_back_remembered() -> None:
    """That is what it is for: the clocks of a session are short, the login's is long."""
    world, jar = begun()
    world.clock.advance(DAY)
    reply = get(world, jar)
    assert (reply.subject, reply.here.kind) == ("alice", Kind.REMEMBERED)


def test_it_ends_at_its_own_deadline() -> None:
    """Thirty days from the sign-in, however often it is used."""
    world, jar = begun()
    for _ in range(29):
        world.clock.advance(DAY)
        assert get(world, jar).subject == "alice"
    world.clock.advance(DAY)
    assert get(world, jar).subject is None


def test_six_restored_tabs_share_one_session() -> None:
    """All begin before any has been answered (D6, P11)."""
    world, jar = begun()
    world.clock.advance(DAY)
    tabs = [get(world, jar.closed()) for _ in range(6)]
    assert {each.subject for each in tabs} == {"alice"}
    assert len({each.here.session_id for each in tabs}) == 1
    assert len({(each.cookie, each.login) for each in tabs}) == 1
    assert len(world.live_of("alice")) == 1


def test_a_lost_response_is_given_again() -> None:
    """The same session and the same token, minutes and days later."""
    world, jar = begun()
    world.clock.advance(DAY)
    lost = get(world, jar.closed())
    for pause in (1, GRACE, HOUR, 3 * DAY):
        world.clock.advance(pause)
        again = get(world, jar.closed())
        assert again.subject == "alice"
        assert again.login == lost.login
        assert not again.saw(TokenReuse)


def test_a_copy_that_comes_back_late_ends_the_family() -> None:
    """The login and the sessions that came from it, with the type of reuse (P12, ASVS 10.4.5)."""
    world, jar = begun()
    stolen = jar.closed()
    jar = jar.closed()
    world.clock.advance(DAY)
    get(world, jar)
    settled(world, jar)
    reply = get(world, stolen)
    (event,) = [each for each in reply.events if isinstance(each, TokenReuse)]
    assert (event.how, event.ended) == ("reuse_recent", True)
    assert reply.subject is None
    assert world.over(jar.session or "") is EndReason.REUSE
    assert get(world, jar).subject is None
    assert world.live_of("alice") == []


def test_a_session_token_that_comes_back_late_ends_the_login_too() -> None:
    """What could re-create the session ends with it (D3)."""
    world, jar = begun()
    stolen = Jar(jar.session)
    world.jars["alice"] = jar.session or ""
    world.confirmed(jar.session or "")
    world.clock.advance(15 * MINUTE)
    get(world, jar)
    settled(world, jar)
    assert get(world, stolen).saw(TokenReuse)
    assert get(world, jar).subject is None
    assert get(world, jar.closed()).subject is None


def _from_outside(name: str, world: World, jar: Jar) -> Any:
    return world.run(ENDERS[name](world, jar.session or ""))


ENDS: dict[str, Callable[[World, Jar], Any]] = {
    "signing out": lambda world, jar: get(world, jar.copy(), signing_out, method="POST"),
    **{name: partial(_from_outside, name) for name in ENDERS if name != "sign_out"},
    "the password changed": lambda world, jar: world.run(
        flows.reset_credentials(world.ctx, "alice", None)
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_ends_a_session_for_good_ends_its_login(name: str) -> None:
    """The browser that is opened again is nobody's (P6, P26)."""
    world, jar = begun()
    ENDS[name](world, jar)
    for later in (0, MINUTE, DAY):
        world.clock.advance(later)
        for held in (jar, jar.closed()):
            assert get(world, held.copy()).subject is None, name


def test_a_retired_key_ends_it() -> None:
    """What was issued under a retired key is worth nothing, in one step (A1)."""
    world, jar = begun()
    retired = world.context(a_ring(a_key(1, retired_at=world.clock()), a_key(2)))
    assert get(world, jar.closed(), ctx=retired).subject is None


def test_signing_in_as_somebody_else_ends_the_login_of_before() -> None:
    """One browser, one login: alice does not come back after bob signed in on her computer."""
    world, jar = begun()
    jar = jar.closed()
    get(world, jar, signing_in("bob"), method="POST")
    assert jar.login is None
    assert get(world, jar.closed()).subject is None


def test_another_device_s_login_goes_on() -> None:
    """Each device has its own, listed and revocable by itself (ASVS 7.5.2)."""
    world, jar = begun()
    other = remembered(world)
    logins = world.run(flows.logins_of(world.ctx, "alice"))
    assert len(logins) == 2
    get(world, jar, signing_out, method="POST")
    assert get(world, jar.closed()).subject is None
    assert get(world, other.closed()).subject == "alice"
    (left,) = world.run(flows.logins_of(world.ctx, "alice"))
    world.run(flows.end_session(world.ctx, "alice", left.login_id, reason=EndReason.REVOKED))
    assert get(world, other).subject is None
    assert get(world, other.closed()).subject is None


@pytest.mark.parametrize(
    "headers",
    [
        {**CROSS_SITE, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
        {"sec-purpose": "prefetch"},
    ],
    ids=["another site's image", "a prefetch"],
)
def test_requests_whose_cookies_may_be_lost_do_not_use_it(headers: dict[str, str]) -> None:
    """Nor does a WebSocket: a renewal there would make the jar's token a retired one (D1)."""
    world, jar = begun()
    world.clock.advance(DAY)
    reply = get(world, jar.closed(), headers=headers)
    assert (reply.subject, reply.login, reply.cookie) == (None, None, None)
    socket = world.run(asked(world, jar.closed(), websocket=True))
    assert socket.subject is None
    assert get(world, jar.closed()).subject == "alice"


def test_the_two_kinds_of_token_do_not_fit_each_other_s_cookie() -> None:
    """A token of one purpose is noise to the other (A2)."""
    world, jar = begun()
    assert world.token(jar.session or "").purpose is Purpose.SESSION
    assert get(world, Jar(jar.login, None)).subject is None
    assert get(world, Jar(None, jar.session)).subject is None
    assert get(world, jar).subject == "alice"


def test_every_changed_character_is_refused_and_ends_nothing() -> None:
    """Forged, cut, doubled: nobody is let in, and the real one goes on (P2)."""
    world, jar = begun()
    text = jar.login or ""
    for position in range(len(text)):
        changed = "A" if text[position] != "A" else "B"
        forged = text[:position] + changed + text[position + 1 :]
        assert get(world, Jar(None, forged)).subject is None
    for odd in ("", "x", text[:-1], text + "A", text * 2):
        assert get(world, Jar(None, odd)).subject is None
    assert get(world, jar.closed()).subject == "alice"


def test_two_logins_in_one_request_are_nobody_s() -> None:
    """Somebody planted one: judged together, never by position (P21)."""
    world, jar = begun()
    mallory = remembered(world)
    both = {"cookie": f"__Host-remember={mallory.login}; __Host-remember={jar.login}"}
    reply = world.run(world.request(None, nothing, headers={**NAVIGATION, **both}))
    assert reply.subject is None


def test_a_policy_without_persistent_logins_says_so() -> None:
    """The NIST profiles have none by default (NIST-B2): session secrets are not persistent."""
    world = World(policy=SessionPolicy.nist_aal2())
    with pytest.raises(UsageError, match="remember_for"):
        world.get(None, signing_in("alice", remember=True), method="POST")
    with pytest.raises(UsageError, match="owes a factor"):
        World().get(None, signing_in("alice", pending=True, remember=True), method="POST")


# Every order in which a browser comes back while somebody ends it.


def check_nothing_left(world: World, fates: Fates, log: Log) -> None:
    """Once the end was acknowledged, nothing that anybody holds opens a session (P6)."""
    del log
    reply = replies(fates).get("end")
    if not fates["end"].returned or (reply is not None and reply.error is not None):
        return
    held = [Jar(None, world.jars["login"])]
    for each in replies(fates).values():
        held.append(Jar(each.cookie or None, each.login or None))
    for jar in held:
        assert get(world, jar.copy()).subject is None
    assert world.live_of("alice") == []


@pytest.mark.parametrize("name", ["end_subject", "account_disabled", "end_everybody"])
def test_coming_back_and_being_ended_at_the_same_moment(name: str) -> None:
    """In every order the end is the end: no session is opened by a login that is over (P6, P15)."""

    def staged_later() -> World:
        world = staged()()
        world.clock.advance(DAY)
        return world

    meeting = {
        "back": lambda world: asked(world, Jar(None, world.jars["login"])),
        "end": lambda world: ENDERS[name](world, world.jars["alice"]),
    }
    assert interleavings(scenario(staged_later, meeting, check_nothing_left), cap=5_000) > 5


def check_shared(world: World, fates: Fates, log: Log) -> None:
    """Both tabs are signed in, in one session, and hold the same pair (P11)."""
    del log
    one, two = replies(fates)["one"], replies(fates)["two"]
    assert one.subject == two.subject == "alice"
    assert one.here.session_id == two.here.session_id
    jar = Jar(one.cookie or two.cookie, one.login or two.login)
    assert get(world, jar).subject == "alice"
    assert not one.saw(TokenReuse) and not two.saw(TokenReuse)


def test_two_tabs_come_back_at_the_same_moment() -> None:
    """In every order they share one session and one successor (D6, P11)."""

    def staged_later() -> World:
        world = staged()()
        world.clock.advance(DAY)
        return world

    meeting = {
        "one": lambda world: asked(world, Jar(None, world.jars["login"])),
        "two": lambda world: asked(world, Jar(None, world.jars["login"])),
    }
    make = scenario(staged_later, meeting, check_shared)
    assert interleavings(make, prune=True, cap=40_000) > 5


def test_a_browser_that_crashes_between_the_two_comes_back() -> None:
    """Yesterday's jar on the disk: the login's token from before its last use still opens (P11)."""
    world, jar = begun()
    world.clock.advance(DAY)
    before = jar.closed()
    after = get(world, jar.closed())
    world.clock.advance(20_000)
    restored = get(world, before.copy())
    assert restored.subject == "alice"
    assert restored.login == after.login
    assert not restored.saw(TokenReuse)


def test_data_of_the_session_before_is_not_in_the_remembered_one() -> None:
    """It is another session, under another root; what must last is the application's (P4)."""
    world, jar = begun()
    get(world, jar, writing(secret=1), method="POST")
    world.clock.advance(DAY)
    reply = get(world, jar.closed())
    assert dict(reply.here.data) == {}
