"""Whether another site's page can act with the visitor's session (WSTG-SESS-05, ASVS 3.5).

Every attempt is one that a browser can be made to send: the victim's cookies go along, the forger
has no token but his own, and the headers say what a browser would say. Whether SameSite would have
kept the cookie at home decides how bad it is, not whether it counts.
"""

from __future__ import annotations

import json as json_codec
from collections.abc import Callable, Iterator
from typing import Any, cast
from urllib.parse import urlencode

from strongroom.audit.changes import (
    HOSTILE,
    LINK,
    NO_ORIGIN,
    ONLY_REFERER,
    SILENT,
    Change,
    changes_of,
    origin_tricks,
    protected_by_cookie,
    shape_like,
    sibling,
    with_field,
)
from strongroom.audit.discovery import sign_in_draft
from strongroom.audit.recipes import Draft, Lost
from strongroom.audit.site import Site
from strongroom.audit.verdict import NotApplicable, Verdict, check, failed, passed, warned
from strongroom.audit.wire import Reply

Attempt = tuple[str, bool, Reply]

_SAME_SITE = "Only SameSite keeps browsers from sending the cookie along."


def _over(
    site: Site, attempts: Callable[[Change], Iterator[Attempt]], nothing: str, *, by_get: bool =
    False, cookie_counts: bool = True, ) -> Verdict:  # fmt: skip
    """Make the attempts on every change -> the verdict. The honest request is proven once more."""
    made: list[Reply] = []
    tried: list[str] = []
    for change in changes_of(site):
        count = len(tried)
        for what, done, reply in attempts(change):
            tried.append(what)
            made.append(reply)
            if done:
                change.failed.add(what)
                said = f"{change.name}: {what} changes the state."
                if cookie_counts and protected_by_cookie(site, by_get=by_get):
                    return warned(said, reply, details=[_SAME_SITE])
                return failed(said, reply)
        if len(tried) > count:
            change.prove()
    if not tried:
        raise NotApplicable(nothing)
    return passed(f"Refused: {'; '.join(dict.fromkeys(tried))}.", *made[:4])


def _is_open(site: Site, change: Change) -> bool:
    """Whether the plain forgery works already, so that the finer ones would find it again."""
    found = "csrf-forged" if change.is_form else "csrf-content-type"
    return found in site.failed


@check(
    "csrf-forged",
    "A forged form on another site changes nothing",
    "high",
    "ASVS 3.5.1, WSTG-SESS-05, CWE-352",
    why="Any page that the victim visits can act as the victim: change the address, move money.",
    how="Send the declared request with the victim's cookies, without its token, with the Origin "
    "and Fetch Metadata of another site; read the state back.",
    fix="csrf",
    order=40,
)
def forged(site: Site) -> Verdict:
    """The request without its token, from a hostile site, changes nothing."""

    def attempts(change: Change) -> Iterator[Attempt]:
        if change.is_form and change.method == "POST":
            draft = change.draft().without_tokens()
            yield (
                "the request without a token, from another site",
                *change.attempt(draft, HOSTILE),
            )

    return _over(site, attempts, "Browsers ask before sending such requests across sites.")


@check(
    "csrf-wrong-token",
    "A made-up token is refused",
    "high",
    "ASVS 3.5.1, WSTG-SESS-05, CWE-352",
    why="A token that only has to be there protects nothing: the forger makes one up.",
    how="Send the request from another site with an empty token, and with one of the same shape "
    "that nobody issued.",
    fix="csrf",
    order=41,
)
def wrong_token(site: Site) -> Verdict:
    """Empty and invented tokens change nothing."""

    def attempts(change: Change) -> Iterator[Attempt]:
        draft = change.draft()
        if draft.has_token and change.is_form and not _is_open(site, change):
            yield ("an empty token", *change.attempt(draft.with_tokens(""), HOSTILE))
            draft = change.draft()
            invented = shape_like(draft.token(), draft.nonce)
            yield ("an invented token", *change.attempt(draft.with_tokens(invented), HOSTILE))

    return _over(site, attempts, "No request carries a token, or the plain forgery works already.")


@check(
    "csrf-foreign-token",
    "Another person's token is refused",
    "high",
    "ASVS 3.5.1, WSTG-SESS-05, CWE-352",
    why="The forger is a customer, too, or at least a visitor: he has a valid token of his "
    "own, and "
    "puts it into the forged form.",
    how="Fetch a token with the second user's session (or, without one, as a visitor) and send it "
    "with the victim's cookies from another site.",
    fix="csrf",
    order=42,
    covered_by=("csrf-wrong-token",),
)
def foreign_token(site: Site) -> Verdict:
    """The attacker's own valid token changes nothing in the victim's session."""

    def attempts(change: Change) -> Iterator[Attempt]:
        draft = change.draft()
        if not draft.has_token or not change.is_form or _is_open(site, change):
            return
        for what, token in _attackers_tokens(site, change):
            if token:
                draft = change.draft().with_tokens(token)
                yield (what, *change.attempt(draft, HOSTILE))

    return _over(site, attempts, "No token of somebody else could be had.")


