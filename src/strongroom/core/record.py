"""What a store keeps for a session id: a clear header, a sealed identity, sealed data.

The **header** is a fixed layout of clocks, digests and revisions, which a store may compare and
copy. The **identity envelope** says whose session it is and how long it may live at most; it is
sealed by the server and bound to the session id, so whoever writes the database cannot change
either (P3). The **data** is sealed under a key that needs the token's root: unreadable without a
live request (P4).

A header may be longer than this release knows: the tail is kept as it is, so that the release
before a new format can run beside it (PROTOCOL C4).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Any

from .circumstances import NOTHING_KNOWN, Circumstances
from .credentials import NEVER, ChangedBy, Credential
from .errors import UnreadableRecord
from .sealing import Codec, Sealer, UnlockedKeys

FORMAT = 1
SUBJECT_KEY_BYTES = 16
NO_SUBJECT = bytes(SUBJECT_KEY_BYTES)
EPOCH_BYTES = 8
NO_EPOCH = bytes(EPOCH_BYTES)

_HEADER = struct.Struct(">BHBBBBBB8s8s8sI16s16s16s8q")
"""Format, length, kind, end reason, how changed, three key ids, revision, data version, epoch,
generation, three digests, and eight moments. Big-endian, no padding, so Lua can read it too."""


class Kind(IntEnum):
    """The four kinds of session, and three records that are never one: the grant that hands a
    session over, the persistent login, and the approval of one transaction."""

    ANONYMOUS = 0
    PENDING = 1
    AUTHENTICATED = 2
    REMEMBERED = 3
    HAND_OVER = 4
    PERSISTENT = 5
    APPROVAL = 6

    @property
    def is_session(self) -> bool:
        """Whether a session token can open it."""
        return self <= Kind.REMEMBERED

    @property
    def is_signed_in(self) -> bool:
        """Whether the session has a subject that the application may trust."""
        return self in _SIGNED_IN


_SIGNED_IN = (Kind.AUTHENTICATED, Kind.REMEMBERED)


class EndReason(StrEnum):
    """Why a session ended (P17). The names are stable: they stand in events and histories."""

    LOGOUT = "logout"
    IDLE = "idle_timeout"
    ABSOLUTE = "absolute_timeout"
    REVOKED = "revoked_by_owner"
    OPERATOR = "revoked_by_operator"
    EVERYWHERE = "signed_out_everywhere"
    REUSE = "token_reuse"
    EVICTED = "evicted_by_limit"
    SUPERSEDED = "superseded_by_sign_in"
    ABORTED = "aborted_response"
    CREDENTIAL = "credential_changed"
    DISABLED = "account_disabled"
    POLICY = "policy"
    STORE_RESET = "all_sessions_ended"
    REDEEMED = "handed_over"
    SIGNAL = "suspicious_use"
    USED = "approval_used"
    VOIDED = "approval_voided"

    @property
    def number(self) -> int:
        """Its byte in the header; zero means live. New reasons are added at the end."""
        return _REASONS.index(self) + 1


_REASONS: tuple[EndReason, ...] = tuple(EndReason)
_KINDS: tuple[Kind, ...] = tuple(Kind)
_CHANGES: tuple[ChangedBy, ...] = tuple(ChangedBy)


@dataclass(frozen=True, slots=True)
class AuthenticationEvent:
    """One proof of a factor: an `amr` value of RFC 8176 and its moment (ms UTC)."""

    amr: str
    at: int


@dataclass(frozen=True, slots=True)
class Device:
    """Where a session is used from, as far as the client said. Nothing here is trusted.

    `label` is for people; `agent`, `platform` and `network` are the coarse print that tells two
    clients apart.
    """

    label: str = "Unknown device"
    agent: str = ""
    platform: str = ""
    network: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """The clear part. Moments are milliseconds UTC, `NEVER` is not yet.

    `revision` is new with every write and fences caches; `data_version` is what a save compares.
    Both are random, so that a failover cannot repeat one. `purge_at` is housekeeping only.
    """

    kind: Kind
    credential: Credential
    revision: bytes
    data_version: bytes
    store_epoch: bytes
    envelope_key_id: int
    data_key_id: int
    inserted_at: int
    last_seen: int
    idle_deadline: int
    purge_at: int
    end_reason: EndReason | None = None
    ended_at: int = NEVER
    format: int = FORMAT

    @property
    def is_live(self) -> bool:
        """Whether nobody has ended it. The clocks are judged elsewhere."""
        return self.end_reason is None

    def encode(self, tail: bytes = b"") -> bytes:
        """The header's bytes, with what a newer release put behind them."""
        c = self.credential
        return (
            _HEADER.pack(
                self.format,
                _HEADER.size + len(tail),
                self.kind,
                0 if self.end_reason is None else self.end_reason.number,
                c.changed_by,
                c.next_key_id,
                self.envelope_key_id,
                self.data_key_id,
                self.revision,
                self.data_version,
                self.store_epoch,
                c.generation,
                c.previous,
                c.current,
                c.next,
                c.changed_at,
                c.first_used_at,
                c.confirmed_at,
                self.inserted_at,
                self.last_seen,
                self.idle_deadline,
                self.purge_at,
                self.ended_at,
            )
            + tail
        )


