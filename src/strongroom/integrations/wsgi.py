"""Sessions for any WSGI application: one middleware, no framework (Bottle, Falcon, Pyramid, ...).

    app = SessionMiddleware(app, store="sqlite:///var/sessions.db", keys="var/strongroom.keys")

The session is `environ["strongroom.session"]`; `session_of(environ)` gives it with its type. The
commit happens when the first byte of the response is due, so what a generator does before that
counts, and an error in it is a failed response (PEP 3333; P14). One response has one writer: an
application within that brings this middleware too leaves the work to the outer one (F6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any

from strongroom.core.adoption import Adoption
from strongroom.core.answers import Answer
from strongroom.core.errors import ConfigurationError, StrongroomError
from strongroom.core.events import EventSink
from strongroom.core.exchange import RequestFacts
from strongroom.core.policy import SessionPolicy
from strongroom.manager import SessionManager
from strongroom.managing import KeySource
from strongroom.session import Session
from strongroom.setup import sync_manager

from .environ import facts_of_environ, form_token_reader
from .exchange_sync import EXCHANGE, Exchange, Serving

__all__ = ["SESSION", "SessionMiddleware", "session_of"]

Environ = dict[str, Any]
HeaderPairs = list[tuple[str, str]]
Write = Callable[[bytes], object]
StartResponse = Callable[..., Write]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]

SESSION = "strongroom.session"
"""The key under which the environ holds the session."""


class SessionMiddleware:
    """Gives every request a session, as `environ["strongroom.session"]`.

    Args:
        app: the application.
        store: a URL, such as `sqlite:///var/sessions.db` or `memory://`.
        keys: the path of a key file (`strongroom keys generate`), or a `Keyring`.
        policy: the limits in force; without one, the defaults for https.
        sinks: where events go; without any, JSON lines in the logger `strongroom.events`.
        adopt: how the sessions of another library are taken over: see docs/moving.
        manager: a `SessionManager` of your own, instead of all these.

    Raises:
        ConfigurationError: what is contradictory, unsafe, or would not work, with a sentence.
    """

    def __init__(
        self,
        app: WSGIApp,
        *,
        store: str | None = None,
        keys: KeySource | None = None,
        policy: SessionPolicy | None = None,
        sinks: Iterable[EventSink] | None = None,
        adopt: Adoption | None = None,
        manager: SessionManager | None = None,
    ) -> None:
        self.app = app
        self.manager = manager or sync_manager(store, keys, policy, sinks, adopt)
        self.serving = Serving(self.manager)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        if EXCHANGE in environ:
            return self.app(environ, start_response)
        facts = facts_of_environ(environ, self.manager.policy)
        try:
            exchange = self.serving.open(facts)
        except StrongroomError as error:
            told = self.serving.answer_without(error, facts)
            if told is None:
                raise
            return _send(told, facts, start_response)
        environ[SESSION], environ[EXCHANGE] = exchange.session, exchange
        if exchange.visit.excluded and facts.is_safe:
            # No session and nothing to decide, so a server may send the file as it likes to.
            return self.app(environ, start_response)
        response = _Response(exchange, self.app, environ, start_response)
        response.run()
        return response


def session_of(environ: Environ) -> Session:
    """The session of a request.

    Raises:
        ConfigurationError: the middleware is missing.
    """
    session = environ.get(SESSION)
    if not isinstance(session, Session):
        raise ConfigurationError(
            "This request has no Strongroom session.",
            why="The middleware is missing, or the part that asks runs outside of it.",
            hint="Wrap the whole application: app = SessionMiddleware(app, store=..., keys=...)",
        )
    return session


class _Response:
    """The response on its way to the server: an iterable that the server closes (PEP 3333).

    Head and status are kept until the first byte is due, because until then the application may
    still take them back with `exc_info`, or fail.
    """

    def __init__(
        self, exchange: Exchange, app: WSGIApp, environ: Environ, start_response: StartResponse
    ) -> None:
        self._exchange = exchange
        self._app = app
        self._environ = environ
        self._server_start = start_response
        self._head: tuple[str, HeaderPairs, Any] | None = None
        self._write: Write | None = None
        self._iterable: Iterable[bytes] = ()
        self._iterator: Iterator[bytes] = iter(())
        self._is_event_stream = False

    def run(self) -> None:
        """Ask the cross-site question, and call the application."""
        exchange = self._exchange
        try:
            exchange.refuse_cross_site(form_token_reader(self._environ, exchange))
            self._iterable = self._app(self._environ, self._start_response)
            self._iterator = iter(self._iterable)
        except StrongroomError as error:
            try:
                self._tell(error)
            except StrongroomError:
                self.close()  # The server never sees this object, and so will not close it.
                raise
        except BaseException:
            self._exchange.fail()
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """The next part of the body; with the first, the response starts."""
        if self._write is not None:
            return self._later()
        try:
            chunk = b""
            for chunk in self._iterator:
                if chunk:
                    break
            self._begin()
        except StrongroomError as error:
            self._tell(error)
            return next(self._iterator)
        except BaseException:
            self._exchange.fail()
            raise
        if not chunk:
            raise StopIteration
        return chunk

    def close(self) -> None:
        """The server is done with the response, to its end or not."""
        try:
            self._close_application()
        finally:
            self._exchange.finish()

    def _later(self) -> bytes:
        """A part of a response that has started; a stream of events ends with its session (P16)."""
        chunk = next(self._iterator)
        # Asked behind it: the stream may have waited for this event much longer than it lived.
        if self._is_event_stream and not self._exchange.may_go_on():
            raise StopIteration
        return chunk

    def _start_response(self, status: str, headers: HeaderPairs, exc_info: Any = None) -> Write:
        """For the application: note its head, or have the server refuse a second one."""
        if self._write is not None:
            # PEP 3333: with exc_info the server raises what went wrong; without, it complains.
            return self._server_start(status, headers, *([exc_info] if exc_info else []))
        if self._head is not None and not exc_info:
            raise AssertionError("start_response was called twice, without exc_info (PEP 3333).")
        self._head = status, list(headers), exc_info
        return self._write_at_once

    def _write_at_once(self, body: bytes) -> object:
        """The `write` of old applications: it starts the response."""
        write = self._write or self._begin()
        return write(body)

    def _begin(self) -> Write:
        """The response starts: commit, and hand the head to the server."""
        if self._head is None:
            raise AssertionError("The application did not call start_response (PEP 3333).")
        status, headers, exc_info = self._head
        pairs = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in headers]
        sent = _as_text(self._exchange.start(int(status[:3]), pairs))
        self._write = self._server_start(status, sent, *([exc_info] if exc_info else []))
        self._is_event_stream = any(
            name.lower() == "content-type" and value.startswith("text/event-stream")
            for name, value in sent
        )
        return self._write

    def _tell(self, error: StrongroomError) -> None:
        """Our answer in the application's place; what is not ours to answer goes on."""
        told = self._exchange.answer(error)
        if told is None:
            raise error
        self._close_application()
        self._iterator = iter([told.body])
        self._write = self._server_start(_status_line(told.status), _as_text(told.headers))

    def _close_application(self) -> None:
        """Its body has been sent or never will be. Twice is a no-op."""
        close = getattr(self._iterable, "close", None)
        self._iterable = ()
        if close is not None:
            close()


def _send(told: Answer, facts: RequestFacts, start_response: StartResponse) -> list[bytes]:
    """An answer to a request for which nothing was opened."""
    headers = [*_as_text(told.headers), ("content-length", str(len(told.body)))]
    start_response(_status_line(told.status), headers)
    return [b"" if facts.method == "HEAD" else told.body]


def _status_line(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}"


def _as_text(headers: Iterable[tuple[bytes, bytes]]) -> HeaderPairs:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
