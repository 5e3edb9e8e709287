"""The devices of a subject, and "this was not me": everything that one of them has ends.

A device is what one browser is: by the id of its device cookie, where it has one; else by its
persistent login, else by the session itself. Two browsers without an id are never taken for one,
however alike they look, because ending a device must not end somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from strongroom.core.events import DeviceDisowned, Event
from strongroom.core.footprints import known_from
from strongroom.core.ops import Flow, Found, ListSubject
from strongroom.core.record import EndReason, Identity
from strongroom.core.visit import Context

from .forgetting import end_family, end_login
from .histories import history
from .listing import LoginInfo, Report, SessionInfo, login_infos, moment, session_infos


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """One device as its owner sees it. Everything in it is safe to show, log and link (P5).

    `has_id` says that it is known by a device cookie, over sign-outs. `first_seen` goes back as far
    as the history does. `places` has the latest first, `sessions` and `logins` what is live.
    """

    device_id: str
    subject: str
    device: str
    has_id: bool
    current: bool
    first_seen: datetime
    last_seen: datetime
    address: str | None
    places: tuple[str, ...] = ()
    sessions: tuple[SessionInfo, ...] = ()
    logins: tuple[LoginInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class _Sight:
    """The device was seen."""

    at: datetime
    label: str
    address: str | None
    place: str | None = None


@dataclass(slots=True)
class _Gathered:
    """What is known of one device, as it is collected."""

    has_id: bool = False
    sights: list[_Sight] = field(default_factory=list[_Sight])
    sessions: list[SessionInfo] = field(default_factory=list[SessionInfo])
    logins: list[LoginInfo] = field(default_factory=list[LoginInfo])


def devices_of(
    ctx: Context, subject: str, *, current: bytes | None = None
) -> Flow[list[DeviceInfo]]:
    """The subject's devices: the current one first, then the most recently used.

    Those that have a live session or persistent login, and those with an id that the history
    knows, until their owner disowns them.
    """
    listed: tuple[Found, ...] = yield ListSubject(ctx.keys.subject_key(subject))
    told = yield from history(ctx, subject, ctx.policy.history_length)
    sessions = session_infos(ctx, subject, listed, current)
    live = [each for each in sessions if each.is_live]
    gathered = _gather(live, login_infos(ctx, subject, listed), told)
    devices = [_device(subject, name, each) for name, each in gathered.items()]
    devices.sort(key=lambda each: each.last_seen, reverse=True)
    devices.sort(key=lambda each: not each.current)
    return devices


def find_device(
    ctx: Context, subject: str, device_id: str, *, current: bytes | None = None
) -> Flow[DeviceInfo | None]:
    """The subject's device of that id. None where there is none, or it is another subject's."""
    devices = yield from devices_of(ctx, subject, current=current)
    return next((each for each in devices if each.device_id == device_id), None)


def end_device(
    ctx: Context, device: DeviceInfo, *, reason: EndReason, by: str | None = None
) -> Flow[Report]:
    """ "This was not me": end everything that the device has, and know it no more.

    Its persistent logins, its sessions, and what was handed over from them. The password that was
    used there is still right: have it changed.
    """
    subject, device_id = device.subject, device.device_id
    events: list[Event] = []
    for login in device.logins:
        events += yield from end_login(
            ctx, subject, bytes.fromhex(login.login_id), reason=reason, by=by
        )
    own = {bytes.fromhex(each.session_id) for each in device.sessions}

    def belongs(session_id: bytes, identity: Identity) -> bool:
        return session_id in own or (device.has_id and identity.device_id == device_id)

    events += yield from end_family(ctx, subject, belongs, reason=reason, by=by)
    if not events and not device.has_id:
        return Report(0)  # It had nothing any more, and nothing would know it again.
    disowned = DeviceDisowned(
        at=ctx.now(),
        subject=subject,
        device=device.device,
        device_id=device_id,
        ended=len(events),
        by=by,
    )
    return Report(len(events), (*events, disowned))


def _gather(
    live: Sequence[SessionInfo], logins: Iterable[LoginInfo], told: Sequence[Mapping[str, Any]]
) -> dict[str, _Gathered]:
    """Everything by the device that it belongs to, under the device's name.

    A persistent login and its sessions are never taken apart: the one would bring the others back.
    """
    gathered: dict[str, _Gathered] = {}
    with_id = {each.login_id: each.device_id for each in live if each.login_id and each.device_id}
    names: dict[str, str] = {}
    for login in logins:
        known = login.device_id or with_id.get(login.login_id)
        name = names[login.login_id] = known or login.login_id
        device = gathered.setdefault(name, _Gathered(known is not None))
        device.logins.append(login)
        for at in (login.created_at, login.last_used):
            device.sights.append(_Sight(at, login.device, login.address))
    for session in live:
        came_from = names.get(session.login_id or "")
        name = came_from or session.device_id or session.session_id
        device = gathered.setdefault(name, _Gathered(session.device_id is not None))
        device.sessions.append(session)
        for at in (session.created_at, session.last_seen):
            device.sights.append(_Sight(at, session.device, session.address, session.place))
    for seen, event in known_from(told):
        if seen.device and seen.succeeded:
            device = gathered.setdefault(seen.device, _Gathered(True))
            label, place = str(event.get("device", "")), seen.place.label or None
            device.sights.append(_Sight(moment(seen.at), label, event.get("address"), place))
    return gathered


def _device(subject: str, device_id: str, gathered: _Gathered) -> DeviceInfo:
    sights = sorted(gathered.sights, key=lambda each: each.at, reverse=True)
    return DeviceInfo(
        device_id=device_id,
        subject=subject,
        device=sights[0].label,
        has_id=gathered.has_id,
        current=any(each.current for each in gathered.sessions),
        first_seen=sights[-1].at,
        last_seen=sights[0].at,
        address=next((each.address for each in sights if each.address), None),
        places=tuple(dict.fromkeys(each.place for each in sights if each.place)),
        sessions=tuple(gathered.sessions),
        logins=tuple(gathered.logins),
    )
