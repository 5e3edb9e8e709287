"""F1 to F3, A4, P13 and P21: which cookie leaves with a response, and which never does."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from strongroom.core.cookies import CookieSpec
from strongroom.core.errors import SessionReadOnly
from strongroom.core.events import CookieTossing, TokenRefused, TokenReuse
from strongroom.core.ops import Find
from strongroom.testing import Fates, interleavings
from tests.flows.scenes import (
    anonymous,
    check_no_late_cookie,
    confirmation_due,
    renewal_due,
    renewal_lost,
    signed_in,
)
from tests.support.flows import (
    GRACE,
    HOUR,
    NAVIGATION,
    Action,
    Log,
    Prepared,
    World,
    Worlds,
    a_key,
    a_ring,
    chain,
    elevating,
    jars_after,
    nothing,
    renewing,
    replies,
    saving,
    scenario,
    signing_in,
    signing_out,
    writing,
)


@cache
def staged(stage: Any) -> Worlds:
    return Prepared(stage)


PAIRS = {
    "renew and sign out": (renewing, signing_out),
    "renew and elevate": (renewing, elevating()),
    "renew and sign in": (renewing, signing_in("alice")),
    "elevate and sign out": (elevating(), signing_out),
    "sign in and sign out": (signing_in("alice"), signing_out),
    "save and renew": (saving(a=1), renewing),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_no_response_hands_out_an_older_cookie_than_the_record_has(pair: str) -> None:
    """Decided at the response's start, against the record as it is then (F1)."""
    one, two = PAIRS[pair]

    def check(world: World, fates: Fates, log: Log) -> None:
        check_no_late_cookie(world, fates, log)
        for name, reply in replies(fates).items():
            if not reply.cookie:
                continue
            token = world.token(reply.cookie)
            decided = [
                heard.record.header.credential
                for who, op, heard in log.entries
                if who == name and isinstance(op, Find) and heard is not None
            ][-1]
            assert token.digest == decided.current, "older than what the record said"

    meeting = {
        "one": lambda world: world.request(world.jars["alice"], one, method="POST"),
        "two": lambda world: world.request(world.jars["alice"], two, method="POST"),
    }
    assert interleavings(scenario(staged(renewal_due), meeting, check), cap=60_000) > 8


@pytest.mark.parametrize("pair", PAIRS)
def test_whatever_order_responses_arrive_in_nobody_is_called_a_thief(pair: str) -> None:
    """In any order, any of them lost: at worst a sign-in, never an alarm (F1, P11)."""
    one, two = PAIRS[pair]

    def check(world: World, fates: Fates, log: Log) -> None:
        for jar in set(jars_after(world.jars["alice"], replies(fates).values())):
            for later in (0, GRACE, HOUR // 3):
                world.clock.advance(later)
                assert not world.probe(jar).saw(TokenReuse)
            world.clock.rewind(GRACE + HOUR // 3)

    meeting = {
        "one": lambda world: world.request(world.jars["alice"], one, method="POST"),
        "two": lambda world: world.request(world.jars["alice"], two, method="POST"),
    }
    assert interleavings(scenario(staged(renewal_due), meeting, check), cap=60_000) > 8


def test_only_sign_out_and_a_late_navigation_clear_the_cookie() -> None:
    """Scripts and requests shortly after the end leave the jar alone (F1, P13)."""
    world = staged(signed_in)()
    jar = world.jars["alice"]
    assert world.get(jar, signing_out).cookie == ""
    for later, headers, expected in (
        (0, NAVIGATION, None),
        (GRACE - 1, NAVIGATION, None),
        (1, {}, None),
        (0, NAVIGATION, ""),
    ):
        world.clock.advance(later)
        assert world.probe(jar, headers=headers).cookie == expected


def test_a_stranger_s_cookie_is_not_adopted() -> None:
    """Noise, a forged tag, a token of another realm: refused before the store is asked (P2)."""
    world = staged(signed_in)()
    jar = world.jars["alice"]
    other = World(ring=a_ring(a_key(1)), seed="other").sign_in("alice")
    for noise in ("", "x", "x" * 84, jar[:-1] + ("A" if jar[-1] != "A" else "B"), other):
        reply = world.probe(noise, headers=NAVIGATION)
        assert reply.subject is None
        saved = world.get(noise, writing(a=1))
        assert saved.cookie != noise
    assert world.who(jar) == "alice"


# F2


@pytest.mark.parametrize("action", [writing(a=1), signing_in("alice")], ids=["write", "sign in"])
def test_a_cross_site_post_without_our_cookie_begins_nothing(action: Action) -> None:
    """The cookie may be at home; the error names the way that works (F2)."""
    world = World()
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        with pytest.raises(SessionReadOnly, match="start_new"):
            world.get(None, action, method="POST", headers=headers)
        assert world.get(None, nothing, method="POST", headers=headers).edits.cookies == []


@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}, {}],
)
def test_our_own_posts_may_begin_a_session(headers: dict[str, str]) -> None:
    """A form of ours, an address typed in, an old browser (F2)."""
    assert World().get(None, signing_in("alice"), method="POST", headers=headers).cookie


