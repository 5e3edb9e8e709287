"""The cross-site decision, through the middleware, with bodies that arrive whole (P19, G)."""

from __future__ import annotations

import pytest

from strongroom import SessionPolicy
from strongroom.core.csrf_rules import CsrfRules
from strongroom.core.events import CrossSiteRefused
from tests.support.browser import Browser, Response
from tests.support.site import Everything, MakeSite, Site

pytestmark = pytest.mark.anyio

EVIL = "https://evil.example.net"
SIBLING = "https://blog.app.example"
URLENCODED = [(b"content-type", b"application/x-www-form-urlencoded")]


async def send(browser: Browser, *chunks: bytes, **how) -> Response:
    """A form post with this body, in these chunks, by a browser that says nothing of itself."""
    how.setdefault("headers", URLENCODED)
    pending = browser.request(
        "POST", "/echo", mode="navigate", dest="document", chunks=chunks, **how
    )
    return await pending.response()


async def token(browser: Browser, form: str = "") -> str:
    """A CSRF token as a page of ours shows it."""
    told = (await browser.goto(f"/token?form={form}")).json
    assert isinstance(told, str)
    return told


def multipart(*fields: tuple[str, bytes]) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """A multipart form as browsers write it."""
    parts = b"".join(
        b'--xyz\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (n.encode(), value)
        for n, value in fields
    )
    return [(b"content-type", b"multipart/form-data; boundary=xyz")], parts + b"--xyz--\r\n"


@pytest.mark.everywhere
async def test_a_refusal_tells_the_developer_the_way_out_once(site: Site, everything: Everything):
    """The client is told why; the log says what to do about it, once for each rule (STYLE)."""
    browser = site.browser()
    browser.old = True
    for _ in range(3):
        assert (await send(browser, b"a=b")).status == 403
    told = [line for line in everything.lines if "was refused with 403" in line]
    assert len(told) == 1
    for way in ("'/echo'", "csrf_input()", "X-CSRF-Token", "Sec-Fetch-Site: same-origin", "exempt"):
        assert way in told[0]
    assert [each.rule for each in site.told(CrossSiteRefused)] == ["token_absent"] * 3


@pytest.mark.parametrize(
    ("source", "headers", "status", "rule"),
    [
        ("https://app.example", [], 200, None),
        (EVIL, [], 403, "cross_site"),
        (SIBLING, [], 403, "same_site"),
        ("https://app.example:8443", [], 403, "same_site"),
        ("http://app.example", [], 403, "cross_site"),
        (EVIL, [(b"sec-fetch-site", b"same-site")], 403, "same_site"),
        ("https://app.example", [(b"sec-fetch-site", b"same-origin, none")], 403, "metadata_"),
        ("https://app.example", [(b"origin", b"https://app.example, null")], 403, "origin_malf"),
    ],
)
async def test_what_the_browser_says_decides(
    site: Site, source: str | None, headers, status: int, rule: str | None
):
    """Fetch Metadata first; the event says which rule decided (G1)."""
    alice = await site.signed_in()
    response = await alice.post("/set?a=b", source=source, headers=headers)
    assert response.status == status
    if rule is not None:
        assert site.only(CrossSiteRefused).rule.startswith(rule)
        assert response.cookies == []


async def test_what_the_user_starts_is_let_through(site: Site):
    """A form sent again by reloading, or an address with a POST: no page is behind it (G1)."""
    alice = await site.signed_in()
    alice.extra = [(b"sec-fetch-site", b"none"), (b"sec-fetch-mode", b"navigate")]
    alice.old = True
    assert (await alice.post("/set?a=b")).status == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (b"https://app.example", 200),
        (b"https://APP.example", 200),
        (b"https://app.example.evil.net", 403),
        (b"http://app.example", 403),
        (b"https://app.example:8443", 403),
        (b"https://evil.net", 403),
        (b"null", 403),
        (b"", 403),
        (b"\xff\xfe", 403),
    ],
    ids=repr,
)
async def test_without_metadata_the_origin_is_compared_exactly(
    site: Site, origin: bytes, status: int
):
    """An old browser sends Origin at least (G1, OWASP-C6)."""
    alice = await site.signed_in(old=False)
    alice.old = True
    response = await alice.post("/set?a=b", headers=[(b"origin", origin)])
    assert response.status == status


