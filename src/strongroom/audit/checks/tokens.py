"""Whether session tokens can be guessed, read or forged (WSTG-SESS-01, -10; ASVS 7.2, 11.5)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from strongroom.audit.browser import Browser
from strongroom.audit.decode import Anatomy, b64url, dissect, guessed_hash, known_key, unbase64
from strongroom.audit.discovery import perform_sign_in
from strongroom.audit.entropy import (
    LEAST,
    Bound,
    bound,
    decoded_bytes,
    moments,
    rank_correlation,
    windows,
)
from strongroom.audit.recipes import Lost
from strongroom.audit.site import Site
from strongroom.audit.verdict import NotApplicable, Unsure, Verdict, check, failed, passed
from strongroom.audit.wire import Unreachable

_FEW_SIGN_INS = 3
_ORDERED = 0.95
_WANTED = 128.0
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")


@dataclass(frozen=True, slots=True)
class Sample:
    """Tokens in the order in which they were issued, and when each was."""

    name: str
    tokens: tuple[str, ...]
    moments: tuple[float, ...]
    source: str

    @property
    def random(self) -> list[str]:
        """The part of each that ought to be unguessable."""
        return [dissect(each).random or each for each in self.tokens]


_FORMS = 20
"""Tokens that all must have a form before it is said to be theirs."""


def sample(site: Site) -> Sample:
    """The site's tokens, collected once: from visits if visitors get them, else from sign-ins."""
    if "sample" not in site.shelf:
        site.shelf["sample"] = _collect(site)
    found: Sample = site.shelf["sample"]
    if len(found.tokens) < LEAST:
        raise Unsure(f"Only {len(found.tokens)} tokens could be collected; {LEAST} are needed.")
    return found


def _collect(site: Site) -> Sample:
    name = site.essentials.main.name
    url = _page_that_issues(site, name)
    source = f"visits of {url}" if url else f"sign-ins as {site.account.name}"
    values: list[tuple[str, float]] = []
    for _ in range(site.options.samples):
        browser = site.fresh()
        try:
            moment = site.clock.now()
            if url:
                browser.get(url)
            else:
                perform_sign_in(site.sign_in_recipe, browser, site.account)
        except (Unreachable, Lost):
            break
        cookie = browser.jar.find(name)
        if cookie is None:
            break  # a limit on visits or sign-ins; what there is must do
        values.append((cookie.value, moment))
    tokens, when = tuple(v for v, _ in values), tuple(w for _, w in values)
    return Sample(name, tokens, when, source)


def _page_that_issues(site: Site, name: str) -> str:
    recipe = site.sign_in_recipe
    pages = [site.target.url]
    if recipe.form is not None:
        pages.append(recipe.form.page)
    for url in pages:
        browser = site.fresh()
        browser.get(url)
        if browser.jar.find(name) is not None:
            return url
    return ""


def _anatomy(site: Site) -> Anatomy:
    return dissect(site.essentials.main.value)


def _only_opaque(site: Site) -> None:
    if _anatomy(site).kind in ("jwt", "signed"):
        raise NotApplicable("The token carries its content and is protected by a signature.")


@check(
    "token-static",
    "Each sign-in gives another token",
    "critical",
    "ASVS 7.2.2, WSTG-SESS-01, CWE-384",
    why="A token that never changes is a password that is sent with every request and cannot be "
    "withdrawn.",
    how="Sign in several times as the same user with separate browsers, and compare.",
    fix="random-token",
    order=1,
)
def static(site: Site) -> Verdict:
    """Separate sign-ins of one user get different tokens."""
    name = site.essentials.main.name
    values = [cookie.value for _ in range(_FEW_SIGN_INS)
              if (cookie := site.signed_in().jar.find(name)) is not None]  # fmt: skip
    values.append(site.essentials.main.value)
    if len(set(values)) == 1:
        # What carries only content and the second of its signing may be the same within a second.
        site.clock.wait(1.2, "another second")
        again = site.signed_in().jar.find(name)
        values += [again.value] if again is not None else []
    if len(set(values)) == 1:
        return failed(f"{name} has the same value after {len(values)} sign-ins.")
    return passed(f"{len(set(values))} different values of {name} in {len(values)} sign-ins.")


@check(
    "token-duplicate",
    "No token is given out twice",
    "critical",
    "ASVS 7.2.3, WSTG-SESS-01, CWE-331",
    why="Two people with one token are in one session.",
    how="Collect tokens and compare each with all others.",
    fix="random-token",
    order=30,
    covered_by=("token-static",),
)
def duplicate(site: Site) -> Verdict:
    """No value occurs twice in the sample."""
    _only_opaque(site)
    found = sample(site)
    more = len(found.tokens) - len(set(found.tokens))
    if more:
        return failed(f"{more} of {len(found.tokens)} tokens were given out before.")
    return passed(f"{len(found.tokens)} tokens from {found.source}, all different.")


