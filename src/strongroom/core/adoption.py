"""People stay signed in when a site moves to Strongroom: another library's cookie counts once.

An application says how to read the old cookie, and until when. What is adopted becomes a new
session like any other, and the old cookie is expired in the same response. It never replaces or
revives anything: with a cookie of ours in the request, even a dead one, the old one is not read.

Whoever holds a copy of an old cookie can use it as long as the owner could. Therefore a cut-off is
required, at most `ADOPTION_MAX` ahead, and for a subject who signed out everywhere, changed a
credential or was disabled since, no old cookie counts any more (P15). What is adopted is a
remembered session: pages that want a recent sign-in ask for one (P25). docs/decisions/0070.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from .cookies import find_cookies
from .errors import ConfigurationError
from .exchange import RequestFacts
from .policy import ADOPTION_MAX

_DELETED = "Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass(frozen=True, slots=True)
class OldSession:
    """What an old cookie stood for.

    `subject` is None for a visitor, of whom only the data is kept. `authenticated_at` is when
    they signed in, if the old session knew it: that is shown, and never taken for recent.
    """

    subject: str | None
    data: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    authenticated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Adoption:
    """How sessions of another library are taken over, once each.

    `read` gets the old cookie's value and returns an `OldSession`, or None where it stands for
    nothing. It must verify the signature or look the session up, and with an asynchronous manager
    it may be a coroutine function. What it raises is logged, and nothing is adopted. `forget` is
    called with the value when the new session has taken over: to delete the old one in its store.

    Raises:
        ConfigurationError: `until` has no time zone, or the cookie has no name.
    """

    cookie: str
    read: Callable[[str], Any]
    until: datetime
    path: str = "/"
    domain: str | None = None
    forget: Callable[[str], Any] | None = None

    def __post_init__(self) -> None:
        if self.until.tzinfo is None:
            raise ConfigurationError(
                "The adoption's cut-off has no time zone.",
                why="It would end at another moment on each server.",
                hint="Write until=datetime(2026, 12, 24, tzinfo=UTC).",
            )
        parts = (self.cookie, self.path, self.domain or "x")
        if not all(part and part.isascii() and part.isprintable() for part in parts) or any(
            mark in part for part in parts for mark in ';, ="'
        ):
            raise ConfigurationError(
                "The adoption's cookie, path or domain is not what a cookie can have.",
                why="The old cookie could neither be found nor expired.",
                hint="Give the old cookie's name, path and domain as the old library set them.",
            )

    @property
    def closes_at(self) -> int:
        """The cut-off in milliseconds, UTC."""
        return (self.until - _EPOCH) // _MILLISECOND

    def check(self, now: int) -> None:
        """Refuse a cut-off so far away that it is none.

        Raises:
            ConfigurationError: it is further ahead than `ADOPTION_MAX`.
        """
        if self.closes_at - now > ADOPTION_MAX // _MILLISECOND:
            raise ConfigurationError(
                f"The adoption's cut-off is more than {ADOPTION_MAX.days} days ahead.",
                why="Until then, a copy of an old cookie opens a session, and for longer than that "
                "nobody remembers who has signed out everywhere.",
                hint="Choose the old cookie's lifetime, and no more: who has not come back by "
                "then signs in.",
            )

    def presented(self, facts: RequestFacts) -> str | None:
        """The old cookie's value. Several different ones are none: somebody planted one (P21)."""
        found = set(find_cookies(facts.headers, self.cookie.encode("ascii")))
        if len(found) != 1:
            return None
        value = found.pop()
        return value.decode("ascii") if value and value.isascii() else None

    def is_sent(self, facts: RequestFacts) -> bool:
        """Whether the request brought a cookie of the old name at all."""
        return bool(find_cookies(facts.headers, self.cookie.encode("ascii")))

    def deletion(self, facts: RequestFacts) -> bytes:
        """A Set-Cookie value that makes the browser drop the old cookie."""
        parts = [f"{self.cookie}=", _DELETED, f"Path={self.path}"]
        if self.domain is not None:
            parts.append(f"Domain={self.domain}")
        if facts.scheme == "https":
            parts.append("Secure")
        return "; ".join(parts).encode("ascii")
