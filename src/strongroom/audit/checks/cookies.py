"""What the cookies that sign in are like, seen as a browser sees them (WSTG-SESS-01, -02, -09)."""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlsplit

from strongroom.audit.browser import Browser
from strongroom.audit.jar import Cookie, attributes_of
from strongroom.audit.site import Site
from strongroom.audit.verdict import NotApplicable, Unsure, Verdict, check, failed, passed, warned
from strongroom.audit.wire import Reply
from strongroom.core.cookies import SIZE_LIMIT

_LONG_LIFE = 24 * 3600
_COUNTED = ("__host-", "__secure-")


def _set_by(site: Site, name: str) -> tuple[Reply, ...]:
    """The latest reply that set this cookie to something."""
    for reply in reversed(site.network.replies):
        for line in reply.set_cookies:
            if line.partition("=")[0].strip() == name and "max-age=0" not in line.lower():
                return (reply,)
    return ()


def _names(cookies: list[Cookie]) -> str:
    return ", ".join(each.name for each in cookies)


def _need_https(site: Site) -> None:
    if site.on_this_machine:
        raise NotApplicable("The site is on plain http on this machine, where it cannot be set.")


@check(
    "cookie-secure",
    "The cookies that sign in are Secure",
    "high",
    "ASVS 3.3.1, WSTG-SESS-02, CWE-614",
    why="Without Secure the browser sends the cookie over plain http as well, where anybody on the "
    "way reads it; one link to http:// is enough.",
    how="Sign in, find out which cookies matter, read their attributes.",
    fix="cookie-flags",
)
def secure(site: Site) -> Verdict:
    """Each essential cookie has Secure."""
    cookies = site.essentials.judged
    _need_https(site)
    bare = [each for each in cookies if not each.secure]
    if bare:
        return failed(f"{_names(bare)}: no Secure.", *_set_by(site, bare[0].name))
    return passed(f"{_names(cookies)}: Secure.", *_set_by(site, cookies[0].name))


@check(
    "cookie-httponly",
    "Scripts cannot read the cookies that sign in",
    "medium",
    "ASVS 3.3.4, WSTG-SESS-02, CWE-1004",
    why="One injected line of JavaScript carries a readable session cookie away, and the thief is "
    "signed in from then on, elsewhere.",
    how="Sign in, find out which cookies matter, read their attributes.",
    fix="cookie-flags",
)
def http_only(site: Site) -> Verdict:
    """Each essential cookie has HttpOnly, unless it is a second factor of a needed pair."""
    cookies = site.essentials.judged
    bare = [each for each in cookies if not each.http_only]
    kept = [each for each in cookies if each.http_only]
    if bare and not (kept and len(site.essentials.needed) > 1):
        return failed(f"{_names(bare)}: no HttpOnly.", *_set_by(site, bare[0].name))
    return passed(f"{_names(kept or cookies)}: HttpOnly.", *_set_by(site, cookies[0].name))


@check(
    "cookie-samesite",
    "The cookies that sign in say SameSite",
    "medium",
    "ASVS 3.3.2, WSTG-SESS-02, CWE-1275",
    why="What a browser does with a cookie that says nothing differs: Chromium treats it almost as "
    "Lax, Firefox and Safari send it with every cross-site request.",
    how="Sign in, find out which cookies matter, read their attributes.",
    fix="cookie-flags",
)
def same_site(site: Site) -> Verdict:
    """Each essential cookie says Lax or Strict."""
    cookies = site.essentials.judged
    silent = [each for each in cookies if not each.same_site]
    if silent:
        return failed(f"{_names(silent)}: no SameSite.", *_set_by(site, silent[0].name))
    wide = [each for each in cookies if each.same_site == "None"]
    if wide:
        return warned(
            f"{_names(wide)}: SameSite=None, so every other site's page can send it.",
            *_set_by(site, wide[0].name),
        )
    said = ", ".join(f"{each.name}: SameSite={each.same_site}" for each in cookies)
    return passed(f"{said}.", *_set_by(site, cookies[0].name))


@check(
    "cookie-prefix",
    "The session cookie's name has the __Host- or __Secure- prefix",
    "low",
    "ASVS 3.3.1, ASVS 3.3.3",
    why="Only the prefix tells the server that the cookie was not put there by a sibling domain or "
    "over plain http (cookie tossing, fixation from the network).",
    how="Sign in, find out which cookies matter, read their names.",
    fix="cookie-prefix",
    covered_by=("cookie-secure",),
)
def prefix(site: Site) -> Verdict:
    """Each essential cookie's name is prefixed."""
    cookies = site.essentials.judged
    _need_https(site)
    bare = [each for each in cookies if not each.name.lower().startswith(_COUNTED)]
    if bare:
        return warned(f"{_names(bare)}: no prefix.", *_set_by(site, bare[0].name))
    return passed(f"{_names(cookies)}: prefixed.", *_set_by(site, cookies[0].name))


