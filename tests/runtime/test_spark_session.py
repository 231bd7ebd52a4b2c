"""An Arrow table and the DataFrame of it have the same rows, however the table is cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from lakehouse.runtime.spark_session import frame_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark


@pytest.mark.parametrize(
    ("letters", "numbers"),
    [
        ([["a", "b"]], [[1, 2]]),
        ([[], [], ["a", "b"]], [[], [1, 2]]),
        ([["a"], [], [], ["b"]], [[1], [2], []]),
        ([[], []], [[]]),
    ],
)
def test_no_row_is_lost_behind_an_empty_chunk(
    spark: SparkSession, letters: list[list[str]], numbers: list[list[int]]
) -> None:
    table = pa.table({"l": pa.chunked_array(letters, pa.string()), "n": pa.chunked_array(numbers, pa.int64())})
    assert frame_of(spark, table).toArrow().to_pylist() == table.to_pylist()
