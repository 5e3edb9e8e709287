"""Honest people: each kind has a habit that a careless detector takes for a theft."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from strongroom.testing.clock import START

from .world import DAY, Addresses, Browser, Network, moments

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:{v}.0) Gecko/20100101 Firefox/{v}.0"
CHROME = "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/{v}.0.0.0 Safari/537.36"
MAC = "Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 Version/{v}.0 Safari/605.1.15"
IPHONE = "Mozilla/5.0 (iPhone) AppleWebKit/605.1.15 Version/{v}.0 Mobile Safari/604.1"
ANDROID = "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/{v}.0.0.0 Mobile Safari/537.36"
DESKTOPS, PHONES = (FIREFOX, CHROME, MAC), (IPHONE, ANDROID)


@dataclass(slots=True)
class Visit:
    """One visit to the site: when, with which browser, and from which address each page."""

    at: int
    browser: Browser
    addresses: list[str]


@dataclass(slots=True)
class Person:
    """Somebody with an account, and what they do in a month."""

    name: str
    kind: str
    visits: list[Visit] = field(default_factory=list[Visit])


@dataclass(slots=True)
class Town:
    """What people share: dice, addresses, how long it goes on."""

    dice: random.Random
    addresses: Addresses
    days: int

    def home(self, city: str = "Berlin") -> Network:
        """A household's network."""
        return self.addresses.network(city)


Kind = Callable[[Town, Person], Iterator[Visit]]


def pages(town: Town, network: Network, host: int | None = None) -> list[str]:
    """The addresses of one visit's pages: one address, unless its network is a carrier's."""
    return [network.address(host, town.dice)] * town.dice.randint(1, 12)


def desktop(town: Town) -> Browser:
    """A browser on a desk, of this year."""
    return Browser(town.dice.choice(DESKTOPS).format(v=town.dice.randint(120, 135)))


def office(town: Town, person: Person) -> Iterator[Visit]:
    """One computer, one network, nine to five."""
    del person
    network, browser = town.home(), desktop(town)
    host = town.dice.randrange(1, 255)
    for at in moments(town.dice, town.days, (8, 17), 3):
        yield Visit(at, browser, pages(town, network, host))


def commuter(town: Town, person: Person) -> Iterator[Visit]:
    """A phone that goes from the house's network to the carrier's, and from cell to cell."""
    del person
    home = town.home()
    carrier = [town.addresses.network(city, operator="AS3320") for city in ("Berlin", "Hamburg")]
    browser = Browser(town.dice.choice(PHONES).format(v=town.dice.randint(15, 18)))
    for at in moments(town.dice, town.days, (6, 23), 5):
        path = [home.address(7)] * town.dice.randint(0, 3)
        cell = town.dice.choice(carrier)
        path += [cell.address(None, town.dice) for _ in range(town.dice.randint(1, 6))]
        yield Visit(at, browser, path)


def behind_a_proxy(town: Town, person: Person) -> Iterator[Visit]:
    """A company whose proxy spreads its people over three addresses, of two networks."""
    del person
    exits = [town.addresses.network("Berlin", operator="AS64999") for _ in range(2)]
    browser = desktop(town)
    for at in moments(town.dice, town.days, (8, 18), 4):
        count = town.dice.randint(2, 8)
        # A proxy keeps a connection on one exit for a while.
        exit_ = town.dice.choice(exits)
        yield Visit(at, browser, [exit_.address(town.dice.choice((1, 2)))] * count)


def on_a_vpn(town: Town, person: Person) -> Iterator[Visit]:
    """Another exit each day; the database knows seven in ten providers as VPNs."""
    del person
    home, browser = town.home(), desktop(town)
    kind = "vpn" if town.dice.random() < 0.7 else ""
    exits = [
        town.addresses.network(city, kind=kind, operator="AS9009")
        for city in ("London", "New York", "Singapore", "Paris")
    ]
    for at in moments(town.dice, town.days, (9, 23), 3):
        if town.dice.random() < 0.5:
            yield Visit(at, browser, pages(town, home, 4))
            continue
        yield Visit(at, browser, pages(town, town.dice.choice(exits)))


