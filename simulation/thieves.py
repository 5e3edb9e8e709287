"""Thieves: what each kind does, whether it is noticed, how soon, and what it got."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from strongroom.core.events import (
    CrossSiteRefused,
    Event,
    SessionRenewed,
    SignalRaised,
    TokenReuse,
)

from .people import ANDROID, CHROME, Person, Town, desktop, office
from .world import DAY, HOUR, MINUTE, SECOND, Addresses, Browser, Network, Site

ACTS_EVERY = (20 * SECOND, 90 * SECOND)
GIVES_UP_AFTER = 4 * HOUR


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attack: after how long it was noticed (ms, None never), by what, and what it could do."""

    noticed_after: int | None
    by: str
    acted: int
    """Requests that went through as the victim."""
    sensitive: int
    """Those that could have done what asks for a recent sign-in."""
    lasted: int
    """Milliseconds from the theft to the last request that went through."""
    after_renewal: int | None = None
    """Milliseconds from the first renewal after the theft to the moment it was noticed."""


@dataclass(slots=True)
class Outcome:
    """Many attempts of one kind."""

    name: str
    attempts: list[Attempt] = field(default_factory=list[Attempt])

    @property
    def rate(self) -> float:
        """The share that was noticed."""
        return sum(1 for each in self.attempts if each.noticed_after is not None) / len(
            self.attempts
        )

    @property
    def times(self) -> list[int]:
        """How long it took, where it was noticed."""
        return [each.noticed_after for each in self.attempts if each.noticed_after is not None]

    @property
    def median_time(self) -> float | None:
        """The median of these, in milliseconds."""
        return median(self.times) if self.times else None

    @property
    def worst_time(self) -> int | None:
        """The longest of these."""
        return max(self.times, default=None)

    @property
    def worst_after_renewal(self) -> int | None:
        """The longest time from the first renewal after the theft to being noticed."""
        times = [each.after_renewal for each in self.attempts if each.after_renewal is not None]
        return max(times, default=None)

    @property
    def share_acting(self) -> float:
        """The share in which at least one request went through as the victim."""
        return sum(1 for each in self.attempts if each.acted) / len(self.attempts)

    @property
    def share_sensitive(self) -> float:
        """The share in which a sensitive page would not have asked for anything."""
        return sum(1 for each in self.attempts if each.sensitive) / len(self.attempts)


class Scene:
    """A victim with two weeks of habits, at their desk, and a stranger somewhere else."""

    def __init__(self, seed: int, *, breaks: bool = True) -> None:
        self.breaks = breaks
        self.dice = random.Random(seed)
        self.addresses = Addresses(self.dice, wrong=0.0)
        self.site = Site(self.addresses)
        town = Town(self.dice, self.addresses, 14)
        self.victim = Person(f"victim{seed}", "office")
        self.victim.visits = sorted(office(town, self.victim), key=lambda visit: visit.at)
        for visit in self.victim.visits:
            self.site.clock.set(max(visit.at, self.site.clock()))
            self.site.sign_in(visit.browser, visit.addresses[0], self.victim.name)
        self.browser = self.victim.visits[-1].browser
        self.home = self.victim.visits[-1].addresses[0]
        # On the next morning they sign in, and work.
        self.site.clock.advance(DAY)
        self.site.sign_in(self.browser, self.home, self.victim.name)
        self._break_ends = 0
        for _ in range(self.dice.randint(2, 12)):
            self.victim_acts()

    def victim_acts(self) -> None:
        """The victim's next page."""
        self.site.clock.advance(self.dice.randint(*ACTS_EVERY))
        self.site.request(self.browser, self.home, method=self.dice.choice(("GET", "POST")))

    def victim_goes_on(self) -> None:
        """A page; or now and then a break of up to 25 minutes, in which the thief goes on."""
        if self._break_ends > self.site.clock():
            return
        if self.breaks and self.dice.random() < 1 / 40:
            self._break_ends = self.site.clock() + self.dice.randint(5, 25) * MINUTE
            return
        self.victim_acts()

    def elsewhere(self, city: str = "Lagos", kind: str = "") -> Network:
        """A network far away."""
        return self.addresses.network(city, kind=kind)


