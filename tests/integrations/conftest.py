"""Every scenario runs on each kind of application and each store; each ends with the P5 audit."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kinds import CAPABILITIES, KINDS
from tests.support.places import Servers
from tests.support.site import STORES, Everything, MakeSite, Site

QUICK = {("asgi", "memory"), ("fastapi", "memory"), ("fastapi-def", "sqlite")}
"""Three differ in everything that can make a difference; all others run with the slow ones."""
EVERY_SCENARIO = {
    "memory": frozenset(KINDS),
    "sqlite": frozenset({"asgi", "starlette", "fastapi", "fastapi-def"}),
    "valkey": frozenset({"asgi"}),
    "postgres": frozenset({"asgi"}),
}
"""On which kinds a store meets every scenario."""
_IN_THREADS = frozenset(kind.name for kind in KINDS.values() if kind.pages == "def")
SOME_SCENARIOS = {
    "memory": frozenset(KINDS),
    "sqlite": frozenset(KINDS),
    "valkey": _IN_THREADS,
    "postgres": _IN_THREADS,
}
"""On which others it meets those marked `everywhere`: a store does not see what kind of application
asks, so those are enough to show that they fit. Kinds with `async def` ask servers alike."""


def varieties(scenario: pytest.Item) -> list[tuple[str, str]]:
    """The kinds and stores that a scenario runs on, by its marks."""
    needs = named(scenario, "needs")
    assert needs <= CAPABILITIES.keys(), f"no such capability: {needs - CAPABILITIES.keys()}"
    everywhere = scenario.get_closest_marker("everywhere") is not None
    return [
        (kind.name, store)
        for kind in KINDS.values()
        for store in STORES
        if store in (named(scenario, "stores") or STORES)
        and all(map(kind.can, needs))
        and (
            kind.name in EVERY_SCENARIO[store]
            or (everywhere and kind.name in SOME_SCENARIOS[store])
        )
    ]


def named(scenario: pytest.Item, mark: str) -> frozenset[str]:
    """What a scenario's marks of one name list."""
    return frozenset(each for found in scenario.iter_markers(mark) for each in found.args)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a scenario on every kind that can do what it needs, and on the stores that fit."""
    if "variety" not in metafunc.fixturenames:
        return
    metafunc.parametrize(
        "variety",
        [
            pytest.param(
                each,
                id="-".join(each),
                marks=_marks(*each),
            )
            for each in varieties(metafunc.definition)
        ],
    )


def _marks(kind: str, store: str) -> list[pytest.MarkDecorator]:
    """All but the quick ones are slow; a server's scenarios share the worker that started it."""
    if (kind, store) in QUICK:
        return []
    on_server = store in ("valkey", "postgres")
    return [pytest.mark.slow, *([pytest.mark.xdist_group(store)] if on_server else [])]


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The servers of this run."""
    servers = Servers()
    yield servers
    servers.stop()


@pytest.fixture
def anyio_backend() -> str:
    """The middleware runs on asyncio, as all ASGI servers in use do."""
    return "asyncio"


@pytest.fixture
def everything() -> Iterator[Everything]:
    """All that is logged, by anybody, at any level."""
    handler, root = Everything(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def kind(variety: tuple[str, str]) -> str:
    """How the application is written."""
    return variety[0]


@pytest.fixture
def store_name(variety: tuple[str, str]) -> str:
    """Where its sessions are kept."""
    return variety[1]


@pytest.fixture
async def new_site(
    kind: str, store_name: str, tmp_path: Path, everything: Everything, servers: Servers
) -> AsyncIterator[MakeSite]:
    """Makes sites; at the end they are stopped and looked through for tokens (P5)."""
    made: list[Site] = []

    async def make(beside: Site | None = None, **settings: Any) -> Site:
        folder = tmp_path / f"site{len(made)}"
        folder.mkdir()
        place = servers.place(store_name, folder)
        if beside is not None and beside.place.held is not None:
            place = beside.place  # another process has connections of its own
        elif beside is not None:
            settings["real_store"] = beside.store.real
        site = Site(kind, place, **settings)
        made.append(site)
        return site

    yield make
    for site in made:
        await site.manager.stop()
        site.audit(everything.text)
    gc.collect(0)
    assert not everything.complaints


@pytest.fixture
async def site(new_site: MakeSite) -> Site:
    """A site with the default policy."""
    return await new_site()
