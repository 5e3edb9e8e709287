"""The doctor's checks of what is configured: keys, policy, cookies, origins, proxies, store."""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sqlite3
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from strongroom.core.errors import ConfigurationError, StrongroomError
from strongroom.core.ops import Alive, Notice, ReadEpoch, Watch
from strongroom.core.policy import PROFILES, DataSeal, SessionPolicy, ms
from strongroom.core.record import NO_SUBJECT
from strongroom.core.sealing import Keyring, KeyState
from strongroom.core.visit import Context
from strongroom.stores.base import Near

from . import settings
from .doctor_findings import Finding, failed, ok, problem, skipped, warning
from .output import Output, span

ALLOW_VARIABLE = "FORWARDED_ALLOW_IPS"
"""uvicorn and gunicorn read it: whose forwarding headers they believe."""

_LONG_AHEAD = timedelta(days=7)
_OLD_SQLITE = (3, 37)
_WIDE = {4: 16, 6: 48}
"""A network of more addresses than this rarely holds proxies alone."""

_PROOFS = 3
"""Proofs of life that are waited for: one alone may have been lucky."""


def check_settings(options: argparse.Namespace, out: Output) -> Iterator[Finding]:
    """Every check of the configuration, in the order in which things are needed."""
    yield _versions()
    ring, findings = _read_keys(options, out)
    yield from findings
    try:
        policy = settings.policy(options, out)
    except StrongroomError as error:
        yield failed("policy", error)
        return
    yield from _policy(policy, options, out)
    if ring is not None:
        yield from _cookies(policy, ring, out)
    yield from _origins(policy)
    yield from _proxies(policy, out)
    yield from _store(options, out, ring)


def _versions() -> Finding:
    told = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}."
    if sqlite3.sqlite_version_info < _OLD_SQLITE:
        return warning(
            "versions",
            told,
            why="SQLite before 3.37 does not check the types of what is stored.",
            change="Use a Python that is built with a newer SQLite.",
        )
    return ok("versions", told)


def _read_keys(options: argparse.Namespace, out: Output) -> tuple[Keyring | None, list[Finding]]:
    try:
        ring, source = settings.keyring(options, out)
        issuing = ring.issuing(out.world.clock())
    except ConfigurationError as error:
        return None, [failed("keys", error)]
    findings = [ok("keys", f"The keys in {source} can be used; key {issuing.id} issues.")]
    if not settings.keys_in_environment(options, out):
        findings += _owner(Path(source))
    return ring, [*findings, *_moments(ring, options, out)]


def _owner(path: Path) -> Iterator[Finding]:
    if os.name != "posix" or os.geteuid() == 0:
        return
    if path.stat().st_uid != os.geteuid():
        yield warning(
            "keys",
            f"{path} belongs to another user of this machine.",
            why="Its owner can replace the keys, and make sessions for anybody.",
            change="Give it to the user that the application runs as, with mode 600.",
        )


def _moments(ring: Keyring, options: argparse.Namespace, out: Output) -> Iterator[Finding]:
    """What time does to the keys, and what the keys say of this machine's clock."""
    now = out.world.clock()
    if any(key.created_at > now + 60_000 for key in ring.keys):
        yield problem(
            "clock",
            "A key was made later than this machine's clock says it is now.",
            why="One of the two clocks is wrong, and every timeout is judged by this one.",
            change="Set the clock (NTP), here and where the keys were made.",
        )
    for key in ring.keys:
        state = ring.state(key, now)
        if state is KeyState.PUBLISHED:
            ahead = key.issue_from - now
            told = f"Key {key.id} takes over {out.near(key.issue_from)}."
            if ahead > ms(_LONG_AHEAD):
                yield warning(
                    "keys",
                    told,
                    why="So long a wait is more often a wrong clock than a plan.",
                    change="Add one that takes over sooner: strongroom keys rotate",
                )
            else:
                yield ok("keys", f"{told} Every machine must have it by then.")
        if state is KeyState.VERIFYING and _all_over(ring, key.id, options, out):
            yield warning(
                "keys",
                f"Key {key.id} is still believed, and every session issued under it is over.",
                why="A key that nobody needs can only leak.",
                change=f"strongroom keys retire {key.id}",
            )


def _all_over(ring: Keyring, key_id: int, options: argparse.Namespace, out: Output) -> bool:
    """Whether no session can be left from under the key: its successor issues for long enough."""
    try:
        absolute = ms(settings.policy(options, out).absolute_timeout)
    except StrongroomError:
        return False
    key = next(each for each in ring.keys if each.id == key_id)
    place = (key.issue_from, key.id)
    later = [each.issue_from for each in ring.keys if (each.issue_from, each.id) > place]
    return bool(later) and min(later) + absolute <= out.world.clock()


