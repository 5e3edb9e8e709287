"""How a form or a JSON request is sent again, with fresh tokens each time.

A recipe is a `Call` and, if the request comes from a form, the form as it was found. `draft`
fetches the page, finds the form on it again and fills it in; what comes out can be sent as it is,
or be changed first, which is how an attacker's request is made from an honest one.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from .browser import ITSELF, Browser, Fields, Initiator, resolved
from .pages import MANY, Form, Page, read_page
from .target import Account, Call
from .wire import Reply

TOKEN_NAME = re.compile(
    r"csrf|xsrf|_token$|^sectok$|^token$|authenticity|__requestverification|_wpnonce|form_key|formkey|"
    r"antiforgery|nonce|@csrf|login_ticket|^sesskey$|^lt$",
    re.IGNORECASE,
)
_COOKIE_HEADERS = {
    "xsrf-token": "X-XSRF-TOKEN",
    "csrftoken": "X-CSRFToken",
    "_xsrf": "X-XSRFToken",
    "csrf_token": "X-CSRF-Token",
    "csrf-token": "X-CSRF-Token",
    "_csrf": "X-CSRF-Token",
}
_TOKEN_IN_CODE = re.compile(
    r"""(?:csrf|xsrf)[\w-]{0,20}["'\]]{0,2}\s*[:=]\s*["']([\w+/=.:-]{16,300})["']""", re.IGNORECASE
)
_UNSENT = ("submit", "image", "reset", "button", "file", MANY)
_TOKEN_METAS = ("csrf-token", "csrf_token", "_csrf", "xsrf-token", "csrf")


class Lost(Exception):
    """The form or page that was to be sent again is not there. The text is a sentence."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A request that is about to be sent. `tokens` are the names of the fields that are tokens."""

    method: str
    url: str
    page: str = ""
    fields: tuple[tuple[str, str], ...] | None = None
    json: object = None
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    tokens: frozenset[str] = frozenset()
    token_headers: frozenset[str] = frozenset()
    nonce: str = ""

    @property
    def has_token(self) -> bool:
        """Whether the honest request carries something against forgery."""
        return bool(self.tokens or self.token_headers)

    def without_tokens(self) -> Draft:
        """The request of somebody who knows no token."""
        return self.with_tokens(None)

    def with_tokens(self, value: str | None) -> Draft:
        """The request with this in place of every token; None leaves them out."""
        fields = self.fields
        if fields is not None:
            fields = tuple(
                (name, old if name not in self.tokens else value or "")
                for name, old in fields
                if name not in self.tokens or value is not None
            )
        headers = {
            name: old if name not in self.token_headers else value or ""
            for name, old in self.headers.items()
            if name not in self.token_headers or value is not None
        }
        return replace(self, fields=fields, headers=headers)

    def token(self) -> str:
        """The first token's value, empty if there is none."""
        for name, value in self.fields or ():
            if name in self.tokens:
                return value
        return next((self.headers[name] for name in self.token_headers), "")

    def send(self, browser: Browser, initiator: Initiator = ITSELF, **more: Any) -> Reply:
        """Send it with this browser."""
        return browser.send(
            self.method,
            self.url,
            fields=self.fields,
            json=self.json,
            content_type=self.content_type,
            headers={**self.headers, **more.pop("headers", {})},
            initiator=initiator,
            page=self.page,
            **more,
        )


