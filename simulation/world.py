"""The site that everybody uses, and the addresses of the world that they use it from."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from strongroom import RequestFacts, SessionManager, SessionPolicy
from strongroom.core.errors import StrongroomError
from strongroom.core.events import Event
from strongroom.core.places import UNKNOWN, Place
from strongroom.core.stepup import Challenge
from strongroom.keyfile import generate
from strongroom.manager import visit_of
from strongroom.session import Session
from strongroom.stores.memory import MemoryStore
from strongroom.testing import FrozenClock
from strongroom.testing.clock import START

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
DAY = 24 * HOUR

CITIES = {
    "Berlin": (52.52, 13.405, "DE"),
    "Hamburg": (53.55, 9.99, "DE"),
    "Paris": (48.86, 2.35, "FR"),
    "London": (51.51, -0.13, "GB"),
    "Warsaw": (52.23, 21.01, "PL"),
    "New York": (40.71, -74.01, "US"),
    "San Francisco": (37.77, -122.42, "US"),
    "Sydney": (-33.87, 151.21, "AU"),
    "Singapore": (1.35, 103.82, "SG"),
    "Lagos": (6.52, 3.38, "NG"),
    "Moscow": (55.76, 37.62, "RU"),
    "Sao Paulo": (-23.55, -46.63, "BR"),
}


class Addresses:
    """Networks with a city, an operator and a kind; addresses are drawn from them.

    `wrong` of all addresses are placed in another city of the same country or, rarely, in another
    country, as real databases do.
    """

    def __init__(self, dice: random.Random, *, wrong: float = 0.01) -> None:
        self._dice = dice
        self._wrong = wrong
        self._places: dict[str, Place] = {}
        self._next = 0

    def network(self, city: str, *, kind: str = "", operator: str | None = None) -> Network:
        """A new network: 254 addresses, one operator."""
        self._next += 1
        prefix = f"{10 + self._next // 65_536}.{self._next // 256 % 256}.{self._next % 256}"
        return Network(self, prefix, city, kind, operator or f"AS{64_000 + self._next % 900}")

    def place(self, address: str) -> Place:
        """What the database says."""
        return self._places.get(address, UNKNOWN)

    def know(self, address: str, network: Network) -> None:
        """The database's opinion of an address, which is now and then wrong, and stays so."""
        if address in self._places:
            return
        city = network.city
        if self._dice.random() < self._wrong:
            city = self._dice.choice(list(CITIES))
        latitude, longitude, country = CITIES[city]
        radius = self._dice.choice([5.0, 20.0, 20.0, 50.0, 100.0])
        self._places[address] = Place(
            country, city, latitude, longitude, radius, network.operator, network.kind
        )


@dataclass(frozen=True, slots=True)
class Network:
    """Where an address comes from."""

    addresses: Addresses = field(repr=False)
    prefix: str
    city: str
    kind: str
    operator: str

    def address(self, host: int | None = None, dice: random.Random | None = None) -> str:
        """One of its addresses."""
        number = host if host is not None else (dice or random.Random()).randrange(1, 255)
        address = f"{self.prefix}.{number}"
        self.addresses.know(address, self)
        return address


@dataclass(slots=True)
class Browser:
    """A browser: what it calls itself, and its cookies by name."""

    agent: str
    jar: dict[str, str] = field(default_factory=dict[str, str], repr=False)

    def copy(self) -> Browser:
        """What a thief has who copied the cookies."""
        return Browser(self.agent, dict(self.jar))


@dataclass(slots=True)
class Answer:
    """What a request came to."""

    subject: str | None
    asked_again: bool
    """Whether a page that wants a sign-in of today would have asked for another one."""
    events: list[Event]
    refused: bool = False


class Site:
    """A site on Strongroom, as its visitors meet it."""

    def __init__(self, addresses: Addresses, policy: SessionPolicy | None = None) -> None:
        self.clock = FrozenClock(START)
        self.events: list[Event] = []
        self.manager = SessionManager(
            MemoryStore(),
            keys=generate("simulation", START),
            policy=policy or SessionPolicy(),
            sinks=[self.events.append],
            locate=addresses.place,
            clock=self.clock,
        )
        self.manager.start()

    def request(
        self,
        browser: Browser,
        address: str,
        act: Callable[[Session], None] | None = None,
        *,
        method: str = "GET",
        site: str = "same-origin",
    ) -> Answer:
        """A request with the browser's cookies; the answer's cookies go back into its jar."""
        before = len(self.events)
        session: Session | None = None
        refused = False
        try:
            session = self.manager.open(self._facts(browser, address, method, site))
            if act is not None:
                act(session)
        except StrongroomError:
            refused = True
        subject, asked = None, False
        if session is not None:
            answer = session.step_up(max_age=timedelta(days=1)) if session.subject else None
            asked = isinstance(answer, Challenge) and answer.reason == "doubtful"
            subject = session.subject
            edits = self.manager.close(session, 403 if refused else 200)
            for line in edits.cookies:
                keep(browser.jar, line)
            self.manager.deliver(visit_of(session).take_events())
        return Answer(subject, asked, self.events[before:], refused)

    def sign_in(
        self, browser: Browser, address: str, subject: str, *, right: bool = True
    ) -> Answer:
        """The sign-in form, with the right password or a wrong one."""

        def act(session: Session) -> None:
            with session.authenticating(subject):
                if right:
                    session.sign_in(subject)

        return self.request(browser, address, act, method="POST")

    def _facts(self, browser: Browser, address: str, method: str, site: str) -> RequestFacts:
        cookies = "; ".join(f"{name}={value}" for name, value in browser.jar.items())
        headers = [
            (b"host", b"shop.example"),
            (b"user-agent", browser.agent.encode()),
            (b"sec-fetch-site", site.encode()),
            (b"sec-fetch-mode", b"navigate"),
            (b"sec-fetch-dest", b"document"),
        ]
        if cookies:
            headers.append((b"cookie", cookies.encode()))
        return RequestFacts(method=method, peer=address, headers=headers)


def keep(jar: dict[str, str], line: bytes) -> None:
    """A Set-Cookie line into the jar, or out of it."""
    name, _, rest = line.decode().partition("=")
    value, _, attributes = rest.partition(";")
    if not value or "max-age=0" in attributes.lower():
        jar.pop(name, None)
    else:
        jar[name] = value


def moments(
    dice: random.Random, days: int, hours: tuple[float, float], visits: float
) -> Iterator[int]:
    """When somebody visits: so many times a day on average, between these hours (UTC)."""
    for day in range(days):
        for _ in range(_poisson(dice, visits)):
            hour = dice.uniform(*hours)
            yield START + day * DAY + int(hour * HOUR)


def _poisson(dice: random.Random, mean: float) -> int:
    count, chance = 0, dice.random()
    threshold = 2.718281828**-mean
    while chance > threshold:
        count += 1
        chance *= dice.random()
    return count