def _policy(policy: SessionPolicy, options: argparse.Namespace, out: Output) -> Iterator[Finding]:
    if not settings.is_policy_named(options, out):
        yield skipped(
            "policy",
            "No policy is named, so the defaults are looked at.",
            change="Name the application's own: strongroom doctor --policy shop.settings:policy",
        )
    elif policy.profile is None:
        yield ok("policy", "The policy holds together. It names no profile to be measured by.")
    else:
        count = len(policy.deviations())
        told = f"{count} deviations, each allowed" if count else "no deviation"
        yield ok("policy", f"The policy holds together: {policy.profile}, with {told}.")
    yield from _loose_limits(policy)
    if policy.development:
        yield warning(
            "development",
            "This is the development policy: cookies without Secure and without __Host-.",
            why="It is for http://localhost, and is refused on every other host.",
            change="In production use SessionPolicy() behind https.",
        )
    if policy.seal_data is DataSeal.NONE:
        yield warning(
            "policy",
            "Session data is stored in clear text (seal_data).",
            why="Whoever reads the store or a backup reads it, and whoever writes it changes it.",
            change="Leave seal_data out, or use DataSeal.SERVER.",
        )
    if policy.csrf.exempt:
        yield warning(
            "csrf",
            f"Other sites may post to {', '.join(policy.csrf.exempt)}.",
            why="These paths have no protection against cross-site requests.",
            change="Check that each proves by itself who sent the request, by a signature or so.",
        )


def _loose_limits(policy: SessionPolicy) -> Iterator[Finding]:
    """Without a profile nobody asked for reasons, so the widest usual limits are the measure."""
    if policy.profile is not None:
        return
    widest = PROFILES["owasp_low_risk"].values
    for name in ("idle_timeout", "absolute_timeout"):
        if getattr(policy, name) > widest[name]:
            yield warning(
                "policy",
                f"{name} is {span(getattr(policy, name))}.",
                why=f"OWASP asks for {span(widest[name])} at most even where the risk is low.",
                change="Shorten it, or name the profile you answer to, with your reason: "
                "SessionPolicy.nist_aal2(...).",
            )


def _cookies(policy: SessionPolicy, ring: Keyring, out: Output) -> Iterator[Finding]:
    try:
        ctx = _context(policy, ring, out)
    except ConfigurationError as error:
        yield failed("cookie", error)
        return
    yield ok("cookie", f"The session cookie is {ctx.cookie.name}, SameSite={policy.same_site}.")
    if not policy.development:
        for sentence in ctx.cookie.warnings():
            yield warning(
                "cookie", sentence, why="It weakens the session.", change="Leave cookie_name out."
            )


def _context(policy: SessionPolicy, ring: Keyring, out: Output) -> Context:
    """What requests would be handed; the store is never opened."""
    from strongroom.manager import SessionManager
    from strongroom.stores.memory import MemoryStore

    with _silent():
        clock = out.world.clock
        return SessionManager(
            MemoryStore(), keys=ring, policy=policy, sinks=(), clock=clock
        ).context


@contextmanager
def _silent() -> Generator[None]:
    """What the library would log is among the findings already."""
    logger = logging.getLogger("strongroom")
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled


def _origins(policy: SessionPolicy) -> Iterator[Finding]:
    origins = policy.csrf.origins
    plain_http = [each for each in origins if each.startswith("http:")]
    if plain_http and not policy.development:
        yield problem(
            "origins",
            f"{plain_http[0]} is among the application's origins.",
            why="The session cookie is Secure, so browsers neither keep nor send it there.",
            change="Serve it over https and list that.",
        )
    elif origins:
        yield ok("origins", f"The application's own origin is stated: {', '.join(origins)}.")
    elif not policy.development:
        yield warning(
            "origins",
            "The application's origin is not stated, so each request's own host is taken for it.",
            why="That is right only while every proxy on the way passes the host on unchanged.",
            change='SessionPolicy(origins=("https://shop.example",))',
        )


