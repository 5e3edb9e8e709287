"""`SessionStore`: Django's `request.session`, on a Strongroom session.

The record is read when the request begins, so looking at data and changing it waits for nobody, in
`async def` too. What changes a session's standing acts on the store when it is called: `cycle_key`,
`flush`, `create`, `save`, `delete`, and login, which is what assigning `_auth_user_id` means.

Made by hand, outside of any request, it is a session of its own: `SessionStore()` a new one,
`SessionStore(value of the cookie)` the one that the cookie opens. `session_key` is the public id,
never what opens the session, so `SessionStore(session_key)` can tell whether a session lives and
end it, and cannot read it.
"""

from __future__ import annotations

# Django ships no types: what is inherited from it is unknown to the type checkers.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NoReturn, TypeVar

from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.core.exceptions import SynchronousOnlyOperation

from strongroom.actions import Action, Runner
from strongroom.core import flows
from strongroom.core.data import SessionData
from strongroom.core.errors import ConfigurationError, SessionEnded, UsageError
from strongroom.core.exchange import RequestFacts
from strongroom.core.ops import Flow
from strongroom.core.record import EndReason
from strongroom.core.visit import Visit
from strongroom.integrations.exchange_sync import Exchange
from strongroom.manager import visit_of
from strongroom.running import Awaitable
from strongroom.session import Session

from . import expiry, runtime, testing
from .options import Options
from .variants import AsyncVariants

R = TypeVar("R")

USER_KEY = "_auth_user_id"
"""django.contrib.auth.SESSION_KEY; importing that module needs the applications to be loaded."""

_PUBLIC_ID_LENGTH = 32