@lru_cache(maxsize=1024)
def decode_header(raw: bytes) -> tuple[Header, bytes]:
    """The header, and the tail that this release does not know.

    The same bytes are decoded once: a store that has to be asked each time gives them again and
    again, and there is no secret in them.

    Raises:
        UnreadableRecord: too short, of a format after the next, or with values out of range.
    """
    if len(raw) < _HEADER.size or raw[0] not in (FORMAT, FORMAT + 1):
        raise unreadable("its header is cut off or of a format that this release does not know")
    if int.from_bytes(raw[1:3], "big") != len(raw):
        raise unreadable("its header is not as long as it says")
    (
        format_,
        _length,
        kind,
        reason,
        changed_by,
        next_key_id,
        envelope_key_id,
        data_key_id,
        revision,
        data_version,
        store_epoch,
        generation,
        previous,
        current,
        following,
        changed_at,
        first_used_at,
        confirmed_at,
        inserted_at,
        last_seen,
        idle_deadline,
        purge_at,
        ended_at,
    ) = _HEADER.unpack_from(raw)
    try:
        credential = Credential(
            generation=generation,
            current=current,
            next=following,
            next_key_id=next_key_id,
            changed_at=changed_at,
            changed_by=_CHANGES[int(changed_by)],
            previous=previous,
            first_used_at=first_used_at,
            confirmed_at=confirmed_at,
        )
        header = Header(
            kind=_KINDS[int(kind)],
            credential=credential,
            revision=revision,
            data_version=data_version,
            store_epoch=store_epoch,
            envelope_key_id=envelope_key_id,
            data_key_id=data_key_id,
            inserted_at=inserted_at,
            last_seen=last_seen,
            idle_deadline=idle_deadline,
            purge_at=purge_at,
            end_reason=None if reason == 0 else _REASONS[int(reason) - 1],
            ended_at=ended_at,
            format=format_,
        )
    except (ValueError, IndexError) as error:
        raise unreadable("its header holds a value that no release writes") from error
    return header, raw[_HEADER.size :]


@dataclass(frozen=True, slots=True)
class Record:
    """A session as a store keeps it: `envelope` and `data` sealed, `tail` a newer release's."""

    session_id: bytes
    subject_key: bytes
    header: Header
    envelope: bytes = field(repr=False)
    data: bytes = field(default=b"", repr=False)
    tail: bytes = field(default=b"", repr=False)

    @property
    def is_live(self) -> bool:
        """Whether nobody has ended it."""
        return self.header.is_live


