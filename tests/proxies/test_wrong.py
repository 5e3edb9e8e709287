"""The wrong configuration is explained: what happens, and what the doctor says to change."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from strongroom.cli.__main__ import run
from strongroom.cli.output import World
from tests.proxies.browser import CLIENT, Browser
from tests.proxies.conftest import ONE_READER
from tests.proxies.servers import (
    Certificates,
    Proxy,
    edge_nginx,
    inner_caddy,
    shop,
    shop_on_socket,
)
from tests.support.servers.ports import free_port

Findings = list[dict[str, str]]
StartApp = Callable[..., int]
Spoil = Callable[..., Proxy]

FOR = "proxy_set_header X-Forwarded-For   $remote_addr;"
PROTO = "proxy_set_header X-Forwarded-Proto $scheme;"
HOST = "proxy_set_header Host              $http_host;"
X_HOST = "proxy_set_header X-Forwarded-Host  $http_host;"
PLACE = "proxy_pass http://application;"
TRUSTING: dict[str, Any] = {"networks": ["127.0.0.1"]}


@pytest.fixture(scope="session")
def start(folder: Path, keys: Path) -> Iterator[StartApp]:
    """Starts the application with these flags and settings, once for all who ask the same."""
    started: dict[str, int] = {}
    with ExitStack() as stack:

        def once(*flags: str, **trusted: Any) -> int:
            name = json.dumps([flags, trusted])
            if name not in started:
                started[name] = stack.enter_context(shop(folder, keys, *flags, **trusted))
            return started[name]

        yield once


@pytest.fixture
def spoiled(folder: Path, certificates: Certificates) -> Iterator[Spoil]:
    """Starts nginx in front of a port, with the documentation's file spoiled."""
    with ExitStack() as stack:

        def enter(upstream: int | str, changes: Mapping[str, str] | None = None) -> Proxy:
            return stack.enter_context(edge_nginx(folder, certificates, upstream, changes))

        yield enter


