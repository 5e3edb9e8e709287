"""The bank in a real browser: chromium, driven by Playwright, and servers on free ports.

Chromium is Debian's (`apt-get install chromium`), or whichever `CHROMIUM` names. Where there is
none, these tests are skipped, and the summary says so; under CI that is a failure (tests/conftest).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from starlette.types import ASGIApp, Receive, Scope, Send

from examples.bank.app import create_app
from examples.bank.desk import Bank
from examples.bank.screenshots import chromium_arguments, chromium_path, serving
from examples.bank.seed import CUSTOMERS, seed
from strongroom.adapters import system_clock
from strongroom.core.events import Event
from strongroom.testing import FrozenClock

ALICE, BOB = ((username, password) for username, _, password in CUSTOMERS)


@pytest.fixture(scope="module")
def chromium() -> Generator[Browser]:
    """One browser for a file of tests; each test has contexts of its own.

    Not for longer: while Playwright is open, nothing else can run an event loop in this thread.
    """
    path = chromium_path()
    if path is None:
        pytest.skip(
            "NO BROWSER TEST WAS RUN: there is no chromium here. Install it "
            "(apt-get install chromium), or name one in CHROMIUM."
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=chromium_arguments())
        yield browser
        browser.close()


class Gate:
    """Holds requests for one path until as many have arrived as were asked for."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.path = ""
        self.missing = 0
        self._open: asyncio.Event | None = None
        self._turn: asyncio.Lock | None = None

    def hold(self, path: str, count: int, *, in_turn: bool = False) -> None:
        """Until `count` requests for this path are there; then together, or one after the other."""
        self.path, self.missing = path, count
        self._open, self._turn = asyncio.Event(), asyncio.Lock() if in_turn else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self.path or self.missing <= 0:
            await self.app(scope, receive, send)
            return
        opened, turn = self._open, self._turn
        assert opened is not None
        self.missing -= 1
        if self.missing == 0:
            opened.set()
        await asyncio.wait_for(opened.wait(), 20)
        async with turn or nullcontext():
            await self.app(scope, receive, send)


@dataclass
class Town:
    """The bank on a free port, its clock, and what its sinks heard."""

    url: str
    clock: FrozenClock
    gate: Gate
    events: list[Event] = field(default_factory=list[Event])

    def heard(self, name: str) -> int:
        """How often an event was heard."""
        return sum(event.name == name for event in self.events)


@pytest.fixture
def town(tmp_path: Path) -> Generator[Town]:
    """The bank as `make demo` opens it, with a clock that a test moves."""
    clock = FrozenClock(system_clock())
    events: list[Event] = []
    app = create_app(
        data_dir=tmp_path,
        clock=clock,
        sinks=[events.append],
        hasher=PasswordHasher.from_parameters(CHEAPEST),
    )
    bank: Bank = app.state.bank
    gate = Gate(app)
    with ThreadPoolExecutor(1) as elsewhere:  # In this thread Playwright has an event loop.
        seeding = seed(bank.accounts, bank.passwords, clock())
        elsewhere.submit(asyncio.run, seeding).result()
    with serving(gate) as port:
        yield Town(f"http://localhost:{port}", clock, gate, events)


@contextmanager
def another_site(page: str) -> Iterator[int]:
    """A small server of somebody else's: one page -> its port, on every name of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(20)


class Visitor:
    """Somebody with a browser of their own: cookies, tabs, and what its console complained of."""

    def __init__(self, context: BrowserContext, town: Town) -> None:
        self.context, self.town = context, town
        self.complaints: list[str] = []
        context.on("console", self._listen)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.set_default_timeout(20_000)
        self.page = context.new_page()

    def go(self, path: str, page: Page | None = None) -> Page:
        """Open a page of the bank."""
        page = page or self.page
        page.goto(self.town.url + path)
        return page

    def sign_in(self, customer: tuple[str, str] = ALICE, *, stay: bool = False) -> Page:
        """Through the form, with its box or without."""
        self.go("/sign-in")
        self.page.get_by_label("Username").fill(customer[0])
        self.page.get_by_label("Password").fill(customer[1])
        self.page.get_by_label("Stay signed in").set_checked(stay)
        self.press("Sign in")
        return self.page

    def press(self, button: str) -> None:
        """A button of the page's content, and wait for the page that comes."""
        self.page.get_by_role("main").get_by_role("button", name=button).click()
        self.page.wait_for_load_state()

    @property
    def path(self) -> str:
        """Where the visitor is."""
        return self.page.url.removeprefix(self.town.url)

    @property
    def text(self) -> str:
        """What stands on the page."""
        return self.page.locator("body").inner_text()

    @property
    def key(self) -> str:
        """The session cookie, or nothing."""
        cookies = self.context.cookies(self.town.url)
        return next((each["value"] for each in cookies if each["name"].startswith("id-")), "")

    def _listen(self, message: Any) -> None:
        # A refusal is a 403 that was meant; everything else that is red is a mistake of ours.
        if message.type == "error" and "status of 4" not in message.text:
            self.complaints.append(message.text)


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(chromium: Browser, town: Town) -> Generator[Visit]:
    """Open a browser with an empty cookie jar. No console may have complained in the end."""
    opened: list[Visitor] = []

    def opening(width: int = 1280, height: int = 900, **settings: Any) -> Visitor:
        size: Any = {"width": width, "height": height}
        opened.append(Visitor(chromium.new_context(viewport=size, **settings), town))
        return opened[-1]

    yield opening
    for each in opened:
        each.context.close()
    assert [each.complaints for each in opened if each.complaints] == []


@pytest.fixture
def settled(town: Town) -> Callable[[Visitor], None]:
    """Let a visitor's key become known to be in the browser, and then due for renewal."""

    def settling(visitor: Visitor) -> None:
        for _ in range(2):
            town.clock.advance(timedelta(minutes=2))
            visitor.go("/account")
        town.clock.advance(timedelta(minutes=12))

    return settling
