"""Requests as flows: a world in which they meet, and what their clients have in the jar.

A request here is what an integration makes of it, without the framework: open, act, close, and the
same answer to an error. Its ops can be stepped, so everything is tried in every order.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any, TypeVar

from strongroom.adapters import AesGcm, MsgpackCodec
from strongroom.core import flows
from strongroom.core.answers import answer
from strongroom.core.cookies import CookieSpec
from strongroom.core.errors import StoreError, StrongroomError
from strongroom.core.events import Event, SessionLogout
from strongroom.core.exchange import RequestFacts, ResponseEdits
from strongroom.core.ops import End, EndAll, EndSubject, Find, Flow, Found, Op
from strongroom.core.policy import SessionPolicy, judge
from strongroom.core.record import EndReason, Record
from strongroom.core.sealing import Key, Keyring, Sealer
from strongroom.core.tokens import Token, VerifiedTokens, parse
from strongroom.core.visit import Context, Visit
from strongroom.drive import drive
from strongroom.stores.base import Store
from strongroom.stores.memory import MemoryStore
from strongroom.stores.sqlite import SQLiteStore
from strongroom.testing import Fates, FixedEntropy, FrozenClock, Scenario
from strongroom.testing.clock import START

R = TypeVar("R")
Action = Callable[[Visit], Flow[Any]]
Jar = str | Sequence[str] | None
"""What the Cookie header holds of us: one token, several, or none."""

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
POLICY = SessionPolicy()
GRACE, SETTLE, RENEW = POLICY.clocks.grace, POLICY.clocks.settle, 15 * MINUTE
COOKIE, PRE_COOKIE = CookieSpec("__Host-id"), CookieSpec("__Host-pre")
NAVIGATION = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
CROSS_SITE = {"sec-fetch-site": "cross-site"}


def a_key(key_id: int, *, issue_from: int = 0, retired_at: int | None = None) -> Key:
    """A key whose secret is its own."""
    return Key(key_id, bytes([key_id]) * 32, 0, issue_from, retired_at)


def a_ring(*keys: Key) -> Keyring:
    """A keyring of these keys; all of them belong to one store."""
    return Keyring("test", b"s" * 32, keys)


RING = a_ring(a_key(1))


@dataclass(frozen=True, slots=True)
class Reply:
    """What left the server: the status, what the response carries, and what the visit was."""

    status: int
    edits: ResponseEdits
    visit: Visit | None = None
    error: StrongroomError | None = None

    @property
    def cookie(self) -> str | None:
        """The session cookie that it sets: None leaves the jar alone, "" empties it."""
        found: str | None = None
        for line in self.edits.cookies:
            if line.startswith(b"__Host-id="):
                assert found is None, "one response sets the session cookie once"
                found = line.partition(b"=")[2].partition(b";")[0].decode()
        return found

    @property
    def here(self) -> Visit:
        """The visit of a request that was opened."""
        assert self.visit is not None
        return self.visit

    @property
    def here_signed_out(self) -> bool:
        """Whether a session was ended by it; a dead token ends none."""
        return self.saw(SessionLogout)

    @property
    def subject(self) -> str | None:
        """Who was signed in when it was answered."""
        return None if self.visit is None else self.visit.subject

    @property
    def events(self) -> list[Event]:
        """What was noted."""
        return [] if self.visit is None else self.visit.events

    def saw(self, kind: type[Event]) -> bool:
        """Whether such an event was noted."""
        return any(isinstance(each, kind) for each in self.events)

    @property
    def login(self) -> str | None:
        """The persistent login's cookie that it sets: None leaves it alone, "" deletes it."""
        found: str | None = None
        for line in self.edits.cookies:
            if line.startswith(b"__Host-remember="):
                assert found is None, "one response sets a cookie once"
                found = line.partition(b"=")[2].partition(b";")[0].decode()
        return found

    def into(self, jar: str | None) -> str | None:
        """The jar after this reply has arrived."""
        return jar if self.cookie is None else self.cookie or None


