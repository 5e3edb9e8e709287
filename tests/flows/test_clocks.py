"""P9: both clocks are judged on every request, and nothing moves them the wrong way."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from strongroom.core import flows
from strongroom.core.events import SessionExpired, SessionUseAfterExpire, TokenReuse
from strongroom.core.ops import Flow, Touch
from strongroom.core.policy import Routes, SessionPolicy
from strongroom.core.record import EndReason
from strongroom.core.visit import Visit
from strongroom.testing import Fates, interleavings
from tests.flows.scenes import confirmation_due, renewal_due, signed_in, touch_due
from tests.support.flows import (
    GRACE,
    HOUR,
    MINUTE,
    NAVIGATION,
    POLICY,
    SECOND,
    SETTLE,
    Log,
    Prepared,
    World,
    Worlds,
    elevating,
    nothing,
    renewing,
    replies,
    scenario,
    signing_in,
    writing,
)

IDLE, ABSOLUTE = POLICY.clocks.idle, POLICY.clocks.absolute


@cache
def staged(stage: Any) -> Worlds:
    return Prepared(stage)


def test_a_session_is_over_at_its_idle_deadline_exactly() -> None:
    """One millisecond before it lives; at the deadline it is over, and that is written (E6)."""
    world = staged(signed_in)()
    jar = world.jars["alice"]
    world.clock.advance(IDLE - 1)
    assert world.who(jar) == "alice"
    world.clock.advance(1)
    reply = world.get(jar)
    assert reply.subject is None
    assert reply.saw(SessionExpired)
    header = world.record(jar).header
    assert (header.end_reason, header.ended_at) == (EndReason.IDLE, world.clock())


def test_activity_never_moves_the_absolute_deadline() -> None:
    """Someone who never rests is signed out all the same (P9)."""
    world = staged(signed_in)()
    jar = world.jars["alice"]
    began = world.clock()
    while world.clock() - began < ABSOLUTE:
        reply = world.get(jar)
        assert reply.subject == "alice"
        jar = reply.into(jar) or ""
        world.clock.advance(5 * MINUTE)
    reply = world.get(jar)
    assert reply.subject is None
    assert world.record(jar).header.end_reason is EndReason.ABSOLUTE


@pytest.mark.parametrize("later", [0, GRACE - 1, GRACE])
def test_an_expired_cookie_is_cleared_only_later(later: int) -> None:
    """By a navigation, from `grace` after the end on; before that it is left alone (F1, P13)."""
    world = staged(signed_in)()
    jar = world.jars["alice"]
    world.clock.advance(IDLE + later)
    assert world.probe(jar).cookie is None
    assert world.probe(jar, headers=NAVIGATION).cookie == ("" if later >= GRACE else None)


def test_a_shortened_timeout_reaches_sessions_that_began_before_it() -> None:
    """The policy counts as it is now (P9)."""
    world = staged(signed_in)()
    shorter = world.context(policy=SessionPolicy(idle_timeout=timedelta(minutes=5)))
    world.clock.advance(5 * MINUTE - 1)
    assert world.probe(world.jars["alice"], ctx=shorter).subject == "alice"
    world.clock.advance(1)
    assert world.probe(world.jars["alice"], ctx=shorter).subject is None


def test_a_slow_request_does_not_bring_an_expired_session_back() -> None:
    """Activity is when the request came, not when its response began (P9, P6)."""
    world = staged(signed_in)()
    jar = world.jars["alice"]
    world.clock.advance(IDLE - SECOND)

    def slow(visit: Visit) -> Flow[None]:
        yield from ()
        world.clock.advance(3 * IDLE)

    assert world.get(jar, slow).subject == "alice"
    assert world.over(jar) is EndReason.IDLE
    assert world.who(jar) is None


def test_a_request_across_the_deadline_counts_from_its_beginning() -> None:
    """Whoever was active a second before the deadline is not idle (P9)."""
    world = staged(signed_in)()
    jar = world.jars["alice"]
    world.clock.advance(IDLE - SECOND)

    def slow(visit: Visit) -> Flow[None]:
        yield from ()
        world.clock.advance(2 * SECOND)

    world.get(jar, slow)
    assert world.who(jar) == "alice"


def test_last_seen_never_goes_back() -> None:
    """A clock that is put back, and a touch that arrives late, change nothing (P9, E5)."""
    world = staged(touch_due)()
    jar = world.jars["alice"]
    world.get(jar)
    seen = world.record(jar).header
    world.clock.rewind(HOUR)
    for action in (nothing, elevating()):
        jar = world.get(jar, action).into(jar) or ""
        after = world.record(jar).header
        assert after.last_seen == seen.last_seen
        assert after.idle_deadline == seen.idle_deadline


def test_two_touches_in_either_order_leave_the_later() -> None:
    """The greater of the two moments is kept, whichever write is last (E5)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        moments = [op.seen_at for _, op, _ in log.entries if isinstance(op, Touch)]
        assert world.record(world.jars["alice"]).header.last_seen == max(moments)

    meeting = {
        name: lambda world, name=name: world.request(world.jars["alice"], writing(**{name: 1}))
        for name in ("one", "two")
    }
    make = scenario(staged(touch_due), meeting, check)
    assert interleavings(make, explore_with_time=(SECOND,), prune=False, cap=60_000) > 50


