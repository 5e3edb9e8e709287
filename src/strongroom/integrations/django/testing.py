"""What Django's test client needs: it puts `session_key`, the public id, into the cookie.

While a test environment is set up, and only then, this process remembers the tokens of sessions
that were made outside of any request, and takes their public id for them. No server ever does.
"""

from __future__ import annotations

# Django ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
from django.test import utils

from strongroom.core.visit import Visit

_tokens: dict[str, str] = {}
_MOST = 10_000


def is_testing() -> bool:
    """Whether `setup_test_environment` was called, as every test runner of Django does."""
    return hasattr(utils._TestState, "saved_data")  # pyright: ignore[reportPrivateUsage]


def remember(visit: Visit) -> None:
    """Keep the token of a session that was made outside of a request, for the test client."""
    if visit.session_id is None or visit.token is None or not is_testing():
        return
    if len(_tokens) >= _MOST:
        _tokens.clear()
    _tokens[visit.session_id] = visit.token.text


def token_for(session_key: str) -> str | None:
    """The token of a session that a test made."""
    return _tokens.get(session_key) if _tokens and is_testing() else None


def with_tokens(headers: list[tuple[bytes, bytes]], cookie: str) -> list[tuple[bytes, bytes]]:
    """A test client's headers, with the public id in its cookie replaced by the token."""
    if not _tokens or not is_testing():
        return headers
    start = f"{cookie}=".encode()
    return [
        (name, _replaced(value, start) if name == b"cookie" else value) for name, value in headers
    ]


def _replaced(header: bytes, start: bytes) -> bytes:
    parts = [part.strip() for part in header.split(b";")]
    for index, part in enumerate(parts):
        if part.startswith(start):
            token = _tokens.get(part[len(start) :].decode("latin-1"))
            if token is not None:
                parts[index] = start + token.encode()
    return b"; ".join(parts)