class World:
    """A store, a clock and the keys. `jars` are the cookies that its stage left behind."""

    def __init__(
        self,
        *,
        policy: SessionPolicy = POLICY,
        store: Store | None = None,
        ring: Keyring = RING,
        now: int = START,
        seed: str = "world",
    ) -> None:
        self.policy, self.ring = policy, ring
        self.clock = FrozenClock(now)
        self.entropy = FixedEntropy(seed)
        self.jars: dict[str, str] = {}
        self.store: Store = store or MemoryStore()
        self.ctx = self.context()
        self.store.open(self.ctx.keys.store_identity)

    def context(self, ring: Keyring | None = None, policy: SessionPolicy | None = None) -> Context:
        """What a process with this keyring hands its flows."""
        policy = policy or self.policy
        keys = (ring or self.ring).unlock(self.clock())
        return Context(
            policy=policy,
            clocks=policy.clocks,
            keys=keys,
            verified=VerifiedTokens(keys.tokens),
            sealer=Sealer(AesGcm(), self.entropy),
            codec=MsgpackCodec(),
            entropy=self.entropy,
            now=self.clock,
            cookie=COOKIE,
            pre_cookie=PRE_COOKIE,
        )

    def run(self, flow: Flow[R]) -> R:
        """Run a flow to its end, alone."""
        return drive(flow, self.store)

    def request(
        self,
        jar: Jar,
        action: Action | None = None,
        *,
        status: int = 200,
        ctx: Context | None = None,
        **said: Any,
    ) -> Flow[Reply]:
        """One request and its response, as an integration does it."""
        return a_request(ctx or self.ctx, facts(jar, **said), action or nothing, status)

    def get(self, jar: Jar, action: Action | None = None, **said: Any) -> Reply:
        """A request that nobody disturbs."""
        return self.run(self.request(jar, action, **said))

    def sign_in(self, subject: str = "alice", jar: Jar = None, **values: Any) -> str:
        """Sign somebody in, and tell the cookie."""
        reply = self.get(jar, chain(signing_in(subject), writing(**values)), method="POST")
        assert reply.cookie, reply.error
        return reply.cookie

    def probe(self, jar: Jar, ctx: Context | None = None, **said: Any) -> Reply:
        """A page view that leaves no trace where the store can forget (memory)."""
        if not isinstance(self.store, MemoryStore):
            return self.get(jar, ctx=ctx, **said)
        before = self.store.snapshot()
        try:
            return self.get(jar, ctx=ctx, **said)
        finally:
            self.store.restore(before)

    def who(self, jar: Jar) -> str | None:
        """Whom this cookie signs in now."""
        return self.probe(jar).subject

    def data(self, jar: Jar) -> dict[str, Any]:
        """What this cookie opens."""
        return dict(self.probe(jar).here.data)

    def found(self, token: str) -> Found | None:
        """What the store holds for the session of a token."""
        answer: Found | None = self.store.find(Find(self.token(token).session_id))
        return answer

    def record(self, token: str) -> Record:
        """The record of the session of a token."""
        found = self.found(token)
        assert found is not None
        return found.record

    def token(self, text: str) -> Token:
        """The parsed token."""
        token = parse(self.ctx.keys.tokens, text.encode())
        assert isinstance(token, Token)
        return token

    def generation(self, token: str) -> int:
        """The record's generation now."""
        return self.record(token).header.credential.generation

    def over(self, token: str) -> EndReason | None:
        """Why the token's session is over, judged as any request would; None while it lives."""
        found = self.found(token)
        if found is None:
            return EndReason.POLICY
        identity = self.ctx.open_identity(found.record)
        if identity is None:
            return EndReason.POLICY
        return judge(
            found.record.header,
            identity,
            self.clock(),
            clocks=self.ctx.clocks,
            store_epoch=found.store_epoch,
        )

    def live_of(self, subject: str) -> list[str]:
        """The public ids of the subject's live sessions."""
        return [each.session_id for each in self.run(flows.sessions_of(self.ctx, subject))]

    def confirmed(self, token: str) -> str:
        """Use the token until it is confirmed and renewal may start; tells the same token."""
        self.clock.advance(MINUTE)
        assert self.get(token).cookie is None
        self.clock.advance(SETTLE)
        assert self.get(token).cookie is None
        self.clock.advance(GRACE)
        assert self.record(token).header.credential.confirmed_at
        return token

    def renewed(self, token: str) -> str:
        """Renew a confirmed token, and tell the new one."""
        reply = self.get(token, renewing)
        assert reply.cookie and reply.cookie != token
        return reply.cookie


