"""The way between browser and site: encryption, caches, other origins (WSTG-SESS-04, ASVS 3.4)."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from strongroom.audit.browser import Initiator
from strongroom.audit.changes import origin_tricks
from strongroom.audit.jar import Cookie, parse_set_cookie
from strongroom.audit.pages import read_page
from strongroom.audit.site import Site
from strongroom.audit.verdict import (
    NotApplicable,
    Severity,
    Unsure,
    Verdict,
    check,
    failed,
    passed,
    warned,
)
from strongroom.audit.wire import Reply, Unreachable

_YEAR = 31_536_000


@check(
    "transport-http",
    "Nothing is served without encryption",
    "high",
    "ASVS 12.2.1, ASVS 3.4.1, WSTG-SESS-04, CWE-319",
    why="On plain http everybody on the way reads the session cookie, or puts one in.",
    how="See whether the site is on https; ask for the same page on http, and follow nothing.",
    fix="https",
)
def plain_http(site: Site) -> Verdict:
    """The site is on https, and http only sends there."""
    if site.on_this_machine:
        raise NotApplicable("The site is on plain http on this machine.")
    if not site.secure:
        return failed("The site itself is on plain http.")
    if not site.network.transport.is_network:
        raise NotApplicable("In process there is no network.")
    host = urlsplit(site.target.url).hostname or ""
    if urlsplit(site.target.url).port not in (None, 443) or host not in site.network.hosts:
        raise NotApplicable(
            "The site is not on the usual port, so http would be another program's."
        )
    try:
        reply = site.fresh().get(f"http://{host}/", follow=False)
    except Unreachable:
        return passed("Nothing answers on http.")
    if reply.redirect is None or not reply.redirect.startswith("https:"):
        return failed(f"http://{host}/ answers {reply.status} instead of sending to https.", reply)
    return passed("http sends to https.", reply)


@check(
    "transport-hsts",
    "Browsers are told to use https only",
    "medium",
    "ASVS 3.4.1, WSTG-CONF-07, CWE-319",
    why="Without Strict-Transport-Security the first request of a visit may go over http, where "
    "somebody in the middle keeps it.",
    how="Read the header on the sign-in page and on a signed-in page.",
    fix="hsts",
)
def hsts(site: Site) -> Verdict:
    """Strict-Transport-Security with at least a year, signed in and not."""
    if not site.secure:
        raise NotApplicable("The site is not on https.")
    if not site.network.transport.is_network:
        raise NotApplicable("In process the proxy that may add it is not there.")
    for reply in (site.fresh().get(site.target.url), site.proof.ask(site.signed_in())):
        found = re.search(r"max-age\s*=\s*\"?(\d+)", reply.value("strict-transport-security"))
        if found is None:
            return failed(f"{reply.url} has no Strict-Transport-Security.", reply)
        if int(found[1]) < _YEAR:
            return warned(f"{reply.url}: max-age={found[1]}, less than a year.", reply)
    return passed("At least a year, on both pages.", *site.network.replies[-1:])


def _only_a_page(site: Site) -> None:
    if not site.proof.view.is_page:
        raise NotApplicable(
            "What shows who is signed in is asked for with a body, and caches do not keep that."
        )


@check(
    "transport-no-store",
    "Personal pages are not kept by caches",
    "medium",
    "ASVS 14.3.2, ASVS 14.2.2, WSTG-ATHN-06, WSTG-SESS-04, CWE-525",
    why="What a cache keeps is shown by the back button after the sign-out, to whoever sits there "
    "then; a shared cache shows it to strangers.",
    how="Read Cache-Control of the page that shows who is signed in.",
    fix="no-store",
)
def no_store(site: Site) -> Verdict:
    """The proof page says no-store."""
    _only_a_page(site)
    browser = site.signed_in()
    held, reply = site.look(browser)
    if not held:
        raise Unsure("The page was not the signed-in one.")
    control = reply.value("cache-control").lower()
    if "no-store" in control:
        return passed(f"Cache-Control: {control}", reply)
    if "public" in control or (
        re.search(r"s-maxage=[1-9]|max-age=[1-9]", control) and ("private" not in control)
    ):
        return failed(f"Caches may keep it: Cache-Control: {control}", reply, severity="high")
    return failed(f"No no-store: Cache-Control: {control or '(none)'}", reply)


@check(
    "transport-cookie-cached",
    "A response that sets the session cookie is not kept by caches",
    "medium",
    "ASVS 14.2.2, WSTG-SESS-01, WSTG-SESS-04, CWE-524",
    why="A shared cache that keeps a Set-Cookie hands one person's session to the next.",
    how="Look at every response of the audit that sets a cookie which signs in.",
    fix="no-store",
    order=94,
)
def cookie_cached(site: Site) -> Verdict:
    """Each response that sets an essential cookie forbids caching, or cannot be cached."""
    names, now = site.essentials.names, site.clock.now()
    seen = 0
    for reply in site.network.replies:
        set_here = {
            each.name
            for line in reply.set_cookies
            if isinstance(each := parse_set_cookie(line, reply.url, now), Cookie)
            and (each.expires is None or each.expires > now)
        }
        if not set_here & set(names):
            continue
        seen += 1
        control = reply.value("cache-control").lower()
        cacheable = reply.request.method == "GET" and reply.status in (200, 203, 301, 308)
        if cacheable and not re.search(r"no-store|no-cache|private|max-age=0", control):
            return failed(f"{reply.url} sets {', '.join(set_here & set(names))} and says "
                          f"Cache-Control: {control or '(none)'}", reply)  # fmt: skip
    return passed(f"None of {seen} responses that set it may be kept.")


@check(
    "transport-cache-deception",
    "A personal page does not pass for a static file",
    "medium",
    "ASVS 14.2.5, WSTG-ATHN-06, CWE-525",
    why="Caches keep what is called .css. If the personal page answers there too, an attacker "
    "sends "
    "the victim the link and reads the page from the cache.",
    how="Ask for the signed-in page with /x.css and /x.js behind its path.",
    fix="no-store",
)
def cache_deception(site: Site) -> Verdict:
    """No such address shows the personal page without no-store."""
    _only_a_page(site)
    browser = site.signed_in()
    parts = urlsplit(site.proof.url)
    for suffix in ("/x.css", "/x.js", ";x.css"):
        there = parts._replace(path=(parts.path.rstrip("/") or "") + suffix).geturl()
        reply = site.proof.ask(browser, url=there, follow=False)
        shown = reply.status == 200 and bool(site.proof.marker) and (
            site.proof.marker.lower() in reply.text.lower()
        )  # fmt: skip
        if shown and not re.search("no-store|private", reply.value("cache-control").lower()):
            return failed(f"{there} shows the personal page, and may be kept.", reply)
    site.must_be_in(browser, "the browser was no longer signed in at the end.")
    return passed("No address like a static file shows the page.", *site.network.replies[-1:])


@check(
    "transport-cors",
    "Other origins cannot read with the visitor's cookies",
    "high",
    "ASVS 3.4.2, WSTG-CLNT-07, CWE-942",
    why="A reflected Origin with credentials lets every page read what the visitor may read, the "
    "token against forgery included.",
    how="Ask for the signed-in page with foreign origins, 'null', and hosts that begin or end with "
    "ours, and read Access-Control-Allow-Origin and -Credentials.",
    fix="cors",
)
def cors(site: Site) -> Verdict:
    """No foreign origin is allowed with credentials."""
    browser = site.signed_in()
    held, reply = site.look(browser)
    if not held:
        raise Unsure("The page was not the signed-in one.")
    for what, initiator in origin_tricks(site.target.url):
        who = Initiator("cross-site", initiator.origin, None, mode="cors")
        for method in ("", "OPTIONS"):
            if method == "OPTIONS":
                headers = {"Access-Control-Request-Method": "POST"}
                reply = browser.send(method, site.proof.url, initiator=who, headers=headers,
                                     follow=False)  # fmt: skip
            else:
                reply = site.proof.ask(browser, initiator=who, follow=False)
            allowed = reply.value("access-control-allow-origin")
            if allowed == initiator.origin and (
                reply.value("access-control-allow-credentials").lower() == "true"
            ):
                return failed(f"{what} may read with credentials ({allowed}).", reply)
    return passed("No foreign origin may read with credentials.", *site.network.replies[-1:])


@check(
    "transport-token-in-page",
    "The session token stays in its cookie",
    "medium",
    "ASVS 3.3.4, ASVS 14.2.1, WSTG-SESS-04, CWE-598",
    why="A token in a page is read by every script, in a URL by every log: HttpOnly was for "
    "nothing.",
    how="Look for the values of the cookies that sign in in all bodies, links, redirects and other "
    "headers of the signed-in pages.",
    fix="no-url",
    order=60,
)
def token_in_page(site: Site) -> Verdict:
    """No body, link, redirect or header of the signed-in pages holds an essential cookie's "
    "value."""
    browser = site.fresh()
    start = len(site.network.replies)
    site.sign_in(browser)
    values = {c.name: c.value for c in browser.jar if c.name in site.essentials.names}
    site.proof.ask(browser)
    for url in dict.fromkeys(site.plan.pages[:8]):
        if url not in (site.proof.url, site.plan.sessions_url):  # the list has a check of its own
            browser.get(url)
    values = {name: value for name, value in values.items() if len(value) >= 12}
    if not values:
        raise Unsure("The session cookie's value is too short to be looked for.")
    for reply in site.network.replies[start:]:
        for name, value in values.items():
            place = _where(reply, value)
            if place:
                severity: Severity | None = "high" if "URL" in place else None
                return failed(f"The value of {name} is in {place}.", reply, severity=severity)
    return passed(f"Not in any of {len(site.network.replies) - start} responses.")


