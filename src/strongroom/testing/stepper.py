"""Runs two or three flows through every interleaving, so that no race is left to luck.

A flow yields ops, and an op is atomic; so what can happen when requests overlap is exactly the set
of orders in which their ops can be mixed. `interleavings` executes all of them, each on a fresh
scenario, and calls the scenario's `check` at the end of each:

    def scenario() -> Scenario:
        store = MemoryStore()
        ...
        return Scenario(store, {"save": lambda: save(...), "logout": lambda: end(...)}, check)

    interleavings(scenario)

A **schedule** is a tuple of steps, made of plain literals so that it can be copied from a failure
into `replay`:

    0                     flow 0 does its next op, and runs on to the one after it
    (0, "unavailable")    the store fails before it acts; the flow sees `StoreUnavailable`
    (0, "lost")           the store acts, then the acknowledgement is lost; the flow sees the same
    (0, "dies")           the store acts, and the process that ran the flow is gone for good
    ("time", 30000)       the scenario's clock advances by so many milliseconds
    (0, "starts")         flow 0 runs to its first op; a step of its own only where time passes

A process that dies *before* an op is one that died after the op before it, so it needs no step of
its own. One schedule has at most one fault and at most `most_advances` advances. Time passes
between ops: from an op's answer to the flow's next `yield` no time is lost.

What it does not do: it knows nothing of stores that are not atomic (the contract suite races
those), nor of flows that share anything but the store and the clock. Nothing is ever left out in
silence: more schedules than the cap are an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .commuting import commute, is_read
from .execution import (
    FAULTS,
    Execution,
    Fate,
    Fates,
    Fault,
    Run,
    Scenario,
    Schedule,
    ScheduleFailed,
    Step,
)

__all__ = [
    "Fate",
    "Fates",
    "Fault",
    "Run",
    "Scenario",
    "Schedule",
    "ScheduleFailed",
    "Step",
    "TooManySchedules",
    "interleavings",
    "replay",
]

MOST_SCHEDULES = 20_000
"""Enough for two flows of eight ops, or three of three; a second or two on a small machine."""

MOST_STEPS = 200
"""A flow that has not ended after so many steps never will."""


class TooManySchedules(Exception):
    """There are more schedules than the cap. The exploration stopped and has proved nothing."""


def replay(make: Callable[[], Scenario], schedule: Schedule = ()) -> Run:
    """Execute one schedule; flows that it leaves unfinished run to their end in their order.

    Raises:
        ScheduleFailed: the check fails, or a flow raises what is not of Strongroom's tree.
    """
    execution = Execution(make())
    try:
        execution.begin(started=not any(_is_time(step) or _is_start(step) for step in schedule))
        for step in schedule:
            execution.take(step)
        while execution.unfinished:
            _refuse_endless(execution)
            execution.take(execution.unfinished[0])
        return execution.finish()
    finally:
        execution.drop()


def interleavings(
    make: Callable[[], Scenario],
    *,
    with_faults: bool = False,
    explore_with_time: Sequence[int] = (),
    most_advances: int = 1,
    prune: bool = False,
    cap: int = MOST_SCHEDULES,
) -> int:
    """Execute every schedule, each on a fresh `make()`, and tell how many there were.

    `with_faults` adds each schedule with one fault at one op. `explore_with_time` lists advances in
    milliseconds, tried between all ops. `prune` executes only one of several schedules that differ
    in the order of ops which cannot notice each other (reads, and ops on two different records);
    that is sound only for flows that meet in nothing but the store, and for checks that look at
    nothing but fates and store.

    Raises:
        ScheduleFailed: for the first schedule under which the check fails.
        TooManySchedules: there are more than `cap`.
    """
    search = _Search(with_faults, tuple(explore_with_time), most_advances, prune)
    todo = [_Branch((), frozenset())]
    executed = 0
    while todo:
        if executed >= cap:
            raise TooManySchedules(
                f"More than {cap} schedules: take fewer flows, ops or advances, or raise the cap."
            )
        executed += search.execute(make(), todo.pop(), todo)
    return executed


@dataclass(frozen=True, slots=True)
class _Branch:
    """Where an execution leaves the ones before it, and which steps need not come next there."""

    prefix: Schedule
    asleep: frozenset[Step]


@dataclass(frozen=True, slots=True)
class _Search:
    """A depth-first search by re-execution, with sleep sets (Godefroid 1996) where it prunes."""

    with_faults: bool
    advances: tuple[int, ...]
    most_advances: int
    prune: bool

    def execute(self, scenario: Scenario, branch: _Branch, todo: list[_Branch]) -> bool:
        """Follow the branch to its end; what else could have been done goes to `todo`.

        False where every way on had been executed already, with ops in another order.
        """
        execution = Execution(scenario)
        try:
            execution.begin(started=not self.advances)
            for step in branch.prefix:
                execution.take(step)
            asleep = branch.asleep
            while execution.unfinished:
                _refuse_endless(execution)
                possible = [step for step in self._possible(execution) if step not in asleep]
                if not possible:
                    return False
                asleep = self._fork(execution, possible, asleep, todo)
                execution.take(possible[0])
            execution.finish()
        finally:
            execution.drop()
        return True

    def _fork(
        self,
        execution: Execution,
        possible: list[Step],
        asleep: frozenset[Step],
        todo: list[_Branch],
    ) -> frozenset[Step]:
        """Note the other ways on, and tell what sleeps after the first."""
        prefix = tuple(execution.schedule)
        forks: list[_Branch] = []
        for number, step in enumerate(possible):
            earlier = asleep.union(possible[:number]) if self.prune else ()
            still = frozenset(each for each in earlier if _independent(each, step, execution))
            forks.append(_Branch((*prefix, step), still))
        todo.extend(reversed(forks[1:]))
        return forks[0].asleep

    def _possible(self, execution: Execution) -> list[Step]:
        """Every step that could come now, plain ones first."""
        steps: list[Step] = []
        faults: list[Step] = []
        may_fail = self.with_faults and not any(map(_is_faulty, execution.schedule))
        for index in execution.unfinished:
            op = execution.processes[index].pending
            steps.append((index, "starts") if op is None else index)
            if may_fail and op is not None:
                # A lost answer to a read is an unanswered read.
                faults.extend((index, each) for each in FAULTS if each != "lost" or not is_read(op))
        if sum(map(_is_time, execution.schedule)) < self.most_advances:
            faults.extend(("time", amount) for amount in self.advances)
        return steps + faults


def _independent(one: Step, other: Step, execution: Execution) -> bool:
    """Whether two steps that are possible now lead to the same state in either order."""
    if _is_time(one) or _is_time(other) or (_is_faulty(one) and _is_faulty(other)):
        return False
    first, second = (step[0] if isinstance(step, tuple) else step for step in (one, other))
    if first == second or not isinstance(first, int) or not isinstance(second, int):
        return False
    op, another = execution.processes[first].pending, execution.processes[second].pending
    return op is not None and another is not None and commute(op, another)


def _refuse_endless(execution: Execution) -> None:
    if len(execution.schedule) >= MOST_STEPS:
        raise execution.failed(f"The flows have not come to an end after {MOST_STEPS} steps.")


def _is_time(step: Step) -> bool:
    return isinstance(step, tuple) and step[0] == "time"


def _is_start(step: Step) -> bool:
    return isinstance(step, tuple) and step[1] == "starts"


def _is_faulty(step: Step) -> bool:
    return isinstance(step, tuple) and step[1] in FAULTS
