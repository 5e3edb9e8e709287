"""What a security review found, each fault as the test that would have found it first."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from strongroom import CsrfRules, Session, SessionPolicy
from strongroom.core import flows, lifecycle
from strongroom.core.errors import (
    ConfigurationError,
    CsrfRefused,
    SessionEnded,
    SessionReadOnly,
    UnreadableRecord,
    UnserialisableValue,
)
from strongroom.core.events import CookieTossing, CrossSiteRefused
from strongroom.core.exchange import RequestFacts, ResponseEdits
from strongroom.core.ops import Insert, ListSubject, Rotate
from strongroom.core.policy import DataSeal, Routes
from strongroom.core.proxies import TrustedProxies
from strongroom.core.record import Record
from strongroom.drive import drive
from strongroom.keyfile import generate
from strongroom.manager import SessionManager, visit_of
from strongroom.stores.base import Store
from strongroom.stores.memory import MemoryStore
from strongroom.stores.sqlite import SQLiteStore
from strongroom.testing import FrozenClock
from strongroom.testing.clock import START
from tests.support.flows import HOUR, MINUTE, SECOND, a_key

KEYS = generate("review", START)
HOST = (b"host", b"bank.example")
EXCLUDED = SessionPolicy(routes=Routes(excluded=("/auth/*",)))


class Desk:
    """A synchronous manager, and what a browser does with its answers."""

    def __init__(self, policy: SessionPolicy | None = None, store: Store | None = None) -> None:
        self.clock = FrozenClock()
        self.store = store or MemoryStore()
        self.manager = SessionManager(
            self.store, keys=KEYS, policy=policy, sinks=(), clock=self.clock
        )
        self.manager.start()

    @property
    def name(self) -> str:
        return self.manager.context.cookie.name

    def open(self, *jar: str, path: str = "/", method: str = "GET", **how: Any) -> Session:
        """Begin a request with these tokens."""
        sent = "; ".join(f"{self.name}={each}" for each in jar)
        headers = [HOST, *how.pop("headers", ()), *([(b"cookie", sent.encode())] if jar else [])]
        return self.manager.open(
            RequestFacts(method=method, path=path, headers=headers, peer="192.0.2.1", **how)
        )

    def close(self, session: Session, status: int = 200) -> ResponseEdits:
        """End a request, and keep its history."""
        edits = self.manager.close(session, status)
        self.manager.deliver(visit_of(session).take_events())
        return edits

    def set_by(self, edits: ResponseEdits) -> str | None:
        """The session cookie of a response: None leaves the jar alone, "" empties it."""
        start = f"{self.name}=".encode()
        found = [each for each in edits.cookies if each.startswith(start)]
        return found[-1].removeprefix(start).partition(b";")[0].decode() if found else None

    def sign_in(self, subject: str = "alice") -> str:
        """Sign in, and tell the token."""
        session = self.open(method="POST")
        session.sign_in(subject)
        token = self.set_by(self.close(session))
        assert token
        return token

    def who(self, *jar: str) -> str | None:
        """Whom these tokens sign in."""
        return self.open(*jar).subject

    def rewrite(self, **changes: Any) -> None:
        """Somebody who writes the store, and has no keys, changes its one record."""
        assert isinstance(self.store, MemoryStore)
        before = self.store.snapshot()
        ((session_id, record),) = before.records.items()
        header = replace(record.header, **changes.pop("header", {}))
        record = replace(record, header=header, **changes)
        self.store.restore(replace(before, records={session_id: record}))


# The store's writer.


def in_the_clear(**values: Any) -> bytes:
    encode = msgspec.msgpack.encode
    return b"n" + encode({key: encode(value) for key, value in values.items()})


def test_data_written_in_the_clear_by_somebody_else_is_refused() -> None:
    """The mark in the store does not choose the seal: the policy does (P3)."""
    desk = Desk()
    token = desk.sign_in()
    session = desk.open(token)
    session["admin"] = False
    desk.close(session)
    desk.rewrite(data=in_the_clear(admin=True))
    forged = desk.open(token)
    with pytest.raises(UnreadableRecord):
        dict(forged)
    with pytest.raises(UnreadableRecord):
        forged["other"] = 1  # and no save makes sealed data of it
    unsealed = Desk(SessionPolicy(seal_data=DataSeal.NONE), desk.store)
    assert dict(unsealed.open(token)) == {"admin": True}


def test_a_last_seen_that_no_calendar_holds_does_not_break_the_list() -> None:
    """One doctored row takes nobody's overview away (P3)."""
    desk = Desk()
    token = desk.sign_in()
    desk.rewrite(header={"last_seen": 2**62, "idle_deadline": 2**62})
    (listed,) = desk.manager.sessions_of("alice")
    assert listed.last_seen.year == 9999
    assert desk.open(token).expires_at is not None


