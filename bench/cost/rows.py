"""What is compared: rows, each with the row without sessions that it is measured against."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from .sites import Site


@dataclass(frozen=True, slots=True)
class Places:
    """Where the rows' sessions are kept. A server that could not be started is None."""

    folder: str
    loop: asyncio.AbstractEventLoop | None
    """None where a server is to run the application."""
    valkey: str | None = None
    postgres: str | None = None

    def database(self, number: int) -> str:
        """A database of the Valkey server of one row's own, as a redis:// URL."""
        if self.valkey is None:
            raise LookupError("no Valkey server could be started here")
        return f"{self.valkey.replace('valkey://', 'redis://').removesuffix('/0')}/{number}"


@dataclass(frozen=True, slots=True)
class Row:
    """An application. `base` is the name of the one without sessions, None for such a one."""

    name: str
    base: str | None
    make: Callable[[Places], Site]
    at_once: bool = False
    """Whether it can serve several requests at once in process: ASGI on a store that is awaited."""
    database: int | None = None
    """The number of its Valkey database, where it has one."""

    @property
    def is_ours(self) -> bool:
        """Whether this is Strongroom."""
        return self.name.startswith("Strongroom")


def all_rows() -> list[Row]:
    """Every row, bare ones first. What cannot be imported raises only when it is made."""
    from . import asgi, djangos, sockets, wsgi

    made = [*asgi.ROWS, *wsgi.ROWS, *djangos.ROWS, *sockets.ROWS]
    return sorted(made, key=lambda row: row.base is not None)
