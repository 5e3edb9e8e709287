"""Plausible records, credentials and ops, made without any key.

A store cannot tell them from real ones: it never sees a key or a token. Each function takes what
matters to the test by name and makes up the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from strongroom.core.credentials import ChangedBy, Credential
from strongroom.core.ops import End, HistoryEntry, Insert, Replace, Rotate, Shift, Touch
from strongroom.core.record import NO_EPOCH, NO_SUBJECT, EndReason, Header, Kind, Record
from strongroom.core.tokens import masked, shard_of_subject

from .clock import START
from .entropy import FixedEntropy

IDENTITY = bytes(range(16))
"""The store identity under which the made-up session ids hide their subjects' shards."""

MINUTE = 60_000
IDLE = 30 * MINUTE
KEEP = 24 * 60 * MINUTE

_fixed = FixedEntropy("records")


def a_subject_key(subject: str) -> bytes:
    """The 16 bytes under which a store knows a subject; the same for the same name."""
    return hashlib.blake2b(subject.encode(), digest_size=16, person=b"subject").digest()


def a_session_id(subject: str | None, entropy: Callable[[int], bytes] = _fixed) -> bytes:
    """A new id, which hides the subject's shard in a store of `IDENTITY`."""
    random = entropy(16)
    if subject is None:
        return random
    return masked(IDENTITY, shard_of_subject(a_subject_key(subject)), random)


def a_credential(
    *, now: int = START, entropy: Callable[[int], bytes] = _fixed, **fields: Any
) -> Credential:
    """The credential of a session that was just created; any field can be given."""
    made = Credential(
        generation=0, current=entropy(16), next=entropy(16), next_key_id=1, changed_at=now
    )
    return replace(made, **fields)


def a_renewed_credential(
    credential: Credential, *, now: int = START, entropy: Callable[[int], bytes] = _fixed
) -> Credential:
    """The credential after a renewal: its next token is the current one now."""
    return Credential(
        generation=credential.generation + 1,
        previous=credential.current,
        current=credential.next,
        next=entropy(16),
        next_key_id=credential.next_key_id,
        changed_at=now,
        changed_by=ChangedBy.RENEWAL,
    )


def a_record(
    *,
    subject: str | None = "alice",
    kind: Kind | None = None,
    now: int = START,
    session_id: bytes | None = None,
    data: bytes | None = None,
    envelope: bytes | None = None,
    tail: bytes = b"",
    entropy: Callable[[int], bytes] = _fixed,
    **header: Any,
) -> Record:
    """A live record as a sign-in would insert it: of nobody and anonymous without a subject.

    `header` names fields of `Header`; `credential` among them. `store_epoch` is zeros unless given,
    so that the store fills in its own.
    """
    if kind is None:
        kind = Kind.ANONYMOUS if subject is None else Kind.AUTHENTICATED
    fields: dict[str, Any] = {
        "credential": header.pop("credential", None) or a_credential(now=now, entropy=entropy),
        "revision": entropy(8),
        "data_version": entropy(8),
        "store_epoch": NO_EPOCH,
        "envelope_key_id": 1,
        "data_key_id": 1,
        "inserted_at": now,
        "last_seen": now,
        "idle_deadline": now + IDLE,
        "purge_at": now + KEEP,
        **header,
    }
    return Record(
        session_id=a_session_id(subject, entropy) if session_id is None else session_id,
        subject_key=NO_SUBJECT if subject is None else a_subject_key(subject),
        header=Header(kind=kind, **fields),
        envelope=entropy(120) if envelope is None else envelope,
        data=entropy(40) if data is None else data,
        tail=tail,
    )


def an_insert(record: Record, **fields: Any) -> Insert:
    """Add the record now, without an epoch or a limit unless given."""
    return replace(Insert(record, now=record.header.inserted_at), **fields)


def a_touch(
    record: Record, *, later: int = MINUTE, entropy: Callable[[int], bytes] = _fixed
) -> Touch:
    """Activity that many milliseconds after the last."""
    header = record.header
    return Touch(
        session_id=record.session_id,
        revision=entropy(8),
        seen_at=header.last_seen + later,
        idle_deadline=header.idle_deadline + later,
        purge_at=header.purge_at + later,
    )


def a_shift(record: Record, *, entropy: Callable[[int], bytes] = _fixed, **fields: Any) -> Shift:
    """A renewal of the record's credential as it is now."""
    credential = record.header.credential
    made = Shift(
        session_id=record.session_id,
        revision=entropy(8),
        expected=credential.current,
        credential=a_renewed_credential(credential, now=credential.changed_at, entropy=entropy),
    )
    return replace(made, **fields)


def a_rotate(record: Record, *, entropy: Callable[[int], bytes] = _fixed, **fields: Any) -> Rotate:
    """A rotation of the record as it is now: fresh credential and envelope, the same kind."""
    header = record.header
    made = Rotate(
        session_id=record.session_id,
        revision=entropy(8),
        expected=header.credential.current,
        credential=a_credential(
            now=header.last_seen,
            entropy=entropy,
            generation=((header.credential.generation >> 20) + 1) << 20,
            changed_by=ChangedBy.ROTATION,
        ),
        kind=header.kind,
        envelope=entropy(120),
        envelope_key_id=(header.envelope_key_id + 1) % 256,
        seen_at=header.last_seen + MINUTE,
        idle_deadline=header.idle_deadline + MINUTE,
        purge_at=header.purge_at + MINUTE,
    )
    return replace(made, **fields)


def a_replace(
    record: Record, *, entropy: Callable[[int], bytes] = _fixed, **fields: Any
) -> Replace:
    """A save of other data over the record as it is now."""
    made = Replace(
        session_id=record.session_id,
        revision=entropy(8),
        expected=record.header.data_version,
        data_version=entropy(8),
        data=entropy(40),
        data_key_id=(record.header.data_key_id + 1) % 256,
    )
    return replace(made, **fields)


def an_end(record: Record, *, entropy: Callable[[int], bytes] = _fixed, **fields: Any) -> End:
    """A sign-out of the record."""
    made = End(
        session_id=record.session_id,
        revision=entropy(8),
        reason=EndReason.LOGOUT,
        at=record.header.last_seen,
        purge_at=record.header.last_seen + KEEP,
    )
    return replace(made, **fields)


def an_entry(
    subject: str = "alice",
    *,
    at: int = START,
    entropy: Callable[[int], bytes] = _fixed,
    **fields: Any,
) -> HistoryEntry:
    """A sealed event of the subject's history."""
    made = HistoryEntry(a_subject_key(subject), at, at + KEEP, sealed=entropy(60), key_id=1)
    return replace(made, **fields)