@dataclass(frozen=True, slots=True)
class Recipe:
    """Something that can be done on the site any number of times."""

    call: Call
    base: str
    form: Form | None = None

    @property
    def name(self) -> str:
        """What it is called in the report."""
        return self.call.name

    @property
    def where(self) -> str:
        """Method and URL, for a person."""
        if self.form is not None:
            return f"{self.form.method} {self.form.action}"
        url = resolved(self.base, self.call.url)
        for token in _tokens_in(url):
            url = url.replace(token, "...")
        return f"{self.call.method or 'POST'} {url}"

    def draft(self, browser: Browser, account: Account | None, **values: str) -> Draft:
        """The request, filled in, with tokens that were fetched just now.

        Raises:
            Lost: its page or its form is not there.
        """
        nonce = secrets.token_hex(4)
        known = {
            "user": account.name if account else "",
            "password": account.password if account else "",
            "nonce": nonce,
            "number": str(secrets.randbelow(8999) + 1000),
            **values,
        }
        page = None
        if self.call.page or self.form is not None:
            url = resolved(self.base, self.call.page) if self.call.page else self.form_page
            page = read_page(browser.get(url))
        if self.form is not None or (self.call.page and self.call.json is None and page):
            return replace(self._from_form(page or Page(self.base), known, browser), nonce=nonce)
        return replace(self._from_call(page, known, browser), nonce=nonce)

    @property
    def _is_link(self) -> bool:
        """Whether it is followed, not sent: a GET without fields."""
        return self.form is None and self.call.method.upper() == "GET" and not self.call.fields

    @property
    def form_page(self) -> str:
        """Where the form is."""
        return self.form.page if self.form is not None else self.base

    def _from_form(self, page: Page, known: dict[str, str], browser: Browser) -> Draft:
        form = None if self._is_link else self._find(page)
        if form is None:
            if self.call.url:
                return self._from_call(page, known, browser)
            raise Lost(f"The form for {self.name!r} is no longer on {page.url}.")
        draft = fill(form, {name: filled(value, known) for name, value in self.call.fields.items()})
        _keep_secret(browser, draft)
        headers = {name: filled(value, known) for name, value in self.call.headers.items()}
        return replace(draft, headers={**draft.headers, **headers})

    def _find(self, page: Page) -> Form | None:
        if self.form is not None:
            return next((each for each in page.forms if each.is_like(self.form)), None)
        wanted = set(self.call.fields)
        path = urlsplit(resolved(self.base, self.call.url)).path if self.call.url else ""
        for form in page.forms:
            names = {each.name for each in form.fields}
            if (path and urlsplit(form.action).path == path) or (
                not path and form.method == "POST" and wanted and wanted <= names
            ):
                return form
        if not path and not wanted:
            return next((each for each in page.forms if each.method == "POST"), None)
        return None

    def _from_call(self, page: Page | None, known: dict[str, str], browser: Browser) -> Draft:
        url = resolved(self.base, self.call.url or self.call.page)
        name, token = find_token(page, browser)
        known = {**known, "csrf": token}
        headers = {key: filled(value, known) for key, value in self.call.headers.items()}
        fields = tuple((key, filled(value, known)) for key, value in self.call.fields.items())
        method = (self.call.method or "POST").upper()
        uses = {key for key, value in self.call.fields.items() if "{csrf}" in value}
        in_headers = {key for key, value in self.call.headers.items() if "{csrf}" in value}
        if token and name and not uses and not in_headers and method != "GET":
            headers[name] = token
            in_headers = {name}
        browser.network.secrets.add(token)
        json = None if self.call.json is None else _filled_json(self.call.json, known)
        if page is not None and self._is_link:
            url = _same_link(page, url)
            browser.network.secrets.add(*_tokens_in(url))
        return Draft(
            method=method,
            url=filled(url, known),
            page=page.url if page else "",
            fields=None if json is not None or (method == "GET" and not fields) else fields,
            json=json,
            headers=headers,
            tokens=frozenset(set(uses) | _token_names(fields)),
            token_headers=frozenset(in_headers),
        )


@dataclass(frozen=True, slots=True)
class View:
    """A request that only looks: a page, or what a script asks for with a body or with headers."""

    url: str
    recipe: Recipe | None = None
    account: Account | None = None

    @property
    def is_page(self) -> bool:
        """Whether it is a GET, which browsers and caches keep and a link can ask for."""
        return self.recipe is None or self.recipe.call.method == "GET"

    def ask(self, browser: Browser, *, url: str = "", **more: Any) -> Reply:
        """What this browser is shown now; `url` asks for the same thing at another address."""
        if self.recipe is None:
            return browser.get(url or self.url, **more)
        draft = self.recipe.draft(browser, self.account)
        return replace(draft, url=url or draft.url).send(browser, **more)


