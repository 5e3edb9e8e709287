"""The site under audit, as the checks use it: browsers, signing in and out, and what was learnt.

Every question that could be answered wrongly has its positive control here: `signed_in` looks that
the sign-in worked, `is_in` refuses to guess, `essentials` finds by trying which cookies sign in.
What is learnt once is kept, so that checks do not ask the site the same thing again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from .browser import AGENT, Browser, BudgetSpent, Network
from .discovery import Discovery, Plan, confirm_sign_out, perform_sign_in
from .jar import Cookie, Jar
from .proof import Proof
from .recipes import Lost, Recipe
from .target import Account, Target
from .verdict import NotApplicable, Unsure
from .wire import Reply, is_loopback


class Clock(Protocol):
    """The time of the site. In process it can be moved; over a network one has to wait."""

    travels: bool

    def now(self) -> float:
        """Seconds UTC."""
        ...

    def wait(self, seconds: float, why: str) -> None:
        """Let so much time pass."""
        ...


class RealClock:
    """This machine's clock; waiting takes as long as it takes."""

    travels = False

    def __init__(self, on_wait: Callable[[float, float, str], None] | None = None) -> None:
        self._on_wait = on_wait

    def now(self) -> float:
        """Seconds UTC."""
        return time.time()

    def wait(self, seconds: float, why: str) -> None:
        """Sleep, and tell every second how much is left."""
        start = time.monotonic()
        while (gone := time.monotonic() - start) < seconds:
            if self._on_wait is not None:
                self._on_wait(gone, seconds, why)
            time.sleep(min(1.0, seconds - gone))


@dataclass(frozen=True, slots=True)
class Options:
    """How far to go. `longest_wait` is seconds that a check may wait; `samples` tokens to "
    "collect."""

    samples: int = 200
    longest_wait: float = 0.0
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    parallel: int = 8
    raise_errors: bool = False