def _where(reply: Reply, value: str) -> str:
    if value in reply.url or value in reply.value("location"):
        return f"a URL: {urlsplit(reply.url).path}"
    if any(value in link.url for link in read_page(reply).links):
        return f"a URL on {reply.url}"
    if value in reply.text:
        return f"the body of {reply.url}"
    others = [v for k, v in reply.headers if k not in ("set-cookie", "location")]
    if any(value in each for each in others):
        return f"a header of {reply.url}"
    return ""


@check(
    "transport-referer",
    "Addresses do not leave the site in Referer",
    "low",
    "ASVS 3.4.5, WSTG-SESS-04, CWE-598",
    why="Pages that hold something secret in their address give it to every site that they "
    "link to, "
    "unless the browser is told not to.",
    how="Look for secrets in the addresses of the signed-in pages, and for a Referrer-Policy that "
    "sends whole addresses to other sites.",
    fix="referrer",
)
def referer(site: Site) -> Verdict:
    """Referrer-Policy is not unsafe-url or no-referrer-when-downgrade."""
    reply = site.proof.ask(site.signed_in())
    policy = reply.value("referrer-policy").lower()
    meta = read_page(reply).metas.get("referrer", "").lower()
    said = [each.strip() for each in f"{policy},{meta}".split(",") if each.strip()]
    wide = [each for each in said if each in ("unsafe-url", "no-referrer-when-downgrade")]
    if wide:
        return warned(f"Referrer-Policy: {wide[0]} sends whole addresses to other sites.", reply)
    return passed(
        f"Referrer-Policy: {', '.join(said) or 'the browser default, origin only'}.", reply
    )


