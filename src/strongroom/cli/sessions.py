"""`strongroom sessions`: who is signed in where, what happened, and ending it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar, cast

from strongroom.core.errors import UsageError
from strongroom.core.flows.listing import SessionInfo
from strongroom.core.ops import Flow

from . import settings
from .output import DONE, NOTHING, Output, plain, rfc3339
from .parsing import Command

R = TypeVar("R")

_SESSION_ID = re.compile(r"[0-9a-fA-F]{32}")
_TOKEN_LENGTH = 84


def subject_options(parser: argparse.ArgumentParser) -> None:
    """The options of a command on one subject."""
    parser.add_argument(
        "subject", metavar="SUBJECT", help="the user's id, as the application has it"
    )
    settings.add_store(parser)


def _list_options(parser: argparse.ArgumentParser) -> None:
    subject_options(parser)
    parser.add_argument("--all", action="store_true", help="ended ones too, while they are kept")


def listing(options: argparse.Namespace, out: Output) -> int:
    """Where the subject is signed in."""
    subject = subject_of(options.subject)
    with settings.manager(options, out) as sessions:
        infos = sessions.sessions_of(subject, include_ended=options.all)
    document = {"subject": subject, "sessions": [_as_json(each) for each in infos]}
    if not infos:
        lines = [f"{plain(subject)} is not signed in anywhere."]
    else:
        headings = ("SESSION", "DEVICE", "ADDRESS", "SIGNED IN", "LAST SEEN", "STATE")
        rows = [
            (
                each.session_id,
                each.device,
                _where(each),
                out.when(each.created_at),
                out.near(each.last_seen),
                _state(each, out),
            )
            for each in infos
        ]
        lines = out.table(headings, rows)
    out.answer(document, lines)
    return DONE


def _one_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("session_id", metavar="SESSION_ID", help="its public id: 32 hex digits")
    settings.add_store(parser)


def show(options: argparse.Namespace, out: Output) -> int:
    """One session, live or ended."""
    session_id = _session_id(options.session_id)
    with settings.manager(options, out) as sessions:
        info = sessions.find_session(session_id)
    if info is None:
        return _no_such_session(session_id, out)
    rows = [
        ("session", info.session_id),
        ("subject", info.subject),
        ("state", _state(info, out)),
        ("signed in", _exactly(info.created_at, out)),
        ("last seen", _exactly(info.last_seen, out)),
        _end_of(info, out),
        ("how", " + ".join(info.factors) + (f" ({info.acr})" if info.acr else "")),
        ("remembered", "yes" if info.remembered else "no"),
        ("device", info.device),
        ("address", info.address),
        ("place", info.place),
    ]
    out.answer(_as_json(info), out.pairs(rows))
    return DONE


def _end_options(parser: argparse.ArgumentParser) -> None:
    _one_options(parser)
    settings.add_operator(parser)


def end(options: argparse.Namespace, out: Output) -> int:
    """End one session."""
    session_id = _session_id(options.session_id)
    with settings.manager(options, out) as sessions:
        info = sessions.find_session(session_id)
        if info is None:
            return _no_such_session(session_id, out)
        by = settings.operator(options, out)
        ended = sessions.end_session(info.subject, session_id, by=by)
    document = {"session_id": session_id, "subject": info.subject, "ended": ended}
    whose = plain(info.subject)
    said = f"Ended {session_id}, the session of {whose} on {plain(info.device)}."
    if not ended:
        said = (
            f"{session_id} of {whose} had ended already ({_state(info, out)}). Nothing was changed."
        )
    out.answer(document, [said])
    return DONE


def _end_all_options(parser: argparse.ArgumentParser) -> None:
    subject_options(parser)
    settings.add_operator(parser)


def end_all(options: argparse.Namespace, out: Output) -> int:
    """End every session of a subject."""
    subject = subject_of(options.subject)
    with settings.manager(options, out) as sessions:
        count = sessions.end_all_of(subject, by=settings.operator(options, out))
    lines = [f"Ended {_counted(count, 'session')} of {plain(subject)}."]
    if not count:
        lines = [
            f"{plain(subject)} had no live session.",
            "If you expected one, check the id: it must be the very text the application signs in.",
        ]
    lines.append("A sign-in of theirs that was under way cannot complete.")
    out.answer({"subject": subject, "ended": count}, lines)
    return DONE


def _everybody_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")
    settings.add_store(parser)
    settings.add_operator(parser)


def end_everybody(options: argparse.Namespace, out: Output) -> int:
    """Sign everybody out."""
    explanation = ["Every session in this store ends at once, and everybody must sign in again."]
    with settings.manager(options, out) as sessions:
        if not out.confirm("Sign everybody out?", explanation, yes=options.yes):
            return NOTHING
        by = settings.operator(options, out)
        sessions.end_everybody(by=by)
    document = {"ended": "everybody", "by": by, "at": rfc3339(out.world.clock())}
    out.answer(document, ["Everybody is signed out."])
    return DONE


def sweep(options: argparse.Namespace, out: Output) -> int:
    """Remove what may be forgotten."""
    from strongroom.core import flows
    from strongroom.drive import drive

    removed = 0

    def count(batch: int) -> None:
        nonlocal removed
        removed += batch
        out.progress(f"removed {removed:,} ...")

    with settings.manager(options, out) as sessions:
        try:
            total = drive(_watched(flows.sweep(sessions.context), count), sessions.store)
        finally:
            out.progress("")
    out.answer({"removed": total}, [f"Removed {_counted(total, 'thing')} that need not be kept."])
    return DONE


def _watched(flow: Flow[R], tell: Callable[[Any], None]) -> Flow[R]:
    """The same flow, and each answer of the store told on the way."""
    try:
        op = next(flow)
        while True:
            answer = yield op
            tell(answer)
            op = flow.send(answer)
    except StopIteration as done:
        result: R = done.value
        return result


def _history_options(parser: argparse.ArgumentParser) -> None:
    subject_options(parser)
    parser.add_argument(
        "--limit", type=_positive, default=50, metavar="N", help="at most this many (default: 50)"
    )


def history(options: argparse.Namespace, out: Output) -> int:
    """What happened to a subject's sessions, newest first."""
    subject = subject_of(options.subject)
    with settings.manager(options, out) as sessions:
        told = sessions.history(subject, options.limit)
    events = [{**event, "at": rfc3339(int(event["at"]))} for event in told]
    lines = [f"Nothing is kept about {plain(subject)}."]
    if told:
        headings = ("WHEN", "EVENT", "SESSION", "ADDRESS", "DEVICE", "DETAILS")
        rows = [
            (
                out.when(int(event["at"])),
                event.get("event"),
                event.get("session_id"),
                event.get("address"),
                event.get("device"),
                _details(event),
            )
            for event in told
        ]
        lines = out.table(headings, rows)
    out.answer({"subject": subject, "events": events}, lines)
    return DONE


