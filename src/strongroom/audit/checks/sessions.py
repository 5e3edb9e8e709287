"""Several sessions of one person, the list of them, and step-up (WSTG-SESS-11, ASVS 7.5)."""

from __future__ import annotations

import re
from dataclasses import replace

from strongroom.audit.browser import OTHER_AGENT, Browser
from strongroom.audit.changes import Change
from strongroom.audit.pages import Form, read_page
from strongroom.audit.recipes import TOKEN_NAME, Draft, Lost, Recipe, fill, filled
from strongroom.audit.site import Site
from strongroom.audit.verdict import NotApplicable, Unsure, Verdict, check, failed, passed, warned
from strongroom.audit.wire import Reply

_MOST = 12
_MOST_FORMS = 6


@check(
    "session-concurrent",
    "The number of sessions is what is declared",
    "info",
    "ASVS 7.1.2, WSTG-SESS-11",
    why="Without a limit, stolen passwords are used beside their owner for as long as anybody "
    "likes, "
    "and old sessions pile up.",
    how="Sign in several times with separate browsers, and see which are still signed in.",
    fix="limit",
    order=70,
)
def concurrent(site: Site) -> Verdict:
    """As many sessions live as the target file says, or it is only told."""
    most = site.target.most_sessions
    count = min(most + 1, _MOST) if most else 3
    browsers = [site.signed_in() for _ in range(count)]
    alive = [site.is_in(each) for each in browsers]
    said = f"Of {count} sign-ins of one person {sum(alive)} live side by side."
    if most and count > most and sum(alive) > most:
        return warned(f"{said} Declared are {most} at most.")
    if not alive[-1]:
        raise Unsure("The newest session was not signed in.")
    return passed(said)


def _list(site: Site, browser: Browser) -> Reply:
    if not site.plan.sessions_url:
        raise NotApplicable(
            "No list of active sessions was found; name its page in the target file: [sessions]."
        )
    reply = browser.get(site.plan.sessions_url)
    if reply.status != 200:
        raise Unsure(f"The list of sessions, {reply.url}, answered {reply.status}.")
    return reply


@check(
    "session-list",
    "People can see where they are signed in",
    "info",
    "ASVS 7.5.2, WSTG-SESS-11",
    why="Nobody else can tell that the session in the next town is not theirs.",
    how="Sign in twice with different browsers, and see that the list grows with the second.",
    fix="session-list",
    order=71,
    covered_by=("token-static",),
)
def listed(site: Site) -> Verdict:
    """The list of sessions shows the second sign-in."""
    browser = site.signed_in()
    before = _list(site, browser)
    site.signed_in(agent=OTHER_AGENT)
    after = _list(site, browser)
    if after.status == 200 and _weight(after) == _weight(before):
        return warned("The list does not change with a second sign-in.", after)
    return passed("The list shows the second sign-in.", after)


def _weight(reply: Reply) -> tuple[int, int]:
    page = read_page(reply)
    return (len(page.text) if page.text else len(reply.text), len(page.forms))


@check(
    "session-list-token",
    "The list of sessions gives no token away",
    "high",
    "ASVS 3.3.4, ASVS 7.5.2, CWE-200",
    why="A list that names sessions by their token lets whoever sees it once (a script, a glance) "
    "be all of them.",
    how="Sign in twice, read the list with one browser, and look for the other's token in it.",
    fix="session-list",
    order=72,
)
def list_token(site: Site) -> Verdict:
    """No essential cookie's value, of this or another session, is in the list."""
    names = site.essentials.names
    one, two = site.signed_in(), site.signed_in(agent=OTHER_AGENT)
    reply = _list(site, one)
    for browser in (two, one):
        for cookie in browser.jar:
            if cookie.name in names and len(cookie.value) >= 12 and cookie.value in reply.text:
                return failed(f"The value of {cookie.name} is in the list.", reply)
    return passed("No token is in the list.", reply)


@check(
    "session-end-one",
    "Ending a session from the list ends it",
    "high",
    "ASVS 7.5.2, WSTG-SESS-06, CWE-613",
    why="Somebody presses 'sign out that device' because it was stolen. If the thief stays signed "
    "in, the button is worse than none.",
    how="Sign in twice, end the other session with the declared request, or with the form on the "
    "list that names another session; present its cookies.",
    fix="end-on-server",
    order=73,
)
def end_one(site: Site) -> Verdict:
    """After the other session was ended from the list, its cookies are refused."""
    one = site.signed_in()
    before = _list(site, one)
    two = site.signed_in(agent=OTHER_AGENT)
    site.must_be_in(two, "the other session was not signed in before.")
    site.must_be_in(one, "a second sign-in ended the first.")
    drafts = _ends(site, one, before, _list(site, one))
    if not drafts:
        raise NotApplicable(
            "The list has no form that ends the session that was added, and the target file names "
            "no [end_session]."
        )
    replies: list[Reply] = []
    for draft in drafts:
        replies.append(draft.send(one))
        if not site.is_in(two):
            return passed("The ended session's cookies are refused.", replies[-1])
        if not site.is_in(one):
            raise Unsure("The form ended this session instead of the other.")
    return failed("The other session lives after it was ended from the list.", *replies[-2:])