class SessionStore(AsyncVariants, SessionBase):
    """The session of one request, or one made by hand; see the module."""

    def __init__(self, session_key: str | None = None) -> None:
        self._given = session_key
        self._session_of_request: Session | None = None
        self._runner: Runner | None = None
        self._exchange: Exchange | None = None
        self.modified = False
        """Whether something was assigned. Changes within a list or dict are found without it."""
        self.options: Options
        self.login_factors: tuple[str, ...] | None = None
        """What the next login proves, as RFC 8176 values; None is what STRONGROOM says."""

    @classmethod
    def of_request(cls, session: Session, runner: Runner, options: Options) -> SessionStore:
        """The store of a request; `runner` acts on its session."""
        made = cls()
        made._session_of_request, made._runner = session, runner
        made.options = options
        return made

    # What is beneath.

    @property
    def strongroom(self) -> Session:
        """The same session with everything that Strongroom can do with it."""
        return self._opened()

    def _opened(self) -> Session:
        """The session, without a note that anybody looked."""
        if self._session_of_request is None:
            self._session_of_request = self._open_by_hand()
        return self._session_of_request

    def _open_by_hand(self) -> Session:
        """Open what the given cookie value opens, or a new session."""
        serving = runtime.current()
        self.options = serving.options
        name, value = serving.cookie_name, self._given or ""
        value = testing.token_for(value) or value
        cookie = [(b"cookie", f"{name}={value}".encode("latin-1", "replace"))] if value else []
        facts = RequestFacts(method="GET", headers=[(b"host", b"localhost"), *cookie])
        self._exchange = serving.serving.open(facts)
        self._runner = serving.manager
        serving.manager.run("open", expiry.end_if_expired(self._exchange.visit)).result()
        return self._exchange.session

    @property
    def _visit(self) -> Visit:
        return visit_of(self._opened())

    def _get_session(self, no_load: bool = False) -> SessionData:
        del no_load
        visit = self._visit
        visit.seen = True
        if self._exchange is not None and visit.record is None:
            self._refuse_public_id()
        return visit.data

    async def _aget_session(self, no_load: bool = False) -> SessionData:
        return self._get_session(no_load)

    _session = property(_get_session)

    def _refuse_public_id(self) -> None:
        given = self._given or ""
        if len(given) != _PUBLIC_ID_LENGTH or not self.exists(given):
            return
        raise UsageError(
            "A session cannot be read by its session_key.",
            why="The session_key is public; the data opens only with the cookie of a request.",
            hint="Keep what other processes need in the database, or see server_sealed in the "
            "policy. exists() and delete() work with a session_key.",
        )

    # Acting.

    def _act(self, name: str, flow: Flow[R]) -> Action[R]:
        self._opened()
        assert self._runner is not None  # noqa: S101 - whoever opened it gave one
        return self._runner.run(name, flow)

    def _now(self, name: str, flow: Flow[R]) -> R:
        """Do it at once.

        Raises:
            SynchronousOnlyOperation: on an event loop this would hold up every other request.
        """
        action = self._act(name, flow)
        if isinstance(action, Awaitable):
            action.abandon()
            raise SynchronousOnlyOperation(
                f"request.session.{name}() waits for the session store, and was called in "
                f"`async def`. Nothing happened. Write: await request.session.a{name}() (for "
                "login() and logout(): await alogin(...), await alogout(...))."
            )
        return action.result()

    async def _later(self, name: str, flow: Flow[R]) -> R:
        return await self._act(name, flow)

    # Data.

    def __setitem__(self, key: str, value: Any) -> None:
        if key == USER_KEY:
            self._now("login", self._login(value))
        self._session[key] = value
        self.modified = True

    async def aset(self, key: str, value: Any) -> None:
        """Assign; a user's id signs the user in."""
        if key == USER_KEY:
            await self._later("login", self._login(value))
        self._session[key] = value
        self.modified = True

    def __delitem__(self, key: str) -> None:
        del self._session[key]
        self.modified = True

    def pop(self, key: str, *default: Any, **named: Any) -> Any:
        """Take a value out."""
        self.modified = self.modified or key in self._session
        return self._session.pop(key, *default, *named.values())

    def update(self, dict_: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Assign each."""
        for key, value in dict(dict_).items():
            self[key] = value

    def clear(self) -> None:
        """Delete all data; whoever was signed in is signed out with this response."""
        self._session.clear()
        self.modified = True

    @property
    def accessed(self) -> bool:
        """Whether the response depends on the session (Vary: Cookie)."""
        return self._session_of_request is not None and self._visit.seen

    @accessed.setter
    def accessed(self, value: bool) -> None:
        self._visit.seen = value

    def is_empty(self) -> bool:
        """Whether nothing is stored and there is nothing to store."""
        visit = self._visit
        return visit.record is None and not visit.data

    def encode(self, session_dict: Mapping[str, Any]) -> NoReturn:
        """There is no text form of a session."""
        del session_dict
        raise _no_text_form()

    def decode(self, session_data: str) -> NoReturn:
        """There is no text form of a session."""
        del session_data
        raise _no_text_form()

    # The key, and what is done with it.

    @property
    def session_key(self) -> str | None:
        """The public id: safe in logs and lists. None while nothing is stored."""
        return self._visit.session_id

    _session_key = session_key

    def cycle_key(self) -> None:
        """Replace what opens the session, and keep its data."""
        self._now("cycle_key", self._cycle())

    async def acycle_key(self) -> None:
        """See `cycle_key`."""
        await self._later("cycle_key", self._cycle())

    def flush(self) -> None:
        """End the session on the server, and begin anew without data."""
        self._now("flush", self._flush())

    async def aflush(self) -> None:
        """See `flush`."""
        await self._later("flush", self._flush())

    def create(self) -> None:
        """Store a session now, so that it has a key."""
        self._now("create", self._create())

    async def acreate(self) -> None:
        """See `create`."""
        await self._later("create", self._create())

    def save(self, must_create: bool = False) -> None:
        """Write what changed now.

        Raises:
            UpdateError: the session has ended; nothing brings it back.
        """
        try:
            self._now("save", self._create() if must_create else self._save())
        except SessionEnded as error:
            raise self._gone(error) from error
        self._by_hand_done()

    async def asave(self, must_create: bool = False) -> None:
        """See `save`."""
        try:
            await self._later("save", self._create() if must_create else self._save())
        except SessionEnded as error:
            raise self._gone(error) from error
        self._by_hand_done()

    def delete(self, session_key: str | None = None) -> None:
        """End this session, or the one with that key."""
        self._now("delete", self._delete(session_key))
        self._by_hand_done()

    async def adelete(self, session_key: str | None = None) -> None:
        """See `delete`."""
        await self._later("delete", self._delete(session_key))
        self._by_hand_done()

    def exists(self, session_key: str | None) -> bool:
        """Whether a session lives under this key."""
        return self._now("exists", flows.is_live(self._visit.ctx, session_key or ""))

    async def aexists(self, session_key: str | None) -> bool:
        """See `exists`."""
        return await self._later("exists", flows.is_live(self._visit.ctx, session_key or ""))

    def load(self) -> dict[str, Any]:
        """All data."""
        return dict(self._session)

    @classmethod
    def clear_expired(cls) -> None:
        """Remove what may be forgotten; `manage.py clearsessions` calls it."""
        runtime.current().opened().sweep()

    @classmethod
    async def aclear_expired(cls) -> None:
        """See `clear_expired`."""
        await runtime.current().async_manager().sweep()

    # Expiry.

    def get_session_cookie_age(self) -> int:
        """The policy's idle timeout in seconds."""
        return expiry.age(self._visit, None, None)

    def set_expiry(self, value: int | float | datetime | timedelta | None) -> None:
        """End the session earlier than the policy would; see docs/django.md."""
        if value is not None:
            self[expiry.EXPIRY_KEY] = expiry.kept(value)
        elif expiry.EXPIRY_KEY in self:
            del self[expiry.EXPIRY_KEY]

    def get_expiry_age(self, **given: Any) -> int:
        """Seconds until the session expires if it is not used."""
        own = given["expiry"] if "expiry" in given else self.get(expiry.EXPIRY_KEY)
        return expiry.age(self._visit, own, given.get("modification"))

    def get_expiry_date(self, **given: Any) -> datetime:
        """When the session expires if it is not used."""
        own = given["expiry"] if "expiry" in given else self.get(expiry.EXPIRY_KEY)
        return expiry.date(self._visit, own, given.get("modification"))

    def get_expire_at_browser_close(self) -> bool:
        """True: the session cookie never outlives the browser."""
        return True

    # Flows.

    def begin_attempt(self, subject: str) -> None:
        """Credentials of this account are about to be checked (`backends`, P15)."""
        self._now("authenticate", self._begin_attempt(subject))

    async def abegin_attempt(self, subject: str) -> None:
        """See `begin_attempt`."""
        await self._later("authenticate", self._begin_attempt(subject))

    def _begin_attempt(self, subject: str) -> Flow[None]:
        self._visit.attempt = yield from flows.begin_attempt(self._visit, subject)

    def _login(self, user_id: object) -> Flow[None]:
        """Whoever writes the user's id into the session signs the user in (P10)."""
        visit, named = self._visit, self.options.carry_over
        carry = tuple(key for key in visit.data if named is None or key in named)
        if visit.subject is not None:
            carry = tuple(visit.data)
        factors = self.login_factors or self.options.factors
        yield from flows.sign_in(visit, str(user_id), factors, carry=carry)

    def _flush(self) -> Flow[None]:
        self._visit.seen = True  # The response says Vary: Cookie, as Django promises.
        yield from flows.sign_out(self._visit)
        self.modified = True

    def _cycle(self) -> Flow[None]:
        yield from flows.cycle(self._visit)
        if self._exchange is not None:
            yield from flows.commit(self._visit)  # No response will end the old one.

    def _create(self) -> Flow[None]:
        if self._visit.record is None:
            yield from flows.begin_anonymous(self._visit)
        else:
            yield from self._cycle()
        self.modified = True

    def _save(self) -> Flow[None]:
        visit = self._visit
        if visit.record is None:
            yield from flows.begin_anonymous(visit)
        elif self._exchange is None:
            yield from flows.save(visit)
        if self._exchange is not None:
            yield from flows.commit(visit)

    def _delete(self, session_key: str | None) -> Flow[None]:
        visit = self._visit
        if session_key is None or session_key == visit.session_id:
            yield from flows.sign_out(visit)
        else:
            yield from flows.end_by_id(visit.ctx, session_key, EndReason.OPERATOR)

    def before_response(self) -> Flow[None]:
        """A session whose user's id was deleted from the data is signed in no more."""
        visit = self._visit
        if visit.subject is None or not visit.data.assigned:
            return
        if USER_KEY in visit.data or USER_KEY not in visit.data.stored:
            return
        left = dict(visit.data)
        yield from flows.sign_out(visit)
        for key, value in left.items():
            visit.data[key] = value

    def _gone(self, error: SessionEnded) -> UpdateError:
        """The session has ended: made by hand, it is empty from here on, as nobody is shown it."""
        if self._exchange is not None:
            self._visit.leave()
        return UpdateError(str(error))

    def _by_hand_done(self) -> None:
        """Outside of a request nobody delivers the events but we."""
        if self._exchange is not None:
            testing.remember(self._visit)
            events = self._visit.take_events()
            if events:
                self._exchange.manager.deliver(events)


def session_of(request: Any) -> Session:
    """The session of a request, with its type and everything that Strongroom can do with it.

    Raises:
        ConfigurationError: the middleware is missing, or another one is in its place.
    """
    store = getattr(request, "session", None)
    if not isinstance(store, SessionStore):
        raise ConfigurationError(
            "This request has no Strongroom session.",
            why="The middleware is missing, or another session middleware is in its place.",
            hint="Put 'strongroom.integrations.django.middleware.SessionMiddleware' into "
            "MIDDLEWARE instead of Django's SessionMiddleware.",
        )
    return store.strongroom


def _no_text_form() -> UsageError:
    return UsageError(
        "A Strongroom session has no text form that could be encoded or decoded.",
        why="What is stored is sealed, and opens only with the cookie of a request.",
        hint="Use the session as a mapping: dict(request.session.items()).",
    )
