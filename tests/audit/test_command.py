"""`strongroom audit` and `audit init` against a server on loopback: what they print and return."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.audit.conftest import served
from tests.audit.zoo.club import PASSWORDS, build
from tests.cli.runner import Answer, Desk


@pytest.fixture(scope="module")
def club() -> Generator[str]:
    """A club without Secure, so that it can be signed into on plain http; it is sound otherwise."""
    with served(build("no secure")) as url:
        yield url


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A folder, and the password in the environment."""
    monkeypatch.chdir(tmp_path)
    return Desk(env={"STRONGROOM_AUDIT_PASSWORD": PASSWORDS["alice"], "NO_COLOR": "1"})


@pytest.mark.slow
def test_it_says_what_it_found_and_what_came_out(club: str, desk: Desk) -> None:
    """Before the checks it tells the plan; a sound site is exit code 0."""
    answer = desk.run("audit", club, "--user", "alice", "--only", "ends", "--only", "fixation-kept")
    assert answer.code == 0, answer
    assert f"found  sign-in: POST {club}sign-in" in answer.err
    assert "✓ After signing out, the kept cookie is worth nothing" in answer.out
    assert PASSWORDS["alice"] not in answer.out + answer.err


@pytest.mark.slow
@pytest.mark.parametrize("form", ["terminal", "json", "sarif", "junit", "html", "markdown"])
def test_a_report_in_a_file(club: str, desk: Desk, form: str) -> None:
    """Each form goes into a file, and a finding is exit code 1."""
    answer = desk.run(
        "audit", club, "--user", "alice", "--only", "end-visible", "--only", "session-list",
        "--format", form, "--output", "report",
    )  # fmt: skip
    assert answer.code == 0, answer
    text = Path("report").read_text("utf-8")
    assert "Every signed-in page offers to sign out" in text or form == "markdown"
    assert "end-visible" in text or form in ("terminal", "html")


@pytest.mark.slow
def test_findings_are_exit_code_one_and_a_baseline_accepts_them(desk: Desk) -> None:
    """A failure is 1; written into a baseline it is 0 the next time."""
    words = ("--user", "alice", "--only", "end-*", "--skip", "end-clear-site-data")
    with served(build("no secure")) as sound, served(_get_out()) as url:
        assert desk.run("audit", sound, *words).code == 0
        assert desk.run("audit", url, *words, "--write-baseline", "known.json").code == 1
        assert (
            json.loads(Path("known.json").read_text("utf-8"))["accepted"][0]["id"] == "end-by-get"
        )
        assert desk.run("audit", url, *words, "--baseline", "known.json").code == 0


def _get_out():
    """A club on plain http whose sign-out is a link."""
    app = build("sign-out link")

    async def without_secure(scope, receive, send):
        async def sending(message):
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (k, v.replace(b"__Host-id", b"id").replace(b"; Secure", b""))
                    for k, v in message["headers"]
                ]
            await send(message)

        if scope["type"] == "http":
            scope["headers"] = [
                (k, v.replace(b"id=", b"__Host-id=") if k == b"cookie" else v)
                for k, v in scope["headers"]
            ]
        await app(scope, receive, sending)

    return without_secure


@pytest.mark.slow
def test_a_wrong_password_is_exit_code_three(club: str, desk: Desk) -> None:
    """An audit that could not sign in says so, and is neither good nor bad."""
    desk.env["STRONGROOM_AUDIT_PASSWORD"] = "not the password"
    answer: Answer = desk.run("audit", club, "--user", "alice", "--only", "ends")
    assert answer.code == 3
    assert "No way to sign in was found that works." in answer.err


@pytest.mark.slow
def test_init_writes_a_file_that_works(club: str, desk: Desk) -> None:
    """At a terminal it asks for each form; what it writes can be audited at once."""
    answer = desk.run("audit", "init", club, "--user", "alice", typed="mallory\n30m\n2h\ny")
    assert answer.code == 0, answer
    text = Path("audit.toml").read_text("utf-8")
    assert '[[change]]\nname = "name"' in text
    assert 'second_user = "mallory"\nwebsocket = "/live"\n' in text
    assert '[timeouts]\nidle = "1800s"\nabsolute = "7200s"\n' in text
    desk.env["STRONGROOM_AUDIT_SECOND_PASSWORD"] = PASSWORDS["mallory"]
    again = desk.run("audit", "--target", "audit.toml", "--only", "csrf-forged")
    assert again.code == 0, again
    assert "✓ A forged form on another site changes nothing" in again.out
