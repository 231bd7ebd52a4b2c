"""Exact figures: DECIMAL(38,18) as whole numbers of 10⁻¹⁸, and quotients that are rounded once. Pure, no Spark.

Inside the Gold transforms a DECIMAL(38,18) is a Python int that counts units of 10⁻¹⁸. Sums and differences of such
ints are exact, whatever their size. A quotient is rounded once, half-up, to 18 decimals: a tie goes away from zero, so
the quotient of −a and b is minus that of a and b.

Edge case: a figure with more than 20 digits before the point does not fit DECIMAL(38,18). It takes two prices whose
ratio is 10¹⁶, or sums of 10²⁰. It is never truncated: a nullable column gets null, so that one absurd price does not
stop Gold; any other column raises TerminalError.
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

#: Number of decimals of every figure in Gold.
SCALE = 18
#: 1 as a count of units of 10⁻¹⁸.
ONE: int = 10**SCALE

#: Upper bound of the count of a DECIMAL(38,18), exclusive.
LIMIT: int = 10**38

#: Microseconds of a minute.
MINUTE_US = 60_000_000

#: Columns of a Gold table that the writer adds; all the others are content.
WRITERS_COLUMNS = ("revision", "updated_at", "bar_date")

#: Python's own context has 28 digits and would round a DECIMAL(38,18).
_EXACT = decimal.Context(prec=100)
_MICROS = pa.timestamp("us", tz="UTC")


def half_up_quotient(numerator: int, denominator: int) -> int:
    """Divide two whole numbers of the same unit; the quotient in units of 10⁻¹⁸, half-up, ties away from zero.

    Computed with integers, so rounded once.
    """
    top, bottom = abs(numerator) * ONE, abs(denominator)
    magnitude = (2 * top + bottom) // (2 * bottom)
    return magnitude if (numerator < 0) == (denominator < 0) else -magnitude


def values_of(bars: pa.Table, name: str) -> list[Any]:
    """Return a column without nulls: decimals as counts of 10⁻¹⁸, timestamps as µs since the epoch."""
    column = bars.column(name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(_MICROS).cast(pa.int64())
    if pa.types.is_decimal(column.type):
        return _counts(column.cast(pa.decimal128(38, SCALE)).combine_chunks())
    values: list[Any] = column.to_pylist()
    return values


def _counts(decimals: pa.Array[Any]) -> list[int]:
    """Return decimals of 18 places, without nulls, as counts of 10⁻¹⁸.

    Arrow stores a decimal as its count in 16 bytes (Arrow columnar format); converting through Decimal costs ten times
    more.
    """
    halves = np.frombuffer(decimals.buffers()[1], np.int64).reshape(-1, 2)  # type: ignore[call-overload]
    halves = halves[decimals.offset : decimals.offset + len(decimals)]
    low, high = (0, 1) if sys.byteorder == "little" else (1, 0)
    lows, highs = halves[:, low].astype(np.uint64).tolist(), halves[:, high].tolist()
    return [high << 64 | low for low, high in zip(lows, highs, strict=True)]


def content_schema(table: Table) -> pa.Schema:
    """Return the Arrow schema of a Gold table without WRITERS_COLUMNS."""
    return pa.schema([field for field in table_io.arrow_schema(table) if field.name not in WRITERS_COLUMNS])


def table_of(schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Convert rows, each field name → value, to an Arrow table, with the units and errors of `table_of_columns`."""
    return table_of_columns(schema, {name: [row[name] for row in rows] for name in schema.names})


def table_of_columns(schema: pa.Schema, columns: Mapping[str, list[Any]]) -> pa.Table:
    """Convert columns to an Arrow table; decimals in units of 10⁻¹⁸, timestamps in µs since the epoch, UTC.

    A figure that does not fit becomes null in a nullable column and raises TerminalError in any other.
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
            f"{field.name} would be {largest:.3e}", f"a figure that fits {field.type}", "look at the prices of its bars"
        ) from None
    return array


def _decimals(counts: Sequence[int | None]) -> pa.Array[Any]:
    """Return DECIMAL(38,18) from counts of 10⁻¹⁸ below LIMIT; the inverse of `_counts`."""
    data = b"".join([(count or 0).to_bytes(16, sys.byteorder, signed=True) for count in counts])
    valid = pa.array([count is not None for count in counts], pa.bool_())
    buffers = [valid.buffers()[1] if valid.false_count else None, pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.decimal128(38, SCALE), len(counts), buffers)
