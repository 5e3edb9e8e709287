"""The cross-site decision, row by row (P19, PROTOCOL G, ASVS 3.5.1-3.5.3, OWASP-C5 to C12)."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from strongroom.core.csrf import (
    DECISIONS,
    CsrfRules,
    TokenCheck,
    Verdict,
    decide,
    find_header_token,
)
from strongroom.core.exchange import SAFE_METHODS, RequestFacts

OWN = "https://app.example"
PARTNER = "https://partner.example"
SIBLING = "https://static.app.example"
EVIL = "https://evil.example"

RULES = CsrfRules(trusted_origins=(PARTNER, SIBLING))
TOKENS: tuple[TokenCheck, ...] = get_args(TokenCheck)


def request(
    method: str = "POST",
    path: str = "/transfer",
    *,
    host: str | None = "app.example",
    scheme: str = "https",
    websocket: bool = False,
    **headers: str | list[str],
) -> RequestFacts:
    """A request; `sec_fetch_site="none"` is a header, a list is a header that came repeatedly."""
    fields = [] if host is None else [(b"host", host.encode())]
    for name, values in headers.items():
        key = name.replace("_", "-").encode()
        for value in [values] if isinstance(values, str) else values:
            fields.append((key, value.encode("latin-1")))
    return RequestFacts(
        method=method, path=path, scheme=scheme, headers=fields, websocket=websocket
    )


def rule(facts: RequestFacts, rules: CsrfRules = RULES, token: TokenCheck = "unread") -> str:
    """The code of the rule that decided."""
    return decide(facts, rules, token).rule


# --- the table ------------------------------------------------------------------------------------

ROWS: list[tuple[str, dict[str, str | list[str]]]] = [
    # Fetch Metadata decides first, whatever else is there.
    ("same_origin", {"sec_fetch_site": "same-origin"}),
    ("same_origin", {"sec_fetch_site": "same-origin", "origin": OWN}),
    ("same_origin", {"sec_fetch_site": "same-origin", "origin": "null"}),
    ("cross_site", {"sec_fetch_site": "cross-site"}),
    ("cross_site", {"sec_fetch_site": "cross-site", "origin": EVIL}),
    ("cross_site", {"sec_fetch_site": "cross-site", "origin": "null"}),
    ("cross_site", {"sec_fetch_site": "cross-site", "origin": OWN}),
    ("cross_site", {"sec_fetch_site": "cross-site", "referer": f"{PARTNER}/page"}),
    ("trusted_origin", {"sec_fetch_site": "cross-site", "origin": PARTNER}),
    ("same_site", {"sec_fetch_site": "same-site"}),
    ("same_site", {"sec_fetch_site": "same-site", "origin": "https://other.app.example"}),
    ("same_site", {"sec_fetch_site": "same-site", "origin": "http://app.example"}),
    ("trusted_origin", {"sec_fetch_site": "same-site", "origin": SIBLING}),
    ("user_navigation", {"sec_fetch_site": "none", "sec_fetch_mode": "navigate"}),
    (
        "user_navigation",
        {"sec_fetch_site": "none", "sec_fetch_mode": "navigate", "origin": "null"},
    ),
    # `none` is no pass for what names a foreign Origin, or is no navigation.
    (
        "origin_foreign",
        {"sec_fetch_site": "none", "sec_fetch_mode": "navigate", "origin": EVIL},
    ),
    ("own_origin", {"sec_fetch_site": "none", "sec_fetch_mode": "cors", "origin": OWN}),
    ("origin_unsaid", {"sec_fetch_site": "none", "sec_fetch_mode": "cors"}),
    ("origin_unsaid", {"sec_fetch_site": "none"}),
    # Unknown values count as absent.
    ("origin_unsaid", {"sec_fetch_site": "same-planet"}),
    ("origin_unsaid", {"sec_fetch_site": ""}),
    ("origin_unsaid", {"sec_fetch_site": "Same-Origin"}),
    ("origin_unsaid", {"sec_fetch_site": "same-origin;v=1"}),
    ("origin_foreign", {"sec_fetch_site": "same-planet", "origin": EVIL}),
    ("own_origin", {"sec_fetch_site": "same-planet", "origin": OWN}),
    # What no browser sends is hostile, even if one half of it looks right.
    ("metadata_repeated", {"sec_fetch_site": ["same-origin", "cross-site"]}),
    ("metadata_repeated", {"sec_fetch_site": ["same-origin", "same-origin"]}),
    ("metadata_repeated", {"sec_fetch_site": "cross-site, same-origin"}),
    ("origin_repeated", {"origin": [OWN, EVIL]}),
    ("origin_repeated", {"origin": [OWN, OWN], "sec_fetch_site": "same-origin"}),
    ("origin_malformed", {"origin": f"{OWN}, {EVIL}"}),
    ("origin_malformed", {"origin": f"{OWN} {EVIL}"}),
    ("origin_malformed", {"origin": ""}),
    ("origin_malformed", {"origin": f"{OWN}/"}),
    ("origin_malformed", {"origin": "app.example"}),
    ("origin_malformed", {"origin": "https://app.ex\u00e4mple"}),
    ("origin_malformed", {"origin": "https://user@app.example"}),
    ("origin_malformed", {"origin": f"{OWN}\n"}),
    ("origin_malformed", {"origin": "NULL"}),
    ("origin_malformed", {"origin": EVIL + "/", "sec_fetch_site": "same-origin"}),
    # Origin, compared exactly.
    ("own_origin", {"origin": OWN}),
    ("own_origin", {"origin": "https://app.example:443"}),
    ("own_origin", {"origin": "HTTPS://App.Example"}),
    ("trusted_origin", {"origin": PARTNER}),
    ("origin_foreign", {"origin": EVIL}),
    ("origin_foreign", {"origin": "https://app.example.evil.example"}),
    ("origin_foreign", {"origin": "https://evil-app.example"}),
    ("origin_foreign", {"origin": "https://evilapp.example"}),
    ("origin_foreign", {"origin": "https://app.example:8443"}),
    ("origin_foreign", {"origin": "http://app.example"}),
    ("origin_foreign", {"origin": "http://app.example:443"}),
    ("origin_foreign", {"origin": "https://x.partner.example"}),
    # `null` says nothing: our own page under `Referrer-Policy: no-referrer` sends it too.
    ("origin_unsaid", {"origin": "null"}),
    ("origin_unsaid", {}),
    # Referer can refuse, never allow.
    ("origin_unsaid", {"referer": f"{OWN}/form"}),
    ("origin_unsaid", {"referer": f"{PARTNER}/form?x=//y"}),
    ("origin_unsaid", {"referer": OWN}),
    ("origin_unsaid", {"referer": "about:blank"}),
    ("origin_unsaid", {"referer": "/relative//path"}),
    ("referer_foreign", {"referer": f"{EVIL}/form"}),
    ("referer_foreign", {"referer": EVIL}),
    ("referer_foreign", {"referer": [f"{OWN}/form", f"{EVIL}/form"]}),
    ("referer_foreign", {"origin": "null", "referer": f"{EVIL}/{OWN}"}),
    ("own_origin", {"origin": OWN, "referer": f"{EVIL}/form"}),
]


@pytest.mark.parametrize(("expected", "headers"), ROWS)
def test_every_row_of_headers_has_its_rule(expected, headers):
    """Fetch Metadata, then exact Origin, then the token; each says which rule it was (P19, G1)."""
    assert rule(request(**headers)) == expected


@pytest.mark.parametrize(("expected", "headers"), ROWS)
def test_without_a_token_only_the_allowing_rows_pass(expected, headers):
    """What the headers leave open is refused if no token came: default deny (P19)."""
    verdict = decide(request(**headers), RULES, "absent").verdict
    assert verdict == ("allow" if DECISIONS[expected].verdict == "allow" else "refuse")


@pytest.mark.parametrize(("expected", "headers"), ROWS)
def test_a_valid_token_mends_only_what_the_headers_left_open(expected, headers):
    """A token never overrules a browser that says `cross-site`: tossing buys nothing (P19)."""
    verdict = decide(request(**headers), RULES, "valid").verdict
    assert verdict == ("refuse" if DECISIONS[expected].verdict == "refuse" else "allow")


@pytest.mark.parametrize(
    ("token", "verdict", "code"),
    [
        ("unread", "needs_token", "origin_unsaid"),
        ("absent", "refuse", "token_absent"),
        ("invalid", "refuse", "token_invalid"),
        ("valid", "allow", "token_valid"),
    ],
)
def test_the_token_decides_what_the_browser_did_not_say(token, verdict, code):
    """Asked first without looking, then with the check: the second answer is final (P19)."""
    decision = decide(request(), RULES, token)
    assert (decision.verdict, decision.rule) == (verdict, code)


def test_a_state_of_the_token_that_nobody_knows_is_refused():
    """A caller's typing mistake fails closed."""
    assert decide(request(), RULES, "VALID").rule == "token_invalid"  # type: ignore[arg-type]