async def test_without_any_word_of_the_browser_the_token_decides(site: Site):
    """And its absence refuses (G1)."""
    alice = await site.signed_in()
    good = await token(alice)
    alice.old = True
    assert (await alice.post("/set?a=b")).status == 403
    assert (await alice.post("/set?a=b", {"csrf_token": good})).status == 200
    assert (await alice.post("/set?a=b", {"csrf_token": good[:-1] + "!"})).status == 403
    header = [*URLENCODED, (b"x-csrf-token", good.encode())]
    assert (await alice.post("/set?a=b", headers=header)).status == 200


async def test_forms_work_under_no_referrer(site: Site):
    """Our own page hides itself: Origin is null, and Fetch Metadata or the token carry it (P19)."""
    alice = await site.signed_in()
    response = await alice.post("/set?a=b", no_referrer=True)
    assert response.status == 200
    good = await token(alice)
    pending = alice.begin_post("/set?c=d", {"csrf_token": good}, no_referrer=True)
    assert (await pending.response()).status == 200
    alice.old = True
    null = [*URLENCODED, (b"origin", b"null")]
    assert (await alice.post("/set?e=f", {"csrf_token": good}, headers=null)).status == 200
    assert (await alice.post("/set?e=f", headers=null)).status == 403


@pytest.mark.everywhere
async def test_an_urlencoded_body_is_searched_and_given_back_whole(site: Site):
    """Byte for byte, however it was cut into pieces (P19)."""
    alice = await site.signed_in()
    good = (await token(alice)).encode()
    alice.old = True
    body = b"a=1&csrf_token=" + good + b"&b=%ff+\xc3\xa9&rest=" + b"x" * 3000
    cuts = [
        [body],
        [body[:5], body[5:20], body[20:]],
        [body[i : i + 7] for i in range(0, len(body), 7)],
        [b"", body, b""],
    ]
    for chunks in cuts:
        response = await send(alice, *chunks)
        assert response.status == 200
        assert response.body == body


async def test_a_multipart_body_is_searched_and_given_back_whole(site: Site):
    """Also an upload of a megabyte, of which only the beginning is held back (P19)."""
    alice = await site.signed_in()
    good = (await token(alice)).encode()
    alice.old = True
    headers, body = multipart(("csrf_token", good), ("file", b"\x00\xff\r\n" * 262_144))
    chunks = [body[i : i + 65_536] for i in range(0, len(body), 65_536)]
    response = await send(alice, *chunks, headers=headers)
    assert response.status == 200
    assert response.body == body
    headers, body = multipart(("csrf_token", b"wrong"), ("file", b"x"))
    assert (await send(alice, body, headers=headers)).status == 403


async def test_a_token_too_far_back_is_not_found(site: Site):
    """The first 64 KiB are searched, no more (P19)."""
    alice = await site.signed_in()
    good = (await token(alice)).encode()
    alice.old = True
    for padding, status in ((60_000, 200), (70_000, 403)):
        response = await send(alice, b"pad=" + b"x" * padding + b"&csrf_token=" + good)
        assert response.status == status


