"""What a page's own headers tell: redirects to https, HSTS, caching, Clear-Site-Data, the clock."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from .doctor_cookies import SetCookie, check_cookies
from .doctor_findings import Finding, ok, problem, skipped, warning
from .doctor_http import NoAnswer, Place, Reply, Way, redirect

_YEAR = 31_536_000
_DAY = 86_400_000
_SOON = 14 * _DAY
_CLOCKS_APART = 5_000
_CLEARED = re.compile(r'"([A-Za-z*:]*)"')


def check_page(replies: list[Reply], now: int) -> Iterator[Finding]:
    """A page, with the redirects that led to it."""
    last = replies[-1]
    yield from _status(last)
    cookies = [line for reply in replies for line in reply.values("set-cookie")]
    for reply in replies:
        yield from check_cookies(reply)
        yield from _caching(reply)
        yield from _clearing(reply)
    if not cookies:
        yield ok("cookie", f"{last.place} sets no cookie. Strongroom sets none before it must.")
    yield from _clock(last, now)


def check_transport(
    way: Way, replies: list[Reply], http_port: int | None, now: int
) -> Iterator[Finding]:
    """Whether everything that matters travels encrypted."""
    first, last = replies[0].place, replies[-1]
    if last.place.scheme == "http":
        yield from _never_encrypted(last.place)
        return
    yield from _certificate(last, way, now)
    yield from _hsts(last)
    if first.scheme == "http":
        yield ok("redirect", f"{first} leads to https.")
    elif http_port is not None:
        yield _redirect(way, Place("http", first.host, http_port))
    else:
        yield skipped(
            "redirect",
            f"The https port is {first.port}, so the one for http cannot be guessed.",
            change="Name it: --http-port 8080",
        )


def _never_encrypted(place: Place) -> Iterator[Finding]:
    if place.is_loopback:
        yield warning(
            "https",
            f"{place} came over http, on this machine.",
            why="That is for development, with SessionPolicy.for_development().",
            change="Ask as browsers do in production: strongroom doctor https://...",
        )
        return
    yield problem(
        "https",
        f"{place} came over http, and nothing leads to https.",
        why="Browsers refuse Secure cookies there, so nobody can sign in; without Secure anybody "
        "on the way could take the session.",
        change="Have the proxy end TLS, and redirect http to https.",
    )


def _redirect(way: Way, place: Place) -> Finding:
    try:
        reply = way.get(place)
    except NoAnswer:
        return ok("redirect", f"Nobody answers http at port {place.port}.")
    there = redirect(reply)
    if there is not None and there.scheme == "https":
        return ok("redirect", f"{place} leads to https.")
    return problem(
        "redirect",
        f"{place} answers {reply.status} over http, and does not lead to https.",
        why="Whoever types the name alone stays there: the session cookie is not sent, and "
        "anybody on the way can read and change the page.",
        change="nginx: return 308 https://$host$request_uri; Caddy does it by itself.",
    )


def _certificate(reply: Reply, way: Way, now: int) -> Iterator[Finding]:
    if reply.expires is None:
        if way.insecure:
            yield skipped("tls", "The certificate was not checked (--insecure).")
        return
    left = round(ssl.cert_time_to_seconds(reply.expires) * 1000) - now
    told = f"The certificate is believed, and valid for {left // _DAY} more days."
    if left >= _SOON:
        yield ok("tls", told)
    else:
        yield warning(
            "tls",
            told,
            why="Once it is over, browsers show a warning instead of the page.",
            change="Renew it, and check what should have done so.",
        )


def _hsts(reply: Reply) -> Iterator[Finding]:
    header = reply.value("strict-transport-security")
    change = 'Send Strict-Transport-Security: "max-age=31536000; includeSubDomains".'
    why = (
        "Until a browser knows that the site is https only, its first request can go over http, "
        "where somebody on the way can plant cookies and pages (ASVS 3.4.1)."
    )
    age = re.search(r"max-age=\"?([0-9]{1,12})", header or "", re.IGNORECASE)
    if header is None:
        yield warning(
            "hsts", "The page sends no Strict-Transport-Security.", why=why, change=change
        )
    elif age is None or int(age[1]) < _YEAR:
        yield warning(
            "hsts", "Strict-Transport-Security is for less than a year.", why=why, change=change
        )
    else:
        yield ok("hsts", "Browsers remember that the site is https only.")


def _status(reply: Reply) -> Iterator[Finding]:
    told = f"{reply.place} answers {reply.status}."
    if reply.status in (502, 503, 504):
        yield problem(
            "page",
            told,
            why="The proxy does not reach the application, or the application its store.",
            change="See the proxy's error log, and: strongroom store check",
        )
    elif reply.status >= 500:
        yield problem(
            "page",
            told,
            why="The application failed. With the development policy it does so for every host but "
            "localhost.",
            change="See its log; the sentence there says what to change.",
        )
    else:
        yield ok("page", told)


def _caching(reply: Reply) -> Iterator[Finding]:
    """A response that sets a cookie belongs to one visitor (P23, TRAPS: Vary and Cache-Control)."""
    cookies = [SetCookie.parse(line) for line in reply.values("set-cookie")]
    if not cookies:
        return
    said = (reply.value("cache-control") or "").lower()
    kept = re.search(r"no-store|private", said) is not None
    from_a_cache = (reply.value("age") or "0").strip() not in ("", "0")
    if from_a_cache:
        yield problem(
            "caching",
            f"{reply.place} came out of a cache, with a cookie in it.",
            why="Everybody who is given this copy gets the same session.",
            change="Have the cache obey Cache-Control, and never keep a response with Set-Cookie.",
        )
    if not kept:
        ours = any(each.is_ours for each in cookies)
        yield (problem if ours else warning)(
            "caching",
            f"{reply.place} sets a cookie and may be kept by caches.",
            why="Strongroom says no-store wherever it sets a cookie, so it was taken away."
            if ours
            else "A shared cache could hand one visitor's cookie to others.",
            change="Leave the application's Cache-Control as it is (nginx: no expires and no "
            "add_header Cache-Control there).",
        )
    else:
        yield ok("caching", f"{reply.place} is kept by no shared cache.")


def _clearing(reply: Reply) -> Iterator[Finding]:
    header = reply.value("clear-site-data")
    if header is None:
        return
    types = _CLEARED.findall(header)
    if not types:
        yield warning(
            "clear-site-data",
            f"{reply.place} sends a Clear-Site-Data that browsers do not understand.",
            why="Its types are quoted strings.",
            change='Write it like "storage", with the quotes.',
        )
    elif {"cookies", "*"} & set(types):
        yield problem(
            "clear-site-data",
            f"{reply.place} clears the site's cookies, whoever opens it.",
            why="That is for the answer to a sign-out; here it signs out every visitor.",
            change="Find what adds the header to this page.",
        )


def _clock(reply: Reply, now: int) -> Iterator[Finding]:
    try:
        told = parsedate_to_datetime(reply.value("date") or "")
    except ValueError:
        return
    if told.tzinfo is None:
        told = told.replace(tzinfo=UTC)
    apart = abs(told - datetime.fromtimestamp(now / 1000, UTC)).total_seconds() * 1000
    if apart > _CLOCKS_APART:
        yield warning(
            "clock",
            f"The server's clock and this machine's are {round(apart / 1000)} s apart.",
            why="Timeouts are judged by the server's clock.",
            change="Set both clocks (NTP).",
        )