# --- methods and exemptions -----------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(SAFE_METHODS))
def test_a_safe_method_is_allowed_from_anywhere(method):
    """Following a link is no forgery; nothing changes on GET (OWASP-C12)."""
    assert rule(request(method, sec_fetch_site="cross-site", origin=EVIL)) == "safe_method"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "BREW", "get", ""])
def test_any_other_method_is_checked(method):
    """Methods that nobody knows count as unsafe, and so does one in lower case (ASVS 3.5.3)."""
    assert rule(request(method, sec_fetch_site="cross-site")) == "cross_site"


EXEMPT = CsrfRules(exempt=("/hooks/*", "/logout-callback"))


@pytest.mark.parametrize(
    "path", ["/hooks/", "/hooks/payment", "/hooks/a/b", "/logout-callback", "/hooks/caf\u00e9"]
)
def test_an_exempted_path_takes_requests_from_other_sites(path):
    """An exemption is named, and holds before anything else is asked (OWASP-C5)."""
    assert rule(request(path=path, sec_fetch_site="cross-site"), EXEMPT) == "exempt"


@pytest.mark.parametrize(
    "path",
    [
        "/hooks",
        "/hooksmith",
        "/HOOKS/x",
        "/logout-callback/",
        "/x/hooks/y",
        "/hooks/../transfer",
        "/hooks/./x",
        "/hooks/..",
        "/hooks//x",
        "/hooks/%2e%2e/transfer",
        "/hooks/..\\transfer",
        "/hooks/x\x00",
    ],
)
def test_a_path_that_another_server_might_read_differently_is_not_exempt(path):
    """A prefix does not open what lies beside it, by whichever spelling (P19)."""
    assert rule(request(path=path, sec_fetch_site="cross-site"), EXEMPT) == "cross_site"


