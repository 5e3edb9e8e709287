"""Whether a session that an attacker knows can become somebody's (WSTG-SESS-03, ASVS 7.2.4)."""

from __future__ import annotations

import secrets
import string
from dataclasses import replace
from urllib.parse import urlsplit

from strongroom.audit.browser import Browser
from strongroom.audit.discovery import perform_sign_in
from strongroom.audit.jar import Cookie
from strongroom.audit.proof import shape_of
from strongroom.audit.recipes import Lost, Recipe, view_of
from strongroom.audit.site import Site
from strongroom.audit.target import Account
from strongroom.audit.verdict import NotApplicable, Unsure, Verdict, check, failed, passed, warned
from strongroom.audit.wire import Reply, Unreachable

_URL_NAMES = ("PHPSESSID", "sid", "sessionid", "session_id", "session", "token")


def _before_signing_in(site: Site) -> Browser:
    """A browser that has been to the first pages, and got what a visitor gets."""
    browser = site.fresh()
    browser.get(site.target.url)
    site.proof.ask(browser)
    recipe = site.sign_in_recipe
    if recipe.form is not None:
        browser.get(recipe.form.page)
    return browser


@check(
    "fixation-kept",
    "The visitor's cookie does not become the signed-in one",
    "high",
    "ASVS 7.2.4, WSTG-SESS-03, CWE-384",
    why="Whoever put the visitor's cookie there (a sibling host, a shared computer, the "
    "network) is "
    "signed in as the victim from the moment the victim signs in.",
    how="Copy the jar before the sign-in, sign in, and present the copy.",
    fix="rotate",
    order=20,
)
def kept(site: Site) -> Verdict:
    """A copy of the jar from before the sign-in is not signed in after it."""
    _names = site.essentials.names
    browser = _before_signing_in(site)
    thief = browser.copy()
    if not any(name in thief.jar.names() for name in _names):
        raise NotApplicable("A visitor gets none of the cookies that sign in later.")
    if site.is_in(thief):
        raise Unsure("The copy from before the sign-in was signed in already.")
    site.sign_in(browser)
    held, reply = site.look(thief)
    if held:
        return failed("The cookie from before the sign-in is signed in after it.", reply)
    site.must_be_in(browser, "the browser that signed in was not signed in any more.")
    return passed("The cookie from before the sign-in is worth nothing after it.", reply)


def _invented(cookie: Cookie) -> str:
    """A value of the same shape that nobody issued: same length, the same kinds of characters."""
    kinds: tuple[str, ...] = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
    if set(cookie.value) <= set("0123456789abcdef-"):
        kinds = ("0123456789abcdef",)
    made: list[str] = []
    for character in cookie.value:
        kind = next((each for each in kinds if character in each), "")
        made.append(secrets.choice(kind) if kind else character)
    return "".join(made)


@check(
    "fixation-adopted",
    "A session id that an attacker chose is not adopted",
    "high",
    "ASVS 7.2.4, WSTG-SESS-03, CWE-384",
    why="If the server takes up an id that it never issued, an attacker needs no visit of his own: "
    "he plants any value, waits for the sign-in, and uses it.",
    how="Put an invented value into the jar under the session cookie's name, sign in, and present "
    "the invented value from elsewhere.",
    fix="rotate",
    order=21,
    covered_by=("token-static",),
)
def adopted(site: Site) -> Verdict:
    """An invented value that was in the jar is not signed in after the sign-in."""
    for cookie in site.essentials.cookies:
        invented = _invented(cookie)
        if invented == cookie.value or len(set(invented)) < 3:
            raise Unsure(f"No value could be invented for {cookie.name}.")
        browser = site.fresh()
        browser.jar.put(replace(cookie, value=invented, expires=None))
        thief = browser.copy()
        if site.is_in(thief):
            raise Unsure("An invented value was signed in at once; see token-tamper.")
        browser.jar.put(replace(cookie, value=invented, expires=None))
        site.sign_in(browser)
        held, reply = site.look(thief)
        if held:
            return failed(f"{cookie.name}: an invented value signs in after the sign-in.", reply)
    return passed("An invented value is worth nothing, before and after a sign-in.")


@check(
    "fixation-url",
    "A session id in the URL is not accepted",
    "high",
    "ASVS 14.2.1, WSTG-SESS-04, CWE-598",
    why="A URL is copied, logged, shared and sent in Referer. An id that is accepted from "
    "there can "
    "be planted with a link and read from a log.",
    how="Sign in, take the cookies away, and present the session cookie's value in the URL: as "
    ";jsessionid=, and as a parameter of the usual names and the cookie's own.",
    fix="no-url",
    order=22,
)
def in_url(site: Site) -> Verdict:
    """No form of the URL with the token in it is signed in."""
    browser = site.signed_in()
    cookie = browser.jar.find(site.essentials.main.name)
    if cookie is None:
        raise Unsure("The session cookie was not set this time.")
    url = site.proof.url
    parts = urlsplit(url)
    tries = [parts._replace(path=f"{parts.path or '/'};jsessionid={cookie.value}").geturl()]
    for name in dict.fromkeys((cookie.name, *_URL_NAMES)):
        query = f"{parts.query}&" if parts.query else ""
        tries.append(parts._replace(query=f"{query}{name}={cookie.value}").geturl())
    answered = False
    for there in tries:
        bare = site.fresh()
        reply = site.proof.ask(bare, url=there)
        judged = site.proof.judge(reply)
        answered = answered or judged is not None
        if judged:
            shown = there.replace(cookie.value, "...")
            return failed(f"The token in the URL signs in: {shown}", reply)
    if not answered:
        raise Unsure("No URL with a token was answered with a page that could be judged.")
    site.must_be_in(browser, "the token itself was no longer good.")
    return passed("The token signs in as a cookie only.")


