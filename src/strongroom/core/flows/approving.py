"""Approvals: one proof for one transaction, single use (ASVS 7.5.3, 6.5.1; PSD2's dynamic linking).

    ask_approval  ->  approve, with a factor proved for it  ->  use_approval, once

What is approved (who is paid, and how much) is fixed when it is asked for, and kept as a record of
its own: sealed under the session's own root, with a digest in the sealed identity. So what the page
shows, what is proved for and what is carried out cannot come apart, and not even whoever writes the
database can put another payee in between (P3, P4).

An approval belongs to the session that asked for it; to every other one it does not exist. It
lives for `approval_lifetime`, never longer than its session, and ends with it where all of a
subject's end. Using it is ending it, in one atomic step: of two that try, one is refused. Asked for
with anything else than what was approved, it ends and nothing is done.

The factors proved for an approval count for it alone; nothing else opens by them. Its level may be
made together with what the session has proved, as far as that is fresh, but never without a proof
of its own, and the factors that it names must be proved for it.

docs/decisions/0120-approvals-are-records.md says why it is a record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NoReturn

from strongroom.core.credentials import next_rotation, rotated
from strongroom.core.data import is_dict
from strongroom.core.errors import ApprovalRefused, SessionTooLarge, UnserialisableValue, UsageError
from strongroom.core.events import (
    ApprovalAsked,
    ApprovalGiven,
    ApprovalRefusedEvent,
    ApprovalUsed,
    StepUpAsked,
)
from strongroom.core.ops import End, Find, Flow, Found, Insert, Outcome, Rotate
from strongroom.core.policy import ms
from strongroom.core.record import AuthenticationEvent, EndReason, Identity, Kind, Record
from strongroom.core.stepup import Challenge, Requirement, ask
from strongroom.core.tokens import SECRET_BYTES, SESSION_ID_BYTES, Token, mint, successor
from strongroom.core.visit import Visit

from .handing import end_excess
from .listing import moment, public_id
from .saving import new_record
from .signalling import judge_use
from .signing import check_can_issue, merged, require_signed_in, rotate
from .stepping import step_up_required
from .verifying import verify

Details = Mapping[str, str | int | bool | None]
"""What is approved, as plain values that a page can show: no floats, an amount is exact."""

MAX_DETAILS = 4096
"""Bytes of all details together: what a person can read before approving it is far less."""

MAX_WAITING = 10
"""Approvals of one session that wait at a time; older ones end. A script that asks in a loop must
not fill the store (P24)."""

_ACTION, _DIGEST, _ASKED = "for", "of", "ask"
_DETAILS = "details"


@dataclass(frozen=True, slots=True)
class Approval:
    """One transaction that somebody is to approve, or has approved.

    `approval_id` is public: it opens nothing in any other session. `owed` is what still has to be
    proved for it, None once it is approved.
    """

    approval_id: str
    action: str
    details: dict[str, Any] = field(repr=False)
    asked_at: datetime
    expires_at: datetime
    factors: tuple[str, ...]
    owed: Challenge | None

    @property
    def is_approved(self) -> bool:
        """Whether it can be used now, once."""
        return self.owed is None


@dataclass(frozen=True, slots=True)
class _Kept:
    """An approval as the store has it, opened."""

    record: Record
    identity: Identity
    details: dict[str, Any]

    @property
    def action(self) -> str:
        return str(self.identity.extra[_ACTION])

    @property
    def approval_id(self) -> str:
        return self.record.session_id.hex()


def ask_approval(
    visit: Visit, action: str, details: Details, requirement: Requirement | None = None
) -> Flow[Approval]:
    """Fix what is to be approved. Nothing is approved yet.

    Without a requirement any one factor will do, proved for this.

    Raises:
        SignInRequired: nobody is signed in.
        StepUpRequired: the session was remembered, or is doubted: it steps up first.
        UsageError, UnserialisableValue, SessionTooLarge: no such details can be approved.
    """
    ctx = visit.ctx
    yield from verify(visit)
    identity = require_signed_in(visit)
    judge_use(visit)
    session, token = visit.record, visit.token
    assert session is not None and token is not None  # noqa: S101 - signed in means both
    requirement = requirement or Requirement(max_age=ms(ctx.policy.approval_lifetime))
    if requirement.acr is not None:
        ctx.policy.acr.rank(requirement.acr)  # An unknown level is a mistake of the route.
    doubt = _doubt(visit)
    if doubt is not None:
        challenge = Challenge(doubt, requirement, ctx.policy.acr.levels[0].ways)
        visit.note(StepUpAsked, reason=doubt)
        raise step_up_required(challenge)
    digest = _digest(visit, action, details)
    record, kept, _ = new_record(
        visit,
        Kind.APPROVAL,
        values={_DETAILS: ctx.codec.encode(dict(details))},
        subject=identity.subject,
        epoch=identity.epoch,
        store_epoch=session.header.store_epoch,
        deadline=identity.absolute_deadline,
        linked_to=session.session_id,
        token=_token(visit, identity, token.root),
    )
    kept = replace(kept, extra={_ACTION: action, _DIGEST: digest, _ASKED: _packed(requirement)})
    record = replace(record, envelope=ctx.seal_identity(kept, record.session_id))
    yield Insert(record, ctx.now())
    yield from end_excess(ctx, session, Kind.APPROVAL, MAX_WAITING, but=record.session_id)
    visit.note(ApprovalAsked, approval_id=record.session_id.hex(), action=action)
    return _shown(visit, _Kept(record, kept, dict(details)))


def find_approval(visit: Visit, approval_id: str) -> Flow[Approval]:
    """What is to be approved, for the page that shows it.

    Raises:
        SignInRequired: nobody is signed in.
        ApprovalRefused: this session has no such approval, or not any more.
    """
    return _shown(visit, (yield from _find(visit, approval_id)))


def approve(visit: Visit, approval_id: str, factors: Iterable[str]) -> Flow[Approval]:
    """These factors were proved now, for this: see in `owed` whether that is enough.

    The session's token is rotated: somebody authenticated anew (ASVS 7.2.4).

    Raises:
        SignInRequired: nobody is signed in.
        ApprovalRefused: this session has no such approval, or not any more.
        SessionEnded: the session ended in the meantime; nothing was approved.
    """
    check_can_issue(visit)
    proved = tuple(AuthenticationEvent(each, visit.ctx.now()) for each in dict.fromkeys(factors))
    if not proved:
        raise UsageError(
            "approve needs at least one factor.",
            why="An approval that nobody proved anything for would count as approved.",
            hint="Pass what was checked as RFC 8176 values, for example amr='otp'.",
        )
    kept = yield from _find(visit, approval_id)
    # First the session: whoever has lost it, or never had it, approves nothing.
    yield from rotate(visit, require_signed_in(visit))
    identity = replace(kept.identity, events=merged(kept.identity.events, proved))
    outcome: Outcome = yield _rotation(visit, kept.record, identity)
    if outcome.record is None or not outcome.applied:
        # Nobody proves for it beside us, because our rotation left one token; so it has ended.
        _refuse(visit, approval_id, "ended")
    visit.attempt_open = False
    factors = tuple(each.amr for each in proved)
    visit.note(ApprovalGiven, approval_id=kept.approval_id, action=kept.action, factors=factors)
    return _shown(visit, replace(kept, record=outcome.record, identity=identity))


def use_approval(
    visit: Visit, approval_id: str, action: str, details: Details | None = None
) -> Flow[dict[str, Any]]:
    """Use an approval up -> what was approved: that, and nothing else, may be carried out now.

    With `details`, they must be exactly what was approved.

    Raises:
        SignInRequired: nobody is signed in.
        StepUpRequired: it is not approved yet; it can still be.
        ApprovalRefused: it was used, is too old, is another session's, or was for something else.
    """
    ctx = visit.ctx
    kept = yield from _find(visit, approval_id)
    given = None if details is None else _digest(visit, action, details)
    if kept.action != action or given not in (None, kept.identity.extra[_DIGEST]):
        # PSD2, Art. 5(1)(d) of the RTS: any change to the amount or the payee makes it invalid.
        yield from _end(visit, kept.record, EndReason.VOIDED)
        _refuse(visit, approval_id, "changed", action)
    owed = _owed(visit, kept.record.session_id, kept.identity)
    if owed is not None:
        visit.note(StepUpAsked, reason=owed.reason)
        raise step_up_required(owed)
    # Ending is what makes it single-use: of two that try, one is told that it is gone.
    outcome = yield from _end(visit, kept.record, EndReason.USED)
    if not outcome.applied:
        _refuse(visit, approval_id, "used", action)
    session = visit.record
    found: Found | None = None
    if session is not None:
        found = yield Find(session.session_id, authoritative=True)
    owner = None if found is None else ctx.open_identity(found.record)
    if found is None or owner is None or _is_over(visit, found, owner):
        _refuse(visit, approval_id, "session_has_ended", action)
    visit.note(ApprovalUsed, approval_id=kept.approval_id, action=action)
    return kept.details


def require_approval(
    visit: Visit,
    action: str,
    details: Details,
    approval_id: str | None,
    requirement: Requirement | None = None,
) -> Flow[dict[str, Any]]:
    """Use the approval up, or ask for one where the caller has none yet.

    Raises:
        StepUpRequired: it has to be approved; the challenge names the `approval_id`.
        SignInRequired, ApprovalRefused: as `use_approval`.
    """
    if approval_id is not None:
        return (yield from use_approval(visit, approval_id, action, details))
    approval = yield from ask_approval(visit, action, details, requirement)
    assert approval.owed is not None  # noqa: S101 - nothing was proved for it yet
    raise step_up_required(approval.owed)


def _find(visit: Visit, approval_id: str) -> Flow[_Kept]:
    """This session's live approval of that id."""
    ctx = visit.ctx
    yield from verify(visit)
    require_signed_in(visit)
    judge_use(visit)
    session, token = visit.record, visit.token
    assert session is not None and token is not None  # noqa: S101 - signed in means both
    raw = public_id(approval_id)
    found: Found | None = None if raw is None else (yield Find(raw, authoritative=True))
    identity = None if found is None else ctx.open_identity(found.record)
    if found is None or identity is None or identity.kind is not Kind.APPROVAL:
        _refuse(visit, approval_id, "unknown")
    if identity.linked_to != session.session_id:
        _refuse(visit, approval_id, "another_session")
    if _is_over(visit, found, identity):
        ended = {EndReason.USED: "used", EndReason.VOIDED: "changed"}
        reason = found.record.header.end_reason
        _refuse(visit, approval_id, "too_old" if reason is None else ended.get(reason, "ended"))
    details = ctx.codec.decode(ctx.open_data(found.record, token.root)[_DETAILS])
    action = str(identity.extra[_ACTION])
    # What is sealed under the root is read by whoever has the cookie; the digest binds it.
    if not is_dict(details) or _digest(visit, action, details) != identity.extra[_DIGEST]:
        _refuse(visit, approval_id, "altered")
    return _Kept(found.record, identity, details)