# --- whose origin is ours -------------------------------------------------------------------------


def test_configured_origins_count_where_a_proxy_hides_the_host():
    """The target origin comes from the configuration first (OWASP-C7)."""
    rules = CsrfRules(origins=(OWN,))
    behind = request(host="10.0.0.7:8000", scheme="http", origin=OWN)
    assert rule(behind, rules) == "own_origin"
    assert rule(behind, CsrfRules()) == "origin_foreign"


def test_fetch_metadata_needs_no_knowledge_of_our_own_origin():
    """A deployment whose proxy is not configured still works with today's browsers (P19)."""
    behind = request(host="10.0.0.7:8000", scheme="http", origin=OWN, sec_fetch_site="same-origin")
    assert rule(behind, CsrfRules()) == "same_origin"


def test_several_own_origins_are_not_each_other():
    """A tenant's page cannot post to another tenant's host, in old browsers too (P19)."""
    rules = CsrfRules(origins=("https://a.example", "https://b.example"))
    assert rule(request(host="a.example", origin="https://a.example"), rules) == "own_origin"
    assert rule(request(host="a.example", origin="https://b.example"), rules) == "origin_foreign"


@pytest.mark.parametrize("host", [None, "", "a b", "app.example/", "app.example:99999"])
def test_without_a_known_host_no_origin_is_our_own(host):
    """An unknown host is None, never a guess (P20); the reason says what to configure."""
    assert rule(request(host=host, origin=OWN), CsrfRules()) == "own_origin_unknown"
    assert rule(request(host=host, origin=PARTNER), RULES) == "trusted_origin"
    assert rule(request(host=host, referer=f"{EVIL}/"), CsrfRules()) == "origin_unsaid"


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("App.Example:443", "https://app.example"),
        ("app.example:8443", "https://app.example:8443"),
        ("[::1]:8000", "https://[0:0:0:0:0:0:0:1]:8000"),
        ("127.0.0.1", "https://127.0.0.1"),
    ],
)
def test_host_and_origin_meet_in_one_normal_form(host, origin):
    """Case, default ports and spellings of IPv6 make no difference (OWASP-C6)."""
    assert rule(request(host=host, origin=origin)) == "own_origin"


