"""The rotating credential: every row of PROTOCOL's table D, to the millisecond."""

from __future__ import annotations

from dataclasses import replace

import pytest

from strongroom.core.credentials import (
    HANDING_OUT,
    NEVER,
    ChangedBy,
    Credential,
    Verdict,
    confirmation_due,
    confirmed,
    create,
    first_used,
    handed_out_again,
    judge,
    next_rotation,
    renewal_allowed,
    renewed,
    rotated,
)
from strongroom.core.tokens import (
    MAX_RENEWAL,
    MAX_ROTATION,
    NO_DIGEST,
    Token,
    generation_of,
    successor,
)
from tests.core.kit import KEYS, NOW, a_token, following

GRACE = 30_000
SETTLE = 90_000
FIRST, SECOND, THIRD = (a_token(), following(a_token()), following(following(a_token())))
FOURTH = following(THIRD)


def fresh() -> Credential:
    """A session that has just begun with the first token."""
    return create(FIRST, SECOND, NOW)


def after_renewal() -> Credential:
    """The second token took over at NOW, and has not come back yet."""
    return renewed(create(FIRST, SECOND, NOW - 10 * SETTLE), SECOND, THIRD, NOW)


def after_confirmation() -> Credential:
    """The second token took over a while ago, and was confirmed at NOW."""
    older = replace(after_renewal(), changed_at=NOW - SETTLE, first_used_at=NOW - SETTLE)
    return confirmed(older, NOW)


def after_two_renewals() -> Credential:
    """The third token took over long ago, and was confirmed long ago."""
    return replace(
        renewed(after_renewal(), THIRD, FOURTH, NOW - 9 * GRACE),
        first_used_at=NOW - 8 * GRACE,
        confirmed_at=NOW - 5 * GRACE,
    )


def elevated(*, confirmed_at: int = NEVER) -> tuple[Credential, Token]:
    """A credential that was rotated at NOW, and its token."""
    token = a_token(generation_of(1, 0), filler=50)
    credential = rotated(token, following(token), NOW)
    return replace(credential, first_used_at=confirmed_at, confirmed_at=confirmed_at), token


def said(credential: Credential, token: Token, now: int) -> Verdict:
    """What the table says, with the default grace."""
    return judge(credential, token, now, GRACE, SETTLE)


@pytest.mark.parametrize("later", [0, GRACE, 10**12])
def test_the_current_token_is_current(later: int) -> None:
    """Row 1: generation and digest are the record's, however old (D; the clocks judge age)."""
    assert said(fresh(), FIRST, NOW + later) is Verdict.CURRENT
    assert said(after_renewal(), SECOND, NOW + later) is Verdict.CURRENT
    assert Verdict.CURRENT.accepted


@pytest.mark.parametrize("later", [-GRACE, 0, GRACE, 10**12])
def test_a_renewal_that_the_store_lost_is_adopted(later: int) -> None:
    """Row 2: the next digest, one renewal above (D: failover)."""
    assert said(fresh(), SECOND, NOW + later) is Verdict.ADOPT
    assert said(after_confirmation(), THIRD, NOW + later) is Verdict.ADOPT
    assert Verdict.ADOPT.accepted


def test_only_the_next_token_is_adopted() -> None:
    """Two above, another digest one above, or no known next: refused, and ends nothing (D)."""
    assert said(fresh(), THIRD, NOW) is Verdict.MISMATCH
    assert said(fresh(), a_token(1, filler=9), NOW) is Verdict.MISMATCH
    assert said(create(FIRST, None, NOW), SECOND, NOW) is Verdict.MISMATCH
    last = a_token(generation_of(0, MAX_RENEWAL))
    above = replace(create(last, None, NOW), next=a_token(generation_of(1, 0)).digest)
    assert said(above, a_token(generation_of(1, 0)), NOW) is Verdict.MISMATCH, "not a renewal"
    assert not Verdict.MISMATCH.accepted
    assert not Verdict.MISMATCH.is_reuse


