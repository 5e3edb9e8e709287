"""Django under WSGI, with plain `def` views."""

from __future__ import annotations

from typing import Any

from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse, StreamingHttpResponse

from strongroom.integrations.django import session_of
from tests.support.django_project import present_site, served_by
from tests.support.pages import as_reply, call_of, in_parts, in_thread
from tests.support.site import Site

from .transports import wsgi_as_asgi


def page(request: Any, path: str) -> Any:
    """The view of every page."""
    site = present_site.get()
    query = request.META.get("QUERY_STRING", "")
    call = call_of(session_of(request), request.method, f"/{path}", query, request.body)
    reply = as_reply(in_thread(site.pages[f"/{path}"](call)))
    response: Any
    if reply.chunks is not None:
        response = StreamingHttpResponse(in_parts(reply.chunks), status=reply.status)
    else:
        response = HttpResponse(reply.body, status=reply.status)
    return with_headers(response, reply.headers)


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


def build(site: Site) -> Any:
    """The application."""
    with served_by(site):
        handler = WSGIHandler()

    def app(environ: Any, start_response: Any) -> Any:
        present_site.set(site)
        return handler(environ, start_response)

    return wsgi_as_asgi(app)
