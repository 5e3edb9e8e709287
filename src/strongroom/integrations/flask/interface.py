"""Flask's `SessionInterface` on Strongroom: a session for each request, committed at its response.

Flask opens the session when the request's context is pushed, and saves it when the response is
made; what fails in between comes back as a 500 response, or as an exception at the context's end.
Nothing is written unless something changed, and nested changes count, so `session.modified` is only
there to be read.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, cast

from flask import Flask, Request, Response
from flask.sessions import NullSession, SessionInterface, SessionMixin
from werkzeug.datastructures import Headers

from strongroom.core.answers import Answer
from strongroom.core.errors import CsrfRefused, StrongroomError
from strongroom.core.exchange import RequestFacts, ResponseEdits
from strongroom.integrations.environ import facts_of_environ, form_token_reader
from strongroom.integrations.exchange_sync import EXCHANGE, Exchange, Serving
from strongroom.integrations.permanent import PermanentSession, prolong


def settings_of(app: Flask) -> dict[str, Any]:
    """The application's configuration, typed."""
    return cast("dict[str, Any]", app.config)


class FlaskSession(PermanentSession, SessionMixin):
    """`flask.session`: the mapping that Flask's users know, and everything that `Session` does."""

    def __init__(self, exchange: Exchange, *, writes: bool = True) -> None:
        super().__init__(exchange.visit, exchange.manager)
        self.exchange = exchange
        self.writes = writes
        """False where a middleware around the application commits this session."""
        self.refusal: CsrfRefused | None = None
        self.edits: ResponseEdits | None = None


class Unopened(NullSession):
    """Stands for a session that could not be opened: empty, read-only, and the reason."""

    def __init__(self, error: StrongroomError) -> None:
        super().__init__()
        self.error = error


class StrongroomInterface(SessionInterface):
    """Opens and saves sessions for one application."""

    null_session_class: type[NullSession] = Unopened

    def __init__(self, serving: Serving, prepare: Callable[[], None]) -> None:
        self.serving = serving
        self._prepare = prepare

    def facts(self, request: Request) -> RequestFacts:
        """The facts of a request."""
        return facts_of_environ(request.environ, self.serving.manager.policy)

    def open_session(self, app: Flask, request: Request) -> FlaskSession | Unopened:
        """The session of this request. What is refused is raised by the first `before_request`,
        where the application's error handlers see it."""
        del app
        self._prepare()
        outer = request.environ.get(EXCHANGE)
        if outer is not None:
            return FlaskSession(outer, writes=False)
        try:
            exchange = self.serving.open(self.facts(request))
        except StrongroomError as error:
            return Unopened(error)
        session = FlaskSession(exchange)
        try:
            exchange.refuse_cross_site(form_token_reader(request.environ, exchange))
        except CsrfRefused as refusal:
            session.refusal = refusal
        return session

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Commit, and put what is due into the response. An error of ours takes its place."""
        if not isinstance(session, FlaskSession) or not session.writes:
            return
        exchange = session.exchange
        if exchange.facts.websocket:
            exchange.started = True
        elif session.edits is None:
            self._commit(app, session, response)
        else:
            # A receiver of request_finished failed, and Flask made a second response.
            _apply(session.edits, response)
        if response.mimetype == "text/event-stream":
            response.response = _until_ended(exchange, response.response)
        response.call_on_close(exchange.finish)
        if app.testing and not response.is_streamed:
            # Flask's test client closes no response by itself, so nobody would see the events.
            exchange.finish()

    def _commit(self, app: Flask, session: FlaskSession, response: Response) -> None:
        exchange = session.exchange
        try:
            if session.refusal is not None and response.status_code < 400:
                raise session.refusal  # Somebody's own before_request answered before ours.
            session.note_permanent()
            edits = exchange.edits(response.status_code)
        except StrongroomError as error:
            told = exchange.answer(error)
            if told is None:
                raise
            _replace(response, told)
            session.edits = ResponseEdits()
            return
        prolong(edits, session, exchange.visit, int(app.permanent_session_lifetime.total_seconds()))
        session.edits = edits
        _apply(edits, response)


def _apply(edits: ResponseEdits, response: Response) -> None:
    if not edits:
        return
    headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in response.headers]
    response.headers = _headers(edits.apply(headers))


def _until_ended(exchange: Exchange, parts: Any) -> Generator[Any, None, None]:
    """The parts of an event stream, until its session ends (P16)."""
    try:
        for part in parts:
            if not exchange.may_go_on():
                return
            yield part
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()


def _replace(response: Response, told: Answer) -> None:
    """Our answer in the place of a response that cannot go out as it is."""
    close = getattr(response.response, "close", None)
    if close is not None:
        close()
    response.status_code = told.status
    response.direct_passthrough = False
    response.set_data(told.body)
    response.headers = _headers(told.headers)


def _headers(pairs: list[tuple[bytes, bytes]]) -> Headers:
    return Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs])


def answer_of(told: Answer, response_class: type[Any]) -> Any:
    """One of our answers as a response of the application."""
    response = response_class(told.body, told.status)
    response.headers = _headers(told.headers)
    return response