_SHOWN_ELSEWHERE = frozenset(
    {"at", "event", "severity", "session_id", "subject", "address", "device", "seen", "evidence"}
)


def _details(event: dict[str, Any]) -> str | None:
    details = [
        f"{name}: {_told(value)}"
        for name, value in event.items()
        if name not in _SHOWN_ELSEWHERE and value is not False
    ]
    return ", ".join(details) or None


def _told(value: Any) -> str:
    match value:
        case list():
            return ", ".join(map(str, cast("list[object]", value)))
        case dict():
            named = cast("dict[object, object]", value)
            return ", ".join(f"{key}={each}" for key, each in named.items())
        case _:
            return str(value)


def subject_of(text: str) -> str:
    """The subject, if it can be one.

    Raises:
        UsageError: it is empty, as it is where a shell variable was not set.
    """
    if not text.strip():
        raise UsageError(
            "The subject is empty.",
            why="Nobody has that id, so it would look as if there was nothing to end.",
            hint="Give the user's id, as the application passes it to sign_in.",
        )
    return text


def _session_id(text: str) -> str:
    """The session id.

    Raises:
        UsageError: it is something else; if it may be a secret, it is not repeated.
    """
    if _SESSION_ID.fullmatch(text):
        return text.lower()
    if len(text) == _TOKEN_LENGTH:
        raise UsageError(
            "That looks like a session token (a cookie's value), not like a session id.",
            why="A token is a secret, and this one stands in your shell's history now.",
            hint="Find the session's id with: strongroom sessions list SUBJECT; and end it.",
        )
    raise UsageError(
        "That is not a session id.",
        why="An id is 32 hexadecimal digits.",
        hint="Find it with: strongroom sessions list SUBJECT",
    )


