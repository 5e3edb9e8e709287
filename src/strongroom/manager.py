"""The managers: policy, keys, clock, entropy, store and event sinks in one place.

`AsyncSessionManager` serves ASGI frameworks, `SessionManager` synchronous code: WSGI frameworks,
commands, jobs. Both run the same flows; neither decides anything.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Required, TypedDict, TypeVar, Unpack

from .actions import Action, Done, Runner
from .adapters import AesGcm, MsgpackCodec, system_clock, system_entropy
from .core import flows
from .core.adoption import Adoption, OldSession
from .core.cookies import CookieSpec, cookie_name
from .core.csrf import DECISIONS
from .core.errors import (
    ConfigurationError,
    StoreError,
    StrongroomError,
    UnreadableRecord,
)
from .core.events import ClockSkewed, CrossSiteRefused, Event, EventSink, StoreFailed
from .core.exchange import SAFE_METHODS, RequestFacts, ResponseEdits
from .core.flows.devices import DeviceInfo
from .core.flows.listing import LoginInfo, Report, SessionInfo
from .core.ops import Find, Flow, Found
from .core.places import Place
from .core.policy import SessionPolicy, ms
from .core.record import EndReason
from .core.risk import Population
from .core.sealing import Aead, Codec, Keyring, Sealer
from .core.tokens import Token, VerifiedTokens, blake2b_mac, hmac_sha512
from .core.uses import UsesOfSessions
from .core.visit import Context, Visit
from .drive import adrive, drive
from .following import Following
from .keyfile import KeyFile
from .running import end_task
from .session import Session
from .stores.base import AsyncStore, Near, NearStats, Store
from .telemetry.logging import LoggingSink
from .telemetry.spikes import SpikeSink

R = TypeVar("R")
S = TypeVar("S")

SWEEP_INTERVAL = timedelta(minutes=10)
CLOCK_INTERVAL = timedelta(minutes=1)
"""How often the process's clock is compared with the store's: a server that drifts is told long
before its drift matters, and the question is one small command."""
_log = logging.getLogger("strongroom")

KeySource = Keyring | KeyFile | str | os.PathLike[str]


class Settings(TypedDict, total=False):
    """What both managers are made from, besides the store."""

    keys: Required[KeySource]
    """A `Keyring`, a key file, or its path."""
    policy: SessionPolicy | None
    sinks: Iterable[EventSink] | None
    """Where events go; without any, JSON lines in the logger `strongroom.events`."""
    locate: Callable[[str], Place] | None
    """Where an address seems to be, such as a `strongroom.places.PlacesFile`; it never raises."""
    consents: Callable[[RequestFacts], bool] | None
    """Whether a visitor agreed to be known again by a device cookie, if the policy wants that."""
    everybody: Population | None
    """Everybody's habits, which the risk of a sign-in is measured by; None measures none."""
    clock: Callable[[], int]
    entropy: Callable[[int], bytes]
    aead: Aead
    codec: Codec
    adopt: Adoption | None
    """How the sessions of another library are taken over, once each."""


