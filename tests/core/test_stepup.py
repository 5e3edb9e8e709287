"""Step-up: age runs from the event, per factor, with a hard bound (P25, RFC 9470, ASVS 7.5)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.assurance import NIST_AAL, AcrTable, Level
from strongroom.core.errors import ConfigurationError, UsageError
from strongroom.core.record import AuthenticationEvent
from strongroom.core.stepup import (
    DEFAULT_SKEW,
    Challenge,
    Requirement,
    Satisfied,
    ask,
)

MINUTE = 60_000
NOW = 1_800_000_000_000
FIVE = Requirement(max_age=5 * MINUTE)
FULL = Requirement(max_age=5 * MINUTE, acr="aal2")


def ago(amr: str, age: int) -> AuthenticationEvent:
    return AuthenticationEvent(amr, NOW - age)


def reason(
    requirement: Requirement, *events: AuthenticationEvent, remembered: bool = False
) -> str | None:
    """The reason for the challenge, or None if the requirement holds."""
    answer = ask(requirement, events, NOW, remembered=remembered)
    return answer.reason if isinstance(answer, Challenge) else None


@pytest.mark.parametrize(
    ("expected", "requirement", "events"),
    [
        # Age alone: any one factor, fresh (ASVS 7.5.2).
        (None, FIVE, [ago("pwd", 0)]),
        (None, FIVE, [ago("pwd", 5 * MINUTE)]),
        ("too_old", FIVE, [ago("pwd", 5 * MINUTE + 1)]),
        (None, FIVE, [ago("pwd", 60 * MINUTE), ago("otp", MINUTE)]),
        ("too_old", FIVE, [ago("pwd", 60 * MINUTE), ago("otp", 6 * MINUTE)]),
        ("not_authenticated", FIVE, []),
        # What is no factor does not make anything fresh.
        ("too_old", FIVE, [ago("pwd", 60 * MINUTE), ago("geo", 0), ago("face", 0)]),
        ("not_authenticated", FIVE, [ago("rba", 0)]),
        # Level alone: whenever it was proved in this session.
        (None, Requirement(acr="aal1"), [ago("pwd", 900 * MINUTE)]),
        (None, Requirement(acr="aal2"), [ago("pwd", 900 * MINUTE), ago("otp", 300 * MINUTE)]),
        (None, Requirement(acr="aal2"), [ago("hwk", MINUTE), ago("pin", MINUTE)]),
        ("too_weak", Requirement(acr="aal2"), [ago("pwd", 0)]),
        ("too_weak", Requirement(acr="aal3"), [ago("pwd", 0), ago("otp", 0)]),
        # Both: full re-authentication, every factor fresh (ASVS 7.5.1).
        (None, FULL, [ago("pwd", MINUTE), ago("otp", 2 * MINUTE)]),
        ("too_old", FULL, [ago("pwd", MINUTE), ago("otp", 60 * MINUTE)]),
        ("too_old", FULL, [ago("pwd", 60 * MINUTE), ago("otp", MINUTE)]),
        ("too_weak", FULL, [ago("pwd", MINUTE), ago("pwd", 0)]),
        (None, FULL, [ago("pwd", 90 * MINUTE), ago("pwd", MINUTE), ago("otp", MINUTE)]),
        # Named methods.
        (None, Requirement(amr=frozenset({"pwd"})), [ago("pwd", 900 * MINUTE)]),
        ("method_missing", Requirement(amr=frozenset({"hwk"})), [ago("pwd", 0)]),
        ("method_missing", Requirement(amr=frozenset({"pwd", "otp"})), [ago("pwd", 0)]),
        (
            "too_old",
            Requirement(max_age=MINUTE, amr=frozenset({"hwk"})),
            [ago("hwk", 2 * MINUTE), ago("pwd", 0)],
        ),
        # Zero is a value.
        (None, Requirement(max_age=0), [ago("pwd", 0)]),
        ("too_old", Requirement(max_age=0), [ago("pwd", 1)]),
    ],
)
def test_what_is_asked_for_meets_what_is_there(expected, requirement, events):
    """Each factor's own age counts, and the level comes from fresh factors alone (P25)."""
    assert reason(requirement, *events) == expected


