"""Exact equality of DataFrames: decimals to the last digit, nullability, any order of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.testing import assertDataFrameEqual

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def assert_frames_equal(actual: DataFrame, expected: DataFrame) -> None:
    """By default pyspark compares decimals within 1e-5 and ignores nullability; here nothing is forgiven."""
    assertDataFrameEqual(actual, expected, rtol=0, atol=0, ignoreNullable=False)
