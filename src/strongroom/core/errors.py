"""Every exception that Strongroom raises, in one tree whose branches say whose fault it is.

    StrongroomError
    ├── RefusedError           the client may not do this (answer 401, 403 or a redirect)
    │   ├── SignInRequired         nobody is signed in
    │   ├── StepUpRequired         signed in, but not recently or not strongly enough (RFC 9470)
    │   ├── ApprovalRefused        the approval was used, is too old, or is for something else
    │   └── CsrfRefused            the request came from another site (OWASP malicious_csrf)
    ├── UsageError             the application did something that cannot be right (answer 500)
    │   ├── ConfigurationError     settings that a browser would refuse or that are unsafe
    │   ├── UnserialisableValue    a value that cannot be kept in a session
    │   ├── SessionTooLarge        more data than the policy allows
    │   ├── SessionReadOnly        a write where none can be kept
    │   └── ActionNotAwaited       `session.sign_in(...)` in `async def` without `await`
    ├── OvertakenError         something else happened first; nothing was written (try again)
    │   ├── WriteConflict          another request changed the same key
    │   ├── SessionEnded           the session ended while the request was running
    │   ├── SignInOvertaken        "sign out everywhere" came after the credentials were checked
    │   └── SessionLimitReached    the subject has as many sessions as the policy allows
    └── StoreError             the store's fault (answer 503, with Retry-After)
        ├── StoreUnavailable       no answer in time, disk full, connection lost
        ├── StoreMismatch          this store belongs to other keys, or to another program
        └── UnreadableRecord       damaged, or written by a newer release

"Not found" is a value, never an exception. Every class has a stable `code`; every message says what
happened, why it matters and what to do next. No message ever holds a session token (P5).
"""

from __future__ import annotations

from typing import ClassVar


class StrongroomError(Exception):
    """The root of the tree. `what` happened, `why` it matters, and the `hint`: what to do next."""

    code: ClassVar[str] = "error"

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        self.what, self.why, self.hint = what, why, hint
        super().__init__(" ".join(part for part in (what, why, hint) if part))


class RefusedError(StrongroomError):
    """The client may not do this. The application did nothing wrong."""

    code = "refused"


class SignInRequired(RefusedError):
    """Nobody is signed in, and the route needs somebody."""

    code = "sign_in_required"


class StepUpRequired(RefusedError):
    """The authentication is too old or too weak for this action (RFC 9470, ASVS 7.5.1).

    `challenge` is the `stepup.Challenge` that says what is asked for.
    """

    code = "step_up_required"

    def __init__(self, what: str, *, why: str = "", hint: str = "", challenge: object) -> None:
        super().__init__(what, why=why, hint=hint)
        self.challenge = challenge


class ApprovalRefused(RefusedError):
    """The approval was used, is too old, or is not for this (ASVS 7.5.3). Nothing may be done."""

    code = "approval_refused"


class SignInRefused(RefusedError):
    """The credentials were right, and the policy's table refuses the sign-in all the same."""

    code = "sign_in_refused"


class CsrfRefused(RefusedError):
    """The request's origin could not be shown to be ours (ASVS 3.5.1)."""

    code = "csrf_refused"


class UsageError(StrongroomError):
    """The application did something that cannot be right."""

    code = "usage"


class ConfigurationError(UsageError):
    """The settings contradict each other, or a browser would refuse what they produce (P18)."""

    code = "configuration"


class UnserialisableValue(UsageError, TypeError):
    """The value cannot be kept in a session; nothing was changed."""

    code = "unserialisable_value"


class SessionTooLarge(UsageError):
    """The session's data exceeds the policy's limit; nothing was written (P24)."""

    code = "session_too_large"


class SessionReadOnly(UsageError):
    """This session cannot be written here: see the hint for the way that works."""

    code = "session_read_only"


class ActionNotAwaited(UsageError):
    """An action was called in `async def` without `await`, so it did not happen."""

    code = "action_not_awaited"


class OvertakenError(StrongroomError):
    """Something else happened first. Nothing was written."""

    code = "overtaken"


class WriteConflict(OvertakenError):
    """Another request changed the same key, and the caller asked to be told (P7)."""

    code = "write_conflict"


class SessionEnded(OvertakenError):
    """The session ended while the request was running; a late write cannot bring it back (P6)."""

    code = "session_ended"


class SignInOvertaken(OvertakenError):
    """All sessions of the subject were ended after these credentials were read (P15)."""

    code = "sign_in_overtaken"


class SessionLimitReached(OvertakenError):
    """The subject has as many sessions as the policy allows, and the policy says refuse."""

    code = "session_limit_reached"


class StoreError(StrongroomError):
    """The store's fault. Nobody is let in and nothing acknowledged is lost (P22)."""

    code = "store"


class StoreUnavailable(StoreError):
    """The store did not answer, or could not write."""

    code = "store_unavailable"


class StoreMismatch(StoreError):
    """The store belongs to other keys, to a newer release, or to another program."""

    code = "store_mismatch"


class UnreadableRecord(StoreError):
    """A record is damaged or was written by a newer release: 503, never a sign-out (C4)."""

    code = "unreadable_record"