def test_an_answer_names_the_level_of_the_fresh_proofs():
    """An old hardware key does not lift today's password (P25)."""
    old_key, today = ago("hwk", 60 * MINUTE), ago("pwd", 0)
    assert ask(FIVE, [old_key, today], NOW) == Satisfied("aal1", NOW + 5 * MINUTE)
    assert ask(Requirement(acr="aal1"), [old_key, today], NOW) == Satisfied("aal3")


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [(1, None), (DEFAULT_SKEW, None), (DEFAULT_SKEW + 1, "not_authenticated")],
)
def test_an_event_from_the_future_does_not_count(ahead, expected):
    """Clocks differ a little; beyond that, nobody has authenticated tomorrow (P9)."""
    assert reason(FIVE, ago("pwd", -ahead)) == expected
    assert reason(Requirement(acr="aal1"), ago("pwd", -ahead)) == expected


def test_a_future_event_does_not_hide_an_honest_one():
    """It is left out, not held against the session."""
    assert reason(FIVE, ago("pwd", -900 * MINUTE), ago("pwd", MINUTE)) is None
    assert reason(FULL, ago("otp", -900 * MINUTE), ago("pwd", MINUTE)) == "too_weak"


def test_the_allowed_skew_is_the_callers():
    """Zero skew is a value too."""
    ahead = [ago("pwd", -1)]
    assert isinstance(ask(FIVE, ahead, NOW, skew=0), Challenge)
    assert isinstance(ask(FIVE, ahead, NOW, skew=1), Satisfied)


@pytest.mark.parametrize(
    ("expected", "requirement"),
    [
        (None, Requirement(acr="aal1")),
        ("remembered", Requirement(acr="aal2")),
        ("remembered", Requirement(acr="aal1", max_age=10**12)),
        ("remembered", FIVE),
        ("remembered", Requirement(amr=frozenset({"pwd"}))),
    ],
)
def test_a_remembered_session_is_never_recent_and_never_strong(expected, requirement):
    """A persistent login gives the lowest level and nothing else (NIST-B2)."""
    events = [ago("pwd", 0), ago("hwk", 0)]
    assert reason(requirement, *events, remembered=True) == expected


def test_a_remembered_session_without_events_proves_nothing():
    """No level without an authentication event (NIST-B4)."""
    assert reason(Requirement(acr="aal1"), remembered=True) == "not_authenticated"
    answer = ask(Requirement(acr="aal1"), [ago("hwk", 0), ago("pin", 0)], NOW, remembered=True)
    assert answer == Satisfied("aal1")


EVENTS = st.lists(
    st.builds(
        AuthenticationEvent,
        amr=st.sampled_from(["pwd", "otp", "hwk", "fed", "mfa", "face", "geo", "?"]),
        at=st.integers(NOW - 100, NOW + 100),
    ),
    max_size=5,
)
REQUIREMENTS = st.builds(
    Requirement,
    max_age=st.one_of(st.none(), st.integers(0, 100)),
    acr=st.sampled_from(["aal1", "aal2", "aal3"]),
    amr=st.frozensets(st.sampled_from(["pwd", "hwk"])),
)


@given(REQUIREMENTS, EVENTS, st.integers(0, 200), st.booleans())
def test_waiting_never_satisfies(requirement, events, later, remembered):
    """Freshness only runs out: no activity and no waiting brings it back (P25)."""
    after = ask(requirement, events, NOW + 100 + later, remembered=remembered)
    if isinstance(after, Satisfied):
        before = ask(requirement, events, NOW + 100, remembered=remembered)
        assert isinstance(before, Satisfied)


@given(REQUIREMENTS, EVENTS)
def test_being_remembered_never_helps(requirement, events):
    """Whatever a remembered session may do, a signed-in one may too (NIST-B2)."""
    if isinstance(ask(requirement, events, NOW, remembered=True), Satisfied):
        assert isinstance(ask(requirement, events, NOW), Satisfied)


@given(REQUIREMENTS, EVENTS)
def test_an_answer_keeps_every_part_of_what_was_asked(requirement, events):
    """Satisfied means: level, age and methods, all by fresh events (P25)."""
    answer = ask(requirement, events, NOW, skew=0)
    if isinstance(answer, Challenge):
        return
    max_age = 10**9 if requirement.max_age is None else requirement.max_age
    fresh = [event for event in events if 0 <= NOW - event.at <= max_age]
    assert NIST_AAL.derive(fresh) == answer.acr
    assert NIST_AAL.rank(answer.acr) >= NIST_AAL.rank(requirement.acr or "aal1")
    assert requirement.amr <= {event.amr for event in fresh}