class _Manager:
    """What both managers are made of: a `Context` that follows the keys, and the event sinks."""

    def __init__(
        self,
        *,
        keys: KeySource,
        policy: SessionPolicy | None = None,
        sinks: Iterable[EventSink] | None = None,
        locate: Callable[[str], Place] | None = None,
        consents: Callable[[RequestFacts], bool] | None = None,
        everybody: Population | None = None,
        clock: Callable[[], int] = system_clock,
        entropy: Callable[[int], bytes] = system_entropy,
        aead: Aead | None = None,
        codec: Codec | None = None,
        adopt: Adoption | None = None,
    ) -> None:
        self.policy = policy or SessionPolicy()
        self.clock = clock
        self._entropy = entropy
        if adopt is not None:
            adopt.check(clock())
        self.adoption = adopt
        self._sinks = _default_sinks() if sinks is None else tuple(sinks)
        self._locate = locate
        self._consents = None if consents is None else _agreed(consents)
        self._everybody = everybody or Population()
        self._uses = UsesOfSessions()
        self._sealer = Sealer(aead or AesGcm(), entropy)
        self._codec = codec or MsgpackCodec()
        self._keys = _key_source(keys)
        self._check_every = ms(self.policy.max_staleness)
        self._next_check = 0
        self._warned = False
        self._shown: set[str] = set()
        self._ring: Keyring | None = None
        self._changes_at: int | None = None
        self._context = self._refresh(clock())
        _warn_of_development(self.policy)

    @property
    def context(self) -> Context:
        """What flows are handed, with the keys as they are now (checked at most once a second)."""
        now = self.clock()
        if now >= self._next_check or now < self._next_check - self._check_every:
            self._context = self._refresh(now)
        return self._context

    @property
    def store_identity(self) -> bytes:
        """The 16 public bytes by which a store knows that it belongs to these keys."""
        return self._context.keys.store_identity

    def emit(self, events: Iterable[Event]) -> None:
        """Hand events to the sinks. One that fails is reported, and loses nothing."""
        for event in events:
            if isinstance(event, CrossSiteRefused):
                self._show_the_way(event)
            for sink in self._sinks:
                try:
                    sink(event)
                except Exception:
                    _log.exception("An event sink failed on %s", event.name)

    def warn_of_plain_http(self, facts: RequestFacts) -> None:
        """Say once that browsers drop a `Secure` cookie that comes over http."""
        if self._warned or self.policy.development or facts.scheme != "http":
            return
        self._warned = True
        _log.warning(
            "A Secure cookie was sent over http to %s, and browsers drop it: nobody stays signed "
            "in. Behind a proxy with https: SessionPolicy(proxies=TrustedProxies.of(...)). On this "
            "machine: SessionPolicy.for_development(). What is wrong says: strongroom doctor URL",
            facts.host or "an unknown host",
        )

    def _show_the_way(self, refused: CrossSiteRefused) -> None:
        """Say once for each rule what a developer does about it: the client is not told that."""
        decision = DECISIONS.get(refused.rule)
        if decision is None or refused.rule in self._shown:
            return
        self._shown.add(refused.rule)
        _log.warning(
            "A request to %r was refused with 403. %s If the request is your own: %s The rule is "
            "%s; this is said once for each rule, and every refusal is an event malicious_csrf.",
            refused.path,
            decision.reason,
            decision.hint,
            refused.rule,
        )

    def _opened_without_store(self, visit: Visit, error: StoreError) -> Visit:
        """While the store is down: public routes go on without a session, others do not (H1)."""
        if not isinstance(error, UnreadableRecord):  # which has an event of its own
            visit.note(StoreFailed, session_id=None, subject=None, reason=error.code)
        self.emit(visit.take_events())
        public = flows.visit_without_store(visit.ctx, visit.facts)
        if public is None:
            raise error
        return public

    def _bounded(self, store: S) -> S:
        """The store; one that may answer from memory is told how old an answer may be (H3)."""
        if isinstance(store, Near):
            store.keep_within(self.policy.max_staleness.total_seconds())
        return store

    def _skew_told(self, skewed: ClockSkewed | None) -> int:
        if skewed is None:
            return 0
        self.emit([skewed])
        return skewed.store_ahead_ms

    def _refresh(self, now: int) -> Context:
        self._next_check = 0  # Until this succeeds, every request asks again, and fails.
        ring = self._keys()
        due = self._changes_at is not None and now >= self._changes_at
        if ring is self._ring and not due:
            self._next_check = now + self._check_every
            return self._context
        mac = hmac_sha512 if self.policy.approved_only else blake2b_mac
        keys = ring.unlock(now, mac)
        if self._ring is not None and keys.store_identity != self._context.keys.store_identity:
            raise ConfigurationError(
                "The new keyring has another realm or store secret than the one in use.",
                why="Every subject would be looked up under another name.",
                hint="Restart on a store of its own, or put the old keyring back.",
            )
        self._ring, self._changes_at = ring, ring.changes_at(now)
        self._next_check = now + self._check_every
        cookies = _cookies(self.policy, keys.store_identity)
        session_cookie, pre_cookie, login_cookie, device_cookie = cookies
        return Context(
            policy=self.policy,
            clocks=self.policy.clocks,
            keys=keys,
            verified=VerifiedTokens(keys.tokens),
            sealer=self._sealer,
            codec=self._codec,
            entropy=self._entropy,
            now=self.clock,
            cookie=session_cookie,
            pre_cookie=pre_cookie,
            adoption=self.adoption,
            locate=self._locate,
            everybody=self._everybody,
            uses=self._uses,
            consents=self._consents,
            device_cookie=device_cookie,
            login_cookie=login_cookie,
        )