def _is_over(visit: Visit, found: Found, identity: Identity) -> bool:
    ctx = visit.ctx
    return ctx.over(found.record.header, identity, ctx.now(), found.store_epoch) is not None


def _owed(visit: Visit, session_id: bytes, identity: Identity) -> Challenge | None:
    """What still has to be proved for it, or None."""
    policy, asked = visit.ctx.policy, _unpacked(identity.extra[_ASKED])
    named = asked.named
    session = () if visit.identity is None else visit.identity.events
    closed_at = 0 if visit.identity is None else visit.identity.closed_at
    shared = tuple(each for each in session if each.amr not in named and each.at > closed_at)
    events = merged(shared, identity.events)
    approval_id = session_id.hex()
    answer = ask(
        asked,
        events,
        visit.ctx.now(),
        policy.acr,
        visit.kind is Kind.REMEMBERED,
        skew=ms(policy.max_skew),
        doubtful=visit.is_doubtful,
    )
    if isinstance(answer, Challenge):
        reason = answer.reason if identity.events else "not_approved"
        return replace(answer, reason=reason, approval_id=approval_id)
    if identity.events:
        return None
    return Challenge("not_approved", asked, policy.acr.levels[0].ways, approval_id)


def _doubt(visit: Visit) -> str | None:
    if visit.kind is Kind.REMEMBERED:
        return "remembered"
    return "doubtful" if visit.is_doubtful else None