def facts(
    jar: Jar,
    *,
    method: str = "GET",
    path: str = "/",
    body: bool = False,
    websocket: bool = False,
    headers: Mapping[str, str] | None = None,
    agent: str = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
) -> RequestFacts:
    """A request with these cookies of ours."""
    tokens = [jar] if isinstance(jar, str) else list(jar or ())
    cookies = "; ".join(f"__Host-id={each}" for each in tokens)
    lines = [(b"cookie", cookies.encode())] if cookies else []
    lines += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    lines += [(b"content-length", b"3")] if body else []
    lines += [(b"user-agent", agent.encode()), (b"host", b"bank.example")]
    return RequestFacts(method=method, path=path, headers=lines, websocket=websocket)


def a_request(ctx: Context, said: RequestFacts, action: Action, status: int) -> Flow[Reply]:
    """Open, act, close; an error is undone and answered as the ASGI middleware does it."""
    try:
        visit = yield from flows.open_visit(ctx, said)
    except StoreError as error:
        return Reply(503, ResponseEdits(), None, error)
    try:
        yield from action(visit)
        return Reply(status, (yield from closing(visit, status)), visit)
    except StrongroomError as error:
        with suppress(StoreError):
            yield from flows.abort(visit)
        told = answer(error, said, ctx.policy)
        if told is None:
            raise
        try:
            return Reply(told.status, (yield from closing(visit, told.status)), visit, error)
        except StrongroomError:
            return Reply(told.status, ResponseEdits(), visit, error)


def closing(visit: Visit, status: int = 200) -> Flow[ResponseEdits]:
    """As the managers close: the hot path where there is nothing to write."""
    if flows.needs_writing(visit):
        return (yield from flows.close_visit(visit, status))
    visit.response_started = True
    return flows.plain_edits(visit, status)


# What requests do. Each is made into an action by its arguments.


def nothing(visit: Visit) -> Flow[None]:
    """Only look who it is."""
    yield from ()


def renewing(visit: Visit) -> Flow[None]:
    """Ask for a renewal before its time."""
    yield from ()
    visit.renew_asked = True


def signing_in(
    subject: str = "alice", *factors: str, pending: bool = False, remember: bool = False
) -> Action:
    """Sign in at once."""
    return lambda visit: flows.sign_in(
        visit, subject, factors or ("pwd",), pending=pending, remember=remember
    )


def authenticating(subject: str, then: Action | None = None) -> Action:
    """Begin to check credentials, then sign in (or do what `then` says)."""

    def action(visit: Visit) -> Flow[None]:
        visit.attempt = yield from flows.begin_attempt(visit, subject)
        yield from (then or signing_in(subject))(visit)

    return action


def elevating(*factors: str) -> Action:
    """Prove a further factor."""
    return lambda visit: flows.elevate(visit, factors or ("otp",))


def signing_out(visit: Visit) -> Flow[None]:
    """Sign out."""
    return flows.sign_out(visit)


def writing(**values: Any) -> Action:
    """Assign; saved at the response's start. None deletes."""

    def action(visit: Visit) -> Flow[None]:
        yield from ()
        for key, value in values.items():
            if value is None:
                visit.data.pop(key, None)
            else:
                visit.data[key] = value

    return action


def saving(*, strict: bool | None = None, **values: Any) -> Action:
    """Assign and save at once."""

    def action(visit: Visit) -> Flow[bool]:
        if visit.record is None and visit.cookie_locked:
            return False  # nobody is shown this form whose cookie opened nothing
        yield from writing(**values)(visit)
        return (yield from flows.save(visit, strict=strict))

    return action


def chain(*actions: Action) -> Action:
    """One after the other."""

    def action(visit: Visit) -> Flow[None]:
        for each in actions:
            yield from each(visit)

    return action


# What operators and owners do from outside, by name.

ENDERS: dict[str, Callable[[World, str], Flow[Any]]] = {
    "sign_out": lambda world, jar: world.request(jar, signing_out, method="POST"),
    "end_session": lambda world, jar: flows.end_session(
        world.ctx, "alice", world.token(jar).session_id.hex(), reason=EndReason.REVOKED
    ),
    "end_subject": lambda world, jar: flows.end_subject(
        world.ctx, "alice", reason=EndReason.EVERYWHERE
    ),
    "account_disabled": lambda world, jar: flows.account_disabled(world.ctx, "alice"),
    "end_everybody": lambda world, jar: flows.end_everybody(world.ctx),
}


# Worlds, again and again: a stage is set once and every schedule starts from a copy of it.

