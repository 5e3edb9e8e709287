"""Whether what a request decides by is the store's own word, and making it so (P25, H2).

A near cache may have answered the read at a request's beginning: a view at most `max_staleness`
old, which is good enough to show a page, and not to change how one signs in, or to end somebody's
sessions. So a request that may change something begins with the store's own word, and whatever acts
on a session's standing makes sure of it first.

docs/decisions/0041-the-stores-own-word.md says why.
"""

from __future__ import annotations

from strongroom.core.ops import Find, Flow, Found
from strongroom.core.visit import Visit

from .opening import decide


def verify(visit: Visit) -> Flow[None]:
    """Make sure that the session still stands, by the store itself.

    Asks once in a request, and on a socket every time. If the session has ended, or its token is
    worth nothing any more, the visit is in no session from here on; what was assigned stays
    assigned otherwise.
    """
    record, token = visit.record, visit.token
    if record is None or token is None or (visit.verified and not visit.facts.websocket):
        return
    found: Found | None = yield Find(record.session_id, authoritative=True)
    visit.verified = True
    data, data_version, issue = visit.data, visit.data_version, visit.issue
    if found is not None and (yield from decide(visit, token, found)):
        visit.data, visit.data_version, visit.issue = data, data_version, issue
        return
    if found is None:
        visit.refusal = "unknown"
        visit.cookie_locked = True
    visit.leave()
