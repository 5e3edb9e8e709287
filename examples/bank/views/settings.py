"""Changing the e-mail address and the password: only after a recent sign-in."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from examples.bank.desk import RECENT, AtDesk, CurrentAccount, RecentSignIn
from examples.bank.forms import Filled, Text
from examples.bank.passwords import WrongPassword
from examples.bank.words import counted
from strongroom.integrations.fastapi import CurrentSession

router = APIRouter(prefix="/settings")


@router.get("")
async def settings_page(desk: AtDesk, session: CurrentSession, account: CurrentAccount) -> Response:
    """With the end of the window in which things can be changed, and a button that closes it."""
    await session.verify()
    owned = await desk.factors.of(account.id)
    until = session.privileged_until(max_age=RECENT, acr="aal2" if owned else None)
    return desk.page("settings.html", account=account, owned=owned, until=until)


@router.post("/done")
async def done(desk: AtDesk, session: CurrentSession) -> Response:
    session.require_sign_in()
    await session.end_privilege()
    return desk.go("/settings", "Before anything is changed here, you will be asked again.")


@router.get("/email", dependencies=[RecentSignIn])
async def email_page(desk: AtDesk, account: CurrentAccount) -> Response:
    return desk.page("email.html", form=Filled(email=account.email))


@router.post("/email", dependencies=[RecentSignIn])
async def change_email(
    desk: AtDesk, session: CurrentSession, account: CurrentAccount, email: Text = ""
) -> Response:
    form = Filled(email=email)
    address = form.email()
    if form.errors:
        return desk.page("email.html", 422, form=form)
    await desk.accounts.set_email(account.id, address)
    session.note("email_changed")
    return desk.go("/settings", f"From now on we write to {address}.")


@router.get("/password", dependencies=[RecentSignIn])
async def password_page(desk: AtDesk, account: CurrentAccount) -> Response:
    return desk.page("password.html", form=Filled(), account=account)


@router.post("/password", dependencies=[RecentSignIn])
async def change_password(
    desk: AtDesk,
    session: CurrentSession,
    account: CurrentAccount,
    password: Text = "",
    new_password: Text = "",
    again: Text = "",
) -> Response:
    """Whoever else is signed in may be the reason for the change, so they are signed out."""
    form = Filled()
    form.new_password(new_password, again, account.username)
    if form.errors:
        return desk.page("password.html", 422, form=form, account=account)
    try:
        async with session.authenticating(account.id):
            await desk.passwords.check(account, password)
            hashed = await desk.passwords.hash(new_password)
            await desk.accounts.set_password(account.id, hashed)
            ended = await session.credentials_changed(amr="pwd")
    except WrongPassword:
        form.refuse("password", "This is not your present password.")
        return desk.page("password.html", 422, form=form, account=account)
    others = "No other device was signed in."
    if ended:
        others = f"{counted(ended, 'other device')} {'was' if ended == 1 else 'were'} signed out."
    return desk.go("/settings", f"Your password is changed. {others}")
