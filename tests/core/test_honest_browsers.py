"""No honest schedule is ever called theft, and a thief who forks is found (P11, P12).

A server that keeps only the credential meets one browser with any number of tabs. Requests and
responses are under way for up to `grace`, in any order; responses get lost; a load balancer sends a
request twice; the browser crashes and comes back with the jar that was on its disk up to half a
minute ago; the store loses its last writes. Hypothesis looks for the schedule that goes wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from strongroom.core.credentials import (
    HANDING_OUT,
    Credential,
    Verdict,
    confirmation_due,
    confirmed,
    create,
    first_used,
    handed_out_again,
    judge,
    next_rotation,
    renewal_allowed,
    renewed,
    rotated,
)
from strongroom.core.tokens import Token, mint, successor
from strongroom.testing import FixedEntropy
from tests.core.kit import KEYS, NOW, a_token

GRACE = 30_000
SETTLE = 90_000
UNDER_WAY = GRACE - 1
"""The longest that a request, or a response, takes."""
DISK_LAG = SETTLE - 2 * GRACE - 1
"""How far the jar on disk is behind the one in memory: Chromium writes every 30 s."""

DELAYS = st.sampled_from((1, 500, GRACE // 2, GRACE - 1, GRACE, SETTLE - 1, SETTLE, 20 * SETTLE))
FEW = st.integers(0, 3)
RARELY = st.sampled_from((False, False, False, True))
OFTEN = st.sampled_from((True, True, True, False))


class Server:
    """What the flows do with a credential, in one step each: judge, then first use and the rest."""

    def __init__(self, token: Token, now: int, settle: int = SETTLE) -> None:
        self.settle = settle
        self.credential = create(token, successor(KEYS, token, 1), now)
        self.entropy = FixedEntropy("server")
        self.before = self.credential
        self.issued: dict[int, set[str]] = {}

    def handle(
        self, token: Token, now: int, *, elevate: bool = False
    ) -> tuple[Verdict, Token | None]:
        """The verdict on a request, and the cookie of its response."""
        verdict = judge(self.credential, token, now, GRACE, self.settle)
        match verdict:
            case Verdict.CURRENT:
                return verdict, self.use(token, now, elevate=elevate)
            case Verdict.ADOPT:
                following = successor(KEYS, token, 1)
                self.keep(first_used(renewed(self.credential, token, following, now), now))
                return verdict, None
            case Verdict.SUCCESSOR:
                self.keep(handed_out_again(self.credential, now, self.settle))
                return verdict, self.send(successor(KEYS, token, 1))
            case _:
                return verdict, None

    def use(self, token: Token, now: int, *, elevate: bool) -> Token | None:
        """Note a use of the current token; rotate if asked, else renew if it is time."""
        credential = first_used(self.credential, now)
        if confirmation_due(credential, now, self.settle):
            credential = confirmed(credential, now)
        generation = next_rotation(credential.generation)
        if elevate and generation is not None:
            secret = self.entropy(16)
            fresh = mint(
                KEYS,
                key_id=1,
                session_id=token.session_id,
                root=token.root,
                secret=secret,
                generation=generation,
            )
            self.keep(rotated(fresh, successor(KEYS, fresh, 1), now))
            return self.send(fresh)
        following = successor(KEYS, token, 1)
        if renewal_allowed(credential, now, GRACE) and following is not None:
            self.keep(renewed(credential, following, successor(KEYS, following, 1), now))
            return self.send(following)
        self.keep(credential)
        return None

    def send(self, token: Token | None) -> Token | None:
        """Remember what was handed out, so that racers can be compared."""
        if token is not None:
            self.issued.setdefault(token.generation, set()).add(token.text)
        return token

    def keep(self, credential: Credential) -> None:
        if credential != self.credential:
            self.before, self.credential = self.credential, credential

    def lose_last_write(self) -> None:
        """A failover to a replica that had not heard of it yet."""
        self.credential = self.before


@dataclass(frozen=True)
class Message:
    """Something under way: a request with its token, or a response with its cookie."""

    token: Token
    sent_at: int


class Honest(RuleBasedStateMachine):
    """One browser that does nothing wrong, on a network and a machine that do."""

    can_lose_writes = False
    can_rotate = False
    settle = SETTLE
    under_way = UNDER_WAY
    disk_lag = DISK_LAG

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.jar = a_token()
        self.server = Server(self.jar, self.now, self.settle)
        # The jar as it was, with the moment at which it became so.
        self.written: list[tuple[int, Token]] = [(self.now, self.jar)]
        self.requests: list[Message] = []
        self.responses: list[Message] = []

    @rule()
    def a_tab_asks(self) -> None:
        if len(self.requests) < 6:
            self.requests.append(Message(self.jar, self.now))

    @precondition(lambda self: self.requests)
    @rule(which=FEW, again=RARELY, answered=OFTEN)
    def the_server_answers(self, which: int, again: bool, answered: bool) -> None:
        """A request arrives; a retrying balancer keeps it under way; the answer may get lost."""
        index = which % len(self.requests)
        message = self.requests[index] if again else self.requests.pop(index)
        cookie = self.handle(message.token)
        if answered and cookie is not None:
            self.responses.append(Message(cookie, self.now))

    @precondition(lambda self: self.responses)
    @rule(which=FEW)
    def a_response_arrives(self, which: int) -> None:
        self.receive(self.responses.pop(which % len(self.responses)).token)

    @rule(by=DELAYS)
    def time_passes(self, by: int) -> None:
        """What is under way for longer than an honest network needs is lost."""
        self.now += by
        oldest = self.now - self.under_way
        self.requests = [each for each in self.requests if each.sent_at >= oldest]
        self.responses = [each for each in self.responses if each.sent_at >= oldest]

    @rule(share=st.sampled_from((0.0, 0.1, 0.5, 1.0)))
    def the_browser_crashes(self, share: float) -> None:
        """It restores the jar that its disk had. What was coming in is lost, what went out not."""
        lag = int(share * self.disk_lag)
        on_disk = [jar for since, jar in self.written if since <= self.now - lag]
        self.jar = on_disk[-1] if on_disk else self.written[0][1]
        self.written = [(self.now - lag, self.jar)]
        self.responses = []

    @rule(times=st.integers(1, 3), pause=st.sampled_from((1, 500, GRACE // 2)))
    def a_page_loads(self, times: int, pause: int) -> None:
        """A few requests with their responses, one after the other."""
        for _ in range(times):
            self.browse()
            self.time_passes(pause)

    @rule()
    def an_hour_goes_by(self) -> None:
        """Afterwards the token is confirmed, and the next request renews it."""
        for _ in range(2):
            self.browse()
            self.time_passes(SETTLE)

    @precondition(lambda self: self.can_lose_writes)
    @rule()
    def the_store_fails_over(self) -> None:
        self.server.lose_last_write()

    @precondition(lambda self: self.can_rotate and self.requests)
    @rule(answered=st.booleans())
    def somebody_elevates(self, answered: bool) -> None:
        cookie = self.handle(self.requests.pop().token, elevate=True)
        if answered and cookie is not None:
            self.responses.append(Message(cookie, self.now))

    @invariant()
    def racers_agree(self) -> None:
        """One generation has one token, except where the store forgot a rotation (P11)."""
        if not (self.can_lose_writes and self.can_rotate):
            assert all(len(texts) == 1 for texts in self.server.issued.values())

    def browse(self) -> None:
        """One request and its response, at once."""
        cookie = self.handle(self.jar)
        if cookie is not None:
            self.receive(cookie)

    def receive(self, cookie: Token) -> None:
        """The browser keeps whatever it is sent."""
        self.jar = cookie
        self.written.append((self.now, cookie))

    def handle(self, token: Token, *, elevate: bool = False) -> Token | None:
        """The server's answer, which is never "theft", and never even a refusal without a cause."""
        verdict, cookie = self.server.handle(token, self.now, elevate=elevate)
        assert not verdict.is_reuse, f"an honest request was called {verdict.value}"
        if not (self.can_lose_writes or self.can_rotate):
            assert verdict.accepted or self.lost_late(), f"refused: {verdict.value}"
        return cookie

    def lost_late(self) -> bool:
        """The jar was lost long after the renewal and soon after a use: that costs a sign-in."""
        credential, patience = self.server.credential, HANDING_OUT * SETTLE
        used_at = credential.first_used_at
        long_after = credential.changed_at + patience <= self.now
        return long_after and used_at + GRACE <= self.now < used_at + patience


