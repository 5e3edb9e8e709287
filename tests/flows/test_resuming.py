"""Taking over a sign-in from another session system: remembered, never after an end (P6, P25)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from strongroom import SessionManager, SessionPolicy, StepUpRequired, open_store
from strongroom.core.events import LoginSuccess
from strongroom.core.exchange import RequestFacts
from strongroom.keyfile import generate
from strongroom.session import Session
from strongroom.testing import FrozenClock
from strongroom.testing.clock import START


@pytest.fixture
def manager():
    clock = FrozenClock()
    with SessionManager(
        open_store("memory://"), keys=generate("a", START), clock=clock, sinks=()
    ) as manager:
        yield manager


def visit(manager: SessionManager, cookie: str | None = None) -> Session:
    headers = [] if cookie is None else [(b"cookie", cookie.encode())]
    return manager.open(RequestFacts(method="GET", headers=headers))


def cookie_of(manager: SessionManager, session: Session) -> str:
    (line,) = manager.close(session).cookies
    return line.decode().partition(";")[0]


def test_an_adopted_session_is_signed_in_and_owes_a_proof(manager: SessionManager) -> None:
    """It is remembered: known, but not fresh however young, until something is proved (P25)."""
    session = visit(manager)
    assert session.resume("alice").result()
    cookie = cookie_of(manager, session)
    again = visit(manager, cookie)
    assert (again.subject, again.is_remembered, again.factors) == ("alice", True, ())
    with pytest.raises(StepUpRequired):
        again.require_recent_sign_in(max_age=timedelta(hours=1))
    again.elevate(amr="pwd")
    assert again.require_recent_sign_in(max_age=timedelta(hours=1)) == "alice"


def test_nobody_who_was_signed_out_comes_back_by_it(manager: SessionManager) -> None:
    """A browser with a cookie of an ended session is not let in by another system's (P6)."""
    session = visit(manager)
    session.sign_in("alice")
    cookie = cookie_of(manager, session)
    manager.end_all_of("alice")
    again = visit(manager, cookie)
    assert again.resume("alice").result() is False
    assert again.subject is None
    assert manager.sessions_of("alice") == []


def test_whoever_is_signed_in_stays_who_they_are(manager: SessionManager) -> None:
    """An old cookie changes nothing for somebody who is signed in, or half-way through it."""
    session = visit(manager)
    session.sign_in("alice")
    assert session.resume("bob").result() is False
    assert session.subject == "alice"
    pending = visit(manager)
    pending.sign_in("alice", pending=True)
    assert pending.resume("bob").result() is False


def test_an_adoption_is_no_login_and_counts_against_the_limit() -> None:
    """The event says that a session began, not that somebody proved something."""
    events: list[object] = []
    policy = SessionPolicy(max_sessions=1)
    store = open_store("memory://")
    with SessionManager(
        store, keys=generate("a", START), policy=policy, clock=FrozenClock(), sinks=[events.append]
    ) as manager:
        for _ in range(2):
            session = visit(manager)
            session["cart"] = 1
            session.resume("alice")
            manager.close(session)
            manager.deliver(session._visit.take_events())
        assert len(manager.sessions_of("alice")) == 1
    assert not [each for each in events if isinstance(each, LoginSuccess)]
