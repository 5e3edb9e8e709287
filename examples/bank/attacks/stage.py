"""Where attacks are played: the running bank, a second one whose clock can be moved, or a copy.

The second instance is the same application from the same code, in a folder that lives as long as
the play. The copy has the running bank's keys and a copy of its files, as after a theft.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import tempfile
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fastapi import FastAPI

from examples.bank.accounts import Accounts
from strongroom import AsyncSessionManager
from strongroom.managing import KeySource
from strongroom.testing import FrozenClock

from .scene import Scene, Transcript

SESSIONS, ACCOUNTS = "sessions.db", "bank.db"
_KEPT = 64


class Another(Protocol):
    """Makes an instance of the same application; without keys, it gets keys of its own."""

    def __call__(
        self, *, data_dir: Path, clock: Callable[[], int], keys: KeySource | None = None
    ) -> FastAPI: ...


@dataclass(frozen=True, slots=True)
class Played:
    """An attack that was played."""

    attack: str
    transcript: Transcript


class Stage:
    """What a play can ask for, and the transcripts of the last ones."""

    def __init__(
        self,
        app: FastAPI,
        data_dir: Path,
        accounts: Accounts,
        manager: AsyncSessionManager,
        keys: KeySource,
        another: Another,
    ) -> None:
        self._app = app
        self.accounts = accounts
        self._data_dir = data_dir
        self.accounts = accounts
        self._manager = manager
        self._keys = keys
        self._another = another
        self._played: OrderedDict[str, Played] = OrderedDict()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Scene]:
        """The running bank. The accounts of the play are gone afterwards, and their sessions."""
        scene = Scene(self._app)
        try:
            yield scene
        finally:
            await self._forget([person.username for person in scene.people])

    @asynccontextmanager
    async def second(self) -> AsyncGenerator[Scene]:
        """A second bank, empty, whose clock can be moved."""
        clock = FrozenClock(self._manager.clock())
        with tempfile.TemporaryDirectory(prefix="bank-") as folder:
            async with _open(self._another(data_dir=Path(folder), clock=clock)) as app:
                yield Scene(app, clock)

    @asynccontextmanager
    async def copy(self) -> AsyncGenerator[Copy]:
        """The running bank's databases, copied. Whoever has this can read and write them."""
        with tempfile.TemporaryDirectory(prefix="bank-") as folder:
            for name in (SESSIONS, ACCOUNTS):
                await asyncio.to_thread(_copy, self._data_dir / name, Path(folder) / name)
            yield Copy(Path(folder), self._keys, FrozenClock(self._manager.clock()), self._another)

    def keep(self, attack: str, transcript: Transcript) -> str:
        """Keep a transcript for showing it -> the name that it has until it is forgotten."""
        name = secrets.token_hex(8)
        self._played[name] = Played(attack, transcript)
        while len(self._played) > _KEPT:
            self._played.popitem(last=False)
        return name

    def kept(self, name: str) -> Played | None:
        """The transcript of this name, while it is kept."""
        return self._played.get(name)

    async def _forget(self, usernames: list[str]) -> None:
        for username in usernames:
            account = await self.accounts.named(username)
            if account is not None:
                await self._manager.account_disabled(account.id, by="the attacker's desk")
        await self.accounts.forget(usernames)


@dataclass(frozen=True, slots=True)
class Copy:
    """A stolen disk: the databases, and the same application to try what was written into them."""

    folder: Path
    keys: KeySource
    clock: FrozenClock
    another: Another

    @property
    def sessions(self) -> Path:
        """The session database."""
        return self.folder / SESSIONS

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[FastAPI]:
        """The bank on this copy, with the keys that the thief does not have."""
        async with _open(
            self.another(data_dir=self.folder, clock=self.clock, keys=self.keys)
        ) as app:
            yield app


@asynccontextmanager
async def _open(app: FastAPI) -> AsyncGenerator[FastAPI]:
    manager: AsyncSessionManager = app.state.manager
    async with manager:
        yield app


def _copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as original, closing(sqlite3.connect(target)) as copied:
        original.backup(copied)
