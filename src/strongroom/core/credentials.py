"""The rotating credential: what a record remembers of its tokens, and what a presented one means.

Sessions and persistent logins share it. The record keeps the digests of the *previous*, the
*current* and the *next* token. `judge` is the table of PROTOCOL D as code: one row, one return.

It does not find the thief who follows every renewal silently (D4); nothing that lives in a cookie
alone can. He is bounded by the two clocks, by signals and by device binding.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from enum import Enum, IntEnum

from .tokens import (
    MAX_ROTATION,
    NO_DIGEST,
    Token,
    generation_of,
    renewal_of,
    rotation_of,
)

NEVER = 0
"""The time stamp of something that has not happened."""

HANDING_OUT = 4
"""How often `settle` fits into the time in which a successor that was used is handed out again.
Later it is so only for a session that nobody used for as long: otherwise a thief who went on with
the old token would put off its confirmation, and with it being found, for ever."""


class ChangedBy(IntEnum):
    """How the current token came to be."""

    CREATION = 0
    RENEWAL = 1
    ROTATION = 2


class Verdict(Enum):
    """What a presented token means. The value is the stable reason code."""

    CURRENT = "current"
    ADOPT = "adopt"
    SUCCESSOR = "successor"
    OVERLAP = "overlap"
    QUIET = "quiet"
    ROTATED_AWAY = "rotated_away"
    REUSE_RECENT = "reuse_recent"
    REUSE_STALE = "reuse_stale"
    MISMATCH = "mismatch"

    @property
    def accepted(self) -> bool:
        """Whether the request is in the session."""
        return self in _ACCEPTED

    @property
    def is_reuse(self) -> bool:
        """Whether an honest browser would not have done this (P12)."""
        return self in (Verdict.REUSE_RECENT, Verdict.REUSE_STALE)


CURRENT = Verdict.CURRENT
"""The usual verdict by a name of its own: asking an enumeration for a member costs 100 ns or so."""

_ACCEPTED = frozenset({Verdict.CURRENT, Verdict.ADOPT, Verdict.SUCCESSOR, Verdict.OVERLAP})


@dataclass(frozen=True, slots=True)
class Credential:
    """The digests and the moments that decide. Times are milliseconds UTC; `NEVER` is not yet."""

    generation: int
    current: bytes
    next: bytes
    next_key_id: int
    changed_at: int
    changed_by: ChangedBy = ChangedBy.CREATION
    previous: bytes = NO_DIGEST
    first_used_at: int = NEVER
    confirmed_at: int = NEVER


def create(token: Token, following: Token | None, now: int) -> Credential:
    """The credential of a new session or persistent login."""
    return Credential(
        generation=token.generation,
        current=token.digest,
        next=_digest(following),
        next_key_id=_key_id(following, token),
        changed_at=now,
    )


def renewed(credential: Credential, token: Token, following: Token | None, now: int) -> Credential:
    """`token` takes over from the current one, which goes on working for a moment (D1)."""
    return Credential(
        generation=token.generation,
        previous=credential.current,
        current=token.digest,
        next=_digest(following),
        next_key_id=_key_id(following, token),
        changed_at=now,
        changed_by=ChangedBy.RENEWAL,
    )


def rotated(token: Token, following: Token | None, now: int) -> Credential:
    """`token` takes over because privilege changed; the old one is dead at once (D2)."""
    return replace(create(token, following, now), changed_by=ChangedBy.ROTATION)


def first_used(credential: Credential, now: int) -> Credential:
    """The current token has come back from the client for the first time."""
    if credential.first_used_at != NEVER:
        return credential
    return replace(credential, first_used_at=now)


def confirmed(credential: Credential, now: int) -> Credential:
    """The current token is safely in the client's jar. A confirmation never moves (D1)."""
    if credential.confirmed_at != NEVER:
        return credential
    return replace(credential, confirmed_at=now)


def handed_out_again(credential: Credential, now: int, settle: int) -> Credential:
    """The client lost the successor and got it once more: it has to settle anew (D1).

    A request that was merely under way when the successor was first used changes nothing.
    """
    never_used = credential.first_used_at == NEVER
    if never_used or credential.confirmed_at != NEVER or not _may_be_lost(credential, now, settle):
        return credential
    return replace(credential, first_used_at=now)


