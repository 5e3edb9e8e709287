"""P13, P14 and E1: what fails leaves nobody half signed in, and nobody half signed out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from strongroom.core import flows
from strongroom.core.errors import (
    SessionLimitReached,
    SessionReadOnly,
    StoreUnavailable,
    StrongroomError,
    UsageError,
)
from strongroom.core.events import SessionEndedEvent
from strongroom.core.ops import AtLimit, End, Flow, Insert, Op
from strongroom.core.policy import SessionPolicy
from strongroom.core.record import EndReason
from strongroom.core.visit import Visit
from strongroom.testing import Fates, interleavings
from tests.flows.scenes import anonymous, pending, renewal_due, signed_in, touch_due
from tests.support.flows import (
    Action,
    Log,
    Prepared,
    Reply,
    World,
    Worlds,
    chain,
    closing,
    elevating,
    facts,
    replies,
    scenario,
    signing_in,
    signing_out,
    writing,
)

STAGES: dict[str, tuple[Any, str | None]] = {
    "nobody": (lambda world: None, None),
    "visitor": (anonymous, "visitor"),
    "pending": (pending, "pending"),
    "alice": (signed_in, "alice"),
}


@cache
def staged(name: str) -> Worlds:
    return Prepared(STAGES[name][0])


def jar_of(world: World, name: str) -> str | None:
    return world.jars.get(STAGES[name][1] or "")


def step(world: World, flow: Flow[Any], ops: int, *, act: bool = True) -> bool:
    """Do so many ops of the flow and cancel it, as a server drops a request; whether it was cut.

    The last op was handed over: with `act`, the store carries it out all the same.
    """
    try:
        op: Op = next(flow)
        for number in range(ops):
            if number == ops - 1:
                if act:
                    getattr(world.store, op.verb)(op)
                flow.close()
                return True
            op = flow.send(getattr(world.store, op.verb)(op))
    except StopIteration:
        return False
    flow.close()
    return True


def cuts(name: str, action: Action) -> Iterator[tuple[World, Visit, str | None]]:
    """A request cancelled at every op of its action, before and after the store acted."""
    for ops in range(12):
        for act in (False, True):
            world = staged(name)()
            jar = jar_of(world, name)
            visit = world.run(flows.open_visit(world.ctx, facts(jar, method="POST")))
            if not step(world, action(visit), ops, act=act):
                return
            yield world, visit, jar


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("waits", [False, True])
def test_a_cancelled_sign_in_leaves_nobody_signed_in(name: str, waits: bool) -> None:
    """Cancelled at any op, then aborted: no new session lives (E1, P14)."""
    count = 0
    for world, visit, jar in cuts(name, signing_in("alice", pending=waits)):
        world.run(flows.abort(visit))
        known = {world.token(each).session_id.hex() for each in world.jars.values()}
        assert set(world.live_of("alice")) <= known
        assert visit.aborts is None
        if name == "visitor":
            assert jar is not None
            assert world.data(jar) == {"cart": [1]}, "the cart is gone"
        count += 1
    assert count >= 2


@pytest.mark.parametrize("name", STAGES)
def test_a_cancelled_sign_in_in_a_request_that_goes_on(name: str) -> None:
    """A time-out around sign_in that the application catches: the page is shown, nobody is in."""
    for world, visit, jar in cuts(name, signing_in("bob")):
        reply = Reply(200, world.run(closing(visit)), visit)
        assert world.live_of("bob") == []
        assert not reply.cookie or world.who(reply.cookie) != "bob"
        if name == "visitor":
            assert world.data(jar) == {"cart": [1]}, "the cart is gone"


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("status", [500, 503])
def test_a_failed_response_signs_nobody_in(name: str, status: int) -> None:
    """5xx after sign_in: the new session ends as aborted, and no cookie leaves (P14)."""
    world = staged(name)()
    jar = jar_of(world, name)
    reply = world.get(jar, signing_in("alice", "otp"), status=status, method="POST")
    assert reply.cookie is None
    assert reply.saw(SessionEndedEvent)
    assert world.live_of("alice") == []
    if name == "visitor":
        assert world.data(jar) == {"cart": [1]}, "the old anonymous session still works"


def check_nobody_half_in(world: World, fates: Fates, log: Log) -> None:
    """A reply below 500 may sign in; whatever else happened, no new session is left alive."""
    reply = replies(fates).get("sign in")
    known = {world.token(jar).session_id.hex() for jar in world.jars.values()}
    if reply is None:  # its process died: nobody holds the token, and its clocks end the orphan
        return
    fresh = set(world.live_of("alice")) - known
    if reply.cookie:
        assert reply.status == 200
        assert fresh == {world.token(reply.cookie).session_id.hex()}
    elif reply.error is not None:
        # One fault: the store answers again, so the undoing gets through.
        assert fresh == set(), "a session was left behind by a sign-in that failed"


@pytest.mark.parametrize("name", STAGES)
def test_a_sign_in_whose_store_fails_is_undone(name: str) -> None:
    """At any op, before or after it acts; also where ending the old session fails (E4, P14)."""
    meeting = {
        "sign in": lambda world: world.request(
            jar_of(world, name), signing_in("alice", "otp"), method="POST"
        )
    }
    make = scenario(staged(name), meeting, check_nobody_half_in)
    assert interleavings(make, with_faults=True) > 7


def test_the_old_session_outlives_a_sign_in_that_could_not_end_it() -> None:
    """E4: the new one is ended, the old one goes on, and the answer is 503."""
    world = staged("alice")()
    jar = world.jars["alice"]
    flow = world.request(jar, signing_in("alice"), method="POST")
    op, first, reply = next(flow), True, None
    try:
        while True:
            if isinstance(op, End) and first:
                first = False
                op = flow.throw(StoreUnavailable("no answer"))
            else:
                op = flow.send(getattr(world.store, op.verb)(op))
    except StopIteration as done:
        reply = done.value
    assert reply is not None
    assert reply.status == 503
    assert isinstance(reply.error, StoreUnavailable)
    assert reply.cookie is None
    assert world.live_of("alice") == [world.token(jar).session_id.hex()]
    assert world.who(jar) == "alice"


SECOND_SIGN_IN_FAILS = {
    "limit": SessionLimitReached,
    "store": StoreUnavailable,
}


@pytest.mark.parametrize("why", SECOND_SIGN_IN_FAILS)
def test_a_second_sign_in_that_fails_does_not_keep_the_first(why: str) -> None:
    """Two sign-ins in one request: where the response fails, neither is left (E1, P14)."""
    policy = SessionPolicy(max_sessions=1, at_limit=AtLimit.REFUSE)
    world = World(policy=policy)
    if why == "limit":
        world.sign_in("bob")

    flow = world.request(None, chain(signing_in("alice"), signing_in("bob")), status=500)
    op, inserts, reply = next(flow), 0, None
    try:
        while True:
            inserts += isinstance(op, Insert)
            if why == "store" and isinstance(op, Insert) and inserts == 2:
                op = flow.throw(StoreUnavailable("no answer"))
                inserts += 1
            else:
                op = flow.send(getattr(world.store, op.verb)(op))
    except StopIteration as done:
        reply = done.value
    assert reply is not None
    assert isinstance(reply.error, SECOND_SIGN_IN_FAILS[why])
    if reply.status >= 500:
        assert world.live_of("alice") == []
        assert reply.cookie is None


@pytest.mark.parametrize("status", [200, 404, 500])
def test_signing_out_holds_whatever_the_status(status: int) -> None:
    """P14: the session ends and the cookie goes, also on an error page."""
    world = staged("alice")()
    jar = world.jars["alice"]
    reply = world.get(jar, signing_out, status=status, method="POST")
    assert reply.cookie == ""
    assert world.record(jar).header.end_reason is EndReason.LOGOUT


def test_a_sign_out_that_the_store_refused_is_told() -> None:
    """503, the cookie stays, and trying again works (P14, P22)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        reply = replies(fates).get("sign out")
        jar = world.jars["alice"]
        if reply is None:
            return
        if reply.status == 200:
            assert reply.cookie == ""
            assert world.who(jar) is None
        else:
            assert reply.cookie is None, "told that it failed, and the cookie is gone"
            world.get(jar, signing_out)
            assert world.who(jar) is None

    meeting = {
        "sign out": lambda world: world.request(world.jars["alice"], signing_out, method="POST")
    }
    assert interleavings(scenario(staged("alice"), meeting, check), with_faults=True) > 4