def _shown(visit: Visit, kept: _Kept) -> Approval:
    identity = kept.identity
    return Approval(
        approval_id=kept.approval_id,
        action=kept.action,
        details=dict(kept.details),
        asked_at=moment(identity.created_at),
        expires_at=moment(min(kept.record.header.idle_deadline, identity.absolute_deadline)),
        factors=tuple(each.amr for each in identity.events),
        owed=_owed(visit, kept.record.session_id, identity),
    )


def _digest(visit: Visit, action: str, details: Mapping[Any, Any]) -> bytes:
    """What binds action and details. Their order means nothing; their types and spelling do.

    Raises:
        UsageError: nothing is named.
        UnserialisableValue: a value is not plain.
        SessionTooLarge: they are more than anybody reads.
    """
    if not action or not details:
        raise UsageError(
            "An approval needs an action and details.",
            why="Whoever approves it must see what it is for.",
            hint="For example: ask_approval('transfer', {'to': 'DE02…', 'cents': 120_000}).",
        )
    for key, value in details.items():
        if not isinstance(key, str) or not isinstance(value, str | int | bool | None):
            raise UnserialisableValue(
                f"The detail {key!r} is a {type(value).__name__}, not a plain value.",
                why="What is approved must be exact, and the same for whoever reads it.",
                hint="Use text, whole numbers, true, false and None; an amount in cents.",
            )
    raw = visit.ctx.codec.encode([action, sorted(details.items())])
    if len(raw) > MAX_DETAILS:
        raise SessionTooLarge(
            f"The details of an approval are {len(raw)} bytes, and {MAX_DETAILS} are allowed.",
            why="Nobody reads that much before approving it.",
            hint="Name what matters: who gets it, and how much.",
        )
    return hashlib.sha256(raw).digest()


