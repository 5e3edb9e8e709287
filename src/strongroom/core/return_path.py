"""Where the browser goes after signing in: a path of ours, or the front page. Never another site.

Whoever writes a link to our sign-in page chooses `next`. Browsers forgive a lot when they read a
URL: they drop tabs and line breaks, read a backslash as a slash, and take `//host` for another
site. Servers behind us may decode once more. So a candidate is accepted only if none of that could
matter, and everything else becomes the default (open redirect, CWE-601).
"""

from __future__ import annotations

from urllib.parse import quote, unquote

MAX_LENGTH = 2048
"""As long as servers and proxies carry in a Location header without complaint."""

_AS_IT_IS = "!#$%&'()*+,/:;=?@[]~"


def safe_next(candidate: str | None, default: str = "/") -> str:
    """The candidate if it is an absolute path of this origin, else the default. Never raises.

    What is returned is ASCII without spaces: fit for a Location header as it stands. `default` is
    the application's own and not looked at.
    """
    if candidate is None or len(candidate) > MAX_LENGTH or not candidate.startswith("/"):
        return default
    # Not printable: control characters, line and paragraph separators, lone surrogates.
    if "\\" in candidate or not candidate.isprintable():
        return default
    path = candidate.partition("#")[0].partition("?")[0]
    once = unquote(path)
    if not all(_is_harmless(reading) for reading in (path, once, unquote(once))):
        return default
    encoded = quote(candidate, safe=_AS_IT_IS)
    return encoded if len(encoded) <= MAX_LENGTH else default


def sign_in_location(sign_in_path: str, next_path: str | None) -> str:
    """The sign-in page with the way back in its `next` parameter.

    A way back that is the sign-in page itself, or none, is left out: it would only go in circles.
    `sign_in_path` is the application's own; it may have a query, and no fragment.
    """
    target = safe_next(next_path, default="")
    bare = sign_in_path.partition("?")[0]
    if not target or target.partition("#")[0].partition("?")[0] == bare:
        return sign_in_path
    return f"{sign_in_path}{'&' if '?' in sign_in_path else '?'}next={quote(target, safe='')}"


def _is_harmless(path: str) -> bool:
    """Whether nothing in this reading of the path could start a host name or a new header line."""
    return "//" not in path and "\\" not in path and path.isprintable()
