"""Decimals as whole numbers and back, against Python's own decimal arithmetic."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction

import pyarrow as pa
import pytest

from lakehouse.errors import TerminalError
from lakehouse.transforms.decimal18 import half_up_quotient, table_of, values_of

FIGURE = pa.decimal128(38, 18)
EDGES = [0, 1, -1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, -(2**64), 10**38 - 1, 1 - 10**38]


def decimal(count: int) -> Decimal:
    sign, digits = (1 if count < 0 else 0), tuple(int(digit) for digit in str(abs(count)))
    return Decimal((sign, digits, -18))


def counts() -> list[int]:
    chance = random.Random(3)
    return EDGES + [chance.randrange(-(10**width), 10**width) for width in range(1, 38) for _ in range(20)]


def test_counts_of_decimals_and_decimals_of_counts() -> None:
    wanted = counts()
    column = pa.array([decimal(count) for count in wanted], FIGURE)
    assert values_of(pa.table({"x": column}), "x") == wanted
    made = table_of(pa.schema([pa.field("x", FIGURE, nullable=False)]), [{"x": count} for count in wanted])
    assert made.column("x").combine_chunks().equals(column)
    made.validate(full=True)


def test_of_slices_chunks_and_other_scales() -> None:
    wanted = counts()
    whole = pa.table({"x": pa.array([decimal(count) for count in wanted], FIGURE)})
    assert values_of(whole.slice(5, 7), "x") == wanted[5:12]
    assert values_of(pa.concat_tables([whole.slice(3, 2), whole.slice(100, 3)]), "x") == wanted[3:5] + wanted[100:103]
    assert values_of(whole.slice(0, 0), "x") == []
    assert values_of(pa.table({"x": pa.array([Decimal("1.5")], pa.decimal128(10, 2))}), "x") == [15 * 10**17]


def test_nulls_and_what_does_not_fit() -> None:
    schema = pa.schema([pa.field("x", FIGURE)])
    rows = [{"x": value} for value in (None, 5, 10**38, -(10**38), None, 10**38 - 1)]
    made = table_of(schema, rows)
    made.validate(full=True)
    assert made.column("x").to_pylist() == [None, decimal(5), None, None, None, decimal(10**38 - 1)]
    assert table_of(schema, []).num_rows == 0
    with pytest.raises(TerminalError, match=r"x would be 1\.000e\+20"):
        table_of(pa.schema([pa.field("x", FIGURE, nullable=False)]), [{"x": 1}, {"x": 10**38}])


def test_quotients_are_rounded_once() -> None:
    chance = random.Random(5)
    for _ in range(500):
        top, bottom = chance.randrange(-(10**24), 10**24), chance.randrange(1, 10**24)
        exact = Fraction(top, bottom) * 10**18
        rounded = half_up_quotient(top, bottom)
        assert abs(exact - rounded) <= Fraction(1, 2)
        assert half_up_quotient(-top, bottom) == -rounded
    assert half_up_quotient(1, 2 * 10**18) == 1  # a tie goes away from zero
