"""Records: every header comes back, and nothing but `UnreadableRecord` comes out of damage."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.credentials import ChangedBy, Credential
from strongroom.core.errors import StoreError, UnreadableRecord
from strongroom.core.record import (
    FORMAT,
    NO_EPOCH,
    AuthenticationEvent,
    Device,
    EndReason,
    Header,
    Identity,
    Kind,
    Record,
    decode_header,
    open_identity,
    seal_identity,
)
from strongroom.core.sealing import UnlockedKeys
from strongroom.testing.records import a_record
from tests.core.kit import CODEC, NOW, a_key, a_sealer, unlocked

DIGESTS = st.binary(min_size=16, max_size=16)
STAMPS = st.binary(min_size=8, max_size=8)
MOMENTS = st.integers(-(2**63), 2**63 - 1)
KEY_IDS = st.integers(0, 255)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)

CREDENTIALS = st.builds(
    Credential,
    generation=st.integers(0, 2**32 - 1),
    current=DIGESTS,
    next=DIGESTS,
    next_key_id=KEY_IDS,
    changed_at=MOMENTS,
    changed_by=st.sampled_from(ChangedBy),
    previous=DIGESTS,
    first_used_at=MOMENTS,
    confirmed_at=MOMENTS,
)
HEADERS = st.builds(
    Header,
    kind=st.sampled_from(Kind),
    credential=CREDENTIALS,
    revision=STAMPS,
    data_version=STAMPS,
    store_epoch=STAMPS,
    envelope_key_id=KEY_IDS,
    data_key_id=KEY_IDS,
    inserted_at=MOMENTS,
    last_seen=MOMENTS,
    idle_deadline=MOMENTS,
    purge_at=MOMENTS,
    end_reason=st.none() | st.sampled_from(EndReason),
    ended_at=MOMENTS,
    format=st.sampled_from((FORMAT, FORMAT + 1)),
)
IDENTITIES = st.builds(
    Identity,
    kind=st.sampled_from(Kind),
    created_at=st.integers(0, 2**53),
    absolute_deadline=st.integers(0, 2**53),
    subject=st.none() | TEXTS,
    events=st.lists(st.builds(AuthenticationEvent, TEXTS, st.integers(0, 2**53)), max_size=3).map(
        tuple
    ),
    device=st.builds(Device, TEXTS, TEXTS, TEXTS, TEXTS),
    address=st.none() | TEXTS,
    place=st.none() | TEXTS,
    epoch=STAMPS,
    linked_to=st.none() | st.binary(max_size=16),
    extra=st.dictionaries(st.sampled_from(["new", "zz"]), st.none() | TEXTS | st.integers(0, 9)),
)


@given(HEADERS, st.binary(max_size=20))
def test_a_header_comes_back_as_it_was(header: Header, tail: bytes) -> None:
    """Every field in its full range, and what a newer release put behind it (C1, C4)."""
    raw = header.encode(tail)
    assert decode_header(raw) == (header, tail)
    assert decode_header(raw)[0].encode(tail) == raw


def test_the_layout_does_not_drift() -> None:
    """A script on a server reads these offsets; moving one is a new format (C1)."""
    header = Header(
        kind=Kind.REMEMBERED,
        credential=Credential(
            generation=0x01020304,
            current=b"c" * 16,
            next=b"n" * 16,
            next_key_id=3,
            changed_at=1,
            changed_by=ChangedBy.ROTATION,
            previous=b"p" * 16,
            first_used_at=2,
            confirmed_at=3,
        ),
        revision=b"r" * 8,
        data_version=b"d" * 8,
        store_epoch=b"e" * 8,
        envelope_key_id=4,
        data_key_id=5,
        inserted_at=4,
        last_seen=5,
        idle_deadline=6,
        purge_at=7,
        end_reason=EndReason.LOGOUT,
        ended_at=8,
    )
    raw = header.encode(b"tail")
    moments = b"".join(moment.to_bytes(8, "big") for moment in range(1, 9))
    assert raw == (
        bytes([FORMAT, 0, len(raw), 3, 1, 2, 3, 4, 5])
        + (b"r" * 8 + b"d" * 8 + b"e" * 8 + bytes([1, 2, 3, 4]))
        + (b"p" * 16 + b"c" * 16 + b"n" * 16 + moments)
        + b"tail"
    )


def test_reasons_keep_their_numbers() -> None:
    """New ones are added at the end: a number stands in every ended record (P17)."""
    names = (
        "logout idle_timeout absolute_timeout revoked_by_owner revoked_by_operator "
        "signed_out_everywhere token_reuse evicted_by_limit superseded_by_sign_in "
        "aborted_response credential_changed account_disabled policy all_sessions_ended handed_over"
    ).split()
    assert [each.value for each in EndReason][: len(names)] == names
    assert [each.number for each in EndReason] == list(range(1, len(EndReason) + 1))
    assert len(EndReason) < 256


@given(st.binary(max_size=300))
def test_no_bytes_make_anything_else_than_unreadable(noise: bytes) -> None:
    """A damaged store is 503, never a crash (C4)."""
    try:
        header, tail = decode_header(noise)
    except UnreadableRecord as error:
        assert isinstance(error, StoreError)
        return
    assert isinstance(header, Header)
    assert noise.endswith(tail)


@given(HEADERS, st.data())
def test_a_damaged_header_is_unreadable_or_another_header(header: Header, data: Any) -> None:
    """Cut off at any byte it is refused; with a byte changed, nothing unexpected escapes (C4)."""
    raw = header.encode()
    with pytest.raises(UnreadableRecord):
        decode_header(raw[: data.draw(st.integers(0, len(raw) - 1))])
    changed = bytearray(raw)
    changed[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decode_header(bytes(changed))
    except UnreadableRecord:
        return


@pytest.mark.parametrize(
    ("offset", "value"),
    [(0, 0), (0, FORMAT + 2), (0, 255), (3, len(Kind)), (4, len(EndReason) + 1), (5, 3)],
    ids=["no format", "format after the next", "format 255", "kind", "reason", "change"],
)
def test_a_value_that_no_release_writes_is_unreadable(offset: int, value: int) -> None:
    """Format, kind, reason and cause are checked, and the message says what to do (C4)."""
    raw = bytearray(a_record().header.encode())
    raw[offset] = value
    with pytest.raises(UnreadableRecord) as caught:
        decode_header(bytes(raw))
    assert caught.value.why
    assert caught.value.hint


def test_the_next_releases_format_is_read_and_kept() -> None:
    """Old and new processes run side by side during a deployment (C4)."""
    record = a_record()
    raw = bytearray(record.header.encode(b"what the next release adds"))
    raw[0] = FORMAT + 1
    header, tail = decode_header(bytes(raw))
    assert (header, tail) == (
        replace(record.header, format=FORMAT + 1),
        b"what the next release adds",
    )
    assert header.encode(tail) == bytes(raw), "a write gives it back as it was"


def test_nothing_sealed_is_shown() -> None:
    """The `repr` of a record holds neither envelope nor data (P4, P5)."""
    record = a_record(envelope=b"THE ENVELOPE", data=b"THE DATA", tail=b"THE TAIL")
    for secret in ("THE ENVELOPE", "THE DATA", "THE TAIL"):
        assert secret not in repr(record)
    hidden = {field.name for field in fields(Record) if not field.repr}
    assert hidden == {"envelope", "data", "tail"}


def sealed(identity: Identity, keys: UnlockedKeys, **header: Any) -> Record:
    """A record whose envelope holds the identity."""
    session_id = b"i" * 16
    envelope = seal_identity(identity, session_id, keys=keys, sealer=a_sealer(), codec=CODEC)
    return a_record(
        session_id=session_id,
        kind=header.pop("kind", identity.kind),
        envelope=envelope,
        **{"envelope_key_id": keys.issuing, **header},
    )


def opened(record: Record, keys: UnlockedKeys) -> Identity | None:
    """Who the record belongs to."""
    return open_identity(record, keys=keys, sealer=a_sealer(), codec=CODEC)


SOMEBODY = Identity(Kind.AUTHENTICATED, NOW, NOW + 1000, "alice", epoch=NO_EPOCH)


@given(IDENTITIES)
def test_an_identity_comes_back_as_it_was(identity: Identity) -> None:
    """Fields of a newer release included (C2, C4)."""
    keys = unlocked()
    assert opened(sealed(identity, keys), keys) == identity


def test_an_identity_is_ciphertext() -> None:
    """Whoever reads the store does not learn whose session it is (P4)."""
    record = sealed(replace(SOMEBODY, subject="alice@example.org"), unlocked())
    assert b"alice" not in record.envelope + record.header.encode()


def test_an_envelope_opens_only_in_its_own_session() -> None:
    """Whoever writes the database cannot make one session into somebody else's (P3)."""
    keys = unlocked()
    record = sealed(SOMEBODY, keys)
    with pytest.raises(UnreadableRecord):
        opened(replace(record, session_id=b"j" * 16), keys)