class HonestWithFailovers(Honest):
    """The store may lose its last write at any moment."""

    can_lose_writes = True


class HonestWithRotations(Honest):
    """Privilege changes, and the response that says so may get lost."""

    can_rotate = True


class HonestWithEverything(Honest):
    """All of it."""

    can_lose_writes = True
    can_rotate = True


HONEST = (Honest, HonestWithFailovers, HonestWithRotations, HonestWithEverything)


def search(machine: type[Honest], examples: int | None = None, **more: Any) -> None:
    """Let Hypothesis look for a schedule that the machine's assertions refuse."""
    profile = settings.default
    assert profile is not None
    more["max_examples"] = examples or profile.max_examples
    run_state_machine_as_test(machine, settings=settings(stateful_step_count=30, **more))


@pytest.mark.parametrize("machine", HONEST)
def test_no_honest_schedule_is_called_theft(machine: type[Honest]) -> None:
    """Whatever tabs, networks, crashes, retries and failovers do (P11)."""
    search(machine)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("machine", HONEST)
def test_no_honest_schedule_is_called_theft_in_a_long_search(machine: type[Honest]) -> None:
    """The same, two thousand times (P11)."""
    search(machine, 2_000)


class ConfirmsAtOnce(Honest):
    """A server that takes the second use for proof that the jar is on the disk."""

    settle = 1