def _attackers_tokens(site: Site, change: Change) -> Iterator[tuple[str, str]]:
    if site.target.other is not None and site.target.other.password:
        yield "the second user's token", change.foreign_token(site.signed_in(site.target.other))
    recipe = site.sign_in_recipe
    try:
        visitor = site.fresh()
        yield "a visitor's token", sign_in_draft(recipe, visitor, site.account).token()
    except Lost:
        return


@check(
    "csrf-session-token",
    "A token is good in its own session only",
    "low",
    "ASVS 3.5.1, WSTG-SESS-05, CWE-352",
    why="A token that is the same in all of a user's sessions outlives each of them: one that "
    "leaked from an old session forges requests in the next.",
    how="Fetch a token with another session of the same user, and send it in the victim's.",
    fix="csrf",
    order=43,
    covered_by=("token-static", "csrf-wrong-token", "csrf-foreign-token"),
)
def session_token(site: Site) -> Verdict:
    """A token from the same user's other session changes nothing."""

    def attempts(change: Change) -> Iterator[Attempt]:
        draft = change.draft()
        if draft.has_token and change.is_form and not _is_open(site, change):
            token = change.foreign_token(site.signed_in())
            if token and token != draft.token():
                draft = change.draft().with_tokens(token)
                yield ("the token of the user's other session", *change.attempt(draft, HOSTILE))
            elif token:
                yield ("the token of the user's other session", True, draft.send(change.victim()))

    verdict = _over(
        site, attempts, "No request carries a token, or the plain forgery works already.",
        cookie_counts=False,
    )  # fmt: skip
    if verdict.outcome == "fail":
        return warned(verdict.summary, *verdict.evidence)
    return verdict


@check(
    "csrf-origin",
    "Origins that only look like ours are refused",
    "high",
    "ASVS 3.5.1, WSTG-SESS-05, CWE-346",
    why="A comparison by prefix, suffix or part, or a 'null' that is let through, opens the "
    "door to "
    "whoever registers a fitting name or uses a sandboxed frame.",
    how="Send the request without a token from another origin, from 'null', and from hosts that "
    "begin or end with this site's name, each with Fetch Metadata and without.",
    fix="csrf-origin",
    order=44,
)
def origins(site: Site) -> Verdict:
    """No foreign origin changes the state, however it is spelt."""

    def attempts(change: Change) -> Iterator[Attempt]:
        if change.can_be_forged and not _is_open(site, change):
            for what, initiator in origin_tricks(site.target.url):
                if not initiator.site and "csrf-missing-headers" in site.failed:
                    continue  # without Fetch Metadata everything gets through: that is known
                yield (f"Origin: {what}", *change.forge(initiator))

    return _over(site, attempts, "There is no form to forge, or the plain forgery works already.")


@check(
    "csrf-same-site",
    "A sibling host cannot act as the visitor",
    "medium",
    "ASVS 3.5.1, ASVS 3.5.4, WSTG-SESS-05, CWE-346",
    why="SameSite does not stop a sibling host, and one of them is always forgotten, or "
    "rented out.",
    how="Send the request without a token with the Origin of a sibling host and "
    "Sec-Fetch-Site: same-site.",
    fix="csrf-origin",
    order=45,
    covered_by=("csrf-origin",),
)
def same_site(site: Site) -> Verdict:
    """A sibling host's forged request changes nothing."""

    def attempts(change: Change) -> Iterator[Attempt]:
        if change.can_be_forged and not _is_open(site, change):
            yield ("a sibling host", *change.forge(sibling(site.target.url)))

    return _over(
        site, attempts, "There is no form to forge, or the plain forgery works already.",
        cookie_counts=False,
    )  # fmt: skip


@check(
    "csrf-fetch-metadata",
    "What the browser says about the sender is believed",
    "medium",
    "ASVS 3.5.1, ASVS 3.5.3, WSTG-SESS-05, CWE-352",
    why="Sec-Fetch-Site is the one header that no page can leave out or forge; a site that "
    "does not "
    "look at it falls to whatever suppresses the Origin.",
    how="Send the request without a token and without Origin, with Sec-Fetch-Site: cross-site.",
    fix="csrf-origin",
    order=46,
    covered_by=("csrf-missing-headers",),
)
def fetch_metadata(site: Site) -> Verdict:
    """A request that says cross-site changes nothing, Origin or not."""

    def attempts(change: Change) -> Iterator[Attempt]:
        if change.is_form and change.method == "POST" and not _is_open(site, change):
            draft = change.draft().without_tokens()
            yield ("Sec-Fetch-Site: cross-site alone", *change.attempt(draft, NO_ORIGIN))

    return _over(site, attempts, "There is no form to forge, or the plain forgery works already.")