def upgrading(town: Town, person: Person) -> Iterator[Visit]:
    """The browser is a version further every two weeks, between two pages of a visit."""
    del person
    network = town.home()
    browsers: dict[int, str] = {}
    template, first = town.dice.choice(DESKTOPS), town.dice.randint(120, 130)
    browser = Browser(template.format(v=first))
    for at in moments(town.dice, town.days, (7, 22), 3):
        week = int((at - START) // (14 * DAY))
        browsers.setdefault(week, template.format(v=first + week))
        browser.agent = browsers[week]
        yield Visit(at, Browser(browsers[week], browser.jar), pages(town, network, 9))


def traveller(town: Town, person: Person) -> Iterator[Visit]:
    """Home, then a flight, then ten days abroad, then back; phone and laptop."""
    del person
    home, laptop = town.home(), desktop(town)
    phone = Browser(IPHONE.format(v=17))
    away = town.dice.choice(("New York", "Singapore", "London", "Sydney"))
    leaves = town.dice.randint(5, max(6, town.days - 12))
    flight = {"London": 2, "New York": 9, "Singapore": 13, "Sydney": 22}[away]
    hotel, roaming = town.home(away), town.addresses.network(away)
    for at in moments(town.dice, town.days, (6, 22), 4):
        day = (at - START) / DAY
        if leaves <= day < leaves + flight / 24:
            continue
        abroad = leaves + flight / 24 <= day < leaves + 10
        if leaves + 10 <= day < leaves + 10 + flight / 24:
            continue
        if town.dice.random() < 0.5:
            yield Visit(at, laptop, pages(town, hotel if abroad else home, 3))
        else:
            yield Visit(at, phone, pages(town, roaming if abroad else home, 5))


def shared(town: Town, person: Person) -> Iterator[Visit]:
    """A family's computer: the same browser, somebody else's session in it half of the time."""
    network, browser = town.home(), desktop(town)
    for at in moments(town.dice, town.days, (15, 22), 2):
        if town.dice.random() < 0.5:
            browser.jar.clear()  # the other one signed out
        yield Visit(at, browser, pages(town, network, 2))
    del person


def tidy(town: Town, person: Person) -> Iterator[Visit]:
    """Clears the cookies every evening, and changes the browser once."""
    del person
    network, browser = town.home(), desktop(town)
    changes = town.dice.randint(3, max(4, town.days))
    last = -1
    for at in moments(town.dice, town.days, (7, 22), 2):
        day = int((at - START) // DAY)
        if day != last:
            browser.jar.clear()
            last = day
        if day >= changes:
            changes, browser = 10**6, desktop(town)
        yield Visit(at, browser, pages(town, network, 6))


def new_phone(town: Town, person: Person) -> Iterator[Visit]:
    """A phone that is replaced in the middle of the month, and a desktop."""
    del person
    network, computer = town.home(), desktop(town)
    phone = Browser(ANDROID.format(v=120))
    bought = town.days // 2
    for at in moments(town.dice, town.days, (7, 23), 4):
        day = (at - START) // DAY
        if day >= bought and "Android" in phone.agent:
            phone = Browser(IPHONE.format(v=18))
        chosen = phone if town.dice.random() < 0.6 else computer
        yield Visit(at, chosen, pages(town, network, 8))


def forgetful(town: Town, person: Person) -> Iterator[Visit]:
    """Types the password wrongly: see `mistakes` in run.py."""
    yield from office(town, person)


HONEST: dict[str, Kind] = {
    "office": office,
    "commuting phone": commuter,
    "corporate proxy": behind_a_proxy,
    "VPN user": on_a_vpn,
    "browser upgrades": upgrading,
    "traveller": traveller,
    "shared computer": shared,
    "tidy": tidy,
    "new phone": new_phone,
    "forgetful": forgetful,
}


def everybody(town: Town, count: int) -> list[Person]:
    """So many people, of all kinds in turn, with a month of visits each."""
    people: list[Person] = []
    for number in range(count):
        kind = list(HONEST)[number % len(HONEST)]
        person = Person(f"person{number}", kind)
        person.visits = sorted(HONEST[kind](town, person), key=lambda visit: visit.at)
        people.append(person)
    return people


def between(dice: random.Random) -> int:
    """Milliseconds between two pages of a visit."""
    return int(dice.expovariate(1 / (45 * 1000))) + 2_000
