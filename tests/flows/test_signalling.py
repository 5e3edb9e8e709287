"""Signals in flows: told in events, answered by the policy's table, and never in a reader's way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from strongroom import SessionPolicy
from strongroom.core import flows
from strongroom.core.errors import SignInRefused
from strongroom.core.events import (
    LoginFailed,
    LoginSuccess,
    SessionEndedEvent,
    SignalRaised,
    SignedOutEverywhere,
)
from strongroom.core.flows.signalling import judge_use, seen_by
from strongroom.core.ops import Flow, Op, ReadHistory
from strongroom.core.places import UNKNOWN, Place
from strongroom.core.record import EndReason
from strongroom.core.responses import DEFAULT_RESPONSES, Response, rule
from strongroom.core.risk import Population
from strongroom.core.stepup import Challenge, Requirement, Satisfied, ask
from strongroom.core.visit import Visit
from tests.support.flows import (
    HOUR,
    MINUTE,
    Reply,
    World,
    elevating,
    facts,
    nothing,
    signing_in,
    writing,
)

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
UPGRADED = FIREFOX.replace("130", "131")
CHROME = "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/130.0 Safari/537.36"
PHONE = "Mozilla/5.0 (iPhone) AppleWebKit/605.1 Version/17.0 Safari/605.1"
BERLIN = Place("DE", "Berlin", 52.52, 13.405, 20.0, "AS3320")
SYDNEY = Place("AU", "Sydney", -33.87, 151.21, 50.0, "AS1221")
PLACES = {"192.0.2.7": BERLIN, "198.51.100.9": SYDNEY, "192.0.3.8": BERLIN}
HOME, AWAY, NEXT_DOOR = "192.0.2.7", "198.51.100.9", "192.0.3.8"


class Town(World):
    """A world whose requests come from addresses, and whose histories are kept."""

    def __init__(self, *, policy: SessionPolicy | None = None) -> None:
        super().__init__(policy=policy or SessionPolicy())
        self.ctx = replace(
            self.ctx, locate=lambda address: PLACES.get(address, UNKNOWN), everybody=Population()
        )
        self.asked: list[Op] = []

    def at(
        self,
        jar: str | None,
        action: Any = nothing,
        *,
        agent: str = FIREFOX,
        address: str = HOME,
        method: str = "GET",
    ) -> Reply:
        """A request from there; what it told is kept, as the managers do it."""
        said = replace_peer(facts(jar, method=method, agent=agent), address)
        reply = self.run(self._recorded(request(self.ctx, said, action)))
        if reply.visit is not None:
            self.run(flows.keep_history(self.ctx, reply.visit.events))
        return reply

    def _recorded(self, flow: Flow[Reply]) -> Flow[Reply]:
        try:
            op = next(flow)
            while True:
                self.asked.append(op)
                op = flow.send((yield op))
        except StopIteration as done:
            reply: Reply = done.value
            return reply

    def signs_in(self, jar: str | None = None, **where: str) -> Reply:
        return self.at(jar, signing_in("alice"), method="POST", **where)

    def fails(self, **where: str) -> None:
        def failing(visit: Visit) -> Flow[None]:
            visit.note(LoginFailed, session_id=None, subject="alice", seen=seen_by(visit))
            yield from ()

        self.at(None, failing, method="POST", **where)


def replace_peer(said: Any, address: str) -> Any:
    from strongroom.core.exchange import RequestFacts

    return RequestFacts(
        method=said.method, path=said.path, headers=said.headers, peer=address, scheme="https"
    )


def request(ctx: Any, said: Any, action: Any) -> Flow[Reply]:
    from tests.support.flows import a_request

    return a_request(ctx, said, action, 200)


def told(reply: Reply) -> dict[str, SignalRaised]:
    return {each.signal: each for each in reply.events if isinstance(each, SignalRaised)}


def asks_again(visit: Visit) -> bool:
    """Whether a page that wants a recent sign-in asks for one."""
    judge_use(visit)
    answer = ask(
        Requirement(max_age=10 * MINUTE),
        visit.factors,
        visit.ctx.now(),
        doubtful=visit.is_doubtful,
    )
    assert isinstance(answer, Satisfied | Challenge)
    return isinstance(answer, Challenge) and answer.reason == "doubtful"


def asking(found: list[bool]) -> Callable[[Visit], Flow[None]]:
    def action(visit: Visit) -> Flow[None]:
        found.append(asks_again(visit))
        yield from ()

    return action


def with_rules(signal: str, *responses: Response) -> SessionPolicy:
    return SessionPolicy(
        responses=DEFAULT_RESPONSES.changed({signal: (rule(signal, 0.0, *responses),)})
    )


# At a sign-in.


def test_a_first_sign_in_raises_nothing() -> None:
    """Everything about it is new. What it looked like is kept for the next one."""
    reply = Town().signs_in()
    assert told(reply) == {}
    (event,) = [each for each in reply.events if isinstance(each, LoginSuccess)]
    assert event.seen is not None
    assert (event.seen["agent"], event.seen["version"]) == ("Firefox", 130)
    assert (event.seen["country"], event.seen["network"]) == ("DE", "192.0.2.0/24")


def test_a_new_device_is_told_and_nobody_is_hindered() -> None:
    """The owner is told; the sign-in stands, with its full assurance (ASVS 6.3.5)."""
    town = Town()
    town.signs_in()
    town.clock.advance(HOUR)
    reply = town.signs_in(agent=PHONE)
    signal = told(reply)["new_device"]
    assert signal.responses == ("notify", "record")
    assert signal.subject == "alice"
    assert signal.session_id == reply.here.session_id
    assert reply.subject == "alice"
    found: list[bool] = []
    town.at(reply.cookie, asking(found), agent=PHONE)
    assert found == [False]


def test_impossible_travel_lowers_the_assurance_until_a_fresh_proof() -> None:
    """Sensitive pages ask again, once; a proof from there makes it the session's own (P25)."""
    town = Town()
    town.signs_in()
    town.clock.advance(HOUR)
    reply = town.signs_in(address=AWAY)
    assert "impossible_travel" in told(reply)
    found: list[bool] = []
    town.at(reply.cookie, asking(found), address=AWAY)
    elevated = town.at(reply.cookie, elevating("pwd"), address=AWAY, method="POST")
    town.at(elevated.cookie, asking(found), address=AWAY)
    assert found == [True, False]