def _packed(requirement: Requirement) -> list[Any]:
    amr, ages = sorted(requirement.amr), sorted(requirement.ages.items())
    return [requirement.max_age, requirement.acr, amr, [list(each) for each in ages]]


def _unpacked(packed: list[Any]) -> Requirement:
    max_age, acr, amr, ages = packed
    return Requirement(max_age, acr, frozenset(amr), dict(ages))


def _token(visit: Visit, identity: Identity, root: bytes, generation: int = 0) -> Token:
    """A token that nobody gets: it gives the record its id, and its data the session's root."""
    ctx = visit.ctx
    return mint(
        ctx.keys.tokens,
        key_id=ctx.keys.issuing,
        session_id=ctx.keys.session_id(identity.subject, ctx.entropy(SESSION_ID_BYTES)),
        root=root,
        secret=ctx.entropy(SECRET_BYTES),
        generation=generation,
    )


def _rotation(visit: Visit, record: Record, identity: Identity) -> Rotate:
    """The op that writes the factors into the sealed identity, if nobody else did so first."""
    ctx, now = visit.ctx, visit.ctx.now()
    generation = next_rotation(record.header.credential.generation)
    if generation is None:
        _refuse(visit, record.session_id.hex(), "used_up")
    fresh = _token(visit, identity, ctx.entropy(SECRET_BYTES), generation)
    return Rotate(
        record.session_id,
        ctx.fresh(),
        record.header.credential.current,
        rotated(fresh, successor(ctx.keys.tokens, fresh, ctx.keys.issuing), now),
        Kind.APPROVAL,
        ctx.seal_identity(identity, record.session_id),
        ctx.keys.issuing,
        now,
        record.header.idle_deadline,
        record.header.purge_at,
    )


def _end(visit: Visit, record: Record, reason: EndReason) -> Flow[Outcome]:
    ctx, now = visit.ctx, visit.ctx.now()
    purge_at = ctx.clocks.purge_at(Kind.APPROVAL, now)
    outcome: Outcome = yield End(record.session_id, ctx.fresh(), reason, now, purge_at)
    return outcome


def _refuse(visit: Visit, approval_id: str, reason: str, action: str | None = None) -> NoReturn:
    known = public_id(approval_id)
    shown = None if known is None else known.hex()
    visit.note(ApprovalRefusedEvent, approval_id=shown, action=action, reason=reason)
    raise ApprovalRefused(
        "This approval cannot be used.",
        why="An approval works once, for exactly what was approved, in the session that asked for "
        "it, and for a few minutes.",
        hint="Ask for the approval anew.",
    )
