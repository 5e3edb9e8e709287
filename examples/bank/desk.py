"""What every view has at hand: the bank, the visitor's session, and how to answer.

Answers to forms are redirects (303), so that a reload sends nothing twice. What is to be said on
the next page waits in the session data.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import RedirectResponse
from fastapi.templating import Jinja2Templates
from starlette.responses import Response

from strongroom import Session, SignInRequired
from strongroom.integrations.fastapi import (
    CurrentSession,
    csrf_context,
    require_recent_sign_in,
)

from . import passkeys, words
from .accounts import Account, Accounts
from .attacks.stage import Stage
from .factors import Factors, Owned, TooManyTries, WrongCode
from .forms import Filled
from .headers import WITH_SCRIPT
from .passwords import Passwords, WrongPassword

TODAY = timedelta(hours=12)
RECENT = timedelta(minutes=5)
"""How old a sign-in may be that guards changes to the account and to other sessions (ASVS 7.5)."""

templates = Jinja2Templates(Path(__file__).parent / "templates", context_processors=[csrf_context])
templates.env.trim_blocks = templates.env.lstrip_blocks = True
templates.env.filters["ago"] = words.ago
templates.env.filters["counted"] = words.counted
templates.env.filters["euros"] = words.euros
templates.env.filters["status"] = words.status
templates.env.filters["local"] = lambda moment: moment.astimezone()


Proof = tuple[str, ...] | None
"""The factors that were proved, or None; then the form says why."""


@dataclass(frozen=True, slots=True)
class Bank:
    """What the application is made of. It stands in `app.state.bank`."""

    accounts: Accounts
    passwords: Passwords
    factors: Factors
    clock: Callable[[], int]
    stage: Stage | None
    """Where attacks are played: with the development policy only."""
    remembers: timedelta | None
    """How long a browser can be remembered; None where the policy has no persistent logins."""


class Desk:
    """One visitor at the desk."""

    def __init__(self, request: Request, session: CurrentSession) -> None:
        bank: Bank = request.app.state.bank
        self.accounts, self.passwords, self.factors = bank.accounts, bank.passwords, bank.factors
        self.clock = bank.clock
        self.stage, self.remembers = bank.stage, bank.remembers
        self._request = request
        self._session = session

    @property
    def now(self) -> datetime:
        """The moment that it is, by the clock that sessions go by."""
        return datetime.fromtimestamp(self.clock() / 1000, UTC)

    def page(self, template: str, status: int = 200, **context: Any) -> Response:
        """A page, with what was to be said on it."""
        said = self._session.pop("said", None) if "said" in self._session else None
        context |= {"said": said, "now": self.now, "attacks_open": self.stage is not None}
        answer = templates.TemplateResponse(self._request, template, context, status_code=status)
        if context.get("passkey"):  # The options that the script hands to the browser.
            answer.headers["Content-Security-Policy"] = WITH_SCRIPT
        return answer

    def go(self, path: str, said: str | None = None) -> Response:
        """On to another page, where something is said."""
        if said is not None:
            self._session["said"] = said
        return RedirectResponse(path, status_code=303)

    # Proofs. Each is checked where it says why it is wrong; what it proves is an `amr` (RFC 8176).

    PASSKEY = passkeys.AMR

    async def check_password(self, account: Account, form: Filled, password: str) -> Proof:
        """The password again."""
        try:
            await self.passwords.check(account, password)
        except WrongPassword:
            form.refuse("password", "This is not your password. Try again.")
            return None
        return ("pwd",)

    async def check_second(
        self, request: Request, account: Account, form: Filled, credential: str, purpose: str
    ) -> Proof:
        """The app's code in the form, or a passkey's answer for this purpose."""
        if credential:
            return await self._check_passkey(request, account, form, credential, purpose)
        checking = self.factors.check_code(account.id, form.values["code"], self.clock())
        wrong = "This code is not right, or it was used already. Wait for the next one."
        return await self._check_code(checking, form, "code", wrong)

    async def check_recovery(self, account: Account, form: Filled) -> Proof:
        """A recovery code is something one has, and works once, as a one-time code does."""
        given = form.values["recovery"]
        checking = self.factors.check_recovery_code(account.id, given, self.clock())
        wrong = "This is not one of your recovery codes, or it was used already."
        return await self._check_code(checking, form, "recovery", wrong)

    def ask_for_passkey(self, request: Request, owned: Owned, purpose: str) -> str | None:
        """The options for the page's script, where the account has a passkey."""
        if not owned.passkeys:
            return None
        site = passkeys.Site.of(request)
        return passkeys.ask_for(site, self._session, owned.passkeys, purpose, self.clock())

    async def _check_passkey(
        self, request: Request, account: Account, form: Filled, credential: str, purpose: str
    ) -> Proof:
        known = (await self.factors.of(account.id)).passkeys
        site = passkeys.Site.of(request)
        try:
            passkey, count = await passkeys.used(
                site, self._session, known, credential, purpose, self.clock()
            )
        except passkeys.WrongPasskey:
            form.refuse("passkey", "This passkey did not show that it is you. Try again.")
            return None
        await self.factors.note_use(passkey, count)
        return passkeys.AMR

    async def _check_code(
        self, checking: Awaitable[None], form: Filled, name: str, wrong: str
    ) -> Proof:
        try:
            await checking
        except WrongCode:
            form.refuse(name, wrong)
            return None
        except TooManyTries:
            form.refuse(name, "Too many codes were wrong. Wait for five minutes, and try again.")
            return None
        return ("otp",)


AtDesk = Annotated[Desk, Depends()]


async def current_account(session: CurrentSession, desk: AtDesk) -> Account:
    """The account of whoever is signed in; everybody else gets the sign-in page, and comes back."""
    account = await desk.accounts.by_id(session.require_sign_in())
    if account is None:
        await session.sign_out()
        raise SignInRequired("This account is not kept here any more.")
    if "name" not in session:  # A remembered browser came back, with a session of its own.
        introduce(session, account)
    return account


CurrentAccount = Annotated[Account, Depends(current_account)]

SignedInToday = Depends(require_recent_sign_in(max_age=TODAY))
"""For routes that move money: a browser that was only remembered is asked for the password."""


async def require_all_factors(
    session: CurrentSession, account: CurrentAccount, desk: AtDesk
) -> str:
    """Everything that this account signs in with, proved within five minutes (ASVS 7.5.1)."""
    await session.verify()
    two = bool(await desk.factors.of(account.id))
    return session.require_recent_sign_in(max_age=RECENT, acr="aal2" if two else None)


RecentSignIn = Depends(require_all_factors)
"""For routes that change how one signs in, or that end other sessions (ASVS 7.5.1, 7.5.2)."""


def introduce(session: Session, account: Account) -> None:
    """What pages say of whoever is signed in, so that it costs no look at the accounts."""
    session["name"] = account.name
    session["username"] = account.username
