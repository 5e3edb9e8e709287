"""What both managers are made of: policy, keys, clock and sinks, and the `Context` of each request.

Nothing here waits for anything, so it is the same for synchronous and asynchronous code.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Required, TypedDict, TypeVar

from .adapters import AesGcm, MsgpackCodec, system_clock, system_entropy
from .core import flows
from .core.adoption import Adoption
from .core.cookies import CookieSpec, cookie_name
from .core.csrf import DECISIONS
from .core.errors import (
    ConfigurationError,
    StoreError,
    UnreadableRecord,
)
from .core.events import ClockSkewed, CrossSiteRefused, Event, EventSink, StoreFailed
from .core.exchange import RequestFacts
from .core.places import Place
from .core.policy import SessionPolicy, ms
from .core.risk import Population
from .core.sealing import Aead, Codec, Keyring, Sealer
from .core.tokens import VerifiedTokens, blake2b_mac, hmac_sha512
from .core.uses import UsesOfSessions
from .core.visit import Context, Visit
from .keyfile import KeyFile
from .stores.base import Near
from .telemetry.logging import LoggingSink
from .telemetry.spikes import SpikeSink

S = TypeVar("S")

_log = logging.getLogger("strongroom")

KeySource = Keyring | KeyFile | str | os.PathLike[str]


class Settings(TypedDict, total=False):
    """What both managers are made from, besides the store."""

    keys: Required[KeySource]
    """A `Keyring`, a key file, or its path."""
    policy: SessionPolicy | None
    sinks: Iterable[EventSink] | None
    """Where events go; without any, JSON lines in the logger `strongroom.events`."""
    locate: Callable[[str], Place] | None
    """Where an address seems to be, such as a `strongroom.places.PlacesFile`; it never raises."""
    consents: Callable[[RequestFacts], bool] | None
    """Whether a visitor agreed to be known again by a device cookie, if the policy wants that."""
    everybody: Population | None
    """Everybody's habits, which the risk of a sign-in is measured by; None measures none."""
    clock: Callable[[], int]
    entropy: Callable[[int], bytes]
    aead: Aead
    codec: Codec
    adopt: Adoption | None
    """How the sessions of another library are taken over, once each."""


class ManagerBase:
    """What both managers are made of: a `Context` that follows the keys, and the event sinks."""

    def __init__(
        self,
        *,
        keys: KeySource,
        policy: SessionPolicy | None = None,
        sinks: Iterable[EventSink] | None = None,
        locate: Callable[[str], Place] | None = None,
        consents: Callable[[RequestFacts], bool] | None = None,
        everybody: Population | None = None,
        clock: Callable[[], int] = system_clock,
        entropy: Callable[[int], bytes] = system_entropy,
        aead: Aead | None = None,
        codec: Codec | None = None,
        adopt: Adoption | None = None,
    ) -> None:
        self.policy = policy or SessionPolicy()
        self.clock = clock
        self._entropy = entropy
        if adopt is not None:
            adopt.check(clock())
        self.adoption = adopt
        self._sinks = _default_sinks() if sinks is None else tuple(sinks)
        self._locate = locate
        self._consents = None if consents is None else _agreed(consents)
        self._everybody = everybody or Population()
        self._uses = UsesOfSessions()
        self._sealer = Sealer(aead or AesGcm(), entropy)
        self._codec = codec or MsgpackCodec()
        self._keys = _key_source(keys)
        self._check_every = ms(self.policy.max_staleness)
        self._next_check = 0
        self._warned = False
        self._shown: set[str] = set()
        self._ring: Keyring | None = None
        self._changes_at: int | None = None
        self._context = self._refresh(clock())
        _warn_of_development(self.policy)

    @property
    def context(self) -> Context:
        """What flows are handed, with the keys as they are now (checked at most once a second)."""
        now = self.clock()
        if now >= self._next_check or now < self._next_check - self._check_every:
            self._context = self._refresh(now)
        return self._context

    @property
    def store_identity(self) -> bytes:
        """The 16 public bytes by which a store knows that it belongs to these keys."""
        return self._context.keys.store_identity

    def emit(self, events: Iterable[Event]) -> None:
        """Hand events to the sinks. One that fails is reported, and loses nothing."""
        for event in events:
            if isinstance(event, CrossSiteRefused):
                self._show_the_way(event)
            for sink in self._sinks:
                try:
                    sink(event)
                except Exception:
                    _log.exception("An event sink failed on %s", event.name)

    def warn_of_plain_http(self, facts: RequestFacts) -> None:
        """Say once that browsers drop a `Secure` cookie that comes over http."""
        if self._warned or self.policy.development or facts.scheme != "http":
            return
        self._warned = True
        _log.warning(
            "A Secure cookie was sent over http to %s, and browsers drop it: nobody stays signed "
            "in. Behind a proxy with https: SessionPolicy(proxies=TrustedProxies.of(...)). On this "
            "machine: SessionPolicy.for_development(). What is wrong says: strongroom doctor URL",
            facts.host or "an unknown host",
        )

    def _show_the_way(self, refused: CrossSiteRefused) -> None:
        """Say once for each rule what a developer does about it: the client is not told that."""
        decision = DECISIONS.get(refused.rule)
        if decision is None or refused.rule in self._shown:
            return
        self._shown.add(refused.rule)
        _log.warning(
            "A request to %r was refused with 403. %s If the request is your own: %s The rule is "
            "%s; this is said once for each rule, and every refusal is an event malicious_csrf.",
            refused.path,
            decision.reason,
            decision.hint,
            refused.rule,
        )

    def opened_without_store(self, visit: Visit, error: StoreError) -> Visit:
        """While the store is down: public routes go on without a session, others do not (H1)."""
        if not isinstance(error, UnreadableRecord):  # which has an event of its own
            visit.note(StoreFailed, session_id=None, subject=None, reason=error.code)
        self.emit(visit.take_events())
        public = flows.visit_without_store(visit.ctx, visit.facts)
        if public is None:
            raise error
        return public

    def bounded(self, store: S) -> S:
        """The store; one that may answer from memory is told how old an answer may be (H3)."""
        if isinstance(store, Near):
            store.keep_within(self.policy.max_staleness.total_seconds())
        return store

    def skew_told(self, skewed: ClockSkewed | None) -> int:
        """How far the store's clock is ahead (ms), told as an event where that is too far (E6)."""
        if skewed is None:
            return 0
        self.emit([skewed])
        return skewed.store_ahead_ms

    def _refresh(self, now: int) -> Context:
        self._next_check = 0  # Until this succeeds, every request asks again, and fails.
        ring = self._keys()
        due = self._changes_at is not None and now >= self._changes_at
        if ring is self._ring and not due:
            self._next_check = now + self._check_every
            return self._context
        mac = hmac_sha512 if self.policy.approved_only else blake2b_mac
        keys = ring.unlock(now, mac)
        if self._ring is not None and keys.store_identity != self._context.keys.store_identity:
            raise ConfigurationError(
                "The new keyring has another realm or store secret than the one in use.",
                why="Every subject would be looked up under another name.",
                hint="Restart on a store of its own, or put the old keyring back.",
            )
        self._ring, self._changes_at = ring, ring.changes_at(now)
        self._next_check = now + self._check_every
        cookies = _cookies(self.policy, keys.store_identity)
        session_cookie, pre_cookie, login_cookie, device_cookie = cookies
        return Context(
            policy=self.policy,
            clocks=self.policy.clocks,
            keys=keys,
            verified=VerifiedTokens(keys.tokens),
            sealer=self._sealer,
            codec=self._codec,
            entropy=self._entropy,
            now=self.clock,
            cookie=session_cookie,
            pre_cookie=pre_cookie,
            adoption=self.adoption,
            locate=self._locate,
            everybody=self._everybody,
            uses=self._uses,
            consents=self._consents,
            device_cookie=device_cookie,
            login_cookie=login_cookie,
        )


