"""Why a browser would refuse a Set-Cookie line, and what weakens one that it keeps.

The rules are rfc6265bis' for user agents (5.6 and 5.7), with CHIPS' for `Partitioned`. Values are
never shown: the line may be somebody's session (P5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from strongroom.core.cookies import SIZE_LIMIT

from .doctor_findings import Finding, ok, problem, warning
from .doctor_http import Place, Reply

OURS = re.compile(r"(?:__Host-)?(?:id|pre|doctor)-[0-9a-f]{8}")
"""The names that Strongroom gives its cookies, unless a policy names its own."""

_PREFIXES = ("__host-http-", "__host-", "__http-", "__secure-")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_FOLDED = re.compile(r",[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]+=")
_ADDRESS = re.compile(r"[0-9.]+|.*:.*")
_PUT_IT_RIGHT = "Have whoever sets or rewrites it on the way leave it as the application sent it."


@dataclass(frozen=True, slots=True)
class SetCookie:
    """A Set-Cookie line as a browser reads it. `attributes` are by lower-case name, last wins."""

    line: str
    name: str
    size: int
    value: str
    attributes: dict[str, str]
    repeated: tuple[str, ...]

    @classmethod
    def parse(cls, line: str) -> SetCookie:
        """Any text is some cookie."""
        pair, *parts = line.split(";")
        name, equals, value = pair.partition("=")
        if not equals:
            name, value = "", pair
        name, value = name.strip(" \t"), value.strip(" \t")
        attributes: dict[str, str] = {}
        repeated: list[str] = []
        for part in parts:
            key, _, content = part.partition("=")
            key = key.strip(" \t").lower()
            if key in attributes:
                repeated.append(key)
            if key:
                attributes[key] = content.strip(" \t")
        return cls(line, name, len(name) + len(value), value, attributes, tuple(repeated))

    @property
    def is_ours(self) -> bool:
        """Whether Strongroom gave it its name."""
        return OURS.fullmatch(self.name) is not None

    @property
    def label(self) -> str:
        """What to call it."""
        return f"The cookie {self.name[:60]}" if self.name else "A cookie without a name"

    @property
    def host_prefixed(self) -> bool:
        """Whether it promises to belong to one host (in any case, as browsers compare it)."""
        return self.name.lower().startswith("__host-")


def check_cookies(reply: Reply) -> Iterator[Finding]:
    """Each cookie of a reply, and all of them together."""
    cookies = [SetCookie.parse(line) for line in reply.values("set-cookie")]
    for cookie in cookies:
        refused = list(_refusals(cookie, reply.place))
        yield from refused
        if not refused:
            yield ok("cookie", f"{cookie.label} would be kept ({reply.place}).")
            yield from _weaknesses(cookie)
    yield from _together(cookies)


def _refusals(cookie: SetCookie, place: Place) -> Iterator[Finding]:
    """Why the browser would not keep it."""
    for reason, change in (
        *_shape(cookie),
        *_secure(cookie, place),
        *_prefix(cookie),
        *_domain(cookie, place),
    ):
        yield problem(
            "cookie", f"{cookie.label} is refused by browsers.", why=reason, change=change
        )


def _shape(cookie: SetCookie) -> Iterator[tuple[str, str]]:
    if _FOLDED.search(cookie.line):
        yield (
            "Several Set-Cookie lines were folded into one, and a browser reads one cookie (CK-1).",
            "Find what joins headers by commas, often a gateway or a serverless adapter.",
        )
    if _CONTROLS.search(cookie.line):
        yield "A control character is in it, so the whole line is ignored.", _PUT_IT_RIGHT
    if cookie.size > SIZE_LIMIT:
        yield (
            f"Name and value have {cookie.size} octets, and browsers keep {SIZE_LIMIT} at most.",
            "Keep the data in the session, and only its token in the cookie.",
        )
    if not cookie.name and cookie.value.lower().startswith(_PREFIXES):
        yield "It has no name, and its value looks like a prefixed one.", "Give it a name."
    elif not cookie.name and not cookie.value:
        yield "It has neither a name nor a value.", "Give it a name."


def _secure(cookie: SetCookie, place: Place) -> Iterator[tuple[str, str]]:
    secure = "secure" in cookie.attributes
    if secure and place.scheme == "http" and not place.is_loopback:
        yield (
            "It is Secure, and this page came over http.",
            "Serve the page over https: let the proxy redirect http to https.",
        )
    if not secure and cookie.attributes.get("samesite", "").lower() == "none":
        yield "SameSite=None needs Secure.", "Add Secure, or use SameSite=Lax."
    if not secure and "partitioned" in cookie.attributes:
        yield "Partitioned needs Secure (CHIPS).", "Add Secure."


def _prefix(cookie: SetCookie) -> Iterator[tuple[str, str]]:
    prefix = next((known for known in _PREFIXES if cookie.name.lower().startswith(known)), None)
    if prefix is None:
        return
    shown = cookie.name[: len(prefix)]
    if "secure" not in cookie.attributes:
        yield f"{shown} needs Secure, and it is missing.", _PUT_IT_RIGHT
    if cookie.host_prefixed and cookie.attributes.get("domain"):
        yield (
            f"{shown} allows no Domain, and one was set.",
            f"{_PUT_IT_RIGHT} (nginx: no proxy_cookie_domain.)",
        )
    if cookie.host_prefixed and cookie.attributes.get("path") != "/":
        yield (
            f"{shown} needs Path=/, and it has another.",
            f"{_PUT_IT_RIGHT} (nginx: no proxy_cookie_path.)",
        )
    if prefix.endswith("http-") and "httponly" not in cookie.attributes:
        yield f"{shown} needs HttpOnly, and it is missing.", _PUT_IT_RIGHT


def _domain(cookie: SetCookie, place: Place) -> Iterator[tuple[str, str]]:
    domain = cookie.attributes.get("domain", "").lower().removeprefix(".")
    if not domain or domain == place.host:
        return
    matches = place.host.endswith(f".{domain}") and not _ADDRESS.fullmatch(place.host)
    if not matches:
        yield (
            f"Its Domain is {domain[:100]}, and the page is on {place.host}.",
            "Leave Domain out, so that the cookie belongs to the host that set it.",
        )
    elif "." not in domain:
        yield f"Its Domain {domain} is a public suffix.", "Leave Domain out."


def _weaknesses(cookie: SetCookie) -> Iterator[Finding]:
    """What browsers keep, and should not have been sent like this. Ours above all."""
    attributes = cookie.attributes
    same_site = attributes.get("samesite", "").lower()
    if cookie.is_ours and not _is_intact(cookie):
        yield problem(
            "cookie",
            f"{cookie.label} is not as Strongroom sends it.",
            why="It sends Path=/, Secure, HttpOnly and SameSite, each once and without a Domain. "
            "Something on the way rewrote it.",
            change="Take out what rewrites cookies: in nginx proxy_cookie_flags, proxy_cookie_path "
            "and proxy_cookie_domain; in others rules on Set-Cookie.",
        )
    elif cookie.repeated:
        yield warning(
            "cookie",
            f"{cookie.label} has {', '.join(cookie.repeated)} twice.",
            why="The last one counts, and servers must not send two (CK-4).",
            change=_PUT_IT_RIGHT,
        )
    elif not cookie.is_ours and same_site not in ("lax", "strict", "none"):
        yield warning(
            "cookie",
            f"{cookie.label} does not say which SameSite it wants.",
            why="Chromium then takes Lax; Firefox and Safari send it from every site.",
            change="Say SameSite=Lax or Strict.",
        )


def _is_intact(cookie: SetCookie) -> bool:
    attributes = cookie.attributes
    return (
        not cookie.repeated
        and "httponly" in attributes
        and ("secure" in attributes or not cookie.name.startswith("__Host-"))
        and attributes.get("path") == "/"
        and "domain" not in attributes
        and attributes.get("samesite", "").lower() in ("lax", "strict")
    )


def _together(cookies: Sequence[SetCookie]) -> Iterator[Finding]:
    names = [cookie.name for cookie in cookies]
    for name in sorted({each for each in names if names.count(each) > 1}):
        yield problem(
            "cookie",
            f"The cookie {name[:60]} is set twice in one response.",
            why="Browsers keep the last one, and which that is no one decided (CK-4).",
            change="Find who else sets it: a second session middleware, or a proxy that adds it.",
        )
