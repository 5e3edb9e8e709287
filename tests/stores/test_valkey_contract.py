"""Valkey keeps the contract of `stores/base.py`: alone, with Sentinel, as a cluster; and Redis.

Every test has a prefix of its own, as several applications on one server have.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from strongroom.core.policy import EPOCHS_KEPT, ms
from strongroom.stores.base import AsyncStore, Kept, Store
from strongroom.stores.valkey import Address, AsyncValkeyStore, Mode, Settings, ValkeyStore
from strongroom.testing.clock import START
from strongroom.testing.contract import AsyncStoreContract, StoreContract
from strongroom.testing.contract.harness import Blocking
from strongroom.testing.records import IDENTITY
from tests.support.servers import valkey

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_numbers = itertools.count()


class OnServers:
    """Each store under a prefix of its own; a second one beside it has the same."""

    forgets_by_itself = True
    rounds = 20
    many = 2_000
    walk = 200
    settings: Settings
    prefixes: dict[int, Settings]

    @pytest.fixture(autouse=True)
    def on_servers(self, servers: Settings) -> None:
        self.settings = servers
        self.prefixes = {}

    def epoch_lasts(self, store: Any, subject_key: bytes) -> int:
        """The expiry of the subject's epoch, by the server itself."""
        while not isinstance(store, ValkeyStore | AsyncValkeyStore):
            # It is behind a blocking face, a near cache, or both.
            store = store.inner if isinstance(store, Blocking) else store.store
        beside = ValkeyStore(store._settings)
        beside.open(IDENTITY)
        try:
            epoch = beside.contents().read(Kept.EPOCHS, [subject_key], START)[subject_key]
        finally:
            beside.close()
        return int(epoch.replaced_at + ms(EPOCHS_KEPT) - START)

    def own(self) -> Settings:
        """The servers, under a new prefix."""
        return Settings(
            addresses=self.settings.addresses,
            mode=self.settings.mode,
            primary_name=self.settings.primary_name,
            timeout_ms=10_000,
            patience_ms=20_000,
            prefix=f"t{next(_numbers)}:",
        )


class ForThreads(OnServers):
    """The store as threads have it."""

    def make_store(self) -> Store:
        settings = self.own()
        store = ValkeyStore(settings)
        self.prefixes[id(store)] = settings
        return store

    def beside(self, store: Store) -> Store:
        return ValkeyStore(self.prefixes[id(store)])


class ForLoops(OnServers):
    """The store as an event loop has it."""

    def make_async_store(self) -> AsyncStore:
        settings = self.own()
        store = AsyncValkeyStore(settings)
        self.prefixes[id(store)] = settings
        return store

    def async_beside(self, store: AsyncStore) -> AsyncStore:
        return AsyncValkeyStore(self.prefixes[id(store)])


class Single:
    """One server."""

    @pytest.fixture(scope="class")
    @classmethod
    def servers(cls) -> Iterator[Settings]:
        with valkey.single() as server:
            yield Settings((Address("127.0.0.1", server.port),))


class Redis:
    """Debian's Redis."""

    @pytest.fixture(scope="class")
    @classmethod
    def servers(cls) -> Iterator[Settings]:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("allowed: there is no redis-server here")
        with valkey.single(program=program) as server:
            yield Settings((Address("127.0.0.1", server.port),))


class WithSentinel:
    """A primary, two replicas, three sentinels."""

    @pytest.fixture(scope="class")
    @classmethod
    def servers(cls) -> Iterator[Settings]:
        with valkey.sentinel() as group:
            addresses = tuple(Address("127.0.0.1", each.port) for each in group.sentinels)
            yield Settings(addresses, Mode.SENTINEL, primary_name=group.name)


class InCluster:
    """Three primaries, three replicas."""

    @pytest.fixture(scope="class")
    @classmethod
    def servers(cls) -> Iterator[Settings]:
        with valkey.cluster() as group:
            addresses = tuple(Address("127.0.0.1", each.port) for each in group.nodes[:2])
            yield Settings(addresses, Mode.CLUSTER)


class TestValkey(Single, ForThreads, StoreContract):
    """One server, for threads."""


class TestAsyncValkey(Single, ForLoops, AsyncStoreContract):
    """One server, for an event loop."""


class TestRedis(Redis, ForThreads, StoreContract):
    """Debian's Redis, for threads."""


class TestSentinel(WithSentinel, ForThreads, StoreContract):
    """Sentinel, for threads."""


class TestAsyncSentinel(WithSentinel, ForLoops, AsyncStoreContract):
    """Sentinel, for an event loop."""


class TestCluster(InCluster, ForThreads, StoreContract):
    """A cluster, for threads."""


class TestAsyncCluster(InCluster, ForLoops, AsyncStoreContract):
    """A cluster, for an event loop."""
