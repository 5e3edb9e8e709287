"""Where you are signed in, and what happened."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from examples.bank.desk import AtDesk, CurrentAccount, RecentSignIn
from examples.bank.words import ENDED, FACTORS, counted, tell
from strongroom.core.flows.devices import DeviceInfo
from strongroom.integrations.fastapi import CurrentSession

ENDED_SHOWN = 8

router = APIRouter()


@router.get("/devices")
async def devices(desk: AtDesk, session: CurrentSession, account: CurrentAccount) -> Response:
    """Sessions, and remembered browsers: those that are open now are sessions, too."""
    sessions = await session.sessions(include_ended=True)
    logins = {each.login_id: each for each in await session.persistent_logins()}
    live = [each for each in sessions if each.is_live]
    ended = [each for each in sessions if not each.is_live]
    ended.sort(key=lambda each: each.ended_at or each.last_seen, reverse=True)
    open_now = {each.login_id for each in live}
    device_of: dict[str, DeviceInfo] = {}
    for device in await session.devices():
        device_of |= {each.session_id: device for each in device.sessions}
        device_of |= {each.login_id: device for each in device.logins}
    return desk.page(
        "devices.html",
        account=account,
        live=live,
        logins=logins,
        device_of=device_of,
        closed=[each for each in logins.values() if each.login_id not in open_now],
        ended=ended[:ENDED_SHOWN],
        reasons=ENDED,
        factors=FACTORS,
    )


@router.post("/devices/end-others", dependencies=[RecentSignIn])
async def end_others(desk: AtDesk, session: CurrentSession) -> Response:
    ended = await session.sign_out_others()
    if not ended:
        return desk.go("/devices", "No other device was signed in.")
    return desk.go("/devices", f"Signed out on {counted(ended, 'other device')}.")


@router.post("/devices/{session_id}/end", dependencies=[RecentSignIn])
async def end_one(desk: AtDesk, session: CurrentSession, session_id: str) -> Response:
    ended = await session.end_session(session_id)
    if not session.is_authenticated:
        return desk.go("/signed-out")
    said = "That device is signed out." if ended else "That device was signed out already."
    return desk.go("/devices", said)


@router.post("/devices/{device_id}/not-me", dependencies=[RecentSignIn])
async def not_me(desk: AtDesk, session: CurrentSession, device_id: str) -> Response:
    """Everything that the device has ends. Whoever used it knew the password."""
    if not await session.end_device(device_id):
        return desk.go("/devices", "That device has nothing any more.")
    if not session.is_authenticated:
        return desk.go("/signed-out")
    said = "Everything on that device is ended. Whoever used it knew your password: change it now."
    return desk.go("/password", said)


@router.get("/activity")
async def activity(desk: AtDesk, session: CurrentSession, account: CurrentAccount) -> Response:
    sessions = await session.sessions(include_ended=True)
    devices = {each.session_id: each.device for each in sessions}
    told = [tell(event, devices) for event in await session.history(limit=100)]
    return desk.page("activity.html", account=account, told=[each for each in told if each])