# Copies of a token, when the password changes.


def test_a_request_from_before_the_password_changed_hands_nothing_over() -> None:
    """A slow upload with the stolen token is a dead token too (P10, P26)."""
    desk = Desk()
    stolen = desk.sign_in()
    thief, own = desk.open(stolen, method="POST"), desk.open(stolen)
    own.credentials_changed(amr="pwd")
    kept = desk.set_by(desk.close(own))
    desk.clock.advance(MINUTE)
    with pytest.raises(SessionEnded):
        thief.hand_over()
    assert kept
    assert desk.who(kept) == "alice"


def test_a_code_redeemed_while_the_password_changes_opens_nothing_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """First the token rotates, then the others end: so a linked session is among them (P26)."""
    desk = Desk()
    stolen = desk.sign_in()
    rotate, linked = desk.store.rotate, list[str | None]()

    def meanwhile(op: Rotate) -> Any:
        monkeypatch.setattr(desk.store, "rotate", rotate)
        code = desk.open(stolen).hand_over().result()
        thief = desk.open(method="POST")
        thief.accept_hand_over(code)
        linked.append(desk.set_by(desk.close(thief)))
        return rotate(op)

    own = desk.open(stolen)
    monkeypatch.setattr(desk.store, "rotate", meanwhile)
    assert own.credentials_changed(amr="pwd").result() == 1
    assert linked[0]
    assert desk.who(linked[0]) is None


# What one account, or nobody in particular, can make the server keep.


def over(record: Record, ended_at: int) -> Record:
    return replace(
        record, session_id=os.urandom(16), header=replace(record.header, ended_at=ended_at)
    )


def an_ended_record(desk: Desk) -> Record:
    session = desk.open(desk.sign_in())
    session.sign_out()
    desk.close(session)
    (found,) = listed(desk)
    return found


def listed(desk: Desk) -> list[Record]:
    key = desk.manager.context.keys.subject_key("alice")
    return [each.record for each in desk.store.list_subject(ListSubject(key))]


def test_two_hundred_sessions_that_are_over_are_kept() -> None:
    """The longest over go first; live ones never do; an idle one is over too (P24)."""
    desk = Desk()
    desk.sign_in()
    (live,) = listed(desk)
    ended = [over(an_ended_record(Desk()), START + each) for each in range(202)]
    idle = replace(live, header=replace(live.header, idle_deadline=START - 1))
    gone = lifecycle.forgettable([live, *reversed(ended), idle], START)
    assert gone == [idle, *ended[:2]]
    assert lifecycle.forgettable([live, *ended[:200]], START) == []


@pytest.fixture(params=["memory", "sqlite"])
def either_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store: Store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "s.db")
    yield store
    store.close()


