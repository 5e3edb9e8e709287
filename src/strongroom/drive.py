"""The only bridge between flows and stores: one body of code, run sync or async."""

from __future__ import annotations

from typing import Any, TypeVar

from .core.ops import Flow, GiveWay, Op
from .stores.base import AsyncStore, Store
from .turns import AsyncTurn, Turn

R = TypeVar("R")


def drive(flow: Flow[R], store: Store) -> R:
    """Run a flow on a synchronous store. What the store raises, the flow sees at its `yield`."""
    turn: Turn | None = None
    try:
        op: Op = next(flow)
        while True:
            try:
                if type(op) is GiveWay:
                    turn = turn or Turn()
                    answer: Any = turn.give_way(op)
                else:
                    answer = getattr(store, op.verb)(op)
            except Exception as error:
                op = flow.throw(error)
            else:
                op = flow.send(answer)
    except StopIteration as done:
        result: R = done.value
        return result
    finally:
        if turn is not None:
            turn.end()


async def adrive(flow: Flow[R], store: AsyncStore) -> R:
    """Run a flow on an asynchronous store."""
    turn: AsyncTurn | None = None
    try:
        op: Op = next(flow)
        while True:
            try:
                if type(op) is GiveWay:
                    turn = turn or AsyncTurn()
                    answer: Any = await turn.give_way(op)
                else:
                    answer = await getattr(store, op.verb)(op)
            except Exception as error:
                op = flow.throw(error)
            else:
                op = flow.send(answer)
    except StopIteration as done:
        result: R = done.value
        return result
    finally:
        if turn is not None:
            turn.end()
