"""Responses: a table from a signal's name and score to what follows, and nothing hidden."""

from __future__ import annotations

import pytest

from strongroom.core.errors import ConfigurationError
from strongroom.core.responses import DEFAULT_RESPONSES, Response, ResponseTable, rule
from strongroom.core.signals import Signal


def signal(name: str, score: float) -> Signal:
    return Signal(name, score, "Something looks wrong.")


TABLE = ResponseTable(
    (rule("odd", 0.2, Response.NOTIFY), rule("odd", 0.8, Response.END), rule("even", 0.0))
)


@pytest.mark.parametrize(
    ("score", "follows"),
    [
        (0.0, set()),
        (0.19, set()),
        (0.2, {Response.NOTIFY}),
        (0.79, {Response.NOTIFY}),
        (0.8, {Response.END}),
        (1.0, {Response.END}),
    ],
)
def test_the_highest_row_that_fits_counts(score: float, follows: set[Response]) -> None:
    """A row begins at its score; the harsher one names all that happens."""
    assert TABLE.to(signal("odd", score)) == {Response.RECORD, *follows}


def test_everything_is_recorded() -> None:
    """A signal that no row names too."""
    assert TABLE.to(signal("unheard of", 1.0)) == {Response.RECORD}
    assert TABLE.to(signal("even", 1.0)) == {Response.RECORD}


def test_several_signals_of_one_moment_have_all_that_follows_from_each() -> None:
    """And no signal at all has nothing."""
    both = [signal("odd", 0.3), signal("odd", 0.9)]
    assert TABLE.to_all(both) == {Response.RECORD, Response.NOTIFY, Response.END}
    assert TABLE.to_all([]) == frozenset()


def test_a_policy_changes_the_rows_of_one_signal() -> None:
    """The others stay as they are."""
    strict = TABLE.changed({"odd": (rule("odd", 0.1, Response.STEP_UP),)})
    assert strict.to(signal("odd", 0.9)) == {Response.RECORD, Response.STEP_UP}
    assert strict.to(signal("even", 0.9)) == {Response.RECORD}


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_score_that_no_signal_has_is_refused(score: float) -> None:
    """It would act always, or never."""
    with pytest.raises(ConfigurationError, match="Scores are between 0 and 1"):
        rule("odd", score)


def test_the_defaults_end_nothing() -> None:
    """Honest people cause most signals: nobody is signed out by the default table."""
    harsh = {Response.END, Response.END_ALL, Response.STEP_UP}
    assert not any(each.responses & harsh for each in DEFAULT_RESPONSES.rules)