@check(
    "cookie-domain",
    "The session cookie goes to this host only",
    "medium",
    "ASVS 3.3.3, ASVS 3.5.4, WSTG-SESS-02",
    why="With a Domain every sibling host gets the session cookie, the forgotten blog included.",
    how="Sign in, find out which cookies matter, read their attributes.",
    fix="cookie-domain",
)
def domain(site: Site) -> Verdict:
    """No essential cookie has a Domain."""
    cookies = site.essentials.judged
    wide = [each for each in cookies if not each.host_only]
    if wide:
        where = ", ".join(f"{each.name}: Domain={each.domain}" for each in wide)
        return failed(f"{where}.", *_set_by(site, wide[0].name))
    return passed(f"{_names(cookies)}: this host only.", *_set_by(site, cookies[0].name))


@check(
    "cookie-lifetime",
    "The session cookie does not outlive its day",
    "low",
    "ASVS 7.1.1, WSTG-SESS-02, CWE-613",
    why="A cookie that stays for weeks on a shared computer signs in whoever sits down there next.",
    how="Sign in, read Max-Age and Expires; compare with the timeout that is declared.",
    fix="cookie-lifetime",
)
def lifetime(site: Site) -> Verdict:
    """An essential cookie lives no longer than declared, or than a day."""
    cookies = site.essentials.cookies
    most = site.target.absolute or _LONG_LIFE
    long = [each for each in cookies if each.max_age and each.max_age > most + 60]
    if long:
        days = ", ".join(f"{each.name}: {_span(each.max_age or 0)}" for each in long)
        declared = "the absolute timeout declared" if site.target.absolute else "a day"
        return warned(f"{days}, longer than {declared}.", *_set_by(site, long[0].name))
    said = ", ".join(
        f"{each.name}: {_span(each.max_age) if each.max_age else 'until the browser closes'}"
        for each in cookies
    )
    return passed(f"{said}.", *_set_by(site, cookies[0].name))


def _span(seconds: int) -> str:
    if seconds >= 2 * 86400:
        return f"{seconds // 86400} days"
    return f"{seconds // 3600} h" if seconds >= 3600 else f"{seconds // 60} min"


@check(
    "cookie-size",
    "Cookies fit into what browsers and servers take",
    "low",
    "ASVS 3.3.5, ASVS 4.2.5",
    why="A browser drops a cookie over 4,096 octets as a whole, and servers answer 400 to headers "
    "of more than 8 KiB: people are locked out for as long as the cookie lives.",
    how="Sign in and measure every cookie, and all of them together.",
    fix="cookie-size",
)
def size(site: Site) -> Verdict:
    """No cookie, and no Cookie header, is larger than fits everywhere."""
    jar = site.essentials.jar
    dropped = [each for each in _refused(site) if str(SIZE_LIMIT) in each[1]]
    if dropped:
        return failed(f"{dropped[0][0]}: {dropped[0][1]}; a browser drops it.", dropped[0][2])
    header = len(jar.header(site.target.url))
    large = [each for each in jar if len(each.name) + len(each.value) > 3072]
    if large or header > 6144:
        what = _names(large) or "All cookies together"
        return warned(f"{what}: near the limit ({header} octets in the Cookie header).")
    return passed(f"The Cookie header has {header} octets.", *site.essentials.evidence[:1])


def _refused(site: Site) -> list[tuple[str, str, Reply]]:
    """Every Set-Cookie of the whole audit that a browser would not keep."""
    from strongroom.audit.jar import Refused, parse_set_cookie

    found: dict[str, tuple[str, str, Reply]] = {}
    for reply in site.network.replies:
        for line in reply.set_cookies:
            parsed = parse_set_cookie(line, reply.url, site.clock.now())
            if isinstance(parsed, Refused):
                found.setdefault(parsed.name, (parsed.name, parsed.why, reply))
    return list(found.values())


@check(
    "cookie-refused",
    "Browsers keep every cookie that is set",
    "medium",
    "ASVS 3.3.1, rfc6265bis 5.7",
    why="A cookie that a browser refuses is not there when the code counts on it, and nothing says "
    "so: the sign-in, or the protection, works on the developer's machine only.",
    how="Look at every Set-Cookie of the whole audit with the rules of rfc6265bis.",
    fix="cookie-refused",
    order=95,
)
def refused(site: Site) -> Verdict:
    """No Set-Cookie breaks a rule that browsers enforce."""
    found = [each for each in _refused(site) if str(SIZE_LIMIT) not in each[1]]
    if found:
        name, why, reply = found[0]
        details = [f"{each[0]}: {each[1]}." for each in found[1:]]
        return failed(f"{name}: {why}.", reply, details=details)
    count = sum(len(reply.set_cookies) for reply in site.network.replies)
    if not count:
        raise NotApplicable("The site sets no cookie.")
    return passed(f"Each of {count} Set-Cookie lines would be kept.")


