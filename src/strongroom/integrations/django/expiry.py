"""A session's own expiry: `set_expiry` and what Django answers about it.

It is kept in the data under Django's key. It only shortens what the policy allows, and the core
ends the session when it has passed (`flows.end_early`).
"""

from __future__ import annotations

# Django ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from strongroom.core import flows
from strongroom.core.ops import Flow
from strongroom.core.policy import ms
from strongroom.core.visit import Visit

EXPIRY_KEY = "_session_expiry"


def end_if_expired(visit: Visit) -> Flow[None]:
    """At a request's beginning: a session whose own expiry has passed is over."""
    if visit.record is None or EXPIRY_KEY not in visit.data:
        return
    value: Any = visit.data[EXPIRY_KEY]
    if isinstance(value, str):
        moment = _aware(datetime.fromisoformat(value))
        yield from flows.end_early(visit, until=int(moment.timestamp() * 1000))
    elif isinstance(value, int | float) and value:  # Zero is "with the browser", as always.
        yield from flows.end_early(visit, idle=int(max(value, 0) * 1000))


def kept(value: int | float | datetime | timedelta) -> int | float | str:
    """An expiry as it is kept in the data."""
    if isinstance(value, timedelta):
        moment: datetime = timezone.now() + value
        return moment.isoformat()
    return value.isoformat() if isinstance(value, datetime) else value


def age(visit: Visit, expiry: object, modification: datetime | None) -> int:
    """Seconds until the session expires if it is not used: its own expiry, or the policy's."""
    longest = ms(visit.ctx.policy.idle_timeout) // 1000
    if not expiry:
        return longest
    if isinstance(expiry, str):
        expiry = datetime.fromisoformat(expiry)
    if isinstance(expiry, int | float):
        return int(expiry)
    if not isinstance(expiry, datetime):
        return longest
    left: timedelta = expiry - (modification or _now_like(expiry))
    return left.days * 86400 + left.seconds


def date(visit: Visit, expiry: object, modification: datetime | None) -> datetime:
    """When the session expires if it is not used."""
    if isinstance(expiry, str):
        expiry = datetime.fromisoformat(expiry)
    if isinstance(expiry, datetime):
        return expiry
    start: datetime = timezone.now() if modification is None else modification
    return start + timedelta(seconds=age(visit, expiry, start))


def _now_like(expiry: datetime) -> datetime:
    """Now, with a time zone or without one, as what it is compared with."""
    now: datetime = timezone.now()
    if timezone.is_aware(now) and timezone.is_naive(expiry):
        now = timezone.make_naive(now)
    return now


def _aware(moment: datetime) -> datetime:
    """With a time zone. Without USE_TZ, Django's moments are those of the process's own clock."""
    if not timezone.is_naive(moment):
        return moment
    aware: datetime = timezone.make_aware(moment) if settings.USE_TZ else moment.astimezone()
    return aware
