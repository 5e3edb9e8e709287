"""Step-up within one request: whether its session is enough, and closing the privileged window.

What is asked against what is there is decided in `core/stepup.py`; here it meets the session.
"""

from __future__ import annotations

from dataclasses import replace

from strongroom.core.errors import StepUpRequired
from strongroom.core.events import SteppedDown
from strongroom.core.ops import Flow
from strongroom.core.policy import ms
from strongroom.core.record import Kind
from strongroom.core.stepup import Challenge, Requirement, Satisfied, ask
from strongroom.core.visit import Visit

from .signing import require_signed_in, rotate
from .verifying import verify


def judge_step_up(visit: Visit, requirement: Requirement) -> Satisfied | Challenge:
    """Whether what this session has proved meets the requirement now (P25)."""
    policy = visit.ctx.policy
    return ask(
        requirement,
        visit.factors,
        visit.ctx.now(),
        policy.acr,
        visit.kind is Kind.REMEMBERED,
        skew=ms(policy.max_skew),
        doubtful=visit.is_doubtful,
        closed_at=0 if visit.identity is None else visit.identity.closed_at,
    )


def step_up_required(challenge: Challenge) -> StepUpRequired:
    """The error that carries a challenge to whoever answers the request."""
    return StepUpRequired(
        "This needs a recent sign-in.",
        why=challenge.sentence,
        hint="Sign in again to go on.",
        challenge=challenge,
    )


def end_privilege(visit: Visit) -> Flow[None]:
    """Close the privileged window: what was proved until now is recent no more.

    The token is rotated, as with every change of privilege (D2): whoever copied it in the window
    has nothing of it.

    Raises:
        SignInRequired: nobody is signed in.
        SessionEnded: the session ended in the meantime, or its rotations are used up.
    """
    yield from verify(visit)
    identity = require_signed_in(visit)
    yield from rotate(visit, replace(identity, closed_at=visit.ctx.now()))
    visit.note(SteppedDown)