class SlowDisk(Honest):
    """A browser that writes its jar far later than the policy assumes."""

    disk_lag = 3 * SETTLE


class SlowNetwork(Honest):
    """Requests that arrive far later than the policy assumes."""

    under_way = SETTLE + 3 * GRACE


@pytest.mark.parametrize("machine", [ConfirmsAtOnce, SlowDisk, SlowNetwork])
def test_the_search_finds_what_breaks_the_assumptions(machine: type[Honest]) -> None:
    """`settle` and `grace` are needed, and the simulation is able to fail (D1)."""
    with pytest.raises(AssertionError, match="an honest request was"):
        search(
            machine,
            5_000,
            phases=[Phase.generate],  # any failure will do, it need not be the shortest
            derandomize=True,
            database=None,
            report_multiple_bugs=False,
        )


class Robbed(Honest):
    """A thief copies cookies, and presents them long afterwards."""

    stolen: Token | None = None

    @rule()
    def a_thief_copies_the_jar(self) -> None:
        self.stolen = self.jar

    @precondition(lambda self: self.stolen is not None)
    @rule()
    def the_thief_comes_after_the_browser_moved_on(self) -> None:
        """The browser renews, confirms, and goes on for `grace`: the copy is reuse (P12)."""
        assert self.stolen is not None
        generation = self.server.credential.generation
        for _ in range(12):
            if generation > self.stolen.generation and self.moved_on():
                break
            self.browse()
            self.time_passes(SETTLE)
            generation = self.server.credential.generation
        verdict = judge(self.server.credential, self.stolen, self.now, GRACE, self.settle)
        assert verdict.is_reuse, f"a thief's fork was called {verdict.value}"
        self.stolen = None

    def moved_on(self) -> bool:
        """Whether the current token was confirmed `grace` ago."""
        confirmed_at = self.server.credential.confirmed_at
        return confirmed_at != 0 and self.now >= confirmed_at + GRACE


def test_a_thief_who_forks_is_found() -> None:
    """A copied cookie is called reuse once the browser has renewed past it (P12)."""
    search(Robbed)


def test_a_second_crash_soon_after_the_first_is_no_theft() -> None:
    """A browser that lost its jar twice within a minute is still the same browser (P11, D1)."""
    machine = Honest()
    machine.an_hour_goes_by()
    machine.a_page_loads(times=2, pause=1)  # renews, and uses the new token
    for pause in (SETTLE - 1, 1):
        machine.the_browser_crashes(share=0.1)  # the disk has the old token still
        machine.time_passes(pause)
        machine.a_page_loads(times=2, pause=1)  # gets the same successor again, and uses it
    machine.an_hour_goes_by()


def browse_on(server: Server, token: Token, now: int, generation: int) -> tuple[Token, int]:
    """Use the cookie until the session is at that generation and confirmed."""
    while server.credential.generation < generation or not server.credential.confirmed_at:
        _, cookie = server.handle(token, now)
        token = cookie or token
        now += SETTLE
    return token, now


def test_a_browser_that_was_left_behind_reveals_the_thief() -> None:
    """The thief renews twice while the owner sleeps; the owner's old cookie then tells (P12)."""
    token = a_token()
    server = Server(token, NOW)
    _, now = browse_on(server, token, NOW, 2)
    verdict, _ = server.handle(token, now)
    assert verdict is Verdict.REUSE_STALE


def test_a_thief_who_follows_every_renewal_is_not_found() -> None:
    """The cookie alone cannot tell: he is bounded by clocks, signals and device binding (D4)."""
    token = a_token()
    server = Server(token, NOW)
    jars = [token, token]
    now = NOW
    for _ in range(50):
        for who in (0, 1):
            verdict, cookie = server.handle(jars[who], now)
            assert verdict.accepted
            jars[who] = cookie or jars[who]
            now += GRACE // 2
    assert server.credential.generation > 5
    assert jars[0].text == jars[1].text