@check(
    "cookie-duplicate",
    "No cookie is set twice",
    "low",
    "rfc6265bis 4.1.1 (CK-4)",
    why="Two Set-Cookie of one name in one response, or one name under two paths, leave it to the "
    "browser which session is meant; another one may decide otherwise.",
    how="Look at every response of the audit, and at the names in the jar after signing in.",
    fix="cookie-duplicate",
    order=95,
)
def duplicate(site: Site) -> Verdict:
    """No response sets a name twice, no name is in the jar twice, no attribute is repeated."""
    for reply in site.network.replies:
        lines = reply.set_cookies
        counted = Counter(line.partition("=")[0].strip() for line in lines)
        twice = [name for name, count in counted.items() if count > 1]
        if twice:
            return warned(f"{twice[0]} is set {counted[twice[0]]} times in one response.", reply)
        for line in lines:
            names = Counter(name for name, _value in attributes_of(line))
            more = [name for name, count in names.items() if count > 1]
            if more:
                return warned(f"{line.partition('=')[0]} says {more[0]} twice.", reply)
    counted = Counter(each.name for each in site.essentials.jar)
    twice = [name for name, count in counted.items() if count > 1]
    if twice:
        return warned(f"{twice[0]} is in the jar {counted[twice[0]]} times, under several paths.")
    return passed("Every name once, in every response and in the jar.")


@check(
    "cookie-essential",
    "What signs in is well protected, and nothing else does",
    "medium",
    "WSTG-SESS-01, WSTG-SESS-09, CWE-614",
    why="Protecting one cookie is of no use if another, unprotected one signs in as well.",
    how="Leave out one cookie at a time, then send each alone; then only what travels without "
    "encryption.",
    fix="cookie-flags",
)
def essential(site: Site) -> Verdict:
    """No less protected cookie signs in beside a protected one."""
    found = site.essentials
    names = ", ".join(found.names)
    told = [f"Does not matter: {', '.join(found.others)}."] if found.others else []
    if len(found.alone) > 1:
        weakest = [each for each in found.cookies if not each.http_only or not each.secure]
        strongest = [each for each in found.cookies if each.http_only and each.secure]
        if weakest and strongest:
            return failed(
                f"{_names(weakest)} alone signs in, less protected than {_names(strongest)}.",
                *found.evidence,
                details=told,
            )
    thief = Browser(site.network, found.jar.copy())
    thief.jar.drop(*(each.name for each in found.jar if each.secure))
    plain = thief.jar.names()
    if plain and found.others and site.secure and len(plain) < len(found.jar.names()):
        held, reply = site.look(thief)
        if held:
            return failed(f"What travels without encryption signs in: {', '.join(plain)}.", reply)
    return passed(f"What signs in: {names}.", *found.evidence, details=told)


@check(
    "cookie-after-sign-out",
    "Signing out removes the cookies that sign in",
    "low",
    "ASVS 14.3.1, WSTG-SESS-06",
    why="A cookie that stays tells the next person at this computer that somebody was here, and "
    "comes back to life with any mistake on the server.",
    how="Sign out and look at what is in the jar then.",
    fix="cookie-sign-out",
)
def after_sign_out(site: Site) -> Verdict:
    """After a sign-out no essential cookie has its old value."""
    names = [each.name for each in site.essentials.judged]
    browser = site.signed_in()
    before = {each.name: each.value for each in browser.jar}
    reply = site.sign_out(browser)
    trail = tuple(browser.trail) or (reply,)
    after = {each.name: each.value for each in browser.jar}
    if site.is_in(browser):
        raise Unsure("The browser was still signed in after the sign-out.")
    what = [f"{name}: {_fate(name, before, after)}." for name in before]
    left = [name for name in names if after.get(name) == before.get(name)]
    if left:
        return warned(f"{', '.join(left)}: left as it was.", *trail, details=what)
    return passed("None is left as it was.", *trail, details=what)


def _fate(name: str, before: dict[str, str], after: dict[str, str]) -> str:
    if name not in after:
        return "removed"
    return "left as it was" if after[name] == before[name] else "has another value"


@check(
    "cookie-path",
    "Nobody relies on a cookie's path",
    "info",
    "ASVS 3.5.4",
    why="A path keeps no other application on the host from reading the cookie, and keeps the "
    "__Host- prefix away.",
    how="Sign in and read the paths.",
    fix="cookie-prefix",
)
def path(site: Site) -> Verdict:
    """Each essential cookie has Path=/, or the path of an application that is mounted there."""
    cookies = site.essentials.judged
    mounted = urlsplit(site.target.url).path.rstrip("/")
    odd = [each for each in cookies if each.path.rstrip("/") not in ("", mounted)]
    if odd:
        where = ", ".join(f"{each.name}: Path={each.path}" for each in odd)
        return warned(f"{where}.", *_set_by(site, odd[0].name))
    return passed(f"{_names(cookies)}: Path=/.", *_set_by(site, cookies[0].name))
