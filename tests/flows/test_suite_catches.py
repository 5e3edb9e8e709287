"""What this folder proves, it would notice if it broke: each piece is broken once, and seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from strongroom.core import credentials, lifecycle, visit
from strongroom.core.credentials import NEVER, Credential, Verdict
from strongroom.core.flows import closing, saving, signing
from strongroom.core.ops import AtLimit, Flow, Insert, Inserted, Outcome, Replace
from strongroom.core.record import Record
from strongroom.core.tokens import Token
from strongroom.core.visit import Visit
from tests.flows import (
    test_browsers,
    test_clocks,
    test_cookies_out,
    test_ended_is_terminal,
    test_failed_responses,
    test_limits,
    test_saving,
    test_sign_in_order,
    test_signing_in,
    test_table_d,
)
from tests.support.flows import writing

Patch = pytest.MonkeyPatch


def no_grace(patch: Patch) -> None:
    """The overlap after a confirmation is gone."""
    genuine = credentials.judge

    def judge(known: Credential, token: Token, now: int, grace: int, settle: int) -> Verdict:
        return genuine(known, token, now, 0, settle)

    patch.setattr(visit, "judge", judge)


def no_reuse(patch: Patch) -> None:
    """A retired token is never a reason to end anything."""
    genuine = credentials.judge

    def judge(*args: Any) -> Verdict:
        verdict = genuine(*args)
        return Verdict.QUIET if verdict.is_reuse else verdict

    patch.setattr(visit, "judge", judge)


def no_epoch(patch: Patch) -> None:
    """An insert does not look whether everything was ended in the meantime."""
    genuine = lifecycle.insert

    def insert(op: Insert, **held: Any) -> Inserted:
        return genuine(replace(op, epoch=None), **held)

    patch.setattr(lifecycle, "insert", insert)


def no_limit(patch: Patch) -> None:
    """Sessions are counted before the insert, not with it; here: not at all."""
    genuine = lifecycle.insert
    patch.setattr(lifecycle, "insert", lambda op, **held: genuine(replace(op, limit=None), **held))


def no_second_look(patch: Patch) -> None:
    """The cookie is decided on the view from the request's beginning."""

    def token_to_hand_out(visit: Visit) -> Flow[Token | None]:
        yield from ()
        return visit.issue

    patch.setattr(closing, "_token_to_hand_out", token_to_hand_out)


def no_condition(patch: Patch) -> None:
    """A save writes over whatever is there."""

    def overwrite(record: Record, op: Replace) -> Outcome:
        return lifecycle_replace(record, replace(op, expected=record.header.data_version))

    lifecycle_replace = lifecycle._replace  # pyright: ignore[reportPrivateUsage]
    patch.setattr(lifecycle, "_replace", overwrite)


def stale_merge(patch: Patch) -> None:
    """A save takes the newest version for the one that it has read."""
    genuine = saving._write  # pyright: ignore[reportPrivateUsage]

    def write(visit: Visit, *args: Any, **settings: Any) -> Flow[bool]:
        assert visit.record is not None
        visit.data_version = visit.record.header.data_version
        return (yield from genuine(visit, *args, **settings))

    patch.setattr(saving, "_write", write)


def moving_confirmation(patch: Patch) -> None:
    """The later note of use wins."""
    patch.setattr(lifecycle, "with_notes", lambda known, noted: noted)


def revival(patch: Patch) -> None:
    """An op on an ended record brings it back."""
    genuine = lifecycle.apply

    def apply(record: Record | None, op: lifecycle.Change) -> Outcome:
        if record is not None and not record.is_live and op.verb != "end":
            record = replace(record, header=replace(record.header, end_reason=None))
        return genuine(record, op)

    patch.setattr(lifecycle, "apply", apply)


def confirmed_by_slow_requests(patch: Patch) -> None:
    """A use counts when its response begins, not when its request came."""
    genuine = closing._note_use  # pyright: ignore[reportPrivateUsage]

    def note_use(visit: Visit) -> Flow[None]:
        visit.opened_at = visit.ctx.now()
        yield from genuine(visit)

    patch.setattr(closing, "_note_use", note_use)