@check(
    "fixation-again",
    "Signing in again ends the session before",
    "medium",
    "ASVS 7.2.4, CWE-384",
    why="Whoever has stolen a session keeps it, although its owner signed in anew just to be safe.",
    how="Sign in, copy the jar, sign in again with the same browser, and present the copy.",
    fix="rotate",
    order=23,
    covered_by=("token-static", "fixation-kept"),
)
def again(site: Site) -> Verdict:
    """After a second sign-in of the same browser, the first one's cookies are not signed in."""
    browser = site.signed_in()
    thief = browser.copy()
    site.must_be_in(thief, "the copy was not signed in before the second sign-in.")
    try:
        answer = perform_sign_in(site.sign_in_recipe, browser, site.account)
    except (Lost, Unreachable):
        raise NotApplicable(
            "Somebody who is signed in is not offered the sign-in form again."
        ) from None
    if not site.is_in(browser):
        raise Unsure("The second sign-in of one browser did not sign in.")
    main = site.essentials.main.name
    now, then = browser.jar.find(main), thief.jar.find(main)
    held, reply = site.look(thief)
    if not held:
        return passed("The session before ends with the next sign-in.", reply)
    if now is not None and then is not None and now.value == then.value:
        _must_ask_again(site, answer)
        return failed("Signing in again keeps the very same token.", reply)
    return failed("The token from before the second sign-in is still signed in.", reply)


def _must_ask_again(site: Site, answer: Reply) -> None:
    """The control: who is signed in can sign in again, and not with a wrong password.

    Raises: Unsure, where the site answers both alike: it may not have looked at the second one.
    """
    browser = site.signed_in()
    wrong = Account(site.account.name, f"wrong-{site.nonce()}")
    refusal = perform_sign_in(site.sign_in_recipe, browser, wrong)
    if answer.status >= 400 or shape_of(refusal) == shape_of(answer):
        raise Unsure(
            "A second sign-in of a signed-in browser is answered like one with a wrong password, "
            "so nothing shows that the site looks at it at all."
        )


@check(
    "fixation-step-up",
    "The token is replaced when privilege grows",
    "medium",
    "ASVS 7.2.4, WSTG-SESS-03, CWE-384",
    why="A token stolen before the step-up would gain everything that the step-up was for.",
    how="Sign in, copy the jar, do the step-up that the target file names, and present the copy.",
    fix="rotate",
    order=24,
    covered_by=("token-static", "fixation-kept"),
)
def step_up(site: Site) -> Verdict:
    """The token from before the declared step-up is dead after it."""
    if site.target.step_up is None:
        raise NotApplicable("The target file names no [step_up].")
    browser = site.signed_in()
    thief = browser.copy()
    site.must_be_in(thief, "the copy was not signed in before the step-up.")
    before = {each.name: each.value for each in browser.jar}
    recipe = Recipe(site.target.step_up, site.target.url)
    try:
        reply = recipe.draft(browser, site.account).send(browser)
    except Lost as error:
        raise Unsure(str(error)) from None
    if reply.status >= 400 or not site.is_in(browser):
        raise Unsure(f"The step-up did not work: it was answered with {reply.status}.")
    held, shown = site.look(thief)
    if not held:
        return passed("The token from before the step-up is dead after it.", *browser.trail, shown)
    main = site.essentials.main.name
    now = browser.jar.find(main)
    if now is not None and now.value == before.get(main):
        return failed("The step-up keeps the very same token.", *browser.trail, shown)
    return failed("The token from before the step-up is still signed in.", shown)


@check(
    "fixation-carried",
    "What a visitor put into the session is not carried into somebody's account",
    "low",
    "ASVS 7.2.4, WSTG-SESS-03, WSTG-SESS-08",
    why="An attacker who prepares a session (an address, a basket, a next page) and plants it "
    "finds "
    "his own data in the victim's account.",
    how="Do what the target file names under [anonymous] as a visitor, sign in, and look for it.",
    fix="rotate",
    order=25,
    covered_by=("fixation-kept",),
)
def carried(site: Site) -> Verdict:
    """What [anonymous] left in a visitor's session is gone after the sign-in."""
    call = site.target.anonymous
    if call is None or call.read is None:
        raise NotApplicable("The target file names no [anonymous] request with a page to read.")
    browser = _before_signing_in(site)
    recipe = Recipe(call, site.target.url)
    draft = recipe.draft(browser, None)
    draft.send(browser)
    view = view_of(call.read, site.target.url)
    if draft.nonce not in view.ask(browser).text:
        raise Unsure("What the visitor left could not be seen before the sign-in either.")
    site.sign_in(browser)
    reply = view.ask(browser)
    if draft.nonce in reply.text:
        return warned("The visitor's data is in the session after the sign-in.", reply)
    return passed("The visitor's data is gone after the sign-in.", reply)
