"""Whether an end is an end: signing out, a changed password (WSTG-SESS-06, ASVS 7.4)."""

from __future__ import annotations

from strongroom.audit.browser import OTHER_AGENT, Browser, Initiator
from strongroom.audit.changes import protected_by_cookie
from strongroom.audit.discovery import confirm_sign_out
from strongroom.audit.recipes import Lost, Recipe
from strongroom.audit.site import Site
from strongroom.audit.verdict import NotApplicable, Unsure, Verdict, check, failed, passed, warned
from strongroom.audit.wire import Reply

_FROM_ELSEWHERE = Initiator(site="cross-site", origin=None, referer="https://elsewhere.example/")


@check(
    "end-replay",
    "After signing out, the kept cookie is worth nothing",
    "high",
    "ASVS 7.4.1, ASVS 7.2.1, WSTG-SESS-06, CWE-613",
    why="A sign-out that only deletes the cookie in the browser leaves the session to everybody "
    "who copied it: the thief stays signed in, and the owner believes to be safe.",
    how="Sign in, copy the jar, see that the copy is signed in, sign out, present the copy again: "
    "all of it, then each cookie that signs in alone, with the same and with another User-Agent.",
    fix="end-on-server",
    order=10,
)
def replay(site: Site) -> Verdict:
    """No copy of what was signed in is signed in after the sign-out."""
    found = site.essentials
    browser = site.signed_in()
    thief, elsewhere = browser.copy(), browser.copy(OTHER_AGENT)
    site.must_be_in(thief, "the copied cookies were not signed in before the sign-out.")
    signed_out = site.sign_out(browser)
    if site.is_in(browser):
        raise Unsure("The browser itself was still signed in after the sign-out.")
    for copy, what in ((thief, "The kept cookie"), (elsewhere, "The kept cookie, elsewhere,")):
        held, reply = site.look(copy)
        if held:
            return failed(f"{what} is still signed in after the sign-out.", signed_out, reply)
    for name in found.alone:
        alone = Browser(site.network, thief.jar.copy())
        alone.jar.drop(*(each for each in thief.jar.names() if each != name))
        held, reply = site.look(alone)
        if held:
            return failed(f"{name} alone is still signed in after the sign-out.", reply)
    return passed(
        "The kept cookie is refused after the sign-out.", signed_out, *site.network.replies[-1:]
    )


@check(
    "end-password-change",
    "Changing the password ends what was signed in before",
    "high",
    "ASVS 7.4.3, WSTG-SESS-06, CWE-613",
    why="People change their password because somebody else is in. If the intruder's session goes "
    "on, the change was for nothing.",
    how="Sign in twice, change the password with one browser (and back again), look at the other "
    "and at a copy of the first one's old cookies.",
    fix="end-others",
    order=80,
    covered_by=("token-static", "trust-wrong-password"),
)
def password_change(site: Site) -> Verdict:
    """After the declared password change neither another session nor the old token is signed in."""
    call = site.target.password_change
    if call is None:
        raise NotApplicable("The target file names no [password_change].")
    one, two = site.signed_in(), site.signed_in(agent=OTHER_AGENT)
    site.must_be_in(one, "a second sign-in ended the first, so the change cannot be seen.")
    old = one.copy()
    recipe = Recipe(call, site.target.url)
    new = f"Audit-{site.nonce()}-{site.nonce()}!"
    site.network.secrets.add(new)
    reply = change_password(site, recipe, one, site.account.password, new)
    try:
        if not signs_in_with(site, new):
            raise Unsure(f"The password change did not work: it was answered with {reply.status}.")
        stays, shown = site.look(two)
        kept, old_shown = site.look(old)
        offered = "other" in reply.text.lower() and "sign" in reply.text.lower()
    finally:
        _restore(site, recipe, new)
    if stays and offered:
        return warned("The other session goes on; ending it is only offered.", reply, shown)
    if stays:
        return failed("The other session goes on after the password change.", reply, shown)
    if kept:
        return warned("The changing session keeps its old token.", reply, old_shown)
    return passed("The other session, and the old token, end with the change.", reply, shown)


def change_password(site: Site, recipe: Recipe, browser: Browser, old: str, new: str) -> Reply:
    """Send the declared password change -> its reply. Raises: Unsure if its form is not there."""
    account = site.account
    try:
        draft = recipe.draft(browser, account, password=old, new_password=new)
    except Lost as error:
        raise Unsure(str(error)) from None
    return draft.send(browser)


