"""Random schedules of honest browsers: parallel tabs, lost responses, retries, crashes, pauses.

Each schedule is one browser on one session for some hours. A request is under way for less than
`grace`, and so is its response, which may get lost; a load balancer sends a request twice; the
browser crashes and comes back with the jar that was on its disk up to half a minute ago. None of
them may ever be called theft, or lose its session to anything but its clocks (P11).
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

from strongroom import RequestFacts, SessionPolicy
from strongroom.core.events import TokenReuse
from strongroom.manager import visit_of
from strongroom.session import Session

from .world import MINUTE, SECOND, Addresses, Browser, Site, keep

UNDER_WAY = 29 * SECOND
DISK_LAG = 29 * SECOND
STEPS = 24
_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"


@dataclass(slots=True)
class Verdicts:
    """What came of all schedules."""

    schedules: int = 0
    requests: int = 0
    renewals: int = 0
    crashes: int = 0
    lost: int = 0
    retried: int = 0
    called_thieves: int = 0
    ended: int = 0
    """Sessions that ended although their owner was active, whatever the reason."""
    sign_ins_asked: int = 0
    """Requests that were quietly not signed in, which costs a reload or one sign-in."""
    refusals: Counter[str] = field(default_factory=Counter[str])


def play(count: int, seed: int = 1) -> Verdicts:
    """So many schedules, each with dice of its own."""
    told = Verdicts()
    for number in range(count):
        _Schedule(seed * 1_000_003 + number, told).run()
    return told


class _Schedule:
    """One browser's afternoon."""

    def __init__(self, seed: int, told: Verdicts) -> None:
        self.dice = random.Random(seed)
        self.told = told
        self.site = Site(Addresses(self.dice), SessionPolicy(idle_timeout=timedelta(hours=2)))
        self.browser = Browser(_AGENT)
        self.site.sign_in(self.browser, "192.0.2.1", "alice")
        self.disk: list[tuple[int, dict[str, str]]] = [(self.now, dict(self.browser.jar))]
        self._queue: list[tuple[int, int, str, object]] = []
        self._order = itertools.count()

    @property
    def now(self) -> int:
        """The site's moment."""
        return self.site.clock()

    def run(self) -> None:
        """Begin requests at random moments; what is under way goes on in between."""
        self.told.schedules += 1
        at = self.now
        for _ in range(STEPS):
            at += self.dice.choice((5, 300, 20 * SECOND, 2 * MINUTE, 16 * MINUTE, 25 * MINUTE))
            what = "crash" if self.dice.random() < 0.12 else "begin"
            for _ in range(1 if what == "crash" else self.dice.choice((1, 1, 1, 2, 4))):
                self._later(at + self.dice.randint(0, 900), what, None)
        while self._queue:
            moment, _order, what, about = heapq.heappop(self._queue)
            self.site.clock.set(max(moment, self.now))
            getattr(self, f"_{what}")(about)
        self.told.called_thieves += sum(isinstance(each, TokenReuse) for each in self.site.events)
        self.told.ended += any(
            each.name in ("session_ended", "session_logout") for each in self.site.events
        )

    def _later(self, at: int, what: str, about: object) -> None:
        heapq.heappush(self._queue, (at, next(self._order), what, about))

    def _begin(self, _: object) -> None:
        """The browser sends what is in its jar; now and then it arrives twice."""
        headers = [(b"host", b"shop.example"), (b"user-agent", _AGENT.encode())]
        cookies = "; ".join(f"{name}={value}" for name, value in self.browser.jar.items())
        headers += [(b"cookie", cookies.encode()), (b"sec-fetch-site", b"same-origin")]
        retried = self.dice.random() < 0.1
        self.told.retried += retried
        for _ in range(1 + retried):
            self._later(self.now + self.dice.randint(1, UNDER_WAY), "arrive", headers)

    def _arrive(self, headers: object) -> None:
        facts = RequestFacts(method="GET", peer="192.0.2.1", headers=headers)  # type: ignore[arg-type]
        session = self.site.manager.open(facts)
        self.told.requests += 1
        if session.subject is None:
            self.told.sign_ins_asked += 1
            self.told.refusals[str(visit_of(session).refusal)] += 1
        self._later(self.now + self.dice.choice((1, 40, 3 * SECOND)), "answer", session)

    def _answer(self, session: object) -> None:
        assert isinstance(session, Session)  # noqa: S101 - what `_arrive` queued
        edits = self.site.manager.close(session)
        self.site.manager.deliver(visit_of(session).take_events())
        self.told.renewals += bool(edits.cookies)
        lost = self.dice.random() < 0.15
        self.told.lost += lost
        if not lost:
            self._later(self.now + self.dice.randint(1, UNDER_WAY), "receive", edits.cookies)

    def _receive(self, cookies: object) -> None:
        for line in cookies:  # type: ignore[attr-defined]
            keep(self.browser.jar, line)
        self.disk.append((self.now, dict(self.browser.jar)))

    def _crash(self, _: object) -> None:
        """What was written to the jar in the last half minute may be gone."""
        self.told.crashes += 1
        horizon = self.now - self.dice.randint(0, DISK_LAG)
        old = [jar for at, jar in self.disk if at <= horizon] or [self.disk[0][1]]
        self.browser.jar = dict(old[-1])
        self.disk = [(self.now, dict(self.browser.jar))]
        # What was under way to the old process arrives nowhere.
        self._queue = [each for each in self._queue if each[2] != "receive"]
        heapq.heapify(self._queue)