async def test_a_body_in_single_bytes_costs_no_quadratic_work(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    """The body is searched when it has doubled, not at every byte that comes (P19)."""
    from strongroom.integrations import body as module

    searched: list[int] = []
    real = module.find_form_token  # type: ignore[attr-defined]

    def counted(content_type, prefix, field, *, complete=False):
        searched.append(len(prefix))
        return real(content_type, prefix, field, complete=complete)

    monkeypatch.setattr(module, "find_form_token", counted)
    alice = await site.signed_in()
    alice.old = True
    response = await send(alice, *[b"x"] * 20_000)
    assert response.status == 403
    assert sum(searched) < 5 * 20_000


async def test_a_body_that_is_no_form_has_no_token(site: Site):
    """JSON, text, nothing, nonsense: the header is the place then (P19)."""
    alice = await site.signed_in()
    good = await token(alice)
    alice.old = True
    for kind in (b"application/json", b"text/plain", b"multipart/form-data", b"\xff\xff"):
        body = b"csrf_token=" + good.encode()
        assert (await send(alice, body, headers=[(b"content-type", kind)])).status == 403
        headers = [(b"content-type", kind), (b"x-csrf-token", good.encode())]
        response = await send(alice, body, headers=headers)
        assert (response.status, response.body) == (200, body)


async def test_a_client_that_goes_away_in_the_middle_of_its_form(site: Site):
    """Nothing is decided for it, and nothing hangs (P19)."""
    alice = await site.signed_in()
    alice.old = True
    scope = alice._scope("POST", "/set?a=b", [*URLENCODED, (b"host", b"app.example")])
    messages = [
        {"type": "http.request", "body": b"csrf_", "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send_(message):
        sent.append(message)

    await site.app(scope, receive, send_)
    # Some frameworks answer nobody, because nobody is there.
    assert not sent or sent[0]["status"] == 403


async def test_a_sign_in_form_is_covered_before_there_is_a_session(site: Site):
    """A random cookie of its own, dropped at sign-in, and nothing stored (G2)."""
    browser = site.browser(old=True)
    await browser.goto("/nothing")
    site.store.reset()
    good = await token(browser)
    assert site.store.asked == {}
    assert browser.jar.get(site.pre_cookie) is not None
    form = {"subject": "alice"}
    assert (await browser.post("/sign-in", form)).status == 403
    assert (await browser.post("/sign-in", {**form, "csrf_token": good})).status == 200
    assert browser.jar.get(site.pre_cookie) is None
    assert await site.who(browser) == "alice"
    assert (await browser.post("/set?a=b", {"csrf_token": good})).status == 403


async def test_an_attackers_own_token_is_not_the_victims(site: Site):
    """Before sign-in and after it, with or without cookies tossed in (G2, TRAPS 22)."""
    attacker, victim = site.browser(old=True), site.browser(old=True)
    theirs = await token(attacker)
    await token(victim)
    form = {"subject": "mallory", "csrf_token": theirs}
    assert (await victim.post("/sign-in", form)).status == 403
    mallory, alice = await site.signed_in("mallory"), await site.signed_in("alice")
    theirs = await token(mallory)
    alice.old = True
    assert (await alice.post("/set?a=b", {"csrf_token": theirs})).status == 403
    planted = attacker.jar.get(site.pre_cookie)
    assert planted is not None
    own = victim.jar.get(site.pre_cookie)
    both = [f"{site.pre_cookie}={own}; {site.pre_cookie}={planted}".encode()]
    body = b"subject=mallory&csrf_token=" + (await token(attacker)).encode()
    assert (await send(victim, body, cookies=both)).status == 403


async def test_a_form_outlives_renewals_but_no_sign_in(site: Site):
    """The token is bound to session and kind, not to the cookie's value (G2)."""
    alice = await site.signed_in()
    open_form = await token(alice)
    await site.renew(alice)
    alice.old = True
    assert (await alice.post("/set?a=b", {"csrf_token": open_form})).status == 200
    alice.old = False
    await site.sign_in(alice, "alice")
    alice.old = True
    assert (await alice.post("/set?a=b", {"csrf_token": open_form})).status == 403


async def test_a_form_shown_before_the_first_thing_was_stored_still_works(site: Site):
    """The page that shows the form may be the one that starts the cart (G2)."""

    @site.page("/start")
    async def start(call):
        shown = call.session.csrf_token()
        call.session["cart"] = "book"
        return shown

    browser = site.browser(old=True)
    shown = (await browser.goto("/start")).json
    assert await site.data(browser) == {"cart": "book"}
    assert (await browser.post("/set?a=b", {"csrf_token": shown})).status == 200
    assert await site.data(browser) == {"cart": "book", "a": "b"}


async def test_tokens_never_look_the_same_twice(site: Site):
    """Each is masked anew, and all of them work (BREACH)."""
    alice = await site.signed_in()
    tokens = {await token(alice) for _ in range(5)}
    assert len(tokens) == 5
    alice.old = True
    for each in tokens:
        assert (await alice.post("/set?a=b", {"csrf_token": each})).status == 200


async def test_nist_profiles_want_the_token_with_every_body(new_site: MakeSite):
    """Also from our own origin (G3)."""
    site = await new_site(policy=SessionPolicy.nist_aal2())
    browser = site.browser()
    assert (await browser.post("/sign-in", {"subject": "alice"})).status == 403
    form = {"subject": "alice", "csrf_token": await token(browser)}
    assert (await browser.post("/sign-in", form)).status == 200
    assert (await browser.post("/set?a=b", {"a": "b"})).status == 403
    assert (await browser.post("/set?a=b", {"csrf_token": await token(browser)})).status == 200
    assert (await browser.fetch("/set?a=b", "DELETE")).status == 200


async def test_listed_origins_and_paths_are_the_only_exceptions(new_site: MakeSite):
    """A trusted sibling may post; a hook may be posted to; nobody else, nowhere else (P19)."""
    rules = CsrfRules(trusted_origins=(SIBLING,), exempt=("/echo",), json_paths=("/set",))
    site = await new_site(policy=SessionPolicy(csrf=rules))
    alice = await site.signed_in()
    as_json = [(b"content-type", b"application/json")]
    assert (await alice.post("/elevate", source=SIBLING)).status == 200
    assert (await alice.post("/elevate", source=EVIL)).status == 403
    assert (await alice.post("/echo", source=EVIL)).status == 200
    assert (await alice.post("/echo/../elevate", source=EVIL)).status == 403
    assert (await alice.post("/set?a=b")).status == 403
    assert (await alice.fetch("/set?a=b", "POST", headers=as_json)).status == 200
    assert (await alice.fetch("/set?a=b", "POST", headers=as_json, source=EVIL)).status == 403


async def test_a_refusal_speaks_to_people_and_to_programs(site: Site):
    """A page or a problem document, with nothing of the request in it (P19)."""
    alice = await site.signed_in()
    page = await alice.post("/set?a=<script>", source=EVIL)
    assert page.header("content-type") == "text/html; charset=utf-8"
    assert "<script>" not in page.text
    api = await alice.fetch("/set?a=b", "POST", source=EVIL)
    assert api.header("content-type") == "application/problem+json"
    assert api.json["code"] == "csrf_refused"


# WebSockets.


@pytest.mark.needs("websockets")
@pytest.mark.parametrize(
    ("source", "accepted"),
    [
        ("https://app.example", True),
        (EVIL, False),
        (SIBLING, False),
        ("http://app.example", False),
        ("null", False),
        (None, False),
    ],
)
async def test_a_handshake_needs_our_own_origin(site: Site, source: str | None, accepted: bool):
    """Cross-site WebSocket hijacking is refused before the application sees it (P19)."""
    called = []

    @site.socket("/ws")
    async def talk(talk):
        called.append(talk.session.subject)
        await talk.accept()
        await talk.hear()

    alice = await site.signed_in()
    headers = [(b"cookie", f"{site.cookie}={site.token(alice)}".encode())]
    socket = alice.socket("/ws", source=source, headers=headers)
    assert await socket.opened() is accepted
    if accepted:
        await socket.hang_up()
    else:
        assert await socket.closed() == 4403
    assert bool(called) is accepted


async def test_sign_in_forms_can_be_posted_by_curl_only_with_a_token(site: Site):
    """A program without any browser headers is no exception (P19)."""
    program = site.browser(old=True, agent="curl/8.0")
    assert (await program.post("/sign-in", {"subject": "alice"})).status == 403
    assert site.only(CrossSiteRefused).rule == "token_absent"
