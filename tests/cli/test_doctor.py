"""The doctor: what it finds in a configuration, in a page's headers, and how it asks."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom import SessionManager, keyfile, open_store
from strongroom.cli.doctor_cookies import SetCookie, check_cookies
from strongroom.cli.doctor_findings import Finding
from strongroom.cli.doctor_http import NoAnswer, Place, Reply, Way
from strongroom.cli.doctor_pages import check_page, check_transport
from strongroom.cli.doctor_settings import _channel
from strongroom.core.errors import StoreError, StoreUnavailable, UsageError
from strongroom.core.ops import Alive, ChangedAll, Watch
from tests.cli.runner import KEYS, Desk
from tests.stores.acl import RULES
from tests.support.servers import valkey

HTTPS = Place("https", "shop.example", 443)
HTTP = Place("http", "shop.example", 80)
OURS = "__Host-id-0123abcd=s3cret; Path=/; Secure; HttpOnly; SameSite=Lax"
NOW = 1_800_000_000_000
Served = Callable[[bytes], int]


def reply(*headers: tuple[str, str], place: Place = HTTPS, status: int = 200) -> Reply:
    """A reply with these headers."""
    return Reply(place, status, headers, b"", "203.0.113.7", "198.51.100.1")


def wrong(findings: Iterator[Finding]) -> list[tuple[str, str]]:
    """What is not ok: verdict and check."""
    return [
        (each.verdict, each.check) for each in findings if each.verdict not in ("ok", "skipped")
    ]


def configured(desk: Desk, policy: str, *more: str) -> tuple[int, list[dict[str, str]]]:
    """What the doctor says of an application with this policy -> exit code, what is not ok."""
    names = "from datetime import timedelta\nfrom strongroom import *\n"
    Path("shop.py").write_text(f"{names}policy = {policy}\n", encoding="utf-8")
    answer = desk.run("doctor", "--policy", "shop:policy", "--json", *more)
    checks = json.loads(answer.out)["checks"]
    return answer.code, [each for each in checks if each["verdict"] in ("problem", "warning")]


GOOD = 'origins=("https://shop.example",), proxies=TrustedProxies.of("10.0.3.7")'


def test_nothing_is_wrong_where_all_is_stated(shop: Desk) -> None:
    """And the exit code says so."""
    assert configured(shop, f"SessionPolicy({GOOD})") == (0, [])
    assert "Nothing is wrong." in shop.run("doctor", "--policy", "shop:policy").out


@pytest.mark.parametrize(
    ("policy", "verdict", "check", "says"),
    [
        ("SessionPolicy()", "warning", "origins", "origins=("),
        ("SessionPolicy()", "warning", "proxies", "TrustedProxies.of("),
        ("SessionPolicy(idle_timeout=timedelta(hours=2))", "warning", "policy", "profile"),
        ("SessionPolicy(seal_data=DataSeal.NONE)", "warning", "policy", "DataSeal.SERVER"),
        ("SessionPolicy(csrf=CsrfRules(exempt=('/hooks/*',)))", "warning", "csrf", "who sent"),
        ("SessionPolicy(cookie_name='sid')", "warning", "cookie", "cookie_name"),
        ("SessionPolicy.for_development()", "warning", "development", "SessionPolicy()"),
        ("SessionPolicy(proxies=TrustedProxies.hops(2))", "warning", "proxies", "hops=2"),
        ("SessionPolicy(proxies=TrustedProxies.of('10.0.0.0/8'))", "warning", "proxies", "List"),
        ("SessionPolicy(origins=('http://shop.example',))", "problem", "origins", "https"),
        ("SessionPolicy(settle=timedelta(0))", "problem", "policy", "policy show"),
        ("object()", "problem", "policy", "SessionPolicy"),
    ],
)
def test_each_setting_that_deserves_a_look(
    shop: Desk, policy: str, verdict: str, check: str, says: str
) -> None:
    """Is named, with what to change; only a problem makes the exit code 1."""
    code, found = configured(shop, policy)
    assert any(
        (each["verdict"], each["check"]) == (verdict, check) and says in each["change"]
        for each in found
    ), found
    assert code == (verdict == "problem")
    assert all(each["what"] and each["change"] for each in found)


def test_a_profile_brings_no_complaint_about_its_own_limits(shop: Desk) -> None:
    """NIST allows more than OWASP's low risk; who names it answers to it."""
    policy = f"SessionPolicy.nist_aal2({GOOD})"
    shop.run("keys", "generate", "other.keys")
    assert configured(shop, policy, "--keys", "other.keys", "--store", "sqlite:///no.db") == (0, [])


