"""Keeps secrets out of everything that is printed.

Passwords, cookie values, tokens from forms and Authorization headers are registered when they are
seen; in every text that leaves, each stands as `[secret 3, 43 characters]`, with the same number
for the same secret, so that a reader can still follow it through the evidence.
"""

from __future__ import annotations

import html
import re
import threading
from urllib.parse import quote, quote_plus

SHORTEST = 6
"""Characters. A shorter value is no secret, and replacing it would garble everything."""

_HIDDEN_HEADERS = ("authorization", "proxy-authorization", "cookie", "set-cookie")
_COOKIE_VALUE = re.compile(r"(?<==)[^;\s]{6,}")


class Secrets:
    """What must not be seen. Safe to use from several threads."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._forms: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, *values: str) -> None:
        """Register secrets, in the forms in which they appear in URLs and pages, too."""
        with self._lock:
            for value in values:
                if len(value) < SHORTEST or value in self._numbers:
                    continue
                number = self._numbers[value] = len(self._numbers) + 1
                label = f"[secret {number}, {len(value)} characters]"
                for form in {value, quote(value, safe=""), quote_plus(value), html.escape(value)}:
                    self._forms[form] = label

    def mask(self, text: str) -> str:
        """The text without them."""
        with self._lock:
            known = sorted(self._forms.items(), key=lambda item: -len(item[0]))
        for form, label in known:
            if form in text:
                text = text.replace(form, label)
        return text

    def header(self, name: str, value: str) -> str:
        """A header's value as it may be shown: cookies keep their names and attributes only."""
        shown = self.mask(value)
        if name.lower() not in _HIDDEN_HEADERS:
            return shown
        if name.lower().endswith("authorization"):
            return value.partition(" ")[0] + " [secret]"
        first, semicolon, rest = shown.partition(";")
        if name.lower() == "set-cookie":
            return _hide_value(first) + semicolon + rest
        return _COOKIE_VALUE.sub(_kept_or_hidden, shown)


def _hide_value(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if len(value) < SHORTEST or value.startswith("[secret"):
        return pair
    return f"{name}{equals}[{len(value)} characters]"


def _kept_or_hidden(found: re.Match[str]) -> str:
    value = found[0]
    return value if value.startswith("[secret") else f"[{len(value)} characters]"
