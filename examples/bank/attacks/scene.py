"""A scene: people with browsers, the requests that they send, and the transcript of it.

What stands in a transcript was observed. The one thing that a play says beforehand is how each step
should come out; where it comes out otherwise, the transcript says so.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum

from starlette.types import ASGIApp

from strongroom.core.csrf import DECISIONS
from strongroom.core.events import Event
from strongroom.testing import FrozenClock

from .watching import watching
from .wire import ORIGIN, Answer, send

ALICE, MALLORY = "Alice", "Mallory"
PASSWORD = "the heron waits for the tide"  # noqa: S105 - of accounts that live for a second
_LAPTOP = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
_SHOWN = 6
_AT_HOME = {"accept": "text/html", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


class Outcome(Enum):
    """How a request comes out, as the person at the browser sees it."""

    IN = "let in"
    OUT = "asked to sign in"
    REFUSED = "refused"
    UNREADABLE = "nobody is let in"
    DONE = "done"
    SHOWN = "shown the page"
    OTHER = "something else"


@dataclass(frozen=True, slots=True)
class Heard:
    """An event: its name, what it says of itself, and whether an operator is warned by it."""

    name: str
    about: str
    warns: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a transcript. Those without a request only tell what changed meanwhile."""

    who: str
    does: str
    request: str | None = None
    said: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()
    status: int | None = None
    outcome: Outcome | None = None
    expected: Outcome | None = None
    answer: str = ""
    jar: str | None = None
    events: tuple[Heard, ...] = ()
    reads: int = 0
    writes: int = 0
    why: str = ""
    promise: str | None = None

    @property
    def as_expected(self) -> bool:
        """Whether it came out as the play said it should."""
        return self.outcome is self.expected


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be true in the end, and whether it was."""

    what: str
    held: bool


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A column of the stolen row: how much there is, how it begins, what a thief can do with it."""

    column: str
    size: str
    begins: str
    what: str


@dataclass(slots=True)
class Transcript:
    """What was played and how it ended."""

    steps: list[Step] = field(default_factory=list[Step])
    exhibits: list[Exhibit] = field(default_factory=list[Exhibit])
    checks: list[Check] = field(default_factory=list[Check])

    @property
    def holds(self) -> bool:
        """Whether every step and every check came out as it should."""
        steps = all(step.as_expected for step in self.steps)
        return bool(self.checks) and steps and all(check.held for check in self.checks)


@dataclass(slots=True)
class Person:
    """Somebody with an account of their own and a browser with one cookie jar."""

    name: str
    username: str
    jar: dict[str, str] = field(default_factory=dict[str, str])
    session_id: str = ""

    @property
    def key(self) -> str:
        """The session cookie in the jar, or nothing."""
        return next((value for name, value in self.jar.items() if name.startswith("id-")), "")