@check(
    "token-entropy",
    "Tokens have room for 128 random bits",
    "high",
    "ASVS 7.2.3, ASVS 11.5.1, WSTG-SESS-01, CWE-331, CWE-334",
    why="What can be guessed will be: short tokens in hours, badly mixed ones at once.",
    how="Collect tokens; per position count the characters, per bit the ones and zeroes. The "
    "result "
    "is an upper bound: a sample can show that tokens are bad, not that they are good.",
    fix="random-token",
    order=35,
    covered_by=(
        "token-static",
        "token-duplicate",
        "token-order",
        "token-time",
        "token-hash",
        "token-uuid",
    ),
)
def entropy(site: Site) -> Verdict:
    """The upper bound of the sample's entropy is at least 128 bits."""
    _only_opaque(site)
    found = sample(site)
    most = bound(found.random)
    said = _told(most)
    if most.bits < 64:
        return failed(f"At most {most.bits:.0f} bits: {said}")
    if most.bits < _WANTED:
        return failed(f"At most {most.bits:.0f} bits: {said}", severity="medium")
    return passed(f"Up to {most.bits:.0f} bits: {said}", details=[
        "This is an upper bound. That the generator is a good one cannot be seen from "
        "outside."])  # fmt: skip


def _told(most: Bound) -> str:
    biased = f", {most.biased} bits fixed or loaded" if most.biased else ""
    return (f"{most.length} characters ({most.alphabet}), {most.varying} of them vary{biased}, "
            f"{most.tokens} tokens.")  # fmt: skip


@check(
    "token-order",
    "Tokens do not count",
    "high",
    "ASVS 7.2.3, WSTG-SESS-01, CWE-340, CWE-341",
    why="Who sees one token knows the next.",
    how="Collect tokens in order; read every part of them as a number, and see whether it "
    "grows with "
    "each.",
    fix="random-token",
    order=32,
    covered_by=("token-static", "token-time"),
)
def order(site: Site) -> Verdict:
    """No part grows with each token, unless what is left is unguessable without it."""
    _only_opaque(site)
    found = sample(site)
    whole = _as_numbers(found.random)
    if whole and abs(rank_correlation(whole)) > _ORDERED and not _enough_left(found, 0, 8):
        return failed("The token itself grows with each that is issued.")
    for part, rest in _growing_parts(found):
        if not rest and not moments(part, found.moments[0]):
            return failed("A part of the token counts, and the rest is too short to be safe.")
    return passed(f"Nothing in {len(found.tokens)} tokens counts.")


@check(
    "token-time",
    "Tokens are not made from the clock",
    "high",
    "ASVS 7.2.3, WSTG-SESS-01, CWE-341",
    why="When somebody signed in is known to the second. A token made from it takes some thousand "
    "guesses.",
    how="Collect tokens with the time of each; read every part as seconds, milli-, micro- and "
    "nanoseconds.",
    fix="random-token",
    order=31,
    covered_by=("token-static",),
)
def time(site: Site) -> Verdict:
    """No part is a moment, unless what is left is unguessable without it."""
    _only_opaque(site)
    found = sample(site)
    told: list[str] = []
    numbers = [int(each) for each in found.random if each.isdigit()]
    if len(numbers) == len(found.random) and moments(numbers, found.moments[0]):
        return failed(f"The token is the time in {moments(numbers, found.moments[0])}.")
    for part, rest in _growing_parts(found):
        unit = moments(part, found.moments[0])
        if unit and not rest:
            return failed(f"A part is the time in {unit}, and the rest is too short to be safe.")
        if unit:
            told.append(f"A part is the time in {unit}; the rest is long enough by itself.")
    return passed("No part of the tokens is a moment that matters.", details=told[:1])


def _as_numbers(tokens: list[str]) -> list[float]:
    if all(each.isdigit() and each.isascii() for each in tokens):
        return [float(each) for each in tokens]
    raw = [decoded_bytes(each) for each in tokens]
    if all(raw) and len({len(each) for each in raw}) == 1:
        return [float(int.from_bytes(each[:16], "big")) for each in raw]
    return []


