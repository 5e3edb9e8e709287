"""`strongroom policy`: the limits in force, why they differ, and what ends what (P27, ASVS 7.1).

What it prints is the policy document that ASVS 7.1.1 to 7.1.3 ask for, made from the object that
the application runs with, so it cannot be out of date.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from typing import Any

from strongroom.core.csrf_rules import CsrfRules
from strongroom.core.data import is_array
from strongroom.core.ops import AtLimit
from strongroom.core.policy import PROFILES, DataSeal, SessionPolicy
from strongroom.core.record import EndReason
from strongroom.core.responses import Response

from . import settings
from .output import DONE, Output, span
from .parsing import Command

LIMITS: Mapping[str, str] = {
    "idle_timeout": "unused for this long, a session ends",
    "absolute_timeout": "this long after sign-in it ends, however much it is used",
    "touch_interval": "how often use is written down at most",
    "renew_after": "the token is replaced after this long; the session goes on",
    "grace": "how late an honest request may come",
    "settle": "after a renewal both tokens work for this long at least",
    "anonymous_idle": "idle timeout of visitors who are not signed in",
    "anonymous_absolute": "absolute timeout of visitors who are not signed in",
    "pending_idle": "idle timeout between password and second factor",
    "pending_absolute": "absolute timeout between password and second factor",
    "hand_over_lifetime": "how long a hand-over code works, once",
    "approval_lifetime": "how long a transaction waits for its approval",
    "remember_for": "how long a browser is remembered that asked for it",
    "know_devices_for": "how long a browser keeps its device id, from a sign-in",
    "devices_need_consent": "it gets one only where the visitor agreed",
    "max_sessions": "signed-in sessions of one account",
    "at_limit": "what gives way when there would be more",
    "max_data": "bytes that an application may keep in a session",
    "max_anonymous_data": "bytes for a visitor who is not signed in",
    "seal_data": "who can read session data at rest, besides a live request",
    "server_sealed": "keys of it that servers may read without a request",
    "keep_address": "how much of a client's address is kept",
    "history_retention": "how long ended sessions and histories are kept",
    "history_length": "events kept of one account",
    "approved_only": "only functions that NIST approves",
    "csrf": "when a form must carry a token",
    "same_site": "SameSite of the session cookie",
    "max_staleness": "until other processes see that a session was ended, at most",
    "max_skew": "how far the clocks of servers may be apart",
    "development": "for http://localhost only",
}
"""The settings that are limits, in the order in which they are shown, and what each one means."""

NOT_LIMITS = frozenset(
    "profile reasons carry_over conflicts cookie_name clear_site_data origins proxies routes acr "
    "sign_in_path step_up_path record_format signals responses".split()
)
"""The settings that limit nothing. A test holds that every setting is in one of the two."""

FEDERATION = (
    "Sessions here and at an identity provider live and end independently of each other",
    "(NIST SP 800-63C-4, 4.7): signing out there ends nothing here, nor the other way round.",
    "If you sign in through a provider, write down beside this page (ASVS 7.1.3):",
    "- each system that keeps a session, with its two timeouts;",
    "- what ends these sessions when the provider says so: end_all_of(subject), end_session(...);",
    "- the max_age that you ask the provider for, and that you refuse an older auth_time.",
)


def _show_options(parser: argparse.ArgumentParser) -> None:
    settings.add_policy(parser)


def show(options: argparse.Namespace, out: Output) -> int:
    """The policy as a document."""
    policy = settings.policy(options, out)
    deviations = policy.deviations()
    source = PROFILES[policy.profile].source if policy.profile else None
    ends = what_ends_what(policy)
    document = {
        "profile": policy.profile,
        "source": source,
        "limits": {name: _as_json(_value(policy, name)) for name in LIMITS},
        "deviations": [
            {
                "name": each.name,
                "profile": _as_json(each.expected),
                "in_force": _as_json(each.actual),
                "reason": each.reason,
            }
            for each in deviations
        ],
        "ends": [dict(zip(("what", "ends", "reason"), row, strict=True)) for row in ends],
        "federation": list(FEDERATION),
    }
    lines = [
        *_named(policy, source, out, given=settings.is_policy_named(options, out)),
        "",
        out.heading("Limits in force"),
        *out.table(
            ("LIMIT", "VALUE", "MEANING"),
            [(name, told(_value(policy, name)), meaning) for name, meaning in LIMITS.items()],
        ),
        "",
        out.heading("Deviations from the profile"),
        *_deviations(policy, out),
        "",
        out.heading("What ends what"),
        *out.table(("WHAT HAPPENS", "WHAT ENDS", "REASON ON RECORD"), ends),
        "",
        out.heading("In a federation"),
        *FEDERATION,
    ]
    out.answer(document, lines)
    return DONE


def _named(policy: SessionPolicy, source: str | None, out: Output, *, given: bool) -> list[str]:
    lines = [f"{out.heading('Profile')}  {policy.profile or 'none'}"]
    if source:
        lines.append(f"{out.heading('Source')}   {source}")
    if not given:
        lines.append(
            "These are the defaults. See your application's with: "
            "strongroom policy show --policy MODULE:NAME"
        )
    return lines


def _deviations(policy: SessionPolicy, out: Output) -> list[str]:
    if policy.profile is None:
        return [
            "No profile is named, so there is nothing to deviate from. Name the one you answer to,",
            "as in SessionPolicy.nist_aal2(...); see: strongroom policy profiles",
        ]
    rows = [
        (each.name, told(each.expected), told(each.actual), each.reason or "(stricter)")
        for each in policy.deviations()
    ]
    if not rows:
        return ["None."]
    return out.table(("LIMIT", "PROFILE", "IN FORCE", "REASON"), rows)


def _ended_by_signals(policy: SessionPolicy) -> str:
    """Which signals end something; by default none does."""
    ending = {Response.END, Response.END_ALL}
    names = sorted({rule.signal for rule in policy.responses.rules if rule.responses & ending})
    return ", ".join(names) or "nothing, in this policy"


def what_ends_what(policy: SessionPolicy) -> list[tuple[str, str, str]]:
    """What happens, what ends by it, and the reason that stands in the record and the history."""
    idle, absolute = told(policy.idle_timeout), told(policy.absolute_timeout)
    at_limit = {
        AtLimit.REFUSE: ("nothing: the new sign-in is refused", "-"),
        AtLimit.EVICT_OLDEST: ("the account's oldest session", EndReason.EVICTED.value),
        AtLimit.EVICT_LEAST_RECENTLY_USED: (
            "the account's least recently used session",
            EndReason.EVICTED.value,
        ),
    }[policy.at_limit]
    return [
        ("signing out", "this session", EndReason.LOGOUT.value),
        ("signing in again", "this browser's session before", EndReason.SUPERSEDED.value),
        ("signing out elsewhere", "one other session of the account", EndReason.REVOKED.value),
        ("signing out everywhere", "all sessions of the account", EndReason.EVERYWHERE.value),
        (
            "a password or factor is changed",
            "all others of the account; this one's token",
            EndReason.CREDENTIAL.value,
        ),
        (
            "the account is disabled",
            "all sessions of the account",
            EndReason.DISABLED.value,
        ),
        (f"not used for {idle}", "that session", EndReason.IDLE.value),
        (f"{absolute} after sign-in", "that session", EndReason.ABSOLUTE.value),
        (f"more than {policy.max_sessions} sessions", *at_limit),
        ("a retired token comes back", "that session", EndReason.REUSE.value),
        ("a signal that ends sessions", _ended_by_signals(policy), EndReason.SIGNAL.value),
        ("strongroom sessions end, end-all", "what was named", EndReason.OPERATOR.value),
        ("a key is retired", "all sessions issued under it", "-"),
        ("end-everybody, store restored", "all sessions in the store", EndReason.STORE_RESET.value),
    ]


def profiles(_options: argparse.Namespace, out: Output) -> int:
    """The named profiles, with what each says and where it is written."""
    document = {
        "profiles": {
            name: {
                "source": profile.source,
                "limits": {key: _as_json(value) for key, value in profile.values.items()},
            }
            for name, profile in PROFILES.items()
        }
    }
    lines: list[str] = []
    for name, profile in PROFILES.items():
        limits = ", ".join(f"{key} {told(value)}" for key, value in profile.values.items())
        lines += [out.heading(name), f"  {profile.source}", f"  {limits}", ""]
    lines.append("One in full: strongroom policy show --profile NAME")
    out.answer(document, lines)
    return DONE


def told(value: object) -> str:
    """A setting as a person reads it."""
    match value:
        case None:
            return "never"
        case bool():
            return "yes" if value else "no"
        case timedelta():
            return span(value)
        case CsrfRules():
            return (
                "unsafe requests with a body"
                if value.token_on_every_body
                else "if headers do not decide"
            )
        case DataSeal():
            return {"token": "nobody", "server": "servers", "none": "anybody"}[value.value]
        case Enum():
            return str(value.value).replace("_", " ")
        case _ if is_array(value):
            return ", ".join(str(each) for each in value) or "none"
        case _:
            return str(value)


def _value(policy: SessionPolicy, name: str) -> Any:
    """The setting in force; the touch interval is derived where it is not set."""
    if name == "touch_interval":
        return timedelta(milliseconds=policy.clocks.touch)
    return getattr(policy, name)


def _as_json(value: Any) -> Any:
    match value:
        case timedelta():
            return value.total_seconds()
        case CsrfRules():
            return {"token_on_every_body": value.token_on_every_body}
        case Enum():
            return value.value
        case _:
            return value


COMMANDS = (
    Command(
        "policy show",
        "Show the limits in force, why they differ, and what ends what.",
        """The policy document that ASVS 7.1.1 to 7.1.3 ask for, printed from the very object that
        the application runs with: every limit, each deviation from the named profile with its
        reason, and a table of what ends which session. Durations are seconds in JSON.""",
        (
            "strongroom policy show --policy shop.settings:policy",
            "strongroom policy show --profile nist_aal2",
            "strongroom policy show --policy shop.settings:policy --json",
        ),
        _show_options,
        show,
    ),
    Command(
        "policy profiles",
        "List the named profiles, and where each is written down.",
        """A profile is a set of limits that somebody else has argued for: OWASP or NIST. Start
        from the one that you answer to, and give a reason wherever you loosen it.""",
        ("strongroom policy profiles",),
        lambda _parser: None,
        profiles,
    ),
)