def test_a_requirement_that_asks_for_nothing_is_a_mistake():
    """The route would look guarded and not be."""
    with pytest.raises(ConfigurationError, match="asks for nothing"):
        Requirement()


def test_a_negative_age_is_a_mistake():
    """Nobody can have authenticated in the future."""
    with pytest.raises(ConfigurationError, match="max_age"):
        Requirement(max_age=-1)


@pytest.mark.parametrize("events", [[], [ago("pwd", 0)]])
def test_an_unknown_level_is_told_before_anything_is_judged(events):
    """A mistyped level is the application's mistake, on every request alike."""
    with pytest.raises(ConfigurationError, match="aal9"):
        ask(Requirement(acr="aal9"), events, NOW)


def test_another_table_may_be_asked():
    """Levels are data, handed in."""
    table = AcrTable((Level("low", ((frozenset({"eid"}),),)),))
    assert ask(Requirement(acr="low"), [ago("eid", 0)], NOW, table) == Satisfied("low")
    assert isinstance(ask(Requirement(acr="low"), [ago("pwd", 0)], NOW, table), Challenge)


# --- each factor's own age, and the window's end --------------------------------------------------

OTP_NOW_PWD_TODAY = Requirement(ages={"otp": 2 * MINUTE, "pwd": 600 * MINUTE})


@pytest.mark.parametrize(
    ("expected", "requirement", "events"),
    [
        (None, OTP_NOW_PWD_TODAY, [ago("pwd", 600 * MINUTE), ago("otp", 2 * MINUTE)]),
        ("too_old", OTP_NOW_PWD_TODAY, [ago("pwd", 600 * MINUTE), ago("otp", 2 * MINUTE + 1)]),
        ("too_old", OTP_NOW_PWD_TODAY, [ago("pwd", 600 * MINUTE + 1), ago("otp", MINUTE)]),
        ("method_missing", OTP_NOW_PWD_TODAY, [ago("otp", 0)]),
        # The shorter of the two ages counts.
        (
            "too_old",
            Requirement(max_age=MINUTE, ages={"pwd": 9 * MINUTE}),
            [ago("pwd", 2 * MINUTE)],
        ),
        (
            "too_old",
            Requirement(max_age=9 * MINUTE, ages={"pwd": MINUTE}),
            [ago("pwd", 2 * MINUTE)],
        ),
        # An old proof of a factor that has an age does not make the level either.
        (
            "too_old",
            Requirement(acr="aal2", ages={"otp": MINUTE}),
            [ago("pwd", 0), ago("otp", 2 * MINUTE)],
        ),
        (None, Requirement(acr="aal2", ages={"otp": MINUTE}), [ago("pwd", 9**9), ago("otp", 0)]),
        # Zero is a value here too.
        ("too_old", Requirement(ages={"pwd": 0}), [ago("pwd", 1)]),
        (None, Requirement(ages={"pwd": 0}), [ago("pwd", 0)]),
    ],
)
def test_each_factor_may_have_an_age_of_its_own(expected, requirement, events):
    """A code of this minute beside a password of this morning (P25)."""
    assert reason(requirement, *events) == expected
    assert reason(requirement, *events, remembered=True) == "remembered"


def test_an_age_of_a_factor_cannot_be_negative():
    """Nobody can have proved one in the future."""
    with pytest.raises(ConfigurationError, match="-1"):
        Requirement(ages={"otp": -1})


