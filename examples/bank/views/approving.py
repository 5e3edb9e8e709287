"""Approving one transfer: who gets the money and how much, proved for, and moved once."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from examples.bank.accounts import Account
from examples.bank.desk import AtDesk, CurrentAccount
from examples.bank.forms import Filled, Text
from examples.bank.views.money import ACTION, carry_out
from strongroom.core.flows import Approval
from strongroom.integrations.fastapi import CurrentSession

router = APIRouter(prefix="/approve")


@router.get("/{number}")
async def approve_page(
    number: str, request: Request, desk: AtDesk, session: CurrentSession, account: CurrentAccount
) -> Response:
    approval = await session.approval(number)
    return await _show(request, desk, account, approval, Filled(code=""))


@router.post("/{number}")
async def approve(
    number: str,
    request: Request,
    desk: AtDesk,
    session: CurrentSession,
    account: CurrentAccount,
    password: Text = "",
    code: Text = "",
    credential: Text = "",
) -> Response:
    """The second factor, or the password where there is none, for this transfer and no other."""
    approval = await session.approval(number)
    form = Filled(code=code)
    async with session.authenticating(account.id):
        if await desk.factors.of(account.id):
            amr = await desk.check_second(request, account, form, credential, f"approve {number}")
        else:
            amr = await desk.check_password(account, form, password)
        if amr is not None:
            approval = await session.approve(number, amr=amr)
    if amr is None:
        return await _show(request, desk, account, approval, form)
    # What was shown is what is moved: it comes from the approval, and from nowhere else.
    transfer = await session.use_approval(number, ACTION)
    return desk.go("/account", await carry_out(desk, session, account, transfer))


async def _show(
    request: Request, desk: AtDesk, account: Account, approval: Approval, form: Filled
) -> Response:
    owned = await desk.factors.of(account.id)
    passkey = desk.ask_for_passkey(request, owned, f"approve {approval.approval_id}")
    status = 422 if form.errors else 200
    context = {"approval": approval, "form": form, "owned": owned, "passkey": passkey}
    return desk.page("approve.html", status, **context)