def test_keys_that_cannot_be_used(shop: Desk) -> None:
    """Missing, readable by others, or damaged."""
    Path(KEYS).chmod(0o644)
    assert "chmod 600" in shop.run("doctor").out
    Path(KEYS).chmod(0o600)
    Path(KEYS).write_text("{}")
    answer = shop.run("doctor")
    assert answer.code == 1 and "cannot be used" in answer.out
    Path(KEYS).unlink()
    assert "There is no key file" in shop.run("doctor").out


def test_keys_and_the_clock(shop: Desk) -> None:
    """A key from the future, one that takes over soon, one that nobody needs any more."""
    shop.say("keys rotate --after 1h")
    assert "ok       Key 2 takes over in 1 h." in shop.run("doctor").out
    shop.say("keys rotate --after 30d")
    assert "more often a wrong clock" in shop.run("doctor").out
    later = Desk(env=shop.env)
    later.clock.advance(timedelta(hours=10))
    assert "strongroom keys retire 1" in later.run("doctor").out
    ring = keyfile.read(KEYS)
    keyfile.write("new.keys", keyfile.rotated(ring, shop.clock() + 3_600_000, shop.clock()))
    answer = shop.run("doctor", "--keys", "new.keys")
    assert answer.code == 1 and "Set the clock" in answer.out


def test_stores_that_cannot_be_used(shop: Desk, tmp_path: Path) -> None:
    """Of other keys, in memory, not there yet, or open to others."""
    shop.run("keys", "generate", "other.keys")
    answer = shop.run("doctor", "--keys", "other.keys")
    assert answer.code == 1 and "problem" in answer.out
    assert "ends with it" in shop.run("doctor", "--store", "memory://").out
    assert "not_yet.db yet" in shop.run("doctor", "--store", "sqlite:///not_yet.db").out
    assert not Path("not_yet.db").exists()
    Path("var/sessions.db").chmod(0o644)
    assert "chmod 600 var/sessions.db" in shop.run("doctor").out


class Channel:
    """A near cache over a store whose proofs of life come so late, or whose channel fails."""

    def __init__(self, late: float, error: StoreError | None = None) -> None:
        self.store = self
        self._late, self._error = late, error

    def stats(self) -> Any:
        """How old an answer may be."""
        return SimpleNamespace(max_staleness=0.2)

    def watch(self, op: Watch) -> None:
        """Prove life, late, until it is enough."""
        if self._error is not None:
            raise self._error
        while not op.stopped():
            op.tell(ChangedAll())
            if self._late < 1:
                op.tell(Alive(time.monotonic() - self._late, bytes(8)))
            else:
                time.sleep(0.05)


@pytest.mark.slow
def test_a_push_channel_is_tried() -> None:
    """It proves its life in time, too late, never, or cannot be had at all."""
    quick, late, never = (_channel(Channel(seconds)) for seconds in (0.001, 0.15, 99))
    assert quick.verdict == "ok" and "proves it in" in quick.what
    assert late.verdict == never.verdict == "problem"
    assert "in 150 ms" in late.what or "in 15" in late.what
    assert never.what.startswith("The store's push channel proves no life")
    refused = _channel(Channel(0, StoreUnavailable("no rights", why="because", hint="give them")))
    assert (refused.verdict, refused.change) == ("problem", "give them")


@pytest.mark.slow
def test_a_real_channel_is_tried(shop: Desk) -> None:
    """Where the URL asks for a near cache; and where the user may not have one, that is said."""
    with valkey.single() as server:
        url = f"{server.url}?near_cache_mb=16"
        with SessionManager(open_store(url), keys=KEYS, sinks=(), clock=shop.clock):
            pass
        told = shop.run("doctor", "--store", url).out
        assert "The store pushes its changes, and proves it in" in told
        assert "The store pushes" not in shop.run("doctor", "--store", server.url).out
        rules = [each for each in RULES if each != "+client|tracking"]
        server.ask("ACL", "SETUSER", "shop", "reset", "on", ">pass", *rules)
        answer = shop.run("doctor", "--store", url.replace("://", "://shop:pass@"))
        assert answer.code == 1 and "(NOPERM)" in answer.out and "docs/valkey.md" in answer.out


