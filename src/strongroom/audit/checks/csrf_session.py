"""Forged sign-ins, sign-outs and WebSocket handshakes: the cross-site requests around a session."""

from __future__ import annotations

import json as json_codec
from collections.abc import Iterator

from strongroom.audit.browser import Browser, Initiator
from strongroom.audit.changes import HOSTILE, origin_tricks, protected_by_cookie
from strongroom.audit.discovery import sign_in_draft
from strongroom.audit.recipes import Draft, Lost
from strongroom.audit.site import Site
from strongroom.audit.verdict import NotApplicable, Unsure, Verdict, check, failed, passed, warned
from strongroom.audit.wire import Reply

_SAME_SITE = "Only SameSite keeps browsers from sending the cookie along."


@check(
    "csrf-sign-in",
    "Another site cannot sign the visitor in as somebody else",
    "medium",
    "ASVS 3.5.1, ASVS 7.6.2, WSTG-SESS-05, CWE-352",
    why="Signed in unknowingly to the attacker's account, the victim leaves there what was "
    "meant to "
    "be private: searches, card numbers, documents.",
    how="Send the sign-in from another site without its token, then with the attacker's own; look "
    "whether the browser is signed in.",
    fix="csrf-sign-in",
    order=50,
)
def sign_in(site: Site) -> Verdict:
    """A forged sign-in does not sign in."""
    recipe = site.sign_in_recipe
    if recipe.form is not None and not recipe.form.passwords:
        raise NotApplicable("The sign-in goes over several pages, each of which would be forged.")
    site.signed_in()
    made: list[Reply] = []
    for what, draft in _forged_sign_ins(site):
        victim = site.fresh()
        victim.get(site.target.url)
        reply = _from_elsewhere(draft, victim)
        made.append(reply)
        held, shown = site.look(victim)
        if held:
            return failed(f"{what} signs the visitor in.", reply, shown)
    return passed("A forged sign-in does not sign in.", *made)


def _from_elsewhere(draft: Draft, victim: Browser) -> Reply:
    """Send it as another site's page can: JSON has to call itself text, or is asked about first."""
    if draft.json is None:
        return draft.send(victim, HOSTILE)
    body = json_codec.dumps(draft.json).encode()
    return victim.send(draft.method, draft.url, body=body, content_type="text/plain",
                       initiator=HOSTILE)  # fmt: skip


def _forged_sign_ins(site: Site) -> Iterator[tuple[str, Draft]]:
    attacker = site.fresh()
    try:
        draft = sign_in_draft(site.sign_in_recipe, attacker, site.account)
    except Lost as error:
        raise Unsure(str(error)) from None
    yield "The form without a token, from another site,", draft.without_tokens()
    if draft.has_token:
        yield "The form with the attacker's own token, from another site,", draft


@check(
    "csrf-sign-out",
    "Another site cannot sign the visitor out",
    "low",
    "ASVS 3.5.1, WSTG-SESS-05, CWE-352",
    why="A forged sign-out is a nuisance by itself, and the first half of a forged sign-in.",
    how="Send the sign-out with POST from another site, without its token; look whether the "
    "browser "
    "is still signed in.",
    fix="csrf",
    order=51,
    covered_by=("end-by-get",),
)
def sign_out(site: Site) -> Verdict:
    """A forged sign-out leaves the browser signed in."""
    _cookies = site.essentials
    recipe = site.sign_out_recipe
    browser = site.signed_in()
    draft = recipe.draft(browser, site.account).without_tokens()
    if draft.method == "GET":
        raise NotApplicable("The sign-out is a link: see end-by-get.")
    reply = _from_elsewhere(draft, browser)
    held, shown = site.look(browser)
    if not held:
        if protected_by_cookie(site):
            return warned("The sign-out from another site signs out.", reply, details=[_SAME_SITE])
        return failed("The sign-out from another site signs out.", reply, shown)
    _honest_sign_out(site, browser)
    return passed("A forged sign-out leaves the browser signed in.", reply, shown)


def _honest_sign_out(site: Site, browser: Browser) -> None:
    site.sign_out(browser)
    if site.is_in(browser):
        raise Unsure("The honest sign-out did not sign out either.")


@check(
    "csrf-websocket",
    "A hostile page cannot open a WebSocket as the visitor",
    "high",
    "ASVS 4.4.2, WSTG-CLNT-10, CWE-1385",
    why="WebSockets know no same-origin policy: the browser sends the cookie with the handshake, "
    "and the hostile page reads and writes as the visitor.",
    how="Open the declared WebSocket with the site's own Origin, then with a foreign one.",
    fix="websocket",
    order=52,
)
def websocket(site: Site) -> Verdict:
    """The handshake from a foreign origin is refused, the honest one is taken."""
    if not site.plan.websocket:
        raise NotApplicable("The target file names no websocket.")
    browser = site.signed_in()
    own = _handshake(site, browser, "")
    if own.status != 101:
        raise Unsure(f"The honest handshake was answered with {own.status}, not 101.")
    for what, initiator in origin_tricks(site.target.url)[:4]:
        reply = _handshake(site, browser, initiator.origin or "")
        if reply.status == 101:
            return failed(f"The handshake from {what} is accepted.", reply)
    return passed("Handshakes from foreign origins are refused.", own, *site.network.replies[-1:])


def _handshake(site: Site, browser: Browser, origin: str) -> Reply:
    from strongroom.audit.browser import resolved

    url = resolved(site.target.url, site.plan.websocket)
    url = url.replace("wss:", "https:", 1).replace("ws:", "http:", 1)
    who = Initiator("cross-site" if origin else "same-origin", origin, None, mode="websocket")
    from strongroom.audit.wire import origin_of

    headers = {
        "Origin": origin or origin_of(site.target.url),
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "c3Ryb25ncm9vbWF1ZGl0IQ==",
    }
    return browser.send("GET", url, headers=headers, initiator=who, follow=False)