def test_what_a_failed_response_wrote_is_not_saved() -> None:
    """A 500 keeps nothing of the data; the session itself goes on (P14)."""
    world = staged("alice")()
    jar = world.jars["alice"]
    world.get(jar, writing(half=1), status=500)
    assert world.data(jar) == {"kept": 0}


def test_an_elevation_survives_a_failed_response() -> None:
    """The token was rotated when it was called, so a 500 must carry it (E1, D2)."""
    world = staged("alice")()
    reply = world.get(world.jars["alice"], elevating(), status=500, method="POST")
    assert reply.cookie
    assert world.who(reply.cookie) == "alice"
    assert world.who(world.jars["alice"]) is None


def test_a_failed_response_renews_nothing() -> None:
    """No renewal starts on a response that did not work (D1)."""
    world = Prepared(renewal_due)()
    before = world.record(world.jars["alice"])
    assert world.get(world.jars["alice"], status=500).cookie is None
    assert world.record(world.jars["alice"]) == before


@pytest.mark.parametrize("name", ["visitor", "alice"])
@pytest.mark.parametrize(
    "action", [signing_in("bob"), elevating(), signing_out], ids=["sign in", "elevate", "sign out"]
)
def test_what_needs_a_cookie_raises_once_the_response_began(name: str, action: Action) -> None:
    """After the start nothing can be set, so nothing is changed (E1)."""
    if name == "visitor" and action is not signing_out:
        return
    world = staged(name)()
    jar = jar_of(world, name)

    def late() -> Flow[None]:
        visit = yield from flows.open_visit(world.ctx, facts(jar))
        yield from flows.close_visit(visit)
        yield from action(visit)

    before = world.record(jar or "")
    with pytest.raises(UsageError):
        world.run(late())
    assert world.record(jar or "") == before


