"""Whether sessions end by themselves, when they are said to (WSTG-SESS-07, ASVS 7.3)."""

from __future__ import annotations

from strongroom.audit.browser import Browser
from strongroom.audit.site import Site
from strongroom.audit.verdict import NotApplicable, Unsure, Verdict, check, failed, passed, warned

_MARGIN = 60.0
_LONGEST_IDLE = 24 * 3600
_STEPS = 8


def _declared(site: Site, seconds: float, name: str) -> float:
    if not seconds:
        raise Unsure(
            f"No {name} timeout is declared, so nothing can be compared: [timeouts] {name} = '30m'."
        )
    margin = min(_MARGIN, max(2.0, seconds / 10))
    if not site.can_wait(seconds + margin):
        raise Unsure(
            f"It takes {seconds + margin:.0f} seconds to see: allow it with --wait, or use the "
            "pytest plugin, which moves the time instead."
        )
    return margin


@check(
    "timeout-idle",
    "A session that is not used ends when it is said to",
    "medium",
    "ASVS 7.3.1, WSTG-SESS-07, CWE-613",
    why="A stolen or forgotten session is good until it ends by itself. If that happens only "
    "in the "
    "browser, the thief's copy never ends.",
    how="Sign in, copy the jar, let nine tenths of the declared time pass and see the copy "
    "work; let "
    "the whole time pass without a request, and present another copy.",
    fix="timeouts",
    order=90,
    covered_by=("token-static",),
)
def idle(site: Site) -> Verdict:
    """A copy of the cookies is refused after the declared idle time, and was not before."""
    margin = _declared(site, site.target.idle, "idle")
    _alive = site.essentials
    early, late = site.signed_in().copy(), site.signed_in().copy()
    site.clock.wait(site.target.idle * 0.8, "idle timeout, first part")
    if not _still(site, early):
        return warned("The session ends well before the idle time that is declared.")
    site.clock.wait(site.target.idle * 0.2 + margin, "idle timeout, the rest")
    held, reply = site.look(late)
    if held:
        return failed(
            f"After {site.target.idle + margin:.0f} seconds without a request the session lives, "
            f"where {site.target.idle:.0f} are declared.",
            reply,
        )
    site.signed_in()
    return passed(f"It lives before, and is dead after, {site.target.idle:.0f} seconds.", reply)


def _still(site: Site, browser: Browser) -> bool:
    return site.is_in(browser)


@check(
    "timeout-absolute",
    "A session that is used all the time ends, too",
    "medium",
    "ASVS 7.3.2, WSTG-SESS-07, CWE-613",
    why="A thief keeps a stolen session alive with a request now and then, for ever, if activity "
    "moves its only deadline.",
    how="Sign in and make a request again and again, more often than the idle timeout, until the "
    "declared time is over.",
    fix="timeouts",
    order=91,
)
def absolute(site: Site) -> Verdict:
    """Activity does not carry a session beyond the declared absolute time."""
    total = site.target.absolute
    margin = _declared(site, total, "absolute")
    step = total / _STEPS
    if site.target.idle:
        step = min(step, site.target.idle * 0.6)
    browser = site.signed_in()
    _alive = site.essentials
    passed_by = 0.0
    while passed_by + step < total * 0.95:
        site.clock.wait(step, "absolute timeout")
        passed_by += step
        if not site.is_in(browser):
            if passed_by < total * 0.8:
                return warned(f"A session in use ends after {passed_by:.0f} seconds already.")
            return passed(f"A session in use ends after {passed_by:.0f} seconds.")
    site.clock.wait(total - passed_by + margin, "absolute timeout, the rest")
    held, reply = site.look(browser)
    if held:
        return failed(
            f"A session in use lives longer than the {total:.0f} seconds declared.", reply
        )
    site.signed_in()
    return passed(f"A session in use is dead after {total:.0f} seconds.", reply)


@check(
    "timeout-declared",
    "The timeouts that are declared are sensible",
    "info",
    "ASVS 7.1.1, WSTG-SESS-07",
    why="A limit that nobody reaches protects nobody: OWASP and NIST ask for an idle timeout "
    "and an "
    "absolute one, and for a reason where they are long.",
    how="Read the target file.",
    fix="timeouts",
)
def declared(site: Site) -> Verdict:
    """Idle is at most a day, absolute at most thirty, and idle is the shorter one."""
    idle, total = site.target.idle, site.target.absolute
    if not idle and not total:
        raise NotApplicable("No timeout is declared.")
    if idle and total and idle >= total:
        return warned("The idle timeout is not shorter than the absolute one, so it never counts.")
    if idle > _LONGEST_IDLE or total > 30 * 86400:
        return warned(
            "An idle timeout beyond a day, or an absolute one beyond thirty, needs a reason."
        )
    return passed(f"Idle {idle:.0f} seconds, absolute {total:.0f} seconds.")
