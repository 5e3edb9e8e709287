"""Every event and every signal is explained: what it means, what is innocent, what to do."""

from __future__ import annotations

import pytest

from strongroom.core.events import catalogue
from strongroom.core.explanations import EXPLANATIONS
from strongroom.telemetry.metrics import SIGNALS


def test_everything_that_can_be_seen_is_explained() -> None:
    """And nothing is explained that cannot be seen."""
    assert set(EXPLANATIONS) == {event.name for event in catalogue()} | SIGNALS


@pytest.mark.parametrize("name", sorted(EXPLANATIONS))
def test_an_explanation_is_whole_sentences(name: str) -> None:
    """Somebody reads it at three in the morning."""
    told = EXPLANATIONS[name]
    for text in (told.means, told.innocent, told.do):
        assert text[0].isupper() and "  " not in text
        # What ends in a command has no full stop, so that it can be copied.
        assert text.endswith(".") or "strongroom " in text.rpartition(". ")[2]
