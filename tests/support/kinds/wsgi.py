"""The plain WSGI middleware around a bare application."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from strongroom.integrations.exchange_sync import Serving
from strongroom.integrations.wsgi import SessionMiddleware, session_of
from tests.support.pages import Reply, as_reply, call_of, in_parts, in_thread
from tests.support.site import Site

from .transports import wsgi_as_asgi


def build(site: Site) -> Any:
    """The application, as ASGI."""
    middleware = native(site)
    quiet(middleware.serving)
    return wsgi_as_asgi(middleware)


def native(site: Site) -> SessionMiddleware:
    """The application, as a WSGI server gets it."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"].encode("latin-1").decode()
        body = environ["wsgi.input"].read()
        session = session_of(environ)
        call = call_of(session, environ["REQUEST_METHOD"], path, environ["QUERY_STRING"], body)
        reply = as_reply(in_thread(site.pages[path](call)))
        start_response(f"{reply.status} {HTTPStatus(reply.status).phrase}", reply.headers)
        return parts_of(reply)

    return SessionMiddleware(app, manager=site.sync_manager)


def quiet(serving: Serving) -> None:
    """No housekeeping: its thread would outlive the test's event loop, on which the store waits."""
    serving.keep_house = lambda: None  # type: ignore[method-assign]


def parts_of(reply: Reply) -> Iterable[bytes]:
    """The response's body."""
    return [reply.body] if reply.chunks is None else in_parts(reply.chunks)
