"""What every view has at hand: the bank, the visitor's session, and how to answer.

Answers to forms are redirects (303), so that a reload sends nothing twice. What is to be said on
the next page waits in the session data.
"""

from __future__ import annotations

from collections.abc import Callable
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

from . import words
from .accounts import Account, Accounts
from .attacks.stage import Stage
from .passwords import Passwords

RECENT = timedelta(minutes=5)
"""How old a sign-in may be that guards changes to the account and to other sessions (ASVS 7.5)."""

templates = Jinja2Templates(Path(__file__).parent / "templates", context_processors=[csrf_context])
templates.env.trim_blocks = templates.env.lstrip_blocks = True
templates.env.filters["ago"] = words.ago
templates.env.filters["counted"] = words.counted
templates.env.filters["euros"] = words.euros
templates.env.filters["status"] = words.status
templates.env.filters["local"] = lambda moment: moment.astimezone()


@dataclass(frozen=True, slots=True)
class Bank:
    """What the application is made of. It stands in `app.state.bank`."""

    accounts: Accounts
    passwords: Passwords
    clock: Callable[[], int]
    stage: Stage | None
    """Where attacks are played: with the development policy only."""
    remembers: timedelta | None
    """How long a browser can be remembered; None where the policy has no persistent logins."""


class Desk:
    """One visitor at the desk."""

    def __init__(self, request: Request, session: CurrentSession) -> None:
        bank: Bank = request.app.state.bank
        self.accounts, self.passwords, self.clock = bank.accounts, bank.passwords, bank.clock
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
        return templates.TemplateResponse(self._request, template, context, status_code=status)

    def go(self, path: str, said: str | None = None) -> Response:
        """On to another page, where something is said."""
        if said is not None:
            self._session["said"] = said
        return RedirectResponse(path, status_code=303)


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

SignedInToday = Depends(require_recent_sign_in(max_age=timedelta(hours=12)))
"""For routes that move money: a browser that was only remembered is asked for the password."""

RecentSignIn = Depends(require_recent_sign_in(max_age=RECENT))
"""For routes that change how one signs in, or that end other sessions (ASVS 7.5.1, 7.5.2)."""


def introduce(session: Session, account: Account) -> None:
    """What pages say of whoever is signed in, so that it costs no look at the accounts."""
    session["name"] = account.name
    session["username"] = account.username
