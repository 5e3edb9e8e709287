"""Signing up, in and out; in two steps, where the account has a second factor."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response

from examples.bank.accounts import UsernameTaken
from examples.bank.desk import AtDesk, introduce
from examples.bank.forms import Filled, Text
from examples.bank.passwords import WrongPassword
from examples.bank.words import ENDED_HERE, counted
from strongroom.integrations.fastapi import CurrentSession, safe_next

HOME = "/account"
SECOND = "/second"
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
            two = bool(await desk.factors.of(account.id))
            remember = bool(stay and desk.remembers)
            await session.sign_in(account.id, pending=two, remember=remember and not two)
    except WrongPassword:
        form.refuse("password", "Username and password do not belong together. Try again.")
        return desk.page("sign_in.html", 422, form=form, next=way_on, remembers=desk.remembers)
    if two:
        session["stay"], session["next"] = remember, way_on
        return desk.go(SECOND)
    introduce(session, account)
    return desk.go(way_on)


@router.get(SECOND)
async def second_page(request: Request, desk: AtDesk, session: CurrentSession) -> Response:
    """The password is right; whoever entered it is nobody here until the second factor is."""
    if session.pending_subject is None:
        return desk.go("/sign-in")
    return await _second(request, desk, session, Filled(code="", recovery=""))


@router.post(SECOND)
async def second(
    request: Request,
    desk: AtDesk,
    session: CurrentSession,
    code: Text = "",
    recovery: Text = "",
    credential: Text = "",
) -> Response:
    """A code, a passkey, or a recovery code completes the sign-in."""
    subject = session.pending_subject
    account = None if subject is None else await desk.accounts.by_id(subject)
    if account is None:
        return desk.go("/sign-in")
    form = Filled(code=code, recovery=recovery)
    way_on = HOME
    async with session.authenticating(account.id):
        if recovery:
            amr = await desk.check_recovery(account, form)
        else:
            amr = await desk.check_second(request, account, form, credential, "sign in")
        if amr is not None:
            stay, way_on = session.pop("stay", False), session.pop("next", HOME)
            await session.sign_in(account.id, amr=amr, remember=stay)
    if amr is None:
        return await _second(request, desk, session, form)
    introduce(session, account)
    if not recovery:
        return desk.go(safe_next(way_on, HOME))
    session.note("recovery_code_used")
    left = (await desk.factors.of(account.id)).recovery
    return desk.go("/settings/factors", f"That code is used up; {counted(left, 'code')} left.")


async def _second(
    request: Request, desk: AtDesk, session: CurrentSession, form: Filled
) -> Response:
    owned = await desk.factors.of(session.pending_subject or "")
    passkey = desk.ask_for_passkey(request, owned, "sign in")
    status = 422 if form.errors else 200
    return desk.page("second.html", status, form=form, owned=owned, passkey=passkey)


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
