"""What a session offers where being signed in is not enough: step-up, its window, and approvals.

`Session` inherits this. What is asked for is decided in `core/stepup.py`; the approval of one
transaction is in `core/flows/approving.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from .actions import Action, Runner
from .core import flows
from .core.challenges import from_query
from .core.errors import ActionNotAwaited, SignInRequired
from .core.events import StepUpAsked
from .core.flows.approving import Approval, Details
from .core.flows.listing import moment
from .core.flows.signalling import judge_use
from .core.ops import Flow
from .core.policy import ms
from .core.stepup import Challenge, Requirement, Satisfied
from .core.visit import Visit

R = TypeVar("R")

Factors = str | Iterable[str] | Mapping[str, timedelta]
"""Factors that are asked for, as `amr` values (RFC 8176): one, several, or each with its age."""


class Privilege:
    """The part of a session that asks for more than a session."""

    __slots__ = ("_runner", "_visit")

    def __init__(self, visit: Visit, runner: Runner) -> None:
        self._visit = visit
        self._runner = runner

    def verify(self) -> Action[None]:
        """Make sure, by the store itself, that the session still stands (P25, H2).

        A no-op where the request began with the store's own word: always but on a safe method with
        a near cache. If the session has ended, nobody is signed in from here on.
        """
        return self._run("verify", flows.verify(self._seen()))

    def require_sign_in(self) -> str:
        """The subject.

        Raises:
            SignInRequired: nobody is signed in; answered with the sign-in page, or 401.
        """
        return subject_of(self._seen())

    def step_up(
        self, *, max_age: timedelta | None = None, acr: str | None = None, amr: Factors = ()
    ) -> Satisfied | Challenge:
        """Whether factors were proved recently and strongly enough (RFC 9470, P25).

        `max_age` holds for all of them, `acr` is the level that the fresh ones must make, and `amr`
        names factors that must be among them: `amr={"otp": timedelta(minutes=2)}` gives one an age
        of its own.

        Raises:
            ActionNotAwaited: a near cache answered this request's read: `await verify()` first.
        """
        return self._judge(requirement_of(max_age, acr, amr))

    def require_recent_sign_in(
        self, *, max_age: timedelta | None = None, acr: str | None = None, amr: Factors = ()
    ) -> str:
        """The subject, if factors were proved recently and strongly enough: see `step_up`.

        Raises:
            SignInRequired: nobody is signed in.
            StepUpRequired: too long ago or too weak; answered with the sign-in page, or RFC 9470.
            ActionNotAwaited: a near cache answered this request's read: `await verify()` first.
        """
        return self.require(requirement_of(max_age, acr, amr))

    def require(self, requirement: Requirement) -> str:
        """The same for a requirement that came from elsewhere, such as an API's challenge.

        Raises:
            SignInRequired, StepUpRequired, ActionNotAwaited: as `require_recent_sign_in`.
        """
        self._verified()
        subject = self.require_sign_in()
        answer = self._judge(requirement)
        if isinstance(answer, Challenge):
            self._visit.note(StepUpAsked, reason=answer.reason)
            raise flows.step_up_required(answer)
        return subject

    def asked(self, query: Mapping[str, str]) -> Challenge | None:
        """What is still owed of what this page's address asks for; None where it is nothing.

        For the policy's `step_up_path`: people who are sent there bring in the query what the route
        asked for. Anybody can write such a link, so it only decides what the page offers.
        """
        self._verified()
        requirement = from_query(query, self._visit.ctx.policy.acr)
        answer = None if requirement is None else self._judge(requirement)
        return answer if isinstance(answer, Challenge) else None

    def privileged_until(
        self, *, max_age: timedelta | None = None, acr: str | None = None, amr: Factors = ()
    ) -> datetime | None:
        """When the window in which `step_up` is satisfied closes; None where it is not open.

        Nothing moves that moment but another proof. Give it an age: a window without one closes
        with the session.

        Raises:
            ActionNotAwaited: a near cache answered this request's read: `await verify()` first.
        """
        answer = self.step_up(max_age=max_age, acr=acr, amr=amr)
        if isinstance(answer, Challenge):
            return None
        identity = self._visit.identity
        ends = [answer.until, None if identity is None else identity.absolute_deadline]
        return moment(min(each for each in ends if each is not None))

    def end_privilege(self) -> Action[None]:
        """Close the window now: what asks for a recent proof asks anew. Nobody is signed out.

        Raises:
            SignInRequired, SessionEnded: nothing was changed.
        """
        return self._run("end_privilege", flows.end_privilege(self._seen()))

    # Approvals.

    def ask_approval(
        self,
        action: str,
        details: Details,
        *,
        max_age: timedelta | None = None,
        acr: str | None = None,
        amr: Factors = (),
    ) -> Action[Approval]:
        """Fix what somebody is to approve, such as who is paid and how much (ASVS 7.5.3).

        Send the person to a page that shows `approval.details`. Without `max_age`, `acr` and `amr`
        one factor will do; it, and all that `amr` names, must be proved for this transaction.

        Raises:
            SignInRequired: nobody is signed in.
            StepUpRequired: the session was remembered, or is doubted: it steps up first.
            UsageError: no such details can be approved.
        """
        asked = _asked(max_age, acr, amr)
        flow = flows.ask_approval(self._seen(), action, details, asked)
        return self._run("ask_approval", flow)

    def approval(self, approval_id: str) -> Action[Approval]:
        """What is to be approved, for the page that shows it.

        Raises:
            SignInRequired: nobody is signed in.
            ApprovalRefused: this session has no such approval, or not any more.
        """
        return self._run("approval", flows.find_approval(self._seen(), approval_id))

    def approve(self, approval_id: str, *, amr: str | Iterable[str]) -> Action[Approval]:
        """These factors were proved now, by somebody who saw what it is for.

        They count for this transaction and nothing else. The token is rotated (ASVS 7.2.4).

        Raises:
            SignInRequired, SessionEnded: nothing was approved.
            ApprovalRefused: this session has no such approval, or not any more.
        """
        return self._run("approve", flows.approve(self._seen(), approval_id, proved(amr)))

    def use_approval(
        self, approval_id: str, action: str, details: Details | None = None
    ) -> Action[dict[str, Any]]:
        """Use an approval up, once -> the details: carry out those, and nothing else.

        With `details`, they must be exactly what was approved; otherwise the approval ends.

        Raises:
            SignInRequired: nobody is signed in.
            StepUpRequired: it is not approved yet.
            ApprovalRefused: it was used, is too old, is another session's, or for something else.
        """
        flow = flows.use_approval(self._seen(), approval_id, action, details)
        return self._run("use_approval", flow)

    def require_approval(
        self,
        action: str,
        details: Details,
        approval_id: str | None,
        *,
        max_age: timedelta | None = None,
        acr: str | None = None,
        amr: Factors = (),
    ) -> Action[dict[str, Any]]:
        """`use_approval`, or where the client has none yet, `ask_approval` and the refusal.

        For programs: the 401 names the approval, which is then approved and sent along.

        Raises:
            StepUpRequired: it has to be approved: `approval` in the problem document says which.
            SignInRequired, ApprovalRefused: as `use_approval`.
        """
        asked = _asked(max_age, acr, amr)
        flow = flows.require_approval(self._seen(), action, details, approval_id, asked)
        return self._run("require_approval", flow)

    def _judge(self, requirement: Requirement) -> Satisfied | Challenge:
        visit = self._verified()
        judge_use(visit)
        return flows.judge_step_up(visit, requirement)

    def _seen(self) -> Visit:
        """The visit, noting that the response depends on the session (F5)."""
        self._visit.seen = True
        return self._visit

    def _verified(self) -> Visit:
        """The visit, by the store's own word. In `async def` that has to be awaited beforehand."""
        visit = self._seen()
        if not visit.verified:
            try:
                self._run("verify", flows.verify(visit)).result()
            except ActionNotAwaited as error:
                raise not_verified() from error
        return visit

    def _run(self, name: str, flow: Flow[R]) -> Action[R]:
        return self._runner.run(name, flow)


