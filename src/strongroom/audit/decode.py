"""Looks into a token: encodings, the signed cookies of the well-known frameworks, well-known keys.

The keys are those that documentation and tutorials print, so that they are in use by mistake. Only
the verification of a signature is here; nothing is forged that the site did not give out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import unquote

UUID = re.compile(
    r"\A[0-9a-f]{8}-?[0-9a-f]{4}-?([1-8])[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}\Z", re.I
)
_SIGNED_UUID = re.compile(r"\A([0-9a-f-]{32,36})([.:|~!])([\w+/=-]{16,172})\Z", re.I)
_MOST = 1_000_000

KNOWN_KEYS = tuple(
    "secret|secretkey|secret_key|secret-key|SECRET_KEY|supersecret|super-secret|super secret|"
    "super secret key|supersecretkey|changeme|change-me|change_me|CHANGE_ME|CHANGEME|dev|"
    "development|development key|dev key|test|testing|testkey|key|mykey|my key|mysecret|my secret|"
    "mysecretkey|my_secret_key|my-secret-key|password|123456|12345|1234567890|qwerty|admin|"
    "keyboard cat|shhhh|shhhhh|cats|session_secret|sessionsecret|session secret|cookie_secret|"
    "your-secret-key|your_secret_key|your secret key|yoursecretkey|your-256-bit-secret|"
    "your-384-bit-secret|your-512-bit-secret|a-string-secret-at-least-256-bits-long|"
    "this is a secret|thisisasecret|this-is-a-secret|not-a-secret|notasecret|topsecret|top secret|"
    "s3cr3t|S3cr3t|random|random string|some secret|somesecret|insecure|flask|django|jwt|"
    "jwt-secret|jwtsecret|jwt_secret|JWT_SECRET|hello|example|default|abc123|foobar|"
    "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf|"
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7".split("|")
)
_KNOWN_BYTES = (b'_5#y2L"F4Q8z\n\xec]/', *(key.encode() for key in KNOWN_KEYS), b"")


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What a token is made of.

    `kind`: opaque, uuid, jwt, signed (payload and signature), keyed (a random id and a signature).
    `texts` are what can be read in it; `random` is the part that ought to be unguessable.
    """

    kind: str
    texts: tuple[str, ...] = ()
    random: str = ""
    header: dict[str, Any] = field(default_factory=dict[str, Any])
    payload: Any = None
    signature_bits: int = 0


