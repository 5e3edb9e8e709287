"""Whatever bytes arrive: no 500, nobody signed in, and no store asked for noise (P2)."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.browser import Browser, Response
from tests.support.site import Site

pytestmark = pytest.mark.anyio


async def raw(browser: Browser, *cookies: bytes, **how: Any) -> Response:
    """A navigation with exactly these Cookie headers."""
    return await browser.begin("/", cookies=list(cookies), **how).response()


@pytest.mark.slow
@pytest.mark.needs("bytes")
async def test_every_byte_in_the_cookie_header(site: Site):
    """Alone, in our cookie's value, in its name, and around it (P2)."""
    alice = await site.signed_in()
    name, token = site.cookie.encode(), (site.token(alice) or "").encode()
    for number in range(256):
        byte = bytes([number])
        for value in (
            byte,
            name + b"=" + byte,
            name + b"=" + byte * 84,
            name + byte + b"=" + token,
            name + b"=" + token[:40] + byte + token[41:],
        ):
            response = await raw(alice, value)
            assert response.status == 200
            unchanged = value == name + b"=" + token
            assert response.json["subject"] == ("alice" if unchanged else None), value
    assert await site.who(alice) == "alice"


@pytest.mark.needs("bytes")
async def test_what_stands_around_a_good_cookie_does_not_matter(site: Site):
    """Other cookies of any shape, quotes, empty parts, another case of the name (P2)."""
    alice = await site.signed_in()
    good = f"{site.cookie}={site.token(alice)}".encode()
    for around in (b"\xff\xfe=\x00; %s", b";;; %s ;;;", b'a="; %s', b"=; %s; =", b"%s; \xf0\x9f"):
        response = await raw(alice, around % good)
        assert response.json["subject"] == "alice", around
    for other in (good.upper(), good.replace(b"__Host", b"__host"), b" x" + good, b'a="%s"' % good):
        assert (await raw(alice, other)).json["subject"] is None, other


async def test_a_hundred_cookies_of_our_name_that_are_noise(site: Site):
    """No store is asked, and one event tells of them (P2, P21)."""
    browser = site.browser()
    await browser.goto("/nothing")
    site.store.reset()
    site.events.clear()
    noise = [base64.urlsafe_b64encode(bytes([n]) * 63) for n in range(100)]
    header = b"; ".join(site.cookie.encode() + b"=" + each for each in noise)
    assert (await raw(browser, header)).status == 200
    assert site.store.asked == {}
    assert len(site.events) == 1