# --- WebSocket handshakes -------------------------------------------------------------------------

HANDSHAKES: list[tuple[str, dict[str, str | list[str]]]] = [
    ("own_origin", {"origin": OWN}),
    ("own_origin", {"origin": OWN, "sec_fetch_site": "same-origin"}),
    ("own_origin", {"origin": OWN, "sec_fetch_site": "same-planet"}),
    ("trusted_origin", {"origin": PARTNER}),
    ("trusted_origin", {"origin": PARTNER, "sec_fetch_site": "cross-site"}),
    ("trusted_origin", {"origin": SIBLING, "sec_fetch_site": "same-site"}),
    ("handshake_without_origin", {}),
    ("handshake_without_origin", {"origin": "null"}),
    ("handshake_without_origin", {"sec_fetch_site": "same-origin"}),
    ("handshake_without_origin", {"sec_fetch_site": "none", "sec_fetch_mode": "navigate"}),
    ("handshake_without_origin", {"referer": f"{OWN}/"}),
    ("origin_foreign", {"origin": EVIL}),
    ("origin_foreign", {"origin": EVIL, "sec_fetch_site": "same-origin"}),
    ("origin_foreign", {"origin": "https://app.example.evil.example"}),
    ("origin_malformed", {"origin": "wss://app.example/"}),
    ("origin_repeated", {"origin": [OWN, OWN]}),
    ("cross_site", {"origin": EVIL, "sec_fetch_site": "cross-site"}),
    ("cross_site", {"origin": OWN, "sec_fetch_site": "cross-site"}),
    ("same_site", {"origin": OWN, "sec_fetch_site": "same-site"}),
    ("metadata_repeated", {"origin": OWN, "sec_fetch_site": ["same-origin", "same-site"]}),
]


@pytest.mark.parametrize("scheme", ["wss", "https"])
@pytest.mark.parametrize(("expected", "headers"), HANDSHAKES)
def test_every_row_of_a_handshake_has_its_rule(expected, headers, scheme):
    """A handshake is a GET that changes much: it must name an exact Origin (P19, ASVS 4.4.2)."""
    assert rule(request("GET", websocket=True, scheme=scheme, **headers)) == expected


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize(("expected", "headers"), HANDSHAKES)
def test_no_token_changes_what_a_handshake_is_told(expected, headers, token):
    """Nothing can carry a token in a handshake, so none is asked for and none helps (P19)."""
    strict = CsrfRules(
        trusted_origins=RULES.trusted_origins, token_on_every_body=True, json_paths=("/*",)
    )
    facts = request("GET", websocket=True, **headers)
    assert decide(facts, strict, token, token_for_form=True).rule == expected


# --- the token on every body ----------------------------------------------------------------------

STRICT = CsrfRules(token_on_every_body=True, exempt=("/hooks/*",))


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {"content_length": "12"}),
        ("POST", {"transfer_encoding": "chunked"}),
        ("DELETE", {"content_length": "2"}),
        ("POST", {}),
        ("PUT", {}),
        ("PATCH", {}),
        ("POST", {"content_length": ["0", "0"]}),
    ],
)
def test_a_nist_profile_wants_the_token_with_every_body(method, headers):
    """Content carries what the server verifies, also from our own origin (G3, NIST-B8)."""
    facts = request(method, sec_fetch_site="same-origin", origin=OWN, **headers)
    assert rule(facts, STRICT) == "token_on_every_body"
    assert rule(facts, STRICT, "absent") == "token_absent"
    assert rule(facts, STRICT, "invalid") == "token_invalid"
    assert rule(facts, STRICT, "valid") == "token_valid"


