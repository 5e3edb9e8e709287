"""What somebody filled in, and what is not right about it, in sentences that help."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Form

from .passwords import MAX_LENGTH, MIN_LENGTH

Text = Annotated[str, Form()]
"""A text field. A missing one is empty, and told like an empty one."""

_USERNAME = re.compile(r"[a-z][a-z0-9-]{1,29}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
_AMOUNT = re.compile(r"(\d{1,9})(?:[.,](\d{1,2}))?")
_LONGEST = 120


class Filled:
    """A form's values, kept for showing it again, and one error for a field at most."""

    def __init__(self, **values: str) -> None:
        self.values = {name: value.strip() for name, value in values.items()}
        self.errors: dict[str, str] = {}

    def refuse(self, name: str, why: str) -> None:
        """Say what is not right about a field; the first thing said stays."""
        self.errors.setdefault(name, why)

    def text(self, name: str, missing: str, *, optional: bool = False) -> str:
        """A line of text."""
        value = self.values[name]
        if not value and not optional:
            self.refuse(name, missing)
        if len(value) > _LONGEST or not value.isprintable():
            self.refuse(name, f"Use at most {_LONGEST} characters, on one line.")
        return value

    def username(self, name: str = "username") -> str:
        """A username to be given out."""
        value = self.values[name].lower()
        if not value:
            self.refuse(name, "Choose a username.")
        elif not _USERNAME.fullmatch(value):
            self.refuse(
                name,
                "Use 2 to 30 small letters, digits and hyphens, beginning with a letter.",
            )
        return value

    def email(self, name: str = "email") -> str:
        """An e-mail address, as far as its shape can tell."""
        value = self.text(name, "Enter your e-mail address.")
        if value and not _EMAIL.fullmatch(value):
            self.refuse(name, "Enter an e-mail address, such as name@example.org.")
        return value

    def money(self, name: str) -> int:
        """An amount in cents."""
        value = self.values[name].replace(" ", "").removeprefix("€")
        match = _AMOUNT.fullmatch(value)
        if not value:
            self.refuse(name, "Enter an amount.")
        elif match is None:
            self.refuse(name, "Enter the amount in euros, such as 12 or 12.50.")
        else:
            cents = int(match[1]) * 100 + int((match[2] or "").ljust(2, "0") or 0)
            if cents:
                return cents
            self.refuse(name, "Enter an amount above zero.")
        return 0

    def new_password(self, new: str, again: str, username: str) -> None:
        """A password to be set. Passwords are not among the values: they are never shown again."""
        if len(new) < MIN_LENGTH:
            self.refuse("new_password", f"Use at least {MIN_LENGTH} characters. A few words do.")
        elif len(new) > MAX_LENGTH:
            self.refuse("new_password", f"Use at most {MAX_LENGTH} characters.")
        elif username and username in new.lower():
            self.refuse("new_password", "Leave your username out of it: that is guessed first.")
        elif new != again:
            self.refuse("again", "This is not the same as the password above. Enter it again.")