def signs_in_with(site: Site, password: str) -> bool:
    """Whether this password signs the user in."""
    from strongroom.audit.target import Account

    try:
        site.signed_in(Account(site.account.name, password))
    except Unsure:
        return False
    return True


def _restore(site: Site, recipe: Recipe, new: str) -> None:
    from strongroom.audit.target import Account

    if not signs_in_with(site, new):
        return
    back = site.signed_in(Account(site.account.name, new))
    change_password(site, recipe, back, new, site.account.password)
    if not signs_in_with(site, site.account.password):
        raise Unsure(
            "The old password could not be set again. The account's password now begins with "
            "'Audit-': set it by hand."
        )


@check(
    "end-by-get",
    "Following a link does not sign out",
    "low",
    "ASVS 3.5.3, WSTG-SESS-05, CWE-352",
    why="A sign-out by GET is done by any image on any page, by prefetching, by a link checker. "
    "Being signed out by others is a nuisance, and the first half of a sign-in forgery.",
    how="Sign in, ask for the sign-out's address with GET as a link on another site would, and "
    "look whether the browser is still signed in.",
    fix="post-sign-out",
)
def by_get(site: Site) -> Verdict:
    """A cross-site GET of the sign-out's address leaves the browser signed in."""
    recipe = site.sign_out_recipe
    browser = site.signed_in()
    site.must_be_in(browser, "the browser was not signed in before the request.")
    # Of a link with a token in it the attacker knows only that of another session.
    url = recipe.form.action if recipe.form else recipe.draft(site.signed_in(), site.account).url
    reply = browser.get(url, initiator=_FROM_ELSEWHERE)
    stays, shown = site.look(browser)
    if not stays and protected_by_cookie(site, by_get=True):
        return warned(f"GET {url} signs out; only SameSite=Strict keeps other sites from it.",
                      reply, shown)  # fmt: skip
    if not stays:
        return failed(f"GET {url}, as a link elsewhere would send it, signs out.", reply, shown)
    _prove_sign_out(site, browser)
    return passed("A GET from elsewhere leaves the browser signed in.", reply, shown)


def _prove_sign_out(site: Site, browser: Browser) -> None:
    """The honest sign-out of the same browser works."""
    reply = site.sign_out(browser)
    confirm_sign_out(browser, reply)
    if site.is_in(browser):
        raise Unsure("The honest sign-out did not sign out either.")


@check(
    "end-visible",
    "Every signed-in page offers to sign out",
    "low",
    "ASVS 7.4.4, WSTG-SESS-06",
    why="Who does not find the sign-out closes the tab, and stays signed in.",
    how="Walk the signed-in pages and look for a sign-out form or link on each.",
    fix="visible-sign-out",
)
def visible(site: Site) -> Verdict:
    """Each page that was walked has a way to sign out."""
    _control = site.proof
    if not site.plan.pages:
        raise NotApplicable("The site answers with data, not with pages.")
    without = site.plan.without_sign_out
    count = len(site.plan.pages) - len(site.plan.public)
    if len(without) == count:
        if site.plan.sign_out is not None:
            return warned("None of the pages that were read shows a way to sign out.")
        return failed("None of the pages that were read shows a way to sign out.")
    if site.plan.scripted_sign_out:
        raise Unsure(
            f"Whether {site.plan.scripted_sign_out[0]} shows a way to sign out is up to its "
            "scripts, which are not run: look at it."
        )
    if without:
        return warned(f"{len(without)} of {count} pages do not: {without[0]}")
    return passed(f"All of {count} pages do.")


@check(
    "end-clear-site-data",
    "Signing out tells the browser to drop what it keeps",
    "info",
    "ASVS 14.3.1",
    why="Pages and data that stay in the browser's storage are read by the next person at the "
    "computer, session or not.",
    how="Sign out and look for Clear-Site-Data on the way.",
    fix="clear-site-data",
)
def clear_site_data(site: Site) -> Verdict:
    """A response of the sign-out has Clear-Site-Data with a type that browsers know."""
    browser = site.signed_in()
    reply = site.sign_out(browser)
    trail = [*browser.trail, reply]
    if site.is_in(browser):
        raise Unsure("The browser was still signed in after the sign-out.")
    for each in trail:
        value = each.value("clear-site-data")
        if any(f'"{kind}"' in value for kind in ("storage", "cookies", "*", "cache")):
            return passed(f"Clear-Site-Data: {value}", each)
    return warned("No response of the sign-out has Clear-Site-Data.", *trail)
