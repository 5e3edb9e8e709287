"""What a WSGI environ says of a request (PEP 3333), and the form's token in its body.

WSGI carries bytes as latin-1 text, so headers go back to bytes the same way. A repeated header is
one line here: servers join it with commas, the Cookie header too. That is left as it is: browsers
send one Cookie header, and splitting at commas would let a cookie of another name, which a sibling
domain may set, smuggle ours in past its `__Host-` prefix.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from strongroom.core.csrf_forms import NeedMore, find_form_token
from strongroom.core.exchange import RequestFacts
from strongroom.core.policy import SessionPolicy

from .exchange_sync import Exchange

__all__ = ["Replayed", "facts_of_environ", "form_token_reader"]

MAX_PREFIX = 64 * 1024
"""A token that does not stand within the body's first 64 KiB is not found."""

_INPUT = "wsgi.input"
_OF_THE_BODY = ("CONTENT_TYPE", "CONTENT_LENGTH")
"""Headers that stand in the environ without HTTP_, and may be there and empty."""


def facts_of_environ(environ: dict[str, Any], policy: SessionPolicy) -> RequestFacts:
    """The facts of a WSGI environ; the handshake of a WebSocket within WSGI counts as one."""
    root = _text(environ.get("SCRIPT_NAME", ""))
    headers = list(_headers(environ))
    return RequestFacts(
        method=environ["REQUEST_METHOD"],
        path=root + _text(environ.get("PATH_INFO", "")) or "/",
        query=environ.get("QUERY_STRING", ""),
        scheme=environ.get("wsgi.url_scheme", "http"),
        peer=environ.get("REMOTE_ADDR") or None,
        headers=headers,
        proxies=policy.proxies,
        websocket=_is_handshake(environ),
        root=root,
    )


def form_token_reader(environ: dict[str, Any], exchange: Exchange) -> Callable[[], str | None]:
    """Reads the token from the beginning of the form in `wsgi.input`, and gives it all back."""

    def read() -> str | None:
        field = exchange.manager.policy.csrf.field
        return read_form_token(environ, field)

    return read


def read_form_token(environ: dict[str, Any], field: str) -> str | None:
    """The form's token, or None. Afterwards the environ's input has the whole body as before."""
    content_type = environ.get("CONTENT_TYPE", "")
    found = find_form_token(content_type, b"", field)
    if not isinstance(found, NeedMore):
        return found  # No form: its body is not touched.
    length = _length(environ)
    if length == 0:
        return None
    source = environ[_INPUT]
    prefix = _read(source, MAX_PREFIX if length is None else min(length, MAX_PREFIX))
    environ[_INPUT] = Replayed(prefix, source)
    complete = len(prefix) < MAX_PREFIX if length is None else len(prefix) == length
    found = find_form_token(content_type, prefix, field, complete=complete)
    return None if isinstance(found, NeedMore) else found


class Replayed(io.BufferedIOBase):
    """A beginning that was read already, then the rest of the stream; as `wsgi.input` must be."""

    def __init__(self, prefix: bytes, rest: Any) -> None:
        self._prefix = io.BytesIO(prefix)
        self._rest = rest

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes; all that is left without one."""
        if size is None or size < 0:
            return self._prefix.read() + bytes(self._rest.read())
        found = self._prefix.read(size)
        # Whoever asks for so much takes less for the end, as Django's request.body does.
        return found if len(found) == size else found + bytes(self._rest.read(size - len(found)))

    read1 = read

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer as far as what is there goes."""
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def readline(self, size: int | None = -1, /) -> bytes:
        """A line, or as much of it as `size` allows; it may lie in both halves."""
        limit = -1 if size is None else size
        line = self._prefix.readline(limit)
        if line.endswith(b"\n") or (0 <= limit <= len(line)):
            return line
        if limit < 0:
            return line + bytes(self._rest.readline())
        return line + bytes(self._rest.readline(limit - len(line)))

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line


def _read(source: Any, size: int) -> bytes:
    """That many bytes, unless the body ends before; a stream may give them in pieces."""
    read = bytearray()
    while len(read) < size:
        chunk = source.read(size - len(read))
        if not chunk:
            break
        read += chunk
    return bytes(read)


def _length(environ: dict[str, Any]) -> int | None:
    """The body's length; None where the server says that the stream ends by itself."""
    told = environ.get("CONTENT_LENGTH", "")
    if told.isascii() and told.isdigit():
        return int(told)
    # Without a length most servers' streams never end, so there is no body to look at.
    return None if environ.get("wsgi.input_terminated") else 0


def _headers(environ: dict[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    for key, value in environ.items():
        name = _header_name(key)
        if name is not None and (value or key not in _OF_THE_BODY):
            yield name, value.encode("latin-1")


@lru_cache(maxsize=512)
def _header_name(key: str) -> bytes | None:
    """The header that stands under this key, None for anything else; browsers send few names."""
    if key in _OF_THE_BODY:
        name = key
    elif key.startswith("HTTP_") and key[5:] not in _OF_THE_BODY:
        name = key[5:]
    else:
        return None
    return name.replace("_", "-").lower().encode("latin-1")


def _is_handshake(environ: dict[str, Any]) -> bool:
    """Whether a WebSocket is asked for: its origin counts although the method is GET (P19)."""
    return str(environ.get("HTTP_UPGRADE", "")).strip().lower() == "websocket"


def _text(raw: str) -> str:
    """WSGI's latin-1 text as what it stands for."""
    return raw.encode("latin-1").decode("utf-8", "replace")