def test_a_cross_site_request_signs_nobody_out() -> None:
    """A Lax cookie stayed at home: no session begins, no cookie is set (F2, P13)."""
    world = staged("nobody")()
    cross = {"sec-fetch-site": "cross-site"}
    for action in (writing(a=1), signing_in("mallory")):
        reply_or_error: Any = None
        try:
            reply_or_error = world.get(None, action, method="POST", headers=cross)
        except StrongroomError as error:
            reply_or_error = error
        assert isinstance(reply_or_error, SessionReadOnly)
        assert "start_new" in str(reply_or_error)
    quiet = world.get(None, method="POST", headers=cross)
    assert quiet.edits.cookies == []

    def anew(visit: Visit) -> Flow[None]:
        visit.start_allowed = True
        yield from signing_in("alice")(visit)

    assert world.get(None, anew, method="POST", headers=cross).cookie


@pytest.mark.parametrize("headers", [{}, {"sec-fetch-site": "cross-site"}])
def test_a_request_that_changed_nothing_sets_no_cookie(headers: dict[str, str]) -> None:
    """Neither for a stranger nor for a signed-in user whose touch is due (P13, P24)."""
    world = Prepared(touch_due)()
    for jar in (None, world.jars["alice"], "x" * 84):
        assert world.get(jar, headers=headers).edits.cookies == []


def test_an_aborted_sign_in_names_the_session_that_it_ended() -> None:
    """The event is about the new session, not about the one before it (P17)."""
    world = staged("alice")()
    old = world.token(world.jars["alice"]).session_id.hex()
    seen: list[SessionEndedEvent] = []
    for world, visit, _ in cuts("alice", signing_in("bob")):
        world.run(flows.abort(visit))
        seen += [each for each in visit.events if isinstance(each, SessionEndedEvent)]
    aborted = [each for each in seen if each.reason == EndReason.ABORTED.value]
    assert aborted
    assert all(each.session_id != old and each.subject == "bob" for each in aborted)


def test_closing_without_writing_is_the_same_as_closing() -> None:
    """The hot path of the managers does what the flow does where it does nothing (P8)."""
    for make in (staged("nobody"), staged("visitor"), staged("alice"), Prepared(renewal_due)):
        for jar in (None, *make().jars.values()):
            for action in (None, writing(a=1), signing_out):
                short, long = make(), make()
                one = short.run(opened(short, jar, action))
                two = long.run(opened(long, jar, action))
                if flows.needs_writing(one):
                    continue
                edits = flows.plain_edits(one)
                flow = flows.close_visit(two)
                with pytest.raises(StopIteration) as done:
                    next(flow)
                assert done.value.value == edits


def opened(world: World, jar: str | None, action: Action | None) -> Flow[Visit]:
    visit = yield from flows.open_visit(world.ctx, facts(jar))
    if action is not None:
        yield from action(visit)
    return visit