@pytest.mark.slow
async def test_a_cookie_header_of_a_megabyte(site: Site):
    """Of any shape, it costs milliseconds (P21)."""
    browser = await site.signed_in()
    name, token = site.cookie.encode(), (site.token(browser) or "").encode()
    size = 1 << 20
    for header in (
        b"x" * size,
        b";" * size,
        b"=" * size,
        b" " * size,
        (name + b"=") * (size // 20),
        (name + b"=; ") * (size // 22),
        (name + b"=" + token + b"; ") * (size // 106),
        (b"a=" + name + b"=" + token + b"; ") * (size // 110),
        b"; ".join(name + b"=" + b"%084d" % n for n in range(size // 106)),
    ):
        began = time.perf_counter()
        assert (await raw(browser, header)).status == 200
        assert time.perf_counter() - began < 1.0, header[:40]


@pytest.mark.needs("bytes")
async def test_headers_that_are_not_utf_8(site: Site):
    """Every header that we look at, in bytes that no browser would send."""
    alice = await site.signed_in()
    for name in (
        b"user-agent accept host origin referer sec-fetch-site sec-fetch-mode sec-fetch-dest "
        b"sec-purpose content-type content-length x-forwarded-for forwarded x-csrf-token"
    ).split():
        for value in (b"\xff\xfe\x00", b"", b"\xf0\x9f\x92\xa9", b"x" * 9000, b"\x7f\x1b[31m"):
            for method in ("GET", "POST"):
                pending = alice.request(
                    method,
                    "/nothing",
                    mode="navigate",
                    dest="document",
                    source=alice.origin,
                    headers=[(name, value)],
                )
                assert (await pending.response()).status < 500, (name, value)


async def test_headers_that_come_twice(site: Site):
    """A repeated Sec-Fetch-Site, Origin or token is never the better of the two (P19)."""
    alice = await site.signed_in()
    for name, value in (
        (b"sec-fetch-site", b"same-origin"),
        (b"origin", b"https://app.example"),
        (b"x-csrf-token", b"x"),
    ):
        bad = b"cross-site" if name == b"sec-fetch-site" else b"https://evil.net"
        for pair in ([(name, value), (name, bad)], [(name, bad), (name, value)]):
            alice.old = True
            response = await alice.post("/set?a=b", headers=pair)
            assert response.status == 403, pair
    alice.old = False
    assert await site.data(alice) == {}


@pytest.mark.slow
@pytest.mark.needs("bytes")
async def test_paths_and_queries_of_any_bytes(site: Site):
    """The way back to a page that was asked for fits into a Location header (P25)."""

    async def guarded(call):
        return call.session.require_sign_in()

    class Everywhere(dict[str, Any]):
        def __missing__(self, key: str) -> Any:
            return guarded

    site.pages = Everywhere(site.pages)
    browser = site.browser()
    for number in range(256):
        for path in (f"/a%{number:02x}b", f"/a?b=%{number:02x}", "/a?" + chr(number)):
            response = await browser.goto(path)
            # Django refuses a query that is not UTF-8 before anybody sees it.
            assert response.status in (200, 303, 307, 400, 404), path
            location = (response.header("location") or "/").encode("latin-1")
            assert location.isascii()
            assert b"\r" not in location
            assert b"\n" not in location


@pytest.mark.needs("bytes")
async def test_what_a_client_says_of_itself_cannot_forge_a_log_line(site: Site):
    """Line breaks and escapes in User-Agent and subject stay inside their event (ASVS 16.4.1)."""
    from strongroom.telemetry.logging import line

    agent = 'Evil\r\n{"event":"forged"}\x1b[31m Firefox Linux'
    browser = site.browser(agent=agent)
    await site.sign_in(browser, 'x\n{"event": "forged"}')
    for event in site.events:
        assert "\n" not in line(event)
        assert "\x1b" not in line(event)


async def test_a_body_that_lies_about_itself(site: Site):
    """Announced lengths, types and boundaries of any kind, without a token: 403 (P19)."""
    alice = await site.signed_in()
    alice.old = True
    for kind in (
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=" + b"x" * 5000,
        b'multipart/form-data; boundary="a',
        b"application/x-www-form-urlencoded; charset=utf-16",
        b"application/x-www-form-urlencoded" * 500,
    ):
        for body in (b"", b"--", b"--\r\n\r\n", b"%" * 500, b"&" * 9000, b"=" * 9000, b"\xff" * 99):
            pending = alice.request(
                "POST",
                "/echo",
                mode="navigate",
                dest="document",
                chunks=[body],
                headers=[(b"content-type", kind), (b"content-length", b"-7")],
            )
            assert (await pending.response()).status == 403


def test_any_cookie_headers_at_all(everything: Any):
    """Hypothesis looks for bytes that make a 500, or a store access for noise (P2)."""
    import anyio

    site = Site("asgi", "memory://")
    browser = site.browser()
    name = site.cookie.encode()
    token = st.binary(min_size=60, max_size=66).map(base64.urlsafe_b64encode)
    value = st.one_of(st.binary(max_size=200), token, st.just(b"A" * 84))
    pair = st.tuples(st.sampled_from([name, b"a", b"", name[:-1]]), value)
    header = st.lists(pair.map(b"=".join), max_size=6).map(b"; ".join)

    @settings(suppress_health_check=list(HealthCheck), deadline=None)
    @given(st.lists(header, max_size=3), st.sampled_from(["GET", "POST", "HEAD", "OPTIONS"]))
    def check(headers: list[bytes], method: str) -> None:
        async def once() -> None:
            pending = browser.request(
                method,
                "/",
                mode="navigate",
                dest="document",
                source=browser.origin,
                cookies=headers,
            )
            response = await pending.response()
            assert response.status == 200, response.error
            assert method == "HEAD" or response.json["id"] is None

        anyio.run(once)

    anyio.run(site.manager.start)
    site.store.reset()
    check()
    assert site.store.asked == {}
    assert not [line for line in everything.lines if "Traceback" in line]
