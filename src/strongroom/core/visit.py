"""One request in one session: what was presented, what it was found to be, what must still be done.

A `Visit` is the only mutable thing in the core. Flows (`flows/`) read and change it; the public
`Session` is a face on it. Its `Context` is fixed when the request begins, so that a key that is
rotated in the middle cannot split a request in two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from .adoption import Adoption
from .circumstances import Circumstances, major_version
from .cookies import CookieSpec, find_cookies
from .credentials import Credential, Verdict, judge
from .csrf import is_cross_site
from .csrf_tokens import (
    MASK_BYTES,
    PRE_SESSION_BYTES,
    TokenCheck,
    judge_token,
    mint_token,
    pre_session_binding,
    secret_text,
    session_binding,
)
from .data import Encoded, SessionData
from .data_seals import DataSeals
from .devices import describe
from .errors import SessionReadOnly
from .events import Event
from .exchange import RequestFacts
from .known_devices import DeviceMark, device_of
from .places import UNKNOWN, Place
from .policy import Clocks, SessionPolicy
from .policy import judge as judge_clocks
from .record import (
    EPOCH_BYTES,
    AuthenticationEvent,
    Device,
    EndReason,
    Header,
    Identity,
    Kind,
    Record,
    open_identity,
    seal_identity,
)
from .remembered import LoginCookie, Presented, find_logins
from .responses import Response
from .risk import Population
from .sealing import Codec, Sealer, UnlockedKeys
from .tokens import Token, VerifiedTokens
from .uses import Uses, UsesOfSessions

MAX_OPENED = 4096
"""Identities kept open: about 1 KiB each, and far more than one process serves at a time."""


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that flows are handed: policy, keys, and the effects that the core cannot have."""

    policy: SessionPolicy
    clocks: Clocks
    keys: UnlockedKeys
    verified: VerifiedTokens
    sealer: Sealer
    codec: Codec
    entropy: Callable[[int], bytes] = field(repr=False)
    now: Callable[[], int]
    cookie: CookieSpec
    pre_cookie: CookieSpec
    adoption: Adoption | None = None
    locate: Callable[[str], Place] | None = None
    """Where an address seems to be; never raises. None where there is no database."""
    everybody: Population | None = None
    """Everybody's habits, for the risk of a sign-in."""
    uses: UsesOfSessions = field(default_factory=UsesOfSessions, repr=False)
    consents: Callable[[RequestFacts], bool] | None = None
    """Whether a visitor agreed to the device cookie; never raises."""
    device_cookie: CookieSpec = field(default_factory=lambda: CookieSpec("__Host-device"))
    login_cookie: CookieSpec = field(default_factory=lambda: CookieSpec("__Host-remember"))
    opened: dict[bytes, tuple[bytes, Identity]] = field(
        default_factory=dict[bytes, tuple[bytes, Identity]], repr=False
    )
    """Identities by session id, each with the envelope that it came from. Lives as long as the
    keys: another keyring makes another context."""

    def fresh(self) -> bytes:
        """A random revision, data version or epoch."""
        return self.entropy(EPOCH_BYTES)

    def open_identity(self, record: Record) -> Identity | None:
        """See `record.open_identity`. The same envelope is opened once."""
        known = self.opened.get(record.session_id)
        if (
            known is not None
            and known[0] == record.envelope
            and known[1].kind == record.header.kind
        ):
            return known[1]
        identity = open_identity(record, keys=self.keys, sealer=self.sealer, codec=self.codec)
        if identity is not None:
            if len(self.opened) >= MAX_OPENED:
                self.opened.clear()
            self.opened[record.session_id] = record.envelope, identity
        return identity

    def judge(self, credential: Credential, token: Token, now: int) -> Verdict:
        """See `credentials.judge`, with the policy's durations."""
        return judge(credential, token, now, self.clocks.grace, self.clocks.settle)

    def over(
        self, header: Header, identity: Identity, now: int, store_epoch: bytes
    ) -> EndReason | None:
        """Why a session is over, or None while it lives: see `policy.judge`."""
        return judge_clocks(header, identity, now, clocks=self.clocks, store_epoch=store_epoch)

    def seal_identity(self, identity: Identity, session_id: bytes) -> bytes:
        """See `record.seal_identity`."""
        return seal_identity(
            identity, session_id, keys=self.keys, sealer=self.sealer, codec=self.codec
        )

    data_seals: DataSeals = field(init=False, repr=False)
    """How session data is sealed and opened."""

    def __post_init__(self) -> None:
        seals = DataSeals(self.policy, self.keys, self.sealer, self.codec)
        object.__setattr__(self, "data_seals", seals)

    def seal_data(self, values: Encoded, session_id: bytes, root: bytes) -> bytes:
        """See `data_seals.DataSeals.seal`."""
        return self.data_seals.seal(values, session_id, root)

    def open_data(self, record: Record, root: bytes) -> Encoded:
        """See `data_seals.DataSeals.open`."""
        return self.data_seals.open(record, root)