def requirement_of(
    max_age: timedelta | None = None, acr: str | None = None, amr: Factors = ()
) -> Requirement:
    """What a route asks for, from the application's words.

    Raises:
        ConfigurationError: it asks for nothing, or an age is negative.
    """
    age = None if max_age is None else ms(max_age)
    if isinstance(amr, Mapping):
        ages = cast("Mapping[str, timedelta]", amr)
        return Requirement(age, acr, ages={each: ms(limit) for each, limit in ages.items()})
    return Requirement(age, acr, frozenset(proved(amr)))


def _asked(max_age: timedelta | None, acr: str | None, amr: Factors) -> Requirement | None:
    nothing = max_age is None and acr is None and not amr
    return None if nothing else requirement_of(max_age, acr, amr)


def proved(amr: str | Iterable[str]) -> tuple[str, ...]:
    """One factor or several, as a tuple."""
    return (amr,) if isinstance(amr, str) else tuple(amr)


def subject_of(visit: Visit) -> str:
    """Who is signed in.

    Raises:
        SignInRequired: nobody is.
    """
    if visit.subject is None:
        raise SignInRequired(
            "Nobody is signed in.",
            why="This page belongs to somebody.",
            hint="Sign in to go on.",
        )
    return visit.subject


def not_verified() -> ActionNotAwaited:
    """The error for a decision by a near cache's word."""
    return ActionNotAwaited(
        "This decides about a sensitive action, and the session was read from the near cache.",
        why="It may have ended elsewhere a moment ago.",
        hint="Write `await session.verify()` before it, name the route in Routes(sensitive=...), "
        "or use FastAPI's dependency require_recent_sign_in.",
    )
