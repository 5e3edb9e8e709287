"""The only bridge between flows and stores: one body of code, run sync or async."""

from __future__ import annotations

from typing import Any, TypeVar

from .core.ops import Flow, Op
from .stores.base import AsyncStore, Store

R = TypeVar("R")


def drive(flow: Flow[R], store: Store) -> R:
    """Run a flow on a synchronous store. What the store raises, the flow sees at its `yield`."""
    try:
        op: Op = next(flow)
        while True:
            try:
                answer: Any = getattr(store, op.verb)(op)
            except Exception as error:
                op = flow.throw(error)
            else:
                op = flow.send(answer)
    except StopIteration as done:
        result: R = done.value
        return result


async def adrive(flow: Flow[R], store: AsyncStore) -> R:
    """Run a flow on an asynchronous store."""
    try:
        op: Op = next(flow)
        while True:
            try:
                answer: Any = await getattr(store, op.verb)(op)
            except Exception as error:
                op = flow.throw(error)
            else:
                op = flow.send(answer)
    except StopIteration as done:
        result: R = done.value
        return result
