"""What the middleware answers in the application's place: refusals and outages, told in words.

A person gets a small page or the sign-in form; a program gets a problem document (RFC 9457) with a
stable `code`. None of it is cached, and none of it says more than the sentence of the error.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from dataclasses import dataclass, field
from typing import Any

from .challenges import in_query
from .errors import (
    CsrfRefused,
    OvertakenError,
    RefusedError,
    SessionEnded,
    SignInRequired,
    StepUpRequired,
    StoreError,
    StrongroomError,
)
from .exchange import RequestFacts
from .policy import SessionPolicy
from .return_path import safe_next, sign_in_location
from .stepup import Challenge

__all__ = ["Answer", "answer", "safe_next"]

RETRY_AFTER_SECONDS = 5

Headers = list[tuple[bytes, bytes]]

_STYLE = (
    "body{font:1.1rem/1.6 system-ui;max-width:36rem;margin:15vh auto;padding:0 1rem;"
    "color-scheme:light dark}"
)
# The page needs nothing from anywhere, and says so; the hash lets its own few rules through.
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_PAGE_POLICY = f"default-src 'none'; frame-ancestors 'none'; style-src 'sha256-{_STYLE_HASH}'"

_TITLES = {
    401: "Please sign in",
    403: "This request was refused",
    409: "Something else happened first",
    503: "Please try again in a moment",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int
    headers: Headers = field(repr=False)
    """May hold Set-Cookie, and with it a token, so a `repr` does not show them (P5)."""
    body: bytes


def answer(error: StrongroomError, facts: RequestFacts, policy: SessionPolicy) -> Answer | None:
    """The response for this error, or None where it is the application's own mistake (500)."""
    if isinstance(error, SignInRequired | StepUpRequired | SessionEnded):
        return _ask_to_sign_in(error, facts, policy)
    if isinstance(error, StoreError):
        return _told(error, facts, 503, [(b"retry-after", str(RETRY_AFTER_SECONDS).encode())])
    if isinstance(error, CsrfRefused | RefusedError):
        return _told(error, facts, 403)
    if isinstance(error, OvertakenError):
        return _told(error, facts, 409)
    return None


def _ask_to_sign_in(error: StrongroomError, facts: RequestFacts, policy: SessionPolicy) -> Answer:
    """A person goes to the sign-in page and back, or to the page that asks for what is owed, which
    its address names; a program gets RFC 9470's 401."""
    challenge = getattr(error, "challenge", None)
    if facts.wants_html:
        path = policy.sign_in_path
        if policy.step_up_path is not None and isinstance(challenge, Challenge):
            path = policy.step_up_path
            path += f"{'&' if '?' in path else '?'}{in_query(challenge)}"
        location = sign_in_location(path, _way_back(facts))
        return Answer(303, [(b"location", location.encode("ascii")), *_common("text/html")], b"")
    if isinstance(challenge, Challenge):
        header, problem = challenge.www_authenticate(), challenge.problem()
    else:
        header, problem = "Bearer", _problem(error, 401)
    return _json(401, problem, [(b"www-authenticate", header.encode("latin-1", "replace"))])


def _way_back(facts: RequestFacts) -> str | None:
    """The page that was asked for; after a form was sent, the page that the form stood on."""
    if facts.method in ("GET", "HEAD"):
        return facts.path + (f"?{facts.query}" if facts.query else "")
    referer = facts.header(b"referer") or ""
    own = f"{facts.scheme}://{facts.host}/"
    return safe_next("/" + referer[len(own) :]) if referer.startswith(own) else None


def _told(
    error: StrongroomError, facts: RequestFacts, status: int, headers: Headers | None = None
) -> Answer:
    if not facts.wants_html:
        return _json(status, _problem(error, status), headers or [])
    title = _TITLES[status]
    sentences = "".join(f"<p>{html.escape(part)}</p>" for part in (error.what, error.why) if part)
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style>"
        f"<h1>{title}</h1>{sentences}"
    )
    policy = (b"content-security-policy", _PAGE_POLICY.encode())
    told = [*_common("text/html; charset=utf-8"), policy, *(headers or [])]
    return Answer(status, told, page.encode())


def _json(status: int, problem: dict[str, Any], headers: Headers) -> Answer:
    body = json.dumps(problem).encode()
    return Answer(status, [*_common("application/problem+json"), *headers], body)


def _problem(error: StrongroomError, status: int) -> dict[str, Any]:
    return {
        "type": "about:blank",
        "title": _TITLES[status],
        "status": status,
        "detail": " ".join(part for part in (error.what, error.why) if part),
        "code": error.code,
    }


def _common(content_type: str) -> Headers:
    return [
        (b"content-type", content_type.encode()),
        (b"cache-control", b"no-store"),
        (b"vary", b"Cookie"),
    ]