Stage = Callable[[World], None]


class Prepared:
    """Copies of a world whose stage has been set, in memory."""

    def __init__(self, stage: Stage, **settings: Any) -> None:
        self._first = World(**settings)
        self._settings = settings
        stage(self._first)
        assert isinstance(self._first.store, MemoryStore)
        self._snapshot = self._first.store.snapshot()

    def __call__(self) -> World:
        """The world as the stage left it."""
        world = World(**{**self._settings, "now": self._first.clock(), "seed": "after"})
        assert isinstance(world.store, MemoryStore)
        world.store.restore(self._snapshot)
        world.jars = dict(self._first.jars)
        return world


class PreparedFile:
    """The same over SQLite: the stage is set in one file, which is copied for each schedule."""

    def __init__(self, stage: Stage, folder: Path, **settings: Any) -> None:
        self._folder, self._settings, self._count = folder, settings, 0
        self._last: Store | None = None
        self._first = World(store=SQLiteStore(folder / "stage.db"), **settings)
        stage(self._first)
        self._first.store.close()

    def __call__(self) -> World:
        """The world as the stage left it. The one before it is closed."""
        self.close()
        self._count += 1
        path = self._folder / f"{self._count % 2}.db"
        for old in self._folder.glob(f"{path.name}*"):
            old.unlink()
        shutil.copyfile(self._folder / "stage.db", path)
        store = self._last = SQLiteStore(path)
        settings = {**self._settings, "now": self._first.clock(), "seed": "after"}
        world = World(store=store, **settings)
        world.jars = dict(self._first.jars)
        return world

    def close(self) -> None:
        """Close the last world."""
        if self._last is not None:
            self._last.close()
            self._last = None


Worlds = Callable[[], World]


@dataclass(slots=True)
class Log:
    """Every op of every flow of a scenario, in the order in which they were answered."""

    entries: list[tuple[str, Op, Any]] = field(default_factory=list[tuple[str, Op, Any]])

    def watch(self, name: str, flow: Flow[R]) -> Flow[R]:
        """The flow, its ops written down."""
        heard: Any = None
        error: StrongroomError | None = None
        try:
            while True:
                try:
                    op = flow.send(heard) if error is None else flow.throw(error)
                except StopIteration as done:
                    result: R = done.value
                    return result
                heard = error = None
                try:
                    heard = yield op
                except StrongroomError as raised:
                    error = raised
                self.entries.append((name, op, heard if error is None else error))
        finally:
            flow.close()

    def last(self, name: str) -> int:
        """When the flow's last op was answered."""
        return max((i for i, entry in enumerate(self.entries) if entry[0] == name), default=-1)

    def ended(self, session_id: bytes) -> int:
        """When the session ended, as far as an op that was answered ended it."""
        for place, (_, op, heard) in enumerate(self.entries):
            if isinstance(heard, StrongroomError):
                continue
            match op:
                case EndAll():
                    return place
                case EndSubject() if any(each.record.session_id == session_id for each in heard):
                    return place
                case End() if op.session_id == session_id:
                    return place
                case _:
                    pass
        return len(self.entries)


Check = Callable[[World, Fates, Log], None]
Meeting = Mapping[str, Callable[[World], Flow[Any]]]


def scenario(worlds: Worlds, meeting: Meeting, check: Check) -> Callable[[], Scenario]:
    """Flows that meet in a fresh world."""

    def make() -> Scenario:
        world, log = worlds(), Log()

        def begin(name: str, flow: Callable[[World], Flow[Any]]) -> Callable[[], Flow[Any]]:
            return lambda: log.watch(name, flow(world))

        return Scenario(
            world.store,
            {name: begin(name, flow) for name, flow in meeting.items()},
            lambda fates: check(world, fates, log),
            world.clock,
        )

    return make


def replies(fates: Fates) -> dict[str, Reply]:
    """The replies of the requests that came to their end."""
    return {
        name: fate.value
        for name, fate in fates.items()
        if fate.returned and isinstance(fate.value, Reply)
    }


def jars_after(jar: str | None, arriving: Iterable[Reply]) -> Iterator[str | None]:
    """Every jar that can come of it: replies arrive in any order, and any of them gets lost."""
    all_of_them = tuple(arriving)
    for count in range(len(all_of_them) + 1):
        for order in permutations(all_of_them, count):
            after = jar
            for each in order:
                after = each.into(after)
            yield after