def test_guessing_until_it_works_is_told() -> None:
    """Failures stand in the history with what they looked like; the success after them tells."""
    town = Town()
    town.signs_in()
    for _ in range(6):
        town.clock.advance(MINUTE)
        town.fails(agent=CHROME, address=AWAY)
    town.clock.advance(MINUTE)
    signal = told(town.signs_in())["after_failures"]
    assert signal.evidence["from_other_networks"] == 6


def test_the_table_can_refuse_a_sign_in() -> None:
    """Before any record is made: nobody is signed in, and the event says why."""
    town = Town(policy=with_rules("new_device", Response.END))
    jar = town.signs_in().cookie
    reply = town.signs_in(agent=PHONE)
    assert isinstance(reply.error, SignInRefused)
    assert reply.status == 403
    assert reply.subject is None
    assert "new_device" in told(reply)
    assert "Safari on iPhone" in reply.error.why
    assert town.who(jar) == "alice", "the account's other session goes on"


def test_the_table_can_end_everything_at_a_sign_in() -> None:
    """The account's other sessions end, and sign-ins that are under way with them (P15)."""
    town = Town(policy=with_rules("new_device", Response.END_ALL))
    jar = town.signs_in().cookie
    reply = town.signs_in(agent=PHONE)
    assert isinstance(reply.error, SignInRefused)
    assert jar is not None
    assert town.over(jar) is EndReason.SIGNAL
    assert reply.saw(SignedOutEverywhere)


def test_without_a_history_there_are_no_signals() -> None:
    """A policy that keeps none asks for none."""
    town = Town(policy=SessionPolicy(history_length=0))
    town.signs_in()
    assert told(town.signs_in(agent=PHONE)) == {}
    assert not any(isinstance(op, ReadHistory) for op in town.asked)


def test_a_first_factor_is_not_judged_and_the_whole_sign_in_is() -> None:
    """One sign-in in two steps raises each signal once."""
    town = Town()
    town.signs_in()
    town.clock.advance(HOUR)
    first = town.at(None, signing_in("alice", pending=True), agent=PHONE, method="POST")
    assert told(first) == {}
    second = town.at(first.cookie, signing_in("alice", "otp"), agent=PHONE, method="POST")
    assert "new_device" in told(second)


# In use.


def test_an_honest_session_raises_nothing() -> None:
    """Upgrades, a new day, the same network: nothing is said."""
    town = Town()
    jar = town.signs_in().cookie
    for _ in range(10):
        town.clock.advance(5 * MINUTE)
        reply = town.at(jar, writing(x=town.clock()), agent=UPGRADED, method="POST")
        jar = reply.cookie or jar
        assert told(reply) == {}


def test_a_cookie_in_another_browser_asks_again_and_is_told_once() -> None:
    """What is sensitive asks; the rest goes on; the event comes once, not with each request."""
    town = Town()
    jar = town.signs_in().cookie
    found: list[bool] = []
    first = town.at(jar, asking(found), agent=CHROME, method="POST")
    second = town.at(jar, asking(found), agent=CHROME, method="POST")
    assert found == [True, True]
    assert told(first)["agent_changed"].responses == ("lower", "notify", "record")
    assert told(second) == {}
    assert first.subject == second.subject == "alice"
    third = town.at(jar, asking(found))
    assert found[-1] is False, "at home nothing changed"
    assert told(third) == {}


