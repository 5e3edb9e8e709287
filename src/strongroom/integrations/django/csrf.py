"""Strongroom's cross-site check in place of Django's, if you want it.

    MIDDLEWARE = [..., "strongroom.integrations.django.csrf.CsrfViewMiddleware", ...]

Fetch Metadata, then `Origin`, then the token (docs/csrf.md). `{% csrf_token %}`, `get_token`,
`csrf_exempt`, `ensure_csrf_cookie` and `X-CSRFToken` work unchanged; the token is bound to the
session, so the cookie that `ensure_csrf_cookie` sets is for scripts to read: nobody believes what
a sibling domain puts into it.
"""

from __future__ import annotations

# Django ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false
import hmac
import os
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.middleware import csrf as djangos

from strongroom.core import flows
from strongroom.core.answers import answer
from strongroom.core.csrf_forms import NeedMore, find_form_token
from strongroom.core.errors import ConfigurationError, CsrfRefused
from strongroom.core.visit import Visit
from strongroom.integrations.environ import MAX_PREFIX, Replayed
from strongroom.manager import visit_of

from .headers import as_response
from .store import SessionStore

__all__ = ["CsrfViewMiddleware"]

FIELD = "csrfmiddlewaretoken"
_SECRETS = "_strongroom_csrf"
_PRE_SESSION_BYTES = 16


class CsrfViewMiddleware(djangos.CsrfViewMiddleware):
    """Refuses what another site could have sent. See the module."""

    def process_request(self, request: Any) -> None:
        """Have Django's own functions mask a secret that is bound to this session."""
        visit, fresh = _visit_of(request), os.urandom(_PRE_SESSION_BYTES)
        secrets = visit.framework_secrets(fresh)
        setattr(request, _SECRETS, (secrets, fresh))
        request.META["CSRF_COOKIE"] = secrets[0]
        # Where `ensure_csrf_cookie`, which is Django's own middleware, looks for it.
        request.COOKIES[settings.CSRF_COOKIE_NAME] = secrets[0]

    def process_view(
        self, request: Any, callback: Any, callback_args: Any, callback_kwargs: Any
    ) -> HttpResponse | None:
        """Ask whether this request may change something (P19)."""
        del callback_args, callback_kwargs
        if getattr(request, "csrf_processing_done", False):
            return None
        if getattr(callback, "csrf_exempt", False):
            return None
        visit = _visit_of(request)
        if visit.facts.is_safe or getattr(request, "_dont_enforce_csrf_checks", False):
            request.csrf_processing_done = True
            return None
        try:
            _refuse_cross_site(request, visit)
        except CsrfRefused as error:
            told = answer(error, visit.facts, visit.ctx.policy)
            return None if told is None else as_response(told)
        request.csrf_processing_done = True
        return None

    def process_response(self, request: Any, response: Any) -> Any:
        """A page with a token gives the visitor what the token is bound to."""
        told: Any = getattr(request, _SECRETS, None)
        used = request.META.get("CSRF_COOKIE_NEEDS_UPDATE")
        used = used or settings.CSRF_COOKIE_NAME in response.cookies
        if told is not None and used and request.META.get("CSRF_COOKIE") == told[0][0]:
            _visit_of(request).use_framework_secret(told[1])
        return response


def _refuse_cross_site(request: Any, visit: Visit) -> None:
    decision = flows.cross_site(visit)
    if decision.verdict == "needs_token":
        ours, presented = _find_tokens(request, visit)
        decision = flows.cross_site_with(visit, ours)
        if presented is not None and decision.verdict == "refuse":
            valid = _is_valid(presented, getattr(request, _SECRETS)[0])
            decision = flows.cross_site_judged(visit, "valid" if valid else "invalid")
    flows.refuse_cross_site(visit, decision)


def _find_tokens(request: Any, visit: Visit) -> tuple[str | None, str | None]:
    """Our token and Django's, from the header or the form's beginning; the body stays whole."""
    presented = request.META.get(settings.CSRF_HEADER_NAME)
    if presented is not None:
        return None, str(presented)
    content_type = request.META.get("CONTENT_TYPE", "")
    field = visit.ctx.policy.csrf.field
    if not isinstance(find_form_token(content_type, b"", field), NeedMore):
        return None, None
    prefix, complete = _peek(request)
    found: list[str | None] = []
    for name in (field, FIELD):
        token = find_form_token(content_type, prefix, name, complete=complete)
        found.append(None if isinstance(token, NeedMore) else token)
    return found[0], found[1]


def _peek(request: Any) -> tuple[bytes, bool]:
    """The beginning of the body, and whether it is all of it."""
    stream, read = request._stream, bytearray()
    while len(read) < MAX_PREFIX:
        chunk = stream.read(MAX_PREFIX - len(read))
        if not chunk:
            break
        read += chunk
    prefix = bytes(read)
    request._stream = Replayed(prefix, stream)
    return prefix, len(prefix) < MAX_PREFIX


def _is_valid(presented: str, secrets: Sequence[str]) -> bool:
    """Whether Django's token is one of our secrets: masked, or as `ensure_csrf_cookie` shows it."""
    alphabet, half = djangos.CSRF_ALLOWED_CHARS, djangos.CSRF_SECRET_LENGTH
    if len(presented) not in (half, 2 * half) or not set(presented) <= set(alphabet):
        return False
    unmasked = presented
    if len(presented) == 2 * half:
        unmasked = "".join(
            alphabet[alphabet.index(cipher) - alphabet.index(mask)]
            for mask, cipher in zip(presented[:half], presented[half:], strict=True)
        )
    checks = [hmac.compare_digest(unmasked, secret) for secret in secrets]
    return any(checks)


def _visit_of(request: Any) -> Visit:
    store = getattr(request, "session", None)
    if not isinstance(store, SessionStore):
        raise ConfigurationError(
            "Strongroom's CsrfViewMiddleware found no Strongroom session.",
            why="Its tokens are bound to the session, so it needs one to check them.",
            hint="In MIDDLEWARE, put 'strongroom.integrations.django.middleware.SessionMiddleware' "
            "before it.",
        )
    return visit_of(store.strongroom)