@pytest.mark.parametrize("headers", [{"sec-purpose": "prefetch"}, {}])
def test_prefetches_and_polling_are_no_activity(headers: dict[str, str]) -> None:
    """A passive route and a prefetch leave the idle clock running (E8)."""
    world = Prepared(touch_due, policy=SessionPolicy(routes=Routes(passive=("/poll",))))()
    jar = world.jars["alice"]
    before = world.record(jar)
    path = "/" if headers else "/poll"
    assert world.get(jar, path=path, headers=headers).subject == "alice"
    assert world.record(jar) == before
    world.get(jar)
    assert world.record(jar).header.last_seen > before.header.last_seen


def test_a_web_socket_is_no_activity() -> None:
    """Its handshake neither touches nor renews (E8, D1)."""
    world = staged(renewal_due)()
    jar = world.jars["alice"]
    before = world.record(jar)
    assert world.get(jar, renewing, websocket=True).cookie is None
    assert world.record(jar) == before


def test_signing_in_starts_both_clocks_and_elevating_the_idle_one() -> None:
    """E7: a new sign-in lives its whole time; an elevation never past the first deadline."""
    world = staged(signed_in)()
    jar = world.jars["alice"]
    absolute = world.clock() + ABSOLUTE
    world.clock.advance(10 * MINUTE)
    elevated = world.get(jar, elevating()).cookie
    assert elevated
    assert world.record(elevated).header.idle_deadline == world.clock() + IDLE
    identity = world.get(elevated).here.identity
    assert identity is not None
    assert identity.absolute_deadline == absolute
    again = world.get(world.get(elevated, signing_in("alice")).cookie).here.identity
    assert again is not None
    assert again.absolute_deadline == world.clock() + ABSOLUTE


