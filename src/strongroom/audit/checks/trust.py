"""Half-open sessions, and what the site believes of headers that anybody can send."""

from __future__ import annotations

from strongroom.audit.browser import Browser, Network
from strongroom.audit.discovery import perform_sign_in
from strongroom.audit.pages import read_page
from strongroom.audit.recipes import Lost, Recipe
from strongroom.audit.site import Site
from strongroom.audit.target import Account
from strongroom.audit.verdict import NotApplicable, Unsure, Verdict, check, failed, passed
from strongroom.audit.wire import Headers, Reply

_SPOOFED = "spoofed.evil.example"
_ADDRESS = "203.0.113.77"


@check(
    "trust-wrong-password",
    "A wrong password does not sign in, nor half",
    "critical",
    "ASVS 6.3.1, WSTG-ATHN-04, CWE-287",
    why="Code that sets the user first and checks afterwards leaves a session that counts.",
    how="Sign in with a wrong password, and ask for the signed-in page with what came of it.",
    fix="half-open",
    order=5,
    covered_by=("trust-first-step",),
)
def wrong_password(site: Site) -> Verdict:
    """After a sign-in with a wrong password the browser is a visitor's."""
    browser = site.fresh()
    wrong = Account(site.account.name, f"wrong-{site.nonce()}-{site.nonce()}")
    reply = perform_sign_in(site.sign_in_recipe, browser, wrong)
    held, shown = site.look(browser)
    if held:
        return failed("A wrong password signs in.", reply, shown)
    site.signed_in()
    return passed("A wrong password does not sign in; the right one does.", reply, shown)


@check(
    "trust-first-step",
    "The first step of several does not sign in",
    "critical",
    "ASVS 6.3.4, WSTG-ATHN-04, WSTG-SESS-08, CWE-306",
    why="Between the user's name and the password, or the password and the second factor, there is "
    "a session that must count for nothing.",
    how="Send only the first page of the sign-in, and ask for the signed-in page.",
    fix="half-open",
    order=4,
)
def first_step(site: Site) -> Verdict:
    """After the first of several pages the browser is a visitor's."""
    recipe = site.sign_in_recipe
    if recipe.form is None or recipe.form.passwords:
        raise NotApplicable("The sign-in has one page.")
    from strongroom.audit.discovery import sign_in_draft

    browser = site.fresh()
    try:
        reply = sign_in_draft(recipe, browser, site.account).send(browser)
    except Lost as error:
        raise Unsure(str(error)) from None
    held, shown = site.look(browser)
    if held:
        return failed("The user's name alone signs in.", reply, shown)
    site.signed_in()
    return passed("The first step alone does not sign in.", reply, shown)


@check(
    "trust-half-open",
    "Flows without a sign-in leave no session that counts",
    "high",
    "ASVS 6.4.3, WSTG-SESS-08, CWE-841",
    why="A reset or registration that stores the user's name in the session before anything is "
    "proven signs in whoever starts it (session puzzling).",
    how="Start each flow that the target file names under [[half_open]] as a visitor, and ask "
    "for the "
    "signed-in page with the same cookies.",
    fix="half-open",
)
def half_open(site: Site) -> Verdict:
    """After each declared flow the browser is a visitor's."""
    if not site.target.half_open:
        raise NotApplicable("The target file names no [[half_open]] flow.")
    made: list[Reply] = []
    for call in site.target.half_open:
        browser = site.fresh()
        try:
            reply = Recipe(call, site.target.url).draft(browser, site.account).send(browser)
        except Lost as error:
            raise Unsure(str(error)) from None
        if reply.status >= 400:
            raise Unsure(f"The flow {call.name!r} answered {reply.status}, so it did not start.")
        made.append(reply)
        held, shown = site.look(browser)
        if held:
            return failed(f"After {call.name!r} the browser is signed in.", reply, shown)
    site.signed_in()
    return passed("No flow leaves a session that is signed in.", *made)