def _proxies(policy: SessionPolicy, out: Output) -> Iterator[Finding]:
    trusted = policy.proxies
    configured = bool(trusted.networks) or trusted.hop_count is not None or trusted.unix
    if configured:
        listed = ", ".join(map(str, trusted.networks)) or "whoever connects"
        count = "" if trusted.hop_count is None else f", {trusted.hop_count} in a row"
        yield ok("proxies", f"Trusted proxies: {listed}{count}; they write {trusted.header}.")
    elif not policy.development:
        yield warning(
            "proxies",
            "No proxy is trusted, so forwarding headers are not read.",
            why="Behind a proxy, every session would show the proxy's address, and https could "
            "look like http.",
            change='List it: SessionPolicy(proxies=TrustedProxies.of("127.0.0.1")). Without a '
            "proxy this is as it should be. Ask the running application: strongroom doctor URL",
        )
    if trusted.hop_count is not None and not trusted.networks:
        yield warning(
            "proxies",
            "Proxies are counted, so whoever connects is taken for one.",
            why="A client that reaches the application past the proxy chooses its own address.",
            change="Let nothing but the proxy reach the application's port, or add its network: "
            f'TrustedProxies(["10.0.0.0/24"], hops={trusted.hop_count}).',
        )
    for network in trusted.networks:
        if network.prefixlen < _WIDE[network.version]:
            yield warning(
                "proxies",
                f"{network} is wide for a network of proxies.",
                why="Every machine in it is believed about addresses, and none of them can be "
                "told as a client.",
                change="List the proxies' own addresses or subnet.",
            )
    yield from _allowed_by_the_server(out.world.env.get(ALLOW_VARIABLE), configured=configured)


def _allowed_by_the_server(allowed: str | None, *, configured: bool) -> Iterator[Finding]:
    if not allowed:
        return
    if "*" in allowed.replace(" ", "").split(","):
        yield problem(
            "server",
            f"{ALLOW_VARIABLE} is '*' in this environment.",
            why="uvicorn then takes the leftmost address of X-Forwarded-For for the client's: "
            "whatever the client wrote there.",
            change=f"Unset {ALLOW_VARIABLE}, and start uvicorn with --no-proxy-headers.",
        )
    elif configured:
        yield warning(
            "server",
            f"{ALLOW_VARIABLE} is set, so uvicorn reads forwarding headers before Strongroom.",
            why="Strongroom then sees the client in the proxy's place, and does not trust it.",
            change="Let one of them read: start uvicorn with --no-proxy-headers.",
        )


def _store(options: argparse.Namespace, out: Output, ring: Keyring | None) -> Iterator[Finding]:
    try:
        url = settings.store_url(options, out)
    except ConfigurationError as error:
        yield skipped("store", error.what, change=error.hint)
        return
    if urlsplit(url).scheme == "memory":
        yield warning(
            "store",
            "A memory store lives inside one process, and ends with it.",
            why="A restart signs everybody out, and two workers do not know each other's sessions.",
            change="Use one that lasts: sqlite:///var/sessions.db",
        )
        return
    path = settings.sqlite_path(url)
    if path is not None and not path.exists():
        yield skipped(
            "store", f"There is no session database at {path} yet; the application makes it."
        )
        return
    if ring is None:
        yield skipped("store", "A store can be opened with its keys only.")
        return
    try:
        with _silent(), settings.manager(options, out) as sessions:
            sessions.store.read_epoch(ReadEpoch(NO_SUBJECT))
            yield ok("store", "The store answers, can be written, and belongs to these keys.")
            if isinstance(sessions.store, Near):
                yield _channel(sessions.store)
    except StrongroomError as error:
        yield failed("store", error)
        return
    if path is not None:
        yield from _file_mode(path)


def _channel(near: Any) -> Finding:
    """Whether the store pushes its changes to this machine, so that a near cache may answer."""
    staleness = near.stats().max_staleness
    proofs: list[float] = []
    began = time.monotonic()

    def tell(notice: Notice) -> None:
        if isinstance(notice, Alive):
            proofs.append(time.monotonic() - notice.asked_at)

    def is_enough() -> bool:
        return len(proofs) >= _PROOFS or time.monotonic() - began > _PROOFS * max(staleness, 1)

    try:
        near.store.watch(Watch(tell, staleness / 4, is_enough))
    except StrongroomError as error:
        return failed("near_cache", error)
    took = max(proofs, default=0)
    if not proofs or took >= staleness / 2:
        proved = f"its life in {took * 1000:.0f} ms" if proofs else "no life at all"
        return problem(
            "near_cache",
            f"The store's push channel proves {proved}, and {staleness * 1000:.0f} ms is the "
            "oldest proof that a near cache may use.",
            why="It would be out of use much of the time, and every request would read the store.",
            change="Leave near_cache_mb out, or look why the way to the store is so slow.",
        )
    return ok(
        "near_cache",
        f"The store pushes its changes, and proves it in {took * 1000:.1f} ms: a near cache works.",
    )


def _file_mode(path: Path) -> Iterator[Finding]:
    mode = path.stat().st_mode & 0o777
    if os.name == "posix" and mode & 0o077:
        yield warning(
            "store",
            f"Other users of this machine may open {path} (its mode is {mode:o}).",
            why="They could read how many sessions there are and when they are used, and write "
            "could end them.",
            change=f"chmod 600 {path}",
        )