def _growing_parts(found: Sample) -> list[tuple[tuple[int, ...], bool]]:
    """Each part that grows with the tokens, and whether the rest has 128 bits without it."""
    raw = [decoded_bytes(each) for each in found.random]
    if not all(raw):
        return []
    return [
        (part.values, _enough_left(found, part.start, part.width))
        for part in windows(raw)
        if abs(rank_correlation([float(each) for each in part.values])) > _ORDERED
    ]


def _enough_left(found: Sample, start: int, width: int) -> bool:
    raw = [decoded_bytes(each) for each in found.random]
    if not all(raw):
        return False
    rest = [(each[:start] + each[start + width :]).hex() for each in raw]
    return bool(min(map(len, rest))) and bound(rest).bits >= _WANTED


@check(
    "token-hash",
    "Tokens are not the hash of something known",
    "high",
    "ASVS 7.2.3, ASVS 11.4.1, WSTG-SESS-01, CWE-341, CWE-916",
    why="A hash looks random and is as guessable as what goes into it: a counter, the time, a "
    "name.",
    how="Compare tokens with MD5, SHA-1 and SHA-2 of counters, of the moment and of the "
    "user's name.",
    fix="random-token",
    order=33,
    covered_by=("token-static",),
)
def hashed(site: Site) -> Verdict:
    """No token is the plain hash of a counter, a clock or a name."""
    _only_opaque(site)
    found = sample(site)
    words = (site.account.name,)
    for token, moment in list(zip(found.random, found.moments, strict=True))[:3]:
        what = guessed_hash(token, moment, words)
        if what:
            return failed(f"The token is a plain hash of {what}.")
    return passed("Not the hash of a counter, a clock or the name.")


def _is_uuid(value: str) -> bool:
    found = dissect(value)
    return found.kind in ("uuid", "keyed") and dissect(found.random).kind == "uuid"


@check(
    "token-uuid",
    "The token is no UUID",
    "low",
    "ASVS 11.5.1, CWE-340",
    why="A UUID has 122 random bits at best, in some versions none, and promises to be "
    "unique, not to "
    "be unguessable.",
    how="Look at the token's form.",
    fix="random-token",
    order=34,
    covered_by=("token-static",),
)
def uuid(site: Site) -> Verdict:
    """The token does not have the form of a UUID."""
    found = _anatomy(site)
    # Of a random id and its signature the id counts.
    named = _is_uuid(site.essentials.main.value)
    others = sample(site).tokens[:_FORMS] if named else ()
    # One of 64 random values of 32 hexadecimal digits has the form of a UUID as well.
    if not named or not all(map(_is_uuid, others)):
        return passed("It does not have the form of a UUID.")
    version = found.random.replace("-", "")[12]
    if version in "1267":
        return failed(f"A UUID of version {version}: made from the clock.", severity="high")
    return failed(f"A UUID of version {version}: 122 bits at most.")


@check(
    "token-personal-data",
    "Nothing personal can be read out of the token",
    "low",
    "ASVS 14.2.1, WSTG-SESS-01, CWE-315",
    why="A cookie is in the browser's files, in proxies and in support mails. What it carries in "
    "readable form is told to all of them.",
    how="Undo hex, base64, compression, JWT and the usual signed cookies, and look for the user's "
    "name, the password and e-mail addresses, in every cookie.",
    fix="opaque-token",
    order=35,
)
def personal(site: Site) -> Verdict:
    """No cookie holds the user's name, an address or the password in readable form."""
    account = site.account
    for cookie in site.essentials.jar:
        texts = [cookie.value, *dissect(cookie.value).texts]
        for text in texts:
            if account.password and account.password in text:
                return failed(f"{cookie.name} holds the password.", severity="critical")
            if len(account.name) > 2 and account.name.lower() in text.lower():
                return failed(f"{cookie.name} holds the user's name in readable form.")
            if _EMAIL.search(text):
                return failed(f"{cookie.name} holds an e-mail address in readable form.")
    return passed("No name, address or password can be read in any cookie.")


@check(
    "token-known-key",
    "The token is not signed with a key from a tutorial",
    "critical",
    "ASVS 7.2.1, ASVS 9.1.1, WSTG-SESS-10, CWE-798, CWE-1392",
    why="Whoever knows the key signs in as anybody, without ever asking the site.",
    how="Verify the signature of JWTs and of the cookies of Flask, Starlette, Django and "
    "Express with "
    "the keys that documentation prints.",
    fix="signing-key",
    order=36,
)
def public_key(site: Site) -> Verdict:
    """No well-known key verifies a cookie that signs in."""
    signed = 0
    for cookie in site.essentials.jar:
        companion = site.essentials.jar.find(f"{cookie.name}.sig")
        if dissect(cookie.value).signature_bits or companion:
            signed += 1
        key = known_key(cookie.value, cookie.name, companion.value if companion else "")
        if key:
            return failed(f"{cookie.name} is signed with a key that is in tutorials: {key!r}.")
    if not signed:
        raise NotApplicable("No cookie has a signature that is known here.")
    return passed("None of the well-known keys verifies it.")


