"""Finds the CSRF token in the first bytes of a form, so that an upload need not be read to its end.

An integration buffers a bounded prefix of the body, asks here, and replays the prefix to the
application. It asks again when the prefix has *doubled* or the body has ended, not at every chunk,
or a client that sends one byte at a time buys quadratic work. At its bound it gives up: a token
that has not come by then counts as absent.

What comes from a prefix is what the whole body would give, with one exception: a field of the name
that is repeated after the first complete one is noticed only if it is in the prefix too. That costs
nothing, for the first one still has to be valid. This is no form parser: all other fields are
skipped, and a body that a browser would not send simply has no token.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final
from urllib.parse import unquote_to_bytes

_MAX_VALUE = 512
"""Far more than a token, far less than a field that somebody would want decoded."""

_UNUSABLE = ""
"""What stands for a token that cannot be one: repeated, too long, not ASCII. It is never valid."""

_BOUNDARY_SHAPE = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
"""RFC 2046, 5.1.1: at most 70 characters, and no space at the end."""

_PARAMETER = re.compile(r';[ \t]*([^\s=;"]+)=(?:"([^"]*)"|([^\s;"]*))[ \t]*')
"""A parameter as browsers write it: a quote inside a value comes as %22, a backslash as itself."""


class NeedMore(Enum):
    """The type of `NEED_MORE`: the prefix ends before the answer."""

    NEED_MORE = "the prefix ends before the answer"


NEED_MORE: Final = NeedMore.NEED_MORE


def find_form_token(
    content_type: str, prefix: bytes, field: str, *, complete: bool = False
) -> str | NeedMore | None:
    """The field's value in a prefix of an urlencoded or multipart form. Never raises.

    None: this form has no such field, or the body is no form. Empty: it has one that cannot be a
    token (repeated, too long, not ASCII, a file). `complete` says that the prefix is the whole
    body; only then can the answer not be `NEED_MORE`.
    """
    essence = content_type.partition(";")[0].strip(" \t").lower()
    if essence == "application/x-www-form-urlencoded":
        return _in_urlencoded(prefix, field, complete)
    if essence == "multipart/form-data":
        boundary = _boundary(content_type)
        return None if boundary is None else _in_multipart(boundary, prefix, field, complete)
    return None


def _answer(values: list[bytes], complete: bool) -> str | NeedMore | None:
    """One value is the answer, several are unusable, none means look further or give up."""
    if not values:
        return None if complete else NEED_MORE
    if len(values) > 1 or len(values[0]) > _MAX_VALUE or not values[0].isascii():
        return _UNUSABLE
    return values[0].decode("ascii")


def _in_urlencoded(prefix: bytes, field: str, complete: bool) -> str | NeedMore | None:
    """`name=value` pairs between ampersands; a charset parameter means nothing (WHATWG URL, 5)."""
    pairs = prefix.split(b"&")
    if not complete:
        pairs.pop()  # what follows the last ampersand may go on
    wanted = field.encode("utf-8", "surrogatepass")
    values = [
        _unescape(value[: 3 * _MAX_VALUE + 3])
        for name, _, value in (pair.partition(b"=") for pair in pairs)
        if len(wanted) <= len(name) <= 3 * len(wanted) and _unescape(name) == wanted
    ]
    return _answer(values, complete)


def _unescape(text: bytes) -> bytes:
    """Plus is a space, %XX is a byte, and a stray percent sign is itself."""
    return unquote_to_bytes(text.replace(b"+", b" "))


def _boundary(content_type: str) -> bytes | None:
    """The one boundary parameter of the Content-Type, or None if it is missing, odd or repeated."""
    found = _parameters(content_type).get("boundary", [])
    if len(found) != 1 or _BOUNDARY_SHAPE.fullmatch(found[0]) is None:
        return None
    return found[0].encode("ascii")


def _parameters(header: str) -> dict[str, list[str]]:
    """All parameters behind the first word. Reading stops at the first that is malformed."""
    found: dict[str, list[str]] = {}
    at = header.find(";")
    while at != -1 and (match := _PARAMETER.match(header, at)):
        found.setdefault(match[1].lower(), []).append(match[2] or match[3] or "")
        at = match.end()
    return found


def _in_multipart(
    boundary: bytes, prefix: bytes, field: str, complete: bool
) -> str | NeedMore | None:
    """The parts that have ended: each lies between two delimiter lines (RFC 7578)."""
    # The body's first delimiter has no line break before it; now all of them look alike.
    body = b"\r\n" + prefix
    delimiter = re.compile(rb"\r\n--" + re.escape(boundary) + rb"(?:(--)|[ \t]*(?=\r\n))")
    values: list[bytes] = []
    start = -1
    for match in delimiter.finditer(body):
        if start != -1:
            values += _value_of_part(body[start : match.start()], field)
        start = match.end()
        if match[1]:
            return _answer(values, complete=True)
    return _answer(values, complete)


def _value_of_part(part: bytes, field: str) -> list[bytes]:
    """The part's content, in a list, if it is the wanted field; a file of that name is unusable.

    The part begins with the line break of its delimiter.
    """
    head, found, content = part.partition(b"\r\n\r\n")
    if not found:
        return []
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip(b" \t").lower() == b"content-disposition":
            parameters = _parameters(value.decode("utf-8", "replace"))
            if parameters.get("name") != [field]:
                return []
            return [b"\xff"] if {"filename", "filename*"} & parameters.keys() else [content]
    return []
