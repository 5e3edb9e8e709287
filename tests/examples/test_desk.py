"""The attacker's desk: every attack ends as its page says, and the page could say otherwise."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST
from fastapi import FastAPI

from examples.bank.app import create_app
from examples.bank.attacks.catalogue import ATTACKS, PROMISES
from examples.bank.attacks.scene import Outcome, Step, Transcript
from examples.bank.attacks.stage import Stage
from examples.bank.attacks.wire import Answer, send
from strongroom import SessionPolicy
from strongroom.core.csrf import DECISIONS
from strongroom.core.events import catalogue
from strongroom.testing import FrozenClock


@asynccontextmanager
async def bank(folder: Path, policy: SessionPolicy | None = None) -> AsyncGenerator[FastAPI]:
    """The running bank."""
    app = create_app(
        data_dir=folder,
        policy=policy,
        clock=FrozenClock(),
        sinks=(),
        hasher=PasswordHasher.from_parameters(CHEAPEST),
    )
    async with app.state.manager:
        yield app


@dataclass
class Evening:
    """Every attack played once from its page, by a visitor who is signed in."""

    transcripts: dict[str, Transcript]
    pages: dict[str, str]
    answers: dict[str, Answer]
    accounts: list[str]

    def play(self, name: str) -> Transcript:
        return self.transcripts[name]


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory) -> Evening:
    return anyio.run(spend_evening, tmp_path_factory.mktemp("bank"))


async def spend_evening(folder: Path) -> Evening:
    async with bank(folder) as app:
        stage: Stage = app.state.bank.stage
        says = {"accept": "text/html", "sec-fetch-site": "same-origin"}
        words = "a visitor of the bank"
        made = {"username": "clara", "name": "Clara", "email": "c@example.org"}
        made |= {"new_password": words, "again": words}
        signed_up = await send(app, "POST", "/sign-up", says, made)
        says["cookie"] = "; ".join(line.partition(";")[0] for line in signed_up.cookies)
        transcripts, pages = {}, {}
        for name in ATTACKS:
            answer = await send(app, "POST", f"/desk/{name}", says, {})
            assert (answer.status, answer.cookies) == (303, [])
            location = answer.header("location") or ""
            kept = stage.kept(location.rpartition("/")[2])
            assert kept is not None
            transcripts[name] = kept.transcript
            pages[name] = (await send(app, "GET", location, says)).text
        answers = {
            "account": await send(app, "GET", "/account", says),
            "desk": await send(app, "GET", "/desk", says),
            "forgotten": await send(app, "GET", "/desk/played/0123456789abcdef", says),
            "unknown": await send(app, "POST", "/desk/nothing", says, {}),
            "foreign": await send(
                app, "POST", "/desk/forged-form", {**says, "sec-fetch-site": "cross-site"}, {}
            ),
        }
    with closing(sqlite3.connect(folder / "bank.db")) as db:
        accounts = [row[0] for row in db.execute("SELECT username FROM accounts")]
    return Evening(transcripts, pages, answers, accounts)


def names(steps: list[Step]) -> list[str]:
    return [event.name for step in steps for event in step.events]


def by_mallory(played: Transcript) -> list[Step]:
    return [step for step in played.steps if step.who == "Mallory" and step.request]


def assert_holds(played: Transcript) -> None:
    """Every step and every check came out as the play says."""
    assert [step for step in played.steps if not step.as_expected] == []
    assert [check.what for check in played.checks if not check.held] == []
    assert played.holds


# How each attack ends.


def test_a_planted_token_becomes_nobodys_key(evening: Evening) -> None:
    """P10, P2: signing in starts a new session; a planted one is dead, a made-up one noise."""
    played = evening.play("planted-token")
    assert_holds(played)
    signing = [step for step in played.steps if step.request == "POST /sign-in"]
    assert all(step.jar and "Alice’s key" in step.jar for step in signing)
    assert "superseded_by_sign_in" in [event.about for event in signing[0].events]
    assert [step.outcome for step in by_mallory(played)[1:]] == [Outcome.OUT, Outcome.OUT]


def test_a_stolen_cookie_dies_with_the_sign_out(evening: Evening) -> None:
    """P6: the copy worked, then its owner signed out, and it never works again."""
    played = evening.play("after-sign-out")
    assert_holds(played)
    assert [step.outcome for step in by_mallory(played)] == [Outcome.IN, Outcome.OUT]
    assert names(by_mallory(played)[1:]) == ["session_use_after_expire"]


def test_a_stolen_cookie_is_found_out_after_renewal(evening: Evening) -> None:
    """P12, P17: the thief and the session that was copied are out, and its owner is told why."""
    played = evening.play("after-renewal")
    assert_holds(played)
    (thief,) = by_mallory(played)
    assert thief.outcome is Outcome.OUT
    assert [(event.name, event.about) for event in thief.events] == [
        ("authn_token_reuse", "reuse_recent")
    ]
    after = played.steps[played.steps.index(thief) + 1]
    assert (after.who, after.outcome) == ("Alice", Outcome.OUT)


def test_a_forged_form_moves_nothing(evening: Evening) -> None:
    """P19: five ways to send it, five rules that refuse it, and the money is where it was."""
    played = evening.play("forged-form")
    assert_holds(played)
    refused = [step for step in played.steps if step.outcome is Outcome.REFUSED]
    rules = [event.about.partition(":")[0] for step in refused for event in step.events]
    assert rules == ["cross_site", "same_site", "origin_foreign", "token_absent", "token_invalid"]
    assert set(rules) <= set(DECISIONS)


def test_a_forged_token_reaches_no_store(evening: Evening) -> None:
    """P2: its tag is wrong, so the store is not asked; a genuine token's is."""
    played = evening.play("forged-token")
    assert_holds(played)
    forged = by_mallory(played)[1:]
    assert [(step.reads, step.writes) for step in forged] == [(0, 0)] * 5
    assert [step.outcome for step in forged] == [Outcome.OUT] * 5
    assert [event.about for step in forged for event in step.events] == ["forged"] * 2 + [
        "shape"
    ] * 3
    assert played.steps[-1].reads > 0


