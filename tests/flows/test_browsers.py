"""P11, P12 through whole requests: honest browsers are no thieves, thieves who fork are found.

One browser with any number of tabs meets the server, op by op. Requests and responses are under way
for a while and arrive in any order; responses get lost; a load balancer sends a request twice;
pages take their time; the browser crashes and comes back with the jar that was on its disk half a
minute ago; the store fails over and loses its last seconds.

A thief copies the cookie at any moment. What he does alone is found at the first presentation, his
or the owner's, of a token that was retired and whose successor was confirmed `grace` ago. The one
who silently follows every renewal is in here too: he is not found (D4), and the last test says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from strongroom.core.credentials import HANDING_OUT, NEVER, Verdict
from strongroom.core.events import TokenReuse, TwoPlaces
from strongroom.core.ops import Flow, GiveWay, Op
from strongroom.core.policy import SessionPolicy
from strongroom.core.record import EndReason
from strongroom.core.visit import Visit
from strongroom.stores.memory import MemoryStore
from tests.support.flows import (
    GRACE,
    HOUR,
    MINUTE,
    RENEW,
    SECOND,
    SETTLE,
    Action,
    Reply,
    World,
    chain,
    elevating,
    nothing,
    renewing,
    saving,
    signing_in,
    signing_out,
    writing,
)

THERE, BACK, DISK, LOST = 15 * SECOND, 15 * SECOND, 45 * SECOND, 5 * SECOND
"""How long a request and a response are under way, how long a browser takes to write its jar to
disk, and what a failover loses, at most. Together less than `settle`, as D1 wants it."""
assert THERE + BACK + DISK < SETTLE and max(THERE, BACK) < GRACE


def signed_in_only(action: Action) -> Action:
    """What a page does for somebody whom it knows; nobody else is shown its form."""

    def careful(visit: Visit) -> Flow[None]:
        if visit.subject is not None:
            yield from action(visit)

    return careful


PAGES: dict[str, Action] = {
    "look": nothing,
    "write": signed_in_only(writing(note=1)),
    "save": signed_in_only(saving(cart=2)),
    "renew": renewing,
    "renew and write": signed_in_only(chain(renewing, writing(note=3))),
}
PRIVILEGE: dict[str, Action] = {
    "elevate": signed_in_only(elevating()),
    "sign in": signing_in("alice"),
    "sign out": signing_out,
}
WAITS = st.sampled_from([SECOND, 5 * SECOND, 20 * SECOND, SETTLE, 5 * MINUTE, RENEW, 20 * MINUTE])


@dataclass(slots=True, eq=False)
class Flight:
    """A request from when it was sent until its response arrived."""

    jar: str | None
    flow: Flow[Reply]
    sent_at: int
    again: Callable[[], Flight]
    op: Op | None = None
    started: bool = False
    opened: list[bool] = field(default_factory=list[bool])
    reply: Reply | None = None
    answered_at: int = 0


@dataclass(slots=True)
class Browser:
    """A jar, what of it is on the disk, and the requests under way."""

    world: World
    jar: str | None
    disk: list[tuple[int, str | None]] = field(default_factory=list[tuple[int, str | None]])
    flights: list[Flight] = field(default_factory=list[Flight])
    replies: list[Reply] = field(default_factory=list[Reply])
    restored: str | None = None

    def __post_init__(self) -> None:
        self.disk = [(self.world.clock(), self.jar)]

    def send(self, action: Action, method: str = "GET") -> Flight:
        """A tab sends a request with the jar as it is now."""
        jar = self.jar

        def made() -> Flight:
            opened: list[bool] = []

            def act(visit: Visit) -> Flow[None]:
                opened.append(True)
                yield from action(visit)

            flow = self.world.request(jar, act, method=method)
            return Flight(jar, flow, self.world.clock(), made, opened=opened)

        flight = made()
        self.flights.append(flight)
        return flight

    def send_again(self, flight: Flight) -> None:
        """A load balancer sends it a second time, as old as it is."""
        again = flight.again()
        again.sent_at = flight.sent_at
        self.flights.append(again)

    def step(self, flight: Flight) -> None:
        """The server does one op of the request, or the response arrives."""
        if flight.reply is not None:
            self.arrive(flight)
            return
        try:
            if not flight.started:
                # A request that has arrived is looked up at once; after that it may take its time.
                flight.started = True
                flight.op = next(flight.flow)
                while not flight.opened:
                    self.operate(flight)
            else:
                self.operate(flight)
        except StopIteration as done:
            flight.reply, flight.answered_at = done.value, self.world.clock()
            self.replies.append(done.value)

    def operate(self, flight: Flight) -> None:
        """One op of the request."""
        op = flight.op
        assert op is not None
        # Whoever waits in line finds out what happened meanwhile by a read of its own.
        waits = isinstance(op, GiveWay)
        flight.op = flight.flow.send(waits or getattr(self.world.store, op.verb)(op))

    def arrive(self, flight: Flight) -> None:
        """The response reaches the jar; the disk follows later."""
        assert flight.reply is not None
        self.flights.remove(flight)
        if flight.reply.cookie is not None:
            self.jar = flight.reply.into(self.jar)
            self.disk.append((self.world.clock(), self.jar))

    def finish(self, flight: Flight) -> None:
        """The request is answered, and the response arrives."""
        while flight in self.flights:
            self.step(flight)

    @property
    def is_unsettled(self) -> bool:
        """Whether the disk may still hold another jar."""
        return self.disk[-1][0] > self.world.clock() - DISK and len(self.disk) > 1

    def due(self) -> tuple[int, Flight | None]:
        """The next moment at which something must have arrived, and what."""
        waiting = [
            (each.sent_at + THERE - 1, each) for each in self.flights if not each.started
        ] + [(each.answered_at + BACK - 1, each) for each in self.flights if each.reply is not None]
        return min(waiting, key=lambda pair: pair[0], default=(1 << 62, None))

    def crash(self, written: int) -> None:
        """The responses under way are lost; the jar is what some moment's disk holds."""
        self.flights = [each for each in self.flights if each.reply is None]
        now = self.world.clock()
        known = [jar for at, jar in self.disk if at <= now - DISK][-1:]
        known += [jar for at, jar in self.disk if at > now - DISK]
        self.jar = known[written % len(known)]
        self.disk = [(now - DISK, self.jar)]
        self.restored = self.jar