def test_a_sign_in_removes_what_is_beyond_that(
    either_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signing in and out for ever leaves a bounded number of records in every store (P24)."""
    monkeypatch.setattr(lifecycle, "KEPT_OVER", 3)
    desk = Desk(store=either_store)
    first = an_ended_record(desk)
    for each in range(1, 6):
        either_store.insert(Insert(over(first, START + each), START))
    token = desk.sign_in()
    left = listed(desk)
    assert sorted(each.header.ended_at or 0 for each in left if not each.is_live) == [
        START + 3,
        START + 4,
        START + 5,
    ]
    assert desk.who(token) == "alice"


def test_many_forwarding_headers_are_not_remembered() -> None:
    """Empty ones cost memory too, however few octets their values have (P24)."""
    proxies = TrustedProxies()

    def remembered(count: int) -> int:
        headers = [HOST, *[(b"x-forwarded-for", b"")] * (count - 1)]
        proxies.resolve(peer="192.0.2.1", scheme="https", headers=headers)
        return len(proxies._memo)

    assert remembered(17) == remembered(3500) == 0
    assert remembered(16) == 1


def test_failed_sign_ins_push_nothing_else_out_of_the_history() -> None:
    """Anybody can fail to sign in as somebody: at most fifty of those are kept (P17, P24)."""
    desk = Desk()
    session = desk.open(desk.sign_in())
    session.note("payout_changed", iban="X")
    desk.close(session)
    for _ in range(300):
        desk.clock.advance(10)
        stranger = desk.open(method="POST")
        with stranger.authenticating("alice"):
            pass
        desk.close(stranger)
    told = [each["event"] for each in desk.manager.history("alice", 1000)]
    assert told.count("authn_login_fail") == 50
    assert {"application", "session_created", "authn_login_success"} <= set(told)
    assert told[0] == "authn_login_fail", "and the drawers are told as one, newest first"


def test_a_refused_request_s_path_is_cut() -> None:
    """Sixty kilobytes of path are not sixty kilobytes of somebody's history (P17, P24)."""
    desk = Desk()
    foreign = [(b"origin", b"https://evil.example")]
    session = desk.open(desk.sign_in(), path="/" + "a" * 60_000, method="POST", headers=foreign)
    visit = visit_of(session)
    with pytest.raises(CsrfRefused):
        flows.refuse_cross_site(visit, flows.cross_site(visit))
    (event,) = [each for each in visit.events if isinstance(each, CrossSiteRefused)]
    assert len(event.path) == 256


@pytest.mark.parametrize("bad", [math.nan, 2**64, "\ud800"], ids=["nan", "wide", "surrogate"])
def test_a_note_that_cannot_be_kept_is_refused_where_it_is_made(bad: Any) -> None:
    """Not after the response, where it would take the other events with it (P24)."""
    desk = Desk()
    session = desk.open(desk.sign_in())
    with pytest.raises(UnserialisableValue):
        session.note("search", q=bad)
    session.note("search", q="fine")
    desk.close(session)
    assert [e["details"] for e in desk.manager.history("alice") if e["event"] == "application"] == [
        {"q": "fine"}
    ]


# Paths that servers read differently.

GUARDED = SessionPolicy(csrf=CsrfRules(own_token_paths=("/transfer",), json_paths=("/api",)))
SAME_ORIGIN = [(b"sec-fetch-site", b"same-origin"), (b"origin", b"https://bank.example")]


@pytest.mark.parametrize(
    ("path", "root"),
    [("/{}", ""), ("/{}\n", ""), ("//{}", ""), ("/app/{}", "/app"), ("/app/{}\n", "/app")],
)
def test_a_guarded_path_is_guarded_however_it_is_written(path: str, root: str) -> None:
    """A rule that only tightens holds wherever a router might see its path (P19)."""
    desk = Desk(GUARDED)

    def decided(name: str, kind: bytes) -> str:
        headers = [*SAME_ORIGIN, (b"content-type", kind), (b"content-length", b"3")]
        session = desk.open(path=path.format(name), method="POST", headers=headers, root=root)
        return flows.cross_site(visit_of(session)).rule

    assert decided("api", b"text/plain") == "simple_request"
    assert decided("transfer", b"application/json") == "token_for_form"


def test_other_paths_are_not_guarded_with_them() -> None:
    """Under a mount point, too (P19)."""
    desk = Desk(GUARDED)
    for path, root in (("/rename", ""), ("/app/rename", "/app"), ("/transfers", "")):
        session = desk.open(path=path, method="POST", headers=SAME_ORIGIN, root=root)
        assert flows.cross_site(visit_of(session)).verdict == "allow"


# Keys, clocks and settings.


def test_a_keyring_that_may_issue_nothing_fails_every_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not one a second, with the retired key believed in between (A1, P22)."""
    desk = Desk()
    token = desk.sign_in()
    (old,) = KEYS.keys
    retired = replace(old, secret=b"", retired_at=START)
    ring = replace(KEYS, keys=(retired, a_key(old.id + 1, issue_from=START + 10**12)))
    monkeypatch.setattr(desk.manager, "_keys", lambda: ring)
    desk.clock.advance(5 * SECOND)
    for _ in range(25):
        desk.clock.advance(100)
        with pytest.raises(ConfigurationError):
            desk.open(token)


@pytest.mark.parametrize(
    "policy",
    [
        SessionPolicy(),
        SessionPolicy(idle_timeout=timedelta(hours=1), absolute_timeout=timedelta(hours=1)),
    ],
    ids=["idle", "absolute"],
)
def test_a_request_that_outlives_its_session_does_not_revive_it(policy: SessionPolicy) -> None:
    """Neither noting activity nor proving a factor turns a clock back that has run out (P9)."""
    desk = Desk(policy)
    token = desk.sign_in()
    desk.clock.advance(MINUTE)
    late = desk.open(token)
    desk.clock.advance(HOUR)
    assert late.touch().result() is False
    with pytest.raises(SessionEnded):
        late.elevate()
    assert desk.who(token) is None


DURATIONS = [
    "absolute_timeout",
    "history_retention",
    "grace",
    "settle",
]
PATHS = [
    "//evil.example",
    "/x\r\nX: y",
    "/anmeldung-für",
    "sign-in",
    "",
]


@pytest.mark.parametrize("setting", DURATIONS)
def test_a_duration_that_no_clock_can_add_is_refused_at_start(setting: str) -> None:
    """With a sentence, and not by an OverflowError at the first sign-in (P27)."""
    settings: dict[str, Any] = {setting: timedelta.max}
    with pytest.raises(ConfigurationError):
        SessionPolicy(**settings)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("setting", ["sign_in_path", "step_up_path"])
def test_a_sign_in_page_is_a_plain_path_of_ours(setting: str, path: str) -> None:
    """Nobody is redirected elsewhere, and no header is split, by a setting (P18)."""
    settings: dict[str, Any] = {setting: path}
    with pytest.raises(ConfigurationError):
        SessionPolicy(**settings)


# Signing out, and who may choose.


@pytest.mark.parametrize("action", ["sign_in", "sign_out", "sign_out_everywhere"])
def test_an_excluded_route_changes_nobody_s_session(action: str) -> None:
    """Its cookie was not read, so a sign-out there would only seem to be one (P14)."""
    desk = Desk(EXCLUDED)
    token = desk.sign_in()
    session = desk.open(token, path="/auth/page", method="POST")
    with pytest.raises(SessionReadOnly):
        getattr(session, action)(*(["bob"] if action == "sign_in" else []))
    assert desk.set_by(desk.close(session)) is None
    assert desk.who(token) == "alice"


def test_signing_out_with_a_token_that_another_tab_rotated_away_holds() -> None:
    """Whoever asks to be signed out means this browser (P14)."""
    desk = Desk()
    token = desk.sign_in()
    desk.clock.advance(5 * SECOND)
    other = desk.open(token)
    other.elevate()
    newer = desk.set_by(desk.close(other))
    desk.clock.advance(200)
    session = desk.open(token, method="POST")
    session.sign_out()
    assert desk.set_by(desk.close(session)) == ""
    assert newer
    assert desk.who(newer) is None, "and ends the session, which the other tab still has"


def test_signing_out_with_planted_cookies_deletes_the_cookie() -> None:
    """Several valid sessions sign nobody in, but do not keep anybody from leaving (P14, P21)."""
    desk = Desk()
    session = desk.open(desk.sign_in("alice"), desk.sign_in("evil"), method="POST")
    session.sign_out()
    assert desk.set_by(desk.close(session)) == ""


@pytest.mark.parametrize("planted", ["sessions", "junk"])
@pytest.mark.parametrize("first", [True, False])
def test_beyond_the_bounds_the_order_of_cookies_chooses_nothing(planted: str, first: bool) -> None:
    """Whoever can plant many cookies does not choose which few are looked at (P21)."""
    desk = Desk()
    own = desk.sign_in("alice")
    if planted == "junk":
        others = [f"j{each}" for each in range(255)]
    else:
        others = []
        for _ in range(4):  # dead ones: only their tags are right
            others.append(desk.sign_in("evil"))
            leaving = desk.open(others[-1])
            leaving.sign_out()
            desk.close(leaving)
    session = desk.open(*([own, *others] if first else [*others, own]))
    visit = visit_of(session)
    assert session.subject is None
    assert visit.tossed
    assert any(isinstance(each, CookieTossing) for each in visit.events)
    fewer = [own, *others[1:]] if first else [*others[1:], own]
    assert desk.who(*fewer) == "alice", "and one fewer is within the bounds"


# Responses that failed.


def test_after_a_failed_response_a_later_assignment_saves_itself_alone() -> None:
    """What a 500 threw away does not come back with a background task's note (P14)."""
    desk = Desk()
    token = desk.sign_in()
    session = desk.open(token)
    session["paid"] = True
    desk.close(session, 500)
    session["late"] = 1
    drive(flows.save(visit_of(session), explicit=False), desk.store)
    assert dict(desk.open(token)) == {"late": 1}


def test_the_edits_of_a_response_do_not_show_its_cookie() -> None:
    """A repr ends up in tracebacks and logs (P5)."""
    desk = Desk()
    session = desk.open(method="POST")
    session.sign_in("alice")
    edits = desk.close(session)
    token = desk.set_by(edits)
    assert token
    assert token not in repr(edits)
    assert desk.name not in repr(edits)
