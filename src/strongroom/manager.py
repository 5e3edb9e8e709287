"""The managers: policy, keys, clock, entropy, store and event sinks in one place.

`AsyncSessionManager` serves ASGI frameworks, `SessionManager` synchronous code: WSGI frameworks,
commands, jobs. Both run the same flows; neither decides anything.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, Unpack

from .actions import Action, Done, Runner
from .core import flows
from .core.adoption import Adoption, OldSession
from .core.errors import (
    ConfigurationError,
    StoreError,
    StrongroomError,
)
from .core.events import Event
from .core.exchange import SAFE_METHODS, RequestFacts, ResponseEdits
from .core.flows.devices import DeviceInfo
from .core.flows.listing import LoginInfo, Report, SessionInfo
from .core.ops import Find, Flow, Found
from .core.record import EndReason
from .core.tokens import Token
from .core.visit import Context, Visit
from .drive import adrive, drive
from .following import Following
from .managing import ManagerBase, Settings, said_plainly
from .running import end_task
from .session import Session
from .stores.base import AsyncStore, Near, NearStats, Store

R = TypeVar("R")

SWEEP_INTERVAL = timedelta(minutes=10)
CLOCK_INTERVAL = timedelta(minutes=1)
"""How often the process's clock is compared with the store's: a server that drifts is told long
before its drift matters, and the question is one small command."""
_log = logging.getLogger("strongroom")


class SessionManager(ManagerBase):
    """Sessions for synchronous code.

    `keys` is a `Keyring`, a key file or its path; `store` a `Store`. Use it as a context manager,
    or call `start` and `stop`.
    """

    def __init__(self, store: Store, **settings: Unpack[Settings]) -> None:
        super().__init__(**settings)
        self.store = self.bounded(store)

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
            raise said_plainly(error) from None
        if visit is None:
            visit = Visit(ctx, facts)
            try:
                if not self._admitted(visit, tokens := flows.candidates(visit)):
                    drive(flows.enter_session(visit, tokens), self.store)
                    self._adopt(visit)
            except StoreError as error:
                visit = self.opened_without_store(visit, error)
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
        device = drive(flows.find_device(self.context, subject, device_id), self.store)
        if device is None:
            return False
        self._report(flows.end_device(self.context, device, reason=EndReason.OPERATOR, by=by))
        return True

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
        return self.skew_told(drive(flows.check_clock(self.context), self.store))

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


class AsyncSessionManager(ManagerBase):
    """Sessions for asynchronous code: the same calls as `SessionManager`, awaited."""

    def __init__(self, store: AsyncStore, **settings: Unpack[Settings]) -> None:
        super().__init__(**settings)
        self.store = self.bounded(store)
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
            raise said_plainly(error) from None
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
            return self.opened_without_store(visit, error)
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
        if not saves:
            if not visit.events:
                return
            if all(event.subject is None for event in visit.events):
                # Nothing waits for the store, so nothing can be cancelled half-way.
                self.emit(visit.take_events())
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
        device = await self._run(flows.find_device(self.context, subject, device_id))
        if device is None:
            return False
        await self._report(flows.end_device(self.context, device, reason=EndReason.OPERATOR, by=by))
        return True

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
        return self.skew_told(await adrive(flows.check_clock(self.context), self.store))

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