def test_an_envelope_opens_only_under_its_own_key_and_realm() -> None:
    """Another realm, another key, or a byte changed: unreadable, not somebody (P3, A2)."""
    keys = unlocked(a_key(1), a_key(2))
    record = sealed(SOMEBODY, keys)
    for other in (
        unlocked(a_key(1), a_key(2), realm="other"),
        unlocked(replace(a_key(2), secret=b"x" * 32)),
    ):
        with pytest.raises(UnreadableRecord):
            opened(record, other)
    with pytest.raises(UnreadableRecord):
        opened(replace(record, header=replace(record.header, envelope_key_id=1)), keys)
    for position in (0, 11, 12, len(record.envelope) - 1):
        changed = bytearray(record.envelope)
        changed[position] ^= 1
        with pytest.raises(UnreadableRecord):
            opened(replace(record, envelope=bytes(changed)), keys)
    for cut in (b"", record.envelope[:5], record.envelope[:27], record.envelope[:-1]):
        with pytest.raises(UnreadableRecord):
            opened(replace(record, envelope=cut), keys)


def test_an_envelope_under_a_retired_key_belongs_to_nobody() -> None:
    """Retiring a key ends what was issued under it; that is an end, not damage (A1)."""
    record = sealed(SOMEBODY, unlocked(a_key(1)))
    assert opened(record, unlocked(a_key(1, retired_at=NOW), a_key(2))) is None


def test_the_headers_kind_must_be_the_sealed_one() -> None:
    """Writing another kind into the clear header promotes nobody (P3, P10)."""
    keys = unlocked()
    record = sealed(replace(SOMEBODY, kind=Kind.PENDING), keys, kind=Kind.AUTHENTICATED)
    with pytest.raises(UnreadableRecord, match="kind"):
        opened(record, keys)


@pytest.mark.parametrize("plain", [b"", b"\xc1", b"\x80", b"\x90", b"\x2a", b"\xa5hello"])
def test_an_envelope_with_something_unexpected_is_unreadable(plain: bytes) -> None:
    """Damage that decrypts is still damage (C4)."""
    keys = unlocked()
    record = sealed(SOMEBODY, keys)
    real = CODEC

    class Damaged:
        def encode(self, value: object) -> bytes:
            return real.encode(value)

        def decode(self, encoded: bytes) -> object:
            del encoded
            return real.decode(plain)

    with pytest.raises(UnreadableRecord):
        open_identity(record, keys=keys, sealer=a_sealer(), codec=Damaged())
