"""The device cookie: a browser is known again, whoever signs in there, for as long as it agrees.

    format (1) | key id (1) | device id (16) | tag (18)  =  36 bytes, 48 base64url characters

The id is random, and the tag is a keyed hash: a browser cannot choose its own. Nobody stores the
id. What is kept with a subject is its `reference`, a hash over id and subject, so that two accounts
in one browser cannot be linked by what a store holds.

The cookie opens nothing. Whoever has it only looks less new.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .tokens import Mac

FORMAT = 1
DEVICE_ID_BYTES = 16
_TAG_BYTES = 18
_LENGTH = 48
_REFERENCE_BYTES = 8


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A device id that we issued, and the key that vouches for it."""

    key_id: int
    device_id: bytes = field(repr=False)

    def reference(self, subject: str) -> str:
        """What is kept of it with this subject: 16 hexadecimal characters."""
        hashed = hashlib.sha256(b"device" + self.device_id + subject.encode("utf-8", "replace"))
        return hashed.digest()[:_REFERENCE_BYTES].hex()


@dataclass(slots=True)
class DeviceMark:
    """What one request and its response have to do with the device cookie.

    `sent` says that one came, whatever it is worth; `device` is what it stands for, where the
    visitor agrees to be known by it, or the one that a sign-in makes. `issue` hands it out.
    """

    allowed: bool
    sent: bool = False
    device: KnownDevice | None = None
    issue: bool = False

    @property
    def forget(self) -> bool:
        """Whether the browser has one that it does not agree to any more."""
        return self.sent and not self.allowed


def device_cookie(keys: Mapping[int, bytes], mac: Mac, device: KnownDevice) -> str:
    """The cookie's value."""
    body = bytes((FORMAT, device.key_id)) + device.device_id
    return base64.urlsafe_b64encode(body + _tag(keys[device.key_id], mac, body)).decode("ascii")


def device_of(values: Iterable[bytes], keys: Mapping[int, bytes], mac: Mac) -> KnownDevice | None:
    """The device that these cookies name; several that differ, or a wrong tag, are none."""
    different = set(values)
    if len(different) != 1:
        return None
    value = different.pop()
    if len(value) != _LENGTH:
        return None
    try:
        raw = base64.urlsafe_b64decode(value)
    except (binascii.Error, ValueError):
        return None
    body, tag = raw[:-_TAG_BYTES], raw[-_TAG_BYTES:]
    if len(body) != 2 + DEVICE_ID_BYTES or body[0] != FORMAT or body[1] not in keys:
        return None
    if not hmac.compare_digest(_tag(keys[body[1]], mac, body), tag):
        return None
    return KnownDevice(body[1], body[2:])


def _tag(key: bytes, mac: Mac, body: bytes) -> bytes:
    return mac(key, body)[:_TAG_BYTES]
