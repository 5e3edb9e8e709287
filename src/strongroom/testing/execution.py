"""One schedule, executed: flows stepped by hand over a store. `stepper.py` explores them all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from strongroom.core.errors import StoreUnavailable, StrongroomError
from strongroom.core.ops import Flow, Found, GiveWay, Inserted, Op, Outcome
from strongroom.stores.base import Store

from .clock import FrozenClock

Fault = Literal["unavailable", "lost", "dies"]
Step = int | tuple[int, Fault | Literal["starts"]] | tuple[Literal["time"], int]
Schedule = tuple[Step, ...]

FAULTS: tuple[Fault, ...] = ("unavailable", "lost", "dies")


@dataclass(frozen=True, slots=True)
class Fate:
    """How a flow came out: it returned `value`, raised `error`, or its process died."""

    name: str
    value: Any = None
    error: StrongroomError | None = None
    died: bool = False

    @property
    def returned(self) -> bool:
        """Whether the flow came to its end, so that its caller was told."""
        return self.error is None and not self.died


Fates = Mapping[str, Fate]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fresh store, the flows that meet in it by name, and what must hold whatever their order.

    `check` gets each flow's fate and raises (`assert` will do) where something is wrong. `clock` is
    the clock that the flows were given; it is needed only to let time pass between ops.
    """

    store: Store
    flows: Mapping[str, Callable[[], Flow[Any]]]
    check: Callable[[Fates], None]
    clock: FrozenClock | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One execution: what was done, in order, and how each flow came out."""

    schedule: Schedule
    trace: tuple[str, ...]
    fates: Fates


class ScheduleFailed(AssertionError):
    """A check failed, or a flow broke, under one schedule. The message can be replayed."""

    def __init__(self, problem: str, schedule: Schedule, trace: Sequence[str]) -> None:
        self.schedule = schedule
        self.trace = tuple(trace)
        lines = "\n".join(f"  {number:>3}  {line}" for number, line in enumerate(trace, 1))
        super().__init__(f"{problem}\n{lines}\nreplay it with: replay(make, {schedule!r})")


@dataclass(slots=True)
class Process:
    """A flow under way: its generator, and the op that it waits for."""

    name: str
    flow: Flow[Any]
    pending: Op | None = None
    started: bool = False
    fate: Fate | None = None

    def start(self) -> None:
        """Run the flow to its first op."""
        self.started = True
        self._resume(lambda: next(self.flow))

    def hear(self, answer: Any) -> None:
        """Hand the flow its answer and run it to the next op."""
        self._resume(lambda: self.flow.send(answer))

    def suffer(self, error: StrongroomError) -> None:
        """Raise at the flow's `yield`, as `drive` does, and run it to the next op."""
        self._resume(lambda: self.flow.throw(error))

    def _resume(self, action: Callable[[], Op]) -> None:
        self.pending = None
        try:
            op = action()
            while isinstance(op, GiveWay):  # Here no time passes, and every order is tried anyway.
                op = self.flow.send(False)
            self.pending = op
        except StopIteration as done:
            self.fate = Fate(self.name, value=done.value)
        except StrongroomError as error:
            self.fate = Fate(self.name, error=error)


@dataclass(slots=True)
class Execution:
    """A scenario being stepped."""

    scenario: Scenario
    schedule: list[Step] = field(default_factory=list[Step])
    trace: list[str] = field(default_factory=list[str])
    processes: list[Process] = field(default_factory=list[Process])

    def begin(self, *, started: bool) -> None:
        """Make the flows; `started`, they also run to their first op, which no other can notice."""
        for name, make in self.scenario.flows.items():
            self.processes.append(Process(name, make()))
        if started:
            for process in self.processes:
                process.start()

    @property
    def unfinished(self) -> list[int]:
        """The flows that are not at their end."""
        return [i for i, process in enumerate(self.processes) if process.fate is None]

    def take(self, step: Step) -> None:
        """Do one step.

        Raises:
            ScheduleFailed: the flow or the store raised what is not of Strongroom's tree, or the
                step is not possible now.
        """
        self.schedule.append(step)
        try:
            if isinstance(step, int):
                self._operate(self._process(step), None)
            else:
                target, detail = step
                if isinstance(target, int):
                    self._operate(self._process(target), str(detail))
                else:
                    self._pass_time(int(detail))
        except Exception as error:
            raise self.failed(f"A flow, the store or the schedule is broken: {error!r}.") from error

    def finish(self) -> Run:
        """Check the outcome.

        Raises:
            ScheduleFailed: the check failed.
        """
        fates = {each.name: each.fate for each in self.processes if each.fate is not None}
        try:
            self.scenario.check(fates)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # pytest's own failures are no `Exception`
            # Only the check's own sentence: what pytest adds to it shows values.
            sentence = str(error).partition("\n")[0] or type(error).__name__
            raise self.failed(f"The check fails: {sentence}") from error
        return Run(tuple(self.schedule), tuple(self.trace), fates)

    def drop(self) -> None:
        """Close what is left of the flows; one that minds belonged to a process that is gone."""
        for process in self.processes:
            with contextlib.suppress(Exception):
                process.flow.close()

    def failed(self, problem: str) -> ScheduleFailed:
        """The error for the schedule so far."""
        return ScheduleFailed(problem, tuple(self.schedule), self.trace)

    def _process(self, index: int) -> Process:
        process = self.processes[index]
        if process.fate is not None:
            raise ValueError(f"flow {process.name!r} has ended already: is make() deterministic?")
        return process

    def _pass_time(self, amount: int) -> None:
        if self.scenario.clock is None:
            raise ValueError("the scenario has no clock that could advance")
        self.scenario.clock.advance(amount)
        self.trace.append(f"time passes: {amount} ms")

    def _operate(self, process: Process, how: str | None) -> None:
        if not process.started:
            process.start()
            if how == "starts":
                self.trace.append(f"{process.name} starts")
                return
        op = process.pending
        if op is None:  # it ended without any op
            return
        note = f"{process.name}: {op.verb}"
        if how == "unavailable":
            self.trace.append(f"{note} -> the store is unavailable, nothing was done")
            process.suffer(_unavailable())
            return
        try:
            answer: Any = getattr(self.scenario.store, op.verb)(op)
        except StrongroomError as error:
            self.trace.append(f"{note} -> {type(error).__name__}")
            process.suffer(error)
            return
        self.trace.append(f"{note} -> {_in_a_word(answer)}{_NOTES.get(how, '')}")
        if how == "dies":
            process.fate = Fate(process.name, died=True)
        elif how == "lost":
            process.suffer(_unavailable())
        else:
            process.hear(answer)


_NOTES: Mapping[str | None, str] = {
    "lost": ", but the acknowledgement is lost",
    "dies": ", and the process dies",
}


def _unavailable() -> StoreUnavailable:
    return StoreUnavailable("The stepper made the store fail.")


def _in_a_word(answer: Any) -> str:
    """An answer as a word or two that hold no secret."""
    match answer:
        case None:
            return "nothing"
        case Found():
            return "found" if answer.record.is_live else "found, ended"
        case Outcome():
            return "applied" if answer.applied else "gone" if answer.is_gone else "conflict"
        case Inserted():
            return "inserted" if answer.refusal is None else f"refused: {answer.refusal.value}"
        case tuple():
            return f"{len(answer)} found"  # pyright: ignore[reportUnknownArgumentType]
        case _:
            return type(answer).__name__