class SessionManager(_Manager):
    """Sessions for synchronous code.

    `keys` is a `Keyring`, a key file or its path; `store` a `Store`. Use it as a context manager,
    or call `start` and `stop`.
    """

    def __init__(self, store: Store, **settings: Unpack[Settings]) -> None:
        super().__init__(**settings)
        self.store = self._bounded(store)

    def __enter__(self) -> SessionManager:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def near_cache(self) -> NearStats | None:
        """What this process's near cache holds and whether it lives; None without one."""
        return self.store.stats() if isinstance(self.store, Near) else None

    def start(self) -> None:
        """Open the store, check that it belongs to these keys, and compare the clocks."""
        self.store.open(self.store_identity)
        self.check_clock()

    def stop(self) -> None:
        """Close the store."""
        self.store.close()

    def run(self, name: str, flow: Flow[R]) -> Action[R]:
        """Run a flow at once: what a session's actions do in synchronous code."""
        del name
        return Done(drive(flow, self.store))

    def open(self, facts: RequestFacts) -> Session:
        """Begin a request.

        Raises:
            StoreError: nobody is let in; what was found out is in the log.
        """
        try:
            ctx = self.context
            visit = flows.visit_without_session(ctx, facts)
        except ConfigurationError as error:
            raise _said_plainly(error) from None
        if visit is None:
            visit = Visit(ctx, facts)
            try:
                if not self._admitted(visit, tokens := flows.candidates(visit)):
                    drive(flows.enter_session(visit, tokens), self.store)
                    self._adopt(visit)
            except StoreError as error:
                visit = self._opened_without_store(visit, error)
        return Session(visit, self)

    def _admitted(self, visit: Visit, tokens: list[Token]) -> bool:
        """The usual case is one read, and no generator."""
        if len(tokens) != 1:
            return False
        find = Find(tokens[0].session_id, flows.asks_store(visit))
        return flows.admit(visit, tokens[0], self.store.find(find))

    def close(self, session: Session, status: int = 200) -> ResponseEdits:
        """At the response's start: commit, and say what the response must carry."""
        visit = visit_of(session)
        edits = drive(flows.close_visit(visit, status), self.store)
        left = flows.left_behind(visit)
        if left is not None and self.adoption is not None and self.adoption.forget is not None:
            with _telling("The old session could not be deleted where it came from"):
                self.adoption.forget(left)
        return edits

    def _adopt(self, visit: Visit) -> None:
        value = flows.old_cookie(visit)
        if value is None or self.adoption is None:
            return
        with _telling("An old session could not be read, and was not adopted"):
            old: OldSession | None = self.adoption.read(value)
            if old is not None:
                drive(flows.adopt(visit, value, old), self.store)

    def sessions_of(self, subject: str, *, include_ended: bool = False) -> list[SessionInfo]:
        """Where the subject is signed in."""
        return drive(
            flows.sessions_of(self.context, subject, include_ended=include_ended), self.store
        )

    def logins_of(self, subject: str) -> list[LoginInfo]:
        """The browsers that are remembered for the subject (persistent logins)."""
        return drive(flows.logins_of(self.context, subject), self.store)

    def devices_of(self, subject: str) -> list[DeviceInfo]:
        """The subject's devices, with what each one has; the latest used first."""
        return drive(flows.devices_of(self.context, subject), self.store)

    def end_device(self, subject: str, device_id: str, *, by: str | None = None) -> bool:
        """End all that the device has, and count it as new from now on -> whether there is one."""
        flow = flows.end_device(self.context, subject, device_id, reason=EndReason.OPERATOR, by=by)
        return bool(self._report(flow).events)

    def find_session(self, session_id: str) -> SessionInfo | None:
        """One signed-in session by its public id, live or ended."""
        return drive(flows.find_session(self.context, session_id), self.store)

    def server_data(self, session_id: str) -> dict[str, Any] | None:
        """What the policy lets servers read alone of a live session (`server_sealed`)."""
        return drive(flows.server_data(self.context, session_id), self.store)

    def end_session(self, subject: str, session_id: str, *, by: str | None = None) -> bool:
        """End one session of the subject, or one persistent login with its sessions -> whether it
        was live."""
        flow = flows.end_session(
            self.context, subject, session_id, reason=EndReason.OPERATOR, by=by
        )
        return self._report(flow).ended > 0

    def end_all_of(self, subject: str, *, by: str | None = None) -> int:
        """End every session of the subject -> how many."""
        flow = flows.end_subject(self.context, subject, reason=EndReason.OPERATOR, by=by)
        return self._report(flow).ended

    def credentials_changed(self, subject: str, *, keep: Session | None = None) -> int:
        """A factor of the account changed: end its sessions, rotate the one to keep -> how many."""
        return self._report(_credentials_changed(self.context, subject, keep)).ended

    def account_disabled(self, subject: str, *, by: str | None = None) -> int:
        """The account was disabled or deleted: end everything it has -> how many."""
        return self._report(flows.account_disabled(self.context, subject, by=by)).ended

    def end_everybody(self, *, by: str | None = None) -> None:
        """Sign everybody out, in one write."""
        self._report(flows.end_everybody(self.context, by=by))

    def history(self, subject: str, limit: int = 50) -> list[dict[str, Any]]:
        """What happened to the subject's sessions, newest first."""
        return drive(flows.history(self.context, subject, limit), self.store)

    def export_subject(self, subject: str) -> dict[str, Any]:
        """Everything that is kept of one person, as plain values; no secret is in it."""
        return drive(flows.export_subject(self.context, subject), self.store)

    def erase_subject(self, subject: str, *, by: str | None = None) -> int:
        """End everything that one person has and remove what is kept of them -> how many things.

        Its events go to the sinks and to no history. See docs/privacy.
        """
        report = drive(flows.erase_subject(self.context, subject, by=by), self.store)
        self.emit(report.events)
        return report.ended

    def sweep(self) -> int:
        """Remove what may be forgotten -> how many things."""
        return drive(flows.sweep(self.context), self.store)

    def check_clock(self) -> int:
        """Compare this process's clock with the store's -> how far the store's is ahead (E6).

        Milliseconds, and zero while the difference is within `max_skew`; beyond it, an event.
        """
        return self._skew_told(drive(flows.check_clock(self.context), self.store))

    def deliver(self, events: list[Event]) -> None:
        """Events to the sinks and to the subjects' histories; call it after the response."""
        self.emit(events)
        try:
            drive(flows.keep_history(self.context, events), self.store)
        except StoreError:
            _log.exception("The history of %d events could not be stored", len(events))

    def _report(self, flow: Flow[Report]) -> Report:
        report = drive(flow, self.store)
        self.deliver(list(report.events))
        return report