def test_two_cookies_of_one_name_are_an_alarm(evening: Evening) -> None:
    """P21: in either order nobody is let in, and the planted cookie is deleted."""
    played = evening.play("cookie-tossing")
    assert_holds(played)
    tossed = [step for step in played.steps if len(step.cookies) == 2]
    assert [step.outcome for step in tossed] == [Outcome.OUT] * 3 + [Outcome.IN]
    assert names(tossed).count("session_cookie_tossing") == 3


def test_a_stolen_database_opens_nothing(evening: Evening) -> None:
    """P3, P4, P9: no key, no name, no data in it; what is written into it is refused."""
    played = evening.play("stolen-database")
    assert_holds(played)
    outcomes = [step.outcome for step in by_mallory(played)[1:]]
    assert outcomes == [Outcome.OUT, Outcome.UNREADABLE, Outcome.IN, Outcome.OUT]
    moved = next(step for step in played.steps if step.outcome is Outcome.UNREADABLE)
    assert moved.status == 503
    assert "crypt_decrypt_fail" in names([moved])
    columns = {each.column for each in played.exhibits}
    assert {"session_id", "header", "subject_key", "envelope", "data"} <= columns
    assert all(each.what for each in played.exhibits)


def test_every_attack_has_a_test_here() -> None:
    """A card that nobody checks could lie."""
    assert set(re.findall(r'evening\.play\("([a-z-]+)"\)', Path(__file__).read_text())) == set(
        ATTACKS
    )


# What is written down.


def test_a_page_can_tell_that_an_attack_did_not_end_as_it_should(tmp_path: Path) -> None:
    """The play knows what it expects, the transcript what came."""

    async def playing() -> tuple[str, Transcript]:
        async with bank(tmp_path) as app:
            stage: Stage = app.state.bank.stage
            async with stage.running() as scene:
                alice = await scene.account("Alice")
                await scene.request(
                    alice, "GET", "/account", "She looks.", expect=Outcome.REFUSED, why=""
                )
                scene.check("Something true.", held=True)
                name = stage.keep("after-sign-out", scene.transcript)
            page = await send(app, "GET", f"/desk/played/{name}", {"accept": "text/html"})
            return page.text, scene.transcript

    page, transcript = anyio.run(playing)
    assert not transcript.holds
    assert "This did not end as it should" in page
    assert "It should have been: refused." in page
    assert ATTACKS["after-sign-out"].ending not in page


@pytest.mark.parametrize("name", ATTACKS)
def test_a_transcript_shows_no_key(evening: Evening, name: str) -> None:
    """P5: cookies are cut after six characters, on the page and in what is kept of it."""
    played, page = evening.play(name), evening.pages[name]
    assert "How it ended" in page
    assert ATTACKS[name].ending in page
    for step in played.steps:
        assert all(re.match(r".{6}… \(", cookie) for cookie in step.cookies)
        assert step.promise in {None, *PROMISES}
    shown = repr(played) + page.partition("<main")[2]
    without_tokens = re.sub(r'name="csrf_token" value="[^"]+"', "", shown)
    assert not re.search(r"[A-Za-z0-9_-]{60}", without_tokens)
    assert set(names(played.steps)) <= {event.name for event in catalogue()}


def test_the_visitor_and_the_bank_are_left_alone(evening: Evening) -> None:
    """Whoever plays stays signed in with what was theirs; the accounts of the plays are gone."""
    account = evening.answers["account"]
    assert "Account of clara" in account.text
    assert "€\N{NO-BREAK SPACE}100.00" in account.text
    assert 'href="/desk"' in account.text
    assert evening.accounts == ["clara"]


def test_the_desk_is_an_ordinary_page_of_the_bank(evening: Evening) -> None:
    """A card for each attack; what is not there is told; another site cannot play."""
    answers = evening.answers
    assert answers["desk"].text.count("Play it") == len(ATTACKS)
    assert (answers["forgotten"].status, answers["forgotten"].header("location")) == (303, "/desk")
    assert answers["unknown"].status == 404
    assert answers["foreign"].status == 403


def test_the_desk_is_for_development_only(tmp_path: Path) -> None:
    """With the production policy there is no desk, no link to it, and no counting."""

    async def asking() -> None:
        async with bank(tmp_path, SessionPolicy(origins=("http://localhost",))) as app:
            assert app.state.bank.stage is None
            says = {"accept": "text/html"}
            assert (await send(app, "GET", "/desk", says)).status == 404
            assert 'href="/desk"' not in (await send(app, "GET", "/", says)).text

    anyio.run(asking)
