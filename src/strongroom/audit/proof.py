"""Telling whether a browser is signed in, from one page, seen before with and without a session.

Three answers: yes, no, and "cannot be told". A page that looks like neither of what was seen is the
third, so that an error page never counts as a refusal that somebody earned.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .browser import Browser
from .pages import read_page
from .recipes import View
from .wire import Reply

SIGN_OUT_WORDS = re.compile(
    r"\b(?:log|sign)[\s_-]?(?:out|off)\b|\babmelden\b|\bausloggen\b|\bd[eé]connexion\b|"
    r"\bcerrar sesi[oó]n\b|\besci\b|\bafmelden\b|\buitloggen\b|\blogga ut\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Shape:
    """How a page answered: status, the path it ended at, and whether it asks for a password."""

    status: int
    path: str
    asks: bool


@dataclass(frozen=True, slots=True)
class Proof:
    """A page that only somebody who is signed in sees, and how it looks in both cases."""

    view: View
    member: Shape
    visitor: Shape
    marker: str = ""
    also: str = ""
    """A second text that only a signed-in person sees: a change may replace the name shown."""

    @property
    def url(self) -> str:
        """Its address."""
        return self.view.url

    def ask(self, browser: Browser, *, url: str = "", **more: Any) -> Reply:
        """The page as this browser is shown it now."""
        return self.view.ask(browser, url=url, **more)

    def judge(self, reply: Reply) -> bool | None:
        """Whether this reply is what a signed-in person sees; None if it is like neither."""
        if reply.status >= 500 or reply.status in (408, 429):
            return None
        shape = shape_of(reply)
        if self.marker:
            return self._by_marker(reply, shape)
        if shape == self.member:
            return True
        return False if self._is_refusal(shape) else None

    def _by_marker(self, reply: Reply, shape: Shape) -> bool | None:
        text = reply.text.lower()
        shown = any(each and each.lower() in text for each in (self.marker, self.also))
        if shape == self.member and shown:
            return True
        if self._is_refusal(shape) or shape == self.member:
            return False
        return None

    def _is_refusal(self, shape: Shape) -> bool:
        return shape == self.visitor or shape.status in (401, 403) or shape.asks


def shape_of(reply: Reply) -> Shape:
    """How this page answered."""
    path = urlsplit(reply.url).path or "/"
    return Shape(reply.status, path, bool(reply.status < 400 and _asks_password(reply)))


def _asks_password(reply: Reply) -> bool:
    """One password field makes a sign-in form; more make a form to change it or to register."""
    return any(len(form.passwords) == 1 for form in read_page(reply).forms)


def make_proof(view: View, member: Reply, visitor: Reply, marker: str, user: str) -> Proof | None:
    """What tells the two replies apart, or None if nothing does.

    `marker` is the text that the developer named; else it is the user's name or a way to sign out.
    """
    if member.status != 200:
        return None
    seen, unseen = member.text.lower(), visitor.text.lower()
    shapes = shape_of(member), shape_of(visitor)
    if shapes[0].asks and not marker:
        return None  # a sign-in form that repeats the name is no proof
    if marker:
        if marker.lower() not in seen or (shapes[0] == shapes[1] and marker.lower() in unseen):
            return None
        return Proof(view, *shapes, marker)
    sign_out = SIGN_OUT_WORDS.search(member.text)
    way_out = sign_out[0] if sign_out and not SIGN_OUT_WORDS.search(visitor.text) else ""
    if len(user) >= 2 and user.lower() in seen and user.lower() not in unseen:
        return Proof(view, *shapes, user, way_out)
    if way_out:
        return Proof(view, *shapes, way_out)
    return Proof(view, *shapes) if shapes[0] != shapes[1] else None
