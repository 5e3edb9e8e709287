"""`strongroom store copy`: the browsers that were signed in are signed in, and nobody else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from strongroom import RequestFacts, SessionManager, open_store
from strongroom.manager import visit_of
from tests.cli.runner import KEYS, STORE, Desk

NEW = "sqlite:///var/new.db"


def facts(cookie: bytes = b"", method: str = "GET") -> RequestFacts:
    headers = [(b"user-agent", b"curl/8"), (b"sec-fetch-site", b"same-origin")]
    if cookie:
        headers.append((b"cookie", cookie))
    return RequestFacts(method=method, peer="203.0.113.7", headers=headers)


def manager(desk: Desk, url: str) -> SessionManager:
    return SessionManager(open_store(url), keys=KEYS, sinks=(), clock=desk.clock)


def signed_in(desk: Desk, subject: str) -> bytes:
    """Somebody signs in and leaves something in the session -> the browser's cookie."""
    with manager(desk, STORE) as sessions:
        session = sessions.open(facts(method="POST"))
        session.sign_in(subject, amr=["pwd"])
        session["cart"] = [subject, "book"]
        [cookie] = sessions.close(session).cookies
        sessions.deliver(visit_of(session).take_events())
    return cookie.partition(b";")[0]


def who(desk: Desk, url: str, cookie: bytes) -> tuple[str | None, object]:
    """Whom the store takes the browser for, and what it had left."""
    with manager(desk, url) as sessions:
        session = sessions.open(facts(cookie))
        told = session.subject, session.get("cart")
        sessions.close(session)
        return told


def test_a_browser_does_not_notice(shop: Desk) -> None:
    """Its cookie and its data work in the new store; who was signed out stays signed out (P6)."""
    alice, bob = signed_in(shop, "alice"), signed_in(shop, "bob")
    assert shop.run("store", "copy", STORE, NEW, "--ahead").code == 0
    assert shop.run("sessions", "end-all", "bob").code == 0
    assert shop.run("store", "copy", STORE, NEW, "--yes").code == 0
    assert who(shop, NEW, alice) == ("alice", ["alice", "book"])
    assert who(shop, NEW, bob) == (None, None)
    told = shop.run("sessions", "history", "bob", "--store", NEW).out
    assert "signed in" in told or "authn_login_success" in told


def test_a_terminal_sees_how_far_it_is(shop: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar that grows, on a terminal alone, and is gone at the end."""
    signed_in(shop, "alice")
    moments = iter(range(10_000))
    monkeypatch.setattr("strongroom.cli.store_copy.time.monotonic", lambda: next(moments))
    answer = shop.run("store", "copy", STORE, NEW, typed="y")
    bars = re.findall(r"\[([#.]{30})\] +(\d+)%", answer.err)
    assert ("#" * 30, "100") in bars
    assert int(bars[0][1]) < 50
    assert bars[0][0].count("#") == int(bars[0][1]) * 30 // 100
    assert answer.err.endswith("\r\x1b[K")
    assert "%" not in answer.out


def test_no_is_an_answer(shop: Desk) -> None:
    """Without a yes nothing is begun, and no file is made."""
    answer = shop.run("store", "copy", STORE, NEW, typed="n")
    assert answer.code == 1
    assert not Path("var/new.db").exists()
