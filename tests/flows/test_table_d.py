"""Each row of PROTOCOL's table D, and D1 to D5, as requests see them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from strongroom.core import flows
from strongroom.core.credentials import HANDING_OUT, ChangedBy, Verdict
from strongroom.core.errors import SessionEnded
from strongroom.core.events import (
    GenerationsUsedUp,
    SessionRenewed,
    SessionUseAfterExpire,
    TokenRefused,
    TokenReuse,
    TwoPlaces,
)
from strongroom.core.ops import Insert, Outcome, Rotate, Shift
from strongroom.core.policy import Routes, SessionPolicy
from strongroom.core.record import EndReason, Record
from strongroom.core.tokens import MAX_RENEWAL, MAX_ROTATION, Token, generation_of, mint, successor
from strongroom.stores.memory import MemoryStore
from strongroom.testing import Fates, interleavings
from tests.flows.scenes import (
    confirmation_due,
    renewal_due,
    renewal_forgotten,
    renewal_lost,
    signed_in,
)
from tests.support.flows import (
    GRACE,
    HOUR,
    MINUTE,
    NAVIGATION,
    RENEW,
    SECOND,
    SETTLE,
    Log,
    Prepared,
    Reply,
    World,
    Worlds,
    elevating,
    nothing,
    renewing,
    replies,
    saving,
    scenario,
    signing_in,
)

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/605.1.15"


@cache
def staged(stage: Any) -> Worlds:
    return Prepared(stage)


def refused(reply: Reply, why: Verdict) -> bool:
    """Refused for this reason, no cookie touched."""
    assert reply.cookie is None
    return reply.subject is None and reply.here.refusal == why.value


def test_row_current() -> None:
    """The current token is in, and sets no cookie."""
    world = staged(signed_in)()
    reply = world.get(world.jars["alice"])
    assert (reply.subject, reply.here.verdict, reply.cookie) == ("alice", Verdict.CURRENT, None)


def test_row_next_is_adopted() -> None:
    """The store lost an acknowledged renewal: the client's token counts, with an event."""
    world = staged(renewal_forgotten)()
    jar = world.jars["alice"]
    reply = world.get(jar)
    assert reply.subject == "alice"
    assert [each.how for each in reply.events if isinstance(each, SessionRenewed)] == ["adopted"]
    credential = world.record(jar).header.credential
    assert credential.current == world.token(jar).digest
    assert credential.first_used_at == world.clock(), "adopted counts as first used"
    assert not credential.confirmed_at, "and not as confirmed"


def test_two_that_adopt_at_once_agree() -> None:
    """Both are in, and the record is shifted once (P11)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        shifted = [h for _, op, h in log.entries if isinstance(op, Shift)]
        assert [each for each in shifted if isinstance(each, Outcome) and each.applied][1:] == []
        assert {each.subject for each in replies(fates).values()} == {"alice"}

    meeting = {name: lambda world: world.request(world.jars["alice"]) for name in ("one", "two")}
    assert interleavings(scenario(staged(renewal_forgotten), meeting, check)) > 5


def test_adoption_meets_a_client_with_the_token_before() -> None:
    """After a failover one tab has the new token and one the old: both stay in (P11)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        assert {each.subject for each in replies(fates).values()} == {"alice"}
        assert not any(each.saw(TokenReuse) for each in replies(fates).values())
        assert world.who(world.jars["alice"]) == "alice"

    def stage(world: World) -> None:
        renewal_due(world)
        world.jars["old"] = world.jars["alice"]
        assert isinstance(world.store, MemoryStore)
        before = world.store.snapshot()
        world.jars["alice"] = world.renewed(world.jars["alice"])
        world.store.restore(before)

    meeting = {
        "new": lambda world: world.request(world.jars["alice"]),
        "old": lambda world: world.request(world.jars["old"]),
    }
    assert interleavings(scenario(Prepared(stage), meeting, check), cap=60_000) > 20


