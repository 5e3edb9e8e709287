"""`manage.py check` and `manage.py check --deploy`: what would not work, and what is unsafe.

Every message says what to change. Errors (E) stop; warnings (W) can be silenced by their id.
"""

from __future__ import annotations

# Django ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from collections.abc import Callable, Iterator
from typing import Any

from django.conf import settings
from django.contrib.sessions.middleware import SessionMiddleware as DjangosMiddleware
from django.core.checks import CheckMessage, Error, Warning
from django.utils.module_loading import import_string

from strongroom.core.errors import StrongroomError
from strongroom.core.proxies import TrustedProxies

from . import options

ENGINE = "strongroom.integrations.django"
MIDDLEWARE = f"{ENGINE}.middleware.SessionMiddleware"
CSRF = f"{ENGINE}.csrf.CsrfViewMiddleware"
DJANGOS_CSRF = "django.middleware.csrf.CsrfViewMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
ORDER = f"{ENGINE}.backends.AuthenticationOrder"


def check_settings(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """What does not work or is contradictory; asked at every start of `manage.py runserver`."""
    del app_configs
    return [*_engine(), *_middleware(), *_strongroom(), *_cookie()]


def check_deployment(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """What is unsafe or will surprise in production: `manage.py check --deploy`."""
    del app_configs
    try:
        found = options.read_options()
    except StrongroomError:
        return []  # `check_settings` tells.
    return [*_production(found), *_edges(found)]


def _engine() -> Iterator[CheckMessage]:
    if settings.SESSION_ENGINE != ENGINE:
        yield Error(
            f"SESSION_ENGINE is {settings.SESSION_ENGINE!r}, so code outside of requests, and "
            "Django's test client, would use other sessions than your visitors have.",
            hint=f'Set SESSION_ENGINE = "{ENGINE}".',
            id="strongroom.E001",
        )
    serializer = str(settings.SESSION_SERIALIZER)
    if "pickle" in serializer.lower():
        yield Error(
            f"SESSION_SERIALIZER is {serializer!r}: whoever can write a pickle can run code here.",
            hint="Remove SESSION_SERIALIZER. Strongroom has an encoding of its own.",
            id="strongroom.E005",
        )


def _middleware() -> Iterator[CheckMessage]:
    listed = list(settings.MIDDLEWARE)
    ours = [path for path in listed if path == MIDDLEWARE]
    theirs = [path for path in listed if path != MIDDLEWARE and _is_session_middleware(path)]
    if theirs:
        yield Error(
            f"{theirs[0]!r} is in MIDDLEWARE, and it hands out cookies that open nothing.",
            hint=f"Replace it by '{MIDDLEWARE}'.",
            id="strongroom.E003",
        )
    if not ours:
        if not theirs:
            yield Error(
                "Strongroom's middleware is missing from MIDDLEWARE, so no request has a session.",
                hint=f"Add '{MIDDLEWARE}' where Django's SessionMiddleware would stand.",
                id="strongroom.E002",
            )
        return
    place = listed.index(MIDDLEWARE)
    for needs_it in (CSRF, AUTHENTICATION, "django.contrib.messages.middleware.MessageMiddleware"):
        if needs_it in listed[:place]:
            yield Error(
                f"{needs_it!r} stands before Strongroom's middleware, so it finds no session.",
                hint=f"Move '{MIDDLEWARE}' above it in MIDDLEWARE.",
                id="strongroom.E004",
            )


def _is_session_middleware(path: str) -> bool:
    try:
        found = import_string(path)
    except ImportError:
        return False  # Django tells.
    return isinstance(found, type) and issubclass(found, DjangosMiddleware)


def _strongroom() -> Iterator[CheckMessage]:
    """What STRONGROOM says is tried out; nothing is opened."""
    from . import runtime

    try:
        runtime.current()
    except StrongroomError as error:
        yield Error(f"{error.what} {error.why}".strip(), hint=error.hint, id="strongroom.E006")


def _cookie() -> Iterator[CheckMessage]:
    refused: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
        (
            "SESSION_COOKIE_DOMAIN",
            lambda value: value is not None,
            "the cookie belongs to one host alone; a Domain would let every sibling host plant it",
        ),
        ("SESSION_COOKIE_PATH", lambda value: value != "/", "the cookie is sent to the whole host"),
        ("SESSION_COOKIE_HTTPONLY", lambda value: not value, "no script may read the cookie"),
        (
            "SESSION_COOKIE_SAMESITE",
            lambda value: value not in ("Lax", "Strict"),
            "SameSite is Lax or Strict",
        ),
    )
    for name, is_wrong, why in refused:
        value = getattr(settings, name)
        if is_wrong(value):
            yield Error(
                f"{name} is {value!r}, which Strongroom does not follow: {why}.",
                hint=f"Remove {name} from the settings.",
                id="strongroom.E007",
            )


def _production(found: options.Options) -> Iterator[CheckMessage]:
    if (found.store or "").startswith("memory:"):
        yield Warning(
            "STRONGROOM keeps sessions in memory: every worker has its own, and all end with it.",
            hint='Write "store": "sqlite:///var/sessions.db" for one machine, or name a server.',
            id="strongroom.W001",
        )
    if found.policy.development:
        yield Warning(
            "The development policy is in force: cookies without Secure, for localhost only.",
            hint='Set DEBUG = False, or write "policy": SessionPolicy() in STRONGROOM.',
            id="strongroom.W002",
        )
    if found.adopt is not None and found.adopt.cookie == found.policy.cookie_name:
        yield Error(
            f"'adopt' reads the cookie {found.adopt.cookie!r}, which is ours as well.",
            hint="Remove SESSION_COOKIE_NAME, and name the old cookie in 'adopt_cookie'.",
            id="strongroom.E008",
        )
    if found.adopt is not None:
        yield Warning(
            f"Sessions of another engine are taken over until {found.adopt.until:%Y-%m-%d}.",
            hint="Remove 'adopt' from STRONGROOM after that day.",
            id="strongroom.W003",
        )
    age = int(settings.SESSION_COOKIE_AGE)
    idle = int(found.policy.idle_timeout.total_seconds())
    if settings.is_overridden("SESSION_COOKIE_AGE") and age != idle:
        yield Warning(
            f"SESSION_COOKIE_AGE is {age} and is not followed: the policy ends sessions after "
            f"{idle} seconds without use.",
            hint="Write the timeouts into STRONGROOM: SessionPolicy(idle_timeout=..., "
            "absolute_timeout=...), and remove SESSION_COOKIE_AGE.",
            id="strongroom.W004",
        )
    if settings.is_overridden("SESSION_EXPIRE_AT_BROWSER_CLOSE") and not (
        settings.SESSION_EXPIRE_AT_BROWSER_CLOSE
    ):
        yield Warning(
            "SESSION_EXPIRE_AT_BROWSER_CLOSE = False is not followed: the session cookie always "
            "goes when the browser closes.",
            hint="Remove it.",
            id="strongroom.W005",
        )


def _edges(found: options.Options) -> Iterator[CheckMessage]:
    listed = list(settings.MIDDLEWARE)
    if CSRF not in listed and DJANGOS_CSRF not in listed:
        yield Warning(
            "No CSRF middleware is in MIDDLEWARE: other sites can act as your visitors.",
            hint=f"Add '{CSRF}', or Django's own, below the session middleware.",
            id="strongroom.W006",
        )
    if CSRF in listed and DJANGOS_CSRF in listed:
        yield Warning(
            "Both CSRF middlewares are in MIDDLEWARE, and each refuses the other's tokens.",
            hint=f"Keep one of them: '{CSRF}' or '{DJANGOS_CSRF}'.",
            id="strongroom.W007",
        )
    if DJANGOS_CSRF in listed and not settings.CSRF_COOKIE_SECURE:
        yield Warning(
            "CSRF_COOKIE_SECURE is not True, so anybody on the way can plant Django's CSRF cookie.",
            hint=f"Set CSRF_COOKIE_SECURE = True, or use '{CSRF}', which has no such cookie.",
            id="strongroom.W008",
        )
    if settings.SECURE_PROXY_SSL_HEADER is not None and found.policy.proxies == (TrustedProxies()):
        yield Warning(
            "SECURE_PROXY_SSL_HEADER says that a proxy is in front, and STRONGROOM names none: the "
            "client's address and scheme are taken from the connection, which is the proxy's.",
            hint='Write "proxies": ["10.0.0.0/8"], the addresses of your proxies, in STRONGROOM.',
            id="strongroom.W009",
        )
    if ORDER not in settings.AUTHENTICATION_BACKENDS:
        yield Warning(
            "A login whose password is being checked while all sessions of the account are ended "
            "may complete afterwards.",
            hint=f"Put '{ORDER}' first in AUTHENTICATION_BACKENDS.",
            id="strongroom.W010",
        )