@dataclass(frozen=True, slots=True)
class Attempt:
    """Checking somebody's credentials, from its beginning: the epoch counts from here (P15)."""

    subject: str
    epoch: bytes
    store_epoch: bytes
    began_at: int


class Visit:
    """The state of one request. `record` and `identity` are None where nobody has a session.

    What most requests never change is a default of the class, so that beginning one is cheap.
    """

    record: Record | None = None
    identity: Identity | None = None
    token: Token | None = None
    """The token that opens the session now: the one presented, or one made in this request."""
    verdict: Verdict | None = None
    standing: Record | None = None
    """The record as whoever looks after open sockets last saw it."""
    verified = True
    """Whether the record is the store's own word of this request, not a near cache's (H2)."""
    refusal: EndReason | str | None = None
    """Why a presented cookie did not open a session."""
    issue: Token | None = None
    """The token to hand out, if the record still agrees when the response starts."""
    aborts: Record | None = None
    """A session that this request made, which ends if its response fails (E1)."""
    orphan: Token | None = None
    """A token refused because of a rotation: signing in again ends its session (D2)."""
    attempt: Attempt | None = None
    attempt_open = False
    """Credentials are being checked, and nobody has been signed in yet."""
    cookie_locked = False
    """Nothing but a sign-in may set the session cookie on this response."""
    clear_cookie = False
    tossed = False
    signed_out = False
    adopted: str | None = None
    """The old cookie's value, where this request took another library's session over."""
    forgets_old = False
    """Whoever asked to be signed out must not come back by an old cookie."""
    renew_asked = False
    start_allowed = False
    touch_every: int | None = None
    """Note activity this often (ms), where the session ends earlier than the policy says."""
    unavailable = False
    excluded = False
    seen = False
    csrf_token_used = False
    pre_session: bytes | None = None
    pre_session_new = False
    response_started = False
    answer_to_use: frozenset[Response] | None = None
    """What follows from how this request looks, once it was looked at."""
    lowered = False
    """Whether it looks so unlike it that the session's assurance is lower here."""
    device_mark: DeviceMark | None = None
    """What becomes of the device cookie; None where nobody asked for it."""
    data_version = b""
    """Which version `data` was loaded from; `record` may know a newer one by now (P7)."""
    _data: SessionData | None = None
    _entered: Record | None = None
    """The record that `data` is loaded from."""

    def __init__(self, ctx: Context, facts: RequestFacts) -> None:
        self.ctx = ctx
        self.facts = facts
        self.opened_at = ctx.now()
        self.events: list[Event] = []
        self.login = LoginCookie()
        """What becomes of the persistent login's cookie (D6)."""
        self.superseded: list[bytes] = []
        self.state_cookies: dict[str, bytes] = {}
        """Set-Cookie values of sign-ins by way of a provider, by the cookie's name (C6)."""

    @property
    def data(self) -> SessionData:
        """What the session holds, as the application sees it; made when somebody first looks."""
        if self._data is None:
            self._data = SessionData(self.ctx.codec, self._loader(), self.check_may_write)
        return self._data

    @data.setter
    def data(self, data: SessionData) -> None:
        self._data = data

    @property
    def has_unsaved_data(self) -> bool:
        """Whether something was assigned or deleted since the last save."""
        return self._data is not None and self._data.assigned

    @property
    def has_data(self) -> bool:
        """Whether anybody looked at `data`."""
        return self._data is not None

    def _loader(self) -> Callable[[], Encoded]:
        """What opens the data of the record that was entered, whatever the visit learns later."""
        ctx, record, token = self.ctx, self._entered, self.token
        if record is None or token is None:
            return dict[str, bytes]
        return lambda: ctx.open_data(record, token.root)

    @property
    def kind(self) -> Kind:
        """The session's kind; a visitor without one is anonymous."""
        return Kind.ANONYMOUS if self.identity is None else self.identity.kind

    @property
    def subject(self) -> str | None:
        """Who is signed in. A pending session has no subject yet."""
        if self.identity is None or not self.identity.kind.is_signed_in:
            return None
        return self.identity.subject

    @property
    def session_id(self) -> str | None:
        """The public session id, or None where nothing is stored."""
        return None if self.record is None else self.record.session_id.hex()

    @property
    def factors(self) -> tuple[AuthenticationEvent, ...]:
        """The authentication events of a signed-in session."""
        if self.identity is None or not self.identity.kind.is_signed_in:
            return ()
        return self.identity.events

    @property
    def is_doubtful(self) -> bool:
        """Whether something looked wrong at the sign-in, or looks wrong in this request."""
        return self.lowered or (self.identity is not None and self.identity.circumstances.lowered)

    @property
    def uses(self) -> Uses:
        """What this process has seen of the session in use."""
        return self.ctx.uses.of(b"" if self.record is None else self.record.session_id)

    @property
    def address(self) -> str | None:
        """The client's address as far as the policy keeps it."""
        match self.ctx.policy.keep_address:
            case "full":
                return self.facts.client
            case "network":
                return self.device().network or None
            case _:
                return None

    def circumstances(self) -> Circumstances:
        """What this request looks like beside its device."""
        locate, client = self.ctx.locate, self.facts.client
        place = UNKNOWN if locate is None or client is None else locate(client)
        return Circumstances(major_version(self.facts.user_agent), place)

    def enter(self, record: Record, identity: Identity, token: Token) -> None:
        """From here on the request is in this session."""
        self.record, self.identity, self.token = record, identity, token
        self.verified = True
        self.data_version = record.header.data_version
        self._entered, self._data = record, None

    def leave(self) -> None:
        """From here on the request is in no session, and nothing it held remains."""
        self.record = self.identity = self.token = self.verdict = self.issue = None
        self._entered = self._data = None

    def device(self) -> Device:
        """The client's device, as far as it says."""
        facts = self.facts
        device = describe(
            facts.user_agent,
            facts.client,
            facts.hint(b"sec-ch-ua"),
            facts.hint(b"sec-ch-ua-platform"),
        )
        return replace(device, network="") if self.ctx.policy.keep_address == "none" else device

    def mark(self) -> DeviceMark:
        """What the request says of the device cookie; looked for once, and only if asked."""
        if self.device_mark is None:
            keys, allowed = self.ctx.keys, self._may_know_device()
            values = find_cookies(self.facts.cookies, self.ctx.device_cookie.wire_name)
            device = device_of(values, keys.device, keys.mac) if allowed else None
            self.device_mark = DeviceMark(allowed=allowed, sent=bool(values), device=device)
        return self.device_mark

    def device_reference(self, subject: str) -> str:
        """The device cookie's reference with this subject; empty where there is none."""
        device = self.mark().device
        return "" if device is None else device.reference(subject)

    def _may_know_device(self) -> bool:
        policy, consents = self.ctx.policy, self.ctx.consents
        if policy.know_devices_for is None:
            return False
        if not policy.devices_need_consent:
            return True
        return consents is not None and consents(self.facts)

    def note(self, event: type[Event], **details: Any) -> None:
        """Remember an event; it reaches the sinks after the response."""
        base: dict[str, Any] = {
            "at": self.ctx.now(),
            "session_id": self.session_id,
            "subject": None if self.identity is None else self.identity.subject,
            "address": self.address,
            "device": self.device().label,
        }
        self.events.append(event(**{**base, **details}))

    @property
    def logins(self) -> Presented:
        """The persistent logins that the request presents; looked for once, and only if asked."""
        if self.login.presented is None:
            ctx = self.ctx
            name = ctx.login_cookie.wire_name
            self.login.presented = find_logins(self.facts.cookies, name, ctx.keys.tokens)
        return self.login.presented

    def judge_csrf_token(self, presented: str | None, form: str = "") -> TokenCheck:
        """What the presented token is worth in this session, or before there is one (G2)."""
        keys = self.ctx.keys
        if self.record is not None:
            binding = session_binding(self.record.session_id, self.kind)
            check = judge_token(keys.csrf, binding, form, presented, mac=keys.mac)
            # A form that was shown before the first thing was stored still works afterwards.
            if check != "invalid" or self.kind is not Kind.ANONYMOUS:
                return check
        value = self._pre_session_cookie()
        bound = None if value is None else pre_session_binding(value)
        return judge_token(keys.pre_session, bound, form, presented, mac=keys.mac)

    def mint_csrf_token(self, form: str = "") -> str:
        """A masked token for this session; before there is one, for a cookie of its own (G2)."""
        self.csrf_token_used = True
        keys, mask = self.ctx.keys, self.ctx.entropy(MASK_BYTES)
        key_id = keys.issuing
        if self.record is not None:
            binding = session_binding(self.record.session_id, self.kind)
            return mint_token(keys.csrf[key_id], key_id, binding, form, mask, mac=keys.mac)
        value = self.pre_session or self._pre_session_cookie()
        if value is None:
            value = self.ctx.entropy(PRE_SESSION_BYTES)
            self.pre_session_new = True
        self.pre_session = value
        binding = pre_session_binding(value)
        return mint_token(keys.pre_session[key_id], key_id, binding, form, mask, mac=keys.mac)

    def framework_secrets(self, fresh: bytes) -> list[str]:
        """The secrets of a framework's own form tokens here, the issuing key's first (G2).

        Bound as our own tokens are: to the session and its kind, or before there is one to the
        pre-session cookie, which is `fresh` where the visitor has none yet.
        """
        keys = self.ctx.keys
        if self.record is not None:
            ring, binding = keys.csrf, session_binding(self.record.session_id, self.kind)
        else:
            value = self.pre_session or self._pre_session_cookie() or fresh
            ring, binding = keys.pre_session, pre_session_binding(value)
        ids = sorted(ring, key=lambda key_id: key_id != keys.issuing)
        return [secret_text(ring[key_id], binding, mac=keys.mac) for key_id in ids]

    def use_framework_secret(self, fresh: bytes) -> None:
        """A form with such a token is on the response: give the visitor what it is bound to."""
        self.csrf_token_used = True
        if self.record is None and self._pre_session_cookie() is None and self.pre_session is None:
            self.pre_session, self.pre_session_new = fresh, True

    @property
    def has_pre_session(self) -> bool:
        """Whether the request brought a pre-session cookie."""
        return self._pre_session_cookie() is not None

    def _pre_session_cookie(self) -> bytes | None:
        """The one value of the pre-session cookie; several, or a wrong shape, are none."""
        found = find_cookies(self.facts.cookies, self.ctx.pre_cookie.wire_name)
        if len(set(found)) != 1 or len(found[0]) != 2 * PRE_SESSION_BYTES:
            return None
        try:
            return bytes.fromhex(found[0].decode("ascii"))
        except ValueError:
            return None

    def take_events(self) -> list[Event]:
        """The events so far; the visit forgets them."""
        taken, self.events = self.events, []
        return taken

    def now_holds(self, record: Record) -> None:
        """A write changed the record: this is how it is now."""
        self.record = record
        if self.identity is not None and self.identity.kind is not record.header.kind:
            self.identity = replace(self.identity, kind=record.header.kind)

    def check_may_write(self) -> None:
        """Refuse to write where nothing that is written can be kept.

        Raises:
            SessionReadOnly: it names the way that works.
        """
        if self.unavailable:
            raise SessionReadOnly(
                "The session cannot be written while its store does not answer.",
                why="What was written would be lost.",
                hint="Check session.unavailable before writing on a public route.",
            )
        if self.excluded:
            raise SessionReadOnly(
                "This route is excluded from sessions by the policy.",
                why="Nothing was read, so nothing can be written.",
                hint="Take the path out of Routes(excluded=...) if it needs a session.",
            )
        if self.record is not None:
            return
        if self.facts.websocket:
            raise SessionReadOnly(
                "A WebSocket cannot start a session.",
                why="Its handshake cannot set the cookie that would open it.",
                hint="Start the session in a normal request before the socket is opened.",
            )
        if self.response_started:
            raise SessionReadOnly(
                "The response has started, so no session can begin any more.",
                why="The cookie that would open it cannot be set.",
                hint="Write to the session before the response is returned.",
            )
        self.check_may_start()

    def check_may_start(self) -> None:
        """Refuse to begin a session where the one that the user has cannot be seen (F2).

        Raises:
            SessionReadOnly: it names the way that works.
        """
        if self.record is None and self.cookie_may_be_at_home and not self.start_allowed:
            raise SessionReadOnly(
                "This request came from another site without our cookie, so the user's session "
                "cannot be seen.",
                why="Starting a new one would replace the session that they have.",
                hint="Redirect to a page of ours first, or call session.start_new() "
                "if replacing it is what you want.",
            )

    @property
    def cookie_may_be_at_home(self) -> bool:
        """A cross-site unsafe request: a Lax cookie stays at home, and so proves nothing (F2)."""
        return not self.facts.is_safe and is_cross_site(self.facts, self.ctx.policy.csrf)