def unbase64(text: str) -> bytes:
    """The octets behind base64 of either alphabet; empty if it is none."""
    plain = text.strip().rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def b64url(raw: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def dissect(token: str) -> Anatomy:
    """What this token is made of."""
    value = unquote(token).strip('"')
    if UUID.match(value):
        return Anatomy("uuid", random=value)
    jwt = _jwt(value)
    if jwt is not None:
        return jwt
    if value.startswith("s:") and "." in value:
        identity, _, signature = value[2:].rpartition(".")
        return Anatomy("keyed", random=identity, signature_bits=len(unbase64(signature)) * 8)
    named = _SIGNED_UUID.match(value)
    if named is not None and UUID.match(named[1]):
        # What stands behind another mark than a dot is signed in a way that is not known here.
        bits = len(unbase64(named[3])) * 8 if named[2] == "." else 0
        return Anatomy("keyed", random=named[1], signature_bits=bits)
    signed = _signed(value)
    parts = [value, *(each for each in re.split(r"[.:|~!]", value) if each != value)]
    texts = dict.fromkeys(text for each in parts for text in readable(each))
    return signed or Anatomy("opaque", tuple(texts), value)


def _jwt(value: str) -> Anatomy | None:
    parts = value.split(".")
    if len(parts) not in (3, 5):
        return None
    header = _json(unbase64(parts[0]))
    if not isinstance(header, dict) or "alg" not in header:
        return None
    payload = _json(unbase64(parts[1])) if len(parts) == 3 else None
    texts = (json.dumps(payload),) if payload is not None else ()
    bits = len(unbase64(parts[-1])) * 8
    named = cast("dict[str, Any]", header)
    return Anatomy("jwt", texts, header=named, payload=payload, signature_bits=bits)


def _signed(value: str) -> Anatomy | None:
    """`payload.time.signature` of itsdangerous, `payload:time:signature` of Django."""
    mark = ":" if value.count(":") >= 2 else "."
    parts = value.rsplit(mark, 2)
    if len(parts) != 3 or not all(parts):
        return None
    signature = unbase64(parts[2])
    if len(signature) not in (20, 32, 48, 64) or len(unbase64(parts[1])) > 8:
        return None
    texts = tuple(readable(parts[0]))
    if not texts:
        return Anatomy("keyed", random=parts[0], signature_bits=len(signature) * 8)
    return Anatomy("signed", texts, payload=texts[0], signature_bits=len(signature) * 8)


def readable(value: str) -> list[str]:
    """What people can read in it: as it stands, and behind hex, base64 and compression."""
    found: list[str] = []
    for raw in (_hex(value), unbase64(value.lstrip(".")), unbase64(value)):
        for octets in (raw, _inflated(raw)):
            text = _plain(octets)
            if text and text not in found:
                found.append(text)
    if re.search(r"[@{\"=&|]|%40", value) and _plain(value.encode()):
        found.append(unquote(value))
    return found


def _hex(value: str) -> bytes:
    try:
        return bytes.fromhex(value)
    except ValueError:
        return b""


def _inflated(raw: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(raw, _MOST)
    except zlib.error:
        return b""


def _plain(raw: bytes) -> str:
    """The text, if it is one: at least four characters, all printable."""
    if len(raw) < 4:
        return ""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    return text if all(each.isprintable() or each in "\r\n\t" for each in text) else ""


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


# Known keys


def known_key(token: str, name: str = "", companion: str = "") -> str:
    """The well-known key that this token is signed with, or an empty text.

    `companion` is the value of a cookie `NAME.sig`, where the signature stands beside.
    """
    value = unquote(token).strip('"')
    for check in (_check_jwt, _check_itsdangerous, _check_django, _check_express):
        for key in _KNOWN_BYTES:
            if check(value, key):
                return key.decode("utf-8", "replace") or "(an empty key)"
    if companion:
        for key in _KNOWN_BYTES:
            made = hmac.new(key, f"{name}={token}".encode(), hashlib.sha1).digest()
            if hmac.compare_digest(b64url(made), companion.rstrip("=")):
                return key.decode("utf-8", "replace")
    return ""


def _check_jwt(value: str, key: bytes) -> bool:
    head, dot, signature = value.rpartition(".")
    if not dot or head.count(".") != 1:
        return False
    header = _json(unbase64(head.partition(".")[0]))
    named = cast("dict[str, Any]", header) if isinstance(header, dict) else {}
    alg = str(named.get("alg", ""))
    digest = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}.get(alg)
    if digest is None:
        return False
    return hmac.compare_digest(hmac.digest(key, head.encode(), digest), unbase64(signature))


_SALTS = (
    b"cookie-session",
    b"flask-session",
    b"itsdangerous.Signer",
    b"itsdangerous",
    b"session",
    b"cookie",
)


def _derived(salt: bytes, key: bytes) -> Iterator[bytes]:
    yield hmac.digest(key, salt, "sha1")  # Flask
    yield hashlib.sha1(salt + b"signer" + key, usedforsecurity=False).digest()  # the default
    yield hashlib.sha1(salt + key, usedforsecurity=False).digest()
    yield key


def _check_itsdangerous(value: str, key: bytes) -> bool:
    head, dot, tail = value.rpartition(".")
    signature = unbase64(tail)
    digest = {20: "sha1", 32: "sha256", 64: "sha512"}.get(len(signature))
    if not dot or digest is None:
        return False
    return any(
        hmac.compare_digest(hmac.digest(derived, head.encode(), digest), signature)
        for salt in _SALTS
        for derived in _derived(salt, key)
    )


def _check_django(value: str, key: bytes) -> bool:
    head, colon, tail = value.rpartition(":")
    signature = unbase64(tail)
    digest = {20: hashlib.sha1, 32: hashlib.sha256}.get(len(signature))
    if not colon or digest is None:
        return False
    salt = b"django.contrib.sessions.backends.signed_cookies"
    for whole in (salt + b"signer", b"signer", salt):
        derived = digest(whole + key).digest()
        made = hmac.new(derived, head.encode(), digest).digest()
        if hmac.compare_digest(made, signature):
            return True
    return False


def _check_express(value: str, key: bytes) -> bool:
    if not value.startswith("s:"):
        return False
    identity, _, tail = value[2:].rpartition(".")
    made = base64.b64encode(hmac.digest(key, identity.encode(), "sha256")).rstrip(b"=").decode()
    return hmac.compare_digest(made, tail.rstrip("="))


# Hashes of what can be guessed

_HASHES: dict[int, tuple[Callable[..., Any], ...]] = {
    32: (hashlib.md5,),
    40: (hashlib.sha1,),
    56: (hashlib.sha224,),
    64: (hashlib.sha256,),
    128: (hashlib.sha512,),
}


def guessed_hash(token: str, moment: float, words: tuple[str, ...]) -> str:
    """What this token is the plain hash of: a counter, a clock, a name; empty if of none of "
    "them."""
    value = token.lower()
    raw = unbase64(token)
    if not re.fullmatch(r"[0-9a-f]+", value) and len(raw) * 2 in _HASHES:
        value = raw.hex()
    for function in _HASHES.get(len(value), ()):
        for what, text in _guesses(moment, words):
            if function(text.encode(), usedforsecurity=False).hexdigest() == value:
                return what
    return ""


def _guesses(moment: float, words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    second = int(moment)
    for number in range(20_000):
        yield "a counter", str(number)
    for near in range(second - 10, second + 5):
        yield "the clock in seconds", str(near)
        for word in words:
            yield "the name and the clock", f"{word}{near}"
            yield "the name and the clock", f"{word}:{near}"
            yield "the clock and the name", f"{near}{word}"
    start = int(moment * 1000)
    for near in range(start - 5_000, start + 1_000):
        yield "the clock in milliseconds", str(near)
    for word in words:
        yield "the name", word
        for number in range(200):
            yield "the name and a counter", f"{word}{number}"
            yield "the name and a counter", f"{word}:{number}"
