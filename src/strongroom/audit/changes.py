"""A request that changes something, and the forged versions of it.

A refusal counts only as a refusal of the *change*: after each attempt the state is read back. And
it counts only between two honest requests that did change it, one before and one after: else it may
have been the form, the session or the rate limit that refused, and not the protection.
"""

from __future__ import annotations

import json as json_codec
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .browser import Browser, Initiator
from .recipes import Draft, Lost, Recipe, view_of
from .verdict import NotApplicable, Unsure
from .wire import Reply, port_of

if TYPE_CHECKING:
    from .site import Site

EVIL = "https://evil.example"
HOSTILE = Initiator(site="cross-site", origin=EVIL, referer=f"{EVIL}/")
SILENT = Initiator(site="", origin=None, referer=None)
ONLY_REFERER = Initiator(site="", origin=None, referer=f"{EVIL}/")
NO_ORIGIN = Initiator(site="cross-site", origin=None, referer=None)
LINK = Initiator(site="cross-site", origin=None, referer=f"{EVIL}/")


def origin_tricks(url: str) -> list[tuple[str, Initiator]]:
    """Foreign origins that careless comparisons take for the site's own, with and without metadata.

    Without: browsers before 2023 and pages on plain http send Origin alone.
    """
    parts = urlsplit(url)
    host = parts.netloc
    name = parts.hostname or ""
    tricks = {
        "another site": EVIL,
        "'null', as from a sandboxed frame": "null",
        "a host that begins with ours": f"{parts.scheme}://{name}.evil.example",
        "a host that ends with ours": f"{parts.scheme}://evil{host}",
        "a path that holds ours": f"{EVIL}/{name}",
    }
    if parts.scheme == "https":
        tricks["our host without encryption"] = f"http://{host}"
    made: list[tuple[str, Initiator]] = []
    for what, origin in tricks.items():
        referer = None if origin == "null" else f"{origin}/"
        made.append((what, Initiator("cross-site", origin, referer)))
        made.append((what, Initiator("", origin, referer)))
    return made


