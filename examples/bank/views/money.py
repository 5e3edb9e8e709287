"""The account, and moving money."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from examples.bank.accounts import Account, NotEnoughMoney
from examples.bank.desk import TODAY, AtDesk, CurrentAccount, Desk, SignedInToday
from examples.bank.forms import Filled, Text
from examples.bank.words import euros
from strongroom import Session
from strongroom.integrations.fastapi import CurrentSession

ACTION = "move money"
LARGE = 1_000_00
"""Cents from which a transfer is approved by itself (ASVS 7.5.3)."""
TOO_MUCH = "There is not that much in your account."

router = APIRouter()


@router.get("/account")
async def account_page(desk: AtDesk, account: CurrentAccount) -> Response:
    return desk.page(
        "account.html",
        account=account,
        balance=await desk.accounts.balance(account.id),
        entries=await desk.accounts.entries(account.id),
    )


@router.get("/move", dependencies=[SignedInToday])
async def move_page(desk: AtDesk, account: CurrentAccount) -> Response:
    form = Filled(to="", amount="", note="", reference=secrets.token_hex(8))
    balance = await desk.accounts.balance(account.id)
    return desk.page("move.html", form=form, balance=balance)


@router.post("/move", dependencies=[SignedInToday])
async def move(
    desk: AtDesk,
    session: CurrentSession,
    account: CurrentAccount,
    to: Text = "",
    amount: Text = "",
    note: Text = "",
    reference: Text = "",
) -> Response:
    form = Filled(to=to, amount=amount, note=note, reference=reference or secrets.token_hex(8))
    recipient = await desk.accounts.named(form.values["to"].lower())
    if not form.values["to"]:
        form.refuse("to", "Enter the username of whoever should get the money.")
    elif recipient is None:
        form.refuse("to", "Nobody here has this username. Check its spelling.")
    elif recipient.id == account.id:
        form.refuse("to", "This is your own account. Enter somebody else’s username.")
    cents = form.money("amount")
    message = form.text("note", "", optional=True)
    if cents > await desk.accounts.balance(account.id):
        form.refuse("amount", TOO_MUCH)
    if recipient is None or form.errors:
        balance = await desk.accounts.balance(account.id)
        return desk.page("move.html", 422, form=form, balance=balance)
    transfer: dict[str, Any] = {
        "to": recipient.username,
        "name": recipient.name,
        "cents": cents,
        "note": message,
        # A reference belongs to one sender, so that nobody's can get in anybody's way.
        "reference": f"{account.id}:{form.values['reference'][:64]}",
    }
    if cents < LARGE:
        return desk.go("/account", await carry_out(desk, session, account, transfer))
    if await desk.factors.of(account.id):
        approval = await session.ask_approval(ACTION, transfer, acr="aal2", max_age=TODAY)
    else:
        approval = await session.ask_approval(ACTION, transfer, amr="pwd")
    return desk.go(f"/approve/{approval.approval_id}")


async def carry_out(
    desk: Desk, session: Session, account: Account, transfer: Mapping[str, Any]
) -> str:
    """Move the money -> what became of it, in a sentence."""
    recipient = await desk.accounts.named(transfer["to"])
    if recipient is None:
        return "Nobody was paid: that account is not kept here any more."
    cents, reference = transfer["cents"], transfer["reference"]
    try:
        await desk.accounts.move(
            account.id,
            recipient.id,
            cents,
            transfer["note"],
            at=desk.clock(),
            reference=reference,
        )
    except NotEnoughMoney:
        return f"Nobody was paid: {TOO_MUCH}"
    session.note("money_moved", cents=cents, to=recipient.username)
    return f"{euros(cents)} went to {recipient.name}."
