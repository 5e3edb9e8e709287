"""D7: a code opens one linked session, once, within a minute, while its parent lives."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from strongroom.core import flows
from strongroom.core.errors import RefusedError, SignInRequired, StoreUnavailable, UsageError
from strongroom.core.events import TokenRefused
from strongroom.core.flows import handing
from strongroom.core.ops import AtLimit, End, Flow, Insert
from strongroom.core.policy import SessionPolicy
from strongroom.core.record import EndReason
from strongroom.core.stepup import Requirement
from strongroom.core.tokens import Purpose, TokenRefusal, parse
from strongroom.core.visit import Visit
from strongroom.testing import Fates, interleavings
from tests.flows.scenes import anonymous, check_no_late_cookie, signed_in
from tests.support.flows import (
    ENDERS,
    MINUTE,
    Log,
    Prepared,
    World,
    Worlds,
    facts,
    replies,
    scenario,
    writing,
)


def asked(world: World) -> None:
    """Alice asked for a code a moment ago."""
    signed_in(world)
    visit = world.get(world.jars["alice"]).here
    CODES[0] = world.run(flows.hand_over(visit))


CODES = [""]


@cache
def staged() -> Worlds:
    return Prepared(asked)


def accepting(visit: Visit) -> Flow[None]:
    """Redeem the code."""
    return flows.accept_hand_over(visit, CODES[0])


def redeeming(world: World, jar: str | None = None, **said: Any) -> Flow[Any]:
    return world.request(jar, accepting, method="POST", **said)


def redeemed(world: World, code: str) -> Any:
    """What a request that redeems this code comes to."""
    return world.get(None, lambda visit: flows.accept_hand_over(visit, code))


def linked_of(world: World) -> list[str]:
    parent = world.token(world.jars["alice"]).session_id.hex()
    return [each for each in world.live_of("alice") if each != parent]


def test_of_two_redeemers_one_wins() -> None:
    """In every order: one linked session, and the other is told nothing but no (D7)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        done = replies(fates)
        won = [each for each in done.values() if each.cookie]
        assert len(won) == len(linked_of(world)) == 1
        assert world.who(won[0].cookie) == "alice"
        for each in done.values():
            assert each in won or isinstance(each.error, RefusedError)

    meeting = dict.fromkeys(("one", "two"), redeeming)
    assert interleavings(scenario(staged(), meeting, check)) > 20


def test_three_redeemers_and_any_fault() -> None:
    """At most one linked session, also where the store fails or a process dies (D7)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        cookies = [each.cookie for each in replies(fates).values() if each.cookie]
        assert len(cookies) <= 1
        assert all(world.who(each) == "alice" for each in cookies)
        if not any(fate.died for fate in fates.values()):
            assert len(linked_of(world)) == len(cookies), "a linked session that nobody holds"

    meeting = dict.fromkeys(("one", "two"), redeeming)
    assert interleavings(scenario(staged(), meeting, check), with_faults=True) > 200


@pytest.mark.parametrize("ender", ENDERS)
def test_a_parent_that_ended_before_hands_nothing_over(ender: str) -> None:
    """The linked session is opened before the parent's end, or not at all (D7, P6, P15)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        check_no_late_cookie(world, fates, log)
        reply = replies(fates)["redeem"]
        looked = next((i for i, e in enumerate(log.entries) if e[0] == "redeem"), 0)
        ended = log.ended(world.token(world.jars["alice"]).session_id)
        if ended < looked:
            assert not reply.cookie
        if ender != "sign_out" and ender != "end_session" and ended < len(log.entries):
            assert world.live_of("alice") == [], "ending all of them misses the linked one"

    meeting = {
        "redeem": redeeming,
        "end": lambda world: ENDERS[ender](world, world.jars["alice"]),
    }
    assert interleavings(scenario(staged(), meeting, check)) > 5


