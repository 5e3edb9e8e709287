"""The account, and moving money."""

from __future__ import annotations

import secrets

from fastapi import APIRouter
from starlette.responses import Response

from examples.bank.accounts import NotEnoughMoney
from examples.bank.desk import AtDesk, CurrentAccount, SignedInToday
from examples.bank.forms import Filled, Text
from examples.bank.words import euros
from strongroom.integrations.fastapi import CurrentSession

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
    if recipient is not None and not form.errors:
        # A reference belongs to one sender, so that nobody's can get in anybody's way.
        once = f"{account.id}:{form.values['reference'][:64]}"
        try:
            await desk.accounts.move(
                account.id, recipient.id, cents, message, at=desk.clock(), reference=once
            )
            session.note("money_moved", cents=cents, to=recipient.username)
            return desk.go("/account", f"{euros(cents)} went to {recipient.name}.")
        except NotEnoughMoney:
            form.refuse("amount", "There is not that much in your account.")
    balance = await desk.accounts.balance(account.id)
    return desk.page("move.html", 422, form=form, balance=balance)
