"""Reads HTML as far as an auditor needs it: forms, links, buttons, scripts, and the visible text.

The parser is the standard library's, which no markup can make fail. Nothing is executed: a page
that is drawn by a script shows only what its source says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

from .wire import Reply, without_fragment

MOST_READ = 300_000
"""Characters of a page. Longer ones are tables of data."""

MOST_LINKS = 2000
"""Links of a page; to make each absolute takes time."""

MANY = "select-multiple"
"""The kind of a list of which several may be chosen. It is sent only as what is chosen."""
_SCRIPTS = ("text/javascript", "application/javascript", "application/x-javascript")
_FIELD_TAGS = ("input", "select", "textarea", "button")
_VARY = ("hidden", "submit", "checkbox", "radio")
"""Kinds of fields that one form has on one visit and not on the next."""
_SILENT = ("script", "style", "template", "noscript")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a form."""

    name: str
    kind: str = "text"
    value: str = field(default="", repr=False)
    label: str = ""
    autocomplete: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True)
class Form:
    """A form. `action` is absolute; `words` is what stands on and around its buttons."""

    page: str
    action: str
    method: str = "GET"
    enctype: str = "application/x-www-form-urlencoded"
    fields: tuple[Field, ...] = ()
    words: str = ""
    name: str = ""

    @property
    def passwords(self) -> list[Field]:
        """Its password fields."""
        return [each for each in self.fields if each.kind == "password"]

    @property
    def texts(self) -> list[Field]:
        """The fields into which a person writes, passwords aside."""
        kinds = ("text", "email", "tel", "search", "url", "number", "textarea")
        return [each for each in self.fields if each.kind in kinds and each.name]

    @property
    def hidden(self) -> list[Field]:
        """Its hidden fields."""
        return [each for each in self.fields if each.kind == "hidden" and each.name]

    def is_like(self, other: Form) -> bool:
        """Whether this is the same form, found on a later visit."""
        names = {each.name for each in self.fields if each.kind not in _VARY}
        others = {each.name for each in other.fields if each.kind not in _VARY}
        same = urlsplit(self.action).path == urlsplit(other.action).path
        return same and self.method == other.method and names == others


@dataclass(frozen=True, slots=True)
class Link:
    """A link, absolute, and its words."""

    url: str
    words: str = ""


@dataclass(slots=True)
class Page:
    """What a page holds."""

    url: str
    title: str = ""
    forms: list[Form] = field(default_factory=list[Form])
    links: list[Link] = field(default_factory=list[Link])
    metas: dict[str, str] = field(default_factory=dict[str, str])
    scripts: list[str] = field(default_factory=list[str])
    code: str = ""
    text: str = ""


def read_page(reply: Reply) -> Page:
    """The page in a reply; of a script there is only its code, and of anything else nothing."""
    page = Page(reply.url)
    if reply.media_type in _SCRIPTS:
        page.code = reply.text[:MOST_READ]
        return page
    if reply.media_type not in ("text/html", "application/xhtml+xml", ""):
        return page
    parser = _Parser(page)
    text = reply.text[:MOST_READ]
    try:
        parser.feed(text)
        parser.close()
    except (AssertionError, ValueError):  # the standard parser gives up on a few broken markups
        pass
    parser.finish()
    return page