class Honest(RuleBasedStateMachine):
    """One browser, no thief: never an alarm, never signed out but by the two clocks (P11)."""

    pages: ClassVar[dict[str, Action]] = PAGES

    def __init__(self) -> None:
        super().__init__()
        # Touching often is the harder case: uses are noted sooner.
        self.world = World(policy=SessionPolicy(touch_interval=timedelta(seconds=2)))
        self.browser = Browser(self.world, self.world.sign_in("alice", cart=0))
        assert isinstance(self.world.store, MemoryStore)
        self.backups = [(self.world.clock(), self.world.store.snapshot())]

    def pass_time(self, by: int) -> None:
        """Nothing is under way for longer than the rules say."""
        until = self.world.clock() + by
        while True:
            at, flight = self.browser.due()
            if flight is None or at > until:
                break
            self.world.clock.set(max(at, self.world.clock()))
            self.browser.step(flight)
        self.world.clock.set(until)

    @rule(page=st.sampled_from(sorted(PAGES)), steps=st.integers(0, 9))
    def a_tab_sends(self, page: str, steps: int) -> None:
        """The request gets so far for now; nine steps are an answer that has arrived."""
        flight = self.browser.send(self.pages[page], "GET" if page == "look" else "POST")
        self.go_on(flight, steps)

    @precondition(lambda self: self.browser.flights)
    @rule(which=st.integers(0, 20), steps=st.integers(1, 9))
    def something_goes_on(self, which: int, steps: int) -> None:
        flights = self.browser.flights
        self.go_on(flights[which % len(flights)], steps)

    def go_on(self, flight: Flight, steps: int) -> None:
        for _ in range(steps):
            if flight in self.browser.flights:
                self.browser.step(flight)

    @rule()
    def the_user_works_until_a_renewal_is_due(self) -> None:
        for by in (MINUTE, SETTLE, GRACE):
            self.pass_time(by)
            self.browser.finish(self.browser.send(nothing))
            self.nobody_is_called_a_thief()

    @rule(steps=st.integers(0, 9), other=st.integers(0, 9))
    def two_tabs_renew_at_once(self, steps: int, other: int) -> None:
        flights = [self.browser.send(renewing) for _ in range(2)]
        self.go_on(flights[0], steps)
        self.go_on(flights[1], other)

    @rule(uses=st.integers(0, 3), steps=st.integers(0, 9), written=st.integers(0, 9), by=WAITS)
    def the_browser_crashes_after_a_renewal(
        self, uses: int, steps: int, written: int, by: int
    ) -> None:
        """With the new cookie in the jar, and in use, and perhaps not on the disk yet."""
        self.the_user_works_until_a_renewal_is_due()
        self.browser.finish(self.browser.send(renewing))
        for _ in range(uses):
            self.pass_time(5 * SECOND)
            self.browser.finish(self.browser.send(nothing))
        self.go_on(self.browser.send(nothing), steps)
        self.browser.crash(written)
        self.pass_time(by)

    @precondition(lambda self: self.browser.flights)
    @rule(which=st.integers(0, 20))
    def a_proxy_sends_it_twice(self, which: int) -> None:
        flights = [each for each in self.browser.flights if each.started]
        recent = self.world.clock() - THERE
        flights = [each for each in flights if each.sent_at > recent]
        if flights:
            self.browser.send_again(flights[which % len(flights)])

    @precondition(lambda self: any(each.reply for each in self.browser.flights))
    @rule(which=st.integers(0, 20))
    def a_response_is_lost(self, which: int) -> None:
        answered = [each for each in self.browser.flights if each.reply is not None]
        if answered:
            self.browser.flights.remove(answered[which % len(answered)])

    @rule(by=WAITS)
    def time_passes(self, by: int) -> None:
        self.pass_time(by)

    @precondition(lambda self: self.browser.is_unsettled)
    @rule(written=st.integers(0, 9), by=WAITS)
    def the_browser_crashes(self, written: int, by: int) -> None:
        self.browser.crash(written)
        self.pass_time(by)

    @precondition(lambda self: self.browser.restored is None)
    @rule()
    def the_store_fails_over(self) -> None:
        """It comes back without the last seconds' writes.

        Not after a crash: what was lost could be the note that a successor was handed out once
        more, and the two faults together are beyond what a cookie alone can tell from theft.
        """
        now, store = self.world.clock(), self.world.store
        assert isinstance(store, MemoryStore)
        recent = [each for at, each in self.backups if at > now - LOST]
        if recent:
            store.restore(recent[0])

    @invariant()
    def note_a_backup(self) -> None:
        now, store = self.world.clock(), self.world.store
        assert isinstance(store, MemoryStore)
        self.backups = [each for each in self.backups if each[0] > now - LOST]
        self.backups.append((now, store.snapshot()))

    @invariant()
    def nobody_is_called_a_thief(self) -> None:
        browser = self.browser
        replies, browser.replies = browser.replies, []
        for reply in replies:
            assert not reply.saw(TokenReuse), "an honest browser was called a thief"
            assert not reply.saw(TwoPlaces)
            if self.browser is browser:
                self.judge(reply)

    def judge(self, reply: Reply) -> None:
        """Signed in, unless one of the two clocks has run out; then sign in again.

        A jar from before a crash that comes back after `HANDING_OUT` costs a sign-in too (D1).
        """
        if reply.subject == "alice":
            return
        if self.browser.restored and reply.here.refusal == Verdict.QUIET.value:
            changed = self.world.record(self.browser.restored).header.credential.changed_at
            assert reply.here.opened_at >= changed + HANDING_OUT * SETTLE, "refused too early"
            self.begin_again()
            return
        assert reply.here.refusal in (EndReason.IDLE, EndReason.ABSOLUTE), reply.here.refusal
        self.begin_again()

    def begin_again(self) -> None:
        self.browser = Browser(self.world, self.world.sign_in("alice", cart=0))
        self.backups.clear()  # a failover that loses the sign-in itself costs a sign-in


