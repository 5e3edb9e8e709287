"""Second factors: adding an app or a passkey, recovery codes, and taking any of them away.

Every change ends the other sessions (ASVS 7.4.3), and is allowed only to whoever has just proved
all that the account signs in with (ASVS 7.5.1).
"""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, Request
from starlette.responses import Response

from examples.bank import passkeys
from examples.bank.accounts import Account
from examples.bank.desk import AtDesk, CurrentAccount, Desk, RecentSignIn
from examples.bank.factors import WrongCode, app_address, new_secret
from examples.bank.forms import Filled, Text
from strongroom import Session
from strongroom.integrations.fastapi import CurrentSession

FACTORS = "/settings/factors"

router = APIRouter(prefix=FACTORS, dependencies=[RecentSignIn])


@router.get("")
async def factors_page(desk: AtDesk, session: CurrentSession, account: CurrentAccount) -> Response:
    """What there is. New recovery codes wait in the session, and are shown once."""
    codes = session.pop("codes", None) if "codes" in session else None
    return desk.page("factors.html", owned=await desk.factors.of(account.id), codes=codes)


@router.get("/app")
async def app_page(desk: AtDesk, session: CurrentSession, account: CurrentAccount) -> Response:
    """A new secret. Until the app has shown that it has it, it waits in the session, sealed."""
    if "secret" not in session:
        session["secret"] = new_secret()
    return _app(desk, session, account, Filled(code=""))


@router.post("/app")
async def add_app(
    desk: AtDesk, session: CurrentSession, account: CurrentAccount, code: Text = ""
) -> Response:
    form = Filled(code=code)
    try:
        async with session.authenticating(account.id):
            secret = session.get("secret", "")
            await desk.factors.keep_app(account.id, secret, form.values["code"], desk.clock())
            await _changed(desk, session, account, "factor_added", amr=["otp"])
    except WrongCode:
        form.refuse("code", "The app shows another code. Is its clock right?")
        return _app(desk, session, account, form)
    session.pop("secret", None)
    return desk.go(FACTORS, "From now on the app’s code is asked for when you sign in.")


@router.get("/passkey")
async def passkey_page(
    request: Request, desk: AtDesk, session: CurrentSession, account: CurrentAccount
) -> Response:
    return await _passkey(request, desk, session, account, Filled(name=""))


@router.post("/passkey")
async def add_passkey(
    request: Request,
    desk: AtDesk,
    session: CurrentSession,
    account: CurrentAccount,
    credential: Text = "",
    name: Text = "",
) -> Response:
    form = Filled(name=name)
    called = form.text("name", "", optional=True) or session.device
    if form.errors:
        return await _passkey(request, desk, session, account, form)
    try:
        site, now = passkeys.Site.of(request), desk.clock()
        async with session.authenticating(account.id):
            new = await passkeys.made(site, session, account, credential, called, now)
            await desk.factors.add_passkey(new)
            await _changed(desk, session, account, "factor_added", amr=passkeys.AMR)
    except passkeys.WrongPasskey:
        form.refuse("name", "No passkey was made. Try again.")
        return await _passkey(request, desk, session, account, form)
    return desk.go(FACTORS, "From now on this passkey is asked for when you sign in.")


@router.post("/remove")
async def remove(
    desk: AtDesk, session: CurrentSession, account: CurrentAccount, which: Text = ""
) -> Response:
    left = await desk.factors.remove(account.id, which)
    session.note("factor_removed")
    await session.credentials_changed()
    asked = "Your password and one of these" if left else "Your password alone"
    return desk.go(FACTORS, f"It is removed. {asked} will be asked for when you sign in.")


@router.post("/codes")
async def new_codes(desk: AtDesk, session: CurrentSession, account: CurrentAccount) -> Response:
    """For a sheet that was lost, or used up."""
    if await desk.factors.of(account.id):
        session["codes"] = await desk.factors.new_recovery_codes(account.id)
        session.note("recovery_codes_made")
    return desk.go(FACTORS)


async def _changed(
    desk: Desk, session: Session, account: Account, what: str, amr: Iterable[str]
) -> None:
    """The new factor was proved just now; whoever else is signed in did not prove it."""
    session.note(what)
    await session.credentials_changed(amr=amr)
    if not (await desk.factors.of(account.id)).recovery:
        session["codes"] = await desk.factors.new_recovery_codes(account.id)


def _app(desk: Desk, session: Session, account: Account, form: Filled) -> Response:
    secret = session.get("secret", "")
    groups = [secret[place : place + 4] for place in range(0, len(secret), 4)]
    address = app_address(secret, account.username) if secret else ""
    status = 422 if form.errors else 200
    return desk.page("app.html", status, form=form, secret=" ".join(groups), address=address)


async def _passkey(
    request: Request, desk: Desk, session: Session, account: Account, form: Filled
) -> Response:
    known = (await desk.factors.of(account.id)).passkeys
    site = passkeys.Site.of(request)
    options = passkeys.ask_for_new(site, session, account, known, desk.clock())
    status = 422 if form.errors else 200
    return desk.page("passkey.html", status, form=form, passkey=options)