Attack = Callable[[Scene], Attempt]


def _noticed(events: list[Event]) -> str | None:
    """By what a person or the session was told: an end, a notice, or a lowered assurance."""
    for event in events:
        if isinstance(event, TokenReuse):
            return "token reuse"
        if isinstance(event, SignalRaised) and {"notify", "lower", "end"} & set(event.responses):
            return event.signal
        if isinstance(event, CrossSiteRefused):
            return "refused"
    return None


def _renewed(events: list[Event]) -> bool:
    return any(isinstance(event, SessionRenewed) for event in events)


def use_copy(
    scene: Scene,
    address: str,
    agent: str | None,
    *,
    follows: bool = False,
    takes: bool = True,
) -> Attempt:
    """A thief uses a copy of the cookies while the victim goes on working.

    With `takes` False, the thief goes on with the cookie as it was stolen, whatever is handed out.
    With `follows`, the thief reads the victim's jar before each request, and so always has the
    newest cookie: nothing that lives in a cookie alone can tell them apart (PROTOCOL D4).
    """
    copy = scene.browser.copy()
    if agent is not None:
        copy.agent = agent
    stolen_at, stolen = scene.site.clock(), dict(scene.browser.jar)
    acted = sensitive = 0
    last = stolen_at
    noticed: tuple[int, str] | None = None
    renewed_at: int | None = None
    while scene.site.clock() - stolen_at < GIVES_UP_AFTER:
        before = len(scene.site.events)
        scene.victim_goes_on()
        if follows:
            copy.jar = dict(scene.browser.jar)
        elif not takes:
            copy.jar = dict(stolen)
        scene.site.clock.advance(scene.dice.randint(*ACTS_EVERY))
        answer = scene.site.request(copy, address, method=scene.dice.choice(("GET", "POST")))
        if follows:
            # What the server hands out goes into the victim's jar as well: malware sees to that.
            scene.browser.jar = dict(copy.jar)
        if answer.subject is not None:
            acted += 1
            sensitive += not answer.asked_again
            last = scene.site.clock()
        if renewed_at is None and _renewed(scene.site.events[before:]):
            renewed_at = scene.site.clock()
        by = _noticed(scene.site.events[before:])
        if by is not None and noticed is None:
            noticed = (scene.site.clock() - stolen_at, by)
        over = answer.subject is None and noticed is not None
        if over or (not acted and scene.site.clock() - stolen_at > HOUR):
            break
    return Attempt(
        noticed[0] if noticed else None,
        noticed[1] if noticed else "",
        acted,
        sensitive,
        last - stolen_at,
        None if noticed is None or renewed_at is None else stolen_at + noticed[0] - renewed_at,
    )


def stolen_elsewhere(scene: Scene) -> Attempt:
    """The cookie in another browser, in another country."""
    return use_copy(scene, scene.elsewhere().address(9), CHROME.format(v=131))


def stolen_disguised(scene: Scene) -> Attempt:
    """The cookie with the victim's own User-Agent, in another country."""
    return use_copy(scene, scene.elsewhere().address(9), None)


def stolen_over_vpn(scene: Scene) -> Attempt:
    """The cookie with the victim's User-Agent, over a VPN with an exit in the victim's city."""
    return use_copy(scene, scene.elsewhere("Berlin", "vpn").address(9), None)


def malware(scene: Scene) -> Attempt:
    """A copy used on the victim's own network, with their User-Agent: only the token can tell."""
    return use_copy(scene, scene.home, None, takes=False)


def malware_that_takes(scene: Scene) -> Attempt:
    """The same, and it keeps the cookies that it is handed out, as a browser does."""
    return use_copy(scene, scene.home, None)


