"""A small web site of any kind, its manager, its store, its clock, and all that it ever said.

A test writes each page once, as a coroutine function that takes a `Call` (`pages`), and the kinds
of applications make a site of them (`kinds`). The store counts what it is asked and can be switched
off (`watched`); at the end of every scenario `Site.audit` looks for session tokens wherever they
must not be (P5).
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

from strongroom import Keyring, SessionPolicy, open_async_store
from strongroom.core.events import ClockSkewed
from strongroom.core.events import Event as AnyEvent
from strongroom.keyfile import generate
from strongroom.manager import AsyncSessionManager, SessionManager
from strongroom.stores.base import AsyncStore, Store
from strongroom.testing import FrozenClock
from strongroom.testing.clock import START

from .browser import Browser, Response
from .kinds import KINDS
from .pages import PAGES, Call, Page, Reply, SocketPage, Talk
from .places import Place
from .watched import Blocking, Watched

STORES = ("memory", "sqlite", "valkey", "postgres")
KEYS = generate("tests", START)
MINUTE = 60_000
HOUR = 60 * MINUTE


class Site:
    """A site, its manager, its store, its clock, and everything that it ever said."""

    def __init__(
        self,
        kind: str,
        place: Place | str,
        *,
        policy: SessionPolicy | None = None,
        keys: Keyring = KEYS,
        clock: FrozenClock | None = None,
        real_store: AsyncStore | None = None,
        **settings: Any,
    ) -> None:
        self.kind = KINDS[kind]
        self.clock = clock or FrozenClock()
        self.place = Place(place) if isinstance(place, str) else place
        self.folder = self.place.folder
        self.store = Watched(real_store or open_async_store(self.place.url))
        self.events: list[AnyEvent] = []
        self.pages: dict[str, Page] = dict(PAGES)
        self.sockets: dict[str, SocketPage] = {}
        self.browsers: list[Browser] = []
        self.manager = AsyncSessionManager(
            cast(AsyncStore, self.store),
            keys=keys,
            policy=policy,
            clock=self.clock,
            sinks=[self._hear],
            **settings,
        )
        self._settings: dict[str, Any] = {"keys": keys, "policy": policy, **settings}
        self.app = self.kind.build(self)

    @property
    def sync_manager(self) -> SessionManager:
        """A synchronous manager on the same store, for frameworks that know no event loop."""
        store = Blocking(self.store, self.manager.start)
        return SessionManager(
            cast(Store, store), clock=self.clock, sinks=[self._hear], **self._settings
        )

    def _hear(self, event: AnyEvent) -> None:
        """Keep it; but a server's own clock and the test's frozen one always differ."""
        if not (isinstance(event, ClockSkewed) and self.place.held is not None):
            self.events.append(event)

    def page(self, path: str) -> Callable[[Page], Page]:
        """Put a page up."""

        def put(page: Page) -> Page:
            self.pages[path] = page
            return page

        return put

    def socket(self, path: str) -> Callable[[SocketPage], SocketPage]:
        """Put a WebSocket up."""

        def put(page: SocketPage) -> SocketPage:
            self.sockets[path] = page
            return page

        return put

    def browser(self, **how: Any) -> Browser:
        """A fresh browser profile."""
        browser = Browser(self.app, self.clock, **how)
        self.browsers.append(browser)
        return browser

    @property
    def cookie(self) -> str:
        """The session cookie's name."""
        return self.manager.context.cookie.name

    @property
    def pre_cookie(self) -> str:
        """The pre-session cookie's name."""
        return self.manager.context.pre_cookie.name

    def token(self, browser: Browser) -> str | None:
        """The session token in a browser's jar."""
        return browser.jar.get(self.cookie)

    async def signed_in(self, subject: str = "alice", **how: Any) -> Browser:
        """A browser in which somebody has just signed in."""
        browser = self.browser(**how)
        await self.sign_in(browser, subject)
        return browser

    async def sign_in(self, browser: Browser, subject: str = "alice", **form: str) -> Response:
        """Sign in on the standard page."""
        response = await browser.post("/sign-in", {"subject": subject, **form})
        assert response.status == 200, (response.status, response.body, response.error)
        return response

    async def who(self, browser: Browser, path: str = "/") -> str | None:
        """Whom the site takes the browser for."""
        response = await browser.goto(path)
        assert response.status == 200, (response.status, response.body, response.error)
        subject = response.json["subject"]
        assert subject is None or isinstance(subject, str)
        return subject

    async def data(self, browser: Browser) -> dict[str, Any]:
        """The session's data as the site sees it."""
        told = (await browser.goto("/")).json["data"]
        assert isinstance(told, dict)
        return told

    def told(self, event: type[AnyEvent]) -> list[Any]:
        """The events of one type, in order."""
        return [each for each in self.events if isinstance(each, event)]

    def only(self, event: type[AnyEvent]) -> Any:
        """The one event of this type."""
        (found,) = self.told(event)
        return found

    async def use_until_confirmed(self, browser: Browser) -> None:
        """Use the token long enough that it is confirmed, and the one before retired for good."""
        await self.confirm(browser)
        self.clock.advance(self.manager.context.clocks.grace)

    async def confirm(self, browser: Browser) -> None:
        """Use the token until this moment's use has confirmed it."""
        clocks = self.manager.context.clocks
        for pause in (clocks.touch, max(clocks.touch, clocks.settle)):
            self.clock.advance(pause)
            assert (await browser.goto("/")).status == 200

    async def renew(self, browser: Browser) -> None:
        """Bring a freshly signed-in browser's token to its first renewal."""
        before = self.token(browser)
        await self.use_until_confirmed(browser)
        self.clock.advance(15 * MINUTE)
        assert await self.who(browser) is not None
        assert self.token(browser) not in (None, before)

    def tokens(self) -> set[str]:
        """Every session token that any response of this site ever handed out."""
        start = f"{self.cookie}="
        lines = [
            line
            for browser in self.browsers
            for pending in browser.seen
            for line in pending.so_far().cookies
        ]
        values = {line.split(";")[0][len(start) :] for line in lines if line.startswith(start)}
        return values - {""}

    def audit(self, logged: str) -> None:
        """No token in what was logged, told, answered or stored; no secret part of it either."""
        tokens = self.tokens()
        told = "\n".join(repr(event) + json.dumps(event.as_dict()) for event in self.events)
        answered = b"".join(p.so_far().body for b in self.browsers for p in b.seen)
        headers = b"".join(
            name + value
            for browser in self.browsers
            for pending in browser.seen
            for name, value in pending.so_far().headers
            if name.lower() != b"set-cookie"
        )
        errors = "".join(
            f"{e!r}{e}" for b in self.browsers for p in b.seen if (e := p.error) is not None
        )
        stored = self.stored()
        for token in tokens:
            for place in (logged, told, errors):
                assert token not in place
            for raw in (answered, headers, stored):
                assert token.encode() not in raw
            raw_token = base64.urlsafe_b64decode(token)
            for secret in (raw_token[23:39], raw_token[39:55]):
                assert secret not in stored

    def stored(self) -> bytes:
        """All that the store holds, as an attacker would read it."""
        if self.place.held is not None:
            return self.place.held()
        if self.folder is not None:
            return b"".join(each.read_bytes() for each in self.folder.glob("*.db*"))
        snapshot = getattr(getattr(self.store.real, "store", None), "snapshot", None)
        if snapshot is None:
            return b""
        held = snapshot()
        records = [r.header.encode(r.tail) + r.envelope + r.data for r in held.records.values()]
        history = [entry.sealed for kept in held.history.values() for entry in kept]
        return b"".join([*records, *history])


class Everything(logging.Handler):
    """Keeps every log line of a scenario, tracebacks included."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.complaints: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line; what asyncio complains of is somebody's forgotten task."""
        line = self.format(record)
        self.lines.append(line)
        if record.name == "asyncio" and record.levelno >= logging.ERROR:
            self.complaints.append(line)

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(self.lines)


MakeSite = Callable[..., Awaitable[Site]]
"""What the fixture `new_site` gives: a site with the settings named."""


__all__ = [
    "HOUR",
    "KEYS",
    "KINDS",
    "MINUTE",
    "STORES",
    "Call",
    "Everything",
    "MakeSite",
    "Reply",
    "Site",
    "Talk",
    "Watched",
]