def sibling(url: str) -> Initiator:
    """Another host of the same site, or another port where hosts have no siblings."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if re.fullmatch(r"[0-9.]+|.*:.*|localhost", host):
        origin = f"{parts.scheme}://{parts.hostname}:{port_of(url) % 60000 + 1}"
    else:
        parent = host.split(".", 1)[1] if host.count(".") > 1 else host
        origin = f"{parts.scheme}://sibling.{parent}"
    return Initiator("same-site", origin, f"{origin}/")


@dataclass
class Change:
    """One state-changing request of the target, with the victim's browser."""

    site: Site
    recipe: Recipe
    browser: Browser | None = None
    proven: bool = False
    failed: set[str] = field(default_factory=set[str])

    @property
    def name(self) -> str:
        """What it is called in reports."""
        return self.recipe.name

    @property
    def is_form(self) -> bool:
        """Whether another site's page can send it as it is, without asking the server first."""
        return self.recipe.call.json is None and self.method in ("GET", "POST")

    @property
    def can_be_forged(self) -> bool:
        """Whether a page elsewhere can send it, be it as JSON that calls itself text."""
        return self.method == "POST" and (self.is_form or self.recipe.call.json is not None)

    @property
    def method(self) -> str:
        """The honest request's method."""
        if self.recipe.form is not None:
            return self.recipe.form.method
        return (self.recipe.call.method or "POST").upper()

    def victim(self) -> Browser:
        """The signed-in browser whose session is attacked; signed in again if it was signed out."""
        if self.browser is None or not self.site.is_in(self.browser):
            self.browser = self.site.signed_in()
        return self.browser

    def draft(self) -> Draft:
        """The honest request, with the victim's own fresh tokens. Raises: Unsure."""
        try:
            return self.recipe.draft(self.victim(), self.site.account)
        except Lost as error:
            raise Unsure(str(error)) from None

    def state(self) -> tuple[str, Reply]:
        """What the page of this change shows now. Raises: Unsure."""
        call = self.recipe.call
        if call.read is None:
            raise Unsure(
                f"Nothing says where the change {self.name!r} is to be seen: add 'read' to it."
            )
        view = view_of(call.read, self.site.target.url, self.site.account)
        reply = view.ask(self.victim())
        if reply.status != 200:
            raise Unsure(f"{reply.url}, where the change is to be seen, answered {reply.status}.")
        if not call.pattern:
            return reply.text, reply
        found = re.search(call.pattern, reply.text)
        if found is None:
            raise Unsure(f"The pattern of {self.name!r} is not on {reply.url}.")
        return found[found.re.groups and 1], reply

    def prove(self) -> None:
        """The honest request changes the state, this time. Raises: Unsure if it does not."""
        done, reply = self.attempt(self.draft(), Initiator())
        read = self.recipe.call.read
        if not done:
            raise Unsure(
                f"The honest request {self.name!r} (answered {reply.status}) was not seen to "
                f"change {read and (read.url or read.page)}, so a refusal would prove nothing."
            )
        self.proven = True

    def attempt(self, draft: Draft, initiator: Initiator, **more: object) -> tuple[bool, Reply]:
        """Send this draft from there with the victim's cookies -> whether it changed the state."""
        before = self.state()[0] if self.recipe.call.pattern else ""
        reply = draft.send(self.victim(), initiator, **more)
        after = self.state()[0]
        if self.recipe.call.pattern:
            return after != before, reply
        return draft.nonce in after, reply

    def forge(self, initiator: Initiator) -> tuple[bool, Reply]:
        """Send it without its token, as a page elsewhere would have to -> whether it changed."""
        draft = self.draft().without_tokens()
        if self.is_form:
            return self.attempt(draft, initiator)
        body = json_codec.dumps(draft.json).encode()
        return self.raw(draft, initiator, "POST", draft.url, body, "text/plain")

    def raw(self, draft: Draft, initiator: Initiator, method: str, url: str,
            body: bytes | None, content_type: str) -> tuple[bool, Reply]:  # fmt: skip
        """Send a body of one's own making with the victim's cookies -> whether it changed."""
        before = self.state()[0] if self.recipe.call.pattern else ""
        headers = {} if content_type else {"Content-Type": ""}
        reply = self.victim().send(method, url, body=body, content_type=content_type,
                                   headers=headers, initiator=initiator)  # fmt: skip
        after = self.state()[0]
        return (after != before if self.recipe.call.pattern else draft.nonce in after), reply

    def foreign_token(self, browser: Browser) -> str:
        """The token that this other browser is given for the same form; empty if it gets none."""
        try:
            return self.recipe.draft(browser, self.site.account).token()
        except Lost:
            return ""


def changes_of(site: Site) -> list[Change]:
    """The declared changes, each proven once. Raises: Unsure, NotApplicable."""
    _cookies = site.essentials  # without a cookie that signs in, nothing can be forged
    if "changes" not in site.shelf:
        site.shelf["changes"] = [Change(site, recipe) for recipe in site.plan.changes]
    changes: list[Change] = site.shelf["changes"]
    if not changes:
        raise Unsure(_nothing_named(site))
    for change in changes:
        if not change.proven:
            change.prove()
    return changes


def _nothing_named(site: Site) -> str:
    found = [f"{form.method} {urlsplit(form.action).path}" for form in site.plan.forms]
    if not found and not site.plan.pages:
        raise NotApplicable("No state-changing request is named, and no page has a form.")
    said = "No state-changing request is named in the target file, so none was sent."
    if found:
        said += f" Seen: {', '.join(dict.fromkeys(found))}. `strongroom audit init` writes them."
    return said


def shape_like(token: str, nonce: str) -> str:
    """A token of the same shape that nobody issued."""
    made = "".join(
        ("0" if each != "0" else "1") if each.isdigit()
        else ("a" if each.lower() != "a" else "b") if each.isalpha() else each
        for each in token
    )  # fmt: skip
    return made or nonce


def protected_by_cookie(site: Site, *, by_get: bool = False) -> bool:
    """Whether SameSite alone would keep the browser from sending the cookies along."""
    wanted = ("Strict",) if by_get else ("Strict", "Lax")
    return any(
        each.same_site in wanted
        for each in site.essentials.cookies
        if each.name in site.essentials.needed
    )


def with_field(draft: Draft, name: str, value: str) -> Draft:
    """The draft with one more field."""
    return replace(draft, fields=(*(draft.fields or ()), (name, value)))