@check(
    "transport-embedding",
    "A signed-in page cannot be framed by another site",
    "low",
    "ASVS 3.4.6, WSTG-CLNT-09, CWE-1021",
    why="In an invisible frame the victim clicks buttons of a page that is signed in, and no token "
    "against forgery helps: the page itself sends it.",
    how="Read Content-Security-Policy's frame-ancestors and X-Frame-Options of the signed-in page.",
    fix="frame",
)
def embedding(site: Site) -> Verdict:
    """The signed-in page forbids foreign frames, or its cookie does not go into them."""
    held, reply = site.look(site.signed_in())
    if not held:
        raise Unsure("The page was not the signed-in one.")
    if reply.media_type not in ("text/html", ""):
        raise NotApplicable("The page is data, which has nothing to click on.")
    csp, xfo = reply.value("content-security-policy"), reply.value("x-frame-options").lower()
    if "frame-ancestors" in csp or xfo in ("deny", "sameorigin"):
        return passed(f"{'frame-ancestors' if 'frame-ancestors' in csp else xfo}.", reply)
    if all(_stays_home(each) for each in site.essentials.cookies if each.name in
           site.essentials.needed) and site.essentials.needed:  # fmt: skip
        return passed("SameSite keeps the cookie out of frames on other sites.", reply)
    return warned("Nothing keeps other sites from framing it, and the cookie goes along.", reply)


def _stays_home(cookie: Cookie) -> bool:
    return cookie.same_site in ("Lax", "Strict")
