"""Reading step-up challenges, and carrying our own in an address (RFC 9470, RFC 9110)."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.assurance import NIST_AAL, AcrTable, Level
from strongroom.core.challenges import (
    ANEW,
    MAX_SECONDS,
    Asked,
    from_query,
    in_query,
    read_challenge,
)
from strongroom.core.stepup import Challenge, Requirement

NOW = 1_800_000_000_000
ERROR = 'error="insufficient_user_authentication"'


@pytest.mark.parametrize(
    ("header", "asked"),
    [
        # The two shapes of RFC 9470, section 3.
        (
            f'Bearer {ERROR}, error_description="A different authentication level is required", '
            'acr_values="myACR"',
            Asked(("myACR",), None, "A different authentication level is required"),
        ),
        (
            f'Bearer {ERROR}, error_description="More recent authentication is required", '
            'max_age="5"',
            Asked((), 5, "More recent authentication is required"),
        ),
        # RFC 9110: unquoted values, any case, any white space, other schemes before and behind.
        ("bearer ERROR=insufficient_user_authentication,MAX_AGE=5", Asked((), 5)),
        (f'Basic realm="x", Bearer {ERROR} , max_age = "7",Negotiate abc==', Asked((), 7)),
        (f'Negotiate YII=, DPoP algs="ES256", {ERROR}, acr_values="b a"', Asked(("b", "a"))),
        (f'Negotiate, Bearer realm="a, b", {ERROR}', Asked()),
        (f", ,\tBearer\t{ERROR}", Asked()),
        # Quotes inside quotes do not end them, and words inside them are no challenge.
        (f'Bearer error_description="a \\"b\\" c", {ERROR}', Asked(description='a "b" c')),
        (f'Basic realm="Bearer {ERROR.replace(chr(34), chr(92) + chr(34))}"', None),
        # What is said twice is said the first time.
        (f'Bearer {ERROR}, max_age="5", max_age="900"', Asked((), 5)),
        # Another error, none, or another challenge's parameters.
        ('Bearer error="invalid_token", acr_values="a"', None),
        ("Bearer", None),
        ("", None),
        ('Basic acr_values="a", max_age="5"', None),
        (f'Basic max_age="5", Bearer {ERROR}', Asked()),
        # Broken off, or no such age.
        ('Bearer error="insufficient_user_authentication', None),
        (f'Bearer {ERROR}, max_age="-5"', Asked()),
        (f'Bearer {ERROR}, max_age="\u0665"', Asked()),
        (f'Bearer {ERROR}, max_age="9999999999"', Asked((), MAX_SECONDS)),
        (f'Bearer {ERROR}, max_age="{"9" * 5000}"', Asked()),
        (f'Bearer {ERROR}, max_age="soon"', Asked()),
        (f'Bearer {ERROR}, acr_values="  a  \x07 b "', Asked(("a", "b"))),
    ],
)
def test_a_challenge_is_found_among_all_that_a_header_may_hold(header, asked):
    """As a client of an API, whoever wrote it (RFC 9470, 3; RFC 9110, 11.6.1)."""
    assert read_challenge(header) == asked


def test_the_header_may_come_several_times():
    """Each line has challenges of its own."""
    assert read_challenge(["Basic realm=x", f'Bearer {ERROR}, max_age="5"']) == Asked((), 5)
    assert read_challenge([]) is None


@given(st.text(max_size=200) | st.text(alphabet='Bearer=", \\\terror', max_size=300))
def test_no_header_makes_the_reader_raise(text):
    """A server may send anything."""
    assert read_challenge(text) is None or ERROR[7:-1] in text


def test_a_long_header_costs_little():
    """A hostile server cannot keep a client busy."""
    assert read_challenge('Bearer a="' + "\\" * 1_000_000) is None
    assert read_challenge("a=b," * 1_000_000) is None
    assert read_challenge(f'Bearer {ERROR}, acr_values="{"a " * 3000}"') == Asked(("a",) * 16)


@given(
    st.none() | st.integers(0, 10**9),
    st.sampled_from([None, "aal1", "aal2", "aal3"]),
    st.sampled_from(["Bearer", "DPoP", "Session"]),
)
def test_what_we_write_we_read(seconds, acr, scheme):
    """The server's half and the client's half are one protocol (RFC 9470)."""
    age = None if seconds is None else seconds * 1000
    if age is None and acr is None:
        return
    challenge = Challenge("too_old", Requirement(age, acr))
    asked = read_challenge(challenge.www_authenticate(scheme))
    assert asked == Asked(() if acr is None else (acr,), seconds, challenge.sentence)
    assert asked is not None
    assert asked.requirement() == Requirement(age, acr)


@pytest.mark.parametrize(
    ("asked", "requirement"),
    [
        (Asked(("aal2",), 300), Requirement(300_000, "aal2")),
        # Any of the levels will do, so no more than the weakest is asked for.
        (Asked(("aal3", "aal2", "urn:theirs")), Requirement(acr="aal2")),
        (Asked((), 0), Requirement(0)),
        (Asked(), Requirement(ANEW)),
        (Asked(("urn:theirs",), 300), None),
    ],
)
def test_a_challenge_becomes_a_requirement_here(asked, requirement):
    """As far as this application has such levels."""
    assert asked.requirement() == requirement


def test_a_challenge_is_passed_on_to_the_provider():
    """By the parameters of the authorization request (RFC 9470, 4)."""
    assert Asked(("b", "a"), 0).parameters() == {"acr_values": "b a", "max_age": "0"}
    assert Asked().parameters() == {}


@pytest.mark.parametrize(
    ("expected", "acr", "age"),
    [
        (None, "a", 0),
        (None, "b", 5),
        (None, "a", 7),
        ("too_old", "a", 8),
        (None, "a", -2),
        ("too_old", "a", -3),
        ("too_weak", "c", 0),
        ("too_weak", None, 0),
        ("too_weak", ["a"], 0),
    ],
)
def test_the_providers_answer_is_judged_by_its_claims(expected, acr, age):
    """A provider may pass over what it was asked for (RFC 9470, 5; ASVS 7.6.1)."""
    told = Asked(("a", "b"), 5).unmet(acr=acr, auth_time=NOW / 1000 - age, now=NOW)
    assert told == expected


@pytest.mark.parametrize("auth_time", [None, "1800000000", True, [], float("nan")])
def test_a_missing_time_is_no_time(auth_time):
    """A claim that is not there proves nothing (ASVS 6.8.4)."""
    assert Asked((), 5).unmet(acr=None, auth_time=auth_time, now=NOW) == "too_old"
    assert Asked().unmet(acr=None, auth_time=auth_time, now=NOW) is None


REQUIREMENT = Requirement(300_000, "aal2", frozenset({"pwd", "x:y"}), {"otp": 60_000, "a:b": 0})


def test_a_requirement_travels_in_an_address():
    """To the page that asks for it, and is the same there."""
    query = in_query(Challenge("too_old", REQUIREMENT))
    assert query.isascii()
    assert not set(query) & set(' "<>\r\n#')
    assert from_query(dict(parse_qsl(query))) == REQUIREMENT
    assert in_query(Challenge("too_old", Requirement(max_age=0))) == "max_age=0"


@pytest.mark.parametrize(
    ("query", "requirement"),
    [
        ({}, None),
        ({"next": "/", "acr_values": "", "max_age": "", "amr_values": ""}, None),
        ({"acr_values": "aal9"}, None),
        ({"acr_values": "aal2 aal3"}, None),
        ({"acr_values": "aal9", "max_age": "5"}, Requirement(5000)),
        ({"max_age": "-5"}, None),
        ({"amr_values": 'otp  "x" '}, Requirement(amr=frozenset({"otp"}))),
        ({"amr_max_age": "otp:60 pwd: :5 x hwk:-1"}, Requirement(ages={"otp": 60_000})),
    ],
)
def test_what_a_link_says_is_only_a_wish(query, requirement):
    """Anybody writes links: what does not exist here is not asked for, and nothing raises."""
    assert from_query(query) == requirement


@given(
    st.dictionaries(
        st.sampled_from(["acr_values", "max_age", "amr_values", "amr_max_age"]), st.text()
    )
)
def test_no_query_makes_the_reader_raise(query):
    """A link may say anything."""
    found = from_query(query)
    assert (
        found is None or from_query(dict(parse_qsl(in_query(Challenge("too_old", found))))) == found
    )


def test_the_levels_are_the_applications():
    """Another table has other names."""
    table = AcrTable((Level("low", ((frozenset({"pwd"}),),)),))
    assert from_query({"acr_values": "low"}, table) == Requirement(acr="low")
    assert Asked(("aal1", "low")).requirement(table) == Requirement(acr="low")
    assert from_query({"acr_values": "low"}, NIST_AAL) is None