def view_of(call: Call, base: str, account: Account | None = None) -> View:
    """The view that the target file describes: a GET, unless it has a body or says otherwise."""
    url = resolved(base, call.url or call.page)
    has_body = call.json is not None or bool(call.fields)
    method = (call.method or ("POST" if has_body else "GET")).upper()
    if method == "GET" and not has_body and not call.headers:
        return View(url)
    page = call.page if call.url else ""
    return View(url, Recipe(replace(call, method=method, url=url, page=page), base), account)


def _same_link(page: Page, url: str) -> str:
    """The link of this page to the same address, which may have a token of this session in it."""
    wanted = _address(url)
    return next((each.url for each in page.links if _address(each.url) == wanted), url)


def _tokens_in(url: str) -> list[str]:
    """The values of its query that look like tokens."""
    return [value for name, value in parse_qsl(urlsplit(url).query) if _is_token(name, value)]


def _address(url: str) -> tuple[str, str, set[tuple[str, str]]]:
    """Host, path and query, without the values that look like tokens."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    return parts.netloc, parts.path, {(k, "" if _is_token(k, v) else v) for k, v in query}


def _token_names(fields: Fields) -> set[str]:
    return {name for name, value in fields if TOKEN_NAME.search(name) and len(value) >= 8}


def fill(form: Form, values: Mapping[str, str]) -> Draft:
    """The form's request with these values, the rest as the page has it."""
    fields = [
        (each.name, values.get(each.name, each.value))
        for each in form.fields
        if each.name and (each.kind not in _UNSENT or each.name in values)
    ]
    fields += [(name, value) for name, value in values.items() if name not in dict(fields)]
    buttons = [each for each in form.fields if each.kind == "submit" and each.name]
    if buttons and not any(each.name in dict(fields) for each in buttons):
        fields.append((buttons[0].name, buttons[0].value))
    hidden = {each.name for each in form.hidden}
    tokens = {
        name
        for name, value in fields
        if name in hidden and name not in values and _is_token(name, value)
    }
    return Draft(
        method="POST" if form.method == "SCRIPT" else form.method,
        url=form.action,
        page=form.page,
        fields=tuple(fields),
        content_type="multipart/form-data" if "multipart" in form.enctype else "",
        tokens=frozenset(tokens),
    )


def _is_token(name: str, value: str) -> bool:
    """Whether a hidden field looks like a token against forgery: by its name, or by its value."""
    if TOKEN_NAME.search(name):
        return len(value) >= 8
    if len(value) < 20 or "://" in value or len(set(value)) < 12:
        return False
    return bool(re.fullmatch(r"[A-Za-z0-9+/=_\-.:]+", value))


def _keep_secret(browser: Browser, draft: Draft) -> None:
    browser.network.secrets.add(
        *(value for name, value in draft.fields or () if name in draft.tokens)
    )


def find_token(page: Page | None, browser: Browser) -> tuple[str, str]:
    """The header that scripts of this site send their token in, and the token; empty if none."""
    if page is not None:
        for name in _TOKEN_METAS:
            if page.metas.get(name):
                return "X-CSRF-Token", page.metas[name]
    for cookie in browser.jar:
        header = _COOKIE_HEADERS.get(cookie.name.lower().removeprefix("__host-"))
        if header and not cookie.http_only:
            return header, unquote(cookie.value)
    if page is not None:
        for form in page.forms:
            for each in form.hidden:
                if TOKEN_NAME.search(each.name) and len(each.value) >= 8:
                    return "X-CSRF-Token", each.value
        in_code = _TOKEN_IN_CODE.search(page.code)
        if in_code:
            return "X-CSRF-Token", in_code[1]
    return "", ""


def filled(text: str, known: Mapping[str, str]) -> str:
    """The text with its placeholders filled in; unknown ones stay."""
    return re.sub(r"\{([a-z_]+)\}", lambda m: known.get(m[1], m[0]), str(text))


def _filled_json(value: Any, known: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return filled(value, known)
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value)
        return {key: _filled_json(each, known) for key, each in items.items()}
    if isinstance(value, list):
        return [_filled_json(each, known) for each in cast("Sequence[Any]", value)]
    return value
