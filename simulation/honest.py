"""A month of honest people: how often each signal bothers one of them, and how."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field

from strongroom.core.events import Event, SignalRaised, TokenReuse

from .people import Person, Town, between, everybody
from .world import Addresses, Answer, Site

MISTAKES = 0.15
"""So often a forgetful person types the password wrongly, again and again until it is right."""


@dataclass(slots=True)
class Bothered:
    """What a month was like: counts over all people, and over each kind."""

    people: int
    days: int
    requests: int = 0
    sign_ins: int = 0
    signals: Counter[str] = field(default_factory=Counter[str])
    notices: Counter[str] = field(default_factory=Counter[str])
    asked: Counter[str] = field(default_factory=Counter[str])
    """Visits in which a sensitive page would have asked for one more sign-in, by kind."""
    by_kind: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    people_of: Counter[str] = field(default_factory=Counter[str])
    signed_out: int = 0
    called_thieves: int = 0

    @property
    def user_months(self) -> float:
        """What rates are by."""
        return self.people * self.days / 30

    def take(self, person: Person, answer: Answer) -> None:
        """Count what one request came to."""
        self.requests += 1
        for event in answer.events:
            self._count(person, event)

    def _count(self, person: Person, event: Event) -> None:
        of_kind = self.by_kind.setdefault(person.kind, Counter[str]())
        if isinstance(event, SignalRaised):
            self.signals[event.signal] += 1
            of_kind[event.signal] += 1
            if "notify" in event.responses:
                self.notices[event.signal] += 1
                of_kind["told"] += 1
            if "end" in event.responses or "end_all" in event.responses:
                self.signed_out += 1
        if isinstance(event, TokenReuse):
            self.called_thieves += 1


def month(seed: int, count: int, days: int) -> Bothered:
    """Everybody's visits, in the order of time."""
    dice = random.Random(seed)
    addresses = Addresses(dice)
    site = Site(addresses)
    people = everybody(Town(dice, addresses, days), count)
    told = Bothered(count, days)
    told.people_of.update(person.kind for person in people)
    # Visits of different people overlap, so their pages are taken from one queue.
    queue: list[tuple[int, int, int, int]] = []
    for number, person in enumerate(people):
        for index, visit in enumerate(person.visits):
            heapq.heappush(queue, (visit.at, number, index, 0))
    doubted: set[tuple[int, int]] = set()
    while queue:
        at, number, index, page = heapq.heappop(queue)
        person = people[number]
        visit = person.visits[index]
        site.clock.set(max(at, site.clock()))
        answer = _page(site, person, index, page, dice, told)
        if answer.asked_again and (number, index) not in doubted:
            doubted.add((number, index))
            told.asked[person.kind] += 1
        if page + 1 < len(visit.addresses):
            heapq.heappush(queue, (at + between(dice), number, index, page + 1))
    return told


def _page(
    site: Site, person: Person, index: int, page: int, dice: random.Random, told: Bothered
) -> Answer:
    """One page of a visit; a person who is not signed in signs in first."""
    visit = person.visits[index]
    address, browser = visit.addresses[page], visit.browser
    method = "POST" if dice.random() < 0.2 else "GET"
    answer = site.request(browser, address, method=method)
    told.take(person, answer)
    if answer.subject == person.name:
        return answer
    while person.kind == "forgetful" and dice.random() < MISTAKES:
        told.take(person, site.sign_in(browser, address, person.name, right=False))
    answer = site.sign_in(browser, address, person.name)
    told.sign_ins += 1
    told.take(person, answer)
    return answer
