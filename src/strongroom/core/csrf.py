"""The cross-site decision: may this request change something? One engine, one reason (P19, G1).

The first of these that knows the answer gives it, and `Decision.rule` says which it was:

1. A safe method, or a path exempted by name.
2. On JSON paths: a request that an HTML form could make is refused (ASVS 3.5.2, OWASP-C8).
3. Fetch Metadata, which pages cannot forge (OWASP-C5). `same-site` counts as foreign unless listed.
4. `Origin`, compared exactly (OWASP-C6). A foreign `Referer` refuses; an own one proves nothing,
   because a redirect keeps it.
5. The token. No browser header told, so the request must show that it comes from our page.

`Origin: null` is what a browser writes when our own page has `Referrer-Policy: no-referrer`, and
what a sandboxed attacker writes: it says nothing, so the token decides, and without one the answer
is no. WebSocket handshakes carry no token: they need an exact `Origin`. Chromium sends no Fetch
Metadata with them, so its absence is not held against them; what it says is.

Not here: reading a body (`csrf_forms.py`), making and checking tokens (`csrf_tokens.py`), and safe
methods that change something, which no CSRF check can mend (OWASP-C12).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from .csrf_forms import NEED_MORE, NeedMore, find_form_token
from .csrf_rules import (
    FIELD_NAME,
    HEADER_NAME,
    CsrfRules,
    is_plain,
    matches,
    may_match,
    normal_origin,
)
from .csrf_tokens import (
    MASK_BYTES,
    PRE_SESSION_BYTES,
    TOKEN_LENGTH,
    TokenCheck,
    check_token,
    csrf_input,
    judge_token,
    mint_token,
    pre_session_binding,
    session_binding,
)
from .exchange import RequestFacts

__all__ = [
    "DECISIONS",
    "FIELD_NAME",
    "HEADER_NAME",
    "MASK_BYTES",
    "NEED_MORE",
    "PRE_SESSION_BYTES",
    "TOKEN_LENGTH",
    "CsrfRules",
    "Decision",
    "NeedMore",
    "TokenCheck",
    "Verdict",
    "check_token",
    "csrf_input",
    "decide",
    "find_form_token",
    "find_header_token",
    "is_cross_site",
    "judge_token",
    "mint_token",
    "pre_session_binding",
    "session_binding",
]

Verdict = Literal["allow", "refuse", "needs_token"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, by which rule (a stable code), and why in one sentence for people.

    `hint` is for the developer whose own request was refused. Nothing that the client sent is in
    it, so it can go into any log as it is.
    """

    verdict: Verdict
    rule: str
    reason: str
    hint: str = ""


_PROXY = "Browsers do not do this: look at what a proxy or a client on the way adds."
_OWN_NAME = (
    "If it is this application's own address, state it in SessionPolicy(origins=...), or list the "
    "proxy that rewrites it in SessionPolicy(proxies=...)."
)

