"""Which methods make which level (P25, NIST SP 800-63B-4, RFC 8176, ASVS 6.8.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.assurance import NIST_AAL, AcrTable, Level
from strongroom.core.errors import ConfigurationError
from strongroom.core.record import AuthenticationEvent

LEVELS = [level.name for level in NIST_AAL.levels]
METHODS = sorted(
    {"kba", "geo", "rba", "user", "wia", "mca", "pop"}.union(
        *(choice for level in NIST_AAL.levels for way in level.ways for choice in way)
    )
)


def events(*methods: str) -> list[AuthenticationEvent]:
    return [AuthenticationEvent(method, 0) for method in methods]


@pytest.mark.parametrize(
    ("methods", "level"),
    [
        ((), None),
        (("pwd",), "aal1"),
        (("otp",), "aal1"),
        (("hwk",), "aal1"),
        (("sms",), "aal1"),
        (("fed",), "aal1"),
        (("pwd", "pwd"), "aal1"),
        (("pwd", "pin"), "aal1"),
        (("otp", "sms"), "aal1"),
        (("hwk", "otp"), "aal1"),
        (("fed", "pwd"), "aal1"),
        (("pwd", "otp"), "aal2"),
        (("otp", "pwd"), "aal2"),
        (("pwd", "sms"), "aal2"),
        (("pwd", "swk"), "aal2"),
        (("swk", "face"), "aal2"),
        (("mfa",), "aal2"),
        (("fed", "mfa"), "aal2"),
        (("pwd", "hwk"), "aal3"),
        (("hwk", "pin"), "aal3"),
        (("hwk", "fpt"), "aal3"),
        (("hwk", "mfa"), "aal3"),
        (("sc", "pin"), "aal3"),
        (("pwd", "otp", "hwk"), "aal3"),
        # A biometric counts only beside something held, a question never.
        (("face",), None),
        (("fpt", "pwd"), "aal1"),
        (("kba",), None),
        (("kba", "pwd"), "aal1"),
        # What is known about a request is no factor.
        (("geo", "rba", "user", "wia", "mca", "pop"), None),
        (("PWD",), None),
        (("",), None),
        (("something-new",), None),
    ],
)
def test_the_default_table_follows_nist(methods, level):
    """One factor, two kinds of factor, a hardware key beside a second kind (63B-4, 2.1-2.3)."""
    assert NIST_AAL.derive(events(*methods)) == level


@pytest.mark.parametrize(
    "methods", [("pwd",), ("pwd", "otp"), ("pwd", "hwk"), ("mfa",), ("hwk", "fpt")]
)
def test_a_remembered_session_has_the_lowest_level_at_most(methods):
    """ "Remember my browser" does not replace authentication (NIST-B2)."""
    assert NIST_AAL.derive(events(*methods), remembered=True) == "aal1"


def test_being_remembered_proves_nothing_by_itself():
    """Without any event there is no level to lower (NIST-B4)."""
    assert NIST_AAL.derive([], remembered=True) is None


@given(st.sets(st.sampled_from(METHODS)), st.sampled_from(METHODS))
def test_another_proof_never_lowers_the_level(methods, more):
    """Levels only rise with what was proved."""

    def rank(found: str | None) -> int:
        return -1 if found is None else NIST_AAL.rank(found)

    before = NIST_AAL.derive(events(*methods))
    assert rank(NIST_AAL.derive(events(*methods, more))) >= rank(before)


@given(st.lists(st.text(max_size=5)), st.booleans())
def test_no_method_makes_the_derivation_raise(methods, remembered):
    """An identity provider may send any `amr` (ASVS 6.8.4)."""
    assert NIST_AAL.derive(events(*methods), remembered) in (None, *LEVELS)


@given(st.lists(st.sampled_from(METHODS)))
def test_one_method_however_often_is_one_factor(methods):
    """Entering the password twice is not two factors."""
    repeated = events(*methods, *methods)
    assert NIST_AAL.derive(repeated) == NIST_AAL.derive(events(*set(methods)))


def test_every_level_names_its_source():
    """Defaults are data that say where they are from."""
    assert all("800-63B-4" in level.source for level in NIST_AAL.levels)
    assert [NIST_AAL.rank(name) for name in LEVELS] == [0, 1, 2]


def test_an_application_brings_its_own_levels():
    """The table is data: another vocabulary works alike."""
    one = frozenset({"pwd", "eid"})
    table = AcrTable((Level("low", ((one,),)), Level("high", ((frozenset({"eid"}),),))))
    assert table.derive(events("pwd")) == "low"
    assert table.derive(events("eid")) == "high"
    assert table.derive(events("eid"), remembered=True) == "low"
    assert table.derive(events("otp")) is None


def test_an_unknown_level_is_a_configuration_error_that_lists_the_known_ones():
    """A route that asks for it could never be reached."""
    with pytest.raises(ConfigurationError, match="aal1, aal2, aal3"):
        NIST_AAL.rank("aal4")


@pytest.mark.parametrize("levels", [(), (Level("a", ()), Level("a", ()))])
def test_a_table_ranks_each_level_once(levels):
    """No levels, or two of one name, have no order."""
    with pytest.raises(ConfigurationError, match="each name once"):
        AcrTable(levels)


@pytest.mark.parametrize("name", ["", "a b", 'a"b', "a\\b", "a\r\nb", "\u00e4"])
def test_a_levels_name_travels_in_a_header(name):
    """Quotes, spaces and line breaks would break `acr_values` (RFC 9470)."""
    with pytest.raises(ConfigurationError, match="header"):
        Level(name, ())


@pytest.mark.parametrize("way", [(), (frozenset[str](),), (frozenset({"pwd"}), frozenset[str]())])
def test_a_way_that_asks_for_nothing_is_refused(way):
    """Otherwise everybody would have the level, or nobody."""
    with pytest.raises(ConfigurationError, match="asks for nothing"):
        Level("a", (way,))


def test_a_way_cannot_count_one_proof_twice():
    """Two factors are two proofs."""
    with pytest.raises(ConfigurationError, match="two factors"):
        Level("a", ((frozenset({"otp", "pwd"}), frozenset({"otp"})),))