@dataclass(frozen=True, slots=True)
class Essentials:
    """Which cookies sign in. `needed`: without any one of them nobody is signed in. `alone`: each
    signs in by itself. `others` do not matter."""

    needed: tuple[str, ...]
    alone: tuple[str, ...]
    others: tuple[str, ...]
    jar: Jar = field(repr=False)
    evidence: tuple[Reply, ...] = field(default=(), repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all that authenticate."""
        return tuple(dict.fromkeys((*self.needed, *self.alone)))

    @property
    def cookies(self) -> list[Cookie]:
        """Them as the browser had them right after signing in."""
        return [each for each in self.jar if each.name in self.names]

    @property
    def judged(self) -> list[Cookie]:
        """The cookies whose attributes decide: all that are needed, else the best protected one."""
        needed = [each for each in self.cookies if each.name in self.needed]
        best = sorted(self.cookies, key=lambda c: (c.secure, c.http_only, bool(c.same_site)))
        return needed or best[-1:]

    @property
    def main(self) -> Cookie:
        """The one with the longest value: where there are several, that is the session's."""
        return max(self.cookies, key=lambda each: len(each.value))


class Site:
    """One audit's view of the site."""

    def __init__(
        self, target: Target, network: Network, options: Options, clock: Clock | None = None
    ) -> None:
        self.target, self.network, self.options = target, network, options
        self.clock: Clock = clock or RealClock()
        self.plan = Plan()
        self._essentials: Essentials | None = None
        self._no_essentials = ""
        self.failed: set[str] = set()
        """The checks that have failed so far: later ones need not find the same again."""
        self.shelf: dict[str, Any] = {}
        """What one check leaves for the others of its family."""
        for account in target.accounts:
            network.secrets.add(account.password)

    # Looking

    def discover(self) -> Plan:
        """Find what there is. Raises: Unreachable."""
        discovery = Discovery(self.target, self.fresh)
        self.plan = discovery.plan
        try:
            discovery.look()
        except BudgetSpent:
            self.plan.missing.append(
                "Looking at the site used up all requests that were allowed: see --budget."
            )
        return self.plan

    @property
    def secure(self) -> bool:
        """Whether the site is on https."""
        return self.target.url.startswith("https:")

    @property
    def on_this_machine(self) -> bool:
        """Plain http on loopback: a developer's own site, which browsers treat as trustworthy."""
        return not self.secure and is_loopback(self.target.url)

    # Browsers

    def fresh(self, agent: str = AGENT) -> Browser:
        """A browser that was never here."""
        return Browser(self.network, agent=agent)

    @property
    def account(self) -> Account:
        """Who signs in."""
        if self.target.user is None:
            raise Unsure("Nobody to sign in as was named.")
        return self.target.user

    @property
    def proof(self) -> Proof:
        """The page that shows who is signed in."""
        if self.plan.proof is None:
            raise Unsure(_missing(self.plan, "No page shows whether somebody is signed in."))
        return self.plan.proof

    @property
    def sign_in_recipe(self) -> Recipe:
        """How to sign in."""
        if self.plan.sign_in is None:
            raise Unsure(_missing(self.plan, "There is no way to sign in."))
        return self.plan.sign_in

    @property
    def sign_out_recipe(self) -> Recipe:
        """How to sign out."""
        if self.plan.sign_out is None:
            raise Unsure("No way to sign out was found; name it in the target file: [sign_out].")
        return self.plan.sign_out

    def sign_in(self, browser: Browser, account: Account | None = None) -> Reply:
        """Sign in with this browser, and look that it worked.

        Raises: Unsure if it did not.
        """
        account = account or self.account
        try:
            reply = perform_sign_in(self.sign_in_recipe, browser, account)
        except Lost as error:
            raise Unsure(str(error)) from None
        proof = self.proof
        seen = proof.ask(browser)
        if proof.marker == self.account.name:
            proof = replace(proof, marker=account.name)
        if not proof.judge(seen):
            raise Unsure(
                f"Signing in as {account.name} no longer works (answered {reply.status}, then "
                f"{seen.status} for {self.proof.url}): is there a limit on sign-ins?"
            )
        return reply

    def signed_in(self, account: Account | None = None, agent: str = AGENT) -> Browser:
        """A browser that has just signed in, and was seen to be. Raises: Unsure."""
        browser = self.fresh(agent)
        self.sign_in(browser, account)
        return browser

    def look(self, browser: Browser) -> tuple[bool, Reply]:
        """Whether this browser is signed in, and the page that says so. Raises: Unsure."""
        reply = self.proof.ask(browser)
        judged = self.proof.judge(reply)
        if judged is None:
            raise Unsure(
                f"{self.proof.url} answered {reply.status} and looked neither like a signed-in "
                "page nor like a refusal."
            )
        return judged, reply

    def is_in(self, browser: Browser) -> bool:
        """Whether this browser is signed in. Raises: Unsure."""
        return self.look(browser)[0]

    def must_be_in(self, browser: Browser, what: str) -> None:
        """The positive control: raise Unsure unless this browser is signed in."""
        if not self.is_in(browser):
            raise Unsure(f"The control did not hold: {what}")

    def sign_out(self, browser: Browser) -> Reply:
        """Sign out with this browser, confirming if that is asked for. Raises: Unsure."""
        recipe = self.sign_out_recipe
        try:
            reply = recipe.draft(browser, self.account).send(browser)
        except Lost:
            # The form may be on another page today.
            raise Unsure("The way to sign out is no longer where it was found.") from None
        return confirm_sign_out(browser, reply)

    # What signs in

    @property
    def essentials(self) -> Essentials:
        """Which cookies sign in, found by leaving them out. Raises: Unsure, NotApplicable."""
        if self._no_essentials:
            raise NotApplicable(self._no_essentials)
        if self._essentials is None:
            self._essentials = self._find_essentials()
        return self._essentials

    def _find_essentials(self) -> Essentials:
        browser = self.signed_in()
        jar = browser.jar.copy()
        names = jar.names()
        evidence: list[Reply] = []
        needed: list[str] = []
        for name in names:
            without = Browser(self.network, jar.copy())
            without.jar.drop(name)
            held, reply = self.look(without)
            evidence.append(reply)
            if not held:
                needed.append(name)
        alone: list[str] = []
        if not needed or len(needed) > 1:
            for name in names:
                only = Browser(self.network, jar.copy())
                only.jar.drop(*(each for each in names if each != name))
                if self.is_in(only):
                    alone.append(name)
        if not needed and not alone:
            self._no_essentials = (
                "No cookie signs in: the site keeps its session elsewhere, and browsers do not "
                "send it by themselves."
            )
            raise NotApplicable(self._no_essentials)
        matters = {*needed, *alone}
        others = tuple(each for each in names if each not in matters)
        return Essentials(tuple(needed), tuple(alone), others, jar, tuple(evidence))

    def can_wait(self, seconds: float) -> bool:
        """Whether so much time may be spent."""
        return self.clock.travels or seconds <= self.options.longest_wait

    def nonce(self) -> str:
        """Something that was never seen before."""
        return secrets.token_hex(4)


def _missing(plan: Plan, otherwise: str) -> str:
    return plan.missing[0] if plan.missing else otherwise
