"""One request and its response in synchronous code: what every WSGI framework's integration uses.

`Serving` belongs to an application and opens the exchanges; an `Exchange` belongs to one request.
In order:

    exchange = serving.open(facts)             which session the request is in
    exchange.refuse_cross_site(read_token)     for methods that may change something (P19)
    exchange.session                           for the application
    headers = exchange.start(status, headers)  the response's start: one commit (F1)
    exchange.fail()                            instead of it, where the response failed (E1)
    exchange.finish()                          after the last byte: late data, events, housekeeping

Everything happens in the request's own thread, on the `SessionManager`: no event loop, no bridge.
The one thread of ours keeps house, at most once a minute, and then ends: docs/decisions/0050.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from time import monotonic

from strongroom.core import flows
from strongroom.core.answers import Answer, answer
from strongroom.core.errors import OvertakenError, StoreError, StrongroomError, UsageError
from strongroom.core.exchange import RequestFacts, ResponseEdits
from strongroom.manager import CLOCK_INTERVAL, SWEEP_INTERVAL, SessionManager, visit_of
from strongroom.session import Session

__all__ = ["EXCHANGE", "Exchange", "Serving"]

EXCHANGE = "strongroom.exchange"
"""Where an environ holds the exchange of a middleware further out: it is the one writer (F6)."""

Headers = list[tuple[bytes, bytes]]

_FAILED = 500

_log = logging.getLogger("strongroom")


class Serving:
    """The sessions of one application, in every thread and every forked process of it."""

    def __init__(self, manager: SessionManager) -> None:
        self.manager = manager
        self._opening = threading.Lock()
        self._is_open = False
        self._keeper: threading.Thread | None = None
        self._look_at = self._sweep_at = 0.0
        _servings.add(self)

    def open(self, facts: RequestFacts) -> Exchange:
        """Begin a request.

        Raises:
            StoreError: nobody is let in; see `answer_without`.
            ConfigurationError: the settings do not fit this request.
        """
        self._open_store()
        return Exchange(self, self.manager.open(facts), facts)

    def answer_without(self, error: StrongroomError, facts: RequestFacts) -> Answer | None:
        """What to answer where nothing could be opened; None is the application's mistake."""
        return answer(error, facts, self.manager.policy)

    def stop(self) -> None:
        """Close the store. For tests and tools: a server's processes simply end."""
        keeper = self._keeper
        if keeper is not None:
            keeper.join()
        with self._opening:
            if self._is_open:
                self._is_open = False
                self.manager.stop()

    def keep_house(self) -> None:
        """Compare the clocks and sweep, if it is time, in a thread of its own that then ends."""
        if monotonic() < self._look_at:
            return
        with self._opening:
            if monotonic() < self._look_at or (
                self._keeper is not None and self._keeper.is_alive()
            ):
                return
            self._look_at = monotonic() + CLOCK_INTERVAL.total_seconds()
            self._keeper = threading.Thread(
                target=self._keep_house, name="strongroom-housekeeping", daemon=True
            )
            self._keeper.start()

    def _open_store(self) -> None:
        """Open it with the first request: a server that forks has done so by then."""
        if self._is_open:
            return
        with self._opening:
            if not self._is_open:
                try:
                    self.manager.start()
                except StrongroomError as error:
                    _log.error("%s", error)
                    raise
                self._is_open = True

    def _keep_house(self) -> None:
        try:
            self.manager.check_clock()
            if monotonic() >= self._sweep_at:
                self._sweep_at = monotonic() + SWEEP_INTERVAL.total_seconds()
                self.manager.sweep()
        except Exception:
            _log.exception("Housekeeping failed; it is tried again later")

    def _forked(self) -> None:
        """In the child of a fork: the parent's lock may be held, and its thread is not here."""
        self._opening = threading.Lock()
        self._keeper = None
        self._look_at = self._sweep_at = 0.0


_servings: weakref.WeakSet[Serving] = weakref.WeakSet()