def with_notes(known: Credential, noted: Credential) -> Credential:
    """Two notes of use of one token: neither undoes the other, a confirmation never moves (D1)."""
    if known.current != noted.current:
        return noted
    if known.confirmed_at != NEVER:
        return known
    return replace(noted, first_used_at=max(known.first_used_at, noted.first_used_at))


def next_rotation(generation: int) -> int | None:
    """The generation after a rotation, or None at the last number: sign in anew (D5)."""
    rotation = rotation_of(generation)
    return None if rotation >= MAX_ROTATION else generation_of(rotation + 1, 0)


def judge(credential: Credential, token: Token, now: int, grace: int, settle: int) -> Verdict:
    """What it means that this token is presented now (PROTOCOL, table D).

    `grace` is the longest delay of an honest request, `settle` the time until a cookie is safe in
    the client's jar, both in milliseconds. The token's tag has been checked, so its generation can
    be believed.
    """
    if token.generation == credential.generation:
        return CURRENT if _same(token.digest, credential.current) else Verdict.MISMATCH
    if token.generation > credential.generation:
        return _judge_newer(credential, token)
    if _is_previous_generation(credential, token):
        if not _same(token.digest, credential.previous):
            return Verdict.MISMATCH
        if credential.confirmed_at == NEVER:
            return _unconfirmed(credential, now, grace, settle)
        if now < credential.confirmed_at + grace:
            return Verdict.OVERLAP
    if now < credential.changed_at + grace:
        return Verdict.QUIET
    if credential.changed_by is ChangedBy.ROTATION and not _confirmed_for(credential, now, grace):
        return Verdict.QUIET
    if rotation_of(token.generation) < rotation_of(credential.generation):
        # The record does not remember how many renewals an earlier rotation had, so a token from
        # before one is never called theft: it is a signal, and ends nothing.
        return Verdict.ROTATED_AWAY
    if _is_previous_generation(credential, token):
        return Verdict.REUSE_RECENT
    return Verdict.REUSE_STALE


def confirmation_due(credential: Credential, now: int, settle: int) -> bool:
    """Whether a use of the current token now would confirm it (D1)."""
    return (
        credential.confirmed_at == NEVER
        and credential.first_used_at != NEVER
        and now >= credential.first_used_at + settle
    )


def renewal_allowed(credential: Credential, now: int, grace: int) -> bool:
    """Whether a renewal may start now: never before `grace` after the confirmation (D1)."""
    return _confirmed_for(credential, now, grace)


def _unconfirmed(credential: Credential, now: int, grace: int, settle: int) -> Verdict:
    """The previous token while the current one is not safe in the jar: a lost response, a crash."""
    lost_before_use = credential.first_used_at == NEVER
    under_way = now < credential.first_used_at + grace
    if lost_before_use or under_way or _may_be_lost(credential, now, settle):
        return Verdict.SUCCESSOR
    return Verdict.QUIET


def _may_be_lost(credential: Credential, now: int, settle: int) -> bool:
    """Whether a client that used the current token may have lost it: soon after, or after idling.

    See `HANDING_OUT`.
    """
    patience = HANDING_OUT * settle
    soon = now < credential.changed_at + patience
    return soon or now >= credential.first_used_at + patience


def _judge_newer(credential: Credential, token: Token) -> Verdict:
    """A generation above ours: the store lost an acknowledged renewal, or something is wrong."""
    follows = token.generation == credential.generation + 1 and renewal_of(token.generation) > 0
    known = credential.next != NO_DIGEST and _same(token.digest, credential.next)
    return Verdict.ADOPT if follows and known else Verdict.MISMATCH


def _is_previous_generation(credential: Credential, token: Token) -> bool:
    return (
        credential.changed_by is ChangedBy.RENEWAL and token.generation == credential.generation - 1
    )


def _confirmed_for(credential: Credential, now: int, grace: int) -> bool:
    return credential.confirmed_at != NEVER and now >= credential.confirmed_at + grace


def _same(one: bytes, other: bytes) -> bool:
    return hmac.compare_digest(one, other)


def _digest(token: Token | None) -> bytes:
    return NO_DIGEST if token is None else token.digest


def _key_id(following: Token | None, token: Token) -> int:
    return token.key_id if following is None else following.key_id
