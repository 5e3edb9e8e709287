"""Other people's step-up challenges, read; and ours, in the address of a page (RFC 9470).

An application that calls an API with a token is a client there, and may get a 401 whose
`WWW-Authenticate` says that the sign-in behind the token is too weak or too old. `read_challenge`
finds that among the header's challenges (RFC 9110, 11.6.1). What it says is asked of the identity
provider (`parameters`), whose answer is judged (`unmet`): `acr_values` is a wish that a provider
may pass over, so the client looks at `acr` and `auth_time` itself (RFC 9470, 5; OpenID Connect
Core, 3.1.2.1). Or it is asked of the person here (`requirement`), by `session.require(...)`.

Both readers take what anybody may have written: they never raise, and what they do not understand
is not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from .assurance import NIST_AAL, AcrTable
from .stepup import DEFAULT_SKEW, Challenge, Requirement

INSUFFICIENT = "insufficient_user_authentication"

MAX_HEADER = 8192
"""Characters of a header that are looked at: more than any server lets through in one line."""
MAX_SECONDS = 10**9
"""More than thirty years. A longer age asks for nothing, and no clock overflows below it."""
ANEW = 60 * 1000
"""Milliseconds for a proof that is asked for without an age: time to come back from the page."""
_MAX_NAMES = 16

_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_PARAM = re.compile(rf'({_WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))')
_SCHEME = re.compile(rf"({_WORD})(?:[ \t]+(?![,]|$)|(?=[ \t]*(?:,|$)))")
_PADDED = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
_BETWEEN = re.compile(r"[ \t,]*")
_NAME = re.compile(r"[!#-\[\]-~]+")


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody's challenge asks for: one of these levels, the preferred first; an age in s.

    With neither, it says that the sign-in is not enough and not what would be.
    """

    acr_values: tuple[str, ...] = ()
    max_age: int | None = None
    description: str = ""

    def parameters(self) -> dict[str, str]:
        """The parameters of an authorization request that asks for it (RFC 9470, 4)."""
        asked: dict[str, str] = {}
        if self.acr_values:
            asked["acr_values"] = " ".join(self.acr_values)
        if self.max_age is not None:
            asked["max_age"] = str(self.max_age)
        return asked

    def requirement(self, table: AcrTable = NIST_AAL) -> Requirement | None:
        """The same asked of the person here, or None where this table has none of the levels.

        Any of the levels will do, so the weakest of those that the table knows is asked for. A
        challenge that names nothing asks for any one factor anew.
        """
        ranks = {level.name: place for place, level in enumerate(table.levels)}
        known = [name for name in self.acr_values if name in ranks]
        if self.acr_values and not known:
            return None
        age = None if self.max_age is None else self.max_age * 1000
        if not known:
            return Requirement(max_age=ANEW if age is None else age)
        return Requirement(max_age=age, acr=min(known, key=ranks.__getitem__))

    def unmet(
        self, *, acr: object, auth_time: object, now: int, skew: int = DEFAULT_SKEW
    ) -> str | None:
        """Why an ID token's claims are not what was asked, or None: `too_weak` or `too_old`.

        `now` and `skew` are in milliseconds, `auth_time` in seconds as the claim has it. A missing
        or strange claim meets nothing (ASVS 6.8.4).
        """
        if self.acr_values and acr not in self.acr_values:
            return "too_weak"
        if self.max_age is None:
            return None
        if not isinstance(auth_time, int | float) or isinstance(auth_time, bool):
            return "too_old"
        age = now - auth_time * 1000
        return None if -skew <= age <= self.max_age * 1000 + skew else "too_old"


def read_challenge(headers: str | Iterable[str]) -> Asked | None:
    """The step-up challenge in `WWW-Authenticate` header lines, or None where there is none.

    Whatever the scheme: RFC 9470 defines it for `Bearer`, and `DPoP` and others use it alike.
    """
    for line in (headers,) if isinstance(headers, str) else headers:
        for parameters in _challenges(line[:MAX_HEADER]):
            if parameters.get("error") == INSUFFICIENT:
                return Asked(
                    _names(parameters.get("acr_values", "")),
                    _seconds(parameters.get("max_age")),
                    parameters.get("error_description", ""),
                )
    return None


def in_query(challenge: Challenge) -> str:
    """What is asked for, as the query of the page that asks; `from_query` reads it there."""
    requirement = challenge.requirement
    ages = requirement.ages
    parts = {
        "approval": challenge.approval_id,
        "acr_values": requirement.acr,
        "max_age": None if requirement.max_age is None else str(requirement.max_age // 1000),
        "amr_values": " ".join(sorted(requirement.amr)) or None,
        "amr_max_age": " ".join(f"{amr}:{ages[amr] // 1000}" for amr in sorted(ages)) or None,
    }
    return "&".join(f"{name}={quote(part, safe='')}" for name, part in parts.items() if part)


def from_query(query: Mapping[str, str], table: AcrTable = NIST_AAL) -> Requirement | None:
    """The requirement that a query asks for, or None where it asks for nothing that exists here.

    Whoever writes a link chooses it, so it decides what a page *offers* and nothing else: the route
    that sent the person there asks again.
    """
    known = {level.name for level in table.levels}
    acr = query.get("acr_values")
    ages = [each.rpartition(":") for each in _names(query.get("amr_max_age", ""))]
    seconds = {amr: _seconds(age) for amr, _, age in ages if amr}
    max_age = _seconds(query.get("max_age"))
    asked = (
        None if max_age is None else max_age * 1000,
        acr if acr in known else None,
        frozenset(_names(query.get("amr_values", ""))),
        {amr: age * 1000 for amr, age in seconds.items() if age is not None},
    )
    return (
        Requirement(*asked) if any(part not in (None, frozenset(), {}) for part in asked) else None
    )


def _challenges(line: str) -> Iterable[dict[str, str]]:
    """The parameters of each challenge in one header line; an unreadable rest is left out."""
    found: dict[str, str] = {}
    place = _skip(line, 0)
    while place < len(line):
        parameter = _PARAM.match(line, place)
        if parameter is not None:
            name, quoted, plain = parameter.groups()
            # The first of a name counts; RFC 9110 allows each once.
            found.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted or plain or ""))
            place = _skip(line, parameter.end())
            continue
        scheme = _SCHEME.match(line, place)
        if scheme is None:
            break
        yield found
        found, place = {}, scheme.end()
        if _PARAM.match(line, place) is None and (token := _PADDED.match(line, place)):
            place = token.end()
        place = _skip(line, place)
    yield found


def _skip(line: str, place: int) -> int:
    between = _BETWEEN.match(line, place)
    return place if between is None else between.end()


def _names(text: str) -> tuple[str, ...]:
    return tuple(each for each in text.split(" ")[:_MAX_NAMES] if _NAME.fullmatch(each))


def _seconds(text: str | None) -> int | None:
    """Whole seconds, as OAuth writes them; anything else is not an age."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 10:
        return None
    return min(int(text), MAX_SECONDS)
