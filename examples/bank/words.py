"""Security events and reasons in plain words, for the person whose account it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from http import HTTPStatus
from typing import Any

from strongroom import EndReason

FACTORS = {
    "pwd": "password",
    "otp": "one-time code",
    "swk": "passkey",
    "mfa": "finger, face or PIN",
}
"""RFC 8176 values that people may meet here."""

ENDED = {
    EndReason.LOGOUT: "signed out there",
    EndReason.IDLE: "not used for a while",
    EndReason.ABSOLUTE: "lasted as long as a session may",
    EndReason.REVOKED: "you signed it out from another device",
    EndReason.OPERATOR: "the bank signed it out",
    EndReason.EVERYWHERE: "you signed out everywhere else",
    EndReason.REUSE: "an old key of it was used, which may have been a thief",
    EndReason.EVICTED: "too many devices were signed in",
    EndReason.SUPERSEDED: "you signed in again there",
    EndReason.ABORTED: "signing in did not come to its end",
    EndReason.CREDENTIAL: "your password was changed",
    EndReason.DISABLED: "the account was closed",
    EndReason.POLICY: "the bank renewed its keys",
    EndReason.STORE_RESET: "the bank signed everybody out",
    EndReason.REDEEMED: "it was handed over to another device",
    EndReason.SIGNAL: "something about its use looked wrong",
    EndReason.USED: "what was approved is done",
    EndReason.VOIDED: "something else was asked for than what was approved",
}
"""Why a session ended, as the end of a sentence that begins with "Ended:"."""

ENDED_HERE = {
    EndReason.IDLE: "You were signed out, because nothing was done here for a while.",
    EndReason.ABSOLUTE: "You were signed out: no session lasts longer than a working day.",
    EndReason.REVOKED: "You signed this device out from another one.",
    EndReason.OPERATOR: "The bank signed this device out.",
    EndReason.EVERYWHERE: "You signed out everywhere else, from another device.",
    EndReason.REUSE: "You were signed out, because somebody used an old copy of this session’s "
    "key. Sign in, and look at “What happened”.",
    EndReason.EVICTED: "You were signed out here, because you signed in on many other devices.",
    EndReason.CREDENTIAL: "Your password was changed, so this device was signed out.",
    EndReason.STORE_RESET: "The bank signed everybody out.",
}
"""What the sign-in page says to somebody who did not sign out themselves."""

HAPPENED = {
    "authn_login_success": "You signed in",
    "authn_login_fail": "A wrong password was entered",
    "authn_remember_created": "This browser was remembered",
    "authn_remember_used": "A remembered browser came back",
    "authn_remember_ended": "A browser was forgotten",
    "device_disowned": "You said that a device was not yours",
    "session_signal": "Something looked unusual",
    "authn_step_up": "You confirmed that it was you",
    "authz_approval_given": "You approved a transfer",
    "authz_approval_refused": "An approval was refused",
    "authn_step_down": "You asked to be asked again before anything sensitive",
    "authn_password_change": "You changed your password",
    "authn_token_reuse": "An old key of a session was used, so the session was ended",
    "session_logout": "You signed out",
    "session_expired": "A session ran out",
    "session_ended": "A device was signed out",
    "session_token_refused": "An outdated key of a session was refused",
    "session_two_places": "A session seemed to be in two places at once",
    "excess_sessions_exceeded": "More devices were signed in than the bank allows",
    "malicious_csrf": "Another site tried to act in your name, and was refused",
    "user_disabled": "The account was closed",
}
"""What a customer is told. A sign-in and its new session are one thing here, not two."""

NOTED = {
    "email_changed": "You changed your e-mail address",
    "factor_added": "A second factor was added",
    "factor_removed": "A second factor was removed",
    "money_moved": "You moved money",
    "recovery_code_used": "A recovery code was used",
    "recovery_codes_made": "New recovery codes were made",
}
"""What the bank itself notes in the history, with `session.note`."""

NOT_TOLD = {
    "application",
    "authz_approval_asked",
    "authz_approval_used",
    "authz_fail",
    "crypt_decrypt_fail",
    "session_all_ended",
    "session_cookie_tossing",
    "session_created",
    "session_generations_used_up",
    "session_renewed",
    "session_signed_out_everywhere",
    "session_use_after_expire",
    "subject_erased",
    "sys_store_unavailable",
    "sys_clock_skew",
}
"""For the operator, or told already: each session that ended is an event of its own. What the
application notes is told by its own name."""

_SEVERE = {"warning", "critical"}


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that happened. `notable` marks what the customer should look at twice."""

    at: datetime
    what: str
    details: tuple[str, ...]
    notable: bool

    @property
    def day(self) -> date:
        """Its day, where the bank is."""
        return self.at.astimezone().date()


def tell(event: Mapping[str, Any], devices: Mapping[str, str]) -> Told | None:
    """The event in words, or None where it is not for the customer.

    `devices` are labels by session id: a session that was ended from elsewhere did not say itself
    what it runs on.
    """
    what = HAPPENED.get(event["event"]) or NOTED.get(event.get("what", ""))
    if event.get("pending"):
        what = "Your password was entered"
    if what is None:
        return None
    device = event.get("device") or devices.get(event.get("session_id", ""))
    details = (_noted(event), device, event.get("address"), _why(event), _how_many(event))
    return Told(
        at=datetime.fromtimestamp(event["at"] / 1000, UTC),
        what=what,
        details=tuple(each for each in details if each),
        notable=event["severity"] in _SEVERE,
    )


def _why(event: Mapping[str, Any]) -> str | None:
    """The reason, where the event's name does not tell it already."""
    if event["event"] not in ("session_ended", "session_expired"):
        return None
    return ENDED[EndReason(event["reason"])]


def _noted(event: Mapping[str, Any]) -> str | None:
    if event.get("what") != "money_moved":
        return None
    return f"{euros(event['details']['cents'])} to {event['details']['to']}"


def _how_many(event: Mapping[str, Any]) -> str | None:
    if event["event"] != "authn_password_change" or not event["ended"]:
        return None
    return f"{counted(event['ended'], 'other session')} signed out"


def counted(number: int, noun: str) -> str:
    """`1 other session`, `2 other sessions`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def ago(moment: datetime, now: datetime) -> str:
    """How long ago, in the largest unit that is not zero."""
    seconds = int((now - moment).total_seconds())
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            return f"{counted(seconds // size, unit)} ago"
    return "just now"


def euros(cents: int) -> str:
    """`€ 1,234.50`, with a real minus sign."""
    sign = "−" if cents < 0 else ""
    return f"{sign}€\N{NO-BREAK SPACE}{abs(cents) // 100:,}.{abs(cents) % 100:02}"


def status(code: int) -> str:
    """`303 See Other`."""
    return f"{code} {HTTPStatus(code).phrase}"