@pytest.mark.parametrize(
    ("until", "requirement", "events"),
    [
        (4 * MINUTE, FIVE, [ago("pwd", MINUTE)]),
        # The newest proof keeps the window open, where any one is enough.
        (3 * MINUTE, FIVE, [ago("pwd", MINUTE * 4), ago("otp", MINUTE * 2)]),
        # The oldest one closes it, where all are needed.
        (MINUTE, FULL, [ago("pwd", 4 * MINUTE), ago("otp", 2 * MINUTE)]),
        (None, Requirement(acr="aal2"), [ago("pwd", 4 * MINUTE), ago("otp", 2 * MINUTE)]),
        (
            MINUTE,
            Requirement(acr="aal1", ages={"otp": 2 * MINUTE}),
            [ago("pwd", 0), ago("otp", MINUTE)],
        ),
        (0, Requirement(max_age=0), [ago("pwd", 0)]),
    ],
)
def test_an_answer_says_until_when_it_holds(until, requirement, events):
    """A privileged window has a hard end, known from its beginning (P25)."""
    answer = ask(requirement, events, NOW)
    assert isinstance(answer, Satisfied)
    assert answer.until == (None if until is None else NOW + until)


REQUIREMENTS = st.builds(
    lambda acr, age, amr, ages: Requirement(age, acr, amr, ages),
    st.sampled_from(["aal1", "aal2", "aal3"]),
    st.none() | st.integers(0, 9 * MINUTE),
    st.frozensets(st.sampled_from(["pwd", "otp"])),
    st.dictionaries(st.sampled_from(["pwd", "hwk"]), st.integers(0, 9 * MINUTE)),
)
PROOFS = st.lists(
    st.builds(
        ago, st.sampled_from(["pwd", "otp", "hwk", "mfa", "fpt"]), st.integers(0, 9 * MINUTE)
    ),
    max_size=5,
)


@given(REQUIREMENTS, PROOFS)
def test_the_window_is_open_to_its_end_and_not_a_moment_longer(requirement, events):
    """`until` is the last millisecond at which the same question has the same answer (P25)."""
    answer = ask(requirement, events, NOW)
    if isinstance(answer, Satisfied) and answer.until is not None:
        assert isinstance(ask(requirement, events, answer.until), Satisfied)
        assert isinstance(ask(requirement, events, answer.until + 1), Challenge)


# --- what is owed ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requirement", "events", "enough", "not_enough"),
    [
        (FIVE, [ago("pwd", 9 * MINUTE)], [["pwd"], ["otp"], ["mfa"]], [[], ["geo"], ["face"]]),
        # The password is fresh: what is missing is something held.
        (FULL, [ago("pwd", 0)], [["otp"], ["hwk"], ["mfa"], ["pwd", "otp"]], [["pwd"], ["pin"]]),
        # Nothing is fresh: both at once, or one that is two.
        (FULL, [ago("pwd", 9 * MINUTE)], [["pwd", "otp"], ["mfa"], ["hwk", "fpt"]], [["otp"]]),
        (
            Requirement(amr=frozenset({"otp"}), ages={"hwk": MINUTE}),
            [ago("hwk", 2 * MINUTE)],
            [["otp", "hwk"], ["otp", "hwk", "pwd"]],
            [["otp"], ["hwk"]],
        ),
        (Requirement(acr="aal3"), [ago("pwd", 0)], [["hwk"], ["sc"], ["hwk", "pin"]], [["otp"]]),
    ],
)
def test_a_challenge_says_what_would_do(requirement, events, enough, not_enough):
    """So that a page asks for all that is missing at once, and offers nothing that would not do."""
    challenge = ask(requirement, events, NOW)
    assert isinstance(challenge, Challenge)
    assert all(challenge.would_do(methods) for methods in enough)
    assert not any(challenge.would_do(methods) for methods in not_enough)


@given(REQUIREMENTS, PROOFS, st.frozensets(st.sampled_from(["pwd", "otp", "hwk", "mfa", "fpt"])))
def test_what_would_do_does(requirement, events, methods):
    """Proving them now satisfies the requirement exactly where the challenge says so (P25)."""
    challenge = ask(requirement, events, NOW)
    if isinstance(challenge, Challenge):
        after = ask(requirement, [*events, *(ago(each, 0) for each in methods)], NOW)
        assert challenge.would_do(methods) == isinstance(after, Satisfied)


@pytest.mark.parametrize("lowered", [{"remembered": True}, {"doubtful": True}])
def test_a_session_that_is_doubted_owes_some_proof(lowered):
    """Also where its proofs would be fresh and strong enough."""
    challenge = ask(FULL, [ago("pwd", 0), ago("otp", 0)], NOW, **lowered)
    assert isinstance(challenge, Challenge)
    assert challenge.would_do(["pwd"])
    assert not challenge.would_do([])