def nothing_settles(patch: Patch) -> None:
    """The first use confirms."""

    def due(known: Credential, now: int, settle: int) -> bool:
        return known.confirmed_at == NEVER and known.first_used_at != NEVER

    patch.setattr(closing, "confirmation_due", due)


def hasty_renewal(patch: Patch) -> None:
    """The next renewal does not wait for the confirmation."""
    patch.setattr(closing, "renewal_allowed", lambda known, now, grace: True)


def old_session_stays(patch: Patch) -> None:
    """Signing in forgets to end the session before."""

    def end_before(*_: Any) -> Flow[None]:
        yield from ()

    patch.setattr(signing, "end_before", end_before)


def nothing_is_undone(patch: Patch) -> None:
    """A failed response leaves the session that it signed in."""

    def end_aborted(visit: Visit, aborted: Record) -> Flow[None]:
        yield from ()
        visit.aborts = None

    patch.setattr(closing, "_end_aborted", end_aborted)


def honest_browsers() -> None:
    """Many honest browsers, the same ones each time."""
    chosen = settings(
        max_examples=150,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
    )
    run_state_machine_as_test(test_browsers.Honest, settings=chosen)


BROKEN: list[Any] = [
    (no_grace, lambda: test_table_d.test_row_previous_confirmed_overlaps_for_grace(0)),
    (no_reuse, test_browsers.test_a_thief_who_renews_first_is_found_by_the_owner),
    (
        no_epoch,
        lambda: test_sign_in_order.test_a_sign_in_that_began_before_the_end_comes_to_nothing(
            "authenticating", "end_subject"
        ),
    ),
    (
        no_epoch,
        lambda: test_sign_in_order.test_the_second_factor_counts_from_the_first("end_subject"),
    ),
    (
        no_limit,
        lambda: test_limits.test_the_limit_is_atomic_under_parallel_sign_ins(AtLimit.REFUSE),
    ),
    (
        no_second_look,
        lambda: test_ended_is_terminal.test_an_end_is_final_in_every_order("end_subject", "renew"),
    ),
    (
        no_second_look,
        lambda: test_cookies_out.test_no_response_hands_out_an_older_cookie_than_the_record_has(
            "renew and elevate"
        ),
    ),
    (
        no_condition,
        lambda: test_saving.test_two_writers_of_different_keys_both_survive(writing),
    ),
    (
        stale_merge,
        lambda: test_saving.test_data_survives_what_happens_to_the_session_in_one_request(
            "elevate", late=False
        ),
    ),
    (moving_confirmation, test_table_d.test_a_confirmation_never_moves),
    (moving_confirmation, test_table_d.test_a_late_first_use_does_not_undo_a_confirmation),
    (
        revival,
        lambda: test_ended_is_terminal.test_an_end_is_final_in_every_order("sign_out", "save"),
    ),
    (
        revival,
        lambda: test_ended_is_terminal.test_an_end_is_final_in_every_order("end_subject", "touch"),
    ),
    (nothing_settles, test_clocks.test_a_confirmation_is_of_a_use_after_settle),
    (confirmed_by_slow_requests, test_clocks.test_what_slow_requests_do_does_not_confirm),
    (
        old_session_stays,
        lambda: test_signing_in.test_nothing_of_an_earlier_stage_works_after_a_sign_in(
            "alice", "alice", None
        ),
    ),
    (
        nothing_is_undone,
        lambda: test_failed_responses.test_a_failed_response_signs_nobody_in("visitor", 500),
    ),
    (
        nothing_is_undone,
        lambda: test_failed_responses.test_a_cancelled_sign_in_leaves_nobody_signed_in(
            "visitor", waits=False
        ),
    ),
    pytest.param(nothing_settles, honest_browsers, marks=pytest.mark.slow),
    pytest.param(hasty_renewal, honest_browsers, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("breaking", "proof"), BROKEN)
def test_a_broken_piece_is_noticed(
    breaking: Callable[[Patch], None], proof: Callable[[], None], monkeypatch: Patch
) -> None:
    """The proof passes as things are, and fails once the piece is broken."""
    proof()
    breaking(monkeypatch)
    with pytest.raises((AssertionError, ExceptionGroup)):
        proof()
