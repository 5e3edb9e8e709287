"""The measurement: rows take short turns, all of them in every round."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .rows import Places, Row
from .sites import FOREIGN, Answer, Asking, Site

IN_FLIGHT = 32
TURN_SECONDS = 0.004
"""How long one turn of a row takes: short, so that a round meets one and the same machine."""
MOST_IN_A_TURN = 512


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of request. `brings` says which session cookie comes along."""

    name: str
    method: str
    path: str
    brings: str = "nothing"
    at_once: int = 1


CASES = (
    Case("anonymous", "GET", "/plain"),
    Case("forged", "GET", "/plain", brings="forged"),
    Case("untouched", "GET", "/plain", brings="own"),
    Case("read", "GET", "/read", brings="own"),
    Case("write", "POST", "/write", brings="own"),
    Case("sign-in", "POST", "/login"),
    Case("read x32", "GET", "/read", brings="own", at_once=IN_FLIGHT),
    Case("write x32", "POST", "/write", brings="own", at_once=IN_FLIGHT),
)


@dataclass(slots=True)
class Cost:
    """Seconds a request, one figure a round."""

    wall: list[float] = field(default_factory=list[float])
    cpu: list[float] = field(default_factory=list[float])


@dataclass(slots=True)
class Measured:
    """A row, and what it cost in each case. `failed` says why it could not be run."""

    row: Row
    failed: str = ""
    costs: dict[str, Cost] = field(default_factory=dict[str, Cost])
    set_cookie: dict[str, int] = field(default_factory=dict[str, int])
    """Bytes of Set-Cookie lines in one response."""
    commands: dict[str, str] = field(default_factory=dict[str, str])
    """What the Valkey server was asked in one request."""
    stored: int | None = None
    """Bytes that one session takes in the Valkey server."""


class Contestant:
    """A row that was made, signed in, and is ready for turns."""

    def __init__(self, row: Row, places: Places) -> None:
        self.measured = Measured(row)
        self.site: Site = row.make(places)
        self.cookies = [self._signed_in() for _ in range(IN_FLIGHT)]

    def _signed_in(self) -> str:
        answer = self._asked(Asking("POST", "/login"))
        return "; ".join([FOREIGN, *(f"{name}={value}" for name, value in answer.jar.items())])

    def _asked(self, asking: Asking) -> Answer:
        answer = self.site.ask(asking)
        if answer.status != 200:
            raise RuntimeError(f"{asking.method} {asking.path} was answered with {answer.status}")
        return answer

    def askings(self, case: Case) -> list[Asking]:
        """The requests of this case, each of another session where several are at once."""
        if case.brings == "nothing" or self.measured.row.base is None:
            return [Asking(case.method, case.path)]
        brought = self.cookies[: case.at_once]
        if case.brings == "forged":
            brought = [forged(each) for each in brought]
        return [Asking(case.method, case.path, each) for each in brought]

    def takes_part(self, case: Case) -> bool:
        """Whether this case can be played by this row."""
        return case.at_once == 1 or self.measured.row.at_once

    def look(self, case: Case) -> None:
        """One request, and what its response weighs."""
        answer = self._asked(self.askings(case)[0])
        self.measured.set_cookie[case.name] = sum(len(line) for line in answer.lines)

    def turn_of(self, case: Case) -> tuple[Callable[[], None], int]:
        """A turn that takes about `TURN_SECONDS` -> it, and how many requests it is."""
        askings = self.askings(case)
        once = self.site.turn(askings, case.at_once)
        once()
        began = time.perf_counter()
        once()
        took = time.perf_counter() - began
        times = max(1, min(MOST_IN_A_TURN, round(TURN_SECONDS / took)))
        return self.site.turn(askings * times, case.at_once), len(askings) * times


def forged(cookies: str) -> str:
    """The same with another last character: of the right name and shape, and nobody's."""
    return cookies[:-1] + ("A" if cookies[-1] != "A" else "B")


def measure(contestants: list[Contestant], case: Case, rounds: int) -> None:
    """All rows take turns in every round, in an order that moves on by one each time."""
    turns = []
    for each in contestants:
        if not each.takes_part(case):
            continue
        try:
            each.look(case)
            turns.append((each, *each.turn_of(case)))
        except Exception as error:
            each.measured.failed = f"{case.name}: {type(error).__name__}: {error}"[:160]
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            start = number % max(1, len(turns))
            for each, turn, requests in turns[start:] + turns[:start]:
                cost = each.measured.costs.setdefault(case.name, Cost())
                began, cpu_began = time.perf_counter(), time.process_time()
                turn()
                cost.cpu.append((time.process_time() - cpu_began) / requests)
                cost.wall.append((time.perf_counter() - began) / requests)
            gc.collect()
    finally:
        gc.enable()


@dataclass(frozen=True, slots=True)
class Added:
    """Microseconds that sessions add to a request: the median, and the rounds' middle half."""

    median: float
    low: float
    high: float


def added(
    measured: Measured, base: Measured | None, case: str, *, cpu: bool = False
) -> Added | None:
    """What the row costs over its base, paired round by round; a base costs what it costs."""
    own = measured.costs.get(case)
    if own is None or (base is not None and case not in base.costs):
        return None
    theirs = None if base is None else base.costs[case]
    mine = own.cpu if cpu else own.wall
    less = [0.0] * len(mine) if theirs is None else (theirs.cpu if cpu else theirs.wall)
    differences = [(a - b) * 1e6 for a, b in zip(mine, less, strict=True)]
    low, median, high = statistics.quantiles(differences, n=4)
    return Added(median, low, high)