def test_a_cross_site_post_that_brought_the_cookie_is_in_the_session() -> None:
    """Then nothing is unknown; whether it may act is the cross-site rule's affair (F2, P19)."""
    world = staged(signed_in)()
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    reply = world.get(world.jars["alice"], saving(a=1), method="POST", headers=headers)
    assert reply.subject == "alice"


# F3


def test_the_highest_generation_of_one_session_wins() -> None:
    """In either order, and noise beside it does not matter (F3, P21)."""
    world = staged(renewal_lost)()
    old, new = world.jars["alice"], world.jars["successor"]
    for jar in ([old, new], [new, old], ["x" * 84, new], [new, "noise", old, old]):
        reply = world.probe(jar)
        assert reply.subject == "alice"
        assert reply.here.token is not None
        assert reply.here.token.text == new
        assert not reply.saw(CookieTossing)


def two_sessions(world: World) -> None:
    """Alice's cookie, and one of mallory's that he tossed into her jar."""
    world.jars["alice"] = world.sign_in("alice")
    world.jars["mallory"] = world.sign_in("mallory")


@pytest.mark.parametrize("turned", [False, True])
def test_two_valid_sessions_are_a_signal_and_nobody(turned: bool) -> None:
    """Anonymous, nothing written, the signal raised; a navigation drops the name (F3, P21)."""
    world = staged(two_sessions)()
    jar = list(world.jars.values())[:: -1 if turned else 1]
    before = [world.record(each) for each in jar]
    reply = world.get(jar, writing(a=1))
    assert reply.subject is None
    assert reply.saw(CookieTossing)
    assert reply.cookie is None
    assert [world.record(each) for each in jar] == before
    assert world.probe(jar, headers=NAVIGATION).cookie == ""
    assert world.who(jar[0]) in ("alice", "mallory")


def test_a_sign_in_clears_up_a_tossed_jar() -> None:
    """Signing in hands out a new cookie, and ends neither of the two (F3)."""
    world = staged(two_sessions)()
    jar = list(world.jars.values())
    new = world.get(jar, signing_in("alice"), method="POST").cookie
    assert world.who(new) == "alice"
    assert {world.who(each) for each in jar} == {"alice", "mallory"}


def test_at_most_four_tokens_are_looked_up() -> None:
    """Four cost four reads; more are tossing on sight, and cost none (F3)."""
    world = World()
    jar = [world.sign_in(f"user {number}") for number in range(5)]
    for count, expected in ((4, 4), (5, 0)):
        log = Log()
        reply = world.run(log.watch("it", world.request(jar[:count])))
        assert reply.saw(CookieTossing)
        assert len([op for _, op, _ in log.entries if isinstance(op, Find)]) == expected