@pytest.mark.parametrize(("method", "headers"), [("POST", {"content_length": "0"}), ("DELETE", {})])
def test_a_request_without_a_body_needs_no_token_for_it(method, headers):
    """The rule is about content; the origin still decides (G3)."""
    facts = request(method, sec_fetch_site="same-origin", **headers)
    assert rule(facts, STRICT, "absent") == "same_origin"


def test_the_token_is_no_way_around_the_origin_in_a_nist_profile():
    """Both must hold: a stolen token does not help a foreign page (P19)."""
    assert rule(request(sec_fetch_site="cross-site"), STRICT, "valid") == "cross_site"
    assert rule(request(path="/hooks/x", content_length="9"), STRICT, "absent") == "exempt"


@pytest.mark.parametrize("headers", [{"content_length": "0"}, {"content_length": "9"}])
def test_a_route_may_demand_the_token_of_its_own_form(headers):
    """Markup smuggled into another page of ours has no such token."""
    facts = request(sec_fetch_site="same-origin", **headers)
    assert decide(facts, RULES, token_for_form=True).rule == "token_for_form"
    assert decide(facts, RULES, "absent", token_for_form=True).verdict == "refuse"
    assert decide(facts, RULES, "valid", token_for_form=True).verdict == "allow"


# --- JSON paths -----------------------------------------------------------------------------------

JSON = CsrfRules(json_paths=("/api/*",))


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "application/json"},
        {"content_type": "Application/JSON; charset=utf-8"},
        {"content_type": "application/merge-patch+json"},
        {"content_type": "application/vnd.example.v1+json ;x=y"},
        {"x_requested_with": "fetch"},
        {"x_csrf_token": "anything"},
        {"x_requested_with": "", "content_type": "text/plain"},
        {"x_requested_with": "fetch", "content_length": "0"},
    ],
)
def test_a_json_path_goes_on_with_what_a_form_cannot_send(headers):
    """A preflight stands before these; the origin is checked all the same (ASVS 3.5.2)."""
    assert rule(request(path="/api/x", **headers), JSON) == "origin_unsaid"
    assert rule(request(path="/api/x", sec_fetch_site="cross-site", **headers), JSON) == (
        "cross_site"
    )


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content_length": "0"},
        {"content_type": "text/plain"},
        {"content_type": "text/plain; application/json"},
        {"content_type": "text/plain, application/json"},
        {"content_type": "application/x-www-form-urlencoded"},
        {"content_type": "multipart/form-data; boundary=+json"},
        {"content_type": ["application/json", "text/plain"]},
        {"content_type": ["application/json", "application/json"]},
        {"content_type": "application/jsonp"},
        {"content_type": "json"},
        {"content_type": "application/json\u00a0"},
        {"content_type": ""},
    ],
)
@pytest.mark.parametrize("token", TOKENS)
def test_a_json_path_refuses_what_any_form_can_send(headers, token):
    """`text/plain` JSON and POSTs without a body need no preflight (ASVS 3.5.2, OWASP-C8)."""
    facts = request(path="/api/x", sec_fetch_site="same-origin", **headers)
    assert rule(facts, JSON, token) == "simple_request"


def test_json_rules_leave_other_paths_and_safe_methods_alone():
    """Forms live beside an API."""
    assert rule(request(path="/form", sec_fetch_site="same-origin"), JSON) == "same_origin"
    assert rule(request("GET", path="/api/x"), JSON) == "safe_method"


def test_the_applications_own_token_header_counts_as_a_custom_header():
    """The header's name comes from the rules, in one place."""
    rules = CsrfRules(json_paths=("/*",), header="X-Door")
    assert rule(request(x_door="t"), rules) == "origin_unsaid"
    assert rule(request(x_csrf_token="t"), rules) == "simple_request"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x_csrf_token": "abc"}, "abc"),
        ({"x_csrf_token": ""}, ""),
        ({"x_csrf_token": ["abc", "abc"]}, ""),
        ({"x_csrf_token": "\xff"}, "\xff"),
    ],
)
def test_the_header_token_is_read_once_or_not_at_all(headers, expected):
    """Two headers are not a choice: the result is a token that is never valid."""
    assert find_header_token(request(**headers), RULES) == expected


# --- the engine as a whole ------------------------------------------------------------------------