class Scene:
    """Where an attack is played: one application, and what is written down of it."""

    def __init__(self, app: ASGIApp, clock: FrozenClock | None = None) -> None:
        self.app = app
        self.clock = clock
        self.transcript = Transcript()
        self.people: list[Person] = []
        self.cookie_name = ""
        self._labels: dict[str, str] = {}

    # What a play is made of.

    async def account(self, name: str) -> Person:
        """Somebody opens an account, and is signed in by that."""
        person = Person(name, f"{name.lower()}-{secrets.token_hex(3)}")
        self.people.append(person)
        fields = {
            "username": person.username,
            "name": name,
            "email": f"{person.username}@example.org",
            "new_password": PASSWORD,
            "again": PASSWORD,
        }
        await self.request(
            person,
            "POST",
            "/sign-up",
            f"{name} opens an account, made for this attack only, and is signed in.",
            fields=fields,
            expect=Outcome.DONE,
            why=f"A new session begins. Its key goes to {name}’s browser and nowhere else.",
        )
        return person

    async def sign_in(self, person: Person, does: str, why: str, promise: str | None) -> Answer:
        """Somebody fills in the sign-in form."""
        fields = {"username": person.username, "password": PASSWORD}
        return await self.request(
            person,
            "POST",
            "/sign-in",
            does,
            fields=fields,
            expect=Outcome.DONE,
            why=why,
            promise=promise,
        )

    async def request(
        self,
        who: Person,
        method: str,
        path: str,
        does: str,
        *,
        expect: Outcome,
        why: str,
        promise: str | None = None,
        cookies: Sequence[str] | None = None,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str | None] | None = None,
        whose: Person | None = None,
    ) -> Answer:
        """A request, sent and written down.

        Without `cookies` it is the person's own browser, whose jar takes what the answer sets. With
        them they are session cookies sent by hand, and what the answer sets is kept by nobody.
        `whose` is the account that "let in" means; without it, the person's own.
        """
        sent: dict[str, str | None] = {**_AT_HOME, "user-agent": _LAPTOP}
        sent["sec-fetch-site"] = "same-origin" if fields is not None else "none"
        sent |= headers or {}
        jar = dict(who.jar) if cookies is None else {}
        pairs = list(jar.items()) + [(self.cookie_name, value) for value in cookies or ()]
        if pairs:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in pairs)
        given = {name: value for name, value in sent.items() if value is not None}
        with watching() as seen:
            answer = await send(self.app, method, path, given, fields)
        change = self._take(answer, who, keep=cookies is None)
        for event in seen.events:
            if event.name == "session_created" and event.session_id and cookies is None:
                who.session_id = event.session_id
        keys = [value for name, value in pairs if name.startswith("id-")]
        self._write(
            Step(
                who=who.name,
                does=does,
                request=f"{method} {path}",
                said=_said(given),
                cookies=tuple(self._shown(value) for value in keys),
                status=answer.status,
                outcome=_outcome(answer, whose or who),
                expected=expect,
                answer=_told(answer),
                jar=change,
                events=tuple(_heard(event) for event in seen.events),
                reads=seen.reads,
                writes=seen.writes,
                why=why,
                promise=promise,
            )
        )
        return answer

    def tell(self, who: str, does: str, why: str = "", promise: str | None = None) -> None:
        """Something that needs no request."""
        self._write(Step(who=who, does=does, why=why, promise=promise))

    def move_to(self, app: ASGIApp, clock: FrozenClock) -> None:
        """Go on in another instance; people and their cookies come along."""
        self.app, self.clock = app, clock

    def wait(self, duration: timedelta, does: str) -> None:
        """Move the clock of this instance."""
        if self.clock is None:
            raise ValueError("only a second instance has a clock that can be moved")
        self.clock.advance(duration)
        self.tell("The clock", does)

    def check(self, what: str, held: bool) -> None:
        """What must be true in the end."""
        self.transcript.checks.append(Check(what, held))

    def call(self, value: str, label: str) -> str:
        """Give a cookie that somebody made up a name for the transcript."""
        self._labels[value] = label
        return value

    @property
    def last(self) -> Step:
        """The step before."""
        return self.transcript.steps[-1]

    # How it is written down.

    def _write(self, step: Step) -> None:
        self.transcript.steps.append(step)

    def _shown(self, value: str) -> str:
        label = self._labels.get(value, "made up")
        return f"{value[:_SHOWN]}… ({label})"

    def _take(self, answer: Answer, who: Person, *, keep: bool) -> str | None:
        """Let the jar take the cookies -> what that did to the session cookie, in words."""
        told = None
        for line in answer.cookies:
            name, _, value = line.partition(";")[0].partition("=")
            gone = "Max-Age=0" in line
            if name.startswith("id-"):
                self.cookie_name = name
                told = self._change(value, who, gone=gone)
            if not keep:
                continue
            if gone:
                who.jar.pop(name, None)
            else:
                who.jar[name] = value
        return told

    def _change(self, value: str, who: Person, *, gone: bool) -> str:
        if gone:
            return "the session cookie is deleted"
        if value not in self._labels:
            mine = sum(label.startswith(who.name) for label in self._labels.values())
            self._labels[value] = f"{who.name}’s key {mine + 1}"
        return f"a new cookie: {self._shown(value)}"


def _said(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The headers that decide about a request from another site."""
    names = {"sec-fetch-site": "Sec-Fetch-Site", "origin": "Origin"}
    foreign = headers.get("sec-fetch-site") not in ("same-origin", "none", None)
    if not foreign and "origin" not in headers:
        return ()
    return tuple(f"{names[each]}: {headers[each]}" for each in names if each in headers)


def _outcome(answer: Answer, who: Person) -> Outcome:
    location = answer.header("location") or ""
    if answer.status == 303:
        signing = location.partition("?")[0] in ("/sign-in", "/confirm")
        return Outcome.OUT if signing else Outcome.DONE
    if answer.status == 403:
        return Outcome.REFUSED
    if answer.status == 503:
        return Outcome.UNREADABLE
    if answer.status == 200:
        return Outcome.IN if who.username and who.username in answer.text else Outcome.SHOWN
    return Outcome.OTHER


def _told(answer: Answer) -> str:
    location = answer.header("location")
    if location is not None:
        return f"to {location.removeprefix(ORIGIN)}"
    before, _, rest = answer.text.partition("<h1>")
    heading = rest.partition("</h1>")[0] if before else ""
    return f"“{heading}”" if heading else ""


def _heard(event: Event) -> Heard:
    codes = [getattr(event, name, None) for name in ("rule", "reason", "how", "count", "what")]
    about = ", ".join(str(code) for code in codes if code is not None)
    decision = DECISIONS.get(getattr(event, "rule", ""))
    if decision is not None:
        about = f"{about}: {decision.reason}"
    return Heard(event.name, about, event.severity != "info")
