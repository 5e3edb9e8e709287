"""What a session's values may be: the refusal names the place, the kind, and what to do (P24)."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from strongroom.core.errors import UnserialisableValue
from tests.core.kit import CODEC


class Order:
    """Something of an application's own."""


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Order(), "The value is an Order, "),
        ({"cart": [1, {2}]}, "The value['cart'][1] is a set, "),
        ({"price": Decimal(1)}, "The value['price'] is a Decimal, "),
        ([1.5, float("nan")], "The value[1] is not a number (NaN), "),
        ({"a": {"b": [0, 2**64]}}, "The value['a']['b'][1] is an int of more than 64 bits, "),
        ({"a": -(2**63) - 1}, "The value['a'] is an int of more than 64 bits, "),
        (["good", "\ud800"], "The value[1] is text that is no Unicode (a lone surrogate), "),
        ({1.5: 1}, "A key of the value is a float, "),
        ({2**70: 1}, "A key of the value is an int of more than 64 bits, "),
        (nested(40), "The value is nested deeper than 32 levels, "),
        ([datetime(2026, 1, 1)], "The value[0] is a datetime, "),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_refusal_names_the_place_and_the_kind(value: Any, told: str) -> None:
    """Not the value: it may be a secret (P5)."""
    with pytest.raises(UnserialisableValue) as refused:
        CODEC.encode(value)
    assert str(refused.value).startswith(told + "which a session cannot keep.")
    assert refused.value.hint


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        2**64 - 1,
        -(2**63),
        1.5,
        float("inf"),
        "é",
        b"\xff",
        {1: [2], "a": {}},
        nested(32),
    ],
    ids=repr,
)
def test_what_is_kept_comes_back_as_it_was(value: Any) -> None:
    """At its limits too."""
    assert CODEC.decode(CODEC.encode(value)) == value


def test_a_moment_comes_back_with_its_zone_and_a_tuple_as_a_list() -> None:
    """As the documentation says."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert CODEC.decode(CODEC.encode((now, (1,)))) == [now, [1]]
