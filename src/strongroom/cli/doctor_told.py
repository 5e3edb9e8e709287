"""What the running application believes of a request, against what was really sent.

The application is asked twice at its diagnostic endpoint (`core/diagnosis.py`): once as a browser
asks, and once as a client that lies about its address, scheme and host. Where an answer is not
what one expects, the finding says which setting to change, in Strongroom or in the proxy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from strongroom.core.diagnosis import HEADER, LIFETIME, VERSION
from strongroom.core.forwarded import parse_address

from .doctor_cookies import SetCookie
from .doctor_findings import Finding, ok, problem, skipped, warning
from .doctor_http import NoAnswer, Place, Reply, Way
from .output import printable

LIE_ADDRESS = "192.0.2.66"  # a documentation address (RFC 5737): nobody's
LIE_HOST = "spoofed.invalid"  # a name that never exists (RFC 2606)

_ORIGIN_MATTERS = (
    "Where a browser sends no Fetch Metadata (older ones, and Chromium in WebSocket handshakes), "
    "the application compares the Origin header with this, and would refuse its own pages."
)
_LISTS = (
    "Sessions would show one address for everybody, and a new place of sign-in would go unnoticed."
)
_NGINX = {
    "scheme": "proxy_set_header X-Forwarded-Proto $scheme;",
    "client": "proxy_set_header X-Forwarded-For $remote_addr;",
    "host": "proxy_set_header Host $http_host;",
}


@dataclass(frozen=True, slots=True)
class Told:
    """One answer of the application, beside how it was asked."""

    facts: Mapping[str, Any]
    reply: Reply

    def __getitem__(self, name: str) -> Any:
        return self.facts[name]

    @property
    def came(self) -> Mapping[str, list[str]]:
        """The headers that reached the application, by lower-case name."""
        found: Mapping[str, list[str]] = self.facts["headers"]
        return found

    @property
    def forwards(self) -> bool:
        """Whether any forwarding header reached it."""
        return any("forwarded" in name for name in self.came)

    @property
    def configured(self) -> bool:
        """Whether it trusts any proxy."""
        proxies = self.facts["proxies"]
        return bool(proxies["networks"]) or proxies["hops"] is not None or bool(proxies["unix"])

    @property
    def believes(self) -> bool:
        """Whether it trusts whoever connected to it."""
        proxies, peer = self.facts["proxies"], self.facts["peer"]
        if not peer:
            return bool(proxies["unix"])
        if not proxies["networks"]:
            return proxies["hops"] is not None
        address = parse_address(peer)
        return address is not None and any(
            address in ip_network(each) for each in proxies["networks"]
        )

    @property
    def trust(self) -> str:
        """The setting that would make it believe whoever connected to it."""
        proxies, peer = self.facts["proxies"], self.facts["peer"]
        family = "" if proxies["header"] == "x-forwarded" else ', header="forwarded"'
        if not peer:
            return f"SessionPolicy(proxies=TrustedProxies(unix=True{family}))"
        named = ", ".join(f'"{each}"' for each in (*proxies["networks"], peer))
        return f"SessionPolicy(proxies=TrustedProxies.of({named}{family}))"


def check_told(way: Way, place: Place, proof: str, now: int) -> Iterator[Finding]:
    """Ask the application at its endpoint, and look at what it says."""
    asked = {HEADER: proof, "Origin": place.origin}
    try:
        reply = way.get(place, asked)
        first = _read(reply)
        if first is None:
            yield _nobody_there(reply)
            return
        lies = {
            "X-Forwarded-For": LIE_ADDRESS,
            "X-Forwarded-Proto": "http" if first["scheme"] == "https" else "https",
            "X-Forwarded-Host": LIE_HOST,
            "Forwarded": f"for={LIE_ADDRESS};proto=http;host={LIE_HOST}",
        }
        cookie = SetCookie.parse(first["sent_cookie"])
        pair = {"Cookie": f"{cookie.name}={cookie.value}"}
        second = _read(way.get(place, {**asked, **lies, **pair}))
    except NoAnswer as error:
        yield problem("endpoint", error.what, why=error.why, change=error.change)
        return
    yield from _clock(first, now)
    yield _scheme(first, place)
    yield _host(first, place)
    yield _client(first)
    yield from _two_readers(first)
    yield from _csrf(first, place)
    yield _cookie_there(first, cookie)
    yield from _near_cache(first)
    if second is None:
        yield skipped("spoofing", "The request that lies was refused on the way here.")
    else:
        yield _cookie_back(second, cookie)
        yield from _spoofing(first, second, place)


def _read(reply: Reply) -> Told | None:
    try:
        facts: Any = json.loads(reply.body)
        known = reply.status == 200 and facts["strongroom_doctor"] == VERSION
    except (ValueError, KeyError, TypeError):
        return None
    return Told(facts, reply) if known else None


def _nobody_there(reply: Reply) -> Finding:
    return skipped(
        "endpoint",
        f"At {reply.place} the application does not say what it believes ({reply.status}).",
        change="Mount strongroom.integrations.doctor.endpoint there, or name its path with "
        "--endpoint; it answers only under the application's own keys (--keys).",
    )


def _clock(told: Told, now: int) -> Iterator[Finding]:
    apart = abs(int(told["now"]) - now)
    if apart > LIFETIME // 4:
        yield warning(
            "clock",
            f"The application's clock and this machine's are {round(apart / 1000)} s apart.",
            why="Timeouts are judged by the application's clock.",
            change="Set both clocks (NTP).",
        )


def _scheme(told: Told, place: Place) -> Finding:
    if told["scheme"] == place.scheme:
        return ok("scheme", f"The application sees the scheme {place.scheme}, as the browser does.")
    return problem(
        "scheme",
        f"The browser uses {place.scheme}, and the application sees {told['scheme']}.",
        why=f"{_why_unknown(told, 'x-forwarded-proto')} {_ORIGIN_MATTERS}",
        change=_change_scheme(told),
    )


def _why_unknown(told: Told, header: str) -> str:
    """Which link of the chain is missing."""
    if not told.forwards:
        return "The proxy says nothing of the client's connection."
    if not told.believes:
        return f"The proxy tells, but {told['peer'] or 'a unix socket'} is not trusted."
    if told["proxies"]["header"] == "forwarded":
        return "Forwarded is read here, and says nothing usable. " + " ".join(told["notes"])
    if header not in told.came:
        return f"The proxy is trusted, and sends no {header.title()}."
    return "The nearest proxy says so: another one before it ends TLS. " + " ".join(told["notes"])


def _change_scheme(told: Told) -> str:
    if told.forwards and not told.believes:
        return told.trust
    if told["proxies"]["header"] == "forwarded":
        return "Read the family that the proxy writes: TrustedProxies.of(..., header=...)."
    if "x-forwarded-proto" not in told.came:
        trust = "" if told.believes else f" Then trust it: {told.trust}"
        return f"nginx: {_NGINX['scheme']}{trust}"
    return (
        "Have the inner proxy pass on what the outer one says: nginx: proxy_set_header "
        "X-Forwarded-Proto $http_x_forwarded_proto; Caddy: servers { trusted_proxies static ... }"
    )


def _host(told: Told, place: Place) -> Finding:
    if told["host"] == place.netloc:
        return ok("host", f"The application sees the host {place.netloc}, as the browser does.")
    if place.origin in told["origins"]:
        return ok(
            "host",
            f"The application sees {told['host']}, and knows its origin by `origins`.",
        )
    change = (
        f"nginx: {_NGINX['host']} Or state it: " + f'SessionPolicy(origins=("{place.origin}",))'
    )
    why = "The proxy puts another host into the request."
    if told["host"] == place.host:
        why = "The proxy drops the port (in nginx, $host has none)."
    elif told["host"] is None:
        why = " ".join(told["notes"]) or "The Host header is missing or came twice."
    elif told.believes and "x-forwarded-host" in told.came:
        why = "So says the X-Forwarded-Host of the trusted proxy."
        change = "nginx: proxy_set_header X-Forwarded-Host $http_host; or leave the header out."
    return problem(
        "host",
        f"The browser asks {place.netloc}, and the application sees {told['host']}.",
        why=f"{why} {_ORIGIN_MATTERS}",
        change=change,
    )


def _client(told: Told) -> Finding:
    client, ours, peer = told["client"], told.reply.ours, told["peer"]
    if client is None:
        return problem(
            "client",
            "The application does not know the client's address.",
            why=f"{' '.join(told['notes'])} {_LISTS}",
            change=f"nginx: {_NGINX['client']}" if told.believes else told.trust,
        )
    if client == ours:
        between = "" if told.forwards else " Nothing stands between that would hide it."
        return ok("client", f"The application sees the client's address, {client}.{between}")
    if not told.believes and client == peer and not told["rewritten"]:
        if told.forwards:
            return problem(
                "client",
                f"The application takes the proxy {peer} for the client.",
                why=f"The proxy tells, but is not trusted. {_LISTS}",
                change=told.trust,
            )
        if _is_private(client):
            return problem(
                "client",
                f"The application takes {peer} for the client, and this machine is {ours}.",
                why=f"A proxy stands between, and says nothing of the client. {_LISTS}",
                change=f"nginx: {_NGINX['client']} Then trust it: {told.trust}",
            )
    if _is_private(client) and not _is_private(told.reply.theirs):
        return problem(
            "client",
            f"The application sees {client}, which is inside of the server's network.",
            why=f"That is one of several proxies in a row, and not the client. {_LISTS}",
            change=f'List that one too: TrustedProxies.of(..., "{client}").',
        )
    return _another_address(told)


def _another_address(told: Told) -> Finding:
    """Not the address that this machine connected from, which is right behind a NAT alone."""
    client, ours = told["client"], told.reply.ours
    if not _is_private(ours) or _is_private(client):
        return problem(
            "client",
            f"The application sees {client}, and this machine connected from {ours}.",
            why=f"A proxy's address was taken for the client's. {' '.join(told['notes'])} {_LISTS}",
            change="List every proxy in the row, and nothing but proxies; or count them: "
            "TrustedProxies.hops(2).",
        )
    return ok("client", f"The application sees {client}. Check that this is your address outside.")


def _is_private(text: str) -> bool:
    address = parse_address(text)
    return address is not None and not address.is_global


def _near_cache(told: Told) -> Iterator[Finding]:
    """How the near cache of the process that answered is; nothing where it has none."""
    state: Any = told.facts.get("near_cache")  # an older release tells nothing of it
    if not state:
        return
    reads = state["hits"] + state["misses"]
    share = f"{state['hits'] / reads:.0%} of {reads:,} reads" if reads else "no read yet"
    holds = f"{state['entries']:,} sessions in {state['size'] / 2**20:.1f} MiB"
    if state["alive"]:
        age = f"its newest proof of life is {state['proof_age'] * 1000:.0f} ms old"
        if state["crowded_out"] > state["entries"] and state["hits"] < reads / 2:
            yield warning(
                "near_cache",
                f"The near cache is too small: it holds {holds}, and answered {share}.",
                why=f"{state['crowded_out']:,} sessions left it because there was no room.",
                change="Give it more: near_cache_mb= in the store's URL.",
            )
            return
        yield ok("near_cache", f"The near cache holds {holds}, and answered {share}; {age}.")
    elif not state["channels"]:
        yield ok("near_cache", "The near cache of the process that answered has not been used yet.")
    else:
        yield warning(
            "near_cache",
            "The near cache of the process that answered is out of use: its push channel is not "
            f"known to be alive. It was opened {state['channels']:,} times; {share} came from "
            "memory.",
            why="Every request of that process reads the store: nothing is unsafe, only slower.",
            change="The application's log says why; 'strongroom doctor' without a URL, on that "
            "machine, tries the channel.",
        )


def _two_readers(told: Told) -> Iterator[Finding]:
    if not told["rewritten"]:
        return
    if told.configured:
        yield warning(
            "server",
            "The server reads forwarding headers before Strongroom does (uvicorn's own flag).",
            why="Strongroom then sees the client where it expects the proxy, does not trust it, "
            "and can only believe what the server made of it.",
            change="Let one of them read: start uvicorn with --no-proxy-headers.",
        )
    else:
        yield ok(
            "server",
            "The server itself reads X-Forwarded-For and -Proto (uvicorn's --proxy-headers).",
        )


def _csrf(told: Told, place: Place) -> Iterator[Finding]:
    if "origin" not in told.came:
        yield problem(
            "csrf",
            "The Origin header was lost on the way to the application.",
            why="Without it, requests of browsers without Fetch Metadata need a token, and "
            "WebSocket handshakes are refused.",
            change="Have the proxy pass Origin on.",
        )
        return
    change = "Mend scheme and host above"
    change += (
        "." if told["origins"] else f', or state it: SessionPolicy(origins=("{place.origin}",))'
    )
    for name, what in (("csrf", "A form's POST"), ("websocket", "A WebSocket handshake")):
        decision = told[name]
        if decision["verdict"] != "allow":
            yield problem(
                "csrf",
                f"{what} from {place.origin} itself would be refused ({decision['rule']}).",
                why=f"{decision['reason']} This is so where a browser sends no Fetch Metadata.",
                change=change,
            )
            return
    if told["csrf"]["cross_site"]:
        yield problem(
            "csrf",
            f"A form's POST from {place.origin} itself could not sign anybody in.",
            why="It passes by `origins`, and its Origin is not the scheme and host that the "
            "application sees, so no session may begin. This is so where a browser sends no Fetch "
            "Metadata.",
            change="Mend scheme and host as well: the application must see what the browser asks.",
        )
        return
    yield ok("csrf", f"Requests from {place.origin} are taken for the application's own.")


def _cookie_there(told: Told, sent: SetCookie) -> Finding:
    """Whether Set-Cookie came back as the application sent it."""
    lines = told.reply.values("set-cookie")
    if sent.line in lines:
        return ok("set-cookie", "A cookie arrives as the application sent it.")
    got = next((each for each in map(SetCookie.parse, lines) if each.name == sent.name), None)
    if got is None:
        return problem(
            "set-cookie",
            "The application set a cookie, and it did not arrive.",
            why="Something on the way takes Set-Cookie out, so nobody can sign in.",
            change="nginx: no proxy_hide_header Set-Cookie. Caches and CDNs: do not cache, or "
            "strip cookies from, what the application serves.",
        )
    return problem(
        "set-cookie",
        f"A cookie was rewritten on the way: {_difference(sent, got)}.",
        why="Browsers judge the rewritten one, and a __Host- cookie bears no change.",
        change="nginx: no proxy_cookie_flags, proxy_cookie_path or proxy_cookie_domain. "
        "Elsewhere: no rule that edits Set-Cookie.",
    )


def _difference(sent: SetCookie, got: SetCookie) -> str:
    before, after = sent.attributes, got.attributes
    parts = [f"{name} was taken away" for name in before if name not in after]
    parts += [f"{name} was added" for name in after if name not in before]
    parts += [
        f"{name} was changed" for name in before if name in after and before[name] != after[name]
    ]
    if sent.value != got.value:
        parts.append("its value was changed")
    return printable(", ".join(parts) or "its spelling was changed", 200)


def _cookie_back(told: Told, sent: SetCookie) -> Finding:
    """Whether a cookie that a browser sends reaches the application."""
    if sent.name in told["cookies"]:
        return ok("cookie-header", "A cookie that a browser sends reaches the application.")
    return problem(
        "cookie-header",
        "A cookie was sent, and did not reach the application.",
        why="Something on the way takes Cookie out, so every request looks signed out.",
        change="CDNs: forward cookies to the origin. nginx: no proxy_set_header Cookie.",
    )


def _spoofing(first: Told, second: Told, place: Place) -> Iterator[Finding]:
    """What a client can make the application believe (ASVS 4.1.3)."""
    believed = False
    if LIE_ADDRESS in (second["client"], second["peer"]):
        believed = True
        yield problem(
            "spoofing",
            "A client can choose the address that the application believes.",
            why="It wrote one into X-Forwarded-For, and that was taken for its own.",
            change=_change_spoofed_client(second),
        )
    elif second["client"] != first["client"]:
        believed = True
        yield warning(
            "spoofing",
            "A client can hide its address by writing forwarding headers itself.",
            why=" ".join(second["notes"]) or "The application saw another address then.",
            change=f"Have the outermost proxy overwrite the list: nginx: {_NGINX['client']}",
        )
    if second["scheme"] != first["scheme"]:
        believed = True
        yield problem(
            "spoofing",
            "A client can choose the scheme that the application believes.",
            why="The proxy passes X-Forwarded-Proto on as it came.",
            change=f"Have the outermost proxy overwrite it: nginx: {_NGINX['scheme']}",
        )
    if second["host"] == LIE_HOST:
        believed = True
        yield _spoofed_host(second, place)
    if not believed:
        yield ok("spoofing", "Forwarding headers that a client writes itself change nothing.")


def _change_spoofed_client(told: Told) -> str:
    if told["peer"] == LIE_ADDRESS:
        return (
            "The server did it, before Strongroom: start uvicorn with --no-proxy-headers, and "
            "never with --forwarded-allow-ips='*'."
        )
    if told["proxies"]["hops"] is not None:
        return (
            "More proxies are counted than there are, or one does not add to the list. Count "
            f"again: TrustedProxies.hops({max(1, int(told['proxies']['hops']) - 1)})."
        )
    return f"Have the outermost proxy overwrite the list: nginx: {_NGINX['client']}"


def _spoofed_host(told: Told, place: Place) -> Finding:
    kind = warning if told["origins"] else problem
    return kind(
        "spoofing",
        "A client can choose the host that the application believes.",
        why="The proxy is trusted, and passes X-Forwarded-Host on as it came."
        + (
            " `origins` is stated, so the cross-site check is not affected."
            if told["origins"]
            else ""
        ),
        change="nginx: proxy_set_header X-Forwarded-Host $http_host; Where the proxy cannot, state "
        f'the origin: SessionPolicy(origins=("{place.origin}",))',
    )
