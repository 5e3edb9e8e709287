"""Whether a session that something is still open for lives at this moment (P16, E8).

Sockets and streams outlive the request that began them, so each integration asks here from time to
time, and closes what the answer is False for.
"""

from __future__ import annotations

from strongroom.core.ops import Find, Flow, Found
from strongroom.core.tokens import rotation_of
from strongroom.core.visit import Context, Visit


def still_lives(ctx: Context, visit: Visit) -> Flow[bool]:
    """Whether the visit's session is live, and opened by a token that still counts.

    `ctx` is as it is now: the visit's own does not know of keys that were retired since. A visitor
    without a session has nothing that could have ended.
    """
    if visit.record is None or visit.identity is None:
        return True
    found: Found | None = yield Find(visit.record.session_id, authoritative=True)
    identity = None if found is None else ctx.open_identity(found.record)
    token = visit.token
    if found is None or identity is None or token is None:
        return False
    generation = found.record.header.credential.generation
    if rotation_of(generation) != rotation_of(token.generation):
        return False  # Privilege changed since: the token that opened this is dead.
    if token.key_id not in ctx.keys.tokens.token:
        return False
    visit.standing = found.record
    return ctx.over(found.record.header, identity, ctx.now(), found.store_epoch) is None


def seems_over(ctx: Context, visit: Visit) -> bool:
    """Whether what is known of the session says that its time has come, without asking anybody.

    Its deadlines, and keys that were retired since: the two ends that no store tells of. A session
    that was used elsewhere lives longer than is known here, so the store is asked before anything
    is closed.
    """
    record, identity, token = visit.standing or visit.record, visit.identity, visit.token
    if record is None or identity is None or token is None:
        return False
    if token.key_id not in ctx.keys.tokens.token:
        return True
    return ctx.over(record.header, identity, ctx.now(), record.header.store_epoch) is not None
