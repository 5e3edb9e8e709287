"""Signals on their way: judged at sign-in and in use, told in events, answered by the table.

At a sign-in the subject's history is read, once, before the record is made: what looks wrong can
still keep anybody from getting in. In use nothing is read: the sign-in's own circumstances are in
the identity, and only a request that writes anyway, or that would change something, is looked at.
So a request that reads pays nothing, and a stolen cookie is noticed within a touch interval.

The lower assurance of a session in use is not stored. It is judged from the request, so it goes
when the circumstance does, and a fresh proof from there makes the new circumstances the session's
own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from strongroom.core.errors import SignInRefused
from strongroom.core.events import SessionEndedEvent, SignalRaised, SignedOutEverywhere
from strongroom.core.footprints import as_seen, footprint, known_from
from strongroom.core.ops import End, EndSubject, Flow, Found, Outcome
from strongroom.core.record import EndReason, Identity, Kind
from strongroom.core.responses import Response
from strongroom.core.risk import risk_signal, sign_in_risk
from strongroom.core.signals import MINUTE, Footprint, Signal, sign_in_signals, use_signals
from strongroom.core.visit import Visit

from .histories import history

CONSIDERED = 100
"""Entries of a subject's history that a sign-in is compared with."""
TURNS = 4
"""So often within `TURNING` a session goes to and fro between two networks, and it is in two
places: a phone that leaves a wireless network does so once."""
TURNING = 10 * MINUTE
_LOWERING = frozenset({Response.LOWER, Response.STEP_UP})
_ENDING = frozenset({Response.END, Response.END_ALL})


@dataclass(frozen=True, slots=True)
class Assessment:
    """What looked wrong about a sign-in, and whether its session begins with less assurance."""

    signals: tuple[Signal, ...] = ()
    lowered: bool = False


def assess_sign_in(visit: Visit, subject: str) -> Flow[Assessment]:
    """Before a sign-in is carried out: what looks wrong about it.

    Raises:
        SignInRefused: the policy's table says that it ends here.
    """
    ctx = visit.ctx
    if not ctx.policy.history_length:
        return Assessment()
    told = yield from history(ctx, subject, CONSIDERED)
    known = [seen for seen, _event in known_from(told)]
    now = footprint_of(visit, subject)
    risk = risk_signal(sign_in_risk(known, now, ctx.everybody)) if ctx.everybody else None
    signals = (*sign_in_signals(known, now, ctx.policy.signals), *((risk,) if risk else ()))
    responses = ctx.policy.responses.to_all(signals)
    if _ENDING & responses:
        tell(visit, signals, subject=subject, session_id=None)
        if Response.END_ALL in responses:
            yield from _end_all(visit, subject)
        raise SignInRefused(
            "This sign-in was refused, because of how unusual it is for this account.",
            why=" ".join(each.reason for each in signals),
            hint="Sign in from a device or a place that you used before, or ask the support.",
        )
    return Assessment(signals, bool(_LOWERING & responses))


def learn_sign_in(visit: Visit, assessment: Assessment) -> None:
    """After it: tell the signals with the new session's id, and let everybody's habits grow."""
    tell(visit, assessment.signals)
    if visit.ctx.everybody is not None:
        visit.ctx.everybody.learn(footprint_of(visit))


def assess_use(visit: Visit) -> Flow[None]:
    """Compare a request in a signed-in session with how the session began; act on what differs."""
    responses = judge_use(visit)
    if _ENDING & responses:
        yield from _end(visit, everything=Response.END_ALL in responses)


def judge_use(visit: Visit) -> frozenset[Response]:
    """What follows from how this request looks; once a request, and without asking the store."""
    identity, record = visit.identity, visit.record
    if identity is None or record is None or not identity.kind.is_signed_in:
        return frozenset()
    if visit.answer_to_use is None:
        visit.answer_to_use = _judge_use(visit, identity)
    return visit.answer_to_use