def test_no_token_equals_an_absent_digest() -> None:
    """Zeros mean "no such token", and are never a match (D)."""
    nothing = replace(SECOND, digest=NO_DIGEST)
    assert said(create(FIRST, None, NOW), nothing, NOW) is Verdict.MISMATCH


@pytest.mark.parametrize("later", [0, GRACE - 1, GRACE, SETTLE, 10**12])
def test_the_previous_token_works_until_the_new_one_is_confirmed(later: int) -> None:
    """Row 3: a response that was lost is made up for, however late the client asks (P11)."""
    assert said(after_renewal(), FIRST, NOW + later) is Verdict.SUCCESSOR
    assert Verdict.SUCCESSOR.accepted


@pytest.mark.parametrize(
    ("later", "verdict"),
    [
        (0, Verdict.SUCCESSOR),
        (HANDING_OUT * SETTLE - 1, Verdict.SUCCESSOR),
        (HANDING_OUT * SETTLE, Verdict.QUIET),
        (HANDING_OUT * SETTLE + 59_999, Verdict.QUIET),
        (HANDING_OUT * SETTLE + 60_000, Verdict.SUCCESSOR),
        (10**12, Verdict.SUCCESSOR),
    ],
)
def test_a_successor_that_was_used_is_not_handed_out_for_ever(later: int, verdict: Verdict) -> None:
    """A crash is made up for, soon or after idling; not while the new one is in use (D1)."""
    used = first_used(after_renewal(), NOW + 60_000)
    assert said(used, FIRST, NOW + later) is verdict


def test_a_request_under_way_at_a_late_first_use_is_let_in() -> None:
    """Two tabs after a long sleep: the slower one is no stranger, and puts off nothing (P11)."""
    late = NOW + HANDING_OUT * SETTLE
    used = first_used(after_renewal(), late)
    assert said(used, FIRST, late + GRACE - 1) is Verdict.SUCCESSOR
    assert said(used, FIRST, late + GRACE) is Verdict.QUIET
    assert handed_out_again(used, late + GRACE - 1, SETTLE) == used


def test_a_successor_that_is_handed_out_again_settles_anew() -> None:
    """`settle` runs from the last time that the client got it, once it was used (D1)."""
    lost = after_renewal()
    assert handed_out_again(lost, NOW + 5, SETTLE) == lost, "it was never used, so nothing ran yet"
    used = first_used(lost, NOW)
    again = handed_out_again(used, NOW + SETTLE - 1, SETTLE)
    assert not confirmation_due(again, NOW + SETTLE, SETTLE)
    assert confirmation_due(again, NOW + 2 * SETTLE - 1, SETTLE)
    safe = confirmed(used, NOW)
    assert handed_out_again(safe, NOW + 5, SETTLE) == safe, "a confirmation never moves"


@pytest.mark.parametrize(
    ("later", "verdict"),
    [
        (0, Verdict.OVERLAP),
        (GRACE - 1, Verdict.OVERLAP),
        (GRACE, Verdict.REUSE_RECENT),
        (10**12, Verdict.REUSE_RECENT),
    ],
)
def test_the_previous_token_overlaps_for_grace_after_the_confirmation(
    later: int, verdict: Verdict
) -> None:
    """Rows 4 and 8: accepted without a cookie until exactly `grace`, then it is reuse (P12)."""
    assert said(after_confirmation(), FIRST, NOW + later) is verdict
    assert verdict.accepted is not verdict.is_reuse


@pytest.mark.parametrize(
    ("later", "verdict"),
    [(0, Verdict.QUIET), (GRACE - 1, Verdict.QUIET), (GRACE, Verdict.REUSE_STALE)],
)
def test_an_older_token_is_refused_quietly_for_grace_after_a_change(
    later: int, verdict: Verdict
) -> None:
    """Rows 5 and 8: a request that was long under way raises no alarm; a later one does (P12)."""
    credential = renewed(after_renewal(), THIRD, FOURTH, NOW)
    assert said(credential, FIRST, NOW + later) is verdict
    assert not verdict.accepted


