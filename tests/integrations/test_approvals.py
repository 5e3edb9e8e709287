"""Approving one transaction over HTTP: by people and by programs (ASVS 7.5.3, RFC 9470)."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from strongroom import SessionPolicy
from strongroom.core.events import ApprovalRefusedEvent, ApprovalUsed
from tests.support.browser import Browser
from tests.support.site import MINUTE, MakeSite, Site

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bank(new_site: MakeSite) -> Site:
    """A site that carries a transfer out once it was approved with a one-time password."""
    site = await new_site(policy=SessionPolicy(step_up_path="/approve"))

    @site.page("/transfer")
    async def transfer(call):
        details = {"to": call.query["to"], "cents": int(call.query["cents"])}
        approved = await call.session.require_approval(
            "transfer", details, call.query.get("approval"), amr="otp"
        )
        return f"sent {approved['cents']} to {approved['to']}"

    @site.page("/approve")
    async def approve(call):
        approval = await call.session.approval(call.query["approval"])
        if call.method == "POST":
            approval = await call.session.approve(approval.approval_id, amr=call.query["amr"])
        return [approval.details, approval.is_approved]

    @site.page("/ask")
    async def ask(call):
        approval = await call.session.ask_approval("close account", {"number": 7})
        return approval.approval_id

    @site.page("/close")
    async def close(call):
        return await call.session.use_approval(call.query["approval"], "close account")

    return site


WANTED = "/transfer?to=bob&cents=120000"


async def asked(browser: Browser) -> str:
    """A program is told which approval it needs."""
    told = await browser.fetch(WANTED, "POST")
    assert told.status == 401
    assert (told.json["code"], told.json["reason"]) == ("step_up_required", "not_approved")
    assert (told.json["amr_values"], told.json["owed"]) == (["otp"], [[["otp"]]])
    challenge = told.header("www-authenticate") or ""
    assert challenge.startswith('Bearer error="insufficient_user_authentication"')
    approval = told.json["approval"]
    assert isinstance(approval, str)
    return approval


async def test_a_program_is_told_approves_and_sends_again(bank: Site):
    """One proof for one transfer, once."""
    alice = await bank.signed_in()
    approval = await asked(alice)
    shown = (await alice.fetch(f"/approve?approval={approval}")).json
    assert shown == [{"to": "bob", "cents": 120_000}, False]
    assert (await alice.fetch(f"{WANTED}&approval={approval}", "POST")).status == 401
    given = await alice.fetch(f"/approve?approval={approval}&amr=otp", "POST")
    assert given.json == [{"to": "bob", "cents": 120_000}, True]
    sent = await alice.fetch(f"{WANTED}&approval={approval}", "POST")
    assert sent.json == "sent 120000 to bob"
    again = await alice.fetch(f"{WANTED}&approval={approval}", "POST")
    assert (again.status, again.json["code"]) == (403, "approval_refused")
    assert bank.only(ApprovalUsed).action == "transfer"
    assert bank.only(ApprovalRefusedEvent).reason == "used"


async def test_a_transfer_that_was_changed_after_approval_is_refused(bank: Site):
    """By a script in the page, or by whoever sits in between (PSD2's dynamic linking)."""
    alice = await bank.signed_in()
    approval = await asked(alice)
    await alice.fetch(f"/approve?approval={approval}&amr=otp", "POST")
    changed = f"/transfer?to=mallory&cents=120000&approval={approval}"
    assert (await alice.fetch(changed, "POST")).status == 403
    assert (await alice.fetch(f"{WANTED}&approval={approval}", "POST")).status == 403
    assert bank.told(ApprovalUsed) == []


async def test_an_approval_of_another_session_is_worth_nothing(bank: Site):
    """Neither a thief's nor the owner's own on another device."""
    alice, phone, mallory = [await bank.signed_in(who) for who in ("alice", "alice", "mallory")]
    approval = await asked(alice)
    await alice.fetch(f"/approve?approval={approval}&amr=otp", "POST")
    for other in (phone, mallory):
        assert (await other.fetch(f"/approve?approval={approval}")).status == 403
        assert (await other.fetch(f"{WANTED}&approval={approval}", "POST")).status == 403
    assert (await alice.fetch(f"{WANTED}&approval={approval}", "POST")).status == 200


async def test_an_approval_ends_when_everything_does(bank: Site):
    """Signing out everywhere takes what waits with it (P6)."""
    alice = await bank.signed_in()
    approval = await asked(alice)
    await alice.fetch(f"/approve?approval={approval}&amr=otp", "POST")
    await bank.manager.end_all_of("alice", by="operator")
    assert (await alice.fetch(f"{WANTED}&approval={approval}", "POST")).status == 401
    again = await bank.signed_in()
    assert (await again.fetch(f"{WANTED}&approval={approval}", "POST")).status == 403


async def test_it_is_too_late_after_five_minutes(bank: Site):
    """A page that was left open approves nothing."""
    alice = await bank.signed_in()
    approval = await asked(alice)
    bank.clock.advance(5 * MINUTE)
    late = await alice.fetch(f"/approve?approval={approval}&amr=otp", "POST")
    assert (late.status, late.json["code"]) == (403, "approval_refused")


async def test_people_go_to_the_page_that_shows_what_they_approve(bank: Site):
    """The way there names the approval."""
    alice = await bank.signed_in()
    sent = urlsplit((await alice.post(WANTED)).header("location") or "")
    assert sent.path == "/approve"
    query = parse_qs(sent.query)
    assert query["amr_values"] == ["otp"]
    shown = await alice.goto(f"/approve?approval={query['approval'][0]}")
    assert shown.json == [{"to": "bob", "cents": 120_000}, False]


async def test_asking_for_the_wrong_factor_helps_nothing(bank: Site):
    """A factor that is named must be the one (P25)."""
    alice = await bank.signed_in()
    approval = await asked(alice)
    given = await alice.fetch(f"/approve?approval={approval}&amr=pwd", "POST")
    assert given.json[1] is False
    told = await alice.fetch(f"{WANTED}&approval={approval}", "POST")
    assert (told.status, told.json["reason"]) == (401, "method_missing")


async def test_the_steps_by_themselves(bank: Site):
    """Asked for, approved, used: with any one factor where none is named."""
    alice = await bank.signed_in()
    approval = (await alice.fetch("/ask", "POST")).json
    assert (await alice.fetch(f"/close?approval={approval}", "POST")).status == 401
    await alice.fetch(f"/approve?approval={approval}&amr=pwd", "POST")
    assert (await alice.fetch(f"{WANTED}&approval={approval}", "POST")).status == 403
    approval = (await alice.fetch("/ask", "POST")).json
    await alice.fetch(f"/approve?approval={approval}&amr=pwd", "POST")
    assert (await alice.fetch(f"/close?approval={approval}", "POST")).json == {"number": 7}


async def test_nobody_approves_without_being_signed_in(bank: Site):
    """Half a sign-in approves nothing (ASVS 6.4.3)."""
    alice, half = await bank.signed_in(), bank.browser()
    approval = await asked(alice)
    await bank.sign_in(half, "alice", pending="1")
    for browser in (half, bank.browser()):
        for path in ("/ask", WANTED, f"/approve?approval={approval}&amr=otp"):
            told = await browser.fetch(path, "POST")
            assert (told.status, told.json["code"]) == (401, "sign_in_required")