def _after_fork() -> None:
    for serving in list(_servings):
        serving._forked()  # pyright: ignore[reportPrivateUsage]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Exchange:
    """One request and its response. `started` says that the response's head is decided."""

    def __init__(self, serving: Serving, session: Session, facts: RequestFacts) -> None:
        self.serving = serving
        self.manager = serving.manager
        self.session = session
        self.visit = visit_of(session)
        self.facts = facts
        self.started = False
        self._overtaken = False
        self._finished = False
        self._lives = True
        self._ask_at = 0.0

    def refuse_cross_site(self, read_token: Callable[[], str | None]) -> None:
        """Ask whether this request may change something (P19).

        `read_token` gives the form's token or None; it is called only where the answer hangs on
        it, and leaves the body to be read by the application.

        Raises:
            CsrfRefused: it may not.
        """
        if self.facts.is_safe:
            return
        decision = flows.cross_site(self.visit)
        if decision.verdict == "needs_token":
            decision = flows.cross_site_with(self.visit, read_token())
        flows.refuse_cross_site(self.visit, decision)

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
        """At the response's start: commit -> its headers with what they must carry.

        A response of 500 and above did not work, and is not kept (P14).

        Raises:
            StoreError, OvertakenError, UsageError: nothing was saved; see `answer`.
        """
        kept = list(headers)
        if self.facts.websocket:
            # What answers a handshake sets no cookie: nothing may be renewed there (D1).
            self.started = True
            return kept
        edits = self.edits(status)
        return edits.apply(kept) if edits else kept

    def edits(self, status: int) -> ResponseEdits:
        """See `start`; for integrations that have something to add to the edits."""
        visit = self.visit
        if self._overtaken:
            status = _FAILED  # Whatever the answer: it is not saved in part either.
        if flows.needs_writing(visit, status):
            edits = self.manager.close(self.session, status)
        else:
            visit.response_started = True
            edits = flows.plain_edits(visit, status)
        self.started = True
        if edits.cookies:
            self.manager.warn_of_plain_http(self.facts)
        return edits

    def fail(self) -> None:
        """The response failed before it started: whoever it signed in is not signed in (E1)."""
        if self.started or self.visit.aborts is None:
            return
        try:
            self.manager.run("abort", flows.abort(self.visit)).result()
        except StoreError:
            # Its cookie never left, so the orphan is worth nothing, and its clocks end it.
            _log.exception("A session that a failed response began could not be ended")

    def note_failure(self, error: StrongroomError) -> None:
        """The application ended in this error, and a framework makes a response of it: whoever was
        signed in is not, and of what was overtaken nothing is kept."""
        self.fail()
        self._overtaken = self._overtaken or isinstance(error, OvertakenError)

    def answer(self, error: StrongroomError) -> Answer | None:
        """The response that this error is told with, ready to send, or None.

        None: the response has started, or it is the application's own mistake; raise it. Else what
        the failed response had begun is undone, and the answer carries what is due whatever
        happened, such as sign-out.
        """
        self.note_failure(error)
        told = answer(error, self.facts, self.manager.policy)
        if self.started or told is None or isinstance(error, UsageError):
            return None
        try:
            headers = self.start(told.status, told.headers)
        except StrongroomError:
            _log.exception("A refusal could not carry the session's cookies")
            headers = told.headers
        self.started = True
        body = b"" if self.facts.method == "HEAD" else told.body
        return Answer(told.status, [*headers, _length(told.body)], body)

    def may_go_on(self) -> bool:
        """Whether a stream of events may send its next part: it ends with its session (P16).

        Asked of the store at most every `max_staleness`.
        """
        now = monotonic()
        if now < self._ask_at:
            return self._lives
        self._ask_at = now + self.manager.policy.max_staleness.total_seconds()
        self._lives = self._lives and self.still_lives()
        return self._lives

    def still_lives(self) -> bool:
        """Whether the session is live now. A store that does not answer proves nothing."""
        flow = flows.still_lives(self.manager.context, self.visit)
        try:
            return self.manager.run("still_lives", flow).result()
        except StoreError:
            _log.warning("Nobody said whether an open session still lives", exc_info=True)
            return True

    def finish(self) -> None:
        """After the response, also a failed one: save what was assigned while it was sent, deliver
        the events, sweep if it is time. Twice is a no-op; it raises nothing."""
        if self._finished:
            return
        self._finished = True
        visit = self.visit
        self.fail()
        if visit.has_unsaved_data and visit.response_started and visit.record is not None:
            try:
                self.manager.run("save", flows.save(visit, explicit=False)).result()
            except StrongroomError:
                _log.exception("What was assigned after the response began could not be saved")
        events = visit.take_events()
        if events:
            self.manager.deliver(events)
        self.serving.keep_house()


def _length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", str(len(body)).encode()