class Privileged(Honest):
    """With elevations, sign-ins and sign-outs: these may cost a sign-in, and never an alarm."""

    pages: ClassVar[dict[str, Action]] = {**PAGES, **PRIVILEGE}

    @rule(page=st.sampled_from(sorted(PRIVILEGE)))
    def a_tab_changes_privilege(self, page: str) -> None:
        self.browser.send(self.pages[page], "POST")

    @precondition(lambda self: self.browser.jar is None)
    @rule()
    def the_user_signs_in_again(self) -> None:
        self.browser.send(signing_in("alice"), "POST")

    def judge(self, reply: Reply) -> None:
        return

    @invariant()
    def no_session_was_ended_for_theft(self) -> None:
        store = self.world.store
        assert isinstance(store, MemoryStore)
        for record in store.snapshot().records.values():
            assert record.header.end_reason is not EndReason.REUSE


class Thieves(RuleBasedStateMachine):
    """The owner and a thief, each with a jar; neither knows of the other (P12)."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.jars: dict[str, str | None] = {"owner": self.world.sign_in("alice")}
        self.found = False

    @precondition(lambda self: "thief" not in self.jars)
    @rule()
    def the_cookie_is_copied(self) -> None:
        self.jars["thief"] = self.jars["owner"]

    @rule(who=st.sampled_from(["owner", "thief"]), page=st.sampled_from(["look", "renew", "save"]))
    def somebody_uses_it(self, who: str, page: str) -> None:
        jar = self.jars.get(who)
        if jar is None:
            return
        world = self.world
        live = world.over(jar) is None
        credential, token = world.record(jar).header.credential, world.token(jar)
        sure = credential.confirmed_at != NEVER and (
            world.clock() >= credential.confirmed_at + GRACE
        )
        behind = credential.generation - token.generation if live else 0
        # A successor exists only once its predecessor was confirmed, so two behind is sure too.
        forked = (behind == 1 and sure) or (
            behind > 1 and world.clock() >= credential.changed_at + GRACE
        )
        late = behind > 0 and not forked
        reply = world.get(jar, PAGES[page])
        self.jars[who] = reply.into(jar)
        if forked:
            assert reply.saw(TokenReuse), "a fork was not found at its first presentation"
            assert world.over(jar) is EndReason.REUSE
            self.found = True
        elif live:
            assert not reply.saw(TokenReuse)
            assert reply.subject == "alice" or late, reply.here.refusal
        else:
            assert reply.subject is None

    @rule(by=WAITS)
    def time_passes(self, by: int) -> None:
        self.world.clock.advance(by)

    @invariant()
    def once_found_nobody_is_in(self) -> None:
        if self.found:
            for jar in self.jars.values():
                assert self.world.who(jar) is None


TestHonest = Honest.TestCase
TestHonest.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestPrivileged = Privileged.TestCase
TestPrivileged.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestThieves = Thieves.TestCase
TestThieves.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


class LongHonest(Honest):
    """The same for longer."""


class LongPrivileged(Privileged):
    """The same for longer."""


TestLongHonest = pytest.mark.slow(LongHonest.TestCase)
TestLongHonest.settings = settings(max_examples=500, stateful_step_count=60, deadline=None)
TestLongPrivileged = pytest.mark.slow(LongPrivileged.TestCase)
TestLongPrivileged.settings = settings(max_examples=250, stateful_step_count=60, deadline=None)


def settled(world: World, jar: str) -> str:
    """The owner works until the token is confirmed, and `grace` longer."""
    world.confirmed(jar)
    return jar


def test_a_thief_who_renews_first_is_found_by_the_owner() -> None:
    """He got ahead; the owner's old cookie then tells (P12)."""
    world = World()
    owner = thief = settled(world, world.sign_in("alice"))
    thief = world.renewed(thief)
    settled(world, thief)
    reply = world.get(owner)
    assert reply.saw(TokenReuse)
    assert world.who(thief) is None


