"""The program that README opens with does what README says of it, as it stands there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from strongroom.cli.__main__ import main

README = Path(__file__).resolve().parents[2] / "README.md"
SAME_SITE = {"sec-fetch-site": "same-origin"}
ALICE = {"name": "alice", "word": "correct horse battery staple"}


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """README's first program, in an empty folder with the keys that README makes."""
    monkeypatch.chdir(tmp_path)
    assert main(["keys", "generate", "var/strongroom.keys", "--realm", "shop"]) == 0
    source = re.findall(r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.M | re.S)[0]
    names: dict[str, Any] = {}
    exec(compile(source, "shop.py", "exec"), names)
    yield names


def test_the_first_program_signs_in_and_out(program: dict[str, Any]) -> None:
    """Sign in, a page for that person, a recent sign-in, sign out: on https, with nothing set."""
    with TestClient(program["app"], base_url="https://shop.example", headers=SAME_SITE) as browser:
        assert browser.get("/basket", headers={"accept": "application/json"}).status_code == 401
        assert browser.post("/sign-in", data={**ALICE, "word": "guess"}).status_code == 401
        signed_in = browser.post("/sign-in", data=ALICE)
        assert signed_in.json() == {"signed in": "alice"}
        cookie = signed_in.headers["set-cookie"]
        assert cookie.startswith("__Host-")
        for attribute in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
            assert f"; {attribute}" in cookie
        assert browser.get("/basket").json() == {"hello": "alice", "visits": 1}
        assert browser.get("/basket").json() == {"hello": "alice", "visits": 2}
        assert browser.post("/password").json() == {"other sessions ended": 0}
        old = dict(browser.cookies)
        assert browser.post("/sign-out").status_code == 200
        for name, value in old.items():
            browser.cookies.set(name, value)
        assert browser.get("/basket", headers={"accept": "application/json"}).status_code == 401


def test_another_site_can_do_nothing_in_it(program: dict[str, Any]) -> None:
    """Protection against cross-site requests is on, also for the sign-in form (P19)."""
    with TestClient(program["app"], base_url="https://shop.example") as browser:
        headers = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}
        assert browser.post("/sign-in", data=ALICE, headers=headers).status_code == 403
