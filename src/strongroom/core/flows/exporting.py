"""Everything that is kept of one person, as plain values: for the right of access."""

from __future__ import annotations

from typing import Any

from strongroom.core.errors import UnreadableRecord
from strongroom.core.ops import Flow, Found, ListSubject
from strongroom.core.record import Identity, Record
from strongroom.core.visit import Context

from .histories import history

_EVERYTHING = 1_000_000


def export_subject(ctx: Context, subject: str) -> Flow[dict[str, Any]]:
    """The subject's sessions and persistent logins, live and ended, and the history.

    Moments are milliseconds UTC. No secret is in it, nor what the application keeps in sessions:
    that is sealed under the visitor's own token, so only its size is told (P4). `unreadable` counts
    what is filed under the subject and cannot be read, so that nothing is left out in silence.
    """
    listed: tuple[Found, ...] = yield ListSubject(ctx.keys.subject_key(subject))
    kept: list[dict[str, Any]] = []
    unreadable = 0
    for found in listed:
        try:
            identity = ctx.open_identity(found.record)
        except UnreadableRecord:
            identity = None
        if identity is None:
            unreadable += 1
        elif identity.subject == subject:  # the index is in the clear, and can be forged
            reason = ctx.over(found.record.header, identity, ctx.now(), found.store_epoch)
            kept.append(_as_kept(found.record, identity) | {"end_reason": reason and reason.value})
    events = yield from history(ctx, subject, _EVERYTHING)
    return {"subject": subject, "records": kept, "unreadable": unreadable, "history": events}


def _as_kept(record: Record, identity: Identity) -> dict[str, Any]:
    device, header = identity.device, record.header
    place = identity.circumstances.place.as_list()
    return {
        "id": record.session_id.hex(),
        "kind": identity.kind.name.lower(),
        "created_at": identity.created_at,
        "last_seen": header.last_seen,
        "idle_deadline": header.idle_deadline,
        "absolute_deadline": identity.absolute_deadline,
        "kept_until": header.purge_at,
        "ended_at": header.ended_at or None,
        "factors": [{"amr": each.amr, "at": each.at} for each in identity.events],
        "device": device.label,
        "agent": device.agent,
        "platform": device.platform,
        "network": device.network,
        "device_id": identity.device_id or None,
        "address": identity.address,
        "place": identity.place,
        "circumstances": {"version": identity.circumstances.version, "place": place},
        "login_id": None if identity.login is None else identity.login.login_id.hex(),
        "data_bytes": len(record.data),
    }