class _Parser(HTMLParser):
    def __init__(self, page: Page) -> None:
        super().__init__(convert_charrefs=True)
        self.page = page
        self._base = page.url
        self._form: Form | None = None
        self._fields: list[Field] = []
        self._words: list[str] = []
        self._text: list[str] = []
        self._code: list[str] = []
        self._link: tuple[str, list[str]] | None = None
        self._label: list[str] = []
        self._silent = ""
        self._area: tuple[Field, list[str]] | None = None
        self._loose: list[Field] = []
        self._chosen = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in reversed(attrs)}
        if tag in _SILENT:
            self._silent = tag
        if tag == "script" and said.get("src"):
            self.page.scripts.append(self._absolute(said["src"]))
        elif tag == "script" and said.get("id"):
            self._code.append(f"{said['id']} = ")  # data that stands in a script of this name
        elif tag == "base" and said.get("href"):
            self._base = self._absolute(said["href"])
        elif tag == "meta" and said.get("name"):
            self.page.metas[said["name"].lower()] = said.get("content", "")
        elif tag == "meta" and said.get("http-equiv", "").lower() == "refresh":
            self._refresh(said.get("content", ""))
        elif tag == "a" and said.get("href") and len(self.page.links) < MOST_LINKS:
            self._close_link()
            self._link = (self._absolute(said["href"]), [said.get("title", "")])
        elif tag == "form":
            self._open_form(said)
        elif tag in _FIELD_TAGS:
            self._add_field(tag, said)
        elif tag == "option" and self._fields:
            self._option(said.get("value", ""), selected="selected" in said)

    def handle_endtag(self, tag: str) -> None:
        if tag == self._silent:
            self._silent = ""
        if tag == "a":
            self._close_link()
        elif tag == "form":
            self._close_form()
        elif tag == "textarea" and self._area:
            area, words = self._area
            self._keep(replace(area, value="".join(words).removeprefix("\n")))
            self._area = None

    def handle_data(self, data: str) -> None:
        if self._silent in ("script", "style"):
            if self._silent == "script":
                self._code.append(data)
            return
        if self._area:
            self._area[1].append(data)
            return
        if not data.strip():
            return
        self._text.append(data)
        self._label = [*self._label[-2:], data]
        if self._link:
            self._link[1].append(data)
        if self._form:
            self._words.append(data)

    def _close_link(self) -> None:
        if self._link:
            url, words = self._link
            self.page.links.append(Link(without_fragment(url), _joined(words)))
        self._link = None

    def finish(self) -> None:
        """What was still open at the end."""
        self._close_form()
        if self._loose:
            self._form = Form(self.page.url, self.page.url, "SCRIPT")
            self._fields = self._loose
            self._close_form()
        self.page.text = _joined(self._text)
        self.page.code = "\n".join(self._code).replace(" = \n", " = ")

    def _refresh(self, content: str) -> None:
        found = re.search(r"url\s*=\s*['\"]?([^'\"]+)", content, re.IGNORECASE)
        if found:
            self.page.links.append(Link(self._absolute(found[1]), "refresh"))

    def _open_form(self, said: dict[str, str]) -> None:
        self._close_form()
        method = said.get("method", "get").upper()
        self._form = Form(
            page=self.page.url,
            action=without_fragment(self._absolute(said.get("action", "")) or self.page.url),
            method=method if method in ("GET", "POST") else "GET",
            enctype=said.get("enctype", "application/x-www-form-urlencoded").lower(),
            name=said.get("id") or said.get("name", ""),
        )
        self._fields, self._words = [], []
        if "action" not in said and ("onsubmit" in said or "method" not in said):
            self._form = replace(self._form, method="SCRIPT")

    def _close_form(self) -> None:
        if self._form is not None:
            words = _joined([*self._words, *(f.value for f in self._fields if f.kind == "submit")])
            done = replace(self._form, fields=tuple(self._fields), words=words)
            self.page.forms.append(done)
        self._form, self._fields = None, []

    def _add_field(self, tag: str, said: dict[str, str]) -> None:
        kind = said.get("type", "submit" if tag == "button" else "text").lower()
        kind = tag if tag in ("select", "textarea") else kind
        if tag == "select" and "multiple" in said:
            kind = MANY
        if "disabled" in said:
            return
        value = said.get("value", "")
        if kind in ("checkbox", "radio"):
            if "checked" not in said:
                return
            value = said.get("value", "on")
        made = Field(
            name=said.get("name") or (said.get("id", "") if self._form is None else ""),
            kind=kind,
            value=value,
            label=_joined([*self._label[-1:], said.get("placeholder", ""), said.get("id", "")]),
            autocomplete=said.get("autocomplete", "").lower(),
            required="required" in said,
        )
        self._chosen = False
        if kind == "textarea":
            self._area = (made, [])
        else:
            self._keep(made)

    def _keep(self, made: Field) -> None:
        if self._form is not None:
            self._fields.append(made)
        elif made.name:
            self._loose.append(made)

    def _option(self, value: str, *, selected: bool) -> None:
        """What a browser sends of a select: the first option, else each that is selected."""
        last = self._fields[-1]
        if last.kind == MANY and selected:
            self._fields.insert(-1, replace(last, kind="select", value=value))
        elif last.kind == "select" and (selected or not self._chosen):
            self._fields[-1] = replace(last, value=value)
            self._chosen = True

    def _absolute(self, url: str) -> str:
        try:
            return urljoin(self._base, url.strip())
        except ValueError:
            return self.page.url


def _joined(words: list[str]) -> str:
    return " ".join(" ".join(words).split())
