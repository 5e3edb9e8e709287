"""What happens, in order: generators that yield ops and end in a result.

One module for each thing that people do:

    approving  one proof for one transaction
    adopting   another library's session, once
    guarding   routes without a session, and requests from other sites
    opening    which session a request is in, if any
    verifying  whether a request decides by the store's own word
    signing    sign in, elevate, sign out, hand over
    resuming   a sign-in that another system vouches for, without a proof
    saving     the data, by changed keys
    closing    what the response's start decides: activity, renewal, cookies
    cycling    another key for the same session; a session's own expiry; by public id
    stepping   whether a session is enough for what is asked; closing its privileged window
    signalling what looks wrong at a sign-in and in use, and what follows
    devices    where a subject signs in, and "this was not me"
    erasing    removing everything that is kept of one person
    exporting  everything that is kept of one person
    histories  what happened to a subject
    living     whether an open stream's or socket's session still lives
    remembering  a persistent login opens a session; beginning and forgetting begin and end one
    listing    the account owner's and the operator's view, and ending sessions from there
    keeping_time  whether this process's clock is the store's

`await` in here would be a syntax error, and a clock or a random number comes in through `Context`,
so every schedule of two requests can be stepped through by hand (`strongroom.testing.stepper`).
"""

from .adopting import adopt, left_behind, old_cookie
from .approving import (
    Approval,
    approve,
    ask_approval,
    find_approval,
    require_approval,
    use_approval,
)
from .closing import abort, close_visit, commit, needs_writing, plain_edits
from .cycling import cycle, end_by_id, end_early, is_live
from .devices import devices_of, end_device, find_device
from .erasing import erase_subject
from .exporting import export_subject
from .guarding import (
    cross_site,
    cross_site_judged,
    cross_site_with,
    presents_nothing,
    refuse_cross_site,
    visit_without_session,
    visit_without_store,
)
from .handing import accept_hand_over, hand_over
from .histories import history, keep_history
from .keeping_time import check_clock
from .listing import (
    account_disabled,
    credentials_changed,
    end_everybody,
    end_others,
    end_session,
    end_subject,
    find_session,
    logins_of,
    reset_credentials,
    server_data,
    sessions_of,
    sweep,
)
from .living import seems_over, still_lives
from .opening import admit, asks_store, candidates, enter_session, open_visit
from .remembering import may_reopen
from .resuming import resume
from .saving import begin_anonymous, save
from .signing import begin_attempt, elevate, sign_in, sign_out
from .stepping import end_privilege, judge_step_up, step_up_required
from .verifying import verify

__all__ = [
    "Approval",
    "abort",
    "accept_hand_over",
    "account_disabled",
    "admit",
    "adopt",
    "approve",
    "ask_approval",
    "asks_store",
    "begin_anonymous",
    "begin_attempt",
    "candidates",
    "check_clock",
    "close_visit",
    "commit",
    "credentials_changed",
    "cross_site",
    "cross_site_judged",
    "cross_site_with",
    "cycle",
    "devices_of",
    "elevate",
    "end_by_id",
    "end_device",
    "end_early",
    "end_everybody",
    "end_others",
    "end_privilege",
    "end_session",
    "end_subject",
    "enter_session",
    "erase_subject",
    "export_subject",
    "find_approval",
    "find_device",
    "find_session",
    "hand_over",
    "history",
    "is_live",
    "judge_step_up",
    "keep_history",
    "left_behind",
    "logins_of",
    "may_reopen",
    "needs_writing",
    "old_cookie",
    "open_visit",
    "plain_edits",
    "presents_nothing",
    "refuse_cross_site",
    "require_approval",
    "reset_credentials",
    "resume",
    "save",
    "seems_over",
    "server_data",
    "sessions_of",
    "sign_in",
    "sign_out",
    "step_up_required",
    "still_lives",
    "sweep",
    "use_approval",
    "verify",
    "visit_without_session",
    "visit_without_store",
]