def test_an_owner_who_renews_first_gives_the_thief_away() -> None:
    """He kept yesterday's copy, and presents it (P12)."""
    world = World()
    owner = thief = settled(world, world.sign_in("alice"))
    owner = settled(world, world.renewed(owner))
    world.clock.advance(HOUR // 4)
    assert world.get(thief).saw(TokenReuse)
    assert world.who(owner) is None, "both are signed out, and the owner signs in again"


def test_a_copy_from_before_an_elevation_is_worth_nothing() -> None:
    """And whoever presents it costs the owner nothing (P10, D2)."""
    world = World()
    thief = world.sign_in("alice")
    owner = world.get(thief, elevating(), method="POST").cookie
    assert owner
    settled(world, owner)
    reply = world.get(thief)
    assert reply.subject is None
    assert not reply.saw(TokenReuse)
    assert world.who(owner) == "alice"


def test_a_thief_who_silently_follows_is_not_found() -> None:
    """D4: said, and not hidden. Signals see another device; the two clocks and device binding
    bound him; the absolute timeout ends it."""
    world = World()
    owner: str | None = world.sign_in("alice")
    thief, alarms, places, began = owner, 0, 0, world.clock()
    while world.over(owner or "") is None:
        for who in ("owner", "thief"):
            agent = "curl/8" if who == "thief" else "Mozilla/5.0 (X11; Linux) Firefox/130"
            jar = thief if who == "thief" else owner
            reply = world.get(jar, agent=agent)
            alarms += reply.saw(TokenReuse)
            places += reply.saw(TwoPlaces)
            if who == "thief":
                thief = reply.into(thief)
            else:
                owner = reply.into(owner)
        world.clock.advance(MINUTE)
    assert alarms == 0
    assert places > 0, "the signal that he cannot avoid where he follows by the overlap"
    assert world.clock() - began <= world.ctx.clocks.absolute
