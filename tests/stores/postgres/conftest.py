"""One PostgreSQL for all tests that leave it alone; those that do not start their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import postgres


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A server takes its time, and is started once in a worker: two may share the work."""
    for item in items:
        needed = {"server", "older"} & set(getattr(item, "fixturenames", ()))
        if needed and item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)
            contract = item.path.name == "test_contract.py"
            group = "postgres contract" if contract else "postgres"
            item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    """A running server, with one database for all: each store has a schema of its own."""
    with postgres.running() as running:
        yield running


@pytest.fixture(scope="session")
def database(server: postgres.Server) -> str:
    """The database that stores share, each with a schema of its own."""
    return server.new_database()
