"""Recognises frameworks by the cookies and headers that they set, to show the fitting fix."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .wire import Reply

_COOKIES = (
    (r"(?:__Host-|__Secure-)?sessionid|csrftoken", "Django"),
    (r"PHPSESSID", "PHP"),
    (r"laravel_session|XSRF-TOKEN", "Laravel"),
    (r"JSESSIONID", "Java"),
    (r"connect\.sid", "Express"),
    (r"_[a-z0-9]+_session", "Rails"),
    (r"ASP\.NET_SessionId|\.AspNetCore\..*", "ASP.NET"),
    (r"remember_token", "Flask"),
    (r"_xsrf", "Tornado"),
)
_SERVERS = (
    (r"werkzeug", "Flask"),
    (r"express", "Express"),
    (r"\bphp/", "PHP"),
    (r"tomcat|jetty|undertow", "Java"),
    (r"asp\.net", "ASP.NET"),
    (r"tornado", "Tornado"),
    (r"phusion passenger", "Rails"),
)
_FLASK = re.compile(r"\.?[\w-]{8,}\.[\w-]{6}\.[\w-]{27}\Z")


def recognise(replies: Iterable[Reply]) -> tuple[str, ...]:
    """The frameworks that these replies give away, the most certain first."""
    found: dict[str, int] = {}
    for reply in replies:
        for line in reply.set_cookies:
            name, _, rest = line.partition("=")
            for pattern, framework in _COOKIES:
                if re.fullmatch(pattern, name.strip()):
                    found[framework] = found.get(framework, 0) + 2
            value = rest.partition(";")[0]
            if name.strip() == "session" and _FLASK.match(value):
                kind = "Starlette" if "=" in value.partition(".")[0] else "Flask"
                found[kind] = found.get(kind, 0) + 1
        told = f"{reply.value('server')} {reply.value('x-powered-by')}".lower()
        for pattern, framework in _SERVERS:
            if re.search(pattern, told):
                found[framework] = found.get(framework, 0) + 1
    return tuple(sorted(found, key=lambda each: -found[each]))