def test_what_is_owed_is_told_to_programs():
    """As alternatives, each a list of choices; the fewest proofs first."""
    table = AcrTable(
        (
            Level("low", ((frozenset({"a", "b"}),),)),
            Level("high", ((frozenset({"a"}), frozenset({"c"})), (frozenset({"d"}),))),
        )
    )
    requirement = Requirement(acr="high", ages={"c": 90_000})
    challenge = ask(requirement, [ago("a", 0)], NOW, table)
    assert isinstance(challenge, Challenge)
    problem = challenge.problem()
    assert problem["owed"] == [[["c"]]]
    assert problem["amr_values"] == ["c"]
    assert problem["amr_max_age"] == {"c": 90}
    anew = ask(Requirement(acr="high", max_age=0), [ago("a", 1)], NOW, table)
    assert isinstance(anew, Challenge)
    assert anew.problem()["owed"] == [[["d"]], [["a"], ["c"]]]


# --- telling the client ---------------------------------------------------------------------------

REASONS = ["remembered", "not_authenticated", "too_old", "too_weak", "method_missing"]


def test_the_challenge_is_written_as_rfc_9470_has_it():
    """401 with WWW-Authenticate, level and seconds (RFC 9470, 3)."""
    assert Challenge("too_old", FULL).www_authenticate() == (
        'Bearer error="insufficient_user_authentication", '
        'error_description="The last authentication is too long ago for this; please confirm it '
        'is you.", acr_values="aal2", max_age="300"'
    )


@pytest.mark.parametrize(
    ("requirement", "present", "absent"),
    [
        (FIVE, ['max_age="300"'], ["acr_values"]),
        (Requirement(acr="aal3"), ['acr_values="aal3"'], ["max_age"]),
        (Requirement(amr=frozenset({"hwk"})), ["error="], ["acr_values", "max_age"]),
        (Requirement(max_age=0), ['max_age="0"'], []),
        (Requirement(max_age=1999), ['max_age="1"'], []),
    ],
)
def test_only_what_was_asked_for_is_in_the_challenge(requirement, present, absent):
    """Seconds are rounded down: a client is never promised more time than it has."""
    header = Challenge("too_old", requirement).www_authenticate()
    assert all(text in header for text in present)
    assert not any(text in header for text in absent)


@pytest.mark.parametrize("code", REASONS)
def test_every_reason_is_a_sentence_that_fits_a_header(code):
    """Quoted strings hold no quote, backslash or control character (RFC 6750, 3)."""
    challenge = Challenge(code, FULL)
    assert challenge.sentence.endswith(".")
    assert re.fullmatch(r"[ !#-\[\]-~]+", challenge.sentence)
    assert challenge.www_authenticate().isascii()


def test_the_scheme_is_the_applications_choice():
    """Cookies have no scheme of their own; the parameters stay."""
    header = Challenge("too_weak", FULL).www_authenticate("Session")
    assert header.startswith('Session error="insufficient_user_authentication", ')


@pytest.mark.parametrize("scheme", ["", "Two Words", 'a"b', "x\r\nSet-Cookie: a", "\u00e4"])
def test_a_scheme_that_would_break_the_header_is_refused(scheme):
    """No header is ever split."""
    with pytest.raises(UsageError, match="scheme"):
        Challenge("too_weak", FULL).www_authenticate(scheme)


def test_the_problem_says_the_same_in_json():
    """One answer for header and body (RFC 9457)."""
    requirement = Requirement(max_age=5 * MINUTE, acr="aal2", amr=frozenset({"pwd", "hwk"}))
    challenge = Challenge("method_missing", requirement)
    assert challenge.problem() == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": challenge.sentence,
        "code": "step_up_required",
        "error": "insufficient_user_authentication",
        "reason": "method_missing",
        "acr_values": "aal2",
        "amr_values": ["hwk", "pwd"],
        "max_age": 300,
    }


def test_the_problem_leaves_out_what_was_not_asked():
    """Absent is absent, not null; a zero is a value."""
    problem = Challenge("too_old", Requirement(max_age=0)).problem()
    assert problem["max_age"] == 0
    assert not {"acr_values", "amr_values"} & problem.keys()
