"""Cells and times as text."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal, localcontext
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.client.text import cell, texts
from lakehouse.client.time_range import TimeRange, moment
from lakehouse.errors import SettingError

FIGURE = pa.decimal128(38, 18)


@given(st.lists(st.none() | st.integers(-(10**38) + 1, 10**38 - 1)))
def test_decimals_of_a_column_are_exact_and_without_exponent(numbers: list[int | None]) -> None:
    with localcontext() as context:
        context.prec = 40
        values = [None if one is None else Decimal(one).scaleb(-18).quantize(Decimal("1E-18")) for one in numbers]
        found = texts(pa.table({"a": pa.array(values, FIGURE)})).column("a").to_pylist()
        assert found == [cell(value) for value in values]
        assert [None if one is None else Decimal(one) for one in found] == values
    for one in found:
        assert one is None or ("E" not in one and not (("." in one) and one.endswith(("0", "."))))


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-30", dt.datetime(2026, 11, 30, tzinfo=dt.UTC)),
        ("2026-11-30T12:00:00Z", dt.datetime(2026, 11, 30, 12, tzinfo=dt.UTC)),
        (" 2026-11-30 12:00:00.123456+02:00 ", dt.datetime(2026, 11, 30, 10, 0, 0, 123456, tzinfo=dt.UTC)),
        ("2026-11-30T12", dt.datetime(2026, 11, 30, 12, tzinfo=dt.UTC)),
    ],
)
def test_moments(text: str, at: dt.datetime) -> None:
    assert moment(text) == at


@pytest.mark.parametrize("text", ["", "now", "30.11.2026", "2026-13-01", "0001-01-01T00:00:00+10:00", "1796033102"])
def test_bad_moments_are_one_clear_line(text: str) -> None:
    with pytest.raises(SettingError) as caught:
        moment(text)
    assert "\n" not in str(caught.value)


@given(st.datetimes(min_value=dt.datetime(1970, 1, 1), max_value=dt.datetime(2100, 1, 1)))
def test_the_days_of_a_range_hold_all_its_moments(at: dt.datetime) -> None:
    at = at.replace(tzinfo=dt.UTC)
    for wanted in (TimeRange(at, None), TimeRange(None, at), TimeRange(at, at)):
        for other in (at, at - dt.timedelta(microseconds=1), at + dt.timedelta(microseconds=1)):
            inside = all(_holds(other, *one[1:]) for one in wanted.filters("t", "d") if one[0] == "t")
            if inside:
                assert all(_holds(other.date(), *one[1:]) for one in wanted.filters("t", "d") if one[0] == "d")


def _holds(value: Any, sign: str, limit: Any) -> bool:
    return bool({">=": value >= limit, "<=": value <= limit, "<": value < limit}[sign])