@pytest.mark.parametrize("ender", ENDERS)
def test_a_code_made_while_the_parent_ends_is_worth_nothing_after(ender: str) -> None:
    """Also a code that is asked for in a request that is already under way (D7, P15)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        if fates["end"].returned and codes:
            reply = world.get(None, lambda visit: flows.accept_hand_over(visit, codes[-1]))
            assert not reply.cookie

    codes: list[str] = []

    def asking(visit: Visit) -> Flow[None]:
        codes.clear()
        if visit.subject is not None:
            codes.append((yield from flows.hand_over(visit)))

    meeting = {
        "ask": lambda world: world.request(world.jars["alice"], asking, method="POST"),
        "end": lambda world: ENDERS[ender](world, world.jars["alice"]),
    }
    assert interleavings(scenario(Prepared(signed_in), meeting, check)) > 3


@pytest.mark.parametrize(("later", "works"), [(MINUTE - 1, True), (MINUTE, False)])
def test_a_code_lives_a_minute(later: int, works: bool) -> None:
    """To the millisecond (D7)."""
    world = staged()()
    world.clock.advance(later)
    reply = world.run(redeeming(world))
    assert bool(reply.cookie) is works
    assert works or isinstance(reply.error, RefusedError)


def test_a_code_is_noise_as_a_cookie_and_the_other_way_round() -> None:
    """A token of one purpose opens nothing of another (D7)."""
    world = staged()()
    reply = world.probe(CODES[0])
    assert reply.subject is None
    assert reply.here.refusal == TokenRefusal.SHAPE.name.lower()
    token = parse(world.ctx.keys.tokens, CODES[0].encode(), Purpose.HAND_OVER)
    assert not isinstance(token, TokenRefusal)
    with_cookie = world.get(None, lambda visit: flows.accept_hand_over(visit, world.jars["alice"]))
    assert isinstance(with_cookie.error, RefusedError)
    assert with_cookie.saw(TokenRefused)


def test_a_linked_session_never_outlives_its_parent_s_deadline() -> None:
    """E7, P9: handing over does not start the absolute clock anew."""
    world = Prepared(signed_in)()
    parent = world.get(world.jars["alice"]).here
    assert parent.identity is not None
    world.clock.advance(25 * MINUTE)
    visit = world.get(world.jars["alice"]).here
    code = world.run(flows.hand_over(visit))
    linked = world.get(None, lambda visit: flows.accept_hand_over(visit, code)).here.identity
    assert linked is not None
    assert linked.absolute_deadline == parent.identity.absolute_deadline
    assert linked.events == parent.identity.events, "and makes no factor younger"


def test_the_newest_codes_of_a_session_are_good() -> None:
    """A script that asks in a loop fills no store; other sessions have codes of their own (D7)."""
    world = Prepared(signed_in)()
    other = world.sign_in("alice")

    def ask(jar: str) -> str:
        world.clock.advance(1)
        return world.run(flows.hand_over(world.get(jar).here))

    kept = ask(other)
    codes = [ask(world.jars["alice"]) for _ in range(handing.MAX_CODES + 3)]
    for dead in codes[:3]:
        assert isinstance(redeemed(world, dead).error, RefusedError)
    for good in (*codes[3:], kept):
        assert world.who(redeemed(world, good).cookie) == "alice"


def test_codes_asked_for_at_once_are_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """In every order of two requests beside a code that waits, when both are done (D7)."""
    monkeypatch.setattr(handing, "MAX_CODES", 2)

    def asking(visit: Visit) -> Flow[None]:
        codes.append((yield from flows.hand_over(visit)))

    def check(world: World, fates: Fates, log: Log) -> None:
        good = [bool(redeemed(world, code).cookie) for code in (CODES[0], *codes)]
        assert 1 <= sum(good) <= 2
        codes.clear()

    codes: list[str] = []

    def request(world: World) -> Flow[Any]:
        return world.request(world.jars["alice"], asking, method="POST")

    meeting = {"one": request, "two": request}
    assert interleavings(scenario(staged(), meeting, check)) > 100


def test_nobody_hands_over_nothing() -> None:
    """Neither a visitor nor a pending session has anything to hand over (D7)."""
    world = Prepared(anonymous)()
    for jar in (None, world.jars["visitor"]):
        assert isinstance(world.get(jar, flows.hand_over).error, SignInRequired)


def failing(world: World, flow: Flow[Any], kind: type, *, acts: bool) -> Any:
    """Run the flow; the last op of that kind fails, before or after the store acted."""
    count = 0
    op = next(flow)
    try:
        while True:
            count += isinstance(op, kind)
            if isinstance(op, kind) and count == (2 if kind is End else 1):
                if acts:
                    getattr(world.store, op.verb)(op)
                count += 10
                op = flow.throw(StoreUnavailable("no answer"))
            else:
                op = flow.send(getattr(world.store, op.verb)(op))
    except StopIteration as done:
        return done.value


@pytest.mark.parametrize("acts", [False, True])
@pytest.mark.parametrize("kind", [Insert, End])
def test_a_redemption_that_fails_leaves_nobody_signed_in(kind: type, acts: bool) -> None:
    """The insert's answer is lost, or the session before cannot be ended (E1, E4, P14)."""
    world = staged()()
    bob = world.sign_in("bob")
    reply = failing(world, redeeming(world, bob), kind, acts=acts)
    assert isinstance(reply.error, StoreUnavailable)
    assert reply.cookie is None
    assert linked_of(world) == []