def test_a_token_two_renewals_old_is_stale_reuse() -> None:
    """Row 8: whoever presents it followed no renewal (P12)."""
    assert said(after_two_renewals(), FIRST, NOW) is Verdict.REUSE_STALE
    assert said(after_two_renewals(), SECOND, NOW) is Verdict.REUSE_RECENT


@pytest.mark.parametrize("later", [0, GRACE - 1, GRACE, 10**12])
def test_an_unconfirmed_rotation_refuses_old_tokens_quietly(later: int) -> None:
    """Row 6: a lost elevation response costs a sign-in, never an alarm (D2)."""
    credential, _ = elevated()
    for old in (FIRST, SECOND, THIRD):
        assert said(credential, old, NOW + later) is Verdict.QUIET


@pytest.mark.parametrize(
    ("later", "verdict"),
    [(0, Verdict.QUIET), (GRACE - 1, Verdict.QUIET), (GRACE, Verdict.ROTATED_AWAY)],
)
def test_a_token_retired_by_rotation_is_a_signal(later: int, verdict: Verdict) -> None:
    """Rows 6 and 7: from `grace` after the confirmation on, refused with a signal; ends nothing."""
    confirmed_at = NOW + 10 * GRACE
    credential, _ = elevated(confirmed_at=confirmed_at)
    assert said(credential, THIRD, confirmed_at + later) is verdict
    assert not verdict.accepted
    assert not verdict.is_reuse


def test_a_token_from_before_a_rotation_is_never_reuse() -> None:
    """Also after the rotated token was renewed in its turn (D2)."""
    credential, token = elevated(confirmed_at=NOW + GRACE)
    second = following(token)
    credential = renewed(credential, second, following(second), NOW + 3 * GRACE)
    credential = replace(credential, first_used_at=NOW + 4 * GRACE, confirmed_at=NOW + 6 * GRACE)
    assert said(credential, FIRST, NOW + 9 * GRACE) is Verdict.ROTATED_AWAY
    assert said(credential, a_token(generation_of(0, 77)), NOW + 9 * GRACE) is Verdict.ROTATED_AWAY
    assert said(credential, token, NOW + 9 * GRACE) is Verdict.REUSE_RECENT


def test_a_rotation_leaves_no_previous() -> None:
    """The old token is dead at once, also within `grace` (P10, D2)."""
    credential, token = elevated()
    assert credential.previous == NO_DIGEST
    assert said(credential, FIRST, NOW) is Verdict.QUIET
    assert said(credential, token, NOW) is Verdict.CURRENT
    below = a_token(generation_of(0, MAX_RENEWAL))
    assert not said(credential, below, NOW).accepted


def test_the_right_generation_with_another_digest_ends_nothing() -> None:
    """Row 9: current or previous generation, but not our token: refused, no alarm (D)."""
    assert said(fresh(), a_token(0, filler=9), NOW) is Verdict.MISMATCH
    assert said(after_renewal(), a_token(1, filler=9), NOW) is Verdict.MISMATCH
    for credential in (after_renewal(), after_confirmation()):
        for later in (0, 10 * GRACE):
            assert said(credential, a_token(0, filler=9), NOW + later) is Verdict.MISMATCH


def test_grace_may_be_zero() -> None:
    """Zero is a value: the overlap ends with the confirmation."""
    assert judge(after_confirmation(), FIRST, NOW, 0, SETTLE) is Verdict.REUSE_RECENT
    assert judge(after_renewal(), FIRST, NOW, 0, SETTLE) is Verdict.SUCCESSOR


def test_exactly_the_four_kind_verdicts_are_accepted() -> None:
    """Every verdict lets in, or refuses; two of them end the session (D)."""
    assert {each for each in Verdict if each.accepted} == {
        Verdict.CURRENT,
        Verdict.ADOPT,
        Verdict.SUCCESSOR,
        Verdict.OVERLAP,
    }
    assert {each for each in Verdict if each.is_reuse} == {
        Verdict.REUSE_RECENT,
        Verdict.REUSE_STALE,
    }


