"""`python -m examples.bank.screenshots`: make the pictures in docs/images anew.

A bank of its own, in a folder that is gone afterwards, at a moment that is always the same: the
pictures change only where the pages do. It needs Playwright and a chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright
from starlette.types import ASGIApp, Receive, Scope, Send

from strongroom.testing import FrozenClock

from .app import create_app
from .attacks.wire import send
from .desk import Bank
from .seed import CUSTOMERS, seed

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
MAX_BYTES = 150_000
NOW = datetime(2026, 5, 13, 9, 41, tzinfo=UTC)
HOME, TRAIN, CAFE = "203.0.113.24", "198.51.100.7", "192.0.2.61"
"""Addresses that are kept free for documentation (RFC 5737)."""
LAPTOP = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Safari/605.1.15"
)
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"
)
OFFICE = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:126.0) Gecko/20100101 Firefox/126.0"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
USERNAME, _, PASSWORD = CUSTOMERS[0]


@dataclass(frozen=True, slots=True)
class Picture:
    """A page, and how it is looked at."""

    name: str
    path: str
    width: int
    height: int
    scheme: Literal["light", "dark"] = "light"
    scale: float = 1
    play: str | None = None
    pays: str | None = None
    """An amount that Bob is to get; the picture is of the page that comes then."""


PICTURES = (
    Picture("account.png", "/account", 1120, 745),
    Picture("devices-dark.png", "/devices", 1120, 970, "dark"),
    Picture("approve.png", "/move", 1120, 790, pays="1200"),
    Picture("attackers-desk.png", "/desk", 1120, 1210, play="after-sign-out"),
    Picture("phone.png", "/activity", 390, 810, scale=1.5),
)


def main() -> int:
    """Make the pictures -> the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.bank.screenshots", description="Make the pictures of the bank."
    )
    parser.add_argument("--to", type=Path, default=IMAGES, metavar="DIR", help="where to put them")
    target: Path = parser.parse_args().to
    path = chromium_path()
    if path is None:
        print("There is no chromium here. Install it, or name one in CHROMIUM.", file=sys.stderr)
        return 1
    os.environ["TZ"] = "UTC"
    if hasattr(time, "tzset"):
        time.tzset()
    logging.getLogger("strongroom").setLevel(logging.ERROR)
    too_large = [
        f"{name} has {size} bytes, more than {MAX_BYTES}."
        for name, size in take(path, target).items()
        if size > MAX_BYTES
    ]
    print("\n".join(too_large or [f"{len(PICTURES)} pictures are in {target}."]))
    return 1 if too_large else 0


def take(chromium: str, target: Path) -> dict[str, int]:
    """Make every picture -> how many bytes each has."""
    target.mkdir(parents=True, exist_ok=True)
    clock = FrozenClock(int(NOW.timestamp() * 1000))
    with tempfile.TemporaryDirectory(prefix="bank-") as folder:
        app = create_app(data_dir=Path(folder), clock=clock, sinks=())
        # Playwright has an event loop in this thread.
        with ThreadPoolExecutor(1) as elsewhere:
            elsewhere.submit(asyncio.run, _live_a_little(app, app.state.bank, clock)).result()
        with serving(_From(app, HOME)) as port, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium, args=chromium_arguments()
            )
            url = f"http://localhost:{port}"
            state = _sign_in(browser, url, LAPTOP)
            sizes = {
                picture.name: _picture(browser, url, state, picture, target / picture.name)
                for picture in PICTURES
            }
            browser.close()
    return sizes


async def _live_a_little(app: Any, bank: Bank, clock: FrozenClock) -> None:
    """Alice's last hour: two other devices, one that she left, and a wrong password."""
    now = clock()
    await seed(bank.accounts, bank.passwords, now)
    async with app.state.manager:
        # Minutes ago, agent, address, password, and whether it ends with a sign-out.
        for minutes, agent, address, password, leaves in (
            (1510, OFFICE, CAFE, PASSWORD, True),
            (64, OFFICE, TRAIN, PASSWORD, True),
            (26, PHONE, TRAIN, PASSWORD, False),
            (19, LAPTOP, CAFE, "a quiet river at dusk", False),
            (11, OFFICE, CAFE, PASSWORD, False),
        ):
            clock.set(now - timedelta(minutes=minutes) // timedelta(milliseconds=1))
            says = {"accept": "text/html", "sec-fetch-site": "same-origin", "user-agent": agent}
            fields = {"username": USERNAME, "password": password}
            here = _From(app, address)
            answer = await send(here, "POST", "/sign-in", says, fields)
            says["cookie"] = "; ".join(line.partition(";")[0] for line in answer.cookies)
            clock.advance(timedelta(minutes=4))
            if leaves:
                await send(here, "POST", "/sign-out", says, {})
        clock.set(now)


def _sign_in(browser: Browser, url: str, agent: str) -> Any:
    """Alice at her laptop -> her cookies."""
    context = browser.new_context(user_agent=agent)
    page = context.new_page()
    page.goto(f"{url}/sign-in")
    page.get_by_label("Username").fill(USERNAME)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("main").get_by_role("button").click()
    page.wait_for_url("**/account")
    state = context.storage_state()
    context.close()
    return state


def _picture(browser: Browser, url: str, state: Any, picture: Picture, target: Path) -> int:
    context = browser.new_context(
        viewport={"width": picture.width, "height": picture.height},
        device_scale_factor=picture.scale,
        color_scheme=picture.scheme,
        storage_state=state,
        user_agent=LAPTOP,
    )
    page = context.new_page()
    page.goto(url + picture.path)
    if picture.play is not None:
        _play(page, picture.play)
    if picture.pays is not None:
        _pay(page, picture.pays)
    page.screenshot(path=target, animations="disabled")
    context.close()
    return target.stat().st_size


def _play(page: Page, attack: str) -> None:
    page.locator(f"form[action='/desk/{attack}'] button").click()
    page.wait_for_url("**/desk/played/*")


def _pay(page: Page, amount: str) -> None:
    page.get_by_label("To", exact=True).fill("bob")
    page.get_by_label("Amount in euros").fill(amount)
    page.get_by_label("Note for both of you").fill("The blue boat")
    page.get_by_role("button", name="Move the money").click()
    page.wait_for_url("**/approve/*")


class _From:
    """The application, visited from this address, by browsers that are what their agent says:
    chromium's client hints would tell what it really is."""

    def __init__(self, app: ASGIApp, address: str) -> None:
        self.app = app
        self.address = address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["client"] = (self.address, 50000)
            scope["headers"] = [
                each for each in scope["headers"] if not each[0].startswith(b"sec-ch-ua")
            ]
        await self.app(scope, receive, send)


def chromium_path() -> str | None:
    """The chromium of this machine, or the one that CHROMIUM names; None where there is none."""
    named = os.environ.get("CHROMIUM")
    found = named or next(filter(None, map(shutil.which, CHROMIUMS)), None)
    return found if found is not None and Path(found).exists() else None


def chromium_arguments() -> list[str]:
    """As root, which is usual in containers, chromium's sandbox does not start."""
    return ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []


@contextmanager
def serving(app: ASGIApp) -> Generator[int]:
    """An application under uvicorn, in a thread, from its start to its end -> the port."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", proxy_headers=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the bank did not start")
            time.sleep(0.02)
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()


if __name__ == "__main__":
    sys.exit(main())
