"""Signing up, in and out, and confirming that it is you."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query
from starlette.responses import Response

from examples.bank.accounts import UsernameTaken
from examples.bank.desk import AtDesk, CurrentAccount, current_account, introduce
from examples.bank.forms import Filled, Text
from examples.bank.passwords import WrongPassword
from examples.bank.words import ENDED_HERE
from strongroom.integrations.fastapi import CurrentSession, safe_next

HOME = "/account"
CONFIRM = "/confirm"
WELCOME_CENTS = 100_00

WayOn = Annotated[str, Query(alias="next")]
PostedWayOn = Annotated[str, Form(alias="next")]
"""Where to go afterwards. Anybody can write such a link, so `safe_next` decides about it."""

router = APIRouter()


@router.get("/")
async def front(desk: AtDesk, session: CurrentSession) -> Response:
    return desk.go(HOME) if session.is_authenticated else desk.page("front.html")


@router.get("/sign-in")
async def sign_in_page(desk: AtDesk, session: CurrentSession, way_on: WayOn = HOME) -> Response:
    """Strongroom sends people here who are not signed in; they are told why, if it is known."""
    way_on = safe_next(way_on, HOME)
    if session.is_authenticated:
        return desk.go(way_on)
    ended = ENDED_HERE.get(session.ended_because) if session.ended_because else None
    form = Filled(username="", stay="")
    return desk.page("sign_in.html", form=form, next=way_on, ended=ended, remembers=desk.remembers)


@router.post("/sign-in")
async def sign_in(
    desk: AtDesk,
    session: CurrentSession,
    username: Text = "",
    password: Text = "",
    stay: Text = "",
    way_on: PostedWayOn = HOME,
) -> Response:
    """With `stay`, this browser is remembered where the policy allows it."""
    form = Filled(username=username, stay=stay)
    way_on = safe_next(way_on, HOME)
    found = await desk.accounts.named(form.values["username"].lower())
    try:
        async with session.authenticating(found.id if found else None):
            account = await desk.passwords.check(found, password)
            await session.sign_in(account.id, remember=bool(stay and desk.remembers))
    except WrongPassword:
        form.refuse("password", "Username and password do not belong together. Try again.")
        return desk.page("sign_in.html", 422, form=form, next=way_on, remembers=desk.remembers)
    introduce(session, account)
    return desk.go(way_on)


@router.get(CONFIRM, dependencies=[Depends(current_account)])
async def confirm_page(desk: AtDesk, way_on: WayOn = HOME) -> Response:
    """Strongroom sends people here whose sign-in is too long ago (the policy's step_up_path)."""
    return desk.page("confirm.html", form=Filled(), next=safe_next(way_on, HOME))


@router.post(CONFIRM)
async def confirm(
    desk: AtDesk,
    session: CurrentSession,
    account: CurrentAccount,
    password: Text = "",
    way_on: PostedWayOn = HOME,
) -> Response:
    """The password again: the session's token is replaced, and the sign-in counts as recent."""
    way_on = safe_next(way_on, HOME)
    try:
        async with session.authenticating(account.id):
            await desk.passwords.check(account, password)
            await session.elevate()
    except WrongPassword:
        form = Filled()
        form.refuse("password", "This is not your password. Try again.")
        return desk.page("confirm.html", 422, form=form, next=way_on)
    return desk.go(way_on, "Thank you. You will not be asked again for five minutes.")


@router.get("/sign-up")
async def sign_up_page(desk: AtDesk) -> Response:
    return desk.page("sign_up.html", form=Filled(username="", name="", email=""))


@router.post("/sign-up")
async def sign_up(
    desk: AtDesk,
    session: CurrentSession,
    username: Text = "",
    name: Text = "",
    email: Text = "",
    new_password: Text = "",
    again: Text = "",
) -> Response:
    form = Filled(username=username, name=name, email=email)
    full_name = form.text("name", "Enter your name, as it should stand on your account.")
    address = form.email()
    chosen = form.username()
    form.new_password(new_password, again, chosen)
    account = None
    if not form.errors:
        try:
            hashed = await desk.passwords.hash(new_password)
            account = await desk.accounts.create(chosen, full_name, address, hashed)
        except UsernameTaken:
            form.refuse("username", "Somebody else has this username. Choose another.")
    if account is None:
        return desk.page("sign_up.html", 422, form=form)
    await desk.accounts.move(
        None, account.id, WELCOME_CENTS, "Welcome", at=desk.clock(), reference=secrets.token_hex(8)
    )
    await session.sign_in(account.id)
    introduce(session, account)
    return desk.go(HOME, f"Welcome, {account.name}. A small gift is in your account.")


@router.post("/sign-out")
async def sign_out(desk: AtDesk, session: CurrentSession) -> Response:
    await session.sign_out()
    return desk.go("/signed-out")


@router.get("/signed-out")
async def signed_out(desk: AtDesk, session: CurrentSession) -> Response:
    return desk.go(HOME) if session.is_authenticated else desk.page("signed_out.html")