def silent_follower(scene: Scene) -> Attempt:
    """Malware that reads the newest cookie before each request (D4)."""
    return use_copy(scene, scene.home, None, follows=True)


def stuffing(scene: Scene) -> Attempt:
    """Passwords of a leak, tried from a botnet; the ninth is right."""
    began = scene.site.clock()
    before = len(scene.site.events)
    for _ in range(8):
        bot = scene.elsewhere(scene.dice.choice(("Moscow", "Lagos", "Sao Paulo"))).address(3)
        scene.site.clock.advance(scene.dice.randint(1, 20) * SECOND)
        scene.site.sign_in(Browser(ANDROID.format(v=110)), bot, scene.victim.name, right=False)
    browser = Browser(ANDROID.format(v=110))
    bot = scene.elsewhere("Moscow").address(5)
    answer = scene.site.sign_in(browser, bot, scene.victim.name)
    by = _noticed(scene.site.events[before:])
    after = scene.site.request(browser, bot, method="POST")
    signed_in = answer.subject is not None
    return Attempt(
        scene.site.clock() - began if by else None,
        by or "",
        int(signed_in),
        int(signed_in and not after.asked_again),
        0,
    )


def known_password(scene: Scene) -> Attempt:
    """The right password at once, from another country, with a common browser."""
    before = len(scene.site.events)
    browser = Browser(CHROME.format(v=131))
    address = scene.elsewhere("Moscow").address(5)
    answer = scene.site.sign_in(browser, address, scene.victim.name)
    by = _noticed(scene.site.events[before:])
    after = scene.site.request(browser, address, method="POST")
    return Attempt(
        0 if by else None, by or "", int(answer.subject is not None), int(not after.asked_again), 0
    )


def fixation(scene: Scene) -> Attempt:
    """A session that the attacker began is planted in the victim's browser before they sign in."""
    attacker = desktop(Town(scene.dice, scene.addresses, 1))
    where = scene.elsewhere().address(2)

    def put(session: object) -> None:
        session["planted"] = True  # type: ignore[index]

    scene.site.request(attacker, where, put, method="POST")
    victim = Browser(scene.browser.agent, dict(attacker.jar))
    before = len(scene.site.events)
    scene.site.sign_in(victim, scene.home, scene.victim.name)
    answer = scene.site.request(attacker, where, method="POST")
    by = _noticed(scene.site.events[before:])
    gained = int(answer.subject is not None)
    return Attempt(0 if by else None, by or "worth nothing", gained, gained, 0)


def forgery(scene: Scene) -> Attempt:
    """A form on another site that posts with the victim's cookie."""
    before = len(scene.site.events)
    changed = 0

    def act(session: object) -> None:
        nonlocal changed
        from strongroom.core.flows import cross_site, refuse_cross_site
        from strongroom.manager import visit_of

        visit = visit_of(session)  # type: ignore[arg-type]
        refuse_cross_site(visit, cross_site(visit))
        changed += 1

    scene.site.request(scene.browser, scene.home, act, method="POST", site="cross-site")
    by = _noticed(scene.site.events[before:])
    return Attempt(0 if by else None, by or "", changed, changed, 0)


ATTACKS: dict[str, Attack] = {
    "stolen cookie, elsewhere": stolen_elsewhere,
    "stolen cookie, disguised, elsewhere": stolen_disguised,
    "stolen cookie, over a VPN nearby": stolen_over_vpn,
    "malware on the same network": malware,
    "the same, keeping new cookies": malware_that_takes,
    "silent follower": silent_follower,
    "credential stuffing": stuffing,
    "known password, elsewhere": known_password,
    "fixation": fixation,
    "forged form": forgery,
}


def attacked(name: str, times: int, *, breaks: bool = True) -> Outcome:
    """The attack, so many times, on a new victim each, who takes breaks or not."""
    outcome = Outcome(name)
    for number in range(times):
        outcome.attempts.append(ATTACKS[name](Scene(number, breaks=breaks)))
    return outcome