@dataclass(frozen=True, slots=True)
class LoginLink:
    """The persistent login that a session belongs to, and the generation of the login's token that
    the session came with: both reached the client in one response (D6)."""

    login_id: bytes
    generation: int


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a session belongs to and how long it may live: what the envelope seals.

    `extra` keeps fields that a newer release wrote. `epoch` is the subject's when the sign-in
    began; a pending session carries it to its completion (P15). `linked_to` is the session that
    handed this one over, `login` the persistent login that both end with. `device_id` is the
    reference of the device cookie, empty where there was none. What was proved up to `closed_at`
    is not recent any more: its owner said so.
    """

    kind: Kind
    created_at: int
    absolute_deadline: int
    subject: str | None = None
    events: tuple[AuthenticationEvent, ...] = ()
    device: Device = Device()
    address: str | None = None
    place: str | None = None
    epoch: bytes = NO_EPOCH
    linked_to: bytes | None = None
    circumstances: Circumstances = NOTHING_KNOWN
    login: LoginLink | None = None
    device_id: str = ""
    closed_at: int = NEVER
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])


def seal_identity(
    identity: Identity,
    session_id: bytes,
    *,
    keys: UnlockedKeys,
    sealer: Sealer,
    codec: Codec,
) -> bytes:
    """The envelope under the issuing key, bound to format, realm and session id (C2)."""
    device = identity.device
    fields: dict[str, Any] = {
        **identity.extra,
        "k": int(identity.kind),
        "c": identity.created_at,
        "x": identity.absolute_deadline,
        "s": identity.subject,
        "e": [[event.amr, event.at] for event in identity.events],
        "d": [device.label, device.agent, device.platform, device.network],
        "a": identity.address,
        "p": identity.place,
        "g": identity.epoch,
        "l": identity.linked_to,
        "w": identity.circumstances.as_list(),
    }
    if identity.closed_at:
        fields["f"] = identity.closed_at
    if identity.login is not None:
        fields["r"] = [identity.login.login_id, identity.login.generation]
    if identity.device_id:
        fields["i"] = bytes.fromhex(identity.device_id)
    bound = keys.binds["identity"] + session_id
    return sealer.seal(keys.envelope[keys.issuing], codec.encode(fields), bound)


def open_identity(
    record: Record, *, keys: UnlockedKeys, sealer: Sealer, codec: Codec
) -> Identity | None:
    """Who the record belongs to, or None where its key was retired.

    Raises:
        UnreadableRecord: the envelope is damaged, was moved from another session, disagrees with
            the header's kind, or is under a key that only other processes know yet.
    """
    key_id = record.header.envelope_key_id
    key = keys.envelope.get(key_id)
    if key is None:
        if key_id in keys.retired:
            return None
        raise unreadable("its identity envelope is under a key that is not in this keyring")
    bound = keys.binds["identity"] + record.session_id
    plain = sealer.open(key, record.envelope, bound)
    if plain is None:
        raise unreadable("its identity envelope is damaged or belongs to another session")
    try:
        identity = _identity(codec.decode(plain))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise unreadable("its identity envelope holds something unexpected") from error
    if identity.kind is not record.header.kind:
        raise unreadable("its header claims another kind than its sealed identity")
    return identity


_KNOWN = frozenset("kcxsedapglrwif")


def _identity(decoded: Any) -> Identity:
    return Identity(
        kind=Kind(decoded["k"]),
        created_at=decoded["c"],
        absolute_deadline=decoded["x"],
        subject=decoded["s"],
        events=tuple(AuthenticationEvent(amr, at) for amr, at in decoded["e"]),
        device=Device(*decoded["d"]),
        address=decoded["a"],
        place=decoded["p"],
        epoch=decoded["g"],
        linked_to=decoded["l"],
        circumstances=Circumstances.of_list(decoded.get("w")),
        login=LoginLink(*decoded["r"]) if "r" in decoded else None,
        device_id=decoded["i"].hex() if "i" in decoded else "",
        closed_at=decoded.get("f", NEVER),
        extra={name: value for name, value in decoded.items() if name not in _KNOWN},
    )


def data_bound(keys: UnlockedKeys, session_id: bytes, key_id: int) -> bytes:
    """The associated data of session data: format, realm, session id, key id, codec (C3)."""
    return keys.binds["data"] + session_id + bytes((key_id,)) + b"msgpack"


def unreadable(what: str) -> UnreadableRecord:
    """The error for a record that cannot be understood: 503, never a sign-out (C4)."""
    return UnreadableRecord(
        f"A session record cannot be read: {what}.",
        why="The session is neither accepted nor ended, because either could be wrong.",
        hint="Run the newest release everywhere; if the store was damaged, restore it "
        "and end all sessions.",
    )