def ends_here(visit: Visit) -> bool:
    """Whether the table ends the session that this request is in: nothing may happen in it."""
    return bool(_ENDING & judge_use(visit))


def _judge_use(visit: Visit, identity: Identity) -> frozenset[Response]:
    then = footprint(
        max((each.at for each in identity.events), default=identity.created_at),
        identity.device,
        identity.circumstances,
    )
    now = footprint_of(visit)
    signals = [*use_signals(then, now, visit.ctx.policy.signals), *_in_turns(visit, now)]
    if not signals:
        return frozenset()
    responses = visit.ctx.policy.responses.to_all(signals)
    tell(visit, [each for each in signals if _is_news(visit, each, now)])
    visit.lowered = bool((_LOWERING | _ENDING) & responses)
    visit.renew_asked = visit.renew_asked or Response.RENEW in responses
    return responses


def footprint_of(visit: Visit, subject: str | None = None) -> Footprint:
    """What this request looks like; with a subject, by the device's id too, if it has one."""
    device_id = "" if subject is None else visit.device_reference(subject)
    return footprint(visit.opened_at, visit.device(), visit.circumstances(), device_id=device_id)


def seen_by(visit: Visit, subject: str | None = None) -> dict[str, object]:
    """The same as plain values, for the events of sign-ins."""
    return as_seen(footprint_of(visit, subject))


def tell(visit: Visit, signals: Iterable[Signal], **about: str | None) -> None:
    """Note the signals as events, each with what follows from it."""
    for each in signals:
        visit.note(
            SignalRaised,
            **about,
            signal=each.name,
            score=round(each.score, 3),
            why=each.reason,
            evidence=dict(each.evidence),
            responses=tuple(sorted(answer.value for answer in visit.ctx.policy.responses.to(each))),
        )


def _is_news(visit: Visit, signal: Signal, now: Footprint) -> bool:
    """Whether this was not told already: the same signal of the same session and the same print."""
    if signal.name == "two_places":  # both networks show it
        return visit.uses.is_news((signal.name,))
    return visit.uses.is_news((signal.name, now.agent, now.platform, now.network))


def _in_turns(visit: Visit, now: Footprint) -> list[Signal]:
    """A session that goes to and fro between networks is used in two places at once."""
    turns = visit.uses.turns(now.network, now.at, TURNING)
    if turns < TURNS:
        return []
    return [
        Signal(
            "two_places",
            min(1.0, 0.5 + 0.05 * turns),
            f"The session went to and fro between networks {turns} times within "
            f"{TURNING // MINUTE} minutes.",
            {"turns": turns, "network": now.network},
        )
    ]


def _end(visit: Visit, *, everything: bool) -> Flow[None]:
    """The table says that the session ends: at once, before anything else happens in it."""
    ctx, record, identity = visit.ctx, visit.record, visit.identity
    if record is None or identity is None:
        return
    now = ctx.now()
    if everything and identity.subject is not None:
        yield from _end_all(visit, identity.subject)
    else:
        outcome: Outcome = yield End(
            record.session_id,
            ctx.fresh(),
            EndReason.SIGNAL,
            now,
            ctx.clocks.purge_at(identity.kind, now),
        )
        if outcome.applied:
            visit.note(SessionEndedEvent, reason=EndReason.SIGNAL.value)
    visit.leave()
    visit.refusal = EndReason.SIGNAL
    visit.cookie_locked = True


def _end_all(visit: Visit, subject: str) -> Flow[None]:
    """Everything that the account has, sign-ins under way included (P15)."""
    ctx, now = visit.ctx, visit.ctx.now()
    ended: tuple[Found, ...] = yield EndSubject(
        ctx.keys.subject_key(subject),
        ctx.fresh(),
        EndReason.SIGNAL,
        now,
        ctx.clocks.purge_at(Kind.AUTHENTICATED, now),
        ctx.fresh(),
    )
    visit.note(SignedOutEverywhere, session_id=None, subject=subject, ended=len(ended))