def test_a_first_use_and_a_confirmation_never_move() -> None:
    """What happened first stays, whoever comes later with another clock (D1)."""
    used = first_used(after_renewal(), NOW)
    assert used.first_used_at == NOW
    assert first_used(used, NOW + 5) == used == first_used(used, NOW - 5)
    sure = confirmed(used, NOW + SETTLE)
    assert confirmed(sure, NOW + 2 * SETTLE) == sure == confirmed(sure, NOW)


@pytest.mark.parametrize(("later", "due"), [(0, False), (SETTLE - 1, False), (SETTLE, True)])
def test_a_use_confirms_from_settle_after_the_first_on(later: int, due: bool) -> None:
    """Not before: a browser that crashes restores an older jar (D1)."""
    used = first_used(after_renewal(), NOW)
    assert confirmation_due(used, NOW + later, SETTLE) is due
    assert not confirmation_due(after_renewal(), NOW + later, SETTLE), "never used yet"
    assert not confirmation_due(confirmed(used, NOW), NOW + later, SETTLE), "confirmed already"


@pytest.mark.parametrize(("later", "allowed"), [(0, False), (GRACE - 1, False), (GRACE, True)])
def test_the_next_renewal_waits_for_grace_after_the_confirmation(later: int, allowed: bool) -> None:
    """So a cookie that was decided before it cannot arrive after it (D1)."""
    assert renewal_allowed(after_confirmation(), NOW + later, GRACE) is allowed
    assert not renewal_allowed(first_used(after_renewal(), NOW), NOW + later, GRACE)


def test_a_new_credential_has_no_past() -> None:
    """Creation: generation and digests are the token's, and nothing has happened (D)."""
    credential = fresh()
    assert (credential.current, credential.next) == (FIRST.digest, SECOND.digest)
    assert credential.previous == NO_DIGEST
    assert (credential.first_used_at, credential.confirmed_at) == (NEVER, NEVER)
    assert credential.changed_by is ChangedBy.CREATION
    assert credential.next_key_id == SECOND.key_id


def test_a_renewal_moves_the_digests_along() -> None:
    """Current becomes previous; first use and confirmation start anew (D)."""
    credential = after_renewal()
    assert (credential.previous, credential.current, credential.next) == (
        FIRST.digest,
        SECOND.digest,
        THIRD.digest,
    )
    assert credential.changed_by is ChangedBy.RENEWAL
    assert (credential.first_used_at, credential.confirmed_at) == (NEVER, NEVER)
    assert credential.changed_at == NOW


def test_the_next_token_names_its_key() -> None:
    """Old and new processes derive the same successor while keys rotate (A1, D)."""
    under_two = following(FIRST, 2)
    assert create(FIRST, under_two, NOW).next_key_id == 2
    assert create(FIRST, None, NOW).next_key_id == FIRST.key_id
    assert create(FIRST, None, NOW).next == NO_DIGEST


def test_a_rotation_counts_up_and_stops_at_the_last_number() -> None:
    """Renewals start from zero again; after the last rotation a new sign-in is asked for (D5)."""
    assert next_rotation(generation_of(0, 0)) == generation_of(1, 0)
    assert next_rotation(generation_of(7, MAX_RENEWAL)) == generation_of(8, 0)
    assert next_rotation(generation_of(MAX_ROTATION - 1, 5)) == generation_of(MAX_ROTATION, 0)
    assert next_rotation(generation_of(MAX_ROTATION, 0)) is None
    assert next_rotation(generation_of(MAX_ROTATION, MAX_RENEWAL)) is None


def test_the_last_renewal_leads_nowhere() -> None:
    """At the last number there is no next token to renew to, and none is adopted (D5)."""
    last = a_token(generation_of(3, MAX_RENEWAL))
    credential = create(last, successor(KEYS, last, 1), NOW)
    assert credential.next == NO_DIGEST
    assert said(credential, a_token(generation_of(4, 0)), NOW) is Verdict.MISMATCH