@dataclass
class Doctor:
    """Asks as an operator does, from the client's address."""

    certificates: Certificates
    keys: Path

    def ask(self, url: str, *more: str) -> tuple[int, Findings]:
        """The exit code, and what was found."""
        said = io.StringIO()
        world = World(io.StringIO(), said, said, {}, lambda: time.time_ns() // 1_000_000)
        common = ["--ca", str(self.certificates.ca), "--keys", str(self.keys), "--from", CLIENT]
        code = run(["doctor", url, *common, "--json", *more], world)
        findings: Findings = json.loads(said.getvalue())["checks"]
        return code, findings


@pytest.fixture
def doctor(certificates: Certificates, keys: Path) -> Doctor:
    """The doctor with the application's keys."""
    return Doctor(certificates, keys)


def only(findings: Findings, check: str) -> dict[str, str]:
    """The one finding of this check that is not ok, else the first."""
    of_check = [each for each in findings if each["check"] == check]
    wrong = [each for each in of_check if each["verdict"] in ("problem", "warning")]
    assert len(wrong) < 2, wrong
    return (wrong or of_check)[0]


def not_ok(findings: Findings) -> set[tuple[str, str]]:
    """Every check that is a problem or a warning."""
    return {
        (each["verdict"], each["check"])
        for each in findings
        if each["verdict"] in ("problem", "warning")
    }


@pytest.mark.parametrize("which", ["nginx_edge", "caddy_edge"])
def test_nothing_is_wrong_with_the_pages_own(
    which: str, request: pytest.FixtureRequest, doctor: Doctor, folder: Path
) -> None:
    """The documented configuration is one that the doctor finds no fault with."""
    proxy: Proxy = request.getfixturevalue(which)
    code, findings = doctor.ask(
        proxy.origin, "--path", "/sign-in", "--http-port", str(proxy.http_port)
    )
    assert (code, not_ok(findings)) == (0, set())
    seen = {each["check"] for each in findings}
    assert {"scheme", "host", "client", "csrf", "spoofing", "set-cookie", "cookie-header"} <= seen
    assert {"redirect", "hsts", "tls", "cookie", "caching"} <= seen
    assert CLIENT in only(findings, "client")["what"]


def test_a_proxy_that_is_not_trusted(
    start: StartApp, spoiled: Spoil, doctor: Doctor, certificates: Certificates
) -> None:
    """Https looks like http: the cookie works, and older browsers and sockets are refused."""
    proxy = spoiled(start(ONE_READER))
    with Browser(proxy, certificates, metadata=False) as old:
        refused = old.post("/sign-in")
        assert refused.status_code == 403 and "trusted proxies" in refused.json()["detail"]
    with Browser(proxy, certificates) as browser:
        assert browser.post("/sign-in").status_code == 200
        assert browser.get("/me").json() == {"subject": "alice", "addresses": ["127.0.0.1"]}
    code, findings = doctor.ask(proxy.origin)
    assert code == 1
    assert not_ok(findings) == {("problem", "scheme"), ("problem", "client"), ("problem", "csrf")}
    for check in ("scheme", "client"):
        assert 'proxies=TrustedProxies.of("127.0.0.1")' in only(findings, check)["change"]
    assert "takes the proxy 127.0.0.1 for the client" in only(findings, "client")["what"]


@dataclass
class Case:
    """nginx's file spoiled in one place, and what the doctor says of it."""

    changes: dict[str, str]
    found: set[tuple[str, str]]
    check: str
    says: str
    trusting: dict[str, Any] = field(default_factory=lambda: TRUSTING)


CASES = {
    "no X-Forwarded-Proto": Case(
        {PROTO: ""},
        {("problem", "scheme"), ("problem", "csrf"), ("problem", "spoofing")},
        "scheme",
        "proxy_set_header X-Forwarded-Proto $scheme;",
    ),
    "no X-Forwarded-For": Case(
        {FOR: ""},
        {("problem", "client"), ("problem", "spoofing")},
        "client",
        "proxy_set_header X-Forwarded-For $remote_addr;",
    ),
    "the host without its port": Case(
        {HOST: "proxy_set_header Host $host;", X_HOST: 'proxy_set_header X-Forwarded-Host "";'},
        {("problem", "host"), ("problem", "csrf")},
        "host",
        "proxy_set_header Host $http_host;",
    ),
    "the upstream's name for the host": Case(
        {HOST: "", X_HOST: 'proxy_set_header X-Forwarded-Host "";'},
        {("problem", "host"), ("problem", "csrf")},
        "host",
        "SessionPolicy(origins=(",
    ),
    "the client's X-Forwarded-Host": Case(
        {X_HOST: ""},
        {("problem", "spoofing")},
        "spoofing",
        "proxy_set_header X-Forwarded-Host $http_host;",
    ),
    "more proxies counted than there are": Case(
        {FOR: "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"},
        {("problem", "client"), ("problem", "spoofing")},
        "spoofing",
        "TrustedProxies.hops(1)",
        {"hops": 2},
    ),
    "the other family of headers": Case(
        {},
        {("problem", "scheme"), ("problem", "client"), ("problem", "csrf")},
        "scheme",
        "header=",
        {"networks": ["127.0.0.1"], "header": "forwarded"},
    ),
    "a cookie without Secure": Case(
        {PLACE: f"{PLACE} proxy_cookie_flags ~ nosecure;"},
        {("problem", "cookie"), ("problem", "set-cookie")},
        "set-cookie",
        "no proxy_cookie_flags",
    ),
    "a cookie with another path": Case(
        {PLACE: f"{PLACE} proxy_cookie_path / /shop;"},
        {("problem", "cookie"), ("problem", "set-cookie")},
        "cookie",
        "no proxy_cookie_path",
    ),
    "no Set-Cookie": Case(
        {PLACE: f"{PLACE} proxy_hide_header Set-Cookie;"},
        {("problem", "set-cookie")},
        "set-cookie",
        "no proxy_hide_header Set-Cookie",
    ),
    "no Cookie": Case(
        {PLACE: f'{PLACE} proxy_set_header Cookie "";'},
        {("problem", "cookie-header")},
        "cookie-header",
        "no proxy_set_header Cookie",
    ),
    "cookies that caches keep": Case(
        {PLACE: f"{PLACE} proxy_hide_header Cache-Control; expires 1h;"},
        {("problem", "caching")},
        "caching",
        "no expires",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_line_of_nginx_is_wrong(
    name: str, start: StartApp, spoiled: Spoil, doctor: Doctor
) -> None:
    """The doctor finds exactly what follows from it, and names the setting."""
    case = CASES[name]
    proxy = spoiled(start(ONE_READER, **case.trusting), case.changes)
    code, findings = doctor.ask(proxy.origin, "--path", "/sign-in")
    assert not_ok(findings) == case.found
    assert case.says in only(findings, case.check)["change"]
    assert code == 1


@pytest.fixture(scope="module")
def without_host(folder: Path, keys: Path, certificates: Certificates) -> Iterator[Proxy]:
    """A proxy that loses the host, and an application that states its origin instead."""
    port = free_port()
    origins = [f"https://localhost:{port}"]
    with (
        shop(folder, keys, ONE_READER, **TRUSTING, origins=origins) as app,
        edge_nginx(folder, certificates, app, {HOST: "", X_HOST: ""}, port) as proxy,
    ):
        yield proxy


def test_a_stated_origin_stands_in_for_a_lost_host(
    without_host: Proxy, doctor: Doctor, certificates: Certificates
) -> None:
    """`origins` is what the cross-site check goes by then, and a lie about the host is harmless."""
    with Browser(without_host, certificates) as browser:
        browser.post("/sign-in")
        old = {"Sec-Fetch-Site": "unknown", "X-Forwarded-Host": "x.example"}  # read as absent
        assert browser.post("/change", old).status_code == 200
        assert browser.post("/change", {**old, "Origin": "https://x.example"}).status_code == 403
    _code, findings = doctor.ask(without_host.origin)
    assert only(findings, "spoofing")["verdict"] == "warning"
    assert only(findings, "host")["verdict"] == "ok"


def test_a_stated_origin_is_enough_to_sign_in(
    without_host: Proxy, certificates: Certificates
) -> None:
    """Without Fetch Metadata too: the policy's origins are our own, whatever the host says (F2)."""
    with Browser(without_host, certificates, metadata=False) as browser:
        assert browser.post("/sign-in").status_code == 200


def test_an_inner_proxy_that_trusts_nobody(
    start: StartApp, folder: Path, certificates: Certificates, doctor: Doctor, spoiled: Spoil
) -> None:
    """It overwrites what the outer one wrote: http, and the outer proxy for a client."""
    trusts = "\t\ttrusted_proxies static 127.0.0.1/32\n\t\ttrusted_proxies_strict\n"
    with inner_caddy(folder, start(ONE_READER, **TRUSTING), {trusts: ""}) as inner:
        proxy = spoiled(inner)
        code, findings = doctor.ask(proxy.origin)
    assert code == 1
    assert ("problem", "scheme") in not_ok(findings) and ("problem", "client") in not_ok(findings)
    assert "trusted_proxies" in only(findings, "scheme")["change"]
    assert "127.0.0.1" in only(findings, "client")["what"]


class TestUvicornsOwnFlag:
    """uvicorn reads X-Forwarded-For and -Proto itself: by default, from 127.0.0.1."""

    def test_alone_it_is_enough_for_address_and_scheme(
        self, start: StartApp, spoiled: Spoil, doctor: Doctor, certificates: Certificates
    ) -> None:
        """Behind one proxy on the same machine, with Strongroom trusting nobody."""
        proxy = spoiled(start())
        with Browser(proxy, certificates, metadata=False) as browser:
            assert browser.post("/sign-in").status_code == 200
            assert browser.get("/me").json()["addresses"] == [CLIENT]
        code, findings = doctor.ask(proxy.origin)
        assert (code, not_ok(findings)) == (0, set())
        assert "uvicorn's --proxy-headers" in only(findings, "server")["what"]

    def test_two_readers_are_told_apart(
        self, start: StartApp, spoiled: Spoil, doctor: Doctor, certificates: Certificates
    ) -> None:
        """With both, Strongroom sees the client in the proxy's place and believes the server."""
        proxy = spoiled(start(**TRUSTING))
        with Browser(proxy, certificates, metadata=False) as browser:
            assert browser.post("/sign-in", {"X-Forwarded-For": "127.0.0.1"}).status_code == 200
            assert browser.get("/me").json()["addresses"] == [CLIENT]
        code, findings = doctor.ask(proxy.origin)
        assert (code, not_ok(findings)) == (0, {("warning", "server")})
        assert "--no-proxy-headers" in only(findings, "server")["change"]

    def test_a_star_lets_the_client_choose(
        self, start: StartApp, spoiled: Spoil, doctor: Doctor, certificates: Certificates
    ) -> None:
        """With a proxy that appends, uvicorn takes the leftmost address: the client's word."""
        appends = {FOR: "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"}
        proxy = spoiled(start("--forwarded-allow-ips", "*"), appends)
        with Browser(proxy, certificates) as browser:
            browser.post("/sign-in", {"X-Forwarded-For": "203.0.113.66"})
            assert browser.get("/me").json()["addresses"] == ["203.0.113.66"]
        code, findings = doctor.ask(proxy.origin)
        assert code == 1 and ("problem", "spoofing") in not_ok(findings)
        assert "--no-proxy-headers" in only(findings, "spoofing")["change"]

    def test_a_star_defeats_our_own_list(self, start: StartApp) -> None:
        """Reached past the proxy, the client says that it is the proxy, and is believed."""
        port = start("--forwarded-allow-ips", "*", **TRUSTING)
        lies = {"X-Forwarded-For": "127.0.0.1, 203.0.113.66", "Sec-Fetch-Site": "same-origin"}
        transport = httpx2.HTTPTransport(local_address=CLIENT, trust_env=False)
        with httpx2.Client(transport=transport, base_url=f"http://127.0.0.1:{port}") as client:
            reply = client.post("/sign-in", headers=lies)
            cookie = reply.headers["set-cookie"].partition(";")[0]
            told = client.get("/me", headers={"Cookie": cookie}).json()
        assert told["addresses"] == ["203.0.113.66"]

    def test_without_the_flag_our_list_holds(self, start: StartApp) -> None:
        """The same lie, with one reader."""
        port = start(ONE_READER, **TRUSTING)
        lies = {"X-Forwarded-For": "127.0.0.1, 203.0.113.66", "Sec-Fetch-Site": "same-origin"}
        transport = httpx2.HTTPTransport(local_address=CLIENT, trust_env=False)
        with httpx2.Client(transport=transport, base_url=f"http://127.0.0.1:{port}") as client:
            reply = client.post("/sign-in", headers=lies)
            cookie = reply.headers["set-cookie"].partition(";")[0]
            told = client.get("/me", headers={"Cookie": cookie}).json()
        assert told["addresses"] == [CLIENT]


@pytest.mark.skipif(os.name != "posix", reason="allowed: unix sockets are for unix")
def test_a_unix_socket_has_no_address(
    folder: Path, keys: Path, spoiled: Spoil, doctor: Doctor, certificates: Certificates
) -> None:
    """It is trusted by `unix=True`, and without it nobody's address is known."""
    with shop_on_socket(folder, keys, ONE_READER, unix=True) as path:
        proxy = spoiled(path)
        with Browser(proxy, certificates, metadata=False) as browser:
            assert browser.post("/sign-in").status_code == 200
            assert browser.get("/me").json()["addresses"] == [CLIENT]
        assert doctor.ask(proxy.origin)[0] == 0
    with shop_on_socket(folder, keys, ONE_READER) as path:
        code, findings = doctor.ask(spoiled(path).origin)
    assert code == 1
    assert "TrustedProxies(unix=True)" in only(findings, "client")["change"]


def test_without_the_right_keys_nothing_is_told(
    nginx_edge: Proxy, certificates: Certificates, tmp_path: Path, doctor: Doctor
) -> None:
    """The endpoint is a page that is not there: for other keys, for nobody, for a POST."""
    run(["keys", "generate", str(tmp_path / "other.keys")], World(
        io.StringIO(), io.StringIO(), io.StringIO(), {}, lambda: time.time_ns() // 1_000_000
    ))  # fmt: skip
    _code, findings = Doctor(certificates, tmp_path / "other.keys").ask(nginx_edge.origin)
    assert only(findings, "endpoint")["verdict"] == "skipped"
    with Browser(nginx_edge, certificates) as browser:
        for reply in (
            browser.get("/strongroom-doctor"),
            browser.get("/strongroom-doctor", {"X-Strongroom-Doctor": "1.x"}),
            browser.post("/strongroom-doctor"),
        ):
            assert (reply.status_code, reply.text) == (404, "Not Found")
