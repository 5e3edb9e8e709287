"""`STRONGROOM = {...}` in Django's settings, and which of Django's own settings count.

What is misspelt or contradictory stops the server at start-up, with a sentence.
"""

from __future__ import annotations

# Django ships no types, so what comes out of its settings is told here, once.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings

from strongroom.core.adoption import Adoption
from strongroom.core.errors import ConfigurationError
from strongroom.core.events import EventSink
from strongroom.core.policy import SessionPolicy
from strongroom.core.proxies import TrustedProxies
from strongroom.managing import KeySource

from .adoption import adoption_of

DJANGOS_COOKIE_NAME = "sessionid"
_KNOWN = tuple(
    "store keys policy sinks proxies carry_over factors adopt adopt_cookie adopt_until".split()
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `STRONGROOM` says. `policy` is complete: proxies, cookie and sign-in page are in it."""

    store: str | None
    keys: KeySource | None
    policy: SessionPolicy
    sinks: Iterable[EventSink] | None = None
    carry_over: tuple[str, ...] | None = None
    """Which data comes along from before sign-in; None is everything, as Django has it."""
    factors: tuple[str, ...] = ("pwd",)
    """What a login proves, as RFC 8176 values, unless `request.session.login_factors` says."""
    adopt: Adoption | None = None
    """How the sessions of one of Django's engines are taken over, see docs/moving/django.md."""


def read_options() -> Options:
    """The options in force.

    Raises:
        ConfigurationError: something is missing, unknown or contradictory.
    """
    told: object = getattr(settings, "STRONGROOM", None)
    if not isinstance(told, Mapping):
        raise ConfigurationError(
            "Django's settings have no STRONGROOM.",
            why="Sessions need a store to be kept in and keys to be issued under.",
            hint='Write STRONGROOM = {"store": "sqlite:///var/sessions.db", '
            '"keys": "var/strongroom.keys"}, and make the keys with: '
            "strongroom keys generate var/strongroom.keys",
        )
    given: dict[str, Any] = {str(name): value for name, value in told.items()}
    unknown = sorted(set(given) - set(_KNOWN))
    if unknown:
        raise ConfigurationError(
            f"STRONGROOM has {', '.join(map(repr, unknown))}, which nothing reads.",
            why="A limit that is misspelt is a limit that is not there.",
            hint=f"It knows: {', '.join(_KNOWN)}. Timeouts belong into "
            '"policy": SessionPolicy(...).',
        )
    carried = given.get("carry_over")
    factors = given.get("factors", "pwd")
    return Options(
        store=given.get("store"),
        keys=given.get("keys"),
        policy=_policy(given.get("policy"), given.get("proxies")),
        sinks=given.get("sinks"),
        carry_over=None if carried is None else tuple(carried),
        factors=(factors,) if isinstance(factors, str) else tuple(factors),
        adopt=_adoption(given),
    )


def _adoption(given: Mapping[str, Any]) -> Adoption | None:
    engine = given.get("adopt")
    if engine is None:
        return None
    cookie = str(given.get("adopt_cookie", DJANGOS_COOKIE_NAME))
    return adoption_of(str(engine), cookie, given.get("adopt_until"))


def _policy(policy: Any, proxies: Any) -> SessionPolicy:
    """The policy, with what Django's own settings say of the cookie.

    Without one, DEBUG decides: the development policy serves http://localhost and refuses every
    other host, so a DEBUG that was forgotten lets nobody in.
    """
    if policy is None:
        policy = SessionPolicy.for_development() if settings.DEBUG else SessionPolicy()
    if not isinstance(policy, SessionPolicy):
        raise ConfigurationError(
            f"STRONGROOM['policy'] is a {type(policy).__name__}, not a SessionPolicy.",
            hint='Write "policy": SessionPolicy(idle_timeout=timedelta(minutes=15)).',
        )
    changes: dict[str, Any] = {}
    if proxies:
        listed = (proxies,) if isinstance(proxies, str) else tuple(proxies)
        changes["proxies"] = TrustedProxies.of(*listed)
    if settings.SESSION_COOKIE_SAMESITE == "Strict":
        changes["same_site"] = "Strict"
    name = own_cookie_name()
    if name is not None and policy.cookie_name is None:
        changes["cookie_name"] = name
    login = str(settings.LOGIN_URL)
    if policy.sign_in_path == "/sign-in" and login.startswith("/"):
        changes["sign_in_path"] = login
    return replace(policy, **changes) if changes else policy


_ours: set[str] = set()


def own_cookie_name() -> str | None:
    """The name that the project chose for the cookie, or None where it left that to us."""
    name = str(settings.SESSION_COOKIE_NAME)
    return None if name == DJANGOS_COOKIE_NAME or name in _ours else name


def tell_cookie_name(name: str) -> None:
    """Have `settings.SESSION_COOKIE_NAME` say what the cookie is really called.

    Django's test client and other people's code look the cookie up under it.
    """
    if name != settings.SESSION_COOKIE_NAME:
        _ours.add(name)
        settings.SESSION_COOKIE_NAME = name