def test_a_dead_cookie_beside_a_live_one_does_not_matter() -> None:
    """One valid session is entered, whatever else is in the jar (F3)."""
    world = staged(two_sessions)()
    alice, mallory = world.jars["alice"], world.jars["mallory"]
    world.get(mallory, signing_out)
    world.clock.advance(GRACE)
    for jar in ([alice, mallory], [mallory, alice]):
        reply = world.probe(jar, headers=NAVIGATION)
        assert reply.subject == "alice"
        assert reply.cookie is None


def test_a_locked_cookie_is_not_cleared_by_a_dead_one_beside_it() -> None:
    """What one token forbids, another does not bring about (A4, F1)."""
    rings = a_ring(a_key(1)), a_ring(a_key(1), a_key(2))
    world = World(ring=rings[1])
    unknown = world.sign_in("alice")
    behind = World(ring=rings[0], store=world.store, now=world.clock(), seed="behind")
    dead = behind.sign_in("bob")
    behind.get(dead, signing_out)
    behind.clock.advance(HOUR)
    assert behind.probe(dead, headers=NAVIGATION).cookie == ""
    for jar in ([unknown, dead], [dead, unknown]):
        assert behind.probe(jar, headers=NAVIGATION).cookie is None


# A4


def test_an_unknown_key_locks_the_cookie() -> None:
    """Another process may know the key: nothing is set, cleared or written (A4)."""
    ahead = World(ring=a_ring(a_key(1), a_key(2)))
    jar = ahead.sign_in("alice")
    behind = World(ring=a_ring(a_key(1)), store=ahead.store, seed="behind")
    for action in (nothing, writing(a=1), renewing):
        reply = behind.get(jar, action, headers=NAVIGATION)
        assert reply.subject is None
        assert reply.edits.cookies == []
        assert reply.here.refusal == "unknown_key"
        assert reply.saw(TokenRefused)
    behind.get(jar, signing_out)
    assert ahead.who(jar) == "alice", "what is not known is not ended"
    new = behind.get(jar, signing_in("alice"), method="POST").cookie
    assert new, "except by an explicit sign-in"
    assert ahead.who(new) == "alice"


def test_two_first_writes_make_two_visitors() -> None:
    """Said plainly in the documentation: one of two parallel first carts is lost (I)."""

    def check(world: World, fates: Fates, log: Log) -> None:
        done = replies(fates)
        one, two = done["one"].cookie, done["two"].cookie
        assert one and two
        assert one != two
        assert world.data(one) == {"one": 1}
        assert world.data(two) == {"two": 2}

    meeting = {
        "one": lambda world: world.request(None, writing(one=1)),
        "two": lambda world: world.request(None, writing(two=2)),
    }
    assert interleavings(scenario(World, meeting, check)) > 5


def test_signing_out_and_writing_in_one_request() -> None:
    """A farewell message starts a new anonymous session; the old cookie is replaced (P13, F4)."""
    world = staged(signed_in)()
    old = world.jars["alice"]
    reply = world.get(old, chain(signing_out, writing(flash="bye")))
    assert reply.cookie
    assert world.data(reply.cookie) == {"flash": "bye"}
    assert world.who(reply.cookie) is None
    assert world.who(old) is None
    assert (b"clear-site-data", b'"storage"') in reply.edits.headers


def test_a_wide_deletion_only_where_cookies_were_tossed() -> None:
    """The default cookie has no parent domain to be tossed from (F3)."""
    assert CookieSpec("__Host-id").render_deletions_wide("a.bank.example") == [
        CookieSpec("__Host-id").render_deletion()
    ]


@pytest.mark.parametrize("stage", [signed_in, anonymous, confirmation_due])
def test_nothing_changes_no_cookie(stage: Any) -> None:
    """P13 for every kind that reads."""
    world = staged(stage)()
    (jar, *_) = world.jars.values()
    assert world.get(jar).edits.cookies == []