_TABLE = (
    Decision("allow", "safe_method", "The method promises to change nothing."),
    Decision("allow", "exempt", "The path is exempted by name in the CSRF settings."),
    Decision("allow", "same_origin", "The browser says that a page of this origin sent it."),
    Decision("allow", "user_navigation", "The browser says that the user started it, not a page."),
    Decision("allow", "trusted_origin", "The Origin header names a trusted origin."),
    Decision("allow", "own_origin", "The Origin header names this application's own origin."),
    Decision("allow", "token_valid", "The CSRF token is valid for this visitor and form."),
    Decision(
        "refuse",
        "simple_request",
        "A JSON path was sent what any site's form can send.",
        "Send it as application/json, or with the header X-Requested-With.",
    ),
    Decision(
        "refuse",
        "metadata_repeated",
        "Sec-Fetch-Site came twice; browsers send it once.",
        _PROXY,
    ),
    Decision(
        "refuse",
        "cross_site",
        "The browser says that a page of another site sent it.",
        "If that site may, list its origin in CsrfRules(trusted_origins=...).",
    ),
    Decision(
        "refuse",
        "same_site",
        "A sibling host sent it, and it is not a trusted origin.",
        "If that host is yours, list its origin in CsrfRules(trusted_origins=...).",
    ),
    Decision(
        "refuse", "origin_repeated", "The Origin header came twice; browsers send it once.", _PROXY
    ),
    Decision(
        "refuse", "origin_malformed", "The Origin header is not one that a browser writes.", _PROXY
    ),
    Decision(
        "refuse",
        "origin_foreign",
        "The Origin header names neither this application nor a trusted origin; if it should be "
        "this application, set `origins` or the trusted proxies.",
        _OWN_NAME,
    ),
    Decision(
        "refuse",
        "own_origin_unknown",
        "This application's own origin is unknown, so Origin cannot be compared; set `origins`.",
        "State it in SessionPolicy(origins=...).",
    ),
    Decision(
        "refuse",
        "referer_foreign",
        "The Referer header names a page of another origin.",
        _OWN_NAME,
    ),
    Decision(
        "refuse",
        "handshake_without_origin",
        "A WebSocket handshake must name its Origin.",
        "Browsers send it; a program sends this application's origin, such as "
        "Origin: https://shop.example.",
    ),
    Decision("needs_token", "origin_unsaid", "The browser did not say where this comes from."),
    Decision("needs_token", "token_on_every_body", "The policy wants a token with every body."),
    Decision("needs_token", "token_for_form", "The route accepts its own form's token only."),
    Decision(
        "refuse",
        "token_absent",
        "A CSRF token was needed, and none was sent.",
        "A form carries {{ csrf_input() }}, a script session.csrf_token() in the header "
        "X-CSRF-Token. With curl or a test client, add the header Sec-Fetch-Site: same-origin. "
        "The path of a webhook is named in CsrfRules(exempt=...).",
    ),
    Decision(
        "refuse",
        "token_invalid",
        "The CSRF token is not one for this visitor and form.",
        "A page from before a sign-in or sign-out has the token of then: load it again. A token "
        "that was made for one form is good for that form's path only.",
    ),
)

DECISIONS = MappingProxyType({decision.rule: decision for decision in _TABLE})
"""Every decision there is, by its stable code: the documentation's table is drawn from this."""

_TOKEN_RULES = {"absent": "token_absent", "valid": "token_valid"}
_JSON = re.compile(r"application/json|[a-z0-9!#$&^_.-]+/[a-z0-9!#$&^_.+-]+\+json")
_SEND_LENGTH_ZERO = frozenset({"POST", "PUT", "PATCH"})


def decide(
    facts: RequestFacts,
    rules: CsrfRules,
    token: TokenCheck = "unread",  # noqa: S107 - the state of a check, not a credential
    *,
    token_for_form: bool = False,
) -> Decision:
    """May this request go on? Ask first with `unread`, and again with the token's check if needed.

    `token_for_form` is a route's own wish: only the token of its own form will do, even for a
    request from our own origin, so that markup smuggled into another page of ours cannot post here.
    `needs_token` is answered only to `unread`. Never raises.
    """
    if facts.is_safe:
        return DECISIONS["safe_method"]
    if is_plain(facts.path) and matches(facts.path, rules.exempt):
        return DECISIONS["exempt"]
    if _is_form_on_json_path(facts, rules):
        return DECISIONS["simple_request"]
    found = _by_headers(facts, rules)
    if found.verdict == "allow" and not facts.websocket:
        found = _token_demanded(facts, rules, token_for_form) or found
    if found.verdict != "needs_token" or token == "unread":  # noqa: S105 - as above
        return found
    return DECISIONS[_TOKEN_RULES.get(token, "token_invalid")]


def is_cross_site(facts: RequestFacts, rules: CsrfRules) -> bool:
    """Whether another site is behind the request, so that a Lax cookie of ours stayed at home (F2).

    By Fetch Metadata; without it, by an `Origin` that is not our own. A trusted origin is another
    site all the same. No `Origin` at all is no sign of one.
    """
    site = facts.fetch_site
    if site is not None:
        return site == "cross-site"
    told = facts.header(b"origin")
    return told is not None and normal_origin(told) not in _own_origins(facts, rules)


def find_header_token(facts: RequestFacts, rules: CsrfRules) -> str | None:
    """The token in the request's header, None where there is none, empty (never valid) if twice."""
    found = facts.values(rules.header_key)
    if not found:
        return None
    return found[0].decode("latin-1") if len(found) == 1 else ""


