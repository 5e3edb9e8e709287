"""Confirming that it is you: whatever the route that sent one here still misses, and no more."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from examples.bank.accounts import Account
from examples.bank.desk import AtDesk, CurrentAccount
from examples.bank.forms import Filled, Text
from examples.bank.views.signing import HOME, PostedWayOn, WayOn
from strongroom.core.stepup import Challenge
from strongroom.integrations.fastapi import CurrentSession, safe_next

CONFIRM = "/confirm"
ASKED = ("acr_values", "max_age", "amr_values", "amr_max_age")
"""What the address says of what is asked for; the form carries it on."""

router = APIRouter()


@router.get(CONFIRM)
async def confirm_page(
    request: Request,
    desk: AtDesk,
    session: CurrentSession,
    account: CurrentAccount,
    way_on: WayOn = HOME,
) -> Response:
    """Strongroom sends people here whose sign-in is not enough (the policy's step_up_path)."""
    await session.verify()
    asked = {name: request.query_params[name] for name in ASKED if name in request.query_params}
    challenge = session.asked(asked)
    return await _ask(request, desk, account, Filled(code=""), challenge, asked, way_on)


@router.post(CONFIRM)
async def confirm(
    request: Request,
    desk: AtDesk,
    session: CurrentSession,
    account: CurrentAccount,
    password: Text = "",
    code: Text = "",
    credential: Text = "",
    way_on: PostedWayOn = HOME,
) -> Response:
    """What was asked for: the session's token is replaced, and the proofs count as recent."""
    sent = await request.form()
    asked = {name: str(sent[name]) for name in ASKED if name in sent}
    challenge = session.asked(asked)
    form = Filled(code=code)
    proved: list[str] = []
    async with session.authenticating(account.id):
        if credential:
            proved += await desk.check_second(request, account, form, credential, "confirm") or ()
        else:
            fields = await _fields(desk, account, challenge)
            if "password" in fields:
                proved += await desk.check_password(account, form, password) or ()
            if "code" in fields and not form.errors:
                proved += await desk.check_second(request, account, form, "", "confirm") or ()
        if not proved:
            form.refuse("passkey", "Your passkey is needed for this.")
        if not form.errors:
            await session.elevate(amr=proved)
    if form.errors:
        return await _ask(request, desk, account, form, challenge, asked, way_on)
    return desk.go(
        safe_next(way_on, HOME), "Thank you. You will not be asked again for five minutes."
    )


async def _ask(
    request: Request,
    desk: AtDesk,
    account: Account,
    form: Filled,
    challenge: Challenge | None,
    asked: dict[str, str],
    way_on: str,
) -> Response:
    owned = await desk.factors.of(account.id)
    passkey = None
    if challenge is not None and challenge.would_do(desk.PASSKEY):
        passkey = desk.ask_for_passkey(request, owned, "confirm")
    return desk.page(
        "confirm.html",
        422 if form.errors else 200,
        form=form,
        fields=await _fields(desk, account, challenge),
        passkey=passkey,
        asked=asked,
        next=safe_next(way_on, HOME),
    )


async def _fields(desk: AtDesk, account: Account, challenge: Challenge | None) -> tuple[str, ...]:
    """The fields that together are enough, and as few as possible; a passkey needs none."""
    if challenge is None or challenge.would_do(["pwd"]):
        return ("password",)
    if not (await desk.factors.of(account.id)).app:
        return ()
    return ("code",) if challenge.would_do(["otp"]) else ("password", "code")
