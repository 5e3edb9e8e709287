"""Finds the sign-in, a page that shows who is signed in, and the way to sign out.

Only GET requests, the sign-in itself, and nothing else: what changes the site's state is listed for
the developer, never sent. What is not found is a sentence in `Plan.missing`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from .browser import Browser, resolved
from .pages import Form, Link, Page, read_page
from .proof import SIGN_OUT_WORDS, Proof, make_proof
from .recipes import Draft, Lost, Recipe, View, fill, view_of
from .target import Account, Call, Target
from .wire import Reply, Unreachable, origin_of

SIGN_IN_WORDS = re.compile(
    r"\b(?:log|sign)[\s_-]?(?:in|on)\b|\blogin\b|\bsignin\b|\baccount\b|\banmelden\b|\beinloggen\b|"
    r"\bconnexion\b|\biniciar sesi[oó]n\b|\baccedi\b|\binloggen\b|\blogga in\b",
    re.IGNORECASE,
)
_REGISTER = re.compile(r"regist|sign-?up|create|join|forgot|reset|recover", re.IGNORECASE)
_GONE = re.compile(r"log-?out|sign-?out|sign-?off|logoff|delete|remove|unsubscribe", re.IGNORECASE)
_LIST_WORDS = re.compile(
    r"active sessions?|your sessions?|\bsessions\b|\bdevices\b|where you(?:'|’)?(?:re| are)|"
    r"logged[- ]in devices|signed in",
    re.IGNORECASE,
)
_PATHS = (
    "/login", "/sign-in", "/signin", "/accounts/login/", "/account/login", "/auth/login",
    "/users/sign_in", "/user/login", "/session/new", "/admin/login/", "/admin/", "/wp-login.php",
    "/login.php", "/index.php",
)  # fmt: skip
_JSON_PATHS = (
    "/api/login", "/api/auth/login", "/api/session", "/api/sessions", "/api/signin",
    "/api/v1/login", "/auth/login", "/login", "/session", "/rest/user/login",
)  # fmt: skip
_QUOTED = re.compile(r"""["'`](/[A-Za-z0-9_\-./]{1,80})["'`]""")
_SOCKET = re.compile(r"new WebSocket\(([^;\n]{1,200})")
_SOCKET_HOST = re.compile(r"""wss?://[^/"'`$]*""")
_SOCKET_PATH = re.compile(r"(?<!/)/[A-Za-z0-9_][A-Za-z0-9_\-./]*")
_JSON_NAMES = (("username", "password"), ("email", "password"))
MOST_PAGES = 12
MOST_STEPS = 4
MOST_SCRIPTS = 6
MOST_WAYS_OUT = 2


@dataclass(slots=True)
class Plan:
    """What was found. The rest of the audit rests on it, so it is told before anything is done."""

    sign_in: Recipe | None = None
    proof: Proof | None = None
    sign_out: Recipe | None = None
    sessions_url: str = ""
    changes: list[Recipe] = field(default_factory=list[Recipe])
    forms: list[Form] = field(default_factory=list[Form])
    pages: list[str] = field(default_factory=list[str])
    without_sign_out: list[str] = field(default_factory=list[str])
    public: list[str] = field(default_factory=list[str])
    """Pages without a way to sign out that are the same for a visitor."""
    scripted_sign_out: list[str] = field(default_factory=list[str])
    """Pages on which only a script speaks of signing out, or that only a script draws."""
    websocket: str = ""
    missing: list[str] = field(default_factory=list[str])
    told: list[str] = field(default_factory=list[str])


class Discovery:
    """One look at the site. `fresh` makes a browser without cookies."""

    def __init__(self, target: Target, fresh: Callable[[], Browser]) -> None:
        self.target, self.fresh = target, fresh
        self.base = target.url
        self._scripts: dict[str, str] = {}
        self.plan = Plan(websocket=target.websocket)
        if target.sessions is not None:
            self.plan.sessions_url = resolved(self.base, target.sessions.url)

    def look(self) -> Plan:
        """Everything that can be found.

        Raises: Unreachable if not even the first page answers.
        """
        plan, account = self.plan, self.target.user
        visitor = self.fresh()
        visitor.get(self.base)
        plan.changes = [Recipe(call, self.base) for call in self.target.changes]
        if account is None:
            plan.missing.append("Nobody to sign in as was named: use --user.")
            return plan
        if not account.password:
            plan.missing.append(f"There is no password for {account.name}.")
            return plan
        member = self._sign_in(account)
        if member is None or plan.proof is None:
            return plan
        self._walk(member)
        self._find_sign_out(member)
        return plan

    # Signing in

    def _sign_in(self, account: Account) -> Browser | None:
        tried: list[str] = []
        for recipe in self._ways_in():
            browser = self.fresh()
            try:
                landed = perform_sign_in(recipe, browser, account)
            except (Lost, Unreachable) as error:
                tried.append(f"{recipe.where} ({error})")
                continue
            proof = self._find_proof(browser, landed)
            if proof is not None:
                self.plan.sign_in, self.plan.proof = recipe, proof
                self.plan.told += [
                    f"sign-in: {recipe.where}{_multi(recipe)}",
                    f"proof: {proof.url} ({_how(proof)})",
                ]
                return browser
            tried.append(f"{recipe.where} (answered {landed.status}, and no page shows a sign-in)")
        self.plan.missing.append(
            "No way to sign in was found that works."
            + (f" Tried: {'; '.join(tried[:4])}." if tried else " No sign-in form was found.")
            + " Describe it in the target file: [sign_in] and [proof]; and check the password."
        )
        return None

    def _ways_in(self) -> Iterator[Recipe]:
        if self.target.sign_in is not None:
            yield Recipe(self.target.sign_in, self.base)
            return
        found = self._sign_in_page()
        scripted: list[tuple[str, str]] = []
        paths: list[str] = []
        if found is not None:
            page, form = found
            if form.method == "POST":
                yield Recipe(Call(name="sign_in"), self.base, form)
            names = _names(form)
            if names is not None:
                scripted.append(names)
            paths += self._script_paths(page)
            if form.method == "SCRIPT" and form.action != page.url:
                paths.insert(0, urlsplit(form.action).path)
        for path in list(dict.fromkeys([*paths, *_JSON_PATHS]))[:14]:
            if not self._takes_posts(path):
                continue
            for user, password in list(dict.fromkeys([*scripted, *_JSON_NAMES]))[:2]:
                json = {user: "{user}", password: "{password}"}
                page_url = found[0].url if found else ""
                yield Recipe(Call(name="sign_in", url=path, json=json, page=page_url), self.base)
        if found is not None and found[1].method == "SCRIPT":
            yield Recipe(Call(name="sign_in"), self.base, found[1])

    def _takes_posts(self, path: str) -> bool:
        """Whether somebody is there: an empty JSON object tells without giving the password "
        "away."""
        try:
            reply = self.fresh().send("POST", resolved(self.base, path), json={}, follow=False)
        except Unreachable:
            return False
        return reply.status not in (404, 405, 410, 501) and reply.redirect is None

    def _codes(self, page: Page) -> Iterator[str]:
        """What its scripts say: those in the page, and the first few that it fetches from here."""
        yield page.code
        for url in page.scripts[:MOST_SCRIPTS]:
            if origin_of(url) != origin_of(self.base):
                continue
            if url not in self._scripts:
                try:
                    self._scripts[url] = self.fresh().get(url).text[:400_000]
                except Unreachable:
                    self._scripts[url] = ""
            yield self._scripts[url]

    def _script_paths(self, page: Page) -> list[str]:
        paths = [found for each in self._codes(page) for found in _QUOTED.findall(each)]
        words = re.compile(r"login|sign-?in|session|auth", re.IGNORECASE)
        return [path for path in dict.fromkeys(paths) if words.search(path)][:6]

    def _sign_in_page(self) -> tuple[Page, Form] | None:
        """The page with the sign-in form: the first one, what it links to, or the usual paths."""
        browser = self.fresh()
        seen: set[str] = set()
        first = self._read(browser, self.base, seen) or Page(self.base)
        links = [each.url for each in first.links if self._leads_in(each)]
        usual = [resolved(self.base, path) for path in _PATHS]
        best = _sign_in_form(first)
        if best is not None:
            return first, best
        for url in [*dict.fromkeys(links)][:5] + usual:
            page = self._read(browser, url, seen)
            form = _sign_in_form(page) if page is not None else None
            if page is not None and form is not None:
                return page, form
        return None

    def _leads_in(self, link: Link) -> bool:
        here = origin_of(link.url) == origin_of(self.base)
        words = f"{link.words} {urlsplit(link.url).path}"
        return here and bool(SIGN_IN_WORDS.search(words)) and not _GONE.search(words)

    def _read(self, browser: Browser, url: str, seen: set[str]) -> Page | None:
        if url in seen or len(seen) > 24:
            return None
        seen.add(url)
        try:
            reply = browser.get(url)
        except Unreachable:
            return None
        seen.add(reply.url)
        return read_page(reply) if reply.status < 400 or reply.status in (401, 403) else None

    # The proof

    def _find_proof(self, member: Browser, landed: Reply) -> Proof | None:
        declared = self.target.proof
        user = self.target.user.name if self.target.user else ""
        if declared is not None:
            view = view_of(declared, self.base, self.target.user)
            return self._prove(member, view, declared.text, user)
        page = read_page(landed)
        links = [each.url for each in page.links if self._is_safe(each)]
        linked = [
            url for url in links if re.search(r"account|profile|settings|home|user|me\b", url)
        ]
        landing = urlsplit(landed.url)._replace(query="").geturl()
        first = [landing, landed.url] if landed.request.method == "GET" else []
        usual = [resolved(self.base, path) for path in ("/me", "/api/me", "/account", "/profile")]
        candidates = [*first, self.base, *linked[:4], *links[:4]]
        weak: Proof | None = None
        for url in [*dict.fromkeys(candidates), *usual][:MOST_PAGES]:
            proof = self._prove(member, View(url), "", user)
            if proof is not None and (proof.member != proof.visitor and proof.marker):
                return proof
            weak = weak or proof
        return weak

    def _prove(self, member: Browser, view: View, marker: str, user: str) -> Proof | None:
        try:
            inside, outside = view.ask(member), view.ask(self.fresh())
        except Unreachable:
            return None
        proof = make_proof(view, inside, outside, marker, user)
        if proof is None or proof.judge(outside) is not False:
            return None
        return proof

    def _is_safe(self, link: Link) -> bool:
        here = origin_of(link.url) == origin_of(self.base)
        return here and not _GONE.search(f"{link.words} {link.url}")

    # Around the signed-in pages

    def _walk(self, member: Browser) -> None:
        plan = self.plan
        start = [plan.proof.url] if plan.proof and plan.proof.view.is_page else []
        queue, seen = [*start, self.base], set[str]()
        first = {origin_of(self.base)}
        while queue and len(seen) < MOST_PAGES:
            url = queue.pop(0)
            if url in seen or origin_of(url) not in first:
                continue
            seen.add(url)
            try:
                reply = member.get(url)
            except Unreachable:
                continue
            if reply.status != 200 or reply.media_type not in ("text/html", ""):
                continue
            page = read_page(reply)
            plan.pages.append(reply.url)
            self._note(page)
            self._find_websocket(page)
            queue += [each.url for each in page.links if self._is_safe(each)]
        plan.forms = list({(f.method, f.action): f for f in plan.forms}.values())

    def _note(self, page: Page) -> None:
        plan = self.plan
        if not plan.sessions_url and _LIST_WORDS.search(f"{page.title} {page.text[:3000]}"):
            named = re.search(r"session|device|security", urlsplit(page.url).path, re.IGNORECASE)
            plan.sessions_url = page.url if named else ""
        asks = any(_sign_in_form_score(form) > 0 for form in page.forms)
        if not asks and not _shows_sign_out(page):
            words = SIGN_OUT_WORDS.search(page.code) or SIGN_OUT_WORDS.search(page.text)
            drawn = words or not (page.links or page.forms)
            if drawn:
                plan.scripted_sign_out.append(page.url)
            elif self._is_public(page):
                plan.public.append(page.url)
            else:
                plan.without_sign_out.append(page.url)
        plan.forms += [
            form
            for form in page.forms
            if form.method == "POST"
            and not is_sign_out_form(form)
            and _sign_in_form_score(form) < 1
        ]

    def _is_public(self, page: Page) -> bool:
        """Whether a visitor sees the very same page."""
        try:
            return read_page(self.fresh().get(page.url)).text == page.text
        except Unreachable:
            return False

    def _find_websocket(self, page: Page) -> None:
        """The first WebSocket of this host that a script of the page opens."""
        if self.plan.websocket:
            return
        for code in self._codes(page):
            for opened in _SOCKET.findall(code):
                paths = _SOCKET_PATH.findall(_SOCKET_HOST.sub("", opened))
                if paths:
                    self.plan.websocket = paths[-1]
                    self.plan.told.append(f"websocket: {paths[-1]}")
                    return

    def _find_sign_out(self, member: Browser) -> None:
        plan = self.plan
        ways = (
            iter([Recipe(self.target.sign_out, self.base)])
            if self.target.sign_out is not None
            else self._ways_out(member)
        )
        first: Recipe | None = None
        for recipe in ways:
            first = first or recipe
            if self.target.sign_out is not None or self._signs_out(recipe):
                plan.sign_out = recipe
                break
        plan.sign_out = plan.sign_out or first
        if plan.sign_out is None:
            plan.missing.append(
                "No way to sign out was found on the signed-in pages; name it: [sign_out]."
            )
        else:
            plan.told.append(f"sign-out: {plan.sign_out.where}")

    def _signs_out(self, recipe: Recipe) -> bool:
        """Whether it ends a sign-in that was made for this alone."""
        account, proof, sign_in = self.target.user, self.plan.proof, self.plan.sign_in
        if account is None or proof is None or sign_in is None:
            return False
        browser = self.fresh()
        try:
            perform_sign_in(sign_in, browser, account)
            if not proof.judge(proof.ask(browser)):
                return False
            confirm_sign_out(browser, recipe.draft(browser, account).send(browser))
            return proof.judge(proof.ask(browser)) is False
        except (Lost, Unreachable):
            return False

    def _ways_out(self, member: Browser) -> Iterator[Recipe]:
        """What may sign out, the likeliest first: a form, a link, what scripts name, the usual."""
        links: dict[str, str] = {}
        code = ""
        for url in self.plan.pages[:6] or [self.base]:
            page = read_page(member.get(url))
            for form in page.forms:
                if is_sign_out_form(form):
                    yield Recipe(Call(name="sign_out"), self.base, form)
                    break
            links = {each.url: page.url for each in page.links if _is_sign_out(each)} | links
            code += page.code
        here = [url for url in links if origin_of(url) == origin_of(self.base)][:MOST_WAYS_OUT]
        for url in here:
            call = Call(name="sign_out", url=url, method="GET", page=links[url])
            yield Recipe(call, self.base)
        paths = [path for path in _QUOTED.findall(code) if SIGN_OUT_WORDS.search(path)]
        for path in [*here, *dict.fromkeys(paths)][: 2 * MOST_WAYS_OUT]:
            call = Call(name="sign_out", url=path, method="POST", page=links.get(path, ""))
            yield Recipe(call, self.base)
        for path in ("/logout", "/api/logout", "/api/auth/logout", "/sign-out", "/auth/logout"):
            if self._takes_posts(path):
                yield Recipe(Call(name="sign_out", url=path, method="POST"), self.base)


def confirm_sign_out(browser: Browser, reply: Reply) -> Reply:
    """Some sites answer a sign-out link with a page that asks once more."""
    for form in read_page(reply).forms:
        if is_sign_out_form(form) and reply.request.method == "GET":
            return fill(form, {}).send(browser)
    return reply


def _multi(recipe: Recipe) -> str:
    return " (asks for the password on a further page)" if _needs_step(recipe) else ""


def _needs_step(recipe: Recipe) -> bool:
    return recipe.form is not None and not recipe.form.passwords


def _how(proof: Proof) -> str:
    otherwise = f"answers {proof.visitor.status} at {proof.visitor.path} to anybody else"
    if proof.marker:
        return f"shows {proof.marker!r} to who is signed in, and {otherwise}"
    return f"answers {proof.member.status}, and {otherwise}"


def _shows_sign_out(page: Page) -> bool:
    return any(is_sign_out_form(form) for form in page.forms) or any(map(_is_sign_out, page.links))


def is_sign_out_form(form: Form) -> bool:
    """Whether sending this form signs out: by its address or its words, and only this browser."""
    path = urlsplit(form.action).path.rstrip("/").rpartition("/")[2]
    return bool(SIGN_OUT_WORDS.search(path) or SIGN_OUT_WORDS.search(form.words)) and (
        not form.passwords and len(form.texts) == 0 and not _about_others(form.words)
    )


def _about_others(words: str) -> bool:
    return bool(re.search(r"other|everywhere|all (?:sessions|devices)|else", words, re.IGNORECASE))


def _is_sign_out(link: Link) -> bool:
    path = urlsplit(link.url).path.rstrip("/").rpartition("/")[2]
    return bool(SIGN_OUT_WORDS.search(path.replace(".php", "")) or (
        SIGN_OUT_WORDS.search(link.words) and not _about_others(link.words)
    )) or bool(SIGN_OUT_WORDS.search(urlsplit(link.url).query))  # fmt: skip


def _sign_in_form_score(form: Form) -> int:
    if len(form.passwords) != 1 or any(f.autocomplete == "new-password" for f in form.passwords):
        return 0
    if not form.texts:
        return 0  # a password alone confirms somebody who is signed in already
    score = 2 + bool(SIGN_IN_WORDS.search(f"{form.words} {form.action}"))
    return score - 2 * bool(_REGISTER.search(urlsplit(form.action).path))


def _sign_in_form(page: Page) -> Form | None:
    """The form that signs in; on a page that is all about it, also one that asks the name first."""
    scored = sorted(page.forms, key=_sign_in_form_score, reverse=True)
    if scored and _sign_in_form_score(scored[0]) > 0:
        return scored[0]
    path = urlsplit(page.url).path
    if SIGN_IN_WORDS.search(path.replace("/", " ")) or SIGN_IN_WORDS.search(page.title):
        asking = [f for f in page.forms if f.method == "POST" and _user_field(f)]
        if asking:
            return asking[0]
        alone = [f for f in page.forms if f.method == "POST" and len(f.passwords) == 1]
        if alone:
            return alone[0]
    return None


def _user_field(form: Form) -> str:
    """The field for the user's name: by what browsers fill in, by its name, or the only one."""
    for each in form.texts:
        if each.autocomplete in ("username", "email", "webauthn", "username webauthn"):
            return each.name
    for each in form.texts:
        if re.search(r"user|login|e-?mail|name|account|identif", each.name, re.IGNORECASE):
            return each.name
    return form.texts[0].name if form.texts else ""


def _names(form: Form) -> tuple[str, str] | None:
    user = _user_field(form)
    return (user, form.passwords[0].name) if user and form.passwords else None


def perform_sign_in(recipe: Recipe, browser: Browser, account: Account) -> Reply:
    """Sign in, over as many pages as it takes -> the last reply. Whether it worked is not judged.

    Raises: Lost, Unreachable.
    """
    draft = sign_in_draft(recipe, browser, account)
    reply = draft.send(browser)
    for _step in range(MOST_STEPS - 1):
        page = read_page(reply)
        form = next((each for each in page.forms if each.passwords), None)
        if form is None or recipe.form is None or recipe.form.passwords:
            return reply
        if len(form.passwords) != 1:
            return reply
        reply = _filled(form, account).send(browser)
    return reply


def sign_in_draft(recipe: Recipe, browser: Browser, account: Account) -> Draft:
    """The first request of a sign-in, filled in.

    Raises: Lost, Unreachable.
    """
    if recipe.form is None:
        return recipe.draft(browser, account)
    wanted = recipe.form
    page = read_page(browser.get(wanted.page))
    form = next((each for each in page.forms if each.is_like(wanted)), None)
    if form is None:
        raise Lost(f"The sign-in form is no longer on {recipe.form.page}.")
    draft = _filled(form, account)
    browser.network.secrets.add(*(v for k, v in draft.fields or () if k in draft.tokens))
    return draft


def _filled(form: Form, account: Account) -> Draft:
    values = {each.name: account.password for each in form.passwords}
    user = _user_field(form)
    if user:
        values[user] = account.name
    draft = fill(form, values)
    return replace(draft, tokens=draft.tokens - set(values))