def test_every_decision_has_a_sentence_and_a_stable_code():
    """Each decision says which rule made it, in words (G1)."""
    for code, decision in DECISIONS.items():
        assert code == decision.rule == code.lower()
        assert decision.verdict in get_args(Verdict)
        assert decision.reason[0].isupper()
        assert decision.reason.endswith(".")


def test_the_codes_are_frozen():
    """Codes stand in events and dashboards; changing one is a breaking change."""
    assert " ".join(sorted(DECISIONS)) == (
        "cross_site exempt handshake_without_origin metadata_repeated origin_foreign "
        "origin_malformed origin_repeated origin_unsaid own_origin own_origin_unknown "
        "referer_foreign safe_method same_origin same_site simple_request token_absent "
        "token_for_form token_invalid token_on_every_body token_valid trusted_origin "
        "user_navigation"
    )


HEADER_VALUES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            *(b"same-origin", b"same-site", b"cross-site", b"none", b"navigate", b"cors", b"null"),
            *(b"", b"0", b"12", b"chunked", b"application/json", b"text/plain"),
            *(value.encode() for value in (OWN, PARTNER, SIBLING, EVIL, f"{EVIL}/{OWN}")),
        ]
    ),
)
HEADER_NAMES = st.sampled_from(
    [
        *(b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest", b"origin", b"referer"),
        *(b"content-type", b"content-length", b"transfer-encoding"),
        *(b"x-requested-with", b"x-csrf-token"),
    ]
)
ANY_RULES = st.builds(
    CsrfRules,
    origins=st.sampled_from([(), (OWN,)]),
    trusted_origins=st.sampled_from([(), (PARTNER,)]),
    token_on_every_body=st.booleans(),
    json_paths=st.sampled_from([(), ("/api/*",)]),
)
ANY_FACTS = st.builds(
    RequestFacts,
    method=st.sampled_from(["POST", "PUT", "DELETE", "GET", "PATCH"]),
    path=st.one_of(st.text(max_size=20), st.sampled_from(["/", "/api/x"])),
    scheme=st.sampled_from(["http", "https", "ws", "wss"]),
    headers=st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=6).map(
        lambda fields: [(b"host", b"app.example"), *fields]
    ),
    websocket=st.booleans(),
)


@given(ANY_FACTS, ANY_RULES, st.sampled_from(TOKENS), st.booleans())
def test_nothing_raises_and_every_answer_is_in_the_table(facts, rules, token, for_form):
    """Whatever the headers hold, there is one explainable answer (P19)."""
    decision = decide(facts, rules, token, token_for_form=for_form)
    assert DECISIONS[decision.rule] is decision
    if token != "unread":
        assert decision.verdict != "needs_token"


@given(ANY_FACTS, ANY_RULES)
@example(request(sec_fetch_site="cross-site", origin=PARTNER), CsrfRules())
def test_a_foreign_page_never_passes_without_a_token(facts, rules):
    """Of all combinations, only those that name an own or listed origin are allowed (P19)."""
    decision = decide(facts, rules, "absent")
    if decision.verdict != "allow" or decision.rule == "safe_method":
        return
    assert facts.values(b"sec-fetch-site") != [b"cross-site"] or PARTNER in rules.trusted_origins
    if decision.rule in ("own_origin", "trusted_origin"):
        assert facts.values(b"origin") in ([OWN.encode()], [PARTNER.encode()])
    else:
        assert facts.values(b"sec-fetch-site") in ([b"same-origin"], [b"none"])


@given(ANY_FACTS, ANY_RULES, st.sampled_from(TOKENS))
def test_asking_for_the_token_on_every_body_never_allows_more(facts, rules, token):
    """A stricter setting only takes away (G3)."""
    strict = CsrfRules(
        origins=rules.origins,
        trusted_origins=rules.trusted_origins,
        token_on_every_body=True,
        json_paths=("/*",),
    )
    if decide(facts, strict, token).verdict == "allow":
        assert decide(facts, rules, token).verdict == "allow"


def test_every_refusal_says_what_a_developer_does():
    """A refusal without a way out is a dead end for whoever wrote the page (STYLE)."""
    for decision in DECISIONS.values():
        assert bool(decision.hint) is (decision.verdict == "refuse"), decision.rule
        assert not decision.hint or decision.hint.endswith("."), decision.rule