@pytest.mark.parametrize("later", [0, GRACE, SETTLE, HOUR // 3])
def test_row_previous_unconfirmed_gets_the_same_successor(later: int) -> None:
    """For as long as the successor is not confirmed; another device is a signal (P11)."""
    world = staged(renewal_lost)()
    world.clock.advance(later)
    reply = world.get(world.jars["alice"], agent=FIREFOX)
    assert (reply.subject, reply.here.verdict) == ("alice", Verdict.SUCCESSOR)
    assert reply.cookie == world.jars["successor"]
    assert not reply.saw(TwoPlaces)
    other = world.get(world.jars["alice"], agent=PHONE)
    assert other.cookie == world.jars["successor"]
    assert other.saw(TwoPlaces)


@pytest.mark.parametrize(
    ("later", "verdict"),
    [(HANDING_OUT * SETTLE - 1, Verdict.SUCCESSOR), (HANDING_OUT * SETTLE, Verdict.QUIET)],
)
def test_row_previous_is_not_handed_out_for_ever_once_used(later: int, verdict: Verdict) -> None:
    """A successor that was used already comes back after a crash, and not for ever (D1, P12)."""
    world = staged(renewal_lost)()
    changed = world.record(world.jars["alice"]).header.credential.changed_at
    world.clock.advance(MINUTE)
    world.get(world.jars["successor"])
    world.clock.set(changed + later)
    reply = world.get(world.jars["alice"])
    if verdict is Verdict.QUIET:
        assert refused(reply, verdict)
    else:
        assert reply.cookie == world.jars["successor"]
    assert world.who(world.jars["successor"]) == "alice"


def confirmed_successor(world: World) -> None:
    """The successor was used, and confirmed just now."""
    renewal_lost(world)
    world.clock.advance(MINUTE)
    world.get(world.jars["successor"])
    world.clock.advance(SETTLE)
    world.get(world.jars["successor"])
    assert world.record(world.jars["alice"]).header.credential.confirmed_at == world.clock()


@pytest.mark.parametrize("later", [0, GRACE - 1])
def test_row_previous_confirmed_overlaps_for_grace(later: int) -> None:
    """A request that was under way is in, without a cookie."""
    world = staged(confirmed_successor)()
    world.clock.advance(later)
    reply = world.get(world.jars["alice"])
    assert (reply.subject, reply.here.verdict) == ("alice", Verdict.OVERLAP)
    assert reply.cookie is None
    assert not reply.events


def two_renewals(world: World) -> None:
    """Renewed twice; the second renewal was just now."""
    confirmed_successor(world)
    world.jars["first"] = world.jars["alice"]
    world.jars["alice"] = world.jars["successor"]
    world.clock.advance(RENEW)
    world.jars["successor"] = world.renewed(world.jars["alice"])


def test_row_quiet_within_grace_of_the_last_change() -> None:
    """A token two renewals old, right after the second: not in, no alarm, nothing ended."""
    world = staged(two_renewals)()
    world.clock.advance(GRACE - 1)
    reply = world.get(world.jars["first"], headers=NAVIGATION)
    assert refused(reply, Verdict.QUIET)
    assert not reply.events
    assert world.over(world.jars["alice"]) is None


def test_row_quiet_while_a_rotation_is_not_confirmed() -> None:
    """Any lower generation, however late (D2)."""
    world = staged(signed_in)()
    old = world.jars["alice"]
    assert world.get(old, elevating()).cookie
    world.clock.advance(20 * MINUTE)
    reply = world.get(old, headers=NAVIGATION)
    assert refused(reply, Verdict.QUIET)
    assert not reply.events


def test_row_rotated_away() -> None:
    """Later: refused with a signal, and nothing ends (D2)."""
    world = staged(signed_in)()
    old = world.jars["alice"]
    new = world.get(old, elevating()).cookie
    assert new
    world.confirmed(new)
    reply = world.get(old, headers=NAVIGATION)
    assert refused(reply, Verdict.ROTATED_AWAY)
    assert reply.saw(TokenRefused)
    assert world.over(new) is None


@pytest.mark.parametrize(
    ("which", "verdict"),
    [("alice", Verdict.REUSE_RECENT), ("first", Verdict.REUSE_STALE)],
)
def test_row_reuse_ends_the_session(which: str, verdict: Verdict) -> None:
    """A retired token when no honest browser would: the session ends, with an event (P12)."""
    world = staged(two_renewals)()
    world.clock.advance(MINUTE)
    world.get(world.jars["successor"])
    world.clock.advance(SETTLE)
    world.get(world.jars["successor"])
    world.clock.advance(GRACE)
    reply = world.get(world.jars[which], headers=NAVIGATION)
    assert refused(reply, verdict)
    assert [each.how for each in reply.events if isinstance(each, TokenReuse)] == [verdict.value]
    assert world.over(world.jars["alice"]) is EndReason.REUSE
    assert world.who(world.jars["successor"]) is None


@pytest.mark.parametrize(
    "slow", [{"method": "POST", "body": True}, {"path": "/upload"}], ids=["body", "slow route"]
)
def test_reuse_by_a_slow_request_is_reported_and_the_next_decides(slow: dict[str, Any]) -> None:
    """A body may have been under way for long: refused, reported, ended by the next GET (D)."""
    world = Prepared(confirmed_successor, policy=SessionPolicy(routes=Routes(slow=("/upload",))))()
    world.clock.advance(GRACE)
    old = world.jars["alice"]
    spared = world.get(old, saving(a=1), **slow)
    assert refused(spared, Verdict.REUSE_RECENT)
    assert [each.ended for each in spared.events if isinstance(each, TokenReuse)] == [False]
    assert world.over(old) is None
    ended = world.get(old)
    assert [each.ended for each in ended.events if isinstance(each, TokenReuse)] == [True]
    assert world.over(old) is EndReason.REUSE


def forged(world: World, token: str, *, generation: int, filler: int = 9) -> str:
    """A token that the server issued in another life: right tag, other secret."""
    genuine = world.token(token)
    made = mint(
        world.ctx.keys.tokens,
        key_id=genuine.key_id,
        session_id=genuine.session_id,
        root=genuine.root,
        secret=bytes([filler]) * 16,
        generation=generation,
    )
    return made.text


@pytest.mark.parametrize("generation", [0, 1, 2, 3, generation_of(1, 0), generation_of(7, 7)])
def test_row_another_digest_ends_nothing(generation: int) -> None:
    """Current, previous or a generation above with the wrong secret: refused with an event."""
    world = staged(renewal_lost)()
    other = forged(world, world.jars["alice"], generation=generation)
    world.clock.advance(HOUR // 4)
    for jar in (other,):
        reply = world.get(jar, headers=NAVIGATION)
        assert refused(reply, Verdict.MISMATCH)
        assert reply.saw(TokenRefused)
    assert world.who(world.jars["alice"]) == "alice"


def test_reuse_touches_no_other_session() -> None:
    """D3: a token of an ended session is an event only, whoever is signed in elsewhere."""
    world = staged(confirmed_successor)()
    other = world.sign_in("alice")
    world.clock.advance(GRACE)
    assert world.get(world.jars["alice"]).saw(TokenReuse)
    assert world.who(other) == "alice"
    again = world.get(world.jars["alice"])
    assert again.saw(SessionUseAfterExpire)
    assert not again.saw(TokenReuse)
    assert world.who(other) == "alice"
    superseded = world.sign_in("alice", other)
    assert world.get(other).saw(SessionUseAfterExpire)
    assert world.who(superseded) == "alice"


# D1


def test_racers_with_one_token_get_one_successor() -> None:
    """Three renewals at once: whoever gets a cookie gets the same one (P11)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        handed = {each.cookie for each in replies(fates).values()} - {None}
        assert len(handed) == 1
        assert {each.subject for each in replies(fates).values()} == {"alice"}
        (new,) = handed
        assert world.who(new) == "alice"
        assert world.who(world.jars["alice"]) == "alice"
        assert world.generation(new or "") == 1

    meeting = {
        name: lambda world: world.request(world.jars["alice"], renewing) for name in ("one", "two")
    }
    make = scenario(staged(renewal_due), meeting, check)
    assert interleavings(make, cap=60_000) > 50


@pytest.mark.slow
def test_three_racers_and_one_who_only_looks() -> None:
    """The same of three at once (P11)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        handed = {each.cookie for each in replies(fates).values()} - {None}
        assert len(handed) == 1
        assert {each.subject for each in replies(fates).values()} == {"alice"}

    meeting = {
        name: lambda world: world.request(world.jars["alice"], renewing)
        for name in ("one", "two", "three")
    }
    make = scenario(staged(renewal_due), meeting, check)
    assert interleavings(make, prune=True, cap=200_000) > 50


@pytest.mark.slow
def test_racers_survive_any_fault() -> None:
    """The store fails or a process dies at any op of a renewal: the old token still works (P11)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        handed = {each.cookie for each in replies(fates).values()} - {None}
        assert len(handed) <= 1
        back = world.probe(world.jars["alice"])
        assert back.subject == "alice"
        assert handed <= {back.cookie, None} or not handed
        for jar in handed:
            assert world.who(jar) == "alice"

    meeting = {
        name: lambda world: world.request(world.jars["alice"], renewing) for name in ("one", "two")
    }
    make = scenario(staged(renewal_due), meeting, check)
    assert interleavings(make, with_faults=True, cap=60_000) > 50


def test_a_confirmation_never_moves() -> None:
    """Two requests that both would confirm: the first moment stays, whatever the order (D1)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        moments = [
            heard.record.header.credential.confirmed_at
            for _, op, heard in log.entries
            if isinstance(op, Shift) and isinstance(heard, Outcome) and heard.record is not None
        ]
        set_at = [each for each in moments if each]
        assert world.record(world.jars["alice"]).header.credential.confirmed_at == set_at[0]

    meeting = {name: lambda world: world.request(world.jars["alice"]) for name in ("one", "two")}
    make = scenario(staged(confirmation_due), meeting, check)
    assert interleavings(make, explore_with_time=(MINUTE,), cap=60_000) > 50


def test_a_late_first_use_does_not_undo_a_confirmation() -> None:
    """A process that stood still between two ops must not make a retired token good again (D1)."""
    world = staged(renewal_lost)()
    old, new = world.jars["alice"], world.jars["successor"]
    world.clock.advance(MINUTE)
    stuck = world.request(new)
    op = next(stuck)
    while not isinstance(op, Shift):
        op = stuck.send(getattr(world.store, op.verb)(op))
    # Another process notes the first use and the confirmation while this one stands still.
    world.get(new, saving(a=1))
    world.clock.advance(SETTLE + MINUTE)
    world.get(new)
    world.clock.advance(SETTLE + MINUTE)
    world.get(new)
    world.clock.advance(GRACE)
    assert world.probe(old).saw(TokenReuse)
    with pytest.raises(StopIteration):
        while True:
            op = stuck.send(getattr(world.store, op.verb)(op))
    assert world.probe(old).saw(TokenReuse)


def test_no_renewal_before_grace_after_the_confirmation() -> None:
    """Not even where it is asked for (D1)."""
    world = staged(confirmation_due)()
    jar = world.jars["alice"]
    assert world.get(jar, renewing).cookie is None
    world.clock.advance(GRACE - 1)
    assert world.get(jar, renewing).cookie is None
    world.clock.advance(1)
    assert world.get(jar, renewing).cookie


@pytest.mark.parametrize(
    "said",
    [
        {"websocket": True},
        {"headers": {"sec-purpose": "prefetch"}},
        {"headers": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}},
    ],
    ids=["websocket", "prefetch", "cross-site subresource"],
)
@pytest.mark.parametrize("stage", [renewal_due, renewal_lost])
def test_nothing_is_renewed_where_the_cookie_may_not_be_kept(
    stage: Any, said: dict[str, Any]
) -> None:
    """No renewal starts, and no successor is handed out, on such a response (D1)."""
    world = staged(stage)()
    before = world.record(world.jars["alice"]).header.credential
    reply = world.get(world.jars["alice"], renewing, **said)
    assert reply.subject == "alice"
    assert reply.cookie is None
    assert world.record(world.jars["alice"]).header.credential.generation == before.generation


# D5: records at the last numbers.


def at_generation(world: World, generation: int) -> str:
    """Alice's session, as if it had been renewed and rotated so often; tells its token."""
    old = world.sign_in("alice")
    world.confirmed(old)
    token = world.token(forged(world, old, generation=generation))
    put(world, old, token)
    return token.text


def put(world: World, old: str, token: Token) -> None:
    record: Record = world.record(old)
    following = successor(world.ctx.keys.tokens, token, token.key_id)
    credential = replace(
        record.header.credential,
        generation=token.generation,
        current=token.digest,
        next=bytes(16) if following is None else following.digest,
        changed_by=ChangedBy.RENEWAL,
    )
    shift = Shift(record.session_id, b"r" * 8, record.header.credential.current, credential)
    assert world.store.shift(shift).applied


def test_renewal_stops_at_the_last_number() -> None:
    """The session goes on under its last token, with an event; nothing wraps (D5)."""
    world = World()
    last = at_generation(world, generation_of(3, MAX_RENEWAL))
    reply = world.get(last, renewing)
    assert reply.subject == "alice"
    assert reply.cookie is None
    assert reply.saw(GenerationsUsedUp)
    assert world.generation(last) == generation_of(3, MAX_RENEWAL)
    assert world.get(last, elevating()).cookie, "a rotation starts its numbers from zero"


def test_the_last_renewal_but_one_still_works() -> None:
    """Up to the last number a renewal is one (D5)."""
    world = World()
    jar = at_generation(world, generation_of(0, MAX_RENEWAL - 1))
    new = world.renewed(jar)
    assert world.generation(new) == MAX_RENEWAL
    world.confirmed(new)
    assert world.get(new, renewing).cookie is None
    assert world.who(new) == "alice"


def test_at_the_last_rotation_a_new_sign_in_is_asked_for() -> None:
    """The privilege does not change, the session goes on, an event says why (D5)."""
    world = World()
    last = at_generation(world, generation_of(MAX_ROTATION, 5))
    reply = world.get(last, elevating())
    assert isinstance(reply.error, SessionEnded)
    assert reply.saw(GenerationsUsedUp)
    assert world.who(last) == "alice"
    assert world.get(last, signing_in("alice")).cookie


def test_generations_only_grow() -> None:
    """Whatever is done to a record, its generation never goes back (D5)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        seen = 0
        for _, op, heard in log.entries:
            if isinstance(op, Insert | Rotate | Shift) and isinstance(heard, Outcome):
                assert heard.record is not None
                assert heard.record.header.credential.generation >= seen
                seen = heard.record.header.credential.generation

    meeting = {
        "renew": lambda world: world.request(world.jars["alice"], renewing),
        "elevate": lambda world: world.request(world.jars["alice"], elevating(), method="POST"),
    }
    assert interleavings(scenario(staged(renewal_due), meeting, check)) > 10


def test_the_open_flow_ends_whatever_moves_under_it() -> None:
    """Adoption looks again at most a few times, then refuses quietly (D, H2)."""
    world = staged(renewal_forgotten)()
    jar = world.jars["alice"]
    flow = world.request(jar, nothing)
    op = next(flow)
    reply: Reply | None = None
    try:
        while True:
            if isinstance(op, Shift):
                op = flow.send(Outcome(applied=False, record=world.record(jar)))
            else:
                op = flow.send(getattr(world.store, op.verb)(op))
    except StopIteration as done:
        reply = done.value
    assert reply is not None
    assert (reply.subject, reply.cookie) == (None, None)
    assert world.who(jar) == "alice"
    assert flows.candidates(reply.here)[0].text == jar


def test_a_busier_thief_does_not_put_off_the_confirmation() -> None:
    """Whoever is on the old token takes every touch; the use of the new one is noted all the same.

    Else the confirmation, and with it being found, would wait for as long as the thief is the
    busier one of the two (D1, P12). Found by the simulation.
    """
    world = staged(signed_in)()
    stolen = world.confirmed(world.jars["alice"])
    world.clock.advance(15 * MINUTE)
    new = world.get(stolen).cookie
    assert new
    renewed_at = world.clock()
    while not (reply := world.get(stolen)).saw(TokenReuse):
        assert world.clock() < renewed_at + 15 * MINUTE, "found before the next renewal is due"
        world.clock.advance(10 * SECOND)
        world.get(new)
        world.clock.advance(MINUTE)
    assert reply.subject is None
    assert world.over(new) is EndReason.REUSE