@check(
    "trust-identity-header",
    "A header does not say who somebody is",
    "critical",
    "ASVS 4.1.3, CWE-290",
    why="Behind a proxy that signs in, such headers come from the proxy. If the application "
    "believes "
    "them from anybody, a line of text is enough to be anybody.",
    how="Ask for the signed-in page without a cookie, with each of the usual headers naming "
    "the user.",
    fix="forwarded",
)
def identity(site: Site) -> Verdict:
    """No identity header signs a visitor in."""
    names = (
        "X-Forwarded-User", "X-Remote-User", "Remote-User", "X-User", "X-User-Id", "X-Auth-User",
        "X-WEBAUTH-USER", "X-Forwarded-Email", "X-Auth-Request-User",
    )  # fmt: skip
    for name in names:
        reply = site.proof.ask(site.fresh(), headers={name: site.account.name})
        if site.proof.judge(reply):
            return failed(f"{name}: {site.account.name} signs in.", reply)
    site.signed_in()
    return passed("None of the usual headers signs in.", *site.network.replies[-1:])


@check(
    "trust-forwarded-host",
    "A forged host does not get into links and redirects",
    "medium",
    "ASVS 4.1.3, WSTG-INPV-17, CWE-644",
    why="With a forged host the reset mail links to the attacker, and a cache serves his redirect.",
    how="Ask for the first page, the sign-in page and the signed-in page with forged "
    "X-Forwarded-Host, Forwarded and X-Host, and look for the name.",
    fix="forwarded",
)
def forwarded_host(site: Site) -> Verdict:
    """No forged host is repeated."""
    headers = {
        "X-Forwarded-Host": _SPOOFED,
        "Forwarded": f"host={_SPOOFED};proto=https",
        "X-Host": _SPOOFED,
        "X-Original-Host": _SPOOFED,
    }
    recipe = site.sign_in_recipe
    urls = [site.target.url, site.proof.url, *([recipe.form.page] if recipe.form else [])]
    member = site.signed_in()
    for url in dict.fromkeys(urls):
        if url == site.proof.url:
            reply = site.proof.ask(member, headers=headers, follow=False)
        else:
            reply = site.fresh().get(url, headers=headers, follow=False)
        if _SPOOFED in reply.value("location") or _SPOOFED in reply.text:
            return failed(f"{url} repeats a forged host.", reply)
    if site.network.replies[-1].status >= 500:
        raise Unsure("The site answered with an error to forged headers.")
    return passed("No page repeats a forged host.", *site.network.replies[-1:])


@check(
    "trust-forwarded-address",
    "A forged address does not get into the list of sessions",
    "low",
    "ASVS 4.1.3, CWE-348",
    why="The list shows the owner where the thief is. If the thief chooses that himself, he "
    "is next "
    "door; and limits by address count for nothing.",
    how="Sign in with forged X-Forwarded-For, Forwarded and X-Real-IP, and look for the address in "
    "the list of sessions and on the signed-in page.",
    fix="forwarded",
)
def forwarded_address(site: Site) -> Verdict:
    """No page shows the forged address."""
    headers = (
        ("X-Forwarded-For", _ADDRESS),
        ("Forwarded", f"for={_ADDRESS}"),
        ("X-Real-IP", _ADDRESS),
        ("X-Client-IP", _ADDRESS),
        ("CF-Connecting-IP", _ADDRESS),
    )
    spoofing = Browser(_with_headers(site, headers))
    site.sign_in(spoofing)
    plain = site.fresh()
    plain.jar = spoofing.jar.copy()
    listed = [plain.get(site.plan.sessions_url)] if site.plan.sessions_url else []
    shown_any = False
    for reply in [*listed, site.proof.ask(plain)]:
        if _ADDRESS in reply.text:
            return failed(f"{reply.url} shows an address that the client made up.", reply)
        shown_any = shown_any or bool(_addresses(read_page(reply).text))
    if not shown_any:
        raise NotApplicable("No page shows an address of a session.")
    return passed("The forged address is shown nowhere.", *site.network.replies[-1:])


def _addresses(text: str) -> list[str]:
    import re

    return re.findall(r"\b\d{1,3}(?:\.\d{1,3}){3}\b|\b[0-9a-f]{0,4}::[0-9a-f]{0,4}\b", text)


def _with_headers(site: Site, headers: Headers) -> Network:
    from dataclasses import replace

    return replace(site.network, extra=(*site.network.extra, *headers))