def said_plainly(error: ConfigurationError) -> ConfigurationError:
    """The error, once its sentence has a line of its own: a server prints it last, under a long
    traceback of code that is not what has to be changed."""
    _log.error("%s", error)
    return error.with_traceback(None)


def _default_sinks() -> tuple[EventSink, ...]:
    """JSON lines in the log, and the spikes among them."""
    log = LoggingSink()
    return log, SpikeSink(log)


def _key_source(keys: KeySource) -> Callable[[], Keyring]:
    if isinstance(keys, Keyring):
        return lambda: keys
    file = keys if isinstance(keys, KeyFile) else KeyFile(Path(keys))
    return file.current


def _cookies(
    policy: SessionPolicy, store_identity: bytes
) -> tuple[CookieSpec, CookieSpec, CookieSpec, CookieSpec]:
    """The cookies of session, pre-session, login and device, as browsers keep them (P18)."""
    # The hash comes from realm and store secret, so two applications on one host differ (F6).
    short = store_identity[:4].hex()
    secure = not policy.development
    name = policy.cookie_name or cookie_name("id", short, secure=secure)
    session_cookie = CookieSpec(name=name, secure=secure, same_site=policy.same_site)
    pre_cookie = CookieSpec(
        name=cookie_name("pre", short, secure=secure), secure=secure, same_site="Lax"
    )
    login_cookie = CookieSpec(
        name=cookie_name("remember", short, secure=secure),
        secure=secure,
        same_site=policy.same_site,
    )
    device_cookie = CookieSpec(
        name=cookie_name("device", short, secure=secure), secure=secure, same_site="Lax"
    )
    for each in (session_cookie, pre_cookie, login_cookie, device_cookie):
        each.check()
    return session_cookie, pre_cookie, login_cookie, device_cookie


def _agreed(asked: Callable[[RequestFacts], bool]) -> Callable[[RequestFacts], bool]:
    """The application's answer; where it fails, nobody has agreed."""

    def consents(facts: RequestFacts) -> bool:
        try:
            return bool(asked(facts))
        except Exception:
            _log.exception("consents() failed, so this visitor gets no device cookie")
            return False

    return consents


def _warn_of_development(policy: SessionPolicy) -> None:
    if policy.development:
        _log.warning(
            "This is the development policy: cookies without Secure and without the __Host- "
            "prefix, for http://localhost only. Production wants SessionPolicy() and https."
        )
