"""Django under WSGI, with plain `def` views."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse, StreamingHttpResponse

from strongroom.integrations.django import session_of
from tests.support.django_project import errors_of_this_request, present_site, served_by
from tests.support.pages import as_reply, call_of, in_parts, in_thread
from tests.support.site import Site

from .transports import wsgi_as_asgi


def page(request: Any, path: str) -> Any:
    """The view of every page."""
    site = present_site.get()
    query = request.META.get("QUERY_STRING", "")
    call = call_of(session_of(request), request.method, f"/{path}", query, body_of(request))
    reply = as_reply(in_thread(site.pages[f"/{path}"](call)))
    response: Any
    if reply.chunks is not None:
        response = StreamingHttpResponse(in_parts(reply.chunks), status=reply.status)
    else:
        response = HttpResponse(reply.body, status=reply.status)
    return with_headers(response, reply.headers)


def body_of(request: Any) -> bytes:
    """The body. Django's own `body` fails on a Content-Length that is no number."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    whole: bytes = request.body if length.isascii() and length.isdigit() else request.read()
    return whole


def with_headers(response: Any, headers: list[tuple[str, str]]) -> Any:
    """A response with a page's headers, and none of Django's own type."""
    if not any(name.lower() == "content-type" for name, _ in headers):
        del response.headers["Content-Type"]
    for name, value in headers:
        if name.lower() == "set-cookie":
            response.cookies.load(value)
        else:
            response.headers[name] = value
    return response


def _then_raise(parts: Any, errors: list[BaseException]) -> Iterator[bytes]:
    """The response; and as other frameworks do, once their page for 500 is sent, the error."""
    with closing(parts):
        yield from parts
        yield b""
    if errors:
        raise errors[0]


def build(site: Site) -> Any:
    """The application, as ASGI."""
    served = native(site)

    def app(environ: Any, start_response: Any) -> Any:
        errors = errors_of_this_request()
        return _then_raise(served(environ, start_response), errors)

    return wsgi_as_asgi(app)


def native(site: Site) -> Any:
    """The application, as a WSGI server gets it."""
    with served_by(site):
        handler = WSGIHandler()

    def app(environ: Any, start_response: Any) -> Any:
        present_site.set(site)
        return handler(environ, start_response)

    return app
