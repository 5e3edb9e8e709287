"""What is wrong with a cookie's name and attributes, in sentences (P18).

A problem stops the program at start-up: a browser would refuse the cookie, or keep something else,
or it is unsafe. A warning is shown by the doctor. Each sentence says what, why, and what to change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cookies import CookieSpec

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN = re.compile(rf"(?:{_LABEL}\.)+(?=[a-z]){_LABEL}")
"""A host name of at least two labels, whose last one shows that it is no address."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PATH = re.compile(r"/[\x20-\x3a\x3c-\x7e]*")
_NAME_LIMIT = 256
_ATTRIBUTE_LIMIT = 1024  # a browser ignores an attribute whose value is longer

# Longest first: a name that starts with `__Host-Http-` starts with `__Host-` too.
_PREFIXES = ("__Host-Http-", "__Host-", "__Http-", "__Secure-")


def problems(spec: CookieSpec) -> Iterator[str]:
    """Everything that a browser would refuse, and everything unsafe."""
    yield from _name_problems(spec)
    yield from _prefix_problems(spec)
    yield from _attribute_problems(spec)


def _name_problems(spec: CookieSpec) -> Iterator[str]:
    if not spec.name:
        yield (
            "The name is empty, and a nameless cookie can pass itself off as any other (CK-2); "
            "name it, for example with cookie_name()."
        )
    elif not _TOKEN.fullmatch(spec.name):
        yield (
            "The name is not an RFC 9110 token, so browsers and servers would read it differently "
            "(CK-2); use letters, digits, '-' and '_'."
        )
    if len(spec.name) > _NAME_LIMIT:
        yield (
            f"The name has {len(spec.name)} characters, which takes room from the value and goes "
            f"with every request; use at most {_NAME_LIMIT}, better 30."
        )


def _prefix_problems(spec: CookieSpec) -> Iterator[str]:
    """What a prefix promises to whoever reads the cookie, and the browser enforces."""
    lowered = spec.name.lower()
    prefix = next((known for known in _PREFIXES if lowered.startswith(known.lower())), None)
    if prefix is None:
        return
    if not spec.name.startswith(prefix):
        yield (
            f"The name is {prefix!r} in another case, which browsers enforce but servers do not "
            f"recognise (CK-7); write exactly {prefix!r}."
        )
    if not spec.secure:
        yield f"Browsers refuse {prefix!r} without Secure; set secure=True, or drop the prefix."
    if prefix.startswith("__Host-") and spec.domain is not None:
        yield (
            f"Browsers refuse {prefix!r} with a Domain; remove domain, or start the name with "
            "'__Secure-' if other hosts must get the cookie."
        )
    if prefix.startswith("__Host-") and spec.path != "/":
        yield f"Browsers refuse {prefix!r} with a Path other than '/'; set path='/'."
    if prefix.endswith("Http-") and not spec.http_only:
        yield f"Browsers refuse {prefix!r} without HttpOnly; set http_only=True."


def _attribute_problems(spec: CookieSpec) -> Iterator[str]:
    if not _PATH.fullmatch(spec.path) or len(spec.path) > _ATTRIBUTE_LIMIT:
        yield (
            "The path is not one that browsers take as it is; it starts with '/' and has at most "
            f"{_ATTRIBUTE_LIMIT} printable ASCII characters without ';'."
        )
    if spec.domain is not None and (len(spec.domain) > 253 or not DOMAIN.fullmatch(spec.domain)):
        yield (
            "The domain is not a host name of two labels or more in lower case, so browsers refuse "
            "the cookie or read it otherwise; write it like 'example.com', without a leading dot."
        )
    if spec.same_site not in {"Lax", "Strict", "None"}:
        yield (
            f"SameSite={str(spec.same_site)[:40]!r} is unknown to browsers, which then apply a "
            "default of their own; use 'Lax', 'Strict' or 'None'."
        )
    if spec.same_site == "None" and not spec.secure:
        yield "Browsers refuse SameSite=None without Secure; set secure=True, or use 'Lax'."
    if spec.same_site == "None" and not spec.cross_site_reason.strip():
        yield (
            "SameSite=None lets every site send this cookie along, which is what CSRF needs; use "
            "'Lax', or say in cross_site_reason why it must be so."
        )
    if spec.partitioned and not spec.secure:
        yield "Browsers refuse Partitioned without Secure; set secure=True (CHIPS)."


def warnings(spec: CookieSpec) -> Iterator[str]:
    """What browsers accept, and what weakens the cookie all the same."""
    if spec.domain is not None:
        yield (
            f"The cookie goes to every host under {spec.domain}, and each of them can replace it: "
            "the weakest one decides. Leave domain out unless they must share it (ASVS 3.3.3)."
        )
    if not spec.secure:
        yield (
            "The cookie travels in clear text, and anybody on the way can set it. This is for "
            "loopback hosts during development only (ASVS 3.3.1)."
        )
    elif not spec.name.startswith(_PREFIXES):
        prefix = "__Host-" if spec.domain is None and spec.path == "/" else "__Secure-"
        yield (
            "The name has no prefix, so a page without encryption, or a sibling host, can plant a "
            f"cookie of this name; start it with {prefix!r} (ASVS 3.3.1, 3.3.3)."
        )
    if not spec.http_only:
        yield "Scripts can read the cookie; one injected script takes it away (ASVS 3.3.4)."
