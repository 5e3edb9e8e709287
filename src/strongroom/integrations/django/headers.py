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
        facts = facts_of_environ(_environ_of(request), runtime.policy)
    else:
        # Only ASGI applications pay for asyncio.
        from strongroom.integrations.asgi import facts_of

        query = scope.get("query_string", b"")
        if isinstance(query, str):  # Django's test client.
            scope = {**scope, "query_string": query.encode()}
        facts = facts_of(scope, runtime.policy)
    if hasattr(request, "_dont_enforce_csrf_checks"):
        facts.headers = _of_test_client(facts.headers, runtime)
    return facts


def _environ_of(request: Any) -> dict[str, Any]:
    """The environ as the server gave it: Django puts the decoded path into the place of the raw."""
    # Tests put None where a header is absent; a server never does.
    told: dict[str, Any] = {k: v for k, v in request.META.items() if v is not None}
    for name in ("SCRIPT_NAME", "PATH_INFO"):
        told[name] = str(told.get(name, "")).encode("utf-8", "replace").decode("latin-1")
    return told


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


class _Line(Morsel[str]):
    """A Set-Cookie value that is sent as the core wrote it; Django reads it as any morsel."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self.line = line
        parts = [part.strip() for part in line.split(";")]
        name, _, value = parts[0].partition("=")
        self.set(name, value, value)
        for part in parts[1:]:
            attribute, _, said = part.partition("=")
            key = attribute.lower()
            if self.isReservedKey(key):
                self[key] = said if said else key in ("secure", "httponly", "partitioned")

    def OutputString(self, attrs: Any = None) -> str:  # noqa: N802 - the standard library's name
        """The value, whole."""
        del attrs
        return self.line

    def output(self, attrs: Any = None, header: str = "Set-Cookie:") -> str:
        """The value, behind the header's name if one is asked for."""
        del attrs
        return f"{header} {self.line}" if header else self.line


def _set_cookie(response: Any, line: str) -> None:
    """Several cookies of one name, for one host and its parents, are kept apart by their Domain."""
    morsel = _Line(line)
    key, domain = morsel.key, morsel["domain"]
    dict.__setitem__(response.cookies, f"{key};{domain}" if domain else key, morsel)
