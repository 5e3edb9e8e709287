"""The middleware: it opens the session before the view, and closes it at the response's start.

It stands where Django's own SessionMiddleware would. Under WSGI it runs in the request's thread, on
the synchronous manager, without any event loop; under ASGI on the event loop, on the asynchronous
one, without any thread. One response has one writer (F6).
"""

from __future__ import annotations

# Django ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
from collections.abc import Callable
from typing import Any

from asgiref import sync
from asgiref.sync import markcoroutinefunction
from django.contrib.sessions.middleware import SessionMiddleware as DjangosMiddleware
from django.http import HttpResponse

from strongroom.core.answers import answer
from strongroom.core.errors import OvertakenError, StrongroomError, UsageError
from strongroom.core.exchange import RequestFacts
from strongroom.integrations.exchange_sync import Exchange

from . import runtime
from .expiry import end_if_expired
from .headers import apply_edits, as_response, facts_of_request
from .present import entered
from .store import SessionStore
from .streams import follow

__all__ = ["SessionMiddleware"]


class SessionMiddleware(DjangosMiddleware):
    """`request.session` for every view. See the module.

    Raises:
        ConfigurationError: when the server starts: what is contradictory, unsafe or would not work.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response
        self.runtime = runtime.current()
        self.async_mode = _is_async(get_response)
        if self.async_mode:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Serve one request."""
        if self.async_mode:
            from .serving_async import serve

            return serve(self.runtime, self.get_response, request)
        return self._serve(request)

    def process_exception(self, request: Any, exception: Exception) -> HttpResponse | None:
        """A refusal that a view raised is told as everywhere (401, 403, 409, 503); the rest is
        Django's to tell."""
        store = getattr(request, "session", None)
        if not isinstance(exception, StrongroomError) or isinstance(exception, UsageError):
            return None
        if not isinstance(store, SessionStore):
            return None
        told = answer(exception, request._strongroom_facts, self.runtime.policy)
        if told is None:
            return None
        response = as_response(told)
        # What failed because something else happened first is not saved in part either.
        request._strongroom_status = 500 if isinstance(exception, OvertakenError) else told.status
        return response

    def _serve(self, request: Any) -> Any:
        if isinstance(getattr(request, "session", None), SessionStore):
            return self.get_response(request)
        serving = self.runtime.serving
        facts = facts_of_request(request, self.runtime)
        try:
            exchange = serving.open(facts)
            store = _store_of(self.runtime, exchange, request, facts)
        except StrongroomError as error:
            told = serving.answer_without(error, facts)
            if told is None:
                raise
            return as_response(told)
        try:
            with entered(store):
                response = self.get_response(request)
                return self._close(request, response, exchange, store)
        except BaseException:
            exchange.fail()
            exchange.finish()
            raise

    def _close(self, request: Any, response: Any, exchange: Exchange, store: SessionStore) -> Any:
        """The response's start: commit, and put on it what it must carry."""
        status = getattr(request, "_strongroom_status", response.status_code)
        try:
            exchange.manager.run("close", store.before_response()).result()
            apply_edits(response, exchange.edits(status))
        except StrongroomError as error:
            told = exchange.answer(error)
            if told is None:
                raise
            response.close()
            response = as_response(told)
        follow(response, exchange)
        return response


def _is_async(get_response: Any) -> bool:
    """Whether this handler is awaited, by Django's own word for it."""
    return bool(sync.iscoroutinefunction(get_response))  # pyright: ignore[reportDeprecated]


def _store_of(
    serving: runtime.Runtime, exchange: Exchange, request: Any, facts: RequestFacts
) -> SessionStore:
    manager = exchange.manager
    manager.run("open", end_if_expired(exchange.visit)).result()
    store = SessionStore.of_request(exchange.session, manager, serving.options)
    request.session = store
    request._strongroom_facts = facts
    return store