def test_a_server_that_reads_the_headers_first(shop: Desk) -> None:
    """uvicorn's variable: a star is a problem, and anything is one reader too many."""
    shop.env["FORWARDED_ALLOW_IPS"] = "10.0.3.7"
    assert [each["check"] for each in configured(shop, f"SessionPolicy({GOOD})")[1]] == ["server"]
    shop.env["FORWARDED_ALLOW_IPS"] = "127.0.0.1, *"
    assert configured(shop, f"SessionPolicy({GOOD})")[0] == 1


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (OURS, None),
        ("a=1; Secure; SameSite=None", None),
        ("a=1; Domain=shop.example; Secure; SameSite=Lax", None),
        ("a=1; Domain=.EXAMPLE.; SameSite=Lax", "Domain is example."),
        ("__Host-a=s3cret; Path=/; SameSite=Lax", "__Host- needs Secure"),
        ("__host-a=s3cret; Path=/; SameSite=Lax", "__host- needs Secure"),
        ("__Host-a=s3cret; Path=/; Secure; Domain=shop.example", "allows no Domain"),
        ("__Host-a=s3cret; Path=/shop; Secure", "needs Path=/"),
        ("__Host-a=s3cret; Secure", "needs Path=/"),
        ("__Secure-a=s3cret", "__Secure- needs Secure"),
        ("__Http-a=s3cret; Secure", "needs HttpOnly"),
        ("a=s3cret; SameSite=None", "SameSite=None needs Secure"),
        ("a=s3cret; SameSite=Lax; Partitioned", "Partitioned needs Secure"),
        ("a=s3cret; Domain=other.example", "the page is on shop.example"),
        ("a=s3cret; Domain=example", "public suffix"),
        (f"a={'s3cret' * 700}; SameSite=Lax", "4096"),
        ("a=s3\x01cret", "control character"),
        ("a=s3cret; SameSite=Lax, b=2; Path=/", "folded"),
        ("a=s3cret; Expires=Thu, 01 Jan 1970 00:00:00 GMT; SameSite=Lax", None),
        ("__Host-a", "looks like a prefixed one"),
        ("=", "neither a name nor a value"),
    ],
)
def test_what_browsers_refuse(line: str, why: str | None) -> None:
    """Each rule of rfc6265bis by itself, with what to change, and never the value (P5)."""
    findings = list(check_cookies(reply(("set-cookie", line))))
    refused = [each for each in findings if each.verdict == "problem"]
    if why is None:
        assert not refused
    else:
        assert len(refused) == 1 and why in refused[0].why and refused[0].change
    assert "s3cret" not in repr(findings)


def test_a_secure_cookie_needs_https() -> None:
    """Over http it is refused, but for this machine itself."""
    (refused,) = check_cookies(reply(("set-cookie", OURS), place=HTTP))
    assert refused.verdict == "problem" and "http" in refused.why
    here = Place("http", "localhost", 8000)
    assert wrong(check_cookies(reply(("set-cookie", OURS), place=here))) == []


@pytest.mark.parametrize(
    "line",
    [
        OURS.replace("; HttpOnly", ""),
        OURS.replace("Lax", "None"),
        OURS + "; Path=/",
        "id-0123abcd=1; Path=/shop; HttpOnly; SameSite=Lax",
    ],
)
def test_our_own_cookie_is_known_when_it_was_rewritten(line: str) -> None:
    """Browsers keep it, and it is not what was sent."""
    assert ("problem", "cookie") in wrong(check_cookies(reply(("set-cookie", line))))


def test_one_cookie_twice() -> None:
    """Two middlewares, or a proxy that sets it too."""
    twice = reply(("set-cookie", OURS), ("set-cookie", OURS))
    assert wrong(check_cookies(twice)) == [("problem", "cookie")]


@given(st.text(alphabet=st.characters(max_codepoint=0xFF)))
def test_any_line_is_read(line: str) -> None:
    """Nothing that a server sends makes the doctor fail."""
    assert list(check_cookies(reply(("set-cookie", line))))
    assert SetCookie.parse(line).size >= 0


PRIVATE = ("cache-control", "private, no-store")


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([("set-cookie", OURS), PRIVATE], []),
        ([("set-cookie", OURS)], [("problem", "caching")]),
        ([("set-cookie", OURS), ("cache-control", "public, max-age=60")], [("problem", "caching")]),
        ([("set-cookie", "a=1; SameSite=Lax")], [("warning", "caching")]),
        ([("set-cookie", OURS), PRIVATE, ("age", "12")], [("problem", "caching")]),
        ([("clear-site-data", '"storage"')], []),
        ([("clear-site-data", "storage")], [("warning", "clear-site-data")]),
        ([("clear-site-data", '"cookies"')], [("problem", "clear-site-data")]),
        ([("date", "Mon, 15 Jan 2001 00:00:00 GMT")], [("warning", "clock")]),
        ([("date", "yesterday")], []),
    ],
)
def test_what_a_page_says(headers: list[tuple[str, str]], found: list[tuple[str, str]]) -> None:
    """Caching, Clear-Site-Data and the clock."""
    assert wrong(check_page([reply(*headers)], NOW)) == found


@pytest.mark.parametrize(("status", "found"), [(200, []), (404, []), (500, 1), (502, 1)])
def test_a_page_that_fails_is_a_problem(status: int, found: object) -> None:
    """Whoever's fault it is."""
    assert bool(wrong(check_page([reply(status=status)], NOW))) is bool(found)