def _no_such_session(session_id: str, out: Output) -> int:
    return out.nothing(
        f"There is no signed-in session {session_id}.",
        why="It was never here, or it ended long ago and was forgotten, or its key was retired.",
        hint="See what a user has: strongroom sessions list SUBJECT --all",
    )


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 1_000_000):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000000")
    return int(text)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _state(info: SessionInfo, out: Output) -> str:
    if info.end_reason is None:
        return f"live, ends {out.near(info.expires_at)}"
    ago = "" if info.ended_at is None else f" {out.near(info.ended_at)}"
    return f"{info.end_reason.value}{ago}"


def _where(info: SessionInfo) -> str | None:
    return ", ".join(part for part in (info.address, info.place) if part) or None


def _end_of(info: SessionInfo, out: Output) -> tuple[str, str]:
    if info.is_live:
        return "ends if unused", _exactly(info.expires_at, out)
    return "ended", "-" if info.ended_at is None else _exactly(info.ended_at, out)


def _exactly(moment: datetime, out: Output) -> str:
    return f"{out.when(moment)} ({out.near(moment)})"


def _as_json(info: SessionInfo) -> dict[str, Any]:
    return {
        "session_id": info.session_id,
        "subject": info.subject,
        "live": info.is_live,
        "remembered": info.remembered,
        "device": info.device,
        "address": info.address,
        "place": info.place,
        "created_at": rfc3339(info.created_at),
        "last_seen": rfc3339(info.last_seen),
        "expires_at": rfc3339(info.expires_at),
        "factors": list(info.factors),
        "acr": info.acr,
        "ended_at": rfc3339(info.ended_at),
        "end_reason": None if info.end_reason is None else info.end_reason.value,
    }


COMMANDS = (
    Command(
        "sessions list",
        "Show where a user is signed in.",
        """Live sessions, the most recently used first. With --all also those that ended, with the
        reason, for as long as the policy keeps them. What browsers said of themselves is shown
        without control characters and markup.""",
        ("strongroom sessions list alice", "strongroom sessions list alice --all --json"),
        _list_options,
        listing,
    ),
    Command(
        "sessions show",
        "Show one session, live or ended.",
        """By its public id, as lists, logs and events have it. Never give a cookie's value to a
        command: it is a secret.""",
        ("strongroom sessions show 5b0c8d1e1f7f4d0a9c2b3e4f5a6b7c8d",),
        _one_options,
        show,
    ),
    Command(
        "sessions end",
        "End one session.",
        """It is over when the command returns: other processes see it at their next request, and no
        late write brings it back. Ending one that has ended changes nothing. Who did it stands in
        the user's history.""",
        ("strongroom sessions end 5b0c8d1e1f7f4d0a9c2b3e4f5a6b7c8d --by 'Support, ticket 123'",),
        _end_options,
        end,
    ),
    Command(
        "sessions end-all",
        "End all sessions of a user.",
        """For an account that somebody else may be in. A sign-in that is under way cannot complete;
        one that starts afterwards can, so disable the account first if it must stay out.""",
        ("strongroom sessions end-all alice",),
        _end_all_options,
        end_all,
    ),
    Command(
        "sessions end-everybody",
        "Sign everybody out, in one write.",
        """For an incident. It costs the same whether there are ten sessions or ten million. If a
        key leaked, that is not enough: retire the key (strongroom keys retire).""",
        ("strongroom sessions end-everybody --yes",),
        _everybody_options,
        end_everybody,
    ),
    Command(
        "sessions history",
        "Show what happened to a user's sessions, newest first.",
        """Sign-ins, sign-outs, ends and alarms, with the reason and who did it. How much is kept,
        and how long, is the policy's: history_length and history_retention.""",
        ("strongroom sessions history alice", "strongroom sessions history alice --limit 5"),
        _history_options,
        history,
    ),
    Command(
        "sessions sweep",
        "Remove what may be forgotten.",
        """Ended sessions and histories beyond their time. An application on an asynchronous
        framework does it by itself every ten minutes; for others, run this every now and then.
        Nothing ends by it, and it may be interrupted.""",
        ("strongroom sessions sweep",),
        settings.add_store,
        sweep,
    ),
)
