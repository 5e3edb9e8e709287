"""Reading the cookies of other session libraries, for `adopt=`: see docs/moving.

adopt=Adoption(
    cookie="session",
    read=starlette_cookie(OLD_SECRET_KEY, subject="user_id"),
    until=datetime(2026, 12, 24, tzinfo=UTC),
)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from strongroom.core.adoption import Adoption, OldSession
from strongroom.core.data import is_dict

__all__ = ["Adoption", "OldSession", "flask_cookie", "old_session", "starlette_cookie"]

FOURTEEN_DAYS = timedelta(days=14)
"""How long Starlette's SessionMiddleware believes a cookie unless it is told otherwise."""

THIRTY_ONE_DAYS = timedelta(days=31)
"""How long Flask and Quart believe one: PERMANENT_SESSION_LIFETIME, unless it is set."""

SubjectOf = Callable[[dict[str, Any]], str | None]


def starlette_cookie(
    secret_key: str, *, subject: str | SubjectOf, max_age: timedelta = FOURTEEN_DAYS
) -> Callable[[str], OldSession | None]:
    """Reads what Starlette's own SessionMiddleware signed.

    `subject` names the key that holds the user's id, or finds the id in the old data. `max_age` is
    the old middleware's. Needs `itsdangerous`, as that middleware did.
    """
    from itsdangerous import BadSignature, TimestampSigner

    signer = TimestampSigner(secret_key)

    def read(value: str) -> OldSession | None:
        try:
            signed = signer.unsign(value, max_age=int(max_age.total_seconds()))
            data = json.loads(base64.b64decode(signed))
        except (BadSignature, binascii.Error, ValueError):
            return None
        return old_session(data, subject)

    return read


def flask_cookie(
    secret_key: str | bytes, *, subject: str | SubjectOf, max_age: timedelta = THIRTY_ONE_DAYS
) -> Callable[[str], OldSession | None]:
    """Reads what Flask's and Quart's own cookie sessions signed. Needs one of the two.

    `subject` names the key that holds the user's id, or finds the id in the old data. `max_age` is
    the old application's PERMANENT_SESSION_LIFETIME.
    """
    from flask.json.tag import TaggedJSONSerializer
    from itsdangerous import BadSignature, URLSafeTimedSerializer

    signer = URLSafeTimedSerializer(
        secret_key,
        salt="cookie-session",
        serializer=TaggedJSONSerializer(),
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha1},
    )

    def read(value: str) -> OldSession | None:
        try:
            data: Any = signer.loads(value, max_age=int(max_age.total_seconds()))
        except BadSignature:
            return None
        return old_session(data, subject)

    return read


def old_session(data: Any, subject: str | SubjectOf) -> OldSession | None:
    """An `OldSession` of a mapping: the user's id is taken out of it, as text, the rest is data."""
    if not is_dict(data):
        return None
    values: dict[str, Any] = {str(key): value for key, value in data.items()}
    if callable(subject):
        return OldSession(subject(values), values)
    found = values.pop(subject, None)
    return OldSession(None if found is None else str(found), values)
