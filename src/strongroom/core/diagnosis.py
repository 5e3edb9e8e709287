"""What the application believes of one request, told to nobody but a holder of its keys.

`strongroom doctor URL` asks the running application, through every proxy on the way, what scheme,
host and client address it sees. Rules:

- The question carries a proof: a moment, and a CSRF token bound to it under the application's own
  key. It is good for a minute either side of the server's clock. A request without one, or with a
  wrong one, gets the 404 of a path that is not there.
- The answer tells about this very request: headers that it came with, names of cookies, and the
  settings that decided; and how the near cache of the process is. No value of a cookie, no session,
  no key.
- It changes nothing and asks no store. It does set a cookie of its own, worthless and short-lived,
  so that the doctor sees what the way back does to Set-Cookie, and the way there to Cookie.

A proof that somebody on the way copied asks the same question for the rest of its minute; that is
all it is good for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from .answers import Answer
from .cookies import CookieSpec, cookie_name, parse_cookie_header
from .csrf import decide, is_cross_site
from .csrf_tokens import check_token, mint_token
from .exchange import RequestFacts
from .proxies import TrustedProxies
from .sealing import UnlockedKeys
from .visit import Context

HEADER = "X-Strongroom-Doctor"
LIFETIME = 60_000
"""Milliseconds either side: a machine whose clock is further off has a problem of its own."""

VERSION = 1
_KEY = HEADER.lower().encode("ascii")
_PROOF = re.compile(r"([0-9]{1,15})\.([A-Za-z0-9_-]{47})")
_MOST_PROOFS = 4  # one for each hash that a policy may have chosen, with room to spare
_MOST_NAMES = 50
_LONGEST = 400  # characters of a header that are told
_TELLING = (b"host", b"origin", b"forwarded", b"x-forwarded-for", b"x-forwarded-proto",
            b"x-forwarded-host")  # fmt: skip


def prove(rings: Iterable[UnlockedKeys], now: int, mask: bytes) -> str:
    """The header's value: one proof for each of these, which the application accepts any one of.

    The same keyring unlocked with two hashes gives two: who asks need not know the policy.
    """
    proofs = (
        mint_token(keys.csrf[keys.issuing], keys.issuing, _bound_to(now), "", mask, mac=keys.mac)
        for keys in rings
    )
    return ", ".join(f"{now}.{proof}" for proof in proofs)


def is_proved(keys: UnlockedKeys, presented: str | None, now: int) -> bool:
    """Whether a holder of the keys asks, just now. Never raises on any string."""
    for proof in (presented or "").split(",")[:_MOST_PROOFS]:
        match = _PROOF.fullmatch(proof.strip(" "))
        if match is None or abs(int(match[1]) - now) > LIFETIME:
            continue
        if check_token(keys.csrf, _bound_to(int(match[1])), "", match[2], mac=keys.mac):
            return True
    return False


def _bound_to(moment: int) -> bytes:
    """A binding that no session and no visitor has (`csrf_tokens` has the others)."""
    return b"doctor\0" + str(moment).encode("ascii")


def answer_doctor(
    ctx: Context,
    facts: RequestFacts,
    *,
    rewritten: bool,
    near_cache: Mapping[str, object] | None = None,
) -> Answer:
    """The whole response. `rewritten` says that the server changed the peer before we saw it;
    `near_cache` is its state in this process, where there is one."""
    if facts.method != "GET" or not is_proved(ctx.keys, facts.header(_KEY), ctx.now()):
        return Answer(404, [*_plain(b"text/plain; charset=utf-8")], b"Not Found")
    spec = own_cookie(ctx)
    line = spec.render(format(ctx.now(), "x"), max_age=LIFETIME // 1000)
    told = _told(ctx, facts, rewritten=rewritten)
    told["sent_cookie"] = line.decode("ascii")
    told["near_cache"] = near_cache
    headers = [*_plain(b"application/json"), (b"set-cookie", line)]
    return Answer(200, headers, json.dumps(told).encode("ascii"))


def own_cookie(ctx: Context) -> CookieSpec:
    """A cookie like the session's in all that a browser or a proxy looks at, but for its name."""
    short = ctx.keys.store_identity[:4].hex()
    return replace(ctx.cookie, name=cookie_name("doctor", short, secure=ctx.cookie.secure))


def _told(ctx: Context, facts: RequestFacts, *, rewritten: bool) -> dict[str, Any]:
    forwarding = facts.forwarding
    return {
        "strongroom_doctor": VERSION,
        "now": ctx.now(),
        "scheme": facts.scheme,
        "host": forwarding.host,
        "client": forwarding.client,
        "notes": list(forwarding.notes),
        "peer": facts.peer,
        "server_scheme": facts.local_scheme,
        "rewritten": rewritten,
        "proxies": _proxies(facts.proxies),
        "headers": {
            name.decode("ascii"): [value.decode("latin-1")[:_LONGEST] for value in found]
            for name in _TELLING
            if (found := facts.values(name))
        },
        "cookies": _cookie_names(facts),
        "cookie": {"name": ctx.cookie.name, "secure": ctx.cookie.secure},
        "development": ctx.policy.development,
        "origins": list(ctx.policy.csrf.origins),
        "csrf": _would_be(ctx, facts, websocket=False),
        "websocket": _would_be(ctx, facts, websocket=True),
    }


def _proxies(trusted: TrustedProxies) -> dict[str, Any]:
    return {
        "networks": [str(network) for network in trusted.networks],
        "hops": trusted.hop_count,
        "header": trusted.header,
        "unix": trusted.unix,
    }


def _cookie_names(facts: RequestFacts) -> list[str]:
    pairs = [pair for line in facts.values(b"cookie") for pair in parse_cookie_header(line)]
    return [name.decode("latin-1")[:_LONGEST] for name, _value in pairs[:_MOST_NAMES]]


def _would_be(ctx: Context, facts: RequestFacts, *, websocket: bool) -> dict[str, Any]:
    """The decision if the same request were a form's POST, or a handshake, with its Origin alone.

    Without Fetch Metadata, because this is where the scheme and host that we believe in decide.
    """
    headers = [pair for pair in facts.headers if not pair[0].startswith(b"sec-fetch-")]
    asked = RequestFacts(
        method="GET" if websocket else "POST",
        path="/",
        scheme=facts.local_scheme,
        peer=facts.peer,
        headers=headers,
        proxies=facts.proxies,
        websocket=websocket,
    )
    # A token on every body is the application's own wish, and says nothing of the way here.
    decision = decide(asked, replace(ctx.policy.csrf, token_on_every_body=False, json_paths=()))
    return {
        "verdict": decision.verdict,
        "rule": decision.rule,
        "reason": decision.reason,
        "cross_site": is_cross_site(asked, ctx.policy.csrf),
    }


def _plain(content_type: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", content_type), (b"cache-control", b"no-store")]