def _by_headers(facts: RequestFacts, rules: CsrfRules) -> Decision:
    """What the browser's own headers say; `origin_unsaid` if they say nothing."""
    origin = _read_origin(facts)
    if isinstance(origin, Decision):
        return origin
    told = _by_metadata(facts, rules, origin)
    if told is not None and (told.verdict == "refuse" or not facts.websocket):
        return told
    if origin is not None:
        return _by_origin(origin, facts, rules)
    if facts.websocket:
        return DECISIONS["handshake_without_origin"]
    return DECISIONS["referer_foreign" if _has_foreign_referer(facts, rules) else "origin_unsaid"]


def _read_origin(facts: RequestFacts) -> str | Decision | None:
    """The Origin in normal form; None if absent or `null`; a refusal if no browser wrote it."""
    found = facts.values(b"origin")
    if len(found) > 1:
        return DECISIONS["origin_repeated"]
    if not found or found[0] == b"null":
        return None
    return normal_origin(found[0].decode("latin-1")) or DECISIONS["origin_malformed"]


def _by_metadata(facts: RequestFacts, rules: CsrfRules, origin: str | None) -> Decision | None:
    """What Sec-Fetch-Site settles; None for an absent or unknown value (OWASP-C5)."""
    found = facts.values(b"sec-fetch-site")
    if not found:
        return None
    if len(found) > 1 or b"," in found[0]:
        return DECISIONS["metadata_repeated"]
    site = found[0]
    if site == b"same-origin":
        return DECISIONS["same_origin"]
    if site in (b"cross-site", b"same-site"):
        # Only the list counts here. Our own origin beside these words is a contradiction.
        if origin in rules.trusted_origins:
            return DECISIONS["trusted_origin"]
        return DECISIONS["cross_site" if site == b"cross-site" else "same_site"]
    # An extension's request is `none` as well, but no navigation, and it names its Origin.
    if site == b"none" and origin is None and facts.header(b"sec-fetch-mode") == "navigate":
        return DECISIONS["user_navigation"]
    return None


def _by_origin(origin: str, facts: RequestFacts, rules: CsrfRules) -> Decision:
    """The exact comparison (OWASP-C6)."""
    own = _own_origins(facts, rules)
    if origin in own:
        return DECISIONS["own_origin"]
    if origin in rules.trusted_origins:
        return DECISIONS["trusted_origin"]
    return DECISIONS["origin_foreign" if own else "own_origin_unknown"]


def _own_origins(facts: RequestFacts, rules: CsrfRules) -> tuple[str, ...]:
    """The origin that this request was sent to, or all configured ones if that is not among them.

    It is not among them where a proxy rewrites the host and nobody told us about the proxy.
    """
    here = normal_origin(f"{facts.scheme}://{facts.host}") if facts.host else None
    if here is None or (rules.origins and here not in rules.origins):
        return rules.origins
    return (here,)


def _has_foreign_referer(facts: RequestFacts, rules: CsrfRules) -> bool:
    """Whether a Referer names another origin. One that cannot be read counts as absent."""
    known = _own_origins(facts, rules)
    if not known:
        return False
    for value in facts.values(b"referer"):
        origin = normal_origin("/".join(value.decode("latin-1").split("/", 3)[:3]))
        if origin is not None and origin not in known and origin not in rules.trusted_origins:
            return True
    return False


def _is_form_on_json_path(facts: RequestFacts, rules: CsrfRules) -> bool:
    """Whether a JSON path got a request that needs no CORS preflight (ASVS 3.5.2)."""
    if facts.websocket or not may_match(facts.path, facts.root, rules.json_paths):
        return False
    if facts.values(b"x-requested-with") or facts.values(rules.header_key):
        return False
    types = facts.values(b"content-type")
    if len(types) != 1:
        return True
    essence = types[0].decode("latin-1").partition(";")[0].strip(" \t").lower()
    return _JSON.fullmatch(essence) is None


def _token_demanded(facts: RequestFacts, rules: CsrfRules, token_for_form: bool) -> Decision | None:
    """Who wants a token although the headers look right, or None (G3, NIST-B8)."""
    if token_for_form:
        return DECISIONS["token_for_form"]
    if rules.token_on_every_body and _may_have_body(facts):
        return DECISIONS["token_on_every_body"]
    return None


def _may_have_body(facts: RequestFacts) -> bool:
    """Whether there is a body, or may be one: HTTP/2 streams one without announcing it.

    The Fetch standard makes browsers say `Content-Length: 0` for a POST or PUT without one.
    """
    if facts.has_body:
        return True
    return facts.method in _SEND_LENGTH_ZERO and not facts.values(b"content-length")
