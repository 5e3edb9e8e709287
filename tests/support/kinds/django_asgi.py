"""Django under ASGI, with `async def` views."""

from __future__ import annotations

from typing import Any

from django.core.handlers.asgi import ASGIHandler
from django.http import HttpResponse, StreamingHttpResponse

from strongroom.integrations.django import session_of
from tests.support.django_project import errors_of_this_request, present_site, served_by
from tests.support.pages import as_reply, call_of
from tests.support.site import Site

from .django_wsgi import body_of, with_headers


async def page(request: Any, path: str) -> Any:
    """The view of every page."""
    site = present_site.get()
    query = request.META.get("QUERY_STRING", "")
    call = call_of(session_of(request), request.method, f"/{path}", query, body_of(request))
    reply = as_reply(await site.pages[f"/{path}"](call))
    response: Any
    if reply.chunks is not None:
        response = StreamingHttpResponse(reply.chunks, status=reply.status)
    else:
        response = HttpResponse(reply.body, status=reply.status)
    return with_headers(response, reply.headers)


def build(site: Site) -> Any:
    """The application."""
    served = native(site)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        errors = errors_of_this_request()
        await served(scope, receive, send)
        if errors:
            raise errors[0]  # As other frameworks do, once their page for 500 is sent.

    return app


def native(site: Site) -> Any:
    """The application, as a server gets it."""
    with served_by(site):
        handler = ASGIHandler()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        present_site.set(site)
        await handler({**scope, "root_path": scope.get("root_path", "")}, receive, send)

    return app