def test_an_expiry_and_a_touch_that_meet_never_revive() -> None:
    """Whoever notices the end writes it, and the request under way does not undo it (E6, P6)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        jar = world.jars["alice"]
        if replies(fates)["late"].saw(SessionExpired):
            assert world.record(jar).header.end_reason is EndReason.IDLE
            assert world.who(jar) is None

    def stage(world: World) -> None:
        signed_in(world)
        world.clock.advance(IDLE - SECOND)

    meeting = {
        "early": lambda world: world.request(world.jars["alice"]),
        "late": lambda world: world.request(world.jars["alice"]),
    }
    make = scenario(Prepared(stage), meeting, check)
    assert interleavings(make, explore_with_time=(2 * SECOND,), cap=60_000) > 50


def test_what_slow_requests_do_does_not_confirm() -> None:
    """A request under way for long is a use of when it came: it proves nothing later (D1, P11).

    Else a browser that crashed meanwhile, and found yesterday's jar, would be called a thief.
    """
    world = Prepared(renewal_due, policy=SessionPolicy(touch_interval=timedelta(0)))()
    old = world.jars["alice"]
    new = world.renewed(old)
    # The new token arrives, and two requests use it: one at once, one that takes its time.
    world.clock.advance(MINUTE)
    world.get(new)

    def slow(visit: Visit) -> Flow[None]:
        yield from ()
        world.clock.advance(SETTLE + MINUTE)

    world.get(new, slow)
    # The browser crashed right after sending them; what was on its disk is the old token.
    world.clock.advance(5 * MINUTE)
    back = world.get(old)
    assert not back.saw(TokenReuse)
    assert back.subject == "alice"
    assert back.cookie == new


def test_a_confirmation_is_of_a_use_after_settle() -> None:
    """Not a millisecond before `settle` after the first use (D1)."""
    world = staged(touch_due)()
    jar = world.jars["alice"]
    world.get(jar)
    world.clock.advance(SETTLE - 1)
    world.get(jar)
    assert not world.record(jar).header.credential.confirmed_at
    later = staged(confirmation_due)()
    later.get(jar)
    assert later.record(jar).header.credential.confirmed_at == later.clock()


class Deadlines(RuleBasedStateMachine):
    """Any sequence of what requests do, with time going on and being put back (P9)."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.jars: list[str] = []
        self.absolute: dict[bytes, int] = {}
        self.seen: dict[bytes, int] = {}
        self.ahead = 0

    @initialize(subject=st.sampled_from(["alice", None]))
    def begin(self, subject: str | None) -> None:
        world = self.world
        jar = world.sign_in(subject) if subject else world.get(None, writing(cart=1)).cookie
        assert jar
        self.keep(jar)

    def keep(self, jar: str) -> None:
        self.jars.append(jar)

    @rule(by=st.sampled_from([1, SECOND, GRACE, SETTLE, 5 * MINUTE, 16 * MINUTE, IDLE, HOUR]))
    def time_passes(self, by: int) -> None:
        self.world.clock.advance(by)

    @precondition(lambda self: self.ahead == 0)
    @rule(by=st.sampled_from([SECOND, MINUTE, HOUR]))
    def the_clock_is_put_back(self, by: int) -> None:
        self.world.clock.rewind(by)
        self.ahead = 1

    @rule(which=st.integers(0, 5), what=st.sampled_from(["look", "write", "renew", "elevate"]))
    def use(self, which: int, what: str) -> None:
        jar = self.jars[which % len(self.jars)]
        actions = {"look": nothing, "write": writing(a=1), "renew": renewing}
        before = self.world.over(jar)
        reply = self.world.get(jar, actions.get(what) or self.elevate)
        if before is not None:
            session = self.world.token(jar).session_id
            record = reply.here.record
            assert record is None or record.session_id != session, "it was over, and let in"
        if reply.cookie:
            self.keep(reply.cookie)

    def elevate(self, visit: Visit) -> Flow[None]:
        if visit.subject is not None:
            yield from elevating()(visit)

    @rule(which=st.integers(0, 5))
    def hand_over(self, which: int) -> None:
        jar = self.jars[which % len(self.jars)]
        visit = self.world.get(jar).here
        if visit.subject is None or visit.record is None:
            return
        parent = visit.record.session_id
        code = self.world.run(flows.hand_over(visit))
        reply = self.world.get(None, lambda visit: flows.accept_hand_over(visit, code))
        if reply.cookie:
            assert reply.here.identity is not None
            linked = reply.here.identity.absolute_deadline
            assert linked <= self.absolute[parent], "a linked session outlives its parent"
            self.keep(reply.cookie)

    @invariant()
    def deadlines_stand(self) -> None:
        for jar in self.jars:
            found = self.world.found(jar)
            assert found is not None
            record = found.record
            identity = self.world.ctx.open_identity(record)
            assert identity is not None
            session, header = record.session_id, record.header
            first = self.absolute.setdefault(session, identity.absolute_deadline)
            assert identity.absolute_deadline == first, "the absolute deadline moved"
            assert header.idle_deadline <= first, "idle past the absolute deadline"
            assert header.last_seen >= self.seen.get(session, 0), "last seen went back"
            self.seen[session] = header.last_seen


TestDeadlines = Deadlines.TestCase
TestDeadlines.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


def test_an_end_that_was_noticed_is_not_noticed_again() -> None:
    """The first reason and moment stay; a later request is a use after the end (P17, D3)."""
    world = staged(signed_in)()
    jar = world.jars["alice"]
    world.clock.advance(IDLE)
    world.get(jar)
    ended = world.record(jar)
    world.clock.advance(HOUR)
    again = world.get(jar)
    assert again.saw(SessionUseAfterExpire)
    assert not again.saw(SessionExpired)
    assert world.record(jar) == ended


def test_the_store_wide_end_is_written_when_noticed() -> None:
    """A record of another store epoch is dead for everybody, and says why (E3, P17)."""
    world = staged(signed_in)()
    jar = world.jars["alice"]
    world.run(flows.end_everybody(world.ctx))
    assert world.get(jar).subject is None
    assert world.record(jar).header.end_reason is EndReason.STORE_RESET
    assert world.who(world.sign_in("alice")) == "alice"
