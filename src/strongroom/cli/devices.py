"""`strongroom devices`: a user's devices, and "this was not theirs"."""

from __future__ import annotations

import argparse
from typing import Any

from strongroom.core.flows.devices import DeviceInfo

from . import settings
from .output import DONE, Output, plain, rfc3339
from .parsing import Command
from .sessions import subject_of, subject_options


def listing(options: argparse.Namespace, out: Output) -> int:
    """The subject's devices."""
    subject = subject_of(options.subject)
    with settings.manager(options, out) as sessions:
        devices = sessions.devices_of(subject)
    document = {"subject": subject, "devices": [_as_json(each) for each in devices]}
    headings = ("ID", "DEVICE", "PLACES", "FIRST SEEN", "LAST SEEN", "SESSIONS", "REMEMBERED")
    rows = [
        (
            each.device_id,
            each.device,
            "; ".join(each.places) or each.address,
            out.when(each.first_seen),
            out.near(each.last_seen),
            len(each.sessions),
            "yes" if each.logins else "no",
        )
        for each in devices
    ]
    lines = out.table(headings, rows) if rows else [f"No device of {plain(subject)} is known."]
    out.answer(document, lines)
    return DONE


def _as_json(device: DeviceInfo) -> dict[str, Any]:
    return {
        "device_id": device.device_id,
        "device": device.device,
        "has_id": device.has_id,
        "first_seen": rfc3339(device.first_seen),
        "last_seen": rfc3339(device.last_seen),
        "address": device.address,
        "places": list(device.places),
        "sessions": [each.session_id for each in device.sessions],
        "persistent_logins": [each.login_id for each in device.logins],
    }


def _end_options(parser: argparse.ArgumentParser) -> None:
    subject_options(parser)
    parser.add_argument("device_id", metavar="DEVICE_ID", help="as `devices list` shows it")
    settings.add_operator(parser)


def end(options: argparse.Namespace, out: Output) -> int:
    """End everything that one device has."""
    subject, device_id = subject_of(options.subject), str(options.device_id)
    with settings.manager(options, out) as sessions:
        ended = sessions.end_device(subject, device_id, by=settings.operator(options, out))
    lines = [
        f"Ended everything that the device {plain(device_id)} of {plain(subject)} had.",
        "Whoever used it knew the password: have it changed.",
    ]
    if not ended:
        lines = [f"{plain(subject)} has no device {plain(device_id)}. Nothing was changed."]
    out.answer({"subject": subject, "device_id": device_id, "ended": ended}, lines)
    return DONE


COMMANDS = (
    Command(
        "devices list",
        "Show a user's devices, and what each one has.",
        """By the device cookie, where the browser has one; else each remembered browser and each
        session is a device of its own. First seen goes back as far as the history does.""",
        ("strongroom devices list alice",),
        subject_options,
        listing,
    ),
    Command(
        "devices end",
        "End everything that a device of a user has.",
        """For one that is not the user's: its sessions, its persistent logins, and what was handed
        over from them. At its next sign-in it counts as new.""",
        ("strongroom devices end alice 5b0c8d1e1f7f4d0a --by 'Support, ticket 123'",),
        _end_options,
        end,
    ),
)
