"""Messages to an account's owner: what happened, where, when, and what to do if it was not them.

`NoticeSink` is an event sink. It makes a `Notice` of each signal whose response is `notify` and of
each change of the account that its owner should hear of (ASVS 6.3.5, 6.3.7), and hands it to a
function of the application's, which knows an address to send it to. That function should return at
once: put the notice into a queue of yours.

The link leads to the owner's page of devices, and does nothing by itself: mail scanners follow
links, and a link that ends sessions would be one more credential in a mailbox.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from strongroom.core.events import (
    CredentialsChanged,
    Event,
    SignalRaised,
    SignedOutEverywhere,
    TokenReuse,
)


@dataclass(frozen=True, slots=True)
class Notice:
    """A message for the account's owner. `text` is plain text, `severity` the event's.

    `facts` are what, when, where and with which device, for a template of your own.
    """

    subject: str
    title: str
    text: str
    severity: str
    session_id: str | None
    facts: tuple[tuple[str, str], ...]


class NoticeSink:
    """Hands notices to `send`.

    `site` is the name that owners know, `devices_page` the address of their list of devices,
    `zone` the time zone that times are told in.
    """

    def __init__(
        self,
        send: Callable[[Notice], None],
        *,
        site: str,
        devices_page: str,
        zone: tzinfo = UTC,
    ) -> None:
        self._send = send
        self._site = site
        self._page = devices_page
        self._zone = zone

    def __call__(self, event: Event) -> None:
        """Make a notice of the event, if it is one for the owner."""
        told = _told(event, self._site)
        if told is None or event.subject is None:
            return
        title, opening, advice = told
        facts = tuple(self._facts(event))
        lines = [
            opening,
            "",
            *(f"  {name}: {value}" for name, value in facts),
            "",
            "Was this you? Then there is nothing to do.",
            advice,
            f"See where you are signed in, and sign out what is not yours: {self._page}",
        ]
        self._send(
            Notice(event.subject, title, "\n".join(lines), event.severity, event.session_id, facts)
        )

    def _facts(self, event: Event) -> list[tuple[str, str]]:
        when = datetime.fromtimestamp(event.at / 1000, self._zone)
        facts = [("When", when.strftime("%d %B %Y, %H:%M %Z"))]
        if event.device:
            facts.append(("Device", _one_line(event.device)))
        if event.address:
            facts.append(("Address", _one_line(event.address)))
        if isinstance(event, SignalRaised):
            facts.append(("What we noticed", _one_line(event.why)))
        return facts


_CHANGE_IT = "If it was not you, change your password now: that signs out everybody else."


def _told(event: Event, site: str) -> tuple[str, str, str] | None:
    """Title, first sentence and advice; None where the owner need not know."""
    match event:
        case SignalRaised() if "notify" in event.responses:
            title = _TITLES.get(event.signal, "Unusual activity in your {site} account")
            return title.format(site=site), f"Your {site} account was used:", _CHANGE_IT
        case TokenReuse():
            return (
                f"We signed you out of {site} to protect your account",
                "A copy of your sign-in was used in another browser, so we ended it:",
                "Look at the devices that you use for malware, and change your password.",
            )
        case CredentialsChanged():
            return (
                f"Your {site} password was changed",
                "A password or another way to sign in to your account was changed:",
                "If it was not you, tell us at once: somebody else has your account.",
            )
        case SignedOutEverywhere():
            return (
                f"You were signed out of {site} everywhere",
                "All sessions of your account were ended:",
                _CHANGE_IT,
            )
        case _:
            return None


_TITLES = {
    "new_device": "New sign-in to your {site} account",
    "new_country": "Sign-in to your {site} account from a new country",
    "impossible_travel": "Sign-in to your {site} account from far away",
    "after_failures": "Sign-in to your {site} account after several failures",
    "sign_in_risk": "Unusual sign-in to your {site} account",
}


def _one_line(text: str) -> str:
    """Without what could start a new line or a header: a browser may say anything of itself."""
    return " ".join("".join(ch if ch.isprintable() else " " for ch in text).split())[:200]