def test_a_read_is_not_looked_at_until_it_is_due_for_a_touch() -> None:
    """Reading costs nothing more; within a touch interval the thief is noticed all the same."""
    town = Town()
    jar = town.signs_in().cookie
    assert told(town.at(jar, agent=CHROME)) == {}
    town.clock.advance(MINUTE)
    assert "agent_changed" in told(town.at(jar, agent=CHROME))


def test_a_phone_that_changes_its_network_is_only_recorded() -> None:
    """Within one country, with the same browser: no question, no notice."""
    town = Town()
    jar = town.signs_in().cookie
    found: list[bool] = []
    reply = town.at(jar, asking(found), address=NEXT_DOOR, method="POST")
    assert told(reply)["address_changed"].responses == ("record",)
    assert found == [False]


def test_an_older_browser_renews_the_token() -> None:
    """Somebody with a copy then holds a retired token (P12)."""
    town = Town()
    jar = town.signs_in().cookie
    town.clock.advance(MINUTE)
    town.at(jar)
    town.clock.advance(2 * MINUTE)
    town.at(jar)
    town.clock.advance(MINUTE)
    reply = town.at(jar, agent=FIREFOX.replace("130", "115"), method="POST")
    assert told(reply)["agent_changed"].responses == ("record", "renew")
    assert reply.cookie not in (None, jar)


def test_to_and_fro_between_two_networks_is_two_places() -> None:
    """A phone leaves a network once; two browsers with one cookie go on and on."""
    town = Town()
    jar = town.signs_in().cookie
    raised: list[str] = []
    for number in range(8):
        town.clock.advance(30_000)
        where = NEXT_DOOR if number % 2 else HOME
        reply = town.at(jar, writing(x=number), address=where, method="POST")
        jar = reply.cookie or jar
        raised += told(reply)
    assert "two_places" in raised
    assert raised.count("two_places") == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_table_can_end_a_session_in_use(method: str) -> None:
    """A request that changes something does nothing any more; a read ends it at its touch (P6)."""
    town = Town(policy=with_rules("agent_changed", Response.END))
    jar = town.signs_in().cookie
    assert jar is not None
    town.clock.advance(2 * MINUTE)
    reply = town.at(
        jar, writing(stolen=True) if method == "POST" else nothing, agent=CHROME, method=method
    )
    assert town.over(jar) is EndReason.SIGNAL
    assert reply.saw(SessionEndedEvent)
    if method == "POST":
        assert reply.subject is None
    assert town.at(jar).subject is None, "it stays ended, at home too"


def test_the_table_can_end_all_of_an_account_in_use() -> None:
    """With the session that the signal came from."""
    town = Town(policy=with_rules("agent_changed", Response.END_ALL))
    jar, other = town.signs_in().cookie, town.signs_in().cookie
    assert jar is not None and other is not None
    town.at(jar, agent=CHROME, method="POST")
    assert town.over(jar) is town.over(other) is EndReason.SIGNAL


def test_a_broken_database_of_addresses_hinders_nobody() -> None:
    """Unknown is unknown: no place, no travel, no error (issue: never an outage)."""
    town = Town()
    town.ctx = replace(town.ctx, locate=lambda address: UNKNOWN)
    town.signs_in()
    assert "impossible_travel" not in told(town.signs_in(address=AWAY))


# Privacy.


@pytest.mark.parametrize(
    ("kept", "address", "network"),
    [
        ("full", HOME, "192.0.2.0/24"),
        ("network", "192.0.2.0/24", "192.0.2.0/24"),
        ("none", None, ""),
    ],
)
def test_an_address_is_kept_as_the_policy_says(
    kept: Any, address: str | None, network: str
) -> None:
    """Whole, cut to its network, or not at all: in events, records and histories alike."""
    town = Town(policy=SessionPolicy(keep_address=kept))
    reply = town.signs_in()
    identity = reply.here.identity
    assert identity is not None
    assert (identity.address, identity.device.network) == (address, network)
    assert {each.address for each in reply.events} == {address}
    seen = [each.seen for each in reply.events if isinstance(each, LoginSuccess)]
    assert (seen[0] or {}).get("network", "") == network
    whole = repr(town.run(flows.history(town.ctx, "alice")))
    assert (HOME in whole) is (kept == "full")


def test_the_absolute_timeout_is_not_moved_by_any_of_it() -> None:
    """Signals change assurance, never clocks (P9)."""
    town = Town(policy=SessionPolicy(absolute_timeout=timedelta(hours=1)))
    jar = town.signs_in().cookie
    before = town.record(jar or "").header
    town.at(jar, agent=CHROME, method="POST")
    identity = town.ctx.open_identity(town.record(jar or ""))
    assert identity is not None
    assert identity.absolute_deadline == identity.created_at + HOUR
    assert before.inserted_at == town.record(jar or "").header.inserted_at
