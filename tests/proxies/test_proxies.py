"""Sessions behind real proxies, with TLS: the cookie works, and the client is who connected."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from tests.proxies.browser import CLIENT, Browser
from tests.proxies.conftest import ONE_READER
from tests.proxies.servers import (
    Certificates,
    Proxy,
    edge_caddy,
    edge_haproxy,
    edge_nginx,
    haproxy_binary,
    inner_caddy,
    inner_nginx,
    shop,
)

LIES = {
    "X-Forwarded-For": "203.0.113.66",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Host": "evil.example",
    "Forwarded": 'for="203.0.113.66";proto=http;host=evil.example',
}


@pytest.fixture(scope="session")
def haproxy_edge(folder: Path, certificates: Certificates, app: int) -> Iterator[Proxy]:
    """HAProxy in front of the application."""
    if haproxy_binary() is None:
        pytest.skip("allowed: HAProxy is not installed here, and comes in no wheel")
    with edge_haproxy(folder, certificates, app) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def nginx_then_caddy(folder: Path, keys: Path, certificates: Certificates) -> Iterator[Proxy]:
    """nginx with TLS, then Caddy, then the application, which knows the proxies' addresses."""
    with (
        shop(folder, keys, ONE_READER, networks=["127.0.0.1"]) as app,
        inner_caddy(folder, app) as inner,
        edge_nginx(folder, certificates, inner) as proxy,
    ):
        yield proxy


@pytest.fixture(scope="session")
def caddy_then_nginx(folder: Path, keys: Path, certificates: Certificates) -> Iterator[Proxy]:
    """Caddy with TLS, then nginx, then the application, which counts the proxies."""
    with (
        shop(folder, keys, ONE_READER, hops=2) as app,
        inner_nginx(folder, app) as inner,
        edge_caddy(folder, certificates, inner) as proxy,
    ):
        yield proxy


WAYS = ["nginx_edge", "caddy_edge", "haproxy_edge", "nginx_then_caddy", "caddy_then_nginx"]


@pytest.fixture(params=WAYS)
def proxy(request: pytest.FixtureRequest, folder: Path) -> Proxy:
    """Each way to the application."""
    found: Proxy = request.getfixturevalue(request.param)
    return found


def test_a_sign_in_keeps_its_cookie(proxy: Proxy, certificates: Certificates) -> None:
    """The browser keeps the __Host- cookie, sends it, and signs out with it."""
    with Browser(proxy, certificates) as browser:
        assert "csrf_token" in browser.get("/sign-in").text
        assert browser.post("/sign-in").json() == {"signed_in": "alice"}
        (cookie,) = browser.jar
        assert cookie.name.startswith("__Host-id-") and cookie.secure and cookie.http_only
        assert browser.get("/me").json()["subject"] == "alice"
        assert browser.post("/change").json() == {"changes": 1}


def test_the_sessions_address_is_the_clients(proxy: Proxy, certificates: Certificates) -> None:
    """Not the proxy's, however many there are."""
    with Browser(proxy, certificates) as browser:
        browser.post("/sign-in")
        assert browser.get("/me").json()["addresses"][0] == CLIENT


def test_what_the_client_writes_is_not_believed(proxy: Proxy, certificates: Certificates) -> None:
    """Neither for its address, nor for scheme and host, in whichever header (ASVS 4.1.3)."""
    with Browser(proxy, certificates, metadata=False) as browser:
        # Without Fetch Metadata the Origin is compared with scheme and host: a lie would refuse it.
        assert browser.post("/sign-in", LIES).status_code == 200
        assert browser.get("/me").json()["addresses"][0] == CLIENT


def test_another_origin_is_refused(proxy: Proxy, certificates: Certificates) -> None:
    """Also where it says that it is asked for under that name."""
    with Browser(proxy, certificates, metadata=False) as browser:
        foreign = {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"}
        assert browser.post("/sign-in", foreign).status_code == 403


def test_a_socket_knows_who_is_signed_in(proxy: Proxy, certificates: Certificates) -> None:
    """The handshake goes through with an exact Origin, and no further without (G5)."""
    with Browser(proxy, certificates) as browser:
        browser.post("/sign-in")
        cookies = browser.cookie_header()
    context = ssl.create_default_context(cafile=str(certificates.ca))

    # Not the synchronous client: it reads and writes one TLS connection in two threads, which this
    # Python's ssl does not stand, so that now and then the answer to a handshake is lost.
    async def said(origin: str) -> dict[str, str]:
        async with connect(
            f"wss://localhost:{proxy.port}/socket",
            ssl=context,
            origin=Origin(origin),
            additional_headers={"Cookie": cookies},
            proxy=None,
        ) as socket:
            answer: dict[str, str] = json.loads(await asyncio.wait_for(socket.recv(), 10))
            return answer

    assert asyncio.run(said(proxy.origin)) == {"subject": "alice"}
    with pytest.raises(InvalidStatus) as refused:
        asyncio.run(said("https://evil.example"))
    assert refused.value.response.status_code == 403


def test_http_leads_to_https(proxy: Proxy) -> None:
    """And says nothing else there."""
    reply = httpx2.get(f"http://localhost:{proxy.http_port}/me", trust_env=False)
    assert reply.status_code in (301, 302, 307, 308)
    assert reply.headers["location"].startswith("https://localhost")
    assert "set-cookie" not in reply.headers


def test_browsers_learn_that_it_is_https_only(proxy: Proxy, certificates: Certificates) -> None:
    """Each edge sends HSTS, for refusals too."""
    with Browser(proxy, certificates, metadata=False) as browser:
        for reply in (browser.get("/me"), browser.post("/change", {"Origin": "https://x.example"})):
            assert "max-age=31536000" in reply.headers["strict-transport-security"]
