"""The history of a subject: sealed events, kept for as long as the policy says, newest first."""

from __future__ import annotations

from typing import Any

from strongroom.core.data import is_dict
from strongroom.core.events import Event, LoginFailed
from strongroom.core.ops import Append, Flow, HistoryEntry, ReadHistory
from strongroom.core.visit import Context


def keep_history(ctx: Context, events: list[Event]) -> Flow[None]:
    """Store the events that concern a subject, sealed, for as long as the policy says (P17).

    Failed sign-ins, which anybody can cause, have room of their own: they push nothing else out.
    """
    if not ctx.policy.history_length:
        return
    told = [event for event in events if event.subject is not None]
    failed = [event for event in told if isinstance(event, LoginFailed)]
    rest = [event for event in told if not isinstance(event, LoginFailed)]
    if rest:
        entries = tuple(_entry(ctx, event, _EVENTS) for event in rest)
        yield Append(entries, ctx.policy.history_length)
    if failed:
        entries = tuple(_entry(ctx, event, _FAILURES) for event in failed)
        yield Append(entries, min(ctx.policy.history_length, _MOST_FAILURES))


def history(ctx: Context, subject: str, limit: int = 50) -> Flow[list[dict[str, Any]]]:
    """What happened to a subject, newest first. Entries under retired keys are left out."""
    told: list[dict[str, Any]] = []
    for drawer in (_EVENTS, _FAILURES):
        key = _drawer_key(ctx, subject, drawer)
        entries: tuple[HistoryEntry, ...] = yield ReadHistory(key, limit)
        told += [each for entry in entries if (each := _told(ctx, entry)) is not None]
    # Both came newest first, and sorting keeps that among events of one millisecond.
    told.sort(key=lambda each: -int(each["at"]))
    return told[:limit]


_EVENTS, _FAILURES = "", "\0failed"
_MOST_FAILURES = 50


def drawer_keys(ctx: Context, subject: str) -> tuple[bytes, ...]:
    """The names of all drawers of a subject; the first one is that of its records, too."""
    return tuple(_drawer_key(ctx, subject, drawer) for drawer in (_EVENTS, _FAILURES))


def _drawer_key(ctx: Context, subject: str, drawer: str) -> bytes:
    """The name under which a store knows one drawer of a subject's history."""
    return ctx.keys.subject_key(subject + drawer)


def _entry(ctx: Context, event: Event, drawer: str) -> HistoryEntry:
    key_id = ctx.keys.issuing
    subject_key = _drawer_key(ctx, event.subject or "", drawer)
    sealed = ctx.sealer.seal(
        ctx.keys.history[key_id],
        ctx.codec.encode(event.as_dict()),
        ctx.keys.binds["history"] + subject_key,
    )
    return HistoryEntry(subject_key, event.at, event.at + ctx.clocks.retention, sealed, key_id)


def _told(ctx: Context, entry: HistoryEntry) -> dict[str, Any] | None:
    key = ctx.keys.history.get(entry.key_id)
    bound = ctx.keys.binds["history"] + entry.subject_key
    plain = None if key is None else ctx.sealer.open(key, entry.sealed, bound)
    decoded = None if plain is None else ctx.codec.decode(plain)
    return decoded if is_dict(decoded) else None
