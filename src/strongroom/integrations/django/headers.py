"""Facts of Django's requests, and edits and answers on Django's responses."""

from __future__ import annotations

# Django ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from http.cookies import Morsel
from typing import Any

from django.http import HttpResponse

from strongroom.core.answers import Answer
from strongroom.core.exchange import RequestFacts, ResponseEdits
from strongroom.integrations.environ import facts_of_environ

from . import testing
from .runtime import Runtime


def facts_of_request(request: Any, runtime: Runtime) -> RequestFacts:
    """What a request says of itself, under WSGI and ASGI."""
    scope = getattr(request, "scope", None)
    if scope is None:
        facts = facts_of_environ(request.META, runtime.policy)
    else:
        # Only ASGI applications pay for asyncio.
        from strongroom.integrations.asgi import facts_of

        facts = facts_of(scope, runtime.policy)
    if hasattr(request, "_dont_enforce_csrf_checks"):
        facts.headers = _of_test_client(facts.headers, runtime)
    return facts


def _of_test_client(headers: Any, runtime: Runtime) -> list[tuple[bytes, bytes]]:
    """The headers of Django's test client: its cookie may hold a public id (`testing`), and its
    host, which no browser can reach, is this machine."""
    listed = [(bytes(name).lower(), bytes(value)) for name, value in headers]
    listed = testing.with_tokens(listed, runtime.cookie_name)
    if not testing.is_testing():
        return listed
    names = (b"testserver", b"testserver:80")
    return [
        (name, b"localhost" if name == b"host" and value in names else value)
        for name, value in listed
    ]


def apply_edits(response: Any, edits: ResponseEdits) -> None:
    """Make the edits on a response that Django is about to send."""
    before = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in response.headers.items()
    ]
    after = edits.apply(before)
    kept = set(after)
    for name, _ in [pair for pair in before if pair not in kept]:
        del response.headers[name.decode("latin-1")]
    for name, value in after:
        if name == b"set-cookie":
            _set_cookie(response, value.decode("latin-1"))
        elif (name, value) not in before:
            response.headers[_title(name)] = value.decode("latin-1")


def as_response(told: Answer) -> HttpResponse:
    """An answer of ours as a response of Django's."""
    response = HttpResponse(told.body, status=told.status)
    del response.headers["Content-Type"]
    for name, value in told.headers:
        if name == b"set-cookie":
            _set_cookie(response, value.decode("latin-1"))
        else:
            response.headers[_title(name)] = value.decode("latin-1")
    return response


def _title(name: bytes) -> str:
    return "-".join(part.capitalize() for part in name.decode("latin-1").split("-"))


def _set_cookie(response: Any, line: str) -> None:
    """A whole Set-Cookie value, as the morsel by which Django sends cookies.

    Several of one name, for one host and its parents, are kept apart by their Domain.
    """
    parts = [part.strip() for part in line.split(";")]
    name, _, value = parts[0].partition("=")
    morsel: Morsel[str] = Morsel()
    morsel.set(name, value, value)
    for part in parts[1:]:
        attribute, _, said = part.partition("=")
        key = attribute.lower()
        morsel[key] = said if said else key in ("secure", "httponly", "partitioned")
    domain = morsel["domain"]
    dict.__setitem__(response.cookies, f"{name};{domain}" if domain else name, morsel)
