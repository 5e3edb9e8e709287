"""C3, P4: what servers must read alone is declared; the rest opens only with the token."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from strongroom import SessionPolicy
from strongroom.core import flows
from strongroom.core.errors import ConfigurationError, UnreadableRecord
from strongroom.core.policy import DataSeal
from strongroom.core.record import FORMAT, EndReason, Record
from strongroom.stores.memory import MemoryStore
from tests.support.flows import World, signing_out, writing

POLICY = SessionPolicy(server_sealed=("tokens",))
SECRET, PRIVATE = "refresh-8xLOxBtZp8", "diary-entry"


def signed_in(policy: SessionPolicy = POLICY) -> tuple[World, str, str]:
    world = World(policy=policy)
    jar = world.sign_in("alice", tokens={"refresh": SECRET}, diary=PRIVATE)
    return world, jar, world.record(jar).session_id.hex()


def alone(world: World, session_id: str) -> dict[str, Any] | None:
    """What the servers read without a request."""
    return world.run(flows.server_data(world.ctx, session_id))


def put(world: World, record: Record) -> None:
    """Write into the store as somebody does who has it and no key."""
    assert isinstance(world.store, MemoryStore)
    snapshot = world.store.snapshot()
    world.store.restore(replace(snapshot, records={**snapshot.records, record.session_id: record}))


def test_servers_read_what_is_declared_and_nothing_else() -> None:
    """The named keys open without a token; a request sees all of it as one (C3)."""
    world, jar, session_id = signed_in()
    assert alone(world, session_id) == {"tokens": {"refresh": SECRET}}
    assert world.data(jar) == {"tokens": {"refresh": SECRET}, "diary": PRIVATE}


def test_neither_part_is_readable_in_the_store() -> None:
    """Both are ciphertext at rest (P4)."""
    world, jar, _session_id = signed_in()
    stored = world.record(jar).data
    assert SECRET.encode() not in stored
    assert PRIVATE.encode() not in stored


def test_without_a_declaration_servers_read_nothing() -> None:
    """The default: the data opens only with the token that the browser holds (P4)."""
    world, jar, session_id = signed_in(SessionPolicy())
    assert alone(world, session_id) == {}
    assert world.data(jar)["diary"] == PRIVATE


@pytest.mark.parametrize("seal", [DataSeal.SERVER, DataSeal.NONE])
def test_where_the_policy_lets_servers_read_all_they_do(seal: DataSeal) -> None:
    """A declaration is for the default seal; the others are whole."""
    world, _jar, session_id = signed_in(SessionPolicy(seal_data=seal))
    assert alone(world, session_id) == {"tokens": {"refresh": SECRET}, "diary": PRIVATE}
    with pytest.raises(ConfigurationError, match="leave one of the two out"):
        SessionPolicy(seal_data=seal, server_sealed=("tokens",))


def test_a_declaration_may_come_and_go_while_sessions_live() -> None:
    """How a record is sealed stands in the record; it changes over when it is next saved (C3)."""
    world, jar, session_id = signed_in(SessionPolicy())
    declared = world.context(policy=POLICY)
    assert world.run(flows.server_data(declared, session_id)) == {}
    reply = world.get(jar, writing(more=1), ctx=declared)
    assert reply.error is None
    assert world.run(flows.server_data(declared, session_id)) == {"tokens": {"refresh": SECRET}}
    # And back again: what was sealed for the servers still opens for the request.
    assert world.data(jar) == {"tokens": {"refresh": SECRET}, "diary": PRIVATE, "more": 1}


def test_the_halves_of_two_moments_do_not_fit_together() -> None:
    """Whoever writes the store cannot give a session yesterday's tokens and today's data (P3)."""
    world, jar, _session_id = signed_in()
    before = world.record(jar)
    world.get(jar, writing(tokens={"refresh": "newer"}))
    after = world.record(jar)
    length = 1 + 4 + int.from_bytes(before.data[1:5], "big")
    newer = 1 + 4 + int.from_bytes(after.data[1:5], "big")
    put(world, replace(after, data=before.data[:length] + after.data[newer:]))
    reply = world.get(jar, lambda visit: _reads(visit))
    assert isinstance(reply.error, UnreadableRecord)
    assert reply.status == 503, "never an empty session, never a sign-out"


def _reads(visit: Any) -> Any:
    dict(visit.data)
    yield from ()


@pytest.mark.parametrize("cut", [1, 3, 5, 20, 80])
def test_damage_is_damage_in_both_parts(cut: int) -> None:
    """Cut short anywhere, it is unreadable for the servers and for the request (C4)."""
    world, jar, session_id = signed_in()
    whole = world.record(jar)
    put(world, replace(whole, data=whole.data[:cut]))
    reply = world.get(jar, lambda visit: _reads(visit))
    assert isinstance(reply.error, UnreadableRecord)
    if cut < 80:
        with pytest.raises(UnreadableRecord):
            alone(world, session_id)


def test_an_ended_session_tells_nothing() -> None:
    """Its data is wiped, and nobody reads on in what is over (P6)."""
    world, jar, session_id = signed_in()
    world.get(jar, signing_out)
    assert world.over(jar) is EndReason.LOGOUT
    assert alone(world, session_id) is None
    assert alone(world, "00" * 16) is None
    assert alone(world, "no such id") is None


def test_a_format_that_this_release_cannot_write_is_refused_at_start_up() -> None:
    """A new format is written only once the policy says so; there is one so far (C4)."""
    assert SessionPolicy().record_format == FORMAT
    for impossible in (0, FORMAT + 1):
        with pytest.raises(ConfigurationError, match="record_format"):
            SessionPolicy(record_format=impossible)