@check(
    "token-jwt",
    "A JWT without its signature is refused",
    "critical",
    "ASVS 9.1.1, ASVS 9.1.2, WSTG-SESS-10, CWE-347",
    why="If 'none' is taken for an algorithm, or a missing signature for a good one, anybody "
    "writes "
    "his own token.",
    how="Present the session's JWT with 'none' as its algorithm in several spellings, with an "
    "empty "
    "signature, and with a signature of zeroes.",
    fix="jwt",
    order=37,
)
def jwt(site: Site) -> Verdict:
    """No unsigned variant of the session's JWT signs in."""
    found = _anatomy(site)
    if found.kind != "jwt" or found.payload is None:
        raise NotApplicable("The token is no signed JWT.")
    browser = site.signed_in()
    cookie = browser.jar.find(site.essentials.main.name)
    if cookie is None:
        raise Unsure("The session cookie was not set this time.")
    head, payload, signature = cookie.value.split(".")
    kept = {k: v for k, v in json.loads(unbase64(head)).items() if k != "alg"}
    variants = {
        f"alg {alg}": f"{b64url(json.dumps({**kept, 'alg': alg}).encode())}.{payload}."
        for alg in ("none", "None", "NONE", "nOnE")
    }
    variants["an empty signature"] = f"{head}.{payload}."
    variants["a signature of zeroes"] = f"{head}.{payload}.{b64url(bytes(len(signature) * 3 // 4))}"
    for what, value in variants.items():
        if site.is_in(_with_value(site, browser, cookie.name, value)):
            return failed(f"The JWT with {what} signs in.")
    site.must_be_in(browser, "the genuine token no longer signed in.")
    return passed("Every variant without a signature is refused.")


@check(
    "token-tamper",
    "A changed token is refused",
    "high",
    "ASVS 7.2.1, ASVS 7.2.3, WSTG-SESS-01, CWE-565, CWE-345",
    why="Parts that nobody looks at make the token shorter than it seems; content that can be "
    "changed "
    "makes it anybody's.",
    how="Change one character at a time in several places, and cut parts off; where the "
    "content can "
    "be read and has no signature, write it anew.",
    fix="opaque-token",
    order=38,
    covered_by=("token-jwt",),
)
def tamper(site: Site) -> Verdict:
    """No changed variant of the token signs in."""
    browser = site.signed_in()
    cookie = browser.jar.find(site.essentials.main.name)
    if cookie is None:
        raise Unsure("The session cookie was not set this time.")
    site.must_be_in(browser, "the genuine token did not sign in.")
    for what, value in _variants(cookie.value):
        if site.is_in(_with_value(site, browser, cookie.name, value)):
            return failed(f"The token with {what} signs in.")
    site.must_be_in(browser, "the genuine token no longer signed in at the end.")
    return passed("Every changed token is refused, the genuine one is not.")


def _variants(value: str) -> list[tuple[str, str]]:
    """Changed tokens. Not the last character: it may have bits that encode nothing."""
    length = len(value)
    places = sorted({0, length // 4, length // 2, length * 3 // 4, max(0, length - 3)})
    made = [
        (f"another character at {place + 1} of {length}", value[:place] + _other(value[place])
         + value[place + 1 :])
        for place in places
        if value[place].isalnum()
    ]  # fmt: skip
    if length > 16:
        made.append(("half of it missing", value[: length // 2]))
        made.append(("something appended", f"{value}AAAA"))
    payload = unbase64(value)
    try:
        content = json.loads(payload) if payload else None
    except ValueError:
        content = None
    if isinstance(content, dict):
        text = json.dumps({**content, "strongroom_audit": 1}).encode()
        made.append(("content that was written anew", b64url(text)))
    return made


def _other(character: str) -> str:
    for choice in ("A", "b", "7") if character.isupper() else ("a", "e", "7", "3"):
        if choice.lower() != character.lower() and choice.isdigit() == character.isdigit():
            return choice
    return "5" if character != "5" else "6"


def _with_value(site: Site, browser: Browser, name: str, value: str) -> Browser:
    """The browser with this value instead, and without what else would sign in alone."""
    thief = browser.copy()
    thief.jar.drop(*(each for each in site.essentials.alone if each != name))
    thief.jar.change(name, value)
    return thief