@check(
    "csrf-missing-headers",
    "A request that does not say where it comes from needs a token",
    "low",
    "ASVS 3.5.1, ASVS 3.7.5, WSTG-SESS-05, CWE-352",
    why="Old browsers, some proxies and privacy tools send neither Origin nor Fetch Metadata. "
    "Whoever lets such requests through protects only some of the visitors.",
    how="Send the request without a token, without Origin and Fetch Metadata, with a foreign "
    "Referer "
    "and with none.",
    fix="csrf-missing",
    order=43,
)
def missing_headers(site: Site) -> Verdict:
    """A request without any sign of its origin, and without a token, changes nothing."""

    def attempts(change: Change) -> Iterator[Attempt]:
        if change.is_form and change.method == "POST" and not _is_open(site, change):
            for what, who in (("a foreign Referer alone", ONLY_REFERER), ("no header", SILENT)):
                draft = change.draft().without_tokens()
                yield (what, *change.attempt(draft, who))

    verdict = _over(
        site, attempts, "There is no form to forge, or the plain forgery works already."
    )
    if verdict.outcome == "fail":
        return warned(verdict.summary, *verdict.evidence)
    return verdict


@check(
    "csrf-get",
    "GET changes nothing",
    "high",
    "ASVS 3.5.3, WSTG-SESS-04, WSTG-SESS-05, CWE-650",
    why="A link or an image is enough, and Lax cookies go along with a link.",
    how="Send the same fields with GET, as a link on another site would, without the token.",
    fix="csrf-get",
    order=47,
)
def by_get(site: Site) -> Verdict:
    """The same request by GET changes nothing."""

    def attempts(change: Change) -> Iterator[Attempt]:
        draft = change.draft().without_tokens()
        fields = _fields_of(draft)
        url = f"{draft.url}?{urlencode(fields)}" if fields else draft.url
        yield ("GET", *change.raw(draft, LINK, "GET", url, None, ""))

    return _over(site, attempts, "", by_get=True)


def _fields_of(draft: Draft) -> list[tuple[str, str]]:
    if draft.fields is not None:
        return list(draft.fields)
    sent: Any = draft.json
    if isinstance(sent, dict):
        items = cast("dict[str, Any]", sent).items()
        return [(key, str(value)) for key, value in items]
    return []


@check(
    "csrf-method-override",
    "The method cannot be smuggled in",
    "high",
    "ASVS 3.5.1, ASVS 3.5.3, WSTG-SESS-05, CWE-650",
    why="`_method` in a link turns a harmless GET into the change; in a form it turns a POST into "
    "the PUT or DELETE that browsers would have asked about first.",
    how="Send GET with _method in the query, and POST with _method where the request is PUT, PATCH "
    "or DELETE, without a token, from another site.",
    fix="csrf-override",
    order=48,
    covered_by=("csrf-get",),
)
def method_override(site: Site) -> Verdict:
    """No override of the method changes the state from another site."""

    def attempts(change: Change) -> Iterator[Attempt]:
        draft = change.draft().without_tokens()
        fields = [*_fields_of(draft), ("_method", change.method)]
        if change.method in ("PUT", "PATCH", "DELETE"):
            posted = with_field(draft, "_method", change.method).fields or ()
            body = urlencode([*fields[:-1], *posted]).encode()
            url = f"{draft.url}?_method={change.method}"
            kind = "application/x-www-form-urlencoded"
            yield ("POST with _method", *change.raw(draft, HOSTILE, "POST", url, body, kind))
        else:
            url = f"{draft.url}?{urlencode(fields)}"
            yield ("GET with _method", *change.raw(draft, LINK, "GET", url, None, ""))

    return _over(site, attempts, "", by_get=True)


@check(
    "csrf-content-type",
    "A content type that needs no permission does not get around the protection",
    "high",
    "ASVS 3.5.2, WSTG-SESS-05, CWE-352",
    why="JSON that is accepted as text/plain can be sent by any page without the browser "
    "asking the "
    "server first; and a token that is checked in one encoding only is not checked in the others.",
    how="Send JSON requests as text/plain, as a form and without a type; send forms as multipart "
    "and as text/plain; without a token, from another site.",
    fix="csrf-content-type",
    order=41,
)
def content_type(site: Site) -> Verdict:
    """No simple content type carries the change past the protection."""

    def attempts(change: Change) -> Iterator[Attempt]:
        draft = change.draft().without_tokens()
        if change.recipe.call.json is not None and change.method == "POST":
            for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
                draft = change.draft().without_tokens()
                body = json_codec.dumps(draft.json).encode()
                what = f"JSON as {kind or 'nothing'}"
                yield (what, *change.raw(draft, HOSTILE, "POST", draft.url, body, kind))
        elif change.is_form and change.method == "POST" and not _is_open(site, change):
            for kind in ("multipart/form-data", "text/plain"):
                draft = change.draft().without_tokens()
                draft = _typed(draft, kind)
                yield (f"the form as {kind}", *change.attempt(draft, HOSTILE))

    return _over(
        site, attempts, "There is no request to forge, or the plain forgery works already."
    )


def _typed(draft: Draft, kind: str) -> Draft:
    from dataclasses import replace

    return replace(draft, content_type=kind)