def test_what_is_not_encrypted() -> None:
    """A page that stays on http; HSTS that is missing or short."""
    hsts = ("strict-transport-security", "max-age=31536000")
    assert wrong(check_transport(Way(), [reply(place=HTTP)], None, NOW)) == [("problem", "https")]
    led = [reply(place=HTTP, status=308), reply(hsts)]
    assert wrong(check_transport(Way(), led, None, NOW)) == []
    for headers in ([], [("strict-transport-security", "max-age=60")]):
        assert wrong(check_transport(Way(), [reply(*headers)], None, NOW)) == [("warning", "hsts")]


@pytest.fixture
def served() -> Iterator[Served]:
    """Serves these octets to whoever connects, slowly where they say so -> the port."""
    open_sockets: list[socket.socket] = []

    def serve(octets: bytes) -> int:
        listening = socket.create_server(("127.0.0.1", 0))
        open_sockets.append(listening)

        def answer() -> None:
            while True:
                try:
                    connection, _address = listening.accept()
                except OSError:
                    return
                with closing(connection):
                    try:
                        connection.recv(65536)
                        for part in octets.split(b"<slow>"):
                            connection.sendall(part)
                            if b"<slow>" in octets:
                                time.sleep(0.2)
                    except OSError:
                        continue

        threading.Thread(target=answer, daemon=True).start()
        return int(listening.getsockname()[1])

    yield serve
    for each in open_sockets:
        each.shutdown(socket.SHUT_RDWR)
        each.close()


def test_a_page_is_looked_at(served: Served, desk: Desk) -> None:
    """From outside and without keys, whatever serves it; control characters stay inside."""
    port = served(
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a\x1b]0;x\x07=s3cret\r\nConnection: close\r\n\r\n<p>"
    )
    answer = desk.run("doctor", f"http://127.0.0.1:{port}")
    assert answer.code == 1 and "control character" in answer.out
    assert "\x1b" not in answer.out and "s3cret" not in answer.out
    assert "can be asked with its keys only" in answer.out


def test_redirects_stay_on_the_host(served: Served) -> None:
    """At most three are followed, and none to somebody else."""
    away = served(b"HTTP/1.1 302 Found\r\nLocation: http://example.org/\r\n\r\n")
    assert len(Way().follow(Place("http", "127.0.0.1", away))) == 1
    round_about = served(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")
    assert len(Way().follow(Place("http", "127.0.0.1", round_about))) == 4


def test_everything_is_bounded(served: Served) -> None:
    """A body without end, a server that drips, one that speaks something else."""
    big = served(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000)
    assert len(Way().get(Place("http", "127.0.0.1", big)).body) == 65536
    drip = served(b"HTTP/1.1 200 OK\r\n" + b"<slow>a: b\r\n" * 100)
    began = time.monotonic()
    with pytest.raises(NoAnswer, match="did not answer"):
        Way(timeout=0.5).get(Place("http", "127.0.0.1", drip))
    assert time.monotonic() - began < 5
    for octets in (b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n"):
        with pytest.raises(NoAnswer):
            Way().get(Place("http", "127.0.0.1", served(octets)))


def test_why_nobody_answers(served: Served, desk: Desk) -> None:
    """Each has its own sentence, and the exit code of a problem."""
    plain = served(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[1]
    for url, says in (
        (f"https://127.0.0.1:{plain}", "does not speak TLS"),
        (f"http://127.0.0.1:{nobody}", "Nobody listens"),
        ("http://no-such-host.invalid", "There is no host called"),
    ):
        answer = desk.run("doctor", url)
        assert answer.code == 1 and says in answer.out, answer.out


NO_ADDRESSES = (
    "shop.example ftp://shop.example https:// https://u:p@shop.example http://[ https://a:x".split()
)


@pytest.mark.parametrize("url", NO_ADDRESSES)
def test_what_is_no_address_is_refused(url: str, desk: Desk) -> None:
    """And a password in it is not repeated."""
    with pytest.raises(UsageError):
        Place.of(url)
    answer = desk.run("doctor", url)
    assert answer.code == 2 and "u:p" not in answer.err


def test_options_that_cannot_be(desk: Desk, served: Served) -> None:
    """A path without a slash, a file that holds no certificates."""
    port = served(b"HTTP/1.1 200 OK\r\n\r\n")
    assert desk.run("doctor", f"http://127.0.0.1:{port}", "--path", "x").code == 2
    answer = desk.run("doctor", f"https://127.0.0.1:{port}", "--ca", "/nowhere/ca.pem")
    assert answer.code == 2 and "cannot be read" in answer.err
