"""What happens when two requests meet: the part that no other tool tries.

A slow client is played by sending half of a body, letting the other thing happen, and sending the
rest. The server has read the session by then, and writes it afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from strongroom.audit.browser import Browser
from strongroom.audit.decode import dissect
from strongroom.audit.recipes import Draft, Lost, Recipe
from strongroom.audit.site import Site
from strongroom.audit.verdict import Unsure, Verdict, check, failed, passed, warned
from strongroom.audit.wire import Reply, Unreachable

_ROUNDS = 3
_LONGEST = 30.0


def _slow_request(site: Site) -> Recipe | None:
    """What writes into the session: what is named as slow, else the first declared change."""
    if site.target.slow is not None:
        return Recipe(site.target.slow, site.target.url)
    return site.plan.changes[0] if site.plan.changes else None


def _slowly(site: Site, browser: Browser, meanwhile: Callable[[], None]) -> Reply:
    """A request of this browser, in the middle of which the other thing happens."""
    recipe = _slow_request(site)
    if recipe is not None:
        try:
            draft = recipe.draft(browser, site.account)
        except Lost as error:
            raise Unsure(str(error)) from None
        return draft.send(browser, pause=meanwhile, follow=False)
    if not site.proof.view.is_page:
        return site.proof.ask(browser, pause=meanwhile, follow=False)
    body = b"x=1&y=" + b"z" * 64
    return browser.send("POST", site.proof.url, body=body, pause=meanwhile, follow=False,
                        content_type="application/x-www-form-urlencoded")  # fmt: skip


@check(
    "race-sign-out",
    "A slow request does not bring an ended session back",
    "high",
    "ASVS 7.4.1, CWE-362, CWE-613",
    why="A request that began before the sign-out writes the session back when it ends: signed out "
    "by sight, signed in for whoever has the cookie. Background requests do this by themselves.",
    how="Send half of a request that writes, sign out with the same session, send the other half; "
    "then a burst of requests around a sign-out; present the kept cookie.",
    fix="race",
    order=85,
    covered_by=("end-replay",),
)
def sign_out(site: Site) -> Verdict:
    """After a sign-out in the middle of a slow write, the kept cookie is refused."""
    _plainly(site)
    seen: list[Reply] = []
    for attempt in range(_ROUNDS):
        browser = site.signed_in()
        thief = browser.copy()
        site.must_be_in(thief, "the copied cookies were not signed in before the race.")
        leaving = browser.copy()
        if attempt == _ROUNDS - 1:
            _burst(site, browser, leaving)
        else:
            seen.append(_one_race(site, browser, leaving))
        held, reply = site.look(thief)
        broken = [each.status for each in leaving.trail if each.status >= 500]
        if held and broken:
            raise Unsure(
                f"The sign-out itself was answered with {broken[0]} while other requests were "
                "under way, so the session may never have been ended."
            )
        if held:
            return failed("A request that ended after the sign-out brought the session back.",
                          *seen[-1:], reply)  # fmt: skip
    if _slow_request(site) is None:
        raise Unsure(
            "The kept cookie is refused after each race, but no request that writes is named, so "
            "nothing shows that one was under way: name a [[change]], or [slow]."
        )
    return passed(
        "The kept cookie is refused after each race.", *seen[-1:], *site.network.replies[-1:]
    )


def _plainly(site: Site) -> None:
    """The control: without a race the sign-out ends the kept cookie. Raises: Unsure."""
    browser = site.signed_in()
    thief = browser.copy()
    site.must_be_in(thief, "the copied cookies were not signed in before the sign-out.")
    site.sign_out(browser)
    if site.is_in(thief):
        raise Unsure("Without a race the kept cookie outlives the sign-out as well.")


def _one_race(site: Site, browser: Browser, leaving: Browser) -> Reply:
    happened: list[bool] = []

    def meanwhile() -> None:
        site.sign_out(leaving)
        happened.append(True)

    reply = _slowly(site, browser, meanwhile)
    if not happened:
        raise Unsure("The server answered before the request was whole, so nothing raced.")
    return reply


def _burst(site: Site, browser: Browser, leaving: Browser) -> None:
    """Many requests at once, with the sign-out among them."""
    count = site.options.parallel
    drafts = _drafts(site, browser, count)
    ready = threading.Barrier(count + 1, timeout=_LONGEST)

    def ask(number: int) -> None:
        mine = browser.copy()
        ready.wait()
        try:
            if drafts and number % 2:
                drafts[number].send(mine, follow=False)
            else:
                site.proof.ask(mine)
        except Unreachable:
            return  # a server that is busy refuses; the race is about those it took

    def leave() -> None:
        ready.wait()
        site.sign_out(leaving)

    with ThreadPoolExecutor(count + 1) as pool:
        asked = [pool.submit(ask, number) for number in range(count)]
        left = pool.submit(leave)
        for each in [*asked, left]:
            each.result(_LONGEST * 2)


def _drafts(site: Site, browser: Browser, count: int) -> list[Draft]:
    recipe = _slow_request(site)
    if recipe is None:
        return []
    try:
        return [recipe.draft(browser, site.account) for _ in range(count)]
    except Lost:
        return []


@check(
    "race-rotation",
    "Parallel requests around a rotation keep the visitor signed in",
    "medium",
    "ASVS 7.2.4, CWE-362",
    why="A page with ten images asks ten things at once. If the token is replaced meanwhile "
    "and the "
    "answers arrive in another order, the browser is left with a dead one: people are signed out "
    "at random.",
    how="Sign in, send many requests at once with the same cookies, let the browser take every "
    "cookie that comes back in the order of arrival, and look whether it is still signed in.",
    fix="race-rotation",
    order=86,
)
def rotation(site: Site) -> Verdict:
    """After a burst of parallel requests the browser is signed in, whatever arrived last."""
    count = site.options.parallel
    for _ in range(_ROUNDS):
        browser = site.signed_in()
        ready = threading.Barrier(count, timeout=_LONGEST)

        def ask(
            _number: int, browser: Browser = browser, ready: threading.Barrier = ready
        ) -> Reply:
            # Each has the same jar: what arrives last stays, as in a real browser.
            mine = Browser(site.network, browser.jar, browser.agent)
            ready.wait()
            return site.proof.ask(mine)

        with ThreadPoolExecutor(count) as pool:
            replies = list(pool.map(ask, range(count)))
        refused = [each for each in replies if site.proof.judge(each) is False]
        held, reply = site.look(browser)
        if not held:
            return failed("The browser is signed out after a burst of parallel requests.", reply)
        if refused:
            return warned(f"{len(refused)} of {count} parallel requests were refused.", refused[0])
    return passed(
        f"{count} requests at once, {_ROUNDS} times: signed in each time.",
        *site.network.replies[-1:],
    )


@check(
    "race-sign-in",
    "Two sign-ins at once are two good sessions",
    "low",
    "ASVS 7.2.3, CWE-362",
    why="Sessions that are made in the same moment must not get the same token, nor end each other "
    "so that nobody is signed in.",
    how="Sign in with several separate browsers at once; compare the tokens, and look at each.",
    fix="race-rotation",
    order=87,
    covered_by=("token-static",),
)
def sign_in(site: Site) -> Verdict:
    """Parallel sign-ins get different tokens, and at least one of them is good."""
    count = min(4, site.options.parallel)
    main = site.essentials.main.name
    ready = threading.Barrier(count, timeout=_LONGEST)

    def enter(_number: int) -> Browser | None:
        from strongroom.audit.discovery import perform_sign_in

        mine = site.fresh()
        ready.wait()
        try:
            perform_sign_in(site.sign_in_recipe, mine, site.account)
        except (Lost, Unreachable):
            return None
        return mine

    with ThreadPoolExecutor(count) as pool:
        browsers = [each for each in pool.map(enter, range(count)) if each is not None]
    alive = [each for each in browsers if site.is_in(each)]
    values = [cookie.value for each in alive if (cookie := each.jar.find(main)) is not None]
    is_content = dissect(site.essentials.main.value).kind in ("jwt", "signed")
    if len(set(values)) < len(values) and not is_content:
        return failed("Two sign-ins at the same moment got the same token.")
    if not alive:
        site.signed_in()
        return warned(f"Of {count} sign-ins at the same moment none is signed in.")
    return passed(f"{len(alive)} of {count} are signed in, each with a token of its own.")
