"""What is kept of one person, as it is exported, and as it is erased."""

from __future__ import annotations

import json

import pytest

from strongroom import Event, RequestFacts, SessionManager, SignInOvertaken
from strongroom.core.events import SubjectErased
from strongroom.keyfile import generate
from strongroom.manager import visit_of
from strongroom.stores.memory import MemoryStore

SAME_SITE = (b"sec-fetch-site", b"same-origin")


def _sign_in(sessions: SessionManager, subject: str, *, remember: bool = False) -> tuple[str, str]:
    facts = RequestFacts(method="POST", peer="203.0.113.7", headers=[SAME_SITE])
    session = sessions.open(facts)
    session.sign_in(subject, remember=remember)
    session["basket"] = "a secret wish"
    edits = sessions.close(session)
    sessions.deliver(visit_of(session).take_events())
    assert session.session_id is not None
    return session.session_id, str(edits)


def test_an_export_has_all_of_one_person_and_nothing_of_others() -> None:
    """P5: live and ended sessions and the history of one subject, no data, nobody else's."""
    with SessionManager(MemoryStore(), keys=generate("export", 0), sinks=()) as sessions:
        (ended, _), (live, _) = _sign_in(sessions, "alice"), _sign_in(sessions, "alice")
        other, _ = _sign_in(sessions, "bob")
        assert sessions.end_session("alice", ended)
        told = sessions.export_subject("alice")
    reasons = {each["id"]: each["end_reason"] for each in told["records"]}
    assert reasons == {ended: "revoked_by_operator", live: None}
    assert {each["data_bytes"] > 0 for each in told["records"]} == {True, False}
    assert "authn_login_success" in {each["event"] for each in told["history"]}
    text = json.dumps(told)
    assert other not in text and "bob" not in text and "a secret wish" not in text
    assert told["unreadable"] == 0


def test_erasing_leaves_nothing_of_one_person_and_all_of_others() -> None:
    """Live and ended sessions, the persistent login and both drawers; a sink is told, nobody else.

    P15: a sign-in that began before cannot complete.
    """
    told: list[Event] = []
    store = MemoryStore()
    with SessionManager(store, keys=generate("export", 0), sinks=(told.append,)) as sessions:
        _sign_in(sessions, "alice")
        before = sessions.export_subject("bob")
        late = sessions.open(RequestFacts(method="POST", headers=[SAME_SITE]))
        late_attempt = late.authenticating("alice")
        late_attempt.__enter__()
        failing = sessions.open(RequestFacts(method="POST", headers=[SAME_SITE]))
        with failing.authenticating("alice"):
            pass
        sessions.close(failing)
        sessions.deliver(visit_of(failing).take_events())
        _sign_in(sessions, "alice", remember=True)
        assert len(sessions.export_subject("alice")["records"]) == 3
        assert sessions.erase_subject("alice", by="olga") >= 6
        empty = sessions.export_subject("alice")
        assert (empty["records"], empty["history"], empty["unreadable"]) == ([], [], 0)
        assert sessions.export_subject("bob") == before
        with pytest.raises(SignInOvertaken):
            late.sign_in("alice")
        late_attempt.__exit__(None, None, None)
        assert sessions.sessions_of("alice") == []
    erased = next(each for each in told if isinstance(each, SubjectErased))
    assert (erased.subject, erased.by) == ("alice", "olga")