def _ends(site: Site, one: Browser, before: Reply, after: Reply) -> list[Draft]:
    """What may end the session that the second list has more: as declared, or a form of its own."""
    declared, listed = site.target.end_session, site.target.sessions
    if declared is not None:
        pattern = listed.pattern if listed is not None else ""
        old, new = (re.findall(pattern, each.text) for each in (before, after))
        added = [str(each) for each in dict.fromkeys(new) if each not in old]
        if not pattern or not added:
            raise Unsure(
                "The 'pattern' of [sessions] finds no session that was added by a second sign-in."
            )
        call = replace(declared, url=filled(declared.url, {"session": added[0]}))
        return [Recipe(call, site.target.url).draft(one, site.account, session=added[0])]
    known = {_key(form) for form in read_page(before).forms}
    forms = [form for form in read_page(after).forms if _key(form) not in known]
    return [fill(form, {}) for form in forms if _ends_another(form)][:_MOST_FORMS]


def _key(form: Form) -> tuple[str, tuple[str, ...]]:
    """What tells the form of one session from another's: address and short hidden values."""
    values = [each.value for each in form.hidden if not TOKEN_NAME.search(each.name)]
    return form.action, tuple(values)


def _ends_another(form: Form) -> bool:
    text = f"{form.action} {form.words}".lower()
    everybody = re.search(r"other|everywhere|all (?:sessions|devices)|else", form.words.lower())
    return bool(re.search(r"revoke|sign[ -]?out|log[ -]?out|\bend\b|terminate|remove", text)) and (
        not everybody
    )


@check(
    "session-step-up",
    "Sensitive requests ask for the password again",
    "medium",
    "ASVS 7.5.1, ASVS 7.5.3, CWE-306",
    why="With an unlocked computer or a stolen cookie an account is taken over for good, if its "
    "e-mail address or password can be changed without knowing the old one.",
    how="For each request that is declared sensitive: let the declared time pass since the sign-in "
    "(in process it is moved), send it honestly, read the state back.",
    fix="step-up",
    order=92,
)
def step_up(site: Site) -> Verdict:
    """A sensitive request of an old sign-in changes nothing, and of a fresh one it does."""
    sensitive = [recipe for recipe in site.plan.changes if recipe.call.sensitive]
    if not sensitive:
        raise NotApplicable("No request is declared sensitive.")
    after = site.target.step_up_after
    if not after:
        raise Unsure("Nothing says after which time a sign-in is too old: step_up_after.")
    if not site.can_wait(after + 2):
        raise Unsure(f"It takes {after:.0f} seconds to see: allow it with --wait.")
    for recipe in sensitive:
        change = Change(site, recipe)
        change.prove()
        change.browser = site.signed_in()
        site.clock.wait(after + 2, "step-up")
        verdict = _old_change(site, change)
        if verdict is not None:
            return verdict
    return passed("Refused until the password is given again; done right after a sign-in.")


def _old_change(site: Site, change: Change) -> Verdict | None:
    browser = change.browser
    if browser is None:
        raise Unsure("Nobody was signed in.")
    site.must_be_in(browser, "the session itself was over after that time.")
    try:
        draft = change.recipe.draft(browser, site.account)
    except Lost:
        return None  # the form is not even shown to an old sign-in
    reply = draft.send(browser)
    state = change.state()[0]
    if draft.nonce in state:
        return failed(f"{change.name} is done although the sign-in is old.", reply)
    return None


@check(
    "session-password-needs-old",
    "The password is not changed without the old one",
    "high",
    "ASVS 7.5.1, ASVS 6.2.3, CWE-620",
    why="Whoever gets hold of a session for a minute would own the account from then on.",
    how="Send the declared password change with a wrong old password, and sign in with the "
    "new one.",
    fix="step-up",
    order=81,
    covered_by=("trust-wrong-password",),
)
def needs_old(site: Site) -> Verdict:
    """The declared password change with a wrong old password changes nothing."""
    from strongroom.audit.target import Account

    from .ends import change_password, signs_in_with

    call = site.target.password_change
    if call is None:
        raise NotApplicable("The target file names no [password_change].")
    new = f"Audit-{site.nonce()}-{site.nonce()}!"
    site.network.secrets.add(new)
    browser = site.signed_in()
    recipe = Recipe(call, site.target.url)
    reply = change_password(site, recipe, browser, f"wrong-{site.nonce()}", new)
    if signs_in_with(site, new):
        account = Account(site.account.name, new)
        change_password(site, recipe, site.signed_in(account), new, site.account.password)
        if not signs_in_with(site, site.account.password):
            raise Unsure("The old password could not be set again: set it by hand.")
        return failed("The password was changed with a wrong old password.", reply)
    if not signs_in_with(site, site.account.password):
        raise Unsure("Neither password signs in after the attempt.")
    good = change_password(site, recipe, site.signed_in(), site.account.password, new)
    if not signs_in_with(site, new):
        raise Unsure(f"The honest change (answered {good.status}) did not work either.")
    change_password(site, recipe, site.signed_in(Account(site.account.name, new)), new,
                    site.account.password)  # fmt: skip
    return passed("A wrong old password is refused, the right one is not.", reply)
