"""Every scenario runs on each kind of application and each store; each ends with the P5 audit."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.site import KINDS, STORES, Everything, MakeSite, Site

_QUICK = {("asgi", "memory"), ("fastapi", "memory"), ("fastapi-def", "sqlite")}


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


@pytest.fixture(
    params=[
        # Three differ in everything that can make a difference; all eight run with the slow ones.
        pytest.param(
            (kind, store),
            id=f"{kind}-{store}",
            marks=[] if (kind, store) in _QUICK else [pytest.mark.slow],
        )
        for kind in KINDS
        for store in STORES
    ]
)
def variety(request: pytest.FixtureRequest) -> tuple[str, str]:
    """How the application is written, and where its sessions are kept."""
    chosen: tuple[str, str] = request.param
    return chosen


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
    kind: str, store_name: str, tmp_path: Path, everything: Everything
) -> AsyncIterator[MakeSite]:
    """Makes sites; at the end they are stopped and looked through for tokens (P5)."""
    made: list[Site] = []

    async def make(**settings: Any) -> Site:
        folder = tmp_path / f"site{len(made)}"
        folder.mkdir()
        on_disk = store_name == "sqlite"
        url = f"sqlite:///{folder}/sessions.db" if on_disk else "memory://"
        site = Site(kind, url, folder=folder if on_disk else None, **settings)
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
