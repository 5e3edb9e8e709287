"""The store contract as tests: whoever writes a store proves it by subclassing.

    from strongroom.testing.contract import StoreContract

    class TestMyStore(StoreContract):
        def make_store(self):
            return MyStore(...)        # new, empty, unopened

        def beside(self, store):       # a second one over the same data; None if there can be none
            return MyStore(...)

An async store overrides `make_async_store` and `async_beside` of `AsyncStoreContract`. No test is
written twice: the async ones are the same bodies behind an event loop's thread. A store that can be
watched proves that too, and overrides `cut` if it has connections that a network can cut.

What it cannot prove is durability: that an acknowledged end survives a power cut needs a process
that is killed. A store's own tests do that.
"""

from __future__ import annotations

from .changing import Changing
from .ending import Ending
from .harness import AsyncHarness, Harness
from .keeping import Keeping
from .races import Races
from .reading import Reading
from .walk import Walking
from .watching import Watching

__all__ = ["AsyncStoreContract", "StoreContract"]


class StoreContract(Reading, Changing, Ending, Keeping, Walking, Watching, Races, Harness):
    """Every must, no-op and never of `strongroom.stores.base`, for a synchronous store."""


class AsyncStoreContract(AsyncHarness, StoreContract):
    """The same for an asynchronous store."""
