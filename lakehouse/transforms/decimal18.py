"""Exact figures over Arrow: decimals as whole numbers of 10⁻¹⁸, and the one rounding of a quotient. Pure, no Spark.

Inside the Gold transforms a DECIMAL(38,18) is a Python int that counts units of 10⁻¹⁸. Sums and differences of such
ints are exact, whatever their size. A quotient is rounded once, half-up, to 18 decimals: a tie goes away from zero, so
that the quotient of −a and b is minus that of a and b.

Edge case: a figure with more than 20 digits before the point does not fit DECIMAL(38,18). It takes prices of which one
is 10¹⁶ times the other, or sums of 10²⁰. It is never cut: a column that may be null has null there, so that one absurd
price does not stop Gold; elsewhere it is a TerminalError.
"""

from __future__ import annotations

import decimal
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse.errors import TerminalError
from lakehouse.lake import table_io
from lakehouse.tables import Table

#: Decimals behind the point of every figure in Gold.
SCALE = 18
#: 1 as a count of units of 10⁻¹⁸.
ONE: int = 10**SCALE

#: What the count of a DECIMAL(38,18) can be at most, exclusive.
LIMIT: int = 10**38

MINUTE_US = 60_000_000

#: Columns of a Gold table that the writer adds; all the others are content.
WRITERS_COLUMNS = ("revision", "updated_at", "bar_date")

#: Python's own context has 28 digits and would round a DECIMAL(38,18).
_EXACT = decimal.Context(prec=100)
_MICROS = pa.timestamp("us", tz="UTC")


def half_up_quotient(numerator: int, denominator: int) -> int:
    """numerator ÷ denominator, two whole numbers of the same unit, in units of 10⁻¹⁸; half-up, ties away from zero.

    In integers, so rounded once and exactly.
    """
    top, bottom = abs(numerator) * ONE, abs(denominator)
    magnitude = (2 * top + bottom) // (2 * bottom)
    return magnitude if (numerator < 0) == (denominator < 0) else -magnitude


def values_of(bars: pa.Table, name: str) -> list[Any]:
    """A column without nulls: decimals as counts of 10⁻¹⁸, timestamps as µs since the epoch, others as they are."""
    column = bars.column(name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(_MICROS).cast(pa.int64())
    if pa.types.is_decimal(column.type):
        return _counts(column.cast(pa.decimal128(38, SCALE)).combine_chunks())
    values: list[Any] = column.to_pylist()
    return values


def _counts(decimals: pa.Array[Any]) -> list[int]:
    """Decimals of 18 places without nulls as counts of 10⁻¹⁸.

    Arrow keeps a decimal as its count, in 16 bytes (its columnar format); by way of Decimal it costs ten times more.
    """
    halves = np.frombuffer(decimals.buffers()[1], np.int64).reshape(-1, 2)  # type: ignore[call-overload]
    halves = halves[decimals.offset : decimals.offset + len(decimals)]
    low, high = (0, 1) if sys.byteorder == "little" else (1, 0)
    lows, highs = halves[:, low].astype(np.uint64).tolist(), halves[:, high].tolist()
    return [high << 64 | low for low, high in zip(lows, highs, strict=True)]


def content_schema(table: Table) -> pa.Schema:
    """The Arrow schema of a Gold table without the columns that its writer adds."""
    return pa.schema([field for field in table_io.arrow_schema(table) if field.name not in WRITERS_COLUMNS])


def table_of(schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as an Arrow table, as `table_of_columns` makes it."""
    return table_of_columns(schema, {name: [row[name] for row in rows] for name in schema.names})


def table_of_columns(schema: pa.Schema, columns: Mapping[str, list[Any]]) -> pa.Table:
    """Columns as an Arrow table. Decimals are given in units of 10⁻¹⁸, timestamps in µs since the epoch, UTC.

    A figure that does not fit its column is null where that may be. Raises TerminalError where it may not.
    """
    arrays = [_array(field, columns[field.name]) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(field: pa.Field[Any], values: list[Any]) -> pa.Array[Any]:
    if field.type == pa.decimal128(38, SCALE):
        if field.nullable:
            values = [value if value is None or abs(value) < LIMIT else None for value in values]
        if field.nullable or all(abs(value) < LIMIT for value in values):
            return _decimals(values)
        values = [None if value is None else Decimal(value).scaleb(-SCALE, _EXACT) for value in values]
    try:
        array: pa.Array[Any] = pa.array(values, field.type)
    except pa.ArrowInvalid:
        largest = max((value for value in values if value is not None), key=abs)
        raise TerminalError(
            f"{field.name} would be {largest:.3e}", f"a figure that fits {field.type}", "look at the prices it is of"
        ) from None
    return array


def _decimals(counts: Sequence[int | None]) -> pa.Array[Any]:
    """DECIMAL(38,18) of counts of 10⁻¹⁸ below LIMIT; the way back of `_counts`."""
    data = b"".join([(count or 0).to_bytes(16, sys.byteorder, signed=True) for count in counts])
    valid = pa.array([count is not None for count in counts], pa.bool_())
    buffers = [valid.buffers()[1] if valid.false_count else None, pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.decimal128(38, SCALE), len(counts), buffers)
