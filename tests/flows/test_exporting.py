"""What is kept of one person, as it is exported."""

from __future__ import annotations

import json

from strongroom import RequestFacts, SessionManager
from strongroom.keyfile import generate
from strongroom.manager import visit_of
from strongroom.stores.memory import MemoryStore


def _sign_in(sessions: SessionManager, subject: str) -> tuple[str, str]:
    facts = RequestFacts(
        method="POST", peer="203.0.113.7", headers=[(b"sec-fetch-site", b"same-origin")]
    )
    session = sessions.open(facts)
    session.sign_in(subject)
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