def test_a_cancelled_redemption_leaves_nobody_signed_in() -> None:
    """Cancelled when the insert had been handed over, then aborted (E1, P14)."""
    world = staged()()
    visit = world.run(flows.open_visit(world.ctx, facts(None, method="POST")))
    flow = accepting(visit)
    op = next(flow)
    while not isinstance(op, Insert):
        op = flow.send(getattr(world.store, op.verb)(op))
    world.store.insert(op)
    flow.close()
    world.run(flows.abort(visit))
    assert linked_of(world) == []


@pytest.mark.parametrize("status", [200, 500])
def test_the_visitor_s_session_ends_only_if_the_response_works(status: int) -> None:
    """As at a sign-in: a failed redemption does not cost the cart (E4, P14)."""
    world = staged()()
    visitor = world.get(None, writing(cart=[1])).cookie
    reply = world.run(redeeming(world, visitor, status=status))
    if status == 200:
        assert world.who(reply.cookie) == "alice"
        assert world.over(visitor or "") is EndReason.SUPERSEDED
    else:
        assert linked_of(world) == []
        assert world.data(visitor) == {"cart": [1]}


def test_a_code_cannot_be_redeemed_where_no_cookie_can_be_set() -> None:
    """On a WebSocket, or after the response began: the code stays good (E1, D7)."""
    world = staged()()
    with pytest.raises(UsageError):
        world.run(redeeming(world, websocket=True))

    def late() -> Flow[None]:
        visit = yield from flows.open_visit(world.ctx, facts(None))
        yield from flows.close_visit(visit)
        yield from accepting(visit)

    with pytest.raises(UsageError):
        world.run(late())
    assert world.run(redeeming(world)).cookie


@pytest.mark.parametrize("at_limit", list(AtLimit))
def test_a_linked_session_counts(at_limit: AtLimit) -> None:
    """Handing over is no way around the limit (C6)."""
    world = Prepared(asked, policy=SessionPolicy(max_sessions=1, at_limit=at_limit))()
    reply = world.run(redeeming(world))
    assert len(world.live_of("alice")) == 1
    assert bool(reply.cookie) is (at_limit is not AtLimit.REFUSE)


def test_signing_in_by_code_over_another_session() -> None:
    """The session before ends; what it held does not come along (P10)."""
    world = staged()()
    bob = world.sign_in("bob", his=1)
    reply = world.run(redeeming(world, bob))
    assert world.who(reply.cookie) == "alice"
    assert world.data(reply.cookie) == {}
    assert world.who(bob) is None


@pytest.mark.parametrize("what", ["closed", "doubted"])
def test_a_linked_session_is_no_fresher_and_no_surer(what: str) -> None:
    """Neither a closed window opens by it, nor does a doubt go away (P25)."""
    world = World()
    signed_in(world)
    world.clock.advance(1)
    if what == "closed":
        world.jars["alice"] = str(
            world.get(world.jars["alice"], flows.end_privilege, method="POST").cookie
        )
    codes: list[str] = []

    def handing_over(visit: Visit) -> Flow[None]:
        visit.lowered = what == "doubted"
        codes.append((yield from flows.hand_over(visit)))

    world.get(world.jars["alice"], handing_over, method="POST")
    answers: list[Any] = []

    def judging(visit: Visit) -> Flow[None]:
        answers.append(flows.judge_step_up(visit, Requirement(max_age=5 * MINUTE)))
        yield from ()

    opened = world.get(None, lambda visit: flows.accept_hand_over(visit, codes[0]), method="POST")
    world.get(opened.cookie, judging)
    assert [each.reason for each in answers] == [{"closed": "too_old", "doubted": "doubtful"}[what]]