class AsyncSessionManager(_Manager):
    """Sessions for asynchronous code: the same calls as `SessionManager`, awaited."""

    def __init__(self, store: AsyncStore, **settings: Unpack[Settings]) -> None:
        super().__init__(**settings)
        self.store = self._bounded(store)
        self._started = False
        self._starting: asyncio.Lock | None = None
        self._housekeeping: asyncio.Task[None] | None = None
        self._finishing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> AsyncSessionManager:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def near_cache(self) -> NearStats | None:
        """What this process's near cache holds and whether it lives; None without one."""
        return self.store.stats() if isinstance(self.store, Near) else None

    async def start(self) -> None:
        """Open the store, check that it belongs to these keys, begin to sweep. Twice is a no-op."""
        if self._started:
            return
        if self._starting is None:
            self._starting = asyncio.Lock()
        async with self._starting:
            if not self._started:
                await self.store.open(self.store_identity)
                self._started = True
                self._housekeeping = asyncio.create_task(self._keep_house())

    async def stop(self) -> None:
        """Stop sweeping and close the store. Twice is a no-op."""
        housekeeping, self._housekeeping = self._housekeeping, None
        await end_task(housekeeping)
        if self._started:
            self._started = False
            self._starting = None
            await self.store.close()

    def has_nothing_to_open(self, method: str, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """Whether this request is in no session, changes nothing, and needs no judgement.

        Then `anonymous` makes its visit, if anybody asks for it.
        """
        if self.policy.development or self.adoption is not None or not self._started:
            return False
        return method in SAFE_METHODS and flows.presents_nothing(self.context, headers)

    def anonymous(self, facts: RequestFacts) -> Visit:
        """The visit of a request that has nothing to open."""
        ctx = self.context
        return flows.visit_without_session(ctx, facts) or Visit(ctx, facts)

    async def open(self, facts: RequestFacts) -> Visit:
        """Begin a request: which session it is in. The usual case is one read and no generator.

        Raises:
            StoreError: nobody is let in; what was found out is in the log.
        """
        try:
            ctx = self.context
            without = flows.visit_without_session(ctx, facts)
        except ConfigurationError as error:
            raise _said_plainly(error) from None
        if without is not None:
            return without
        visit = Visit(ctx, facts)
        try:
            if not self._started:
                await self.start()
            tokens = flows.candidates(visit)
            if not tokens and not flows.may_reopen(visit):
                if self.adoption is not None:
                    await self._adopt(visit, self.adoption)
                return visit
            if len(tokens) == 1:
                found: Found | None = await self.store.find(
                    Find(tokens[0].session_id, flows.asks_store(visit))
                )
                if flows.admit(visit, tokens[0], found):
                    return visit
            await adrive(flows.enter_session(visit, tokens), self.store)
        except StoreError as error:
            return self._opened_without_store(visit, error)
        return visit

    async def close(self, visit: Visit, status: int = 200) -> ResponseEdits:
        """At the response's start: commit, and say what the response must carry."""
        if not flows.needs_writing(visit, status):
            visit.response_started = True
            return flows.plain_edits(visit, status)
        edits = await adrive(flows.close_visit(visit, status), self.store)
        left = flows.left_behind(visit)
        if left is not None and self.adoption is not None and self.adoption.forget is not None:
            with _telling("The old session could not be deleted where it came from"):
                await _awaited(self.adoption.forget(left))
        return edits

    async def _adopt(self, visit: Visit, adoption: Adoption) -> None:
        value = flows.old_cookie(visit)
        if value is None:
            return
        try:
            with _telling("An old session could not be read, and was not adopted"):
                old: OldSession | None = await _awaited(adoption.read(value))
                if old is not None:
                    await adrive(flows.adopt(visit, value, old), self.store)
        except BaseException:
            await self.abort(visit)
            raise

    async def finish(self, visit: Visit) -> None:
        """After the response: save what was assigned while it was sent, and deliver the events.

        A session that began before the response still takes data from a background task or a
        stream; a WebSocket saves only when it says so. A server that cancels what follows a
        response stops neither.
        """
        saves = visit.has_unsaved_data and visit.response_started and visit.record is not None
        if not saves and not visit.events:
            return
        task = asyncio.ensure_future(self._finish(visit, saves=saves))
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        await asyncio.shield(task)

    async def _finish(self, visit: Visit, *, saves: bool) -> None:
        if saves:
            try:
                await adrive(flows.save(visit, explicit=False), self.store)
            except StrongroomError:
                _log.exception("What was assigned after the response began could not be saved")
        if visit.events:
            await self.deliver(visit.take_events())

    async def abort(self, visit: Visit) -> None:
        """The response failed: a session that it signed in ends, cancellation or not."""
        if visit.aborts is not None:
            await asyncio.shield(asyncio.ensure_future(adrive(flows.abort(visit), self.store)))

    def following(self, cares: Callable[[bytes], bool]) -> Following:
        """Hears which sessions change, for what is open longer than a request; `run` it in a task.

        `cares` says whether anything is open for a session id.
        """
        return Following(self.store, self.policy.max_staleness.total_seconds(), cares)

    def must_ask(self, visit: Visit, following: Following) -> bool:
        """Whether the store has to be asked about a session that something is open for.

        While the store pushes, only when the session's own clocks or keys say that it is over.
        """
        return not following.is_alive or flows.seems_over(self.context, visit)

    async def still_lives(self, visit: Visit) -> bool:
        """Whether the visit's session is live now: for open sockets and streams (E8)."""
        return await adrive(flows.still_lives(self.context, visit), self.store)

    async def sessions_of(self, subject: str, *, include_ended: bool = False) -> list[SessionInfo]:
        """Where the subject is signed in."""
        return await self._run(
            flows.sessions_of(self.context, subject, include_ended=include_ended)
        )

    async def logins_of(self, subject: str) -> list[LoginInfo]:
        """The browsers that are remembered for the subject (persistent logins)."""
        return await self._run(flows.logins_of(self.context, subject))

    async def devices_of(self, subject: str) -> list[DeviceInfo]:
        """The subject's devices, with what each one has; the latest used first."""
        return await self._run(flows.devices_of(self.context, subject))

    async def end_device(self, subject: str, device_id: str, *, by: str | None = None) -> bool:
        """End all that the device has, and count it as new from now on -> whether there is one."""
        flow = flows.end_device(self.context, subject, device_id, reason=EndReason.OPERATOR, by=by)
        return bool((await self._report(flow)).events)

    async def find_session(self, session_id: str) -> SessionInfo | None:
        """One signed-in session by its public id, live or ended."""
        return await self._run(flows.find_session(self.context, session_id))

    async def server_data(self, session_id: str) -> dict[str, Any] | None:
        """What the policy lets servers read alone of a live session (`server_sealed`)."""
        return await self._run(flows.server_data(self.context, session_id))

    async def end_session(self, subject: str, session_id: str, *, by: str | None = None) -> bool:
        """End one session of the subject, or one persistent login with its sessions -> whether it
        was live."""
        flow = flows.end_session(
            self.context, subject, session_id, reason=EndReason.OPERATOR, by=by
        )
        return (await self._report(flow)).ended > 0

    async def end_all_of(self, subject: str, *, by: str | None = None) -> int:
        """End every session of the subject -> how many."""
        flow = flows.end_subject(self.context, subject, reason=EndReason.OPERATOR, by=by)
        return (await self._report(flow)).ended

    async def credentials_changed(self, subject: str, *, keep: Session | None = None) -> int:
        """A factor of the account changed: end its sessions, rotate the one to keep -> how many."""
        return (await self._report(_credentials_changed(self.context, subject, keep))).ended

    async def account_disabled(self, subject: str, *, by: str | None = None) -> int:
        """The account was disabled or deleted: end everything it has -> how many."""
        return (await self._report(flows.account_disabled(self.context, subject, by=by))).ended

    async def end_everybody(self, *, by: str | None = None) -> None:
        """Sign everybody out, in one write."""
        await self._report(flows.end_everybody(self.context, by=by))

    async def history(self, subject: str, limit: int = 50) -> list[dict[str, Any]]:
        """What happened to the subject's sessions, newest first."""
        return await self._run(flows.history(self.context, subject, limit))

    async def export_subject(self, subject: str) -> dict[str, Any]:
        """Everything that is kept of one person, as plain values; no secret is in it."""
        return await self._run(flows.export_subject(self.context, subject))

    async def erase_subject(self, subject: str, *, by: str | None = None) -> int:
        """End everything that one person has and remove what is kept of them -> how many things.

        Its events go to the sinks and to no history. See docs/privacy.
        """
        report = await self._run(flows.erase_subject(self.context, subject, by=by))
        self.emit(report.events)
        return report.ended

    async def sweep(self) -> int:
        """Remove what may be forgotten -> how many things."""
        return await self._run(flows.sweep(self.context))

    async def check_clock(self) -> int:
        """Compare this process's clock with the store's -> how far the store's is ahead (E6).

        Milliseconds, and zero while the difference is within `max_skew`; beyond it, an event.
        """
        return self._skew_told(await adrive(flows.check_clock(self.context), self.store))

    async def deliver(self, events: list[Event]) -> None:
        """Events to the sinks and to the subjects' histories; call it after the response."""
        if not events:
            return
        self.emit(events)
        try:
            await adrive(flows.keep_history(self.context, events), self.store)
        except StoreError:
            _log.exception("The history of %d events could not be stored", len(events))

    async def _run(self, flow: Flow[R]) -> R:
        await self.start()
        return await adrive(flow, self.store)

    async def _report(self, flow: Flow[Report]) -> Report:
        report = await self._run(flow)
        await self.deliver(list(report.events))
        return report

    async def _keep_house(self) -> None:
        """Compare the clocks every minute, and sweep every ten."""
        sweep_in = timedelta(0)
        while True:
            await self._try(self.check_clock(), "The clocks could not be compared")
            if sweep_in <= timedelta(0):
                sweep_in = SWEEP_INTERVAL
                await self._try(self.sweep(), "The sweep failed")
            sweep_in -= CLOCK_INTERVAL
            await asyncio.sleep(CLOCK_INTERVAL.total_seconds())

    @staticmethod
    async def _try(work: Coroutine[Any, Any, object], otherwise: str) -> None:
        try:
            await work
        except Exception:
            _log.exception("%s; it is tried again later", otherwise)


@contextmanager
def _telling(what: str) -> Generator[None]:
    """What an application's own hook raises is logged; our store's errors go on their way."""
    try:
        yield
    except StoreError:
        raise
    except Exception:
        _log.exception(what)


async def _awaited(answered: Any) -> Any:
    """What a hook of the application returned, which may be a coroutine function."""
    return await answered if inspect.isawaitable(answered) else answered


def _said_plainly(error: ConfigurationError) -> ConfigurationError:
    """The error, once its sentence has a line of its own: a server prints it last, under a long
    traceback of code that is not what has to be changed."""
    _log.error("%s", error)
    return error.with_traceback(None)


def visit_of(session: Session) -> Visit:
    """The visit behind a session: for integrations."""
    return session._visit  # pyright: ignore[reportPrivateUsage]


def runner_of(session: Session) -> Runner:
    """What runs a session's actions: for integrations that dress a session in another class."""
    return session._runner  # pyright: ignore[reportPrivateUsage]


def _credentials_changed(ctx: Context, subject: str, keep: Session | None) -> Flow[Report]:
    """With a session to keep: it rotates if it is the subject's, and an attempt carries on (E2)."""
    visit = None if keep is None else visit_of(keep)
    if visit is not None:
        yield from flows.verify(visit)
    if visit is None or visit.subject is None:
        return (yield from flows.reset_credentials(ctx, subject, visit))
    if visit.subject != subject:
        raise ConfigurationError(
            "The session to keep belongs to somebody else.",
            why="Ending one account's sessions must not change another's.",
            hint="Pass keep=request.session only where its subject is the account that changed.",
        )
    report = yield from flows.credentials_changed(visit)
    # The visit carries these events already.
    return Report(report.ended)


def _default_sinks() -> tuple[EventSink, ...]:
    """JSON lines in the log, and the spikes among them."""
    log = LoggingSink()
    return log, SpikeSink(log)


def _key_source(keys: KeySource) -> Callable[[], Keyring]:
    if isinstance(keys, Keyring):
        return lambda: keys
    file = keys if isinstance(keys, KeyFile) else KeyFile(Path(keys))
    return file.current


def _cookies(
    policy: SessionPolicy, store_identity: bytes
) -> tuple[CookieSpec, CookieSpec, CookieSpec, CookieSpec]:
    """The cookies of session, pre-session, login and device, as browsers keep them (P18)."""
    # The hash comes from realm and store secret, so two applications on one host differ (F6).
    short = store_identity[:4].hex()
    secure = not policy.development
    name = policy.cookie_name or cookie_name("id", short, secure=secure)
    session_cookie = CookieSpec(name=name, secure=secure, same_site=policy.same_site)
    pre_cookie = CookieSpec(
        name=cookie_name("pre", short, secure=secure), secure=secure, same_site="Lax"
    )
    login_cookie = CookieSpec(
        name=cookie_name("remember", short, secure=secure),
        secure=secure,
        same_site=policy.same_site,
    )
    device_cookie = CookieSpec(
        name=cookie_name("device", short, secure=secure), secure=secure, same_site="Lax"
    )
    for each in (session_cookie, pre_cookie, login_cookie, device_cookie):
        each.check()
    return session_cookie, pre_cookie, login_cookie, device_cookie


def _agreed(asked: Callable[[RequestFacts], bool]) -> Callable[[RequestFacts], bool]:
    """The application's answer; where it fails, nobody has agreed."""

    def consents(facts: RequestFacts) -> bool:
        try:
            return bool(asked(facts))
        except Exception:
            _log.exception("consents() failed, so this visitor gets no device cookie")
            return False

    return consents


def _warn_of_development(policy: SessionPolicy) -> None:
    if policy.development:
        _log.warning(
            "This is the development policy: cookies without Secure and without the __Host- "
            "prefix, for http://localhost only. Production wants SessionPolicy() and https."
        )
