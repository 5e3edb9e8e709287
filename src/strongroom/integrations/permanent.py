"""What `flask.session` and `quart.session` know beyond a mapping: new, modified, permanent.

Nothing here knows a framework. Setting `permanent` dates the cookie and nothing else: the clocks
are the policy's (P9), and a visitor who did nothing gets no session by it (P24).
"""

from __future__ import annotations

from strongroom.actions import Runner
from strongroom.core.exchange import ResponseEdits
from strongroom.core.visit import Visit
from strongroom.session import Session

__all__ = ["PERMANENT", "PermanentSession", "prolong"]

PERMANENT = "_permanent"


class PermanentSession(Session):
    """A session with the attributes that Flask's users know."""

    def __init__(self, visit: Visit, runner: Runner) -> None:
        super().__init__(visit, runner)
        self._permanent: bool | None = None
        self.new: bool = visit.record is None
        """Whether nothing was stored for this visitor when the request began."""

    @property
    def modified(self) -> bool:
        """Whether something will be saved, changes inside of lists and dicts included."""
        return bool(self._visit.data.changes())

    @modified.setter
    def modified(self, value: bool) -> None:
        """Flask's way to tell of nested changes. They are found anyway."""

    @property
    def accessed(self) -> bool:
        """Whether the response depends on the session, and so says `Vary: Cookie`."""
        return self._visit.seen

    @accessed.setter
    def accessed(self, value: bool) -> None:
        """Flask notes each use of its proxy, also by templates that then look at nothing."""

    @property
    def permanent(self) -> bool:
        """Whether the cookie outlives the browser's window. The clocks on the server are the same.

        Setting it starts no session by itself: nothing is kept for a visitor who did nothing (P24).
        """
        if self._permanent is not None:
            return self._permanent
        return bool(self.get(PERMANENT, False))

    @permanent.setter
    def permanent(self, value: bool) -> None:
        self._permanent = bool(value)

    def note_permanent(self) -> None:
        """At the response: keep the wish, if there is a session to keep it in."""
        wish, visit = self._permanent, self._visit
        if wish is None or wish == bool(visit.data.get(PERMANENT, False)):
            return
        if visit.record is not None or not visit.data.is_untouched:
            visit.data[PERMANENT] = wish


def prolong(edits: ResponseEdits, session: PermanentSession, visit: Visit, longest: int) -> None:
    """The session cookie of a permanent session outlives the window, never the session itself.

    `longest` is the application's own limit, in seconds.
    """
    name = f"{visit.ctx.cookie.name}=".encode()
    handed_out = any(each.startswith(name) for each in edits.cookies)
    if not handed_out or visit.identity is None or not session.permanent:
        return
    left = (visit.identity.absolute_deadline - visit.ctx.now()) // 1000
    lasting = b"; Max-Age=%d" % max(min(left, longest), 0)
    edits.cookies[:] = [
        cookie + lasting if cookie.startswith(name) and b"; Max-Age=" not in cookie else cookie
        for cookie in edits.cookies
    ]
